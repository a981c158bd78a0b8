/* What the files of this room share. */
#pragma once

#include "host-shim/daemon/http/fields.h"
#include "rest.h"

struct rest {
	struct rest_config config;
};

/* Flags of routes. */
#define ROUTE_ONCE 1       /* an Idempotency-Key is heeded */
#define ROUTE_REPEATABLE 2 /* and doing it twice is the same as doing it once */

/* idempotency.c: for http_config.admit */
bool rest_admit(void *app, struct http_request *r);

/* rest.c */
/* Whose things a request means; NULL after a 404: the prefix or the key was removed
 * meanwhile. Only while a handler is
 * called. */
const struct tenant *rest_tenant(struct rest *rest, struct http_request *r);
/* The box or execution that the path names; NULL after a 404 or 410. */
struct box *rest_box(struct rest *rest, struct http_request *r);
struct execution *rest_execution(struct rest *rest, struct http_request *r);
/* Replies with what f says. */
void rest_reply_failure(struct http_request *r, const struct failure *f);
/* The word that such a reply has as its code. */
const char *rest_failure_code(const struct failure *f);
/* Ends reading a body: true if all was well, else it has replied 400 naming the field. Does not free f. */
bool rest_fields_ok(struct http_request *r, struct fields *f);
/* Location of something below the URL's own prefix. */
void rest_set_location(struct http_request *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "2026-08-21T12:34:56.789Z" */
json_t *rest_time(int64_t unix_ms);
/* 204, or the failure: for verbs that answer nothing else. arg is the request. */
void rest_done(void *arg, const struct failure *f);

/* What GET …/executions/{id} says; NULL without memory. */
json_t *rest_execution_json(const struct execution *x);
/* attach.c: answers r, whose upgrade was looked at, with a WebSocket of x's; raw: output is not led by its
 * channel, and the process is hung up on with the socket. */
void rest_attach_to(struct rest *rest, struct http_request *r, struct execution *x, bool raw);
/* exec_wait.c: answers r with all of x's output once it has ended. */
void rest_wait_execution(struct http_request *r, struct execution *x);

/* strings.c: NULL-terminated lists from JSON, allocated in one piece */
/* ["a", "b"] after first (NULL: none). NULL with a fault in f if an item is no string; free() it. */
const char **rest_string_list(struct fields *f, const char *name, const char *first, json_t *array);
/* {"A": "1"} → "A=1". Names without '=' and not empty. */
const char **rest_env_list(struct fields *f, const char *name, json_t *object);

/* box_spec.c */
/* What a box or a volume is to be called: at least min bytes. NULL if it is not said, or wrong. */
const char *rest_read_name(struct fields *f, size_t min);
struct box_request {
	struct box_spec spec;
	struct fields fields; /* spec borrows from it */
	const char **env;
	char *labels;
	struct box_settings settings;
};
/* Reads a create body; false: it has replied. True: box_request_finish it. */
bool box_request_read(struct box_request *q, struct http_request *r);
void box_request_finish(struct box_request *q);

/* main_command.c: entrypoint, cmd, tty, open_stdin, user and security of a create body, into s */
void rest_read_main(struct fields *f, struct box_settings *s);

/* volumes.c: volumes of a create body, into s; and back */
void rest_read_volumes(struct fields *f, struct box_settings *s);
json_t *rest_volumes_json(const struct box_settings *s);

/* boxes.c: pageSize and pageToken of a list that is ordered by ids; *after NULL: from the first. False: it
 * has replied. */
bool rest_read_page(struct http_request *r, uint64_t *size, const char **after);

/* exec_spec.c */
struct exec_request {
	struct exec_spec spec;
	struct fields fields;
	const char **argv, **env;
	uint8_t *rules; /* of spec */
	/* NULL: the pipe stays open; else written and closed ("": /dev/null, and end-of-file on a terminal)
	 */
	const char *stdin_text;
	size_t stdin_len;
};
bool exec_request_read(struct exec_request *q, struct http_request *r);
/* The same from bytes, without HTTP: false leaves the fault in q->fields. For exec_request_read and its
 * fuzzer. */
bool exec_request_parse(struct exec_request *q, const void *body, size_t len);
void exec_request_finish(struct exec_request *q);
/* The names of all presets, the least confined first. */
json_t *rest_presets(void);
/* A preset's name; NULL with or without a fault. */
const char *rest_read_preset(struct fields *f);
/* rows and cols of a terminal; 0 where absent, which is a fault if they are required. */
void rest_read_size(struct fields *f, bool required, unsigned *rows, unsigned *cols);

/* confinement.c: user, security, capabilities, seccomp, resources and rlimits of an exec body, into spec.
 * Returns what spec->rules points at, to be freed; NULL if there are none. */
uint8_t *rest_read_confinement(struct fields *f, struct exec_spec *spec);
/* capabilities.c: {"add": ["NET_ADMIN"], "drop": ["ALL"]}, as bits; prefix like "capabilities." */
void rest_read_capabilities(struct fields *f, const char *prefix, uint64_t *add, uint64_t *drop);
/* seccomp.c: OCI's form as a packed tenon.SeccompRules, to be freed; NULL with a problem in f. */
uint8_t *rest_read_seccomp_rules(struct fields *f, json_t *object, size_t *len);

/* main_command.c: whose files are that are brought into a box, as a request's owner; borrowed */
ProtobufCBinaryData rest_owner(struct box *b);

/* text.c: names and paths of a box are bytes */
/* A JSON string; what is not UTF-8 becomes U+FFFD. */
json_t *rest_text(const void *bytes, size_t len);
/* Sets name to the text, and name_base64 too if it is not UTF-8. */
void rest_set_text(json_t *object, const char *name, const void *bytes, size_t len);
json_t *rest_base64(const void *bytes, size_t len);

/* where.c */
/* The absolute path that ?path= names, as a message that borrows it from r. False: it has replied 400. */
bool rest_where(struct http_request *r, Tenon__Where *at);
/* A whole number of a query; fallback if absent. False: it has replied 400. */
bool rest_query_int(struct http_request *r, const char *name, uint64_t min, uint64_t max, uint64_t fallback,
		    uint64_t *out);

/* bulk_call.c: operations that answer, and that is all, or come as events */
typedef void (*rest_answer_fn)(struct http_request *r, const Tenon__BulkResponse *answer, json_t *object);
/* answer replies, and is lent the object, which is taken and may be NULL; failures are replied for it.
 * start_box as in box_bulk. */
void rest_bulk_call(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, bool start_box,
		    rest_answer_fn answer, json_t *object);
/* 204 whatever the answer says. */
void rest_answer_empty(struct http_request *r, const Tenon__BulkResponse *answer, json_t *object);
/* Events become members of one object, which is replied at the end. */
void rest_bulk_gather(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, bool start_box,
		      void (*add)(json_t *object, const Tenon__BulkEvent *event), json_t *object);

/* transfer.c: operations whose bytes come from the request's body, or become the reply's */
void rest_upload(struct http_request *r, struct box *b, const Tenon__BulkRequest *req);
/* Looks at the answer and sets the reply's headers, status (200 so far) and length. False: it has replied. */
typedef bool (*rest_head_fn)(struct http_request *r, const Tenon__BulkResponse *answer, unsigned *status,
			     uint64_t *length);
void rest_download(struct http_request *r, struct box *b, const Tenon__BulkRequest *req, rest_head_fn head);

/* signals.c */
#define REST_SIGNALS "1, 2, 3, 6, 10, 12, 15 or 28"
/* A member that is a number, or a name as kill(1) has it, with SIG or without: one of the above. Else 0 and a
 * fault in f. */
int rest_read_signal(struct fields *f, const char *name, bool *kill);

/* config.c */
void rest_get_config(void *app, struct http_request *r);
void rest_get_me(void *app, struct http_request *r);
const struct http_route *rest_routes(size_t *count);
bool rest_is_reserved(const char *segment); /* the first of a path: no prefix begins with it */
/* keys.c */
void rest_create_key(void *app, struct http_request *r);
void rest_list_keys(void *app, struct http_request *r);
void rest_delete_key(void *app, struct http_request *r);
void rest_create_client(void *app, struct http_request *r);
void rest_list_clients(void *app, struct http_request *r);
void rest_delete_client(void *app, struct http_request *r);
/* A negative status of credentials.h */
void rest_reply_credential_failure(struct http_request *r, int status);
/* oauth.c */
void rest_create_token(void *app, struct http_request *r);
/* prefixes.c */
void rest_list_prefixes(void *app, struct http_request *r);
void rest_create_prefix(void *app, struct http_request *r);
void rest_delete_prefix(void *app, struct http_request *r);
/* openapi.c */
void rest_get_openapi(void *app, struct http_request *r);
/* runtime.c */
void rest_get_metrics(void *app, struct http_request *r);
void rest_get_health(void *app, struct http_request *r);
/* boxes.c */
void rest_create_box(void *app, struct http_request *r);
void rest_list_boxes(void *app, struct http_request *r);
void rest_get_box(void *app, struct http_request *r);
void rest_head_box(void *app, struct http_request *r);
void rest_delete_box(void *app, struct http_request *r);
void rest_start_box(void *app, struct http_request *r);
void rest_stop_box(void *app, struct http_request *r);
/* 201 with the new box, or the failure; arg is the request. */
void rest_box_created(void *arg, struct box *b, const struct failure *f);
/* Whether the tenant may have one more box; false after a 429. */
bool rest_has_room(struct rest *rest, struct http_request *r, const char *prefix);
/* The same at a moment of one's own, without a reply. */
bool rest_may_add(struct rest *rest, const char *prefix, struct failure *f);
/* box_spec.c: a name as rest_read_name has it, of a query; false after a 400. */
bool rest_box_name_ok(struct http_request *r, const char *name);
/* archives.c */
void rest_export_box(void *app, struct http_request *r);
void rest_import_box(void *app, struct http_request *r);
/* snapshots.c */
void rest_create_snapshot(void *app, struct http_request *r);
void rest_list_snapshots(void *app, struct http_request *r);
void rest_get_snapshot(void *app, struct http_request *r);
void rest_delete_snapshot(void *app, struct http_request *r);
void rest_restore_snapshot(void *app, struct http_request *r);
void rest_clone_box(void *app, struct http_request *r);
/* images.c */
void rest_pull_image(void *app, struct http_request *r);
void rest_load_image(void *app, struct http_request *r);
void rest_list_pulls(void *app, struct http_request *r);
void rest_cancel_pull(void *app, struct http_request *r);
void rest_list_images(void *app, struct http_request *r);
void rest_get_image(void *app, struct http_request *r);
void rest_head_image(void *app, struct http_request *r);
void rest_delete_image(void *app, struct http_request *r);
void rest_prune_images(void *app, struct http_request *r);
/* main_command.c */
void rest_attach_main(void *app, struct http_request *r);
/* exec_tty.c */
void rest_exec_tty(void *app, struct http_request *r);
/* executions.c */
void rest_exec(void *app, struct http_request *r);
void rest_list_executions(void *app, struct http_request *r);
void rest_get_execution(void *app, struct http_request *r);
void rest_delete_execution(void *app, struct http_request *r);
void rest_signal(void *app, struct http_request *r);
void rest_resize(void *app, struct http_request *r);
/* tar.c, file.c, folder.c */
const char *rest_file_type(uint32_t mode); /* of st_mode: "file", "directory", … */
void rest_put_tar(void *app, struct http_request *r);
void rest_get_tar(void *app, struct http_request *r);
void rest_get_file(void *app, struct http_request *r);
void rest_head_file(void *app, struct http_request *r);
void rest_put_file(void *app, struct http_request *r);
void rest_delete_file(void *app, struct http_request *r);
void rest_list_folder(void *app, struct http_request *r);
void rest_watch_folder(void *app, struct http_request *r);
/* metrics.c, console.c */
void rest_box_metrics(void *app, struct http_request *r);
void rest_list_processes(void *app, struct http_request *r);
void rest_console(void *app, struct http_request *r);
/* volumes.c */
void rest_create_volume(void *app, struct http_request *r);
void rest_list_volumes(void *app, struct http_request *r);
void rest_get_volume(void *app, struct http_request *r);
void rest_delete_volume(void *app, struct http_request *r);
/* tunnel.c */
void rest_tunnel(void *app, struct http_request *r);
void rest_revoke_tunnel(void *app, struct http_request *r);
/* input.c, output.c, attach.c */
void rest_input(void *app, struct http_request *r);
void rest_output(void *app, struct http_request *r);
void rest_attach(void *app, struct http_request *r);
/* The log position that ?from= names, else fallback. False: it has replied. */
bool rest_from(struct http_request *r, uint64_t fallback, uint64_t *out);
bool rest_parse_position(const char *text, uint64_t *out);
