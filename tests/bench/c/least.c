/* The least that keeps what tenond promises of an output: it stands in tenond's place, between an agent and a
 * client. Each byte is in a file before it is sent on and before the agent hears that it may forget it, the
 * files are as tenond's log has them, and they are written by a thread of their own, since a slow disk must
 * not stop who serves the others. No HTTP, no database, no records, one stream: what it is slower than the
 * bare relay is what the promise costs, unless somebody finds a better way to keep it (docs/bench.md says
 * what was tried).
 *
 * usage: least PORT WHERE FOLDER    TCP on loopback, one client after the other, which asks as load asks the
 * floor for stdout; WHERE is an agent (net.h) */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "agent.h"
#include "log.h"

#define CHUNK (256 * 1024) /* handed to the writer at once */
#define CHUNKS 8
#define AT_THE_WRITER 2 /* if they are not full */

struct chunk {
	uint8_t bytes[CHUNK];
	size_t len;
	struct log_piece piece;
};

static struct chunk chunks[CHUNKS];
/* How many were ever handed to the writer and written (both under the lock), and sent on. */
static unsigned handed, written, sent;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static int done; /* an eventfd: something was written */

static struct line line;

static void *write_chunks(void *arg)
{
	struct log log;
	log_open(&log, arg);
	pthread_mutex_lock(&lock);
	for (;;) {
		while (handed == written)
			pthread_cond_wait(&work, &lock);
		struct chunk *c = &chunks[written % CHUNKS];
		pthread_mutex_unlock(&lock);
		c->piece = log_write(&log, c->bytes, c->len);
		pthread_mutex_lock(&lock);
		written++;
		eventfd_write(done, 1);
	}
	return NULL;
}

static unsigned count_written(void)
{
	pthread_mutex_lock(&lock);
	unsigned n = written;
	pthread_mutex_unlock(&lock);
	return n;
}

/* The chunk that is being filled goes to the writer, if there is something in it. */
static void hand_over(void)
{
	if (chunks[handed % CHUNKS].len == 0)
		return;
	pthread_mutex_lock(&lock);
	handed++;
	pthread_mutex_unlock(&lock);
	pthread_cond_signal(&work);
	chunks[handed % CHUNKS].len = 0;
}

/* Room for what one read may bring: what it fills, and as much again. */
static bool has_room(void)
{
	return handed - sent < CHUNKS - 2;
}

static void keep(const uint8_t *data, size_t len)
{
	if (chunks[handed % CHUNKS].len + len > CHUNK)
		hand_over();
	struct chunk *c = &chunks[handed % CHUNKS];
	memcpy(c->bytes + c->len, data, len);
	c->len += len;
}

static void hear(struct exec *x)
{
	struct frame f;
	const uint8_t *data;
	line_fill(&line);
	while (line_heard(&line, &f) > 0) {
		size_t len = exec_take(x, &f, &data);
		if (len > 0)
			keep(data, len);
	}
}

/* What is written goes out; *kept is its end. */
static void send_on(struct exec *x, unsigned until, uint64_t *kept, int to)
{
	for (unsigned i = sent; i != until; i++)
		*kept += chunks[i % CHUNKS].len;
	exec_credit(&line, x, *kept);
	for (; sent != until; sent++)
		if (!log_send(chunks[sent % CHUNKS].piece, chunks[sent % CHUNKS].len, to))
			die("the client left");
}

static void serve(int client, const char *bytes, uint64_t n)
{
	const char *const argv[] = {printer(), "--print", bytes};
	struct exec x;
	uint64_t kept = 0;
	exec_start(&line, &x, argv, 3, n);
	while (x.left > 0 || kept < x.at) {
		struct pollfd p[] = {{.fd = done, .events = POLLIN},
				     {.fd = x.left > 0 && has_room() ? line.fd : -1, .events = POLLIN}};
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[1].revents)
			hear(&x);
		eventfd_t times;
		if (p[0].revents)
			eventfd_read(done, &times);
		unsigned now_written = count_written();
		if (handed - now_written < AT_THE_WRITER)
			hand_over();
		send_on(&x, now_written, &kept, client);
	}
	exec_acknowledge(&line, &x);
}

static bool read_request(int client, uint64_t *n)
{
	uint8_t request[9];
	if (recv(client, request, sizeof request, MSG_WAITALL) != sizeof request || request[0] != 's')
		return false;
	memcpy(n, request + 1, sizeof *n);
	return true;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (done < 0 || pthread_create(&thread, NULL, write_chunks, argv[3]) != 0)
		die("no thread");
	int listener = listen_tcp(atoi(argv[1]));
	line_open(&line, argv[2], TENON__ROLE__ROLE_MAIN, clock_ns(CLOCK_REALTIME));
	line_configure(&line);
	for (;;) {
		int client = accept_tcp(listener);
		uint64_t n;
		while (read_request(client, &n)) {
			char bytes[24];
			snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)n);
			serve(client, bytes, n);
		}
		close(client);
	}
}
