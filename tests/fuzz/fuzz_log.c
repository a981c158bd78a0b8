/* Any bytes as the newest segment of a log: recovering must end, must not believe them beyond what holds
 * together, and what it leaves must recover to the same. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-shim/daemon/executions/recover.h"
#include "host-shim/daemon/executions/segment.h"

#define LEN_MAX (256 << 5) /* of a record: long data is left in the file */

static const uint8_t id[LOG_ID_SIZE] = "sixteen bytes id";
static char dir[64], file[128];

/* Records whose crc holds, with fields of the fuzzer's choice: each takes 12 bytes of input. */
static size_t forge(const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	size_t len = 0;
	segment_put_header(out, &(struct segment_header){.id = "sixteen bytes id"});
	len = LOG_SEGMENT_HEADER;
	uint64_t position = 0, offset[4] = {0};
	for (; n >= 12 && len + LOG_RECORD_HEADER + LEN_MAX < cap; in += 12, n -= 12) {
		struct record r = {
			.kind = in[0] % 6, .channel = in[1] & 3, .len = (uint32_t)in[2] << (in[5] & 5)};
		r.offset = r.kind == RECORD_EXIT ? 0 : offset[r.channel] + (in[3] == 1 ? in[4] : 0);
		r.position = position + (in[3] == 2 ? in[4] : 0);
		if (r.kind == RECORD_GAP)
			r.len = in[3] == 3 ? in[4] : 8;
		if (r.kind == RECORD_EOF)
			r.len = 0;
		record_put_header(out + len, &r);
		len += LOG_RECORD_HEADER;
		memset(out + len, 0, r.len);
		uint64_t to = offset[r.channel] + wire_get_u32(in + 8);
		if (r.kind == RECORD_GAP && r.len == 8)
			wire_put_u64(out + len, to);
		uint64_t moved = r.kind == RECORD_DATA  ? r.len
				 : r.kind == RECORD_GAP ? to - offset[r.channel]
							: 0;
		offset[r.channel] += moved;
		position += moved;
		len += r.len;
	}
	return len;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(dir, sizeof dir, "/dev/shm/tenon-fuzz-log-%d", getpid());
	snprintf(file, sizeof file, "%s/%016x.log", dir, 0);
	return mkdir(dir, 0700);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t forged[1 << 16];
	if (size == 0)
		return 0;
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (data[0] & 1) {
		size = forge(data + 1, size - 1, forged, sizeof forged);
		data = forged;
	}
	if (write(fd, data, size) != (ssize_t)size)
		abort();
	close(fd);

	struct recovered_log first, second;
	if (recover_log(dir, id, &first, NULL) < 0 || recover_log(dir, id, &second, NULL) < 0)
		abort();
	if (first.count != second.count || memcmp(&first.end, &second.end, sizeof first.end) != 0 ||
	    (first.exit != NULL) != first.end.exit)
		abort();
	recovered_log_finish(&first);
	recovered_log_finish(&second);
	unlink(file);
	return 0;
}
