/* A hostile host on a bulk connection. The input is pieces {what u8, length u16}: frames are put around them,
 * mostly right ones, so that the operations are reached. Every path is forced beneath the scratch folder
 * before it is served. */
#include "tests/fuzz/served.h"

#define STREAM_BYTES (256 * 1024)

static const struct bulk_context context = {.upper_fd = -1};

/* How a piece becomes a frame, in `what`. */
enum {
	TYPE_MASK = 0x07,
	TYPE_REQ = 0,
	TYPE_DATA = 1,
	TYPE_EOF = 2,
	TYPE_RESET = 3,
	TYPE_RAW = 4,
	WRONG = 0x08,
	MORE = 0x10
};

static size_t put_frame(uint8_t *out, uint8_t what, const uint8_t *piece, size_t n, uint32_t *stream,
			uint64_t *sent)
{
	struct frame f = {.len = (uint32_t)n, .stream = *stream};
	uint64_t offset = *sent + (what & WRONG ? 1 : 0);
	size_t at = FRAME_HEADER_SIZE;
	switch (what & TYPE_MASK) {
	case TYPE_REQ:
		f.stream = *stream += what & WRONG ? 1 : 2;
		f.type = FRAME_REQ;
		f.flags = what & MORE ? FRAME_MORE : 0;
		*sent = 0;
		break;
	case TYPE_DATA:
		f.type = FRAME_DATA;
		f.len += FRAME_DATA_PREFIX;
		wire_put_u64(out + at, offset);
		at += FRAME_DATA_PREFIX;
		*sent += n;
		break;
	case TYPE_EOF:
		return frame_put_eof(out, *stream, CHANNEL_STDIN, offset);
	case TYPE_RESET:
		f.type = FRAME_RESET;
		break;
	default:
		memcpy(out, piece, n);
		return n;
	}
	frame_put_header(out, &f);
	memcpy(out + at, piece, n);
	return at + n;
}

static void confine(Tenon__Where *w)
{
	if (!w)
		return;
	w->beneath = (ProtobufCBinaryData){strlen(scratch), (uint8_t *)scratch};
	while (w->path.len > 0 && w->path.data[0] == '/') {
		w->path.data++;
		w->path.len--;
	}
}

/* False for what is no file operation, or names no place of its own. */
static bool confine_request(Tenon__BulkRequest *r)
{
	switch (r->op_case) {
	case TENON__BULK_REQUEST__OP_READ:
		return confine(r->read->at), true;
	case TENON__BULK_REQUEST__OP_WRITE:
		return confine(r->write->at), true;
	case TENON__BULK_REQUEST__OP_TAR_OUT:
		return confine(r->tar_out->at), true;
	case TENON__BULK_REQUEST__OP_TAR_IN:
		r->tar_in->devices = false;
		return confine(r->tar_in->at), true;
	case TENON__BULK_REQUEST__OP_LIST:
		return confine(r->list->at), true;
	case TENON__BULK_REQUEST__OP_WATCH:
		return confine(r->watch->at), true;
	case TENON__BULK_REQUEST__OP_STAT:
		return confine(r->stat->at), true;
	case TENON__BULK_REQUEST__OP_MAKE_DIR:
		return confine(r->make_dir->at), true;
	case TENON__BULK_REQUEST__OP_REMOVE:
		return confine(r->remove->at), true;
	case TENON__BULK_REQUEST__OP_RENAME:
		return confine(r->rename->from), confine(r->rename->to), true;
	case TENON__BULK_REQUEST__OP_CHMOD:
		return confine(r->chmod->at), true;
	case TENON__BULK_REQUEST__OP_CHOWN:
		return confine(r->chown->at), true;
	case TENON__BULK_REQUEST__OP_SET_TIMES:
		return confine(r->set_times->at), true;
	case TENON__BULK_REQUEST__OP_SYMLINK:
		return confine(r->symlink->at), true;
	case TENON__BULK_REQUEST__OP_LINK:
		return confine(r->link->from), confine(r->link->to), true;
	case TENON__BULK_REQUEST__OP_READ_LINK:
		return confine(r->read_link->at), true;
	default:
		return false;
	}
}

static void serve(struct channel *ch)
{
	const Tenon__BulkRequest *req;
	while (channel_next(ch, &req) > 0)
		if (confine_request((Tenon__BulkRequest *)req) && bulk_serve_one(ch, req, &context) < 0)
			return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t stream[STREAM_BYTES + FRAME_SIZE_MAX];
	uint32_t id = (uint32_t)-1;
	uint64_t sent = 0;
	size_t n = 0;
	served_set_up();
	while (size >= 3 && n < STREAM_BYTES) {
		size_t len = wire_get_u16(data + 1);
		if (len > size - 3)
			len = size - 3;
		if (len > FRAME_DATA_MAX)
			len = FRAME_DATA_MAX;
		n += put_frame(stream + n, data[0], data + 3, len, &id, &sent);
		data += 3 + len;
		size -= 3 + len;
	}
	served_run(stream, n, serve);
	return 0;
}
