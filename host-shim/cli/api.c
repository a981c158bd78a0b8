#include "api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define CONNECT_SECONDS 10L
#define CALL_SECONDS 300L /* a start may pull and boot */
#define REPLY_MAX (16u << 20)

struct reply {
	char *text;
	size_t len;
};

/* ---- where, and with which key ---- */

static char *first_line(const char *path)
{
	char line[512];
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof line, f))
		return NULL;
	line[strcspn(line, "\r\n")] = '\0';
	return strdup(line);
}

char *api_own_key_path(bool root, const char *xdg_state, const char *home)
{
	char *path = NULL;
	int n = 0;
	if (root)
		n = asprintf(&path, "/var/lib/tenon/admin.key");
	else if (xdg_state && *xdg_state == '/')
		n = asprintf(&path, "%s/tenon/admin.key", xdg_state);
	else if (home && *home == '/')
		n = asprintf(&path, "%s/.local/state/tenon/admin.key", home);
	return n < 0 ? NULL : path;
}

static char *own_key(void)
{
	_cleanup_free_ char *path =
		api_own_key_path(geteuid() == 0, getenv("XDG_STATE_HOME"), getenv("HOME"));
	return path ? first_line(path) : NULL;
}

static char *find_key(const char *key, bool default_host)
{
	if (!key)
		key = getenv("TENON_KEY");
	if (key)
		return strdup(key);
	if (getenv("TENON_KEY_FILE"))
		return first_line(getenv("TENON_KEY_FILE"));
	/* Never to a host that was merely named: it might be another machine's. */
	return default_host ? own_key() : NULL;
}

int api_init(struct api *a, const char *host, const char *key, const char *ca, struct api_error *e)
{
	*a = (struct api){0};
	*e = (struct api_error){0};
	if (!host)
		host = getenv("TENON_HOST");
	_cleanup_free_ char *secret = find_key(key, !host);
	if (!host)
		host = "http://127.0.0.1:8100";
	if (!ca)
		ca = getenv("TENON_CA_FILE");
	if (strncmp(host, "unix:", 5) == 0) {
		a->unix_socket = strdup(host + 5);
		host = "http://localhost";
	} else if (strncmp(host, "http://", 7) != 0 && strncmp(host, "https://", 8) != 0) {
		snprintf(e->message, sizeof e->message,
			 "%s is neither http://ADDRESS:PORT, https://ADDRESS:PORT nor unix:PATH", host);
		return -1;
	}
	size_t len = strlen(host);
	while (len && host[len - 1] == '/')
		len--;
	_cleanup_free_ char *line = NULL;
	if (asprintf(&a->base, "%.*s/v1", (int)len, host) < 0 || (ca && !(a->ca_file = strdup(ca))) ||
	    (secret && asprintf(&line, "Authorization: Bearer %s", secret) < 0) ||
	    !(a->curl = curl_easy_init())) {
		snprintf(e->message, sizeof e->message, "no memory");
		api_finish(a);
		return -1;
	}
	if (line) {
		a->headers = curl_slist_append(NULL, line);
		a->json_headers = curl_slist_append(NULL, line);
		explicit_bzero(line, strlen(line));
		explicit_bzero(secret, strlen(secret));
	}
	a->json_headers = curl_slist_append(a->json_headers, "Content-Type: application/json");
	a->json_headers = curl_slist_append(a->json_headers, "Expect:");
	return 0;
}

void api_finish(struct api *a)
{
	curl_easy_cleanup(a->curl);
	curl_slist_free_all(a->headers);
	curl_slist_free_all(a->json_headers);
	free(a->base);
	free(a->unix_socket);
	free(a->ca_file);
}

/* ---- calls ---- */

static size_t keep(char *data, size_t size, size_t count, void *arg)
{
	struct reply *r = arg;
	size_t n = size * count;
	char *text = r->len + n < REPLY_MAX ? realloc(r->text, r->len + n + 1) : NULL;
	if (!text)
		return 0;
	memcpy(text + r->len, data, n);
	r->text = text;
	r->len += n;
	r->text[r->len] = '\0';
	return n;
}

static void set_up(const struct api *a, CURL *c, const char *path)
{
	_cleanup_free_ char *url = NULL;
	if (asprintf(&url, "%s%s", a->base, path) < 0)
		return;
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, a->headers);
	curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, a->unix_socket);
	if (a->ca_file)
		curl_easy_setopt(c, CURLOPT_CAINFO, a->ca_file);
	/* A proxy for the outside world is no way to this machine. */
	const char *authority = strstr(a->base, "://") + 3;
	if (strncmp(authority, "127.", 4) == 0 || strncmp(authority, "localhost", 9) == 0 ||
	    strncmp(authority, "[::1]", 5) == 0)
		curl_easy_setopt(c, CURLOPT_PROXY, "");
}

CURL *api_handle(const struct api *a, const char *path)
{
	CURL *c = curl_easy_init();
	if (c)
		set_up(a, c, path);
	return c;
}

void api_read_error(struct api_error *e, long status, const char *body, size_t len)
{
	json_t *reply = json_loadb(body ? body : "", len, 0, NULL);
	json_t *error = json_object_get(reply, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	*e = (struct api_error){.status = status};
	e->errnum = (int)json_integer_value(json_object_get(error, "errno"));
	if (message)
		snprintf(e->message, sizeof e->message, "%s", message);
	else
		snprintf(e->message, sizeof e->message, "the daemon answered HTTP %ld", status);
	json_decref(reply);
}

static json_t *read_reply(struct api *a, CURLcode code, const struct reply *r, struct api_error *e)
{
	if (code != CURLE_OK) {
		snprintf(e->message, sizeof e->message, "cannot reach the daemon at %s: %s%s", a->base,
			 curl_easy_strerror(code),
			 code == CURLE_PEER_FAILED_VERIFICATION && !a->ca_file
				 ? "; --cacert names the file of who signed its certificate"
				 : "");
		return NULL;
	}
	long status = 0;
	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299) {
		api_read_error(e, status, r->text, r->len);
		return NULL;
	}
	json_t *answer = r->len ? json_loadb(r->text, r->len, 0, NULL) : json_object();
	if (!answer)
		snprintf(e->message, sizeof e->message, "the daemon's answer is not JSON");
	return answer;
}

json_t *api_call(struct api *a, const char *method, json_t *body, struct api_error *e, const char *path, ...)
{
	_cleanup_free_ char *where = NULL, *text = NULL;
	struct reply reply = {0};
	va_list ap;
	va_start(ap, path);
	int n = vasprintf(&where, path, ap);
	va_end(ap);
	text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	*e = (struct api_error){0};
	if (n < 0 || (body && !text)) {
		snprintf(e->message, sizeof e->message, "what was given is not UTF-8 text");
		return NULL;
	}
	curl_easy_reset(a->curl);
	set_up(a, a->curl, where);
	curl_easy_setopt(a->curl, CURLOPT_TIMEOUT, CALL_SECONDS);
	curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, keep);
	curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, &reply);
	if (strcmp(method, "GET") != 0) {
		curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, text ? text : "");
		curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, a->json_headers);
		curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, method);
	}
	json_t *answer = read_reply(a, curl_easy_perform(a->curl), &reply, e);
	free(reply.text);
	return answer;
}

char *api_escape(const char *s)
{
	char *escaped = curl_easy_escape(NULL, s, 0);
	char *copy = escaped ? strdup(escaped) : NULL;
	curl_free(escaped);
	return copy;
}
