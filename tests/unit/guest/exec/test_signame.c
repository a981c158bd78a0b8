/* Signals by name. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/signame.h"

static int parse(const char *name)
{
	return signame_parse((const uint8_t *)name, strlen(name));
}

static void names_in_any_form(void **state)
{
	(void)state;
	assert_int_equal(parse("TERM"), SIGTERM);
	assert_int_equal(parse("SIGTERM"), SIGTERM);
	assert_int_equal(parse("sigTerm"), SIGTERM);
	assert_int_equal(parse("hup"), SIGHUP);
	assert_int_equal(parse("SIGVTALRM"), SIGVTALRM);
	assert_int_equal(parse("IOT"), SIGABRT);
	assert_int_equal(parse("CLD"), SIGCHLD);
	assert_int_equal(parse("POLL"), SIGIO);
	assert_int_equal(parse("SYS"), 31);
}

/* The system's own names, so that none is missing and none is another's. */
static void all_that_the_system_knows(void **state)
{
	(void)state;
	for (int signo = 1; signo < 32; signo++)
		assert_int_equal(parse(sigabbrev_np(signo)), signo);
}

static void realtime(void **state)
{
	(void)state;
	assert_int_equal(parse("RTMIN"), 34);
	assert_int_equal(parse("SIGRTMIN+3"), 37);
	assert_int_equal(parse("rtmin+0"), 34);
	assert_int_equal(parse("RTMIN+30"), 64);
	assert_int_equal(parse("RTMAX"), 64);
	assert_int_equal(parse("RTMAX-30"), 34);
	static const char *const bad[] = {"RTMIN+31", "RTMIN+",  "RTMIN-1",  "RTMAX+1", "RTMAX-31",
					  "RTMIN+03", "RTMIN+x", "RTMIN+3x", "RTMIN 3", "RTMIN+100"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(parse(bad[i]), -EINVAL);
}

static void all_else_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"",      "SIG",   "15",
					  "TER",   "TERMS", "SIGSIGTERM",
					  " TERM", "TERM ", "a name that is far too long to be one"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(parse(bad[i]), -EINVAL);
	assert_int_equal(signame_parse((const uint8_t *)"TERM\0", 5), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_in_any_form),
		cmocka_unit_test(all_that_the_system_knows),
		cmocka_unit_test(realtime),
		cmocka_unit_test(all_else_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
