#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cleanup.h"
#include "vmm_call.h"

#define STOP_MS 6000 /* tenon-vmm gives QEMU 2 s to quit, and kills it */
#define STATUS_MS 10000
#define GONE_MS 5000 /* for QEMU, which is killed when tenon-vmm dies, to be gone */
/* What the guest calls itself. Our vsock device is private to its VM, so all may have the same. */
#define GUEST_CID "3"

struct vmm {
	uv_loop_t *loop;
	const char *run_dir;
	struct process *process, *qemu; /* qemu: to see it end, NULL once it has */
	bool over;                      /* tenon-vmm is gone */
	struct vmm_call *status;
	int qemu_pid;
	bool stopping;

	int ready_fd; /* tenon-vmm says how its start went */
	char line[256];
	size_t line_len;
	uv_poll_t ready_poll;
	uv_timer_t kill_timer;
	int handles;

	void *arg;
	void (*ready)(void *arg, const struct err *e);
	void (*ended)(void *arg);
};

/* ---- its start ------------------------------------------------------------------------------------ */

static void on_qemu_exited(void *arg, int status, const char *output)
{
	struct vmm *v = arg;
	(void)status;
	(void)output;
	process_destroy(steal_ptr(&v->qemu));
	if (v->over)
		v->ended(v->arg);
}

static void on_status(void *arg, const Tenon__VmmResponse *m, const struct err *e)
{
	struct vmm *v = arg;
	struct process_id id;
	(void)e;
	v->status = NULL;
	if (!m || m->result_case != TENON__VMM_RESPONSE__RESULT_STATUS)
		return;
	v->qemu_pid = (int)m->status->qemu_pid;
	if (process_identify(&id, v->qemu_pid) == 0)
		process_adopt(&v->qemu, v->loop, &id, on_qemu_exited, v, NULL);
}

/* QEMU's pid is for people: a failure to learn it is none of the box. */
static void ask_status(struct vmm *v)
{
	char path[108];
	Tenon__VmmStatus status = TENON__VMM_STATUS__INIT;
	Tenon__VmmRequest request = TENON__VMM_REQUEST__INIT;
	request.op_case = TENON__VMM_REQUEST__OP_STATUS;
	request.status = &status;
	snprintf(path, sizeof path, "%s/vmm.sock", v->run_dir);
	vmm_call(&v->status, v->loop, path, &request, STATUS_MS, on_status, v, NULL);
}

static void tell_ready(struct vmm *v, const struct err *e)
{
	void (*ready)(void *, const struct err *) = v->ready;
	v->ready = NULL;
	if (v->ready_fd >= 0)
		uv_poll_stop(&v->ready_poll);
	if (ready)
		ready(v->arg, e);
}

