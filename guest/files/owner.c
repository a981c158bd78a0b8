#include "guest/files/owner.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "guest/exec/user.h"

static int refuse(struct fault *f, const char *field, int r, const char *problem)
{
	if (r == -ENOENT || r == -E2BIG)
		return fault_invalid(f, field, "%s", problem);
	return fault_file(f, "user", -r, "/etc/passwd");
}

/* 1 if it names somebody, 0 if it is empty. */
static int resolve(ProtobufCBinaryData text, const char *field, struct owner *o, bool primary_group,
		   struct bump *b, struct fault *f)
{
	*o = (struct owner){OWNER_UNCHANGED, OWNER_UNCHANGED};
	if (text.len == 0)
		return 0;
	bool group_only = text.data[0] == ':';
	char *spec = bump_alloc(b, text.len + 2);
	struct user *u = bump_alloc(b, sizeof *u);
	if (!spec || !u)
		return fault_exhausted(f, field, "no memory for it");
	/* The form has no user for a group by itself. */
	size_t n = group_only;
	spec[0] = '0';
	memcpy(spec + n, text.data, text.len);
	n += text.len;
	spec[n] = '\0';
	if (!user_spec_valid(spec, n))
		return fault_invalid(f, field, "is not of the form user, user:group or :group");
	int r = user_resolve(spec, u);
	if (r < 0)
		return refuse(f, field, r, u->problem);
	if (!group_only)
		o->uid = u->uid;
	if (primary_group || strchr(spec, ':'))
		o->gid = u->gid;
	return 1;
}

int owner_resolve(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		  struct fault *f)
{
	int r = resolve(text, field, o, false, b, f);
	return r < 0 ? r : 0;
}

int owner_resolve_new(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		      struct fault *f)
{
	int r = resolve(text, field, o, true, b, f);
	if (r < 0)
		return r;
	if (o->uid == OWNER_UNCHANGED)
		o->uid = geteuid();
	if (o->gid == OWNER_UNCHANGED)
		o->gid = getegid();
	return 0;
}

int owner_check_mode(uint32_t mode, struct fault *f)
{
	return mode > 07777 ? fault_invalid(f, "mode", "%o is more than permission bits", mode) : 0;
}
