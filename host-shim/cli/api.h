/* tenond's REST API as the commands use it: one JSON call at a time over libcurl. */
#pragma once

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>

struct api {
	char *base;                 /* "http://127.0.0.1:8100/v1" */
	char *unix_socket;          /* instead of TCP; NULL: none */
	char *ca_file;              /* PEM, of those whose signature counts; NULL: the system's */
	struct curl_slist *headers; /* Authorization, if there is a key */
	struct curl_slist *json_headers;
	CURL *curl; /* kept, and with it the connection */
};

struct api_error {
	long status; /* of HTTP; 0: no answer came */
	int errnum;  /* of a command that did not start, in the guest */
	char message[768];
};

/* host: "http://ADDRESS:PORT", "https://ADDRESS:PORT", "unix:PATH" or NULL: $TENON_HOST, then
 * http://127.0.0.1:8100. key: NULL: $TENON_KEY, the first line of $TENON_KEY_FILE, or, for the default host
 * alone, the admin.key that a tenond of this user has made. Without any, none is sent. ca: a PEM file, NULL:
 * $TENON_CA_FILE, else what the system trusts. -1 with a message in e. */
int api_init(struct api *a, const char *host, const char *key, const char *ca, struct api_error *e);
void api_finish(struct api *a);
/* Where a tenond that this user started without --state keeps its admin key: the rule of its own options.c.
 * free() it; NULL: nowhere. */
char *api_own_key_path(bool root, const char *xdg_state, const char *home);
/* body is taken, NULL for none. The reply (an empty object if it has no body), to be released; NULL: e says
 * why. */
json_t *api_call(struct api *a, const char *method, json_t *body, struct api_error *e, const char *path, ...)
	__attribute__((format(printf, 5, 6)));
/* A handle for a transfer of the caller's own, set up like api_call's. */
CURL *api_handle(const struct api *a, const char *path);
/* s as one segment of a path; free() it. */
char *api_escape(const char *s);
/* Reads what went wrong from an error reply's body. */
void api_read_error(struct api_error *e, long status, const char *body, size_t len);
