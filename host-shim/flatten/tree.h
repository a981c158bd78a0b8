/* What the layers of an image add up to: a file tree without contents. Each file only knows which entry of
 * which layer it comes from, so that memory grows with the number of files and not with their bytes.
 *
 * The rules are those of the OCI image specification (layer.md) and, where it is silent, of docker and
 * containerd, which unpack into a folder: symbolic links among the parents of a name are followed, within the
 * root; the last part of a name never is. A whiteout hides what layers below have, never what its own layer
 * brings, in whichever order they come. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "proto/err.h"

#define TREE_PATH_MAX 4095 /* bytes of a path, as Linux has it */

/* A file, under one name or more. */
struct inode {
	unsigned layer;
	uint32_t index;                     /* of the entry it comes from; meaningless if implicit */
	bool implicit;                      /* a directory that no entry speaks of */
	mode_t type;                        /* S_IFREG, S_IFDIR, … */
	char *target;                       /* of a symbolic link */
	uint32_t names;                     /* how many nodes, and holders, it has */
	TAILQ_HEAD(node_names, node) nodes; /* the oldest first */
};

struct node {
	TAILQ_ENTRY(node) same; /* of the same inode */
	TAILQ_ENTRY(node) sibling;
	TAILQ_HEAD(node_children, node) children;
	struct node *parent, *in_bucket;
	struct inode *inode;
	unsigned layer;  /* that put it here last */
	unsigned pruned; /* the layer that hid everything older below it, + 1 */
	uint16_t path_len, name_len;
	char name[];
};

struct tree;

struct tree_limits {
	uint64_t entries;      /* of all layers together */
	uint64_t memory_bytes; /* of names and nodes; about 200 for each file */
};

struct tree_entry {
	const char *name;     /* as the archive has it */
	mode_t type;          /* S_IFMT of it; 0 if it is a hard link */
	const char *symlink;  /* its target, for S_IFLNK */
	const char *hardlink; /* the name of what it is another name of; NULL: it is none */
};

/* NULL without memory. */
struct tree *tree_create(const struct tree_limits *l);
void tree_destroy(struct tree *t); /* NULL is fine */
/* The entries that follow are the next layer's; the first is layer 0. */
int tree_begin_layer(struct tree *t, struct err *e);
/* Takes the next entry. -EINVAL for what a name must not be, -ENOTDIR, -ELOOP, -ENOENT (of a hard link's
 * target), -EISDIR (a hard link to a directory), -E2BIG beyond the limits; e names the entry. */
int tree_put(struct tree *t, const struct tree_entry *entry, struct err *e);
/* The file that this entry is, in the end; NULL if nothing is left of it. Until the tree is changed. */
struct inode *tree_source(const struct tree *t, unsigned layer, uint32_t index);
/* "usr/bin/env" into out, "." for the root. */
void tree_path(const struct node *n, char out[TREE_PATH_MAX + 1]);
/* All directories that no entry speaks of; a negative return of fn ends it and is returned. */
int tree_each_implicit(struct tree *t, int (*fn)(void *arg, const struct node *n), void *arg);
