#include "tally.h"

#include <stdlib.h>
#include <string.h>

struct tally *tally_get(struct tally_list *list, const char *prefix)
{
	struct tally *t;
	LIST_FOREACH (t, list, entry)
		if (strcmp(t->prefix, prefix) == 0)
			return t;
	t = calloc(1, sizeof *t + strlen(prefix) + 1);
	if (!t)
		return NULL;
	strcpy(t->prefix, prefix);
	LIST_INSERT_HEAD(list, t, entry);
	return t;
}

void tally_clear(struct tally_list *list)
{
	struct tally *t;
	while ((t = LIST_FIRST(list))) {
		LIST_REMOVE(t, entry);
		free(t);
	}
}
