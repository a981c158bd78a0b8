/* QEMU's command line: where each machine has its devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host-shim/vmm/qemu.h"

static char **argv_of(const char *machine)
{
	struct options o = {.kernel = "/k",
			    .initrd = "/i",
			    .machine = machine,
			    .accel = "tcg",
			    .cpus = 1,
			    .memory_mib = 128,
			    .disk = {{"/a,b", "raw", true}, {"/c", "qcow2", false}},
			    .n_disks = 2};
	char **argv = qemu_argv(&o, 3, 4, 5);
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
		"virtio-blk-pci,bus=pcie.0,addr=0x8,id=disk0,drive=node0,werror=report,rerror=report",
		"virtio-blk-pci,bus=pcie.0,addr=0x9,id=disk1,drive=node1,werror=report,rerror=report",
	};
	char **argv = argv_of("q35");
	assert_true(has(argv, "-machine", "q35,accel=tcg,memory-backend=mem,vmport=off", NULL));
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		if (!has(argv, "-device", devices[i], NULL))
			fail_msg("no %s", devices[i]);
	assert_false(has(argv, "-global", NULL, "virtio"));
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
		"virtio-blk-device,bus=virtio-mmio-bus.15,id=disk0,drive=node0,werror=report,rerror=report",
		"virtio-blk-device,bus=virtio-mmio-bus.14,id=disk1,drive=node1,werror=report,rerror=report",
	};
	char **argv = argv_of("microvm");
	assert_true(has(argv, "-machine", NULL, "microvm,accel=tcg,memory-backend=mem,"));
	assert_true(has(argv, "-global", "virtio-mmio.force-legacy=false", NULL));
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		if (!has(argv, "-device", devices[i], NULL))
			fail_msg("no %s", devices[i]);
	assert_false(has(argv, "-device", NULL, "pci"));
	assert_false(has(argv, "-machine", NULL, "vmport"));
	qemu_argv_free(argv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q35_keeps_its_layout),
		cmocka_unit_test(microvm_places_by_falling_window),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
