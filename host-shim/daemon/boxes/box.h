/* One box from the inside: for the files of this room only. */
#pragma once

#include <sys/queue.h>

#include "accel.h"
#include "box_row.h"
#include "boxes.h"
#include "disk.h"
#include "doorbell.h"
#include "host-shim/daemon/volumes/volumes.h"
#include "snapshots.h"
#include "state.h"
#include "tally.h"
#include "vmm.h"

/* What somebody waits for. Settled by the first committed status that decides it. */
enum wish { WISH_RUNNING, WISH_ENDED, WISH_THAWED, WISH_GONE };
struct waiter {
	TAILQ_ENTRY(waiter) entry;
	enum wish wish;
	box_done_fn done;
	void *arg;
};
TAILQ_HEAD(waiter_list, waiter);

/* Something that is done with a box and keeps it: its auto_stop and auto_delete wait for the end of it. */
struct box_use {
	LIST_ENTRY(box_use) entry;
	struct box *box; /* NULL: it is over, or the box is gone */
};

struct box {
	TAILQ_ENTRY(box) entry;
	struct boxes *boxes;
	struct box_row row;   /* life is the newest, committed or on its way */
	struct box_life told; /* life as committed: all that anybody outside sees */
	bool listed;          /* its row is committed and not deleted */
	bool doomed;          /* DELETE was accepted: it will not start again */
	struct waiter_list waiters;
	LIST_HEAD(, box_use) uses;
	uint64_t used_ms; /* CLOCK_MONOTONIC: when something was last done with it */
	uint64_t commands, exec_errors;
	struct session_traffic traffic;     /* of the VMs before this one */
	uint64_t prepare_ms, guest_boot_ms; /* of the latest start */
	bool unclean; /* its VM was not ended in order: QEMU may have left its disk with clusters it does not
			 use */
	char *state_dir, *run_dir;

	/* While a VM is there, or is being made. */
	uint64_t asked_ns; /* the start request, for boot_ms */
	uint64_t spawned_ns;
	uint64_t run_deadline_ms;
	bool disk_pending, awaits_accel, awaits_disk, configuring;
	bool resumes_stop; /* of an earlier tenond */
	struct img *disk;  /* the start's own work on it */
	struct doorbell *doorbell;
	struct vmm *vmm;
	struct session *session;
	LIST_HEAD(, box_bulk) unlinked; /* operations that wait for the link to come back */
	uv_timer_t timer; /* of the step that is on: boot, orderly end, first HELLO after adoption */
	char why[160];    /* why we end it, if nobody asked; "" else */
	void (*settled)(void *arg); /* adoption waits for it */
	void *settled_arg;

	/* Its disk, box_disk.c: the layer it writes into, and one it may write into already. */
	struct layer *layer, *next;
	struct disk_op *op; /* the work on it that is on; others wait */
	TAILQ_HEAD(, disk_op) ops;
	bool disk_held;     /* no VM may begin with it */
	bool frozen;        /* executions wait */
	unsigned starts;    /* executions on their way to the agent */
	bool removal_waits; /* for the work's end */
	TAILQ_HEAD(, snapshot) snapshots;
	struct clone *clone; /* it is being made of another */

	/* box_main.c */
	struct {
		struct main_start *start; /* while it is being started */
		struct execution *x;      /* of the latest start, held */
		bool over;                /* it has ended */
		bool for_use;             /* the box was started because somebody used it */
		struct failure *failure;  /* why it could not be started; owned */
	} main;

	struct process *remover; /* rm -rf of what is left, after the row is gone */
};
TAILQ_HEAD(box_list, box);

struct boxes {
	struct boxes_config config; /* strings owned */
	struct box_list list;
	struct tally_list tallies;
	struct layers *layers;
	struct merge *merge;  /* the one that is on */
	uv_timer_t attention; /* lifetime.c */
	struct accel *accel;
	const char *accel_result; /* NULL: not known yet */
	bool closing;
	unsigned refs; /* the owner, and every commit on its way */
	unsigned adopting;
	void (*adopted)(void *arg);
	void *adopted_arg;
};

/* ---- boxes.c: the registry ---- */

/* Makes a box of a row, which it takes (also when it fails). NULL: no memory. */
struct box *box_create(struct boxes *bs, struct box_row *row);
/* Lets go of the VM, which goes on if it runs, and of whatever else is under way. */
void box_release(struct box *b);
/* The same, and drops the box from the registry. Not while a commit of it is on its way. */
void box_destroy(struct box *b);
/* Commits the rows of a box and its layer, which its file, if it has one, is there for; then it is listed. A
 * box that fails is destroyed. */
void boxes_insert(struct box *b, box_done_fn done, void *arg);
/* Whether a box has that name, or id, or is about to. */
bool boxes_is_taken(const struct boxes *bs, const char *prefix, const char *name);
/* For work that is on its way to the store with a box in it. */
void boxes_ref(struct boxes *bs);
void boxes_unref(struct boxes *bs);

/* ---- box.c: the state machine ---- */

/* Takes up a box that the database calls running, starting or stopping; settled runs once its fate is
 * committed, or the agent of one that runs has answered, or has not in time. */
void box_take_up(struct box *b, void (*settled)(void *arg), void *arg);
/* The probe has answered: starts that waited for it go on. */
void box_accel_known(struct box *b);
/* Tells those who wait for this; f NULL: it came true. */
void box_tell(struct box *b, enum wish wish, const struct failure *f);
/* Tells every waiter that tenond ends. */
void box_abandon(struct box *b);

/* When the work is over that has frozen the box, at once if none has. */
void box_when_thawed(struct box *b, box_done_fn done, void *arg);
/* The disk is free again: a start that waited for it goes on. */
void box_disk_free(struct box *b);
/* Every box's: a merge has ended. */
void boxes_disks_free(struct boxes *bs);

