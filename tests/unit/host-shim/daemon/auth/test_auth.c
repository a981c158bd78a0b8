/* Words, prefixes, and what the database keeps of credentials. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "host-shim/daemon/auth/credentials.h"
#include "host-shim/daemon/auth/scopes.h"
#include "host-shim/daemon/auth/tenants.h"
#include "proto/clock.h"

static struct {
	uv_loop_t loop;
	struct store *store;
	struct credentials *credentials;
	struct tenants *tenants;
	char folder[32], db[48];
	int status, calls;
	char id[32], secret[CREDENTIAL_TEXT_MAX];
} t;

static int open_all(void **state)
{
	struct err e = {0};
	(void)state;
	uv_loop_init(&t.loop);
	t.credentials = NULL;
	t.tenants = NULL;
	return store_open(&t.store, &t.loop, t.db, &e) < 0 || tenants_create(&t.tenants, t.store, &e) < 0 ||
			       credentials_create(&t.credentials, t.store, &e) < 0
		       ? -1
		       : 0;
}

static int close_all(void **state)
{
	(void)state;
	store_close(t.store);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	credentials_destroy(t.credentials);
	tenants_destroy(t.tenants);
	return uv_loop_close(&t.loop);
}

static int set_up(void **state)
{
	strcpy(t.folder, "/tmp/tn-auth-XXXXXX");
	if (!mkdtemp(t.folder))
		return -1;
	snprintf(t.db, sizeof t.db, "%s/db", t.folder);
	return open_all(state);
}

static int tear_down(void **state)
{
	int r = close_all(state);
	char path[64];
	static const char *const ends[] = {"", "-wal", "-shm"};
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s%s", t.db, ends[i]);
		unlink(path);
	}
	return rmdir(t.folder) < 0 ? -1 : r;
}

static void again(void)
{
	assert_int_equal(close_all(NULL), 0);
	assert_int_equal(open_all(NULL), 0);
}

static void wait_calls(int calls)
{
	while (t.calls < calls) {
		uv_timer_t limit;
		uv_timer_init(&t.loop, &limit);
		uv_timer_start(&limit, (uv_timer_cb)uv_stop, 5000, 0);
		uv_run(&t.loop, UV_RUN_ONCE);
		uv_close((uv_handle_t *)&limit, NULL);
		uv_run(&t.loop, UV_RUN_NOWAIT);
	}
}

static void on_made(void *arg, const struct credential *c, const char *secret, int status)
{
	(void)arg;
	t.status = status;
	t.calls++;
	if (c) {
		snprintf(t.id, sizeof t.id, "tenon_c%s", c->id);
		snprintf(t.secret, sizeof t.secret, "%s", secret);
	}
}

static void on_done(void *arg, int status)
{
	(void)arg;
	t.status = status;
	t.calls++;
}

static int add(struct credential_spec spec)
{
	t.calls = 0;
	if (!spec.prefix)
		spec.prefix = "default";
	credentials_add(t.credentials, &spec, on_made, NULL);
	wait_calls(1);
	return t.status;
}

static int take_away(enum credential_kind kind, const char *name)
{
	t.calls = 0;
	credentials_remove(t.credentials, "default", kind, name, on_done, NULL);
	wait_calls(1);
	return t.status;
}

static void words_give_scopes(void **state)
{
	(void)state;
	assert_int_equal(scopes_of_word("box:read", 8), SCOPE_BOX_READ);
	assert_int_equal(scopes_of_word("box:rea", 7), -1);
	assert_int_equal(scopes_of_word("write:volumes", 13), SCOPE_VOLUME_READ | SCOPE_VOLUME_WRITE);
	assert_int_equal(scopes_of_word("write:registries", 16), 0);
	assert_int_equal(scopes_of_words("boxes:write  nonsense box:exec"),
			 SCOPE_BOX_WRITE | SCOPE_BOX_DELETE | SCOPE_BOX_EXEC);
	assert_int_equal(scopes_of_words(""), 0);
}

static void a_key_is_known_by_what_was_shown_once(void **state)
{
	(void)state;
	assert_int_equal(
		add((struct credential_spec){.kind = CREDENTIAL_KEY, .name = "k", .words = "box:read"}), 0);
	char key[CREDENTIAL_TEXT_MAX];
	strcpy(key, t.secret);
	for (int round = 0; round < 2; round++) {
		const struct credential *c = credentials_check(t.credentials, key);
		assert_non_null(c);
		assert_string_equal(c->name, "k");
		assert_int_equal(c->scopes, SCOPE_BOX_READ);
		key[strlen(key) - 1] ^= 1;
		assert_null(credentials_check(t.credentials, key));
		key[strlen(key) - 1] ^= 1;
		again();
	}
	assert_int_equal(add((struct credential_spec){.kind = CREDENTIAL_KEY, .name = "k", .words = ""}),
			 -EEXIST);
	static const char *const bad[] = {
		"", "tenon_", "tenon_k", "tenon_k_", "tenon_kxxxxxxxxxxxxxxxx", "tenon_x0"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_null(credentials_check(t.credentials, bad[i]));
	assert_int_equal(take_away(CREDENTIAL_KEY, "k"), 0);
	assert_null(credentials_check(t.credentials, key));
	assert_int_equal(take_away(CREDENTIAL_KEY, "k"), -ENOENT);
}

/* As many as a prefix may have: each is found, across a restart too, and every other goes alone. */
static void a_thousand_keys(void **state)
{
	(void)state;
	static char keys[CREDENTIALS_MAX][CREDENTIAL_TEXT_MAX];
	char name[16];
	for (int i = 0; i < CREDENTIALS_MAX; i++) {
		snprintf(name, sizeof name, "k%d", i);
		assert_int_equal(
			add((struct credential_spec){.kind = CREDENTIAL_KEY, .name = name, .words = ""}), 0);
		strcpy(keys[i], t.secret);
	}
	assert_int_equal(
		add((struct credential_spec){.kind = CREDENTIAL_KEY, .name = "one more", .words = ""}),
		-ENOSPC);
	again();
	for (int i = 0; i < CREDENTIALS_MAX; i += 2) {
		snprintf(name, sizeof name, "k%d", i);
		assert_int_equal(take_away(CREDENTIAL_KEY, name), 0);
	}
	for (int i = 0; i < CREDENTIALS_MAX; i++) {
		const struct credential *c = credentials_check(t.credentials, keys[i]);
		snprintf(name, sizeof name, "k%d", i);
		assert_true(i % 2 ? c && strcmp(c->name, name) == 0 : !c);
	}
}

