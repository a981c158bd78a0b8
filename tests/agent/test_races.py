"""Things that happen at the same moment, many times over: whatever the order, no end is lost and nothing stays behind."""

import os
import random
import signal
from pathlib import Path

import pytest

import wire
from agent import eventually
from wire import STDOUT, pb

ROUNDS = 1000
KILLED = (0, signal.SIGKILL)


def ack_later(conn, *executions):
    """Acknowledges without waiting for the answers, which are thrown away when they come."""
    for x in executions:
        conn.open(pb.Request(exec_ack=pb.ExecAck(id=x.id)))
    conn.replies.clear()


def test_a_kill_and_an_exit(conn):
    """Whoever comes first: one of the two ends, never both, never none."""
    seen = set()
    for i in range(ROUNDS):
        x = conn.start("sh", "-c", f"exit {i % 256}")
        if i % 2:
            conn.started(x)
        signal_stream = conn.open(pb.Request(signal=pb.Signal(id=x.id, signo=9, target=pb.TARGET_ALL)))
        conn.wait(lambda: signal_stream in conn.replies and x.done())
        if x.failed:
            assert (x.failed.code, x.failed.errnum) == (pb.CODE_EXEC_FAILED, 125)  # ECANCELED: before execve
            seen.add("aborted")
            continue
        end = (x.exit.code, x.exit.signal)
        assert end in (KILLED, (i % 256, 0))
        seen.add("killed" if end == KILLED else "ended")
        ack_later(conn, x)
    assert len(seen) >= 2, seen
    eventually(lambda: not conn.list())


def test_a_timeout_and_an_exit(conn):
    for i in range(200):
        x = conn.finish(conn.start("sh", "-c", "sleep 0.01; exit 3", timeout_ms=random.randrange(1, 25), grace_ms=1000))
        if x.exit.timed_out:
            assert (x.exit.code, x.exit.signal) in ((0, signal.SIGTERM), (3, 0))
        else:
            assert (x.exit.code, x.exit.signal) == (3, 0)
        ack_later(conn, x)
    eventually(lambda: not conn.list())


def test_a_detach_and_an_exit(agent, conn):
    """The link goes at a random moment of a short life; the next one tells the whole of it."""
    for i in range(300):
        x = conn.start("printf", "%s", f"out{i}")
        conn.budget = random.choice([1, 30, 60, 100, 200])
        try:
            conn.finish(x)
            conn.budget = None
            ack_later(conn, x)
            continue
        except wire.Closed:
            conn.close()
        conn = agent.dial()
        try:
            conn.attach(x)
        except wire.WireError as e:
            assert e.code == pb.CODE_NOT_FOUND  # the request itself was cut: it never ran
            continue
        conn.finish(x)
        assert x.stdout == b"out%d" % i and x.exit.code == 0
        ack_later(conn, x)
    eventually(lambda: not conn.list())


def test_an_acknowledgement_and_the_last_byte(conn):
    """A child that holds the pipe ends about when the host says that it has everything."""
    for _ in range(ROUNDS // 2):
        x = conn.start("sh", "-c", "(echo tail) & exit 0")
        conn.wait(lambda: x.exit)
        ack_later(conn, x)
        conn.wait(x.drained)
        assert x.stdout == b"tail\n"
    eventually(lambda: not conn.list())


def test_stdin_and_the_end_of_its_reader(conn):
    """The process goes while bytes for it are on their way: no malformed credit, no stuck stream."""
    for _ in range(300):
        x = conn.finish(conn.start("head", "-c", "1", stdin=b"x" * 200000))
        assert x.exit.code == 0 and x.stdout == b"x"
        ack_later(conn, x)
    assert conn.ping()
    eventually(lambda: not conn.list())


def test_five_hundred_exits_at_once(own_agent, tmp_path):
    """All wait on one FIFO and end together: one SIGCHLD may stand for many (the bug of more than one init)."""
    conn = own_agent.configured()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    all_ = [conn.started(conn.start("sh", "-c", f"read x < {gate}; exit {i % 256}")) for i in range(500)]
    holder = os.open(gate, os.O_RDWR)
    os.close(holder)
    # A writer that opens and leaves releases every reader that is there; late ones need another.
    while not all(x.exit for x in all_):
        try:
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
        conn.settle(0.02)
    for i, x in enumerate(all_):
        assert (x.exit.code, x.exit.signal) == (i % 256, 0)
    ack_later(conn, *all_)
    eventually(lambda: not conn.list())
    assert not own_agent.children()


def test_double_forks_are_reaped(own_agent):
    """Daemons of daemons become the agent's children; none stays a zombie, none is taken for an execution."""
    conn = own_agent.configured()
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sh -c '(sleep 0.0$1; exit 9) & exit 8' sh $i &) ; done >/dev/null 2>&1"
    for _ in range(50):
        x = conn.run("sh", "-c", script, stdin=None)
        assert (x.exit.code, x.exit.signal) == (0, 0)
    eventually(lambda: not own_agent.children(), 20)
    assert not conn.list()


