#include "exit_file.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>

#include "console.h"
#include "proto/cleanup.h"

static const struct {
	const char *name, *words;
} reasons[] = {
	[EXIT_UNKNOWN] = {"", "the VM ended without saying why"},
	[EXIT_GUEST_SHUTDOWN] = {"guest_shutdown", "the guest shut down"},
	[EXIT_GUEST_RESET] = {"guest_reset", "the guest reset itself"},
	[EXIT_STOPPED] = {"stopped", "the VM was stopped"},
	[EXIT_QEMU_DIED] = {"qemu_died", "QEMU died"},
	[EXIT_START_FAILED] = {"start_failed", "QEMU did not start"},
};

const char *exit_reason_words(enum exit_reason reason)
{
	return reasons[reason].words;
}

int exit_file_parse(struct exit_file *out, const char *text, size_t len, struct err *e)
{
	*out = (struct exit_file){0};
	if (len > EXIT_FILE_MAX)
		return err_set(e, "exit_file", EINVAL, "%s is over %d bytes", EXIT_FILE_NAME, EXIT_FILE_MAX);
	json_error_t where;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return err_set(e, "exit_file", EINVAL, "%s: %s", EXIT_FILE_NAME, where.text);
	/* Accessors of the wrong type answer NULL: an array is as good as an empty object. */
	const char *reason = json_string_value(json_object_get(root, "reason"));
	const json_t *message = json_object_get(root, "message");
	for (size_t i = 1; reason && i < sizeof reasons / sizeof *reasons; i++)
		if (strcmp(reason, reasons[i].name) == 0)
			out->reason = (enum exit_reason)i;
	if (json_is_string(message))
		console_clean(out->message, sizeof out->message, json_string_value(message), json_string_length(message));
	json_decref(root);
	return out->reason == EXIT_UNKNOWN
		       ? err_set(e, "exit_file", EINVAL, "%s has no known reason", EXIT_FILE_NAME)
		       : 0;
}

int exit_file_read(struct exit_file *out, const char *state_dir, struct err *e)
{
	*out = (struct exit_file){0};
	_cleanup_close_ int dir = open(state_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, EXIT_FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "exit_file", errno, "%s", EXIT_FILE_NAME);
	char text[EXIT_FILE_MAX + 1];
	ssize_t n = read(fd, text, sizeof text);
	if (n < 0)
		return err_sys(e, "exit_file", errno, "%s", EXIT_FILE_NAME);
	return exit_file_parse(out, text, (size_t)n, e);
}
