"""tenon-vmm with real QEMU and a bare guest (guests/vsock_peer.c): the vsock device, the life of the box, its sockets."""
import hashlib
import json
import os
import random
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from vmm import BOOT_SECONDS, KERNEL, TOP, VMM, Vmm
from plainpb import field, fields  # of tests/agent, where vmm has looked

PEER = TOP / "build/tests/e2e/guests/vsock_peer"
ECHO, SINK, SOURCE, STALL, DIAL, COMMAND = range(5001, 5007)
PATTERN = bytes(range(251))


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    out = tmp_path_factory.mktemp("peer") / "peer.cpio"
    subprocess.run([TOP / "rootfs/initramfs.sh", PEER, out], check=True, timeout=60)
    return out


@pytest.fixture(scope="module")
def vmm(initrd):
    """The box that tests share which leave it as they found it."""
    v = Vmm(initrd)
    try:
        assert v.ready == "ready"
        yield v.up()
    finally:
        v.close()


@pytest.fixture
def start(initrd):
    started = []

    def go(*args, **kw):
        started.append(Vmm(initrd, *args, **kw))
        return started[-1]

    yield go
    for v in started:
        v.close()


def read_all(s):
    parts = []
    while True:
        part = s.recv(1 << 18)
        if not part:
            return b"".join(parts)
        parts.append(part)


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        assert part, f"end after {len(data)} of {n} bytes"
        data += part
    return data


def closed(s):
    """The other end has closed; a reset means that it left bytes of ours unread."""
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(true, seconds, what):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# ---- the device ----

def test_ping(vmm):
    with vmm.dial(ECHO) as s:
        for i in range(500):
            message = bytes([i % 256]) * 64
            s.sendall(message)
            assert read_exactly(s, 64) == message


def test_hundred_connections_full_duplex(vmm):
    """Each sends its own bytes while it reads them back; all at once."""
    size = 300_000
    sel = selectors.DefaultSelector()
    peers = []
    for i in range(100):
        s = vmm.dial(ECHO)
        s.setblocking(False)
        peer = {"s": s, "out": random.Random(i).randbytes(size), "sent": 0, "in": bytearray()}
        sel.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
        peers.append(peer)
    deadline = time.monotonic() + 120
    while sel.get_map():
        assert time.monotonic() < deadline, sorted(len(p["in"]) for p in peers)
        for key, events in sel.select(1):
            p = key.data
            if events & selectors.EVENT_WRITE:
                p["sent"] += p["s"].send(p["out"][p["sent"]:p["sent"] + 65536])
                if p["sent"] == size:
                    sel.modify(p["s"], selectors.EVENT_READ, p)
            if events & selectors.EVENT_READ:
                p["in"] += p["s"].recv(1 << 18)
                if len(p["in"]) == size:
                    sel.unregister(p["s"])
    for p in peers:
        assert hashlib.sha256(p["in"]).digest() == hashlib.sha256(p["out"]).digest()
        p["s"].close()


