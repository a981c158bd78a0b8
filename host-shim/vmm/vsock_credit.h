/* Flow control of one connection (virtio 1.2, §5.10.6.3). All counters are of bytes since the
 * connection began, mod 2^32; only differences mean anything. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What the guest may have sent that the client has not taken: so also the bound of what we hold. */
#define CREDIT_WINDOW (256u * 1024)

struct credit {
	uint32_t rx_cnt;       /* received from the guest */
	uint32_t fwd_cnt;      /* of those, taken by the client */
	uint32_t told_fwd_cnt; /* fwd_cnt in the last header we sent */
	uint32_t tx_cnt;       /* sent to the guest */
	uint32_t peer_alloc, peer_fwd_cnt;
};

/* Bytes we may send now. A peer whose counters contradict themselves gets nothing: it starves itself. */
static inline uint32_t credit_free(const struct credit *c)
{
	uint32_t in_flight = c->tx_cnt - c->peer_fwd_cnt;
	return in_flight < c->peer_alloc ? c->peer_alloc - in_flight : 0;
}

/* Accounts for len bytes from the guest; false if it sent beyond the window. */
static inline bool credit_receive(struct credit *c, uint32_t len)
{
	if (len > CREDIT_WINDOW - (c->rx_cnt - c->fwd_cnt))
		return false;
	c->rx_cnt += len;
	return true;
}

/* Whether the guest's idea of our window lags so far that it may soon wait for nothing. */
static inline bool credit_update_due(const struct credit *c)
{
	return c->fwd_cnt - c->told_fwd_cnt >= CREDIT_WINDOW / 4;
}
