#include "pull.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authfile.h"
#include "host-shim/daemon/boxes/process.h"
#include "host-shim/daemon/boxes/ulid.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "removal.h"
#include "skopeo.h"
#include "slurp.h"

#define TICK_MS 200
#define LOG_MS 10000
#define COPY_SECONDS 7200
#define SQUASH_SECONDS 3600
#define UNPACKED_MAX "68719476736" /* 64 GiB; the largest images of machine learning have 20 */
#define FILES_MAX "1000000"
#define SLACK (1u << 20) /* what a file system may count beyond a blob's bytes */
#define ARCHIVE_LEVELS 4
#define FULL_BELOW (1u << 20) /* a file system with less room is full, whatever the programs said */

enum step { STEP_MANIFEST, STEP_CHOSEN, STEP_CONFIG, STEP_COPY, STEP_SQUASH, STEP_KEEP };

struct pull {
	struct pull_config config; /* strings owned */
	struct reference reference;
	char *work, *cache; /* directories; cache NULL: the layers lie in work */
	char *blobs;        /* where each layer lies under the hex digits of its digest */
	enum step step;
	bool second_format;         /* of an archive: it was not the first */
	char expected[DIGEST_SIZE]; /* of the manifest that is asked for; "" if any will do */
	char digest[DIGEST_SIZE];
	struct manifest manifest;
	char *config_text;
	struct pull_progress progress;
	struct process *process, *packer;
	int output; /* what the packer writes, held so that its bytes still count when it has failed and
		       removed it */
	int process_status, packer_status;
	char said[200], packer_said[200];
	char why[200]; /* we ended them ourselves */
	uint64_t step_ms, moved_ms, logged_ms;
	uv_timer_t tick;
	struct keeping *keeping;
};

static void next(struct pull *p);

/* ---- files ----------------------------------------------------------------------------------------- */

