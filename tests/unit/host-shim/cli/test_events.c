#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/cli/events.h"

static char seen[1024];

static bool note(void *arg, const char *name, uint64_t id, char *data)
{
	size_t used = strlen(seen);
	snprintf(seen + used, sizeof seen - used, "%s/%llu/%s;", name, (unsigned long long)id, data);
	return arg == NULL || strcmp(name, arg) != 0;
}

static const char stream[] = ":\n\nevent: stdout\nid: 5\ndata: {\"data\":\"a\"}\n\n: wait\n\n"
			     "event: stderr\r\nid: 18446744073709551615\r\ndata:x\r\n\r\nretry: 5\n\nevent: "
			     "exit\nid: 9\ndata: {}\n\n";
static const char expected[] = "stdout/5/{\"data\":\"a\"};stderr/18446744073709551615/x;exit/9/{};";

static void any_pieces_give_the_same_events(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < sizeof stream; piece++) {
		struct events e = {0};
		seen[0] = '\0';
		for (size_t at = 0; at < sizeof stream - 1; at += piece) {
			size_t n = sizeof stream - 1 - at;
			assert_true(events_feed(&e, stream + at, n < piece ? n : piece, note, NULL));
		}
		assert_string_equal(seen, expected);
		events_finish(&e);
	}
}

static void stops_when_told(void **state)
{
	(void)state;
	struct events e = {0};
	seen[0] = '\0';
	assert_false(events_feed(&e, stream, sizeof stream - 1, note, "stdout"));
	assert_string_equal(seen, "stdout/5/{\"data\":\"a\"};");
	events_finish(&e);
}

static void half_an_event_is_forgotten(void **state)
{
	(void)state;
	struct events e = {0};
	static const char half[] = "event: stdout\nid: 7\ndata: lost\n";
	static const char rest[] = "data: new\n\n";
	seen[0] = '\0';
	assert_true(events_feed(&e, half, sizeof half - 1, note, NULL));
	events_reset(&e);
	assert_true(events_feed(&e, rest, sizeof rest - 1, note, NULL));
	assert_string_equal(seen, "/7/new;");
	events_finish(&e);
}

static void a_line_without_end_is_refused(void **state)
{
	(void)state;
	struct events e = {0};
	char *much = malloc(EVENTS_LINE_MAX);
	memset(much, 'x', EVENTS_LINE_MAX);
	assert_false(events_feed(&e, much, EVENTS_LINE_MAX, note, NULL));
	free(much);
	events_finish(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_pieces_give_the_same_events),
		cmocka_unit_test(stops_when_told),
		cmocka_unit_test(half_an_event_is_forgotten),
		cmocka_unit_test(a_line_without_end_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
