#include "fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void fields_fault(struct fields *f, const char *name, const char *fmt, ...)
{
	if (f->problem[0])
		return;
	snprintf(f->field, sizeof f->field, "%s%s", f->prefix, name);
	int used = snprintf(f->problem, sizeof f->problem, "%s ", f->field);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(f->problem + used, sizeof f->problem - (size_t)used, fmt, ap);
	va_end(ap);
}

void fields_refuse(struct fields *f, const char *name, const char *why)
{
	if (f->problem[0])
		return;
	fields_fault(f, name, "%s", why);
	f->unsupported = true;
}

void fields_open(struct fields *f, json_t *object, const char *prefix)
{
	*f = (struct fields){.object = object, .left = json_copy(object), .prefix = prefix};
}

void fields_parse(struct fields *f, const void *text, size_t len)
{
	*f = (struct fields){.prefix = ""};
	if (len == 0) {
		f->object = json_object();
		f->left = json_object();
		return;
	}
	json_error_t at;
	f->object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	if (!f->object) {
		snprintf(f->problem, sizeof f->problem, "malformed JSON at line %d, column %d: %s", at.line,
			 at.column, at.text);
	} else if (!json_is_object(f->object)) {
		snprintf(f->problem, sizeof f->problem, "the body must be a JSON object");
	} else {
		f->left = json_copy(f->object);
	}
}

void fields_close(struct fields *parent, struct fields *child)
{
	if (!fields_done(child) && !parent->problem[0]) {
		memcpy(parent->field, child->field, sizeof parent->field);
		memcpy(parent->problem, child->problem, sizeof parent->problem);
		parent->unsupported = child->unsupported;
	}
	json_decref(child->left);
	child->left = NULL;
}

bool fields_done(struct fields *f)
{
	const char *unknown;
	json_t *value;
	json_object_foreach (f->left, unknown, value) {
		if (json_is_null(value))
			continue;
		/* The name is the client's: shown, but cut, and only as far as it is printable. */
		char shown[64];
		size_t n = 0;
		for (; unknown[n] && n < sizeof shown - 1; n++)
			shown[n] = unknown[n] >= ' ' && unknown[n] < 0x7f ? unknown[n] : '?';
		shown[n] = '\0';
		fields_fault(f, shown, "is not a known field");
	}
	return !f->problem[0];
}

void fields_finish(struct fields *f)
{
	json_decref(f->object);
	json_decref(f->left);
	f->object = f->left = NULL;
}

json_t *fields_any(struct fields *f, const char *name)
{
	json_t *v = json_object_get(f->object, name);
	if (f->left)
		json_object_del(f->left, name);
	return json_is_null(v) ? NULL : v;
}

bool fields_has(struct fields *f, const char *name)
{
	json_t *v = json_object_get(f->object, name);
	return v && !json_is_null(v);
}

const char *fields_string(struct fields *f, const char *name, size_t min, size_t max)
{
	json_t *v = fields_any(f, name);
	if (!v)
		return NULL;
	if (!json_is_string(v)) {
		fields_fault(f, name, "must be a string");
		return NULL;
	}
	size_t len = json_string_length(v);
	if (len < min || len > max) {
		fields_fault(f, name, "must be %zu to %zu bytes long, not %zu", min, max, len);
		return NULL;
	}
	return json_string_value(v);
}

bool fields_bool(struct fields *f, const char *name, bool fallback)
{
	json_t *v = fields_any(f, name);
	if (!v)
		return fallback;
	if (!json_is_boolean(v))
		fields_fault(f, name, "must be true or false");
	return json_is_true(v);
}

int64_t fields_int(struct fields *f, const char *name, int64_t min, int64_t max, int64_t fallback)
{
	json_t *v = fields_any(f, name);
	if (!v)
		return fallback;
	if (!json_is_integer(v)) {
		fields_fault(f, name, "must be an integer");
		return fallback;
	}
	int64_t n = json_integer_value(v);
	if (n < min || n > max) {
		fields_fault(f, name, "must be between %lld and %lld, not %lld", (long long)min,
			     (long long)max, (long long)n);
		return fallback;
	}
	return n;
}

double fields_number(struct fields *f, const char *name, double min, double max, double fallback)
{
	json_t *v = fields_any(f, name);
	if (!v)
		return fallback;
	if (!json_is_number(v)) {
		fields_fault(f, name, "must be a number");
		return fallback;
	}
	double n = json_number_value(v);
	if (!(n >= min && n <= max)) {
		fields_fault(f, name, "must be between %g and %g, not %g", min, max, n);
		return fallback;
	}
	return n;
}

json_t *fields_object(struct fields *f, const char *name)
{
	json_t *v = fields_any(f, name);
	if (v && !json_is_object(v)) {
		fields_fault(f, name, "must be an object");
		return NULL;
	}
	return v;
}

json_t *fields_array(struct fields *f, const char *name)
{
	json_t *v = fields_any(f, name);
	if (v && !json_is_array(v)) {
		fields_fault(f, name, "must be an array");
		return NULL;
	}
	return v;
}

void fields_choice(struct fields *f, const char *name, const char *one, const char *other)
{
	const char *s = fields_string(f, name, 0, SIZE_MAX);
	if (s && strcmp(s, one) != 0 && strcmp(s, other) != 0)
		fields_fault(f, name, "must be \"%s\" or \"%s\"", one, other);
}
