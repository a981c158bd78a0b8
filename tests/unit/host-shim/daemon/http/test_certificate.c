/* Certificates: what loads, what is refused by its file's name, and what a session sees after a reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "certificates.h"
#include "host-shim/daemon/http/certificate.h"

/* What a session shows to a client that it shakes hands with. */
static void shown(gnutls_session_t server, char *out, size_t cap)
{
	gnutls_certificate_credentials_t none;
	gnutls_session_t client;
	gnutls_x509_crt_t c;
	gnutls_datum_t name;
	unsigned count;
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	gnutls_init(&client, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
	gnutls_certificate_allocate_credentials(&none);
	gnutls_credentials_set(client, GNUTLS_CRD_CERTIFICATE, none);
	gnutls_set_default_priority(client);
	gnutls_transport_set_int(client, pair[0]);
	gnutls_transport_set_int(server, pair[1]);
	for (int mine = -1, its = -1; mine != 0 || its != 0;) {
		mine = mine ? gnutls_handshake(client) : 0;
		its = its ? gnutls_handshake(server) : 0;
		assert_false((mine && gnutls_error_is_fatal(mine)) || (its && gnutls_error_is_fatal(its)));
	}
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(client, &count);
	assert_int_equal(count, 1);
	gnutls_x509_crt_init(&c);
	assert_int_equal(gnutls_x509_crt_import(c, chain, GNUTLS_X509_FMT_DER), 0);
	assert_int_equal(gnutls_x509_crt_get_dn2(c, &name), 0);
	snprintf(out, cap, "%s", name.data);
	gnutls_free(name.data);
	gnutls_x509_crt_deinit(c);
	gnutls_deinit(client);
	gnutls_certificate_free_credentials(none);
	close(pair[0]);
	close(pair[1]);
}

static void assert_shows(struct certificate *c, const char *wanted)
{
	char name[64];
	gnutls_session_t s = certificate_session(c, GNUTLS_NONBLOCK);
	shown(s, name, sizeof name);
	certificate_session_end(s);
	assert_string_equal(name, wanted);
}

static void loads_and_reloads(void **state)
{
	(void)state;
	struct certificate *c = NULL;
	struct err e = {0};
	char name[64];
	assert_int_equal(certificate_create(&c, cert, key, &e), 0);
	assert_shows(c, "CN=first");
	gnutls_session_t old = certificate_session(c, GNUTLS_NONBLOCK);
	for (int i = 0; i < 3; i++) {
		make_certificate(cert, key, i == 2 ? "last" : "next");
		assert_int_equal(certificate_reload(c, &e), 0);
	}
	assert_shows(c, "CN=last");
	/* What cannot be used changes nothing. */
	put(cert, "rubbish", 7);
	assert_int_equal(certificate_reload(c, &e), -EINVAL);
	assert_shows(c, "CN=last");
	certificate_destroy(c);
	certificate_destroy(NULL);
	/* A session keeps what it was made with. */
	shown(old, name, sizeof name);
	assert_string_equal(name, "CN=first");
	certificate_session_end(old);
	certificate_session_end(NULL);
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
		struct certificate *c = NULL;
		struct err e = {0};
		assert_int_equal(certificate_create(&c, bad[i].cert, bad[i].key, &e), bad[i].error);
		assert_null(c);
		if (!strstr(e.msg, bad[i].named))
			fail_msg("\"%s\" does not name %s", e.msg, bad[i].named);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(loads_and_reloads, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(bad_files_are_named, make_folder, remove_folder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
