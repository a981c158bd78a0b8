/* What the end of a VM was, from what is left: our own reason to end it, exit.json, the console, the host's
 * boot. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "box.h"
#include "console.h"
#include "exit_file.h"

static bool of_another_boot(const struct process_id *id)
{
	struct process_id self;
	return id->pid > 0 && process_identify(&self, getpid()) == 0 && strcmp(self.boot, id->boot) != 0;
}

enum box_event box_judge(struct box *b, char *reason, size_t cap)
{
	struct exit_file end;
	char console[CONSOLE_EXCERPT + 1];
	bool found = exit_file_read(&end, b->state_dir, NULL) == 0;
	bool panic = console_read(console, sizeof console, b->state_dir) && end.reason == EXIT_GUEST_RESET;
	bool host_ended = !found && of_another_boot(&b->row.life.vmm);
	bool wished = end.reason == EXIT_GUEST_SHUTDOWN || end.reason == EXIT_STOPPED ||
		      (end.reason == EXIT_GUEST_RESET && !panic) || host_ended;

	/* A QEMU that the guest switched off has closed its disks; any other may have been killed. */
	b->unclean = !found || end.reason != EXIT_GUEST_SHUTDOWN;
	/* What we found wrong says more than that we then stopped it. */
	if (b->why[0])
		snprintf(reason, cap, "%s", b->why);
	else if (panic)
		snprintf(reason, cap, "the guest's kernel panicked");
	else if (host_ended)
		snprintf(reason, cap, "the host restarted");
	else if (!wished && end.message[0])
		snprintf(reason, cap, "%s", end.message);
	else
		snprintf(reason, cap, "%s", exit_reason_words(end.reason));

	if (b->row.life.status == BOX_STOPPING || (b->row.life.status == BOX_RUNNING && wished && !b->why[0]))
		return EVENT_ENDED;
	snprintf(b->row.life.error, sizeof b->row.life.error, "%s%s%s", reason,
		 console[0] ? "; console: " : "", console);
	return EVENT_FAILED;
}
