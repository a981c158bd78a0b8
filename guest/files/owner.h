/* Who a file is to belong to. */
#pragma once

#include <sys/types.h>

#include "guest/fault.h"
#include "guest/memory.h"
#include "proto/bulk.pb-c.h"

#define OWNER_UNCHANGED ((uid_t)-1) /* as chown(2) has it */

struct owner {
	uid_t uid;
	gid_t gid;
};

/* docker's form "user", "user:group", ":group", by name or number; what is left out is OWNER_UNCHANGED.
 * -errno with *f naming `field`, a literal. */
int owner_resolve(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		  struct fault *f);

/* The same for what is made anew: what is left out, we are. */
int owner_resolve_new(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		      struct fault *f);

/* 07777 at most, else INVALID_ARGUMENT. */
int owner_check_mode(uint32_t mode, struct fault *f);
