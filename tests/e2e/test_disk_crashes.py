"""kill -9 at random moments of work on disks: of tenond, of qemu-img, of tenon-vmm and QEMU. After each, what is there is
the old or the new state, every disk is sound, every content right, and nothing is left over.

Two hundred deaths in all; TENON_CRASHES multiplies them. The seed is printed: TENON_SEED repeats a run's choices."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

from test_snapshots import check_disks

TIMES = float(os.environ.get("TENON_CRASHES", "1"))
OFFLINE, RUNNING, MACHINES = int(150 * TIMES), int(42 * TIMES), int(8 * TIMES)
AT, LENGTH = 300 << 20, 65536  # where a disk that no VM has keeps its number


@pytest.fixture
def dice():
    seed = int(os.environ.get("TENON_SEED", time.time_ns() & 0xFFFFFF))
    print("seed", seed)
    return random.Random(seed)


def children(pid, name):
    """Processes of that name below pid, by what /proc says now."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            for child in (task / "children").read_text().split():
                if (Path("/proc") / child / "comm").read_text().strip() == name:
                    found.append(int(child))
        except OSError:
            pass
    return found


class State:
    """The database and the files of a tenond that does not run, or is idle."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.db = daemon.state / "tenon.db"

    def rows(self, sql, *args):
        db = sqlite3.connect(self.db, timeout=10)
        try:
            return db.execute(sql, args).fetchall()
        finally:
            db.close()

    def change(self, sql, *args):
        db = sqlite3.connect(self.db, timeout=10)
        with db:
            db.execute(sql, args)
        db.close()

    def path(self, layer):
        return str(self.daemon.state / "disks" / f"{layer}.qcow2")

    def active(self, box):
        return self.rows("SELECT disk FROM boxes WHERE id = ?", box)[0][0]

    def check_nothing_left(self):
        """Files and rows are the same, each is reached from a box or a snapshot; no transfer has left anything."""
        deadline = time.monotonic() + 10
        while True:
            below = dict(self.rows("SELECT id, below FROM layers"))
            held = {d for d, in self.rows("SELECT disk FROM boxes UNION SELECT layer FROM snapshots")}
            reached = set()
            for layer in held:
                while layer:
                    reached.add(layer)
                    layer = below[layer]
            there = {p.name for p in (self.daemon.state / "disks").iterdir()}
            wanted = {f"{layer}.qcow2" for layer in below}
            transfers = list((self.daemon.state / "archives").iterdir())
            boxes = {b for b, in self.rows("SELECT id FROM boxes")}
            folders = {p.name for p in (self.daemon.state / "boxes").iterdir()}
            # A box that has never started may have no file of its disk yet.
            if reached == set(below) and there <= wanted and wanted - there <= self.unborn() and not transfers:
                if folders <= boxes:
                    return
            assert time.monotonic() < deadline, (reached, below, there, transfers, folders - boxes)
            time.sleep(0.02)

    def unborn(self):
        return {f"{d}.qcow2" for d, in self.rows("SELECT disk FROM boxes WHERE status = 'configured'")}


def qemu_io(path, command):
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "failed" not in done.stdout, (path, command, done.stdout, done.stderr)
    return done.stdout


def put_number(state, box, n):
    """As a VM would: into the box's own layer, which from then on has been written into."""
    layer = state.active(box)
    qemu_io(state.path(layer), f"write -P {n % 255 + 1} {AT} {LENGTH}")
    state.change("UPDATE layers SET written = 1 WHERE id = ?", layer)


def has_number(path, n):
    """A pattern of n all over, so that a mixture of two is found. None: zeroes, which no file system has written over."""
    pattern = 0 if n is None else n % 255 + 1
    for _ in range(50):
        done = subprocess.run(["qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P {pattern} {AT} {LENGTH}", path],
                              capture_output=True, text=True, timeout=60)
        # A merge that is on takes the lower file's name away at its end: whoever has just opened the upper looks anew.
        if "No such file" not in done.stdout + done.stderr:
            break
    return done.returncode == 0 and "failed" not in done.stdout


class Ask(threading.Thread):
    """A request that may never be answered; what became of it, if it was."""

    def __init__(self, client, method, path, **kw):
        super().__init__(daemon=True)
        self.status = None
        self.ask = (client, method, path, kw)
        self.start()

    def run(self):
        client, method, path, kw = self.ask
        try:
            with requests.Session() as s:
                s.trust_env = False
                r = s.request(method, client.url + path, timeout=60, **kw)
                self.content, self.status = r.content, r.status_code
        except requests.RequestException:
            pass


