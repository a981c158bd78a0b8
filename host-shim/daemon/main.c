/* tenond: wiring only. Boxes outlive it: at the end it lets go of them, at the start it takes them up again.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <uv.h>

#include "archives/archives.h"
#include "auth/auth.h"
#include "boxes/boxes.h"
#include "executions/executions.h"
#include "http/http.h"
#include "images/images.h"
#include "options.h"
#include "proto/cleanup.h"
#include "replay/replay.h"
#include "rest/rest.h"
#include "store/sql.h"
#include "store/store.h"
#include "tunnel/tunnel.h"
#include "volumes/volumes.h"

#define LET_GO_MS 20000
#define VERSION "tenon 0.1.0"

struct daemon {
	struct options options;
	uv_loop_t loop;
	uv_signal_t term, interrupt, hangup;
	uv_timer_t patience;
	int lock;
	char *runtime_dir;
	struct store *store;
	struct executions *executions;
	struct volumes *volumes;
	struct boxes *boxes;
	struct archives *archives;
	struct images *images;
	struct auth *auth;
	struct tunnels *tunnels;
	struct replay *replay;
	struct rest *rest;
	struct http_server *http;
	struct err failure; /* of what happens on the loop: set, and the loop stops */
};

/* ---- directories and locks ------------------------------------------------------------------------- */

static int make_dirs(const char *path, struct err *e)
{
	_cleanup_free_ char *copy = strdup(path);
	if (!copy)
		return err_sys(e, "main", ENOMEM, "%s", path);
	for (char *at = copy + 1; (at = strchr(at, '/')); *at++ = '/') {
		*at = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return err_sys(e, "main", errno, "%s", copy);
	}
	if (mkdir(copy, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "main", errno, "%s", copy);
	return 0;
}

/* Sockets that lead into boxes lie below: nobody else may have put this directory here. */
static int make_private(const char *path, struct err *e)
{
	struct stat st;
	int r = make_dirs(path, e);
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 0022)
		return err_set(e, "main", EPERM, "%s is not a directory of ours alone", path);
	return 0;
}

/* A POSIX lock and not flock(2): a child that waits before its exec would hold the latter with us. */
static int lock_state(struct daemon *d, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (asprintf(&path, "%s/tenond.lock", d->options.state_dir) < 0)
		return err_sys(e, "main", ENOMEM, "lock");
	d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock < 0)
		return err_sys(e, "main", errno, "%s", path);
	if (fcntl(d->lock, F_SETLK, &whole) < 0)
		return err_set(e, "main", EBUSY, "another tenond uses %s", d->options.state_dir);
	return 0;
}

