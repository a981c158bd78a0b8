#include "options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>

#include "host-shim/net/addresses.h"
#include "proto/cleanup.h"

#define DEFAULT_LISTEN "127.0.0.1:8100"

const char options_usage[] =
	"tenond [--listen ADDR:PORT]... [--unix PATH] [--state DIR] [--api-key-file FILE] [--no-auth]\n"
	"       [--tls-cert FILE --tls-key FILE] [--dns ADDR]...\n"
	"       [--accel auto|kvm|tcg] [--machine q35|microvm] [--kernel FILE] [--initrd FILE]\n"
	"       [--images DIR] [--vmm FILE] [--flatten FILE] [--registry-auth FILE]\n"
	"       [--pull-timeout SECONDS] [--help] [--version]\n"
	"\n"
	"  --listen ADDR:PORT   serve here; port 0 takes a free one (default " DEFAULT_LISTEN ")\n"
	"  --unix PATH          serve on a unix socket, too; whoever may open it needs no key\n"
	"  --state DIR          default $XDG_STATE_HOME/tenon, for root /var/lib/tenon\n"
	"  --api-key-file FILE  its first line is the admin key, instead of DIR/admin.key\n"
	"  --no-auth            no key needed; only where every listener is loopback\n"
	"  --tls-cert, --tls-key   PEM files: every --listen speaks HTTPS; SIGHUP reads them again\n"
	"  --dns ADDR           resolvers of boxes, three at most (default: what this host asks)\n"
	"  --accel, --machine   what boxes run on (default auto, q35)\n"
	"  --registry-auth FILE   credentials for registries (containers-auth.json(5)), mode 0600\n"
	"  --pull-timeout SECONDS a registry that sends nothing for so long is given up (default 60)\n"
	"  --kernel, --initrd, --images, --vmm, --flatten   default: beside this program, as `make` puts\n"
	"                       them (the small kernel of `make kernel`, if it is there)\n";

enum {
	LISTEN = 1,
	UNIX,
	STATE,
	API_KEY_FILE,
	NO_AUTH,
	TLS_CERT,
	TLS_KEY,
	DNS,
	ACCEL,
	MACHINE,
	KERNEL,
	INITRD,
	IMAGES,
	VMM,
	FLATTEN,
	REGISTRY_AUTH,
	PULL_TIMEOUT,
	HELP,
	VERSION
};

static const struct option table[] = {
	{"listen", required_argument, NULL, LISTEN},
	{"unix", required_argument, NULL, UNIX},
	{"state", required_argument, NULL, STATE},
	{"api-key-file", required_argument, NULL, API_KEY_FILE},
	{"no-auth", no_argument, NULL, NO_AUTH},
	{"tls-cert", required_argument, NULL, TLS_CERT},
	{"tls-key", required_argument, NULL, TLS_KEY},
	{"dns", required_argument, NULL, DNS},
	{"accel", required_argument, NULL, ACCEL},
	{"machine", required_argument, NULL, MACHINE},
	{"kernel", required_argument, NULL, KERNEL},
	{"initrd", required_argument, NULL, INITRD},
	{"images", required_argument, NULL, IMAGES},
	{"vmm", required_argument, NULL, VMM},
	{"flatten", required_argument, NULL, FLATTEN},
	{"registry-auth", required_argument, NULL, REGISTRY_AUTH},
	{"pull-timeout", required_argument, NULL, PULL_TIMEOUT},
	{"help", no_argument, NULL, HELP},
	{"version", no_argument, NULL, VERSION},
	{0},
};

/* Everything that boxes keep is absolute, since the working directory of a later tenond is another. */
static int take_path(char **to, const char *arg, struct err *e)
{
	_cleanup_free_ char *here = *arg == '/' ? NULL : getcwd(NULL, 0);
	char *path = NULL;
	if (!*arg)
		return err_set(e, "options", EINVAL, "an empty path");
	if (*arg == '/')
		path = strdup(arg);
	else if (here && asprintf(&path, "%s/%s", here, arg) < 0)
		path = NULL;
	if (!path)
		return err_sys(e, "options", errno ? errno : ENOMEM, "%s", arg);
	free(*to);
	*to = path;
	return 0;
}