def test_200_megabytes_each_way(vmm):
    size, block = 200_000_000, random.Random(1).randbytes(1_000_000)
    sent, got = hashlib.sha256(), hashlib.sha256()
    with vmm.dial(ECHO, timeout=120) as s:
        def send():
            for _ in range(size // len(block)):
                sent.update(block)
                s.sendall(block)
            s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        total = 0
        while part := s.recv(1 << 18):
            got.update(part)
            total += len(part)
        sender.join()
    assert total == size
    assert got.digest() == sent.digest()


def test_source_and_sink(vmm):
    size = 50_000_000
    with vmm.dial(SOURCE) as s:
        s.sendall(b"%d\n" % size)
        data = read_all(s)
    assert len(data) == size
    assert data == (PATTERN * (size // 251 + 1))[:size]
    with vmm.dial(SINK) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b"%d\n" % size


def test_rapid_connect_and_close(vmm):
    for _ in range(500):
        vmm.dial(ECHO).close()
    with vmm.dial(ECHO) as s:
        s.sendall(b"still there")
        assert read_exactly(s, 11) == b"still there"


def test_close_with_data_under_way(vmm):
    for _ in range(50):
        with vmm.dial(ECHO) as s:
            s.sendall(b"x" * 200_000)
    with vmm.dial(ECHO) as s:
        s.sendall(b"fine")
        assert read_exactly(s, 4) == b"fine"


def test_stalled_readers_hold_nobody(vmm):
    """One guest that does not read, one client that does not: both fill their windows and no more."""
    with vmm.dial(STALL) as to_guest, vmm.dial(SOURCE) as from_guest, vmm.dial(ECHO) as s:
        from_guest.sendall(b"100000000\n")
        to_guest.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                to_guest.send(b"x" * 65536)
        began = time.monotonic()
        for _ in range(200):
            s.sendall(b"y" * 64)
            read_exactly(s, 64)
        assert time.monotonic() - began < 20
        pid = vmm.process.pid
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        shared = int(Path(f"/proc/{pid}/statm").read_text().split()[2])
        assert (rss - shared) * 4096 < 16 << 20


def test_closed_port_is_refused_at_once(vmm):
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        vmm.dial(9999)
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("line", [b"CONNECT\n", b"CONNECT x\n", b"CONNECT -1\n", b"CONNECT 4294967295\n",
                                  b"CONNECT 99999999999\n", b"connect 1\n", b"GET / HTTP/1.1\r\n", b"\0" * 100])
def test_bad_connect_lines(vmm, line):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1.5)
        s.connect(str(vmm.run / "vsock.sock"))
        s.sendall(line)
        assert closed(s)


def test_connect_line_has_a_deadline(vmm):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(vmm.run / "vsock.sock"))
        s.sendall(b"CONN")
        began = time.monotonic()
        assert closed(s)
        assert 1 < time.monotonic() - began < 5


def test_bytes_right_behind_the_connect_line(vmm):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(vmm.run / "vsock.sock"))
        s.sendall(b"CONNECT 5001\nearly")
        data = b""
        while not data.endswith(b"early"):
            part = s.recv(100)
            assert part
            data += part
        assert data.startswith(b"OK ")


def test_half_close_by_the_client(vmm):
    with vmm.dial(SINK) as s:
        s.sendall(b"12345")
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b"5\n"


def test_guest_dials_a_listener(vmm):
    with socket.socket(socket.AF_UNIX) as listener:
        path = vmm.run / "vsock.sock_7007"
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        with vmm.dial(DIAL) as s:
            s.sendall(b"7007\n")
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(10)
                assert read_all(s) == b"connected\n"
                peer.sendall(b"hello" * 1000)
                assert read_exactly(peer, 5000) == b"hello" * 1000
                peer.shutdown(socket.SHUT_WR)
                assert peer.recv(1) == b""
        path.unlink()


def test_guest_dials_nobody(vmm):
    with vmm.dial(DIAL) as s:
        s.sendall(b"7008\n")
        assert read_all(s) == b"error 104\n"  # ECONNRESET: Linux's word for a refused vsock dial


# ---- vmm.sock ----

def parse(data):
    return dict(fields(data))


HELLO, REQ, RSP, PING, PONG, GOAWAY = 1, 2, 3, 10, 11, 12


class Client:
    def __init__(self, vmm, hello=True):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(20)
        self.s.connect(str(vmm.run / "vmm.sock"))
        self.stream = 1
        if hello:
            self.send(0, HELLO, b"TNON" + struct.pack("<HH", 1, 0) + field(1, 3))
            _, kind, _, payload = self.receive()
            assert kind == HELLO and payload[:4] == b"TNON" and parse(payload[8:])[1] == 3

    def send(self, stream, kind, payload, flags=0):
        self.s.sendall(struct.pack("<IIBBH", len(payload), stream, kind, flags, 0) + payload)

    def receive(self):
        n, stream, kind, flags, _ = struct.unpack("<IIBBH", read_exactly(self.s, 12))
        return stream, kind, flags, read_exactly(self.s, n)

    def request(self, operation, message=b""):
        stream, self.stream = self.stream, self.stream + 2
        self.send(stream, REQ, field(operation, message))
        got, kind, more, payload = self.receive()
        assert got == stream and kind == RSP
        while more & 0x40:
            _, _, more, part = self.receive()
            payload += part
        return parse(payload)

    def qmp(self, command):
        return self.request(3, field(1, json.dumps(command).encode()))


