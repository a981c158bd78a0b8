#include "qemu.h"

#include "child.h"
#include "proto/cleanup.h"
#include "tsc.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PROGRAM "qemu-system-x86_64"
#define PLUGS 8

/* Slots of the virtio devices, for add_virtio. */
#define RNG_SLOT 2
#define VSOCK_SLOT 3
#define NIC_SLOT 5
#define FIRST_DISK_SLOT 8
#define MICROVM_WINDOWS 24

/* A panic must end the VM (with -no-reboot) and not sit there; its words are on the console by then. */
#define KERNEL_ARGUMENTS "console=ttyS0 panic=-1"

struct argv {
	char **v;
	size_t n;
	bool failed;
};

static void add(struct argv *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct argv *a, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	char **v = s ? realloc(a->v, (a->n + 2) * sizeof *v) : NULL;
	if (!v) {
		free(s);
		a->failed = true;
		return;
	}
	a->v = v;
	v[a->n++] = s;
	v[a->n] = NULL;
}

/* In QEMU's option syntax a comma ends a value unless it is doubled. */
static char *escape_commas(const char *s)
{
	char *out = malloc(2 * strlen(s) + 1), *to = out;
	for (; out && *s; s++) {
		if (*s == ',')
			*to++ = ',';
		*to++ = *s;
	}
	if (out)
		*to = '\0';
	return out;
}

static bool is_microvm(const struct options *o)
{
	return strcmp(o->machine, "microvm") == 0;
}

/* A virtio device, named and placed as this machine wants it: virtio-rng is virtio-rng-pci at pcie.0, or
 * virtio-rng-device in a register window of its own. type is without that suffix; fmt gives its properties.
 * The guest finds devices by rising slot: disks get their letters in that order. Slots 0, 4 and 31 are taken
 * on q35; microvm ends at 23. */
static void add_virtio(struct argv *a, const struct options *o, unsigned slot, const char *type,
		       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void add_virtio(struct argv *a, const struct options *o, unsigned slot, const char *type,
		       const char *fmt, ...)
{
	_cleanup_free_ char *properties = NULL;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&properties, fmt, ap) < 0)
		properties = NULL;
	va_end(ap);
	if (!properties) {
		a->failed = true;
		return;
	}
	add(a, "-device");
	/* QEMU lists the windows to the guest from the last to the first. */
	if (is_microvm(o))
		add(a, "%s-device,bus=virtio-mmio-bus.%u,%s", type, MICROVM_WINDOWS - 1 - slot, properties);
	else
		add(a, "%s-pci,bus=pcie.0,addr=%#x,%s", type, slot, properties);
}

static void add_disk(struct argv *a, const struct options *o, unsigned i)
{
	const struct disk_option *d = &o->disk[i];
	_cleanup_free_ char *path = escape_commas(d->path);
	const char *ro = d->readonly ? "on" : "off";
	if (!path) {
		a->failed = true;
		return;
	}
	add(a, "-blockdev");
	add(a, "driver=file,node-name=file%u,filename=%s,read-only=%s,auto-read-only=off,discard=unmap", i,
	    path, ro);
	add(a, "-blockdev");
	add(a, "driver=%s,node-name=node%u,file=file%u,read-only=%s,discard=unmap", d->format, i, i, ro);
	/* A host disk that is full is the guest's error to handle: QEMU's default would pause the VM for
	 * good. */
	add_virtio(a, o, FIRST_DISK_SLOT + i, "virtio-blk",
		   "id=disk%u,drive=node%u,werror=report,rerror=report", i, i);
}

static void add_vsock(struct argv *a, const struct options *o, int vhost_fd)
{
	add(a, "-chardev");
	add(a, "socket,id=vhost,fd=%d", vhost_fd);
	if (is_microvm(o)) {
		add_virtio(a, o, VSOCK_SLOT, "vhost-user-vsock", "id=vsock0,chardev=vhost");
		return;
	}
	/* Behind a port it can be unplugged, which migration needs. */
	add(a, "-device");
	add(a, "pcie-root-port,id=vsock-port,bus=pcie.0,addr=%#x,chassis=1", VSOCK_SLOT);
	add(a, "-device");
	add(a, "vhost-user-vsock-pci,id=vsock0,chardev=vhost,bus=vsock-port");
}

