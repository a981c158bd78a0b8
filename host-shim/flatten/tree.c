#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "proto/cleanup.h"

#define NAME_LONGEST 255
#define LINKS_FOLLOWED 40 /* as Linux does */
#define REST_MAX (2 * TREE_PATH_MAX + 2)
#define BUCKETS_FIRST 4096
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* aufs' own; of these only the opaque one means anything */
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct layer {
	struct inode **sources; /* by index of entry; NULL: nothing, or nothing any more */
	uint32_t count, room;
};

struct tree {
	struct tree_limits limits;
	uint64_t entries, memory;
	struct layer *layers;
	unsigned n_layers; /* the last one is being read */
	struct node *root;
	struct node **buckets;
	size_t n_buckets, n_nodes;
	uint64_t seed; /* names are chosen by others */
};

/* ---- memory ---------------------------------------------------------------------------------------- */

static void *take(struct tree *t, size_t size)
{
	if (t->memory + size > t->limits.memory_bytes) {
		errno = E2BIG;
		return NULL;
	}
	void *p = calloc(1, size);
	t->memory += p ? size : 0;
	return p;
}

static void give(struct tree *t, void *p, size_t size)
{
	if (!p)
		return;
	t->memory -= size;
	free(p);
}

static uint64_t hash(const struct tree *t, const struct node *parent, const char *name, size_t len)
{
	uint64_t h = t->seed ^ (uintptr_t)parent;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	return h * UINT64_C(0x9e3779b97f4a7c15) >> 20;
}

static struct node **bucket(const struct tree *t, const struct node *n)
{
	return &t->buckets[hash(t, n->parent, n->name, n->name_len) & (t->n_buckets - 1)];
}

static int grow(struct tree *t)
{
	size_t count = t->n_buckets ? t->n_buckets * 2 : BUCKETS_FIRST;
	struct node **old = t->buckets, **new = take(t, count * sizeof(struct node *));
	size_t n_old = t->n_buckets;
	if (!new)
		return -errno;
	t->buckets = new;
	t->n_buckets = count;
	for (size_t i = 0; i < n_old; i++)
		for (struct node *n = old[i], *next; n; n = next) {
			next = n->in_bucket;
			n->in_bucket = *bucket(t, n);
			*bucket(t, n) = n;
		}
	give(t, old, n_old * sizeof(struct node *));
	return 0;
}

static void forget_source(struct tree *t, struct inode *i)
{
	if (!i->implicit)
		t->layers[i->layer].sources[i->index] = NULL;
	i->implicit = true;
}

static void inode_release(struct tree *t, struct inode *i)
{
	if (--i->names > 0)
		return;
	forget_source(t, i);
	if (i->target)
		give(t, i->target, strlen(i->target) + 1);
	give(t, i, sizeof *i);
}

/* Makes the last entry what the inode comes from. */
static void set_source(struct tree *t, struct inode *i)
{
	struct layer *l = &t->layers[t->n_layers - 1];
	forget_source(t, i);
	i->layer = t->n_layers - 1;
	i->index = l->count - 1;
	i->implicit = false;
	l->sources[i->index] = i;
}

static struct inode *inode_create(struct tree *t, mode_t type, const char *target)
{
	struct inode *i = take(t, sizeof *i);
	if (!i)
		return NULL;
	i->type = type;
	i->implicit = true;
	i->names = 1;
	TAILQ_INIT(&i->nodes);
	if (target && !(i->target = take(t, strlen(target) + 1))) {
		give(t, i, sizeof *i);
		return NULL;
	}
	if (target)
		strcpy(i->target, target);
	return i;
}

static bool is_dir(const struct node *n)
{
	return n->inode->type == S_IFDIR;
}

