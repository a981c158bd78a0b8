#include "guest/box/etc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/box/inroot.h"
#include "guest/take.h"
#include "proto/cleanup.h"

int etc_take(struct etc_plan *p, struct bump *store, const Tenon__Configure *req, struct fault *f)
{
	*p = (struct etc_plan){0};
	int r = 0;
	if (req->hosts.len > 0)
		r = take_string(&p->hosts, store, &req->hosts, ETC_FILE_MAX, "configure.hosts", f);
	if (r == 0 && req->resolv_conf.len > 0)
		r = take_string(&p->resolv_conf, store, &req->resolv_conf, ETC_FILE_MAX,
				"configure.resolv_conf", f);
	return r;
}

static int write_all(int fd, const char *text)
{
	for (size_t left = strlen(text); left > 0;) {
		ssize_t n = write(fd, text, left);
		if (n < 0)
			return -errno;
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

static int replace(int etc, const char *name, const char *text, const char *end)
{
	char fresh[32];
	snprintf(fresh, sizeof fresh, ".%s.tenon", name);
	unlinkat(etc, fresh, 0); /* of a boot that was cut short */
	_cleanup_close_ int fd = openat(etc, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, text);
	if (r == 0)
		r = write_all(fd, end);
	if (r == 0 && renameat(etc, fresh, etc, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(etc, fresh, 0);
	return r;
}

int etc_write(const struct etc_plan *p, struct err *e)
{
	const struct {
		const char *step, *name, *text, *end;
	} files[] = {
		{"hosts", "hosts", p->hosts, ""},
		{"resolv_conf", "resolv.conf", p->resolv_conf, ""},
		{"hostname", "hostname", p->hostname, "\n"},
	};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		if (!files[i].text)
			continue;
		_cleanup_close_ int etc = inroot_make_dir("/etc");
		int r = etc < 0 ? etc : replace(etc, files[i].name, files[i].text, files[i].end);
		if (r < 0)
			return err_sys(e, files[i].step, -r, "/etc/%s", files[i].name);
	}
	return 0;
}
