/* The message that one program leaves to the next (proto/handover.proto), and the sealed memfd it lies in: u8
 * magic[8], u32 length, the message. The form is for every version to come. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>

#include "guest/exec/table.h"
#include "guest/memory.h"
#include "proto/handover.pb-c.h"

#define HANDOVER_VERSION 1
#define HANDOVER_MIN 1    /* the oldest reader that understands what we write */
#define HANDOVER_OLDEST 1 /* the oldest writer that we understand */
#define HANDOVER_MAX (2 * 1024 * 1024)

/* Nobody can change what is so sealed, memfd_create(2). */
#define HANDOVER_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* What a program told to test itself says last, and nothing else says. For every version to come. */
#define HANDOVER_PASSED "tenon-init: self-test passed"

/* Writes *h, its versions and layout filled in, into a new sealed memfd, close-on-exec. -errno with *e. */
int handover_write(Tenon__Handover *h, struct err *e);

/* Whether fd is what handover_write makes, whatever it holds. */
bool handover_is_one(int fd);

/* Takes n bytes of such a memfd apart into *b (HANDOVER_SCRATCH suffices) and checks that this program may go
 * on from them: versions, layout, sizes. NULL with *e if not. */
#define HANDOVER_SCRATCH (2 * HANDOVER_MAX)
const Tenon__Handover *handover_parse(const uint8_t *bytes, size_t n, struct bump *b, struct err *e);

/* The same for a memfd. Everything is in *memory, a reservation of HANDOVER_MEMORY bytes, the caller's to
 * unmap if it is not NULL. */
#define HANDOVER_MEMORY (HANDOVER_MAX + HANDOVER_SCRATCH)
const Tenon__Handover *handover_read(int fd, void **memory, struct err *e);

/* ---- descriptors ---- */

enum handover_fd {
	HANDOVER_FD_OTHER,
	HANDOVER_FD_LISTENER,
	HANDOVER_FD_READ, /* a pipe or terminal to read from */
	HANDOVER_FD_WRITE,
};

/* Calls visit for each descriptor that *h and the rows of t name (t->arena NULL: of *h alone) until it
 * returns nonzero, and returns that, or 0. */
int handover_each_fd(const Tenon__Handover *h, const struct exec_table *t,
		     int (*visit)(int fd, enum handover_fd kind, void *arg), void *arg);

/* Whether each of them is open, of its kind, and named once; and whether the rows are in order but for those
 * that have just begun. -EINVAL or -EBADF with *e. */
int handover_check(const Tenon__Handover *h, const struct exec_table *t, struct err *e);
