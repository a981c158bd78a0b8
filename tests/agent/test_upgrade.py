"""The agent replaced in its own process: nothing that runs in it may notice."""

import fcntl
import hashlib
import os
import random
import re
import signal
import subprocess
import time

import pytest

import elf
import wire
from agent import BINARY, MB, code_of, eventually
from bulk import bulk_pb
from wire import DATA, STDOUT, pb

from proto import handover_pb2 as handover_pb

PROGRAM = BINARY.read_bytes()
NEWER = PROGRAM.replace(b"tenon 0.1.0\0", b"tenon 9.8.7\0")
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def send_program(agent, program):
    with agent.bulk() as b:
        assert b.put(program, upgrade=bulk_pb.Upgrade(size=len(program))) == len(program)
        with pytest.raises(wire.Closed):
            b.next()


def offer(b, program=PROGRAM):
    """All of it, and nothing is awaited."""
    b.call(upgrade=bulk_pb.Upgrade(size=len(program)))
    give(b, program)


def give(b, program=PROGRAM):
    for i in range(0, len(program), wire.DATA_MAX):
        b.send(wire.frame(DATA, b.stream, i.to_bytes(8, "little") + program[i:i + wire.DATA_MAX]))
    b.end(len(program))


def upgraded(agent, program=PROGRAM):
    """The main connection to the agent that the program has become. The one before has ended."""
    before = agent.conn
    send_program(agent, program)
    with pytest.raises(wire.Closed):
        before.settle(5)
    assert before.goaway is None
    return agent.dial()


def refused(agent, program, size=None):
    """The Error of an upgrade that was not to be; the bulk connection goes on."""
    with agent.bulk() as b:
        with pytest.raises(wire.WireError) as e:
            b.put(program, upgrade=bulk_pb.Upgrade(size=size or len(program)))
        with pytest.raises(wire.WireError) as again:
            b.call()
        assert again.value.error.field == "op"
    return e.value.error


# ---- it is another program, and the same agent ----


def test_it_is_the_same_boot_and_another_version(own_agent):
    conn = own_agent.configured(env=[b"PATH=/usr/bin:/bin", b"BOX=yes"])
    conn = own_agent.dial()
    first, pid = conn.hello, own_agent.pid
    assert NEWER != PROGRAM
    conn = upgraded(own_agent, NEWER)
    h = conn.hello
    assert (first.version, h.version) == ("tenon 0.1.0", "tenon 9.8.7")
    assert h.boot_id == first.boot_id and h.boot == first.boot and h.configured
    assert own_agent.pid == pid and own_agent.alive()
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    assert open(f"/proc/{pid}/comm").read() == "tenon-init\n"
    assert conn.run("printenv", "BOX").stdout == b"yes\n"
    with own_agent.bulk() as b:
        assert b.call(metrics={}).metrics.agent.upgrades == 1
    with pytest.raises(wire.WireError) as e:
        conn.configure()
    assert code_of(e) == "CODE_ALREADY_EXISTS"


def test_children_are_given_what_they_were_before(own_agent):
    script = "ulimit -Sn; ulimit -Hn; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; umask"
    conn = own_agent.configured()
    before = conn.run("sh", "-c", script).stdout
    assert upgraded(own_agent).run("sh", "-c", script).stdout == before


def test_nothing_it_holds_is_left_open_to_others(own_agent):
    conn = own_agent.configured()
    for _ in range(3):
        conn.started(conn.start("cat", stdin=b"", eof=False))
    held = own_agent.fds()
    conn = upgraded(own_agent)
    eventually(lambda: own_agent.fds() == held)
    for fd in os.listdir(f"/proc/{own_agent.pid}/fdinfo"):
        flags = re.search(r"flags:\s+(\d+)", open(f"/proc/{own_agent.pid}/fdinfo/{fd}").read())[1]
        assert int(fd) < 3 or int(flags, 8) & os.O_CLOEXEC, os.readlink(f"/proc/{own_agent.pid}/fd/{fd}")


def test_the_epoch_still_fences(own_agent):
    own_agent.dial(epoch=1000).configure()
    send_program(own_agent, PROGRAM)
    for epoch in (0, 999, 1000):
        late = own_agent.raw()
        late.send(wire.frame(wire.HELLO, 0, wire.hello_payload(pb.Hello(role=pb.ROLE_MAIN, host_epoch=epoch))))
        with pytest.raises(wire.Closed) as e:
            late.settle(5)
        assert e.value.args[0].code == pb.CODE_FENCED and late.hello.host_epoch == 1000
    assert own_agent.dial(epoch=1001).ping()


