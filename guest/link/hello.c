#include "guest/link/hello.h"

#include <errno.h>

#include "guest/link/pack.h"

static bool put_hello(struct link *l, struct conn *c, Tenon__Role role)
{
	Tenon__Hello h = TENON__HELLO__INIT;
	h.role = role;
	h.features = WIRE_FEATURE_ANSWER_LATE | WIRE_FEATURE_CREDIT_WANTED;
	h.host_epoch = l->epoch;
	h.boot_id = (ProtobufCBinaryData){BOOT_ID_SIZE, l->identity->boot_id};
	h.clone_generation = l->identity->clone_generation;
	h.configured = l->box->configured;
	h.version = (char *)AGENT_VERSION;
	h.boot = &l->identity->times;
	return pack_hello(&c->out, &h);
}

static int judge_main(struct link *l, struct conn *c, const Tenon__Hello *h, struct fault *f)
{
	bool higher = h->host_epoch > l->epoch;
	if (higher) {
		l->epoch = h->host_epoch;
		l->streams.marks_wanted_credit = h->features & WIRE_FEATURE_CREDIT_WANTED;
	}
	put_hello(l, c, h->role);
	if (higher)
		return HELLO_MAIN;
	fault_code(f, TENON__CODE__CODE_FENCED, "epoch %llu is not above %llu",
		   (unsigned long long)h->host_epoch, (unsigned long long)l->epoch);
	return -EACCES;
}

static int judge_bulk(struct link *l, struct conn *c, const Tenon__Hello *h, struct fault *f)
{
	put_hello(l, c, h->role);
	if (h->host_epoch != l->epoch)
		fault_code(f, TENON__CODE__CODE_FENCED, "epoch %llu is not the main connection's",
			   (unsigned long long)h->host_epoch);
	else if (!l->box->configured)
		fault_code(f, TENON__CODE__CODE_NOT_CONFIGURED, "Configure comes first");
	else if (power_shutting_down(l->power))
		fault_code(f, TENON__CODE__CODE_SHUTTING_DOWN, "the VM is going down");
	else
		return HELLO_BULK;
	return -EACCES;
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

	switch (h->role) {
	case TENON__ROLE__ROLE_MAIN:
		return judge_main(l, c, h, f);
	case TENON__ROLE__ROLE_BULK:
		return judge_bulk(l, c, h, f);
	default:
		put_hello(l, c, TENON__ROLE__ROLE_MAIN);
		fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "role %d is not served", (int)h->role);
		f->field = "hello.role";
		return -EACCES;
	}
}
