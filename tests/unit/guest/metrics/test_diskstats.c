/* /proc/diskstats: disks, and what looks like one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/metrics/diskstats.h"

/* The names found, with a blank behind each. */
static const char *names(const char *text)
{
	static char all[512];
	ProtobufCBinaryData disk = {0, NULL};
	Tenon__DiskUse d = TENON__DISK_USE__INIT;
	all[0] = '\0';
	while (diskstats_next(&text, &disk, &d))
		strcat(strncat(all, (char *)d.name.data, d.name.len), " ");
	return all;
}

static void counters(void **state)
{
	(void)state;
	const char *text = " 254       0 vda 1190 72 61234 901 33 9 4096 12 0 300 913 0 0 0 0 2 1\n";
	ProtobufCBinaryData disk = {0, NULL};
	Tenon__DiskUse d = TENON__DISK_USE__INIT;
	assert_true(diskstats_next(&text, &disk, &d));
	assert_int_equal(d.name.len, 3);
	assert_memory_equal(d.name.data, "vda", 3);
	assert_int_equal(d.reads, 1190);
	assert_int_equal(d.read_bytes, 61234 * 512);
	assert_int_equal(d.writes, 33);
	assert_int_equal(d.written_bytes, 4096 * 512);
	assert_false(diskstats_next(&text, &disk, &d));
}

static void whole_disks_only(void **state)
{
	(void)state;
	assert_string_equal(
		names("7 0 loop0 1\n7 15 loop15 1\n1 0 ram0 1\n254 0 vda 1\n254 1 vda1 1\n254 12 vda12 1\n"
		      "254 16 vdb 1\n259 0 nvme0n1 1\n259 1 nvme0n1p1 1\n259 2 nvme0n1p22 1\n"
		      "259 3 nvme0n2 1\n11 0 sr0 1\n252 0 zram0 1\n253 0 dm-0 1\n9 0 md127 1\n9 1 md127p1 "
		      "1\n"),
		"vda vdb nvme0n1 nvme0n2 sr0 zram0 dm-0 md127 ");
	assert_string_equal(names("8 0 sda 1\n8 16 sdaa 1\n8 17 sdaa1 1\n65 0 sda1x 1\n"), "sda sdaa sda1x ");
	assert_string_equal(names("259 0 nvme0n1 1\n259 1 nvme0n1p 1\n259 16 nvme0n12 1"),
			    "nvme0n1 nvme0n1p nvme0n12 ");
}

static void odd_texts(void **state)
{
	(void)state;
	assert_string_equal(names(""), "");
	assert_string_equal(names("\n\n\n"), "");
	assert_string_equal(names("254 0\n254 0 vda"), "vda ");
	const char *text = "254 0 vda 99999999999999999999 1 99999999999999999";
	ProtobufCBinaryData disk = {0, NULL};
	Tenon__DiskUse d = TENON__DISK_USE__INIT;
	assert_true(diskstats_next(&text, &disk, &d));
	assert_true(d.reads == UINT64_MAX && d.read_bytes == UINT64_MAX && d.written_bytes == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(counters), cmocka_unit_test(whole_disks_only),
					   cmocka_unit_test(odd_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
