/* In tenon-vmm's place: a box whose machine is this one. It starts tenon-init as a plain process, configures
 * it, and offers it at vsock.sock, so that tenond drives hundreds of boxes where memory would not hold as
 * many VMs, and so that REST can be measured without an emulated processor behind it.
 *
 * - usage: standin …tenon-vmm's arguments…      TENON_INIT names the agent
 * - usage: standin --relay PORT TARGET [FOLDER]    TCP on loopback to TARGET (net.h), each connection alone;
 *   FOLDER: what goes to the client is written to files there, and sent out of them (log.h) */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>

#include "agent.h"
#include "log.h"
#include "net.h"

#define RELAY_STACK (128 * 1024)
#define RELAY_BUFFER (64 * 1024)

static const char *log_folder; /* NULL: nothing is kept */

struct direction {
	int from, to;
	bool keeps;
};

static bool send_all(int to, const uint8_t *buf, ssize_t n)
{
	for (ssize_t put, done = 0; done < n; done += put)
		if ((put = write(to, buf + done, (size_t)(n - done))) < 0)
			return false;
	return true;
}

static void *relay(void *arg)
{
	struct direction d = *(struct direction *)arg;
	free(arg);
	struct log log;
	if (d.keeps)
		log_open(&log, log_folder);
	uint8_t buf[RELAY_BUFFER];
	ssize_t n;
	while ((n = read(d.from, buf, sizeof buf)) > 0)
		if (!(d.keeps ? log_send(log_write(&log, buf, (size_t)n), (size_t)n, d.to)
			      : send_all(d.to, buf, n)))
			break;
	if (d.keeps)
		log_close(&log);
	shutdown(d.to, SHUT_RDWR);
	shutdown(d.from, SHUT_RDWR);
	return NULL;
}

static void start_direction(int from, int to, bool keeps)
{
	pthread_t thread;
	pthread_attr_t small;
	struct direction *d = malloc(sizeof *d);
	*d = (struct direction){from, to, keeps};
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, RELAY_STACK);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &small, relay, d) != 0)
		die("pthread_create");
}

/* Both live as long as this process: a bench has few connections. */
static void join(int a, int b)
{
	start_direction(a, b, false);
	start_direction(b, a, log_folder);
}

/* ---- the agent ---- */

static void hear_frame(int fd, enum frame_type type)
{
	uint8_t buf[FRAME_SIZE_MAX];
	read_all(fd, buf, FRAME_HEADER_SIZE);
	uint32_t len = wire_get_u32(buf);
	if (buf[8] != type || len > FRAME_PAYLOAD_MAX)
		die("another frame than was expected");
	read_all(fd, buf + FRAME_HEADER_SIZE, len);
}

/* As a host of a lower epoch than any tenond: it finds a box that has been configured already. */
static void configure(const char *path)
{
	uint8_t buf[AGENT_MESSAGE_MAX];
	int fd = dial_unix(path);
	write_all(fd, buf, agent_put_hello(buf, TENON__ROLE__ROLE_MAIN, 1));
	hear_frame(fd, FRAME_HELLO);

	write_all(fd, buf, agent_put_configure(buf, 1));
	hear_frame(fd, FRAME_RSP);
	close(fd);
}

/* The box ends with its agent, as a machine does with its PID 1. */
static void agent_ended(int signo)
{
	(void)signo;
	_exit(0);
}

static void start_agent(const char *path)
{
	char listen_on[128];
	snprintf(listen_on, sizeof listen_on, "unix:%s", path);
	signal(SIGCHLD, agent_ended);
	if (fork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(getenv("TENON_INIT"), "tenon-init", "--listen", listen_on, NULL);
	_exit(127);
}

/* Ready when it can be dialled. */
static void await_agent(const char *path)
{
	struct sockaddr_un at = unix_address(path);
	for (uint64_t end = now() + 10 * NSEC_PER_SEC; now() < end; poll(NULL, 0, 2)) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
		    r = connect(fd, (struct sockaddr *)&at, sizeof at);
		close(fd);
		if (r == 0)
			return;
	}
	die("the agent does not listen");
}

/* ---- serving ---- */

static int listen_unix(const char *path)
{
	struct sockaddr_un at = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0)
		die(path);
	return fd;
}

/* "CONNECT <port>\n": port 1000 is the agent, another one a unix socket beside it, floor.sock. */
static void serve(int fd, const char *agent, const char *floor_path)
{
	char line[32];
	size_t n = 0;
	while (n < sizeof line - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	int to = dial_unix(strcmp(line, "CONNECT 1000") == 0 ? agent : floor_path);
	write_all(fd, "OK 1\n", 5);
	join(fd, to);
}

static const char *argument(char **argv, const char *name)
{
	for (; argv[0] && argv[1]; argv++)
		if (strcmp(argv[0], name) == 0)
			return argv[1];
	return "";
}

static void relay_tcp(int port, const char *target)
{
	int listener = listen_tcp(port);
	for (;;) {
		int fd = accept_tcp(listener);
		join(fd, dial(target));
	}
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc >= 4 && argc <= 5 && strcmp(argv[1], "--relay") == 0) {
		log_folder = argv[4];
		relay_tcp(atoi(argv[2]), argv[3]);
	}
	char agent[108], sock[108], floor_path[108], doorbell[108];
	const char *dir = argument(argv, "--run-dir");
	int ready = atoi(argument(argv, "--ready-fd"));
	snprintf(agent, sizeof agent, "%s/agent.sock", dir);
	snprintf(sock, sizeof sock, "%s/vsock.sock", dir);
	snprintf(floor_path, sizeof floor_path, "%s/floor.sock", dir);
	snprintf(doorbell, sizeof doorbell, "%s/vsock.sock_1001", dir);
	unlink(agent);
	unlink(sock);
	int listener = listen_unix(sock);
	start_agent(agent);
	await_agent(agent);
	configure(agent);
	write_all(ready, "ready\n", 6);
	close(ready);
	close(dial_unix(doorbell));
	for (;;)
		serve(accept(listener, NULL, NULL), agent, floor_path);
}
