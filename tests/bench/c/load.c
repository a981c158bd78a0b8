/* The load: the same questions to the agent over its link and to the floor, one at a time, as a host would
 * ask them. Prints COUNT lines: what each took, in ns.
 *
 * usage: load agent|floor WHERE COUNT OPERATION, where WHERE is as in net.h, and OPERATION one of
 *
 * - exec                     /bin/true, to its exit code
 * - echo                     a few bytes there and back
 * - stdout BYTES             a program that prints so much
 * - many N BYTES             agent alone: N executions at once, each printing that much
 * - write|tarin PATH FILE    FILE goes to PATH.1, PATH.2, … up to COUNT
 * - read|tarout PATH         the file or folder comes back */
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "agent.h"
#include "net.h"
#include "proto/bulk.pb-c.h"

static struct line control, bulk;
static const char *where;
static int with_agent;
static uint64_t epoch;

/* ---- executions ---- */

/* What came is acknowledged when tenond would, if its log were endless and instant. */
static void take(struct exec *x, const struct frame *f)
{
	const uint8_t *data;
	if (exec_take(x, f, &data) > 0)
		exec_credit(&control, x, x->at);
}

/* Until the exit and all bytes are there; the acknowledgement comes after the clock has stopped, as tenond's
 * does. */
static uint64_t run(const char *const *argv, size_t n, uint64_t expected)
{
	struct exec x;
	uint64_t began = now();
	exec_start(&control, &x, argv, n, expected);
	while (x.left > 0) {
		struct frame f = line_next(&control);
		take(&x, &f);
	}
	uint64_t took = now() - began;
	exec_acknowledge(&control, &x);
	return took;
}

static uint64_t one_exec(char **args)
{
	(void)args;
	static const char *const argv[] = {"/bin/true"};
	if (with_agent)
		return run(argv, 1, 0);
	char code;
	uint64_t began = now();
	write_all(control.fd, "x", 1);
	read_all(control.fd, &code, 1);
	return now() - began;
}

static uint64_t one_stdout(char **args)
{
	static uint8_t buf[4 * 65536];
	uint64_t n = strtoull(args[0], NULL, 10);
	const char *const argv[] = {printer(), "--print", args[0]};
	if (with_agent)
		return run(argv, 3, n);
	uint8_t request[9] = {'s'};
	memcpy(request + 1, &n, sizeof n);
	uint64_t began = now();
	write_all(control.fd, request, sizeof request);
	while (n > 0) {
		ssize_t got = read(control.fd, buf, n < sizeof buf ? n : sizeof buf);
		if (got <= 0)
			die("read");
		n -= (uint64_t)got;
	}
	return now() - began;
}

static void check_code(const struct frame *f)
{
	Tenon__Event *event = tenon__event__unpack(NULL, f->len, f->payload);
	if (!event || event->kind_case != TENON__EVENT__KIND_EXIT || event->exit->code || event->exit->signal)
		die("another end than exit 0");
	tenon__event__free_unpacked(event, NULL);
}

static uint64_t one_many(char **args)
{
	static struct exec all[1024];
	int n = atoi(args[0]), left = 4 * n;
	const char *const argv[] = {printer(), "--print", args[1]};
	uint64_t began = now();
	for (int i = 0; i < n; i++)
		exec_start(&control, &all[i], argv, 3, strtoull(args[1], NULL, 10));
	while (left > 0) {
		struct frame f = line_next(&control);
		struct exec *x = &all[(f.stream - all[0].stream) / 2];
		if (f.type == FRAME_EVENT)
			check_code(&f);
		left -= x->left;
		take(x, &f);
		left += x->left;
	}
	uint64_t took = now() - began;
	for (int i = 0; i < n; i++)
		exec_acknowledge(&control, &all[i]);
	return took;
}

static uint64_t one_echo(char **args)
{
	(void)args;
	uint8_t frame[FRAME_SMALL_MAX], body[20] = {'e', sizeof body - 5};
	uint64_t began = now();
	if (with_agent) {
		write_all(control.fd, frame, frame_put_ping(frame, FRAME_PING, body));
		line_next(&control);
	} else {
		write_all(control.fd, body, sizeof body);
		read_all(control.fd, body, sizeof body - 5);
	}
	return now() - began;
}

/* ---- files ---- */

static void ask_bulk(Tenon__BulkRequest *m)
{
	line_send(&bulk, &m->base);
	if (line_next(&bulk).type != FRAME_RSP)
		die("no answer");
}

static void floor_ask(char letter, const char *path)
{
	uint8_t head[3] = {(uint8_t)letter, (uint8_t)strlen(path), (uint8_t)(strlen(path) >> 8)};
	write_all(control.fd, head, sizeof head);
	write_all(control.fd, path, strlen(path));
}

static Tenon__Where *place(const char *path)
{
	static Tenon__Where at;
	tenon__where__init(&at);
	at.path = (ProtobufCBinaryData){strlen(path), (uint8_t *)path};
	return &at;
}

