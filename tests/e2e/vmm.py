"""tenon-vmm with real QEMU, without tenond: bare guests, and the agent on the disks of a box."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
VMM = TOP / "build/bin/tenon-vmm"
KERNELS = {"debian": TOP / "build/kernel/vmlinux", "small": TOP / "build/kernel/small/vmlinux"}
KERNEL = KERNELS["small"] if KERNELS["small"].exists() else KERNELS["debian"]  # as tenond chooses
MACHINES = ["q35", "microvm"]
BOOT_SECONDS = 60

sys.path.insert(0, str(TOP / "tests/agent"))
import wire  # noqa: E402
from bulk import Bulk, bulk_pb  # noqa: E402
from proto import vmm_pb2  # noqa: E402
from wire import pb  # noqa: E402


class Vmm:
    """One tenon-vmm, started as tenond would start it."""

    port = 5001  # what up() waits for: vsock_peer's echo, the last it listens on

    def __init__(self, initrd, *args, append=None, memory=256, kernel=KERNEL, machine="q35"):
        self.dir = tempfile.TemporaryDirectory(prefix="vmm", dir="/tmp")
        self.run, self.state = Path(self.dir.name, "run"), Path(self.dir.name, "state")
        self.run.mkdir()
        self.state.mkdir()
        ready, told = os.pipe()
        command = [VMM, "--run-dir", self.run, "--state-dir", self.state, "--kernel", kernel, "--initrd", initrd,
                   "--machine", machine, "--cpus", "1", "--memory", str(memory), "--accel", "tcg", "--cid", "1234",
                   "--ready-fd", str(told), *args]
        if append:
            command += ["--append", append]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, pass_fds=[told], stdin=subprocess.DEVNULL)
        os.close(told)
        with open(ready, "rb") as f:
            self.ready = f.readline().decode().strip()
        self.qemu = self.find_qemu()

    def find_qemu(self):
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            if int(text[text.rindex(")") + 4:].split()[0]) == self.process.pid:
                return int(stat.parent.name)
        return None

    def up(self):
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                self.dial(self.port).close()
                return self
            except ConnectionError:
                assert time.monotonic() < deadline, self.console()
                assert self.process.poll() is None, self.exit_record()
                time.sleep(0.005)

    def dial(self, port, timeout=30):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(str(self.run / "vsock.sock"))
        s.sendall(b"CONNECT %d\n" % port)
        line = b""
        while not line.endswith(b"\n"):
            byte = s.recv(1)
            if not byte:
                s.close()
                raise ConnectionRefusedError(line)
            line += byte
        assert line.startswith(b"OK ")
        return s

    def qmp(self, command, **arguments):
        """One command to QEMU, by way of vmm.sock."""
        sock = wire.connect_unix(self.run / "vmm.sock")
        conn = wire.Conn(sock, hello=False)
        conn.send(wire.frame(wire.HELLO, 0, wire.hello_payload(pb.Hello(role=pb.ROLE_VMM))))
        conn.wait(lambda: conn.hello is not None)
        conn.response = vmm_pb2.VmmResponse
        text = json.dumps({"execute": command, "arguments": arguments}).encode()
        stream = conn.open(vmm_pb2.VmmRequest(qmp=vmm_pb2.VmmQmp(command=text)))
        conn.wait(lambda: stream in conn.replies)
        conn.close()
        reply = json.loads(conn.replies[stream].qmp.reply)
        assert "return" in reply, reply
        return reply["return"]

    def console(self):
        return (self.state / "console.log").read_bytes()[-20000:].decode(errors="replace")

    def exit_record(self):
        return json.loads((self.state / "exit.json").read_text())

    def ended(self, timeout=20):
        self.process.wait(timeout)
        return self.exit_record()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.dir.cleanup()


def make_upper(folder, size="2G"):
    """A box's writable disk, in a folder of the caller's."""
    upper = Path(folder) / "upper.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", TOP / "build/images/upper.ext4", upper,
                    size], check=True, timeout=30)
    return upper


class AgentVm(Vmm):
    """A box as tenond makes it: the initramfs with tenon-init, the base image below a writable layer."""

    port = 1000

    def __init__(self, upper, disks=(), **kw):
        super().__init__(TOP / "build/guest/initramfs.cpio",
                         "--disk", f"{TOP}/build/images/base.squashfs,format=raw,readonly=on",
                         "--disk", f"{upper},format=qcow2,readonly=off",
                         *[arg for disk in disks for arg in ("--disk", disk)], **kw)
        self.conn = None

    def connect(self, **kw):
        """A new main connection, which fences the one before."""
        self.conn = wire.Conn(self.dial(self.port), **kw)
        return self.conn

    def bulk(self, **kw):
        """A bulk connection beside the main one."""
        return Bulk(self.dial(self.port), self.conn.epoch, **kw)

    def configured(self, **kw):
        """Booted and configured, with a main connection; hello_s and ready_s are seconds from tenon-vmm's start."""
        assert self.ready == "ready"
        self.up().connect()
        self.conn.wait(lambda: self.conn.hello is not None)
        self.hello_s = time.monotonic() - self.began
        self.configure(**kw)
        self.ready_s = time.monotonic() - self.began
        return self

    def available(self):
        """Bytes of memory that the box has left."""
        with self.bulk() as b:
            return b.call(metrics=bulk_pb.GetMetrics()).metrics.memory.available

    def configure(self, **kw):
        overlay = pb.OverlayRoot(lower=pb.Device(name=b"vda", fstype=b"squashfs"),
                                 upper=pb.Device(name=b"vdb", fstype=b"ext4"))
        kw.setdefault("realtime_ns", time.time_ns())
        kw.setdefault("hostname", b"box")
        self.conn.configure(root=pb.Root(overlay=overlay), env=[], seed=os.urandom(64), **kw)


def measure_boot(folder, kernel, machine, memory=256):
    """One boot of a combination from KERNELS and MACHINES: seconds to HELLO and to the end of Configure, and the bytes of
    memory that are left then. For `make bench`."""
    v = AgentVm(make_upper(folder), kernel=KERNELS[kernel], machine=machine, memory=memory)
    try:
        v.configured()
        return {"hello_s": v.hello_s, "ready_s": v.ready_s, "available": v.available()}
    finally:
        v.close()
