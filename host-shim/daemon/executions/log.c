#include "host-shim/daemon/executions/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/daemon/executions/logfile.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define CHUNK_MIN 4096u

/* Bytes for one segment at one place. */
struct chunk {
	struct writer_job job;
	struct log *log;
	struct logfile *file;
	struct log_place place;
	uint64_t deleted;               /* segments below this were, to make room */
	struct log_segment tail_before; /* newest segment before this chunk; 0 bytes: none */
	struct log_point before, after;
	bool grows; /* the record at buf[last] may */
	size_t last;
	size_t len, cap;
	uint8_t *buf;
};

struct log {
	struct log_config config;
	struct logfile *file;
	uint8_t id[LOG_ID_SIZE];
	bool loaded, closing, failing, mend;
	bool on_disk;      /* the writer has, or had, jobs with the file */
	unsigned inflight; /* jobs whose done has not run */

	uint64_t segment_max;
	struct log_segment *segments;
	size_t segment_count, segment_cap;
	struct log_point laid; /* end of what was laid out in chunks: accepted, unless failing */
	struct log_point accepted, acked, written;
	uint64_t published_segment, published_bytes; /* how far the newest written file may be read */
	uint64_t held;
	struct chunk *open;
	uint8_t *exit;
	size_t exit_len;
};

/* ---- jobs, on the writer thread ---------------------------------------------------------------------- */

static int chunk_run(struct writer_job *job)
{
	struct chunk *c = (struct chunk *)job;
	return logfile_write(c->file, &c->place, c->buf, c->len, &c->deleted);
}

struct trim_job {
	struct writer_job job;
	struct logfile *file;
	struct log *log;
	uint64_t below;
};

static int trim_run(struct writer_job *job)
{
	struct trim_job *t = (struct trim_job *)job;
	logfile_delete(t->file->dir, t->below);
	return 0;
}

struct close_job {
	struct writer_job job;
	struct logfile *file;
};

static int close_run(struct writer_job *job)
{
	logfile_close(((struct close_job *)job)->file);
	return 0;
}

struct load_job {
	struct writer_job job;
	struct log *log;
	struct recovered_log found;
};

static int load_run(struct writer_job *job)
{
	struct load_job *j = (struct load_job *)job;
	return recover_log(j->log->file->dir, j->log->id, &j->found, NULL);
}

struct remove_job {
	struct writer_job job;
	char dir[];
};

static int remove_run(struct writer_job *job)
{
	struct remove_job *j = (struct remove_job *)job;
	logfile_delete(j->dir, UINT64_MAX);
	return rmdir(j->dir) < 0 && errno != ENOENT ? -errno : 0;
}

/* ---- loop thread: life ---------------------------------------------------------------------------- */

static void log_free(struct log *l)
{
	free(l->segments);
	free(l->exit);
	free(l);
}

static void job_over(struct log *l)
{
	l->inflight--;
	if (l->closing) {
		if (l->inflight == 0)
			log_free(l);
		return;
	}
	l->config.changed(l->config.arg);
}

static int make(struct log **out, const struct log_config *c, struct err *e)
{
	struct log *l = calloc(1, sizeof *l);
	struct logfile *f = logfile_create(c->dir);
	if (!l || !f) {
		free(l);
		logfile_destroy(f);
		return err_set(e, "log", ENOMEM, "no memory for a log");
	}
	l->config = *c;
	l->config.dir = f->dir;
	l->segment_max = c->bound / 16;
	if (l->segment_max < LOG_SEGMENT_SMALL)
		l->segment_max = LOG_SEGMENT_SMALL;
	if (l->segment_max > LOG_SEGMENT_LARGE)
		l->segment_max = LOG_SEGMENT_LARGE;
	memcpy(l->id, c->id, LOG_ID_SIZE);
	l->file = f;
	*out = l;
	return 0;
}

int log_create(struct log **out, const struct log_config *c, struct err *e)
{
	int r = make(out, c, e);
	if (r == 0)
		(*out)->loaded = true;
	return r;
}

