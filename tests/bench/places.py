"""Where things are measured. Each place has the agent and the floor side by side and tells how to reach both."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from conftest import Daemon
from harness import BIN, TOP, Failed, samples
from vmm import AgentVm, make_upper

AGENT = TOP / "build/guest/tenon-init"
FLOOR_PORT, PLAIN_PORT = 5001, 900


def await_listener(path, seconds=20):
    end = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise Failed(f"nobody listens on {path}") from None
        time.sleep(0.01)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def status(pid, field, sub=""):
    """A number of /proc/PID/[task/TID/]status."""
    for line in open(f"/proc/{pid}/{sub}status"):
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Failed(f"no {field} of {pid}")


def rollup(pid, field="Pss"):
    """KiB of /proc/PID/smaps_rollup."""
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Failed(f"no {field} of {pid}")


def switches(pid):
    """Context switches of all threads."""
    return sum(status(pid, field, f"task/{task}/") for task in os.listdir(f"/proc/{pid}/task")
               for field in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        try:
            stat = open(f"/proc/{entry}/stat").read() if entry.isdigit() else ""
        except OSError:
            continue
        if stat and int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry))
    return found


class Place:
    """A folder for files on both sides, and processes that end with it."""

    printer = "/bin/floor"

    def __init__(self):
        self.processes = []
        # In memory: a disk would be the floor of both.
        self.folder = Path(tempfile.mkdtemp(prefix="tenon-bench-", dir="/dev/shm"))

    def spawn(self, *command, **kw):
        p = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, **kw)
        self.processes.append(p)
        return p

    def close(self):
        for p in self.processes:
            p.kill()
            p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class PlainLink(Place):
    """The agent as a process of this machine, on a unix socket."""

    name = "plain host"
    printer = BIN / "floor"

    def __init__(self):
        super().__init__()
        self.data = self.folder / "data"
        self.data.mkdir()
        at = {side: self.folder / f"{side}.sock" for side in ("agent", "floor")}
        self.log = open(self.folder / "log", "wb")
        self.agent = self.spawn(AGENT, "--listen", f"unix:{at['agent']}", stderr=self.log)
        self.spawn(BIN / "floor", f"unix:{at['floor']}")
        for path in at.values():
            await_listener(path)
        self.at = {side: f"unix:{path}" for side, path in at.items()}

    def load(self, side, count, *args):
        return samples("load", side, self.at[side], count, *args, printer=self.printer)

    def clean(self):
        shutil.rmtree(self.data)
        self.data.mkdir()


class GuestLink(Place):
    """The agent in a box, through tenon-vmm; the floor is a program in the same box, on a vsock port of its own."""

    name = "guest (TCG)"

    def __init__(self, memory=768):
        super().__init__()
        self.vm = AgentVm(make_upper(self.folder, "4G"), memory=memory)
        try:
            self.vm.configured()
            with self.vm.bulk() as bulk:
                bulk.put((BIN / "floor").read_bytes(), write={"at": {"path": b"/bin/floor"}, "mode": 0o755})
                bulk.put(AGENT.read_bytes(), write={"at": {"path": b"/bin/tenon-init"}, "mode": 0o755})
            # The loads fence this connection; the executions go on.
            for command in (("/bin/floor", f"vsock:{FLOOR_PORT}"), ("/bin/tenon-init", "--listen", f"vsock:{PLAIN_PORT}")):
                self.vm.conn.started(self.vm.conn.start(*command))
            self.data = Path("/srv/data")
            self.clean()
        except BaseException:
            self.close()
            raise
        sock = self.vm.run / "vsock.sock"
        self.at = {"agent": f"vsock:{sock}:1000", "floor": f"vsock:{sock}:{FLOOR_PORT}"}
        self.plain = f"vsock:{sock}:{PLAIN_PORT}"

    def load(self, side, count, *args):
        return samples("load", side, self.at[side], count, *args, printer=self.printer)

    def load_plain(self, count, *args):
        """An agent that is no PID 1: without cgroups and namespace of its children."""
        return samples("load", "agent", self.plain, count, *args, printer=self.printer)

    def clean(self):
        x = self.vm.connect(epoch=time.time_ns()).run("sh", "-c", f"rm -rf {self.data} && mkdir -p {self.data} && sync", timeout=120)
        assert x.exit.code == 0, x.stderr

    def close(self):
        self.vm.close()
        super().close()


class Rest(Place):
    """tenond and one box of it. The floor lies where the box's agent does."""

    def __init__(self, *args):
        super().__init__()
        # A short path: a unix socket's name has 108 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="tnb", dir="/tmp"))
        self.daemon = Daemon(self.home, *args)
        self.relay_ports = {}
        try:
            self.daemon.start()
            self.client = self.daemon.client()
            self.client.http.headers["Connection"] = "close"  # a bench leaves it alone for long
        except BaseException:
            self.close()
            raise

    def start_box(self, **body):
        box = self.client.create(image="tenon/base", **body)["box_id"]
        r = self.client.post(f"/boxes/{box}/start")
        if r.status_code != 200:
            raise Failed(f"the box did not start: {r.text}")
        return box

    def run_dir(self, box):
        for path in (self.home / "run").rglob("vsock.sock"):
            if box in str(path):
                return path.parent
        raise Failed("the box has no vsock.sock")

    def use_floor(self, target):
        """Relays to the floor in tenond's place, for what tenond streams; the files lie where tenond's do."""
        self.floor_at = target
        for kind, log in (("bare", []), ("filed", [self.home])):
            self.relay_ports[kind] = free_port()
            self.spawn(BIN / "standin", "--relay", self.relay_ports[kind], target, *log)

    def rest(self, count, *args):
        return samples("rest", self.daemon.port, self.box, count, *args, printer=self.printer)

    def floor(self, count, *args, relayed=""):
        at = f"tcp:{self.relay_ports[relayed]}" if relayed else self.floor_at
        return samples("load", "floor", at, count, *args)

    def use_least(self):
        """The least program in tenond's place, before an agent of its own: there is one host to each."""
        at = self.home / "least"
        at.mkdir()
        with socket.socket(socket.AF_UNIX) as doorbell:
            doorbell.bind(str(at / "vsock.sock_1001"))
            doorbell.listen()
            ready, told = os.pipe()
            self.spawn(BIN / "standin", "--run-dir", at, "--ready-fd", told, pass_fds=[told],
                       env={**os.environ, "TENON_INIT": str(AGENT)})
            os.close(told)
            with os.fdopen(ready) as f:
                if f.readline() != "ready\n":
                    raise Failed("the second stand-in did not start")
            doorbell.settimeout(10)
            doorbell.accept()[0].close()
        self.relay_ports["least"] = free_port()
        self.spawn(BIN / "least", self.relay_ports["least"], f"vsock:{at}/vsock.sock:1000", self.home,
                   env={**os.environ, "BENCH_PRINTER": str(self.printer)})

    def clean(self):
        pass

    def close(self):
        try:
            if self.daemon.process and self.daemon.process.poll() is None:
                self.daemon.remove_boxes()
        finally:
            self.daemon.stop()
            super().close()
            shutil.rmtree(self.home, ignore_errors=True)


