#include "guest/exec/user.h"

#include <errno.h>
#include <fcntl.h>

#include "guest/exec/rawcall.h"

#define CHUNK 2048
#define LIST_FIELD 3 /* of group(5): the members, between commas */
#define HOME_FIELD 5 /* of passwd(5) */

/* ---- words ---- */

static size_t length(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

static bool same(const char *a, size_t n_a, const char *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static bool is_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

static bool parse_id(const char *s, size_t n, uint32_t *id)
{
	uint64_t v = 0;
	if (!is_digits(s, n))
		return false;
	for (size_t i = 0; i < n && v <= USER_ID_MAX; i++)
		v = v * 10 + (uint64_t)(s[i] - '0');
	*id = (uint32_t)v;
	return v <= USER_ID_MAX;
}

/* ---- lines ---- */

static void end_member(struct user_scan *s)
{
	if (s->wanted == USER_BY_MEMBER && s->n <= sizeof s->text && s->n > 0)
		s->member |= same(s->text, s->n, s->name, s->name_len);
	s->n = 0;
}

static void end_field(struct user_scan *s)
{
	bool fits = s->n <= sizeof s->text;
	if (s->field == 0 && fits) {
		for (size_t i = 0; i < s->n; i++)
			s->line_name[i] = s->text[i];
		s->line_name_len = s->n;
	} else if (s->field == 2) {
		s->broken |= !fits || !parse_id(s->text, s->n, s->groups ? &s->gid : &s->uid);
	} else if (s->field == 3 && !s->groups) {
		s->broken |= !fits || !parse_id(s->text, s->n, &s->gid);
	} else if (s->field == LIST_FIELD && s->groups) {
		end_member(s);
	} else if (s->field == HOME_FIELD && !s->groups) {
		s->home_len = s->n < sizeof s->home ? s->n : 0;
	}
	s->field++;
	s->n = 0;
}

static void end_line(struct user_scan *s)
{
	end_field(s);
	bool whole = !s->broken && s->line_name_len > 0 && s->field > (s->groups ? 2 : 3);
	switch (s->wanted) {
	case USER_BY_NAME:
		s->hit = whole && same(s->line_name, s->line_name_len, s->name, s->name_len);
		break;
	case USER_BY_ID:
		s->hit = whole && s->id == (s->groups ? s->gid : s->uid);
		break;
	case USER_BY_MEMBER:
		s->hit = whole && s->member;
		break;
	}
	s->home[s->home_len] = '\0';
	s->field = 0;
}

static void begin_line(struct user_scan *s)
{
	s->hit = s->broken = s->member = false;
	s->line_name_len = s->home_len = s->n = 0;
}

size_t user_scan_feed(struct user_scan *s, const char *bytes, size_t n)
{
	if (s->hit)
		begin_line(s);
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];
		if (c == '\n') {
			end_line(s);
			if (s->hit)
				return i + 1;
			begin_line(s);
		} else if (c == ':') {
			end_field(s);
		} else if (c == ',' && s->groups && s->field == LIST_FIELD) {
			end_member(s);
		} else {
			s->broken |= c == '\0';
			if (s->n < sizeof s->text)
				s->text[s->n] = c;
			if (!s->groups && s->field == HOME_FIELD && s->n < sizeof s->home - 1)
				s->home[s->n] = c;
			s->n++;
		}
	}
	return n;
}

void user_scan_end(struct user_scan *s)
{
	if (s->hit)
		begin_line(s);
	end_line(s);
}

/* ---- files ---- */

