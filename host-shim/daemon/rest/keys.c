/* API keys and the clients of OAuth2: what this server issues for others to send. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host-shim/daemon/auth/scopes.h"
#include "internal.h"
#include "limits.h"
#include "proto/clock.h"

#define WORDS_MAX 512

/* ---- what a new one may do, and for how long ---- */

struct grant {
	const char *name;
	char words[WORDS_MAX];
	int64_t expires_ms;
	bool denied; /* 403: more than the caller has */
};

static int64_t read_time(struct fields *f, const char *name)
{
	const char *text = fields_string(f, name, 1, 40), *rest;
	struct tm tm = {0};
	if (!text)
		return 0;
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (!rest || (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0)) {
		fields_fault(f, name, "must be a time in UTC like 2026-08-21T12:34:56Z");
		return 0;
	}
	return (int64_t)timegm(&tm) * 1000;
}

static void read_name(struct fields *f, struct grant *g)
{
	g->name = fields_string(f, "name", 1, 128);
	if (!g->name)
		fields_fault(f, "name", "is missing");
	for (const char *p = g->name; p && *p; p++)
		if (*p == '/' || (unsigned char)*p < ' ' || *p == 0x7f)
			fields_fault(f, "name", "must not contain '/' or control characters");
}

/* Each word is one of the vocabulary, and gives nothing that the caller has not. */
static void read_words(struct fields *f, const char *field, const struct principal *caller, struct grant *g)
{
	char refused[WORDS_MAX] = "";
	json_t *list = fields_array(f, field), *item;
	size_t i;
	if (json_array_size(list) == 0)
		fields_fault(f, field, "must be an array with at least one permission");
	json_array_foreach (list, i, item) {
		const char *word = json_string_value(item);
		int gives = word ? scopes_of_word(word, strlen(word)) : -1;
		if (gives < 0) {
			fields_fault(f, field, "has an item %zu that is no permission", i);
			return;
		}
		bool held = gives > 0 && ((unsigned)gives & ~caller->scopes) == 0;
		char *to = held ? g->words : refused;
		size_t used = strlen(to);
		if (used + strlen(word) + 2 > WORDS_MAX) {
			fields_fault(f, field, "is too long");
			return;
		}
		snprintf(to + used, WORDS_MAX - used, "%s%s", used ? " " : "", word);
	}
	if (!refused[0])
		return;
	fields_fault(f, field, "goes beyond what the caller may pass on: %s", refused);
	g->denied = true;
}

static void read_expiry(struct fields *f, const struct principal *caller, struct grant *g)
{
	g->expires_ms = read_time(f, "expires_at");
	if (g->expires_ms && g->expires_ms <= (int64_t)clock_ms(CLOCK_REALTIME))
		fields_fault(f, "expires_at", "is in the past");
	if (!g->expires_ms)
		g->expires_ms = caller->expires_ms;
	if (caller->expires_ms && g->expires_ms > caller->expires_ms) {
		fields_fault(f, "expires_at", "is later than the caller's own");
		g->denied = true;
	}
}

static bool grant_ok(struct http_request *r, struct fields *f, const struct grant *g)
{
	if (fields_done(f) || !g->denied)
		return rest_fields_ok(r, f);
	http_reply_error_with(r, 0, HTTP_PERMISSION_DENIED, json_pack("{s:s}", "field", f->field), "%s",
			      f->problem);
	return false;
}

/* ---- what is shown ---- */

static json_t *words_json(const char *words)
{
	json_t *list = json_array();
	while (*words) {
		size_t len = strcspn(words, " ");
		json_array_append_new(list, json_stringn(words, len));
		words += len + (words[len] == ' ');
	}
	return list;
}

static json_t *credential_json(const struct credential *c)
{
	bool client = c->kind == CREDENTIAL_CLIENT;
	json_t *o = json_pack("{s:s, s:o, s:o, s:o}", "name", c->name, client ? "scopes" : "permissions",
			      words_json(c->words), "created_at", rest_time(c->created_ms), "expires_at",
			      c->expires_ms ? rest_time(c->expires_ms) : json_null());
	if (c->used_ms)
		json_object_set_new(o, "last_used_at", rest_time(c->used_ms));
	if (client) {
		json_object_set_new(o, "client_id", json_sprintf("tenon_c%s", c->id));
		json_object_set_new(o, "token_seconds", json_integer(c->token_seconds));
	}
	return o;
}

