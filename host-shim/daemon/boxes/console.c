#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/cleanup.h"

#define WINDOW 16384 /* a panic with its registers and trace fits */

/* Past an escape sequence that begins at text[i]: CSI … final byte, OSC … BEL or ST, else two characters. */
static size_t skip_escape(const char *text, size_t len, size_t i)
{
	if (++i >= len)
		return len;
	if (text[i] == '[') {
		while (++i < len && (text[i] < 0x40 || text[i] > 0x7e))
			;
	} else if (text[i] == ']') {
		while (++i < len && text[i] != '\a' && text[i] != '\033')
			;
		if (i < len && text[i] == '\033')
			i++;
	}
	return i < len ? i + 1 : len;
}

static void keep_end(char *out, size_t cap, size_t *len)
{
	if (*len < cap)
		return;
	size_t cut = *len - (cap - 1);
	memmove(out, out + cut, cap - 1);
	*len = cap - 1;
}

size_t console_clean(char *out, size_t cap, const char *text, size_t len)
{
	_cleanup_free_ char *all = malloc(len + 1);
	size_t n = 0;
	for (size_t i = 0; all && i < len;) {
		unsigned char c = (unsigned char)text[i];
		if (c == '\033') {
			i = skip_escape(text, len, i);
			continue;
		}
		i++;
		if (c == '\n' || (c >= 0x20 && c < 0x7f))
			all[n++] = (char)c;
		else if (c == '\t')
			all[n++] = ' ';
		else if (c >= 0x80)
			all[n++] = '?';
	}
	while (n > 0 && (all[n - 1] == '\n' || all[n - 1] == ' '))
		n--;
	if (n)
		keep_end(all, cap, &n);
	memcpy(out, n ? all : "", n);
	out[n] = '\0';
	return n;
}

static const char *last_of(const char *text, const char *what)
{
	const char *found = NULL;
	for (const char *p = text; (p = strstr(p, what)); p++)
		found = p;
	return found;
}

bool console_excerpt(char *out, size_t cap, const char *clean)
{
	const char *panic = last_of(clean, "Kernel panic - ");
	if (panic) {
		/* A kernel that does not reboot at once says it twice, the second time as the end of its
		 * trace. */
		if (panic - clean >= 9 && strncmp(panic - 9, "---[ end ", 9) == 0) {
			const char *first = strstr(clean, "Kernel panic - ");
			panic = first ? first : panic;
		}
		snprintf(out, cap, "%s", panic);
		return true;
	}
	size_t len = strlen(clean);
	const char *from = clean;
	if (len >= cap) {
		from += len - (cap - 1);
		const char *line = strchr(from, '\n');
		if (line && line[1])
			from = line + 1;
	}
	snprintf(out, cap, "%s", from);
	return false;
}

int console_open(const char *state_dir)
{
	struct stat st;
	_cleanup_close_ int dir = open(state_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd =
		dir < 0 ? -1 : openat(dir, "console.log", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? steal_fd(&fd) : -ENOENT;
}

bool console_read(char *out, size_t cap, const char *state_dir)
{
	char raw[WINDOW], clean[WINDOW + 1];
	ssize_t n = 0;
	struct stat st;
	_cleanup_close_ int fd = console_open(state_dir);
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, raw, sizeof raw, st.st_size > WINDOW ? st.st_size - WINDOW : 0);
	console_clean(clean, sizeof clean, raw, n > 0 ? (size_t)n : 0);
	return console_excerpt(out, cap, clean);
}
