"""What the tests of files share."""

import os

import pytest

import wire
from agent import code_of

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


def at(path, beneath=b""):
    return dict(path=path, beneath=beneath)


def failure(call, *args, **kw):
    with pytest.raises(wire.WireError) as e:
        call(*args, **kw)
    assert code_of(e) == "CODE_FILE_FAILED", str(e.value)
    return e.value.error


def tree(top):
    """Every path below."""
    return sorted(os.path.relpath(os.path.join(d, n), top) for d, dirs, files in os.walk(top) for n in dirs + files)


def worker_memory(agent):
    """The most that its only worker has had, in KiB."""
    pid, = agent.children()
    return int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("VmHWM")).split()[1])