def test_without_a_vm(make_daemon, dice):
    d = make_daemon()
    state, client = State(d), d.client()
    box = client.create(name="b", disk_size_gb=1)["box_id"]
    assert client.post(f"/boxes/{box}/snapshots", json={"name": "s0"}).status_code == 201
    archive = client.post(f"/boxes/{box}/export").content
    # What each snapshot and box must hold; None: the empty disk's.
    now, kept, copies = None, {"s0": None}, {}
    killed = {"tenond": 0, "qemu-img": 0}
    for round_ in range(OFFLINE):
        client = d.client()
        op = dice.choice(["snapshot", "snapshot", "restore", "delete", "delete", "clone", "remove", "export", "import"])
        names = sorted(kept)
        before = (now, dict(kept), dict(copies))
        after = None
        if op == "snapshot" and len(kept) < 5:
            name = f"s{round_ + 1}"
            ask = Ask(client, "POST", f"/boxes/{box}/snapshots", json={"name": name})
            after = (now, {**kept, name: now}, copies)
        elif op == "restore":
            name = dice.choice(names)
            ask = Ask(client, "POST", f"/boxes/{box}/snapshots/{name}/restore")
            after = (kept[name], kept, copies)
        elif op == "delete" and len(kept) > 1:
            name = dice.choice(names)
            ask = Ask(client, "DELETE", f"/boxes/{box}/snapshots/{name}")
            after = (now, {k: v for k, v in kept.items() if k != name}, copies)
        elif op == "clone" and len(copies) < 3:
            name = f"c{round_}"
            ask = Ask(client, "POST", f"/boxes/{box}/clone", json={"name": name})
            after = (now, kept, {**copies, name: now})
        elif op == "import" and len(copies) < 3:
            name = f"c{round_}"
            ask = Ask(client, "POST", f"/boxes/import?name={name}", data=archive)
            after = (now, kept, {**copies, name: None})
        elif op == "remove" and copies:
            name = dice.choice(sorted(copies))
            ask = Ask(client, "DELETE", f"/boxes/{name}?force=true")
            after = (now, kept, {k: v for k, v in copies.items() if k != name})
        else:
            op = "export"
            ask = Ask(client, "POST", f"/boxes/{box}/export")
            after = before
        victim = "qemu-img" if dice.random() < 0.25 else "tenond"
        until = time.monotonic() + dice.random() ** 2 * 0.12
        while time.monotonic() < until:
            found = children(d.process.pid, "qemu-img") if victim == "qemu-img" else []
            if found and dice.random() < 0.5:
                for pid in found:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                break
        if victim == "qemu-img":
            ask.join(60)
            assert ask.status, f"{op}: no answer\n{d.log_tail()}"
        killed[victim] += 1
        d.kill()
        ask.join(60)
        d.start()
        client = d.client()

        got = {s["name"] for s in client.get(f"/boxes/{box}/snapshots").json()["snapshots"]}
        boxes = {b["name"]: b["box_id"] for b in client.get("/boxes").json()["boxes"]}
        path = state.path(state.active(box))
        fits = []
        for value, snapshots, others in (before, after):
            if got == set(snapshots) and set(boxes) == {"b", *others} and has_number(path, value):
                fits.append((value, snapshots, others))
        assert fits, (op, before, after, got, boxes, ask.status)
        if ask.status and ask.status < 300:
            assert after in fits, f"{op} was answered with {ask.status} and is not there"
        now, kept, copies = fits[-1] if after in fits else fits[0]
        for name, value in kept.items():
            layer, = state.rows("SELECT layer FROM snapshots WHERE box_id = ? AND name = ?", box, name)[0]
            assert has_number(state.path(layer), value), (op, name, value)
        for name, value in copies.items():
            assert has_number(state.path(state.active(boxes[name])), value), (op, name, value)
        if op == "export" and ask.status == 200 and victim == "qemu-img":
            assert ask.content.startswith(b"\x28\xb5\x2f\xfd")
        state.check_nothing_left()
        if round_ % 3 == 0:
            check_disks(d)
        if dice.random() < 0.4:
            d.kill()
            now = round_
            put_number(state, box, now)
            d.start()
    check_disks(d)
    print(killed, len(kept), len(copies))


def in_image(state, layer, file, tmp_path):
    """A file of a layer's file system, without booting it."""
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", state.path(layer), str(raw)], check=True, timeout=60)
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    out = subprocess.run(["debugfs", "-R", f"cat /data{file}", str(raw)], capture_output=True, env=env, timeout=60).stdout
    raw.unlink()
    return out


COUNT = ("i=$(cat /root/n 2>/dev/null || echo 0); while :; do i=$((i+1)); echo $i >/root/t; mv /root/t /root/n; "
         "sync /root/n; echo $i >/root/synced; sleep 0.02; done")


