/* The durable log of one execution as the loop thread sees it (WIRE.md §7): records go in, are laid out in
 * chunks exactly as they will stand in the file, and the writer thread puts them there. Three places matter:
 *
 *   accepted   what was put in
 *   acked      what may be acknowledged to the agent: written, or dropped for good because the disk is full
 *   readable   what readers may read: written
 */
#pragma once

#include "host-shim/daemon/executions/recover.h"
#include "host-shim/daemon/executions/writer.h"

#define LOG_CHUNK_MAX (256u * 1024) /* bytes handed to the writer at once */
#define LOG_INFLIGHT_MAX 2          /* chunks with the writer, unless they are full */
#define LOG_SEGMENTS_MIN 2          /* kept whatever the bound: the newest may be torn by a crash */
/* A segment is a sixteenth of the bound, which is kept to so much, within these. Fewer and larger ones, since
 * each is a file to make and to delete: that takes as long as writing several hundred KiB. */
#define LOG_SEGMENT_SMALL (256u << 10)
#define LOG_SEGMENT_LARGE (4u << 20)

struct log;

struct log_config {
	struct writer *writer;
	const char *dir; /* copied */
	const uint8_t *id;
	uint64_t bound; /* bytes on disk that log_trim leaves */
	void *arg;
	void (*changed)(void *arg); /* loaded, written, or failed: look again */
};

/* A log that is known to be new: nothing touches the disk before the first record. */
int log_create(struct log **out, const struct log_config *c, struct err *e);
/* Reads what is on disk, in the writer thread; until `changed` says so, log_loaded is false and nothing may
 * be put. */
int log_load(struct log **out, const struct log_config *c, struct err *e);
/* What was put is still written. The directory stays. NULL is fine. */
void log_destroy(struct log *l);
/* Deletes the directory once the writer has done what it was given before. The log must be destroyed. */
int log_remove(struct writer *w, const char *dir);

bool log_loaded(const struct log *l);
const struct log_point *log_accepted(const struct log *l);
const struct log_point *log_acked(const struct log *l);
uint64_t log_base(const struct log *l);
uint64_t log_readable(const struct log *l);
const struct log_point *log_written(const struct log *l);
/* Nothing is on its way to the file or waiting to be. */
bool log_settled(const struct log *l);
/* A chunk could not be written; log_retry tries again to write what is missing as gaps. */
bool log_failing(const struct log *l);
void log_retry(struct log *l);
/* The exit record's payload, in memory; NULL if none was put or recovered. */
const uint8_t *log_exit(const struct log *l, size_t *len);

/* Records. Offsets follow from what was accepted. The caller has seen to it that they may come: no data after
 * eof, one exit. */
void log_put_data(struct log *l, int channel, const uint8_t *data,
		  size_t len); /* 1 to LOG_PAYLOAD_MAX bytes */
void log_put_gap(struct log *l, int channel, uint64_t to);
void log_put_eof(struct log *l, int channel);
void log_put_exit(struct log *l, const uint8_t *payload, size_t len);
/* Of an execution without output nothing is written, and log_bytes stays 0: its ends count as written at
 * once, and it is the caller who has them committed. A folder and a file would cost more than all the rest.
 */

/* Hands what was put to the writer: once per turn of the loop. */
void log_flush(struct log *l);

/* Bytes on disk, of all segments or from the one that holds `position` on. */
uint64_t log_bytes(const struct log *l);
uint64_t log_bytes_from(const struct log *l, uint64_t position);
/* Deletes oldest segments while the log is over its bound; none that holds bytes at or behind `held`. */
void log_trim(struct log *l, uint64_t held);

/* For readers: the segment that holds `position`, or the first behind it if that one was deleted; the one
 * after `segment`; how far the file of `segment` may be read. False if there is none (yet). */
bool log_find(const struct log *l, uint64_t position, uint64_t *segment);
bool log_next(const struct log *l, uint64_t segment, uint64_t *next);
uint64_t log_limit(const struct log *l, uint64_t segment);
const char *log_dir(const struct log *l);
const uint8_t *log_id(const struct log *l);
