#include "pull.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "events.h"
#include "proto/cleanup.h"

#define ERROR_MAX 4096
#define SILENCE_SECONDS 60L /* tenond sends a comment every 15 */

struct following {
	CURL *curl;
	struct events events;
	struct api_error *error;
	json_t *image;
	int in;
	bool failed, shown;
	char text[ERROR_MAX]; /* of a reply that is no stream */
	size_t len;
};

static void show(struct following *f, const json_t *o)
{
	if (!isatty(STDERR_FILENO))
		return;
	const char *phase = json_string_value(json_object_get(o, "phase"));
	fprintf(stderr, "\r\033[K%s", phase ? phase : "");
	if (json_integer_value(json_object_get(o, "bytes_total")))
		fprintf(stderr, ": %lld of %lld layers, %.1f of %.1f MB",
			(long long)json_integer_value(json_object_get(o, "layers")),
			(long long)json_integer_value(json_object_get(o, "layers_total")),
			(double)json_integer_value(json_object_get(o, "bytes")) / 1e6,
			(double)json_integer_value(json_object_get(o, "bytes_total")) / 1e6);
	f->shown = true;
}

static bool on_event(void *arg, const char *name, uint64_t id, char *data)
{
	struct following *f = arg;
	json_t *o = json_loads(data, 0, NULL);
	(void)id;
	if (strcmp(name, "progress") == 0) {
		show(f, o);
	} else if (strcmp(name, "done") == 0) {
		json_decref(f->image);
		f->image = json_incref(o);
	} else if (strcmp(name, "error") == 0) {
		const char *message = json_string_value(json_object_get(o, "message"));
		snprintf(f->error->message, sizeof f->error->message, "%s", message ? message : "it failed");
		f->failed = true;
	}
	json_decref(o);
	return true;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct following *f = arg;
	long status = 0;
	size_t n = size * count;
	curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200)
		return events_feed(&f->events, bytes, n, on_event, f) ? n : 0;
	size_t keep = n < ERROR_MAX - f->len ? n : ERROR_MAX - f->len;
	memcpy(f->text + f->len, bytes, keep);
	f->len += keep;
	return n;
}

static size_t on_room(char *out, size_t size, size_t count, void *arg)
{
	const struct following *f = arg;
	ssize_t n;
	do
		n = read(f->in, out, size * count);
	while (n < 0 && errno == EINTR);
	return n < 0 ? CURL_READFUNC_ABORT : (size_t)n;
}

static void perform(const struct api *a, struct following *f)
{
	long status = 0;
	CURLcode code = curl_easy_perform(f->curl);
	curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
	if (f->shown)
		fputs("\r\033[K", stderr);
	if (f->image || f->failed)
		return;
	if (code != CURLE_OK)
		snprintf(f->error->message, sizeof f->error->message, "the daemon at %s: %s", a->base,
			 curl_easy_strerror(code));
	else if (status != 200)
		api_read_error(f->error, status, f->text, f->len);
	else
		snprintf(f->error->message, sizeof f->error->message, "the daemon ended before it was done");
}

json_t *pull_follow(const struct api *a, const char *path, json_t *body, int in, struct api_error *e)
{
	struct following f = {.curl = api_handle(a, path), .error = e, .in = in};
	struct curl_slist *headers = curl_slist_append(NULL, "Accept: text/event-stream");
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	*e = (struct api_error){0};
	if (f.curl && headers && (text || !body)) {
		for (const struct curl_slist *h = body ? a->json_headers : a->headers; h; h = h->next)
			headers = curl_slist_append(headers, h->data);
		curl_easy_setopt(f.curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(f.curl, CURLOPT_WRITEFUNCTION, on_bytes);
		curl_easy_setopt(f.curl, CURLOPT_WRITEDATA, &f);
		curl_easy_setopt(f.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(f.curl, CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);
		curl_easy_setopt(f.curl, CURLOPT_CUSTOMREQUEST, "POST");
		if (body) {
			curl_easy_setopt(f.curl, CURLOPT_POSTFIELDS, text);
		} else {
			curl_easy_setopt(f.curl, CURLOPT_UPLOAD, 1L);
			curl_easy_setopt(f.curl, CURLOPT_READFUNCTION, on_room);
			curl_easy_setopt(f.curl, CURLOPT_READDATA, &f);
		}
		perform(a, &f);
	} else {
		snprintf(e->message, sizeof e->message, "what was given is not UTF-8 text");
	}
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	json_decref(body);
	curl_slist_free_all(headers);
	curl_easy_cleanup(f.curl);
	events_finish(&f.events);
	return f.image;
}

int pull_if_missing(struct api *a, const char *image)
{
	struct api_error e;
	_cleanup_free_ char *segment = api_escape(image);
	json_t *there = segment ? api_call(a, "GET", NULL, &e, "/images/%s", segment) : NULL;
	if (segment && !there && e.status == 404)
		there = pull_follow(a, "/images/pull", json_pack("{s:s}", "reference", image), -1, &e);
	/* A key that may make boxes and see no images: making the box fetches it. */
	int code =
		there || (segment && e.status == 403) ? 0 : complain("%s", segment ? e.message : "no memory");
	json_decref(there);
	return code;
}