/* The file holds no secret, only what is made of it. */
static void no_secret_is_written(void **state)
{
	(void)state;
	assert_int_equal(add((struct credential_spec){.kind = CREDENTIAL_KEY, .name = "s", .words = ""}), 0);
	const char *secret = strrchr(t.secret, '_') + 1;
	static const char *const ends[] = {"", "-wal"};
	for (size_t i = 0; i < 2; i++) {
		char path[64];
		static char text[1 << 20];
		snprintf(path, sizeof path, "%s%s", t.db, ends[i]);
		FILE *file = fopen(path, "r");
		size_t n = file ? fread(text, 1, sizeof text, file) : 0;
		assert_null(memmem(text, n, secret, strlen(secret)));
		if (file)
			fclose(file);
	}
	assert_int_equal(take_away(CREDENTIAL_KEY, "s"), 0);
}

static void what_is_over_is_refused(void **state)
{
	(void)state;
	int64_t past = (int64_t)clock_ms(CLOCK_REALTIME) - 1;
	assert_int_equal(add((struct credential_spec){
				 .kind = CREDENTIAL_KEY, .name = "o", .words = "", .expires_ms = past}),
			 0);
	assert_null(credentials_check(t.credentials, t.secret));
	assert_int_equal(take_away(CREDENTIAL_KEY, "o"), 0);
}

