#include "guest/files/beside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void choose_name(struct beside *b, int dir)
{
	uint64_t random = 0;
	getrandom(&random, sizeof random, 0);
	b->dir = dir;
	snprintf(b->name, sizeof b->name, ".tenon-%016" PRIx64, random);
}

/* r: of the call that was to make it. */
static int made(struct beside *b, int r)
{
	if (r >= 0)
		return r;
	b->name[0] = '\0';
	return -errno;
}

int beside_file(struct beside *b, int dir)
{
	choose_name(b, dir);
	return made(b, openat(dir, b->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

int beside_node(struct beside *b, int dir, mode_t type, dev_t device)
{
	choose_name(b, dir);
	return made(b, mknodat(dir, b->name, type | 0600, device));
}

int beside_symlink(struct beside *b, int dir, const char *target)
{
	choose_name(b, dir);
	return made(b, symlinkat(target, dir, b->name));
}

int beside_link(struct beside *b, int dir, int from_dir, const char *from)
{
	choose_name(b, dir);
	return made(b, linkat(from_dir, from, dir, b->name, 0));
}

int beside_install(struct beside *b, int dir, const char *name, bool no_replace)
{
	if (syscall(SYS_renameat2, b->dir, b->name, dir, name, no_replace ? RENAME_NOREPLACE : 0) < 0)
		return -errno;
	/* rename(2) does nothing if both names are the same file already: then this one is left over. */
	beside_discard(b);
	return 0;
}

void beside_discard(struct beside *b)
{
	int saved = errno;
	if (b->name[0])
		unlinkat(b->dir, b->name, 0);
	b->name[0] = '\0';
	errno = saved;
}
