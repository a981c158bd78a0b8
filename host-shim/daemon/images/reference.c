#include "reference.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_HOST "docker.io"
#define DEFAULT_FOLDER "library/"
#define DEFAULT_TAG "latest"

static bool is_lower(char c)
{
	return islower((unsigned char)c) || isdigit((unsigned char)c);
}

/* Letters and digits in lower case, with one dot, one or two underscores or any number of dashes between. */
static bool part_is_valid(const char *s, size_t len)
{
	size_t i = 0;
	for (;;) {
		size_t from = i;
		while (i < len && is_lower(s[i]))
			i++;
		if (i == from)
			return false;
		if (i == len)
			return true;
		size_t dashes = strspn(s + i, "-");
		if (dashes)
			i += dashes;
		else if (s[i] == '.')
			i++;
		else if (s[i] == '_')
			i += s[i + 1] == '_' ? 2 : 1;
		else
			return false;
	}
}

static bool path_is_valid(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");
		if (!part_is_valid(path, len))
			return false;
		if (!path[len])
			return true;
		path += len + 1;
	}
}

static bool port_is_valid(const char *s)
{
	size_t n = strspn(s, "0123456789");
	return n >= 1 && n <= 5 && !s[n];
}

static bool host_is_valid(const char *host, size_t len)
{
	char text[REFERENCE_NAME_MAX + 1];
	memcpy(text, host, len);
	text[len] = '\0';
	if (*text == '[') {
		char *end = strchr(text, ']');
		struct in6_addr address;
		if (!end)
			return false;
		*end = '\0';
		return inet_pton(AF_INET6, text + 1, &address) == 1 &&
		       (!end[1] || (end[1] == ':' && port_is_valid(end + 2)));
	}
	char *colon = strchr(text, ':');
	if (colon) {
		*colon = '\0';
		if (!port_is_valid(colon + 1))
			return false;
	}
	/* Names between dots, none of them empty or with a dash at an end. */
	for (const char *at = text;; at++) {
		size_t n = strcspn(at, ".");
		if (!n || at[0] == '-' || at[n - 1] == '-')
			return false;
		for (size_t i = 0; i < n; i++)
			if (!isalnum((unsigned char)at[i]) && at[i] != '-')
				return false;
		at += n;
		if (!*at)
			return true;
	}
}

static bool tag_is_valid(const char *tag)
{
	size_t len = strlen(tag);
	if (!len || len > REFERENCE_TAG_MAX || *tag == '.' || *tag == '-')
		return false;
	for (; *tag; tag++)
		if (!isalnum((unsigned char)*tag) && !strchr("_.-", *tag))
			return false;
	return true;
}

/* The length of the host that name begins with; 0: of none. */
static size_t host_length(const char *name)
{
	size_t len = strcspn(name, "/");
	if (!name[len])
		return 0;
	bool is_host = len == strlen("localhost") && memcmp(name, "localhost", len) == 0;
	for (size_t i = 0; i < len; i++)
		is_host |= name[i] == '.' || name[i] == ':' || isupper((unsigned char)name[i]);
	return is_host ? len : 0;
}

static int fail(const char *text, const char *what, struct err *e)
{
	return err_set(e, "reference", EINVAL, "%.60s: %s", text, what);
}

int reference_parse(struct reference *out, const char *text, struct err *e)
{
	char name[REFERENCE_TEXT_SIZE + 1];
	*out = (struct reference){0};
	if (strlen(text) >= sizeof name)
		return fail(text, "a reference of so many bytes", e);
	if (digest_is_valid(text))
		return fail(text, "a digest is not a name; write NAME@sha256:…", e);
	strcpy(name, text);
	char *at = strchr(name, '@');
	if (at) {
		*at++ = '\0';
		if (!digest_is_valid(at))
			return fail(text, "what follows @ must be sha256: and 64 hex digits", e);
		strcpy(out->digest, at);
	}
	size_t host = host_length(name);
	char *colon = strchr(name + host, ':');
	if (colon) {
		*colon++ = '\0';
		if (!tag_is_valid(colon))
			return fail(text, "the tag must be up to 128 letters, digits, '_', '.' and '-'", e);
	}
	if (!at)
		strcpy(out->tag, colon ? colon : DEFAULT_TAG);
	const char *path = host ? name + host + 1 : name;
	if (host && !host_is_valid(name, host < REFERENCE_NAME_MAX ? host : 0))
		return fail(text, "the registry must be HOST or HOST:PORT", e);
	if (!path_is_valid(path))
		return fail(text,
			    "the name must be of lower-case letters and digits, with '.', '_', '-' and '/' "
			    "between",
			    e);
	if (!host && strlen(path) == DIGEST_HEX_LENGTH &&
	    strspn(path, "0123456789abcdef") == DIGEST_HEX_LENGTH)
		return fail(text, "a digest is not a name; write NAME@sha256:…", e);
	bool hub = !host || (host == strlen(DEFAULT_HOST) && memcmp(name, DEFAULT_HOST, host) == 0);
	int n = snprintf(out->repository, sizeof out->repository, "%.*s/%s%s",
			 (int)(hub ? strlen(DEFAULT_HOST) : host), hub ? DEFAULT_HOST : name,
			 hub && !strchr(path, '/') ? DEFAULT_FOLDER : "", path);
	if (n >= (int)sizeof out->repository)
		return fail(text, "the name has more than 255 bytes", e);
	return 0;
}

void reference_print(const struct reference *r, char out[REFERENCE_TEXT_SIZE])
{
	bool digest = r->digest[0];
	snprintf(out, REFERENCE_TEXT_SIZE, "%s%c%s", r->repository, digest ? '@' : ':',
		 digest ? r->digest : r->tag);
}

bool reference_is_loopback(const struct reference *r)
{
	char host[REFERENCE_NAME_MAX + 1];
	struct in_addr address;
	strcpy(host, r->repository);
	host[strcspn(host, "/")] = '\0';
	if (strncmp(host, "[::1]", 5) == 0)
		return true;
	host[strcspn(host, ":")] = '\0';
	return strcmp(host, "localhost") == 0 ||
	       (inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}
