/* POST /oauth/tokens: a client's id and secret for a token, as the 2026-02 dialect does it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/auth/scopes.h"
#include "internal.h"
#include "proto/clock.h"

struct token_request {
	char grant_type[64], client_id[128], client_secret[256], scope[512];
};

static bool read_member(struct http_request *r, const char *name, char *out, size_t cap)
{
	size_t len;
	const uint8_t *body = http_body(r, &len);
	int n = http_form_value(body, len, name, out, cap);
	if (n == 0 && out[0])
		return true;
	http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", name),
			      "%s is missing, malformed or there twice, in a form", name);
	return false;
}

static bool read_request(struct http_request *r, struct token_request *q)
{
	size_t len;
	const uint8_t *body = http_body(r, &len);
	if (!read_member(r, "grant_type", q->grant_type, sizeof q->grant_type) ||
	    !read_member(r, "client_id", q->client_id, sizeof q->client_id) ||
	    !read_member(r, "client_secret", q->client_secret, sizeof q->client_secret))
		return false;
	q->scope[0] = '\0';
	int n = http_form_value(body, len, "scope", q->scope, sizeof q->scope);
	if (n < 0 && n != -ENOENT) {
		http_reply_error(r, HTTP_INVALID_ARGUMENT, "scope is malformed");
		return false;
	}
	if (strcmp(q->grant_type, "client_credentials") == 0)
		return true;
	http_reply_error_with(r, 0, HTTP_UNSUPPORTED, json_pack("{s:s}", "field", "grant_type"),
			      "grant_type must be client_credentials");
	return false;
}

/* Of the words asked for (none: all of the client's) those that the client may have, into out. */
static void choose_words(const char *asked, const struct credential *client, char *out, size_t cap)
{
	const char *words = asked[strspn(asked, " ")] ? asked : client->words;
	out[0] = '\0';
	while (*(words += strspn(words, " "))) {
		size_t len = strcspn(words, " "), used = strlen(out);
		int gives = scopes_of_word(words, len);
		if (gives > 0 && ((unsigned)gives & ~client->scopes) == 0 && used + len + 2 <= cap)
			snprintf(out + used, cap - used, "%s%.*s", used ? " " : "", (int)len, words);
		words += len;
	}
}

static void on_made(void *arg, const struct credential *c, const char *secret, int status)
{
	struct http_request *r = arg;
	if (status < 0) {
		rest_reply_credential_failure(r, status);
		return;
	}
	http_set_header(r, "Cache-Control", "no-store");
	http_reply_json(r, 200,
			json_pack("{s:s, s:s, s:I, s:s}", "access_token", secret, "token_type", "bearer",
				  "expires_in", (json_int_t)(c->expires_ms - c->created_ms) / 1000, "scope",
				  c->words));
}

void rest_create_token(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct credentials *cs = auth_credentials(rest->config.auth);
	struct token_request q;
	char words[512];
	http_use_numeric_codes(r);
	if (!read_request(r, &q))
		return;
	const struct credential *client = credentials_check_client(cs, q.client_id, q.client_secret);
	explicit_bzero(q.client_secret, sizeof q.client_secret);
	if (!client) {
		http_reply_error(r, HTTP_UNAUTHENTICATED, "client_id and client_secret are not valid");
		return;
	}
	choose_words(q.scope, client, words, sizeof words);
	if (!words[0]) {
		http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "scope"),
				      "scope has nothing that this client may have");
		return;
	}
	int64_t expires = (int64_t)clock_ms(CLOCK_REALTIME) + (int64_t)client->token_seconds * 1000;
	if (client->expires_ms && expires > client->expires_ms)
		expires = client->expires_ms;
	credentials_add(cs,
			&(struct credential_spec){.kind = CREDENTIAL_TOKEN,
						  .prefix = client->prefix,
						  .words = words,
						  .client = client,
						  .expires_ms = expires},
			on_made, r);
}
