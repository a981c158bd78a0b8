/* A hostile box's /etc/passwd and /etc/group: whatever they hold, a line is found in one piece as in many.
 * The first byte chooses file and question, the second the size of the pieces, then comes what is looked for.
 */
#include <stdlib.h>
#include <string.h>

#include "guest/exec/user.h"

#define NAME 4

static struct user_scan scan;

/* Wanted lines of the file, and the ids of all of them in one number. */
static size_t count(const uint8_t *data, size_t n, size_t step, uint64_t *ids)
{
	size_t hits = 0;
	*ids = 0;
	memset(&scan, 0, sizeof scan);
	scan.groups = data[0] & 1;
	scan.wanted = (enum user_wanted)((data[0] >> 1) % 3);
	scan.name = (const char *)data + 2;
	scan.name_len = strnlen(scan.name, NAME);
	scan.id = data[2];
	for (size_t at = 2 + NAME; at <= n;) {
		size_t left = n - at, size = left < step ? left : step;
		if (left == 0)
			user_scan_end(&scan);
		else
			at += user_scan_feed(&scan, (const char *)data + at, size);
		if (scan.hit) {
			if (scan.line_name_len > USER_NAME_MAX || scan.home_len >= USER_HOME_MAX ||
			    scan.home[scan.home_len] != '\0')
				abort();
			hits++;
			*ids = *ids * 31 + scan.uid + scan.gid;
		}
		if (left == 0)
			break;
	}
	return hits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 2 + NAME)
		return 0;
	uint64_t whole_ids, piece_ids;
	size_t whole = count(data, n, n, &whole_ids);
	size_t pieces = count(data, n, 1 + data[1] % 16, &piece_ids);
	if (whole != pieces || whole_ids != piece_ids)
		abort();
	user_spec_valid((const char *)data, n);
	return 0;
}
