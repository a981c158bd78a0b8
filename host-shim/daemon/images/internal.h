/* What the files of this room share. */
#pragma once

#include <sys/queue.h>

#include "config.h"
#include "host-shim/daemon/boxes/ulid.h"
#include "images.h"

struct image {
	LIST_ENTRY(image) entry;
	char digest[DIGEST_SIZE];
	uint64_t size;
	struct oci_config config;
	unsigned holds; /* by names that are on their way into the database */
	bool going;     /* its row is on its way out */
};

struct name {
	LIST_ENTRY(name) entry;
	char *prefix;
	struct reference reference;
	char text[REFERENCE_TEXT_SIZE];
	struct image *image;
	int64_t cached_ms;
	bool going;
};

struct job { /* a pull, and those who wait for it */
	LIST_ENTRY(job) entry;
	struct images *images;
	char id[ULID_LENGTH + 1];
	char *key; /* of what may share it; NULL: nothing may */
	struct reference reference;
	struct pull *pull;
	TAILQ_HEAD(want_list, image_want) wants;
	int64_t started_ms;
	char digest[DIGEST_SIZE]; /* once the file is there and its row on the way; "" before */
};

struct images {
	struct images_config config; /* strings owned */
	char *dir;                   /* <state>/images */
	LIST_HEAD(image_list, image) images;
	LIST_HEAD(name_list, name) names;
	LIST_HEAD(job_list, job) jobs;
	struct image base;
	struct reference base_reference;
	int64_t base_ms;
	bool closing;
	unsigned refs; /* the owner, and every commit on its way */
};

struct image *images_by_digest(struct images *is, const char *digest);
/* One of this prefix (NULL: of any) that leads to the image of this digest, but not that one. */
struct name *images_any_name(struct images *is, const char *prefix, const char *digest,
			     const struct name *but);
void image_free(struct image *i);
void name_free(struct name *n);
void images_remove_file(struct images *is, const char *digest);
void images_unref(struct images *is);
void images_failure(struct failure *f, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The image lies in its file; gives it a row, and to each prefix of the list, NULL-terminated, this name.
 * Takes the list. done(arg, failure) runs later. */
void images_add(struct images *is, const char *digest, const char *config, const struct reference *reference,
		char **prefixes, void (*done)(void *arg, const struct failure *f), void *arg);
void image_describe(struct images *is, const struct name *n, struct image_info *out);
struct name *images_name(struct images *is, const char *prefix, const char *text);

/* wants.c */
void images_end_jobs(struct images *is);
/* Whether a file of this digest was just made and its row is on its way. */
bool images_expect(const struct images *is, const char *digest);

/* cache.c: removes what tries before left behind, if it is too old or too much; not what a pull uses now. */
void cache_trim(struct images *is);
