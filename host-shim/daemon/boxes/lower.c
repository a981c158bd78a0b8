#include "lower.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "box.h"
#include "host-shim/daemon/images/digest.h"
#include "proto/cleanup.h"

#define IMPORTED "import:" /* where other images have "sha256:" and their manifest's digest */
#define HEX_DIGITS 64
#define SUFFIX ".squashfs"

void lower_built_in(const struct boxes *bs, char out[BOX_PATH_MAX])
{
	snprintf(out, BOX_PATH_MAX, "%s/base.squashfs", bs->config.images_dir);
}

static void name_folder(const struct boxes *bs, char out[BOX_PATH_MAX])
{
	snprintf(out, BOX_PATH_MAX, "%s/imported", bs->config.state_dir);
}

bool lower_is_imported(const char *digest)
{
	return digest && strncmp(digest, IMPORTED, strlen(IMPORTED)) == 0;
}

void box_lower_path(const struct box *b, char out[BOX_PATH_MAX])
{
	const char *digest = b->row.settings.image_digest;
	if (!digest)
		lower_built_in(b->boxes, out);
	else
		snprintf(out, BOX_PATH_MAX, "%s/%s/%.*s" SUFFIX, b->boxes->config.state_dir,
			 lower_is_imported(digest) ? "imported" : "images", HEX_DIGITS, digest_hex(digest));
}

int lower_keep(struct boxes *bs, const char *from, const char *sha256, char **digest, struct err *e)
{
	char folder[BOX_PATH_MAX], path[BOX_PATH_MAX + HEX_DIGITS + 16];
	free(*digest);
	if (asprintf(digest, IMPORTED "%s", sha256) < 0) {
		*digest = NULL;
		return err_sys(e, "image", ENOMEM, "image");
	}
	name_folder(bs, folder);
	snprintf(path, sizeof path, "%s/%s" SUFFIX, folder, sha256);
	/* One that is there has the same bytes. */
	if ((mkdir(folder, 0700) < 0 && errno != EEXIST) || rename(from, path) < 0)
		return err_sys(e, "image", errno, "%s", path);
	return 0;
}

static bool is_used(const struct boxes *bs, const char *name)
{
	const struct box *b;
	TAILQ_FOREACH (b, &bs->list, entry) {
		const char *digest = b->row.settings.image_digest;
		if (lower_is_imported(digest) && strncmp(digest + strlen(IMPORTED), name, HEX_DIGITS) == 0)
			return true;
	}
	return false;
}

void lowers_sweep(const struct boxes *bs)
{
	char folder[BOX_PATH_MAX];
	name_folder(bs, folder);
	_cleanup_closedir_ DIR *dir = opendir(folder);
	const struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name + strspn(entry->d_name, "0123456789abcdef"), SUFFIX) == 0 &&
		    strlen(entry->d_name) == HEX_DIGITS + strlen(SUFFIX) && !is_used(bs, entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
}
