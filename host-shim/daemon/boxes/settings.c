#include "settings.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "strings.h"

/* ---- to JSON -------------------------------------------------------------------------------------- */

static json_t *list_json(char *const *list)
{
	json_t *out = list ? json_array() : json_null();
	for (; list && *list; list++)
		json_array_append_new(out, json_string(*list));
	return out;
}

static json_t *volumes_json(const struct box_settings *s)
{
	json_t *out = json_array();
	for (size_t i = 0; i < s->n_volumes; i++) {
		const struct volume_mount *v = &s->volumes[i];
		json_array_append_new(out, json_pack("{s:s, s:s, s:b}", "volume", v->volume, "guest_path",
						     v->guest_path, "read_only", (int)v->read_only));
	}
	return out;
}

static json_t *to_json(const struct box_settings *s)
{
	const struct image_config *i = &s->image;
	json_t *image = json_pack("{s:o, s:o, s:o, s:s?, s:s?}", "entrypoint", list_json(i->entrypoint),
				  "cmd", list_json(i->cmd), "env", list_json(i->env), "user", i->user,
				  "working_dir", i->working_dir);
	return json_pack("{s:o, s:o, s:b, s:s?, s:b, s:b, s:b, s:s?, s:I, s:I, s:o, s:s?, s:o}", "entrypoint",
			 list_json(s->entrypoint), "cmd", list_json(s->cmd), "image_command",
			 (int)s->image_command, "user", s->user, "tty", (int)s->tty, "no_stdin",
			 (int)s->no_stdin, "outbound", (int)s->outbound, "preset", s->preset, "cap_add",
			 (json_int_t)s->cap_add, "cap_drop", (json_int_t)s->cap_drop, "volumes",
			 volumes_json(s), "image_digest", s->image_digest, "image", image);
}

char *settings_to_json(const struct box_settings *s)
{
	json_t *o = to_json(s);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

/* ---- from JSON ------------------------------------------------------------------------------------ */

/* NULL for what is no string, and without memory: *whole tells which. */
static char *read_string(const json_t *o, const char *name, bool *whole)
{
	const char *s = json_string_value(json_object_get(o, name));
	char *copy = s ? strdup(s) : NULL;
	*whole &= !s || copy;
	return copy;
}

static char **read_list(const json_t *o, const char *name, bool *whole)
{
	const json_t *array = json_object_get(o, name);
	if (!json_is_array(array))
		return NULL;
	size_t n = json_array_size(array);
	char **out = calloc(n + 1, sizeof *out);
	/* Not past one that is none: where the list has a NULL, it ends for whoever frees it. */
	for (size_t i = 0; out && i < n && *whole; i++) {
		const char *s = json_string_value(json_array_get(array, i));
		out[i] = s ? strdup(s) : NULL;
		*whole &= out[i] != NULL;
	}
	*whole &= out != NULL;
	return out;
}

static void read_volumes(struct box_settings *s, const json_t *array, bool *whole)
{
	size_t n = json_array_size(array);
	s->volumes = n ? calloc(n, sizeof *s->volumes) : NULL;
	*whole &= !n || s->volumes;
	for (; s->volumes && s->n_volumes < n; s->n_volumes++) {
		const json_t *o = json_array_get(array, s->n_volumes);
		struct volume_mount *v = &s->volumes[s->n_volumes];
		v->volume = read_string(o, "volume", whole);
		v->guest_path = read_string(o, "guest_path", whole);
		v->read_only = json_is_true(json_object_get(o, "read_only"));
		*whole &= v->volume && v->guest_path;
	}
}

static int from_json(struct box_settings *s, const json_t *o)
{
	bool whole = true;
	const json_t *image = json_object_get(o, "image");
	*s = (struct box_settings){
		.entrypoint = read_list(o, "entrypoint", &whole),
		.cmd = read_list(o, "cmd", &whole),
		.user = read_string(o, "user", &whole),
		.image_command = json_is_true(json_object_get(o, "image_command")),
		.tty = json_is_true(json_object_get(o, "tty")),
		.no_stdin = json_is_true(json_object_get(o, "no_stdin")),
		.outbound = json_is_true(json_object_get(o, "outbound")),
		.preset = read_string(o, "preset", &whole),
		.cap_add = (uint64_t)json_integer_value(json_object_get(o, "cap_add")),
		.cap_drop = (uint64_t)json_integer_value(json_object_get(o, "cap_drop")),
		.image_digest = read_string(o, "image_digest", &whole),
		.image = {.entrypoint = read_list(image, "entrypoint", &whole),
			  .cmd = read_list(image, "cmd", &whole),
			  .env = read_list(image, "env", &whole),
			  .user = read_string(image, "user", &whole),
			  .working_dir = read_string(image, "working_dir", &whole)},
	};
	read_volumes(s, json_object_get(o, "volumes"), &whole);
	if (whole)
		return 0;
	settings_finish(s);
	return -ENOMEM;
}

int settings_from_json(struct box_settings *out, const char *text, struct err *e)
{
	*out = (struct box_settings){0};
	json_t *o = text ? json_loads(text, 0, NULL) : NULL;
	int r = json_is_object(o) ? from_json(out, o) : -EINVAL;
	json_decref(o);
	return r < 0 ? err_sys(e, "database", -r, "settings of a box") : 0;
}

/* ---- in memory ------------------------------------------------------------------------------------ */

int settings_copy(struct box_settings *out, const struct box_settings *from)
{
	json_t *o = to_json(from);
	*out = (struct box_settings){0};
	int r = o ? from_json(out, o) : -ENOMEM;
	json_decref(o);
	return r;
}

void settings_finish(struct box_settings *s)
{
	for (size_t i = 0; i < s->n_volumes; i++) {
		free(s->volumes[i].volume);
		free(s->volumes[i].guest_path);
	}
	free(s->volumes);
	strings_free(s->entrypoint);
	strings_free(s->cmd);
	strings_free(s->image.entrypoint);
	strings_free(s->image.cmd);
	strings_free(s->image.env);
	free(s->image.user);
	free(s->image.working_dir);
	free(s->user);
	free(s->preset);
	free(s->image_digest);
	*s = (struct box_settings){0};
}
