"""Executions on a terminal: its size, its line discipline, its foreground, its hang-up."""

import hashlib
import os
import random
import re
import signal
import time

import pytest

import wire
from agent import MB, attach_again, code_of, eventually
from wire import STDERR, STDOUT, pb

UNKNOWN = (1 << 64) - 1
RAW = "stty raw -echo; echo ready; "  # what comes after "ready" reaches the program as it is


def start(conn, script, size=(0, 0), **kw):
    return conn.start("sh", "-c", script, tty=pb.Tty(rows=size[0], cols=size[1]), **kw)


def run(conn, script, **kw):
    x = conn.started(start(conn, script, **kw))
    conn.wait(x.drained)
    conn.ack(x)
    return x


def ready(conn, script, **kw):
    """Started, and past its "ready"."""
    x = start(conn, script, **kw)
    conn.wait(lambda: b"ready" in x.stdout)
    return x


def lines(n):
    return b"".join(b"%d\r\n" % i for i in range(1, n + 1))


# ---- what it is ----


@pytest.mark.parametrize("asked, seen", [((40, 123), b"40 123\r\n"), ((0, 0), b"24 80\r\n"), ((0, 65535), b"24 65535\r\n")])
def test_its_size_is_there_from_the_start(conn, asked, seen):
    assert run(conn, "stty size", size=asked).stdout == seen


def test_all_three_are_the_terminal(conn):
    x = run(conn, "for i in 0 1 2; do readlink /proc/self/fd/$i; done; tty; ls /proc/self/fd | wc -l")
    name, *rest = x.stdout.split()
    assert re.fullmatch(rb"/dev/pts/\d+", name) and rest == [name, name, name, b"4"]  # 0–2, and the folder itself
    assert x.state.tty and not x.state.stdin_closed


def test_it_is_the_controlling_one(conn):
    script = "import os; print(os.tcgetpgrp(0) == os.getpgrp() == os.getsid(0) == os.getpid()); open('/dev/tty', 'w').write('here')"
    x = conn.finish(conn.start("/usr/bin/python3", "-c", script, tty=pb.Tty()))
    assert x.stdout == b"True\r\nhere"


def test_its_modes_are_sane(conn):
    modes = run(conn, "stty -a").stdout.split()
    assert {b"iutf8", b"icanon", b"isig", b"echo", b"icrnl", b"opost", b"onlcr", b"ixon"} <= set(modes)


def test_stderr_has_ended_at_nothing(conn):
    x = start(conn, "echo out; echo err >&2; sleep 60")
    conn.wait(lambda: x.stdout.endswith(b"err\r\n"))
    assert x.stdout == b"out\r\nerr\r\n" and x.eof == {STDERR: 0}


@pytest.mark.parametrize("size, field", [((65536, 0), "exec.tty.rows"), ((0, 1 << 31), "exec.tty.cols")])
def test_a_size_out_of_bounds(conn, size, field):
    with pytest.raises(wire.WireError) as e:
        run(conn, "true", size=size)
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", field)
    assert not conn.list()


# ---- the end ----


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(conn, code):
    x = run(conn, f"echo x; exit {code}")
    assert (x.exit.code, x.exit.signal, x.stdout) == (code, 0, b"x\r\n")
    assert (x.exit.stdout_total, x.exit.stdout_open) == (3, False)


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_death_by_signal(conn, signo):
    assert run(conn, f"kill -{int(signo)} $$; sleep 5").exit.signal == signo


def test_every_line_in_its_order(conn):
    """10 MB through one reader."""
    n = 1300000
    x = run(conn, f"seq 1 {n}")
    assert len(x.stdout) > 10 * MB and x.stdout == lines(n)
    assert x.exit.code == 0 and x.eof[STDOUT] == len(x.stdout)


@pytest.mark.parametrize("argv, errnum", [("no-such-program", 2), ("/no/such/program", 2), ("/etc/passwd", 13), ("/etc", 13)])
def test_a_bad_program_fails_at_once(conn, argv, errnum):
    began = time.monotonic()
    with pytest.raises(wire.WireError) as e:
        conn.started(conn.start(argv, tty=pb.Tty()))
    assert (code_of(e), e.value.error.stage, e.value.error.errnum) == ("CODE_EXEC_FAILED", "execve", errnum)
    assert time.monotonic() - began < 1 and not conn.list()


