"""Snapshots and clones of real boxes: what is in them, what a box that runs notices of it, what stays on the disk."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from client import error_of


@pytest.fixture(scope="module")
def own(make_daemon):
    return make_daemon()


@pytest.fixture(scope="module")
def client(own):
    return own.client()


@pytest.fixture
def fresh(client):
    """A box of the test's own that was never started."""
    box = client.create(memory_mib=192)["box_id"]
    yield box
    client.remove(box)


def snapshot(client, box, name):
    r = client.post(f"/boxes/{box}/snapshots", json={"name": name})
    assert r.status_code == 201, r.text
    return r.json()


def restore(client, box, name):
    return client.post(f"/boxes/{box}/snapshots/{quote(name, safe='')}/restore")


def remove(client, box, name):
    r = client.delete(f"/boxes/{box}/snapshots/{quote(name, safe='')}")
    assert r.status_code == 204, r.text


def write(client, box, value):
    out, err, end = client.run(box, "sh", "-c", f"echo {value} >/root/value; sync")
    assert end["exit_code"] == 0, err


def read(client, box):
    return client.run(box, "cat", "/root/value")[0].decode().strip()


def stop(client, box):
    r = client.post(f"/boxes/{box}/stop")
    assert r.status_code == 200 and r.json()["status"] in ("stopped", "configured"), r.text


def files(daemon):
    return sorted((daemon.state / "disks").iterdir())


def merges(daemon):
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_bytes().split(b"(", 1)[1].rsplit(b")", 1)
        except OSError:
            continue
        if name == b"qemu-img" and int(rest.split()[1]) == daemon.process.pid:
            return True
    return False


def check_disks(daemon, leaks=False):
    """leaks: a QEMU may have been killed, which leaves clusters unused until the disk is used next."""
    end = time.monotonic() + 20
    while merges(daemon):
        assert time.monotonic() < end, "a merge goes on"  # what it writes into cannot be checked
        time.sleep(0.05)
    for path in files(daemon):
        done = subprocess.run(["qemu-img", "check", "-U", "-q", str(path)], capture_output=True, text=True, timeout=60)
        # One that is gone was merged with another, or removed, since the folder was read.
        assert done.returncode == 0 or (leaks and done.returncode == 3) or not path.exists(), done.stdout + done.stderr


def wait_files(daemon, count):
    """What is removed or merged is so after the reply."""
    end = time.monotonic() + 20
    while len(files(daemon)) != count:
        assert time.monotonic() < end, files(daemon)
        time.sleep(0.05)


def test_create_list_get_restore_delete(client, fresh, own):
    write(client, fresh, "one")
    stop(client, fresh)
    made = snapshot(client, fresh, "first")
    assert made["box_id"] == fresh and made["name"] == "first" and abs(made["created_at"] - time.time()) < 60
    assert made["container_disk_bytes"] == 10 << 30 and 0 < made["size_bytes"] < 64 << 20 and made["pause_ms"] == 0
    write(client, fresh, "two")
    # One that runs is not restored.
    r = restore(client, fresh, "first")
    assert r.status_code == 409 and "running" in error_of(r)["message"]
    stop(client, fresh)
    snapshot(client, fresh, "second")
    got = client.get(f"/boxes/{fresh}/snapshots").json()["snapshots"]
    assert [s["name"] for s in got] == ["first", "second"] and got[0] == made
    assert client.get(f"/boxes/{fresh}/snapshots/first").json() == made
    for name, value in ("first", "one"), ("second", "two"), ("first", "one"):
        assert restore(client, fresh, name).status_code == 204
        assert read(client, fresh) == value
        stop(client, fresh)
    remove(client, fresh, "first")
    assert client.get(f"/boxes/{fresh}/snapshots/first").status_code == 404
    assert restore(client, fresh, "first").status_code == 404
    assert restore(client, fresh, "second").status_code == 204
    assert read(client, fresh) == "two"
    stop(client, fresh)
    wait_files(own, 2)  # what "first" alone had is merged by now: a disk that is being written cannot be checked
    check_disks(own, leaks=True)


