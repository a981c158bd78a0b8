/* Boxes: one state machine each, one writer (the loop thread), every transition committed before its effect
 * is reported.
 *
 *   configured → starting* → running ↔ stopping → stopped; failed from any; (paused, suspended: not yet)
 *   (* "starting" is internal; REST shows configured until it runs, as BoxLite has no such word)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "host-shim/daemon/boxes/settings.h"
#include "host-shim/daemon/executions/executions.h"
#include "host-shim/daemon/store/store.h"

struct boxes;
struct box;

enum box_status { BOX_CONFIGURED, BOX_STARTING, BOX_RUNNING, BOX_STOPPING, BOX_STOPPED, BOX_FAILED };

/* What a box is made of where its spec does not say; also the image there is. */
#define BOX_IMAGE "tenon/base"
#define BOX_CPUS 1
#define BOX_MEMORY_MIB 256
#define BOX_MEMORY_MIN_MIB 96 /* below it the packaged kernel does not boot reliably */
#define BOX_DISK_GB 10
#define BOX_VOLUMES_MAX 6       /* tenon-vmm has 8 disks, of which 2 are the root's */
#define BOX_EXECUTIONS_MAX 1000 /* running at once */

/* What create says; strings borrowed, NULL or 0 where it says nothing. Types and ranges are rest/'s to check.
 */
struct box_spec {
	const char *prefix; /* whose it is, never NULL */
	const char *name;   /* [A-Za-z0-9][A-Za-z0-9_.-]{0,127}, unique in its prefix */
	const char *image;  /* as it is shown; which it is stands in settings->image_digest */
	unsigned cpus;      /* 1 to 255 */
	unsigned memory_mib;
	unsigned disk_size_gb;
	const char *const *env; /* NAME=value, NULL-terminated */
	const char *working_dir;
	bool auto_remove;
	/* Seconds: without use until it is stopped, after that stop until it is deleted; 0 or less: never. */
	int64_t auto_stop, auto_delete;
	bool auto_resume;                    /* exec and files start it when it is stopped */
	const char *labels_json;             /* an object of strings */
	const struct box_settings *settings; /* NULL: all as their zeroes say */
};
#define BOX_ERROR_SIZE 576 /* a reason and 400 bytes of console */

struct box_info { /* valid until the next call on this box */
	const char *id, *prefix, *name, *image, *labels_json, *working_dir;
	const char *const *env; /* NAME=value, NULL-terminated */
	const struct box_settings *settings;
	enum box_status status;
	unsigned cpus, memory_mib, disk_size_gb;
	int64_t auto_stop, auto_delete;
	bool auto_resume, auto_remove;
	int64_t created_ms, updated_ms;
	const char *main_id; /* the main command's execution, of the latest start; NULL if none */
	bool has_exit;       /* it has ended: exit_code is its own, as executions have them */
	int exit_code;
	const char *user;           /* whose commands and files are, in docker's form; NULL: root's */
	int pid;                    /* QEMU's, 0 if not running */
	char error[BOX_ERROR_SIZE]; /* failed: why, with the end of the console */
	uint64_t boot_ms;           /* start request → agent configured, of the latest start; 0 if none */
	uint64_t prepare_ms,
		guest_boot_ms; /* of it: disk and accelerator; tenon-vmm and guest. 0 after adoption */
	unsigned executions;   /* running ones */
	uint64_t commands, exec_errors; /* since tenond started: asked for; not started */
	struct session_traffic traffic; /* since then, too */
};

/* Of one prefix, since tenond started. */
struct boxes_metrics {
	uint64_t created, failed, stopped, running, commands, errors;
};

struct boxes_config {
	uv_loop_t *loop;
	struct store *store;
	struct executions *executions;
	struct volumes *volumes;
	const char *state_dir, *runtime_dir; /* both exist; runtime_dir is short and ours alone */
	const char *host_dir; /* facts about this host, void after its reboot: whether KVM works */
	const char *vmm_path; /* tenon-vmm beside tenond's own binary by default */
	const char *kernel, *initrd, *images_dir; /* images_dir has base.squashfs and upper.ext4 */
	const char *accel;                        /* "auto", "kvm", "tcg" */
	/* "q35" or "microvm". No row keeps it: a box that starts from its disks is the same on both, and may
	 * have another kernel too. One that runs stays what it is. */
	const char *machine;
	const char *resolv_conf;   /* of boxes with a network */
	unsigned boot_deadline_ms; /* default 60000 */
};
int boxes_create(struct boxes **out, const struct boxes_config *c, struct err *e);
/* Loads rows and adopts what still runs. done once all are settled: then tenond may say it is ready. */
void boxes_adopt(struct boxes *bs, void (*done)(void *arg), void *arg);
/* tenond ends: VMs go on. */
void boxes_destroy(struct boxes *bs);

