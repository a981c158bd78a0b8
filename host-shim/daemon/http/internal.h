/* What the files of this room share. */
#pragma once

#include <microhttpd.h>

#include "http.h"
#include "router.h"
#include "tls.h"

/* A TCP or unix connection: MHD's socket context. Its deadline covers what MHD's idle timeout does not: a
 * client that sends a byte now and then. */
struct connection {
	struct http_server *server;
	int fd;               /* MHD's */
	struct tls_conn *tls; /* what fd is the other end of; NULL: the client */
	bool from_unix;
	bool tell; /* a deadline that passes is told with 408: a request has begun, no reply has */
	struct http_request *request; /* the one that MHD holds; NULL between them */
	uv_timer_t deadline;
};

struct http_server {
	struct http_config config;
	struct MHD_Daemon *mhd;
	uv_poll_t *poll;           /* MHD's epoll fd */
	struct tls *tls;           /* NULL: none */
	uv_timer_t *timer;         /* MHD's timeout */
	uv_timer_t *relisten;      /* after EMFILE */
	uv_prepare_t *before_poll; /* while kicked */
	uv_idle_t *awake;          /* while kicked, and a turn longer */
	struct listener *listeners;
	struct http_request *requests; /* those that MHD holds */
	struct ws *sockets;
	/* Of the connection that MHD_add_connection is making. */
	bool accepting_unix;
	struct tls_conn *accepting_tls;
	unsigned connections;
	bool kicked; /* server_kick was called since the last MHD_run */
};

struct header {
	char name[32];
	char value[256];
};

struct text { /* a decoded query argument, kept for the request's life */
	struct text *next;
	char s[];
};

#define REQUEST_ID_SIZE 129

struct http_request {
	struct http_server *server;
	struct connection *connection; /* NULL once MHD is through with the request */
	struct MHD_Connection *mhd;    /* likewise */
	struct http_request *next, **link;
	unsigned holds; /* MHD's, the handler's */
	bool begun;     /* the handler was called */
	bool suspended;
	bool at_once; /* the reply does not wait for the body */
	bool streams; /* the reply has no end of its own */
	bool queued;
	bool numeric; /* error codes are numbers */
	char id[REQUEST_ID_SIZE];
	char *path; /* cut up by the router */
	struct router_match match;
	struct text *texts;
	uint8_t *body;
	size_t body_len, body_size, body_max;
	size_t discarded; /* of a body that comes although the reply is there */
	const struct http_sink *sink;
	void *sink_arg;
	bool body_ended;
	struct header headers[8];
	unsigned header_count;
	http_held_fn held_fn; /* the reply is told here first */
	void *held_arg;
	struct MHD_Response *held;
	unsigned status;
	struct MHD_Response *response;
	/* Called when MHD is through with the request: for a WebSocket that never opened. */
	void (*ended)(void *arg);
	void *ended_arg;
	void (*gone)(void *arg);
	void *gone_arg;
};

/* server.c */
enum deadline { DEADLINE_NONE, DEADLINE_HEAD, DEADLINE_BODY, DEADLINE_REPLY, DEADLINE_STREAM, DEADLINE_IDLE };
/* MHD has something to do that its epoll fd does not show (a resumed connection, a closed upgrade): run it
 * soon. */
void server_kick(struct http_server *s);
void connection_expect(struct connection *c, enum deadline d);

/* request.c */
/* The client's own id if it is harmless in logs and headers, else (also for NULL) a random one. */
void request_choose_id(char id[REQUEST_ID_SIZE], const char *asked);
/* MHD's callbacks, cls is the server */
enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_size, void **state);
void request_completed(void *cls, struct MHD_Connection *mhd, void **state,
		       enum MHD_RequestTerminationCode why);
void request_suspend(struct http_request *r);
void request_resume(struct http_request *r); /* nothing unless suspended */
/* Stores the one reply (takes response) and sees to it that MHD sends it. */
void request_answer(struct http_request *r, unsigned status, struct MHD_Response *response);

/* ws.c */
void ws_abort(struct ws *w);
