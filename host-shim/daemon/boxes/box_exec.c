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
	free((void *)p->spec.rules);
	free(p);
}

static void *memdup(const void *bytes, size_t len)
{
	void *copy = malloc(len + 1);
	return copy ? memcpy(copy, bytes, len) : NULL;
}

/* One that is on its way to the agent: nothing may freeze that before it has arrived. */
struct starting {
	struct boxes *boxes;
	char id[ULID_LENGTH + 1]; /* the box may be gone before its command has started */
	execution_started_fn done;
	void *arg;
};

static void on_start_over(void *arg, struct execution *x, const struct failure *f)
{
	struct starting *s = arg;
	struct box *b;
	TAILQ_FOREACH (b, &s->boxes->list, entry)
		if (strcmp(b->row.id, s->id) == 0)
			break;
	s->done(s->arg, x, f);
	free(s);
	if (b && --b->starts == 0)
		box_disk_go_on(b);
}

/* The box's environment is in the agent since Configure.
 *
 * Rights: a command's own preset is taken instead of the box's. Of the capabilities that the box adds and
 * drops the command may say otherwise, one by one. */
void box_exec_defaults(const struct box *b, struct exec_spec *spec)
{
	static const char *const presets[] = {[TENON__PRESET__PRESET_DEVELOPMENT] = "development",
					      [TENON__PRESET__PRESET_STANDARD] = "standard",
					      [TENON__PRESET__PRESET_MAXIMUM] = "maximum"};
	const struct box_settings *s = &b->row.settings;
	if (!spec->cwd)
		spec->cwd = b->row.working_dir ? b->row.working_dir : s->image.working_dir;
	if (!spec->user)
		spec->user = s->user ? s->user : s->image.user;
	for (unsigned i = 0; i < sizeof presets / sizeof *presets; i++)
		if (spec->preset == TENON__PRESET__PRESET_NONE && s->preset && presets[i] &&
		    strcmp(s->preset, presets[i]) == 0)
			spec->preset = (Tenon__Preset)i;
	uint64_t add = spec->cap_add, drop = spec->cap_drop;
	spec->cap_add = (s->cap_add & ~drop) | add;
	spec->cap_drop = (s->cap_drop & ~add) | drop;
}

static void start_execution(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg)
{
	if (session_running(b->session) >= BOX_EXECUTIONS_MAX) {
		struct failure f;
		box_failure(&f, FAIL_EXHAUSTED, "%u executions run in this box, and no more may",
			    session_running(b->session));
		done(arg, NULL, &f);
		return;
	}
	box_touch(b);
	struct exec_spec merged = *spec;
	box_exec_defaults(b, &merged);
	struct starting *starting = malloc(sizeof *starting);
	if (!starting)
		abort(); /* as in store_submit */
	*starting = (struct starting){.boxes = b->boxes, .done = done, .arg = arg};
	strcpy(starting->id, b->row.id);
	b->starts++;
	executions_start(b->session, &merged, on_start_over, starting);
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
	if (!box_may_resume(b, &f)) {
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
		p->spec.rules = spec->rules ? memdup(spec->rules, spec->rules_len) : NULL;
		failed = !p->argv || !p->env || (spec->cwd && !p->spec.cwd) ||
			 (spec->user && !p->spec.user) || (spec->rules && !p->spec.rules);
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
		box_start_for_use(b, on_started_for_exec, p);
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