static void load_done(struct writer_job *job, int status)
{
	struct load_job *j = (struct load_job *)job;
	struct log *l = j->log;
	(void)status; /* unreadable is empty: the agent's GAP, or the reader's, says what is missing */
	l->segments = steal_ptr(&j->found.segments);
	l->segment_count = l->segment_cap = j->found.count;
	l->exit = steal_ptr(&j->found.exit);
	l->exit_len = j->found.exit_len;
	l->laid = l->accepted = l->acked = l->written = j->found.end;
	if (l->segment_count > 0) {
		const struct log_segment *newest = &l->segments[l->segment_count - 1];
		l->published_segment = newest->position;
		l->published_bytes = newest->bytes;
	}
	l->loaded = true;
	free(j);
	job_over(l);
}

int log_load(struct log **out, const struct log_config *c, struct err *e)
{
	struct load_job *j = calloc(1, sizeof *j);
	int r = j ? make(out, c, e) : err_set(e, "log", ENOMEM, "no memory to load a log");
	if (r < 0) {
		free(j);
		return r;
	}
	j->job = (struct writer_job){.run = load_run, .done = load_done};
	j->log = *out;
	(*out)->on_disk = true;
	(*out)->inflight++;
	writer_submit(c->writer, &j->job);
	return 0;
}

static void close_done(struct writer_job *job, int status)
{
	struct close_job *j = (struct close_job *)job;
	(void)status;
	logfile_destroy(j->file);
	free(j);
}

static void close_file(struct log *l)
{
	if (!l->on_disk) {
		logfile_destroy(l->file);
		return;
	}
	struct close_job *j = calloc(1, sizeof *j);
	if (!j)
		return; /* it leaks: jobs that are on their way still write to it */
	j->job = (struct writer_job){.run = close_run, .done = close_done};
	j->file = l->file;
	writer_submit(l->config.writer, &j->job);
}

static void chunk_submit(struct log *l);

void log_destroy(struct log *l)
{
	if (!l)
		return;
	chunk_submit(l);
	close_file(l);
	l->closing = true;
	if (l->inflight == 0)
		log_free(l);
}

static void remove_done(struct writer_job *job, int status)
{
	(void)status; /* what could not be deleted is tried again when the box goes */
	free(job);
}

int log_remove(struct writer *w, const char *dir)
{
	size_t n = strlen(dir) + 1;
	struct remove_job *j = calloc(1, sizeof *j + n);
	if (!j)
		return -ENOMEM;
	j->job = (struct writer_job){.run = remove_run, .done = remove_done};
	memcpy(j->dir, dir, n);
	writer_submit(w, &j->job);
	return 0;
}

/* ---- loop thread: laying out ----------------------------------------------------------------------- */

static struct log_segment *newest(const struct log *l)
{
	return l->segment_count ? &l->segments[l->segment_count - 1] : NULL;
}

static void forget_below(struct log *l, uint64_t position)
{
	size_t n = 0;
	while (n < l->segment_count && l->segments[n].position < position)
		n++;
	memmove(l->segments, l->segments + n, (l->segment_count - n) * sizeof *l->segments);
	l->segment_count -= n;
}

static void chunk_free(struct chunk *c)
{
	free(c->buf);
	free(c);
}

/* The layout goes back to where chunk c began; what is accepted stays accepted and becomes a gap. */
static void lay_back(struct log *l, const struct chunk *c)
{
	l->laid = c->before;
	while (l->segment_count && newest(l)->position > c->tail_before.position)
		l->segment_count--;
	if (c->tail_before.bytes == 0)
		l->segment_count = 0;
	else if (l->segment_count)
		newest(l)->bytes = c->tail_before.bytes;
}

/* From chunk c on (NULL: from here on) what comes is dropped, until log_retry. */
static void fail(struct log *l, struct chunk *c)
{
	l->failing = true;
	if (c)
		lay_back(l, c);
	if (l->open)
		chunk_free(l->open);
	l->open = NULL;
}

