#include "guest/exec/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/exec/preset.h"
#include "guest/exec/rules.h"
#include "proto/cleanup.h"

#define CPU_PERIOD_MIN 1000 /* the kernel's bounds, kernel/sched/core.c */
#define CPU_PERIOD_MAX 1000000
#define CPU_QUOTA_MIN 1000
#define CPU_WEIGHT_MAX 10000

static int read_oom_score_adj(void)
{
	char text[16] = "";
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof text - 1) > 0 ? atoi(text) : 0;
}

void confine_look(struct confine_own *own)
{
	*own = (struct confine_own){.nice = getpriority(PRIO_PROCESS, 0),
				    .oom_score_adj = read_oom_score_adj(),
				    .root = geteuid() == 0};
	for (int n = 0; n < 64; n++) {
		int has = prctl(PR_CAPBSET_READ, n); /* -1: no such capability here */
		own->known |= has >= 0 ? UINT64_C(1) << n : 0;
		own->bounding |= has == 1 ? UINT64_C(1) << n : 0;
	}
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	if (syscall(SYS_capget, &head, data) < 0)
		return;
	uid_t uid[3];
	gid_t gid[3];
	own->bare = getresuid(&uid[0], &uid[1], &uid[2]) == 0 && getresgid(&gid[0], &gid[1], &gid[2]) == 0 &&
		    !(uid[0] | uid[1] | uid[2] | gid[0] | gid[1] | gid[2]) && getgroups(0, NULL) == 0 &&
		    !(data[0].inheritable | data[1].inheritable);
	own->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	own->effective = data[0].effective | (uint64_t)data[1].effective << 32;
}

static void set_rlimit(struct confine *c, unsigned resource, struct rlimit limit)
{
	c->rlimits[resource] = limit;
	c->limited |= 1U << resource;
}

static int take_rlimits(struct confine *c, const Tenon__Exec *req, struct fault *f)
{
	uint32_t seen = 0;
	for (size_t i = 0; i < req->n_rlimits; i++) {
		const Tenon__Rlimit *r = req->rlimits[i];
		if (r->resource >= RLIM_NLIMITS)
			return fault_invalid(f, "exec.rlimits", "%u is no resource", r->resource);
		if (seen & 1U << r->resource)
			return fault_invalid(f, "exec.rlimits", "resource %u comes twice", r->resource);
		if (r->soft > r->hard)
			return fault_invalid(f, "exec.rlimits", "resource %u: soft is above hard",
					     r->resource);
		seen |= 1U << r->resource;
		set_rlimit(c, r->resource, (struct rlimit){r->soft, r->hard});
	}
	return 0;
}

static int take_scores(struct confine *c, const Tenon__Exec *req, const struct confine_own *own,
		       struct fault *f)
{
	if (req->nice < -20 || req->nice > 19)
		return fault_invalid(f, "exec.nice", "%d is not from -20 to 19", req->nice);
	if (req->oom_score_adj < -1000 || req->oom_score_adj > 1000)
		return fault_invalid(f, "exec.oom_score_adj", "%d is not from -1000 to 1000",
				     req->oom_score_adj);
	c->nice = req->nice;
	c->oom_score_adj = req->oom_score_adj;
	c->set_nice = req->nice != own->nice && (own->root || req->nice != 0);
	c->set_oom = req->oom_score_adj != own->oom_score_adj && (own->root || req->oom_score_adj != 0);
	return 0;
}

static int take_caps(struct confine *c, uint64_t preset, const Tenon__Exec *req,
		     const struct confine_own *own, struct fault *f)
{
	uint64_t lacking = req->cap_add & own->known & ~own->bounding;
	if (lacking && req->cap_add != UINT64_MAX)
		return fault_unsupported(f, "exec.cap_add", "the agent itself lacks capability %d",
					 __builtin_ctzll(lacking));
	c->caps = ((preset & ~req->cap_drop) | req->cap_add) & own->bounding;
	c->drop_caps = own->bounding & ~c->caps;
	return 0;
}

static int take_resources(struct cgroup_limits *l, const Tenon__Resources *r, struct fault *f)
{
	if (r->cpu_quota_us && r->cpu_quota_us < CPU_QUOTA_MIN)
		return fault_invalid(f, "exec.resources.cpu_quota_us", "is below %d", CPU_QUOTA_MIN);
	if (r->cpu_period_us && (r->cpu_period_us < CPU_PERIOD_MIN || r->cpu_period_us > CPU_PERIOD_MAX))
		return fault_invalid(f, "exec.resources.cpu_period_us", "is not from %d to %d",
				     CPU_PERIOD_MIN, CPU_PERIOD_MAX);
	if (r->cpu_weight > CPU_WEIGHT_MAX)
		return fault_invalid(f, "exec.resources.cpu_weight", "is above %d", CPU_WEIGHT_MAX);
	uint32_t preset_pids = l->pids_max;
	*l = (struct cgroup_limits){.memory_max = r->memory_max,
				    .memory_high = r->memory_high,
				    .pids_max = r->pids_max ? r->pids_max : preset_pids,
				    .cpu_quota_us = r->cpu_quota_us,
				    .cpu_period_us = r->cpu_period_us,
				    .cpu_weight = r->cpu_weight};
	return 0;
}

static int take_seccomp(struct confine *c, const Tenon__Seccomp *s, struct fault *f)
{
	switch (s->kind_case) {
	case TENON__SECCOMP__KIND_UNCONFINED:
		c->filter = CONFINE_NO_FILTER;
		return 0;
	case TENON__SECCOMP__KIND_DEFAULT_PROFILE:
		c->filter = CONFINE_DEFAULT_FILTER;
		return 0;
	case TENON__SECCOMP__KIND_RULES:
		c->filter = CONFINE_RULES;
		return rules_check(s->rules, f);
	default:
		return fault_invalid(f, "exec.seccomp", "names no kind of filter");
	}
}

int confine_take(struct confine *c, const Tenon__Exec *req, const struct confine_own *own,
		 const struct rlimit *nofile, struct fault *f)
{
	const struct preset *p = preset_find(req->preset);
	if (!p)
		return fault_unsupported(f, "exec.preset", "preset %u is not known here",
					 (unsigned)req->preset);
	*c = (struct confine){.no_new_privs = p->no_new_privs || req->no_new_privs,
			      .filter = p->default_filter ? CONFINE_DEFAULT_FILTER : CONFINE_NO_FILTER,
			      .resources = {.pids_max = p->pids_max}};
	set_rlimit(c, RLIMIT_NOFILE, *nofile);
	for (unsigned i = 0; i < p->n_rlimits; i++)
		set_rlimit(c, (unsigned)p->rlimits[i].resource, p->rlimits[i].limit);

	int r = take_caps(c, p->caps, req, own, f);
	if (r == 0)
		r = take_rlimits(c, req, f);
	if (r == 0)
		r = take_scores(c, req, own, f);
	if (r == 0 && req->resources)
		r = take_resources(&c->resources, req->resources, f);
	if (r == 0 && req->seccomp)
		r = take_seccomp(c, req->seccomp, f);
	return r;
}
