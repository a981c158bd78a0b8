#include "guest/log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "guest/loop.h"

#define BURST 64
#define REFILL_NS (NSEC_PER_SEC / 8)

static struct {
	int fd;
	unsigned tokens;
	uint64_t refilled;
} log_state = {.fd = -1, .tokens = BURST};

void log_init(int pid1)
{
	log_state.fd = pid1 ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY) : STDERR_FILENO;
}

static int take_token(void)
{
	uint64_t now = clock_mono(), fresh = (now - log_state.refilled) / REFILL_NS;
	if (fresh > 0) {
		log_state.tokens =
			fresh >= BURST - log_state.tokens ? BURST : log_state.tokens + (unsigned)fresh;
		log_state.refilled = now;
	}
	if (log_state.tokens == 0)
		return 0;
	log_state.tokens--;
	return 1;
}

/* The kernel log always does, and does not say so to poll(2). */
static int takes_a_line(void)
{
	struct pollfd p = {.fd = log_state.fd, .events = POLLOUT};
	return log_state.fd != STDERR_FILENO || (poll(&p, 1, 0) > 0 && p.revents & POLLOUT);
}

void log_line(const char *fmt, ...)
{
	if (log_state.fd < 0 || !take_token() || !takes_a_line())
		return;

	char line[256] = "tenon-init: ";
	const size_t prefix = sizeof "tenon-init: " - 1, room = sizeof line - prefix - 1;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line + prefix, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	size_t len = prefix + ((size_t)n < room ? (size_t)n : room - 1);
	line[len++] = '\n';
	if (write(log_state.fd, line, len) < 0)
		return; /* nowhere to say so */
}
