/* Who waits for which pull: one for each reference and credentials at a time, however many ask. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/boxes.h"
#include "internal.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define JOBS_MAX 16

struct image_want {
	TAILQ_ENTRY(image_want) entry;
	struct job *job;
	char *prefix;
	void (*progressed)(void *arg);
	void (*done)(void *arg, const struct image_info *i, const struct failure *f);
	void *arg;
};

static void want_free(struct image_want *w)
{
	free(w->prefix);
	free(w);
}

static void job_free(struct job *j)
{
	struct image_want *w;
	while ((w = TAILQ_FIRST(&j->wants))) {
		TAILQ_REMOVE(&j->wants, w, entry);
		want_free(w);
	}
	LIST_REMOVE(j, entry);
	pull_destroy(j->pull);
	free(j->key);
	free(j);
}

static void tell(struct job *j, const char *prefix, const struct failure *f)
{
	struct images *is = j->images;
	struct image_want *w, *next;
	char text[REFERENCE_TEXT_SIZE];
	reference_print(&j->reference, text);
	for (w = TAILQ_FIRST(&j->wants); w; w = next) {
		struct image_info i;
		struct failure lost;
		next = TAILQ_NEXT(w, entry);
		if (prefix && strcmp(w->prefix, prefix) != 0)
			continue;
		struct name *n = f ? NULL : images_name(is, w->prefix, text);
		TAILQ_REMOVE(&j->wants, w, entry);
		images_failure(&lost, FAIL_CONFLICT, "image %.200s was deleted at once", text);
		if (n)
			image_describe(is, n, &i);
		w->done(w->arg, n ? &i : NULL, n ? NULL : f ? f : &lost);
		want_free(w);
	}
}

static void on_added(void *arg, const struct failure *f)
{
	struct job *j = arg;
	tell(j, NULL, f);
	job_free(j);
}

static char **distinct_prefixes(const struct job *j)
{
	const struct image_want *w;
	size_t count = 0, n = 0;
	TAILQ_FOREACH (w, &j->wants, entry)
		count++;
	char **list = calloc(count + 1, sizeof *list);
	TAILQ_FOREACH (w, &j->wants, entry) {
		bool there = false;
		for (size_t i = 0; list && i < n; i++)
			there |= strcmp(list[i], w->prefix) == 0;
		if (list && !there && (list[n] = strdup(w->prefix)))
			n++;
	}
	return list;
}

static void on_pulled(void *arg, const char *digest, const char *config, const struct failure *f)
{
	struct job *j = arg;
	char text[REFERENCE_TEXT_SIZE];
	unsigned long long took = clock_ms(CLOCK_REALTIME) - (uint64_t)j->started_ms;
	reference_print(&j->reference, text);
	if (f) {
		fprintf(stderr, "tenond: %s (after %llu ms)\n", f->message, took);
		struct images *is = j->images;
		tell(j, NULL, f);
		job_free(j);
		cache_trim(is);
		return;
	}
	fprintf(stderr, "tenond: image %s: %s after %llu ms\n", text, digest, took);
	char **prefixes = distinct_prefixes(j);
	if (!prefixes)
		abort(); /* as in images_add */
	strcpy(j->digest, digest);
	images_add(j->images, digest, config, &j->reference, prefixes, on_added, j);
	pull_destroy(steal_ptr(&j->pull));
}

static void on_progressed(void *arg)
{
	struct job *j = arg;
	struct image_want *w, *next;
	for (w = TAILQ_FIRST(&j->wants); w; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (w->progressed)
			w->progressed(w->arg);
	}
}

static bool is_known(void *arg, const char *digest)
{
	const struct job *j = arg;
	return images_by_digest(j->images, digest);
}

/* Of the secret no more than its hash is kept. */
static char *key_of(const struct reference *reference, const struct image_request *r)
{
	char text[REFERENCE_TEXT_SIZE], digest[DIGEST_SIZE] = "", *key;
	struct sha256_ctx c;
	reference_print(reference, text);
	if (r->username) {
		sha256_init(&c);
		sha256_update(&c, strlen(r->username) + 1, (const uint8_t *)r->username);
		sha256_update(&c, strlen(r->password), (const uint8_t *)r->password);
		digest_finish(&c, digest);
	}
	return asprintf(&key, "%s %s", text, digest) < 0 ? NULL : key;
}

static struct job *find_job(struct images *is, const char *key)
{
	struct job *j;
	LIST_FOREACH (j, &is->jobs, entry)
		if (key && j->key && !j->digest[0] && strcmp(j->key, key) == 0)
			return j;
	return NULL;
}

