/* executions.h over plain child processes and a log in memory. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "fakes.h"

#define FILE_MIN 4096

struct record {
	uint64_t start;
	int channel;
	size_t len;
	uint8_t *data;
	int file; /* with the same bytes, if there are many of them; else -1 */
};

struct execution {
	struct execution *next;
	struct executions *registry;
	unsigned holds;
	char id[33], box_id[64];
	uv_process_t process;
	uv_pipe_t pipes[3];
	unsigned open_pipes; /* output */
	bool exited, attached, reaped, stdin_closed;
	bool tty; /* in name only */
	unsigned rows, cols;
	struct execution_info info;
	uint64_t seen, position;
	struct record *records;
	size_t count;
	struct reader *readers;
	char buf[65536];
};

struct executions {
	uv_loop_t *loop;
	struct execution *first;
};

struct reader {
	struct reader *next;
	struct execution *x;
	void (*wake)(void *arg);
	void *arg;
	bool waiting, exit_told;
	uint64_t at;
	const uint8_t *last; /* data of the last item */
};

int executions_create(struct executions **out, const struct executions_config *c, struct err *e)
{
	(void)e;
	*out = calloc(1, sizeof **out);
	(*out)->loop = c->loop;
	return 0;
}

struct execution *execution_ref(struct execution *x)
{
	x->holds++;
	return x;
}

void execution_unref(struct execution *x)
{
	if (--x->holds)
		return;
	for (size_t i = 0; i < x->count; i++) {
		free(x->records[i].data);
		if (x->records[i].file >= 0)
			close(x->records[i].file);
	}
	free(x->records);
	free(x);
}

void executions_destroy(struct executions *xs)
{
	while (xs->first) {
		struct execution *x = xs->first;
		xs->first = x->next;
		execution_unref(x);
	}
	free(xs);
}

struct execution *executions_find(struct executions *xs, const char *box_id, const char *id, bool *reaped)
{
	for (struct execution *x = xs->first; x; x = x->next)
		if (strcmp(x->id, id) == 0 && strcmp(x->box_id, box_id) == 0) {
			*reaped = x->reaped;
			return x->reaped ? NULL : x;
		}
	return NULL;
}

void executions_each(struct executions *xs, const char *box_id, void (*fn)(void *arg, struct execution *x),
		     void *arg)
{
	for (struct execution *x = xs->first; x; x = x->next)
		if (strcmp(x->box_id, box_id) == 0 && !x->reaped)
			fn(arg, x);
}

void executions_forget_box(struct executions *xs, const char *box_id)
{
	for (struct execution *x = xs->first; x; x = x->next)
		if (strcmp(x->box_id, box_id) == 0 && !x->exited)
			uv_process_kill(&x->process, SIGKILL);
}

static void changed(struct execution *x)
{
	struct reader *r = x->readers;
	while (r) {
		struct reader *next = r->next;
		if (r->waiting) {
			r->waiting = false;
			r->wake(r->arg);
		}
		r = next;
	}
}

static void on_pipe_closed(uv_handle_t *h)
{
	execution_unref(h->data);
}

static void finish_if_done(struct execution *x)
{
	if (x->exited && x->open_pipes == 0) {
		if (x->info.status == EXECUTION_RUNNING)
			x->info.status = EXECUTION_COMPLETED;
		changed(x);
	}
}

static void on_exit_status(uv_process_t *p, int64_t status, int signo)
{
	struct execution *x = p->data;
	x->exited = true;
	x->info.exit_code = signo ? -signo : (int)status;
	x->info.has_exit = true;
	x->info.ended_ms = (uint64_t)time(NULL) * 1000;
	x->info.duration_ms = x->info.ended_ms - x->info.started_ms;
	uv_close((uv_handle_t *)p, on_pipe_closed);
	if (!x->stdin_closed) {
		x->stdin_closed = true;
		uv_close((uv_handle_t *)&x->pipes[0], on_pipe_closed);
	}
	finish_if_done(x);
}

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b)
{
	(void)n;
	struct execution *x = h->data;
	*b = uv_buf_init(x->buf, sizeof x->buf);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct execution *x = s->data;
	if (n < 0) {
		x->open_pipes--;
		uv_close((uv_handle_t *)s, on_pipe_closed);
		finish_if_done(x);
		return;
	}
	if (n == 0)
		return;
	x->records = realloc(x->records, (x->count + 1) * sizeof *x->records);
	struct record *rec = &x->records[x->count++];
	*rec = (struct record){x->position, s == (uv_stream_t *)&x->pipes[1] ? 1 : 2, (size_t)n,
			       malloc((size_t)n), n < FILE_MIN ? -1 : memfd_create("record", MFD_CLOEXEC)};
	memcpy(rec->data, b->base, (size_t)n);
	if (rec->file >= 0 && write(rec->file, rec->data, (size_t)n) != n)
		abort();
	x->position += (uint64_t)n;
	x->info.end = x->position;
	changed(x);
}

