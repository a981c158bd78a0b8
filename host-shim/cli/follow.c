#include "follow.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <nettle/base64.h>

#include "events.h"
#include "proto/cleanup.h"
#include "proto/clock.h"
#include "terminal.h"

#define PIECE (64u << 10) /* of stdin, for one POST */
#define SILENT_MS 60000   /* tenond says something every 15 s */
#define LOST_MS 120000    /* without a stream for so long: give up */
#define RETRY_MS 250

struct follow {
	struct api *api;
	const char *path;
	CURLM *multi;
	CURL *output, *input;
	struct curl_slist *output_headers, *input_headers;
	struct events events;
	uint64_t position; /* all before it was written */
	int code;          /* -1 until the exit event */
	bool broken_pipe;  /* our own stdout or stderr is gone */
	bool with_stdin, stdin_ended;
	bool tty;
	unsigned interrupts;
	int64_t lost_ms, retry_ms; /* 0: the stream stands */
	int64_t heard_ms;          /* when the stream was opened, or anything last came */
	char piece[PIECE];
	char error_body[4096];
	size_t error_len;
	struct api_error *e;
	bool failed; /* *e is set */
};

static void fail(struct follow *f, const char *message)
{
	*f->e = (struct api_error){0};
	snprintf(f->e->message, sizeof f->e->message, "%s", message);
	f->failed = true;
}

/* ---- output ---- */

static bool write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EAGAIN)
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		else if (n < 0 && errno != EINTR)
			return false;
		else if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static void print(struct follow *f, int fd, json_t *data)
{
	const char *text = json_string_value(json_object_get(data, "data"));
	size_t len = text ? json_string_length(json_object_get(data, "data")) : 0;
	size_t size = BASE64_DECODE_LENGTH(len);
	_cleanup_free_ uint8_t *bytes = malloc(size + 1);
	struct base64_decode_ctx c;
	base64_decode_init(&c);
	if (!bytes || !base64_decode_update(&c, &size, bytes, len, text ? text : "") ||
	    !base64_decode_final(&c)) {
		fail(f, "the daemon sent output that is not base64");
		return;
	}
	if (!f->broken_pipe && !write_all(fd, bytes, size)) {
		/* Nobody reads on: like a command in a pipe, this one ends. */
		f->broken_pipe = true;
		struct api_error ignored;
		json_decref(api_call(f->api, "DELETE", NULL, &ignored, "%s", f->path));
	}
}

static void take_exit(struct follow *f, json_t *data)
{
	const char *error = json_string_value(json_object_get(data, "error"));
	int code = (int)json_integer_value(json_object_get(data, "exit_code"));
	/* -1 with a reason: the box ended, and nobody knows how the command would have. Else -N is signal N.
	 */
	if (code == -1 && error) {
		fail(f, error);
		return;
	}
	f->code = f->broken_pipe ? 128 + SIGPIPE : code < 0 ? 128 - code : code & 255;
}

static bool on_event(void *arg, const char *name, uint64_t id, char *text)
{
	struct follow *f = arg;
	json_t *data = json_loads(text, 0, NULL);
	if (strcmp(name, "stdout") == 0)
		print(f, STDOUT_FILENO, data);
	else if (strcmp(name, "stderr") == 0)
		print(f, STDERR_FILENO, data);
	else if (strcmp(name, "exit") == 0)
		take_exit(f, data);
	else if (strcmp(name, "gap") == 0)
		fprintf(stderr, "tenon: output was lost: bytes %lld to %lld\n",
			(long long)json_integer_value(json_object_get(data, "from")),
			(long long)json_integer_value(json_object_get(data, "to")));
	else if (strcmp(name, "error") == 0)
		fail(f, json_is_string(json_object_get(data, "message"))
				? json_string_value(json_object_get(data, "message"))
				: "the output cannot be read");
	json_decref(data);
	f->position = id;
	return !f->failed && f->code < 0;
}