static char *join(const char *dir, const char *name)
{
	char *path;
	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int read_file(const char *path, size_t max, char **out, size_t *len, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_sys(e, "pull", errno, "%.100s", path) : slurp(fd, max, out, len, e);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static bool is_full(const struct pull *p, const char *text)
{
	struct statvfs v;
	return strstr(text, "o space left") || strstr(text, "quota exceeded") ||
	       (statvfs(p->config.dir, &v) == 0 && v.f_bavail * v.f_frsize < FULL_BELOW);
}

static void fail(struct pull *p, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fail(struct pull *p, enum failure_kind kind, const char *fmt, ...)
{
	char name[REFERENCE_TEXT_SIZE], text[256];
	struct failure f = {.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (kind != FAIL_NO_SPACE && is_full(p, text))
		f.kind = FAIL_NO_SPACE;
	/* What is kept for the next try is what came before a registry failed. If that is what filled the
	 * file system, or the image is not what it says, there is nothing to go on from. */
	if ((f.kind == FAIL_NO_SPACE || p->step != STEP_COPY) && p->cache)
		removal_later(p->config.loop, steal_ptr(&p->cache));
	reference_print(&p->reference, name);
	snprintf(f.message, sizeof f.message, "image %.200s: %s%s", name,
		 f.kind == FAIL_NO_SPACE ? "no space left on this host: " : "", text);
	uv_timer_stop(&p->tick);
	p->config.done(p->config.arg, NULL, NULL, &f);
}

static void fail_err(struct pull *p, const struct err *e)
{
	static const int own[] = {ENOMEM, EMFILE, ENFILE, EIO, EACCES, EPERM, ENOENT};
	enum failure_kind kind = FAIL_IMAGE;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (e->errnum == own[i])
			kind = FAIL_INTERNAL;
	fail(p, kind, "%s", e->msg);
}

static void succeed(struct pull *p)
{
	uv_timer_stop(&p->tick);
	if (p->cache)
		removal_later(p->config.loop, steal_ptr(&p->cache));
	p->config.done(p->config.arg, p->digest, p->config_text, NULL);
}

/* ---- programs -------------------------------------------------------------------------------------- */

static void on_exited(void *arg, int status, const char *output)
{
	struct pull *p = arg;
	p->process_status = status;
	skopeo_last_words(p->said, sizeof p->said, output);
	process_destroy(steal_ptr(&p->process));
	/* Without its tar the other would wait, or take what there is for the whole. */
	if (p->packer && status != 0)
		process_kill(p->packer, SIGKILL);
	if (!p->packer)
		next(p);
}

static void on_packer_exited(void *arg, int status, const char *output)
{
	struct pull *p = arg;
	p->packer_status = status;
	skopeo_last_words(p->packer_said, sizeof p->packer_said, output);
	process_destroy(steal_ptr(&p->packer));
	if (!p->process)
		next(p);
}

static void begin_step(struct pull *p, enum step step)
{
	p->step = step;
	p->step_ms = p->moved_ms = clock_ms(CLOCK_MONOTONIC);
	p->process_status = p->packer_status = 0;
	p->said[0] = p->packer_said[0] = '\0';
	uv_timer_again(&p->tick);
}

/* built: what making the command line said; takes the call. output: a file of the work directory that takes
 * stdout; NULL: none. */
static void spawn(struct pull *p, struct skopeo *call, int built, const char *output)
{
	struct err e = {0};
	_cleanup_free_ char *path = output ? join(p->work, output) : NULL;
	_cleanup_close_ int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	struct process_config c = {.loop = p->config.loop,
				   .argv = call->argv,
				   .capture = true,
				   .inherit = -1,
				   .output = fd > 0 ? fd : 0,
				   .arg = p,
				   .exited = on_exited};
	int r = built;
	if (r < 0 || (output && !path))
		r = err_sys(&e, "pull", ENOMEM, "skopeo");
	else if (output && fd < 0)
		r = err_sys(&e, "pull", errno, "%s", output);
	if (r == 0)
		r = process_spawn(&p->process, &c, &e);
	skopeo_finish(call);
	if (r < 0)
		fail_err(p, &e);
}

static void inspect(struct pull *p, enum step step, const char *digest)
{
	struct reference r = p->reference;
	struct skopeo call;
	if (digest)
		strcpy(r.digest, digest);
	begin_step(p, step);
	spawn(p, &call, skopeo_inspect(&call, p->work, &r, step == STEP_CONFIG),
	      step == STEP_CONFIG ? "config" : "manifest");
}

static void copy_registry(struct pull *p)
{
	struct reference r = p->reference;
	struct skopeo call;
	strcpy(r.digest, p->digest);
	begin_step(p, STEP_COPY);
	p->progress.phase = PULL_DOWNLOADING;
	spawn(p, &call, skopeo_copy(&call, p->work, p->cache, &r), NULL);
}

static void copy_local(struct pull *p)
{
	struct skopeo call;
	_cleanup_free_ char *archive = NULL;
	const char *source = p->config.transport;
	begin_step(p, STEP_COPY);
	p->progress.phase = PULL_DOWNLOADING;
	if (!source && asprintf(&archive, "%s:%s/archive.tar",
				p->second_format ? "docker-archive" : "oci-archive", p->work) > 0)
		source = archive;
	if (source)
		spawn(p, &call, skopeo_import(&call, p->work, source), NULL);
	else
		fail(p, FAIL_EXHAUSTED, "no memory");
}

static void squash(struct pull *p)
{
	struct err e = {0};
	char jobs[16];
	_cleanup_free_ char *manifest = join(p->work, "manifest"), *image = join(p->work, "image.squashfs");
	const char *const flatten[] = {p->config.flatten_path, manifest,  p->blobs,
				       UNPACKED_MAX,           FILES_MAX, NULL};
	/* Not to lose an entry that it cannot keep is -s. */
	const char *const pack[] = {"tar2sqfs", "-q",      "-s", "-f", "-c",  "zstd",
				    "-X",       "level=3", "-j", jobs, image, NULL};
	int fds[2] = {-1, -1};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	snprintf(jobs, sizeof jobs, "%ld", processors < 1 ? 1 : processors > 4 ? 4 : processors);
	begin_step(p, STEP_SQUASH);
	p->progress.phase = PULL_UNPACKING;
	p->config.progressed(p->config.arg);
	if (!manifest || !image) {
		fail(p, FAIL_EXHAUSTED, "no memory");
		return;
	}
	p->output = open(image, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (p->output < 0 || pipe2(fds, O_CLOEXEC) < 0) {
		err_sys(&e, "pull", errno, "the squashfs and the pipe to it");
		fail_err(p, &e);
		return;
	}
	struct process_config c = {.loop = p->config.loop,
				   .argv = pack,
				   .capture = true,
				   .inherit = -1,
				   .input = fds[0],
				   .arg = p,
				   .exited = on_packer_exited};
	int r = process_spawn(&p->packer, &c, &e);
	c.argv = flatten;
	c.input = 0;
	c.output = fds[1];
	c.exited = on_exited;
	if (r == 0)
		r = process_spawn(&p->process, &c, &e);
	close(fds[0]);
	close(fds[1]);
	if (r < 0) {
		process_destroy(steal_ptr(&p->packer));
		fail_err(p, &e);
	}
}

/* ---- keeping it ------------------------------------------------------------------------------------- */

/* The pull may be gone before its thread is. */
struct keeping {
	uv_work_t work;
	struct pull *pull;
	char *path;
	int errnum;
};

static void sync_file(uv_work_t *w)
{
	struct keeping *k = w->data;
	_cleanup_close_ int fd = open(k->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		k->errnum = errno;
}

static void on_synced(uv_work_t *w, int status)
{
	struct keeping *k = w->data;
	struct pull *p = k->pull;
	_cleanup_free_ char *path = k->path, *name = NULL;
	int errnum = status < 0 ? -status : k->errnum;
	free(k);
	if (!p)
		return;
	p->keeping = NULL;
	if (asprintf(&name, "%s/%s.squashfs", p->config.dir, digest_hex(p->digest)) < 0)
		errnum = ENOMEM;
	if (!errnum && (chmod(path, 0400) < 0 || rename(path, name) < 0))
		errnum = errno;
	if (errnum)
		fail(p, FAIL_INTERNAL, "keeping it: %s", strerror(errnum));
	else
		succeed(p);
}

/* A power failure must not leave a row with half a file. */
static void keep(struct pull *p)
{
	struct keeping *k = calloc(1, sizeof *k);
	char *path = join(p->work, "image.squashfs");
	begin_step(p, STEP_KEEP);
	if (k && path) {
		*k = (struct keeping){.work.data = k, .pull = p, .path = path};
		p->keeping = k;
		if (uv_queue_work(p->config.loop, &k->work, sync_file, on_synced) == 0)
			return;
		p->keeping = NULL;
	}
	free(path);
	free(k);
	fail(p, FAIL_EXHAUSTED, "no memory");
}

/* ---- from step to step ----------------------------------------------------------------------------- */

static bool went_well(struct pull *p, const char *program)
{
	int status = p->process_status;
	if (p->why[0])
		fail(p, FAIL_IMAGE, "%s", p->why);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		fail(p, FAIL_INTERNAL, "%s cannot be run on this host", program);
	else if (WIFEXITED(status))
		fail(p, FAIL_IMAGE, "%s", p->said[0] ? p->said : "it failed without a word");
	else
		fail(p, FAIL_IMAGE, "%s was killed by signal %d", program, WTERMSIG(status));
	return false;
}

/* The manifest is in the work directory. 1: and all is said. */
static int take_manifest(struct pull *p, struct err *e)
{
	char chosen[DIGEST_SIZE];
	size_t len;
	_cleanup_free_ char *path = join(p->work, "manifest"), *text = NULL;
	int r = path ? read_file(path, MANIFEST_TEXT_MAX, &text, &len, e) : -ENOMEM;
	if (r < 0)
		return r;
	digest_of(text, len, p->digest);
	if (p->expected[0] && strcmp(p->digest, p->expected) != 0)
		return err_set(e, "pull", EBADMSG, "the manifest is %.19s…, and %.19s… was asked for",
			       p->digest, p->expected);
	r = manifest_choose(text, len, chosen, e);
	if (r > 0 && p->step == STEP_CHOSEN)
		return err_set(e, "pull", EBADMSG, "an index within an index");
	if (r > 0) {
		strcpy(p->expected, chosen);
		inspect(p, STEP_CHOSEN, chosen);
		return 1;
	}
	if (r == 0)
		r = manifest_parse(&p->manifest, text, len, e);
	if (r < 0)
		return r;
	p->progress.bytes_total = p->manifest.bytes;
	p->progress.layers_total = (unsigned)p->manifest.n_layers;
	if (!p->config.known(p->config.arg, p->digest))
		return 0;
	succeed(p);
	return 1;
}

/* Reads the config at that path, and leaves it where the layers are. */
static int take_config(struct pull *p, const char *path, struct err *e)
{
	char digest[DIGEST_SIZE];
	size_t len;
	int r = read_file(path, MANIFEST_CONFIG_MAX, &p->config_text, &len, e);
	if (r < 0)
		return r;
	digest_of(p->config_text, len, digest);
	if (strcmp(digest, p->manifest.config.digest) != 0)
		return err_set(e, "pull", EBADMSG, "the config is %.19s…, and %.19s… in the manifest", digest,
			       p->manifest.config.digest);
	_cleanup_free_ char *there = join(p->blobs, digest_hex(digest));
	if (!there)
		return err_sys(e, "pull", ENOMEM, "config");
	return strcmp(path, there) != 0 && rename(path, there) < 0 ? err_sys(e, "pull", errno, "config") : 0;
}

static void after_manifest(struct pull *p)
{
	struct err e = {0};
	if (!went_well(p, "skopeo"))
		return;
	int r = take_manifest(p, &e);
	if (r == 0)
		inspect(p, STEP_CONFIG, p->digest);
	else if (r < 0)
		fail_err(p, &e);
}

static void after_config(struct pull *p)
{
	struct err e = {0};
	_cleanup_free_ char *path = join(p->work, "config");
	if (!went_well(p, "skopeo"))
		return;
	if (!path || take_config(p, path, &e) < 0)
		fail_err(p, &e);
	else
		copy_registry(p);
}

/* What came from elsewhere is whole only now. */
static void after_local_copy(struct pull *p)
{
	struct err e = {0};
	_cleanup_free_ char *manifest = join(p->blobs, "manifest.json"), *there = join(p->work, "manifest");
	int r = 0;
	if (p->config.archive && !p->second_format && p->process_status != 0 && !p->why[0]) {
		p->second_format = true;
		removal_now(p->blobs);
		copy_local(p);
		return;
	}
	if (!went_well(p, "skopeo"))
		return;
	if (!manifest || !there || rename(manifest, there) < 0)
		r = err_sys(&e, "pull", manifest && there ? errno : ENOMEM, "manifest");
	if (r == 0)
		r = take_manifest(p, &e);
	if (r > 0)
		return;
	_cleanup_free_ char *config = r == 0 ? join(p->blobs, digest_hex(p->manifest.config.digest)) : NULL;
	if (r == 0)
		r = config ? take_config(p, config, &e) : err_sys(&e, "pull", ENOMEM, "config");
	if (r < 0)
		fail_err(p, &e);
	else
		squash(p);
}

static void after_squash(struct pull *p)
{
	bool image_fault = WIFEXITED(p->process_status) && WEXITSTATUS(p->process_status) == 1;
	if (!image_fault && !p->why[0] && WIFEXITED(p->packer_status) && p->packer_status != 0)
		fail(p, FAIL_INTERNAL, "tar2sqfs: %s",
		     p->packer_said[0] ? p->packer_said : "it cannot be run on this host");
	else if (!went_well(p, "tenon-flatten"))
		return;
	else if (p->packer_status != 0)
		fail(p, FAIL_IMAGE, "tar2sqfs was killed by signal %d", WTERMSIG(p->packer_status));
	else
		keep(p);
}

/* The step's programs have ended. */
static void next(struct pull *p)
{
	switch (p->step) {
	case STEP_MANIFEST:
	case STEP_CHOSEN:
		after_manifest(p);
		break;
	case STEP_CONFIG:
		after_config(p);
		break;
	case STEP_COPY:
		if (!p->cache)
			after_local_copy(p);
		else if (went_well(p, "skopeo"))
			squash(p);
		break;
	case STEP_SQUASH:
		after_squash(p);
		break;
	case STEP_KEEP:
		break;
	}
}

/* ---- watching -------------------------------------------------------------------------------------- */

/* Of the files in a directory and, so many levels down, below it. A blob that is on its way is a file of
 * skopeo's, which gets its name when it is whole. */
static uint64_t bytes_in(const char *dir, unsigned levels)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	const struct dirent *entry;
	struct stat st;
	uint64_t sum = 0;
	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *below = NULL;
		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
		else if (S_ISDIR(st.st_mode) && levels && entry->d_name[0] != '.' &&
			 (below = join(dir, entry->d_name)))
			sum += bytes_in(below, levels - 1);
	}
	return sum;
}

static void measure(struct pull *p)
{
	struct pull_progress *g = &p->progress;
	struct pull_progress before = *g;
	_cleanup_free_ char *layout = join(p->work, "oci");
	if (!p->cache) {
		/* Archives are unpacked first, beside where the layers go. */
		g->bytes = bytes_in(p->work, ARCHIVE_LEVELS);
	} else {
		g->layers = 0;
		g->bytes = layout ? bytes_in(layout, 0) : 0;
		for (size_t i = 0; i < p->manifest.n_layers; i++) {
			struct stat st;
			_cleanup_free_ char *path = join(p->blobs, digest_hex(p->manifest.layers[i].digest));
			bool there = path && stat(path, &st) == 0, again = false;
			for (size_t k = 0; k < i; k++)
				again |= strcmp(p->manifest.layers[k].digest, p->manifest.layers[i].digest) ==
					 0;
			g->layers += there;
			g->bytes += there && !again ? (uint64_t)st.st_size : 0;
		}
	}
	if (g->bytes != before.bytes || g->layers != before.layers) {
		p->moved_ms = clock_ms(CLOCK_MONOTONIC);
		p->config.progressed(p->config.arg);
	}
}

static void write_log(struct pull *p, uint64_t now)
{
	char name[REFERENCE_TEXT_SIZE];
	static const char *const phases[] = {"resolving", "downloading", "unpacking"};
	if (now - p->logged_ms < LOG_MS)
		return;
	p->logged_ms = now;
	reference_print(&p->reference, name);
	fprintf(stderr, "tenond: image %s: %s, %u of %u layers, %llu of %llu bytes\n", name,
		phases[p->progress.phase], p->progress.layers, p->progress.layers_total,
		(unsigned long long)p->progress.bytes, (unsigned long long)p->progress.bytes_total);
}

static void on_tick(uv_timer_t *t)
{
	struct pull *p = t->data;
	uint64_t now = clock_ms(CLOCK_MONOTONIC);
	unsigned stall = p->config.stall_ms;
	if (p->why[0] || p->step == STEP_KEEP)
		return;
	if (p->step == STEP_COPY)
		measure(p);
	write_log(p, now);
	if (p->step == STEP_SQUASH && now - p->step_ms > SQUASH_SECONDS * 1000ull)
		snprintf(p->why, sizeof p->why, "it was not unpacked after %d s", SQUASH_SECONDS);
	else if (p->step == STEP_COPY && now - p->step_ms > COPY_SECONDS * 1000ull)
		snprintf(p->why, sizeof p->why, "it was not there after %d s", COPY_SECONDS);
	else if (p->step != STEP_SQUASH && now - p->moved_ms > stall)
		snprintf(p->why, sizeof p->why, "nothing came for %u ms", stall);
	else if (p->step == STEP_COPY && p->cache && p->progress.bytes > p->manifest.bytes + SLACK)
		snprintf(p->why, sizeof p->why, "more bytes came than the manifest says");
	else
		return;
	if (p->process)
		process_kill(p->process, SIGKILL);
	if (p->packer)
		process_kill(p->packer, SIGKILL);
}

bool pull_uses(const struct pull *p, const char *path)
{
	return p->cache && strcmp(p->cache, path) == 0;
}

void pull_get_progress(const struct pull *p, struct pull_progress *out)
{
	*out = p->progress;
}

/* ---- life ------------------------------------------------------------------------------------------ */

/* The next try for the same with the same credentials finds what this one had; nobody else does. */
static int open_cache(struct pull *p, struct err *e)
{
	struct sha256_ctx c;
	char name[REFERENCE_TEXT_SIZE], key[DIGEST_SIZE];
	reference_print(&p->reference, name);
	sha256_init(&c);
	sha256_update(&c, strlen(name) + 1, (const uint8_t *)name);
	if (p->config.username) {
		sha256_update(&c, strlen(p->config.username) + 1, (const uint8_t *)p->config.username);
		sha256_update(&c, strlen(p->config.password) + 1, (const uint8_t *)p->config.password);
	}
	digest_finish(&c, key);
	if (asprintf(&p->cache, "%s/cache/%s", p->config.dir, digest_hex(key)) < 0)
		p->cache = NULL;
	p->blobs = p->cache ? join(p->cache, "sha256") : NULL;
	if (!p->blobs)
		return err_sys(e, "pull", ENOMEM, "cache");
	if ((mkdir(p->cache, 0700) < 0 && errno != EEXIST) || (mkdir(p->blobs, 0700) < 0 && errno != EEXIST))
		return err_sys(e, "pull", errno, "%.100s", p->cache);
	return 0;
}

static int open_work(struct pull *p, struct err *e)
{
	char id[ULID_LENGTH + 1];
	ulid_make(id);
	if (asprintf(&p->work, "%s/work/%s", p->config.dir, id) < 0)
		p->work = NULL;
	if (!p->work || mkdir(p->work, 0700) < 0)
		return err_sys(e, "pull", p->work ? errno : ENOMEM, "work directory");
	if (p->config.transport || p->config.archive) {
		_cleanup_free_ char *there = join(p->work, "archive.tar");
		p->blobs = join(p->work, "dir");
		if (!p->blobs || !there)
			return err_sys(e, "pull", ENOMEM, "work directory");
		if (p->config.archive && rename(p->config.archive, there) < 0)
			return err_sys(e, "pull", errno, "archive");
		return 0;
	}
	_cleanup_free_ char *auth = join(p->work, "auth.json");
	if (!auth)
		return err_sys(e, "pull", ENOMEM, "work directory");
	int r = authfile_make(auth, &p->reference, p->config.username, p->config.password,
			      p->config.auth_file, e);
	return r < 0 ? r : open_cache(p, e);
}

static int copy_config(struct pull *p, const struct pull_config *c)
{
	const char **const strings[] = {&p->config.dir,       &p->config.flatten_path, &p->config.auth_file,
					&p->config.transport, &p->config.archive,      &p->config.username,
					&p->config.password};
	int r = 0;
	p->config = *c;
	p->reference = *c->reference;
	p->config.reference = NULL;
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		if (*strings[i] && !(*strings[i] = strdup(*strings[i])))
			r = -ENOMEM;
	return r;
}

static void free_pull(uv_handle_t *h)
{
	struct pull *p = h->data;
	if (p->config.password)
		explicit_bzero((char *)p->config.password, strlen(p->config.password));
	const char *const strings[] = {p->config.dir,       p->config.flatten_path, p->config.auth_file,
				       p->config.transport, p->config.archive,      p->config.username,
				       p->config.password};
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		free((void *)strings[i]);
	close_fd(&p->output);
	manifest_finish(&p->manifest);
	free(p->config_text);
	free(p->work);
	free(p->cache);
	free(p->blobs);
	free(p);
}

static void on_soon(uv_timer_t *t)
{
	struct pull *p = t->data;
	uv_timer_start(&p->tick, on_tick, TICK_MS, TICK_MS);
	if (p->cache)
		inspect(p, STEP_MANIFEST, NULL);
	else
		copy_local(p);
}

int pull_create(struct pull **out, const struct pull_config *c, struct err *e)
{
	struct pull *p = calloc(1, sizeof *p);
	if (!p)
		return err_sys(e, "pull", ENOMEM, "pull");
	p->output = -1;
	uv_timer_init(c->loop, &p->tick);
	p->tick.data = p;
	int r = copy_config(p, c);
	if (r < 0)
		err_sys(e, "pull", -r, "pull");
	strcpy(p->expected, p->reference.digest);
	if (r == 0)
		r = open_work(p, e);
	if (r < 0) {
		pull_destroy(p);
		return r;
	}
	uv_timer_start(&p->tick, on_soon, 0, 0);
	*out = p;
	return 0;
}

void pull_destroy(struct pull *p)
{
	if (!p)
		return;
	process_destroy(steal_ptr(&p->process));
	process_destroy(steal_ptr(&p->packer));
	if (p->keeping)
		p->keeping->pull = NULL;
	removal_later(p->config.loop, steal_ptr(&p->work));
	/* Only if nothing is in it. */
	if (p->cache && p->blobs && rmdir(p->blobs) == 0)
		rmdir(p->cache);
	uv_close((uv_handle_t *)&p->tick, free_pull);
}
