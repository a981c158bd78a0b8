"""The life of boxes with real VMs: ends of every kind, and tenond killed at any moment."""

import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest


def processes_of(daemon):
    """tenon-vmm and QEMU of this daemon's boxes: their command lines name its folder."""
    found = []
    for d in Path("/proc").iterdir():
        if not d.name.isdigit():
            continue
        try:
            line = (d / "cmdline").read_bytes()
        except OSError:
            continue
        if str(daemon.folder).encode() in line and b"tenond\0" not in line.split(b"--")[0] + b"\0":
            found.append((int(d.name), line.split(b"\0")[0].decode().rsplit("/", 1)[-1]))
    return found


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def status(client, box):
    return client.get(f"/boxes/{box}").json()["status"]


def wait_status(client, box, *wanted):
    wait_for(lambda: status(client, box) in wanted)
    return client.get(f"/boxes/{box}").json()


def left_over(daemon):
    """Runtime folders of boxes: each belongs to a running one."""
    return [p.name for p in (daemon.folder / "run/tenon").glob("*/*")]


@pytest.fixture(scope="module")
def own(make_daemon):
    return make_daemon()


@pytest.fixture
def fresh(own):
    """A running box of the test's own, deleted after it."""
    client = own.client()
    box = client.create()["box_id"]
    assert client.post(f"/boxes/{box}/start").status_code == 200
    yield box
    own.client().remove(box)


def test_power_off_by_the_guest(own, fresh):
    client = own.client()
    client.exec(fresh, "poweroff", "-f")
    assert not wait_status(client, fresh, "stopped", "failed").get("error")
    assert status(client, fresh) == "stopped"
    assert fresh not in left_over(own)


def test_panic_is_failed_with_its_console(own, fresh):
    client = own.client()
    x = client.exec(fresh, "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
    box = wait_status(client, fresh, "stopped", "failed")
    assert box["status"] == "failed"
    assert "Kernel panic - not syncing: sysrq triggered crash" in box["error"], box
    assert x.info()["status"] == "killed"
    # And it can be started again.
    assert client.post(f"/boxes/{fresh}/start").json()["status"] == "running"


@pytest.mark.parametrize("victim", ["qemu-system-x86_64", "tenon-vmm"])
def test_death_of_a_process(own, fresh, victim):
    client = own.client()
    x = client.exec(fresh, "sleep", "1000")
    for pid, name in processes_of(own):
        if name == victim:
            os.kill(pid, signal.SIGKILL)
    box = wait_status(client, fresh, "failed", "stopped")
    assert box["status"] == "failed" and box["error"]
    wait_for(lambda: not processes_of(own))
    assert x.info()["status"] == "killed"
    assert client.run(fresh, "echo", "again")[0] == b"again\n"


def test_a_kernel_without_its_agent_fails_with_the_console(make_daemon, tmp_path):
    (tmp_path / "initrd").write_bytes(b"\0" * 512)
    daemon = make_daemon("--initrd", str(tmp_path / "initrd"))
    client = daemon.client()
    box = client.create()["box_id"]
    r = client.post(f"/boxes/{box}/start")
    assert r.status_code == 503, r.text
    assert "Kernel panic - not syncing: VFS" in r.json()["error"]["message"]
    got = client.get(f"/boxes/{box}").json()
    assert got["status"] == "failed" and "Kernel panic" in got["error"]
    assert not processes_of(daemon)
    client.remove(box)


def test_files_survive_stop_and_start(own, fresh):
    client = own.client()
    client.run(fresh, "sh", "-c", "echo kept >/root/file")
    assert client.post(f"/boxes/{fresh}/stop").json()["status"] == "stopped"
    assert not processes_of(own)
    assert client.run(fresh, "cat", "/root/file")[0] == b"kept\n"  # exec starts it


def test_many_starts_are_one(own):
    client = own.client()
    box = client.create()["box_id"]
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(own.client().post(f"/boxes/{box}/start").status_code))
        for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert codes == [200] * 8
    assert sorted(name for _, name in processes_of(own)) == ["qemu-system-x86_64", "tenon-vmm"]
    client.remove(box)
    assert not processes_of(own) and not left_over(own)
    assert not (own.state / "boxes" / box).exists()