void fake_execution_start(struct executions *xs, const char *box_id, const struct exec_spec *spec,
			  execution_started_fn done, void *arg)
{
	struct execution *x = calloc(1, sizeof *x);
	uint8_t random[16];
	if (getrandom(random, sizeof random, 0) < 0)
		abort();
	for (int i = 0; i < 16; i++)
		sprintf(x->id + 2 * i, "%02x", random[i]);
	snprintf(x->box_id, sizeof x->box_id, "%s", box_id);
	x->registry = xs;
	x->holds = 1;
	x->tty = spec->tty;
	x->info.started_ms = (uint64_t)time(NULL) * 1000;
	uv_stdio_container_t io[3];
	for (int i = 0; i < 3; i++) {
		uv_pipe_init(xs->loop, &x->pipes[i], 0);
		x->pipes[i].data = x;
		io[i].flags = UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
		io[i].data.stream = (uv_stream_t *)&x->pipes[i];
	}
	const char *env[256] = {"PATH=/usr/bin:/bin"};
	for (size_t n = 0; spec->env && spec->env[n] && n < 254; n++)
		env[n + 1] = spec->env[n];
	x->process.data = x;
	uv_process_options_t o = {.exit_cb = on_exit_status,
				  .file = spec->argv[0],
				  .args = (char **)spec->argv,
				  .env = (char **)env,
				  .cwd = spec->cwd ? spec->cwd : "/",
				  .stdio_count = 3,
				  .stdio = io};
	int r = uv_spawn(xs->loop, &x->process, &o);
	x->holds += 4;
	if (r < 0) {
		for (int i = 0; i < 3; i++)
			uv_close((uv_handle_t *)&x->pipes[i], on_pipe_closed);
		uv_close((uv_handle_t *)&x->process, on_pipe_closed);
		execution_unref(x);
		struct failure f = {.kind = FAIL_EXEC, .stage = "execve", .errnum = -r};
		snprintf(f.message, sizeof f.message, "%s: %s", spec->argv[0], strerror(-r));
		done(arg, NULL, &f);
		return;
	}
	x->open_pipes = 2;
	uv_read_start((uv_stream_t *)&x->pipes[1], on_alloc, on_output);
	uv_read_start((uv_stream_t *)&x->pipes[2], on_alloc, on_output);
	x->next = xs->first;
	xs->first = x;
	if (!spec->with_stdin)
		execution_close_stdin(x);
	done(arg, x, NULL);
}

const char *execution_id(const struct execution *x)
{
	return x->id;
}

void execution_get_info(const struct execution *x, struct execution_info *out)
{
	*out = x->info;
}

void execution_signal(struct execution *x, int signo, execution_done_fn done, void *arg)
{
	struct failure f = {.kind = FAIL_CONFLICT, .message = "the execution has ended"};
	if (!x->exited)
		uv_process_kill(&x->process, signo);
	if (done)
		done(arg, x->exited ? &f : NULL);
}

void execution_resize(struct execution *x, unsigned rows, unsigned cols, execution_done_fn done, void *arg)
{
	struct failure f = {.kind = FAIL_CONFLICT, .message = "the execution has no terminal"};
	if (x->tty) {
		x->rows = rows;
		x->cols = cols;
	}
	if (done)
		done(arg, x->tty ? NULL : &f);
}

void execution_kill(struct execution *x, execution_done_fn done, void *arg)
{
	execution_signal(x, SIGKILL, done, arg);
}

void execution_discard(struct execution *x, execution_done_fn done, void *arg)
{
	if (!x->exited) {
		x->info.status = EXECUTION_KILLED;
		uv_process_kill(&x->process, SIGKILL);
	}
	x->reaped = true;
	done(arg, NULL);
}

