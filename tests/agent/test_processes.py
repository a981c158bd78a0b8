"""ListProcesses: everything of the box, nothing else, whatever it is called."""

import os
import signal
import subprocess
import time

import pytest

from agent import eventually
from bulk import bulk_pb
from wire import pb

PYTHON = "/usr/bin/python3"


def processes(agent):
    with agent.bulk() as b:
        found = [p for e in b.events(processes=bulk_pb.ListProcesses()) for p in e.processes.processes]
        assert b.total == len(found)
    assert len({p.pid for p in found}) == len(found)
    return {p.pid: p for p in found}


def test_nobody(own_agent):
    conn = own_agent.configured()
    with own_agent.bulk(), own_agent.bulk():
        assert processes(own_agent) == {}
    assert conn.ping()


def test_a_process(agent, conn):
    x = conn.started(conn.start("sleep", "60"))
    p = processes(agent)[x.state.pid]
    stat = open(f"/proc/{p.pid}/stat").read().rpartition(")")[2].split()
    assert (p.ppid, p.uid, chr(p.state), p.threads) == (agent.pid, os.getuid(), "S", 1)
    assert (p.name, p.command, p.exec_id) == (b"sleep", b"sleep\0" + b"60\0", x.id)
    assert p.started_ticks == int(stat[19])
    assert abs(p.started_ns - x.state.started_ns) < 2e9
    assert 0 < p.rss_bytes < 64 << 20


def test_a_tree_and_its_orphans(agent, conn):
    """Children, a child in a session of its own, and one whose parent has ended."""
    x = conn.started(conn.start("sh", "-c", "sleep 61 & setsid sleep 62 & (sleep 63 &) ; wait"))
    want = {b"61\0", b"62\0", b"63\0"}

    def found():
        return {p.command[6:]: p for p in processes(agent).values() if p.command.startswith(b"sleep\0")}

    eventually(lambda: want <= set(found()))
    found = found()
    assert found[b"61\0"].exec_id == x.id and found[b"63\0"].exec_id == x.id
    assert found[b"62\0"].exec_id == x.id  # by its parent
    assert found[b"61\0"].ppid == x.state.pid
    for p in found.values():
        os.kill(p.pid, signal.SIGKILL)
    conn.finish(x)


def test_zombies_are_there(agent, conn):
    x = conn.started(conn.start(PYTHON, "-c", "import os\npid = os.fork()\nif pid == 0: os._exit(0)\n"
                                "print(pid, flush=True)\nimport time; time.sleep(60)"))
    conn.wait(lambda: x.stdout.endswith(b"\n"))
    pid = int(x.stdout)
    eventually(lambda: chr(processes(agent)[pid].state) == "Z")
    p = processes(agent)[pid]
    assert (p.command, p.rss_bytes, p.exec_id, p.ppid) == (b"", 0, x.id, x.state.pid)


@pytest.mark.parametrize("name", [b"a) R 1 1 1", b"((", b"x\ny", b"\\n", b"new\nUid:\t7\t7", b"\xff\xfe \x01", b""])
def test_odd_names(agent, conn, name):
    script = f"import ctypes, time; ctypes.CDLL(None).prctl(15, {name!r}); print(flush=True); time.sleep(60)"
    x = conn.started(conn.start(PYTHON, "-c", script))
    conn.wait(lambda: x.stdout)
    p = processes(agent)[x.state.pid]
    assert (p.name, p.uid, p.ppid, p.exec_id) == (name[:15], os.getuid(), agent.pid, x.id)


def test_arguments_up_to_4096_bytes(agent, conn):
    args = [b"", b"line\nline", b"x" * 9000]
    x = conn.started(conn.start(PYTHON, "-c", "import time; print(flush=True); time.sleep(60)", *args))
    conn.wait(lambda: x.stdout)
    p = processes(agent)[x.state.pid]
    whole = b"\0".join([PYTHON.encode(), b"-c", b"import time; print(flush=True); time.sleep(60)", *args]) + b"\0"
    assert p.command == whole[:4096]


def test_the_user_is_the_effective_one(agent, conn):
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    x = conn.started(conn.start(PYTHON, "-c", "import os, time; os.setresuid(1, 2, 3); print(flush=True); time.sleep(60)"))
    conn.wait(lambda: x.stdout)
    assert processes(agent)[x.state.pid].uid == 2


def test_time_spent_grows(agent, conn):
    x = conn.started(conn.start(PYTHON, "-c", "while True: pass"))
    before = processes(agent)[x.state.pid].user_us
    eventually(lambda: processes(agent)[x.state.pid].user_us >= before + 100000)
    assert chr(processes(agent)[x.state.pid].state) == "R"


def test_strangers_are_not_the_boxs(agent, conn):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert stranger.pid not in processes(agent)
        assert os.getpid() not in processes(agent) and agent.pid not in processes(agent)
    finally:
        stranger.kill()
        stranger.wait()


def test_many_with_long_arguments(agent, conn):
    """Several EVENTs, none of more than 64 KiB: the client refuses larger frames."""
    script = ("import os, sys\nfor _ in range(300):\n if os.fork() == 0: break\nelse: print(flush=True)\n"
              "import signal; signal.pause()")
    x = conn.started(conn.start(PYTHON, "-c", script, "y" * 8000))
    conn.wait(lambda: x.stdout, 30)
    found = [p for p in processes(agent).values() if p.exec_id == x.id]
    assert len(found) == 301 and all(len(p.command) == 4096 for p in found)
    conn.signal(x, 9, pb.TARGET_ALL)
    conn.finish(x)


def test_those_that_vanish_are_left_out(own_agent):
    conn = own_agent.configured()
    kept = conn.started(conn.start("sleep", "60"))
    x = conn.started(conn.start("sh", "-c", "while :; do /bin/true; done"))
    end = time.monotonic() + 1
    with own_agent.bulk() as b:
        while time.monotonic() < end:
            found = [p for e in b.events(processes=bulk_pb.ListProcesses()) for p in e.processes.processes]
            assert {kept.state.pid, x.state.pid} <= {p.pid for p in found}
            assert all(p.state and p.threads for p in found)
    assert conn.ping()
    conn.clear()
