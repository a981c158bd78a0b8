/* The environment of a process: the box's, changed by the request's. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "guest/memory.h"

#define ENV_MAX 4096 /* entries in the box's environment, and in a request */
#define ENV_SPARE 2  /* entries that a caller may add to a merged one */

/* Merge rule: the box's entries in their order, without those that a change names; then the changes in
 * theirs, the last one of a name counting. A change "NAME=value" sets, "NAME" removes. Returns a
 * NULL-terminated array in *b, with room for ENV_SPARE more, whose strings are the box's own or copies in *b;
 * NULL when *b is full. */
char **env_merge(struct bump *b, char *const *box, size_t n_box, const ProtobufCBinaryData *changes,
		 size_t n);

/* The value of a name, or NULL. */
const char *env_get(char *const *env, const char *name);
