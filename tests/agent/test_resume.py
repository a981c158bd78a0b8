"""Credit, cut links, repeats and acknowledgement: every byte once, every end known."""

import os
import random
import signal
import time

import pytest

import wire
from agent import MB, attach_again, code_of, eventually
from wire import RESET, STDOUT, frame, pb


# ---- credit ----


def test_without_credit_the_process_blocks(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("head", "-c", "100000000", "/dev/zero", limit=0, keep=False))
    rss = own_agent.memory()
    x.window = None
    conn.settle(0.5)
    assert x.exit is None and x.end[STDOUT] == 0
    row = conn.list()[0]
    assert (row.stdout_base, row.stdout_end) == (0, 65536)
    assert own_agent.memory() <= rss + 256
    ticks = own_agent.cpu_ticks()
    conn.settle(0.5)
    assert own_agent.cpu_ticks() <= ticks + 2, "the agent spins"
    x.window = MB
    conn.grant(x, STDOUT)
    conn.finish(x)
    assert x.end[STDOUT] == 100000000


def test_a_ring_grows_for_a_host_that_is_late(conn):
    """It acknowledges all there is, when nothing more comes: so much was on its way."""
    numbers = "".join(f"{i}\n" for i in range(1, 1_000_001)).encode()
    x = conn.start("seq", "1000000", limit=None, first_limit=16 * MB)
    heaps = []
    while x.end[STDOUT] < len(numbers):
        before = x.end[STDOUT]
        conn.settle(0.15)  # so long nothing: a busy machine is no late host
        if x.end[STDOUT] > before:
            continue
        heaps.append(before - sum(heaps))
        conn.grant(x, STDOUT, 16 * MB)
        conn.wait(lambda: x.end[STDOUT] > before)
    conn.grant(x, STDOUT, 16 * MB)
    conn.finish(x)
    assert x.stdout == numbers
    heaps = heaps[:-1]
    assert max(heaps) == MB and heaps.count(MB) > 2 and heaps.index(MB) <= 6, heaps


def test_a_kill_does_not_wait_for_output(conn):
    """The reader has given no credit and the process is stuck in write(2): the end comes all the same, with its total."""
    x = conn.started(conn.start("cat", "/dev/zero", limit=0, keep=False))
    x.window = None
    conn.settle(0.1)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: x.exit, 2)
    assert x.exit.signal == signal.SIGKILL and x.exit.stdout_total >= 65536 and x.end[STDOUT] == 0
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(x.drained)
    assert x.end[STDOUT] == x.exit.stdout_total


def test_credit_is_honoured_to_the_byte(conn):
    x = conn.started(conn.start("sh", "-c", "printf 0123456789", limit=0))
    x.window = None
    conn.wait(lambda: x.exit)
    for n in range(1, 11):
        conn.grant(x, STDOUT, n)
        conn.wait(lambda: x.end[STDOUT] == n)
        assert conn.ping() and x.end[STDOUT] == n
    assert x.stdout == b"0123456789"


def test_drop_oldest_never_blocks_and_tells(conn):
    x = conn.start("sh", "-c", "seq 1 200000; echo end", limit=0, ring_policy=pb.RING_DROP_OLDEST)
    x.window = None
    conn.wait(lambda: x.exit)
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(lambda: STDOUT in x.eof)
    assert len(x.gaps) == 1 and x.gaps[0][:2] == (STDOUT, 0)
    assert x.end[STDOUT] == x.exit.stdout_total and x.stdout.endswith(b"200000\nend\n")
    assert 49152 <= len(x.stdout) <= 65536


# ---- resume ----


def test_a_lost_connection_kills_nothing(agent, conn):
    x = conn.started(conn.start("sh", "-c", "sleep 0.3; echo survived"))
    conn.close()
    conn = attach_again(agent, x)
    assert not x.state.fresh
    assert conn.finish(x).stdout == b"survived\n"
    conn.ack(x)


def test_exit_while_nobody_is_there(agent, conn):
    x = conn.started(conn.start("sh", "-c", "echo hello; exit 5"))
    conn.close()
    time.sleep(0.1)
    conn = attach_again(agent, x)
    conn.finish(x)
    assert (x.stdout, x.exit.code) == (b"hello\n", 5)
    conn.ack(x)


def cut_somewhere(agent, conn, rng, condition):
    """Goes on until the condition holds, or the link is cut: after some bytes read, or written in the middle of a frame,
    by the host or by the agent's side. Returns whether it was cut."""
    amount = rng.choice([1, 12, 13, 100, 5000, rng.randrange(1, 100000)])
    side = rng.choice(["read", "write", "agent"])
    conn.budget, conn.send_budget = (100000, amount) if side == "write" else (amount, None)
    try:
        conn.wait(condition, 60)
        return False
    except wire.Closed:
        if side == "agent":
            agent.cut()
        return True
    finally:
        conn.close()


