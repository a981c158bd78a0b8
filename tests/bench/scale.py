"""Boot, memory, and what happens when there are many: figures that stand by themselves or beside a bare init."""

import re
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import BIN, MIB, TOP, Failed, Figure, in_turns, microseconds, milliseconds, samples
from places import (GuestRest, PlainRest, Rest, await_listener, children, free_port, rollup, status, stand_in_environment,
                    switches)
from vmm import KERNELS, MACHINES, AgentVm, Vmm, make_upper

KIB = 1024
GUEST, HOST = "guest (TCG)", "plain host"


def bare_initramfs(folder):
    """The same archive with the floor as its init."""
    out = folder / "bare.cpio"
    subprocess.run([TOP / "rootfs/initramfs.sh", BIN / "floor", out], check=True, timeout=60)
    return out


class Machine(Vmm):
    """A VM whose init listens on port 1000: the agent, or the floor in its place."""

    port = 1000

    def __init__(self, initrd, *args, **kw):
        super().__init__(initrd, *args, **kw)
        if self.ready != "ready":
            raise Failed(f"QEMU did not start: {self.ready}")

    def up(self, port=None):
        """Until the port is open: ns since the start."""
        while True:
            try:
                self.dial(port or self.port).close()
                return self.age()
            except ConnectionError:
                if self.process.poll() is not None or self.age() > 60e9:
                    raise Failed("it did not boot") from None
                time.sleep(0.002)

    def rung(self, port):
        """Until the guest dials that port of the host: ns since the start."""
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(self.run / f"vsock.sock_{port}"))
            s.listen()
            s.settimeout(60)
            s.accept()[0].close()
            return self.age()

    def age(self):
        """ns since QEMU was asked for."""
        return (time.monotonic() - self.began) * 1e9


def boot_once(initrd, **kw):
    vm = Machine(initrd, memory=128, **kw)
    try:
        return [vm.up()]
    finally:
        vm.close()


def boot_to_signal(port, initrd, *args, **kw):
    """ns until the agent says by itself that it serves."""
    vm = Machine(initrd, *args, memory=256, **kw)
    try:
        return vm.rung(port)
    except TimeoutError:
        raise Failed(f"no signal: {vm.console()[-300:]}") from None
    finally:
        vm.close()


def available(vm):
    """MemAvailable of a floor VM, KiB."""
    with vm.dial(vm.port) as s:
        s.sendall(b"m")
        return struct.unpack("<Q", s.recv(8, 0x100))[0]


def guest_numbers(conn):
    text = conn.run("cat", "/proc/meminfo").stdout.decode()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1])


# ---- groups ---------------------------------------------------------------------------------------


def boot(report, quick):
    bare, ours = bare_initramfs(report.files), TOP / "build/guest/initramfs.cpio"
    kernels = {k: path for k, path in KERNELS.items() if path.exists()}
    for kernel, path in kernels.items():
        for machine in MACHINES:
            kw = {"kernel": path, "machine": machine}
            report.take(Figure(GUEST, f"boot to READY: {kernel} kernel, {machine}", "ms", goal=1.10,
                               note="beside a bare init that opens vsock"),
                        lambda f, kw=kw: in_turns(f, lambda: boot_once(ours, **kw), lambda: boot_once(bare, **kw),
                                                  1 if quick else 5, milliseconds))

            def left(kw=kw):
                vm = Machine(bare, memory=128, **kw)
                try:
                    vm.up()
                    return available(vm)
                finally:
                    vm.close()

            report.fact(GUEST, f"MemAvailable of 128 MB, bare init: {kernel} kernel, {machine}", "KiB", left)

    def lost(f):
        """What the box has less than a machine with a bare init, before it is configured."""
        for _ in range(1 if quick else 3):
            machines = [Machine(i, memory=128) for i in (ours, bare)]
            try:
                for m in machines:
                    m.up()
                import wire
                conn = wire.Conn(machines[0].dial(1000))
                conn.configure(env=[b"PATH=/bin"])
                # The initramfs has no programs: a copy of the floor is one.
                from bulk import Bulk
                with Bulk(machines[0].dial(1000), conn.epoch) as b:
                    b.put((BIN / "floor").read_bytes(), write={"at": {"path": b"/run/floor"}, "mode": 0o755})
                x = conn.started(conn.start("/run/floor", "vsock:1002"))
                machines[0].up(1002)
                with machines[0].dial(1002) as s:
                    s.sendall(b"m")
                    mine = struct.unpack("<Q", s.recv(8, 0x100))[0]
                del x
                f.ours.append([available(machines[1]) - mine])
            finally:
                for m in machines:
                    m.close()

    report.take(Figure(GUEST, "MemAvailable lost to the agent", "KiB", note="of 128 MB, against the bare init; one small command runs"), lost)