static void add_plugs(struct argv *a)
{
	for (unsigned i = 0; i < PLUGS; i++) {
		add(a, "-device");
		add(a, "pcie-root-port,id=plug%u,bus=pcie.0,addr=0x4.%u,multifunction=on,chassis=%u", i, i,
		    2 + i);
	}
}

/* Frames go to tenon-net and come from there, one a datagram. A card without status has its link up from the
 * first moment, so that nothing is lost behind a carrier that comes late. Its boot ROM would only cost time.
 */
static void add_nic(struct argv *a, const struct options *o, int net_fd)
{
	add(a, "-netdev");
	add(a, "dgram,id=net0,local.type=fd,local.str=%d", net_fd);
	add_virtio(a, o, NIC_SLOT, "virtio-net", "id=nic0,netdev=net0,status=off%s",
		   is_microvm(o) ? "" : ",romfile=");
}

static void add_devices(struct argv *a, const struct options *o, const struct qemu_fds *fds)
{
	add(a, "-chardev");
	add(a, "socket,id=console,fd=%d", fds->console);
	add(a, "-device");
	add(a, "isa-serial,chardev=console");
	add_virtio(a, o, RNG_SLOT, "virtio-rng", "id=rng0");
	add_vsock(a, o, fds->vhost);
	if (!is_microvm(o))
		add_plugs(a);
	if (fds->net >= 0)
		add_nic(a, o, fds->net);
	for (unsigned i = 0; i < o->n_disks; i++)
		add_disk(a, o, i);
}

static void add_machine(struct argv *a, const struct options *o)
{
	add(a, "-machine");
	if (!is_microvm(o)) {
		add(a, "q35,accel=%s,memory-backend=mem,vmport=off", o->accel);
		return;
	}
	/* ACPI is how a kernel finds the devices (Debian's takes none from the command line) and powers off.
	 * The second I/O APIC makes 24 register windows out of 8, whose interrupts are then nobody else's.
	 * Without the timer and the clock chip boots break or crawl under TCG. The serial port is ours. */
	add(a, "microvm,accel=%s,memory-backend=mem,acpi=on,ioapic2=on,pit=on,rtc=on,pcie=off,isa-serial=off",
	    o->accel);
	/* Its virtio is that of before 1.0 unless told otherwise, which our vsock device refuses. */
	add(a, "-global");
	add(a, "virtio-mmio.force-legacy=false");
}

static void add_append(struct argv *a, const struct options *o)
{
	char tsc[64] = "";
	/* microvm has nothing but the timer chip to measure the processor's clock by, which fails on a busy
	 * host under TCG: the kernel then spins for ever, early in its boot. TCG's counter is the host's, and
	 * KVM tells the guest by itself. Reliable, since the guest would compare it with its own ticks, of
	 * which a busy host drops some, and then go by ticks alone. */
	if (is_microvm(o) && strcmp(o->accel, "tcg") == 0)
		snprintf(tsc, sizeof tsc, " tsc_early_khz=%lu tsc=reliable", tsc_khz());
	add(a, "-append");
	add(a, "%s%s%s%s", KERNEL_ARGUMENTS, tsc, o->append ? " " : "", o->append ? o->append : "");
}

