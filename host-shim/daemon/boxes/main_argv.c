#include "main_argv.h"

#include <stdlib.h>

struct parts {
	char *const *first, *const *second;
};

static struct parts parts_of(const struct box_settings *s)
{
	if (s->entrypoint)
		return (struct parts){s->entrypoint, s->cmd};
	if (s->cmd)
		return (struct parts){s->image.entrypoint, s->cmd};
	if (s->image_command)
		return (struct parts){s->image.entrypoint, s->image.cmd};
	return (struct parts){0};
}

static size_t count(char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	return n;
}

bool main_is_given(const struct box_settings *s)
{
	struct parts p = parts_of(s);
	return count(p.first) + count(p.second) > 0;
}

const char **main_argv(const struct box_settings *s)
{
	struct parts p = parts_of(s);
	size_t n = count(p.first), m = count(p.second);
	const char **argv = calloc(n + m + 1, sizeof *argv);
	for (size_t i = 0; argv && i < n; i++)
		argv[i] = p.first[i];
	for (size_t i = 0; argv && i < m; i++)
		argv[n + i] = p.second[i];
	return argv;
}
