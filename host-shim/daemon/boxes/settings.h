/* What create may say of a box beyond its size and name, and what its image says. One value type, kept in the
 * row as one JSON object: a new setting is a member here and needs no new column. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/err.h"

/* Of an OCI image's config, by the rules of docker: strings and NULL-terminated lists, NULL where it is
 * silent. */
struct image_config {
	char **entrypoint, **cmd, **env; /* env: NAME=value, below the box's own */
	char *user, *working_dir;
};

struct volume_mount {
	char *volume; /* its id */
	char *guest_path;
	bool read_only;
};

/* Owned by whoever filled it. */
struct box_settings {
	char **entrypoint, **cmd;   /* NULL: the image's; both NULL: no main command, the box idles */
	bool image_command;         /* … unless this is set: then it is the image's */
	char *user;                 /* NULL: the image's, else root */
	bool tty, no_stdin;         /* of the main command; no_stdin: it reads /dev/null */
	bool outbound;              /* a network device */
	char *preset;               /* "development", "standard", "maximum"; NULL: none */
	uint64_t cap_add, cap_drop; /* as in exec_spec, for every command */
	struct volume_mount *volumes;
	size_t n_volumes;
	char *image_digest; /* sha256:… of the manifest; NULL: the built-in image */
	struct image_config image;
};

/* A deep copy; -ENOMEM with *out finished. */
int settings_copy(struct box_settings *out, const struct box_settings *from);
void settings_finish(struct box_settings *s);
/* Malloced; NULL without memory. Every string must be UTF-8. */
char *settings_to_json(const struct box_settings *s);
/* -EINVAL for what settings_to_json did not write. */
int settings_from_json(struct box_settings *out, const char *text, struct err *e);
