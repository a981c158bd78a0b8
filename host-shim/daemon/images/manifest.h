/* What a registry says an image consists of: image manifests and indexes of the OCI image specification 1.1,
 * and docker's schema 2 of both. Every byte is hostile. Used by tenond and by tenon-flatten. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "proto/err.h"

#define MANIFEST_TEXT_MAX (4u << 20) /* as registries and skopeo bound it */
#define MANIFEST_LAYERS_MAX 255
#define MANIFEST_CONFIG_MAX (1u << 20)

struct manifest_blob {
	char digest[DIGEST_SIZE];
	uint64_t size; /* bytes, as they lie in the registry: compressed */
};

struct manifest {
	struct manifest_blob config;
	struct manifest_blob *layers; /* the lowest first; one may come twice */
	size_t n_layers;
	uint64_t bytes; /* of all layers, each that comes twice counted once */
};

/* -EINVAL with what is wrong; -ENOTSUP for what is well formed and not for us: docker's schema 1, layers that
 * lie elsewhere, things that are no images. Finish *out in any case. */
int manifest_parse(struct manifest *out, const void *text, size_t len, struct err *e);
void manifest_finish(struct manifest *m);
/* 1: it is an index, and digest the image of it that is for linux/amd64. 0: it is none. -ENOTSUP: an index
 * without such an image. */
int manifest_choose(const void *text, size_t len, char digest[DIGEST_SIZE], struct err *e);