char **qemu_argv(const struct options *o, const struct qemu_fds *fds)
{
	struct argv a = {0};
	add(&a, PROGRAM);
	add(&a, "-nodefaults");
	add(&a, "-no-user-config");
	add(&a, "-no-reboot");
	add(&a, "-display");
	add(&a, "none");
	add(&a, "-sandbox");
	add(&a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add_machine(&a, o);
	add(&a, "-cpu");
	/* With ERMS and FSRM Linux copies by `rep movsb`, which TCG runs byte by byte: without, the guest's
	 * end of a vsock stream is two to three times as fast. */
	add(&a, "%s", strcmp(o->accel, "kvm") == 0 ? "host" : "max,erms=off,fsrm=off");
	/* With one processor and no room for another, TCG before QEMU 8.1 leaves the guest's memory barriers
	 * out (CF_PARALLEL), though the devices run beside it: now and then driver and device miss each
	 * other's wish to be told, and the queue sleeps until something else wakes it. */
	bool alone = o->cpus == 1 && strcmp(o->accel, "tcg") == 0;
	add(&a, "-smp");
	add(&a, "%u%s", o->cpus, alone ? ",maxcpus=2" : "");
	add(&a, "-m");
	add(&a, "%uM", o->memory_mib);
	/* Shared, since our mapping is to be the guest's memory and not a copy of it. */
	add(&a, "-object");
	add(&a, "memory-backend-memfd,id=mem,size=%uM,share=on", o->memory_mib);
	add(&a, "-kernel");
	add(&a, "%s", o->kernel);
	add(&a, "-initrd");
	add(&a, "%s", o->initrd);
	add_append(&a, o);
	add(&a, "-chardev");
	add(&a, "socket,id=qmp,fd=%d", fds->qmp);
	add(&a, "-mon");
	add(&a, "chardev=qmp,mode=control");
	add_devices(&a, o, fds);
	if (!a.failed)
		return a.v;
	qemu_argv_free(a.v);
	return NULL;
}

void qemu_argv_free(char **argv)
{
	for (char **s = argv; s && *s; s++)
		free(*s);
	free(argv);
}

int qemu_start(struct qemu *q, const struct options *o, int net, struct err *e)
{
	int vhost[2], qmp[2], console[2], output[2];
	*q = (struct qemu){.pidfd = -1, .vhost = -1, .qmp = -1, .console = -1, .output = -1};

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, vhost) < 0)
		return err_sys(e, "qemu", errno, "socketpair");
	_cleanup_close_ int vhost_ours = vhost[0];
	_cleanup_close_ int vhost_theirs = vhost[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp) < 0)
		return err_sys(e, "qemu", errno, "socketpair");
	_cleanup_close_ int qmp_ours = qmp[0];
	_cleanup_close_ int qmp_theirs = qmp[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console) < 0)
		return err_sys(e, "qemu", errno, "socketpair");
	_cleanup_close_ int console_ours = console[0];
	_cleanup_close_ int console_theirs = console[1];
	if (pipe2(output, O_CLOEXEC) < 0)
		return err_sys(e, "qemu", errno, "pipe");
	_cleanup_close_ int output_ours = output[0];
	_cleanup_close_ int output_theirs = output[1];
	if (fcntl(console_ours, F_SETFL, O_NONBLOCK) < 0 || fcntl(output_ours, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(e, "qemu", errno, "fcntl");

	const struct qemu_fds fds = {vhost_theirs, qmp_theirs, console_theirs, net};
	char **argv = qemu_argv(o, &fds);
	if (!argv)
		return err_sys(e, "qemu", ENOMEM, "building the command line");
	const int inherited[] = {vhost_theirs, qmp_theirs, console_theirs, net};
	int r = child_spawn(argv, inherited, net < 0 ? 3 : 4, output_theirs, &q->pid, &q->pidfd, e);
	qemu_argv_free(argv);
	if (r < 0)
		return r;
	q->vhost = steal_fd(&vhost_ours);
	q->qmp = steal_fd(&qmp_ours);
	q->console = steal_fd(&console_ours);
	q->output = steal_fd(&output_ours);
	return 0;
}

void qemu_kill(const struct qemu *q)
{
	if (q->pid > 0)
		kill(q->pid, SIGKILL);
}

int qemu_reap(struct qemu *q, int *status)
{
	if (q->pid <= 0 || waitpid(q->pid, status, WNOHANG) != q->pid)
		return 0;
	q->pid = 0;
	return 1;
}

void qemu_finish(struct qemu *q)
{
	if (q->pid > 0) {
		qemu_kill(q);
		waitpid(q->pid, NULL, 0);
		q->pid = 0;
	}
	close_fd(&q->pidfd);
	close_fd(&q->vhost);
	close_fd(&q->qmp);
	close_fd(&q->console);
	close_fd(&q->output);
}
