#include "vring.h"

#include <errno.h>
#include <string.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1 };
enum { USED_NO_NOTIFY = 1 };

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static uint16_t *avail_idx(const struct vring *vr)
{
	return vr->avail + 1;
}

static uint16_t *used_event(const struct vring *vr)
{
	return vr->avail + 2 + vr->num;
}

static uint16_t *avail_event(const struct vring *vr)
{
	return vr->used + 2 + 4 * vr->num;
}

/* Each field fetched once: the guest may be rewriting the descriptor meanwhile. */
static struct vring_desc copy_desc(const struct vring_desc *d)
{
	return (struct vring_desc){
		.addr = __atomic_load_n(&d->addr, __ATOMIC_RELAXED),
		.len = __atomic_load_n(&d->len, __ATOMIC_RELAXED),
		.flags = load16(&d->flags),
		.next = load16(&d->next),
	};
}

void vring_init(struct vring *vr)
{
	*vr = (struct vring){0};
}

int vring_set_size(struct vring *vr, unsigned num, struct err *e)
{
	if (num == 0 || num > VRING_SIZE_MAX || (num & (num - 1)))
		return err_set(e, "vring", EINVAL, "queue size %u is not a power of two up to %d", num,
			       VRING_SIZE_MAX);
	vr->num = num;
	vr->desc = NULL;
	return 0;
}

int vring_map(struct vring *vr, const struct memtable *mt, struct err *e)
{
	vr->desc = NULL;
	if (vr->num == 0)
		return err_set(e, "vring", EINVAL, "queue addresses before its size");
	if (vr->addr.desc % 16 || vr->addr.avail % 2 || vr->addr.used % 4)
		return err_set(e, "vring", EINVAL, "queue parts are not aligned");

	void *desc = memtable_from_user(mt, vr->addr.desc, 16ull * vr->num);
	void *avail = memtable_from_user(mt, vr->addr.avail, 6 + 2ull * vr->num);
	void *used = memtable_from_user(mt, vr->addr.used, 6 + 8ull * vr->num);
	/* The mapping must keep the alignment, or the loads below would tear. */
	if (!desc || !avail || !used || (uintptr_t)desc % 16 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
		return err_set(e, "vring", EINVAL, "queue lies outside the guest's memory");
	vr->avail = avail;
	vr->used = used;
	vr->desc = desc;
	return 0;
}

void vring_set_base(struct vring *vr, uint16_t base)
{
	vr->last_avail = base;
	vr->used_idx = base;
	vr->signalled_valid = false;
}

struct walk {
	const struct memtable *mt;
	struct vring_chain *chain;
	unsigned seen; /* descriptors so far, the indirect ones too */
	unsigned most; /* §2.7.5.2: a chain is no longer than the queue */
};

static int add_buffer(struct walk *w, const struct vring_desc *d, struct err *e)
{
	struct vring_chain *c = w->chain;
	unsigned used = c->n_out + c->n_in;
	if (!(d->flags & DESC_WRITE) && c->n_in > 0)
		return err_set(e, "vring", EPROTO, "readable buffer after a writable one");

	int n = memtable_translate(w->mt, d->addr, d->len, c->iov + used, VRING_IOV_MAX - used);
	if (n == -E2BIG)
		return err_set(e, "vring", EPROTO, "chain of more than %d buffers", VRING_IOV_MAX);
	if (n < 0)
		return err_set(e, "vring", EPROTO,
			       "buffer of %u bytes at %#llx is outside the guest's memory", d->len,
			       (unsigned long long)d->addr);
	if (d->flags & DESC_WRITE) {
		c->n_in += (unsigned)n;
		c->in_len += d->len;
	} else {
		c->n_out += (unsigned)n;
		c->out_len += d->len;
	}
	return 0;
}

/* Walks the table of an indirect descriptor. It must be copied entry by entry as any other. */
static int walk_indirect(struct walk *w, const struct vring_desc *at, struct err *e)
{
	struct iovec iov;
	if (at->len == 0 || at->len % sizeof(struct vring_desc))
		return err_set(e, "vring", EPROTO, "indirect table of %u bytes", at->len);
	if (memtable_translate(w->mt, at->addr, at->len, &iov, 1) != 1 || (uintptr_t)iov.iov_base % 8)
		return err_set(e, "vring", EPROTO, "indirect table at %#llx is outside the guest's memory",
			       (unsigned long long)at->addr);

	const struct vring_desc *table = iov.iov_base;
	unsigned entries = at->len / sizeof *table;
	for (unsigned i = 0;;) {
		if (i >= entries)
			return err_set(e, "vring", EPROTO, "entry %u of an indirect table of %u", i, entries);
		if (++w->seen > w->most)
			return err_set(e, "vring", EPROTO, "chain longer than the queue: a loop");
		struct vring_desc d = copy_desc(&table[i]);
		if (d.flags & DESC_INDIRECT)
			return err_set(e, "vring", EPROTO, "indirect table within an indirect table");
		int r = add_buffer(w, &d, e);
		if (r < 0 || !(d.flags & DESC_NEXT))
			return r;
		i = d.next;
	}
}

int vring_peek(const struct vring *vr, const struct memtable *mt, struct vring_chain *chain, struct err *e)
{
	uint16_t idx = __atomic_load_n(avail_idx(vr), __ATOMIC_ACQUIRE);
	uint16_t ahead = (uint16_t)(idx - vr->last_avail);
	if (ahead == 0)
		return 0;
	if (ahead > vr->num)
		return err_set(e, "vring", EPROTO, "%u entries available in a queue of %u", ahead, vr->num);

	chain->head = load16(vr->avail + 2 + vr->last_avail % vr->num);
	chain->n_out = chain->n_in = 0;
	chain->out_len = chain->in_len = 0;

	struct walk w = {.mt = mt, .chain = chain, .most = vr->num};
	for (unsigned i = chain->head;;) {
		if (i >= vr->num)
			return err_set(e, "vring", EPROTO, "descriptor %u of a queue of %u", i, vr->num);
		if (++w.seen > w.most)
			return err_set(e, "vring", EPROTO, "chain longer than the queue: a loop");
		struct vring_desc d = copy_desc(&vr->desc[i]);
		if (d.flags & DESC_INDIRECT) {
			if (!vr->indirect || (d.flags & DESC_NEXT))
				return err_set(e, "vring", EPROTO, "indirect descriptor where none may be");
			int r = walk_indirect(&w, &d, e);
			return r < 0 ? r : 1;
		}
		int r = add_buffer(&w, &d, e);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_NEXT))
			return 1;
		i = d.next;
	}
}

