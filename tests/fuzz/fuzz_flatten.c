/* Any bytes as the layers of an image: one tar comes of it, in which each name stands once, or an error. The
 * first byte says how many layers there are; two more, for each but the last, how long it is. Checksums of
 * what looks like a header are put right, or nothing would get past them; the digests are those of the bytes.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host-shim/flatten/flatten.h"

#define LAYERS 3
#define BLOCK 512
#define CHECKSUM 148
#define MAGIC 257
#define BYTES_MAX (4u << 20)

static void mend(uint8_t *tar, size_t len)
{
	for (uint8_t *block = tar; block + BLOCK <= tar + len; block += BLOCK) {
		unsigned sum = 0;
		if (memcmp(block + MAGIC, "ustar", 5) != 0)
			continue;
		memset(block + CHECKSUM, ' ', 8);
		for (int i = 0; i < BLOCK; i++)
			sum += block[i];
		snprintf((char *)block + CHECKSUM, 8, "%06o", sum);
	}
}

/* What a plain layer unpacks to is itself; of a packed one the config cannot be right, which is an error like
 * others. */
static int make_layer(const uint8_t *data, size_t len, struct manifest_blob *blob, char diff_id[DIGEST_SIZE])
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	uint8_t *tar = malloc(len + 1);
	memcpy(tar, data, len);
	mend(tar, len);
	if (fd < 0 || write(fd, tar, len) != (ssize_t)len)
		abort();
	digest_of(tar, len, blob->digest);
	strcpy(diff_id, blob->digest);
	blob->size = len;
	free(tar);
	return fd;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check(int fd)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	char **names = NULL;
	size_t n = 0;
	archive_read_support_format_tar(a);
	if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_open_fd(a, fd, 65536) != ARCHIVE_OK)
		abort();
	int r;
	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		const char *name = archive_entry_pathname(e);
		if (!name || *name == '/' || strncmp(name, "../", 3) == 0 || strstr(name, "/../"))
			abort();
		names = reallocarray(names, n + 1, sizeof *names);
		names[n] = strdup(name);
		size_t len = strlen(names[n]);
		if (len > 1 && names[n][len - 1] == '/')
			names[n][len - 1] = '\0';
		n++;
	}
	if (r != ARCHIVE_EOF || !n)
		abort();
	qsort(names, n, sizeof *names, by_name);
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && strcmp(names[i], names[i + 1]) == 0)
			abort();
	}
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	archive_read_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct flatten_limits limits = {.tree = {.entries = 2000, .memory_bytes = 1 << 20},
						     .bytes = BYTES_MAX};
	struct manifest_blob blobs[LAYERS];
	char diff_ids[LAYERS][DIGEST_SIZE];
	struct manifest m = {.layers = blobs};
	struct oci_config c = {.diff_ids = diff_ids};
	int fds[LAYERS];
	struct err e = {0};
	setlocale(LC_CTYPE, "C.UTF-8");
	if (!size)
		return 0;
	size_t layers = 1 + *data % LAYERS;
	for (data++, size--; m.n_layers < layers; m.n_layers++) {
		size_t len = size;
		if (m.n_layers + 1 < layers) {
			len = size < 2 ? 0 : (size_t)(data[0] | data[1] << 8);
			data += size < 2 ? size : 2;
			size -= size < 2 ? size : 2;
			len = len < size ? len : size;
		}
		fds[m.n_layers] = make_layer(data, len, &blobs[m.n_layers], diff_ids[m.n_layers]);
		data += len;
		size -= len;
	}
	c.n_diff_ids = m.n_layers;
	int out = memfd_create("out", MFD_CLOEXEC);
	int r = flatten(&m, &c, fds, &limits, out, &e);
	if (r == 0)
		check(out);
	else if (!e.msg[0] || !e.errnum)
		abort();
	close(out);
	for (size_t i = 0; i < m.n_layers; i++)
		close(fds[i]);
	return 0;
}
