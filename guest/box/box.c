#include "guest/box/box.h"

#include <errno.h>
#include <string.h>

#include "guest/exec/env.h"
#include "guest/log.h"
#include "guest/take.h"

#define STORE_SIZE (2 * 1024 * 1024)
#define BUILD_DEADLINE_MS 60000

/* ---- the request, checked and copied ---- */

static int take_env(struct box *b, struct bump *store, const ProtobufCBinaryData *env, size_t n,
		    struct fault *f)
{
	if (n > ENV_MAX)
		return fault_exhausted(f, "configure.env", "%zu entries; %d at most", n, ENV_MAX);
	for (size_t i = 0; i < n; i++) {
		const ProtobufCBinaryData *s = &env[i];
		const uint8_t *eq = s->len > 0 ? memchr(s->data, '=', s->len) : NULL;
		if (!eq || eq == s->data || memchr(s->data, '\0', s->len))
			return fault_invalid(f, "configure.env", "entry %zu is not NAME=value", i);
	}
	b->env = env_merge(store, NULL, 0, env, n);
	if (!b->env)
		return fault_exhausted(f, "configure.env", "does not fit %d bytes", STORE_SIZE);
	for (b->n_env = 0; b->env[b->n_env];)
		b->n_env++;
	return 0;
}

static int take_device(struct root_device *d, const Tenon__Device *in, const char *field, struct fault *f)
{
	if (!in)
		return fault_invalid(f, field, "is missing");
	int r = take_name(d->name, sizeof d->name, &in->name, field, f);
	return r < 0 ? r : take_name(d->fstype, sizeof d->fstype, &in->fstype, field, f);
}

static int take_root(struct root_plan *p, const Tenon__Root *root, struct fault *f)
{
	*p = (struct root_plan){.kind = ROOT_INITRAMFS};
	int r;
	switch (root ? root->kind_case : TENON__ROOT__KIND__NOT_SET) {
	case TENON__ROOT__KIND_INITRAMFS:
		return 0;
	case TENON__ROOT__KIND_OVERLAY:
		p->kind = ROOT_OVERLAY;
		r = take_device(&p->lower, root->overlay->lower, "configure.root.overlay.lower", f);
		if (r == 0)
			r = take_device(&p->upper, root->overlay->upper, "configure.root.overlay.upper", f);
		break;
	case TENON__ROOT__KIND_DEVICE:
		p->kind = ROOT_DEVICE;
		r = take_device(&p->upper, root->device->device, "configure.root.device.device", f);
		break;
	default:
		return fault_invalid(f, "configure.root", "names no kind of root");
	}
	return r;
}

/* Where the machine is not ours, nothing of it is changed. */
static int refuse_foreign(const Tenon__Configure *req, const struct build_plan *p, struct fault *f)
{
	const char *field = p->root.kind != ROOT_INITRAMFS ? "configure.root"
			    : req->n_mounts > 0            ? "configure.mounts"
			    : req->network                 ? "configure.network"
			    : req->hosts.len > 0           ? "configure.hosts"
			    : req->resolv_conf.len > 0     ? "configure.resolv_conf"
							   : NULL;
	if (!field)
		return 0;
	fault_code(f, TENON__CODE__CODE_UNSUPPORTED, "an agent on a plain host changes nothing of it");
	f->field = field;
	return -EPERM;
}

static int take_request(struct box *b, const Tenon__Configure *req, struct fault *f)
{
	static const struct settings_fields fields = {"configure.hostname", "configure.realtime_ns",
						      "configure.seed"};
	struct bump store;
	bump_init(&store, b->store, STORE_SIZE);
	int r = take_root(&b->plan.root, req->root, f);
	if (r == 0)
		r = take_env(b, &store, req->env, req->n_env, f);
	if (r == 0)
		r = settings_take(&b->settings, &req->hostname, req->realtime_ns, &req->seed, &fields, f);
	if (r == 0)
		r = mounts_take(&b->plan.mounts, &store, req->mounts, req->n_mounts, f);
	if (r == 0)
		r = net_take(&b->plan.net, req->network, net_fields_configure, f);
	if (r == 0)
		r = etc_take(&b->plan.etc, &store, req, f);
	if (b->settings.hostname[0])
		b->plan.etc.hostname = b->settings.hostname;
	if (r == 0 && !b->own_machine)
		r = refuse_foreign(req, &b->plan, f);
	return r;
}

/* ---- its outcome ---- */

/* What can still fail here is said and lived with: by now the box has its root. */
static void set_up_machine(const struct settings *s)
{
	struct err e;
	if (settings_add_seed(s, &e) < 0 || settings_set_clock(s, &e) < 0 || settings_set_hostname(s, &e) < 0)
		log_line("configure: %s: %s", e.stage, e.msg);
}

static void become(struct box *b, const int fds[WORKER_FDS])
{
	b->base->env = b->env;
	b->base->n_env = b->n_env;
	b->base->ns_fd = fds[ROOT_NS];
	b->base->pts_fd = fds[ROOT_PTS];
	b->upper_fd = fds[ROOT_UPPER];
	b->configured = true;
}

static void succeed(struct box *b, const int fds[WORKER_FDS])
{
	if (b->own_machine)
		set_up_machine(&b->settings);
	become(b, fds);
	b->identity->times.configured_ns = identity_now();
	b->done(b, NULL);
}

static void built(struct worker *w, int r, const struct err *e, int fds[WORKER_FDS])
{
	struct box *b = container_of(w, struct box, builder);
	if (r == 0) {
		succeed(b, fds);
		return;
	}
	log_line("configure: %s: %s", e->stage, e->msg);
	Tenon__Code code = r == -ETIMEDOUT ? TENON__CODE__CODE_TIMEOUT : TENON__CODE__CODE_INTERNAL;
	struct fault f = {.code = code, .field = build_field(e->stage), .err = *e};
	b->done(b, &f);
}

int box_adopt(struct box *b, const ProtobufCBinaryData *env, size_t n_env, const int fds[WORKER_FDS])
{
	struct fault f;
	struct bump store;
	bump_init(&store, b->store, STORE_SIZE);
	int r = take_env(b, &store, env, n_env, &f);
	if (r == 0)
		become(b, fds);
	return r;
}

int box_init(struct box *b, struct err *e)
{
	worker_init(&b->builder, b->loop, built);
	b->upper_fd = -1;
	b->store = memory_reserve(STORE_SIZE);
	return b->store ? 0 : err_sys(e, "box", ENOMEM, "cannot reserve memory");
}

int box_configure(struct box *b, const Tenon__Configure *req, struct fault *f)
{
	if (b->configured)
		return fault_code(f, TENON__CODE__CODE_ALREADY_EXISTS, "the box is configured");
	if (worker_running(&b->builder))
		return 0;
	int r = take_request(b, req, f);
	if (r < 0)
		return r;
	if (!b->own_machine) {
		succeed(b, (const int[WORKER_FDS]){-1, -1, -1, -1});
		return 0;
	}
	r = worker_start(&b->builder, build_box, &b->plan, NULL, 0, BUILD_DEADLINE_MS);
	if (r < 0)
		return fault_exhausted(f, "configure", "cannot start a worker: %s", strerror(-r));
	return 0;
}

void box_stop(struct box *b)
{
	if (!worker_running(&b->builder))
		return;
	worker_stop(&b->builder);
	struct fault f;
	fault_code(&f, TENON__CODE__CODE_SHUTTING_DOWN, "the VM is going down");
	b->done(b, &f);
}
