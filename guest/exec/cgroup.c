#include "guest/exec/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/scan.h"
#include "proto/cleanup.h"

#define MADE_AT_START 4
#define CPU_PERIOD_US 100000 /* the kernel's default */
#define CHUNKS_MAX 512       /* bound on one pass over cgroup.procs */

/* The entries stay as they are, untouched: nothing but zeroes is not made. */
void cgroup_pool_init_none(struct cgroup_pool *p)
{
	p->root = p->events = -1;
}

static void open_pool(struct cgroup_pool *p, int root)
{
	p->root = root;
	p->events = openat(root, "memory.events", O_RDONLY | O_CLOEXEC);
	p->oom_kills = 0;
}

#define ENTRY "e" /* and its number: the name of each */
#define NAME_SIZE 16

static void put_name(char name[NAME_SIZE], int cg)
{
	snprintf(name, NAME_SIZE, ENTRY "%d", cg);
}

static bool make(struct cgroup_pool *p, int cg)
{
	char name[NAME_SIZE];
	put_name(name, cg);
	if (mkdirat(p->root, name, 0755) < 0 && errno != EEXIST)
		return false;
	struct cgroup_entry *c = &p->entries[cg];
	int dir = openat(p->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*c = (struct cgroup_entry){.made = dir >= 0, .dir = dir};
	p->before[cg] = (struct usage){0};
	return c->made;
}

/* Its limits, what it has counted and what it still has cached go with it. Fails while somebody in the box
 * keeps a cgroup of his own in it. */
static bool discard(struct cgroup_pool *p, int cg)
{
	char name[NAME_SIZE];
	put_name(name, cg);
	if (unlinkat(p->root, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return false;
	close(p->entries[cg].dir);
	p->entries[cg] = (struct cgroup_entry){0};
	return true;
}

int cgroup_pool_init(struct cgroup_pool *p, const char *path, struct err *e)
{
	cgroup_pool_init_none(p);
	int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(e, "cgroup", errno, "%s", path);
	open_pool(p, root);
	for (int i = 0; i < MADE_AT_START; i++)
		if (!make(p, i)) {
			int r = err_sys(e, "cgroup", errno, "cannot make a cgroup in %s", path);
			close_fd(&p->root);
			close_fd(&p->events);
			return r;
		}
	return 0;
}

void cgroup_pool_adopt(struct cgroup_pool *p, int root)
{
	open_pool(p, root);
}

int cgroup_adopt(struct cgroup_pool *p, int cg, enum cgroup_use use, uint64_t oom_before, bool limited)
{
	if (cg < 0 || cg >= CGROUP_POOL)
		return -EINVAL;
	if (!make(p, cg))
		return -errno;
	p->entries[cg].use = use;
	p->entries[cg].oom_before = p->entries[cg].oom_told = oom_before;
	p->entries[cg].all_before = CGROUP_UNREAD;
	p->entries[cg].limited = limited;
	p->entries[cg].used = true;
	if (use == CGROUP_IDLE)
		usage_read(p->entries[cg].dir, &p->before[cg]);
	return 0;
}

/* Of a file that was opened before. */
static uint64_t value_now(int events, const char *key, uint64_t otherwise)
{
	char text[256];
	ssize_t n = pread(events, text, sizeof text - 1, 0);
	if (n < 0)
		return otherwise;
	text[n] = '\0';
	return scan_value(text, key, otherwise);
}

static uint64_t oom_count(int dir)
{
	char text[256];
	return scan_file(dir, "memory.events", text, sizeof text) < 0 ? 0 : scan_value(text, "oom_kill ", 0);
}

static bool is_empty(const struct cgroup_entry *c)
{
	char text[256];
	return scan_file(c->dir, "cgroup.events", text, sizeof text) > 0 &&
	       scan_value(text, "populated ", 1) == 0;
}

/* Nobody is in it: what it has counted so far is its past. */
static void settle(struct cgroup_pool *p, int cg)
{
	struct cgroup_entry *c = &p->entries[cg];
	usage_read(c->dir, &p->before[cg]);
	c->oom_before = c->oom_told = p->before[cg].oom_kills;
	c->used = true;
	c->use = CGROUP_IDLE;
}

/* Those to be limited come from the far end, where mostly none was made yet: the warm ones stay. */
static int take(struct cgroup_pool *p, bool limited)
{
	for (int n = 0; n < CGROUP_POOL && p->root >= 0; n++) {
		int i = limited ? CGROUP_POOL - 1 - n : n;
		struct cgroup_entry *c = &p->entries[i];
		if (c->use == CGROUP_BUSY || (c->use == CGROUP_LEFT && !is_empty(c)))
			continue;
		if (c->made && (limited || c->limited) && !discard(p, i))
			continue;
		if (!c->made && !make(p, i))
			return -1;
		if (c->use == CGROUP_LEFT)
			settle(p, i);
		c->use = CGROUP_BUSY;
		c->all_before = p->oom_kills;
		return i;
	}
	return -1;
}

void cgroup_give_back(struct cgroup_pool *p, int cg)
{
	if (cg < 0)
		return;
	struct cgroup_entry *c = &p->entries[cg];
	if (!is_empty(c) || (c->limited && !discard(p, cg))) {
		c->use = CGROUP_LEFT;
		c->oom_before = c->oom_told = oom_count(c->dir);
	} else if (c->made) {
		settle(p, cg);
	}
}

bool cgroup_renew(struct cgroup_pool *p)
{
	for (int i = 0; i < CGROUP_POOL; i++) {
		struct cgroup_entry *c = &p->entries[i];
		if (c->use == CGROUP_LEFT && !c->limited && is_empty(c))
			settle(p, i);
		if (c->use != CGROUP_IDLE || !c->used)
			continue;
		c->used = false; /* or somebody in the box keeps a cgroup of his own in it: it serves on as it
				    is */
		if (!discard(p, i))
			continue;
		if (i < MADE_AT_START)
			make(p, i);
		return true;
	}
	return false;
}

/* ---- limits ---- */

#define SETTINGS_MAX 5

/* What the controls of one cgroup are to hold. */
struct settings {
	int n;
	struct setting {
		const char *file, *field;
		char value[32];
	} list[SETTINGS_MAX];
};

static struct setting *add(struct settings *s, const char *file, const char *field)
{
	struct setting *x = &s->list[s->n++];
	x->file = file;
	x->field = field;
	return x;
}

static void add_number(struct settings *s, const char *file, const char *field, uint64_t value)
{
	if (value == 0)
		return;
	struct setting *x = add(s, file, field);
	snprintf(x->value, sizeof x->value, "%" PRIu64, value);
}

static void add_cpu(struct settings *s, uint32_t quota, uint32_t period)
{
	if (quota == 0 && period == 0)
		return;
	struct setting *x =
		add(s, "cpu.max", quota ? "exec.resources.cpu_quota_us" : "exec.resources.cpu_period_us");
	if (quota == 0)
		snprintf(x->value, sizeof x->value, "max %" PRIu32, period);
	else
		snprintf(x->value, sizeof x->value, "%" PRIu32 " %" PRIu32, quota,
			 period ? period : CPU_PERIOD_US);
}

static void list_settings(struct settings *s, const struct cgroup_limits *l)
{
	s->n = 0;
	add_number(s, "memory.max", "exec.resources.memory_max", l->memory_max);
	add_number(s, "memory.high", "exec.resources.memory_high", l->memory_high);
	add_number(s, "pids.max", "exec.resources.pids_max", l->pids_max);
	add_cpu(s, l->cpu_quota_us, l->cpu_period_us);
	add_number(s, "cpu.weight", "exec.resources.cpu_weight", l->cpu_weight);
}

static int apply(int dir, const struct setting *s, struct fault *f)
{
	_cleanup_close_ int fd = openat(dir, s->file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fault_unsupported(f, s->field, "the kernel has no %s", s->file);
	if (write(fd, s->value, strlen(s->value)) >= 0)
		return 0;
	*f = (struct fault){.code = TENON__CODE__CODE_EXEC_FAILED, .field = s->field};
	return err_sys(&f->err, "cgroup", errno, "\"%s\" to %s", s->value, s->file);
}

int cgroup_take(struct cgroup_pool *p, const struct cgroup_limits *limits, int *cg, struct fault *f)
{
	struct settings s;
	int r = 0;
	list_settings(&s, limits);
	*cg = take(p, s.n > 0);
	if (*cg < 0 && s.n > 0)
		return fault_unsupported(f, s.list[0].field, "there is no cgroup to hold the limit");
	for (int i = 0; i < s.n && r == 0; i++) {
		p->entries[*cg].limited = true;
		r = apply(p->entries[*cg].dir, &s.list[i], f);
	}
	if (r < 0)
		cgroup_give_back(p, *cg);
	return r;
}

int cgroup_dir(const struct cgroup_pool *p, int cg)
{
	return cg < 0 ? -1 : p->entries[cg].dir;
}

int cgroup_open(const struct cgroup_pool *p, int cg)
{
	char name[NAME_SIZE];
	put_name(name, cg);
	return p->root < 0 ? -1 : openat(p->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_parse(const char *text)
{
	const char *p =
		scan_after(text, "0::" CGROUP_BOX "/" ENTRY); /* 0: the unified hierarchy, cgroups(7) */
	if (!p || *p < '0' || *p > '9')
		return -1;
	uint64_t cg = scan_number(&p);
	/* A process that has ended may be in one that is "(deleted)". */
	return cg < CGROUP_POOL && (*p == '/' || *p == '\n' || *p == '\0' || *p == ' ') ? (int)cg : -1;
}

static int write_control(int dir, const char *name, const char *value)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static int signal_each(int dir, int signo)
{
	_cleanup_close_ int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int found = 0, pid = 0;
	char text[1024];
	ssize_t n;
	for (int chunk = 0; chunk < CHUNKS_MAX && (n = read(fd, text, sizeof text)) > 0; chunk++)
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] != '\n') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			found += pid > 1 && kill(pid, signo) == 0;
			pid = 0;
		}
	return found > 0 ? 0 : -ESRCH;
}

int cgroup_signal(const struct cgroup_pool *p, int cg, int signo)
{
	if (cg < 0)
		return -ESRCH;
	if (signo != SIGKILL)
		return signal_each(p->entries[cg].dir, signo);
	return write_control(p->entries[cg].dir, "cgroup.kill", "1");
}

/* A kill counts in every cgroup above, before its signal is sent: where the pool's number stands still,
 * nobody in it was killed. That one file is open already, and at every exit this is looked at. */
static bool none_killed_since(struct cgroup_pool *p, uint64_t before)
{
	p->oom_kills = value_now(p->events, "oom_kill ", CGROUP_UNREAD);
	return p->oom_kills == before && before != CGROUP_UNREAD;
}

uint64_t cgroup_oom_kills(struct cgroup_pool *p, int cg)
{
	const struct cgroup_entry *c = cg < 0 ? NULL : &p->entries[cg];
	return !c || none_killed_since(p, c->all_before) ? 0 : oom_count(c->dir) - c->oom_before;
}

int cgroup_oom_news(struct cgroup_pool *p, uint64_t *kills)
{
	for (int i = 0; i < CGROUP_POOL; i++) {
		struct cgroup_entry *c = &p->entries[i];
		uint64_t now = !c->made || c->use == CGROUP_IDLE ? 0 : oom_count(c->dir);
		if (now <= c->oom_told)
			continue;
		c->oom_told = now;
		*kills = now - c->oom_before;
		return i;
	}
	return -1;
}

/* ---- all of them together ---- */

int cgroup_freeze(const struct cgroup_pool *p, bool freeze)
{
	return write_control(p->root, "cgroup.freeze", freeze ? "1" : "0");
}

int cgroup_open_events(const struct cgroup_pool *p, const char *name)
{
	int fd = openat(p->root, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool cgroup_is_frozen(int events)
{
	return value_now(events, "frozen ", 0) == 1;
}

uint64_t cgroup_oom_total(int events)
{
	return value_now(events, "oom_kill ", 0);
}

void cgroup_kill_all(const struct cgroup_pool *p)
{
	write_control(p->root, "cgroup.kill", "1");
}