/* Takes the caller's hold on i, also when it fails. */
static struct node *node_create(struct tree *t, struct node *parent, const char *name, size_t len,
				struct inode *i)
{
	size_t path_len = parent && parent->parent ? parent->path_len + 1u + len : len;
	struct node *n = NULL;
	if (path_len > TREE_PATH_MAX || len > NAME_LONGEST)
		errno = ENAMETOOLONG;
	else if (t->n_nodes < t->n_buckets || grow(t) == 0)
		n = take(t, sizeof *n + len + 1);
	if (!n) {
		int errnum = errno;
		inode_release(t, i);
		errno = errnum;
		return NULL;
	}
	memcpy(n->name, name, len);
	n->name_len = (uint16_t)len;
	n->path_len = (uint16_t)path_len;
	n->parent = parent;
	n->inode = i;
	n->layer = t->n_layers - 1;
	TAILQ_INIT(&n->children);
	TAILQ_INSERT_TAIL(&i->nodes, n, same);
	if (parent) {
		TAILQ_INSERT_TAIL(&parent->children, n, sibling);
		n->in_bucket = *bucket(t, n);
		*bucket(t, n) = n;
		t->n_nodes++;
	}
	return n;
}

/* And everything below it, from the leaves up: a path has at most two thousand parts. */
static void node_remove(struct tree *t, struct node *n)
{
	struct node *child;
	while ((child = TAILQ_FIRST(&n->children)))
		node_remove(t, child);
	if (n->parent) {
		struct node **at = bucket(t, n);
		while (*at != n)
			at = &(*at)->in_bucket;
		*at = n->in_bucket;
		TAILQ_REMOVE(&n->parent->children, n, sibling);
		t->n_nodes--;
	}
	TAILQ_REMOVE(&n->inode->nodes, n, same);
	inode_release(t, n->inode);
	give(t, n, sizeof *n + n->name_len + 1u);
}

struct tree *tree_create(const struct tree_limits *l)
{
	struct tree *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->limits = *l;
	if (getrandom(&t->seed, sizeof t->seed, 0) < 0)
		t->seed = (uintptr_t)t;
	struct inode *i = grow(t) == 0 ? inode_create(t, S_IFDIR, NULL) : NULL;
	t->root = i ? node_create(t, NULL, "", 0, i) : NULL;
	if (t->root)
		return t;
	tree_destroy(t);
	return NULL;
}

void tree_destroy(struct tree *t)
{
	if (!t)
		return;
	if (t->root)
		node_remove(t, t->root);
	for (unsigned i = 0; i < t->n_layers; i++)
		free(t->layers[i].sources);
	free(t->layers);
	free(t->buckets);
	free(t);
}

/* ---- names ----------------------------------------------------------------------------------------- */

static struct node *find(const struct tree *t, const struct node *parent, const char *name, size_t len)
{
	struct node *n = t->buckets[hash(t, parent, name, len) & (t->n_buckets - 1)];
	while (n && (n->parent != parent || n->name_len != len || memcmp(n->name, name, len) != 0))
		n = n->in_bucket;
	return n;
}

/* Whether some part of it is "..": what no layer has for a good reason. */
static bool leads_up(const char *name)
{
	for (const char *at = name; *at; at += strcspn(at, "/")) {
		at += strspn(at, "/");
		if (strcspn(at, "/") == 2 && at[0] == '.' && at[1] == '.')
			return true;
	}
	return false;
}

/* Where the last part begins that is not "."; *len 0: there is none, it is the root. */
static const char *last_part(const char *name, size_t *len)
{
	const char *end = name + strlen(name);
	for (;;) {
		while (end > name && end[-1] == '/')
			end--;
		const char *at = end;
		while (at > name && at[-1] != '/')
			at--;
		*len = (size_t)(end - at);
		if (*len != 1 || *at != '.')
			return at;
		end = at;
	}
}

/* The directory that len bytes of path mean from the root on, symbolic links followed. Missing ones are made
 * if create; else NULL with errno ENOENT. */
