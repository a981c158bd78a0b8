/* Reads a JSON object member by member and remembers the first thing wrong with it: where malformed text
 * breaks, which member has the wrong type or lies outside its range, which one nobody asked for. A null
 * member counts as absent. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct fields {
	json_t *object;     /* borrowed by nested fields, owned by those from fields_parse */
	json_t *left;       /* members not asked for yet */
	const char *prefix; /* of names in messages: "network." */
	char field[96];     /* the member at fault, "" for the text as a whole */
	char problem[256];  /* one sentence for people; "" while all is well */
	bool unsupported;   /* the member is right, but this server does not do it */
};

/* Parses text. An empty text is an empty object. What is wrong shows in f->problem; the reading calls below
 * are safe then and return their defaults. */
void fields_parse(struct fields *f, const void *text, size_t len);
/* Members of an object inside another one; prefix like "network." Problems are found by fields_end(parent,
 * child). */
void fields_open(struct fields *f, json_t *object, const char *prefix);
/* Closes a nested reader: unknown members and problems of child become the parent's. */
void fields_close(struct fields *parent, struct fields *child);
/* After the last member: unknown ones are a problem. True if all is well. Frees nothing. */
bool fields_done(struct fields *f);
void fields_finish(struct fields *f);

bool fields_has(struct fields *f, const char *name);
/* Borrowed from the object; NULL if absent or wrong. Length limits in bytes. */
const char *fields_string(struct fields *f, const char *name, size_t min, size_t max);
bool fields_bool(struct fields *f, const char *name, bool fallback);
int64_t fields_int(struct fields *f, const char *name, int64_t min, int64_t max, int64_t fallback);
double fields_number(struct fields *f, const char *name, double min, double max, double fallback);
json_t *fields_object(struct fields *f, const char *name);
json_t *fields_array(struct fields *f, const char *name);
/* A string that must be one of two. */
void fields_choice(struct fields *f, const char *name, const char *one, const char *other);
/* Any type; counts as asked for. */
json_t *fields_any(struct fields *f, const char *name);
/* Records a problem of a member, unless there is one already. */
void fields_fault(struct fields *f, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with `unsupported`. */
void fields_refuse(struct fields *f, const char *name, const char *why);
