#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host-shim/daemon/http/handshake.h"

static void accepts_as_the_rfc_says(void **state)
{
	(void)state;
	char out[HANDSHAKE_ACCEPT_SIZE];
	handshake_accept("dGhlIHNhbXBsZSBub25jZQ==", out); /* RFC 6455 §1.3 */
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void a_key_is_sixteen_bytes(void **state)
{
	(void)state;
	assert_true(handshake_key_is_valid("dGhlIHNhbXBsZSBub25jZQ=="));
	static const char *const bad[] = {"",
					  "x",
					  "dGhlIHNhbXBsZSBub25jZQ=",
					  "dGhlIHNhbXBsZSBub25jZWE=", /* 17 bytes */
					  "dGhlIHNhbXBsZSBub25j!Q==",
					  "dGhlIHNhbXBsZSBub25jZQ==="};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(handshake_key_is_valid(bad[i]));
}

static void finds_tokens(void **state)
{
	(void)state;
	assert_true(handshake_has_token("Upgrade", "upgrade"));
	assert_true(handshake_has_token("keep-alive, Upgrade", "upgrade"));
	assert_true(handshake_has_token(" ,UPGRADE ,x", "upgrade"));
	assert_false(handshake_has_token("", "upgrade"));
	assert_false(handshake_has_token("upgrades", "upgrade"));
	assert_false(handshake_has_token("keep-alive, up", "upgrade"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_as_the_rfc_says),
		cmocka_unit_test(a_key_is_sixteen_bytes),
		cmocka_unit_test(finds_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
