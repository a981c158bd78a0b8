"""A bench that is killed leaves nothing. By hand: pytest tests/bench/test_keeper.py, after a `make bench`."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import keeper

RUN = Path(__file__).with_name("run.py")
# The group, and the program that shows it is in the midst of it: a VM without tenond; one of tenond's; a plain agent of
# tenond's; a web server beside tenond; a floor, and its load.
MOMENTS = [("sizes", "qemu-system"), ("first", "qemu-system"), ("growth", "tenon-init"), ("rest", "nginx"), ("turns", "load")]


def cmdline(pid):
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def folders(text):
    return set(re.findall(r"/(?:tmp|dev/shm)/(?:tnb|vmm|tenon-bench)[^/ :]*", text))


def await_true(what, seconds):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def orphans_come_here():
    keeper.prctl(keeper.PR_SET_CHILD_SUBREAPER, 1)
    yield
    keeper.sweep([])


@pytest.mark.parametrize("how", ["INT", "TERM", "KILL", "INT to the group", "KILL by name", "KILL the bench"])
@pytest.mark.parametrize("group,program", MOMENTS)
def test_killed(group, program, how):
    run = subprocess.Popen(["/usr/bin/python3", "-B", RUN, "--quick", group], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, preexec_fn=os.setpgrp)
    seen = set()

    def arrived():
        lines = [cmdline(p) for p in keeper.descendants()]
        seen.update(*map(folders, lines))
        return any(program in line.split(" ")[0] for line in lines)

    await_true(arrived, 60)
    signo = getattr(signal, "SIG" + how.split()[0])
    if how.endswith("name"):
        for pid in keeper.descendants():
            if "run.py" in cmdline(pid):
                os.kill(pid, signo)
    elif how.endswith("bench"):
        [bench] = [p for p in keeper.descendants() if "run.py" in cmdline(p) and p != run.pid]
        os.kill(bench, signo)
    elif how.endswith("group"):
        os.killpg(run.pid, signo)
    else:
        run.send_signal(signo)
    assert run.wait(40) != 0
    await_true(lambda: not keeper.descendants() or None, 20)
    assert seen and not [f for f in seen if os.path.exists(f)]