static struct node *walk(struct tree *t, const char *path, size_t len, bool create)
{
	char buffers[2][REST_MAX];
	char *rest = buffers[0];
	unsigned links = 0;
	struct node *at = t->root;
	if (len > TREE_PATH_MAX) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	memcpy(rest, path, len);
	rest[len] = '\0';
	while (*(rest += strspn(rest, "/"))) {
		size_t n = strcspn(rest, "/");
		const char *part = rest;
		rest += n;
		if (n == 1 && part[0] == '.')
			continue;
		if (n == 2 && part[0] == '.' && part[1] == '.') {
			at = at->parent ? at->parent : at;
			continue;
		}
		struct node *next = find(t, at, part, n);
		if (!next && create) {
			struct inode *i = inode_create(t, S_IFDIR, NULL);
			next = i ? node_create(t, at, part, n, i) : NULL;
		} else if (!next) {
			errno = ENOENT;
		}
		if (!next)
			return NULL;
		if (next->inode->type == S_IFLNK) {
			const char *target = next->inode->target;
			char *other =
				rest >= buffers[0] && rest < buffers[0] + REST_MAX ? buffers[1] : buffers[0];
			if (++links > LINKS_FOLLOWED || strlen(target) + strlen(rest) + 2 > REST_MAX) {
				errno = ELOOP;
				return NULL;
			}
			stpcpy(stpcpy(stpcpy(other, target), "/"), rest);
			rest = other;
			at = *target == '/' ? t->root : at;
			continue;
		}
		if (!is_dir(next)) {
			errno = ENOTDIR;
			return NULL;
		}
		at = next;
	}
	return at;
}

/* ---- whiteouts ------------------------------------------------------------------------------------- */

static void hide(struct tree *t, struct node *n);

static void prune(struct tree *t, struct node *dir)
{
	struct node *child, *next;
	if (dir->pruned == t->n_layers)
		return; /* whatever is there is of this layer */
	dir->pruned = t->n_layers;
	for (child = TAILQ_FIRST(&dir->children); child; child = next) {
		next = TAILQ_NEXT(child, sibling);
		hide(t, child);
	}
}

/* What layers below have of it goes; a directory stays, as one that nobody spoke of, if this layer has put
 * something into it. */
static void hide(struct tree *t, struct node *n)
{
	prune(t, n);
	if (n->layer == t->n_layers - 1)
		return;
	if (TAILQ_EMPTY(&n->children)) {
		node_remove(t, n);
		return;
	}
	forget_source(t, n->inode);
	n->layer = t->n_layers - 1;
}

static int put_whiteout(struct tree *t, const char *name, const char *base, size_t len)
{
	size_t skip = strlen(WHITEOUT), meta = strlen(WHITEOUT_META);
	bool opaque = len == strlen(WHITEOUT_OPAQUE) && memcmp(base, WHITEOUT_OPAQUE, len) == 0;
	if (!opaque && len >= meta && memcmp(base, WHITEOUT_META, meta) == 0)
		return 0;
	const char *hidden = base + skip;
	size_t n = len - skip;
	if (n == 0 || (n <= 2 && memcmp(hidden, "..", n) == 0))
		return -EINVAL;
	struct node *dir = walk(t, name, (size_t)(base - name), false);
	/* Hiding what is not there is what some builders do. */
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (opaque) {
		prune(t, dir);
		return 0;
	}
	struct node *there = find(t, dir, hidden, n);
	if (there)
		hide(t, there);
	return 0;
}

/* ---- entries --------------------------------------------------------------------------------------- */

static int put_link(struct tree *t, const struct tree_entry *entry, struct node *dir, const char *base,
		    size_t len)
{
	size_t target_len;
	if (leads_up(entry->hardlink))
		return -EINVAL;
	const char *last = last_part(entry->hardlink, &target_len);
	struct node *target_dir =
		target_len ? walk(t, entry->hardlink, (size_t)(last - entry->hardlink), false) : NULL;
	struct node *target = target_dir ? find(t, target_dir, last, target_len) : NULL;
	struct node *there = find(t, dir, base, len);
	if (!target)
		return -ENOENT;
	if (is_dir(target))
		return -EISDIR;
	struct inode *i = target->inode;
	if (there && there->inode == i) {
		there->layer = t->n_layers - 1;
		return 0;
	}
	i->names++; /* it may lie below what is replaced */
	if (there)
		node_remove(t, there);
	return node_create(t, dir, base, len, i) ? 0 : -errno;
}

static int put_file(struct tree *t, const struct tree_entry *entry, struct node *dir, const char *base,
		    size_t len)
{
	struct node *there = find(t, dir, base, len);
	if (there && entry->type == S_IFDIR && is_dir(there)) {
		there->layer = t->n_layers - 1;
		set_source(t, there->inode);
		return 0;
	}
	struct inode *i = inode_create(t, entry->type, entry->type == S_IFLNK ? entry->symlink : NULL);
	if (!i)
		return -errno;
	if (there)
		node_remove(t, there);
	set_source(t, i);
	return node_create(t, dir, base, len, i) ? 0 : -errno;
}