static int take_seconds(unsigned *ms, const char *arg, struct err *e)
{
	char *end;
	unsigned long seconds = strtoul(arg, &end, 10);
	if (*arg < '0' || *arg > '9' || *end || seconds < 1 || seconds > 86400)
		return err_set(e, "options", EINVAL, "--pull-timeout %s: 1 to 86400 seconds", arg);
	*ms = (unsigned)seconds * 1000;
	return 0;
}

/* Of an address that the network of boxes carries nothing to (host-shim/net/gate.h) a box had no use. */
static bool is_out_of_reach(int family, const uint8_t *a)
{
	if (family == AF_INET)
		return a[0] == 0 || a[0] == 127 || a[0] >= 224 || (a[0] == 169 && a[1] == 254);
	return (a[0] & 0xe0) != 0x20 && (a[0] & 0xfe) != 0xfc;
}

static int take_dns(struct options *o, const char *arg, struct err *e)
{
	uint8_t address[16];
	int family = strchr(arg, ':') ? AF_INET6 : AF_INET;
	size_t len = strlen(o->resolv_conf);
	if (o->n_dns == OPTIONS_DNS_MAX)
		return err_set(e, "options", EINVAL, "--dns: more than %d", OPTIONS_DNS_MAX);
	if (inet_pton(family, arg, address) != 1)
		return err_set(e, "options", EINVAL, "--dns %s: not an IP address", arg);
	if (is_out_of_reach(family, address))
		return err_set(e, "options", EINVAL,
			       "--dns %s: boxes reach neither this host's loopback nor its link", arg);
	o->n_dns++;
	snprintf(o->resolv_conf + len, sizeof o->resolv_conf - len, "nameserver %s\n", arg);
	return 0;
}

static int take(struct options *o, int opt, const char *arg, struct err *e)
{
	switch (opt) {
	case LISTEN:
		if (o->n_listen == OPTIONS_LISTEN_MAX)
			return err_set(e, "options", EINVAL, "--listen: more than %d", OPTIONS_LISTEN_MAX);
		o->listen[o->n_listen++] = arg;
		return 0;
	case UNIX:
		o->unix_path = arg;
		return 0;
	case API_KEY_FILE:
		o->api_key_file = arg;
		return 0;
	case NO_AUTH:
		o->no_auth = true;
		return 0;
	case TLS_CERT:
		o->tls_cert = arg;
		return 0;
	case TLS_KEY:
		o->tls_key = arg;
		return 0;
	case DNS:
		return take_dns(o, arg, e);
	case ACCEL:
		o->accel = arg;
		return strcmp(arg, "auto") && strcmp(arg, "kvm") && strcmp(arg, "tcg")
			       ? err_set(e, "options", EINVAL, "--accel %s: auto, kvm or tcg", arg)
			       : 0;
	case MACHINE:
		o->machine = arg;
		return strcmp(arg, "q35") && strcmp(arg, "microvm")
			       ? err_set(e, "options", EINVAL, "--machine %s: q35 or microvm", arg)
			       : 0;
	case STATE:
		return take_path(&o->state_dir, arg, e);
	case KERNEL:
		return take_path(&o->kernel, arg, e);
	case INITRD:
		return take_path(&o->initrd, arg, e);
	case IMAGES:
		return take_path(&o->images_dir, arg, e);
	case VMM:
		return take_path(&o->vmm_path, arg, e);
	case FLATTEN:
		return take_path(&o->flatten_path, arg, e);
	case REGISTRY_AUTH:
		return take_path(&o->registry_auth, arg, e);
	case PULL_TIMEOUT:
		return take_seconds(&o->pull_stall_ms, arg, e);
	case HELP:
		o->help = true;
		return 0;
	case VERSION:
		o->version = true;
		return 0;
	default: /* getopt's '?' */
		return err_set(e, "options", EINVAL, "%s: unknown, or without its value", arg);
	}
}

