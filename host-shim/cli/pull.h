/* Waiting for an image, with its progress on stderr if that is a terminal. */
#pragma once

#include "api.h"

/* POSTs body (taken; NULL: the file descriptor in is sent as it is) to path, and reads events until the end.
 * The image as JSON, to be released; NULL: e says why. */
json_t *pull_follow(const struct api *a, const char *path, json_t *body, int in, struct api_error *e);
/* 0 if the image is here, or was fetched; EXIT_TENON after a complaint. */
int pull_if_missing(struct api *a, const char *image);