/* With nothing on its way any more, what was dropped is known. */
static void ack_dropped(struct log *l, unsigned inflight)
{
	if (l->failing && inflight == 0)
		l->acked = l->accepted;
}

static void chunk_done(struct writer_job *job, int status)
{
	struct chunk *c = (struct chunk *)job;
	struct log *l = c->log;
	forget_below(l, c->deleted);
	if (status == 0) {
		l->written = c->after;
		l->published_segment = c->place.segment;
		l->published_bytes = c->place.at + c->len;
	} else if (!l->failing) {
		fail(l, c);
	}
	l->acked = c->after;
	chunk_free(c);
	ack_dropped(l, l->inflight - 1);
	if (!l->closing)
		chunk_submit(l);
	job_over(l);
}

static void chunk_submit(struct log *l)
{
	struct chunk *c = l->open;
	if (!c)
		return;
	l->open = NULL;
	c->after = l->laid;
	/* Spare is what is neither the reader's nor one of the newest. */
	c->place.spare = l->segment_count > LOG_SEGMENTS_MIN
				 ? l->segments[l->segment_count - LOG_SEGMENTS_MIN].position
				 : 0;
	if (c->place.spare > l->held)
		c->place.spare = l->held;
	l->on_disk = true;
	l->inflight++;
	writer_submit(l->config.writer, &c->job);
}

void log_flush(struct log *l)
{
	if (l->inflight < LOG_INFLIGHT_MAX)
		chunk_submit(l);
}

static struct chunk *chunk_make(struct log *l)
{
	struct chunk *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	const struct log_segment *tail = newest(l);
	c->job = (struct writer_job){.run = chunk_run, .done = chunk_done};
	c->log = l;
	c->file = l->file;
	c->before = l->laid;
	c->place.mends = l->mend;
	l->mend = false;
	if (tail) {
		c->place.segment = tail->position;
		c->place.at = tail->bytes;
		c->tail_before = *tail;
	}
	return c;
}

/* n more bytes at the end of the open chunk, or NULL. */
static uint8_t *chunk_extend(struct chunk *c, size_t n)
{
	if (c->cap - c->len < n) {
		size_t cap = c->cap ? c->cap : CHUNK_MIN;
		while (cap - c->len < n)
			cap *= 4;
		uint8_t *grown = realloc(c->buf, cap);
		if (!grown)
			return NULL;
		c->buf = grown;
		c->cap = cap;
	}
	uint8_t *p = c->buf + c->len;
	c->len += n;
	return p;
}

