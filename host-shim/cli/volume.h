/* Volumes as `tenon run -v` names them. */
#pragma once

#include "api.h"

/* Appends what "NAME:/path[:ro|:rw]" means to an array of mounts for create. 0, or an exit code after a
 * complaint: paths of the host are refused. */
int volume_option(json_t *volumes, const char *option);
/* Makes those of the mounts that are not there, as docker does. -1 with e. */
int volume_make_missing(struct api *a, const json_t *volumes, struct api_error *e);
