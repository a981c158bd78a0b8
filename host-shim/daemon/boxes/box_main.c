/* The main command: what a box is for, if create named it.
 *
 * It is an execution like any other, begun at each start of the box before anybody hears that it runs. Its id
 * is committed together with "running": a tenond that dies before leaves a half-made box, which the next one
 * ends, and one that dies after finds the execution again; so it is never begun twice in one start.
 *
 * When it ends the box is stopped, as a container is, and what else runs in it ends too; its exit code stays
 * in the box's row and auto_remove applies. One exception: a box that was started because somebody used it
 * (exec and files start a stopped box) runs on until that use is over. With docker's rule alone, a command in
 * a box whose main command is short would race with that.
 *
 * If it cannot be started, the start fails with the agent's words and the box is failed, with 127 or 126 as
 * its exit code: as in a shell, and in docker. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "main_argv.h"
#include "proto/cleanup.h"

#define EXIT_NOT_FOUND 127
#define EXIT_NO_EXEC 126

struct main_start {
	struct box *box; /* NULL: it was let go of */
	void (*done)(struct box *b, const struct failure *f);
};

static void note_exit(struct box *b, int code)
{
	b->row.life.has_exit = true;
	b->row.life.exit_code = code;
}

static void on_ended(void *arg)
{
	struct box *b = arg;
	int code;
	b->main.over = true;
	execution_has_ended(b->main.x, &code);
	note_exit(b, code);
	boxes_attend(b->boxes);
}

static void hold(struct box *b, struct execution *x)
{
	struct execution_info i;
	b->main.x = execution_ref(x);
	execution_get_info(x, &i);
	if (i.status == EXECUTION_RUNNING) {
		execution_on_end(x, on_ended, b);
	} else {
		b->main.over = true;
		note_exit(b, i.exit_code);
	}
}

static void let_go(struct box *b)
{
	if (b->main.x)
		execution_on_end(b->main.x, NULL, NULL);
	execution_unref(steal_ptr(&b->main.x));
	free(steal_ptr(&b->main.failure));
	if (b->main.start)
		b->main.start->box = NULL;
	b->main.start = NULL;
	b->main.over = false;
}

void box_main_release(struct box *b)
{
	let_go(b);
}

void box_main_reset(struct box *b)
{
	let_go(b);
	b->row.life.main_id[0] = '\0';
	b->row.life.has_exit = false;
	b->row.life.exit_code = 0;
}

/* ---- the start ------------------------------------------------------------------------------------- */

/* The agent's failure, said of the main command: whoever reads it may have asked for something else. */
static void keep_failure(struct box *b, const struct failure *f)
{
	_cleanup_free_ const char **argv = main_argv(&b->row.settings);
	struct failure *kept = malloc(sizeof *kept);
	if (!kept || !argv) {
		free(kept);
		return;
	}
	*kept = *f;
	snprintf(kept->message, sizeof kept->message, "the main command %.100s could not be started: %.350s",
		 argv[0] ? argv[0] : "", f->message);
	b->main.failure = kept;
	if (f->kind == FAIL_EXEC)
		note_exit(b, f->errnum == ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC);
}

static void on_started(void *arg, struct execution *x, const struct failure *f)
{
	struct main_start *s = arg;
	struct box *b = s->box;
	void (*done)(struct box *, const struct failure *) = s->done;
	free(s);
	if (!b)
		return;
	b->main.start = NULL;
	if (f) {
		keep_failure(b, f);
		done(b, b->main.failure ? b->main.failure : f);
		return;
	}
	strcpy(b->row.life.main_id, execution_id(x));
	hold(b, x);
	done(b, NULL);
}

void box_main_begin(struct box *b, void (*done)(struct box *b, const struct failure *f))
{
	const struct box_settings *s = &b->row.settings;
	struct failure f;
	if (b->main.start || b->main.x)
		return;
	if (!main_is_given(s)) {
		done(b, NULL);
		return;
	}
	_cleanup_free_ const char **argv = main_argv(s);
	struct main_start *start = argv ? malloc(sizeof *start) : NULL;
	if (!start) {
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(b, &f);
		return;
	}
	*start = (struct main_start){b, done};
	struct exec_spec spec = {.argv = argv, .tty = s->tty, .with_stdin = !s->no_stdin};
	box_exec_defaults(b, &spec);
	b->main.start = start;
	executions_start(b->session, &spec, on_started, start);
}

void box_start_for_use(struct box *b, box_done_fn done, void *arg)
{
	enum box_status was = b->row.life.status;
	bool for_use = (was != BOX_STARTING && was != BOX_RUNNING) || b->main.for_use;
	box_start(b, done, arg);
	b->main.for_use = for_use;
}

/* ---- the end --------------------------------------------------------------------------------------- */

bool box_main_wants_stop(const struct box *b, bool idle)
{
	return b->main.over && (idle || !b->main.for_use);
}

void box_main_settle(struct box *b)
{
	int code;
	if (!b->main.x || b->row.life.has_exit)
		return;
	note_exit(b, execution_has_ended(b->main.x, &code) ? code : -1);
}

void box_main_take_up(struct box *b)
{
	struct box_life *life = &b->row.life;
	bool reaped;
	if (!life->main_id[0])
		return;
	struct execution *x = executions_find(b->boxes->config.executions, b->row.id, life->main_id, &reaped);
	b->main.for_use = true; /* unknown: in doubt nothing that runs is ended */
	if (x) {
		hold(b, x);
	} else {
		b->main.over = true;
		note_exit(b, life->has_exit ? life->exit_code : -1);
	}
}

/* ---- for those who attach -------------------------------------------------------------------------- */

struct main_call {
	execution_started_fn done;
	void *arg;
};

static void answer(struct box *b, execution_started_fn done, void *arg)
{
	struct failure f;
	bool reaped = false;
	struct execution *x =
		executions_find(b->boxes->config.executions, b->row.id, b->told.main_id, &reaped);
	if (x) {
		done(arg, x, NULL);
		return;
	}
	box_failure(&f, reaped ? FAIL_GONE : FAIL_NOT_FOUND,
		    "the main command's execution %s is gone: it ended and is not kept any more",
		    b->told.main_id);
	done(arg, NULL, &f);
}

static void on_box_started(void *arg, struct box *b, const struct failure *f)
{
	struct main_call call = *(struct main_call *)arg;
	free(arg);
	if (f)
		call.done(call.arg, NULL, f);
	else
		answer(b, call.done, call.arg);
}

void box_main(struct box *b, execution_started_fn done, void *arg)
{
	struct failure f;
	if (!main_is_given(&b->row.settings)) {
		box_failure(&f, FAIL_CONFLICT,
			    "the box has no main command: it was created without entrypoint and cmd");
		done(arg, NULL, &f);
		return;
	}
	if (b->told.main_id[0] && b->row.life.status != BOX_STARTING) {
		answer(b, done, arg);
		return;
	}
	if (!box_may_resume(b, &f)) {
		done(arg, NULL, &f);
		return;
	}
	struct main_call *call = malloc(sizeof *call);
	if (!call) {
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(arg, NULL, &f);
		return;
	}
	*call = (struct main_call){done, arg};
	box_start(b, on_box_started, call);
}