def test_names(client, fresh):
    for name in "a/b", "with blank", "größer", "...", "100%", "x" * 128:
        snapshot(client, fresh, name)
        r = client.post(f"/boxes/{fresh}/snapshots", json={"name": name})
        assert r.status_code == 409 and error_of(r)["code"] == "already_exists"
        assert client.get(f"/boxes/{fresh}/snapshots/{quote(name, safe='')}").json()["name"] == name
    for bad in {}, {"name": ""}, {"name": "x" * 129}, {"name": 1}, {"name": ".."}, {"name": "a\nb"}, {"name": "a", "b": 1}:
        r = client.post(f"/boxes/{fresh}/snapshots", json=bad)
        assert r.status_code == 400 and error_of(r)["code"] == "invalid_argument", bad
    remove(client, fresh, "a/b")
    assert client.get(f"/boxes/{fresh}/snapshots/{quote('a/b', safe='')}").status_code == 404
    assert client.post("/boxes/nobody/snapshots", json={"name": "a"}).status_code == 404


def test_a_running_box_goes_on(client, fresh, own):
    """A counter that is written and synced without end: in the snapshot is what was there at one moment, and afterwards
    nothing is missing."""
    script = "cd /root; i=0; while :; do i=$((i+1)); echo $i >t; mv t n; cp n t; mv t copy; echo $i; sleep 0.01; done"
    x = client.exec(fresh, "sh", "-c", script)
    time.sleep(0.3)
    pauses = []
    for i in range(5):
        made = snapshot(client, fresh, f"s{i}")
        pauses.append(made["pause_ms"])
        assert 0 < made["pause_ms"] < 5000
    before = int(client.run(fresh, "cat", "/root/n")[0])
    time.sleep(0.3)
    assert int(client.run(fresh, "cat", "/root/n")[0]) > before
    assert x.info()["status"] == "running"
    x.kill_and_wait()
    # What was there before is, and what was written in five layers.
    assert {b"copy", b"n"} <= set(client.run(fresh, "ls", "/root")[0].split())
    stop(client, fresh)
    check_disks(own, leaks=True)
    last = 0
    for i in range(5):
        assert restore(client, fresh, f"s{i}").status_code == 204
        n, copy = (int(v) for v in client.run(fresh, "cat", "/root/n", "/root/copy")[0].split())
        assert n - 1 <= copy <= n and n >= last
        last = n
        stop(client, fresh)
    print("pauses", pauses)


def test_executions_wait_while_it_pauses(client, own):
    box = client.create(memory_mib=192)["box_id"]
    client.post(f"/boxes/{box}/start")
    over = threading.Event()

    def run():
        c, n = own.client(), 0
        while not over.is_set():
            out, _, end = c.run(box, "echo", "hi")
            assert (out, end["exit_code"]) == (b"hi\n", 0)
            n += 1
        return n

    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run) for _ in range(3)]
        try:
            for i in range(10):
                snapshot(client, box, f"s{i}")
        finally:
            over.set()
        assert all(r.result() > 3 for r in runs)
    client.remove(box)


def test_deleted_snapshots_leave_nothing(client, own):
    """Thirty days of a box that is snapshotted each night, and keeps two."""
    before = len(files(own))
    box = client.create(memory_mib=192)["box_id"]
    write(client, box, "value")
    stop(client, box)
    for i in range(30):
        snapshot(client, box, f"s{i}")
        if i >= 2:
            remove(client, box, f"s{i - 2}")
        if i % 10 == 0:
            write(client, box, f"v{i}")
            stop(client, box)
    assert read(client, box) == "v20"
    stop(client, box)
    wait_files(own, before + 2)
    check_disks(own, leaks=True)
    for i, value in (28, "v20"), (29, "v20"):
        assert restore(client, box, f"s{i}").status_code == 204
        assert read(client, box) == value
        stop(client, box)
    client.remove(box)
    wait_files(own, before)


