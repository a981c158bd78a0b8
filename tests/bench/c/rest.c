/* The load over REST: what a client of tenond does, without a client's own cost. One kept connection for
 * requests. Prints COUNT lines: what each took, in ns.
 *
 * usage: rest PORT BOX COUNT OPERATION, which is one of
 *
 * - wait                POST …/exec?wait=true of /bin/true: one request, the whole answer
 * - post                POST …/exec of it: until it has started
 * - sse|ws BYTES        POST …/exec of a program that prints so much, read to its exit event
 * - put PATH FILE       a tar archive to PATH.1, PATH.2, … up to COUNT
 * - get PATH            the archive of PATH.1
 * - readers N BYTES     one execution that prints so much, N readers of its events */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "net.h"

#define HEAD_MAX 8192

static int port, http;
static const char *box;

/* ---- one connection, buffered ---- */

struct input {
	int fd;
	size_t at, end;
	char buf[256 * 1024];
};

static struct input in;

static void fill(struct input *i)
{
	if (i->at == i->end)
		i->at = i->end = 0;
	ssize_t n = read(i->fd, i->buf + i->end, sizeof i->buf - i->end);
	if (n <= 0)
		die("tenond left");
	i->end += (size_t)n;
}

/* n bytes in a row from at on. */
static void need(struct input *i, size_t n)
{
	if (sizeof i->buf - i->at < n) {
		memmove(i->buf, i->buf + i->at, i->end - i->at);
		i->end -= i->at;
		i->at = 0;
	}
	while (i->end - i->at < n)
		fill(i);
}

static void skip(struct input *i, uint64_t n)
{
	while (n > 0) {
		size_t have = i->end - i->at;
		if (have == 0) {
			fill(i);
			continue;
		}
		if (have > n)
			have = (size_t)n;
		i->at += have;
		n -= have;
	}
}

/* A line without its end, in place until the next call. */
static char *line(struct input *i)
{
	for (;;) {
		char *from = i->buf + i->at, *end = memchr(from, '\n', i->end - i->at);
		if (end) {
			i->at += (size_t)(end + 1 - from);
			*(end > from && end[-1] == '\r' ? end - 1 : end) = '\0';
			return from;
		}
		if (i->end == sizeof i->buf) {
			memmove(i->buf, from, i->end - i->at);
			i->end -= i->at;
			i->at = 0;
		}
		fill(i);
	}
}

struct head {
	int status, chunked;
	uint64_t length;
};

static struct head read_head(struct input *i)
{
	struct head h = {0};
	char *l = line(i);
	if (sscanf(l, "HTTP/1.1 %d", &h.status) != 1)
		die("not HTTP");
	while (*(l = line(i))) {
		if (strncasecmp(l, "Content-Length:", 15) == 0)
			h.length = strtoull(l + 15, NULL, 10);
		if (strncasecmp(l, "Transfer-Encoding: chunked", 26) == 0)
			h.chunked = 1;
	}
	return h;
}

/* The body, thrown away but for its beginning. */
static struct head read_reply(struct input *i, char *start, size_t cap)
{
	struct head h = read_head(i);
	if (start)
		start[0] = '\0';
	if (h.chunked) {
		for (uint64_t n = 1; n > 0;) {
			n = strtoull(line(i), NULL, 16);
			skip(i, n);
			line(i);
		}
		return h;
	}
	if (start && h.length < cap) {
		while (i->end - i->at < h.length)
			fill(i);
		memcpy(start, i->buf + i->at, h.length);
		start[h.length] = '\0';
	}
	skip(i, h.length);
	return h;
}

static void request(int fd, const char *method, const char *path, const char *headers, const char *body)
{
	char buf[HEAD_MAX];
	int n = snprintf(buf, sizeof buf,
			 "%s /v1/boxes/%s%s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
			 method, box, path, headers, strlen(body), body);
	write_all(fd, buf, (size_t)n);
}

/* ---- executions ---- */

static void start(const char *query, const char *body, char *reply, size_t cap, int status)
{
	char path[64];
	snprintf(path, sizeof path, "/exec%s", query);
	request(http, "POST", path, "Content-Type: application/json\r\n", body);
	struct head h = read_reply(&in, reply, cap);
	if (h.status != status) {
		fprintf(stderr, "rest: %d %s\n", h.status, reply);
		exit(1);
	}
}

/* Starts a program that prints; its id. */
static const char *start_printing(const char *bytes)
{
	static char reply[1024], id[64];
	char body[1024];
	snprintf(body, sizeof body, "{\"command\":\"%s\",\"args\":[\"--print\",\"%s\"],\"stdin\":\"\"}",
		 printer(), bytes);
	start("", body, reply, sizeof reply, 201);
	const char *at = strstr(reply, "execution_id");
	if (!at ||
	    sscanf(at, "execution_id\": \"%63[^\"]", id) + sscanf(at, "execution_id\":\"%63[^\"]", id) < 1)
		die("no execution_id");
	return id;
}

static uint64_t one_wait(char **args)
{
	(void)args;
	char reply[4096];
	uint64_t began = now();
	start("?wait=true", "{\"command\":\"/bin/true\"}", reply, sizeof reply, 200);
	uint64_t took = now() - began;
	if (!strstr(reply, "\"exit_code\"") || !strstr(reply, "completed"))
		die("not completed");
	return took;
}

static uint64_t one_post(char **args)
{
	(void)args;
	char reply[4096];
	uint64_t began = now();
	start("", "{\"command\":\"/bin/true\",\"stdin\":\"\"}", reply, sizeof reply, 201);
	return now() - began;
}