struct write_call {
	uv_write_t w;
	execution_done_fn done;
	void *arg;
	char data[];
};

static void on_written(uv_write_t *w, int status)
{
	struct write_call *c = (struct write_call *)w;
	struct failure f = {.kind = FAIL_CONFLICT, .message = "the process does not read any more"};
	if (c->done)
		c->done(c->arg, status < 0 ? &f : NULL);
	free(c);
}

void execution_write(struct execution *x, const void *data, size_t len, execution_done_fn done, void *arg)
{
	struct failure f = {.kind = FAIL_CONFLICT, .message = "standard input is closed"};
	if (x->stdin_closed) {
		if (done)
			done(arg, &f);
		return;
	}
	struct write_call *c = calloc(1, sizeof *c + len);
	memcpy(c->data, data, len);
	c->done = done;
	c->arg = arg;
	uv_buf_t b = uv_buf_init(c->data, (unsigned)len);
	uv_write(&c->w, (uv_stream_t *)&x->pipes[0], &b, 1, on_written);
}

static void on_shut(uv_shutdown_t *s, int status)
{
	(void)status;
	struct execution *x = s->data;
	if (!uv_is_closing((uv_handle_t *)&x->pipes[0]))
		uv_close((uv_handle_t *)&x->pipes[0], on_pipe_closed);
	execution_unref(x);
	free(s);
}

void execution_close_stdin(struct execution *x)
{
	if (x->stdin_closed)
		return;
	x->stdin_closed = true;
	uv_shutdown_t *s = calloc(1, sizeof *s);
	s->data = execution_ref(x);
	if (uv_shutdown(s, (uv_stream_t *)&x->pipes[0], on_shut) < 0)
		on_shut(s, -1);
}

size_t execution_stdin_queued(const struct execution *x)
{
	return x->stdin_closed ? 0 : uv_stream_get_write_queue_size((const uv_stream_t *)&x->pipes[0]);
}

void execution_on_stdin_drain(struct execution *x, void (*fn)(void *arg), void *arg)
{
	(void)x;
	if (fn)
		fn(arg);
}

bool execution_attach(struct execution *x)
{
	return x->attached ? false : (x->attached = true);
}

void execution_detach(struct execution *x)
{
	x->attached = false;
}

uint64_t execution_seen(const struct execution *x)
{
	return x->seen;
}

void execution_set_seen(struct execution *x, uint64_t position)
{
	if (position > x->seen)
		x->seen = position;
}

int reader_open(struct reader **out, struct execution *x, uint64_t from, void (*wake)(void *arg), void *arg,
		struct err *e)
{
	(void)e;
	struct reader *r = calloc(1, sizeof *r);
	*r = (struct reader){.next = x->readers, .x = execution_ref(x), .wake = wake, .arg = arg, .at = from};
	if (r->at > x->position)
		r->at = x->position;
	x->readers = r;
	*out = r;
	return 0;
}

void reader_close(struct reader *r)
{
	struct reader **at = &r->x->readers;
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	execution_unref(r->x);
	free(r);
}

void reader_next(struct reader *r, size_t max, struct reader_item *out)
{
	struct execution *x = r->x;
	*out = (struct reader_item){.kind = READ_WAIT, .position = r->at};
	for (size_t i = 0; i < x->count; i++) {
		struct record *rec = &x->records[i];
		if (r->at >= rec->start + rec->len)
			continue;
		size_t skip = (size_t)(r->at - rec->start), n = rec->len - skip;
		if (n > max)
			n = max;
		r->at += n;
		r->last = rec->data + skip;
		*out = (struct reader_item){.kind = READ_DATA,
					    .channel = rec->channel,
					    .data = rec->file < 0 ? r->last : NULL,
					    .len = n,
					    .position = r->at,
					    .file = rec->file,
					    .at = skip};
		return;
	}
	if (x->exited && x->open_pipes == 0 && !r->exit_told) {
		r->exit_told = true;
		out->kind = READ_EXIT;
		return;
	}
	r->waiting = true;
}

void reader_load(struct reader *r, struct reader_item *item)
{
	if (item->kind == READ_DATA)
		item->data = r->last;
}

uint64_t reader_position(const struct reader *r)
{
	return r->at;
}
