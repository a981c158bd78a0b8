#include "guest/boot/doorbell.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/link/pack.h"
#include "proto/cleanup.h"

#define DEADLINE (5 * NSEC_PER_SEC)

static void hang_up(struct doorbell *d)
{
	timer_clear(&d->deadline);
	loop_remove(d->loop, &d->source);
	close_fd(&d->fd);
}

static void too_late(struct timer *t)
{
	hang_up(container_of(t, struct doorbell, deadline));
}

static void say_ready(struct source *s, uint32_t events)
{
	struct doorbell *d = container_of(s, struct doorbell, source);
	if (!(events & (EPOLLERR | EPOLLHUP))) {
		Tenon__Ready ready = TENON__READY__INIT;
		ready.boot_id = (ProtobufCBinaryData){BOOT_ID_SIZE, (uint8_t *)d->identity->boot_id};
		ready.boot = (Tenon__BootTimes *)&d->identity->times;
		Tenon__Event event = TENON__EVENT__INIT;
		event.kind_case = TENON__EVENT__KIND_READY;
		event.ready = &ready;

		uint8_t frame[256];
		struct sendq q;
		sendq_init(&q, frame, sizeof frame);
		pack_message(&q, 0, FRAME_EVENT, &event.base);
		send(d->fd, frame, sendq_len(&q), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	hang_up(d);
}

void doorbell_ring(struct doorbell *d)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = WIRE_PORT_DOORBELL};
	d->source = (struct source){-1, say_ready};
	timer_init(&d->deadline, too_late);
	d->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0)
		return;
	if ((connect(d->fd, (const struct sockaddr *)&host, sizeof host) < 0 && errno != EINPROGRESS) ||
	    loop_add(d->loop, &d->source, d->fd, EPOLLOUT) < 0) {
		close_fd(&d->fd);
		return;
	}
	timer_set(d->loop, &d->deadline, clock_mono() + DEADLINE);
}
