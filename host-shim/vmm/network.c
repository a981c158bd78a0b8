#include "network.h"

#include "child.h"
#include "proto/cleanup.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PROGRAM "tenon-net"

void network_init(struct network *n)
{
	*n = (struct network){.pidfd = -1, .card = -1, .output = -1};
}

static int find_program(char *out, size_t cap, struct err *e)
{
	ssize_t n = readlink("/proc/self/exe", out, cap - sizeof PROGRAM);
	if (n < 0)
		return err_sys(e, "network", errno, "/proc/self/exe");
	out[n] = '\0';
	strcpy(strrchr(out, '/') + 1, PROGRAM);
	return 0;
}

int network_start(struct network *n, struct err *e)
{
	char program[PATH_MAX], fd[16];
	int pair[2], output[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "network", errno, "socketpair");
	_cleanup_close_ int card = pair[0];
	_cleanup_close_ int theirs = pair[1];
	if (pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "network", errno, "pipe");
	_cleanup_close_ int output_ours = output[0];
	_cleanup_close_ int output_theirs = output[1];

	int r = find_program(program, sizeof program, e);
	if (r < 0)
		return r;
	snprintf(fd, sizeof fd, "%d", theirs);
	r = child_spawn((char *[]){program, fd, NULL}, &theirs, 1, output_theirs, &n->pid, &n->pidfd, e);
	if (r < 0)
		return r;
	n->card = steal_fd(&card);
	n->output = steal_fd(&output_ours);
	return 0;
}

void network_describe_end(struct network *n, char *text, size_t cap)
{
	int status = 0;
	char words[200];
	ssize_t got = read(n->output, words, sizeof words - 1);
	waitpid(n->pid, &status, 0);
	n->pid = 0;
	if (got > 0) {
		words[got] = '\0';
		snprintf(text, cap, "%.*s", (int)strcspn(words, "\n"), words);
	} else if (WIFSIGNALED(status)) {
		snprintf(text, cap, PROGRAM " was ended by signal %d", WTERMSIG(status));
	} else {
		snprintf(text, cap, PROGRAM " exited with code %d", WEXITSTATUS(status));
	}
}

void network_finish(struct network *n)
{
	if (n->pid > 0) {
		kill(n->pid, SIGKILL);
		waitpid(n->pid, NULL, 0);
		n->pid = 0;
	}
	close_fd(&n->pidfd);
	close_fd(&n->card);
	close_fd(&n->output);
}
