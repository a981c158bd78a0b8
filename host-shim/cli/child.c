#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "proto/cleanup.h"

static pid_t spawn(const char *const *argv, int fd, int as)
{
	pid_t pid = fork();
	if (pid < 0)
		complain("cannot start %s: %s", argv[0], strerror(errno));
	if (pid != 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (fd >= 0)
		dup2(fd, as);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	complain("cannot start %s: %s", argv[0], strerror(errno));
	_exit(127);
}

pid_t child_pipe(const char *const *argv, int for_input, int *fd)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		complain("no pipe: %s", strerror(errno));
		return -1;
	}
	_cleanup_close_ int theirs = ends[for_input ? 0 : 1], ours = ends[for_input ? 1 : 0];
	pid_t pid = spawn(argv, theirs, for_input ? STDIN_FILENO : STDOUT_FILENO);
	if (pid > 0)
		*fd = steal_fd(&ours);
	return pid;
}

int child_succeeded(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int child_run(const char *const *argv)
{
	pid_t pid = spawn(argv, -1, -1);
	return pid > 0 && child_succeeded(pid);
}
