/* One image on its way from a registry, or from elsewhere, into a squashfs file. skopeo fetches,
 * tenon-flatten unpacks, tar2sqfs packs; this is what starts them one after the other, watches them, and
 * cleans up.
 *
 *   a registry:  manifest (of an index: the one for linux/amd64) → known already? done
 *                → config → layers, into a cache that the next try finds → flatten | tar2sqfs → fsync, rename
 *   elsewhere:   everything at once → the rest as above
 *
 * Everything before the rename lies in a directory of its own, which goes at the end whatever that was. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "host-shim/daemon/executions/executions.h"
#include "manifest.h"
#include "reference.h"

enum pull_phase { PULL_RESOLVING, PULL_DOWNLOADING, PULL_UNPACKING };

struct pull_progress {
	enum pull_phase phase;
	uint64_t bytes, bytes_total; /* of layers, as the registry has them; total 0: not known */
	unsigned layers, layers_total;
};

struct pull;

struct pull_config {
	uv_loop_t *loop;
	const char *dir; /* the store's: images/, with work/ and cache/ in it */
	const char *flatten_path;
	const char
		*auth_file; /* the host's own credentials, for those who bring none; NULL: there are none */
	unsigned stall_ms;  /* a registry that says nothing for so long is given up */
	const struct reference *reference;
	const char *transport; /* NULL: the reference's registry; else skopeo's words: "oci:/path" */
	const char
		*archive; /* instead of a transport: a tar that oci-archive or docker-archive reads; taken */
	const char *username, *password; /* NULL: none */
	/* Whether the store has this manifest: then nothing more is fetched. */
	bool (*known)(void *arg, const char *digest);
	void (*progressed)(void *arg);
	/* Exactly once, later; the pull is to be destroyed, also inside this call. f NULL: the image of this
	 * digest is known, or lies at images/<hex>.squashfs, with no row yet, and its config is the text. */
	void (*done)(void *arg, const char *digest, const char *config, const struct failure *f);
	void *arg;
};

/* Copies what c points to. */
int pull_create(struct pull **out, const struct pull_config *c, struct err *e);
/* Ends what is under way and removes what there is of it. NULL is fine. */
void pull_destroy(struct pull *p);
/* Whether it keeps its layers in this directory of the cache. */
bool pull_uses(const struct pull *p, const char *path);
void pull_get_progress(const struct pull *p, struct pull_progress *out);
