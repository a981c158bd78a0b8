#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/boxes/ulid.h"

static void known_values(void **state)
{
	(void)state;
	char id[ULID_LENGTH + 1];
	uint8_t random[10] = {0};
	ulid_format(id, 0, random);
	assert_string_equal(id, "00000000000000000000000000");
	memset(random, 0xff, sizeof random);
	ulid_format(id, (UINT64_C(1) << 48) - 1, random);
	assert_string_equal(id, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
	memcpy(random, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09", 10);
	ulid_format(id, 1469918176385, random);
	assert_string_equal(id, "01ARYZ6S41000G40R40M30E209");
}

static void sorts_by_time(void **state)
{
	(void)state;
	char a[ULID_LENGTH + 1], b[ULID_LENGTH + 1];
	uint8_t low[10] = {0}, high[10];
	memset(high, 0xff, sizeof high);
	for (int bit = 0; bit < 47; bit++) {
		ulid_format(a, UINT64_C(1) << bit, high);
		ulid_format(b, (UINT64_C(1) << bit) + 1, low);
		assert_true(strcmp(a, b) < 0);
	}
}

static void made_ones_differ(void **state)
{
	(void)state;
	char a[ULID_LENGTH + 1], b[ULID_LENGTH + 1];
	ulid_make(a);
	ulid_make(b);
	assert_int_equal(strlen(a), ULID_LENGTH);
	assert_int_equal(strspn(a, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), ULID_LENGTH);
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(sorts_by_time),
		cmocka_unit_test(made_ones_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