def test_a_background_child_holds_the_terminal_but_not_the_exit(agent, conn):
    x = start(conn, "trap '' HUP; (sleep 0.5; echo late) & echo early")
    conn.wait(lambda: x.exit)
    assert (x.exit.stdout_total, x.exit.stdout_open) == (UNKNOWN, True)
    assert STDOUT not in x.eof and not x.stdin_closed
    conn.wait(x.drained)
    assert x.stdout == b"early\r\nlate\r\n" and x.eof[STDOUT] == 13
    conn.wait(lambda: x.stdin_closed)  # the terminal is gone
    conn.close()
    conn = attach_again(agent, x)
    conn.wait(x.drained)
    assert (x.exit.stdout_total, x.exit.stdout_open) == (13, True)  # known by now; open as it was at the reap
    conn.ack(x)
    assert not conn.list()


def test_the_tail_waits_for_credit(conn):
    x = conn.started(start(conn, "seq 1 20000; exit 3", limit=0))  # the terminal itself holds little
    x.window = None
    eventually(lambda: conn.list()[0].stdout_end == 65536)
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(x.drained)
    assert x.stdout == lines(20000) and x.exit.code == 3


def test_a_program_may_leave_its_terminal_and_come_back(agent, conn):
    """As login does. Until the session's leader has ended, that nobody holds the terminal open is not its end; nor does
    it make the agent spin, or lose what is typed meanwhile."""
    script = """import os, sys, time
print("ready", flush=True)
for fd in 0, 1, 2: os.close(fd)
time.sleep(1)
tty = os.open("/dev/tty", os.O_RDWR)
os.write(tty, b"back " + os.read(tty, 100))"""
    for policy in pb.RING_BLOCK, pb.RING_DROP_OLDEST:
        x = conn.start("/usr/bin/python3", "-c", script, tty=pb.Tty(), ring_policy=policy)
        conn.wait(lambda: b"ready" in x.stdout)
        conn.settle(0.2)
        conn.type(x, b"typed\n")
        ticks = agent.cpu_ticks()
        conn.settle(0.5)
        assert agent.cpu_ticks() <= ticks + 2, "the agent spins"
        assert not x.exit and STDOUT not in x.eof and not x.stdin_closed
        conn.wait(x.drained)
        assert x.exit.code == 0 and x.stdout.endswith(b"back typed\r\n")


def test_kill_all(conn):
    x = ready(conn, "trap '' HUP TERM; sleep 61 & sleep 62 & echo ready; wait")
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(x.drained)
    assert x.exit.signal == signal.SIGKILL


def test_timeout(conn):
    x = run(conn, "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done", timeout_ms=200)
    assert x.exit.timed_out and x.exit.code == 3 and x.stdout.endswith(b"bye\r\n")  # a shell may tell of its child first
    x = run(conn, "trap '' TERM; while :; do sleep 0.05; done", timeout_ms=100, grace_ms=100)
    assert x.exit.timed_out and x.exit.signal == signal.SIGKILL


# ---- input ----


@pytest.mark.parametrize("typed, out", [(b"", b""), (b"abc\n", b"abc\r\n"), (b"abc", b"abc"), (b"abc\r", b"abc\r\n"),
                                        (b"a\nbc", b"a\r\nbc"), (b"abc\x04", b"abc")])
def test_the_end_of_input_ends_a_reader(conn, typed, out):
    """And leaves nothing behind: not a second end, which would be for the next reader."""
    x = ready(conn, "stty -echo; echo ready; cat; stty -icanon min 0 time 2; head -c 1 | wc -c")
    conn.type(x, typed, eof=True)
    conn.wait(x.drained)
    assert x.stdout == b"ready\r\n" + out + b"0\r\n" and x.exit.code == 0