def test_status(vmm):
    with vmm.dial(ECHO):
        status = parse(Client(vmm).request(1)[2])
    assert status[1] == vmm.process.pid
    assert status[2] == int(Path(f"/proc/{vmm.process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert status[3] == vmm.qemu
    assert abs(status[4] / 1e9 - time.time()) < 600
    assert status[5] == b"running"
    assert status[6] >= 1


def test_qmp_passes_through(vmm):
    c = Client(vmm)
    assert json.loads(parse(c.qmp({"execute": "query-status"})[4])[1])["return"]["running"] is True
    assert "error" in json.loads(parse(c.qmp({"execute": "no-such-thing"})[4])[1])
    assert parse(c.request(3, field(1, b"not json"))[1])[1] == 3  # INVALID_ARGUMENT
    assert parse(c.request(3, field(1, b'{"id": 1}'))[1])[1] == 3
    big = c.qmp({"execute": "query-qmp-schema"})  # some 200 KB
    assert parse(big[1])[1] == 8  # RESOURCE_EXHAUSTED


def test_console_tail(vmm):
    result = parse(Client(vmm).request(4, field(1, 50_000))[5])
    assert b"vsock_peer: up" in result[1]
    assert result[2] >= len(result[1])
    assert len(parse(Client(vmm).request(4, field(1, 100))[5])[1]) == 100


def test_connections_survive_a_pause(vmm):
    c = Client(vmm)
    with vmm.dial(ECHO) as s:
        s.sendall(b"before")
        assert read_exactly(s, 6) == b"before"
        c.qmp({"execute": "stop"})
        assert parse(c.request(1)[2])[5] == b"paused"
        s.sendall(b"during")
        c.qmp({"execute": "cont"})
        assert read_exactly(s, 6) == b"during"


def test_device_unplugged_and_plugged_again(start):
    """What a memory snapshot will do: the guest's listener survives, connections do not."""
    v = start().up()
    c = Client(v)

    def qmp(command, **arguments):
        return json.loads(parse(c.qmp({"execute": command, "arguments": arguments})[4])[1])

    with v.dial(ECHO) as old:
        assert "return" in qmp("device_del", id="vsock0")
        wait_until(lambda: "return" in qmp("device_add", driver="vhost-user-vsock-pci", id="vsock0", chardev="vhost",
                                           bus="vsock-port"), 10, "vsock0 stays plugged")
        v.up()
        assert closed(old)
    with v.dial(ECHO) as s:
        s.sendall(b"again")
        assert read_exactly(s, 5) == b"again"


def test_rule_breakers_lose_their_connection_only(vmm):
    before = Client(vmm, hello=False)
    before.send(1, REQ, field(1, b""))
    assert before.receive()[1] == GOAWAY
    again = Client(vmm)
    again.request(1)
    again.stream = 1
    again.send(1, REQ, field(1, b""))
    assert again.receive()[1] == GOAWAY
    garbage = Client(vmm)
    garbage.s.sendall(b"\xff" * 64)
    assert garbage.receive()[1] == GOAWAY
    c = Client(vmm)
    c.send(0, PING, b"12345678")
    assert c.receive()[1:] == (PONG, 0, b"12345678")


def test_stop_answers_when_all_is_done(start):
    v = start()
    c = Client(v)
    assert 3 in c.request(2)
    assert v.exit_record()["reason"] == "stopped"
    assert gone(v.qemu)


# ---- life and death ----

def test_sigterm(start):
    v = start().up()
    began = time.time()
    v.process.send_signal(signal.SIGTERM)
    record = v.ended(8)
    assert record["reason"] == "stopped"
    assert record["qemu_exit_code"] == 0
    assert began - 1 < record["at"] / 1000 < time.time() + 1
    assert record["started_at"] < record["at"]
    assert gone(v.qemu)
    assert v.process.returncode == 0
    assert list(v.run.iterdir()) == []


def test_sigterm_while_qemu_hangs(start):
    v = start()
    os.kill(v.qemu, signal.SIGSTOP)
    v.process.send_signal(signal.SIGTERM)
    record = v.ended(8)
    assert record["reason"] == "stopped" and record["qemu_signal"] == signal.SIGKILL
    assert gone(v.qemu)


def test_qemu_dies_with_tenon_vmm(start):
    v = start().up()
    v.process.kill()
    wait_until(lambda: gone(v.qemu), 1, "QEMU lives on")


def test_qemu_killed(start):
    v = start().up()
    with v.dial(ECHO) as s:
        os.kill(v.qemu, signal.SIGKILL)
        record = v.ended()
        assert s.recv(1) == b""
    assert record["reason"] == "qemu_died" and record["qemu_signal"] == signal.SIGKILL


@pytest.mark.parametrize("word, reason", [("poweroff", "guest_shutdown"), ("panic", "guest_reset")])
def test_guest_ends(start, word, reason):
    v = start().up()
    v.dial(COMMAND).sendall(word.encode() + b"\n")
    record = v.ended()
    assert record["reason"] == reason and record["qemu_exit_code"] == 0
    if word == "panic":
        assert "Kernel panic" in v.console()


def test_panic_at_boot(start):
    v = start(append="peer_mode=panic")
    assert v.ready == "ready"
    assert v.ended(BOOT_SECONDS)["reason"] == "guest_reset"
    assert "Attempted to kill init" in v.console()


def test_console_is_bounded(start):
    v = start(append="peer_mode=spam")
    old, new = v.state / "console.log.1", v.state / "console.log"
    wait_until(old.exists, BOOT_SECONDS + 60, "no rotation")
    inode = old.stat().st_ino
    wait_until(lambda: old.stat().st_ino != inode, 60, "no second rotation")
    assert old.stat().st_size <= 1 << 20 and new.stat().st_size <= 1 << 20
    tail = parse(Client(v).request(4, field(1, 60_000))[5])
    assert len(tail[1]) == 60_000 and b"spam line" in tail[1] and tail[2] > 2 << 20


def test_start_fails(start, tmp_path):
    v = start("--disk", f"{tmp_path}/none,format=raw,readonly=on")
    assert "none" in v.ready and v.process.wait(10) != 0
    record = v.exit_record()
    assert record["reason"] == "start_failed" and "none" in record["message"] and record["qemu_exit_code"] == 1


def test_second_one_on_the_same_box_is_refused(vmm):
    r = subprocess.run([VMM, "--run-dir", vmm.run, "--state-dir", vmm.state, "--kernel", KERNEL, "--initrd", KERNEL,
                        "--cpus", "1", "--memory", "64", "--accel", "tcg", "--cid", "9"],
                       capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "another tenon-vmm" in r.stderr


@pytest.mark.parametrize("option, value", [("--cpus", "0"), ("--cid", "2"), ("--disk", "x"), ("--accel", "xen"),
                                           ("--memory", "-1"), ("--machine", "pc")])
def test_bad_options(option, value):
    r = subprocess.run([VMM, option, value], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2 and option in r.stderr


def test_disks(start, tmp_path):
    names = ["a, comma.raw", "b.qcow2"]
    (tmp_path / names[0]).write_bytes(b"\0" * (1 << 20))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / names[1], "2M"], check=True, timeout=20)
    v = start("--disk", f"{tmp_path}/{names[0]},format=raw,readonly=on",
              "--disk", f"{tmp_path}/{names[1]},format=qcow2,readonly=off")
    assert v.ready == "ready"
    blocks = json.loads(parse(Client(v).qmp({"execute": "query-block"})[4])[1])["return"]
    assert [(b["qdev"].split("/")[-2], b["inserted"]["ro"]) for b in blocks] == [("disk0", True), ("disk1", False)]
