#include "manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#define BLOB_MAX (UINT64_C(1) << 40)

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static json_t *load(const void *text, size_t len, struct err *e)
{
	json_error_t why;
	json_t *o = len <= MANIFEST_TEXT_MAX ? json_loadb(text, len, JSON_REJECT_DUPLICATES, &why) : NULL;
	if (len > MANIFEST_TEXT_MAX)
		err_set(e, "manifest", EINVAL, "the manifest has more than %u bytes", MANIFEST_TEXT_MAX);
	else if (!o)
		err_set(e, "manifest", EINVAL, "the manifest is not JSON: %.80s", why.text);
	return o;
}

static int read_blob(struct manifest_blob *out, const json_t *o, const char *what, struct err *e)
{
	const char *digest = text_of(o, "digest");
	const json_t *size = json_object_get(o, "size");
	if (!digest_is_valid(digest))
		return err_set(e, "manifest", EINVAL, "the %s has no sha256 digest", what);
	if (!json_is_integer(size) || json_integer_value(size) < 0 ||
	    (uint64_t)json_integer_value(size) > BLOB_MAX)
		return err_set(e, "manifest", EINVAL, "the %s has no size, or an impossible one", what);
	strcpy(out->digest, digest);
	out->size = (uint64_t)json_integer_value(size);
	return 0;
}

static bool is_layer_type(const char *type)
{
	static const char *const types[] = {
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

static bool comes_before(const struct manifest *m, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (strcmp(m->layers[i].digest, m->layers[at].digest) == 0)
			return true;
	return false;
}

static int read_layers(struct manifest *m, const json_t *layers, struct err *e)
{
	size_t n = json_array_size(layers);
	if (!json_is_array(layers))
		return err_set(e, "manifest", EINVAL, "the manifest has no list of layers");
	if (n > MANIFEST_LAYERS_MAX)
		return err_set(e, "manifest", EINVAL, "the image has %zu layers; at most %d are taken", n,
			       MANIFEST_LAYERS_MAX);
	m->layers = calloc(n + 1, sizeof *m->layers);
	if (!m->layers)
		return err_sys(e, "manifest", ENOMEM, "layers");
	for (; m->n_layers < n; m->n_layers++) {
		const json_t *o = json_array_get(layers, m->n_layers);
		char what[32];
		snprintf(what, sizeof what, "layer %zu", m->n_layers + 1);
		int r = read_blob(&m->layers[m->n_layers], o, what, e);
		if (r < 0)
			return r;
		/* One that must be fetched from elsewhere would be bytes from an address that the image
		 * chose. */
		if (!is_layer_type(text_of(o, "mediaType")) || json_array_size(json_object_get(o, "urls")))
			return err_set(e, "manifest", ENOTSUP, "%s is of a kind that is not taken: %.80s",
				       what, text_of(o, "mediaType"));
		if (!comes_before(m, m->n_layers))
			m->bytes += m->layers[m->n_layers].size;
	}
	return 0;
}

static int read_manifest(struct manifest *m, const json_t *o, struct err *e)
{
	const json_t *config = json_object_get(o, "config");
	const char *type = text_of(config, "mediaType");
	if (json_integer_value(json_object_get(o, "schemaVersion")) != 2)
		return err_set(e, "manifest", ENOTSUP, "the manifest is not of schema version 2");
	if (json_object_get(o, "manifests"))
		return err_set(e, "manifest", ENOTSUP, "an index within an index");
	int r = read_blob(&m->config, config, "config", e);
	if (r < 0)
		return r;
	if (strcmp(type, "application/vnd.oci.image.config.v1+json") != 0 &&
	    strcmp(type, "application/vnd.docker.container.image.v1+json") != 0)
		return err_set(e, "manifest", ENOTSUP, "this is not an image: its config is %.80s", type);
	if (m->config.size > MANIFEST_CONFIG_MAX)
		return err_set(e, "manifest", EINVAL, "the config has more than %u bytes",
			       MANIFEST_CONFIG_MAX);
	return read_layers(m, json_object_get(o, "layers"), e);
}

int manifest_parse(struct manifest *out, const void *text, size_t len, struct err *e)
{
	*out = (struct manifest){0};
	json_t *o = load(text, len, e);
	int r = o ? read_manifest(out, o, e) : -EINVAL;
	json_decref(o);
	return r;
}

void manifest_finish(struct manifest *m)
{
	free(m->layers);
	*m = (struct manifest){0};
}

/* The first that fits, as containerd and skopeo choose; attestations are of platform "unknown". */
static int choose(const json_t *manifests, char digest[DIGEST_SIZE], struct err *e)
{
	size_t i;
	const json_t *o;
	json_array_foreach (manifests, i, o) {
		const json_t *platform = json_object_get(o, "platform");
		if (strcmp(text_of(platform, "os"), "linux") != 0 ||
		    strcmp(text_of(platform, "architecture"), "amd64") != 0)
			continue;
		if (!digest_is_valid(text_of(o, "digest")))
			return err_set(e, "manifest", EINVAL, "the index has an entry without a digest");
		strcpy(digest, text_of(o, "digest"));
		return 1;
	}
	return err_set(e, "manifest", ENOTSUP, "the image is not there for linux/amd64");
}

int manifest_choose(const void *text, size_t len, char digest[DIGEST_SIZE], struct err *e)
{
	json_t *o = load(text, len, e);
	if (!o)
		return -EINVAL;
	const json_t *manifests = json_object_get(o, "manifests");
	int r = json_is_array(manifests) ? choose(manifests, digest, e) : 0;
	json_decref(o);
	return r;
}
