#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/http/router.h"

static void nothing(void *app, struct http_request *r)
{
	(void)app;
	(void)r;
}

static const struct http_route routes[] = {
	{.method = "GET", .path = "/config", .handle = nothing, .at_root = true},
	{.method = "GET", .path = "/boxes", .handle = nothing},
	{.method = "POST", .path = "/boxes", .handle = nothing},
	{.method = "GET", .path = "/boxes/{box}", .handle = nothing},
	{.method = "DELETE", .path = "/boxes/{box}", .handle = nothing},
	{.method = "POST", .path = "/boxes/{box}/exec", .handle = nothing},
	{.method = "GET", .path = "/boxes/{box}/executions/{id}", .handle = nothing},
};
static const char *const prefixes[] = {"default", "eu", "eu/team-4", NULL};

static char path[256];
static struct router_match match;

static enum router_result find(const char *method, const char *url)
{
	snprintf(path, sizeof path, "%s", url);
	return router_find(routes, sizeof routes / sizeof *routes, prefixes, method, path, &match);
}

static void assert_param(unsigned n, const char *name, const char *value)
{
	assert_true(n < match.param_count);
	assert_int_equal(match.params[n].name_len, strlen(name));
	assert_memory_equal(match.params[n].name, name, strlen(name));
	assert_string_equal(match.params[n].value, value);
}

static void finds_routes_by_method_and_path(void **state)
{
	(void)state;
	assert_int_equal(find("GET", "/v1/boxes"), ROUTER_FOUND);
	assert_ptr_equal(match.route, &routes[1]);
	assert_int_equal(find("POST", "/v1/boxes/"), ROUTER_FOUND);
	assert_ptr_equal(match.route, &routes[2]);
	assert_int_equal(find("GET", "/v1/boxes/b1/executions/x2"), ROUTER_FOUND);
	assert_ptr_equal(match.route, &routes[6]);
	assert_param(0, "box", "b1");
	assert_param(1, "id", "x2");
}

static void names_the_methods_of_a_path(void **state)
{
	(void)state;
	assert_int_equal(find("PUT", "/v1/boxes/b"), ROUTER_NO_METHOD);
	assert_string_equal(match.allow, "GET, DELETE");
	assert_null(match.route);
}

static void does_not_find_the_rest(void **state)
{
	(void)state;
	static const char *const none[] = {"/",           "/v1",          "/v1/",
					   "/v2/boxes",   "/boxes",       "/v1/boxes/b/nothing",
					   "/v1/default", "/v1/eu/team-4"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		assert_int_equal(find("GET", none[i]), ROUTER_NO_PATH);
}

static void takes_the_longest_registered_prefix(void **state)
{
	(void)state;
	assert_int_equal(find("GET", "/v1/default/boxes"), ROUTER_FOUND);
	assert_string_equal(match.prefix, "default");
	assert_int_equal(find("GET", "/v1/eu/boxes"), ROUTER_FOUND);
	assert_string_equal(match.prefix, "eu");
	assert_int_equal(find("GET", "/v1/eu/team-4/boxes/b"), ROUTER_FOUND);
	assert_string_equal(match.prefix, "eu/team-4");
	assert_param(0, "box", "b");
	assert_int_equal(find("GET", "/v1/boxes"), ROUTER_FOUND);
	assert_string_equal(match.prefix, "");
	assert_int_equal(find("GET", "/v1/eu/team-5/boxes"), ROUTER_NO_PATH);
	assert_int_equal(find("GET", "/v1/nobody/boxes"), ROUTER_NO_PREFIX);
	assert_int_equal(find("GET", "/v1/defaul/boxes"), ROUTER_NO_PREFIX);
}

static void serves_marked_routes_at_the_root(void **state)
{
	(void)state;
	assert_int_equal(find("GET", "/config"), ROUTER_FOUND);
	assert_ptr_equal(match.route, &routes[0]);
	assert_int_equal(find("GET", "/boxes"), ROUTER_NO_PATH);
	assert_int_equal(find("GET", "/default/config"), ROUTER_NO_PATH);
	assert_int_equal(find("GET", "/v1/v1/config"), ROUTER_NO_PATH);
}

/* A route that comes later must not be somebody's prefix today. */
static void reserves_resource_names(void **state)
{
	(void)state;
	assert_int_equal(find("GET", "/v1/volumes/boxes"), ROUTER_NO_PATH);
	assert_int_equal(find("GET", "/v1/config/boxes"), ROUTER_NO_PATH);
}

static void decodes_segments_after_splitting(void **state)
{
	(void)state;
	assert_int_equal(find("GET", "/v1/boxes/a%2Fb%20c"), ROUTER_FOUND);
	assert_param(0, "box", "a/b c");
	assert_int_equal(find("GET", "/v1/b%6fxes"), ROUTER_FOUND);
	static const char *const bad[] = {"/v1/boxes/%",
					  "/v1/boxes/%4",
					  "/v1/boxes/%zz",
					  "/v1/boxes/%00",
					  "/v1//boxes",
					  "//v1/boxes",
					  "v1/boxes",
					  "",
					  "/v1/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(find("GET", bad[i]), ROUTER_BAD_PATH);
}

static void a_failed_decoding_changes_nothing(void **state)
{
	(void)state;
	char s[] = "a%20b%zz";
	assert_true(router_decode(s) < 0);
	assert_string_equal(s, "a%20b%zz");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_routes_by_method_and_path),
		cmocka_unit_test(names_the_methods_of_a_path),
		cmocka_unit_test(does_not_find_the_rest),
		cmocka_unit_test(takes_the_longest_registered_prefix),
		cmocka_unit_test(serves_marked_routes_at_the_root),
		cmocka_unit_test(reserves_resource_names),
		cmocka_unit_test(decodes_segments_after_splitting),
		cmocka_unit_test(a_failed_decoding_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