static uint64_t one_sse(char **args)
{
	static struct input events;
	char path[128];
	uint64_t began = now();
	snprintf(path, sizeof path, "/executions/%s/output", start_printing(args[0]));
	events.at = events.end = 0;
	events.fd = dial_tcp(port);
	request(events.fd, "GET", path, "Connection: close\r\n", "");
	if (read_head(&events).status != 200)
		die("no events");
	while (!strstr(line(&events), "event: exit"))
		;
	uint64_t took = now() - began;
	close(events.fd);
	return took;
}

static uint64_t one_ws(char **args)
{
	static struct input frames;
	char path[128];
	uint64_t began = now(), got = 0, expected = strtoull(args[0], NULL, 10);
	snprintf(path, sizeof path, "/executions/%s/attach", start_printing(args[0]));
	frames.at = frames.end = 0;
	frames.fd = dial_tcp(port);
	request(frames.fd, "GET", path,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"");
	if (read_head(&frames).status != 101)
		die("no upgrade");
	for (int opcode = 0; opcode != 8;) {
		need(&frames, 2);
		const uint8_t *h = (const uint8_t *)frames.buf + frames.at;
		size_t head = (h[1] & 127) == 127 ? 10 : (h[1] & 127) == 126 ? 4 : 2;
		need(&frames, head);
		h = (const uint8_t *)frames.buf + frames.at;
		uint64_t n = h[1] & 127;
		if (head > 2)
			n = 0;
		for (size_t i = 2; i < head; i++)
			n = n << 8 | h[i];
		opcode = h[0] & 15;
		if (opcode == 2)
			got += n - 1;
		frames.at += head;
		skip(&frames, n);
	}
	uint64_t took = now() - began;
	close(frames.fd);
	if (got != expected)
		die("bytes are missing");
	return took;
}

/* ---- files ---- */

static void files_path(char *to, size_t cap, const char *path, int n)
{
	snprintf(to, cap, "/files?path=%s.%d", path, n);
}

static uint64_t one_put(char **args)
{
	static int n;
	static char buf[65536];
	char path[512], head[HEAD_MAX];
	struct stat st;
	int from = open(args[1], O_RDONLY);
	if (from < 0 || fstat(from, &st) < 0)
		die(args[1]);
	files_path(path, sizeof path, args[0], ++n);
	uint64_t began = now();
	write_all(http, head,
		  (size_t)snprintf(head, sizeof head,
				   "PUT /v1/boxes/%s%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
				   "application/x-tar\r\n"
				   "Content-Length: %lld\r\n\r\n",
				   box, path, (long long)st.st_size));
	for (ssize_t got; (got = read(from, buf, sizeof buf)) > 0;)
		write_all(http, buf, (size_t)got);
	if (read_reply(&in, NULL, 0).status != 204)
		die("not taken");
	close(from);
	return now() - began;
}

static uint64_t one_get(char **args)
{
	char path[512];
	files_path(path, sizeof path, args[0], 1);
	uint64_t began = now();
	request(http, "GET", path, "", "");
	if (read_reply(&in, NULL, 0).status != 200)
		die("not given");
	return now() - began;
}

/* ---- many readers ---- */

static uint64_t one_readers(char **args)
{
	static const char last[] = "event: exit";
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	int n = atoi(args[0]), left = n, ep = epoll_create1(0);
	char path[128], request_text[512];
	uint8_t *matched = calloc((size_t)n, 1);
	int *fds = calloc((size_t)n, sizeof *fds);
	uint64_t began = now();
	snprintf(path, sizeof path, "/executions/%s/output", start_printing(args[1]));
	int len = snprintf(request_text, sizeof request_text,
			   "GET /v1/boxes/%s%s HTTP/1.1\r\nHost: localhost\r\n\r\n", box, path);
	for (int i = 0; i < n; i++) {
		fds[i] = dial_tcp(port);
		write_all(fds[i], request_text, (size_t)len);
		epoll_ctl(ep, EPOLL_CTL_ADD, fds[i],
			  &(struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i});
	}
	while (left > 0) {
		struct epoll_event ev[256];
		int ready = epoll_wait(ep, ev, 256, 60000);
		if (ready <= 0)
			die("the readers starve");
		for (int i = 0; i < ready; i++) {
			static char buf[256 * 1024];
			uint32_t r = ev[i].data.u32;
			ssize_t got = read(fds[r], buf, sizeof buf);
			if (got <= 0 && matched[r] < sizeof last - 1)
				die("a reader was cut off");
			for (ssize_t b = 0; b < got && matched[r] < sizeof last - 1; b++)
				matched[r] = buf[b] == last[matched[r]] ? matched[r] + 1 : buf[b] == last[0];
			if (matched[r] == sizeof last - 1) {
				close(fds[r]);
				left--;
			}
		}
	}
	return now() - began;
}

static const struct {
	const char *name;
	uint64_t (*one)(char **args);
	int args;
} rows[] = {
	{"wait", one_wait, 0}, {"post", one_post, 0}, {"sse", one_sse, 1},         {"ws", one_ws, 1},
	{"put", one_put, 2},   {"get", one_get, 1},   {"readers", one_readers, 2},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 5 && i < sizeof rows / sizeof *rows; i++) {
		if (strcmp(argv[4], rows[i].name) != 0 || argc != 5 + rows[i].args)
			continue;
		port = atoi(argv[1]);
		box = argv[2];
		in.fd = http = dial_tcp(port);
		for (int n = atoi(argv[3]); n > 0; n--)
			print_sample(rows[i].one(argv + 5));
		return 0;
	}
	fprintf(stderr, "rest: see the head of rest.c\n");
	return 2;
}