def test_name_and_size_of_the_box(own):
    client = own.client()
    box = client.create(name="large_1", disk_size_gb=3, memory_mib=300, cpus=2)["box_id"]
    out, _, _ = client.run(box, "sh", "-c", "hostname; nproc; df -m / | tail -1; head -1 /proc/meminfo")
    lines = out.decode().splitlines()
    assert lines[0] == "large_1" and lines[1] == "2"
    assert 2700 < int(lines[2].split()[1]) <= 3072
    assert 230 < int(re.search(r"\d+", lines[3])[0]) // 1024 < 300
    client.remove(box)


def test_adoption(make_daemon):
    daemon = make_daemon()
    client = daemon.client()
    box = client.create(name="kept")["box_id"]
    client.post(f"/boxes/{box}/start")
    x = client.exec(box, "sh", "-c", "sleep 3; echo still here")
    before = processes_of(daemon)
    daemon.kill()
    assert processes_of(daemon) == before
    daemon.start()
    client = daemon.client()
    got = client.get("/boxes/kept").json()
    assert got["status"] == "running"
    wait_for(lambda: client.get("/boxes/kept").json()["pid"])
    x.client = client
    assert x.collect()[0] == b"still here\n"
    # What ended while nobody watched is known as well.
    x = client.exec(box, "sleep", "1000")
    daemon.kill()
    for pid, name in before:
        if name == "tenon-vmm":
            os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not processes_of(daemon))
    daemon.start()
    x.client = client = daemon.client()
    assert status(client, box) == "stopped"
    assert x.info()["status"] == "killed"
    assert not left_over(daemon)


def test_orderly_end_keeps_boxes(make_daemon):
    daemon = make_daemon()
    client = daemon.client()
    box = client.create()["box_id"]
    client.post(f"/boxes/{box}/start")
    x = client.exec(box, "sleep", "1000")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    daemon.start()
    x.client = client = daemon.client()
    assert status(client, box) == "running" and x.info()["status"] == "running"


def test_killed_at_any_moment_of_a_start(make_daemon):
    """Whatever the start was at, the next tenond settles it: no VM that nobody knows, no state that nobody leaves."""
    daemon = make_daemon()
    box = daemon.client().create()["box_id"]
    rng = random.Random(1)
    for i in range(12):
        client = daemon.client()
        starter = threading.Thread(target=lambda: quiet(client.post, f"/boxes/{box}/start"))
        starter.start()
        time.sleep(rng.choice([0, 0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 2.5]) * rng.random())
        daemon.kill()
        starter.join()
        daemon.start()
        got = status(daemon.client(), box)
        assert got in ("configured", "stopped", "running"), got
        wanted = ["qemu-system-x86_64", "tenon-vmm"] if got == "running" else []
        assert sorted(n for _, n in processes_of(daemon)) == wanted, (i, got)
        if got != "running":
            assert not left_over(daemon)
        daemon.client().post(f"/boxes/{box}/stop")
    assert daemon.client().run(box, "echo", "fine")[0] == b"fine\n"


def quiet(f, *args, **kw):
    try:
        f(*args, **kw)
    except Exception:
        pass


def test_one_tenond_per_state(own):
    second = subprocess.run(
        [own.process.args[0], "--listen", "127.0.0.1:0", "--state", str(own.state), "--no-auth"],
        env=dict(os.environ, XDG_RUNTIME_DIR=str(own.folder / "run")),
        capture_output=True,
        timeout=20,
    )
    assert second.returncode == 1
    assert b"another tenond" in second.stderr


@pytest.mark.parametrize(
    "args, words",
    [
        (["--no-auth", "--listen", "0.0.0.0:0"], b"--no-auth"),
        (["--machine", "pc"], b"--machine"),
        (["--accel", "fast"], b"auto, kvm or tcg"),
        (["--listen"], b"--listen"),
        (["--wrong"], b"--wrong"),
        (["extra"], b"extra"),
        (["--listen", "nowhere"], b"nowhere"),
    ],
)
def test_bad_options(own, tmp_path, args, words):
    r = subprocess.run([own.process.args[0], "--state", str(tmp_path / "s"), *args], capture_output=True, timeout=20)
    assert r.returncode == 1
    assert words in r.stderr
