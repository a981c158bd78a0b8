/* Becoming another program in this process, with every execution, terminal and byte (WIRE.md §5, Upgrade).
 * What is new proves itself in a child first; until execve(2) has succeeded this program can go on as if
 * nothing had been. */
#pragma once

#include "guest/boot/identity.h"
#include "guest/box/box.h"
#include "guest/link/link.h"
#include "guest/link/listener.h"
#include "guest/power/power.h"

#define UPGRADE_VERDICT_MS 30000 /* more than all the deadlines of an upgrade */

/* On the socket of whoever asked, in this order: go, then its end at the moment of execve(2). Or, at any
 * time, a fault. Both ends are this very program, so pointers to literals mean the same. */
struct upgrade_verdict {
	bool go;
	struct fault fault;
};

#define UPGRADE_SAID_MAX 160
struct upgrade {
	struct loop *loop;
	struct identity *identity;
	struct execs *execs;
	struct box *box;
	struct power *power;
	struct link *link;
	struct listener *listener;
	const char *listen_on;

	enum { UPGRADE_NONE, UPGRADE_TESTING, UPGRADE_SETTLING } stage;
	int binary_fd, reply_fd;
	bool paused; /* link and listener take nothing new */
	pid_t tester;
	struct source said;          /* the tester's stderr */
	char line[UPGRADE_SAID_MAX]; /* the last that it said, or its beginning */
	size_t line_len;
	bool line_over;
	struct timer deadline;
};

void upgrade_init(struct upgrade *u);

/* Begins, taking both: the new program, and the socket (SOCK_SEQPACKET) that gets the verdict. */
void upgrade_begin(struct upgrade *u, int binary_fd, int reply_fd);

/* The reaper's: true if pid was the child that tries the new program. */
bool upgrade_reaped(struct upgrade *u, pid_t pid, int status);

/* To be called in each turn of the loop: changes over when everything is ready for it, and then does not
 * return. True if it was given up, so that the link has more to do at once. */
bool upgrade_turn(struct upgrade *u);
