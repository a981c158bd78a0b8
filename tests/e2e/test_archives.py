"""Boxes as archives: what goes out comes back on another host, and what is foreign is refused whole."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import struct
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Client, error_of, receive_all
from test_snapshots import check_disks, files, read, snapshot, stop, wait_files, write

GIB = 1 << 30
ORDER = ("manifest.json", "disk.extents", "image.squashfs")


@pytest.fixture(scope="module")
def own(make_daemon):
    return make_daemon()


@pytest.fixture(scope="module")
def client(own):
    return own.client()


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def unzstd(data):
    return subprocess.run(["zstd", "-q", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def export(client, box):
    r = client.post(f"/boxes/{box}/export", json={})
    assert r.status_code == 200, r.text
    assert r.headers["Content-Type"] == "application/octet-stream" and ".boxlite" in r.headers["Content-Disposition"]
    return r.content


def members(archive):
    with tarfile.open(fileobj=io.BytesIO(unzstd(archive))) as t:
        return {m.name: t.extractfile(m).read() for m in t}


def bring(client, archive, query=""):
    return client.post("/boxes/import" + query, data=archive, headers={"Content-Type": "application/octet-stream"})


def left_over(daemon):
    """Nothing stays of a transfer: no file of its own, no disk without a box."""
    end = time.monotonic() + 10
    while True:
        found = list((daemon.state / "archives").iterdir()) + [p for p in files(daemon) if p.suffix == ".part"]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def exported(client):
    """An archive of a box that has run, with a snapshot in its disk's past."""
    box = client.create(name="traveller", memory_mib=192, disk_size_gb=3, env={"A": "ü"}, labels={"l": "m"})["box_id"]
    write(client, box, "one")
    client.run(box, "sh", "-c", "head -c 3000000 /dev/urandom >/root/noise; md5sum /root/noise >/root/sum")
    stop(client, box)
    snapshot(client, box, "s")
    write(client, box, "two")
    stop(client, box)
    return export(client, box)


def test_what_is_in_it(exported, own):
    got = members(exported)
    assert tuple(got) == ORDER
    m = json.loads(got["manifest.json"])
    assert (m["format"], m["version"]) == ("tenon-box", 1)
    assert m["image"] == {"reference": "tenon/base", "digest": None}
    box = m["box"]
    assert (box["name"], box["memory_mib"], box["disk_size_gb"], box["env"]) == ("traveller", 192, 3, ["A=ü"])
    for name in ORDER[1:]:
        assert m["members"][name] == {"size": len(got[name]), "sha256": hashlib.sha256(got[name]).hexdigest()}
    assert got["image.squashfs"][:4] == b"hsqs"
    # The disk is what is written of it, in ascending pieces.
    at = end = total = 0
    while True:
        offset, length = struct.unpack_from("<QQ", got["disk.extents"], at)
        at += 16 + length
        if not length:
            break
        assert offset >= end and length <= 1 << 20
        end, total = offset + length, total + length
    assert offset == 3 * GIB and at == len(got["disk.extents"])
    assert 3_000_000 < total < 40_000_000
    assert not left_over(own)


def test_on_another_host(make_daemon, exported):
    d = make_daemon()
    client = d.client()
    r = bring(client, exported)
    assert r.status_code == 201, r.text
    box = r.json()
    assert r.headers["Location"] == "/v1/boxes/" + box["box_id"]
    assert (box["name"], box["status"], box["memory_mib"], box["disk_size_gb"]) == ("traveller", "configured", 192, 3)
    assert box["image"] == "tenon/base" and box["labels"] == {"l": "m"}
    out, _, end = client.run("traveller", "sh", "-c", "cat /root/value; md5sum -c /root/sum; echo $A; hostname")
    assert out.decode() == "two\n/root/noise: OK\nü\ntraveller\n"
    # Again: the name is taken, so it has none; a name of the caller's is an order.
    assert bring(client, exported).json().get("name") is None
    assert bring(client, exported, "?name=third").json()["name"] == "third"
    r = bring(client, exported, "?name=third")
    assert r.status_code == 409 and error_of(r)["code"] == "already_exists"
    assert bring(client, exported, "?name=a/b").status_code == 400
    assert not left_over(d)
    check_disks(d)
    assert not (d.state / "imported").exists()  # the image is the one that is there anyway
    d.remove_boxes()


