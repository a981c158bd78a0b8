/* The session's inside, for executions. */
#pragma once

#include "host-shim/daemon/executions/execution.h"

#define SESSION_RETRY_MIN_MS 20u
#define SESSION_RETRY_MAX_MS 500u
#define SESSION_LIST_PAGE 256u
/* The agent's own bounds of its steps are below it: 12 s until all is frozen, 60 s to write (quiesce.h). */
#define SESSION_QUIESCE_MS 75000u

struct configure;
struct session_call;

struct session {
	struct session_config config;
	char *box_id, *socket_path;
	struct executions *registry;
	struct link *link;
	bool up;       /* HELLO is done */
	bool accepted; /* … and was not answered with FENCED: a request was served */
	bool fenced;   /* another host owns the agent now */
	bool known_boot;
	uint8_t boot_id[16];
	uint64_t clone_generation;
	uint64_t features; /* the agent's, of WIRE.md */
	uint64_t epoch;    /* of the link */
	uv_timer_t retry;
	unsigned retry_ms;
	uint64_t dialled_ms;
	TAILQ_HEAD(, execution) executions;
	unsigned running;
	uint64_t idle_ms; /* when the last of them ended */
	struct session_traffic traffic;
	TAILQ_HEAD(, session_call) calls;
	struct configure *configure;
	bool ended;
};

/* m NULL: the link broke or the deadline passed, and why says so. */
typedef void (*session_reply_fn)(void *arg, const Tenon__Response *m, const struct err *why);
/* A unary request. fn exactly once, never inside this call. */
void session_call(struct session *s, const Tenon__Request *req, unsigned deadline_ms, session_reply_fn fn,
		  void *arg);
void session_add(struct session *s, struct execution *x);
void session_remove(struct execution *x);
/* It has ended: no longer one of session_running. */
void session_uncount(struct execution *x);
