/* tenon-flatten MANIFEST BLOBS MAX-BYTES MAX-FILES: writes an image's layers, BLOBS/<hex of digest>, as one
 * tar to stdout. A program of its own, since layers are anybody's bytes: it reads them confined (confine.h).
 * Exits 1 with one line on stderr if the image is not what it says or is not taken, 2 for all else. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "confine.h"
#include "flatten.h"
#include "host-shim/daemon/images/slurp.h"
#include "proto/cleanup.h"

#define MEMORY_FOR_NAMES (UINT64_C(768) << 20)

struct image {
	struct manifest manifest;
	struct oci_config config;
	int config_fd, blobs[MANIFEST_LAYERS_MAX];
};

static int open_blob(int dir, const struct manifest_blob *blob, struct err *e)
{
	int fd = openat(dir, digest_hex(blob->digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_sys(e, "flatten", errno, "%.19s…", blob->digest) : fd;
}

static int open_all(struct image *i, const char *manifest, const char *blobs, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	_cleanup_close_ int fd = open(manifest, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int dir = open(blobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dir < 0)
		return err_sys(e, "flatten", errno, "%s", fd < 0 ? manifest : blobs);
	int r = slurp(fd, MANIFEST_TEXT_MAX, &text, &len, e);
	if (r == 0)
		r = manifest_parse(&i->manifest, text, len, e);
	if (r == 0)
		r = i->config_fd = open_blob(dir, &i->manifest.config, e);
	for (size_t n = 0; r >= 0 && n < i->manifest.n_layers; n++)
		r = i->blobs[n] = open_blob(dir, &i->manifest.layers[n], e);
	return r < 0 ? r : 0;
}

static int read_config(struct image *i, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	char digest[DIGEST_SIZE];
	size_t len;
	int r = slurp(i->config_fd, MANIFEST_CONFIG_MAX, &text, &len, e);
	if (r < 0)
		return r;
	digest_of(text, len, digest);
	if (len != i->manifest.config.size || strcmp(digest, i->manifest.config.digest) != 0)
		return err_set(e, "flatten", EBADMSG, "the config is not the one of the manifest");
	return config_parse(&i->config, text, len, e);
}

static bool read_number(const char *text, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno;
}

/* Whose fault it is. */
static bool is_image_fault(int errnum)
{
	static const int own[] = {ENOMEM, EPIPE, EIO, ENOSPC, EACCES, EMFILE, EPERM};
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (errnum == own[i])
			return false;
	return true;
}

int main(int argc, char **argv)
{
	static struct image i = {.config_fd = -1};
	struct flatten_limits l = {.tree.memory_bytes = MEMORY_FOR_NAMES};
	struct err e = {0};
	if (argc != 5 || !read_number(argv[3], &l.bytes) || !read_number(argv[4], &l.tree.entries)) {
		fputs("usage: tenon-flatten MANIFEST BLOBS MAX-BYTES MAX-FILES\n", stderr);
		return 2;
	}
	/* So that libarchive takes names in UTF-8 as they are. It is in libc: nothing is loaded for it later.
	 */
	setlocale(LC_CTYPE, "C.UTF-8");
	signal(SIGPIPE, SIG_IGN);
	int r = open_all(&i, argv[1], argv[2], &e);
	if (r == 0)
		r = confine(&e);
	if (r == 0)
		r = read_config(&i, &e);
	if (r == 0)
		r = flatten(&i.manifest, &i.config, i.blobs, &l, STDOUT_FILENO, &e);
	if (r == 0)
		return 0;
	fprintf(stderr, "%s\n", e.msg);
	return is_image_fault(-r) ? 1 : 2;
}
