/* Bytes between a file and the daemon, in either direction. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "commands.h"

#define TRANSFER_REPLY_MAX 4096

struct transfer {
	CURL *curl;
	int fd;                         /* of what is sent, or of what gets what comes with status 200 */
	pid_t packer;                   /* what is sent is whole only if this child ends well; 0: none */
	bool failed;                    /* on our side, and complained of */
	char reply[TRANSFER_REPLY_MAX]; /* what comes with another status */
	size_t reply_len;
};

/* Both set up t->curl, which the caller has made; a transfer that sends also receives. */
void transfer_receive(struct transfer *t);
void transfer_send(struct transfer *t);
/* 0, or EXIT_TENON after a complaint. */
int transfer_perform(struct transfer *t);
