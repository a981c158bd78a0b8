"""A client of bulk connections (proto/WIRE.md §6), blocking: one operation after another."""

import struct

import wire
from wire import DATA, EOF, EVENT, GOAWAY, HELLO, MORE, REQ, RESET, RSP, frame, pb

from proto import bulk_pb2 as bulk_pb  # noqa: E402

FROM_HOST, FROM_AGENT = 0, 1


class Bulk:
    def __init__(self, sock, epoch, hello=True):
        self.sock = sock
        sock.settimeout(wire.DEADLINE)
        self.inbox = bytearray()
        self.stream = -1
        if hello:
            self.send(frame(HELLO, 0, wire.hello_payload(pb.Hello(role=pb.ROLE_BULK, host_epoch=epoch))))
            type_, _, _, payload = self.next()
            assert type_ == HELLO
            self.hello = pb.Hello.FromString(payload[8:])

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- frames ----

    def send(self, data):
        self.sock.sendall(data)

    def next(self):
        """(type, stream, flags, payload). Closed at the end of the stream, with the Error of its GOAWAY if one came."""
        while True:
            if len(self.inbox) >= 12:
                n, stream, type_, flags, _ = struct.unpack_from("<IIBBH", self.inbox)
                if len(self.inbox) >= 12 + n:
                    payload = bytes(self.inbox[12:12 + n])
                    del self.inbox[:12 + n]
                    if type_ == GOAWAY:
                        raise wire.Closed(pb.Error.FromString(payload))
                    return type_, stream, flags, payload
            try:
                data = self.sock.recv(262144)
            except ConnectionResetError:
                data = b""
            if not data:
                raise wire.Closed(None)
            self.inbox += data

    def message(self, want):
        """The payload of the next message of this operation, joined; a RESET raises its error."""
        whole = b""
        while True:
            type_, stream, flags, payload = self.next()
            assert stream == self.stream, (type_, stream)
            if type_ == RESET:
                raise wire.WireError(pb.Error.FromString(payload))
            if type_ == EOF and EVENT == want:
                return struct.unpack("<Q", payload)[0]
            assert type_ == want and (flags & ~MORE) == 0, (type_, flags)
            whole += payload
            if not flags & MORE:
                return whole

    # ---- operations ----

    def request(self, **op):
        """Sends a REQ; nothing is awaited, so that many may be sent at once."""
        self.stream += 2
        data = bulk_pb.BulkRequest(**op).SerializeToString()
        pieces = [data[i:i + wire.PAYLOAD_MAX] for i in range(0, len(data), wire.PAYLOAD_MAX)] or [b""]
        self.send(b"".join(frame(REQ, self.stream, p, MORE if i < len(pieces) - 1 else 0)
                           for i, p in enumerate(pieces)))
        return self.stream

    def response(self):
        r = bulk_pb.BulkResponse.FromString(self.message(RSP))
        if r.HasField("error"):
            raise wire.WireError(r.error)
        return r

    def call(self, **op):
        self.request(**op)
        return self.response()

    def chunks(self):
        """The agent's DATA, to its EOF."""
        at = 0
        while True:
            type_, stream, flags, payload = self.next()
            assert stream == self.stream, (type_, stream)
            if type_ == RESET:
                raise wire.WireError(pb.Error.FromString(payload))
            assert type_ in (DATA, EOF) and flags == FROM_AGENT, (type_, flags)
            offset, = struct.unpack_from("<Q", payload)
            assert offset == at, f"{offset} after {at}"
            if type_ == EOF:
                return
            at += len(payload) - 8
            yield payload[8:]

    def get(self, **op):
        """(response, bytes) of an operation whose bytes come from the agent."""
        r = self.call(**op)
        return r, b"".join(self.chunks())

    def put(self, data, **op):
        """An operation that takes bytes: an iterable of them, or bytes. Returns the total that the agent confirms."""
        self.call(**op)
        at = 0
        try:
            for piece in [data] if isinstance(data, (bytes, bytearray)) else data:
                for i in range(0, len(piece), wire.DATA_MAX):
                    part = piece[i:i + wire.DATA_MAX]
                    self.send(frame(DATA, self.stream, struct.pack("<Q", at) + part, FROM_HOST))
                    at += len(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # why is in what came before
        self.end(at)
        return self.confirmed()

    def end(self, total):
        self.send(frame(EOF, self.stream, struct.pack("<Q", total), FROM_HOST))

    def give_up(self):
        self.send(frame(RESET, self.stream, b""))

    def confirmed(self):
        """The total of the agent's EOF, when there is nothing else to come from it."""
        type_, stream, flags, payload = self.next()
        assert stream == self.stream
        if type_ == RESET:
            raise wire.WireError(pb.Error.FromString(payload))
        assert (type_, flags) == (EOF, FROM_AGENT), (type_, flags)
        return struct.unpack("<Q", payload)[0]

    def events(self, **op):
        """The BulkEvents of an operation to its EOF, whose total is in `self.total`."""
        self.call(**op)
        while True:
            m = self.message(EVENT)
            if isinstance(m, int):
                self.total = m
                return
            yield bulk_pb.BulkEvent.FromString(m)
