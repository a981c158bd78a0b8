#include "scopes.h"

#include <string.h>

/* Today's come first: they are what is shown. */
static const struct {
	const char *word;
	unsigned scopes;
} words[] = {
	{"box:read", SCOPE_BOX_READ},
	{"box:write", SCOPE_BOX_WRITE},
	{"box:exec", SCOPE_BOX_EXEC},
	{"box:delete", SCOPE_BOX_DELETE},
	{"volume:read", SCOPE_VOLUME_READ},
	{"volume:write", SCOPE_VOLUME_WRITE},
	{"volume:delete", SCOPE_VOLUME_DELETE},
	{"api_key:read", SCOPE_KEY_READ},
	{"api_key:write", SCOPE_KEY_WRITE},
	{"api_key:delete", SCOPE_KEY_DELETE},
	{"me:read", SCOPE_ME},
	/* These have no word in today's. */
	{"images:read", SCOPE_IMAGE_READ},
	{"images:write", SCOPE_IMAGE_WRITE},
	{"runtime:admin", SCOPE_RUNTIME},
#define SHOWN 14
	{"boxes:read", SCOPE_BOX_READ},
	{"boxes:write", SCOPE_BOX_WRITE | SCOPE_BOX_DELETE},
	{"boxes:exec", SCOPE_BOX_EXEC},
	{"write:boxes", SCOPE_BOX_READ | SCOPE_BOX_WRITE | SCOPE_BOX_EXEC},
	{"delete:boxes", SCOPE_BOX_DELETE},
	{"read:volumes", SCOPE_VOLUME_READ},
	{"write:volumes", SCOPE_VOLUME_READ | SCOPE_VOLUME_WRITE},
	{"delete:volumes", SCOPE_VOLUME_DELETE},
	{"write:registries", 0},
	{"delete:registries", 0},
	{"write:templates", 0},
	{"delete:templates", 0},
	{"write:regions", 0},
	{"delete:regions", 0},
};

int scopes_of_word(const char *word, size_t len)
{
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strlen(words[i].word) == len && memcmp(words[i].word, word, len) == 0)
			return (int)words[i].scopes;
	return -1;
}

unsigned scopes_of_words(const char *text)
{
	unsigned all = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		int one = scopes_of_word(text, len);
		all |= one > 0 ? (unsigned)one : 0;
		text += len;
		text += strspn(text, " ");
	}
	return all;
}

const char *scopes_name(unsigned scopes)
{
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (scopes & words[i].scopes)
			return words[i].word;
	return NULL;
}

json_t *scopes_list(unsigned scopes)
{
	json_t *list = json_array();
	for (size_t i = 0; i < SHOWN; i++)
		if (scopes & words[i].scopes)
			json_array_append_new(list, json_string(words[i].word));
	return list;
}