static int default_path(char **to, const char *dir, const char *below)
{
	if (!*to && asprintf(to, "%s/%s", dir, below) < 0)
		*to = NULL;
	return *to ? 0 : -ENOMEM;
}

static int default_state(struct options *o, struct err *e)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (o->state_dir)
		return 0;
	if (geteuid() == 0)
		return default_path(&o->state_dir, "/var/lib", "tenon");
	if (xdg && *xdg == '/')
		return default_path(&o->state_dir, xdg, "tenon");
	if (home && *home == '/')
		return default_path(&o->state_dir, home, ".local/state/tenon");
	return err_set(e, "options", EINVAL, "--state is needed: neither XDG_STATE_HOME nor HOME is set");
}

/* Short, for the sake of socket names. */
static int default_runtime(struct options *o)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	if (xdg && *xdg == '/')
		return default_path(&o->runtime_base, xdg, "tenon");
	if (geteuid() == 0)
		return default_path(&o->runtime_base, "/run", "tenon");
	return asprintf(&o->runtime_base, "/tmp/tenon-%u", (unsigned)geteuid()) < 0 ? -ENOMEM : 0;
}

/* The small kernel where it has been built: it boots in half the time and leaves the box more memory. */
static int default_kernel(struct options *o, const char *build)
{
	if (o->kernel)
		return 0;
	int r = default_path(&o->kernel, build, "kernel/small/vmlinux");
	if (r == 0 && access(o->kernel, R_OK) == 0)
		return 0;
	free(steal_ptr(&o->kernel));
	return default_path(&o->kernel, build, "kernel/vmlinux");
}

/* build/bin/tenond lies beside build/kernel, build/guest and build/images. */
static int default_parts(struct options *o, struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0)
		return err_sys(e, "options", errno, "/proc/self/exe");
	self[n] = '\0';
	const char *bin = dirname(self);
	int r = default_path(&o->vmm_path, bin, "tenon-vmm");
	if (r == 0)
		r = default_path(&o->flatten_path, bin, "tenon-flatten");
	const char *build = dirname(self);
	if (r == 0)
		r = default_kernel(o, build);
	if (r == 0)
		r = default_path(&o->initrd, build, "guest/initramfs.cpio");
	if (r == 0)
		r = default_path(&o->images_dir, build, "images");
	return r < 0 ? err_sys(e, "options", -r, "paths") : 0;
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	*o = (struct options){.accel = "auto", .machine = "q35"};
	int opt, r = 0;
	opterr = 0;
	optind = 0; /* glibc's word for "from the start", also after another parse */
	while (r == 0 && (opt = getopt_long(argc, argv, "", table, NULL)) != -1) {
		r = take(o, opt, optarg ? optarg : argv[optind - 1], e);
	}
	if (r == 0 && optind < argc)
		r = err_set(e, "options", EINVAL, "%s: not an option", argv[optind]);
	if (r < 0 || o->help || o->version)
		return r;
	if (!o->tls_cert != !o->tls_key)
		return err_set(e, "options", EINVAL,
			       "--tls-cert and --tls-key: one is of no use without the other");
	if (!o->n_listen && !o->unix_path)
		o->listen[o->n_listen++] = DEFAULT_LISTEN;
	/* Both are tenon-net's, which asks whom this host asks at the time: also one on its loopback. */
	if (!o->n_dns)
		snprintf(o->resolv_conf, sizeof o->resolv_conf, "nameserver %s\nnameserver %s\n",
			 NET_RESOLVER_TEXT, NET_RESOLVER6_TEXT);
	r = default_state(o, e);
	if (r == 0)
		r = default_runtime(o);
	return r < 0 ? r : default_parts(o, e);
}

void options_finish(struct options *o)
{
	free(o->state_dir);
	free(o->runtime_base);
	free(o->kernel);
	free(o->initrd);
	free(o->images_dir);
	free(o->vmm_path);
	free(o->flatten_path);
	free(o->registry_auth);
}
