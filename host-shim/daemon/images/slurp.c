#include "slurp.h"

#include "proto/cleanup.h"

int slurp(int fd, size_t max, char **out, size_t *len, struct err *e)
{
	_cleanup_free_ char *text = malloc(max + 2);
	ssize_t n = 0;
	*len = 0;
	while (text && *len <= max && (n = read(fd, text + *len, max + 1 - *len)) > 0)
		*len += (size_t)n;
	if (!text || n < 0)
		return err_sys(e, "slurp", text ? errno : ENOMEM, "reading");
	if (*len > max)
		return err_set(e, "slurp", EBADMSG, "a manifest or config of more than %zu bytes", max);
	text[*len] = '\0';
	*out = steal_ptr(&text);
	return 0;
}
