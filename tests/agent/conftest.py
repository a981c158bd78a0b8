"""The agent by itself, without a VM: the same binary on a unix socket."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agent import Agent  # noqa: E402


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


@pytest.fixture
def mounted():
    """Mounts a file system for the test: mounted(path, type, options), or a file on a file that is there: mounted(path,
    bind=file). Needs root, and a machine that lets it."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = []
    ms_rdonly, ms_bind = 1, 4096  # mount(2)

    def mount(path, fstype=None, options=b"", readonly=False, bind=b"none"):
        if fstype:
            os.mkdir(path)
        if libc.mount(bind, path, fstype, ms_rdonly * readonly | (0 if fstype else ms_bind), options) < 0:
            pytest.skip("may not mount")
        paths.append(path)
        return path

    yield mount
    for path in reversed(paths):
        libc.umount2(path, 2)


@pytest.fixture
def b(agent, conn):
    with agent.bulk() as bulk:
        yield bulk


@pytest.fixture
def top(tmp_path):
    return bytes(tmp_path)
