#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "internal.h"

/* One file of a box, as it is: /files/content. */

/* ---- what is said of it ---- */

const char *rest_file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char_device";
	case S_IFBLK:
		return "block_device";
	default:
		return "unknown";
	}
}

static void set_info(struct http_request *r, const Tenon__FileInfo *file)
{
	char text[80];
	struct tm tm;
	time_t seconds = (time_t)(file->mtime_ns / 1000000000);
	if (gmtime_r(&seconds, &tm) && strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		http_set_header(r, "Last-Modified", text);
	snprintf(text, sizeof text, "%04o", file->mode & 07777);
	http_set_header(r, "X-File-Mode", text);
	snprintf(text, sizeof text, "%u:%u", file->uid, file->gid);
	http_set_header(r, "X-File-Owner", text);
	http_set_header(r, "X-File-Type", rest_file_type(file->mode));
	http_set_header(r, "Content-Type", "application/octet-stream");
}

/* ---- GET, with a range ---- */

struct range {
	bool set, suffix;
	uint64_t from, to; /* both within; to UINT64_MAX: the end */
	uint64_t last;     /* of a suffix: so many bytes, from and to are not known yet */
};

static uint64_t digits(const char **p, bool *found)
{
	char *end;
	*found = **p >= '0' && **p <= '9';
	errno = 0;
	uint64_t n = strtoull(*p, &end, 10);
	if (*found)
		*p = end;
	return errno ? INT64_MAX : n;
}

/* "bytes=5-9", "bytes=5-" and "bytes=-5" (RFC 9110 §14). Any other form, like that of several ranges, is what
 * a server may ignore: the reply is the whole. */
static struct range read_range(const struct http_request *r)
{
	struct range range = {.to = UINT64_MAX};
	const char *p = http_header(r, "Range");
	bool first, last;
	if (!p || strncmp(p, "bytes=", 6) != 0)
		return range;
	p += 6;
	if (*p == '-') {
		p++;
		range.last = digits(&p, &last);
		range.set = range.suffix = last && *p == '\0';
		return range;
	}
	range.from = digits(&p, &first);
	if (!first || *p++ != '-')
		return (struct range){.to = UINT64_MAX};
	uint64_t to = digits(&p, &last);
	if (last)
		range.to = to;
	range.set = *p == '\0' && range.to >= range.from && range.from < INT64_MAX;
	return range.set ? range : (struct range){.to = UINT64_MAX};
}

static bool head(struct http_request *r, const Tenon__BulkResponse *answer, unsigned *status,
		 uint64_t *length)
{
	char text[96];
	struct range range = read_range(r);
	if (answer->result_case != TENON__BULK_RESPONSE__RESULT_FILE) {
		http_reply_error(r, HTTP_INTERNAL, "the agent answered something else");
		return false;
	}
	uint64_t size = answer->file->size;
	if (range.suffix) {
		range.from = range.last == 0 ? size : range.last < size ? size - range.last : 0;
		range.to = UINT64_MAX;
	}
	if (size > INT64_MAX || (range.set && range.from >= size)) {
		snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)size);
		http_set_header(r, "Content-Range", text);
		http_reply_error_with(r, 416, HTTP_INVALID_ARGUMENT, NULL, "the file has %llu bytes",
				      (unsigned long long)size);
		return false;
	}
	set_info(r, answer->file);
	http_set_header(r, "Accept-Ranges", "bytes");
	if (!range.set) {
		/* The kernel's own files say 0 and have more. */
		*length = size ? size : HTTP_LENGTH_UNKNOWN;
		return true;
	}
	if (range.to >= size)
		range.to = size - 1;
	snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)range.from,
		 (unsigned long long)range.to, (unsigned long long)size);
	http_set_header(r, "Content-Range", text);
	*status = 206;
	*length = range.to - range.from + 1;
	return true;
}

void rest_get_file(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	if (!b || !rest_where(r, &at))
		return;
	struct range range = read_range(r);
	Tenon__ReadFile read = TENON__READ_FILE__INIT;
	read.at = &at;
	read.offset = range.from;
	if (range.suffix)
		read.last = range.last;
	else if (range.to != UINT64_MAX)
		read.length = range.to - range.from + 1;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_READ;
	req.read = &read;
	rest_download(r, b, &req, head);
}

/* ---- HEAD ---- */

static ssize_t nothing(void *arg, struct http_stream *s, uint8_t *buf, size_t max)
{
	(void)arg;
	(void)s;
	(void)buf;
	(void)max;
	return HTTP_SOURCE_FAILED;
}

static void ignore(void *arg)
{
	(void)arg;
}

static void on_stat(struct http_request *r, const Tenon__BulkResponse *answer, json_t *object)
{
	(void)object;
	static const struct http_source no_body = {.fill = nothing, .closed = ignore};
	if (answer->result_case != TENON__BULK_RESPONSE__RESULT_FILE || answer->file->size > INT64_MAX) {
		http_reply_error(r, HTTP_INTERNAL, "the agent answered something else");
		return;
	}
	set_info(r, answer->file);
	http_set_header(r, "Accept-Ranges", "bytes");
	http_reply_stream(r, 200, answer->file->size, &no_body, NULL);
}

void rest_head_file(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	if (!b || !rest_where(r, &at))
		return;
	Tenon__Stat stat = TENON__STAT__INIT;
	stat.at = &at;
	stat.follow = true;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_STAT;
	req.stat = &stat;
	rest_bulk_call(r, b, &req, true, on_stat, NULL);
}

/* ---- PUT, DELETE ---- */

/* ?mode=0755, in octal as everywhere. 0 if absent. False: it has replied. */
static bool read_mode(struct http_request *r, uint32_t *mode)
{
	const char *text = http_query(r, "mode");
	size_t len = text ? strspn(text, "01234567") : 0;
	*mode = text ? (uint32_t)strtoul(text, NULL, 8) : 0;
	if (!text || (len > 0 && len <= 5 && !text[len] && *mode > 0 && *mode <= 07777))
		return true;
	http_reply_error_with(r, 0, HTTP_INVALID_ARGUMENT, json_pack("{s:s}", "field", "mode"),
			      "mode must be permission bits in octal: 0644");
	return false;
}

void rest_put_file(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	bool overwrite = true, parents;
	uint32_t mode;
	if (!b || !rest_where(r, &at) || !read_mode(r, &mode) ||
	    http_query_flag(r, "parents", &parents) < 0 ||
	    (http_query(r, "overwrite") && http_query_flag(r, "overwrite", &overwrite) < 0))
		return;
	Tenon__WriteFile write = TENON__WRITE_FILE__INIT;
	write.at = &at;
	write.how = overwrite ? TENON__WRITE_HOW__WRITE_REPLACE : TENON__WRITE_HOW__WRITE_CREATE;
	write.mode = mode;
	write.make_parents = parents;
	write.owner = rest_owner(b);
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_WRITE;
	req.write = &write;
	rest_upload(r, b, &req);
}

void rest_delete_file(void *app, struct http_request *r)
{
	struct box *b = rest_box(app, r);
	Tenon__Where at;
	bool recursive;
	if (!b || !rest_where(r, &at) || http_query_flag(r, "recursive", &recursive) < 0)
		return;
	Tenon__Remove remove = TENON__REMOVE__INIT;
	remove.at = &at;
	remove.recursive = recursive;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	req.op_case = TENON__BULK_REQUEST__OP_REMOVE;
	req.remove = &remove;
	rest_bulk_call(r, b, &req, true, rest_answer_empty, NULL);
}
