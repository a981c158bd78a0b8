"""The agent by itself, without a VM: executions, streams, resume, fencing, and what a hostile host may try."""

import ctypes
import errno
import hashlib
import os
import random
import signal
import socket
import struct
import time

import pytest

import wire
from agent import Agent, eventually
from wire import CREDIT, DATA, EOF, MORE, OPTIONAL, PING, REQ, RESET, RSP, STDERR, STDIN, STDOUT, frame, pb

MB = 1 << 20


@pytest.fixture(scope="module")
def agent():
    a = Agent()
    a.configured()
    yield a
    a.end()


@pytest.fixture
def conn(agent):
    c = agent.dial()
    yield c
    agent.dial().clear()  # nothing stays behind, whatever became of the test


@pytest.fixture
def own_agent():
    """For tests that count, fence or end it."""
    a = Agent()
    yield a
    a.end()


def code_of(error):
    return pb.Code.Name(error.value.code)


# ---- start and end ----


@pytest.mark.parametrize("argv, code", [(["true"], 0), (["false"], 1), (["sh", "-c", "exit 7"], 7),
                                        (["sh", "-c", "exit 255"], 255), (["/bin/true"], 0)])
def test_exit_codes(conn, argv, code):
    x = conn.run(*argv)
    assert (x.exit.code, x.exit.signal) == (code, 0)
    assert not x.exit.timed_out and not x.exit.oom_killed
    assert x.exit.duration_ns > 0


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, 64])
def test_death_by_signal_is_not_a_code(conn, signo):
    x = conn.run("sh", "-c", f"kill -{int(signo)} $$; sleep 5")
    assert (x.exit.code, x.exit.signal) == (0, signo)


def test_fresh_row(conn):
    x = conn.started(conn.start("sleep", "60"))
    assert x.state.fresh and x.state.pid > 1 and x.state.id == x.id
    assert abs(x.state.started_ns - time.time_ns()) < 5e9
    os.kill(x.state.pid, signal.SIGKILL)
    assert conn.finish(x).exit.signal == signal.SIGKILL


def test_both_channels(conn):
    x = conn.run("sh", "-c", "printf out; printf err >&2")
    assert (x.stdout, x.stderr) == (b"out", b"err")


def test_ten_megabytes_on_both_channels(conn):
    script = """import hashlib, os, sys
a, b = os.urandom(10 << 20), os.urandom(10 << 20)
import threading
t = threading.Thread(target=lambda: sys.stderr.buffer.write(b))
t.start(); sys.stdout.buffer.write(a); t.join()
sys.stdout.flush(); sys.stderr.flush()
open(sys.argv[1], 'w').write(hashlib.sha256(a).hexdigest() + hashlib.sha256(b).hexdigest())"""
    sums = f"/tmp/tenon-sums-{os.getpid()}"
    x = conn.run("/usr/bin/python3", "-c", script, sums)
    try:
        assert hashlib.sha256(x.stdout).hexdigest() + hashlib.sha256(x.stderr).hexdigest() == open(sums).read()
    finally:
        os.unlink(sums)


def test_ten_megabytes_through_stdin(conn):
    data = random.Random(1).randbytes(10 * MB)
    x = conn.run("cat", stdin=data)
    assert x.stdout == data


def test_stdin_stays_open_until_eof(conn):
    x = conn.started(conn.start("cat", stdin=b"one ", eof=False))
    conn.wait(lambda: x.stdout == b"one ")
    conn.settle(0.1)
    assert x.exit is None
    x.stdin += b"two"
    x.stdin_eof = True
    conn.feed(x)
    assert conn.finish(x).stdout == b"one two"


def test_without_stdin_it_is_empty_and_closed(conn):
    x = conn.run("sh", "-c", "cat; readlink /proc/self/fd/0")
    assert x.stdout == b"/dev/null\n" and x.state.stdin_closed


