#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "proto/cleanup.h"

/* GET …/console: what the guest's kernel and programs wrote to the console, as it is. ?follow stays until the
 * box stops. */

#define LOOK_MS 200

struct console {
	struct rest *rest;
	char box[129];
	int fd;
	off_t at;
	bool follow;
	struct http_stream *stream;
	uv_timer_t timer;
};

static void console_free(uv_handle_t *h)
{
	struct console *c = h->data;
	close_fd(&c->fd);
	free(c);
}

static void on_closed(void *arg)
{
	struct console *c = arg;
	uv_close((uv_handle_t *)&c->timer, console_free);
}

static void on_look(uv_timer_t *t)
{
	struct console *c = t->data;
	http_stream_wake(c->stream);
}

/* A file that was begun after ours: the log was full, or the box has been started again. */
static bool open_next(struct console *c, struct box *b)
{
	struct stat ours, newest;
	_cleanup_close_ int fd = box_open_console(b);
	if (fd < 0 || fstat(fd, &newest) < 0)
		return false;
	if (c->fd >= 0 && fstat(c->fd, &ours) == 0 && ours.st_ino == newest.st_ino && newest.st_size >= c->at)
		return false;
	close_fd(&c->fd);
	c->fd = steal_fd(&fd);
	c->at = 0;
	return true;
}

static ssize_t on_room(void *arg, struct http_stream *s, uint8_t *buf, size_t max)
{
	struct console *c = arg;
	c->stream = s;
	struct box *b = boxes_find_id(c->rest->config.boxes, c->box);
	struct box_info info = {.status = BOX_STOPPED};
	if (b)
		box_get_info(b, &info);
	do {
		ssize_t n = c->fd < 0 ? 0 : pread(c->fd, buf, max, c->at);
		if (n > 0) {
			c->at += n;
			return n;
		}
	} while (c->follow && b && open_next(c, b));
	bool over = info.status == BOX_STOPPED || info.status == BOX_FAILED;
	if (!c->follow || over)
		return HTTP_SOURCE_END;
	uv_timer_start(&c->timer, on_look, LOOK_MS, 0);
	return 0;
}

void rest_console(void *app, struct http_request *r)
{
	static const struct http_source source = {.fill = on_room, .closed = on_closed};
	struct rest *rest = app;
	struct box *b = rest_box(rest, r);
	bool follow;
	if (!b || http_query_flag(r, "follow", &follow) < 0)
		return;
	struct console *c = calloc(1, sizeof *c);
	struct box_info info;
	if (!c) {
		http_reply_error(r, HTTP_INTERNAL, "no memory");
		return;
	}
	box_get_info(b, &info);
	snprintf(c->box, sizeof c->box, "%s", info.id);
	c->rest = rest;
	c->follow = follow;
	c->fd = box_open_console(b);
	uv_timer_init(rest->config.loop, &c->timer);
	c->timer.data = c;
	http_set_header(r, "Content-Type", "text/plain");
	http_set_header(r, "X-Content-Type-Options", "nosniff");
	http_reply_stream(r, 200, HTTP_LENGTH_UNKNOWN, &source, c);
}