def test_an_image_that_is_not_here(make_daemon, exported, tmp_path):
    """The archive's own image is below the box: kept for it, shared with its copies, gone with the last."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/marker").write_text("from afar\n")
    got = members(exported)
    (tmp_path / "in.squashfs").write_bytes(got["image.squashfs"])
    subprocess.run(f"sqfs2tar in.squashfs >t.tar && tar -C extra -rf t.tar marker && tar2sqfs -q -c zstd out.squashfs <t.tar",
                   shell=True, check=True, cwd=tmp_path, capture_output=True)
    archive = build(got, image=(tmp_path / "out.squashfs").read_bytes())
    d = make_daemon()
    client = d.client()
    box = bring(client, archive).json()["box_id"]
    assert client.run(box, "cat", "/marker", "/root/value")[0] == b"from afar\ntwo\n"
    stop(client, box)
    copy = client.post(f"/boxes/{box}/clone").json()["box_id"]
    client.remove(box)
    d.kill()
    d.start()
    client = d.client()
    assert client.run(copy, "cat", "/marker", "/root/value")[0] == b"from afar\ntwo\n"
    assert members(export(client, copy))["image.squashfs"] == (tmp_path / "out.squashfs").read_bytes()
    assert len(list((d.state / "imported").iterdir())) == 1
    client.remove(copy)
    wait_files(d, 0)
    assert not list((d.state / "imported").iterdir())


def test_of_a_running_box(client, own):
    """It goes on, and what comes out is its disk of one moment."""
    box = client.create(memory_mib=192, disk_size_gb=1)["box_id"]
    x = client.exec(box, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >/root/next; mv /root/next /root/value; done")
    time.sleep(0.3)
    archive = export(client, box)
    assert x.info()["status"] == "running"
    later = int(read(client, box))
    r = bring(client, archive)
    assert r.status_code == 201, r.text
    copy = r.json()["box_id"]
    assert 0 < int(read(client, copy)) < later
    client.remove(box), client.remove(copy)
    assert not left_over(own)


def test_never_started(client, own):
    box = client.create(name="unborn", memory_mib=192, disk_size_gb=1)["box_id"]
    archive = export(client, box)
    client.remove(box)
    assert bring(client, archive).json()["name"] == "unborn"
    assert client.run("unborn", "echo", "hi")[0] == b"hi\n"
    client.remove("unborn")


def build(parts, image=None, manifest=None, order=ORDER, **more):
    """An archive of members, with the manifest's sizes and digests made right unless `manifest` sets them."""
    parts = dict(parts)
    if image is not None:
        parts["image.squashfs"] = image
    m = json.loads(parts["manifest.json"])
    for name in ORDER[1:]:
        m["members"][name] = {"size": len(parts[name]), "sha256": hashlib.sha256(parts[name]).hexdigest()}
    for path, value in (manifest or {}).items():
        at = m
        *way, last = path.split("/")
        for key in way:
            at = at[key]
        if value is None:
            at.pop(last)
        else:
            at[last] = value
    parts["manifest.json"] = json.dumps(m).encode()
    return zstd(tar(parts, order, **more), "-1")


def tar(parts, order, kind=tarfile.REGTYPE, rename=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name in order:
            i = tarfile.TarInfo((rename or {}).get(name, name))
            i.size = len(parts[name])
            if name == "disk.extents":
                i.type = kind
                i.linkname = "/etc/shadow" if kind != tarfile.REGTYPE else ""
                i.size = i.size if kind == tarfile.REGTYPE else 0
            t.addfile(i, io.BytesIO(parts[name]))
    return out.getvalue()


def piece(offset, data):
    return struct.pack("<QQ", offset, len(data)) + data


def end_of(size):
    return struct.pack("<QQ", size, 0)


def qcow2_naming_shadow(tmp_path):
    path = tmp_path / "evil.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", str(path), "3G"], check=True)
    return path.read_bytes()