static int count_entry(struct tree *t)
{
	struct layer *l = &t->layers[t->n_layers - 1];
	if (++t->entries > t->limits.entries)
		return -E2BIG;
	if (l->count == l->room) {
		uint32_t room = l->room ? l->room * 2 : 256;
		struct inode **sources = reallocarray(l->sources, room, sizeof *sources);
		if (!sources)
			return -ENOMEM;
		memset(sources + l->room, 0, (room - l->room) * sizeof *sources);
		l->sources = sources;
		l->room = room;
	}
	l->count++;
	return 0;
}

static int put(struct tree *t, const struct tree_entry *entry)
{
	size_t len;
	int r = count_entry(t);
	if (r < 0)
		return r;
	if (leads_up(entry->name) || strlen(entry->name) > TREE_PATH_MAX)
		return -EINVAL;
	if (entry->type == S_IFLNK && (!*entry->symlink || strlen(entry->symlink) > TREE_PATH_MAX))
		return -EINVAL;
	const char *base = last_part(entry->name, &len);
	if (!len && (entry->type != S_IFDIR || !*entry->name))
		return -EINVAL;
	if (!len) {
		set_source(t, t->root->inode);
		return 0;
	}
	if (len >= strlen(WHITEOUT) && memcmp(base, WHITEOUT, strlen(WHITEOUT)) == 0)
		return put_whiteout(t, entry->name, base, len);
	struct node *dir = walk(t, entry->name, (size_t)(base - entry->name), true);
	if (!dir)
		return -errno;
	return entry->hardlink ? put_link(t, entry, dir, base, len) : put_file(t, entry, dir, base, len);
}

int tree_begin_layer(struct tree *t, struct err *e)
{
	struct layer *layers = reallocarray(t->layers, t->n_layers + 1, sizeof *layers);
	if (!layers)
		return err_sys(e, "tree", ENOMEM, "layers");
	t->layers = layers;
	layers[t->n_layers++] = (struct layer){0};
	return 0;
}

int tree_put(struct tree *t, const struct tree_entry *entry, struct err *e)
{
	int r = put(t, entry);
	const char *shown = entry->name;
	size_t len = strlen(shown);
	if (len > 60)
		shown += len - 60; /* the end tells more */
	switch (-r) {
	case 0:
		return 0;
	case E2BIG:
		return err_set(e, "tree", E2BIG, "%s: the image has too many files", shown);
	case EINVAL:
		return err_set(e, "tree", EINVAL, "%s: not a name, or not a target, that a layer may have",
			       shown);
	case ENOENT:
		return err_set(e, "tree", ENOENT, "%s: a hard link to a file that is not there", shown);
	case EISDIR:
		return err_set(e, "tree", EISDIR, "%s: a hard link to a directory", shown);
	default:
		return err_sys(e, "tree", -r, "%s", shown);
	}
}

/* ---- what came of it ------------------------------------------------------------------------------- */

struct inode *tree_source(const struct tree *t, unsigned layer, uint32_t index)
{
	return layer < t->n_layers && index < t->layers[layer].count ? t->layers[layer].sources[index] : NULL;
}

void tree_path(const struct node *n, char out[TREE_PATH_MAX + 1])
{
	char *at = out + n->path_len;
	*at = '\0';
	if (!n->parent)
		strcpy(out, ".");
	for (; n->parent; n = n->parent) {
		at -= n->name_len;
		memcpy(at, n->name, n->name_len);
		if (n->parent->parent)
			*--at = '/';
	}
}

static int each_implicit(const struct node *n, int (*fn)(void *arg, const struct node *n), void *arg)
{
	const struct node *child;
	int r = n->inode->implicit ? fn(arg, n) : 0;
	if (r < 0)
		return r;
	TAILQ_FOREACH (child, &n->children, sibling)
		if (is_dir(child) && (r = each_implicit(child, fn, arg)) < 0)
			return r;
	return 0;
}

int tree_each_implicit(struct tree *t, int (*fn)(void *arg, const struct node *n), void *arg)
{
	return each_implicit(t->root, fn, arg);
}
