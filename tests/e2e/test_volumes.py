"""Managed volumes: over REST, in real boxes, and after kill -9 of anything."""

import os
import random
import signal
import threading
import time

import pytest
from client import Client, error_of
from test_boxes import processes_of, quiet, status, wait_status


@pytest.fixture(scope="module")
def own(make_daemon):
    return make_daemon()


@pytest.fixture
def client(own):
    """Leaves no box and no volume behind."""
    yield own.client()
    c = own.client()
    own.remove_boxes()
    for v in c.get("/volumes").json()["volumes"]:
        assert c.delete(f"/volumes/{v['id']}").status_code == 204


def make(client, name=None, path="/volumes"):
    r = client.post(path, json={"name": name} if name else None)
    assert r.status_code == 201, r.text
    return r.json()


def mount(volume, path, **more):
    return {"managed_volume": volume, "guest_path": path, **more}


def disks(daemon):
    return sorted(p.name for p in (daemon.state / "volumes").iterdir())


# ---- REST ----------------------------------------------------------------------------------------------


def test_made_found_listed_and_removed(own, client):
    v = make(client, "my-data")
    assert set(v) == {"id", "name", "state", "created_at", "updated_at"}
    assert v["name"] == "my-data" and v["state"] == "ready" and v["created_at"] == v["updated_at"]
    unnamed = make(client)
    assert unnamed["name"] == unnamed["id"] and unnamed["id"].startswith("vol_")
    assert client.get(f"/volumes/{v['id']}").json() == v == client.get("/volumes/my-data").json()
    summary = {k: v[k] for k in ("id", "name", "state", "created_at")}
    assert client.get("/volumes").json() == {"volumes": [summary, {k: unnamed[k] for k in summary}]}
    assert error_of(client.post("/volumes", json={"name": "my-data"}))["code"] == "already_exists"
    assert disks(own) == sorted(x["id"] + ".img" for x in (v, unnamed))
    # As sparse as it is empty.
    assert all((own.state / "volumes" / d).stat().st_blocks < 2048 for d in disks(own))
    assert client.delete("/volumes/my-data").status_code == 204
    assert client.delete(f"/volumes/{unnamed['id']}?force=true").status_code == 204
    assert disks(own) == [] and client.get("/volumes").json() == {"volumes": []}
    assert error_of(client.delete("/volumes/my-data"))["code"] == "not_found"
    assert client.delete("/volumes/my-data?force=true").status_code == 204
    assert error_of(client.get("/volumes/my-data"))["code"] == "not_found"


@pytest.mark.parametrize("body", [{"name": "a"}, {"name": "-ab"}, {"name": "a/b"}, {"name": "x" * 129}, {"name": 1}, {"size_gb": 1}, []])
def test_bad_volumes(client, body):
    r = client.post("/volumes", json=body)
    assert r.status_code == 400 and error_of(r)["code"] == "invalid_argument"


def test_pages(client):
    ids = [make(client)["id"] for _ in range(5)]
    got, token, pages = [], None, 0
    while pages == 0 or token:
        page = client.get("/volumes?pageSize=2" + (f"&pageToken={token}" if token else "")).json()
        got += [v["id"] for v in page["volumes"]]
        token, pages = page["next_page_token"], pages + 1
    assert got == ids and pages == 3
    assert error_of(client.get("/volumes?pageSize=0"))["field"] == "pageSize"
    assert error_of(client.get("/volumes?pageToken=../x"))["field"] == "pageToken"


