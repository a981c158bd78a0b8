/* NULL-terminated lists of strings, as argv and environ are. */
#pragma once

/* A copy of a list (NULL: of an empty one), to be freed by strings_free; NULL without memory. */
char **strings_copy(const char *const *list);
void strings_free(char **list); /* NULL is fine */