/* Begins a segment at the present position: its header leads a chunk of its own. */
static int segment_begin(struct log *l)
{
	chunk_submit(l);
	if (l->segment_count == l->segment_cap) {
		size_t cap = l->segment_cap ? l->segment_cap * 2 : 4;
		struct log_segment *grown = realloc(l->segments, cap * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->segments = grown;
		l->segment_cap = cap;
	}
	struct chunk *c = chunk_make(l);
	uint8_t *p = c ? chunk_extend(c, LOG_SEGMENT_HEADER) : NULL;
	if (!p) {
		free(c);
		return -ENOMEM;
	}
	struct segment_header h = {
		.position = log_point_position(&l->laid),
		.stdout_offset = l->laid.offset[CHANNEL_STDOUT],
		.stderr_offset = l->laid.offset[CHANNEL_STDERR],
		.created_ns = clock_ns(CLOCK_REALTIME),
	};
	memcpy(h.id, l->id, LOG_ID_SIZE);
	segment_put_header(p, &h);
	c->place.segment = h.position;
	c->place.at = 0;
	l->open = c;
	l->segments[l->segment_count++] = (struct log_segment){h.position, LOG_SEGMENT_HEADER};
	return 0;
}

/* Room for n bytes in the open chunk of the segment they belong to. */
static uint8_t *room_for(struct log *l, size_t n)
{
	const struct log_segment *tail = newest(l);
	bool full = tail && tail->bytes > LOG_SEGMENT_HEADER && tail->bytes + n > l->segment_max;
	if ((!tail || full) && segment_begin(l) < 0)
		return NULL;
	if (l->open && l->open->len + n > LOG_CHUNK_MAX)
		chunk_submit(l);
	if (!l->open && !(l->open = chunk_make(l)))
		return NULL;
	uint8_t *p = chunk_extend(l->open, n);
	if (p)
		newest(l)->bytes += n;
	return p;
}

/* A stream of small writes makes one long record, not one record each. */
static bool grow_last(struct log *l, int channel, const uint8_t *data, size_t len)
{
	struct chunk *c = l->open;
	struct record r;
	if (!c || !c->grows || c->len + len > LOG_CHUNK_MAX || newest(l)->bytes + len > l->segment_max ||
	    record_get_header(c->buf + c->last, &r) < 0 || r.channel != channel ||
	    r.len + len > LOG_PAYLOAD_MAX)
		return false;
	uint8_t *p = chunk_extend(c, len);
	if (!p)
		return false;
	memcpy(p, data, len);
	newest(l)->bytes += len;
	r.len += (uint32_t)len;
	record_put_header(c->buf + c->last, &r);
	l->laid.offset[channel] += len;
	return true;
}

static void lay(struct log *l, enum record_kind kind, int channel, const uint8_t *payload, size_t len)
{
	if (kind == RECORD_DATA && grow_last(l, channel, payload, len))
		return;
	struct record r = {
		.len = (uint32_t)len,
		.kind = (uint8_t)kind,
		.channel = (uint8_t)channel,
		.offset = kind == RECORD_EXIT ? 0 : l->laid.offset[channel],
		.position = log_point_position(&l->laid),
		.time_ns = clock_ns(CLOCK_REALTIME),
	};
	uint8_t *p = room_for(l, LOG_RECORD_HEADER + len);
	if (!p) { /* no memory is like no disk: a gap, later */
		fail(l, l->open);
		ack_dropped(l, l->inflight);
		return;
	}
	record_put_header(p, &r);
	if (len)
		memcpy(p + LOG_RECORD_HEADER, payload, len);
	l->open->grows = kind == RECORD_DATA;
	l->open->last = (size_t)(p - l->open->buf);
	log_point_pass(&l->laid, &r, payload);
}

/* The ends and the exit that were accepted and are in no chunk. */
static void lay_ends(struct log *l)
{
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR && !l->failing; c++)
		if (l->accepted.eof[c] && !l->laid.eof[c])
			lay(l, RECORD_EOF, c, NULL, 0);
	if (l->accepted.exit && !l->laid.exit && l->exit && !l->failing)
		lay(l, RECORD_EXIT, 0, l->exit, l->exit_len);
}

static void put(struct log *l, enum record_kind kind, int channel, const uint8_t *payload, size_t len)
{
	bool is_empty = l->segment_count == 0;
	bool is_output = kind == RECORD_DATA || kind == RECORD_GAP;
	if (is_empty && is_output && !l->failing)
		lay_ends(l);
	if (l->failing)
		ack_dropped(l, l->inflight);
	else if (is_empty && !is_output)
		l->acked = l->written = l->accepted;
	else
		lay(l, kind, channel, payload, len);
}

void log_put_data(struct log *l, int channel, const uint8_t *data, size_t len)
{
	l->accepted.offset[channel] += len;
	put(l, RECORD_DATA, channel, data, len);
}

void log_put_gap(struct log *l, int channel, uint64_t to)
{
	uint8_t payload[8];
	wire_put_u64(payload, to);
	l->accepted.offset[channel] = to;
	put(l, RECORD_GAP, channel, payload, sizeof payload);
}

void log_put_eof(struct log *l, int channel)
{
	l->accepted.eof[channel] = true;
	put(l, RECORD_EOF, channel, NULL, 0);
}

void log_put_exit(struct log *l, const uint8_t *payload, size_t len)
{
	free(l->exit);
	l->exit = malloc(len + 1);
	if (l->exit) {
		memcpy(l->exit, payload, len);
		l->exit_len = len;
	}
	l->accepted.exit = true;
	put(l, RECORD_EXIT, 0, payload, len);
}