static struct job *begin(struct images *is, const struct image_request *r, const struct reference *reference,
			 struct failure *f)
{
	struct err e = {0};
	unsigned count = 0;
	struct job *j;
	LIST_FOREACH (j, &is->jobs, entry)
		count++;
	if (count >= JOBS_MAX) {
		images_failure(f, FAIL_EXHAUSTED, "%d images are being pulled, and no more at a time may be",
			       JOBS_MAX);
		return NULL;
	}
	j = calloc(1, sizeof *j);
	if (!j) {
		images_failure(f, FAIL_EXHAUSTED, "no memory");
		return NULL;
	}
	LIST_INSERT_HEAD(&is->jobs, j, entry);
	TAILQ_INIT(&j->wants);
	j->images = is;
	j->reference = *reference;
	j->started_ms = (int64_t)clock_ms(CLOCK_REALTIME);
	ulid_make(j->id);
	struct pull_config c = {.loop = is->config.loop,
				.dir = is->dir,
				.flatten_path = is->config.flatten_path,
				.auth_file = is->config.auth_file,
				.stall_ms = is->config.stall_ms,
				.reference = reference,
				.transport = r->transport,
				.archive = r->archive,
				.username = r->username,
				.password = r->password,
				.known = is_known,
				.progressed = on_progressed,
				.done = on_pulled,
				.arg = j};
	if (pull_create(&j->pull, &c, &e) == 0)
		return j;
	images_failure(f, e.errnum == ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL, "the pull cannot begin: %s",
		       e.msg);
	job_free(j);
	return NULL;
}

struct image_want *images_pull(struct images *is, const struct image_request *r, struct failure *f)
{
	struct reference reference;
	struct err e = {0};
	if (images_is_builtin(r->reference)) {
		images_failure(f, FAIL_CONFLICT, BOX_IMAGE " is built in");
		return NULL;
	}
	if (reference_parse(&reference, r->reference, &e) < 0) {
		images_failure(f, FAIL_INVALID, "%s", e.msg);
		strcpy(f->field, "reference");
		return NULL;
	}
	_cleanup_free_ char *key = r->transport || r->archive ? NULL : key_of(&reference, r);
	struct image_want *w = calloc(1, sizeof *w);
	if (!w || !(w->prefix = strdup(r->prefix))) {
		free(w);
		images_failure(f, FAIL_EXHAUSTED, "no memory");
		return NULL;
	}
	struct job *j = find_job(is, key);
	if (!j && (j = begin(is, r, &reference, f)))
		j->key = steal_ptr(&key);
	if (!j) {
		want_free(w);
		return NULL;
	}
	w->job = j;
	w->progressed = r->progressed;
	w->done = r->done;
	w->arg = r->arg;
	TAILQ_INSERT_TAIL(&j->wants, w, entry);
	return w;
}

/* One whose row is on its way goes on to its end. */
static void end_if_unwanted(struct job *j)
{
	if (TAILQ_EMPTY(&j->wants) && !j->digest[0])
		job_free(j);
}

void images_unwant(struct image_want *w)
{
	if (!w)
		return;
	struct job *j = w->job;
	TAILQ_REMOVE(&j->wants, w, entry);
	want_free(w);
	end_if_unwanted(j);
}

void image_want_progress(const struct image_want *w, struct pull_progress *out)
{
	*out = (struct pull_progress){.phase = PULL_UNPACKING};
	if (w->job->pull)
		pull_get_progress(w->job->pull, out);
}

static bool is_wanted_by(const struct job *j, const char *prefix)
{
	const struct image_want *w;
	TAILQ_FOREACH (w, &j->wants, entry)
		if (strcmp(w->prefix, prefix) == 0)
			return true;
	return false;
}

bool images_are_wanted(const struct images *is, const char *prefix)
{
	const struct job *j;
	LIST_FOREACH (j, &is->jobs, entry)
		if (is_wanted_by(j, prefix))
			return true;
	return false;
}

void images_each_pull(struct images *is, const char *prefix,
		      void (*fn)(void *arg, const struct image_pull_info *i), void *arg)
{
	const struct job *j;
	LIST_FOREACH (j, &is->jobs, entry) {
		char text[REFERENCE_TEXT_SIZE];
		struct image_pull_info i = {.id = j->id, .reference = text, .started_ms = j->started_ms};
		if (!j->pull || !is_wanted_by(j, prefix))
			continue;
		reference_print(&j->reference, text);
		pull_get_progress(j->pull, &i.progress);
		fn(arg, &i);
	}
}

int images_cancel(struct images *is, const char *prefix, const char *id)
{
	struct job *j;
	struct failure f;
	LIST_FOREACH (j, &is->jobs, entry)
		if (strcmp(j->id, id) == 0 && is_wanted_by(j, prefix))
			break;
	if (!j)
		return -ENOENT;
	images_failure(&f, FAIL_IMAGE, "the pull was cancelled");
	tell(j, prefix, &f);
	end_if_unwanted(j);
	return 0;
}

int images_open_archive(struct images *is, char **path, struct err *e)
{
	char id[ULID_LENGTH + 1];
	ulid_make(id);
	if (asprintf(path, "%s/work/%s.tar", is->dir, id) < 0) {
		*path = NULL;
		return err_sys(e, "images", ENOMEM, "archive");
	}
	int fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	int r = err_sys(e, "images", errno, "archive");
	free(*path);
	*path = NULL;
	return r;
}

bool images_expect(const struct images *is, const char *digest)
{
	const struct job *j;
	LIST_FOREACH (j, &is->jobs, entry)
		if (strcmp(j->digest, digest) == 0)
			return true;
	return false;
}

void images_end_jobs(struct images *is)
{
	struct failure f;
	struct job *j;
	images_failure(&f, FAIL_UNAVAILABLE, "tenond is ending");
	while ((j = LIST_FIRST(&is->jobs))) {
		tell(j, NULL, &f);
		job_free(j);
	}
}