def test_clone_of_a_stopped_and_of_a_running_box(client, fresh, own):
    box = client.create(name="original", memory_mib=192, env={"A": "b"}, labels={"l": "m"}, cpus=2)["box_id"]
    write(client, box, "shared")
    stop(client, box)
    r = client.post(f"/boxes/{box}/clone", json={"name": "copy"})
    assert r.status_code == 201, r.text
    copy = r.json()
    assert r.headers["Location"] == f"/v1/boxes/{copy['box_id']}"
    assert copy["box_id"] != box and copy["name"] == "copy" and copy["status"] == "configured"
    assert (copy["cpus"], copy["memory_mib"], copy["labels"]) == (2, 192, {"l": "m"})
    assert client.post(f"/boxes/{box}/clone", json={"name": "copy"}).status_code == 409
    assert client.run("copy", "sh", "-c", "cat /root/value; hostname; echo $A")[0] == b"shared\ncopy\nb\n"
    write(client, "copy", "of-copy")
    assert read(client, box) == "shared"
    write(client, box, "of-original")
    assert read(client, "copy") == "of-copy"
    # Both run now. One without a name, of a box that runs.
    r = client.post(f"/boxes/{box}/clone")
    assert r.status_code == 201, r.text
    third = r.json()["box_id"]
    assert client.get(f"/boxes/{box}").json()["status"] == "running"
    # The original goes: the others do not notice.
    assert client.remove(box).status_code == 204
    assert read(client, third) == "of-original" and read(client, "copy") == "of-copy"
    stop(client, third), stop(client, "copy")
    check_disks(own, leaks=True)
    assert read(client, third) == "of-original" and read(client, "copy") == "of-copy"
    client.remove(third), client.remove("copy")


def test_twins(client, fresh):
    """Of ten who ask at once for the same name one gets it; ten names are ten snapshots."""
    client.post(f"/boxes/{fresh}/start")
    ask = lambda name: client.post(f"/boxes/{fresh}/snapshots", json={"name": name}).status_code
    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(ask, ["same"] * 10)) == [201] + [409] * 9
        assert list(pool.map(ask, [f"n{i}" for i in range(5)])) == [201] * 5
    assert len(client.get(f"/boxes/{fresh}/snapshots").json()["snapshots"]) == 6


def test_over_restarts_of_tenond(make_daemon):
    d = make_daemon()
    client = d.client()
    box = client.create(memory_mib=192)["box_id"]
    write(client, box, "one")
    snapshot(client, box, "running")
    write(client, box, "two")
    d.kill()
    d.start()
    client = d.client()
    snapshot(client, box, "adopted")
    write(client, box, "three")
    stop(client, box)
    d.kill()
    d.start()
    client = d.client()
    assert [s["name"] for s in client.get(f"/boxes/{box}/snapshots").json()["snapshots"]] == ["running", "adopted"]
    for name, value in ("running", "one"), ("adopted", "two"):
        assert restore(client, box, name).status_code == 204
        assert read(client, box) == value
        stop(client, box)
    check_disks(d, leaks=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system takes root")
def test_a_full_host_can_be_emptied(make_daemon):
    """Without any room whatever is there can still be removed: that is how room is made."""
    d = make_daemon()
    d.process.terminate()
    d.process.wait(30)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", d.state], capture_output=True).returncode:
        d.start()
        pytest.skip("no file systems can be mounted here")
    try:
        c = d.start().client()
        boxes = [c.create(memory_mib=192, disk_size_gb=1)["box_id"] for _ in range(20)]
        for box in boxes:
            snapshot(c, box, "s")
        with open(d.state / "ballast", "wb", buffering=0) as f, pytest.raises(OSError):
            while True:
                f.write(bytes(4096))
        for box in boxes:
            assert c.delete(f"/boxes/{box}/snapshots/s").status_code == 204
            with open(d.state / "ballast", "ab", buffering=0) as f, pytest.raises(OSError):
                while True:
                    f.write(bytes(4096))
            assert c.remove(box).status_code == 204
        assert c.get("/boxes").json()["boxes"] == []
    finally:
        d.process.terminate()
        d.process.wait(30)
        subprocess.run(["umount", "-l", d.state], check=True)
        d.start()
