/* Values of a request, checked and copied: field is named in the fault and is a literal. */
#pragma once

#include <stddef.h>

#include "guest/fault.h"
#include "guest/memory.h"

/* A name that becomes part of a path or of a system call: not empty, shorter than size, of letters, digits,
 * '-', '_' and '.', the last not first: such a name leads nowhere else. */
int take_name(char *out, size_t size, const ProtobufCBinaryData *in, const char *field, struct fault *f);

/* Up to max bytes without a NUL, as a string in *store. */
int take_string(char **out, struct bump *store, const ProtobufCBinaryData *in, size_t max, const char *field,
		struct fault *f);
