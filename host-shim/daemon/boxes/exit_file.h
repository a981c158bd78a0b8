/* exit.json, in which tenon-vmm says how a VM ended. It is read after a crash of anything, so it may be anything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/err.h"

#define EXIT_FILE_NAME "exit.json"
#define EXIT_FILE_MAX 16384

enum exit_reason {
	EXIT_UNKNOWN, /* no record, or a word this tenond does not know */
	EXIT_GUEST_SHUTDOWN,
	EXIT_GUEST_RESET,
	EXIT_STOPPED,
	EXIT_QEMU_DIED,
	EXIT_START_FAILED,
};

struct exit_file {
	enum exit_reason reason;
	char message[160]; /* printable; "" if there is none */
};

/* Parses text of len bytes. -EINVAL if it is no such record; *out is EXIT_UNKNOWN then. */
int exit_file_parse(struct exit_file *out, const char *text, size_t len, struct err *e);
/* Reads it from a box's state directory. -ENOENT if there is none. */
int exit_file_read(struct exit_file *out, const char *state_dir, struct err *e);
/* "the guest shut down": what the reason means, for people. */
const char *exit_reason_words(enum exit_reason reason);
