#include "guest/power/watch.h"

#include <sys/vfs.h>
#include <unistd.h>

#include "guest/log.h"
#include "proto/cleanup.h"

#define LOOK_EVERY (30 * NSEC_PER_SEC)

static void on_oom(struct source *s, uint32_t events)
{
	(void)events;
	struct watch *w = container_of(s, struct watch, oom);
	cgroup_oom_total(w->oom_fd); /* takes note, so that the next change is a new event */
	Tenon__OomKill kill = TENON__OOM_KILL__INIT;
	for (int cg; (cg = cgroup_oom_news(&w->execs->cgroups, &kill.kills)) >= 0;) {
		const uint8_t *id = execs_in_cgroup(w->execs, cg);
		kill.id = (ProtobufCBinaryData){id ? EXEC_ID_SIZE : 0, (uint8_t *)id};
		Tenon__Event event = TENON__EVENT__INIT;
		event.kind_case = TENON__EVENT__KIND_OOM_KILL;
		event.oom_kill = &kill;
		w->tell(w, &event);
	}
}

bool watch_is_low(bool was, uint64_t free, uint64_t total)
{
	return was ? free <= total / 8 : free < total / 10;
}

static void look_at_disk(struct timer *t)
{
	struct watch *w = container_of(t, struct watch, look);
	struct statfs fs;
	if (*w->upper_fd < 0)
		return; /* given up: the machine goes down */
	timer_set(w->loop, &w->look, clock_mono() + LOOK_EVERY);
	if (fstatfs(*w->upper_fd, &fs) < 0)
		return;
	Tenon__LowDisk disk = TENON__LOW_DISK__INIT;
	disk.free_bytes = fs.f_bavail * (uint64_t)fs.f_bsize;
	disk.total_bytes = fs.f_blocks * (uint64_t)fs.f_bsize;
	disk.low = watch_is_low(w->low, disk.free_bytes, disk.total_bytes);
	if (disk.low == w->low)
		return;
	w->low = disk.low;
	Tenon__Event event = TENON__EVENT__INIT;
	event.kind_case = TENON__EVENT__KIND_LOW_DISK;
	event.low_disk = &disk;
	w->tell(w, &event);
}

void watch_init(struct watch *w)
{
	w->oom = (struct source){-1, on_oom};
	timer_init(&w->look, look_at_disk);
	w->oom_fd = -1;
}

void watch_oom(struct watch *w)
{
	w->oom_fd = cgroup_present(&w->execs->cgroups)
			    ? cgroup_open_events(&w->execs->cgroups, "memory.events")
			    : -1;
	if (w->oom_fd >= 0 && loop_add(w->loop, &w->oom, w->oom_fd, EPOLLPRI) < 0)
		close_fd(&w->oom_fd);
}

void watch_disk(struct watch *w)
{
	if (*w->upper_fd >= 0)
		look_at_disk(&w->look);
}