def test_a_process_that_closes_stdin_ends_it(conn):
    x = conn.started(conn.start("sh", "-c", "exec <&-; sleep 0.1; echo deaf", stdin=os.urandom(4 * MB), eof=True))
    conn.finish(x)
    conn.wait(lambda: x.stdin_closed)
    assert x.stdout == b"deaf\n" and x.exit.code == 0
    conn.send(frame(DATA, x.stream, struct.pack("<Q", 0) + b"late"))  # it crossed on the wire
    assert conn.ping()


def test_environment_is_merged(own_agent):
    conn = own_agent.configured(env=[b"PATH=/usr/bin:/bin", b"A=box", b"B=box", b"C=box"])
    x = conn.run("env", env=[b"B=exec", b"C", b"D=first", b"D=last=x", b"E="])
    assert x.stdout == b"PATH=/usr/bin:/bin\nA=box\nB=exec\nD=last=x\nE=\n"


def test_path_of_the_merged_environment_finds_it(conn, tmp_path):
    (tmp_path / "only-here").write_text("#!/bin/sh\necho found")
    (tmp_path / "only-here").chmod(0o755)
    assert conn.run("only-here", env=[b"PATH=/nonexistent:" + bytes(tmp_path)]).stdout == b"found\n"
    with pytest.raises(wire.WireError):
        conn.run("only-here")


def test_bytes_are_bytes(conn):
    raw = bytes(range(1, 256))
    x = conn.run("printenv", "RAW", env=[b"RAW=" + raw])
    assert x.stdout == raw + b"\n"
    assert conn.run("printf", b"%s", raw).stdout == raw


def test_the_longest_argument(conn):
    arg = b"a" * 131071
    assert conn.run("printf", b"%s", arg).stdout == arg


def test_a_longer_argument_names_the_limit(conn):
    with pytest.raises(wire.WireError) as e:
        conn.run("printf", b"%s", b"a" * 131072)
    assert (code_of(e), e.value.error.stage, e.value.error.errnum) == ("CODE_EXEC_FAILED", "execve", 7)
    assert "131071" in e.value.error.message and e.value.error.field == "exec.argv"


def test_more_than_linux_takes_in_all(own_agent):
    """A quarter of the stack limit, 2 MiB: the box's environment and the request's arguments together pass it."""
    conn = own_agent.configured(env=[b"PATH=/usr/bin:/bin"] + [b"E%d=" % i + b"e" * 100000 for i in range(10)])
    with pytest.raises(wire.WireError) as e:
        conn.run("printf", *[b"a" * 100000] * 10, *[b""] * 20000)
    error = e.value.error
    assert (code_of(e), error.stage, error.errnum) == ("CODE_EXEC_FAILED", "execve", 7)
    assert "quarter of the stack" in error.message


def test_many_environment_entries(conn):
    env = [b"V%d=%s" % (i, b"v" * 100) for i in range(4000)]
    x = conn.run("env", env=env)
    assert len(x.stdout.splitlines()) == 4001


@pytest.mark.parametrize("argv, kw, stage, errnum", [
    (["no-such-program"], {}, "execve", 2),
    (["/no/such/program"], {}, "execve", 2),
    (["/etc/passwd"], {}, "execve", 13),
    (["/etc"], {}, "execve", 13),
    (["true"], {"cwd": b"/no/such/folder"}, "chdir", 2),
    (["true"], {"cwd": b"/etc/passwd"}, "chdir", 20),
])
def test_a_start_that_fails_names_stage_and_errno(conn, argv, kw, stage, errnum):
    with pytest.raises(wire.WireError) as e:
        conn.run(*argv, **kw)
    error = e.value.error
    assert (code_of(e), error.stage, error.errnum) == ("CODE_EXEC_FAILED", stage, errnum)
    assert not conn.list()


def test_cwd(conn):
    assert conn.run("pwd", cwd=b"/usr").stdout == b"/usr\n"
    assert conn.run("pwd").stdout == b"/\n"


