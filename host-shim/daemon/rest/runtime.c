/* GET /metrics, of a prefix and of one box: what tenond counts itself. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* One list for both forms. */
static const struct {
	const char *name, *series, *type, *help;
	size_t offset;
} runtime[] = {
	{"boxes_created_total", "tenon_boxes_created_total", "counter", "Boxes created since tenond started.",
	 offsetof(struct boxes_metrics, created)},
	{"boxes_failed_total", "tenon_boxes_failed_total", "counter",
	 "Boxes that did not start, or whose VM failed.", offsetof(struct boxes_metrics, failed)},
	{"boxes_stopped_total", "tenon_boxes_stopped_total", "counter", "Boxes that stopped in order.",
	 offsetof(struct boxes_metrics, stopped)},
	{"num_running_boxes", "tenon_boxes_running", "gauge", "Boxes that run now.",
	 offsetof(struct boxes_metrics, running)},
	{"total_commands_executed", "tenon_commands_total", "counter", "Commands asked for.",
	 offsetof(struct boxes_metrics, commands)},
	{"total_exec_errors", "tenon_command_errors_total", "counter", "Commands that did not start.",
	 offsetof(struct boxes_metrics, errors)},
};
#define RUNTIME (sizeof runtime / sizeof *runtime)

static uint64_t value_of(const struct boxes_metrics *m, size_t i)
{
	uint64_t value;
	memcpy(&value, (const char *)m + runtime[i].offset, sizeof value);
	return value;
}

static void reply_text(struct http_request *r, const struct boxes_metrics *m)
{
	char text[2048];
	size_t used = 0;
	for (size_t i = 0; i < RUNTIME; i++)
		used += (size_t)snprintf(text + used, sizeof text - used,
					 "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", runtime[i].series,
					 runtime[i].help, runtime[i].series, runtime[i].type,
					 runtime[i].series, (unsigned long long)value_of(m, i));
	http_reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, used);
}

/* The published clients do not read num_running_boxes: they show created - failed - stopped. A box may start
 * and stop often, so for them `stopped` is what makes that right; the series for Prometheus counts. */
static uint64_t stopped_for_clients(const struct boxes_metrics *m)
{
	uint64_t others = m->failed + m->running;
	return m->created > others ? m->created - others : 0;
}

void rest_get_metrics(void *app, struct http_request *r)
{
	struct rest *rest = app;
	const struct tenant *t = rest_tenant(rest, r);
	const char *accept = http_header(r, "Accept");
	if (!t)
		return;
	struct boxes_metrics m;
	boxes_get_metrics(rest->config.boxes, t->prefix, &m);
	http_set_header(r, "Vary", "Accept");
	if (accept && (strstr(accept, "text/plain") || strstr(accept, "openmetrics-text"))) {
		reply_text(r, &m);
		return;
	}
	m.stopped = stopped_for_clients(&m);
	json_t *o = json_object();
	for (size_t i = 0; i < RUNTIME; i++)
		json_object_set_new(o, runtime[i].name, json_integer((json_int_t)value_of(&m, i)));
	http_reply_json(r, 200, o);
}

void rest_get_health(void *app, struct http_request *r)
{
	(void)app;
	http_reply_json(r, 200, json_pack("{s:s}", "status", "ok"));
}
