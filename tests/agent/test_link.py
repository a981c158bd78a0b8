"""The connection: HELLO, fencing, Configure, a host that does not follow the rules, the end."""

import os
import random
import signal
import socket
import struct
import time

import pytest

import wire
from agent import attach_again, code_of
from wire import CREDIT, DATA, EOF, MORE, OPTIONAL, PING, REQ, RESET, RSP, STDERR, STDIN, STDOUT, frame, pb


# ---- HELLO, epochs, Configure ----


def test_hello_tells_who_it_is(own_agent):
    h = own_agent.dial().hello
    assert len(h.boot_id) == 16 and any(h.boot_id)
    assert not h.configured and h.version.startswith("tenon ") and h.features == 3
    assert h.boot.listening_ns >= h.boot.init_ns > 0


def test_a_higher_epoch_fences(own_agent):
    first = own_agent.dial(epoch=10)
    second = own_agent.dial(epoch=11)
    with pytest.raises(wire.Closed) as e:
        first.settle(5)
    assert e.value.args[0].code == pb.CODE_FENCED
    for epoch in (11, 10, 0):
        late = own_agent.raw()
        late.send(frame(wire.HELLO, 0, wire.hello_payload(pb.Hello(role=pb.ROLE_MAIN, host_epoch=epoch))))
        with pytest.raises(wire.Closed) as e:
            late.settle(5)
        assert e.value.args[0].code == pb.CODE_FENCED and late.hello.host_epoch == 11
    assert second.ping()


def test_other_roles_are_not_served(own_agent):
    for role in (pb.ROLE_UNSPECIFIED, pb.ROLE_VMM, 77):
        c = own_agent.raw()
        c.send(frame(wire.HELLO, 0, wire.hello_payload(pb.Hello(role=role, host_epoch=1 << 60))))
        with pytest.raises(wire.Closed) as e:
            c.settle(5)
        assert e.value.args[0].code == pb.CODE_UNSUPPORTED and c.hello is not None


def test_later_generations_and_unknown_hello_fields_are_fine(own_agent):
    c = own_agent.raw()
    unknown = b"\xa2\x06\x03abc"  # field 100
    payload = wire.hello_payload(pb.Hello(role=pb.ROLE_MAIN, host_epoch=5), generation=9) + unknown
    c.send(frame(wire.HELLO, 0, payload))
    c.wait(lambda: c.hello)
    assert c.ping()


def test_exec_before_configure(own_agent):
    conn = own_agent.dial()
    with pytest.raises(wire.WireError) as e:
        conn.run("true")
    assert code_of(e) == "CODE_NOT_CONFIGURED"
    assert not conn.list()


def test_configure_once(own_agent):
    conn = own_agent.dial()
    for bad, field in [(pb.Configure(), "configure.root"),
                       (pb.Configure(root=pb.Root(initramfs=pb.InitramfsRoot()), env=[b"novalue"]), "configure.env"),
                       (pb.Configure(root=pb.Root(initramfs=pb.InitramfsRoot()), seed=b"x" * 513), "configure.seed"),
                       (pb.Configure(root=pb.Root(initramfs=pb.InitramfsRoot()), hostname=b"a/b"),
                        "configure.hostname"),
                       (pb.Configure(root=pb.Root(device=pb.DeviceRoot(device=pb.Device(name=b"../x", fstype=b"ext4")))),
                        "configure.root.device.device")]:
        with pytest.raises(wire.WireError) as e:
            conn.call(configure=bad)
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", field)
    assert conn.configure().boot.configured_ns > 0
    with pytest.raises(wire.WireError) as e:
        conn.configure()
    assert code_of(e) == "CODE_ALREADY_EXISTS"
    assert own_agent.dial().hello.configured


def test_a_plain_host_is_not_mounted_on(own_agent):
    device = pb.Device(name=b"vda", fstype=b"ext4")
    with pytest.raises(wire.WireError) as e:
        own_agent.dial().call(configure=pb.Configure(root=pb.Root(device=pb.DeviceRoot(device=device))))
    assert code_of(e) == "CODE_UNSUPPORTED"


def test_silence_and_crowds_do_not_keep_the_host_out(own_agent):
    crowd = [own_agent.raw() for _ in range(100)]
    assert own_agent.dial().ping()
    assert own_agent.fds() < 40
    for c in crowd:
        c.close()


def test_hello_is_due_in_five_seconds(own_agent):
    c = own_agent.raw()
    began = time.monotonic()
    with pytest.raises(wire.Closed):
        c.settle(8)
    assert 4.5 < time.monotonic() - began < 6.5


# ---- a host that does not follow the rules ----

HELLO_PAYLOAD = wire.hello_payload(pb.Hello(role=pb.ROLE_MAIN, host_epoch=1 << 61))


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