def test_in_raw_mode_the_end_of_input_is_one_character(conn):
    x = ready(conn, RAW + "head -c 4 | od -An -tx1")
    conn.type(x, b"abc", eof=True)
    conn.wait(x.drained)
    assert x.stdout.split() == [b"ready", b"61", b"62", b"63", b"04"]


def test_without_its_character_input_does_not_end(conn):
    x = ready(conn, "stty -echo eof undef; echo ready; cat")
    conn.type(x, b"abc\n", eof=True)
    conn.wait(lambda: x.stdout.endswith(b"abc\r\n"))
    conn.settle(0.2)
    assert not x.exit


def test_input_is_echoed_and_edited(conn):
    x = ready(conn, "echo ready; cat")
    conn.type(x, b"wrong\x15right\n", eof=True)
    conn.wait(x.drained)
    assert x.stdout.endswith(b"right\r\nright\r\n")


def test_four_megabytes_into_a_raw_terminal(conn):
    data = random.Random(3).randbytes(4 * MB)
    x = ready(conn, RAW + f"head -c {len(data)} | sha256sum")
    conn.type(x, data)
    conn.wait(x.drained)
    assert hashlib.sha256(data).hexdigest().encode() in x.stdout


def test_lines_faster_than_they_are_read(conn):
    """Canonical mode: the kernel's buffer holds 4,095 bytes, and refuses more until a line is read."""
    data = b"".join(b"%d\n" % i for i in range(50000))
    x = ready(conn, f"stty -echo; echo ready; head -c {len(data)} | sha256sum")
    conn.type(x, data)
    conn.wait(x.drained)
    assert hashlib.sha256(data).hexdigest().encode() in x.stdout


def test_a_line_longer_than_the_kernel_takes_is_cut(conn):
    """As on any terminal: the rest of the line is lost, what follows is not."""
    x = ready(conn, "stty -echo; echo ready; head -n 1 | tr -d '\\n' | wc -c; cat")
    conn.type(x, b"a" * 200000 + b"\n")
    conn.wait(lambda: b"4095" in x.stdout)
    conn.type(x, b"next\n", eof=True)
    conn.wait(x.drained)
    assert x.stdout.endswith(b"next\r\n") and x.exit.code == 0


def test_input_that_nobody_reads_waits_at_no_cost(agent, conn):
    x = ready(conn, RAW + "exec sleep 60")
    conn.type(x, bytes(MB))
    conn.wait(lambda: x.stdin_acked == x.stdin_limit)
    conn.settle(0.2)
    ticks, acked = agent.cpu_ticks(), x.stdin_acked
    conn.settle(1.2)
    assert agent.cpu_ticks() <= ticks + 2, "the agent spins"
    assert acked == x.stdin_acked < 200000
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: x.drained() and x.stdin_closed)


def test_a_stopped_terminal_goes_on(conn):
    x = ready(conn, "stty -echo; echo ready; while read l; do echo got $l; done")
    conn.type(x, b"\x13one\n")
    conn.settle(0.2)
    assert b"got" not in x.stdout
    conn.type(x, b"\x11", eof=True)
    conn.wait(x.drained)
    assert x.stdout == b"ready\r\ngot one\r\n"


# ---- backpressure ----


def test_a_full_ring_and_then_credit(agent, conn):
    x = conn.started(start(conn, "seq 1 300000", limit=0))
    x.window = None
    for credit in 1, 2, 4095, 4097, 65536, 65537, 131072, 700000:
        eventually(lambda: conn.list()[0].stdout_end == x.end[STDOUT] + 65536)
        ticks = agent.cpu_ticks()
        conn.settle(0.1)
        assert agent.cpu_ticks() <= ticks + 1, "the agent spins"
        while x.end[STDOUT] < credit:
            before = x.end[STDOUT]
            conn.grant(x, STDOUT, credit)
            conn.wait(lambda: x.end[STDOUT] > before)
        assert x.end[STDOUT] == credit
        conn.grant(x, STDOUT, credit)  # acknowledged, without more: the ring is filled again
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(x.drained)
    assert x.stdout == lines(300000)


