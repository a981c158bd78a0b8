"""A small client of proto/WIRE.md, for tests: frames over any connected socket, executions as objects.

Single-threaded: everything happens inside a call that waits, and every wait has a deadline.
"""

import itertools
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.environ.get("TENON_GEN_PY", str(TOP / "build/gen/py")))

from proto import tenon_pb2 as pb  # noqa: E402

HELLO, REQ, RSP, DATA, CREDIT, GAP, EOF, RESET, EVENT, PING, PONG, GOAWAY = range(1, 13)
STDIN, STDOUT, STDERR = 0, 1, 2
CREDIT_WANTED, MORE, OPTIONAL = 0x20, 0x40, 0x80
PAYLOAD_MAX = 65536
DATA_MAX = PAYLOAD_MAX - 8
DEADLINE = 20.0

_epochs = itertools.count(int(time.time() * 1000) << 16)


def frame(type_, stream=0, payload=b"", flags=0):
    return struct.pack("<IIBBH", len(payload), stream, type_, flags, 0) + payload


def hello_payload(message, magic=b"TNON", generation=1):
    return magic + struct.pack("<HH", generation, 0) + message.SerializeToString()


class Closed(Exception):
    """The peer ended the connection; args[0] is the Error of its GOAWAY, or None."""


class WireError(Exception):
    def __init__(self, error):
        super().__init__(f"{pb.Code.Name(error.code)} {error.stage} {error.field}: {error.message}")
        self.error = error
        self.code = error.code


class Execution:
    """What the host knows of one execution, over any number of connections."""

    def __init__(self, id_, limit=1 << 20, keep=True):
        self.id = id_
        self.window = limit  # credit beyond what was received; None: never any more than given by hand
        self.keep = keep
        self.conn = self.stream = None
        self.state = self.exit = self.failed = None
        self.out = {STDOUT: bytearray(), STDERR: bytearray()}
        self.end = {STDOUT: 0, STDERR: 0}  # position, gaps included
        self.limit = {STDOUT: 0, STDERR: 0}
        self.wants = 0  # frames that asked for credit
        self.eof = {}
        self.gaps = []
        self.reset = None
        self.stdin = b""  # bytes to feed, all of them
        self.stdin_acked = self.stdin_sent = self.stdin_limit = 0
        self.stdin_eof = self.stdin_eof_sent = self.stdin_closed = False

    @property
    def stdout(self):
        return bytes(self.out[STDOUT])

    @property
    def stderr(self):
        return bytes(self.out[STDERR])

    def limits(self):
        return [self.end[c] + self.window if self.window is not None else self.limit[c] for c in (STDOUT, STDERR)]

    def has_totals(self):
        if self.exit is None:
            return False
        totals = {STDOUT: self.exit.stdout_total, STDERR: self.exit.stderr_total}
        return all(c in self.eof or self.end[c] >= totals[c] for c in totals)

    def done(self):
        return self.failed is not None or self.has_totals()

    def drained(self):
        return self.exit is not None and set(self.eof) == {STDOUT, STDERR}


