/* The registry's inside: tables, and what is shared by all executions. */
#pragma once

#include "host-shim/daemon/executions/execution.h"

#define REGISTRY_BUCKETS 4096u
#define EXECUTIONS_KEPT_MAX 65536u        /* finished ones, whatever their age */
#define EXECUTIONS_LOGS_MAX (16ull << 30) /* bytes of finished logs; beyond, the oldest are reaped early */
#define TOMBSTONES_MAX 65536u             /* reaped ids that are still known to be reaped */
#define EXECUTIONS_LOG_LIMIT (64ull << 20)
#define EXECUTIONS_RETENTION_MS (24ull * 3600 * 1000)

LIST_HEAD(execution_list, execution);
TAILQ_HEAD(execution_queue, execution);

struct tombstone {
	LIST_ENTRY(tombstone) by_id;
	TAILQ_ENTRY(tombstone) in_order;
	uint8_t id[16];
	char box_id[];
};

struct executions {
	struct executions_config config;
	char *state_dir;
	struct writer *writer;
	uint64_t epoch; /* of the newest link */
	unsigned live;  /* executions that have not ended */

	struct execution_list by_id[REGISTRY_BUCKETS];
	LIST_HEAD(, tombstone) tombs_by_id[REGISTRY_BUCKETS];
	TAILQ_HEAD(, tombstone) tombs;
	unsigned tomb_count;

	struct execution_queue finished; /* oldest first */
	unsigned finished_count;
	uint64_t finished_bytes;

	struct execution_queue touched, attention, acks;
	uv_idle_t settle;
	uv_timer_t tick, retention, acks_due;
	unsigned handles;
	bool closing;
};

struct execution *registry_get(struct executions *xs, const uint8_t id[16]);
void registry_add(struct executions *xs, struct execution *x);
/* Out of every table; drops the registry's reference. */
void registry_drop(struct execution *x);
/* It has ended and counts as kept from now on. */
void registry_keep(struct execution *x);
/* Its log has grown since. */
void registry_resize(struct execution *x, uint64_t log_bytes);
void registry_reap(struct execution *x);
bool registry_has_tombstone(struct executions *xs, const uint8_t id[16]);
void registry_log_dir(const struct executions *xs, const char *box_id, const char *hex, char *out,
		      size_t size);
