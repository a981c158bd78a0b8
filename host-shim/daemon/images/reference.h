/* What people call an image, by docker's rules: [HOST[:PORT]/]PATH[:TAG][@DIGEST], where a first part without
 * a dot, a colon or the name localhost is no host, the host is docker.io if there is none, a docker.io path
 * of one part lies in library/, and the tag is latest if neither tag nor digest is given. With both the
 * digest counts. */
#pragma once

#include <stdbool.h>

#include "digest.h"
#include "proto/err.h"

#define REFERENCE_NAME_MAX 255 /* of host and path */
#define REFERENCE_TAG_MAX 128

struct reference {
	char repository[REFERENCE_NAME_MAX + 1]; /* "docker.io/library/alpine" */
	char tag[REFERENCE_TAG_MAX + 1];         /* "" if there is a digest */
	char digest[DIGEST_SIZE];                /* "" if there is none */
};

#define REFERENCE_TEXT_SIZE (REFERENCE_NAME_MAX + 1 + REFERENCE_TAG_MAX + DIGEST_SIZE)

/* -EINVAL with what is wrong. */
int reference_parse(struct reference *out, const char *text, struct err *e);
/* "docker.io/library/alpine:latest", "…@sha256:…" */
void reference_print(const struct reference *r, char out[REFERENCE_TEXT_SIZE]);
/* Whether its registry is this machine: one that needs no TLS. */
bool reference_is_loopback(const struct reference *r);