class Conn:
    def __init__(self, sock, epoch=None, hello=True, features=0):
        self.sock = sock
        sock.settimeout(DEADLINE)
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.partial = None  # (type, stream, bytes) of a message in pieces
        self.next_stream = 1
        self.replies = {}
        self.by_stream = {}
        self.pongs = []
        self.goaway = None
        self.events = []  # of stream 0
        self.response = pb.Response
        self.hello = None
        self.budget = None  # bytes to read before the connection is cut, for tests
        self.send_budget = None  # likewise bytes to write: the cut may be in mid-frame
        if hello:
            self.epoch = epoch if epoch is not None else next(_epochs)
            self.send(frame(HELLO, 0, hello_payload(pb.Hello(role=pb.ROLE_MAIN, host_epoch=self.epoch, features=features))))
            self.wait(lambda: self.hello is not None)

    def close(self):
        self.sock.close()

    # ---- frames ----

    def send(self, data):
        self.outbox += data

    def pump(self, deadline):
        """One round of reading and writing. Raises Closed at the end of the stream."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the agent did not answer in time")
        r, w, _ = select.select([self.sock], [self.sock] if self.outbox else [], [], left)
        if w:
            try:
                size = 262144 if self.send_budget is None else min(262144, self.send_budget)
                n = self.sock.send(self.outbox[:size], socket.MSG_DONTWAIT)
                del self.outbox[:n]
                if self.send_budget is not None:
                    self.send_budget -= n
                    if self.send_budget == 0:
                        raise Closed(None)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                self.outbox.clear()  # a GOAWAY may still be there to read
        if r:
            size = 262144 if self.budget is None else min(262144, self.budget)
            try:
                data = self.sock.recv(size)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(self.goaway)
            if self.budget is not None:
                self.budget -= len(data)
            self.inbox += data
            self.parse()
            if self.budget == 0:
                raise Closed(None)

    def parse(self):
        at = 0
        while len(self.inbox) - at >= 12:
            n, stream, type_, flags, zero = struct.unpack_from("<IIBBH", self.inbox, at)
            assert n <= PAYLOAD_MAX and zero == 0, "the agent sent a malformed header"
            if len(self.inbox) - at < 12 + n:
                break
            payload = bytes(self.inbox[at + 12:at + 12 + n])
            at += 12 + n
            self.take(type_, stream, flags, payload)
        del self.inbox[:at]

    def take(self, type_, stream, flags, payload):
        if type_ in (RSP, EVENT):
            if self.partial:
                assert self.partial[:2] == (type_, stream), "pieces of two messages are mixed"
                payload = self.partial[2] + payload
            self.partial = (type_, stream, payload) if flags & MORE else None
            if self.partial:
                return
        if type_ == HELLO:
            assert payload[:4] == b"TNON"
            self.hello = pb.Hello.FromString(payload[8:])
        elif type_ == GOAWAY:
            self.goaway = pb.Error.FromString(payload)
        elif type_ == PONG:
            self.pongs.append(payload)
        elif type_ == EVENT and stream == 0:
            self.events.append(pb.Event.FromString(payload))
        elif type_ == RSP:
            self.take_reply(stream, self.response.FromString(payload))
        else:
            x = self.by_stream.get(stream)
            assert x is not None, f"frame type {type_} on stream {stream}, which is nobody's"
            x.wants += bool(flags & CREDIT_WANTED)
            self.take_stream(x, stream, type_, flags & 3, payload)

    def take_reply(self, stream, response):
        self.replies[stream] = response
        x = self.by_stream.get(stream)
        if x is None:
            return
        if response.HasField("error"):
            x.failed = response.error
            del self.by_stream[stream]
            return
        x.state = response.exec
        x.stdin_closed = x.state.stdin_closed
        x.stdin_limit = max(x.stdin_limit, x.state.stdin_limit)
        x.stdin_acked = max(x.stdin_acked, x.state.stdin_acked)
        x.stdin_sent = x.stdin_acked
        self.feed(x)

    def take_stream(self, x, stream, type_, c, payload):
        if type_ == DATA:
            offset, data = struct.unpack_from("<Q", payload)[0], payload[8:]
            assert data and c in x.out
            assert offset <= x.end[c], f"a hole: {offset} after {x.end[c]}"
            assert offset + len(data) <= x.limit[c], "DATA beyond its credit"
            fresh = data[x.end[c] - offset:]
            if x.keep:
                x.out[c] += fresh
            x.end[c] += len(fresh)
            self.grant(x, c)
        elif type_ == GAP:
            start, end = struct.unpack("<QQ", payload)
            assert start <= x.end[c] and end > start
            x.gaps.append((c, x.end[c], end))
            x.end[c] = max(x.end[c], end)
            self.grant(x, c)
        elif type_ == EOF and c == STDIN:
            x.stdin_closed = True
        elif type_ == EOF:
            total, = struct.unpack("<Q", payload)
            assert total == x.end[c], f"EOF at {total}, but {x.end[c]} bytes came"
            x.eof[c] = total
        elif type_ == CREDIT:
            assert c == STDIN
            acked, limit = struct.unpack("<QQ", payload)
            x.stdin_acked, x.stdin_limit = max(x.stdin_acked, acked), max(x.stdin_limit, limit)
            self.feed(x)
        elif type_ == EVENT:
            x.exit = pb.Event.FromString(payload).exit
        elif type_ == RESET:
            del self.by_stream[stream]
            if stream == x.stream:
                x.reset = pb.Error.FromString(payload)
        else:
            raise AssertionError(f"frame type {type_} is not the agent's to send")

    def grant(self, x, c, limit=None):
        if limit is None:
            if x.window is None:
                return
            limit = x.end[c] + x.window
        x.limit[c] = max(x.limit[c], limit)
        self.send(frame(CREDIT, x.stream, struct.pack("<QQ", x.end[c], x.limit[c]), c))

    def feed(self, x):
        while not x.stdin_closed and x.stdin_sent < min(len(x.stdin), x.stdin_limit):
            n = min(len(x.stdin), x.stdin_limit, x.stdin_sent + DATA_MAX) - x.stdin_sent
            self.send(frame(DATA, x.stream, struct.pack("<Q", x.stdin_sent) + x.stdin[x.stdin_sent:x.stdin_sent + n]))
            x.stdin_sent += n
        if x.stdin_eof and x.stdin_sent == len(x.stdin) and not x.stdin_closed:
            self.send(frame(EOF, x.stream, struct.pack("<Q", x.stdin_sent)))
            x.stdin_eof = False
            x.stdin_eof_sent = True

    # ---- requests ----

    def request_frames(self, request, stream):
        data = request.SerializeToString()
        pieces = [data[i:i + PAYLOAD_MAX] for i in range(0, len(data), PAYLOAD_MAX)] or [b""]
        return b"".join(frame(REQ, stream, p, MORE if i < len(pieces) - 1 else 0) for i, p in enumerate(pieces))

    def open(self, request):
        stream = self.next_stream
        self.next_stream += 2
        self.send(self.request_frames(request, stream))
        return stream

    def wait(self, condition, timeout=DEADLINE):
        deadline = time.monotonic() + timeout
        while not condition():
            self.pump(deadline)

    def settle(self, seconds):
        """Keeps the conversation going for a while, whatever comes."""
        try:
            self.wait(lambda: False, seconds)
        except TimeoutError:
            pass

    def call(self, timeout=DEADLINE, **op):
        stream = self.open(pb.Request(**op))
        self.wait(lambda: stream in self.replies, timeout)
        response = self.replies.pop(stream)
        if response.HasField("error"):
            raise WireError(response.error)
        return response

    def ping(self):
        self.send(frame(PING, 0, b"12345678"))
        self.pongs.clear()
        self.wait(lambda: self.pongs)
        return self.pongs[-1]

    def configure(self, env=(b"PATH=/usr/bin:/bin",), **kw):
        kw.setdefault("root", pb.Root(initramfs=pb.InitramfsRoot()))
        return self.call(configure=pb.Configure(env=env, **kw)).configure

    def quiesce(self, timeout=DEADLINE, **kw):
        return self.call(timeout, quiesce=pb.Quiesce(**kw))

    def resume(self, timeout=DEADLINE, **kw):
        return self.call(timeout, resume=pb.Resume(**kw))

    def kill_process(self, pid, signo, started_ticks=0):
        return self.call(kill_process=pb.KillProcess(pid=pid, signo=signo, started_ticks=started_ticks))

    def event(self, kind, timeout=DEADLINE):
        """The next event of that kind on stream 0."""
        self.wait(lambda: any(e.HasField(kind) for e in self.events), timeout)
        found = next(e for e in self.events if e.HasField(kind))
        self.events.remove(found)
        return getattr(found, kind)

    # ---- executions ----

    def start(self, *argv, stdin=None, id_=None, limit=1 << 20, first_limit=None, keep=True, eof=True, **kw):
        """Sends an Exec and returns at once."""
        x = Execution(id_ or os.urandom(16), limit, keep)
        x.limit[STDOUT], x.limit[STDERR] = (first_limit, first_limit) if first_limit is not None else x.limits()
        if stdin is not None:
            x.stdin, x.stdin_eof = stdin, eof
        argv = [a if isinstance(a, bytes) else a.encode() for a in argv]
        x.request = pb.Exec(id=x.id, argv=argv, with_stdin=stdin is not None, stdout_limit=x.limit[STDOUT],
                            stderr_limit=x.limit[STDERR], **kw)
        self.bind(x, self.open(pb.Request(exec=x.request)))
        return x

    def bind(self, x, stream):
        x.conn, x.stream, x.state, x.reset, x.failed = self, stream, None, None, None
        self.by_stream[stream] = x

    def started(self, x, timeout=DEADLINE):
        self.wait(lambda: x.state is not None or x.failed is not None, timeout)
        if x.failed is not None:
            raise WireError(x.failed)
        return x

    def attach(self, x, wait=True):
        x.limit[STDOUT], x.limit[STDERR] = x.limits()
        x.eof = {}
        x.stdin_eof, x.stdin_eof_sent = x.stdin_eof or x.stdin_eof_sent, False
        self.bind(x, self.open(pb.Request(attach=pb.Attach(
            id=x.id, stdout_end=x.end[STDOUT], stderr_end=x.end[STDERR],
            stdout_limit=x.limit[STDOUT], stderr_limit=x.limit[STDERR]))))
        return self.started(x) if wait else x

    def finish(self, x, timeout=DEADLINE):
        """Until the exit record and all bytes up to its totals are here."""
        self.wait(x.done, timeout)
        if x.failed is not None:
            raise WireError(x.failed)
        return x

    def ack(self, x):
        return self.call(exec_ack=pb.ExecAck(id=x.id))

    def run(self, *argv, timeout=DEADLINE, **kw):
        x = self.finish(self.start(*argv, **kw), timeout)
        self.ack(x)
        return x

    def signal(self, x, signo=0, target=pb.TARGET_PROCESS, name=b""):
        return self.call(signal=pb.Signal(id=x.id, signo=signo, target=target, name=name))

    def resize(self, x, rows=0, cols=0):
        return self.call(resize=pb.Resize(id=x.id, size=pb.Tty(rows=rows, cols=cols)))

    def type(self, x, data, eof=False):
        x.stdin += data
        x.stdin_eof = eof
        self.feed(x)

    def list(self, **kw):
        return self.call(list_execs=pb.ListExecs(**kw)).execs.execs


    def clear(self):
        """Kills, drains and acknowledges whatever there is."""
        for row in self.list():
            x = Execution(row.id, keep=False)
            x.end = {STDOUT: row.stdout_end, STDERR: row.stderr_end}
            self.attach(x)
            if not x.exit:
                self.signal(x, 9, pb.TARGET_ALL)
            self.wait(x.drained)
            self.ack(x)


def connect_unix(path, timeout=DEADLINE):
    """Dials until somebody listens."""
    deadline = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
            return sock
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