static void on_made(void *arg, const struct credential *c, const char *secret, int status)
{
	struct http_request *r = arg;
	if (status < 0) {
		rest_reply_credential_failure(r, status);
		return;
	}
	json_t *o = credential_json(c);
	json_object_set_new(o, c->kind == CREDENTIAL_CLIENT ? "client_secret" : "value", json_string(secret));
	http_reply_json(r, 201, o);
}

void rest_reply_credential_failure(struct http_request *r, int status)
{
	if (status == -EEXIST)
		http_reply_error(r, HTTP_ALREADY_EXISTS, "one of that name exists");
	else if (status == -ENOENT)
		http_reply_error(r, HTTP_NOT_FOUND, "there is none of that name");
	else if (status == -ENOSPC)
		http_reply_error(r, HTTP_RESOURCE_EXHAUSTED, "there are %d already, and no more may be",
				 CREDENTIALS_MAX);
	else
		http_reply_error(r, HTTP_DATABASE_ERROR, "this could not be kept: %s", strerror(-status));
}

/* ---- the handlers ---- */

static void create(struct rest *rest, struct http_request *r, enum credential_kind kind)
{
	bool client = kind == CREDENTIAL_CLIENT;
	struct principal caller;
	struct grant g = {0};
	struct fields f;
	size_t len;
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	const uint8_t *body = http_body(r, &len);
	auth_principal(rest->config.auth, r, &caller);
	fields_parse(&f, body, len);
	read_name(&f, &g);
	read_words(&f, client ? "scopes" : "permissions", &caller, &g);
	read_expiry(&f, &caller, &g);
	int64_t seconds =
		client ? fields_int(&f, "token_seconds", 1, LIMIT_TOKEN_SECONDS, DEFAULT_TOKEN_SECONDS) : 0;
	if (grant_ok(r, &f, &g))
		credentials_add(auth_credentials(rest->config.auth),
				&(struct credential_spec){.kind = kind,
							  .prefix = t->prefix,
							  .name = g.name,
							  .words = g.words,
							  .token_seconds = (unsigned)seconds,
							  .expires_ms = g.expires_ms},
				on_made, r);
	fields_finish(&f);
}

static void append(void *list, const struct credential *c)
{
	json_array_append_new(list, credential_json(c));
}

static void list(struct rest *rest, struct http_request *r, enum credential_kind kind, const char *name)
{
	const struct tenant *t = rest_tenant(rest, r);
	if (!t)
		return;
	json_t *all = json_array();
	credentials_each(auth_credentials(rest->config.auth), t->prefix, kind, append, all);
	http_reply_json(r, 200, json_pack("{s:o}", name, all));
}

static void on_removed(void *arg, int status)
{
	if (status < 0)
		rest_reply_credential_failure(arg, status);
	else
		http_reply_empty(arg, 204);
}

static void remove_one(struct rest *rest, struct http_request *r, enum credential_kind kind)
{
	const struct tenant *t = rest_tenant(rest, r);
	if (t)
		credentials_remove(auth_credentials(rest->config.auth), t->prefix, kind,
				   http_param(r, "name"), on_removed, r);
}

void rest_create_key(void *app, struct http_request *r)
{
	create(app, r, CREDENTIAL_KEY);
}

void rest_list_keys(void *app, struct http_request *r)
{
	list(app, r, CREDENTIAL_KEY, "api_keys");
}

void rest_delete_key(void *app, struct http_request *r)
{
	remove_one(app, r, CREDENTIAL_KEY);
}

void rest_create_client(void *app, struct http_request *r)
{
	create(app, r, CREDENTIAL_CLIENT);
}

void rest_list_clients(void *app, struct http_request *r)
{
	list(app, r, CREDENTIAL_CLIENT, "clients");
}

void rest_delete_client(void *app, struct http_request *r)
{
	remove_one(app, r, CREDENTIAL_CLIENT);
}
