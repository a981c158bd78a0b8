/* Running something in a box: it is started first if it has to be, and what was asked is kept until then. */
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "strings.h"

struct pending_exec {
	struct exec_spec spec; /* strings owned; its lists are these: */
	char **argv, **env;
	execution_started_fn done;
	void *arg;
};

static void pending_free(struct pending_exec *p)
{
	strings_free(p->argv);
	strings_free(p->env);
	free((void *)p->spec.cwd);
	free((void *)p->spec.user);
	free(p);
}

static void start_execution(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	/* The box's environment is in the agent since Configure. */
	struct exec_spec merged = *spec;
	if (!merged.cwd)
		merged.cwd = b->row.working_dir;
	executions_start(b->session, &merged, done, arg);
}

static void run(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg);

/* Started, or thawed: of which nothing is sure but that it was so a moment ago. */
static void on_started_for_exec(void *arg, struct box *b, const struct failure *f)
{
	struct pending_exec *p = arg;
	if (f)
		p->done(p->arg, NULL, f);
	else
		run(b, &p->spec, p->done, p->arg);
	pending_free(p);
}

static void run(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	struct failure f;
	bool runs = b->row.life.status == BOX_RUNNING && b->told.status == BOX_RUNNING && b->session;
	if (runs && !b->frozen) {
		start_execution(b, spec, done, arg);
		return;
	}
	if (b->told.status == BOX_STOPPED && !b->row.auto_resume) {
		box_failure(&f, FAIL_CONFLICT, "the box is stopped and its auto_resume is false");
		done(arg, NULL, &f);
		return;
	}
	struct pending_exec *p = malloc(sizeof *p);
	bool failed = !p;
	if (p) {
		*p = (struct pending_exec){.spec = *spec, .done = done, .arg = arg};
		p->spec.argv = (const char *const *)(p->argv = strings_copy(spec->argv));
		p->spec.env = (const char *const *)(p->env = strings_copy(spec->env));
		p->spec.cwd = spec->cwd ? strdup(spec->cwd) : NULL;
		p->spec.user = spec->user ? strdup(spec->user) : NULL;
		failed = !p->argv || !p->env || (spec->cwd && !p->spec.cwd) || (spec->user && !p->spec.user);
	}
	if (failed) {
		if (p)
			pending_free(p);
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(arg, NULL, &f);
		return;
	}
	if (runs)
		box_when_thawed(b, on_started_for_exec, p);
	else
		box_start(b, on_started_for_exec, p);
}

/* ---- counted ---- */

struct counted {
	struct boxes *boxes;
	char id[ULID_LENGTH + 1]; /* the box may be gone before its command has started */
	execution_started_fn done;
	void *arg;
};

static void on_counted(void *arg, struct execution *x, const struct failure *f)
{
	struct counted *c = arg;
	struct box *b;
	TAILQ_FOREACH (b, &c->boxes->list, entry) {
		struct tally *t;
		if (!f || strcmp(b->row.id, c->id) != 0)
			continue;
		b->exec_errors++;
		if ((t = tally_get(&c->boxes->tallies, b->row.prefix)))
			t->counts.errors++;
	}
	c->done(c->arg, x, f);
	free(c);
}

void box_exec(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	struct tally *t = tally_get(&b->boxes->tallies, b->row.prefix);
	struct counted *c = malloc(sizeof *c);
	if (!t || !c) {
		struct failure f;
		free(c);
		box_failure(&f, FAIL_EXHAUSTED, "no memory");
		done(arg, NULL, &f);
		return;
	}
	*c = (struct counted){.boxes = b->boxes, .done = done, .arg = arg};
	strcpy(c->id, b->row.id);
	t->counts.commands++;
	b->commands++;
	run(b, spec, on_counted, c);
}
