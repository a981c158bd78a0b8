/* usage: count_codec N     N times: a DATA frame of 4 KiB, a CREDIT and a PING, written and read */
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

static uint8_t wire[4 * FRAME_SIZE_MAX], body[4096];

static size_t put(size_t at, uint64_t offset)
{
	at += frame_put_data_head(wire + at, 1, CHANNEL_STDOUT, offset, sizeof body);
	memcpy(wire + at, body, sizeof body);
	at += sizeof body;
	at += frame_put_credit(wire + at, 1, CHANNEL_STDOUT, offset, offset + 65536);
	return at + frame_put_ping(wire + at, FRAME_PING, body);
}

int main(int argc, char **argv)
{
	struct frame_reader r;
	struct frame f;
	struct err e;
	int frames = 0, n = argc == 2 ? atoi(argv[1]) : 0;
	for (int i = 0; i < n; i++) {
		frame_reader_init(&r, wire, sizeof wire);
		frame_reader_commit(&r, put(0, (uint64_t)i * sizeof body));
		while (frame_reader_next(&r, &f, &e) > 0)
			frames++;
	}
	return frames != 3 * n;
}
