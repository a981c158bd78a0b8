"""Instructions, counted by callgrind: they do not depend on the machine's mood. Each figure is the difference of a long and
a short run, so that start-up is not in it. A budget is what it took when it was set, and SLACK on top; who makes
something dearer on purpose sets it anew, and says why in the commit."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = TOP / "build/count/bin"

sys.path.insert(0, str(TOP / "tests/agent"))
import wire  # noqa: E402

SLACK = 1.10

BUDGETS = {
    "codec": 1030,  # three frames, written and read
    "vsock in": 1010,  # a packet to the guest, with what this loop and the fake guest take
    "vsock out": 970,  # and from it
    "exec": 21900,  # a command from its request to its acknowledgement, with what may wait put off (a packet less is worth it)
}


def callgrind(out, *command):
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *map(str, command)]


def collected(text):
    return int(re.search(r"Collected : (\d+)", text)[1])


def count(tmp_path, *command):
    done = subprocess.run(callgrind(tmp_path / "out", *command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return collected(done.stderr)


def count_agent(execs):
    """What the agent's own process takes to serve so many commands, one after the other."""
    with tempfile.TemporaryDirectory(prefix="count", dir="/tmp") as folder:
        socket, log = Path(folder, "agent"), Path(folder, "log")
        with open(log, "w") as f:
            agent = subprocess.Popen(callgrind(Path(folder, "out"), BIN / "tenon-init", "--listen", f"unix:{socket}"),
                                     stdin=subprocess.DEVNULL, stderr=f)
        try:
            wire.connect_unix(socket, 30).close()
            load = [TOP / "build/bench/bin/load", "agent", f"unix:{socket}", str(execs), "exec"]
            done = subprocess.run(load, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr + log.read_text()[-2000:]
            agent.terminate()
            agent.wait(20)
        finally:
            agent.kill()
            agent.wait()
        mine = re.findall(rf"^=={agent.pid}== Collected : (\d+)", log.read_text(), re.M)
        assert mine, log.read_text()[-2000:]
        return int(mine[-1])


def within(name, each, record_property):
    record_property(name, each)
    print(f"{name}: {each} instructions, budget {BUDGETS[name]}")
    assert each <= BUDGETS[name] * SLACK, f"{name} takes {each} instructions, {BUDGETS[name]} were set"
    # A budget that is far from the truth guards nothing.
    assert each >= BUDGETS[name] / SLACK / 1.2, f"{name} takes only {each} instructions now: set its budget anew"


@pytest.mark.parametrize("name, command", [("codec", ["count_codec"]), ("vsock in", ["count_vsock", "in"]),
                                           ("vsock out", ["count_vsock", "out"])])
def test_each_packet(name, command, tmp_path, record_property):
    few, many = (count(tmp_path, BIN / command[0], *command[1:], n) for n in (100, 1100))
    within(name, (many - few) // 1000, record_property)


def test_an_execution(record_property):
    few, many = (count_agent(n) for n in (20, 120))
    within("exec", (many - few) // 100, record_property)
