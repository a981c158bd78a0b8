#include "manifest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/lower.h"
#include "host-shim/daemon/boxes/strings.h"
#include "host-shim/daemon/rest/limits.h"

#define FORMAT "tenon-box"
#define TEXT_MAX 4096
#define NAME_MAX_LENGTH 128

/* ---- writing --------------------------------------------------------------------------------------- */

static json_t *env_json(const char *const *env)
{
	json_t *list = json_array();
	for (; env && *env; env++)
		if (json_array_append_new(list, json_string(*env)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

json_t *archive_manifest_of(const struct box_info *i)
{
	char *text = settings_to_json(i->settings);
	json_t *settings = text ? json_loads(text, 0, NULL) : NULL;
	json_t *labels = i->labels_json ? json_loads(i->labels_json, 0, NULL) : json_object();
	const char *digest = lower_is_imported(i->settings->image_digest) ? NULL : i->settings->image_digest;
	free(text);
	/* Of this host: other hosts have other volumes. */
	json_object_del(settings, "volumes");
	json_object_del(settings, "image_digest");
	json_t *box = json_pack("{s:s?, s:s?, s:i, s:i, s:i, s:b, s:b, s:I, s:I, s:o, s:o, s:o}", "name",
				i->name, "working_dir", i->working_dir, "cpus", (int)i->cpus, "memory_mib",
				(int)i->memory_mib, "disk_size_gb", (int)i->disk_size_gb, "auto_remove",
				(int)i->auto_remove, "auto_resume", (int)i->auto_resume, "auto_stop",
				(json_int_t)i->auto_stop, "auto_delete", (json_int_t)i->auto_delete, "env",
				env_json(i->env), "labels", labels, "settings", settings);
	return json_pack("{s:s, s:i, s:{s:s, s:s?}, s:o}", "format", FORMAT, "version", ARCHIVE_VERSION,
			 "image", "reference", i->image, "digest", digest, "box", box);
}

static json_t *member_json(const struct member *m)
{
	return json_pack("{s:I, s:s}", "size", (json_int_t)m->size, "sha256", m->sha256);
}

char *archive_manifest_text(json_t *manifest, const struct member *disk, const struct member *image)
{
	json_t *members =
		json_pack("{s:o, s:o}", ARCHIVE_DISK, member_json(disk), ARCHIVE_IMAGE, member_json(image));
	if (json_object_set_new(manifest, "members", members) < 0)
		return NULL;
	return json_dumps(manifest, JSON_INDENT(2));
}

/* ---- reading --------------------------------------------------------------------------------------- */

static void read_member(struct fields *members, const char *name, const char *prefix, uint64_t max,
			struct member *out)
{
	struct fields f;
	json_t *o = fields_object(members, name);
	if (!o) {
		fields_fault(members, name, "is missing");
		return;
	}
	fields_open(&f, o, prefix);
	out->size = (uint64_t)fields_int(&f, "size", 1, (int64_t)max, 0);
	const char *sha256 = fields_string(&f, "sha256", 64, 64);
	if (!out->size)
		fields_fault(&f, "size", "is missing");
	if (!sha256 || strspn(sha256, "0123456789abcdef") != 64)
		fields_fault(&f, "sha256", "must be 64 hexadecimal digits");
	else
		strcpy(out->sha256, sha256);
	fields_close(members, &f);
}

static char **read_env(struct fields *f)
{
	json_t *list = fields_array(f, "env"), *item;
	size_t i;
	const char **env = calloc(json_array_size(list) + 1, sizeof *env);
	json_array_foreach (list, i, item) {
		const char *s = json_string_value(item);
		if (!s || !strchr(s, '=') || s[0] == '=')
			fields_fault(f, "env", "must be a list of NAME=value");
		if (env)
			env[i] = s;
	}
	char **copy = env && !f->problem[0] ? strings_copy(env) : NULL;
	free(env);
	return copy;
}

static void read_settings(struct archive_manifest *m, struct fields *f)
{
	json_t *o = fields_object(f, "settings");
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	struct err e;
	if (text && settings_from_json(&m->settings, text, &e) < 0)
		fields_fault(f, "settings", "cannot be read");
	free(text);
	/* What an archive says of these is not the importing host's: the names of its volumes, an image that
	 * may not be what it is called, and how much the box is trusted. */
	struct box_settings *s = &m->settings;
	for (size_t i = 0; i < s->n_volumes; i++) {
		free(s->volumes[i].volume);
		free(s->volumes[i].guest_path);
	}
	free(s->volumes);
	free(s->image_digest);
	free(s->preset);
	s->volumes = NULL;
	s->n_volumes = 0;
	s->image_digest = s->preset = NULL;
}

static void read_box(struct archive_manifest *m, struct fields *f)
{
	struct box_spec *s = &m->spec;
	s->name = fields_string(f, "name", 1, NAME_MAX_LENGTH);
	for (const char *p = s->name; p && *p; p++)
		if (!isalnum((unsigned char)*p) && (p == s->name || !strchr("._-", *p)))
			fields_fault(f, "name", "must consist of letters, digits, '.', '_' and '-'");
	s->working_dir = fields_string(f, "working_dir", 1, TEXT_MAX - 1);
	if (s->working_dir && s->working_dir[0] != '/')
		fields_fault(f, "working_dir", "must be an absolute path");
	s->cpus = (unsigned)fields_int(f, "cpus", 1, LIMIT_CPUS, BOX_CPUS);
	s->memory_mib =
		(unsigned)fields_int(f, "memory_mib", BOX_MEMORY_MIN_MIB, LIMIT_MEMORY_MIB, BOX_MEMORY_MIB);
	s->disk_size_gb = (unsigned)fields_int(f, "disk_size_gb", 1, LIMIT_DISK_GB, BOX_DISK_GB);
	s->auto_remove = fields_bool(f, "auto_remove", false);
	s->auto_resume = fields_bool(f, "auto_resume", true);
	s->auto_stop = fields_int(f, "auto_stop", 0, LIMIT_SECONDS, 0);
	s->auto_delete = fields_int(f, "auto_delete", 0, LIMIT_SECONDS, 0);
	s->env = (const char *const *)(m->env = read_env(f));
	json_t *labels = fields_object(f, "labels"), *value;
	const char *key;
	json_object_foreach (labels, key, value)
		if (!json_is_string(value))
			fields_fault(f, "labels", "must be an object of strings");
	s->labels_json = m->labels = labels ? json_dumps(labels, JSON_COMPACT) : NULL;
	if (m->labels && strlen(m->labels) > LIMIT_LABELS)
		fields_fault(f, "labels", "must be at most %d bytes of JSON", LIMIT_LABELS);
	read_settings(m, f);
	s->settings = &m->settings;
}

static void read_image(struct archive_manifest *m, struct fields *f)
{
	m->spec.image = fields_string(f, "reference", 1, 512);
	if (!m->spec.image)
		fields_fault(f, "reference", "is missing");
	const char *digest = fields_string(f, "digest", 1, 128);
	m->image_digest = digest ? strdup(digest) : NULL;
}

static void read_part(struct archive_manifest *m, const char *name, const char *prefix,
		      void (*read)(struct archive_manifest *m, struct fields *f))
{
	struct fields f;
	json_t *o = fields_object(&m->fields, name);
	if (!o) {
		fields_fault(&m->fields, name, "is missing");
		return;
	}
	fields_open(&f, o, prefix);
	read(m, &f);
	fields_close(&m->fields, &f);
}

static void read_members(struct archive_manifest *m, struct fields *f)
{
	/* Heads of pieces are small beside them; a disk of nothing but one-byte pieces is nobody's. */
	uint64_t disk = (uint64_t)m->spec.disk_size_gb << 30;
	read_member(f, ARCHIVE_DISK, "members." ARCHIVE_DISK ".", disk + disk / 64 + (1u << 20), &m->disk);
	read_member(f, ARCHIVE_IMAGE, "members." ARCHIVE_IMAGE ".", 1ull << 40, &m->image);
}

static void fault(struct failure *f, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fault(struct failure *f, enum failure_kind kind, const char *fmt, ...)
{
	*f = (struct failure){.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof f->message, fmt, ap);
	va_end(ap);
}

bool archive_manifest_read(struct archive_manifest *m, const void *text, size_t len, struct failure *f)
{
	*m = (struct archive_manifest){0};
	fields_parse(&m->fields, text, len);
	const char *format = json_string_value(json_object_get(m->fields.object, "format"));
	const json_t *version = json_object_get(m->fields.object, "version");
	if (!m->fields.problem[0] && !format && json_is_integer(version)) {
		fault(f, FAIL_UNSUPPORTED,
		      "this is an archive of BoxLite's, version %lld, whose disks are not read here: start "
		      "the box there "
		      "and copy what is in it",
		      (long long)json_integer_value(version));
		return false;
	}
	fields_any(&m->fields, "format");
	if (!format || strcmp(format, FORMAT) != 0)
		fields_fault(&m->fields, "format", "must be " FORMAT);
	if (fields_int(&m->fields, "version", 1, INT32_MAX, 0) > ARCHIVE_VERSION && !m->fields.problem[0]) {
		fault(f, FAIL_UNSUPPORTED,
		      "the archive is of version %lld, made by a newer tenond; this one reads %d",
		      (long long)json_integer_value(version), ARCHIVE_VERSION);
		return false;
	}
	read_part(m, "image", "image.", read_image);
	read_part(m, "box", "box.", read_box);
	if (!m->fields.problem[0])
		read_part(m, "members", "members.", read_members);
	if (fields_done(&m->fields))
		return true;
	fault(f, FAIL_INVALID, "manifest.json: %s", m->fields.problem);
	return false;
}

void archive_manifest_finish(struct archive_manifest *m)
{
	strings_free(m->env);
	free(m->labels);
	free(m->image_digest);
	settings_finish(&m->settings);
	fields_finish(&m->fields);
}
