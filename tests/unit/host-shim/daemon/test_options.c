/* tenond's command line: defaults, paths, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/options.h"
#include "proto/cleanup.h"

#define PARSE(o, e, ...)                                                             \
	({                                                                           \
		char *argv_[] = {"tenond", __VA_ARGS__ __VA_OPT__(, ) NULL};         \
		options_parse(o, (int)(sizeof argv_ / sizeof *argv_) - 1, argv_, e); \
	})

static void defaults(void **state)
{
	(void)state;
	struct options o;
	struct err e = {0};
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	setenv("XDG_STATE_HOME", "/home/x/.state", 1);
	assert_int_equal(PARSE(&o, &e), 0);
	assert_int_equal(o.n_listen, 1);
	assert_string_equal(o.listen[0], "127.0.0.1:8100");
	assert_string_equal(o.accel, "auto");
	assert_string_equal(o.machine, "q35");
	assert_string_equal(o.resolv_conf, "nameserver 10.0.2.3\nnameserver fec0::3\n");
	assert_string_equal(o.state_dir, geteuid() == 0 ? "/var/lib/tenon" : "/home/x/.state/tenon");
	assert_string_equal(o.runtime_base, "/run/user/7/tenon");
	/* All in one build folder, found from where this program lies. */
	size_t len = strlen(o.kernel) - strlen("/kernel/vmlinux");
	assert_string_equal(o.kernel + len, "/kernel/vmlinux");
	assert_memory_equal(o.initrd, o.kernel, len);
	assert_memory_equal(o.images_dir, o.kernel, len);
	assert_memory_equal(o.vmm_path, o.kernel, len);
	options_finish(&o);

	/* A relative directory there is none of ours. */
	setenv("XDG_RUNTIME_DIR", "here", 1);
	assert_int_equal(PARSE(&o, &e), 0);
	assert_int_equal(o.runtime_base[0], '/');
	options_finish(&o);
}

/* The default kernel, as a copy for the caller to free. */
static char *default_kernel(void)
{
	struct options o;
	struct err e = {0};
	assert_int_equal(PARSE(&o, &e), 0);
	char *path = strdup(o.kernel);
	options_finish(&o);
	return path;
}

static void the_small_kernel_is_used_where_it_is(void **state)
{
	(void)state;
	_cleanup_free_ char *packaged = default_kernel();
	char folder[PATH_MAX], small[PATH_MAX + 16];
	char *end = strrchr(packaged, '/');
	assert_null(strstr(packaged, "/small/"));

	snprintf(folder, sizeof folder, "%.*s", (int)(end - packaged), packaged);
	assert_true(mkdir(folder, 0755) == 0 || errno == EEXIST);
	snprintf(folder, sizeof folder, "%.*s/small", (int)(end - packaged), packaged);
	assert_true(mkdir(folder, 0755) == 0 || errno == EEXIST);
	snprintf(small, sizeof small, "%s/vmlinux", folder);
	close(open(small, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	_cleanup_free_ char *found = default_kernel();
	unlink(small);
	rmdir(folder);
	assert_string_equal(found, small);
}

static void given(void **state)
{
	(void)state;
	struct options o;
	struct err e = {0};
	assert_int_equal(PARSE(&o, &e, "--listen", "[::1]:0", "--listen=127.0.0.1:1", "--unix", "/u",
			       "--state", "rel", "--kernel", "/k", "--api-key-file", "key", "--no-auth",
			       "--accel", "kvm", "--machine", "microvm", "--dns", "9.9.9.9", "--dns",
			       "fd00::53", "--tls-cert", "c", "--tls-key", "k"),
			 0);
	assert_int_equal(o.n_listen, 2);
	assert_string_equal(o.listen[1], "127.0.0.1:1");
	assert_string_equal(o.unix_path, "/u");
	assert_int_equal(o.state_dir[0], '/');
	assert_string_equal(strrchr(o.state_dir, '/'), "/rel");
	assert_string_equal(o.kernel, "/k");
	assert_string_equal(o.machine, "microvm");
	assert_true(o.no_auth);
	assert_string_equal(o.tls_cert, "c");
	assert_string_equal(o.tls_key, "k");
	assert_string_equal(o.resolv_conf, "nameserver 9.9.9.9\nnameserver fd00::53\n");
	options_finish(&o);
	assert_int_equal(PARSE(&o, &e, "--unix", "/u"), 0);
	assert_int_equal(o.n_listen, 0);
	options_finish(&o);
	assert_int_equal(PARSE(&o, &e, "--help"), 0);
	assert_true(o.help);
	options_finish(&o);
}

static void refused(void **state)
{
	(void)state;
	static char *const bad[][3] = {
		{"--wrong", NULL, "--wrong"},
		{"--listen", NULL, "--listen"},
		{"stray", NULL, "stray"},
		{"--accel", "fast", "--accel fast"},
		{"--machine", "pc", "--machine pc"},
		{"--state", "", "path"},
		{"--dns", "dns.example", "--dns dns.example"},
		{"--dns", "9.9.9", "--dns 9.9.9:"},
		{"--dns", "127.0.0.53", "loopback"},
		{"--dns", "0.0.0.0", "loopback"},
		{"--dns", "::1", "loopback"},
		{"--dns", "fe80::1", "link"},
		{"--no-auth=yes", NULL, "--no-auth"},
		{"--tls-cert", "c", "--tls-key"},
		{"--tls-key", "k", "--tls-cert"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct options o;
		struct err e = {0};
		char *argv[] = {"tenond", bad[i][0], bad[i][1], NULL};
		assert_int_equal(options_parse(&o, bad[i][1] ? 3 : 2, argv, &e), -EINVAL);
		if (!strstr(e.msg, bad[i][2]))
			fail_msg("\"%s\" does not name %s", e.msg, bad[i][2]);
		options_finish(&o);
	}
	char *many[2 * OPTIONS_LISTEN_MAX + 4] = {"tenond"};
	for (int i = 0; i <= OPTIONS_LISTEN_MAX; i++) {
		many[2 * i + 1] = "--listen";
		many[2 * i + 2] = "127.0.0.1:0";
	}
	struct options o;
	struct err e = {0};
	assert_int_equal(options_parse(&o, 2 * OPTIONS_LISTEN_MAX + 3, many, &e), -EINVAL);
	options_finish(&o);
	assert_int_equal(PARSE(&o, &e, "--dns=1.1.1.1", "--dns=1.1.1.2", "--dns=1.1.1.3", "--dns=1.1.1.4"),
			 -EINVAL);
	assert_non_null(strstr(e.msg, "more than 3"));
	options_finish(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(the_small_kernel_is_used_where_it_is),
		cmocka_unit_test(given),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
