#include "strings.h"

#include <stdlib.h>
#include <string.h>

void strings_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

char **strings_copy(const char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	char **out = calloc(n + 1, sizeof *out);
	for (size_t i = 0; out && i < n; i++)
		if (!(out[i] = strdup(list[i]))) {
			strings_free(out);
			return NULL;
		}
	return out;
}
