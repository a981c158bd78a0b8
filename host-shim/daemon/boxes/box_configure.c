/* What the agent is told to become. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "box.h"
#include "proto/cleanup.h"
#include "proto/clock.h"

#define HOSTNAME_MAX 64

static bool has_name(char *const *list, const char *entry)
{
	size_t len = strcspn(entry, "=") + 1;
	for (; *list; list++)
		if (strncmp(*list, entry, len) == 0)
			return true;
	return false;
}

static size_t count(char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	return n;
}

/* The image's, where the box does not say otherwise, then the box's own. */
static ProtobufCBinaryData *merge_env(const struct box *b, size_t *n)
{
	char *const *image = b->row.settings.image.env, *const *own = b->row.env;
	ProtobufCBinaryData *env = calloc(count(image) + count(own) + 1, sizeof *env);
	*n = 0;
	for (; env && image && *image; image++)
		if (!has_name(b->row.env, *image))
			env[(*n)++] = (ProtobufCBinaryData){strlen(*image), (uint8_t *)*image};
	for (; env && *own; own++)
		env[(*n)++] = (ProtobufCBinaryData){strlen(*own), (uint8_t *)*own};
	return env;
}

int box_configure(struct box *b, session_done_fn done, struct err *e)
{
	char seed[64];
	ssize_t seeded = getrandom(seed, sizeof seed, 0);

	Tenon__Device lower = TENON__DEVICE__INIT, upper = TENON__DEVICE__INIT;
	lower.name = (ProtobufCBinaryData){3, (uint8_t *)"vda"};
	lower.fstype = (ProtobufCBinaryData){8, (uint8_t *)"squashfs"};
	upper.name = (ProtobufCBinaryData){3, (uint8_t *)"vdb"};
	upper.fstype = (ProtobufCBinaryData){4, (uint8_t *)"ext4"};
	Tenon__OverlayRoot overlay = TENON__OVERLAY_ROOT__INIT;
	overlay.lower = &lower;
	overlay.upper = &upper;
	Tenon__Root root = TENON__ROOT__INIT;
	root.kind_case = TENON__ROOT__KIND_OVERLAY;
	root.overlay = &overlay;

	size_t n_env;
	_cleanup_free_ ProtobufCBinaryData *env = merge_env(b, &n_env);
	if (!env)
		return err_sys(e, "box", ENOMEM, "environment");
	const char *name = b->row.name ? b->row.name : b->row.id;
	struct box_mounts volumes;
	box_volumes_mounts(b, &volumes);
	Tenon__Configure request = TENON__CONFIGURE__INIT;
	request.hostname = (ProtobufCBinaryData){strnlen(name, HOSTNAME_MAX), (uint8_t *)name};
	request.root = &root;
	request.n_env = n_env;
	request.env = env;
	request.n_mounts = volumes.n;
	request.mounts = volumes.list;
	request.realtime_ns = clock_ns(CLOCK_REALTIME);
	request.seed = (ProtobufCBinaryData){seeded > 0 ? (size_t)seeded : 0, (uint8_t *)seed};
	char hosts[BOX_HOSTS_SIZE];
	box_fill_network(b, &request, hosts);

	/* The boot deadline bounds it from outside; this bound only lets the session go of it in time. */
	session_configure(b->session, &request, b->boxes->config.boot_deadline_ms, done, b);
	return 0;
}
