/* Certificates for tests of TLS, in a folder of their own. */
#pragma once

#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[32], cert[64], key[64], other_key[64]; /* the last belongs to no certificate */

static void put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

/* One that signs itself, of that name, and its key. cert_path NULL: the key alone. */
static void make_certificate(const char *cert_path, const char *key_path, const char *name)
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

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/tn-tls-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(cert, sizeof cert, "%s/cert", folder);
	snprintf(key, sizeof key, "%s/key", folder);
	snprintf(other_key, sizeof other_key, "%s/other", folder);
	make_certificate(cert, key, "first");
	make_certificate(NULL, other_key, "nobody");
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(cert);
	unlink(key);
	unlink(other_key);
	return rmdir(folder);
}
