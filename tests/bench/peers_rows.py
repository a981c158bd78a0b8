"""Other agents beside ours: in turns, in the same guest, with the same programs."""

import importlib
import re
import time
from pathlib import Path

from harness import MIB, TOP, Figure, in_turns, microseconds, milliseconds, rate
from places import GuestLink
from scale import boot_to_signal

PEERS = sorted(p.stem for p in Path(__file__).with_name("peers").glob("[a-z]*.py"))


def pss(place, pids):
    conn = place.vm.connect(epoch=time.time_ns())
    text = conn.run("sh", "-c", "cat " + " ".join(f"/proc/{p}/smaps_rollup" for p in pids)).stdout.decode()
    return sum(map(int, re.findall(r"^Pss:\s+(\d+) kB", text, re.M)))


def run(report, quick):
    for module in PEERS:
        with GuestLink() as place:
            try:
                peer = importlib.import_module(f"peers.{module}").Peer(place)
            except Exception as e:  # noqa: BLE001
                report.take(Figure("peers", module, ""), lambda f, e=e: (_ for _ in ()).throw(e))
                continue
            try:
                compare(report, place, peer, quick)
            finally:
                peer.close()


def compare(report, place, peer, quick):
    rounds, size = (1, 4 * MIB) if quick else (7, 32 * MIB)
    where = f"beside {peer.name}"

    def row(name, unit, args, theirs, scale, count=20, **kw):
        report.take(Figure(where, name, unit, **kw), lambda f: in_turns(
            f, lambda: place.load("agent", count, *args), lambda: [theirs() for _ in range(count)], rounds, scale))

    row("ping", "µs", ["echo"], peer.ping, microseconds, note="its client is Python's gRPC, ours is C")
    row("exec of true", "µs", ["exec"], peer.exec, microseconds)
    lost = []

    def stdout():
        took, got = peer.stdout(size)
        lost.append(size - got)
        return took

    row("stdout", "MiB/s", ["stdout", str(size)], stdout, rate(size), count=1, best="high")
    report.fact(where, "its bytes of stdout that never came, of each run", "bytes", lambda: lost or [0],
                note="a client that always reads")
    report.take(Figure(where, "boot to ready signal", "ms", note="QEMU's start to a call from the guest; ours is init, "
                       "theirs is started by one from a disk"),
                lambda f: in_turns(f, lambda: [boot_to_signal(1001, TOP / "build/guest/initramfs.cpio")],
                                   lambda: [peer.boot()], 1 if quick else 5, milliseconds))
    binary = Figure(where, "binary", "KiB")
    binary.ours, binary.floor = [[(TOP / "build/guest/tenon-init").stat().st_size / 1024]], [[peer.binary / 1024]]
    memory = Figure(where, "PSS in the guest", "KiB", note="after those rows")
    memory.ours, memory.floor = [[pss(place, [1])]], [[pss(place, peer.pids())]]
    for f in (binary, memory):
        f.ratios.append(f.ours[0][0] / f.floor[0][0])
        report.add(f)
