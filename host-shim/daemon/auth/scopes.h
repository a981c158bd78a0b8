/* What a caller may do, and the words for it: today's scopes ("box:read"), those of the 2026-02 dialect
 * ("boxes:read") and the permissions of an API key ("write:boxes"). */
#pragma once

#include <jansson.h>
#include <stdbool.h>

enum scope {
	SCOPE_ME = 1 << 0,
	SCOPE_BOX_READ = 1 << 1,
	SCOPE_BOX_WRITE = 1 << 2,
	SCOPE_BOX_EXEC = 1 << 3,
	SCOPE_BOX_DELETE = 1 << 4,
	SCOPE_KEY_READ = 1 << 5,
	SCOPE_KEY_WRITE = 1 << 6,
	SCOPE_KEY_DELETE = 1 << 7,
	SCOPE_IMAGE_READ = 1 << 8,
	SCOPE_IMAGE_WRITE = 1 << 9,
	SCOPE_RUNTIME = 1 << 10,
	SCOPE_VOLUME_READ = 1 << 11,
	SCOPE_VOLUME_WRITE = 1 << 12,
	SCOPE_VOLUME_DELETE = 1 << 13,
	SCOPE_ADMIN = 1 << 14, /* of this tenond: registers prefixes. No word gives it. */
};
#define SCOPE_ALL (SCOPE_ADMIN * 2 - 1)

/* The scopes that a word gives; -1: no such word. 0: a word of the vocabulary for what this server lacks. */
int scopes_of_word(const char *word, size_t len);
/* The same of words with a space between each two; words that do not exist give nothing. */
unsigned scopes_of_words(const char *words);
/* A word that gives one of them; NULL: only the admin has it. */
const char *scopes_name(unsigned scopes);
/* Today's words for the scopes, as /me shows them. */
json_t *scopes_list(unsigned scopes);
