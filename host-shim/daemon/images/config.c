#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/strings.h"
#include "manifest.h"
#include "proto/cleanup.h"

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

/* NULL if it is empty, which is how docker says that there is none. */
static int read_string(char **out, const json_t *o, const char *name, size_t *room, struct err *e)
{
	const char *s = text_of(o, name);
	size_t size = strlen(s) + 1;
	if (!*s)
		return 0;
	if (size > *room)
		return err_set(e, "config", EINVAL, "the config's strings have more than %u bytes",
			       CONFIG_STRINGS_MAX);
	*room -= size;
	*out = strdup(s);
	return *out ? 0 : err_sys(e, "config", ENOMEM, "%s", name);
}

static int read_list(char ***out, const json_t *o, const char *name, bool env, size_t *room, struct err *e)
{
	const json_t *array = json_object_get(o, name), *item;
	size_t i, n = 0;
	if (!json_array_size(array))
		return 0;
	char **list = *out = calloc(json_array_size(array) + 1, sizeof *list);
	if (!list)
		return err_sys(e, "config", ENOMEM, "%s", name);
	json_array_foreach (array, i, item) {
		const char *s = json_string_value(item);
		if (!s)
			return err_set(e, "config", EINVAL, "%s is not a list of strings", name);
		/* What no environment can hold is left out, as docker does. */
		if (env && (*s == '=' || !strchr(s, '=')))
			continue;
		/* The pointer counts: a million empty strings are not small either. */
		size_t size = strlen(s) + 1 + sizeof s;
		if (size > *room)
			return err_set(e, "config", EINVAL, "the config's strings have more than %u bytes",
				       CONFIG_STRINGS_MAX);
		*room -= size;
		if (!(list[n++] = strdup(s)))
			return err_sys(e, "config", ENOMEM, "%s", name);
	}
	return 0;
}

static int read_diff_ids(struct oci_config *c, const json_t *list, struct err *e)
{
	size_t n = json_array_size(list);
	if (n > MANIFEST_LAYERS_MAX)
		return err_set(e, "config", EINVAL, "the config has %zu layers; at most %d are taken", n,
			       MANIFEST_LAYERS_MAX);
	c->diff_ids = calloc(n + 1, sizeof *c->diff_ids);
	if (!c->diff_ids)
		return err_sys(e, "config", ENOMEM, "layers");
	for (; c->n_diff_ids < n; c->n_diff_ids++) {
		const char *id = json_string_value(json_array_get(list, c->n_diff_ids));
		if (!id || !digest_is_valid(id))
			return err_set(e, "config", EINVAL, "layer %zu has no sha256 diff_id",
				       c->n_diff_ids + 1);
		strcpy(c->diff_ids[c->n_diff_ids], id);
	}
	return 0;
}

static int read_config(struct oci_config *c, const json_t *o, struct err *e)
{
	const json_t *config = json_object_get(o, "config");
	struct image_config *i = &c->image;
	size_t room = CONFIG_STRINGS_MAX;
	if (strcmp(text_of(o, "os"), "linux") != 0 || strcmp(text_of(o, "architecture"), "amd64") != 0)
		return err_set(e, "config", ENOTSUP, "the image is for %.30s/%.30s, not for linux/amd64",
			       text_of(o, "os"), text_of(o, "architecture"));
	int r = read_diff_ids(c, json_object_get(json_object_get(o, "rootfs"), "diff_ids"), e);
	if (r == 0)
		r = read_list(&i->entrypoint, config, "Entrypoint", false, &room, e);
	if (r == 0)
		r = read_list(&i->cmd, config, "Cmd", false, &room, e);
	if (r == 0)
		r = read_list(&i->env, config, "Env", true, &room, e);
	if (r == 0)
		r = read_string(&i->user, config, "User", &room, e);
	if (r == 0)
		r = read_string(&i->working_dir, config, "WorkingDir", &room, e);
	/* It is a directory of the image, from the root on, as docker takes it. */
	if (r == 0 && i->working_dir && i->working_dir[0] != '/') {
		_cleanup_free_ char *relative = i->working_dir;
		if (asprintf(&i->working_dir, "/%s", relative) < 0)
			i->working_dir = NULL;
	}
	return r;
}

int config_parse(struct oci_config *out, const void *text, size_t len, struct err *e)
{
	json_error_t why;
	*out = (struct oci_config){0};
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!o)
		return err_set(e, "config", EINVAL, "the config is not JSON: %.80s", why.text);
	int r = read_config(out, o, e);
	json_decref(o);
	return r;
}

void config_finish(struct oci_config *c)
{
	strings_free(c->image.entrypoint);
	strings_free(c->image.cmd);
	strings_free(c->image.env);
	free(c->image.user);
	free(c->image.working_dir);
	free(c->diff_ids);
	*c = (struct oci_config){0};
}
