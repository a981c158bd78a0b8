/* tenond's command line, and where it finds what it was not told. */
#pragma once

#include <stdbool.h>

#include "proto/err.h"

#define OPTIONS_LISTEN_MAX 16
#define OPTIONS_DNS_MAX 3 /* resolv.conf(5) */

struct options {
	const char *listen[OPTIONS_LISTEN_MAX]; /* ADDR:PORT */
	unsigned n_listen;
	const char *unix_path, *api_key_file; /* NULL: none */
	const char *tls_cert, *tls_key;       /* both or NULL */
	unsigned pull_stall_ms;               /* 0: the default */
	bool no_auth, help, version;
	const char *accel, *machine;
	char resolv_conf[256]; /* of boxes with a network */
	unsigned n_dns;
	/* Absolute, owned. */
	char *state_dir, *runtime_base;
	char *kernel, *initrd, *images_dir, *vmm_path, *flatten_path;
	char *registry_auth; /* NULL: none */
};

extern const char options_usage[];

/* Parses argv, whose strings must outlive *o, and fills in what it leaves open: 127.0.0.1:8100 if there is no
 * listener, and paths from the environment and from where this binary lies. -EINVAL names the option. Finish
 * *o in any case. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_finish(struct options *o);
