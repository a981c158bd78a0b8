"""Real tenond, real QEMU. One daemon and one box for the session; a test that harms them makes its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from client import Client  # noqa: E402
from vmm import AgentVm, make_upper  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TENOND = Path(os.environ.get("TENOND", ROOT / "build/bin/tenond"))


def pytest_configure(config):
    config.addinivalue_line("markers", "machines: the same on every kernel and machine (-m machines)")


class Daemon:
    """A tenond of our own, with state and runtime folders that live as long as this object's folder."""

    def __init__(self, folder, *args, auth=False, ca=None):
        self.folder = Path(folder)
        self.state = self.folder / "state"
        self.args = args
        self.auth = auth
        self.ca = ca  # who signed its certificate, if it shows one
        self.process = None
        self.url = None
        self.port = 0
        self.log = open(self.folder / "tenond.log", "ab")

    def start(self, deadline=90):
        env = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder / "run"))
        (self.folder / "run").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [str(TENOND), "--listen", f"127.0.0.1:{self.port}", "--state", str(self.state)]
            + ([] if self.auth else ["--no-auth"])
            + [str(a) for a in self.args],
            stdout=subprocess.PIPE,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
            env=env,
        )
        line = read_line(self.process.stdout.fileno(), deadline).decode()
        assert "tenond ready on http" in line, f"{line!r}\n{self.log_tail()}"
        self.url = line.split("ready on ", 1)[1].split()[0]
        self.port = int(self.url.rsplit(":", 1)[1])  # a restarted daemon is found where it was
        return self

    def client(self):
        c = Client(self.url)
        c.http.verify = str(self.ca) if self.ca else True
        return c

    def kill(self):
        """As the kernel's OOM killer would."""
        self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()
        self.wait_port()

    def wait_port(self):
        """A child that was forked when tenond died holds its listener for a moment more."""
        end = time.monotonic() + 10
        while True:
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    return s.bind(("127.0.0.1", self.port))
                except OSError:
                    assert time.monotonic() < end, f"port {self.port} is still in use"
            time.sleep(0.005)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        if self.process:
            self.process.stdout.close()
        self.log.close()

    def remove_boxes(self):
        client = self.client()
        for box in client.get("/boxes").json()["boxes"]:
            client.remove(box["box_id"])

    def log_tail(self):
        return (self.folder / "tenond.log").read_bytes()[-4000:].decode(errors="replace")


def read_line(fd, seconds):
    import select

    got, end = b"", time.monotonic() + seconds
    while not got.endswith(b"\n"):
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        piece = os.read(fd, 1) if ready else b""
        if not piece:
            break
        got += piece
    return got


@pytest.fixture(scope="session")
def make_daemon():
    """Starts daemons, each in a folder of its own; ends them and their boxes with the session."""
    made = []

    def make(*args, **kw):
        # A short path: a unix socket's name has 108 bytes.
        folder = tempfile.TemporaryDirectory(prefix="tn-", dir="/tmp", ignore_cleanup_errors=True)
        d = Daemon(folder.name, *args, **kw)
        made.append((d, folder))
        return d.start()

    yield make
    for d, folder in made:
        try:
            if d.process.poll() is None and not d.auth:
                d.remove_boxes()
        finally:
            d.stop()
            folder.cleanup()


@pytest.fixture(scope="session")
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture(scope="session")
def client(daemon):
    return daemon.client()


@pytest.fixture(scope="session")
def box(client):
    """A running box that tests share."""
    b = client.create(name="shared", image="tenon/base")["box_id"]
    r = client.post(f"/boxes/{b}/start")
    assert r.status_code == 200, r.text
    return b


@pytest.fixture(scope="module")
def agent_vm(tmp_path_factory):
    """A booted and configured box without tenond, that the tests of a module share."""
    v = AgentVm(make_upper(tmp_path_factory.mktemp("box")))
    try:
        yield v.configured()
    finally:
        v.close()


@pytest.fixture
def conn(agent_vm):
    """A main connection to the agent in it."""
    c = agent_vm.connect()
    yield c
    agent_vm.connect().clear()  # nothing stays behind, whatever became of the test
