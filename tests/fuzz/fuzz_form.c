/* A form's body: a member is found, decoded and bounded, or refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char out[32];
	/* Of the exact size, so that a step beyond it is seen. */
	uint8_t *body = malloc(len ? len : 1);
	memcpy(body, data, len);
	if (http_form_value(body, len, "scope", out, sizeof out) == 0 && strlen(out) >= sizeof out)
		abort();
	free(body);
	return 0;
}