/* Beside each other, one for each state directory; short, whatever that one's name is. */
static int make_runtime(struct daemon *d, struct err *e)
{
	_cleanup_free_ char *real = realpath(d->options.state_dir, NULL);
	if (!real)
		return err_sys(e, "main", errno, "%s", d->options.state_dir);
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (const char *c = real; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	if (asprintf(&d->runtime_dir, "%s/%08x", d->options.runtime_base, hash) < 0) {
		d->runtime_dir = NULL;
		return err_sys(e, "main", ENOMEM, "runtime directory");
	}
	int r = make_private(d->options.runtime_base, e);
	return r < 0 ? r : make_private(d->runtime_dir, e);
}

/* Boxes, clients and logs all hold some. */
static void raise_fd_limit(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* ---- serving --------------------------------------------------------------------------------------- */

static int listen_all(struct daemon *d, struct err *e)
{
	for (unsigned i = 0; i < d->options.n_listen; i++) {
		int r = http_listen_tcp(d->http, d->options.listen[i], e);
		if (r < 0)
			return r;
	}
	return d->options.unix_path ? http_listen_unix(d->http, d->options.unix_path, e) : 0;
}

static void on_adopted(void *arg)
{
	struct daemon *d = arg;
	if (listen_all(d, &d->failure) < 0) {
		uv_stop(&d->loop);
		return;
	}
	if (!d->options.n_listen)
		printf("tenond ready on unix:%s\n", d->options.unix_path);
	for (unsigned i = 0; i < d->options.n_listen; i++)
		printf("tenond ready on %s\n", http_listen_url(d->http, i));
	fflush(stdout);
}

static void on_signal(uv_signal_t *s, int signo)
{
	(void)signo;
	uv_stop(s->loop);
}

static void on_hangup(uv_signal_t *s, int signo)
{
	(void)signo;
	struct daemon *d = s->data;
	struct err e = {0};
	if (http_reload_tls(d->http, &e) < 0)
		fprintf(stderr, "tenond: the certificate stays as it is: %s\n", e.msg);
}

static int count_start(sqlite3 *db, void *arg, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *s = NULL;
	int r = sql_prepare(db,
			    "INSERT INTO meta VALUES ('starts', 1)"
			    " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
			    &s, e);
	if (r == 0)
		r = sql_step(db, s, e);
	if (r < 0)
		return r;
	*(uint64_t *)arg = (uint64_t)sqlite3_column_int64(s, 0);
	/* RETURNING gives its row before the statement is done. */
	return sql_step(db, s, e);
}

static int open_store(struct daemon *d, uint64_t *starts, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	if (asprintf(&path, "%s/tenon.db", d->options.state_dir) < 0)
		return err_sys(e, "main", ENOMEM, "database");
	int r = store_open(&d->store, &d->loop, path, e);
	return r < 0 ? r : store_run(d->store, count_start, starts, e);
}

static unsigned count_boxes(void *arg, const char *prefix, const char *digest)
{
	return boxes_count_image(arg, prefix, digest);
}

static int open_volumes(struct daemon *d, struct err *e)
{
	_cleanup_free_ char *template = NULL;
	if (asprintf(&template, "%s/upper.ext4", d->options.images_dir) < 0)
		return err_sys(e, "main", ENOMEM, "volumes");
	struct volumes_config c = {
		.loop = &d->loop, .store = d->store, .state_dir = d->options.state_dir, .template = template};
	return volumes_create(&d->volumes, &c, e);
}

static int create_parts(struct daemon *d, struct err *e)
{
	const struct options *o = &d->options;
	uint64_t starts = 0;
	int r = open_store(d, &starts, e);
	if (r < 0)
		return r;
	struct executions_config xc = {
		.loop = &d->loop, .store = d->store, .state_dir = o->state_dir, .host_epoch = starts << 32};
	r = executions_create(&d->executions, &xc, e);
	if (r < 0)
		return r;
	r = open_volumes(d, e);
	if (r < 0)
		return r;
	struct boxes_config bc = {.loop = &d->loop,
				  .store = d->store,
				  .executions = d->executions,
				  .volumes = d->volumes,
				  .state_dir = o->state_dir,
				  .runtime_dir = d->runtime_dir,
				  .host_dir = o->runtime_base,
				  .vmm_path = o->vmm_path,
				  .kernel = o->kernel,
				  .initrd = o->initrd,
				  .images_dir = o->images_dir,
				  .accel = o->accel,
				  .machine = o->machine,
				  .resolv_conf = o->resolv_conf};
	r = boxes_create(&d->boxes, &bc, e);
	if (r < 0)
		return r;
	_cleanup_free_ char *base = NULL;
	if (asprintf(&base, "%s/base.squashfs", o->images_dir) < 0)
		return err_sys(e, "main", ENOMEM, "images");
	struct images_config ic = {.loop = &d->loop,
				   .store = d->store,
				   .state_dir = o->state_dir,
				   .flatten_path = o->flatten_path,
				   .base = base,
				   .auth_file = o->registry_auth,
				   .stall_ms = o->pull_stall_ms,
				   .in_use = count_boxes,
				   .arg = d->boxes};
	r = images_create(&d->images, &ic, e);
	if (r < 0)
		return r;
	struct archives_config arc = {
		.loop = &d->loop, .boxes = d->boxes, .images = d->images, .state_dir = o->state_dir};
	r = archives_create(&d->archives, &arc, e);
	if (r < 0)
		return r;
	struct auth_config ac = {.store = d->store,
				 .state_dir = o->state_dir,
				 .key_file = o->api_key_file,
				 .no_auth = o->no_auth};
	r = auth_create(&d->auth, &ac, e);
	if (r < 0)
		return r;
	r = replay_create(&d->replay, d->store, e);
	if (r < 0)
		return r;
	r = tunnels_create(&d->tunnels, &d->loop, d->boxes, e);
	if (r < 0)
		return r;
	struct rest_config rc = {.loop = &d->loop,
				 .boxes = d->boxes,
				 .archives = d->archives,
				 .images = d->images,
				 .executions = d->executions,
				 .volumes = d->volumes,
				 .auth = d->auth,
				 .replay = d->replay,
				 .tunnels = d->tunnels};
	r = rest_create(&d->rest, &rc, e);
	if (r < 0)
		return r;
	struct http_config hc = {.loop = &d->loop, .tls_cert = o->tls_cert, .tls_key = o->tls_key};
	rest_serve(d->rest, &hc);
	return http_server_create(&d->http, &hc, e);
}

/* ---- from start to end ----------------------------------------------------------------------------- */

static int check_options(const struct options *o, struct err *e)
{
	for (unsigned i = 0; o->no_auth && i < o->n_listen; i++)
		if (!http_address_is_loopback(o->listen[i]))
			return err_set(e, "options", EPERM,
				       "--no-auth with --listen %s: whoever reaches it would own every box",
				       o->listen[i]);
	return 0;
}

static int run(struct daemon *d, struct err *e)
{
	int r = check_options(&d->options, e);
	if (r == 0)
		r = make_dirs(d->options.state_dir, e);
	if (r == 0)
		r = lock_state(d, e);
	if (r == 0)
		r = make_runtime(d, e);
	if (r == 0)
		r = create_parts(d, e);
	if (r < 0)
		return r;
	uv_signal_start(&d->term, on_signal, SIGTERM);
	uv_signal_start(&d->interrupt, on_signal, SIGINT);
	uv_signal_start(&d->hangup, on_hangup, SIGHUP);
	boxes_adopt(d->boxes, on_adopted, d);
	uv_run(&d->loop, UV_RUN_DEFAULT);
	if (d->failure.errnum)
		*e = d->failure;
	return -d->failure.errnum;
}

static void on_late(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

static void let_go(struct daemon *d)
{
	bool late = false;
	http_server_destroy(d->http);
	tunnels_destroy(d->tunnels);
	replay_freeze(d->replay);
	images_destroy(d->images);
	boxes_destroy(d->boxes);
	volumes_destroy(d->volumes);
	executions_destroy(d->executions);
	rest_destroy(d->rest);
	store_close(d->store);
	archives_destroy(d->archives);
	replay_destroy(d->replay);
	auth_destroy(d->auth);
	uv_close((uv_handle_t *)&d->term, NULL);
	uv_close((uv_handle_t *)&d->interrupt, NULL);
	uv_close((uv_handle_t *)&d->hangup, NULL);
	/* What was closed is freed on the loop's next turns, and what a thread of libuv's is at has to end
	 * before the loop may go. */
	uv_timer_init(&d->loop, &d->patience);
	d->patience.data = &late;
	uv_unref((uv_handle_t *)&d->patience);
	uv_timer_start(&d->patience, on_late, LET_GO_MS, 0);
	while (!late && uv_loop_alive(&d->loop))
		uv_run(&d->loop, UV_RUN_ONCE);
	if (late)
		_exit(1); /* a disk that hangs: that thread cannot be waited for, and nothing is left to lose
			   */
	uv_close((uv_handle_t *)&d->patience, NULL);
	uv_run(&d->loop, UV_RUN_NOWAIT);
	uv_loop_close(&d->loop);
	close_fd(&d->lock);
	free(d->runtime_dir);
}

int main(int argc, char **argv)
{
	struct daemon d = {.lock = -1};
	struct err e = {0};
	int r = options_parse(&d.options, argc, argv, &e);
	if (r == 0 && (d.options.help || d.options.version)) {
		puts(d.options.version ? VERSION : options_usage);
		options_finish(&d.options);
		return 0;
	}
	if (r == 0) {
		umask(077);
		signal(SIGPIPE, SIG_IGN);
		/* Output passes through buffers of up to a megabyte: their memory is not given back between
		 * them. */
		mallopt(M_MMAP_THRESHOLD, 4 << 20);
		mallopt(M_TRIM_THRESHOLD, 4 << 20);
		mallopt(M_TOP_PAD, 1 << 20);
		raise_fd_limit();
		uv_loop_init(&d.loop);
		uv_signal_init(&d.loop, &d.term);
		uv_signal_init(&d.loop, &d.interrupt);
		uv_signal_init(&d.loop, &d.hangup);
		d.hangup.data = &d;
		r = run(&d, &e);
		let_go(&d);
	}
	if (r < 0)
		fprintf(stderr, "tenond: %s\n", e.msg);
	options_finish(&d.options);
	return r < 0 ? 1 : 0;
}
