/* Managed volumes: file systems that live beside the boxes that mount them. Each is a row and a sparse raw
 * ext4, <state>/volumes/<id>.img, which its first box grows to its whole size; it stays until somebody
 * removes it. This room knows no boxes: who uses a volume is theirs to say, before volumes_remove.
 *
 * <id>.part is a disk whose row decides: with one it becomes <id>.img when tenond starts, without one it is
 * removed. It is what a volume is made as, before its row is committed, and what one that goes is renamed to
 * before its row is deleted; so no crash loses a disk or leaves one behind. An .img without a row is
 * somebody's data and is left alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "host-shim/daemon/store/store.h"

#define VOLUME_ID_SIZE 31 /* "vol_", a ULID and NUL */
#define VOLUMES_MAX 1000  /* of a prefix */
#define VOLUME_SIZE_GB 64 /* as far as the template's reserve lets it grow while mounted; sparse */

struct volumes;

struct volume_info { /* valid until the next turn of the loop */
	const char *id, *prefix, *name;
	int64_t created_ms;
	int64_t used_ms; /* when a box was last started with it; 0: never */
};

struct volumes_config {
	uv_loop_t *loop;
	struct store *store;
	const char *state_dir; /* exists */
	const char *template;  /* an empty ext4 with room to grow */
};
/* Loads rows and settles what a crash left; waits for the store and the disk. */
int volumes_create(struct volumes **out, const struct volumes_config *c, struct err *e);
/* Before the store is closed. What is under way stops where it is, as a crash would stop it, and its done
 * says -ECANCELED; the memory goes with the last of it. NULL is fine. */
void volumes_destroy(struct volumes *vs);

/* v, or NULL with a negative status and e: -EEXIST for a taken name, -EMFILE beyond VOLUMES_MAX, -ENOSPC, …
 * After the commit. */
typedef void (*volume_added_fn)(void *arg, const struct volume_info *v, int status, const struct err *e);
/* name NULL: its id. The form of a name is rest/'s to check. */
void volumes_add(struct volumes *vs, const char *prefix, const char *name, volume_added_fn done, void *arg);
/* False if there is none, or it is being made or removed. */
bool volumes_find(struct volumes *vs, const char *prefix, const char *id_or_name, struct volume_info *out);
/* Those of a prefix that volumes_find would find, by id. */
void volumes_each(struct volumes *vs, const char *prefix, void (*fn)(void *arg, const struct volume_info *v),
		  void *arg);
/* How many there are, those included that are being made or removed. */
unsigned volumes_count(const struct volumes *vs, const char *prefix);

typedef void (*volume_removed_fn)(void *arg, int status, const struct err *e);
/* It is not found any more from now on; done after its disk is gone. -ENOENT. */
void volumes_remove(struct volumes *vs, const char *prefix, const char *id, volume_removed_fn done,
		    void *arg);

/* A box is started with it: notes that, and fills path (of its disk). -ENOENT. */
int volumes_use(struct volumes *vs, const char *prefix, const char *id, char *path, size_t cap);
