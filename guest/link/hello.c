#include "guest/link/hello.h"

#include <errno.h>

#include "guest/link/pack.h"

static bool put_hello(struct link *l, struct conn *c)
{
	Tenon__Hello h = TENON__HELLO__INIT;
	h.role = TENON__ROLE__ROLE_MAIN;
	h.host_epoch = l->epoch;
	h.boot_id = (ProtobufCBinaryData){BOOT_ID_SIZE, l->identity->boot_id};
	h.configured = l->box->configured;
	h.version = (char *)AGENT_VERSION;
	h.boot = &l->identity->times;
	return pack_hello(&c->out, &h);
}

int hello_receive(struct link *l, struct conn *c, const struct frame *frame, struct fault *f, struct err *e)
{
	if (frame->type != FRAME_HELLO)
		return err_set(e, "hello", EPROTO, "a frame of type %u before HELLO", frame->type);
	int generation = frame_get_hello_prefix(frame, e);
	if (generation < 0)
		return generation;
	/* Ours is generation 1, the oldest: every later one can speak it. */

	struct bump scratch;
	bump_init(&scratch, l->scratch, LINK_SCRATCH);
	const Tenon__Hello *h = (const Tenon__Hello *)pack_unpack(&scratch, &tenon__hello__descriptor,
								  frame->payload + FRAME_HELLO_PREFIX,
								  frame->len - FRAME_HELLO_PREFIX);
	if (!h)
		return err_set(e, "hello", EPROTO, "HELLO holds no Hello message");

	if (h->role != TENON__ROLE__ROLE_MAIN) {
		put_hello(l, c);
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "role %d is not served", (int)h->role);
		f->field = "hello.role";
		return -EACCES;
	}
	if (h->host_epoch <= l->epoch) {
		put_hello(l, c);
		fault_code(f, TENON__CODE__CODE_FENCED, "epoch %llu is not above %llu",
			   (unsigned long long)h->host_epoch, (unsigned long long)l->epoch);
		return -EACCES;
	}
	l->epoch = h->host_epoch;
	put_hello(l, c);
	return 0;
}
