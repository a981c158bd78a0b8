/* exit.json: how a box ended, for whoever looks after tenon-vmm is gone. */
#pragma once

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>

#define EXIT_RECORD_NAME "exit.json"

struct exit_record {
	const char *reason; /* guest_shutdown, guest_reset, stopped, qemu_died or start_failed: WIRE.md §8 */
	char message[512];
	bool has_status;
	int status;                 /* QEMU's, as from waitpid(2), if has_status */
	uint64_t started_ms, at_ms; /* CLOCK_REALTIME */
};

/* Writes it into the directory, in one piece or not at all. */
int exit_record_write(const struct exit_record *x, int dir, struct err *e);
