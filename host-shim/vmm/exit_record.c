#include "exit_record.h"

#include "proto/cleanup.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/wait.h>

int exit_record_write(const struct exit_record *x, int dir, struct err *e)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "reason", x->reason, "message", "", "at",
			      (json_int_t)x->at_ms, "started_at", (json_int_t)x->started_ms);
	/* QEMU's words may not be UTF-8; then the record goes without them. */
	json_object_set_new(o, "message", json_string(x->message));
	if (x->has_status && WIFEXITED(x->status))
		json_object_set_new(o, "qemu_exit_code", json_integer(WEXITSTATUS(x->status)));
	if (x->has_status && WIFSIGNALED(x->status))
		json_object_set_new(o, "qemu_signal", json_integer(WTERMSIG(x->status)));
	_cleanup_free_ char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return err_sys(e, "exit_record", ENOMEM, "building the record");

	_cleanup_close_ int fd =
		openat(dir, EXIT_RECORD_NAME ".tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "exit_record", errno, "opening the record");
	if (dprintf(fd, "%s\n", text) < 0 || fsync(fd) < 0)
		return err_sys(e, "exit_record", errno, "writing the record");
	if (renameat(dir, EXIT_RECORD_NAME ".tmp", dir, EXIT_RECORD_NAME) < 0)
		return err_sys(e, "exit_record", errno, "renaming the record");
	return 0;
}
