/* The floor: what any agent has to do, and nothing else. One thread, one connection at a time, no cgroups,
 * nothing kept. After each operation's letter come its arguments; a path is u16 length and bytes, numbers are
 * little endian.
 *
 * - 'e' u32 n, n bytes:     the same n bytes back
 * - 'x':                    posix_spawn of /bin/true with stdout and stderr on pipes, wait; its exit code
 * - 's' u64 n:              a child that prints n bytes, from its pipe to the socket
 * - 'w' path u64 n, bytes:  n bytes into a new file; one byte back when it is closed
 * - 'r' path:               u64 size of the file, and its bytes
 * - 't' path u64 n, bytes:  n bytes of archive into `tar` in that folder, which is made; its exit code back
 * - 'c' path:               `tar` of the folder: u32 length and bytes, again and again; length 0 is the end
 * - 'm':                    u64 MemAvailable in KiB
 *
 * As PID 1 it loads the modules that /modules/boot.list names and serves vsock port 1000. With arguments,
 * those after "--" on the kernel's command line, it mounts the first disk and becomes the program there that
 * they name.
 *
 * - usage: floor unix:PATH|vsock:PORT
 * - usage: floor --print BYTES      what both sides run as the program that prints */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 1000

extern char **environ;
static uint8_t buf[65536];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int read_all(int fd, void *to, size_t n)
{
	for (uint8_t *p = to; n > 0;) {
		ssize_t got = read(fd, p, n);
		if (got <= 0)
			return 0;
		p += got;
		n -= (size_t)got;
	}
	return 1;
}

static void write_all(int fd, const void *from, size_t n)
{
	for (const uint8_t *p = from; n > 0;) {
		ssize_t put = write(fd, p, n);
		if (put < 0)
			die("write");
		p += put;
		n -= (size_t)put;
	}
}

static uint64_t read_u64(int fd)
{
	uint64_t n;
	if (!read_all(fd, &n, sizeof n))
		die("a number");
	return n;
}

static const char *read_path(int fd)
{
	static char path[4096];
	uint16_t n;
	if (!read_all(fd, &n, sizeof n) || n >= sizeof path || !read_all(fd, path, n))
		die("a path");
	path[n] = '\0';
	return path;
}

/* From one descriptor to another: n bytes, or to the end. */
static void copy(int from, int to, uint64_t n)
{
	ssize_t got;
	for (; n > 0 && (got = read(from, buf, n < sizeof buf ? n : sizeof buf)) > 0; n -= (uint64_t)got)
		write_all(to, buf, (size_t)got);
}

/* A child with pipes on the descriptors that are asked for; -1 stays as it is. */
static pid_t spawn(char *const argv[], int fds[3], const int wanted[3])
{
	pid_t pid;
	int theirs[3];
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	for (int i = 0; i < 3; i++) {
		int ends[2];
		fds[i] = theirs[i] = -1;
		if (!wanted[i])
			continue;
		if (pipe2(ends, O_CLOEXEC) < 0)
			die("pipe");
		theirs[i] = ends[i != 0];
		fds[i] = ends[i == 0];
		posix_spawn_file_actions_adddup2(&fa, theirs[i], i);
	}
	if (!wanted[0])
		posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if ((errno = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ)) != 0)
		die(argv[0]);
	posix_spawn_file_actions_destroy(&fa);
	for (int i = 0; i < 3; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	return pid;
}

static void wait_and_tell(int fd, pid_t pid)
{
	int status = 0;
	waitpid(pid, &status, 0);
	char code = (char)WEXITSTATUS(status);
	write_all(fd, &code, 1);
}

static void serve_exec(int fd)
{
	int fds[3];
	char *argv[] = {"/bin/true", NULL};
	pid_t pid = spawn(argv, fds, (int[]){0, 1, 1});
	while (read(fds[1], buf, sizeof buf) > 0 || read(fds[2], buf, sizeof buf) > 0)
		;
	close(fds[1]);
	close(fds[2]);
	wait_and_tell(fd, pid);
}

static void serve_stdout(int fd)
{
	int fds[3];
	char count[24], *argv[] = {"/proc/self/exe", "--print", count, NULL};
	snprintf(count, sizeof count, "%llu", (unsigned long long)read_u64(fd));
	pid_t pid = spawn(argv, fds, (int[]){0, 1, 0});
	copy(fds[1], fd, UINT64_MAX);
	close(fds[1]);
	waitpid(pid, NULL, 0);
}