static void tokens_end_with_their_client(void **state)
{
	(void)state;
	assert_int_equal(
		add((struct credential_spec){.kind = CREDENTIAL_CLIENT, .name = "c", .words = "boxes:read"}),
		0);
	assert_null(credentials_check(t.credentials, t.secret));
	const struct credential *c = credentials_check_client(t.credentials, t.id, t.secret);
	assert_non_null(c);
	assert_null(credentials_check_client(t.credentials, t.id, "x"));
	struct credential_spec token = {.kind = CREDENTIAL_TOKEN, .words = "boxes:read", .client = c};
	assert_int_equal(add(token), 0);
	assert_true(credentials_is_token(t.secret));
	assert_non_null(credentials_check(t.credentials, t.secret));
	/* One more is on its way when the client goes: it is not let in either. */
	t.calls = 0;
	token.prefix = "default";
	credentials_add(t.credentials, &token, on_made, NULL);
	credentials_remove(t.credentials, "default", CREDENTIAL_CLIENT, "c", on_done, NULL);
	wait_calls(2);
	assert_null(credentials_check(t.credentials, t.secret));
	again();
	assert_null(credentials_check(t.credentials, t.secret));
	assert_false(credentials_any(t.credentials, "default"));
}

static void a_client_has_so_many_tokens(void **state)
{
	(void)state;
	assert_int_equal(add((struct credential_spec){.kind = CREDENTIAL_CLIENT, .name = "c", .words = ""}),
			 0);
	char first[CREDENTIAL_TEXT_MAX], id[32], secret[CREDENTIAL_TEXT_MAX];
	strcpy(id, t.id);
	strcpy(secret, t.secret);
	for (int i = 0; i <= CREDENTIALS_TOKENS_MAX; i++) {
		const struct credential *c = credentials_check_client(t.credentials, id, secret);
		assert_int_equal(
			add((struct credential_spec){.kind = CREDENTIAL_TOKEN, .words = "", .client = c}), 0);
		if (i == 0)
			strcpy(first, t.secret);
		assert_int_equal(!credentials_check(t.credentials, first), i == CREDENTIALS_TOKENS_MAX);
	}
	assert_non_null(credentials_check(t.credentials, t.secret));
	assert_int_equal(take_away(CREDENTIAL_CLIENT, "c"), 0);
}

static void prefixes_stay(void **state)
{
	(void)state;
	static const char *const good[] = {"a", "acme", "eu/team-4", "0.1_x"};
	static const char *const bad[] = {"", "/", "a/", "/a", "a//b", "-a", "a/.b", "a b", "a%"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(tenant_is_valid(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(tenant_is_valid(bad[i]));
	t.calls = 0;
	tenants_add(t.tenants, "eu", 7, on_done, NULL);
	assert_null(tenants_find(t.tenants, "eu"));
	wait_calls(1);
	again();
	const struct tenant *eu = tenants_find(t.tenants, "eu");
	assert_int_equal(eu->max_boxes, 7);
	assert_string_equal(tenants_prefixes(t.tenants)[0], "default");
	assert_string_equal(tenants_prefixes(t.tenants)[1], "eu");
	assert_null(tenants_prefixes(t.tenants)[2]);
	t.calls = 0;
	tenants_add(t.tenants, "eu", 7, on_done, NULL);
	assert_int_equal(t.status, -EEXIST);
	tenants_remove(t.tenants, "eu", on_done, NULL);
	assert_null(tenants_find(t.tenants, "eu"));
	wait_calls(2);
	assert_int_equal(t.status, 0);
	again();
	assert_null(tenants_find(t.tenants, "eu"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_give_scopes),
		cmocka_unit_test(a_key_is_known_by_what_was_shown_once),
		cmocka_unit_test(no_secret_is_written),
		cmocka_unit_test(what_is_over_is_refused),
		cmocka_unit_test(tokens_end_with_their_client),
		cmocka_unit_test(a_client_has_so_many_tokens),
		cmocka_unit_test(prefixes_stay),
		cmocka_unit_test(a_thousand_keys),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
