#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "limits.h"

#define BOX_NAME_MAX 128

/* A field that has a meaning, which this tenond does not give it: refused unless it is empty or its default,
 * since an isolation or mount that is silently left out would be worse than an error. */
static void refuse_if_set(struct fields *f, const char *name)
{
	json_t *v = fields_any(f, name);
	bool empty = !v || json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0) ||
		     (json_is_array(v) && json_array_size(v) == 0) ||
		     (json_is_object(v) && json_object_size(v) == 0);
	if (!empty)
		fields_refuse(f, name, "is not supported yet");
}

/* A mode and the list that narrows it; true unless the mode is "disabled". */
static bool read_mode(struct fields *f)
{
	const char *mode = json_string_value(json_object_get(f->object, "mode"));
	fields_choice(f, "mode", "enabled", "disabled");
	refuse_if_set(f, "allow_net");
	return !mode || strcmp(mode, "disabled") != 0;
}

static bool read_direction(struct fields *network, const char *name, const char *prefix)
{
	json_t *object = fields_object(network, name);
	if (!object)
		return true;
	struct fields f;
	fields_open(&f, object, prefix);
	bool enabled = read_mode(&f);
	fields_close(network, &f);
	return enabled;
}

/* Whether the box has a network, which is the default. In its shapes: "enabled" or, until 2026-03,
 * "isolated"; {mode, allow_net}; {outbound: {mode, …}, inbound: …}. inbound says whether a proxy publishes
 * the box's ports to everybody: none does here, and tunnels are for those who ask for them, so that both
 * modes hold. */
static bool read_network(struct fields *f)
{
	const char *word = json_string_value(json_object_get(f->object, "network"));
	if (word && strcmp(word, "isolated") == 0) {
		fields_any(f, "network");
		return false;
	}
	if (word) {
		fields_choice(f, "network", "enabled", "disabled");
		return strcmp(word, "disabled") != 0;
	}
	json_t *object = fields_object(f, "network");
	if (!object)
		return true;
	struct fields n;
	fields_open(&n, object, "network.");
	if ((fields_has(&n, "mode") || fields_has(&n, "allow_net")) &&
	    (fields_has(&n, "outbound") || fields_has(&n, "inbound")))
		fields_fault(&n, "mode", "cannot stand beside network.outbound or network.inbound");
	bool flat = read_mode(&n);
	bool outbound = read_direction(&n, "outbound", "network.outbound.");
	read_direction(&n, "inbound", "network.inbound.");
	fields_close(f, &n);
	return flat && outbound;
}

static void read_advanced(struct fields *f, struct box_settings *s)
{
	json_t *object = fields_object(f, "advanced");
	if (!object)
		return;
	struct fields a;
	fields_open(&a, object, "advanced.");
	rest_read_capabilities(&a, "advanced.capabilities.", &s->cap_add, &s->cap_drop);
	fields_close(f, &a);
}

#define NAME_RULE "must consist of letters, digits, '.', '_' and '-' and begin with a letter or digit"

static bool name_is_valid(const char *name)
{
	bool ok = isalnum((unsigned char)name[0]);
	for (const char *p = name; ok && *p; p++)
		ok = isalnum((unsigned char)*p) || strchr("._-", *p);
	return ok;
}

const char *rest_read_name(struct fields *f, size_t min)
{
	const char *name = fields_string(f, "name", min, BOX_NAME_MAX);
	if (name && !name_is_valid(name))
		fields_fault(f, "name", NAME_RULE);
	return name;
}

bool rest_box_name_ok(struct http_request *r, const char *name)
{
	bool ok = name_is_valid(name) && strlen(name) <= BOX_NAME_MAX;
	if (!ok)
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "name"),
				      "name " NAME_RULE);
	return ok;
}

static char *read_labels(struct fields *f)
{
	json_t *labels = fields_object(f, "labels");
	const char *key;
	json_t *value;
	json_object_foreach (labels, key, value)
		if (!json_is_string(value))
			fields_fault(f, "labels", "must be an object of strings");
	char *text = labels ? json_dumps(labels, JSON_COMPACT) : NULL;
	if (text && strlen(text) > LIMIT_LABELS)
		fields_fault(f, "labels", "must be at most %d bytes of JSON", LIMIT_LABELS);
	return text;
}

static const char *const not_yet[] = {
	"secrets",
	"rootfs_path",
	"ports",
	"health_check",
};

bool box_request_read(struct box_request *q, struct http_request *r)
{
	size_t len;
	const uint8_t *body = http_body(r, &len);
	*q = (struct box_request){0};
	struct fields *f = &q->fields;
	struct box_spec *s = &q->spec;
	fields_parse(f, body, len);
	s->name = rest_read_name(f, 1);
	s->image = fields_string(f, "image", 1, 512);
	if (!s->image)
		s->image = BOX_IMAGE;
	s->cpus = (unsigned)fields_int(f, "cpus", 1, LIMIT_CPUS, BOX_CPUS);
	s->memory_mib =
		(unsigned)fields_int(f, "memory_mib", BOX_MEMORY_MIN_MIB, LIMIT_MEMORY_MIB, BOX_MEMORY_MIB);
	s->disk_size_gb = (unsigned)fields_int(f, "disk_size_gb", 1, LIMIT_DISK_GB, BOX_DISK_GB);
	q->env = rest_env_list(f, "env", fields_object(f, "env"));
	s->env = q->env;
	s->working_dir = fields_string(f, "working_dir", 1, 4095);
	if (s->working_dir && s->working_dir[0] != '/')
		fields_fault(f, "working_dir", "must be an absolute path");
	s->auto_remove = fields_bool(f, "auto_remove", false);
	s->auto_stop = fields_int(f, "auto_stop", 0, LIMIT_SECONDS, DEFAULT_AUTO_STOP);
	s->auto_delete = fields_int(f, "auto_delete", 0, LIMIT_SECONDS, 0);
	s->auto_resume = fields_bool(f, "auto_resume", true);
	s->labels_json = q->labels = read_labels(f);
	s->settings = &q->settings;
	fields_bool(f, "detach", false); /* a box never depends on its client */
	rest_read_volumes(f, &q->settings);
	q->settings.outbound = read_network(f);
	read_advanced(f, &q->settings);
	rest_read_main(f, &q->settings);
	for (size_t i = 0; i < sizeof not_yet / sizeof *not_yet; i++)
		refuse_if_set(f, not_yet[i]);
	if (rest_fields_ok(r, f))
		return true;
	box_request_finish(q);
	return false;
}

void box_request_finish(struct box_request *q)
{
	free(q->env);
	free(q->labels);
	settings_finish(&q->settings);
	fields_finish(&q->fields);
}
