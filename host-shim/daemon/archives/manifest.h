/* manifest.json of an archive, written and read. What is read is foreign: everything in it is looked at as if
 * a client had sent it in a request. */
#pragma once

#include "host-shim/daemon/boxes/boxes.h"
#include "host-shim/daemon/http/fields.h"

#define ARCHIVE_MANIFEST_MAX (1u << 20)
#define ARCHIVE_VERSION 1
#define ARCHIVE_DISK "disk.extents"
#define ARCHIVE_IMAGE "image.squashfs"

struct member {
	uint64_t size;
	char sha256[65];
};

/* Of a box, without the members, to be released. NULL without memory, or if something of it is not UTF-8. */
json_t *archive_manifest_of(const struct box_info *i);
/* Its text with the members, malloced. */
char *archive_manifest_text(json_t *manifest, const struct member *disk, const struct member *image);

struct archive_manifest {
	struct box_spec spec; /* borrows from the rest; prefix is the reader's to set */
	struct box_settings settings;
	char **env;
	char *labels;
	char *image_digest; /* of what it was pulled as; NULL: built in. A claim, no more */
	struct member disk, image;
	struct fields fields;
};
/* FAIL_INVALID or FAIL_UNSUPPORTED in f; *m is to be finished in any case. */
bool archive_manifest_read(struct archive_manifest *m, const void *text, size_t len, struct failure *f);
void archive_manifest_finish(struct archive_manifest *m);
