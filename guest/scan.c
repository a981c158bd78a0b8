#include "guest/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "proto/cleanup.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void skip_blanks(const char **p)
{
	while (is_blank(**p))
		++*p;
}

uint64_t scan_times(uint64_t a, uint64_t b)
{
	uint64_t r;
	return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

uint64_t scan_sum(uint64_t a, uint64_t b)
{
	uint64_t r;
	return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

uint32_t scan_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

uint64_t scan_number(const char **p)
{
	uint64_t v = 0;
	skip_blanks(p);
	for (; is_digit(**p); ++*p)
		v = scan_sum(scan_times(v, 10), (uint64_t)(**p - '0'));
	return v;
}

uint64_t scan_thousandths(const char **p)
{
	uint64_t v = scan_times(scan_number(p), 1000);
	if (**p != '.')
		return v;
	++*p;
	for (unsigned weight = 100; is_digit(**p); ++*p, weight /= 10)
		v = scan_sum(v, (uint64_t)(**p - '0') * weight);
	return v;
}

size_t scan_word(const char **p, const char **word)
{
	skip_blanks(p);
	*word = *p;
	while (**p && **p != '\n' && !is_blank(**p))
		++*p;
	return (size_t)(*p - *word);
}

void scan_skip(const char **p, int n)
{
	const char *word;
	while (n-- > 0)
		scan_word(p, &word);
}

const char *scan_pair(const char *line, const char *key)
{
	const char *word;
	size_t n, len = strlen(key);
	while ((n = scan_word(&line, &word)) > 0)
		if (n >= len && memcmp(word, key, len) == 0)
			return word + len;
	return NULL;
}

bool scan_next_line(const char **p)
{
	const char *end = strchr(*p, '\n');
	*p = end ? end + 1 : *p + strlen(*p);
	return **p != '\0';
}

const char *scan_after(const char *text, const char *key)
{
	size_t len = strlen(key);
	do
		if (strncmp(text, key, len) == 0)
			return text + len;
	while (scan_next_line(&text));
	return NULL;
}

uint64_t scan_value(const char *text, const char *key, uint64_t missing)
{
	const char *p = scan_after(text, key);
	return p ? scan_number(&p) : missing;
}

long scan_file(int dir, const char *name, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (n > 0 && len < size - 1) {
		n = read(fd, text + len, size - 1 - len);
		if (n > 0)
			len += (size_t)n;
	}
	text[len] = '\0';
	return n < 0 ? -errno : (long)len;
}
