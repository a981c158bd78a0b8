#include "guest/bulk/channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest/link/pack.h"
#include "guest/loop.h"

#define READ_BUFFER (2 * FRAME_SIZE_MAX)
#define SCRATCH (2 * 1024 * 1024)
#define OUT_SIZE (MESSAGE_FROM_AGENT_MAX + 16 * FRAME_HEADER_SIZE)
#define IDLE_MS (5 * 60 * 1000)
#define STALL_MS (15 * 60 * 1000)

int channel_init(struct channel *ch, int fd, const uint8_t *pending, size_t n)
{
	uint8_t *memory = memory_reserve(READ_BUFFER + MESSAGE_MAX + SCRATCH + OUT_SIZE + FRAME_DATA_FULL);
	if (!memory)
		return -ENOMEM;
	*ch = (struct channel){.fd = fd, .scratch_memory = memory + READ_BUFFER + MESSAGE_MAX};
	frame_reader_init(&ch->reader, memory, READ_BUFFER);
	message_joiner_init(&ch->joiner, memory + READ_BUFFER, MESSAGE_MAX);
	ch->out = ch->scratch_memory + SCRATCH;
	ch->gathered = ch->out + OUT_SIZE;
	size_t room;
	uint8_t *space = frame_reader_space(&ch->reader, &room);
	if (n > room)
		return -ENOMEM;
	memcpy(space, pending, n);
	frame_reader_commit(&ch->reader, n);
	return 0;
}

int channel_wait(struct pollfd *fds, int n, int ms, enum channel_mood mood)
{
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	if (mood == CHANNEL_IDLE)
		sigdelset(&mask, SIGTERM);
	struct timespec limit = {ms / 1000, ms % 1000 * 1000000L};
	int r;
	do
		r = ppoll(fds, (nfds_t)n, ms < 0 ? NULL : &limit, &mask);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

/* ---- to the host ---- */

static int send_all(struct channel *ch, struct iovec *iov, int n)
{
	while (n > 0) {
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
		ssize_t sent = sendmsg(ch->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = ch->fd, .events = POLLOUT};
			int r = channel_wait(&p, 1, STALL_MS, CHANNEL_BUSY);
			if (r < 0)
				return r;
			continue;
		}
		if (sent < 0)
			return -ECONNRESET;
		size_t left = (size_t)sent;
		for (; n > 0 && left >= iov->iov_len; iov++, n--)
			left -= iov->iov_len;
		if (n > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + left;
			iov->iov_len -= left;
		}
	}
	return 0;
}

int channel_send(struct channel *ch, const void *bytes, size_t n)
{
	struct iovec iov = {(void *)bytes, n};
	return send_all(ch, &iov, 1);
}

/* A message of this agent's own making, whose size is bounded where it is made. */
static int send_message(struct channel *ch, enum frame_type type, const ProtobufCMessage *m)
{
	struct sendq q;
	sendq_init(&q, ch->out, OUT_SIZE);
	if (!pack_message(&q, ch->stream, type, m))
		return -EMSGSIZE;
	return channel_send(ch, ch->out, sendq_len(&q));
}

int channel_answer(struct channel *ch, const Tenon__BulkResponse *r)
{
	ch->answered = true;
	return send_message(ch, FRAME_RSP, &r->base);
}

int channel_answer_done(struct channel *ch)
{
	Tenon__Done done = TENON__DONE__INIT;
	Tenon__BulkResponse r = TENON__BULK_RESPONSE__INIT;
	r.result_case = TENON__BULK_RESPONSE__RESULT_DONE;
	r.done = &done;
	return channel_answer(ch, &r);
}

/* A frame of what is gathered and n bytes more. */
static int give_frame(struct channel *ch, const void *bytes, size_t n)
{
	uint8_t head[FRAME_DATA_HEAD];
	frame_put_data_head(head, ch->stream, CHANNEL_STDOUT, ch->given, ch->n_gathered + n);
	struct iovec iov[3] = {{head, sizeof head}, {ch->gathered, ch->n_gathered}, {(void *)bytes, n}};
	ch->given += ch->n_gathered + n;
	ch->n_gathered = 0;
	return send_all(ch, iov, 3);
}

/* As much as fills frames; what is left is less than one with what is gathered. */
static int give_full_frames(struct channel *ch, const uint8_t **bytes, size_t *n)
{
	int r = 0;
	for (size_t room; r == 0 && *n >= (room = FRAME_DATA_FULL - ch->n_gathered);
	     *bytes += room, *n -= room)
		r = give_frame(ch, *bytes, room);
	return r;
}

int channel_give(struct channel *ch, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	int r = give_full_frames(ch, &p, &n);
	return r == 0 && n > 0 ? give_frame(ch, p, n) : r;
}

int channel_gather(struct channel *ch, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	int r = give_full_frames(ch, &p, &n);
	if (r == 0) {
		memcpy(ch->gathered + ch->n_gathered, p, n);
		ch->n_gathered += n;
	}
	return r;
}

int channel_flush(struct channel *ch)
{
	return ch->n_gathered > 0 ? give_frame(ch, NULL, 0) : 0;
}

