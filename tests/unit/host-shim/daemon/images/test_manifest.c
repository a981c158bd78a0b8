/* Manifests, indexes and configs: what is taken of them, and what is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/images/config.h"
#include "host-shim/daemon/images/manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OCI "application/vnd.oci.image."
#define CONFIG "\"config\":{\"mediaType\":\"" OCI "config.v1+json\",\"digest\":\"" A "\",\"size\":2}"
#define LAYER(digest, size) \
	"{\"mediaType\":\"" OCI "layer.v1.tar+gzip\",\"digest\":\"" digest "\",\"size\":" size "}"
#define MANIFEST(layers) "{\"schemaVersion\":2," CONFIG ",\"layers\":[" layers "]}"

static int parse(struct manifest *m, const char *text)
{
	struct err e = {0};
	int r = manifest_parse(m, text, strlen(text), &e);
	assert_int_equal(r, -e.errnum);
	if (r < 0)
		manifest_finish(m);
	return r;
}

static void test_a_manifest(void **state)
{
	struct manifest m;
	(void)state;
	assert_int_equal(parse(&m, MANIFEST(LAYER(A, "7") "," LAYER(B, "5") "," LAYER(A, "7"))), 0);
	assert_int_equal(m.n_layers, 3);
	assert_string_equal(m.layers[1].digest, B);
	assert_int_equal(m.layers[1].size, 5);
	assert_int_equal(m.bytes, 12); /* what comes twice is fetched once */
	assert_string_equal(m.config.digest, A);
	manifest_finish(&m);
	assert_int_equal(parse(&m, MANIFEST("")), 0);
	manifest_finish(&m);
}