def test_a_prefix_has_its_own(client):
    assert client.post("/prefixes", json={"prefix": "eu/team"}).status_code == 204
    mine = make(client, "data")
    theirs = make(client, "data", "/eu/team/volumes")
    assert mine["id"] != theirs["id"]
    assert [v["id"] for v in client.get("/eu/team/volumes").json()["volumes"]] == [theirs["id"]]
    for method, path in (("GET", f"/eu/team/volumes/{mine['id']}"), ("DELETE", f"/volumes/{theirs['id']}")):
        assert client.call(method, path).status_code == 404
    r = client.post("/boxes", json={"volumes": [mount(theirs["id"], "/data")]})
    assert (r.status_code, error_of(r)["field"]) == (404, "volumes")
    assert "volumes" in error_of(client.delete("/prefixes/eu%2Fteam"))["message"]
    assert client.delete(f"/eu/team/volumes/{theirs['id']}").status_code == 204
    assert client.delete("/prefixes/eu%2Fteam").status_code == 204


def test_a_repeated_create_makes_one(client):
    key = {"Idempotency-Key": "11111111-2222-3333-4444-555555555555"}
    a, b = (client.post("/volumes", json={}, headers=key) for _ in range(2))
    assert a.status_code == b.status_code == 201 and a.json() == b.json()
    assert len(client.get("/volumes").json()["volumes"]) == 1


@pytest.mark.parametrize(
    "volumes, field",
    [
        ([mount("data", "relative")], "volumes.guest_path"),
        ([mount("data", "/")], "volumes.guest_path"),
        ([mount("data", "//")], "volumes.guest_path"),
        ([mount("data", "/a/../b")], "volumes.guest_path"),
        ([mount("data", "/proc")], "volumes.guest_path"),
        ([mount("data", "/sys/fs")], "volumes.guest_path"),
        ([mount("data", "//dev/")], "volumes.guest_path"),
        ([mount("data", "")], "volumes.guest_path"),
        ([{"managed_volume": "data"}], "volumes.guest_path"),
        ([{"guest_path": "/a"}], "volumes.managed_volume"),
        ([mount("data", "/a", host_path="/etc")], "volumes.host_path"),
        ([mount("data", "/a", read_only="yes")], "volumes.read_only"),
        ([mount("data", "/a"), mount("other", "/a/")], "volumes"),
        ([mount("data", "/a"), mount("data", "/b")], "volumes"),
        ([mount("data", f"/{i}") for i in range(7)], "volumes"),
        (["data:/a"], "volumes"),
        ({"data": "/a"}, "volumes"),
    ],
)
def test_mounts_that_make_no_sense(client, volumes, field):
    make(client, "data")
    make(client, "other")
    r = client.post("/boxes", json={"volumes": volumes})
    assert (r.status_code, error_of(r)["field"]) == (400, field)
    assert client.get("/boxes").json()["boxes"] == []


# ---- in boxes ------------------------------------------------------------------------------------------


def test_life(own, client):
    v = make(client, "data")
    make(client, "below")
    # The one below comes first, and is mounted second.
    a = client.create(name="a", volumes=[mount("below", "/data/deep/er/"), mount("data", "//data")])["box_id"]
    assert [m["guest_path"] for m in client.get("/boxes/a").json()["volumes"]] == ["/data", "/data/deep/er"]
    out, err, end = client.run(
        a, "sh", "-c", "ls -A /data/deep/er; df -m /data | tail -1; echo kept >/data/file; echo low >/data/deep/er/file; stat -c %d /data /data/deep/er /"
    )
    lines = out.decode().splitlines()
    assert end["exit_code"] == 0 and 60000 < int(lines[0].split()[1]) <= 65536, (out, err)
    assert len(set(lines[1:4])) == 3
    used = client.get("/volumes/data").json()
    assert used["last_used_at"] == used["updated_at"] > v["created_at"]

    # What is in use stays with whom it is.
    b = client.create(name="b", volumes=[mount(v["id"], "/v", read_only=True)])["box_id"]
    e = error_of(client.post("/boxes/b/start"))
    assert e["code"] == "invalid_state" and "box a" in e["message"]
    assert client.post("/boxes/b/exec", json={"command": "true"}).status_code == 409
    e = error_of(client.delete("/volumes/data?force=true"))
    assert e["code"] == "invalid_state" and "box a" in e["message"]
    own.kill()
    own.start()
    client = own.client()
    assert status(client, "a") == "running"
    assert "box a" in error_of(client.post("/boxes/b/start"))["message"]

    # Files by REST are those that the box sees, in a volume too.
    assert client.call("PUT", "/boxes/a/files/content?path=/data/put", data=b"by REST").status_code == 204
    assert client.get("/boxes/a/files/content?path=/data/deep/er/file").content == b"low\n"

    # Removed by force without a word, and nothing of it is lost.
    assert client.remove("a").status_code == 204
    out, _, _ = client.run(b, "sh", "-c", "cat /v/file /v/put; ls -A /v/deep/er; echo x >/v/new; mount -o remount,rw /v; echo x >/v/new; cat /sys/block/vdc/ro")
    assert out == b"kept\nby REST1\n"
    r = client.call("PUT", "/boxes/b/files/content?path=/v/put", data=b"no")
    assert (r.status_code, error_of(r)["errno_name"]) == (403, "EROFS")

    # Readers share it, and keep a writer away.
    c = client.create(name="c", volumes=[mount("data", "/w", read_only=True)])["box_id"]
    assert client.run(c, "cat", "/w/file")[0] == b"kept\n"
    client.create(name="d", volumes=[mount("data", "/w")])
    assert "box b" in error_of(client.post("/boxes/d/start"))["message"]


