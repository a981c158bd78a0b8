#include <signal.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

/* Those that the published clients send. KILL is not among them: DELETE kills, and tells the readers. */
static const struct {
	const char *name;
	int number;
} allowed[] = {
	{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ABRT", SIGABRT},
	{"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"WINCH", SIGWINCH},
};

int rest_read_signal(struct fields *f, const char *name, bool *kill)
{
	json_t *v = fields_any(f, name);
	const char *text = json_string_value(v);
	if (!v) {
		fields_fault(f, name, "is missing");
		return 0;
	}
	if (kill && (*kill = json_is_integer(v) && json_integer_value(v) == SIGKILL))
		return SIGKILL;
	if (text && strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (text ? strcasecmp(text, allowed[i].name) == 0
			 : json_is_integer(v) && json_integer_value(v) == allowed[i].number)
			return allowed[i].number;
	fields_fault(f, name, "must be %s, or the name of one; to kill, DELETE the execution", REST_SIGNALS);
	return 0;
}
