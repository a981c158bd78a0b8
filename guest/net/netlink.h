/* rtnetlink(7) by hand: one message built, sent, and its answer read. Blocking, for workers. */
#pragma once

#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_REQUEST_MAX 256

/* A message being built. */
struct netlink_request {
	union {
		struct nlmsghdr head;
		uint8_t bytes[NETLINK_REQUEST_MAX];
	};
};

/* Begins a message of a type with its fixed part (struct ifinfomsg, ifaddrmsg, rtmsg). flags: NLM_F_… beside
 * NLM_F_REQUEST. */
void netlink_begin(struct netlink_request *r, uint16_t type, uint16_t flags, const void *body, size_t n);
/* Appends an attribute. What does not fit is a mistake of ours: nothing is appended and false returned. */
bool netlink_put(struct netlink_request *r, uint16_t type, const void *data, size_t n);
bool netlink_put_u32(struct netlink_request *r, uint16_t type, uint32_t value);

/* The messages of what was received: the one at *at within [buf, buf + n), *at moved behind it; NULL at the
 * end or where a length makes no sense. */
const struct nlmsghdr *netlink_next(const void *buf, size_t n, size_t *at);
/* The attribute of a type behind the fixed part (`body` bytes) of a message, with *len of its data; or NULL.
 */
const void *netlink_attr(const struct nlmsghdr *m, size_t body, uint16_t type, size_t *len);

/* A socket, or -errno. groups: RTMGRP_… to listen to. */
int netlink_open(uint32_t groups);

/* Sends and waits for the kernel's word: 0 or -errno. */
int netlink_talk(int fd, struct netlink_request *r);

/* Sends a request for a list and gives each message of the answer to `each`, up to the first that it does not
 * return 0 for, which is returned when all have come. -errno if the kernel refuses. */
int netlink_dump(int fd, struct netlink_request *r, int (*each)(const struct nlmsghdr *m, void *arg),
		 void *arg);
