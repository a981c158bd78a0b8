"""2,000 readers of one execution at once: every byte for each, in memory that does not grow with the output."""

import base64
import resource
import selectors
import socket
import time

import pytest

READERS = 2000
SLOW = 3  # of them: they read nothing until the others are through


@pytest.fixture
def descriptors():
    """Room for both ends' sockets on our side; tenond raises its own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= READERS + 256, f"this machine allows {hard} descriptors"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, READERS + 256), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss_kib(daemon):
    for line in open(f"/proc/{daemon.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


class Reader:
    """One SSE stream on a raw socket: what it says is checked as it comes, and not kept."""

    def __init__(self, client, path):
        self.socket = client.connect(60)
        self.socket.sendall(f"GET /v1{path}/output HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.rest = b""
        self.position = 0
        self.exited = False

    def read(self, expected):
        """What is there now. True once the stream has ended."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            return True
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"data":"'):
                data = base64.b64decode(line[len(b'data: {"data":"') :].rstrip(b'"}'))
                assert expected[self.position : self.position + len(data)] == data, self.position
                self.position += len(data)
            elif line == b"event: exit":
                self.exited = True
            elif line == b"0\r":
                return True  # the last chunk
        return False


def read_all(readers, expected, seconds):
    watch = selectors.DefaultSelector()
    for r in readers:
        watch.register(r.socket, selectors.EVENT_READ, r)
    left, end = len(readers), time.monotonic() + seconds
    while left:
        ready = watch.select(end - time.monotonic())
        assert ready, f"{left} readers still wait"
        for key, _ in ready:
            if key.data.read(expected):
                watch.unregister(key.fileobj)
                left -= 1
    watch.close()


def ready(readers, seconds=60):
    """Until each has its reply's head: only then does it hold a place in the execution's readers."""
    for r in readers:
        r.socket.settimeout(seconds)
        while b"\r\n\r\n" not in r.rest:
            piece = r.socket.recv(4096)
            assert piece, r.rest
            r.rest += piece
        assert r.rest.startswith(b"HTTP/1.1 200 "), r.rest
        r.rest = r.rest.partition(b"\r\n\r\n")[2]


def round_of(daemon, client, box, count, kib):
    """count readers of an execution that prints kib KiB; the most memory that tenond had meanwhile."""
    line = b"0123456789abcdef" * 63 + b"0123456789abcde\n"
    expected = line * kib
    x = client.exec(box, "sh", "-c", f"read go; yes {line.decode().strip()} | head -n {kib}")
    readers = [Reader(client, x.path) for _ in range(count)]
    try:
        ready(readers)
        peak = rss_kib(daemon)
        slow, quick = readers[:SLOW], readers[SLOW:]
        assert x.write(b"go\n", close=True).status_code == 204
        begun = time.monotonic()
        read_all(quick, expected, 100)
        took = time.monotonic() - begun
        peak = max(peak, rss_kib(daemon))
        # The daemon serves others meanwhile, and the slow ones get the same, when they come to it.
        assert client.get("/config").status_code == 200
        read_all(slow, expected, 60)
        for r in readers:
            assert r.position == len(expected) and r.exited
    finally:
        for r in readers:
            r.socket.close()
    x.kill()
    print(f"{count} readers of {kib} KiB: {took:.1f} s, peak {peak} KiB")
    return peak


@pytest.mark.timeout(300)
def test_2000_readers_of_one_execution(make_daemon, descriptors):
    daemon = make_daemon()
    client = daemon.client()
    box = client.create(image="tenon/base")["box_id"]
    assert client.post(f"/boxes/{box}/start").status_code == 200
    alone = rss_kib(daemon)
    small = round_of(daemon, client, box, READERS, 16)
    large = round_of(daemon, client, box, READERS, 256)
    # More than all buffers between here and there: the slow ones do hold back, and only themselves.
    longest = round_of(daemon, client, box, 50, 16 << 10)
    # What a connection has of its own: 64 KiB of the library, a chunk of 28 and a read position.
    assert small - alone < READERS * 110
    # Sixteen times the output is not kept for anybody.
    assert large - small < READERS * 16 and longest - large < 16 << 10
    client.remove(box)