def test_of_tenond_while_it_runs(make_daemon, dice, tmp_path):
    """The VM outlives tenond, which does not know at first what came of the cut it was at."""
    d = make_daemon()
    state, client = State(d), d.client()
    box = client.create(name="b", memory_mib=192, disk_size_gb=1)["box_id"]
    client.exec(box, "sh", "-c", COUNT, stdin="")
    last, kept, made = 0, {}, 0
    began = time.monotonic()
    assert client.post(f"/boxes/{box}/snapshots", json={"name": "once"}).status_code == 201
    takes = time.monotonic() - began  # on this machine, as it is now
    assert client.delete(f"/boxes/{box}/snapshots/once").status_code == 204
    for round_ in range(RUNNING):
        client = d.client()
        name = f"s{round_}"
        ask = Ask(client, "POST", f"/boxes/{box}/snapshots", json={"name": name})
        time.sleep(dice.random() * takes * 1.5)
        d.kill()
        ask.join(60)
        d.start()
        client = d.client()
        assert client.get(f"/boxes/{box}").json()["status"] == "running"
        n = number(client, box)
        assert n >= last, "the box has lost what it wrote"
        got = {s["name"] for s in client.get(f"/boxes/{box}/snapshots").json()["snapshots"]}
        assert got - set(kept) <= {name} and set(kept) <= got
        assert ask.status != 201 or name in got
        if name in got:
            made += 1
            layer, = state.rows("SELECT layer FROM snapshots WHERE name = ?", name)[0]
            kept[name] = int(in_image(state, layer, "/root/n", tmp_path) or 0)
            # Between what was seen before it was asked for and what was seen after.
            assert last <= kept[name] <= n
        last = n
        while len(kept) > 3:
            gone = dice.choice(sorted(kept))
            assert client.delete(f"/boxes/{box}/snapshots/{gone}").status_code == 204
            del kept[gone]
        if len(state.rows("SELECT id FROM layers")) > 24:
            assert client.post(f"/boxes/{box}/stop").status_code == 200
            state.check_nothing_left()
            client.exec(box, "sh", "-c", COUNT, stdin="")
    assert client.post(f"/boxes/{box}/stop").status_code == 200
    deadline = time.monotonic() + 20
    while len(state.rows("SELECT id FROM layers")) > len(kept) + 1:
        assert time.monotonic() < deadline, "what nobody needs is not merged"
        time.sleep(0.05)
    state.check_nothing_left()
    check_disks(d, leaks=True)
    for name, value in kept.items():
        layer, = state.rows("SELECT layer FROM snapshots WHERE name = ?", name)[0]
        assert int(in_image(state, layer, "/root/n", tmp_path) or 0) == value
    assert number(client, box) >= last
    print(made, "of", RUNNING, "were made")


def number(client, box, file="n"):
    out, err, end = client.run(box, "cat", f"/root/{file}")
    return int(out or 0)


def test_of_the_machine(make_daemon, dice):
    """tenon-vmm or QEMU dies in the middle of a cut: the disk is what the guest had synced, or newer, and starts."""
    d = make_daemon()
    state, client = State(d), d.client()
    box = client.create(name="b", memory_mib=192, disk_size_gb=1)["box_id"]
    last, kept = 0, set()
    for round_ in range(MACHINES):
        x = client.exec(box, "sh", "-c", COUNT, stdin="")
        while number(client, box, "synced") <= last:  # n itself may be seen before it is
            pass
        last = number(client, box, "synced")
        ask = Ask(client, "POST", f"/boxes/{box}/snapshots", json={"name": f"s{round_}"})
        time.sleep(dice.random() * 0.12)
        victim = dice.choice(["tenon-vmm", "qemu-system-x86"])
        for vmm in children(d.process.pid, "tenon-vmm"):
            for pid in [vmm] if victim == "tenon-vmm" else children(vmm, "qemu-system-x86"):
                os.kill(pid, signal.SIGKILL)
        ask.join(60)
        assert ask.status in (201, 500, 503, 504), ask.status
        deadline = time.monotonic() + 20
        while client.get(f"/boxes/{box}").json()["status"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        got = {s["name"] for s in client.get(f"/boxes/{box}/snapshots").json()["snapshots"]}
        assert got - kept <= {f"s{round_}"} and (ask.status == 201) == (f"s{round_}" in got)
        kept = got
        assert x.info()["status"] == "killed"
        n = number(client, box)
        assert n >= last, f"{n} after {last} was synced"
        last = n
    assert client.post(f"/boxes/{box}/stop").status_code == 200
    state.check_nothing_left()
    check_disks(d, leaks=True)