static int add_group(struct user *u, uint32_t gid)
{
	for (unsigned i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return 0;
	if (u->n_groups == USER_GROUPS_MAX)
		return -E2BIG;
	u->groups[u->n_groups++] = gid;
	return 0;
}

/* What a wanted line is good for. 0: read on; 1: that was it. */
static int BESIDE take_line(struct user_scan *s, struct user *u)
{
	if (s->wanted == USER_BY_MEMBER)
		return add_group(u, s->gid);
	u->gid = s->gid;
	if (s->groups)
		return 1;
	u->uid = s->uid;
	for (size_t i = 0; i <= s->home_len && s->home_len > 0; i++)
		u->home[i] = s->home[i];
	return 1;
}

/* 1 if take_line had enough, 0 at the end of the file. */
static int BESIDE scan_open(int fd, struct user_scan *s, struct user *u)
{
	char chunk[CHUNK];
	for (size_t total = 0; total < USER_FILE_MAX;) {
		long n = raw_call(SYS_read, fd, (long)chunk, sizeof chunk, 0);
		if (n < 0)
			return (int)n;
		if (n == 0) {
			user_scan_end(s);
			return s->hit ? take_line(s, u) : 0;
		}
		total += (size_t)n;
		for (size_t at = 0; at < (size_t)n;) {
			at += user_scan_feed(s, chunk + at, (size_t)n - at);
			int r = s->hit ? take_line(s, u) : 0;
			if (r != 0)
				return r;
		}
	}
	return -EFBIG;
}

static int BESIDE scan_file(const char *path, struct user_scan *s, struct user *u)
{
	/* O_NOCTTY: the child leads a session, and the box may have put a terminal there. */
	long fd = raw_call(SYS_open, (long)path, O_RDONLY | O_NOCTTY | O_CLOEXEC, 0, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return (int)fd;
	int r = scan_open((int)fd, s, u);
	raw_call(SYS_close, fd, 0, 0, 0);
	return r;
}

static int BESIDE fail(struct user *u, int r, const char *problem)
{
	u->problem = problem;
	return r;
}

static void aim(struct user_scan *s, const char *word, size_t n)
{
	s->wanted = is_digits(word, n) ? USER_BY_ID : USER_BY_NAME;
	s->name = word;
	s->name_len = n;
	if (s->wanted == USER_BY_ID)
		parse_id(word, n, &s->id);
}

static int BESIDE resolve_user(const char *word, size_t n, struct user_scan *s, struct user *u)
{
	s->groups = false;
	aim(s, word, n);
	int r = scan_file("/etc/passwd", s, u);
	if (r < 0)
		return fail(u, r, "/etc/passwd cannot be read");
	if (r == 0 && s->wanted == USER_BY_NAME)
		return fail(u, -ENOENT, "no such user in /etc/passwd");
	if (r == 0)
		u->uid = s->id;
	return r;
}

static int BESIDE resolve_group(const char *word, size_t n, struct user *u)
{
	struct user_scan s = {.groups = true};
	aim(&s, word, n);
	int r = scan_file("/etc/group", &s, u);
	if (r < 0)
		return fail(u, r, "/etc/group cannot be read");
	if (r == 0 && s.wanted == USER_BY_NAME)
		return fail(u, -ENOENT, "no such group in /etc/group");
	if (r == 0)
		u->gid = s.id;
	return add_group(u, u->gid);
}

static int BESIDE resolve_memberships(const struct user_scan *who, struct user *u)
{
	struct user_scan s = {.groups = true,
			      .wanted = USER_BY_MEMBER,
			      .name = who->line_name,
			      .name_len = who->line_name_len};
	add_group(u, u->gid);
	int r = scan_file("/etc/group", &s, u);
	if (r == -E2BIG)
		return fail(u, r, "is in more groups than the 256 that a process is given");
	return r < 0 ? fail(u, r, "/etc/group cannot be read") : 0;
}

int BESIDE user_resolve(const char *spec, struct user *u)
{
	static const char root_home[] = "/root";
	size_t n = length(spec), user_n = 0;
	while (user_n < n && spec[user_n] != ':')
		user_n++;
	u->uid = u->gid = 0;
	u->n_groups = 0;
	u->problem = NULL;
	u->home[0] = '/';
	u->home[1] = '\0';
	for (size_t i = 0; i < sizeof root_home && user_n == 0; i++)
		u->home[i] = root_home[i];

	bool explicit = user_n + 1 < n;
	if (user_n > 0) {
		struct user_scan s = {0};
		int r = resolve_user(spec, user_n, &s, u);
		if (r < 0)
			return r;
		if (!explicit)
			return r == 0 ? add_group(u, u->gid) : resolve_memberships(&s, u);
	}
	return explicit ? resolve_group(spec + user_n + 1, n - user_n - 1, u) : 0;
}

static bool word_valid(const char *word, size_t n)
{
	uint32_t id;
	return n <= USER_NAME_MAX && (!is_digits(word, n) || parse_id(word, n, &id));
}

bool user_spec_valid(const char *spec, size_t n)
{
	size_t user_n = 0;
	while (user_n < n && spec[user_n] != ':')
		user_n++;
	if (!word_valid(spec, user_n))
		return false;
	if (user_n == n)
		return true;
	for (size_t i = user_n + 1; i < n; i++)
		if (spec[i] == ':')
			return false;
	return word_valid(spec + user_n + 1, n - user_n - 1);
}