def stand_in_environment(home):
    """tenond's own, where no disk is needed: qemu-img is a script that makes an empty file."""
    folder = Path(home) / "path"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "qemu-img"
    script.write_text("#!/bin/sh\n[ \"$1\" = resize ] || : >\"$5\"\n")
    script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "TENON_INIT": str(AGENT)}


class PlainRest(Rest):
    """Boxes that are plain agents: no emulated processor behind REST, and hundreds fit."""

    name = "plain host"
    printer = BIN / "floor"

    def __init__(self):
        tools = tempfile.mkdtemp(prefix="tnb", dir="/tmp")
        before = {k: os.environ.get(k) for k in ("PATH", "TENON_INIT")}
        os.environ.update(stand_in_environment(tools))
        try:
            super().__init__("--accel", "tcg", "--vmm", str(BIN / "standin"))
        finally:
            os.environ.update({k: v for k, v in before.items() if v is not None})
        self.tools = tools
        try:
            self.box = self.start_box()
            at = self.run_dir(self.box)
            self.spawn(BIN / "floor", f"unix:{at}/floor.sock")
            await_listener(at / "floor.sock")
            self.use_floor(f"vsock:{at}/vsock.sock:{FLOOR_PORT}")
            self.use_least()
            self.data = self.folder / "data"
            self.data.mkdir()
        except BaseException:
            self.close()
            raise

    def clean(self):
        shutil.rmtree(self.data)
        self.data.mkdir()

    def close(self):
        super().close()
        shutil.rmtree(getattr(self, "tools", "/nonexistent"), ignore_errors=True)


class GuestRest(Rest):
    name = "guest (TCG)"

    def __init__(self):
        super().__init__("--accel", "tcg")
        try:
            self.box = self.start_box(memory_mib=768)
            self.data = Path("/srv/data")
            r = self.client.call("PUT", f"/boxes/{self.box}/files/content", data=(BIN / "floor").read_bytes(),
                                 params={"path": "/bin/floor", "mode": "755"})
            assert r.status_code < 300, r.text
            self.client.exec(self.box, "/bin/floor", f"vsock:{FLOOR_PORT}", stdin="")
            self.use_floor(f"vsock:{self.run_dir(self.box)}/vsock.sock:{FLOOR_PORT}")
            self.clean()
        except BaseException:
            self.close()
            raise

    def clean(self):
        out, err, end = self.client.run(self.box, "sh", "-c", f"rm -rf {self.data} && mkdir -p {self.data} && sync")
        assert end["exit_code"] == 0, err


def terminate(process):
    process.send_signal(signal.SIGTERM)
    process.wait(20)
