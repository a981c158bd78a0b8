#include "disk.h"

#include <stdio.h>
#include <unistd.h>

#define DEADLINE_MS 60000

int disk_ensure(struct img **out, uv_loop_t *loop, const char *template, const struct layer *l,
		unsigned size_gb, bool mend, void (*done)(void *arg, const struct err *e), void *arg,
		struct err *e)
{
	char path[LAYERS_PATH_MAX], part[LAYERS_PATH_MAX], size[16];
	layer_path(l, path);
	layer_part(l, part);
	snprintf(size, sizeof size, "%uG", size_gb);
	const char *const fill[] = {"qemu-img", "convert", "-O", "qcow2", template, part, NULL};
	const char *const grow[] = {"qemu-img", "resize", "-q", part, size, NULL};
	const char *const check[] = {"qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", path, NULL};
	struct img_config c = {.loop = loop, .deadline_ms = DEADLINE_MS, .arg = arg, .done = done};
	if (access(path, F_OK) < 0) {
		c.steps[0] = fill;
		c.steps[1] = grow;
		c.part = part;
		c.final = path;
	} else if (mend) {
		c.steps[0] = check;
	}
	return img_run(out, &c, e);
}

int disk_overlay(struct img **out, uv_loop_t *loop, const struct layer *l, unsigned size_gb,
		 void (*done)(void *arg, const struct err *e), void *arg, struct err *e)
{
	char path[LAYERS_PATH_MAX], part[LAYERS_PATH_MAX], below[ULID_LENGTH + 16], size[16];
	layer_path(l, path);
	layer_part(l, part);
	snprintf(below, sizeof below, "%s.qcow2", l->below->id);
	snprintf(size, sizeof size, "%uG", size_gb);
	const char *const make[] = {"qemu-img", "create", "-q",    "-f", "qcow2", "-u", "-b",
				    below,      "-F",     "qcow2", part, size,    NULL};
	struct img_config c = {.loop = loop,
			       .steps = {make},
			       .part = part,
			       .final = path,
			       .deadline_ms = DEADLINE_MS,
			       .arg = arg,
			       .done = done};
	return img_run(out, &c, e);
}