def test_hostile_archives(client, own, exported, tmp_path):
    got = members(exported)
    small = dict(got, **{"disk.extents": piece(0, b"x" * 4096) + end_of(3 * GIB)})
    disk = lambda data: build(dict(small, **{"disk.extents": data}))
    boxlite = zstd(tar({"manifest.json": b'{"version": 4, "container_disk": "disk.qcow2"}'}, ["manifest.json"]))
    bad = {
        "nothing": b"",
        "noise": os.urandom(5000),
        "gzip": gzip.compress(unzstd(build(small))),
        "a plain tar": unzstd(build(small)),
        "zstd of noise": zstd(os.urandom(5000)),
        "a window of 128 MiB": zstd(unzstd(build(small)) + b"\0" * (200 << 20), "--ultra", "-22", "--long=27"),
        "cut in the manifest": exported[:200],
        "cut in the disk": exported[: len(exported) // 2],
        "cut at the end": exported[:-5],
        "cut tar, whole zstd": zstd(unzstd(build(small))[:-200000]),
        "no manifest": build(small, order=ORDER[1:]),
        "other order": build(small, order=ORDER[::-1]),
        "no image": build(small, order=ORDER[:2]),
        "twice": build(small, order=ORDER + ORDER[2:]),
        "more after it": zstd(unzstd(build(small)) + b"x" * (3 << 20)),
        "a name with a path": build(small, rename={"disk.extents": "../../etc/cron.d/x"}),
        "an absolute name": build(small, rename={"disk.extents": "/etc/passwd"}),
        "a symlink": build(small, kind=tarfile.SYMTYPE),
        "a hard link": build(small, kind=tarfile.LNKTYPE),
        "a device": build(small, kind=tarfile.BLKTYPE),
        "a huge manifest": zstd(tar({"manifest.json": b" " * (2 << 20)}, ["manifest.json"])),
        "manifest: no JSON": zstd(tar({"manifest.json": b"{"}, ["manifest.json"])),
        "manifest: a list": zstd(tar({"manifest.json": b"[]"}, ["manifest.json"])),
        "manifest: deep": zstd(tar({"manifest.json": b"[" * 100000}, ["manifest.json"])),
        "newer": build(small, manifest={"version": 2}),
        "other format": build(small, manifest={"format": "x"}),
        "wrong digest": build(small, manifest={"members/disk.extents/sha256": "0" * 64}),
        "wrong digest of the image": build(small, manifest={"members/image.squashfs/sha256": "f" * 64}),
        "no digest": build(small, manifest={"members/disk.extents/sha256": None}),
        "wrong size": build(small, manifest={"members/disk.extents/size": 5}),
        "size -1": build(small, manifest={"members/disk.extents/size": -1}),
        "size beyond all": build(small, manifest={"members/image.squashfs/size": 1 << 62}),
        "no box": build(small, manifest={"box": None}),
        "a bad name": build(small, manifest={"box/name": "../x"}),
        "cpus 0": build(small, manifest={"box/cpus": 0}),
        "memory 1": build(small, manifest={"box/memory_mib": 1}),
        "disk 10^9": build(small, manifest={"box/disk_size_gb": 10**9}),
        "env": build(small, manifest={"box/env": ["=x"]}),
        "relative cwd": build(small, manifest={"box/working_dir": "x"}),
        "labels": build(small, manifest={"box/labels": {"a": 1}}),
        "unknown field": build(small, manifest={"box/rootfs_path": "/etc"}),
        "qcow2 for a disk": disk(qcow2_naming_shadow(tmp_path)),
        "pieces out of order": disk(piece(8192, b"x" * 4096) + piece(0, b"x") + end_of(3 * GIB)),
        "a piece beyond the disk": disk(piece(3 * GIB - 1, b"xx") + end_of(3 * GIB)),
        "a piece at 2^64": disk(struct.pack("<QQ", 2**64 - 1, 2) + b"xx" + end_of(3 * GIB)),
        "a piece too long": disk(struct.pack("<QQ", 0, 2 << 20) + b"x" * (2 << 20) + end_of(3 * GIB)),
        "no end": disk(piece(0, b"x")),
        "after the end": disk(end_of(3 * GIB) + piece(0, b"x")),
        "another disk's end": disk(piece(0, b"x") + end_of(2 * GIB)),
        "no squashfs": build(small, image=b"x" * 4096),
        "a short squashfs": build(small, image=b"hsqs"),
        "BoxLite's": boxlite,
    }
    before = files(own)
    for what, archive in bad.items():
        r = bring(client, archive)
        e = error_of(r)
        unsupported = what in ("newer", "BoxLite's")
        assert (r.status_code, e["code"]) == (400, "unsupported" if unsupported else "invalid_argument"), (what, r.text)
        if what == "BoxLite's":
            assert "BoxLite" in e["message"] and "version 4" in e["message"]
        assert not left_over(own), what
    assert files(own) == before
    # And the same but for the fault is taken.
    r = bring(client, build(small, manifest={"box/name": "small"}))
    assert r.status_code == 201, r.text
    client.remove("small")


def test_settings_of_another_host_are_not_taken_over(client, exported):
    evil = {"box/settings/volumes": [{"volume": "v", "guest_path": "/v", "read_only": False}],
            "box/settings/image_digest": "sha256:../../../etc/passwd", "box/settings/preset": "development",
            "image/digest": "sha256:" + "0" * 64, "box/name": "evil"}
    r = bring(client, build(members(exported), manifest=evil))
    assert r.status_code == 201, r.text
    m = json.loads(members(export(client, "evil"))["manifest.json"])
    assert m["image"]["digest"] is None and m["box"]["settings"]["preset"] is None
    client.remove("evil")


def test_a_bomb_costs_what_it_said(client, own, exported):
    """Three GiB of the same byte in some kilobytes: what it says it needs is looked for first, and what it did not say is
    not taken."""
    data = b"x" * (1 << 20)
    pieces = b"".join(piece(i << 20, data) for i in range(64))
    got = dict(members(exported), **{"disk.extents": pieces + end_of(3 * GIB)})
    assert bring(client, build(got, manifest={"members/disk.extents/size": 4096})).status_code == 400
    r = bring(client, build(got, manifest={"box/disk_size_gb": 16384, "members/disk.extents/size": 16000 * GIB}))
    assert r.status_code == 507, r.text
    assert not left_over(own)


def rss(daemon):
    for line in open(f"/proc/{daemon.process.pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10


def test_memory_is_flat(make_daemon):
    """A disk of a quarter GiB of noise, out and in: the daemon does not grow by what passes."""
    d = make_daemon()
    client = d.client()
    box = client.create(memory_mib=192, disk_size_gb=1)["box_id"]
    client.run(box, "sh", "-c", "head -c 268435456 /dev/urandom >/root/noise; sync")
    stop(client, box)
    before = rss(d)
    r = client.post(f"/boxes/{box}/export", stream=True)
    path = d.folder / "archive"
    with open(path, "wb") as f:
        shutil.copyfileobj(r.raw, f)
    assert path.stat().st_size > 256 << 20
    with open(path, "rb") as f:
        r = bring(client, f, "?name=back")
    assert r.status_code == 201, r.text
    path.unlink()
    assert rss(d) - before < 40 << 20
    check_disks(d)
    d.remove_boxes()


def test_who_leaves_ends_it(client, own, exported):
    """Clients that go away at any point, in both directions: nothing stays, and others are served."""
    box = client.create(memory_mib=192, disk_size_gb=1)["box_id"]
    client.run(box, "sh", "-c", "head -c 20000000 /dev/urandom >/root/noise")
    stop(client, box)
    before = len(files(own))
    for i in range(10):
        r = client.post(f"/boxes/{box}/export", stream=True)
        r.raw.read(random.randrange(1, 1 << 20))
        r.close()
        with client.connect() as s:
            head = f"POST /v1/boxes/import HTTP/1.1\r\nHost: x\r\nContent-Length: {len(exported)}\r\n\r\n".encode()
            s.sendall(head + exported[: random.randrange(1, len(exported))])
    assert not left_over(own)
    assert len(export(client, box)) > 20_000_000
    client.remove(box)
    assert len(files(own)) <= before + 10


def import_in_two(client, base, archive, meanwhile):
    """The answers of two imports that both had begun before `meanwhile` was."""
    half = len(archive) // 2
    key = client.http.headers["Authorization"]
    head = f"POST /v1{base}/boxes/import HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nConnection: close\r\nContent-Length: {len(archive)}\r\n\r\n"
    with client.connect(60) as one, client.connect(60) as two:
        for s in (one, two):
            s.sendall(head.encode() + archive[:half])
        meanwhile()
        for s in (one, two):
            s.sendall(archive[half:])
        return sorted(receive_all(s).split(b" ", 2)[1] for s in (one, two))


def test_what_happens_to_the_prefix_meanwhile(make_daemon):
    d = make_daemon(auth=True)
    admin = Client(d.url, {"Authorization": "Bearer " + (d.state / "admin.key").read_text().strip()})
    box = admin.create(memory_mib=192, disk_size_gb=1)["box_id"]
    archive = export(admin, box)
    admin.remove(box)

    def begun():
        end = time.monotonic() + 20
        while len(list((d.state / "archives").iterdir())) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)

    def removed():
        begun()
        assert admin.delete("/prefixes/brief").status_code == 204

    # As many boxes as may be, and not one for each import that saw room for one.
    assert admin.post("/prefixes", json={"prefix": "brief", "max_boxes": 1}).status_code == 204
    assert import_in_two(admin, "/brief", archive, begun) == [b"201", b"429"]
    (only,) = admin.get("/brief/boxes").json()["boxes"]
    assert admin.delete(f"/brief/boxes/{only['box_id']}").status_code == 204
    # Of the next who has the prefix it is no box.
    assert import_in_two(admin, "/brief", archive, removed) == [b"404", b"404"]
    assert admin.post("/prefixes", json={"prefix": "brief"}).status_code == 204
    assert admin.get("/brief/boxes").json()["boxes"] == []
    assert not left_over(d) and not files(d)


def test_many_at_once(client, own, exported):
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: bring(client, exported).status_code, range(8)))
    assert set(codes) <= {201, 429} and codes.count(201) >= 4
    assert not left_over(own)
    own.remove_boxes()
