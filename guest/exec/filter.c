#include "guest/exec/filter.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/exec/profile.h"
#include "guest/exec/rules.h"
#include "guest/memory.h"
#include "proto/cleanup.h"

static const size_t program_max = FILTER_INSTRUCTIONS_MAX * sizeof(struct sock_filter);

/* ---- in the worker ---- */

static int build_source(const struct filter_source *s, int fd, struct err *e)
{
	if (!s->rules)
		return profile_build(s->caps, fd, e);
	Tenon__SeccompRules *rules = tenon__seccomp_rules__unpack(NULL, s->n, s->rules);
	return rules ? rules_build(rules, fd, e) : err_set(e, "filter", ENOMEM, "no memory for the rules");
}

static int build(void *arg, int fds[WORKER_FDS], struct err *e)
{
	const struct filter *f = arg;
	fds[0] = memfd_create("filter", MFD_CLOEXEC);
	if (fds[0] < 0)
		return err_sys(e, "filter", errno, "memfd_create");
	return build_source(&f->source, fds[0], e);
}

/* ---- in the agent ---- */

static int take_program(struct filter *f, int fd, struct err *e)
{
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, "filter", EIO, "the worker handed over no filter");
	if (st.st_size == 0 || (size_t)st.st_size % sizeof *f->program != 0)
		return err_set(e, "filter", EIO, "the worker handed over half a filter");
	if ((size_t)st.st_size > program_max)
		return err_set(e, "filter", E2BIG, "the filter has %zu instructions; Linux takes %d at most",
			       (size_t)st.st_size / sizeof *f->program, FILTER_INSTRUCTIONS_MAX);
	if (pread(fd, f->program, (size_t)st.st_size, 0) != st.st_size)
		return err_set(e, "filter", EIO, "the filter cannot be read");
	f->length = (unsigned)((size_t)st.st_size / sizeof *f->program);
	return 0;
}

static void forget(struct filter *f)
{
	f->state = FILTER_NONE;
	memory_trim(f->rules, 0, FILTER_RULES_MAX);
	memory_trim((uint8_t *)f->program, 0, program_max);
}

static void on_built(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	struct filter *f = container_of(w, struct filter, worker);
	struct err own = *e;
	if (r == 0)
		r = take_program(f, fds[0], &own);
	for (int i = 0; i < WORKER_FDS; i++)
		close_fd(&fds[i]);
	f->state = FILTER_READY;
	f->owner->built(f->owner, f, r, &own);
	if (r < 0)
		forget(f);
}

int filters_init(struct filters *x, struct loop *loop,
		 void (*built)(struct filters *, struct filter *, int, const struct err *), struct err *e)
{
	*x = (struct filters){.built = built, .packed = memory_reserve(FILTER_RULES_MAX)};
	for (int i = 0; i < FILTERS; i++) {
		struct filter *f = &x->all[i];
		f->owner = x;
		f->rules = memory_reserve(FILTER_RULES_MAX);
		f->program = memory_reserve(program_max);
		if (!x->packed || !f->rules || !f->program)
			return err_sys(e, "filter", ENOMEM, "cannot reserve memory for filters");
		worker_init(&f->worker, loop, on_built);
	}
	return 0;
}

static bool same(const struct filter_source *a, const struct filter_source *b)
{
	return !a->rules == !b->rules && a->caps == b->caps && a->n == b->n &&
	       (a->n == 0 || memcmp(a->rules, b->rules, a->n) == 0);
}

/* A free place, else the one that has been unused for longest; NULL if all are being built. */
static struct filter *find_place(struct filters *x)
{
	struct filter *oldest = NULL;
	for (int i = 0; i < FILTERS; i++) {
		struct filter *f = &x->all[i];
		if (f->state == FILTER_NONE)
			return f;
		if (f->state == FILTER_READY && (!oldest || f->used < oldest->used))
			oldest = f;
	}
	if (oldest)
		forget(oldest);
	return oldest;
}

static int begin(struct filter *f, const struct filter_source *s, struct fault *fault)
{
	if (s->n > 0)
		memcpy(f->rules, s->rules, s->n);
	f->source = (struct filter_source){s->caps, s->rules ? f->rules : NULL, s->n};
	int r = worker_start(&f->worker, build, f, NULL, 0, FILTER_BUILD_MS);
	if (r < 0)
		return fault_exhausted(fault, "exec.seccomp", "cannot start a worker: %s", strerror(-r));
	f->state = FILTER_BUILDING;
	return 0;
}

static struct filter *find(struct filters *x, const struct filter_source *s)
{
	for (int i = 0; i < FILTERS; i++)
		if (x->all[i].state != FILTER_NONE && same(&x->all[i].source, s))
			return &x->all[i];
	return NULL;
}

static int want(struct filters *x, const struct filter_source *s, struct filter **out, struct fault *fault)
{
	int r = 0;
	struct filter *f = find(x, s);
	if (!f) {
		f = find_place(x);
		if (!f)
			return fault_exhausted(fault, "exec.seccomp", "%d filters are being built already",
					       FILTERS);
		r = begin(f, s, fault);
	}
	f->used = ++x->count;
	*out = f;
	return r;
}

int filters_want(struct filters *x, const Tenon__SeccompRules *rules, uint64_t caps, struct filter **out,
		 struct fault *fault)
{
	if (!rules) {
		const struct filter_source s = {.caps = caps & profile_caps()};
		return want(x, &s, out, fault);
	}
	size_t n = tenon__seccomp_rules__get_packed_size(rules);
	if (n > FILTER_RULES_MAX)
		return fault_exhausted(fault, "exec.seccomp.rules", "%zu bytes; %d at most", n,
				       FILTER_RULES_MAX);
	tenon__seccomp_rules__pack(rules, x->packed);
	const struct filter_source s = {.rules = x->packed, .n = n};
	int r = want(x, &s, out, fault);
	memory_trim(x->packed, 0, FILTER_RULES_MAX);
	return r;
}
