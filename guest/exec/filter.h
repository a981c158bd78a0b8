/* Seccomp filters: checked here, built in a forked worker (libseccomp allocates and takes its time), and kept
 * for the next execution that wants the same. */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/fault.h"
#include "guest/worker.h"

#define FILTERS 8
#define FILTER_RULES_MAX (128 * 1024)        /* bytes of rules, packed */
#define FILTER_INSTRUCTIONS_MAX BPF_MAXINSNS /* Linux's own bound */
#define FILTER_BUILD_MS 5000

/* What a filter is made of, and so its key: all of it. */
struct filter_source {
	uint64_t caps;        /* of the default profile: the capabilities that widen it */
	const uint8_t *rules; /* packed Tenon.SeccompRules; NULL: the default profile */
	size_t n;
};

struct filter {
	struct filters *owner;
	enum { FILTER_NONE, FILTER_BUILDING, FILTER_READY } state;
	struct filter_source source; /* rules are its own copy */
	uint8_t *rules;              /* FILTER_RULES_MAX */
	uint64_t used;               /* by the owner's count */
	struct sock_filter *program;
	unsigned length; /* instructions */
	struct worker worker;
};

struct filters {
	struct filter all[FILTERS];
	uint8_t *packed; /* FILTER_RULES_MAX: the rules that are asked for */
	uint64_t count;
	/* A filter that was BUILDING is READY (r is 0), or r is -errno with *e and it is forgotten. */
	void (*built)(struct filters *x, struct filter *f, int r, const struct err *e);
};

int filters_init(struct filters *x, struct loop *loop,
		 void (*built)(struct filters *, struct filter *, int, const struct err *), struct err *e);

/* The filter of those rules, or (NULL) of the default profile for an execution with those capabilities, in
 * *out: READY or BUILDING. Copy a ready one before the next call, which may evict it. -errno with *fault. */
int filters_want(struct filters *x, const Tenon__SeccompRules *rules, uint64_t caps, struct filter **out,
		 struct fault *fault);