/* ---- box_disk.c ---- */

/* The box goes on in a new layer upon `to`, of which it takes a reference; what it wrote since is lost. It
 * must not run: FAIL_CONFLICT. frozen is NULL. */
void box_set_back(struct box *b, struct layer *to, box_cut_fn done, void *arg);
/* Of an adopted VM: which layer does it write into? */
void box_disk_look(struct box *b);
/* No VM is left: the layer that it may have written into is the box's. */
void box_disk_vm_gone(struct box *b);
/* Whether a start has to wait: box_disk_free follows. */
bool box_disk_is_held(struct box *b);
void box_disk_go_on(struct box *b);         /* work that has waited for a merge */
bool box_disk_is_busy(const struct box *b); /* some work is on, or waits */
/* tenond ends: tells all who wait. */
void box_disk_abandon(struct box *b);
/* Drops the box's references, its snapshots' too: it is deleted. */
void box_disk_drop(struct box *b);

/* ---- merge.c ---- */

/* Looks for a layer that nobody needs but the one above it and makes one of the two, in the background. */
void merge_kick(struct boxes *bs);
/* Whether one is on in the chain that l ends; then it is stopped, and boxes_disks_free follows. */
bool merge_stop(struct boxes *bs, const struct layer *l);
void merge_abandon(struct boxes *bs);

/* ---- snapshots.c, clone.c ---- */

int snapshots_load(sqlite3 *db, struct boxes *bs, struct err *e);
void snapshots_drop(struct box *b, bool deleted);
void clone_abandon(struct clone *c);

/* ---- box_main.c ---- */

/* Starts the main command, if there is one, in a box that is configured; done(b, NULL) once that has
 * succeeded, perhaps at once. Does nothing while it is being started. */
void box_main_begin(struct box *b, void (*done)(struct box *b, const struct failure *f));
/* A new start begins: the last one's is history. */
void box_main_reset(struct box *b);
/* The box is let go of. */
void box_main_release(struct box *b);
/* tenond is new: finds the one that runs, or has ended meanwhile. */
void box_main_take_up(struct box *b);
/* The VM is gone: what is known of its end goes into the row. */
void box_main_settle(struct box *b);
/* It has ended, and so the box is to. idle: nobody does anything with the box. */
bool box_main_wants_stop(const struct box *b, bool idle);
/* As box_start, for somebody who wants to do something in the box. */
void box_start_for_use(struct box *b, box_done_fn done, void *arg);

/* ---- box_exec.c ---- */

/* What the box says where the spec is silent: folder, user, rights. */
void box_exec_defaults(const struct box *b, struct exec_spec *spec);

/* ---- box_configure.c ---- */

/* Sends Configure on the box's session; done(b, failure). */
int box_configure(struct box *b, session_done_fn done, struct err *e);

/* ---- lifetime.c ---- */

void box_touch(struct box *b);
/* *u lives until box_use_end, which may come after the box's own end. */
void box_use_begin(struct box *b, struct box_use *u);
void box_use_end(struct box_use *u);
void box_uses_drop(struct box *b);
/* A deadline may have come nearer: a box runs, or has stopped. */
void boxes_attend(struct boxes *bs);

/* ---- box_volumes.c ---- */

struct box_mounts {
	Tenon__Mount mounts[BOX_VOLUMES_MAX], *list[BOX_VOLUMES_MAX];
	char devices[BOX_VOLUMES_MAX][8];
	size_t n;
};
/* Of a row that is to be a box: names become ids. False with the reason, FAIL_NOT_FOUND for one that is not
 * there. */
bool box_volumes_resolve(struct boxes *bs, struct box_row *row, struct failure *f);
/* False with the reason: a box that has a VM stands in the way. */
bool box_volumes_free(const struct box *b, struct failure *f);
/* Whether an end without notice would lose what a guest has written to what stays. */
bool box_volumes_writable(const struct box *b);
/* Their disks, as many as there are mounts; notes that they are used. -ENOENT: one is not here. */
int box_volumes_disks(struct box *b, struct vmm_disk disks[BOX_VOLUMES_MAX], struct err *e);
/* Borrows from b. */
void box_volumes_mounts(const struct box *b, struct box_mounts *m);

/* ---- box_bulk.c ---- */

/* The link is back: operations that waited for it begin. */
void box_bulks_begin(struct box *b);
/* There will be none: they fail. */
void box_bulks_fail(struct box *b);

/* ---- box_network.c ---- */

#define BOX_HOSTS_SIZE 512
/* What Configure says of the network of a box: its card, its resolver, and in hosts the text of /etc/hosts.
 */
void box_fill_network(const struct box *b, Tenon__Configure *request, char hosts[BOX_HOSTS_SIZE]);

/* ---- verdict.c ---- */

/* EVENT_ENDED or EVENT_FAILED. Fills reason, for those whose executions ended with it, and for a failure the
 * row's error, with the console's last words. */
enum box_event box_judge(struct box *b, char *reason, size_t cap);

/* ---- remove.c ---- */

/* Deletes a box without a VM: the row, then its executions, then its directories; tells WISH_GONE. */
void box_remove(struct box *b);
/* Removes directories of boxes that no row speaks of: a crash came between a row's end and theirs. */
void boxes_sweep(struct boxes *bs);
/* Empties and removes a flat directory of sockets. */
void remove_run_dir(const char *path);

/* False with the reason: it is stopped and only POST …/start may start it. */
bool box_may_resume(const struct box *b, struct failure *f);
void box_failure(struct failure *f, enum failure_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* From what a store_done_fn was told. */
void box_store_failure(struct failure *f, int status, const struct err *e);
