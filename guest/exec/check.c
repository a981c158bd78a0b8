#include "guest/exec/check.h"

#include <errno.h>

#include "guest/exec/cgroup.h"

/* As bytes: another value in a bool is no value at all to the compiler. */
static bool are_bools(const bool *first, const bool *last)
{
	for (const uint8_t *p = (const uint8_t *)first; p <= (const uint8_t *)last; p++)
		if (*p > 1)
			return false;
	return true;
}

static bool ring_fits(const struct ring *r)
{
	return r->end < WIRE_OFFSET_END && r->base <= r->end && r->wide <= EXEC_WIDE &&
	       r->whole <= (r->wide != 0) && r->end - r->base <= ring_size(r);
}

static bool output_fits(const struct exec_output *o)
{
	return are_bools(&o->readable, &o->asked) && ring_fits(&o->ring) && o->acked <= o->ring.end &&
	       o->sent <= o->ring.end && o->limit < WIRE_OFFSET_END && (o->fd < 0) == o->eof;
}

static bool input_fits(const struct exec_input *in)
{
	if (!are_bools(&in->eof, &in->closed_told) || !ring_fits(&in->ring) || in->ring.wide ||
	    in->told_end > in->ring.end)
		return false;
	if (in->closed)
		return true;
	bool served = in->eof && ring_used(&in->ring) == 0;
	return in->told_limit <= in->ring.base + RING_SIZE && (in->fd >= 0 || served);
}

static bool exit_fits(const struct exec_row *r)
{
	const struct exec_exit *x = &r->exit;
	return are_bools(&x->timed_out, &x->oom_killed) && are_bools(&x->open[0], &x->open[1]) &&
	       r->pid == 0 && x->ended_mono >= r->started_mono;
}

int exec_check_row(const struct exec_row *r, struct err *e)
{
	const char *bad = NULL;
	bool over = r->state == EXEC_EXITED || r->state == EXEC_ACKED;
	bool runs = r->state == EXEC_RUNNING || r->state == EXEC_STOPPING || r->state == EXEC_KILLED;
	if (!over && !runs)
		bad = "its state";
	else if (!are_bools(&r->attached, &r->tty))
		bad = "a flag";
	else if (r->session < 2 || (runs && r->pid != r->session))
		bad = "its pid";
	else if (r->error_fd >= 0)
		bad = "its error pipe";
	else if (r->cgroup < -1 || r->cgroup >= CGROUP_POOL)
		bad = "its cgroup";
	else if (!input_fits(&r->in))
		bad = "its stdin";
	else if (!output_fits(&r->out[0]))
		bad = "its stdout";
	else if (!output_fits(&r->out[1]))
		bad = "its stderr";
	else if (over && !exit_fits(r))
		bad = "its exit record";
	return bad ? err_set(e, "arena", EINVAL, "state %u: %s is not as it should be", (unsigned)r->state,
			     bad)
		   : 0;
}