@pytest.mark.parametrize("change, field", [
    (dict(argv=[]), "exec.argv"), (dict(argv=[b""]), "exec.argv"), (dict(argv=[b"a\0b"]), "exec.argv"),
    (dict(cwd=b"relative"), "exec.cwd"), (dict(cwd=b"/a\0b"), "exec.cwd"), (dict(env=[b"A=\0"]), "exec.env"),
    (dict(env=[b"=x"]), "exec.env"), (dict(env=[b""]), "exec.env"), (dict(id=b"short"), "exec.id"),
    (dict(stdout_limit=1 << 62), "exec.stdout_limit")])
def test_bad_requests_name_the_field(conn, change, field):
    fields = dict(id=os.urandom(16), argv=[b"true"]) | change
    with pytest.raises(wire.WireError) as e:
        conn.call(exec=pb.Exec(**fields))
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", field)


@pytest.fixture
def hung_mount(tmp_path):
    """A FUSE file system that never answers: every look into it waits for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("needs /dev/fuse")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"fuse", bytes(tmp_path), b"fuse", 0, options) < 0:
        os.close(device)
        pytest.skip("needs root, to mount")
    yield bytes(tmp_path)
    os.close(device)  # ends the connection: whoever still waits gets ENOTCONN
    libc.umount2(bytes(tmp_path), 2)


def test_a_hung_start_delays_itself_alone(conn, hung_mount):
    hung = [conn.start("true", cwd=hung_mount + b"/x"), conn.start(hung_mount + b"/program"),
            conn.start("program", env=[b"PATH=" + hung_mount])]
    for _ in range(20):
        assert conn.run("true").exit.code == 0
    assert not any(x.failed or x.state for x in hung)
    for x in hung:
        conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: all(x.failed for x in hung))
    assert all((x.failed.code, x.failed.errnum) == (pb.CODE_EXEC_FAILED, errno.ECANCELED) for x in hung)
    assert [x.failed.stage for x in hung] == ["chdir", "execve", "execve"]
    eventually(lambda: not conn.list())


def test_a_hung_start_has_a_deadline(conn, hung_mount):
    x = conn.start("true", cwd=hung_mount + b"/x")
    conn.wait(lambda: x.failed, 12)
    assert (x.failed.code, x.failed.stage, x.failed.errnum) == (pb.CODE_TIMEOUT, "chdir", errno.ETIMEDOUT)
    assert not conn.list()  # answered, so gone, though its process may not be reaped yet


def test_a_lost_link_during_a_hung_start(agent, conn, hung_mount):
    x = conn.start("true", cwd=hung_mount + b"/x")
    conn.ping()
    conn.close()
    conn = agent.dial()
    conn.attach(x, wait=False)  # the answer waits for the outcome
    conn.ping()
    assert x.state is None and x.failed is None
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: x.failed)
    assert x.failed.code == pb.CODE_EXEC_FAILED


# ---- exit is not EOF ----


def test_background_child_neither_delays_nor_loses(conn):
    x = conn.started(conn.start("sh", "-c", "(sleep 0.5; echo late) & echo early"))
    began = time.monotonic()
    conn.wait(lambda: x.exit)
    assert time.monotonic() - began < 0.4
    assert x.exit.stdout_open and x.exit.stdout_total == 6
    conn.ack(x)  # the row stays: a child still holds the pipe
    conn.wait(x.drained)
    assert x.stdout == b"early\nlate\n"
    conn.wait(lambda: not conn.list())


def test_a_tail_in_the_pipe_is_counted_at_the_reap(conn):
    x = conn.start("sh", "-c", "head -c 300000 /dev/zero & exec sleep 0.1", limit=0)
    x.window = None
    conn.wait(lambda: x.exit)
    assert x.exit.stdout_total == 65536 + 65536 and x.exit.stdout_open  # our ring, and the pipe
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(lambda: STDOUT in x.eof)
    assert x.eof[STDOUT] == 300000


def test_open_is_false_when_nobody_writes_any_more(conn):
    x = conn.run("sh", "-c", "head -c 100000 /dev/zero; echo x >&2")
    assert not x.exit.stdout_open and not x.exit.stderr_open


# ---- timeout and signals ----


def test_timeout_is_term_first(conn):
    x = conn.run("sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done", timeout_ms=200)
    assert x.exit.timed_out and x.exit.code == 3 and x.stdout == b"bye\n"


def test_timeout_kills_after_the_grace(conn):
    began = time.monotonic()
    x = conn.run("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", timeout_ms=200, grace_ms=300)
    assert x.exit.timed_out and x.exit.signal == signal.SIGKILL
    assert 0.45 < time.monotonic() - began < 2


def test_grace_catches_children_of_a_leader_that_obeyed(conn):
    x = conn.start("sh", "-c", "sh -c \"trap '' TERM; echo $$; while :; do sleep 0.05; done\" & wait",
                   timeout_ms=200, grace_ms=300)
    conn.wait(lambda: x.exit)
    assert x.exit.timed_out and x.exit.signal == signal.SIGTERM and x.exit.stdout_open
    conn.wait(x.drained, 3)


def test_a_process_that_ends_in_time_is_not_timed_out(conn):
    assert not conn.run("true", timeout_ms=5000).exit.timed_out


@pytest.mark.parametrize("target", [pb.TARGET_PROCESS, pb.TARGET_GROUP, pb.TARGET_SESSION, pb.TARGET_ALL])
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGKILL])
def test_signals(conn, target, signo):
    x = conn.started(conn.start("sleep", "60"))
    conn.signal(x, signo, target)
    assert conn.finish(x).exit.signal == signo


def test_kill_to_all_takes_the_children(conn):
    x = conn.started(conn.start("sh", "-c", "sleep 61 & sleep 62 & echo ready; wait"))
    conn.wait(lambda: x.stdout)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(x.drained)


def test_signals_after_the_end(conn):
    x = conn.finish(conn.start("true"))
    with pytest.raises(wire.WireError) as e:
        conn.signal(x, signal.SIGTERM)
    assert code_of(e) == "CODE_NOT_FOUND"
    for signo in (0, 65, 4000):
        with pytest.raises(wire.WireError) as e:
            conn.signal(x, signo)
        assert e.value.error.field == "signal.signo"
    conn.ack(x)
    with pytest.raises(wire.WireError) as e:
        conn.signal(x, signal.SIGTERM)
    assert code_of(e) == "CODE_GONE"


def test_children_get_clean_signals(conn):
    x = conn.run("sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status; yes | head -n 1")
    assert x.stdout.count(b"\t0000000000000000\n") == 2 and x.stdout.endswith(b"y\n")


def test_children_get_no_descriptors(conn):
    x = conn.run("ls", "-l", "/proc/self/fd")
    assert len(x.stdout.splitlines()) == 1 + 4  # 0, 1, 2 and the folder itself


def test_children_lead_their_session(conn):
    x = conn.run("/usr/bin/python3", "-c", "import os; print(os.getsid(0) == os.getpgrp() == os.getpid())")
    assert x.stdout == b"True\n"


# ---- many ----


def test_a_thousand_in_a_row_leak_nothing(own_agent):
    conn = own_agent.configured()
    for _ in range(50):
        conn.run("true")
    fds, rss = own_agent.fds(), own_agent.memory()
    for i in range(1000):
        x = conn.run("sh", "-c", f"echo {i}; exit {i % 256}")
        assert (x.stdout, x.exit.code) == (b"%d\n" % i, i % 256)
    assert own_agent.fds() == fds
    assert own_agent.memory() <= rss + 128
    assert not own_agent.children()


@pytest.mark.parametrize("n", [50, 200])
def test_many_at_once(own_agent, n):
    conn = own_agent.configured()
    script = "head -c 1000000 /dev/zero | tr '\\0' $1; exit $2"
    all_ = [conn.start("sh", "-c", script, "sh", chr(97 + i % 26), str(i)) for i in range(n)]
    for i, x in enumerate(all_):
        conn.finish(x, 60)
        assert x.stdout == bytes([97 + i % 26]) * 1000000
        assert x.exit.code == i
    assert own_agent.memory("VmHWM") <= 16 * 1024
    for x in all_:
        conn.ack(x)
    assert not conn.list()


def test_more_than_there_is_room_for(own_agent):
    conn = own_agent.configured()
    all_ = [conn.start("true") for _ in range(1100)]
    for x in all_:
        conn.wait(x.done, 60)
    refused = [x for x in all_ if x.failed]
    assert len(refused) == 76 and all(x.failed.code == pb.CODE_RESOURCE_EXHAUSTED for x in refused)
    rows, after = [], b""
    while True:
        page = conn.call(list_execs=pb.ListExecs(after=after)).execs
        rows += page.execs
        if not page.more:
            break
        after = rows[-1].id
    assert [r.id for r in rows] == sorted(x.id for x in all_ if not x.failed)
    for x in all_:
        if not x.failed:
            conn.send(conn.request_frames(pb.Request(exec_ack=pb.ExecAck(id=x.id)), conn.next_stream))
            conn.next_stream += 2
    conn.ping()
    assert not conn.list()
    assert conn.run("true").exit.code == 0


def test_orphans_are_reaped(own_agent):
    conn = own_agent.configured()
    x = conn.run("sh", "-c", "for i in $(seq 500); do (sleep 0.2 & ) >/dev/null 2>&1 </dev/null; done", timeout=60)
    assert x.exit.code == 0
    eventually(lambda: not own_agent.children(), 20)


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


def attach_again(agent, x):
    conn = agent.dial()
    conn.attach(x)
    return conn


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


def test_cut_at_any_byte_and_resumed(agent, conn):
    """200 cuts during heavy output: not a byte lost or doubled, and stdin arrives once."""
    rng = random.Random(2026)
    data = rng.randbytes(3 * MB)
    x = conn.start("sh", "-c", "sha256sum >&2 & cat /dev/null; seq 1 3000000; wait", stdin=data)
    y = conn.start("sh", "-c", "cat", stdin=data)
    conn.started(x), conn.started(y)
    cuts = 0
    while not (x.drained() and y.drained()):
        conn.budget = rng.choice([1, 12, 13, 100, 5000, rng.randrange(1, 300000)]) if cuts < 200 else None
        try:
            conn.wait(lambda: x.drained() and y.drained(), 60)
        except wire.Closed:
            conn.close()
            cuts += 1
            conn = agent.dial()
            for e in (x, y):
                conn.attach(e, wait=False)
    assert cuts == 200
    expected = b"".join(b"%d\n" % i for i in range(1, 3000001))
    assert x.stdout == expected
    assert y.stdout == data and y.exit.code == 0
    for e in (x, y):
        conn.ack(e)


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


# ---- HELLO, epochs, Configure ----


def test_hello_tells_who_it_is(own_agent):
    h = own_agent.dial().hello
    assert len(h.boot_id) == 16 and any(h.boot_id)
    assert not h.configured and h.version.startswith("tenon ") and h.features == 0
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
    for role in (pb.ROLE_UNSPECIFIED, pb.ROLE_BULK, pb.ROLE_VMM, 77):
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
    x = conn.started(conn.start("sh", "-c", "trap 'echo down; exit 4' TERM; while :; do sleep 0.05; done"))
    y = conn.started(conn.start("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"))
    conn.call(shutdown=pb.Shutdown(grace_ms=500))
    with pytest.raises(wire.WireError) as e:
        conn.run("true")
    assert code_of(e) == "CODE_SHUTTING_DOWN"
    conn.finish(x), conn.finish(y)
    assert x.stdout == b"down\n" and x.exit.code == 4 and y.exit.signal == signal.SIGKILL
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
