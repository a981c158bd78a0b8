/* Telling the host, once, that the link can be dialled (WIRE.md §1). A hint: when it does not arrive nothing
 * is lost. */
#pragma once

#include "guest/boot/identity.h"
#include "guest/loop.h"

struct doorbell {
	struct loop *loop;
	const struct identity *identity;
	struct source source;
	struct timer deadline;
	int fd;
};

/* Dials the host without blocking, says Ready, hangs up. */
void doorbell_ring(struct doorbell *d);
