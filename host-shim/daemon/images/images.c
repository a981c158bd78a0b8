#include "images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/boxes/strings.h"
#include "internal.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "removal.h"
#include "rows.h"

#define STALL_DEFAULT_MS 60000
#define SUFFIX ".squashfs"

void images_failure(struct failure *f, enum failure_kind kind, const char *fmt, ...)
{
	*f = (struct failure){.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof f->message, fmt, ap);
	va_end(ap);
}

/* ---- what is here ---------------------------------------------------------------------------------- */

struct image *images_by_digest(struct images *is, const char *digest)
{
	struct image *i;
	LIST_FOREACH (i, &is->images, entry)
		if (!i->going && strcmp(i->digest, digest) == 0)
			return i;
	return NULL;
}

struct name *images_name(struct images *is, const char *prefix, const char *text)
{
	struct name *n;
	LIST_FOREACH (n, &is->names, entry)
		if (!n->going && strcmp(n->text, text) == 0 && strcmp(n->prefix, prefix) == 0)
			return n;
	return NULL;
}

struct name *images_any_name(struct images *is, const char *prefix, const char *digest,
			     const struct name *but)
{
	struct name *n;
	LIST_FOREACH (n, &is->names, entry)
		if (!n->going && n != but && strcmp(n->image->digest, digest) == 0 &&
		    (!prefix || strcmp(n->prefix, prefix) == 0))
			return n;
	return NULL;
}

void image_free(struct image *i)
{
	LIST_REMOVE(i, entry);
	config_finish(&i->config);
	free(i);
}

void name_free(struct name *n)
{
	LIST_REMOVE(n, entry);
	free(n->prefix);
	free(n);
}

static struct image *image_create(struct images *is, const char *digest, uint64_t size, const char *config)
{
	struct err e = {0};
	struct image *i = calloc(1, sizeof *i);
	if (!i)
		return NULL;
	LIST_INSERT_HEAD(&is->images, i, entry);
	strcpy(i->digest, digest);
	i->size = size;
	if (config_parse(&i->config, config, strlen(config), &e) == 0)
		return i;
	fprintf(stderr, "tenond: image %s: %s\n", digest, e.msg);
	image_free(i);
	return NULL;
}

/* Sorted, for those who list them. */
static void insert_name(struct images *is, struct name *n)
{
	struct name *at, *after = NULL;
	LIST_FOREACH (at, &is->names, entry) {
		if (strcmp(at->text, n->text) > 0)
			break;
		after = at;
	}
	if (after)
		LIST_INSERT_AFTER(after, n, entry);
	else
		LIST_INSERT_HEAD(&is->names, n, entry);
}

/* Leads the name to the image, whether there is such a name or not yet. */
static bool set_name(struct images *is, const char *prefix, const char *text, struct image *image,
		     int64_t now)
{
	struct err e;
	struct name *n = images_name(is, prefix, text);
	if (!n) {
		n = calloc(1, sizeof *n);
		if (!n || !(n->prefix = strdup(prefix)) || reference_parse(&n->reference, text, &e) < 0) {
			if (n)
				free(n->prefix);
			free(n);
			return false;
		}
		reference_print(&n->reference, n->text);
		insert_name(is, n);
	}
	n->image = image;
	n->cached_ms = now;
	return true;
}

void image_describe(struct images *is, const struct name *n, struct image_info *out)
{
	*out = (struct image_info){
		.reference = n->text,
		.repository = n->reference.repository,
		.tag = n->reference.tag,
		.digest = n->image->digest,
		.size = n->image->size,
		.cached_ms = n->cached_ms,
		.config = &n->image->config.image,
		.boxes = is->config.in_use(is->config.arg, n->prefix, n->image->digest),
	};
}

static void describe_base(struct images *is, struct image_info *out)
{
	*out = (struct image_info){
		.reference = BOX_IMAGE ":latest",
		.repository = BOX_IMAGE,
		.tag = "latest",
		.digest = is->base.digest,
		.size = is->base.size,
		.cached_ms = is->base_ms,
		.config = &is->base.config.image,
		.builtin = true,
	};
}

bool images_is_builtin(const char *text)
{
	return strcmp(text, BOX_IMAGE) == 0 || strcmp(text, BOX_IMAGE ":latest") == 0;
}