def sizes(report, quick):
    agent = TOP / "build/guest/tenon-init"
    report.fact(GUEST, "agent binary", "KiB", agent.stat().st_size / KIB, goal=450)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        vm = AgentVm(make_upper(folder), memory=512)
        try:
            vm.configured()

            def pss():
                text = vm.conn.run("cat", "/proc/1/smaps_rollup").stdout.decode()
                return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1])

            report.fact(GUEST, "agent PSS, idle", "KiB", pss, goal=600)
            with vm.bulk() as bulk:
                bulk.put((BIN / "floor").read_bytes(), write={"at": {"path": b"/bin/floor"}, "mode": 0o755})

            def many(f):
                f.ours.append([milliseconds(x) for x in samples(
                    "load", "agent", f"vsock:{vm.run}/vsock.sock:1000", 1, "many", 200, 1000000)])

            report.take(Figure(GUEST, "200 execs at once, 1 MB each", "ms", note="every byte and code is checked"), many)

            def peak():
                text = vm.connect(epoch=time.time_ns()).run("cat", "/proc/1/status").stdout.decode()
                return int(re.search(r"^VmHWM:\s+(\d+) kB", text, re.M)[1])

            report.fact(GUEST, "agent's peak RSS in that", "KiB", peak, goal=16384)
            report.fact(HOST, "QEMU's PSS, one box of 512 MB", "KiB", lambda: rollup(vm.qemu))
            report.fact(HOST, "tenon-vmm's PSS", "KiB", lambda: rollup(vm.process.pid))
        finally:
            vm.close()


def first_output(report, quick):
    """From the POST that creates a box to the first byte of its first command; the floor boots a bare init and spawns."""
    bare = bare_initramfs(report.files)

    class Place(Rest):
        name = GUEST

    with Place("--accel", "tcg") as place:
        def ours():
            began = time.monotonic_ns()
            box = place.client.create(image="tenon/base", memory_mib=256)["box_id"]
            x = place.client.exec(box, "echo", "hello", stdin="")
            next(e for e in x.events() if e.name == "stdout")
            took = time.monotonic_ns() - began
            place.client.remove(box)
            return [took]

        def floor():
            vm = Machine(bare, memory=256)
            try:
                vm.up()
                with vm.dial(vm.port) as s:
                    s.sendall(b"e" + struct.pack("<I", 5) + b"hello")
                    s.recv(5, 0x100)
                return [vm.age()]
            finally:
                vm.close()

        report.take(Figure(GUEST, "create → first output of a command", "ms",
                           note="beside the boot of a bare init alone; both without image cache"),
                    lambda f: in_turns(f, ours, floor, 1 if quick else 5, milliseconds))


def requests_per_second(port, path, seconds):
    done = subprocess.run(["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"],
                          capture_output=True, text=True, timeout=60)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if not found or "Non-2xx" in done.stdout:
        raise Failed(f"wrk: {done.stdout[-200:]}{done.stderr[-200:]}")
    return float(found[1])