void log_retry(struct log *l)
{
	if (!l->failing || l->inflight > 0)
		return;
	l->failing = false;
	l->mend = true;
	for (int c = CHANNEL_STDOUT; c <= CHANNEL_STDERR && !l->failing; c++) {
		uint8_t to[8];
		wire_put_u64(to, l->accepted.offset[c]);
		if (l->accepted.offset[c] > l->laid.offset[c])
			lay(l, RECORD_GAP, c, to, sizeof to);
	}
	lay_ends(l);
	chunk_submit(l);
}

/* ---- loop thread: asking ---------------------------------------------------------------------------- */

bool log_loaded(const struct log *l)
{
	return l->loaded;
}

const struct log_point *log_accepted(const struct log *l)
{
	return &l->accepted;
}

const struct log_point *log_acked(const struct log *l)
{
	return &l->acked;
}

uint64_t log_base(const struct log *l)
{
	return l->segment_count ? l->segments[0].position : 0;
}

uint64_t log_readable(const struct log *l)
{
	return log_point_position(&l->written);
}

bool log_settled(const struct log *l)
{
	return l->inflight == 0 && !l->open && !l->failing;
}

const struct log_point *log_written(const struct log *l)
{
	return &l->written;
}

bool log_failing(const struct log *l)
{
	return l->failing;
}

const uint8_t *log_exit(const struct log *l, size_t *len)
{
	*len = l->exit_len;
	return l->exit;
}

uint64_t log_bytes(const struct log *l)
{
	return log_bytes_from(l, 0);
}

/* Index of the segment that holds position; 0 if it is below all. */
static size_t segment_index(const struct log *l, uint64_t position)
{
	size_t lo = 0, hi = l->segment_count;
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;
		if (l->segments[mid].position <= position)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

uint64_t log_bytes_from(const struct log *l, uint64_t position)
{
	uint64_t bytes = 0;
	for (size_t i = segment_index(l, position); i < l->segment_count; i++)
		bytes += l->segments[i].bytes;
	return bytes;
}

static void trim_done(struct writer_job *job, int status)
{
	struct trim_job *t = (struct trim_job *)job;
	struct log *l = t->log;
	(void)status;
	free(t);
	job_over(l);
}

void log_trim(struct log *l, uint64_t held)
{
	l->held = held;
	size_t n = 0;
	uint64_t bytes = log_bytes(l);
	while (bytes > l->config.bound && n + LOG_SEGMENTS_MIN < l->segment_count &&
	       l->segments[n + 1].position <= held && l->segments[n + 1].position <= log_readable(l)) {
		bytes -= l->segments[n++].bytes;
	}
	struct trim_job *t = n ? calloc(1, sizeof *t) : NULL;
	if (!t)
		return;
	t->job = (struct writer_job){.run = trim_run, .done = trim_done};
	t->file = l->file;
	t->log = l;
	t->below = l->segments[n].position;
	forget_below(l, t->below);
	l->inflight++;
	writer_submit(l->config.writer, &t->job);
}

static bool published(const struct log *l, size_t i, uint64_t *segment)
{
	if (i >= l->segment_count || l->segments[i].position > l->published_segment ||
	    l->published_bytes == 0)
		return false;
	*segment = l->segments[i].position;
	return true;
}

bool log_find(const struct log *l, uint64_t position, uint64_t *segment)
{
	return published(l, segment_index(l, position), segment);
}

bool log_next(const struct log *l, uint64_t segment, uint64_t *next)
{
	size_t i = segment_index(l, segment);
	while (i < l->segment_count && l->segments[i].position <= segment)
		i++;
	return published(l, i, next);
}

uint64_t log_limit(const struct log *l, uint64_t segment)
{
	return segment == l->published_segment ? l->published_bytes : UINT64_MAX;
}

const char *log_dir(const struct log *l)
{
	return l->file->dir;
}

const uint8_t *log_id(const struct log *l)
{
	return l->id;
}
