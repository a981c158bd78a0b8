/* What has happened since tenond started, by prefix. */
#pragma once

#include <sys/queue.h>

#include "boxes.h"

struct tally {
	LIST_ENTRY(tally) entry;
	struct boxes_metrics counts; /* without `running` */
	char prefix[];
};
LIST_HEAD(tally_list, tally);

/* Made at the first call for a prefix, lives until tally_clear; NULL without memory. */
struct tally *tally_get(struct tally_list *list, const char *prefix);
void tally_clear(struct tally_list *list);
