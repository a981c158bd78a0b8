/* Executions in the database: one row each, written whole. The table itself is made by store/schema.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host-shim/daemon/store/store.h"

#define BOX_ID_MAX 128
#define EXECUTION_REASON_MAX 160

enum row_state { ROW_RUNNING, ROW_COMPLETED, ROW_KILLED, ROW_TIMED_OUT, ROW_REAPED };

struct row {
	uint8_t id[16];
	uint8_t boot_id[16]; /* of the boot it was started in */
	char box_id[BOX_ID_MAX + 1];
	enum row_state state;
	bool kill;    /* asked for: committed before the signal is sent */
	bool drained; /* nothing more can come from the agent */
	bool has_exit;
	int exit_code;
	char reason[EXECUTION_REASON_MAX];
	uint64_t started_ms, ended_ms, duration_ms;
	uint64_t finish;    /* log position at which readers are given the exit */
	uint64_t log_bytes; /* on disk, at the end */
	uint64_t seen;      /* log position that an attached client has confirmed */
	uint64_t reaped_ms;
};

/* Inserts or replaces; spec (packed Exec, copied) is kept as it was if NULL. done as in store_submit.
 * -ENOMEM. */
int rows_put(struct store *s, const struct row *row, const void *spec, size_t spec_len, store_done_fn done,
	     void *arg);
/* The same of a row whose state nobody waits for, as in store_submit_later. */
int rows_put_later(struct store *s, const struct row *row, store_done_fn done, void *arg);
void rows_delete(struct store *s, const uint8_t id[16]);
void rows_delete_box(struct store *s, const char *box_id);
/* Every row, in the order in which they ended or began: at start-up, before the loop runs. */
int rows_load(struct store *s, void (*each)(void *arg, const struct row *row), void *arg, struct err *e);

void id_to_hex(char out[33], const uint8_t id[16]);
/* False unless hex is exactly 32 lower-case hex digits. */
bool id_from_hex(uint8_t id[16], const char *hex);