/* What can be said of a spec before its image is here. False: *f says what is wrong. */
bool boxes_check(const struct boxes *bs, const struct box_spec *spec, struct failure *f);
typedef void (*box_done_fn)(void *arg, struct box *b,
			    const struct failure *f); /* exactly one of b, f… except delete: b NULL */
void boxes_add(struct boxes *bs, const struct box_spec *spec, box_done_fn done, void *arg);
struct box *boxes_find(struct boxes *bs, const char *prefix, const char *id_or_name);
/* By its id alone, whosever it is: for those who were given the id when they might. */
struct box *boxes_find_id(struct boxes *bs, const char *id);
/* All boxes of a prefix, oldest first: calls fn for each. */
void boxes_each(struct boxes *bs, const char *prefix, void (*fn)(void *arg, struct box *b), void *arg);
void boxes_get_metrics(struct boxes *bs, const char *prefix, struct boxes_metrics *out);
/* The name of a box that mounts the volume (by id), running or not; NULL: none does. */
const char *boxes_volume_user(const struct boxes *bs, const char *volume);
/* How many there are, those included that are on their way into or out of the database. */
unsigned boxes_count(const struct boxes *bs, const char *prefix);
/* How many boxes of a prefix are made of the image of this digest. */
unsigned boxes_count_image(const struct boxes *bs, const char *prefix, const char *digest);
void box_get_info(struct box *b, struct box_info *out);
/* Idempotent; concurrent callers share one start. Fails after the boot deadline with the console's tail;
 * FAIL_CONFLICT if a box that runs has its volumes. */
void box_start(struct box *b, box_done_fn done, void *arg);
/* Orderly: the agent's Shutdown with grace (ms; 0: 5000), then TERM to tenon-vmm, then KILL. Idempotent on
 * stopped. */
void box_stop(struct box *b, unsigned grace_ms, box_done_fn done, void *arg);
/* Without force FAIL_CONFLICT while running; with force ends the VM first, at once unless it can write to a
 * volume. Removes disk, logs, rows; volumes stay. */
void box_delete(struct box *b, bool force, box_done_fn done, void *arg);
/* Starts the box if it is not running, merges box env and working_dir under spec's, then executions_start. */
void box_exec(struct box *b, const struct exec_spec *spec, execution_started_fn done, void *arg);

/* The main command of the latest start, whether it runs or has ended; a box that has not run yet is started.
 * FAIL_CONFLICT if it has none, FAIL_GONE if it ended and is not kept any more. */
void box_main(struct box *b, execution_started_fn done, void *arg);

/* ---- bulk operations in a box: its files, ports and numbers (bulk.proto) ---- */
struct box_bulk;
struct box_bulk_item {
	enum bulk_kind kind;
	struct bulk_item bulk;  /* ANSWER, DATA, EVENT, END */
	struct failure failure; /* FAILED */
};
/* Never fails by itself: what goes wrong is an item; ask for the first at once. A box that does not run is
 * started, or without `start` a failure. wake as in bulk_config. req is copied. */
struct box_bulk *box_bulk(struct box *b, const Tenon__BulkRequest *req, bool start, void (*wake)(void *arg),
			  void *arg);
void box_bulk_close(struct box_bulk *op); /* NULL is fine */
/* The rest as in bulk.h. */
void box_bulk_next(struct box_bulk *op, size_t max, struct box_bulk_item *out);
size_t box_bulk_room(struct box_bulk *op);
void box_bulk_send(struct box_bulk *op, const void *data, size_t len);
void box_bulk_send_end(struct box_bulk *op);

/* The console's file of the latest run, or of the one that runs: what the guest wrote, as it is. A new run,
 * or a log that was full, begins another file. -ENOENT before the first. */
int box_open_console(const struct box *b);