static uint64_t put(const char *path, const char *file, int archive)
{
	static uint8_t buf[FRAME_DATA_HEAD + FRAME_DATA_FULL];
	struct stat st;
	int from = open(file, O_RDONLY);
	if (from < 0 || fstat(from, &st) < 0)
		die(file);
	uint64_t size = (uint64_t)st.st_size, began = now(), at = 0;
	uint32_t stream = bulk.next_stream;
	if (with_agent) {
		Tenon__TarIn tar = TENON__TAR_IN__INIT;
		Tenon__WriteFile plain = TENON__WRITE_FILE__INIT;
		Tenon__BulkRequest r = TENON__BULK_REQUEST__INIT;
		tar.at = plain.at = place(path);
		r.op_case = archive ? TENON__BULK_REQUEST__OP_TAR_IN : TENON__BULK_REQUEST__OP_WRITE;
		if (archive)
			r.tar_in = &tar;
		else
			r.write = &plain;
		ask_bulk(&r);
	} else {
		floor_ask(archive ? 't' : 'w', path);
		write_all(control.fd, &size, sizeof size);
	}
	for (ssize_t n; (n = read(from, buf + FRAME_DATA_HEAD, FRAME_DATA_FULL)) > 0; at += (uint64_t)n) {
		if (with_agent) {
			frame_put_data_head(buf, stream, CHANNEL_STDIN, at, (size_t)n);
			write_all(bulk.fd, buf, FRAME_DATA_HEAD + (size_t)n);
		} else {
			write_all(control.fd, buf + FRAME_DATA_HEAD, (size_t)n);
		}
	}
	if (with_agent) {
		write_all(bulk.fd, buf, frame_put_eof(buf, stream, CHANNEL_STDIN, at));
		if (line_next(&bulk).type != FRAME_EOF)
			die("not taken");
	} else {
		read_all(control.fd, buf, 1);
		if (buf[0] != 0)
			die("tar failed");
	}
	close(from);
	return now() - began;
}

static void skip(uint64_t n)
{
	static uint8_t buf[4 * 65536];
	while (n > 0) {
		size_t piece = n < sizeof buf ? (size_t)n : sizeof buf;
		ssize_t got = read(control.fd, buf, piece);
		if (got <= 0)
			die("read");
		n -= (uint64_t)got;
	}
}

static uint64_t get(const char *path, int archive)
{
	uint64_t began = now(), size = 0;
	if (with_agent) {
		Tenon__TarOut tar = TENON__TAR_OUT__INIT;
		Tenon__ReadFile plain = TENON__READ_FILE__INIT;
		Tenon__BulkRequest r = TENON__BULK_REQUEST__INIT;
		tar.at = plain.at = place(path);
		r.op_case = archive ? TENON__BULK_REQUEST__OP_TAR_OUT : TENON__BULK_REQUEST__OP_READ;
		if (archive)
			r.tar_out = &tar;
		else
			r.read = &plain;
		ask_bulk(&r);
		while (line_next(&bulk).type == FRAME_DATA)
			;
		return now() - began;
	}
	floor_ask(archive ? 'c' : 'r', path);
	if (archive) {
		uint32_t n = 1;
		while (n > 0) {
			read_all(control.fd, &n, sizeof n);
			skip(n);
		}
	} else {
		read_all(control.fd, &size, sizeof size);
		skip(size);
	}
	return now() - began;
}

static uint64_t one_put(char **args, int archive)
{
	static int n;
	char path[4096];
	snprintf(path, sizeof path, "%s.%d", args[0], ++n);
	return put(path, args[1], archive);
}

static uint64_t one_write(char **args)
{
	return one_put(args, 0);
}

static uint64_t one_tarin(char **args)
{
	return one_put(args, 1);
}

static uint64_t one_read(char **args)
{
	return get(args[0], 0);
}

static uint64_t one_tarout(char **args)
{
	return get(args[0], 1);
}

static const struct {
	const char *name;
	uint64_t (*one)(char **args);
	int args, files;
} rows[] = {
	{"exec", one_exec, 0, 0}, {"echo", one_echo, 0, 0},     {"stdout", one_stdout, 1, 0},
	{"many", one_many, 2, 0}, {"write", one_write, 2, 1},   {"tarin", one_tarin, 2, 1},
	{"read", one_read, 1, 1}, {"tarout", one_tarout, 1, 1},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 5 && i < sizeof rows / sizeof *rows; i++) {
		if (strcmp(argv[4], rows[i].name) != 0 || argc != 5 + rows[i].args)
			continue;
		where = argv[2];
		with_agent = strcmp(argv[1], "agent") == 0;
		epoch = clock_ns(CLOCK_REALTIME);
		if (!with_agent) {
			control.fd = dial(where);
		} else {
			line_open(&control, where, TENON__ROLE__ROLE_MAIN, epoch);
			line_configure(&control);
			if (rows[i].files)
				line_open(&bulk, where, TENON__ROLE__ROLE_BULK, epoch);
		}
		for (int n = atoi(argv[3]); n > 0; n--)
			print_sample(rows[i].one(argv + 5));
		return 0;
	}
	fprintf(stderr, "load: see the head of load.c\n");
	return 2;
}