class Nginx:
    """One worker that answers with the same bytes each time. Debian's package, unpacked and not installed."""

    def __init__(self, body, folder):
        tree = subprocess.run([TOP / "rootfs/sources.sh", "binary", "nginx"], capture_output=True, text=True, check=True,
                              timeout=300).stdout.strip()
        self.port = free_port()
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; error_log stderr crit; pid {folder}/nginx.pid;\n"
            "events { worker_connections 256; }\n"
            "http { access_log off; keepalive_requests 1000000000; "
            + "".join(f"{k}_temp_path {folder}/{k}; " for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"server {{ listen 127.0.0.1:{self.port}; default_type application/json; root {folder}; }} }}\n")
        (folder / "reply.json").write_text(body)
        self.process = subprocess.Popen([f"{tree}/tree/usr/sbin/nginx", "-p", folder, "-c", folder / "nginx.conf"],
                                        stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                requests_per_second(self.port, "/reply.json", 1)
                return
            except Failed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def rest_rate(report, quick):
    seconds = 1 if quick else 3
    with PlainRest() as place:
        path = f"/v1/boxes/{place.box}"
        nginx = Nginx(place.client.get(path[3:]).text, report.files)
        try:
            figure = Figure(HOST, "REST: GET of a box", "requests/s", best="high",
                            note="16 connections; beside nginx with a static file of the same bytes, one worker")

            def measure(f):
                for _ in range(2 if quick else 5):
                    a = requests_per_second(place.daemon.port, path, seconds)
                    b = requests_per_second(nginx.port, "/reply.json", seconds)
                    f.ours.append([a])
                    f.floor.append([b])
                    f.ratios.append(a / b)

            report.take(figure, measure)
        finally:
            nginx.close()
        readers(report, place, quick)


def readers(report, place, quick):
    n, size = (200, 65536) if quick else (2000, 65536)
    pid = place.daemon.process.pid
    before = status(pid, "VmRSS")
    stop = threading.Event()
    peak = [0]

    def watch():
        while not stop.wait(0.02):
            peak[0] = max(peak[0], status(pid, "VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report.take(Figure(HOST, f"{n:,} readers of one exec, 64 KiB each", "ms"),
                    lambda f: f.ours.append([milliseconds(x) for x in place.rest(1, "readers", n, size)]))
    finally:
        stop.set()
        watcher.join()
    report.fact(HOST, "tenond's RSS per reader in that", "KiB", (peak[0] - before) / n)


class Fleet(PlainRest):
    """tenond and as many plain agents as asked for."""

    def grow(self, n):
        def start(_):
            client = self.daemon.client()
            box = client.create(image="tenon/base")["box_id"]
            r = client.post(f"/boxes/{box}/start")
            assert r.status_code == 200, r.text

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(start, range(n)))

    def agents(self):
        """Pids of the agents: each is the child of its stand-in."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"tenon-init" and str(self.home).encode() in words[2]:
                found.append(int(entry.parent.name))
        return found

    def switches_a_minute(self, seconds):
        """(tenond's, the agents') context switches in a minute, for each agent."""
        agents, tenond = self.agents(), self.daemon.process.pid
        before = switches(tenond), [switches(p) for p in agents]
        time.sleep(seconds)
        after = switches(tenond), [switches(p) for p in agents]
        scale = 60 / seconds
        return ((after[0] - before[0]) * scale / len(agents),
                statistics.mean(b - a for a, b in zip(before[1], after[1])) * scale)


def idle_agents(report, quick):
    n = 100 if quick else 1000
    with Fleet() as fleet:
        pid = fleet.daemon.process.pid
        alone = status(pid, "VmRSS")
        fleet.grow(n - 1)
        time.sleep(2)
        report.fact(HOST, f"tenond's RSS with {n:,} idle agents", "MiB", lambda: status(pid, "VmRSS") / KIB, goal=64)
        report.fact(HOST, "tenond's share of a box", "KiB", lambda: (status(pid, "VmRSS") - alone) / (n - 1),
                    note="its RSS, of each beyond the first")
        tenond, agents = fleet.switches_a_minute(20 if quick else 60)
        report.fact(HOST, "context switches of an idle agent", "a minute", agents, goal=10)
        report.fact(HOST, "context switches of tenond for it", "a minute", tenond, goal=10)
        report.fact(HOST, "PSS of an idle agent among them", "KiB",
                    lambda: statistics.median(rollup(p) for p in fleet.agents()[:100]))


def growth(report, quick):
    steps = [1, 10] if quick else [1, 10, 100]
    lines = {"tenond's RSS, MiB": [], "exec of true over REST, p50, µs": [], "a box more: create and start, ms": []}
    with Fleet() as fleet:
        have, pid = 1, fleet.daemon.process.pid
        for n in steps:
            began = time.monotonic()
            fleet.grow(n - have + 1)
            each = (time.monotonic() - began) * 1000 / (n - have + 1)
            have = n + 1
            lines["a box more: create and start, ms"].append(each)
            lines["tenond's RSS, MiB"].append(status(pid, "VmRSS") / KIB)
            took = fleet.rest(50 if quick else 200, "wait")
            lines["exec of true over REST, p50, µs"].append(microseconds(statistics.median(took)))
    report.curves["growth"] = {"x": steps, "xlabel": "boxes (plain agents)", "lines": lines}
    for name, values in lines.items():
        label, unit = name.rsplit(", ", 1)
        for n, v in zip(steps, values):
            report.fact(HOST, f"{n} boxes: {label}", unit, v)


def real_boxes(report, quick):
    """How far RAM and two processors go with real VMs."""
    steps = [1] if quick else [1, 4, 10]
    lines = {"PSS of all QEMUs, MiB": [], "PSS of all tenon-vmms, MiB": [], "tenond's RSS, MiB": [],
             "exec of true over REST, p50, ms": []}

    class Place(Rest):
        name = GUEST

    with Place("--accel", "tcg") as place:
        boxes = []
        for n in steps:
            while len(boxes) < n:
                boxes.append(place.start_box(memory_mib=128))
            place.box = boxes[0]
            vmms = [p for p in children(place.daemon.process.pid)]
            qemus = [q for p in vmms for q in children(p)]
            lines["PSS of all QEMUs, MiB"].append(sum(map(rollup, qemus)) / KIB)
            lines["PSS of all tenon-vmms, MiB"].append(sum(map(rollup, vmms)) / KIB)
            lines["tenond's RSS, MiB"].append(status(place.daemon.process.pid, "VmRSS") / KIB)
            lines["exec of true over REST, p50, ms"].append(
                milliseconds(statistics.median(place.rest(20 if quick else 60, "wait"))))
    report.curves["vms"] = {"x": steps, "xlabel": "boxes (QEMU, 128 MB each)", "lines": lines}
    for name, values in lines.items():
        label, unit = name.rsplit(", ", 1)
        for n, v in zip(steps, values):
            report.fact(GUEST, f"{n} VMs: {label}", unit, v)
