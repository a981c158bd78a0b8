/* Any bytes as an archive, unpacked into the scratch folder. The first byte chooses how; checksums of what
 * looks like a header are put right, or nothing would get past them. */
#include "tests/fuzz/served.h"

#define BLOCK 512
#define CHECKSUM 148
#define MAGIC 257

static const struct bulk_context context = {.upper_fd = -1};
static uint8_t how;

static void mend(uint8_t *block)
{
	unsigned sum = 0;
	if (memcmp(block + MAGIC, "ustar", 5) != 0)
		return;
	memset(block + CHECKSUM, ' ', 8);
	for (int i = 0; i < BLOCK; i++)
		sum += block[i];
	snprintf((char *)block + CHECKSUM, 8, "%06o", sum);
}

static void serve(struct channel *ch)
{
	Tenon__Where at = TENON__WHERE__INIT;
	Tenon__TarIn in = TENON__TAR_IN__INIT;
	Tenon__BulkRequest req = TENON__BULK_REQUEST__INIT;
	static const char *const targets[] = {".", "new", "new/", "deep/new"};
	bump_init(&ch->scratch, ch->scratch_memory, 1 << 20);
	at.beneath = (ProtobufCBinaryData){strlen(scratch), (uint8_t *)scratch};
	at.path.data = (uint8_t *)targets[how % 4];
	at.path.len = strlen(targets[how % 4]);
	in.at = &at;
	in.keep_owner = how & 4;
	in.no_clobber = how & 8;
	req.op_case = TENON__BULK_REQUEST__OP_TAR_IN;
	req.tar_in = &in;
	ch->stream = 1;
	bulk_serve_one(ch, &req, &context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t tar[256 * 1024], stream[sizeof tar + sizeof tar / 1024 * FRAME_DATA_HEAD + 1024];
	size_t n = 0, at = 0;
	served_set_up();
	if (size < 1 || size > sizeof tar)
		return 0;
	how = data[0];
	size--;
	memcpy(tar, data + 1, size);
	for (size_t i = 0; i + BLOCK <= size; i += BLOCK)
		mend(tar + i);
	/* In pieces that end where no block does, too. */
	for (size_t piece = how & 16 ? 1000 : FRAME_DATA_MAX; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece;
		n += frame_put_data_head(stream + n, 1, CHANNEL_STDIN, at, len);
		memcpy(stream + n, tar + at, len);
		n += len;
	}
	n += frame_put_eof(stream + n, 1, CHANNEL_STDIN, size);
	served_run(stream, n, serve);
	if (access(scratch, F_OK) < 0)
		abort();
	return 0;
}
