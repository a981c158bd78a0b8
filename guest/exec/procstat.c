#include "guest/exec/procstat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/cleanup.h"

int procstat_field(const char *line, int field, uint64_t *value)
{
	const char *p = strrchr(line, ')');
	if (!p || p[1] != ' ')
		return -EINVAL;
	p += 2; /* at the third */
	for (int at = 3; at < field; at++) {
		p = strchr(p, ' ');
		if (!p)
			return -EINVAL;
		p++;
	}
	char *end;
	*value = strtoull(p, &end, 10);
	return end == p ? -EINVAL : 0;
}

int procstat_read(int proc, const char *pid, const char *name, char *buf, unsigned size)
{
	char path[32];
	snprintf(path, sizeof path, "%.10s/%s", pid, name);
	_cleanup_close_ int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}
