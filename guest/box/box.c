#include "guest/box/box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "guest/exec/env.h"
#include "guest/log.h"
#include "proto/cleanup.h"

#define STORE_SIZE (2 * 1024 * 1024)
#define ROOT_DEADLINE_MS 60000

static void root_built(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS]);

int box_init(struct box *b, struct err *e)
{
	worker_init(&b->worker, b->loop, root_built);
	b->store = memory_reserve(STORE_SIZE);
	return b->store ? 0 : err_sys(e, "box", ENOMEM, "cannot reserve memory");
}

/* ---- the request, checked and copied ---- */

static int take_env(struct box *b, const ProtobufCBinaryData *env, size_t n, struct fault *f)
{
	struct bump store;
	bump_init(&store, b->store, STORE_SIZE);
	if (n > ENV_MAX)
		return fault_exhausted(f, "configure.env", "%zu entries; %d at most", n, ENV_MAX);
	for (size_t i = 0; i < n; i++) {
		const ProtobufCBinaryData *s = &env[i];
		const uint8_t *eq = s->len > 0 ? memchr(s->data, '=', s->len) : NULL;
		if (!eq || eq == s->data || memchr(s->data, '\0', s->len))
			return fault_invalid(f, "configure.env", "entry %zu is not NAME=value", i);
	}
	b->env = env_merge(&store, NULL, 0, env, n);
	if (!b->env)
		return fault_exhausted(f, "configure.env", "does not fit %d bytes", STORE_SIZE);
	for (b->n_env = 0; b->env[b->n_env];)
		b->n_env++;
	return 0;
}

/* Names that become part of a path or a mount call: short, and of characters that cannot lead elsewhere. */
static int take_name(char *out, size_t size, const ProtobufCBinaryData *in, const char *field,
		     struct fault *f)
{
	if (in->len == 0 || in->len >= size)
		return fault_invalid(f, field, "is empty or longer than %zu bytes", size - 1);
	for (size_t i = 0; i < in->len; i++) {
		uint8_t c = in->data[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '-' || c == '_' || (c == '.' && i > 0);
		if (!ok)
			return fault_invalid(f, field, "holds byte 0x%02x", c);
	}
	memcpy(out, in->data, in->len);
	out[in->len] = '\0';
	return 0;
}

static int take_device(struct root_device *d, const Tenon__Device *in, const char *field, struct fault *f)
{
	if (!in)
		return fault_invalid(f, field, "is missing");
	int r = take_name(d->name, sizeof d->name, &in->name, field, f);
	return r < 0 ? r : take_name(d->fstype, sizeof d->fstype, &in->fstype, field, f);
}

static int take_root(struct box *b, const Tenon__Root *root, struct fault *f)
{
	b->plan = (struct root_plan){.kind = ROOT_INITRAMFS};
	int r;
	switch (root ? root->kind_case : TENON__ROOT__KIND__NOT_SET) {
	case TENON__ROOT__KIND_INITRAMFS:
		return 0;
	case TENON__ROOT__KIND_OVERLAY:
		b->plan.kind = ROOT_OVERLAY;
		r = take_device(&b->plan.lower, root->overlay->lower, "configure.root.overlay.lower", f);
		if (r == 0)
			r = take_device(&b->plan.upper, root->overlay->upper, "configure.root.overlay.upper",
					f);
		break;
	case TENON__ROOT__KIND_DEVICE:
		b->plan.kind = ROOT_DEVICE;
		r = take_device(&b->plan.upper, root->device->device, "configure.root.device.device", f);
		break;
	default:
		return fault_invalid(f, "configure.root", "names no kind of root");
	}
	if (r == 0 && !b->own_machine) {
		r = fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "an agent on a plain host mounts nothing");
		f->field = "configure.root";
	}
	return r;
}

static int take_request(struct box *b, const Tenon__Configure *req, struct fault *f)
{
	b->hostname[0] = '\0';
	int r = take_root(b, req->root, f);
	if (r == 0)
		r = take_env(b, req->env, req->n_env, f);
	if (r == 0 && req->hostname.len > 0)
		r = take_name(b->hostname, sizeof b->hostname, &req->hostname, "configure.hostname", f);
	if (r == 0 && req->seed.len > BOX_SEED_MAX)
		r = fault_invalid(f, "configure.seed", "is over %d bytes", BOX_SEED_MAX);
	if (r < 0)
		return r;
	b->seed_len = req->seed.len;
	if (req->seed.len > 0)
		memcpy(b->seed, req->seed.data, req->seed.len);
	b->realtime_ns = req->realtime_ns;
	return 0;
}

/* ---- the machine ---- */

static void add_randomness(const struct box *b)
{
	/* struct rand_pool_info and its bytes, random(4). */
	struct {
		int entropy_bits, size;
		uint8_t bytes[BOX_SEED_MAX];
	} pool = {.entropy_bits = (int)b->seed_len * 8, .size = (int)b->seed_len};
	memcpy(pool.bytes, b->seed, b->seed_len);
	_cleanup_close_ int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0)
		log_line("configure: the seed was not taken: %s", strerror(errno));
}

/* What can still fail here is said and lived with: by now the box has its root. */
static void set_up_machine(const struct box *b)
{
	if (b->hostname[0] && sethostname(b->hostname, strlen(b->hostname)) < 0)
		log_line("configure: hostname: %s", strerror(errno));
	if (b->realtime_ns > 0) {
		struct timespec ts = {(time_t)(b->realtime_ns / NSEC_PER_SEC),
				      (long)(b->realtime_ns % NSEC_PER_SEC)};
		if (clock_settime(CLOCK_REALTIME, &ts) < 0)
			log_line("configure: clock: %s", strerror(errno));
	}
	if (b->seed_len > 0)
		add_randomness(b);
}

static void become(struct box *b, int ns_fd)
{
	b->base->env = b->env;
	b->base->n_env = b->n_env;
	b->base->ns_fd = ns_fd;
	b->configured = true;
}

static void succeed(struct box *b, int ns_fd)
{
	if (b->own_machine)
		set_up_machine(b);
	become(b, ns_fd);
	b->identity->times.configured_ns = identity_now();
	b->done(b, NULL);
}

static void root_built(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	struct box *b = container_of(w, struct box, worker);
	if (r == 0) {
		succeed(b, fds[0]);
		return;
	}
	log_line("configure: %s: %s", e->stage, e->msg);
	Tenon__Code code = r == -ETIMEDOUT ? TENON__CODE__CODE_TIMEOUT : TENON__CODE__CODE_INTERNAL;
	struct fault f = {.code = code, .field = "configure.root", .err = *e};
	b->done(b, &f);
}

int box_adopt(struct box *b, const ProtobufCBinaryData *env, size_t n_env, int ns_fd)
{
	struct fault f;
	int r = take_env(b, env, n_env, &f);
	if (r == 0)
		become(b, ns_fd);
	return r;
}

int box_configure(struct box *b, const Tenon__Configure *req, struct fault *f)
{
	if (b->configured)
		return fault_code(f, TENON__CODE__CODE_ALREADY_EXISTS, "the box is configured");
	if (worker_running(&b->worker))
		return 0;
	int r = take_request(b, req, f);
	if (r < 0)
		return r;
	if (b->plan.kind == ROOT_INITRAMFS) {
		succeed(b, -1);
		return 0;
	}
	r = worker_start(&b->worker, root_build, &b->plan, NULL, 0, ROOT_DEADLINE_MS);
	if (r < 0)
		return fault_exhausted(f, "configure", "cannot start a worker: %s", strerror(-r));
	return 0;
}