int channel_give_event(struct channel *ch, const Tenon__BulkEvent *event)
{
	if (protobuf_c_message_get_packed_size(&event->base) > FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	return send_message(ch, FRAME_EVENT, &event->base);
}

int channel_end(struct channel *ch, uint64_t total)
{
	uint8_t frame[FRAME_SMALL_MAX];
	return channel_send(ch, frame, frame_put_eof(frame, ch->stream, CHANNEL_STDOUT, total));
}

static int send_fault(struct channel *ch, uint32_t stream, enum frame_type type, const struct fault *f)
{
	struct sendq q;
	sendq_init(&q, ch->out, OUT_SIZE);
	pack_fault(&q, stream, type, f);
	return channel_send(ch, ch->out, sendq_len(&q));
}

int channel_fail(struct channel *ch, const struct fault *f)
{
	if (ch->answered)
		return send_fault(ch, ch->stream, FRAME_RESET, f);
	Tenon__Error e;
	pack_error(&e, f);
	Tenon__BulkResponse r = TENON__BULK_RESPONSE__INIT;
	r.error = &e;
	return channel_answer(ch, &r);
}

static int malformed(struct channel *ch, const struct err *e)
{
	struct fault f = {.code = TENON__CODE__CODE_PROTOCOL, .err = *e};
	send_fault(ch, 0, FRAME_GOAWAY, &f);
	return -EPROTO;
}

/* ---- from the host ---- */

int channel_try_frame(struct channel *ch, struct frame *f)
{
	for (;;) {
		struct err e;
		int r = frame_reader_next(&ch->reader, f, &e);
		if (r < 0)
			return malformed(ch, &e);
		if (r > 0)
			return 0;
		ssize_t n = frame_reader_fill(&ch->reader, ch->fd);
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n != -EINTR && n <= 0)
			return -ECONNRESET;
	}
}

int channel_frame(struct channel *ch, struct frame *f, enum channel_mood mood)
{
	int r;
	while ((r = channel_try_frame(ch, f)) == -EAGAIN) {
		struct pollfd p = {.fd = ch->fd, .events = POLLIN};
		r = channel_wait(&p, 1, mood == CHANNEL_IDLE ? IDLE_MS : STALL_MS, mood);
		if (r < 0)
			return r;
	}
	return r;
}

ssize_t channel_accept(struct channel *ch, const struct frame *f, const uint8_t **bytes)
{
	struct err e;
	bool ours = f->stream == ch->stream && !ch->host_ended;
	if (ours && f->type == FRAME_RESET) {
		ch->host_ended = true;
		return -ECANCELED;
	}
	if (!ours || (f->type != FRAME_DATA && f->type != FRAME_EOF) || frame_channel(f) != CHANNEL_STDIN) {
		err_set(&e, "frame", EPROTO, "type %u on stream %u within an operation", f->type, f->stream);
		return malformed(ch, &e);
	}
	if (frame_offset(f) != ch->taken) {
		err_set(&e, "frame", EPROTO, "the bytes do not follow on");
		return malformed(ch, &e);
	}
	if (f->type == FRAME_EOF) {
		ch->host_ended = true;
		return 0;
	}
	size_t n;
	*bytes = frame_data(f, &n);
	ch->taken += n;
	return (ssize_t)n;
}

ssize_t channel_take(struct channel *ch, const uint8_t **bytes)
{
	if (ch->host_ended)
		return 0;
	struct frame f;
	int r;
	do
		r = channel_frame(ch, &f, CHANNEL_BUSY);
	while (r == 0 && channel_skips(&f));
	return r < 0 ? r : channel_accept(ch, &f, bytes);
}

/* One frame between operations: 1 when *m is the next request, 0 if there is more to read, -EPROTO. */
static int next_frame(struct channel *ch, const struct frame *f, struct message *m, uint32_t *last)
{
	struct err e;
	bool late = f->stream <= *last &&
		    (f->type == FRAME_DATA || f->type == FRAME_EOF || f->type == FRAME_RESET);
	if (late || channel_skips(f))
		return 0; /* of an operation that is over */
	bool continues = ch->joiner.type != 0;
	if (f->type != FRAME_REQ || (!continues && f->stream <= *last)) {
		err_set(&e, "frame", EPROTO, "type %u on stream %u between operations", f->type, f->stream);
		return malformed(ch, &e);
	}
	int r = message_join(&ch->joiner, f, m, &e);
	if (r < 0)
		return malformed(ch, &e);
	*last = f->stream;
	return r;
}

/* 1 with *req, 0 if the request was refused. */
static int take_request(struct channel *ch, const struct message *m, const Tenon__BulkRequest **req)
{
	struct err e;
	struct fault f;
	const ProtobufCMessage *unpacked;
	bump_init(&ch->scratch, ch->scratch_memory, SCRATCH);
	int r = pack_take_request(&ch->scratch, &tenon__bulk_request__descriptor, m, &unpacked, &f, &e);
	if (r == -EPROTO)
		return malformed(ch, &e);
	if (r < 0)
		return channel_fail(ch, &f);
	*req = (const Tenon__BulkRequest *)unpacked;
	return 1;
}

int channel_next(struct channel *ch, const Tenon__BulkRequest **req)
{
	for (;;) {
		struct frame f;
		struct message m;
		int r = channel_frame(ch, &f, CHANNEL_IDLE);
		if (r == -EPROTO)
			return r;
		if (r < 0 || f.type == FRAME_GOAWAY)
			return 0;
		r = next_frame(ch, &f, &m, &ch->stream);
		if (r == 1) {
			ch->answered = ch->host_ended = false;
			ch->taken = ch->given = 0;
			ch->n_gathered = 0;
			r = take_request(ch, &m, req);
		}
		if (r != 0)
			return r;
	}
}