def old_and_new(conn):
    """A finished execution, and a running one that has its pid. The kernel is asked for the number; others may be quicker."""
    for _ in range(300):
        old = conn.finish(conn.start("true"))
        if old.state.pid == 0:  # it had ended before it was announced
            ack_later(conn, old)
            continue
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(old.state.pid - 1))
        except PermissionError:
            pytest.skip("needs the right to choose pids")
        new = conn.started(conn.start("sleep", "60"))
        if new.state.pid == old.state.pid:
            return old, new
        conn.signal(new, 9, pb.TARGET_ALL)
        conn.wait(new.drained)
        ack_later(conn, old, new)
    raise AssertionError("the pid never came back")


def test_a_reused_pid_is_not_hit(conn):
    """The number of a reaped process comes back as another execution's; signals for the old one find nobody."""
    old, new = old_and_new(conn)
    for target in (pb.TARGET_PROCESS, pb.TARGET_GROUP, pb.TARGET_SESSION, pb.TARGET_ALL):
        for signo in (signal.SIGTERM, signal.SIGKILL):
            try:
                conn.signal(old, signo, target)
            except wire.WireError as e:
                assert e.code == pb.CODE_NOT_FOUND
    conn.settle(0.05)
    assert new.exit is None
    conn.signal(new, signal.SIGTERM)
    assert conn.finish(new).exit.signal == signal.SIGTERM


def test_ten_thousand_in_a_row(own_agent):
    """No growth of memory, descriptors or rows."""
    conn = own_agent.configured()
    for _ in range(200):
        conn.run("true")
    fds, rss = own_agent.fds(), own_agent.memory()
    for batch in range(100):
        all_ = [conn.start("/bin/true") for _ in range(100)]
        for x in all_:
            conn.wait(x.drained)
            assert x.exit.code == 0
        ack_later(conn, *all_)
        conn.by_stream.clear()
    conn.ping()
    assert not conn.list() and not own_agent.children()
    assert own_agent.fds() == fds
    # A hundred at once use rows beyond the first few; their pages stay, and no more.
    assert own_agent.memory() <= rss + 2048
    after = own_agent.memory()
    for _ in range(1000):
        conn.run("/bin/true")
    assert own_agent.memory() <= after + 16


WIDE_PAGES = 1024 // 4  # an output that flows has such a ring until its end


def test_a_stream_of_data_costs_no_memory(own_agent):
    """Not a page for each of a hundred megabytes: what is read goes from the ring to the socket."""
    conn = own_agent.configured()
    conn.run("head", "-c", "10000000", "/dev/zero", keep=False)

    def faults():
        fields = open(f"/proc/{own_agent.pid}/stat").read().rpartition(")")[2].split()
        return int(fields[7])

    before = faults()
    x = conn.run("head", "-c", "100000000", "/dev/zero", keep=False)
    assert x.end[STDOUT] == 100000000
    assert faults() <= before + 64 + WIDE_PAGES  # of the exec itself, and its wide ring