static void on_ready_line(uv_poll_t *poll, int status, int events)
{
	struct vmm *v = poll->data;
	struct err e = {0};
	(void)status;
	(void)events;
	ssize_t n = read(v->ready_fd, v->line + v->line_len, sizeof v->line - 1 - v->line_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	v->line_len += n > 0 ? (size_t)n : 0;
	v->line[v->line_len] = '\0';
	char *end = strchr(v->line, '\n');
	if (n > 0 && !end && v->line_len < sizeof v->line - 1)
		return;
	if (end)
		*end = '\0';
	if (strcmp(v->line, "ready") == 0) {
		ask_status(v);
		tell_ready(v, NULL);
		return;
	}
	err_set(&e, "tenon-vmm", EIO, "%s", v->line_len ? v->line : "tenon-vmm ended before it was ready");
	tell_ready(v, &e);
}

/* ---- its end -------------------------------------------------------------------------------------- */

static void on_qemu_stays(uv_timer_t *t)
{
	struct vmm *v = t->data;
	v->ended(v->arg);
}

static void on_exited(void *arg, int status, const char *output)
{
	struct vmm *v = arg;
	(void)status;
	(void)output;
	/* Its last words may still lie in the pipe: a line, then EOF. */
	for (int i = 0; v->ready && i < 2; i++)
		on_ready_line(&v->ready_poll, 0, 0);
	v->over = true;
	uv_timer_stop(&v->kill_timer);
	/* A tenon-vmm that was killed leaves a QEMU that is being killed: until it is gone the disks are its.
	 */
	if (v->qemu)
		uv_timer_start(&v->kill_timer, on_qemu_stays, GONE_MS, 0);
	else
		v->ended(v->arg);
}

static void on_kill(uv_timer_t *t)
{
	struct vmm *v = t->data;
	process_kill(v->process, SIGKILL);
}

void vmm_stop(struct vmm *v)
{
	if (v->stopping || v->over)
		return;
	v->stopping = true;
	process_kill(v->process, SIGTERM);
	uv_timer_start(&v->kill_timer, on_kill, STOP_MS, 0);
}

static void on_closed(uv_handle_t *h)
{
	struct vmm *v = h->data;
	if (--v->handles > 0)
		return;
	close_fd(&v->ready_fd);
	free(v);
}

void vmm_destroy(struct vmm *v)
{
	if (!v)
		return;
	vmm_call_cancel(v->status);
	process_destroy(v->process);
	process_destroy(v->qemu);
	uv_close((uv_handle_t *)&v->kill_timer, on_closed);
	if (v->ready_fd >= 0)
		uv_close((uv_handle_t *)&v->ready_poll, on_closed);
}

/* ---- making one ----------------------------------------------------------------------------------- */

static struct vmm *make(const struct vmm_config *c)
{
	struct vmm *v = calloc(1, sizeof *v);
	if (v)
		*v = (struct vmm){.loop = c->loop,
				  .run_dir = c->run_dir,
				  .ready_fd = -1,
				  .arg = c->arg,
				  .ready = c->ready,
				  .ended = c->ended};
	return v;
}

/* Once the process is there nothing can fail any more, so that no path leaves it unwatched. */
static void begin(struct vmm *v)
{
	uv_timer_init(v->loop, &v->kill_timer);
	v->kill_timer.data = v;
	v->handles = 1;
}

struct disk_option {
	char text[4096 + 32];
};

/* A copy of argv (n with its NULL) with what not every box has behind it. */
static const char **add_rest(const char *const *argv, size_t n, struct disk_option *more,
			     const struct vmm_config *c)
{
	const char **all = calloc(n + 2 * c->n_disks + 1, sizeof *all);
	if (!all)
		return NULL;
	memcpy(all, argv, n * sizeof *all);
	for (size_t i = 0; i < c->n_disks; i++) {
		snprintf(more[i].text, sizeof more[i].text, "%s,format=raw,readonly=%s", c->disks[i].path,
			 c->disks[i].read_only ? "on" : "off");
		all[n - 1 + 2 * i] = "--disk";
		all[n + 2 * i] = more[i].text;
	}
	if (c->network)
		all[n - 1 + 2 * c->n_disks] = "--network";
	return all;
}

static int spawn(struct vmm *v, const struct vmm_config *c, int ready_fd, struct err *e)
{
	char cpus[16], memory[16], ready[16];
	_cleanup_free_ char *lower = NULL, *upper = NULL;
	_cleanup_free_ struct disk_option *more = calloc(c->n_disks + 1, sizeof *more);
	snprintf(cpus, sizeof cpus, "%u", c->cpus);
	snprintf(memory, sizeof memory, "%u", c->memory_mib);
	snprintf(ready, sizeof ready, "%d", ready_fd);
	if (asprintf(&lower, "%s,format=raw,readonly=on", c->lower) < 0 ||
	    asprintf(&upper, "%s,format=qcow2,readonly=off", c->upper) < 0 || !more)
		return err_sys(e, "tenon-vmm", ENOMEM, "disk options");
	const char *argv[] = {c->vmm_path, "--run-dir",  c->run_dir, "--state-dir", c->state_dir, "--kernel",
			      c->kernel,   "--initrd",   c->initrd,  "--append",    c->append,    "--cpus",
			      cpus,        "--memory",   memory,     "--machine",   c->machine,   "--accel",
			      c->accel,    "--cid",      GUEST_CID,  "--disk",      lower,        "--disk",
			      upper,       "--ready-fd", ready,      NULL};
	_cleanup_free_ const char **all = add_rest(argv, sizeof argv / sizeof *argv, more, c);
	if (!all)
		return err_sys(e, "tenon-vmm", ENOMEM, "disk options");
	struct process_config p = {.loop = c->loop,
				   .argv = all,
				   .detached = true,
				   .gated = true,
				   .inherit = ready_fd,
				   .arg = v,
				   .exited = on_exited};
	return process_spawn(&v->process, &p, e);
}

int vmm_spawn(struct vmm **out, const struct vmm_config *c, struct err *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, "tenon-vmm", errno, "pipe");
	_cleanup_close_ int ours = ends[0];
	_cleanup_close_ int theirs = ends[1];
	fcntl(ours, F_SETFL, O_NONBLOCK);

	_cleanup_free_ struct vmm *v = make(c);
	if (!v)
		return err_sys(e, "tenon-vmm", ENOMEM, "vmm");
	int r = uv_poll_init(c->loop, &v->ready_poll, ours);
	if (r < 0)
		return err_sys(e, "tenon-vmm", -r, "watching its start");
	v->ready_poll.data = v;
	v->ready_fd = steal_fd(&ours);
	r = spawn(v, c, theirs, e);
	if (r < 0) {
		v->handles = 1;
		uv_close((uv_handle_t *)&v->ready_poll, on_closed);
		steal_ptr(&v);
		return r;
	}
	begin(v);
	v->handles++;
	uv_poll_start(&v->ready_poll, UV_READABLE | UV_DISCONNECT, on_ready_line);
	*out = steal_ptr(&v);
	return 0;
}

int vmm_adopt(struct vmm **out, const struct vmm_config *c, const struct process_id *id, struct err *e)
{
	_cleanup_free_ struct vmm *v = make(c);
	if (!v)
		return err_sys(e, "tenon-vmm", ENOMEM, "vmm");
	int r = process_adopt(&v->process, c->loop, id, on_exited, v, e);
	if (r < 0)
		return r;
	begin(v);
	ask_status(v);
	*out = steal_ptr(&v);
	return 0;
}

void vmm_release(struct vmm *v)
{
	process_release(v->process);
}

const struct process_id *vmm_identity(const struct vmm *v)
{
	return process_identity(v->process);
}

int vmm_qemu_pid(const struct vmm *v)
{
	return v->qemu_pid;
}
