/* One stream connection between a guest socket and a unix socket: its state, its credit, and the bytes
 * that the unix socket would not take yet. Knows nothing of rings: the device hands packets in
 * (conn_receive) and asks for packets (conn_next_packet), and is told when there is something to ask for.
 *
 *   REQUESTED  a client dialled; the guest has not answered      → OPEN, GONE
 *   OPEN       bytes flow                                        → CLOSING, DRAINING, GONE
 *   CLOSING    the client left; the guest owes us a RST          → GONE
 *   DRAINING   the guest left; its last bytes wait for the client, the ports are free again → GONE
 *   GONE       the device may destroy it
 */
#pragma once

#include "loop.h"
#include "vsock_credit.h"
#include "vsock_packet.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* How long the guest may take to answer a dial, and to acknowledge an end. */
#define CONN_ANSWER_MS 2000
#define CONN_CLOSE_MS 8000

/* How long a client's bytes wait for credit before the guest is asked for it. */
#define CONN_ASK_MS 100

enum conn_state { CONN_REQUESTED, CONN_OPEN, CONN_CLOSING, CONN_DRAINING, CONN_GONE };

struct conn;

/* How a connection talks to its device. Neither call may destroy the connection. */
struct conn_owner {
	struct loop *loop;
	uint64_t guest_cid;
	/* The state, or what conn_has_packet says, may have changed. */
	void (*changed)(struct conn_owner *owner, struct conn *c);
	uint64_t to_guest_bytes, from_guest_bytes; /* payload of all connections */
};

struct conn {
	struct conn_owner *owner;
	struct loop_source sock;
	int fd;
	struct loop_timer deadline;
	enum conn_state state;
	uint32_t host_port, guest_port;
	struct credit credit;

	unsigned owed;                  /* bit set over enum vsock_op: control packets to send */
	bool readable;                  /* the client's socket may hold bytes or its end */
	bool hung_up;                   /* the client closed: nothing can be written any more */
	unsigned guest_shut, host_shut; /* VSOCK_SHUT_*: what each side said it stops doing */

	uint8_t *backlog; /* ring of CREDIT_WINDOW bytes from the guest, NULL while empty */
	uint32_t backlog_at, backlog_len;

	/* The device's links. */
	struct conn *hash_next; /* while the ports are taken */
	struct conn *all_prev, *all_next;
	struct conn *turn_next;
	bool in_table, in_turn;
};

/* A connection for a client that dialled: sends REQUEST, then `OK <host_port>\n` to the client when the
 * guest accepts; from a guest that dialled (accepting true): sends RESPONSE. Takes over fd (non-blocking
 * stream socket) in every case. NULL with errno set if memory or epoll fails. */
struct conn *conn_create(struct conn_owner *owner, int fd, uint32_t host_port, uint32_t guest_port,
			 bool accepting);

/* Closes the client's socket and frees. Accepts NULL. */
void conn_destroy(struct conn *c);

/* The credit fields of a packet from the guest; any packet carries them. */
void conn_take_credit(struct conn *c, const struct vsock_hdr *hdr);

/* A packet from the guest for this connection. hdr is a checked copy; the payload is hdr->len bytes at
 * iov, and is written to the client's socket at once as far as that takes it. iov entries are consumed. */
void conn_receive(struct conn *c, const struct vsock_hdr *hdr, struct iovec *iov, unsigned n);

/* Whether conn_next_packet would (probably) give one. */
bool conn_has_packet(const struct conn *c);

/* The next packet for the guest: fills *hdr, reads up to the room in iov (n entries, cut to the guest's
 * credit) from the client's socket as payload. False if there was nothing to send after all. */
bool conn_next_packet(struct conn *c, struct vsock_hdr *hdr, struct iovec *iov, unsigned n);

/* Ends it from our side: the guest gets a RST, the client its end. */
void conn_abort(struct conn *c);
