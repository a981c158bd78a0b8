/* What a registry answers, and what a person calls an image. */
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/images/config.h"
#include "host-shim/daemon/images/manifest.h"
#include "host-shim/daemon/images/reference.h"

static void try_reference(const char *text)
{
	struct reference r, again;
	struct err e = {0};
	char whole[REFERENCE_TEXT_SIZE], second[REFERENCE_TEXT_SIZE];
	if (reference_parse(&r, text, &e) < 0) {
		if (!e.msg[0])
			abort();
		return;
	}
	reference_print(&r, whole);
	if (reference_parse(&again, whole, &e) < 0)
		abort();
	reference_print(&again, second);
	if (strcmp(whole, second) != 0 || strstr(r.repository, "..") || whole[0] == '-' || strchr(whole, ' '))
		abort();
	reference_is_loopback(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest m;
	struct oci_config c;
	struct err e = {0};
	char digest[DIGEST_SIZE];
	if (manifest_choose(data, size, digest, &e) == 1 && !digest_is_valid(digest))
		abort();
	if (manifest_parse(&m, data, size, &e) == 0)
		for (size_t i = 0; i < m.n_layers; i++)
			if (!digest_is_valid(m.layers[i].digest))
				abort();
	manifest_finish(&m);
	config_parse(&c, data, size, &e);
	config_finish(&c);
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	try_reference(text);
	free(text);
	return 0;
}
