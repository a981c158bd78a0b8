#include "guest/files/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int number(const char *text, unsigned *id)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || n >= UINT32_MAX)
		return -EINVAL;
	*id = (unsigned)n;
	return 0;
}

int owner_resolve(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		  struct fault *f)
{
	*o = (struct owner){OWNER_UNCHANGED, OWNER_UNCHANGED};
	if (text.len == 0)
		return 0;
	if (memchr(text.data, '\0', text.len))
		return fault_invalid(f, field, "it holds a NUL");
	char *user = bump_string(b, text.data, text.len);
	if (!user)
		return fault_exhausted(f, field, "no memory for it");
	char *group = strchr(user, ':');
	if (group)
		*group++ = '\0';
	if ((*user && number(user, &o->uid) < 0) || (group && *group && number(group, &o->gid) < 0))
		return fault_invalid(f, field, "names are not looked up yet");
	return 0;
}

int owner_resolve_new(ProtobufCBinaryData text, const char *field, struct owner *o, struct bump *b,
		      struct fault *f)
{
	int r = owner_resolve(text, field, o, b, f);
	if (o->uid == OWNER_UNCHANGED)
		o->uid = geteuid();
	if (o->gid == OWNER_UNCHANGED)
		o->gid = getegid();
	return r;
}

int owner_check_mode(uint32_t mode, struct fault *f)
{
	return mode > 07777 ? fault_invalid(f, "mode", "%o is more than permission bits", mode) : 0;
}
