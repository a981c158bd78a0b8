#include "guest/exec/env.h"

#include <string.h>

static size_t name_len(const ProtobufCBinaryData *d)
{
	const uint8_t *eq = memchr(d->data, '=', d->len);
	return eq ? (size_t)(eq - d->data) : d->len;
}

/* Whether one of changes[0..n) is about the name that leads `entry`. */
static int named_in(const ProtobufCBinaryData *changes, size_t n, const void *entry, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (changes[i].len >= len && memcmp(changes[i].data, entry, len) == 0 &&
		    name_len(&changes[i]) == len)
			return 1;
	return 0;
}

char **env_merge(struct bump *b, char *const *box, size_t n_box, const ProtobufCBinaryData *changes, size_t n)
{
	char **env = bump_alloc(b, (n_box + n + ENV_SPARE + 1) * sizeof *env);
	if (!env)
		return NULL;
	size_t out = 0;
	for (size_t i = 0; i < n_box; i++)
		if (!named_in(changes, n, box[i], strcspn(box[i], "=")))
			env[out++] = box[i];
	for (size_t i = 0; i < n; i++) {
		size_t len = name_len(&changes[i]);
		if (len == changes[i].len || named_in(changes + i + 1, n - i - 1, changes[i].data, len))
			continue;
		env[out] = bump_string(b, changes[i].data, changes[i].len);
		if (!env[out++])
			return NULL;
	}
	env[out] = NULL;
	return env;
}

const char *env_get(char *const *env, const char *name)
{
	size_t len = strlen(name);
	for (; *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}
