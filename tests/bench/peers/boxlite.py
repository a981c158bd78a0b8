"""BoxLite's guest agent: gRPC over vsock, a container built for each command. It lies inside the native addon of BoxLite's
npm package. It is run as a program of our box, as root, since before anything else it mounts over /tmp and /run; its own
container gets a root folder with our box's programs, so that all sides start the same ones.

The field numbers are those that its agent answers to: what it does not understand it names in its error."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from harness import BIN, TOP, Failed
from places import free_port
from scale import bare_initramfs, boot_to_signal
from plainpb import field, fields

FETCHED = TOP / "build/bench/peers"
PACKAGE, VERSION = "@boxlite-ai/boxlite-linux-x64-gnu", "0.10.0"
SHA512 = "JihXFR726cRgQc0Sjf2JjpWSfvcK4Irn7kIHBCwgX65wgLALTUGa96w0rttJrVztMFf2iEPa3xndIbeAYmaMZg=="
OFFSET, SIZE = 2378329, 21145160  # of the agent in the addon
GRPC = "grpcio==1.85.3"
PORT, READY_PORT = 2695, 2696
DROP_OLDEST = 1  # its log must not stop it
CONTAINER = "c1"
ROOT = f"/run/boxlite/shared/containers/{CONTAINER}/rootfs"


def value_of(data, number, default=b""):
    return next((v for n, v in fields(data) if n == number), default)


# ---- fetching ----


def fetch():
    agent = FETCHED / f"boxlite-guest-{VERSION}"
    if not agent.exists():
        FETCHED.mkdir(parents=True, exist_ok=True)
        name = subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=FETCHED, capture_output=True,
                              text=True, timeout=600, check=True).stdout.split()[-1]
        packed = FETCHED / name
        if base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() != SHA512:
            raise Failed("the package fetched is not the one that was pinned")
        with tarfile.open(packed) as tar:
            addon = tar.extractfile("package/boxlite.linux-x64-gnu.node")
            addon.seek(OFFSET)
            (agent.with_suffix(".part")).write_bytes(addon.read(SIZE))
        agent.with_suffix(".part").rename(agent)
        packed.unlink()
    library = FETCHED / "python"
    if not (library / "grpc").exists():
        subprocess.run(["/usr/bin/python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--only-binary", ":all:", "--target", library, GRPC], timeout=600, check=True,
                       stderr=subprocess.DEVNULL)
    if str(library) not in sys.path:
        sys.path.append(str(library))
    return agent


def make_disk(folder, agent):
    tree, disk = folder / "root", folder / "root.ext4"
    for name in ("dev", "proc", "sys", "tmp", "run", "boxlite"):
        (tree / name).mkdir(parents=True)
    shutil.copy(agent, tree / "boxlite-guest")
    (tree / "boxlite-guest").chmod(0o755)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, disk, "64M"], check=True, timeout=60,
                   stdout=subprocess.DEVNULL,
                   env=dict(os.environ, PATH=f"{os.environ['PATH']}:/usr/sbin:/sbin"))
    return disk


class Peer:
    name = f"BoxLite {VERSION}"

    def __init__(self, place):
        agent = fetch()
        import grpc
        self.errors = grpc.RpcError
        self.binary = SIZE
        self.program = agent
        self.machine = None  # (initramfs, disk) to boot from
        self.place = place
        conn = self.conn = place.vm.connect(epoch=time.time_ns())
        with place.vm.bulk() as bulk:
            bulk.put(agent.read_bytes(), write={"at": {"path": b"/boxlite/bin/boxlite-guest"}, "mode": 0o755,
                                                "make_parents": True})
        self.execution = conn.started(conn.start("/boxlite/bin/boxlite-guest", "--listen", f"vsock://{PORT}", "--notify",
                                                 f"vsock://{READY_PORT}", ring_policy=DROP_OLDEST))
        self.await_port()
        port = free_port()
        place.spawn(BIN / "standin", "--relay", port, f"vsock:{place.vm.run}/vsock.sock:{PORT}")
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.initial_reconnect_backoff_ms", 100),
                                                                    ("grpc.max_reconnect_backoff_ms", 100)])
        try:
            grpc.channel_ready_future(self.channel).result(30)
            self.ping()
            self.call("Guest/Init")
            self.make_container()
        except (grpc.RpcError, grpc.FutureTimeoutError) as e:
            raise Failed(f"BoxLite's agent does not serve: {e}; {self.said()}") from None

    def await_port(self):
        end = time.monotonic() + 30
        while True:
            try:
                self.place.vm.dial(PORT).close()
                return
            except ConnectionError:
                if time.monotonic() > end:
                    raise Failed(f"BoxLite's agent does not listen: {self.said()}") from None
                time.sleep(0.05)

    def said(self):
        self.conn = self.place.vm.connect(epoch=time.time_ns())
        self.conn.attach(self.execution)
        self.conn.settle(0.5)
        return bytes(self.execution.stdout[-1500:]).decode(errors="replace")

    def call(self, method, request=b""):
        reply = self.channel.unary_unary(f"/boxlite.v1.{method}")(request, timeout=60)
        return reply

    def make_container(self):
        script = (f"mkdir -p {ROOT} && cd {ROOT} && cp -a /bin /etc . && mkdir -p usr proc sys dev tmp run && "
                  "ln -s ../bin usr/bin")
        conn = self.place.vm.connect(epoch=time.time_ns())
        x = conn.run("sh", "-c", script, timeout=60)
        if x.exit.code:
            raise Failed(f"no root for the container: {x.stderr!r}")
        sys_mount = field(1, "/sys") + field(2, "/sys") + b"".join(
            field(3, o) for o in ("rbind", "nosuid", "noexec", "nodev", "ro"))
        config = (field(1, "/bin/sleep") + field(1, "1000000") + field(2, "PATH=/bin:/usr/bin") + field(3, "/") +
                  field(6, field(3, sys_mount)))
        request = field(1, CONTAINER) + field(2, config) + field(3, field(1, b"")) + field(6, "main")
        for method, message in (("Container/Init", request), ("Container/Start", field(1, CONTAINER))):
            reply = self.call(method, message)
            if not value_of(reply, 1):
                raise Failed(f"BoxLite's {method}: {value_of(value_of(reply, 2), 1).decode(errors='replace')}")

    def start(self, program, *args):
        environment = field(1, "BOXLITE_EXECUTOR") + field(2, f"container={CONTAINER}")
        reply = self.call("Execution/Exec", field(2, program) + b"".join(field(3, a) for a in args) +
                          field(4, environment))
        error = value_of(reply, 4)
        if error:
            raise Failed(f"BoxLite's Exec: {error!r}")
        return field(1, value_of(reply, 1))

    def ping(self):
        began = time.monotonic_ns()
        self.call("Guest/Ping")
        return time.monotonic_ns() - began

    def exec(self):
        began = time.monotonic_ns()
        reply = self.call("Execution/Wait", self.start("/bin/true"))
        took = time.monotonic_ns() - began
        if value_of(reply, 1, 0) != 0:
            raise Failed("true did not end with 0")
        return took

    def stdout(self, n):
        began = time.monotonic_ns()
        x = self.start("/bin/floor", "--print", str(n))
        got = 0
        for event in self.channel.unary_stream("/boxlite.v1.Execution/Attach")(x, timeout=120):
            got += len(value_of(value_of(event, 1), 1))
        self.call("Execution/Wait", x)
        return time.monotonic_ns() - began, got

    def boot(self):
        """In BoxLite it is no init, but started by libkrun's, from a root that the host shares. So here: the floor is
        init, its root is a disk with nothing but it, and it is read as far as it is used."""
        if not self.machine:
            self.machine = bare_initramfs(self.place.folder), make_disk(self.place.folder, self.program)
        initramfs, disk = self.machine
        return boot_to_signal(READY_PORT, initramfs, "--disk", f"{disk},format=raw,readonly=off", append=f"-- /boxlite-guest "
                              f"--listen vsock://{PORT} --notify vsock://{READY_PORT}")

    def pids(self):
        conn = self.place.vm.connect(epoch=time.time_ns())
        return [int(p) for p in conn.run("pidof", "boxlite-guest").stdout.split()]

    def close(self):
        self.channel.close()