int images_find(struct images *is, const char *prefix, const char *text, struct image_info *out,
		struct err *e)
{
	struct reference reference;
	char whole[REFERENCE_TEXT_SIZE];
	const struct name *n;
	if (images_is_builtin(text) || strcmp(text, is->base.digest) == 0) {
		describe_base(is, out);
		return 0;
	}
	if (digest_is_valid(text)) {
		n = images_any_name(is, prefix, text, NULL);
	} else {
		int r = reference_parse(&reference, text, e);
		if (r < 0)
			return r;
		reference_print(&reference, whole);
		n = images_name(is, prefix, whole);
		/* By the digest it is named by, too, under whichever tag it came. */
		if (!n && reference.digest[0]) {
			const struct name *same = images_any_name(is, prefix, reference.digest, NULL);
			if (same && strcmp(same->reference.repository, reference.repository) == 0)
				n = same;
		}
	}
	if (!n)
		return err_set(e, "images", ENOENT, "no image %.120s", text);
	image_describe(is, n, out);
	return 0;
}

void images_each(struct images *is, const char *prefix, void (*fn)(void *arg, const struct image_info *i),
		 void *arg)
{
	struct image_info i;
	struct name *n;
	describe_base(is, &i);
	fn(arg, &i);
	LIST_FOREACH (n, &is->names, entry) {
		if (n->going || strcmp(n->prefix, prefix) != 0)
			continue;
		image_describe(is, n, &i);
		fn(arg, &i);
	}
}

/* ---- in -------------------------------------------------------------------------------------------- */

struct addition {
	struct images *images;
	struct image_row image;
	char *config, **prefixes;
	struct reference reference;
	char text[REFERENCE_TEXT_SIZE];
	char (*kept)[REFERENCE_TEXT_SIZE]; /* for each prefix: a name by digest for what the tag left; "" */
	char (*left)[DIGEST_SIZE];
	struct image *held; /* is here already, and stays until this is done */
	int64_t now_ms;
	void (*done)(void *arg, const struct failure *f);
	void *arg;
};

static int write_addition(sqlite3 *db, void *arg, struct err *e)
{
	const struct addition *a = arg;
	int r = image_row_insert(db, &a->image, e);
	for (size_t i = 0; r == 0 && a->prefixes[i]; i++) {
		struct name_row name = {
			.prefix = a->prefixes[i], .reference = a->text, .cached_ms = a->now_ms};
		strcpy(name.digest, a->image.digest);
		r = name_row_put(db, &name, e);
		name.reference = a->kept[i];
		strcpy(name.digest, a->left[i]);
		if (r == 0 && a->kept[i][0])
			r = name_row_put(db, &name, e);
	}
	return r;
}

static void addition_free(struct addition *a)
{
	strings_free(a->prefixes);
	free(a->config);
	free(a->kept);
	free(a->left);
	free(a);
}

static bool take_addition(struct images *is, struct addition *a)
{
	struct image *image = images_by_digest(is, a->image.digest);
	bool whole = true;
	if (!image)
		image = image_create(is, a->image.digest, a->image.size, a->config);
	for (size_t i = 0; image && a->prefixes[i]; i++) {
		struct image *left = a->kept[i][0] ? images_by_digest(is, a->left[i]) : NULL;
		if (left)
			whole &= set_name(is, a->prefixes[i], a->kept[i], left, a->now_ms);
		whole &= set_name(is, a->prefixes[i], a->text, image, a->now_ms);
	}
	return image && whole;
}

void images_remove_file(struct images *is, const char *digest)
{
	_cleanup_free_ char *path = NULL;
	if (asprintf(&path, "%s/%s" SUFFIX, is->dir, digest_hex(digest)) > 0)
		unlink(path);
}

static void on_added(void *arg, int status, const struct err *e)
{
	struct addition *a = arg;
	struct images *is = a->images;
	struct failure f;
	if (a->held)
		a->held->holds--;
	if (status < 0) {
		images_failure(&f, status == -ENOSPC ? FAIL_NO_SPACE : FAIL_INTERNAL,
			       "the database failed: %s", e->msg);
		if (!images_by_digest(is, a->image.digest))
			images_remove_file(is, a->image.digest);
	} else if (!take_addition(is, a)) {
		images_failure(&f, FAIL_EXHAUSTED, "no memory");
	}
	if (!is->closing)
		a->done(a->arg, status < 0 ? &f : NULL);
	addition_free(a);
	images_unref(is);
}

