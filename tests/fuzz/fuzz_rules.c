/* Seccomp rules of a hostile host: what passes the check can be handed to libseccomp, whatever it makes of
 * it. */
#include <fcntl.h>
#include <unistd.h>

#include "guest/exec/rules.h"

/* libseccomp 2.5.4 leaks a rule that it refuses. The worker that it runs in ends with the filter. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct fault f;
	struct err e;
	Tenon__SeccompRules *rules = tenon__seccomp_rules__unpack(NULL, n, data);
	if (!rules)
		return 0;
	if (rules_check(rules, &f) == 0) {
		int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		rules_build(rules, fd, &e);
		close(fd);
	}
	tenon__seccomp_rules__free_unpacked(rules, NULL);
	return 0;
}
