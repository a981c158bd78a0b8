/* What the files of this room share. */
#pragma once

#include "archives.h"
#include "job.h"

#define ARCHIVE_PATH_MAX 4096
#define ARCHIVE_CONVERT_MS 3600000

struct archives {
	struct archives_config config;
	char *folder; /* <state>/archives: each transfer has a folder of its own there while it needs one */
	unsigned transfers;
	bool closing;
};

/* One more transfer; false: there are enough, and f says so. */
bool archives_begin(struct archives *as, struct failure *f);
void archives_end(struct archives *as);
int archives_make_folder(struct archives *as, char out[ARCHIVE_PATH_MAX], struct err *e);
/* With the files in it. "" is fine. */
void archives_remove_folder(const char *folder);
void archive_failure(struct failure *f, const struct err *e);