/* A tag that moves on leaves its image: it stays reachable by its digest, until it is pruned. */
static void keep_left(struct images *is, struct addition *a, size_t i)
{
	struct name *n = images_name(is, a->prefixes[i], a->text);
	if (!n || strcmp(n->image->digest, a->image.digest) == 0 ||
	    images_any_name(is, a->prefixes[i], n->image->digest, n))
		return;
	struct reference by_digest = n->reference;
	strcpy(by_digest.digest, n->image->digest);
	reference_print(&by_digest, a->kept[i]);
	strcpy(a->left[i], n->image->digest);
}

void images_add(struct images *is, const char *digest, const char *config, const struct reference *reference,
		char **prefixes, void (*done)(void *arg, const struct failure *f), void *arg)
{
	_cleanup_free_ char *path = NULL;
	struct image *here = images_by_digest(is, digest);
	struct addition *a = calloc(1, sizeof *a);
	struct stat st = {0};
	size_t n = 0;
	while (prefixes[n])
		n++;
	if (!a || asprintf(&path, "%s/%s" SUFFIX, is->dir, digest_hex(digest)) < 0)
		abort(); /* as in store_submit: what is on the disk can no longer be recorded */
	stat(path, &st);
	*a = (struct addition){.images = is,
			       .image = {.size = (uint64_t)st.st_size},
			       .config = config ? strdup(config) : strdup("{}"),
			       .prefixes = prefixes,
			       .reference = *reference,
			       .kept = calloc(n + 1, sizeof *a->kept),
			       .left = calloc(n + 1, sizeof *a->left),
			       .now_ms = (int64_t)clock_ms(CLOCK_REALTIME),
			       .done = done,
			       .arg = arg};
	if (!a->config || !a->kept || !a->left)
		abort();
	strcpy(a->image.digest, digest);
	a->image.config = a->config;
	a->image.created_ms = a->now_ms;
	reference_print(reference, a->text);
	for (size_t i = 0; i < n; i++)
		keep_left(is, a, i);
	a->held = here;
	if (here)
		here->holds++;
	is->refs++;
	store_submit(is->config.store, write_addition, on_added, a);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void images_unref(struct images *is)
{
	struct image *i;
	struct name *n;
	if (--is->refs > 0)
		return;
	while ((n = LIST_FIRST(&is->names)))
		name_free(n);
	while ((i = LIST_FIRST(&is->images)))
		image_free(i);
	free((void *)is->config.state_dir);
	free((void *)is->config.flatten_path);
	free((void *)is->config.base);
	free((void *)is->config.auth_file);
	free(is->dir);
	free(is);
}

static void take_image(void *arg, const struct image_row *row)
{
	image_create(arg, row->digest, row->size, row->config);
}

static void take_name(void *arg, const struct name_row *row)
{
	struct image *i = images_by_digest(arg, row->digest);
	if (i)
		set_name(arg, row->prefix, row->reference, i, row->cached_ms);
}

/* Rows whose file is gone or is another: somebody has tidied up by hand. */
static int drop_missing(struct images *is, sqlite3 *db, struct err *e)
{
	struct image *i, *next;
	struct name *n, *next_name;
	int r = 0;
	for (i = LIST_FIRST(&is->images); r == 0 && i; i = next) {
		struct stat st;
		_cleanup_free_ char *path = NULL;
		next = LIST_NEXT(i, entry);
		if (asprintf(&path, "%s/%s" SUFFIX, is->dir, digest_hex(i->digest)) < 0)
			return err_sys(e, "images", ENOMEM, "images");
		if (stat(path, &st) == 0 && (uint64_t)st.st_size == i->size)
			continue;
		fprintf(stderr, "tenond: image %s is not in its file any more\n", i->digest);
		for (n = LIST_FIRST(&is->names); r == 0 && n; n = next_name) {
			next_name = LIST_NEXT(n, entry);
			if (n->image != i)
				continue;
			r = name_row_delete(db, n->prefix, n->text, e);
			name_free(n);
		}
		if (r == 0)
			r = image_row_delete(db, i->digest, e);
		image_free(i);
	}
	return r;
}

static int load(sqlite3 *db, void *arg, struct err *e)
{
	struct images *is = arg;
	int r = image_rows_each(db, take_image, is, e);
	if (r == 0)
		r = name_rows_each(db, take_name, is, e);
	return r < 0 ? r : drop_missing(is, db, e);
}

/* Files without a row, and whatever a pull had begun. */
static void sweep(struct images *is)
{
	_cleanup_closedir_ DIR *d = opendir(is->dir);
	_cleanup_free_ char *work = NULL;
	const struct dirent *entry;
	while (d && (entry = readdir(d))) {
		char digest[DIGEST_SIZE + sizeof SUFFIX];
		size_t len = strlen(entry->d_name);
		if (len != DIGEST_HEX_LENGTH + strlen(SUFFIX) ||
		    strcmp(entry->d_name + DIGEST_HEX_LENGTH, SUFFIX) != 0)
			continue;
		snprintf(digest, sizeof digest, DIGEST_PREFIX "%.64s", entry->d_name);
		if (!images_by_digest(is, digest))
			unlinkat(dirfd(d), entry->d_name, 0);
	}
	if (asprintf(&work, "%s/work", is->dir) > 0) {
		removal_now(work);
		mkdir(work, 0700);
	}
	cache_trim(is);
}

static int read_base(struct images *is, struct err *e)
{
	struct stat st;
	struct sha256_ctx c;
	_cleanup_close_ int fd = open(is->config.base, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "images", errno, "%.100s", is->config.base);
	_cleanup_free_ char *buffer = malloc(1 << 16);
	ssize_t n = buffer ? 0 : -1;
	sha256_init(&c);
	while (buffer && (n = read(fd, buffer, 1 << 16)) > 0)
		sha256_update(&c, (size_t)n, (const uint8_t *)buffer);
	if (n < 0)
		return err_sys(e, "images", errno, "%.100s", is->config.base);
	digest_finish(&c, is->base.digest);
	is->base.size = (uint64_t)st.st_size;
	is->base_ms = st.st_mtim.tv_sec * 1000ll;
	return 0;
}

static int copy_config(struct images *is, const struct images_config *c, struct err *e)
{
	is->config = *c;
	is->config.state_dir = strdup(c->state_dir);
	is->config.flatten_path = strdup(c->flatten_path);
	is->config.base = strdup(c->base);
	is->config.auth_file = c->auth_file ? strdup(c->auth_file) : NULL;
	if (!c->stall_ms)
		is->config.stall_ms = STALL_DEFAULT_MS;
	if (asprintf(&is->dir, "%s/images", c->state_dir) < 0)
		is->dir = NULL;
	bool whole = is->config.state_dir && is->config.flatten_path && is->config.base && is->dir &&
		     (is->config.auth_file || !c->auth_file);
	return whole ? 0 : err_sys(e, "images", ENOMEM, "images");
}

static int make_dirs(struct images *is, struct err *e)
{
	_cleanup_free_ char *cache = NULL;
	if (asprintf(&cache, "%s/cache", is->dir) < 0)
		return err_sys(e, "images", ENOMEM, "images");
	if ((mkdir(is->dir, 0700) < 0 && errno != EEXIST) || (mkdir(cache, 0700) < 0 && errno != EEXIST))
		return err_sys(e, "images", errno, "%.100s", cache);
	return 0;
}

int images_create(struct images **out, const struct images_config *c, struct err *e)
{
	struct images *is = calloc(1, sizeof *is);
	if (!is)
		return err_sys(e, "images", ENOMEM, "images");
	is->refs = 1;
	int r = copy_config(is, c, e);
	if (r == 0)
		r = make_dirs(is, e);
	if (r == 0)
		r = read_base(is, e);
	if (r == 0)
		r = store_run(c->store, load, is, e);
	if (r < 0) {
		images_unref(is);
		return r;
	}
	sweep(is);
	*out = is;
	return 0;
}

void images_destroy(struct images *is)
{
	if (!is)
		return;
	is->closing = true;
	images_end_jobs(is);
	images_unref(is);
}