void vring_complete(struct vring *vr, const struct vring_chain *chain, uint32_t written)
{
	uint32_t *elem = (uint32_t *)(void *)(vr->used + 2) + 2 * (vr->used_idx % vr->num);
	__atomic_store_n(&elem[0], chain->head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem[1], written, __ATOMIC_RELAXED);
	vr->last_avail++;
	vr->used_idx++;
	/* The element and the buffer before the index: the guest reads them in the other order. */
	__atomic_store_n(vr->used + 1, vr->used_idx, __ATOMIC_RELEASE);
}

bool vring_arm(struct vring *vr)
{
	if (vr->event_idx)
		store16(avail_event(vr), vr->last_avail);
	else
		store16(vr->used, 0);
	/* The guest stores its index, then looks at our wish; we store the wish, then look at its index.
	 * Without the full fence on both sides each could miss the other, and the queue would sleep. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	bool more = load16(avail_idx(vr)) != vr->last_avail;
	if (more && !vr->event_idx)
		store16(vr->used, USED_NO_NOTIFY);
	return more;
}

bool vring_should_notify(struct vring *vr)
{
	uint16_t now = vr->used_idx, before = vr->signalled;
	bool first = !vr->signalled_valid;
	if (!first && now == before)
		return false;
	vr->signalled = now;
	vr->signalled_valid = true;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vr->event_idx)
		return !(load16(vr->avail) & AVAIL_NO_INTERRUPT);
	/* §2.7.7.2: notify if the index the guest named was passed since the last time. */
	uint16_t event = load16(used_event(vr));
	return first || (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}
