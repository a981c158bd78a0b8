#include "host-shim/daemon/executions/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct failure closed_failure = {
	.kind = FAIL_CONFLICT,
	.message = "stdin is closed: the process does not read it any more",
};

void input_init(struct input *in)
{
	*in = (struct input){0};
	STAILQ_INIT(&in->blocks);
}

static void pop(struct input *in, const struct failure *f)
{
	struct input_block *b = STAILQ_FIRST(&in->blocks);
	STAILQ_REMOVE_HEAD(&in->blocks, link);
	if (b->done)
		b->done(b->arg, f);
	free(b);
}

static void tell_drained(struct input *in)
{
	void (*fn)(void *) = in->drained;
	if (!fn || input_queued(in) > EXECUTION_STDIN_MAX / 2)
		return;
	in->drained = NULL;
	fn(in->drained_arg);
}

void input_finish(struct input *in, const struct failure *f)
{
	in->closed = true;
	while (!STAILQ_EMPTY(&in->blocks))
		pop(in, f);
	in->acked = in->sent = in->end;
	tell_drained(in);
}

bool input_push(struct input *in, const void *data, size_t len, execution_done_fn done, void *arg)
{
	struct input_block *b = malloc(sizeof *b + len);
	if (!b)
		return false;
	in->end += len;
	b->end = in->end;
	b->done = done;
	b->arg = arg;
	b->len = len;
	memcpy(b->data, data, len);
	STAILQ_INSERT_TAIL(&in->blocks, b, link);
	return true;
}

size_t input_queued(const struct input *in)
{
	return (size_t)(in->end - in->acked);
}

static void advance(struct input *in, uint64_t acked)
{
	if (acked <= in->acked)
		return;
	in->acked = acked;
	if (in->sent < acked)
		in->sent = acked;
	struct input_block *b;
	while ((b = STAILQ_FIRST(&in->blocks)) && b->end <= acked)
		pop(in, NULL);
	tell_drained(in);
}

int input_resume(struct input *in, uint64_t acked, uint64_t limit, bool closed)
{
	if (!in->adopted) {
		/* Queued before this tenond knew how far its predecessor had come. */
		struct input_block *b;
		STAILQ_FOREACH (b, &in->blocks, link)
			b->end += acked;
		in->end += acked;
		in->acked = in->sent = in->high = acked;
		in->adopted = true;
	}
	if (acked > in->high || acked < in->acked)
		return -EPROTO;
	in->sent = acked;
	in->limit = limit;
	in->eof_sent = false;
	advance(in, acked);
	if (closed && in->eof && in->acked == in->end)
		in->closed = true;
	else if (closed)
		input_finish(in, &closed_failure);
	return 0;
}

int input_credit(struct input *in, uint64_t acked, uint64_t limit)
{
	if (in->closed)
		return 0;
	if (acked > in->high)
		return -EPROTO;
	if (limit > in->limit)
		in->limit = limit;
	advance(in, acked);
	return 0;
}

int input_close(struct input *in, uint64_t total)
{
	if (in->closed)
		return 0;
	if (total > in->high)
		return -EPROTO;
	advance(in, total);
	input_finish(in, &closed_failure);
	return 0;
}

size_t input_next(struct input *in, size_t max, uint64_t *offset, const uint8_t **data)
{
	if (in->closed || in->sent >= in->end || in->sent >= in->limit)
		return 0;
	struct input_block *b = STAILQ_FIRST(&in->blocks);
	while (b->end <= in->sent)
		b = STAILQ_NEXT(b, link);
	size_t skip = (size_t)(in->sent - (b->end - b->len));
	size_t n = b->len - skip;
	if (n > max)
		n = max;
	if (n > in->limit - in->sent)
		n = (size_t)(in->limit - in->sent);
	*offset = in->sent;
	*data = b->data + skip;
	in->sent += n;
	if (in->high < in->sent)
		in->high = in->sent;
	return n;
}

bool input_eof_due(struct input *in)
{
	if (in->closed || !in->eof || in->eof_sent || in->sent < in->end)
		return false;
	in->eof_sent = true;
	return true;
}