def test_cut_at_any_byte_and_resumed(agent, conn):
    """1,000 cuts while pipes and terminals carry output and input: not a byte lost or doubled."""
    rng = random.Random(2026)
    data, lines, tty = rng.randbytes(8 * MB), 2500000, pb.Tty()
    raw = f"stty raw -echo; echo ready; exec head -c {len(data)}"
    piped_in, typed = conn.start("cat", stdin=data), conn.start("sh", "-c", raw, tty=tty)
    piped_out, printed = conn.start("seq", "1", str(lines)), conn.start("seq", "1", str(lines), tty=tty)
    all_ = piped_in, typed, piped_out, printed
    conn.wait(lambda: all(x.state for x in all_) and b"ready" in typed.stdout)
    conn.type(typed, data)

    for _ in range(1000):
        assert cut_somewhere(agent, conn, rng, lambda: all(x.drained() for x in all_)), "too little to cut"
        conn = agent.dial()
        for x in all_:
            conn.attach(x, wait=False)
    conn.wait(lambda: all(x.drained() for x in all_), 60)

    out = b"".join(b"%d\n" % i for i in range(1, lines + 1))
    assert piped_in.stdout == data and piped_out.stdout == out
    assert typed.stdout == b"ready\n" + data and printed.stdout == out.replace(b"\n", b"\r\n")
    assert not any(x.exit.code or x.exit.signal for x in all_)
    for x in all_:
        conn.ack(x)


def test_stdin_credit_that_grew_while_nobody_was_there(agent, conn):
    data = os.urandom(400000)
    x = conn.started(conn.start("sh", "-c", "sleep 0.3; cat", stdin=data))
    conn.wait(lambda: x.stdin_acked == x.stdin_limit >= 65536)
    conn.close()
    time.sleep(0.6)
    assert attach_again(agent, x).finish(x).stdout == data


def test_attach_beyond_the_end(conn):
    x = conn.finish(conn.start("printf", "abc"))
    x.end[STDOUT] = 4
    with pytest.raises(wire.WireError) as e:
        conn.attach(x)
    assert (code_of(e), e.value.error.field) == ("CODE_OUT_OF_RANGE", "attach.stdout_end")


def test_attach_with_a_limit_below_the_end(conn):
    x = conn.finish(conn.start("printf", "abc"))
    with pytest.raises(wire.WireError) as e:
        conn.call(attach=pb.Attach(id=x.id, stdout_end=3, stdout_limit=2))
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "attach.stdout_limit")


def test_attach_takes_the_stream_over(conn):
    x = conn.started(conn.start("sleep", "60"))
    old = conn.by_stream[x.stream] = wire.Execution(x.id)
    old.stream = x.stream
    conn.attach(x)
    conn.wait(lambda: old.reset)
    assert old.reset.code == pb.CODE_DETACHED


def test_attach_below_what_was_acknowledged_is_a_gap(agent, conn):
    """A host that died with what it had acknowledged."""
    x = conn.started(conn.start("sh", "-c", "printf 0123456789; sleep 60"))
    conn.wait(lambda: x.end[STDOUT] == 10)
    conn.ping()
    x.end[STDOUT], x.out[STDOUT] = 4, bytearray(b"0123")
    conn.attach(x)
    conn.wait(lambda: x.gaps)
    assert x.gaps == [(STDOUT, 4, 10)]


def test_reset_detaches_and_output_waits(conn):
    x = conn.started(conn.start("sh", "-c", "sleep 0.2; echo waited"))
    conn.send(frame(RESET, x.stream, b""))
    del conn.by_stream[x.stream]
    conn.settle(0.4)
    assert x.stdout == b""
    conn.attach(x)
    assert conn.finish(x).stdout == b"waited\n"


# ---- repeats, acknowledgement, tombstones ----


def test_a_repeated_exec_returns_the_row(conn, tmp_path):
    log = tmp_path / "started"
    x = conn.started(conn.start("sh", "-c", f"echo once >>{log}; sleep 60"))
    again = conn.call(exec=x.request).exec
    assert not again.fresh and again.id == x.id and again.pid == x.state.pid
    eventually(log.exists)
    assert log.read_text() == "once\n"


def test_a_repeat_while_it_spawns_gets_the_outcome(conn):
    id_ = os.urandom(16)
    first = conn.start("echo", "one", id_=id_)
    second = conn.start("echo", "one", id_=id_)
    conn.finish(second)
    assert second.stdout == b"one\n"
    assert second.state.fresh and first.reset.code == pb.CODE_DETACHED or not second.state.fresh


def test_ack_leaves_a_tombstone(conn):
    x = conn.run("true")
    for request in (dict(exec=x.request), dict(attach=pb.Attach(id=x.id))):
        with pytest.raises(wire.WireError) as e:
            conn.call(**request)
        assert code_of(e) == "CODE_GONE"
    conn.ack(x)  # idempotent
    conn.call(exec_ack=pb.ExecAck(id=os.urandom(16)))


def test_ack_before_the_end_is_refused(conn):
    x = conn.started(conn.start("sleep", "60"))
    with pytest.raises(wire.WireError) as e:
        conn.ack(x)
    assert code_of(e) == "CODE_INVALID_ARGUMENT"


def test_ack_of_a_row_that_is_not_drained(conn):
    x = conn.start("printf", "abc", limit=0)
    x.window = None
    conn.wait(lambda: x.exit)
    conn.ack(x)
    assert [r.id for r in conn.list()] == [x.id]
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(lambda: x.drained())
    assert x.stdout == b"abc"
    conn.ping()
    assert not conn.list()


def test_unknown_ids(conn):
    for request in (dict(attach=pb.Attach(id=os.urandom(16))), dict(signal=pb.Signal(id=os.urandom(16), signo=9))):
        with pytest.raises(wire.WireError) as e:
            conn.call(**request)
        assert code_of(e) == "CODE_NOT_FOUND"