static void test_what_is_no_manifest(void **state)
{
	static const struct {
		int errnum;
		const char *text;
	} cases[] = {
		{EINVAL, ""},
		{EINVAL, "[]x"},
		{ENOTSUP, "{}"},
		{ENOTSUP, "{\"schemaVersion\":1}"},
		{EINVAL, "{\"schemaVersion\":2}"},
		{EINVAL, "{\"schemaVersion\":2," CONFIG "}"},
		{EINVAL, "{\"schemaVersion\":2,\"schemaVersion\":2," CONFIG ",\"layers\":[]}"},
		{EINVAL, MANIFEST(LAYER("sha256:../../etc", "1"))},
		{EINVAL, MANIFEST(LAYER("sha512:aa", "1"))},
		{EINVAL, MANIFEST(LAYER(A, "-1"))},
		{EINVAL, MANIFEST(LAYER(A, "1.5"))},
		{EINVAL, MANIFEST(LAYER(A, "\"1\""))},
		{EINVAL, MANIFEST(LAYER(A, "9000000000000"))},
		{EINVAL, MANIFEST("7")},
		{ENOTSUP, MANIFEST("{\"digest\":\"" A "\",\"size\":1,\"mediaType\":\"text/plain\"}")},
		{ENOTSUP,
		 MANIFEST("{\"digest\":\"" A "\",\"size\":1,\"urls\":[\"http://x\"],\"mediaType\":\"" OCI
			  "layer.v1.tar\"}")},
		{ENOTSUP, "{\"schemaVersion\":2,\"manifests\":[]," CONFIG ",\"layers\":[]}"},
		{ENOTSUP, "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"x\",\"digest\":\"" A
			  "\",\"size\":1},\"layers\":[]}"},
		{EINVAL, "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI
			 "config.v1+json\",\"digest\":\"" A "\",\"size\":99999999},\"layers\":[]}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct manifest m;
		int r = parse(&m, cases[i].text);
		if (r != -cases[i].errnum)
			fail_msg("%s: %d", cases[i].text, r);
	}
}

static void test_too_many_layers(void **state)
{
	struct manifest m;
	char *text = malloc(200 * 300), *at = text;
	(void)state;
	at += sprintf(at, "{\"schemaVersion\":2," CONFIG ",\"layers\":[");
	for (int i = 0; i < 256; i++)
		at += sprintf(at, "%s" LAYER(A, "1"), i ? "," : "");
	strcpy(at, "]}");
	assert_int_equal(parse(&m, text), -EINVAL);
	free(text);
}

static int choose(const char *manifests, char digest[DIGEST_SIZE])
{
	char text[2048];
	struct err e;
	snprintf(text, sizeof text, "{\"schemaVersion\":2,\"manifests\":%s}", manifests);
	return manifest_choose(text, strlen(text), digest, &e);
}

#define ENTRY(digest, os, arch) \
	"{\"digest\":\"" digest "\",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}}"

static void test_an_index(void **state)
{
	char digest[DIGEST_SIZE];
	struct err e;
	(void)state;
	assert_int_equal(choose("[" ENTRY(A, "linux", "arm64") "," ENTRY(B, "linux", "amd64") "]", digest),
			 1);
	assert_string_equal(digest, B);
	assert_int_equal(
		choose("[" ENTRY(A, "unknown", "unknown") "," ENTRY(A, "windows", "amd64") "]", digest),
		-ENOTSUP);
	assert_int_equal(choose("[]", digest), -ENOTSUP);
	assert_int_equal(choose("[" ENTRY("sha256:x", "linux", "amd64") "]", digest), -EINVAL);
	assert_int_equal(manifest_choose("{}", 2, digest, &e), 0);
}

#define OF(config)                                                                    \
	"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[\"" A \
	"\"]},\"config\":" config "}"

static void test_a_config(void **state)
{
	struct oci_config c;
	struct err e;
	static const char text[] =
		OF("{\"Entrypoint\":[\"/bin/x\",\"-v\"],\"Cmd\":[\"a\"],\"User\":\"www\",\"WorkingDir\":\"\","
		   "\"Env\":[\"A=1\",\"broken\",\"=x\",\"B=\"]}");
	(void)state;
	assert_int_equal(config_parse(&c, text, sizeof text - 1, &e), 0);
	assert_int_equal(c.n_diff_ids, 1);
	assert_string_equal(c.image.entrypoint[1], "-v");
	assert_null(c.image.entrypoint[2]);
	assert_string_equal(c.image.cmd[0], "a");
	assert_string_equal(c.image.env[0], "A=1");
	assert_string_equal(c.image.env[1], "B=");
	assert_null(c.image.env[2]);
	assert_string_equal(c.image.user, "www");
	assert_null(c.image.working_dir);
	config_finish(&c);
	static const char silent[] = OF("null");
	assert_int_equal(config_parse(&c, silent, sizeof silent - 1, &e), 0);
	assert_null(c.image.cmd);
	config_finish(&c);
}

static void test_what_is_no_config(void **state)
{
	static const struct {
		int errnum;
		const char *text;
	} cases[] = {
		{EINVAL, "{"},
		{ENOTSUP, "{}"},
		{ENOTSUP, "{\"os\":\"linux\",\"architecture\":\"arm64\"}"},
		{EINVAL, OF("{\"Cmd\":[1]}")},
		{EINVAL, OF("{\"User\":\"a\\u0000b\"}")},
		{EINVAL, "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[\"x\"]}}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct oci_config c;
		struct err e;
		if (config_parse(&c, cases[i].text, strlen(cases[i].text), &e) != -cases[i].errnum)
			fail_msg("%s", cases[i].text);
		config_finish(&c);
	}
	/* As much as a request to the agent could not hold. */
	char *text = malloc(CONFIG_STRINGS_MAX + 1000), *at = text;
	at += sprintf(at, "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=");
	memset(at, 'x', CONFIG_STRINGS_MAX);
	strcpy(at + CONFIG_STRINGS_MAX, "\"]}}");
	struct oci_config c;
	struct err e;
	assert_int_equal(config_parse(&c, text, strlen(text), &e), -EINVAL);
	config_finish(&c);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_manifest),      cmocka_unit_test(test_what_is_no_manifest),
		cmocka_unit_test(test_too_many_layers), cmocka_unit_test(test_an_index),
		cmocka_unit_test(test_a_config),        cmocka_unit_test(test_what_is_no_config),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
