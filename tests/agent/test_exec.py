"""Executions on pipes: start, end, signals, many at once."""

import errno
import hashlib
import os
import random
import signal
import struct
import time

import pytest

import wire
from agent import MB, code_of, eventually
from wire import DATA, STDOUT, frame, pb


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
