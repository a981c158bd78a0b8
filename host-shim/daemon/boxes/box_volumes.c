/* The volumes of a box: who may have them, the disks that they are to tenon-vmm, the mounts that they are to
 * the agent.
 *
 * A volume that somebody may write belongs to him alone while his box has a VM; readers share one. That is
 * read from the boxes' own rows, so that it holds in the tenond that comes after this one too. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"

static bool fail(struct failure *f, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static bool fail(struct failure *f, enum failure_kind kind, const char *fmt, ...)
{
	va_list ap;
	*f = (struct failure){.kind = kind, .field = "create.volumes"};
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof f->message, fmt, ap);
	va_end(ap);
	return false;
}

bool box_volumes_resolve(struct boxes *bs, struct box_row *row, struct failure *f)
{
	struct box_settings *s = &row->settings;
	for (size_t i = 0; i < s->n_volumes; i++) {
		struct volume_mount *m = &s->volumes[i];
		struct volume_info v;
		if (i == BOX_VOLUMES_MAX)
			return fail(f, FAIL_INVALID, "volumes: %d at most", BOX_VOLUMES_MAX);
		if (!volumes_find(bs->config.volumes, row->prefix, m->volume, &v))
			return fail(f, FAIL_NOT_FOUND, "no volume %.128s", m->volume);
		char *id = strdup(v.id);
		if (!id)
			return fail(f, FAIL_EXHAUSTED, "no memory");
		free(m->volume);
		m->volume = id;
		for (size_t j = 0; j < i; j++)
			if (strcmp(s->volumes[j].volume, id) == 0)
				return fail(f, FAIL_INVALID, "volumes: %s is mounted twice", v.name);
	}
	return true;
}

static const struct volume_mount *find_mount(const struct box *b, const char *volume)
{
	const struct box_settings *s = &b->row.settings;
	for (size_t i = 0; i < s->n_volumes; i++)
		if (strcmp(s->volumes[i].volume, volume) == 0)
			return &s->volumes[i];
	return NULL;
}

static const char *name_of(const struct box *b)
{
	return b->row.name ? b->row.name : b->row.id;
}

const char *boxes_volume_user(const struct boxes *bs, const char *volume)
{
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry)
		if (find_mount(b, volume))
			return name_of(b);
	return NULL;
}

bool box_volumes_free(const struct box *b, struct failure *f)
{
	const struct box *other;
	TAILQ_FOREACH (other, &b->boxes->list, entry) {
		const struct box_settings *s = &b->row.settings;
		if (other == b || !state_has_vm(other->row.life.status))
			continue;
		for (size_t i = 0; i < s->n_volumes; i++) {
			const struct volume_mount *his = find_mount(other, s->volumes[i].volume);
			if (!his || (his->read_only && s->volumes[i].read_only))
				continue;
			box_failure(f, FAIL_CONFLICT,
				    "volume %s is in use by box %s, which runs: only boxes that all mount it "
				    "read-only run at once",
				    his->volume, name_of(other));
			return false;
		}
	}
	return true;
}

bool box_volumes_writable(const struct box *b)
{
	const struct box_settings *s = &b->row.settings;
	for (size_t i = 0; i < s->n_volumes; i++)
		if (!s->volumes[i].read_only)
			return true;
	return false;
}

int box_volumes_disks(struct box *b, struct vmm_disk disks[BOX_VOLUMES_MAX], struct err *e)
{
	const struct box_settings *s = &b->row.settings;
	for (size_t i = 0; i < s->n_volumes; i++) {
		const struct volume_mount *m = &s->volumes[i];
		int r = volumes_use(b->boxes->config.volumes, b->row.prefix, m->volume, disks[i].path,
				    sizeof disks[i].path);
		if (r < 0)
			return err_sys(e, "volume", -r, "volume %s", m->volume);
		disks[i].read_only = m->read_only;
	}
	return 0;
}

static ProtobufCBinaryData bytes(const char *s)
{
	return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

void box_volumes_mounts(const struct box *b, struct box_mounts *m)
{
	const struct box_settings *s = &b->row.settings;
	for (m->n = 0; m->n < s->n_volumes; m->n++) {
		const struct volume_mount *v = &s->volumes[m->n];
		Tenon__Mount *mount = &m->mounts[m->n];
		tenon__mount__init(mount);
		/* Behind the root's two, in the order of --disk. */
		snprintf(m->devices[m->n], sizeof m->devices[m->n], "vd%c", (int)('c' + m->n));
		mount->source = bytes(m->devices[m->n]);
		mount->target = bytes(v->guest_path);
		mount->fstype = bytes("ext4");
		mount->read_only = v->read_only;
		/* The journal of a volume whose last writer was killed cannot be played back on a disk that
		 * is read-only, and mount(2) would refuse it: the reader gets what had reached its place. */
		if (v->read_only)
			mount->options = bytes("noload");
		m->list[m->n] = mount;
	}
}