def test_a_connection_in_the_backlog_is_served(own_agent):
    own_agent.configured()
    with own_agent.bulk() as b:
        offer(b)
        for _ in range(200):  # some before, some while, some after
            try:
                conn = own_agent.dial()
                assert conn.ping()
            except (wire.Closed, BrokenPipeError):
                continue  # accepted by the old one: it never said HELLO, or its link was lost
        assert b.confirmed() == len(PROGRAM)
    assert own_agent.dial().ping()


# ---- executions in every state ----


def test_output_goes_on_byte_for_byte(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("sh", "-c", "seq 1 2000000; seq 1 300000 >&2; exit 3", limit=256 * 1024))
    for part in range(1, 6):
        conn.wait(lambda: x.end[STDOUT] >= part * 2 * MB)
        conn = upgraded(own_agent, PROGRAM)
        conn.attach(x)
    conn.finish(x)
    assert x.exit.code == 3 and not x.gaps
    assert x.stdout == b"".join(b"%d\n" % i for i in range(1, 2000001))
    assert x.stderr == b"".join(b"%d\n" % i for i in range(1, 300001))


def test_a_terminal_goes_on(own_agent):
    """Its output, what is typed into it, its size, its foreground; and then its end."""
    conn = own_agent.configured()
    x = conn.start("sh", "-c", f"stty raw -echo; echo ready; head -c {2 * MB}; stty sane; stty size; exec cat", tty=pb.Tty())
    data = random.Random(1).randbytes(2 * MB)
    conn.wait(lambda: x.stdout == b"ready\n")
    for part in range(4):
        conn.type(x, data[part * MB // 2:(part + 1) * MB // 2])
        conn.wait(lambda: x.end[STDOUT] > part * MB // 2 + 1000)
        conn = upgraded(own_agent)
        conn.attach(x)
        conn.call(resize=pb.Resize(id=x.id, size=pb.Tty(rows=10 + part, cols=50)))
    conn.wait(lambda: x.stdout.endswith(b"13 50\r\n"))
    assert x.stdout == b"ready\n" + data + b"13 50\r\n" and x.state.tty
    conn = upgraded(own_agent)
    conn.attach(x)
    conn.type(x, b"last\n", eof=True)
    conn.wait(x.drained)
    assert x.stdout.endswith(b"last\r\nlast\r\n") and (x.exit.code, x.exit.signal) == (0, 0)


def test_stdin_goes_on(own_agent):
    conn = own_agent.configured()
    data = random.Random(3).randbytes(6 * MB)
    x = conn.started(conn.start("sh", "-c", "cat; echo over >&2", stdin=data))
    for part in range(1, 5):
        conn.wait(lambda: x.end[STDOUT] >= part * MB)
        conn = upgraded(own_agent)
        conn.attach(x)
    conn.finish(x)
    assert x.stdout == data and x.stderr == b"over\n"


def test_held_back_output_and_input_stay_held(own_agent):
    """No credit, a full ring, a full pipe; and stdin that nobody reads."""
    conn = own_agent.configured()
    x = conn.started(conn.start("sh", "-c", "head -c 200000 /dev/zero; sleep 60; cat", stdin=b"i" * 300000, limit=0))
    x.window = None
    eventually(lambda: conn.list()[0].stdout_end == 65536)
    conn.wait(lambda: x.stdin_sent >= 65536)
    conn = upgraded(own_agent)
    row, = conn.list()
    assert (row.stdout_base, row.stdout_end) == (0, 65536) and row.stdin_acked >= 65536
    x.window = MB
    conn.attach(x)
    conn.wait(lambda: x.end[STDOUT] == 200000)


def test_an_exit_is_kept_until_it_is_acknowledged(own_agent):
    conn = own_agent.configured()
    x = conn.finish(conn.start("sh", "-c", "echo hello; exit 9"))
    exit_ = x.exit
    conn = upgraded(own_agent)
    assert conn.list()[0].exit == exit_
    conn.attach(x)
    conn.wait(x.drained)
    assert x.exit == exit_ and x.stdout == b"hello\n"
    conn.ack(x)
    assert not conn.list()


def test_what_is_gone_is_gone(own_agent):
    conn = own_agent.configured()
    gone = [conn.run("true") for _ in range(20)]
    conn = upgraded(own_agent)
    for x in gone:
        with pytest.raises(wire.WireError) as e:
            conn.attach(x)
        assert code_of(e) == "CODE_GONE"
        conn.ack(x)
        with pytest.raises(wire.WireError) as e:
            conn.run("true", id_=x.id)
        assert code_of(e) == "CODE_GONE"


def test_a_background_child_keeps_its_pipe(own_agent, tmp_path):
    os.mkfifo(tmp_path / "go")
    conn = own_agent.configured()
    x = conn.start("sh", "-c", f"(read line <{tmp_path}/go; echo late) & echo early")
    y = conn.start("sh", "-c", f"(read line <{tmp_path}/go; echo later) & echo early")
    conn.wait(lambda: x.exit and y.exit and x.stdout and y.stdout)
    conn.ack(y)  # one is EXITED, one ACKED
    conn = upgraded(own_agent)
    assert len(conn.list()) == 2
    conn.attach(x)
    conn.attach(y)
    with open(tmp_path / "go", "w") as go:
        go.write("1\n2\n")
        go.flush()
        conn.wait(lambda: x.drained() and y.drained())
    assert x.stdout == b"early\nlate\n" and y.stdout == b"early\nlater\n"
    conn.ack(x)
    assert not conn.list()


def test_what_was_acknowledged_early_is_drained_afterwards(own_agent):
    conn = own_agent.configured()
    x = conn.start("sh", "-c", "echo x", limit=0)
    x.window = None
    conn.wait(lambda: x.exit)
    conn.ack(x)
    conn = upgraded(own_agent)
    x.window = MB
    conn.attach(x)
    conn.wait(x.drained)
    assert x.stdout == b"x\n"
    conn.wait(lambda: not conn.list())


def test_dropped_output_stays_dropped_and_goes_on(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("sh", "-c", "seq 1 100000; read line; seq 1 100000; echo end", stdin=b"go\n", eof=False,
                                limit=0, ring_policy=pb.RING_DROP_OLDEST))
    x.window = None
    total = len(b"".join(b"%d\n" % i for i in range(1, 100001)))
    x.stdin_limit = 0
    conn = upgraded(own_agent)
    conn.attach(x)
    conn.wait(lambda: x.exit)
    assert x.exit.stdout_total == 2 * total + 4
    x.window = MB
    conn.grant(x, STDOUT)
    conn.wait(lambda: STDOUT in x.eof)
    assert len(x.gaps) == 1 and x.stdout.endswith(b"100000\nend\n")


# ---- deadlines ----


def test_a_timeout_fires_when_it_would_have(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("sleep", "60", timeout_ms=1000))
    began = time.monotonic()
    conn.settle(0.7)
    for _ in range(3):
        conn = upgraded(own_agent)
    conn.attach(x)
    conn.finish(x)
    assert x.exit.timed_out and x.exit.signal == signal.SIGTERM
    assert 0.9 < time.monotonic() - began < 1.6


def test_a_grace_that_runs_goes_on_running(own_agent):
    conn = own_agent.configured()
    x = conn.start("sh", "-c", "trap 'echo term' TERM; while :; do sleep 0.02; done", timeout_ms=50, grace_ms=1000)
    y = conn.start("sh", "-c", "sh -c \"trap 'echo still' TERM; while :; do sleep 0.02; done\" & wait",
                   timeout_ms=50, grace_ms=1000)
    conn.wait(lambda: x.stdout and y.exit)  # STOPPING; and EXITED with a grace that is armed
    began = time.monotonic()
    conn.settle(0.7)
    conn = upgraded(own_agent)
    conn.attach(x)
    conn.attach(y)
    conn.wait(lambda: x.drained() and y.drained())
    assert x.exit.signal == signal.SIGKILL and x.exit.timed_out
    assert 0.8 < time.monotonic() - began < 1.6


# ---- children that end at any moment ----


def test_no_exit_is_lost_whenever_it_comes(own_agent):
    conn = own_agent.configured()
    rng = random.Random(7)
    for round_ in range(200):
        codes = {}
        for _ in range(3):
            code = rng.randrange(256)
            x = conn.started(conn.start("sh", "-c", f"read line; echo bye; exit {code}", stdin=b"", eof=False))
            codes[x] = code
        delay = rng.uniform(0, 0.008)
        if round_ % 2:
            for x in codes:  # they end once their stdin does
                x.stdin_eof = True
                conn.feed(x)
            conn.ping()
        else:
            pids = [x.state.pid for x in codes]
            pid = os.fork()
            if pid == 0:
                time.sleep(delay)
                for p in pids:
                    os.kill(p, signal.SIGKILL)
                os._exit(0)
        conn = upgraded(own_agent)
        for x, code in codes.items():
            conn.attach(x)
            conn.finish(x)
            if round_ % 2:
                assert (x.exit.code, x.exit.signal, x.stdout) == (code, 0, b"bye\n")
            else:
                assert x.exit.signal == signal.SIGKILL
            conn.ack(x)
        if not round_ % 2:
            os.waitpid(pid, 0)
    assert not conn.list() and not own_agent.children()


def test_orphans_are_reaped_by_the_new_one(own_agent, tmp_path):
    conn = own_agent.configured()
    os.mkfifo(tmp_path / "go")
    conn.run("sh", "-c", f"for i in $(seq 50); do (read x <{tmp_path}/go &) >/dev/null 2>&1; done")
    upgraded(own_agent)
    eventually(lambda: len(own_agent.children()) == 50)  # without the worker that took the program
    open(tmp_path / "go", "w").close()
    eventually(lambda: not own_agent.children())


# ---- many ----


def test_twenty_in_a_row_under_load_cost_nothing(own_agent):
    conn = own_agent.configured()
    busy = [conn.started(conn.start("sh", "-c", "while :; do seq 1 500; done", keep=False)) for _ in range(4)]
    for _ in range(2):
        conn = upgraded(own_agent)
        for x in busy:
            conn.attach(x)
    fds, own = own_agent.fds(), own_agent.memory("RssAnon")
    for i in range(20):
        assert conn.run("sh", "-c", f"echo {i}; exit {i}").stdout == b"%d\n" % i
        send_program(own_agent, NEWER if i % 2 else PROGRAM)
        conn = own_agent.dial()
        for x in busy:
            conn.attach(x)
            end = x.end[STDOUT]
            conn.wait(lambda: x.end[STDOUT] > end + 100000)
    assert own_agent.fds() == fds
    # The rest is the rings, and the program itself; a frame of which the socket took a part may lie in the queue.
    assert own_agent.memory("RssAnon") <= own + 64 + 68
    conn.clear()
    eventually(lambda: not own_agent.children())


def test_new_starts_meanwhile_do_not_keep_it_from_changing(own_agent):
    """A host that goes on starting programs until its link is cut: each is there afterwards, or never was."""
    conn = own_agent.configured()
    with own_agent.bulk() as b:
        offer(b)
        started = []
        with pytest.raises(wire.Closed):
            while True:
                started += [conn.start("sh", "-c", "exit 4") for _ in range(4)]
                conn.wait(lambda: started[-4].state)
        assert b.confirmed()
    conn = own_agent.dial()
    known = {row.id for row in conn.list()}
    for x in started:
        if x.id in known:
            conn.attach(x)
            assert conn.finish(x).exit.code == 4
        else:
            assert x.state is None, "it was answered"
            with pytest.raises(wire.WireError) as e:
                conn.attach(x)
            assert code_of(e) == "CODE_NOT_FOUND"


def test_a_start_that_hangs_holds_up_the_change_and_nobody_else(own_agent, hung_mount):
    conn = own_agent.configured()
    x = conn.start("true", cwd=hung_mount + b"/x")
    conn.ping()
    with own_agent.bulk() as b:
        offer(b)
        waits = []
        while not waits or (max(waits) < 0.3 and len(waits) < 100000):
            began = time.monotonic()
            conn.ping()
            waits.append(time.monotonic() - began)
        assert 0.3 < max(waits) < 2, "for a second nothing new was read"
        assert conn.run("true").exit.code == 0
        conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
        assert b.confirmed() == len(PROGRAM)
    with pytest.raises(wire.Closed):
        conn.settle(5)
    assert x.failed.code == pb.CODE_EXEC_FAILED
    conn = own_agent.dial()
    assert not conn.list() and conn.run("true").exit.code == 0


def test_an_operation_of_another_connection_ends_first(own_agent):
    """A worker in the middle of a transfer goes on, an idle one takes its leave."""
    own_agent.configured()
    busy, idle = own_agent.bulk(), own_agent.bulk()
    busy.call(upgrade=bulk_pb.Upgrade(size=len(PROGRAM)))  # its agent will be gone when all bytes are here
    upgraded(own_agent)
    with pytest.raises(wire.Closed):
        idle.next()
    give(busy)
    with pytest.raises(wire.WireError) as e:
        busy.confirmed()
    assert code_of(e) == "CODE_INTERNAL"
    with pytest.raises(wire.Closed):
        busy.next()
    eventually(lambda: not own_agent.children())
    upgraded(own_agent)


# ---- what is not fit to take over ----

UNFIT = {
    "garbage": (b"\x7fELF" + random.Random(1).randbytes(5000), "self-test", "execute"),
    "truncated": (PROGRAM[:3000], "self-test", ""),
    "half": (PROGRAM[:len(PROGRAM) // 2], "self-test", ""),
    "ends with 0 without a word": (elf.ends(0), "self-test", "without a word"),
    "ends with 1": (elf.ends(1), "self-test", "without a word"),
    "says why": (elf.says(b"first\nhandover: version 9, for readers from 9 on\n", 1), "self-test", "version 9"),
    "passes and fails": (elf.says(b"tenon-init: self-test passed\n", 3), "self-test", "passed"),
    "says too much": (elf.says(b"x" * 4000, 1), "self-test", "x" * 100),
    "says it over and over": (elf.says(b"spam " * 100, 1, times=50000), "self-test", "spam"),
    "another program": (open("/bin/true", "rb").read(), "self-test", "without a word"),
}


@pytest.fixture
def busy_agent(own_agent):
    """One with a main connection on which bytes flow; afterwards it must be as if nothing had been."""
    conn = own_agent.configured()
    x = conn.started(conn.start("cat", stdin=b"before ", eof=False))
    conn.wait(lambda: x.stdout)
    fds = own_agent.fds()
    yield own_agent
    assert own_agent.conn is conn and conn.ping()
    x.stdin += b"after"
    x.stdin_eof = True
    conn.feed(x)
    assert conn.finish(x).stdout == b"before after"
    assert conn.hello.version == "tenon 0.1.0"
    conn.ack(x)
    eventually(lambda: own_agent.fds() == fds - 3 and not own_agent.children())
    assert "memfd" not in os.readlink(f"/proc/{own_agent.pid}/exe")
    upgraded(own_agent)


def test_unfit_programs_change_nothing(busy_agent):
    for name, (program, stage, words) in UNFIT.items():
        error = refused(busy_agent, program)
        assert (error.code, error.stage) == (pb.CODE_INTERNAL, stage), (name, error)
        assert words in error.message, (name, error)


def test_a_program_that_hangs_has_five_seconds(busy_agent):
    began = time.monotonic()
    with busy_agent.bulk() as other, busy_agent.bulk() as b:
        offer(b, elf.hangs())
        eventually(busy_agent.children)
        assert busy_agent.conn.run("true").exit.code == 0  # meanwhile it serves
        with pytest.raises(wire.WireError) as e:  # but no second one
            other.put(PROGRAM, upgrade=bulk_pb.Upgrade(size=len(PROGRAM)))
        assert code_of(e) == "CODE_RESOURCE_EXHAUSTED"
        with pytest.raises(wire.WireError) as e:
            b.confirmed()
    assert (code_of(e), e.value.error.stage) == ("CODE_TIMEOUT", "self-test")
    assert 4.5 < time.monotonic() - began < 8




def test_bad_sizes(busy_agent):
    for program, size, field in [(b"", 16 * MB + 1, "upgrade.size"), (b"", 1 << 40, "upgrade.size"),
                                 (PROGRAM, len(PROGRAM) - 1, "upgrade.size"),
                                 (PROGRAM, len(PROGRAM) + 1, "upgrade.size"),
                                 (b"#!/bin/sh\nexit 0\n", None, "upgrade"), (b"\x7fEL", None, "upgrade")]:
        error = refused(busy_agent, program, size)
        assert (error.code, error.field) == (pb.CODE_INVALID_ARGUMENT, field)
    with busy_agent.bulk() as b, pytest.raises(wire.WireError) as e:
        b.call(upgrade=bulk_pb.Upgrade())
    assert e.value.error.field == "upgrade.size"


def test_a_host_that_gives_it_up(busy_agent):
    with busy_agent.bulk() as b:
        b.call(upgrade=bulk_pb.Upgrade(size=len(PROGRAM)))
        b.send(wire.frame(DATA, b.stream, bytes(8) + PROGRAM[:1000]))
        b.give_up()
        with pytest.raises(wire.WireError) as e:
            b.confirmed()
        assert code_of(e) == "CODE_DETACHED"
    b = busy_agent.bulk()
    b.call(upgrade=bulk_pb.Upgrade(size=len(PROGRAM)))
    b.send(wire.frame(DATA, b.stream, bytes(8) + PROGRAM[:1000]))
    b.close()


def test_not_while_it_shuts_down(own_agent):
    conn = own_agent.configured()
    x = conn.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    conn.wait(lambda: x.stdout)
    with own_agent.bulk() as b:
        b.call(upgrade=bulk_pb.Upgrade(size=len(PROGRAM)))
        conn.call(shutdown=pb.Shutdown(grace_ms=1000))
        give(b)
        with pytest.raises(wire.WireError) as e:
            b.confirmed()
        assert code_of(e) == "CODE_SHUTTING_DOWN"


# ---- what two programs have to agree on ----

LAYOUTS = {1: "9921c1ae1cc43379", 2: "a0bd161df3c9f09a", 3: "54903a5741ef27b6", 4: "272c2925d0f56993"}  # EXEC_LAYOUT: of what


def test_another_arena_has_another_number():
    """Rows are gone on with as they lie. A change here: raise EXEC_LAYOUT, and pin what it stands for."""
    headers = "".join((wire.TOP / f"guest/exec/{name}.h").read_text()
                      for name in ("ring", "state", "input", "output", "table"))
    code = re.sub(r"/\*.*?\*/", "", headers, flags=re.S)
    kept = [re.search(rf"{kind} {{.*?\n}};", code, re.S)[0]
            for kind in ("struct ring", "enum exec_state", "struct exec_input", "struct exec_output",
                         "struct exec_exit", "struct exec_row", "struct exec_arena")]
    kept += re.findall(r"#define (?:RING_SIZE|RING_WIDE|EXEC_WIDE|EXEC_ROWS|EXEC_ID_SIZE|EXEC_TOMBSTONES) .*", code)
    assert len(kept) == 13
    number = int(re.search(r"#define EXEC_LAYOUT (\d+)", code)[1])
    assert LAYOUTS[number] == hashlib.sha256("".join("".join(kept).split()).encode()).hexdigest()[:16]



def sealed(content, seals=SEALS):
    fd = os.memfd_create("handover", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def handover(**kw):
    message = handover_pb.Handover(**{"version": 1, "min_version": 1, "boot_id": bytes(16), **kw}).SerializeToString()
    return b"TNHAND\r\n" + len(message).to_bytes(4, "little") + message


@pytest.mark.parametrize("content, words", [
    (b"", "there is none"), (b"something else entirely", "there is none"), (b"TNHAND\r\n", "no handover"),
    (handover() + b"x", "no handover"), (b"TNHAND\r\n\3\0\0\0\xff\xff\xff", "unpack"),
    (handover(version=7, min_version=7), "version 7, for readers from 7 on"), (handover(version=0), "version 0"),
    (handover(arena_layout=1), "laid out in another way")])
def test_a_self_test_refuses(content, words):
    fd = sealed(content)
    try:
        r = subprocess.run([BINARY, "--self-test", str(fd)], pass_fds=[fd], capture_output=True, timeout=10)
    finally:
        os.close(fd)
    assert r.returncode == 1 and words in r.stderr.decode() and r.stderr.count(b"\n") == 1


@pytest.mark.parametrize("argument", ["3", "0", "-1", "99999999999", "x", ""])
def test_what_names_no_handover_is_no_upgrade(argument):
    """As PID 1's arguments may, which come from the kernel's command line."""
    r = subprocess.run([BINARY, "--listen", "unix:/nonexistent/sock", "--upgraded", argument], capture_output=True,
                       timeout=10)
    assert r.returncode == 2 and b"usage" in r.stderr
    assert subprocess.run([BINARY, "--self-test", argument], capture_output=True, timeout=10).returncode == 1


def test_a_handover_that_cannot_be_read_is_a_new_boot(own_agent, tmp_path):
    """After its self-test has passed this cannot be; should it be all the same, there is an agent still."""
    path = tmp_path / "sock"
    fd = sealed(handover(version=7, min_version=7))
    agent = subprocess.Popen([BINARY, "--listen", f"unix:{path}", "--upgraded", str(fd)], pass_fds=[fd],
                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(fd)
    try:
        conn = wire.Conn(wire.connect_unix(path))
        assert any(conn.hello.boot_id) and not conn.hello.configured
        conn.configure()
        assert conn.run("true").exit.code == 0
    finally:
        agent.kill()
        agent.wait(10)
