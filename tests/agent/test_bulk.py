"""Bulk connections: who gets one, what ends one, operations one after another. What they do is tested beside this."""

import os
import struct

import pytest

import wire
from agent import code_of, eventually
from bulk import bulk_pb
from wire import DATA, EOF, OPTIONAL, PING, REQ, frame, pb


def test_it_carries_the_main_connections_epoch(own_agent):
    conn = own_agent.configured()
    with own_agent.bulk() as b:
        assert b.hello.host_epoch == conn.epoch
    for epoch in (conn.epoch - 1, conn.epoch + 1):
        with pytest.raises(wire.Closed) as e:
            own_agent.bulk(epoch).next()
        assert e.value.args[0].code == pb.CODE_FENCED
    assert conn.ping()


def test_not_before_configure(own_agent):
    own_agent.dial()
    with pytest.raises(wire.Closed) as e:
        own_agent.bulk().next()
    assert e.value.args[0].code == pb.CODE_NOT_CONFIGURED


def test_operations_in_a_row_and_ahead(agent, conn):
    with agent.bulk() as b:
        for _ in range(3):
            with pytest.raises(wire.WireError) as e:
                b.call()
            assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "op")
        first = b.stream
        streams = [b.request() for _ in range(100)]
        for stream in streams:
            b.stream = stream
            with pytest.raises(wire.WireError):
                b.response()
        assert streams[0] == first + 2


def test_unknown_operations_and_fields_are_refused(agent, conn):
    with agent.bulk() as b:
        for payload in (b"\xfa\x01\x00", bulk_pb.BulkRequest(stat={}).SerializeToString() + b"\xf8\x07\x01"):
            b.stream += 2
            b.send(frame(REQ, b.stream, payload))
            with pytest.raises(wire.WireError) as e:
                b.response()
            assert code_of(e) == "CODE_UNSUPPORTED"


@pytest.mark.parametrize("data", [
    frame(PING, 0, b"12345678"), frame(REQ, 1, b"\xff\xff"), frame(DATA, 3, struct.pack("<Q", 0) + b"x"),
    frame(EOF, 5, struct.pack("<Q", 0)), frame(99, 0, b""), b"\xff" * 64])
def test_malformed_ends_that_connection_only(agent, conn, data):
    with agent.bulk() as b, agent.bulk() as other:
        b.send(data)
        with pytest.raises(wire.Closed) as e:
            b.next()
        assert e.value.args[0].code == pb.CODE_PROTOCOL
        with pytest.raises(wire.WireError):
            other.call()
    assert conn.ping()


def test_optional_frames_are_skipped(agent, conn):
    with agent.bulk() as b:
        b.send(frame(99, 0, b"of a generation to come", OPTIONAL))
        with pytest.raises(wire.WireError):
            b.call()


def test_it_outlives_the_main_connection(agent):
    conn = agent.dial()
    with agent.bulk() as b:
        conn.close()
        agent.dial()
        with pytest.raises(wire.WireError):
            b.call()


def test_workers_end_with_their_connections(own_agent):
    conn = own_agent.configured()
    fds = own_agent.fds()
    for _ in range(3):
        open_ = [own_agent.bulk() for _ in range(40)]
        eventually(lambda: len(own_agent.children()) == 40)  # HELLO comes before the fork
        for b in open_:
            b.close()
        eventually(lambda: not own_agent.children())
    eventually(lambda: own_agent.fds() == fds)
    assert conn.ping()


def test_as_many_as_there_are_places(own_agent):
    conn = own_agent.configured()
    open_ = [own_agent.bulk() for _ in range(256)]
    with pytest.raises(wire.Closed) as e:
        own_agent.bulk().next()
    assert e.value.args[0].code == pb.CODE_RESOURCE_EXHAUSTED
    open_.pop().close()
    eventually(lambda: len(own_agent.children()) == 255)
    with pytest.raises(wire.WireError):
        own_agent.bulk().call()
    assert conn.run("true").exit.code == 0
    for b in open_:
        b.close()


def test_a_worker_has_nothing_of_the_agents(agent, conn):
    with agent.bulk() as b:
        with pytest.raises(wire.WireError):
            b.call()
        pid, = agent.children()
        assert len(os.listdir(f"/proc/{pid}/fd")) <= 8


def test_shutdown_does_not_wait_for_idle_ones(own_agent):
    conn = own_agent.configured()
    with own_agent.bulk() as b:
        with pytest.raises(wire.WireError):
            b.call()
        conn.call(shutdown=pb.Shutdown(grace_ms=30000))
        assert own_agent.process.wait(5) == 0
