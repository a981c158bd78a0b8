/* A foreign archive of a box: the first byte says whether zstd's layer is there or made here around the rest,
 * so that the tar and the manifest are reached. Whatever comes, only its own folder is written to. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "host-shim/daemon/archives/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char folder[] = "/tmp/tenon-fuzz-archive-XXXXXX";
	static int dir = -1;
	static atomic_bool cancelled;
	if (dir < 0 && mkdtemp(folder))
		dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (size < 1 || dir < 0)
		return 0;
	size_t bound = ZSTD_compressBound(size);
	uint8_t *packed = malloc(bound);
	size_t n = size - 1;
	if (data[0] & 1)
		n = ZSTD_compress(packed, bound, data + 1, size - 1, 1);
	else
		memcpy(packed, data + 1, n);
	int fd = memfd_create("archive", MFD_CLOEXEC);
	if (write(fd, packed, n) != (ssize_t)n)
		abort();
	lseek(fd, 0, SEEK_SET);
	struct unpack u = {.folder = dir, .cancelled = &cancelled};
	unpack_read(&u, fd);
	archive_manifest_finish(&u.manifest);
	unlinkat(dir, UNPACK_DISK, 0);
	unlinkat(dir, ARCHIVE_IMAGE, 0);
	close(fd);
	free(packed);
	return 0;
}
