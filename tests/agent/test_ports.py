"""Connect: tunnels to ports on the box's loopback, which here is this machine's."""

import errno
import hashlib
import os
import random
import select
import socket
import struct
import threading
import time

import pytest

import wire
from agent import MB, code_of, eventually
from bulk import FROM_AGENT, FROM_HOST, bulk_pb
from wire import DATA, DATA_MAX, EOF, RESET, frame, pb


class Server:
    """A listener whose connections each run `serve` in a thread."""

    def __init__(self, serve, address="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.sock.bind((address, 0))
        self.sock.listen(512)
        self.port = self.sock.getsockname()[1]
        self.serve = serve
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            conn.settimeout(wire.DEADLINE)
            threading.Thread(target=self.run, args=(conn,), daemon=True).start()

    def run(self, conn):
        with conn:
            try:
                self.serve(conn)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(wire.DEADLINE)


def echo(conn):
    while data := conn.recv(262144):
        conn.sendall(data)


class Tunnel:
    """The host's side of one, both ways at once."""

    def __init__(self, agent, port):
        self.bulk = agent.bulk()
        self.bulk.call(connect=bulk_pb.Connect(port=port))
        self.sent = self.received = 0
        self.eof = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bulk.close()

    def data(self, piece):
        f = frame(DATA, self.bulk.stream, struct.pack("<Q", self.sent) + piece, FROM_HOST)
        self.sent += len(piece)
        return f

    def send(self, data):
        for i in range(0, len(data), DATA_MAX):
            self.bulk.send(self.data(data[i:i + DATA_MAX]))

    def end(self):
        self.bulk.end(self.sent)

    def take(self):
        """The next bytes; b"" at the program's end. A RESET raises its error."""
        type_, stream, flags, payload = self.bulk.next()
        assert stream == self.bulk.stream
        if type_ == RESET:
            raise wire.WireError(pb.Error.FromString(payload))
        offset, = struct.unpack_from("<Q", payload)
        assert type_ in (DATA, EOF) and flags == FROM_AGENT and offset == self.received
        self.received += len(payload) - 8
        self.eof = type_ == EOF
        return payload[8:]

    def take_all(self):
        data = b""
        while not self.eof:
            data += self.take()
        return data

    def take_exactly(self, n):
        data = b""
        while len(data) < n:
            data += self.take()
        assert len(data) == n
        return data


def good_for_more(bulk):
    assert bulk.call(metrics=bulk_pb.GetMetrics()).metrics.cpus > 0


def rss(pid):
    """KiB."""
    return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1])


def test_echo_byte_for_byte(agent, conn):
    total = 64 * MB
    block = random.Random(2).randbytes(MB)
    want, got = hashlib.sha256(), hashlib.sha256()
    with Server(echo) as server, Tunnel(agent, server.port) as t:
        def write():
            for i in range(total // MB):
                piece = block[i:] + block[:i]
                want.update(piece)
                t.send(piece)
            t.end()
        writer = threading.Thread(target=write)
        writer.start()
        while not t.eof:
            got.update(t.take())
        writer.join()
        assert t.received == total and got.digest() == want.digest()
        good_for_more(t.bulk)


def test_the_host_ends_first(agent, conn):
    """Half-close: the program sees the end and answers after it."""
    def serve(conn):
        data = b""
        while piece := conn.recv(65536):
            data += piece
        conn.sendall(b"got %d" % len(data))

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        t.send(b"x" * 100000)
        t.end()
        assert t.take_all() == b"got 100000"
        good_for_more(t.bulk)


def test_the_program_ends_first(agent, conn):
    heard = []

    def serve(conn):
        conn.sendall(b"bye")
        conn.shutdown(socket.SHUT_WR)
        while piece := conn.recv(65536):
            heard.append(piece)

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        assert t.take_all() == b"bye"
        t.send(b"still here " * 10000)
        t.end()
        good_for_more(t.bulk)
        eventually(lambda: b"".join(heard) == b"still here " * 10000)


def test_nobody_listens(agent, conn):
    with socket.socket() as s, agent.bulk() as b:
        s.bind(("127.0.0.1", 0))
        for port in (s.getsockname()[1], 1):
            with pytest.raises(wire.WireError) as e:
                b.call(connect=bulk_pb.Connect(port=port))
            assert code_of(e) == "CODE_PORT_FAILED"
            assert (e.value.error.stage, e.value.error.errnum) == ("connect", errno.ECONNREFUSED)
        good_for_more(b)


@pytest.mark.parametrize("port", [0, 65536, 2**32 - 1])
def test_no_port(agent, conn, port):
    with agent.bulk() as b:
        with pytest.raises(wire.WireError) as e:
            b.call(connect=bulk_pb.Connect(port=port))
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "connect.port")
        good_for_more(b)


def test_a_host_that_leaves_while_it_is_dialled(own_agent):
    own_agent.configured()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        fill = [socket.socket() for _ in range(3)]
        for f in fill:
            f.setblocking(False)
            f.connect_ex(s.getsockname())
        b = own_agent.bulk()
        b.request(connect=bulk_pb.Connect(port=s.getsockname()[1]))
        eventually(lambda: own_agent.children())
        b.close()
        eventually(lambda: not own_agent.children(), 5)
        for f in fill:
            f.close()


