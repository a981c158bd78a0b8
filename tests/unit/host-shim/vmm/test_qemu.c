/* QEMU's command line: where each machine has its devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "host-shim/vmm/qemu.h"
#include "host-shim/vmm/tsc.h"

static char **argv_of(const char *machine, const char *accel, int net)
{
	struct options o = {.kernel = "/k",
			    .initrd = "/i",
			    .machine = machine,
			    .accel = accel,
			    .cpus = 1,
			    .memory_mib = 128,
			    .disk = {{"/a,b", "raw", true}, {"/c", "qcow2", false}},
			    .n_disks = 2};
	char **argv = qemu_argv(&o, &(struct qemu_fds){3, 4, 5, net});
	assert_non_null(argv);
	return argv;
}

/* Whether option is given with exactly this value; NULL: with any that holds part. */
static bool has(char **argv, const char *option, const char *value, const char *part)
{
	for (char **a = argv; *a && a[1]; a++)
		if (strcmp(*a, option) == 0 && (value ? strcmp(a[1], value) == 0 : !!strstr(a[1], part)))
			return true;
	return false;
}

static void q35_keeps_its_layout(void **state)
{
	(void)state;
	static const char *const devices[] = {
		"isa-serial,chardev=console",
		"virtio-rng-pci,bus=pcie.0,addr=0x2,id=rng0",
		"pcie-root-port,id=vsock-port,bus=pcie.0,addr=0x3,chassis=1",
		"vhost-user-vsock-pci,id=vsock0,chardev=vhost,bus=vsock-port",
		"pcie-root-port,id=plug0,bus=pcie.0,addr=0x4.0,multifunction=on,chassis=2",
		"pcie-root-port,id=plug7,bus=pcie.0,addr=0x4.7,multifunction=on,chassis=9",
		"virtio-net-pci,bus=pcie.0,addr=0x5,id=nic0,netdev=net0,status=off,romfile=",
		"virtio-blk-pci,bus=pcie.0,addr=0x8,id=disk0,drive=node0,werror=report,rerror=report",
		"virtio-blk-pci,bus=pcie.0,addr=0x9,id=disk1,drive=node1,werror=report,rerror=report",
	};
	char **argv = argv_of("q35", "tcg", 6);
	assert_true(has(argv, "-machine", "q35,accel=tcg,memory-backend=mem,vmport=off", NULL));
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		if (!has(argv, "-device", devices[i], NULL))
			fail_msg("no %s", devices[i]);
	assert_false(has(argv, "-global", NULL, "virtio"));
	assert_true(has(argv, "-smp", "1,maxcpus=2", NULL)); /* or TCG leaves barriers out */
	assert_true(has(argv, "-blockdev", NULL, "filename=/a,,b,read-only=on"));
	qemu_argv_free(argv);
}

/* QEMU lists its windows from the last to the first, and disks are to be vda and vdb as on q35. */
static void microvm_places_by_falling_window(void **state)
{
	(void)state;
	static const char *const devices[] = {
		"isa-serial,chardev=console",
		"virtio-rng-device,bus=virtio-mmio-bus.21,id=rng0",
		"vhost-user-vsock-device,bus=virtio-mmio-bus.20,id=vsock0,chardev=vhost",
		"virtio-net-device,bus=virtio-mmio-bus.18,id=nic0,netdev=net0,status=off",
		"virtio-blk-device,bus=virtio-mmio-bus.15,id=disk0,drive=node0,werror=report,rerror=report",
		"virtio-blk-device,bus=virtio-mmio-bus.14,id=disk1,drive=node1,werror=report,rerror=report",
	};
	char **argv = argv_of("microvm", "tcg", 6);
	assert_true(has(argv, "-machine", NULL, "microvm,accel=tcg,memory-backend=mem,"));
	assert_true(has(argv, "-global", "virtio-mmio.force-legacy=false", NULL));
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		if (!has(argv, "-device", devices[i], NULL))
			fail_msg("no %s", devices[i]);
	assert_false(has(argv, "-device", NULL, "pci"));
	assert_false(has(argv, "-machine", NULL, "vmport"));
	qemu_argv_free(argv);
}

/* QEMU would give a machine a card and a network of its own if it were let. */
static void the_network_is_ours_or_none(void **state)
{
	(void)state;
	static const char *const machines[] = {"q35", "microvm"};
	for (size_t i = 0; i < 2; i++) {
		char **argv = argv_of(machines[i], "tcg", 6);
		assert_true(has(argv, "-netdev", "dgram,id=net0,local.type=fd,local.str=6", NULL));
		assert_false(has(argv, "-netdev", NULL, "user"));
		qemu_argv_free(argv);
		argv = argv_of(machines[i], "tcg", -1);
		assert_true(has(argv, "-nodefaults", NULL, ""));
		assert_false(has(argv, "-netdev", NULL, ""));
		assert_false(has(argv, "-device", NULL, "net"));
		/* Where the others are does not depend on it: a snapshot of the one is no other machine. */
		assert_true(
			has(argv, "-device", NULL, i ? "virtio-mmio-bus.15,id=disk0" : "addr=0x8,id=disk0"));
		qemu_argv_free(argv);
	}
}

/* Only where the guest cannot find it out: a measured value is never as good as the hypervisor's own. */
static void the_clock_is_told_on_microvm_under_tcg(void **state)
{
	(void)state;
	static const struct {
		const char *machine, *accel;
		bool told;
	} cases[] = {{"microvm", "tcg", true}, {"microvm", "kvm", false}, {"q35", "tcg", false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char **argv = argv_of(cases[i].machine, cases[i].accel, -1);
		assert_int_equal(has(argv, "-append", NULL, " tsc_early_khz="), cases[i].told);
		assert_int_equal(has(argv, "-append", NULL, " tsc=reliable"), cases[i].told);
		qemu_argv_free(argv);
	}
}

struct moment {
	uint64_t ticks, ns;
};

static uint64_t raw_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Both clocks at once: what is preempted between them is read again. */
static struct moment moment(void)
{
	for (int tries = 0; tries < 1000; tries++) {
		uint64_t before = raw_ns(), ticks = __rdtsc(), after = raw_ns();
		if (after - before < 2000)
			return (struct moment){ticks, before + (after - before) / 2};
	}
	fail_msg("never two clocks within 2 us");
	return (struct moment){0};
}

/* Measured over 5 ms it agrees with what it is over a twentieth of a second, within half a permille. */
static void the_clock_is_measured_well(void **state)
{
	(void)state;
	struct moment from = moment();
	unsigned long khz = tsc_khz();
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	struct moment to = moment();
	double expected = (double)(to.ticks - from.ticks) * 1e6 / (double)(to.ns - from.ns);
	if ((double)khz < expected * 0.9995 || (double)khz > expected * 1.0005)
		fail_msg("%lu kHz, not %.0f", khz, expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q35_keeps_its_layout),
		cmocka_unit_test(microvm_places_by_falling_window),
		cmocka_unit_test(the_network_is_ours_or_none),
		cmocka_unit_test(the_clock_is_told_on_microvm_under_tcg),
		cmocka_unit_test(the_clock_is_measured_well),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
