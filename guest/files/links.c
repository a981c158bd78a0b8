#include "guest/files/links.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS_SIZE (LINKS_SLOTS * sizeof(struct links_slot))

int links_init(struct links *l)
{
	uint8_t *memory = memory_reserve(SLOTS_SIZE + LINKS_BYTES);
	if (!memory)
		return -ENOMEM;
	*l = (struct links){.slots = (struct links_slot *)memory};
	bump_init(&l->paths, memory + SLOTS_SIZE, LINKS_BYTES);
	return 0;
}

void links_finish(struct links *l)
{
	if (l->slots)
		munmap(l->slots, SLOTS_SIZE + LINKS_BYTES);
	l->slots = NULL;
}

const char *links_find(struct links *l, const struct stat *st, const char *path)
{
	uint64_t hash = (st->st_ino ^ (uint64_t)st->st_dev << 32) * UINT64_C(0x9e3779b97f4a7c15);
	for (size_t i = hash >> 50;; i = (i + 1) % LINKS_SLOTS) {
		struct links_slot *s = &l->slots[i % LINKS_SLOTS];
		if (s->path && s->dev == st->st_dev && s->ino == st->st_ino)
			return s->path;
		if (s->path)
			continue;
		if (l->n < LINKS_SLOTS / 4 * 3)
			s->path = bump_string(&l->paths, path, strlen(path));
		if (s->path) {
			s->dev = st->st_dev;
			s->ino = st->st_ino;
			l->n++;
		}
		return NULL;
	}
}
