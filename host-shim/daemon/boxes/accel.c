#include "accel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "process.h"
#include "proto/cleanup.h"

#define DEADLINE_MS 4000 /* a KVM that works needs well under one second */

struct accel {
	struct process *process;
	char cache[160];
	struct process_id self; /* for the host's boot id */
	accel_done_fn done;
	void *arg;
};

/* The cache is one line: "kvm 1b4e28ba-…", the answer and the boot of the host in which it was found. */
static const char *read_cache(const struct accel *a)
{
	char line[64] = "", word[8] = "", boot[40] = "";
	_cleanup_close_ int fd = open(a->cache, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof line - 1) <= 0 || sscanf(line, "%7s %39s", word, boot) != 2 ||
	    strcmp(boot, a->self.boot) != 0)
		return NULL;
	return strcmp(word, "kvm") == 0 ? "kvm" : strcmp(word, "tcg") == 0 ? "tcg" : NULL;
}

static void write_cache(const struct accel *a, const char *result)
{
	char part[176];
	snprintf(part, sizeof part, "%s.part", a->cache);
	_cleanup_close_ int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* Not kept means asked again: no harm. */
	if (fd >= 0 && dprintf(fd, "%s %s\n", result, a->self.boot) > 0)
		rename(part, a->cache);
}

/* The kernel is given no root, so it panics, and with panic=-1 and -no-reboot QEMU ends by itself. Its words are
 * asked for, too: a guest that fell over at its first instruction would end QEMU just as quietly. */
static void on_exited(void *arg, int status, const char *output)
{
	struct accel *a = arg;
	process_destroy(steal_ptr(&a->process));
	bool ran = strstr(output, "Kernel panic") != NULL;
	const char *result = ran ? "kvm" : "tcg";
	write_cache(a, result);
	a->done(a->arg, result,
		ran                   ? "a kernel ran under KVM"
		: WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
			? "/dev/kvm opens, but a kernel did not run under KVM in time"
			: "/dev/kvm opens, but QEMU did not run a kernel under KVM");
}

static int start_probe(struct accel *a, const struct accel_config *c, struct err *e)
{
	const char *const argv[] = {"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
				    "-display", "none", "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "128M",
				    "-kernel", c->kernel, "-append", "console=ttyS0 loglevel=1 panic=-1",
				    "-serial", "stdio", NULL};
	struct process_config p = {.loop = c->loop, .argv = argv, .capture = true, .inherit = -1,
				   .deadline_ms = DEADLINE_MS, .arg = a, .exited = on_exited};
	return process_spawn(&a->process, &p, e);
}

int accel_probe(struct accel **out, const struct accel_config *c, struct err *e)
{
	struct accel *a = calloc(1, sizeof *a);
	if (!a)
		return err_sys(e, "accel", ENOMEM, "accel");
	a->done = c->done;
	a->arg = c->arg;
	snprintf(a->cache, sizeof a->cache, "%s/accel", c->cache_dir);
	*out = a;
	if (process_identify(&a->self, getpid()) < 0 || access("/dev/kvm", R_OK | W_OK) < 0) {
		a->done(a->arg, "tcg", "no usable /dev/kvm");
		return 0;
	}
	const char *known = read_cache(a);
	if (known) {
		a->done(a->arg, known, "as found out before");
		return 0;
	}
	int r = start_probe(a, c, e);
	if (r < 0) {
		*out = NULL;
		free(a);
	}
	return r;
}

void accel_destroy(struct accel *a)
{
	if (!a)
		return;
	process_destroy(a->process);
	free(a);
}
