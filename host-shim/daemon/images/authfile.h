/* Credentials for a registry, in the file that skopeo reads (containers-auth.json(5)): a file, since whoever
 * may look at processes sees their arguments. */
#pragma once

#include "reference.h"

/* Makes path, mode 0600: with username and password for the reference's registry, or, if those are NULL, as a
 * copy of what the host has for all; empty without that either, so that skopeo does not look elsewhere.
 * -EPERM if others than the owner may read the host's file. */
int authfile_make(const char *path, const struct reference *r, const char *username, const char *password,
		  const char *host_file, struct err *e);
