/* Certificates: what loads, what is refused by its file's name, and what a session sees after a reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host-shim/daemon/http/tls.h"

static char folder[32], cert[64], key[64], other_key[64];

static void put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void make(const char *cert_path, const char *key_path, const char *name)
{
	gnutls_x509_privkey_t k;
	gnutls_x509_crt_t c;
	static unsigned char pem[16384];
	size_t len = sizeof pem;
	gnutls_x509_privkey_init(&k);
	gnutls_x509_crt_init(&c);
	assert_int_equal(gnutls_x509_privkey_generate(k, GNUTLS_PK_ECDSA,
						      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
			 0);
	gnutls_x509_crt_set_version(c, 3);
	gnutls_x509_crt_set_serial(c, "\1", 1);
	gnutls_x509_crt_set_activation_time(c, time(NULL) - 60);
	gnutls_x509_crt_set_expiration_time(c, time(NULL) + 3600);
	gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name));
	gnutls_x509_crt_set_key(c, k);
	assert_int_equal(gnutls_x509_crt_sign2(c, c, k, GNUTLS_DIG_SHA256, 0), 0);
	if (cert_path) {
		assert_int_equal(gnutls_x509_crt_export(c, GNUTLS_X509_FMT_PEM, pem, &len), 0);
		put(cert_path, pem, len);
	}
	len = sizeof pem;
	assert_int_equal(gnutls_x509_privkey_export(k, GNUTLS_X509_FMT_PEM, pem, &len), 0);
	put(key_path, pem, len);
	gnutls_x509_crt_deinit(c);
	gnutls_x509_privkey_deinit(k);
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/tn-tls-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(cert, sizeof cert, "%s/cert", folder);
	snprintf(key, sizeof key, "%s/key", folder);
	snprintf(other_key, sizeof other_key, "%s/other", folder);
	make(cert, key, "first");
	make(NULL, other_key, "nobody");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(cert);
	unlink(key);
	unlink(other_key);
	return rmdir(folder);
}

/* The first certificate that a new session is shown. */
static void shown(struct tls *t, char *out, size_t cap)
{
	gnutls_session_t session;
	gnutls_pcert_st *chain;
	gnutls_privkey_t with;
	unsigned count;
	gnutls_datum_t name;
	gnutls_x509_crt_t c;
	gnutls_init(&session, GNUTLS_SERVER);
	tls_take(t, session);
	assert_int_equal(tls_choose(session, NULL, 0, NULL, 0, &chain, &count, &with), 0);
	assert_int_equal(count, 1);
	assert_non_null(with);
	gnutls_x509_crt_init(&c);
	assert_int_equal(gnutls_x509_crt_import(c, &chain->cert, GNUTLS_X509_FMT_DER), 0);
	assert_int_equal(gnutls_x509_crt_get_dn2(c, &name), 0);
	snprintf(out, cap, "%s", name.data);
	gnutls_free(name.data);
	gnutls_x509_crt_deinit(c);
	gnutls_deinit(session);
}

static void loads_and_reloads(void **state)
{
	(void)state;
	struct tls *t = NULL;
	struct err e = {0};
	char name[64];
	assert_int_equal(tls_create(&t, cert, key, &e), 0);
	shown(t, name, sizeof name);
	assert_string_equal(name, "CN=first");
	for (int i = 0; i < 3; i++) {
		make(cert, key, i == 2 ? "last" : "next");
		assert_int_equal(tls_reload(t, &e), 0);
	}
	shown(t, name, sizeof name);
	assert_string_equal(name, "CN=last");
	/* What cannot be used changes nothing. */
	put(cert, "rubbish", 7);
	assert_int_equal(tls_reload(t, &e), -EINVAL);
	shown(t, name, sizeof name);
	assert_string_equal(name, "CN=last");
	tls_destroy(t);
	tls_destroy(NULL);
}

static void bad_files_are_named(void **state)
{
	(void)state;
	struct {
		const char *cert, *key, *named;
		int error;
	} bad[] = {
		{"/nonexistent/cert", key, "/nonexistent/cert", -ENOENT},
		{cert, "/nonexistent/key", "/nonexistent/key", -ENOENT},
		{folder, key, folder, -EINVAL},
		{"/dev/null", key, "/dev/null", -EINVAL},
		{cert, cert, cert, -EINVAL},
		{key, key, key, -EINVAL},
		{cert, other_key, other_key, -EINVAL},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tls *t = NULL;
		struct err e = {0};
		assert_int_equal(tls_create(&t, bad[i].cert, bad[i].key, &e), bad[i].error);
		assert_null(t);
		if (!strstr(e.msg, bad[i].named))
			fail_msg("\"%s\" does not name %s", e.msg, bad[i].named);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(loads_and_reloads, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_files_are_named, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