def test_drop_oldest(agent, conn):
    x = start(conn, "seq 1 200000; echo end; exec sleep 60", limit=0, ring_policy=pb.RING_DROP_OLDEST)
    x.window = None
    eventually(lambda: conn.list()[0].stdout_end == len(lines(200000)) + 5)
    ticks = agent.cpu_ticks()
    conn.settle(0.3)
    assert agent.cpu_ticks() <= ticks + 1, "the agent spins"
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(lambda: x.stdout.endswith(b"200000\r\nend\r\n"))
    assert len(x.gaps) == 1 and x.gaps[0][:2] == (STDOUT, 0) and 49152 <= len(x.stdout) <= 65536
    assert (lines(200000) + b"end\r\n").endswith(x.stdout)


# ---- size and signals ----


def test_resize_is_told(conn):
    x = ready(conn, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    for asked, seen in ((30, 100), b"30 100\r\n"), ((65535, 1), b"65535 1\r\n"), ((0, 0), b"24 80\r\n"):
        conn.resize(x, *asked)
        conn.wait(lambda: x.stdout.endswith(seen))


@pytest.mark.parametrize("size, field", [(pb.Tty(rows=65536), "resize.size.rows"), (pb.Tty(cols=65536), "resize.size.cols"),
                                         (None, "resize.size")])
def test_resize_out_of_bounds(conn, size, field):
    x = conn.started(start(conn, "sleep 60"))
    with pytest.raises(wire.WireError) as e:
        conn.call(resize=pb.Resize(id=x.id, size=size))
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", field)


def test_resize_of_what_has_no_terminal(conn):
    x = conn.finish(conn.start("true"))
    for id_, code, field in ((x.id, "CODE_INVALID_ARGUMENT", "resize.id"), (b"short", "CODE_INVALID_ARGUMENT", "resize.id"),
                             (os.urandom(16), "CODE_NOT_FOUND", "")):
        with pytest.raises(wire.WireError) as e:
            conn.call(resize=pb.Resize(id=id_, size=pb.Tty()))
        assert (code_of(e), e.value.error.field) == (code, field)
    x = start(conn, "true")
    conn.wait(x.drained)
    with pytest.raises(wire.WireError) as e:
        conn.resize(x)
    assert code_of(e) == "CODE_NOT_FOUND"  # hung up
    conn.ack(x)
    with pytest.raises(wire.WireError) as e:
        conn.resize(x)
    assert code_of(e) == "CODE_GONE"


def test_the_interrupt_character(conn):
    x = ready(conn, "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done")
    conn.type(x, b"\x03")
    conn.wait(x.drained)
    assert b"caught" in x.stdout and x.exit.code == 3
    x = ready(conn, "echo ready; exec sleep 60")
    conn.type(x, b"\x03")
    assert conn.finish(x).exit.signal == signal.SIGINT


PROMPT = rb"[$#] $"


def prompted(conn, shell):
    """An interactive shell that waits for us."""
    x = conn.start(shell, "-i", tty=pb.Tty(), env=[b"PS1=$ ", b"ENV=", b"HOME=/"])
    conn.type(x, b"echo up''on\n")
    conn.wait(lambda: re.search(PROMPT, x.stdout[x.stdout.find(b"upon"):]) if b"upon" in x.stdout else None)
    return x


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_signal_is_for_the_job_in_front(conn, shell):
    x = prompted(conn, shell)
    for signo in signal.SIGINT, signal.SIGTERM, signal.SIGKILL:
        conn.type(x, b"sh -c 'echo i''n $$; exec sleep 61' | cat\n")
        conn.wait(lambda: re.search(rb"\nin \d+", x.stdout))
        x.out[STDOUT].clear()
        conn.signal(x, signo)
        conn.wait(lambda: re.search(PROMPT, x.stdout))  # the shell is there, and its job is not
    # Nothing is in front of the shell now. KILL: what bash makes of another one just before it reads, it does after that.
    conn.signal(x, signal.SIGKILL)
    conn.wait(x.drained)
    assert x.exit.signal == signal.SIGKILL


def test_a_signal_to_its_group_is_not_for_the_job(conn):
    x = prompted(conn, "bash")
    conn.type(x, b"sh -c 'echo i''n; exec sleep 61'\n")
    conn.wait(lambda: b"\nin" in x.stdout)
    conn.signal(x, signal.SIGKILL, pb.TARGET_GROUP)
    assert conn.finish(x).exit.signal == signal.SIGKILL


def test_a_signal_when_the_terminal_was_left(conn):
    """No foreground group any more: the process itself gets it."""
    x = ready(conn, "echo ready; exec /usr/bin/python3 -c 'import fcntl, signal, termios, time;"
                    " signal.signal(1, signal.SIG_IGN); fcntl.ioctl(0, termios.TIOCNOTTY); print(\"left\", flush=True); time.sleep(60)'", env=[b"LC_ALL=C"])
    conn.wait(lambda: b"left" in x.stdout)
    conn.signal(x, signal.SIGTERM)
    assert conn.finish(x).exit.signal == signal.SIGTERM


def test_a_signal_after_the_end(conn):
    x = start(conn, "trap '' HUP; sleep 0.5 & exit 0")
    conn.wait(lambda: x.exit)
    with pytest.raises(wire.WireError) as e:
        conn.signal(x, signal.SIGTERM)
    assert code_of(e) == "CODE_NOT_FOUND"


@pytest.mark.parametrize("name, signo", [(b"TERM", 15), (b"SIGTERM", 15), (b"sigkill", 9), (b"Usr1", 10), (b"RTMIN+3", 37)])
def test_signals_by_name(conn, name, signo):
    x = conn.started(conn.start("sleep", "60"))
    conn.signal(x, name=name)
    assert conn.finish(x).exit.signal == signo


@pytest.mark.parametrize("name, signo", [(b"TERMX", 0), (b"", 0), (b"15", 0), (b"RTMIN+31", 0), (b"TERM\0", 0), (b"TERM", 15)])
def test_bad_signal_names(conn, name, signo):
    x = conn.started(conn.start("sleep", "60"))
    with pytest.raises(wire.WireError) as e:
        conn.signal(x, signo, name=name)
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "signal.name" if name else "signal.signo")
    assert not x.exit