def test_a_listener_on_six_only(agent, conn):
    try:
        server = Server(echo, "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server, Tunnel(agent, server.port) as t:
        t.send(b"six")
        t.end()
        assert t.take_all() == b"six"


def test_small_things_go_at_once(agent, conn):
    """No delay by Nagle's algorithm: 200 round trips of two small writes each."""
    def serve(conn):
        while data := conn.recv(2):
            if data[-1:] == b"b":
                conn.sendall(b"c")

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        began = time.monotonic()
        for _ in range(200):
            t.send(b"a")
            t.send(b"b")
            assert t.take() == b"c"
        assert time.monotonic() - began < 4  # 40 ms each if acknowledgements were waited for


def test_two_hundred_at_once(own_agent):
    conn = own_agent.configured()
    fds = own_agent.fds()
    slowest = 0
    with Server(echo) as server:
        tunnels = [Tunnel(own_agent, server.port) for _ in range(200)]
        for i, t in enumerate(tunnels):
            t.send(b"%05d" % i * 20000)
            t.end()
        for i, t in enumerate(tunnels):
            if i % 20 == 0:
                began = time.monotonic()
                conn.ping()
                slowest = max(slowest, time.monotonic() - began)
            assert t.take_all() == b"%05d" % i * 20000
        for t in tunnels:
            t.bulk.close()
    assert slowest < 1
    eventually(lambda: not own_agent.children())
    eventually(lambda: own_agent.fds() == fds)


def fill_up(t):
    """Sends until nothing more is taken for a while: how much."""
    t.bulk.sock.setblocking(False)
    block, left, idle = b"z" * DATA_MAX, b"", 0
    while idle < 10:
        left = left or t.data(block)
        _, w, _ = select.select([], [t.bulk.sock], [], 0.02)
        idle = 0 if w else idle + 1
        if w:
            left = left[t.bulk.sock.send(left):]
    t.bulk.sock.settimeout(wire.DEADLINE)
    return left


def test_a_slow_program_holds_the_host_not_memory(own_agent):
    """Whatever is sent, and what comes the other way goes on meanwhile."""
    own_agent.configured()
    go, heard = threading.Event(), []

    def serve(conn):
        conn.sendall(b"hello")
        go.wait(wire.DEADLINE)
        n = 0
        while data := conn.recv(1 << 20):
            n += len(data)
        heard.append(n)
        conn.sendall(b"all")

    with Server(serve) as server, Tunnel(own_agent, server.port) as t:
        assert t.take_exactly(5) == b"hello"
        left = fill_up(t)
        worker, = own_agent.children()
        assert rss(worker) < 4096
        go.set()
        t.bulk.send(left)
        t.end()
        assert t.take_all() == b"all" and heard == [t.sent]


def test_a_slow_host_holds_the_program_not_memory(own_agent):
    """And what goes to the program is not held up by it."""
    own_agent.configured()
    got, sent = threading.Event(), []

    def serve(conn):
        def listen():
            if conn.recv(100) == b"ping":
                got.set()
        threading.Thread(target=listen, daemon=True).start()
        for _ in range(32):
            conn.sendall(b"y" * MB)
        sent.append(32 * MB)

    with Server(serve) as server, Tunnel(own_agent, server.port) as t:
        worker, = own_agent.children()
        ticks = []
        for _ in range(2):  # it has come to rest when it spends no more time
            eventually(lambda: quiet(worker))
            ticks.append(cpu_ticks(worker))
        assert not sent and rss(worker) < 4096
        t.send(b"ping")
        assert got.wait(wire.DEADLINE)
        assert cpu_ticks(worker) - ticks[1] <= 2  # no busy loop while it waits
        t.end()
        while not t.eof:
            t.take()
        assert t.received == 32 * MB


def cpu_ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def quiet(pid):
    """It sleeps, and did not run in the last tenth of a second."""
    def switches():
        return [line for line in open(f"/proc/{pid}/status") if "ctxt_switches" in line]
    before = switches()
    time.sleep(0.1)
    return before == switches()


def test_idle_tunnels_cost_nothing(own_agent):
    own_agent.configured()
    with Server(echo) as server, Tunnel(own_agent, server.port) as t:
        worker, = own_agent.children()
        eventually(lambda: quiet(worker))
        t.send(b"x")
        assert t.take() == b"x"
        eventually(lambda: quiet(worker))
        t.end()
        assert t.take_all() == b""


def test_the_host_is_gone(own_agent):
    """The program sees the end, and not as if the host had ended its side."""
    own_agent.configured()
    ends = []

    def serve(conn):
        try:
            while conn.recv(65536):
                pass
            ends.append("eof")
        except ConnectionResetError:
            ends.append("reset")

    with Server(serve) as server:
        for _ in range(20):
            t = Tunnel(own_agent, server.port)
            t.send(b"half of it")
            t.bulk.close()
        eventually(lambda: len(ends) == 20)
    assert ends == ["reset"] * 20
    eventually(lambda: not own_agent.children())


def test_the_host_is_gone_while_the_program_does_not_read(own_agent):
    own_agent.configured()
    done = threading.Event()
    with Server(lambda conn: done.wait(60)) as server:
        t = Tunnel(own_agent, server.port)
        fill_up(t)
        t.bulk.close()
        eventually(lambda: not own_agent.children(), 15)
        done.set()


def test_what_was_sent_before_leaving_arrives(own_agent):
    """The host ends its side and closes, while much is still on its way: the program gets it all, and then the end."""
    own_agent.configured()
    heard, gone = [], threading.Event()

    def serve(conn):
        gone.wait(wire.DEADLINE)
        n = 0
        while data := conn.recv(1 << 20):
            n += len(data)
        heard.append(n)

    with Server(serve) as server:
        with Tunnel(own_agent, server.port) as t:
            fill_up(t)
            room = t.sent
        t = Tunnel(own_agent, server.port)
        t.send(b"u" * (room - 150000))
        t.end()
        t.bulk.close()
        gone.set()
        eventually(lambda: room - 150000 in heard)
        eventually(lambda: not own_agent.children(), 5)


def reset_now(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_the_program_resets(agent, conn):
    def serve(conn):
        conn.recv(1)
        reset_now(conn)

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        t.send(b"x")
        with pytest.raises(wire.WireError) as e:
            t.take()
        assert code_of(e) == "CODE_PORT_FAILED" and e.value.error.errnum == errno.ECONNRESET
        t.send(b"what is still under way is thrown away")
        t.end()
        good_for_more(t.bulk)


def test_the_program_resets_while_the_host_does_not_read(own_agent):
    """What it said before comes first; until the host takes it the worker sleeps."""
    own_agent.configured()
    go = threading.Event()

    def serve(conn):
        conn.setblocking(False)
        try:
            while True:
                conn.send(b"l" * MB)
        except BlockingIOError:
            pass
        go.wait(wire.DEADLINE)
        reset_now(conn)

    with Server(serve) as server, Tunnel(own_agent, server.port) as t:
        worker, = own_agent.children()
        eventually(lambda: quiet(worker))
        go.set()
        spent = cpu_ticks(worker)
        eventually(lambda: quiet(worker))
        assert cpu_ticks(worker) - spent <= 2
        with pytest.raises(wire.WireError) as e:
            while True:
                t.take()
        assert code_of(e) == "CODE_PORT_FAILED" and t.received > 0
        t.end()
        good_for_more(t.bulk)


def test_the_program_resets_after_its_end(agent, conn):
    go = threading.Event()

    def serve(conn):
        conn.shutdown(socket.SHUT_WR)
        go.wait(wire.DEADLINE)
        reset_now(conn)

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        assert t.take_all() == b""
        go.set()
        with pytest.raises(wire.WireError) as e:
            t.take()
        assert code_of(e) == "CODE_PORT_FAILED"
        t.end()
        good_for_more(t.bulk)


def test_a_last_word_before_the_program_leaves(agent, conn):
    """As a web server does that refuses a long upload: its answer comes, though the rest of ours is not taken."""
    def serve(conn):
        conn.recv(10)
        conn.sendall(b"too large")

    with Server(serve) as server:
        for _ in range(20):
            with Tunnel(agent, server.port) as t:
                t.send(b"q" * MB)
                assert t.take_exactly(9) == b"too large"


def test_the_host_resets(agent, conn):
    ends = []

    def serve(conn):
        try:
            conn.sendall(b"k" * 4 * MB)
            ends.append(conn.recv(1))
        except OSError as e:
            ends.append(e.errno)

    with Server(serve) as server, Tunnel(agent, server.port) as t:
        t.take()
        t.bulk.give_up()
        with pytest.raises(wire.WireError) as e:
            while True:
                t.take()
        assert code_of(e) == "CODE_DETACHED"
        good_for_more(t.bulk)
        eventually(lambda: ends)
        assert ends[0] in (errno.ECONNRESET, errno.EPIPE)


def test_a_hole_is_malformed(agent, conn):
    with Server(echo) as server, Tunnel(agent, server.port) as t:
        t.sent = 5
        t.send(b"x")
        with pytest.raises(wire.Closed) as e:
            t.take()
        assert e.value.args[0].code == pb.CODE_PROTOCOL


def test_one_after_another(own_agent):
    """Descriptors do not pile up in the worker."""
    own_agent.configured()
    with Server(echo) as server, own_agent.bulk() as b:
        t = Tunnel.__new__(Tunnel)
        counts = set()
        for i in range(100):
            t.bulk, t.sent, t.received, t.eof = b, 0, 0, False
            b.call(connect=bulk_pb.Connect(port=server.port))
            t.send(b"%d" % i)
            t.end()
            assert t.take_all() == b"%d" % i
            worker, = own_agent.children()
            counts.add(len(os.listdir(f"/proc/{worker}/fd")))
        assert max(counts) - min(counts) <= 1
        with pytest.raises(wire.WireError):
            b.call(connect=bulk_pb.Connect(port=1))
        good_for_more(b)
