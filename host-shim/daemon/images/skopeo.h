/* The command lines of skopeo(1) that a pull needs, and what it says when it fails. Never a secret among the
 * arguments: whoever may look at processes sees them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "reference.h"

#define SKOPEO_ARGUMENTS 24
struct skopeo {
	const char *argv[SKOPEO_ARGUMENTS + 1];
	char *strings[4]; /* of argv, owned */
	unsigned n_argv, n_strings;
};

/* work: the pull's directory, with auth.json in it. -ENOMEM. Finish *s in any case. */

/* Writes the manifest as the registry has it to stdout, or the config. */
int skopeo_inspect(struct skopeo *s, const char *work, const struct reference *r, bool config);
/* Fetches the layers of r, which has a digest, to cache/sha256/<hex>, as they are; those that are there
 * already are not asked for. */
int skopeo_copy(struct skopeo *s, const char *work, const char *cache, const struct reference *r);
/* Manifest, config and layers from source, "transport:place", to work/dir. */
int skopeo_import(struct skopeo *s, const char *work, const char *source);
void skopeo_finish(struct skopeo *s);

/* What is worth telling of output, which may hold anything: the message of its last line. */
void skopeo_last_words(char *out, size_t cap, const char *output);
