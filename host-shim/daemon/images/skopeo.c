#include "skopeo.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/console.h"

static void add(struct skopeo *s, const char *argument)
{
	if (s->n_argv < SKOPEO_ARGUMENTS)
		s->argv[s->n_argv++] = argument;
}

static int addf(struct skopeo *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int addf(struct skopeo *s, const char *fmt, ...)
{
	char *text;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	s->strings[s->n_strings++] = text;
	add(s, text);
	return 0;
}

static void begin(struct skopeo *s, const char *work, const char *command)
{
	*s = (struct skopeo){0};
	add(s, "skopeo");
	add(s, "--tmpdir");
	add(s, work);
	add(s, "--override-os");
	add(s, "linux");
	add(s, "--override-arch");
	add(s, "amd64");
	add(s, command);
}

static int add_registry(struct skopeo *s, const struct reference *r)
{
	char name[REFERENCE_TEXT_SIZE];
	reference_print(r, name);
	return addf(s, "docker://%s", name);
}

int skopeo_inspect(struct skopeo *s, const char *work, const struct reference *r, bool config)
{
	begin(s, work, "inspect");
	add(s, "--raw");
	if (config)
		add(s, "--config");
	if (reference_is_loopback(r))
		add(s, "--tls-verify=false");
	add(s, "--authfile");
	return addf(s, "%s/auth.json", work) < 0 ? -ENOMEM : add_registry(s, r);
}

int skopeo_copy(struct skopeo *s, const char *work, const char *cache, const struct reference *r)
{
	begin(s, work, "copy");
	add(s, "--quiet");
	if (reference_is_loopback(r))
		add(s, "--src-tls-verify=false");
	/* Layers stay as they are; of the manifest and the config that it writes for them we have the true
	 * ones.
	 */
	add(s, "--dest-oci-accept-uncompressed-layers");
	add(s, "--dest-shared-blob-dir");
	add(s, cache);
	add(s, "--src-authfile");
	if (addf(s, "%s/auth.json", work) < 0 || add_registry(s, r) < 0)
		return -ENOMEM;
	return addf(s, "oci:%s/oci:it", work);
}

int skopeo_import(struct skopeo *s, const char *work, const char *source)
{
	begin(s, work, "copy");
	add(s, "--quiet");
	add(s, source);
	return addf(s, "dir:%s/dir", work);
}

void skopeo_finish(struct skopeo *s)
{
	for (unsigned i = 0; i < s->n_strings; i++)
		free(s->strings[i]);
}

/* `time="…" level=fatal msg="…"`, the quotes within it escaped; other programs' last lines are taken whole.
 */
void skopeo_last_words(char *out, size_t cap, const char *output)
{
	char text[2048];
	size_t len = strlen(output), n = 0;
	console_clean(text, sizeof text, output, len);
	len = strlen(text);
	while (len && text[len - 1] == '\n')
		text[--len] = '\0';
	const char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	const char *at = strstr(line, "msg=\"");
	at = at ? at + strlen("msg=\"") : line;
	/* The name is said already; what it calls an error in parsing it is any that a registry answers. */
	const char *rest = strncmp(at, "Error parsing image name", 24) == 0 ? strstr(at, "\\\": ") : NULL;
	at = rest ? rest + strlen("\\\": ") : at;
	for (; *at && n + 1 < cap; at++) {
		if (*at == '\\' && at[1])
			at++;
		else if (*at == '"' && !at[1])
			break;
		out[n++] = *at;
	}
	out[n] = '\0';
}