MALFORMED = {
    "unknown type": frame(99),
    "type 0": frame(0, 0, b"", OPTIONAL),
    "too long": struct.pack("<IIBBH", 65537, 1, REQ, 0, 0),
    "far too long": struct.pack("<IIBBH", 0xFFFFFFFF, 1, REQ, 0, 0),
    "reserved field": struct.pack("<IIBBH", 8, 0, PING, 0, 1) + b"12345678",
    "unknown flag": frame(PING, 0, b"12345678", 0x20),
    "channel on REQ": frame(REQ, 1, b"", 1),
    "channel 3": frame(CREDIT, 1, u64(0, 0), 3),
    "REQ on an even stream": frame(REQ, 2, b""),
    "REQ on stream 0": frame(REQ, 0, b""),
    "PING on a stream": frame(PING, 1, b"12345678"),
    "short PING": frame(PING, 0, b"1234"),
    "short CREDIT": frame(CREDIT, 1, b"123", 1),
    "CREDIT backwards": frame(CREDIT, 1, u64(2, 1), 1),
    "CREDIT without end": frame(CREDIT, 1, u64(0, 1 << 62), 1),
    "empty DATA": frame(DATA, 1, u64(0)),
    "DATA for a stream never opened": frame(DATA, 1, u64(0) + b"x"),
    "CREDIT for a stream never opened": frame(CREDIT, 1, u64(0, 1), 1),
    "RESET for a stream never opened": frame(RESET, 1, b""),
    "long RESET": frame(RESET, 1, b"x" * 1025),
    "RSP from the host": frame(RSP, 1, b""),
    "EVENT from the host": frame(wire.EVENT, 0, b""),
    "GAP from the host": frame(wire.GAP, 1, u64(0, 1), 1),
    "second HELLO": frame(wire.HELLO, 0, HELLO_PAYLOAD),
    "REQ that is no Request": frame(REQ, 1, b"\xff\xff\xff\xff"),
    "empty piece": frame(REQ, 1, b"", MORE),
    "another stream inside the pieces": frame(REQ, 1, b"\x12", MORE) + frame(REQ, 3, b""),
    "a message over 1 MiB": b"".join(frame(REQ, 1, b"x" * 65536, MORE) for _ in range(17)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frames_end_that_connection_only(agent, name):
    conn = agent.dial()
    x = conn.started(conn.start("sleep", "60"))
    conn.close()
    bad = agent.dial()
    bad.send(MALFORMED[name])
    with pytest.raises(wire.Closed) as e:
        bad.settle(5)
    assert e.value.args[0].code == pb.CODE_PROTOCOL
    conn = agent.dial()
    assert [r.id for r in conn.list()] == [x.id]
    conn.attach(x)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.finish(x)
    conn.ack(x)


@pytest.mark.parametrize("data", [
    frame(PING, 0, b"12345678"), frame(wire.HELLO, 0, b"TN"), frame(wire.HELLO, 0, b"HTTP/1.1" * 2),
    frame(wire.HELLO, 0, b"TNON\x00\x00\x00\x00"), frame(wire.HELLO, 0, b"TNON\x01\x00\x00\x00\xff\xff"),
    frame(wire.HELLO, 0, b"x" * 4097), b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)])
def test_what_is_no_hello_is_sent_away(agent, data):
    c = agent.raw()
    c.send(data)
    with pytest.raises(wire.Closed) as e:
        c.settle(5)
    assert e.value.args[0] is None or e.value.args[0].code == pb.CODE_PROTOCOL
    assert agent.alive()


def stream_violations():
    return {
        "stdin with a hole": lambda x: frame(DATA, x.stream, u64(10) + b"x"),
        "stdin beyond its credit": lambda x: b"".join(
            frame(DATA, x.stream, u64(o) + b"x" * 60000) for o in range(0, 600000, 60000)),
        "stdin EOF elsewhere": lambda x: frame(EOF, x.stream, u64(5)),
        "DATA on stdout": lambda x: frame(DATA, x.stream, u64(0) + b"x", STDOUT),
        "EOF on stderr": lambda x: frame(EOF, x.stream, u64(0), STDERR),
        "CREDIT on stdin": lambda x: frame(CREDIT, x.stream, u64(0, 10), STDIN),
        "CREDIT for what was not written": lambda x: frame(CREDIT, x.stream, u64(1, 10), STDOUT),
        "DATA after EOF": lambda x: frame(EOF, x.stream, u64(0)) + frame(DATA, x.stream, u64(0) + b"x"),
        "REQ on a live stream": lambda x: frame(REQ, x.stream, b""),
    }


@pytest.mark.parametrize("name", stream_violations())
def test_malformed_on_a_stream(agent, name):
    conn = agent.dial()
    x = conn.started(conn.start("sleep", "60", stdin=b"", eof=False))
    conn.send(stream_violations()[name](x))
    with pytest.raises(wire.Closed) as e:
        conn.settle(5)
    assert e.value.args[0].code == pb.CODE_PROTOCOL
    conn = attach_again(agent, x)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.finish(x)
    conn.ack(x)


def test_frames_that_crossed_are_ignored(conn):
    x = conn.run("true")
    for late in (frame(DATA, x.stream, u64(0) + b"x"), frame(CREDIT, x.stream, u64(0, 1), 1),
                 frame(EOF, x.stream, u64(0)), frame(RESET, x.stream, b"")):
        conn.send(late)
    assert conn.ping() == b"12345678"


def test_optional_frames_are_skipped(conn):
    conn.send(frame(77, 12, b"from the future", OPTIONAL) + frame(PING, 0, b"12345678", OPTIONAL))
    conn.wait(lambda: conn.pongs)


def test_unknown_request_fields_are_refused(conn):
    inner = pb.Exec(id=os.urandom(16), argv=[b"true"]).SerializeToString() + b"\xa2\x06\x03abc"
    for data, number in ((b"\xa2\x06\x00", "100"), (b"\x12" + bytes([len(inner)]) + inner, "100")):
        stream = conn.next_stream
        conn.next_stream += 2
        conn.send(frame(REQ, stream, data))
        conn.wait(lambda: stream in conn.replies)
        error = conn.replies.pop(stream).error
        assert error.code == pb.CODE_UNSUPPORTED and number in error.message


@pytest.mark.parametrize("request_, field", [
    (dict(exec=pb.Exec(id=b"i" * 16, argv=[b"true"], ring_policy=9)), "exec.ring_policy"),
    (dict(signal=pb.Signal(id=b"i" * 16, signo=9, target=9)), "signal.target")])
def test_unknown_enum_values_are_refused(conn, request_, field):
    x = conn.started(conn.start("sleep", "60", id_=b"i" * 16)) if "signal" in request_ else None
    with pytest.raises(wire.WireError) as e:
        conn.call(**request_)
    assert (code_of(e), e.value.error.field) == ("CODE_UNSUPPORTED", field)
    if x:
        conn.signal(x, 9, pb.TARGET_ALL)
        conn.finish(x)
        conn.ack(x)


def test_a_request_that_asks_for_nothing(conn):
    with pytest.raises(wire.WireError) as e:
        conn.call()
    assert code_of(e) == "CODE_INVALID_ARGUMENT"


def test_a_request_with_too_many_parts(conn):
    with pytest.raises(wire.WireError) as e:
        conn.call(exec=pb.Exec(id=os.urandom(16), argv=[b""] * 500000))
    assert code_of(e) == "CODE_RESOURCE_EXHAUSTED"
    assert conn.run("true").exit.code == 0


def test_a_host_that_does_not_read(own_agent):
    """Requests by the thousand, no answer taken: the agent stops reading, and nothing grows."""
    conn = own_agent.configured()
    x = conn.started(conn.start("sleep", "60"))
    rss = own_agent.memory()
    flood = own_agent.dial()
    flood.sock.setblocking(False)
    sent, request = 0, b""
    for i in range(20000):
        request += flood.request_frames(pb.Request(list_execs=pb.ListExecs()), flood.next_stream)
        flood.next_stream += 2
    end = time.monotonic() + 2
    while time.monotonic() < end and sent < len(request):
        try:
            sent += flood.sock.send(request[sent:sent + 65536])
        except BlockingIOError:
            time.sleep(0.01)
    assert own_agent.memory() <= rss + 1024
    conn = attach_again(own_agent, x)
    assert conn.ping()


def test_random_bytes_after_hello(agent):
    rng = random.Random(7)
    for _ in range(50):
        c = agent.dial()
        c.send(rng.randbytes(rng.randrange(1, 3000)))
        try:
            c.settle(0.05)
        except wire.Closed:
            pass
        c.close()
    assert agent.dial().ping()


# ---- the end ----


def test_shutdown(own_agent):
    conn = own_agent.configured()
    x = conn.start("sh", "-c", "trap 'echo down; exit 4' TERM; echo up; while :; do sleep 0.05; done")
    y = conn.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    conn.wait(lambda: x.stdout and y.stdout)
    conn.call(shutdown=pb.Shutdown(grace_ms=500))
    with pytest.raises(wire.WireError) as e:
        conn.run("true")
    assert code_of(e) == "CODE_SHUTTING_DOWN"
    conn.finish(x), conn.finish(y)
    assert x.stdout == b"up\ndown\n" and x.exit.code == 4 and y.exit.signal == signal.SIGKILL
    conn.ack(x), conn.ack(y)
    assert own_agent.process.wait(10) == 0


def test_shutdown_by_signal_without_a_host(own_agent):
    conn = own_agent.configured()
    conn.started(conn.start("sleep", "60"))
    conn.close()
    own_agent.process.send_signal(signal.SIGTERM)
    assert own_agent.process.wait(10) == 0


def test_version(own_agent):
    import subprocess

    import agent as module
    assert subprocess.run([module.BINARY, "--version"], capture_output=True, check=True).stdout.startswith(b"tenon ")
    assert subprocess.run([module.BINARY, "--nonsense"], capture_output=True).returncode == 2


def test_a_stale_socket_is_replaced(tmp_path):
    import subprocess

    import agent as module
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    process = subprocess.Popen([module.BINARY, "--listen", f"unix:{path}"])
    try:
        assert wire.Conn(wire.connect_unix(path)).ping()
    finally:
        process.kill()
        process.wait(5)
