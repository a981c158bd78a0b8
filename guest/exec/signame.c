#include "guest/exec/signame.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#define RTMIN 34
#define RTMAX 64
#define NAME_MAX_LEN 9 /* "SIGVTALRM", "RTMIN+30" */

static const struct {
	const char *name;
	int signo;
} names[] = {
	{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},     {"ILL", SIGILL},   {"TRAP", SIGTRAP},
	{"ABRT", SIGABRT}, {"IOT", SIGIOT},   {"BUS", SIGBUS},       {"FPE", SIGFPE},   {"KILL", SIGKILL},
	{"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},     {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
	{"TERM", SIGTERM}, {"CHLD", SIGCHLD}, {"STKFLT", SIGSTKFLT}, {"CLD", SIGCHLD},  {"CONT", SIGCONT},
	{"STOP", SIGSTOP}, {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},
	{"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH},
	{"IO", SIGIO},     {"POLL", SIGPOLL}, {"PWR", SIGPWR},       {"SYS", SIGSYS},   {"RTMIN", RTMIN},
	{"RTMAX", RTMAX},
};

/* The number behind RTMIN's '+' or RTMAX's '-': one or two digits, no leading zero. -1: it is none. */
static int distance(const char *digits)
{
	int n = 0, i = 0;
	for (; digits[i] >= '0' && digits[i] <= '9' && i < 2; i++)
		n = n * 10 + (digits[i] - '0');
	return i == 0 || digits[i] || (i == 2 && digits[0] == '0') ? -1 : n;
}

static int parse_realtime(const char *name)
{
	int up = strncasecmp(name, "RTMIN+", 6) == 0, down = strncasecmp(name, "RTMAX-", 6) == 0;
	int n = up || down ? distance(name + 6) : -1;
	return n < 0 || n > RTMAX - RTMIN ? -EINVAL : up ? RTMIN + n : RTMAX - n;
}

int signame_parse(const uint8_t *name, size_t len)
{
	char text[NAME_MAX_LEN + 4];
	if (len >= sizeof text || memchr(name, '\0', len))
		return -EINVAL;
	memcpy(text, name, len);
	text[len] = '\0';
	const char *bare = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcasecmp(bare, names[i].name) == 0)
			return names[i].signo;
	return parse_realtime(bare);
}