# ---- links come and go ----


def test_a_lost_link_does_not_hang_up(agent, conn):
    x = ready(conn, "trap 'echo HUP' HUP; stty -echo; echo ready; while read l; do echo got $l; done; exit 6")
    for word in b"one", b"two", b"three":
        conn.close()
        conn = attach_again(agent, x)
        assert x.state.tty
        conn.type(x, word + b"\n")
        conn.wait(lambda: x.stdout.endswith(b"got " + word + b"\r\n"))
    conn.close()
    conn = agent.dial()
    x.stdin_eof = True
    conn.attach(x)
    conn.wait(x.drained)
    assert b"HUP" not in x.stdout and x.exit.code == 6


def test_the_end_of_input_is_told_once(agent, conn):
    """The host sends EOF again after each reconnect."""
    x = ready(conn, "stty -echo; echo ready; cat; echo next; stty -icanon min 0 time 5; head -c 1 | wc -c")
    conn.type(x, b"abc", eof=True)
    conn.wait(lambda: b"next" in x.stdout)
    conn.close()
    conn = attach_again(agent, x)
    conn.wait(x.drained)
    assert x.stdout == b"ready\r\nabcnext\r\n0\r\n"


# ---- many ----


def test_a_thousand_leave_nothing(own_agent):
    conn = own_agent.configured()
    run(conn, "true")
    fds, terminals = own_agent.fds(), os.listdir("/dev/pts")
    for _ in range(100):
        batch = [conn.start("echo", "x", tty=pb.Tty()) for _ in range(8)]
        batch += [conn.start("/no/such", tty=pb.Tty()) for _ in range(2)]
        conn.wait(lambda: all(x.failed or x.drained() for x in batch))
        for x in batch[:8]:
            assert x.stdout == b"x\r\n"
            conn.ack(x)
        assert all(x.failed.code == pb.CODE_EXEC_FAILED for x in batch[8:])
    assert own_agent.fds() == fds
    assert os.listdir("/dev/pts") == terminals
    assert not own_agent.children()
