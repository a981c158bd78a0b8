#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/daemon/http/fields.h"

static struct fields parse(const char *text)
{
	struct fields f;
	fields_parse(&f, text, strlen(text));
	return f;
}

static void assert_fault(struct fields *f, const char *field, const char *part)
{
	assert_false(fields_done(f));
	assert_string_equal(f->field, field);
	assert_non_null(strstr(f->problem, part));
	fields_finish(f);
}

static void names_the_place_of_malformed_text(void **state)
{
	(void)state;
	struct fields f = parse("{\"a\": 1,\n\n  \"b\": tru }");
	assert_fault(&f, "", "line 3, column 10");
	f = parse("[1]");
	assert_fault(&f, "", "object");
	f = parse("{\"a\":1,\"a\":2}");
	assert_fault(&f, "", "line 1");
	fields_parse(&f, "{\"a\":\"\xff\"}", 9);
	assert_fault(&f, "", "line 1");
	fields_parse(&f, "{}\0", 3);
	assert_false(fields_done(&f));
	fields_finish(&f);
}

static void an_empty_body_is_an_empty_object(void **state)
{
	(void)state;
	struct fields f = parse("");
	assert_int_equal(fields_int(&f, "n", 1, 5, 3), 3);
	assert_true(fields_done(&f));
	fields_finish(&f);
}

static void reads_each_type(void **state)
{
	(void)state;
	struct fields f =
		parse("{\"s\":\"text\",\"b\":true,\"i\":-4,\"n\":1.5,\"o\":{},\"a\":[],\"x\":null,\"m\":2}");
	assert_string_equal(fields_string(&f, "s", 1, 10), "text");
	assert_true(fields_bool(&f, "b", false));
	assert_int_equal(fields_int(&f, "i", -4, -4, 0), -4);
	assert_true(fields_number(&f, "n", 0, 2, 0) == 1.5);
	assert_true(fields_number(&f, "m", 0, 2, 0) == 2);
	assert_non_null(fields_object(&f, "o"));
	assert_non_null(fields_array(&f, "a"));
	assert_null(fields_string(&f, "x", 1, 1));
	assert_true(fields_bool(&f, "absent", true));
	assert_true(fields_done(&f));
	fields_finish(&f);
}

static void names_wrong_types_and_ranges(void **state)
{
	(void)state;
	struct fields f = parse("{\"s\":5}");
	assert_null(fields_string(&f, "s", 0, 10));
	assert_fault(&f, "s", "string");
	f = parse("{\"s\":\"abc\"}");
	assert_null(fields_string(&f, "s", 0, 2));
	assert_fault(&f, "s", "0 to 2 bytes");
	f = parse("{\"i\":1.0}");
	fields_int(&f, "i", 0, 5, 0);
	assert_fault(&f, "i", "integer");
	f = parse("{\"i\":6}");
	assert_int_equal(fields_int(&f, "i", 0, 5, 1), 1);
	assert_fault(&f, "i", "between 0 and 5, not 6");
	f = parse("{\"b\":0}");
	fields_bool(&f, "b", true);
	assert_fault(&f, "b", "true or false");
	f = parse("{\"n\":1e308}");
	fields_number(&f, "n", 0, 5, 0);
	assert_fault(&f, "n", "between 0 and 5");
	f = parse("{\"c\":\"x\"}");
	fields_choice(&f, "c", "y", "z");
	assert_fault(&f, "c", "\"y\" or \"z\"");
}

static void the_first_fault_stays(void **state)
{
	(void)state;
	struct fields f = parse("{\"a\":1,\"b\":1,\"c\":1}");
	fields_string(&f, "a", 0, 1);
	fields_string(&f, "b", 0, 1);
	assert_fault(&f, "a", "string");
}

static void names_unknown_members(void **state)
{
	(void)state;
	struct fields f = parse("{\"known\":1,\"other\":2}");
	fields_int(&f, "known", 0, 5, 0);
	assert_fault(&f, "other", "known field");
	f = parse("{\"a\\u0001\\u00e9\":2}");
	assert_fault(&f, "a???", "known field");
	f = parse("{\"nothing\":null}");
	assert_true(fields_done(&f));
	fields_finish(&f);
}

static void nested_names_have_their_path(void **state)
{
	(void)state;
	struct fields f = parse("{\"network\":{\"mode\":3}}"), n;
	fields_open(&n, fields_object(&f, "network"), "network.");
	fields_string(&n, "mode", 0, 9);
	fields_close(&f, &n);
	assert_fault(&f, "network.mode", "string");
	f = parse("{\"network\":{\"x\":3}}");
	fields_open(&n, fields_object(&f, "network"), "network.");
	fields_close(&f, &n);
	assert_fault(&f, "network.x", "known field");
	f = parse("{\"network\":{\"x\":3}}");
	fields_open(&n, fields_object(&f, "network"), "network.");
	fields_any(&n, "x");
	fields_refuse(&n, "x", "is not built");
	fields_close(&f, &n);
	assert_true(f.unsupported);
	assert_fault(&f, "network.x", "not built");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_place_of_malformed_text),
		cmocka_unit_test(an_empty_body_is_an_empty_object),
		cmocka_unit_test(reads_each_type),
		cmocka_unit_test(names_wrong_types_and_ranges),
		cmocka_unit_test(the_first_fault_stays),
		cmocka_unit_test(names_unknown_members),
		cmocka_unit_test(nested_names_have_their_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
