/* The images of this host. Each is one squashfs file, made of the layers of one manifest and named by its
 * digest: <state>/images/<hex>.squashfs, shared read-only by all boxes. Names lead to them, and belong to a
 * prefix: what one tenant has pulled with its credentials no other sees, though both have the same file if
 * both have pulled it.
 *
 *   reference.c   what people call an image            rows.c    the database
 *   manifest.c    what a registry says it is made of   pull.c    how it gets here
 *   config.c      what is to be run in it              wants.c   who waits for that
 *   skopeo.c      the program that fetches             departure.c  how it goes
 *   images.c      which are here, and who may have them
 *
 * The row is committed after the file has its name, and goes before it: what a crash leaves is a file without
 * a row, and the next start removes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "host-shim/daemon/boxes/settings.h"
#include "host-shim/daemon/executions/executions.h"
#include "host-shim/daemon/store/store.h"
#include "pull.h"
#include "reference.h"

struct images;

struct images_config {
	uv_loop_t *loop;
	struct store *store;
	const char *state_dir;
	const char *flatten_path;
	const char *base;      /* the squashfs of the built-in image */
	const char *auth_file; /* as in pull_config; NULL: none */
	unsigned stall_ms;     /* 0: 60 s */
	/* How many boxes of a prefix are made of this image. */
	unsigned (*in_use)(void *arg, const char *prefix, const char *digest);
	void *arg;
};
/* Loads rows and removes what an earlier tenond left unfinished. */
int images_create(struct images **out, const struct images_config *c, struct err *e);
/* Pulls end, those who wait are told. Before the store is closed, which finishes what is on its way. */
void images_destroy(struct images *is);

struct image_info {                               /* valid until the loop turns */
	const char *reference, *repository, *tag; /* tag "" if the reference has a digest */
	const char *digest;                       /* of the manifest */
	uint64_t size;                            /* bytes of the squashfs */
	int64_t cached_ms;
	const struct image_config *config;
	bool builtin; /* tenon/base: it is no file of ours, cannot be deleted, and has nothing in its config
		       */
	unsigned boxes;
};

/* By reference, or by digest alone. -ENOENT; -EINVAL if it is neither. */
int images_find(struct images *is, const char *prefix, const char *text, struct image_info *out,
		struct err *e);
/* Every name of a prefix, in the order of the names; the built-in image first. */
void images_each(struct images *is, const char *prefix, void (*fn)(void *arg, const struct image_info *i),
		 void *arg);
/* Whether text names the built-in image. */
bool images_is_builtin(const char *text);

/* ---- getting one ---- */

struct image_want;
struct image_request {
	const char *prefix;
	const char *reference;
	const char *transport, *archive; /* as in pull_config */
	const char *username, *password;
	/* Both NULL-able members and strings are copied. progressed may be NULL. done runs exactly once,
	 * later, unless the want is dropped first. */
	void (*progressed)(void *arg);
	void (*done)(void *arg, const struct image_info *i, const struct failure *f);
	void *arg;
};
/* Asks the registry, also for a name that is here: its tag may have moved. Those who want the same at the
 * same time share one pull. NULL with *f: it cannot begin. */
struct image_want *images_pull(struct images *is, const struct image_request *r, struct failure *f);
/* done will not run; the last one to go ends the pull. NULL is fine. */
void images_unwant(struct image_want *w);
void image_want_progress(const struct image_want *w, struct pull_progress *out);

struct image_pull_info {
	const char *id, *reference;
	struct pull_progress progress;
	int64_t started_ms;
};
void images_each_pull(struct images *is, const char *prefix,
		      void (*fn)(void *arg, const struct image_pull_info *i), void *arg);
/* Those of this prefix who wait for it are told that it was cancelled. -ENOENT. */
int images_cancel(struct images *is, const char *prefix, const char *id);
/* Whether somebody of this prefix waits for a pull. */
bool images_are_wanted(const struct images *is, const char *prefix);
/* A file to receive an archive into, for image_request.archive. free() the path; unlink it if it is not asked
 * for. -1 with *e. */
int images_open_archive(struct images *is, char **path, struct err *e);

/* ---- losing one ---- */

typedef void (*images_gone_fn)(void *arg, unsigned names, uint64_t bytes, const struct failure *f);
/* A digest: all names of it. FAIL_NOT_FOUND, FAIL_CONFLICT while a box of the prefix is made of it. */
void images_delete(struct images *is, const char *prefix, const char *text, images_gone_fn done, void *arg);
/* All names of a prefix whose images no box of it is made of; without all only those that no tag leads to any
 * more. bytes: of the files that went. */
void images_prune(struct images *is, const char *prefix, bool all, images_gone_fn done, void *arg);
