#include <stdlib.h>
#include <string.h>

#include "internal.h"

const char **rest_string_list(struct fields *f, const char *name, const char *first, json_t *array)
{
	size_t count = json_array_size(array), n = 0;
	const char **list = calloc(count + 2, sizeof *list);
	if (!list)
		return NULL;
	if (first)
		list[n++] = first;
	for (size_t i = 0; i < count; i++) {
		const char *s = json_string_value(json_array_get(array, i));
		if (!s) {
			fields_fault(f, name, "must be an array of strings; item %zu is none", i);
			break;
		}
		list[n++] = s;
	}
	return list;
}

const char **rest_env_list(struct fields *f, const char *name, json_t *object)
{
	const char *key;
	json_t *value;
	size_t bytes = (json_object_size(object) + 1) * sizeof(char *), n = 0;
	json_object_foreach (object, key, value)
		bytes += strlen(key) + json_string_length(value) + 2;
	const char **list = calloc(1, bytes);
	if (!list)
		return NULL;
	char *text = (char *)(list + json_object_size(object) + 1);
	json_object_foreach (object, key, value) {
		if (!json_is_string(value) || !key[0] || strchr(key, '=')) {
			fields_fault(f, name,
				     !json_is_string(value) ? "must be an object of strings"
							    : "has a name that is empty or contains '='");
			break;
		}
		list[n++] = text;
		text = stpcpy(text, key);
		*text++ = '=';
		text = stpcpy(text, json_string_value(value)) + 1;
	}
	return list;
}
