/* The body of POST …/exec: what is accepted has a command and lists that end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/rest/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct exec_request q;
	if (exec_request_parse(&q, data, len)) {
		size_t argc = 0;
		while (q.spec.argv[argc])
			argc++;
		if (argc == 0 || !q.spec.argv[0][0])
			abort();
		for (size_t i = 0; q.spec.env[i]; i++)
			if (!strchr(q.spec.env[i] + 1, '='))
				abort();
	} else if (!q.fields.problem[0]) {
		abort();
	}
	exec_request_finish(&q);
	return 0;
}