static void serve_write(int fd)
{
	int file = open(read_path(fd), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (file < 0)
		die("open");
	copy(fd, file, read_u64(fd));
	close(file);
	write_all(fd, "", 1);
}

static void serve_read(int fd)
{
	struct stat st;
	int file = open(read_path(fd), O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &st) < 0)
		die("open");
	uint64_t size = (uint64_t)st.st_size;
	write_all(fd, &size, sizeof size);
	copy(file, fd, UINT64_MAX);
	close(file);
}

static void serve_tar_in(int fd)
{
	int fds[3];
	const char *path = read_path(fd);
	char *argv[] = {"tar", "-x", "-f", "-", "-C", (char *)path, NULL};
	mkdir(path, 0755);
	pid_t pid = spawn(argv, fds, (int[]){1, 0, 0});
	copy(fd, fds[0], read_u64(fd));
	close(fds[0]);
	wait_and_tell(fd, pid);
}

static void serve_tar_out(int fd)
{
	int fds[3];
	char *argv[] = {"tar", "-c", "-f", "-", "-C", (char *)read_path(fd), ".", NULL};
	pid_t pid = spawn(argv, fds, (int[]){0, 1, 0});
	for (uint32_t n = 1; n > 0;) {
		ssize_t got = read(fds[1], buf, sizeof buf);
		n = got > 0 ? (uint32_t)got : 0;
		write_all(fd, &n, sizeof n);
		write_all(fd, buf, n);
	}
	close(fds[1]);
	waitpid(pid, NULL, 0);
}

static void serve_echo(int fd)
{
	uint32_t n;
	if (!read_all(fd, &n, sizeof n) || n > sizeof buf || !read_all(fd, buf, n))
		die("echo");
	write_all(fd, buf, n);
}

static void serve_memory(int fd)
{
	uint64_t kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "MemAvailable:", 13) == 0)
			kib = strtoull(line + 13, NULL, 10);
	if (f)
		fclose(f);
	write_all(fd, &kib, sizeof kib);
}

static void serve(int fd)
{
	static void (*const operations[128])(int) = {
		['e'] = serve_echo, ['x'] = serve_exec,   ['s'] = serve_stdout,  ['w'] = serve_write,
		['r'] = serve_read, ['t'] = serve_tar_in, ['c'] = serve_tar_out, ['m'] = serve_memory};
	unsigned char what;
	while (read_all(fd, &what, 1) && what < 128 && operations[what])
		operations[what](fd);
	close(fd);
}

static int print(uint64_t n)
{
	for (; n > sizeof buf; n -= sizeof buf)
		write_all(1, buf, sizeof buf);
	write_all(1, buf, n);
	return 0;
}

static void load_modules(const char *names)
{
	char line[256];
	FILE *list = chdir("/modules") == 0 ? fopen(names, "r") : NULL;
	while (list && fgets(line, sizeof line, list)) {
		line[strcspn(line, "\n")] = '\0';
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
	if (list)
		fclose(list);
}

static void start_machine(void)
{
	mount("proc", "/proc", "proc", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	load_modules("boot.list");
}

/* What an init does for an agent that is none: its root, and the file systems that it counts on. */
static void become(char **argv)
{
	load_modules("root.list");
	if (mount("/dev/vda", "/box", "ext4", 0, NULL) < 0 || chdir("/box") < 0 ||
	    mount("/dev", "dev", NULL, MS_MOVE, NULL) < 0 ||
	    mount("/proc", "proc", NULL, MS_MOVE, NULL) < 0 || mount("sysfs", "sys", "sysfs", 0, NULL) < 0 ||
	    mount("cgroup2", "sys/fs/cgroup", "cgroup2", 0, NULL) < 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		die("the root");
	execv(argv[0], argv);
	die(argv[0]);
}

static int listen_on(const char *where)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
	int fd, r;
	if (strncmp(where, "unix:", 5) == 0) {
		strncpy(un.sun_path, where + 5, sizeof un.sun_path - 1);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = bind(fd, (struct sockaddr *)&un, sizeof un);
	} else {
		vm.svm_port = (unsigned)atoi(where + 6);
		fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = bind(fd, (struct sockaddr *)&vm, sizeof vm);
	}
	if (r < 0 || listen(fd, 16) < 0)
		die("listen");
	return fd;
}

int main(int argc, char **argv)
{
	const char *where = argc == 2 ? argv[1] : "";
	if (argc == 3 && strcmp(argv[1], "--print") == 0)
		return print(strtoull(argv[2], NULL, 10));
	if (getpid() == 1) {
		start_machine();
		if (argc > 1)
			become(argv + 1);
		where = "vsock:1000";
	}
	if (strncmp(where, "unix:", 5) != 0 && strncmp(where, "vsock:", 6) != 0)
		return 2;
	int listener = listen_on(where);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			die("accept");
		serve(fd);
	}
}