static size_t on_output(char *bytes, size_t size, size_t count, void *arg)
{
	struct follow *f = arg;
	size_t n = size * count;
	long status = 0;
	curl_easy_getinfo(f->output, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200) {
		/* A comment counts, too: it is all that a quiet command's stream has, and it may outlast many
		 * restarts. */
		f->heard_ms = (int64_t)clock_ms(CLOCK_MONOTONIC);
		f->lost_ms = 0;
		/* Stopping after the exit event shows as a short count; the caller looks at code and failed.
		 */
		return events_feed(&f->events, bytes, n, on_event, f) ? n : 0;
	}
	size_t keep = n < sizeof f->error_body - f->error_len ? n : sizeof f->error_body - f->error_len;
	memcpy(f->error_body + f->error_len, bytes, keep);
	f->error_len += keep;
	return n;
}

static void start_output(struct follow *f)
{
	_cleanup_free_ char *where = NULL;
	char last[64];
	if (asprintf(&where, "%s/output", f->path) < 0 || !(f->output = api_handle(f->api, where))) {
		fail(f, "no memory");
		return;
	}
	snprintf(last, sizeof last, "Last-Event-ID: %llu", (unsigned long long)f->position);
	f->output_headers = NULL;
	for (struct curl_slist *h = f->api->headers; h; h = h->next)
		f->output_headers = curl_slist_append(f->output_headers, h->data);
	f->output_headers = curl_slist_append(f->output_headers, last);
	curl_easy_setopt(f->output, CURLOPT_HTTPHEADER, f->output_headers);
	curl_easy_setopt(f->output, CURLOPT_WRITEFUNCTION, on_output);
	curl_easy_setopt(f->output, CURLOPT_WRITEDATA, f);
	f->heard_ms = (int64_t)clock_ms(CLOCK_MONOTONIC);
	events_reset(&f->events);
	f->error_len = 0;
	curl_multi_add_handle(f->multi, f->output);
}

static void end_transfer(struct follow *f, CURL **handle, struct curl_slist **headers)
{
	if (!*handle)
		return;
	curl_multi_remove_handle(f->multi, *handle);
	curl_easy_cleanup(*handle);
	curl_slist_free_all(*headers);
	*handle = NULL;
	*headers = NULL;
}

/* The stream ended without an exit: tenond is being restarted, or it told us why. */
static void output_ended(struct follow *f)
{
	long status = 0;
	curl_easy_getinfo(f->output, CURLINFO_RESPONSE_CODE, &status);
	end_transfer(f, &f->output, &f->output_headers);
	if (f->code >= 0 || f->failed)
		return;
	if (status >= 400 && status < 500) {
		api_read_error(f->e, status, f->error_body, f->error_len);
		f->failed = true;
		return;
	}
	int64_t now = (int64_t)clock_ms(CLOCK_MONOTONIC);
	if (!f->lost_ms)
		f->lost_ms = now;
	else if (now - f->lost_ms > LOST_MS)
		fail(f, "the daemon does not answer any more; the command may still run");
	f->retry_ms = now + RETRY_MS;
}

/* ---- input ---- */

static size_t ignore(char *bytes, size_t size, size_t count, void *arg)
{
	(void)bytes;
	(void)arg;
	return size * count;
}

static void send_stdin(struct follow *f)
{
	ssize_t n = read(STDIN_FILENO, f->piece, sizeof f->piece);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	f->stdin_ended = n <= 0;
	_cleanup_free_ char *where = NULL;
	if (asprintf(&where, "%s/input", f->path) < 0 || !(f->input = api_handle(f->api, where))) {
		fail(f, "no memory");
		return;
	}
	f->input_headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
	f->input_headers = curl_slist_append(f->input_headers, "Expect:");
	for (struct curl_slist *h = f->api->headers; h; h = h->next)
		f->input_headers = curl_slist_append(f->input_headers, h->data);
	if (f->stdin_ended)
		f->input_headers = curl_slist_append(f->input_headers, "X-Close-Stdin: true");
	curl_easy_setopt(f->input, CURLOPT_HTTPHEADER, f->input_headers);
	curl_easy_setopt(f->input, CURLOPT_POSTFIELDSIZE, n > 0 ? (long)n : 0L);
	curl_easy_setopt(f->input, CURLOPT_POSTFIELDS, f->piece);
	curl_easy_setopt(f->input, CURLOPT_WRITEFUNCTION, ignore);
	curl_multi_add_handle(f->multi, f->input);
}