def test_a_writer_that_was_killed(own, client):
    """Its journal is not played back; a reader mounts what there is, and the next writer repairs it."""
    make(client, "data")
    a = client.create(name="a", volumes=[mount("data", "/v")])["box_id"]
    assert client.run(a, "sh", "-c", "echo safe >/v/file; sync; echo more >/v/other")[2]["exit_code"] == 0
    for pid, name in processes_of(own):
        if name == "qemu-system-x86_64":
            os.kill(pid, signal.SIGKILL)
    wait_status(client, a, "failed")
    client.create(name="reader", volumes=[mount("data", "/v", read_only=True)])
    assert client.post("/boxes/reader/start").status_code == 200
    client.post("/boxes/reader/stop")
    assert client.run(a, "cat", "/v/file")[0] == b"safe\n"


def test_limits(client):
    assert client.post("/prefixes", json={"prefix": "tiny", "max_boxes": 1}).status_code == 204
    assert client.post("/tiny/boxes", json={}).status_code == 201
    e = error_of(client.post("/tiny/boxes", json={}))
    assert e["code"] == "resource_exhausted"
    for b in client.get("/tiny/boxes").json()["boxes"]:
        client.delete(f"/tiny/boxes/{b['box_id']}")
    c = client.get("/config").json()["capabilities"]
    assert c["max_volumes_per_path_prefix"] >= 100 and c["max_volumes_per_box"] == 6
    assert client.delete("/prefixes/tiny").status_code == 204


def test_killed_at_any_moment(make_daemon):
    """Whatever a create or delete was at: a volume that is listed has its disk, one that is not has none."""
    daemon = make_daemon()
    rng = random.Random(4)
    seen = set()
    for i in range(60):
        client = daemon.client()
        listed = [v["id"] for v in client.get("/volumes").json()["volumes"]]
        if i % 2 or not listed:
            act = lambda: quiet(Client(daemon.url).post, "/volumes", json={"name": f"v{i}"})  # noqa: E731
        else:
            act = lambda: quiet(Client(daemon.url).delete, f"/volumes/{listed[0]}")  # noqa: E731
        t = threading.Thread(target=act)
        t.start()
        time.sleep(rng.random() * 0.012)
        daemon.kill()
        t.join()
        daemon.start()
        now = [v["id"] for v in daemon.client().get("/volumes").json()["volumes"]]
        assert disks(daemon) == sorted(v + ".img" for v in now)
        assert set(listed) - {listed[0] if listed else None} <= set(now)
        seen.add(len(now) - len(listed))
    assert len(seen) > 1  # some were done, some were not
