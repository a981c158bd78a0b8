/* An image's config: what to run in it, and which bytes its layers unpack to (OCI image specification,
 * config.md). Every byte is hostile. Used by tenond and by tenon-flatten. */
#pragma once

#include "digest.h"
#include "host-shim/daemon/boxes/settings.h"

#define CONFIG_STRINGS_MAX (256u << 10) /* of env, cmd and entrypoint together: it must fit a request */

struct oci_config {
	char (*diff_ids)[DIGEST_SIZE]; /* of the unpacked layers, the lowest first */
	size_t n_diff_ids;
	struct image_config image;
};

/* -EINVAL, or -ENOTSUP if it is for another machine than linux/amd64. Finish *out in any case. */
int config_parse(struct oci_config *out, const void *text, size_t len, struct err *e);
void config_finish(struct oci_config *c);
