/* The read-only images below the disks of boxes: the built-in one, and those that came with an archive, one
 * file for each content, <state>/imported/<sha256>.squashfs, kept as long as a box has it. */
#pragma once

#include "host-shim/daemon/boxes/snapshots.h"

/* Whether that is an image_digest of one that came with an archive. */
bool lower_is_imported(const char *digest);
void lower_built_in(const struct boxes *bs, char out[BOX_PATH_MAX]);
/* Takes the file `from`, whose content has that SHA-256. *digest (freed before) becomes the box setting's
 * image_digest that means it. A box that has it must be added before the loop goes on. */
int lower_keep(struct boxes *bs, const char *from, const char *sha256, char **digest, struct err *e);
/* Removes those that no box has. */
void lowers_sweep(const struct boxes *bs);