static void input_ended(struct follow *f, CURLcode code)
{
	long status = 0;
	curl_easy_getinfo(f->input, CURLINFO_RESPONSE_CODE, &status);
	end_transfer(f, &f->input, &f->input_headers);
	/* The command does not read any more, or has ended: its output will say so. */
	if (status >= 400 && status < 500)
		f->stdin_ended = true;
	/* Whether these bytes arrived is not known, and sending them twice would be worse than saying so. */
	else if (code != CURLE_OK || status >= 500) {
		fprintf(stderr, "tenon: the daemon went away while input was sent; no more is sent\n");
		f->stdin_ended = true;
	}
}

/* ---- signals ---- */

static void send_size(struct follow *f)
{
	unsigned rows, cols;
	struct api_error ignored;
	if (f->tty && terminal_size(&rows, &cols))
		json_decref(api_call(f->api, "POST", json_pack("{s:i, s:i}", "rows", rows, "cols", cols),
				     &ignored, "%s/resize", f->path));
}

static void take_signal(struct follow *f, int signals)
{
	struct signalfd_siginfo s;
	struct api_error ignored;
	if (read(signals, &s, sizeof s) != sizeof s)
		return;
	int signo = (int)s.ssi_signo;
	if (signo == SIGWINCH)
		send_size(f);
	else if (++f->interrupts > 2)
		fail(f, "given up after the third signal; the command may still run");
	else if (signo == SIGINT && f->interrupts == 2)
		json_decref(api_call(f->api, "DELETE", NULL, &ignored, "%s", f->path));
	else
		json_decref(api_call(f->api, "POST", json_pack("{s:i}", "signal", signo), &ignored,
				     "%s/signal", f->path));
}

/* ---- the loop ---- */

static void step(struct follow *f, int signals)
{
	struct curl_waitfd fds[2] = {{.fd = signals, .events = CURL_WAIT_POLLIN},
				     {.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN}};
	bool wants_stdin = f->with_stdin && !f->stdin_ended && !f->input;
	int wait = f->output ? 1000 : (int)(f->retry_ms - (int64_t)clock_ms(CLOCK_MONOTONIC));
	if (wait > 0)
		curl_multi_poll(f->multi, fds, wants_stdin ? 2 : 1, wait, NULL);
	int running, left;
	curl_multi_perform(f->multi, &running);
	for (CURLMsg *m; (m = curl_multi_info_read(f->multi, &left));) {
		if (m->msg != CURLMSG_DONE)
			continue;
		if (m->easy_handle == f->output)
			output_ended(f);
		else if (m->easy_handle == f->input)
			input_ended(f, m->data.result);
	}
	/* Not curl's own low-speed limit: three bytes every 15 s are below one byte a second. */
	if (f->output && (int64_t)clock_ms(CLOCK_MONOTONIC) - f->heard_ms > SILENT_MS)
		output_ended(f);
	if (fds[0].revents)
		take_signal(f, signals);
	if (wants_stdin && fds[1].revents)
		send_stdin(f);
	if (!f->output && !f->failed && f->code < 0 && (int64_t)clock_ms(CLOCK_MONOTONIC) >= f->retry_ms)
		start_output(f);
}

int follow(struct api *a, const char *path, bool with_stdin, bool tty, struct api_error *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	_cleanup_close_ int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	_cleanup_free_ struct follow *f = calloc(1, sizeof *f);
	if (signals < 0 || !f || !(f->multi = curl_multi_init())) {
		snprintf(e->message, sizeof e->message, "no memory");
		return -1;
	}
	f->api = a;
	f->path = path;
	f->with_stdin = with_stdin;
	f->tty = tty;
	f->code = -1;
	f->e = e;
	if (tty && with_stdin && terminal_raw() < 0)
		fail(f, "the terminal cannot be made raw; the command may still run");
	send_size(f); /* it may have changed since the command was started */
	start_output(f);
	while (f->code < 0 && !f->failed)
		step(f, signals);
	terminal_restore();
	end_transfer(f, &f->output, &f->output_headers);
	end_transfer(f, &f->input, &f->input_headers);
	curl_multi_cleanup(f->multi);
	events_finish(&f->events);
	return f->failed ? -1 : f->code;
}
