"""Images: pulled from a real registry and from ones that misbehave, kept, listed, removed; and a box made of one."""

import crypt
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from client import Client, Execution, error_of
from debian import debian_tar
from oci import Image, Index, PlainRegistry, Registry, digest, entry, hard, link, tar

ROOT = Path(__file__).resolve().parents[2]
TENON = ROOT / "build/bin/tenon"


def small(n=0, **config):
    """An image that no other has."""
    return Image(tar(entry("etc"), entry("etc/which", str(n).encode())), tar(entry("more", os.urandom(3000))), **config)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    r = Registry(tmp_path_factory.mktemp("registry"))
    yield r
    r.close()


@pytest.fixture
def plain():
    r = PlainRegistry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def host(make_daemon):
    return make_daemon()


@pytest.fixture(scope="module")
def hasty(make_daemon):
    """A tenond that gives a registry three seconds."""
    return make_daemon("--pull-timeout", "3")


@pytest.fixture(scope="module")
def images(host):
    return host.client()


@pytest.fixture
def push(registry, tmp_path):
    def push(image, name, *options):
        folder = tmp_path / digest(name.encode() + image.text)[7:20]
        folder.mkdir()
        image.write(folder)
        return registry.push(folder, name, *options)

    return push


def path(reference):
    return "/images/" + quote(reference, safe="")


def pull(client, reference, **more):
    return client.post("/images/pull", json={"reference": reference, **more})


def events(client, reference):
    """Names and data of the events of a pull."""
    r = client.post("/images/pull", json={"reference": reference}, headers={"Accept": "text/event-stream"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/event-stream", r.text
    blocks = [dict(line.split(": ", 1) for line in b.splitlines()) for b in r.text.split("\n\n") if "event: " in b]
    return [(b["event"], json.loads(b["data"])) for b in blocks]


def files(host):
    """What lies in the store, but for its two folders and what waits for a next try."""
    store, found = host.state / "images", []
    for where, folders, names in os.walk(store):
        found += [str((Path(where) / name).relative_to(store)) for name in folders + names]
    return sorted(f for f in found if f not in ("work", "cache") and not f.startswith("cache/"))


def cached(host):
    """Layers that wait for the next try."""
    return {p.name for p in (host.state / "images/cache").glob("*/sha256/*")}


def wait(what, seconds=20):
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return value


def skopeos(host):
    """Processes of this tenond's that fetch."""
    found = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            stat, args = (p / "stat").read_bytes(), (p / "cmdline").read_bytes()
        except OSError:
            continue
        if args.startswith(b"skopeo\0") and int(stat.rpartition(b")")[2].split()[1]) == host.process.pid:
            found.append(int(p.name))
    return found


# ---- what is here -----------------------------------------------------------------------------------


def test_pull_get_list_delete(images, host, push):
    image = small(1, Cmd=["/bin/sh"], Env=["A=b"], User="daemon", WorkingDir="/srv")
    reference = push(image, "team/app:1")
    r = pull(images, reference)
    assert r.status_code == 200, r.text
    i = r.json()
    assert i["id"] == image.digest and i["reference"] == reference
    assert i["repository"] == reference[:-2] and i["tag"] == "1" and i["cached_at"].endswith("Z")
    assert i["config"] == {"entrypoint": None, "cmd": ["/bin/sh"], "env": ["A=b"], "user": "daemon", "working_dir": "/srv"}
    file = host.state / "images" / (image.digest[7:] + ".squashfs")
    assert i["size_bytes"] == file.stat().st_size and file.stat().st_mode & 0o777 == 0o400
    for name in (reference, image.digest, f"{reference[:-2]}@{image.digest}"):
        assert images.get(path(name)).json()["id"] == image.digest
        assert images.call("HEAD", path(name)).status_code == 204
    listed = images.get("/images").json()
    assert listed["next_page_token"] is None and listed["images"][0]["reference"] == "tenon/base:latest"
    assert reference in [x["reference"] for x in listed["images"]]
    wait(lambda: files(host) == [file.name])
    assert images.delete(path(reference)).status_code == 204
    assert images.call("HEAD", path(reference)).status_code == 404 and error_of(images.get(path(image.digest)))["code"] == "not_found"
    wait(lambda: files(host) == [])


def test_the_built_in_image(images):
    i = images.get(path("tenon/base")).json()
    assert i["builtin"] and i["size_bytes"] == (ROOT / "build/images/base.squashfs").stat().st_size
    assert images.get(path(i["id"])).json() == i
    assert images.delete(path("tenon/base")).status_code == 409
    assert pull(images, "tenon/base:latest").json() == i and events(images, "tenon/base") == [("done", i)]


def test_pages(images, push):
    names = [push(small(n), f"page{n}:x") for n in range(3)]
    for name in names:
        assert pull(images, name).status_code == 200
    seen, token = [], ""
    while token is not None:
        page = images.get("/images?pageSize=1" + (f"&pageToken={quote(token)}" if token else "")).json()
        seen += [x["reference"] for x in page["images"]]
        token = page["next_page_token"]
    assert seen == ["tenon/base:latest", *sorted(names)]
    assert images.post("/images/prune", json={"all": True}).json()["references_deleted"] == 3


@pytest.mark.parametrize("bad", ["UPPER", "a b", "a:", "-x", "a@sha256:12", "x" * 300, "127.0.0.1:x/a", "sha256:" + "0" * 64, "oci:/etc"])
def test_references_that_are_none(images, bad):
    r = pull(images, bad)
    assert r.status_code == 400 and r.json()["error"]["field"] == "reference", r.text
    r = images.post("/boxes", json={"image": bad})
    assert r.status_code == (404 if bad.startswith("sha256:") else 400) and r.json()["error"]["field"] == "image"


def test_unknown_members_are_refused(images):
    for body in ({}, {"reference": "a", "x": 1}, {"reference": "a", "auth": {}}, {"reference": "a", "transport": "dir:/"}):
        assert error_of(images.post("/images/pull", json=body))["code"] == "invalid_argument"


def test_a_tag_that_moves_on(images, push):
    """Its old image stays by its digest, until it is pruned."""
    old, new = small("old"), small("new")
    reference = push(old, "moving:x")
    assert pull(images, reference).json()["id"] == old.digest
    push(new, "moving:x")
    assert pull(images, reference).json()["id"] == new.digest
    by_digest = f"{reference[:-2]}@{old.digest}"
    assert images.get(path(old.digest)).json()["reference"] == by_digest
    pruned = images.post("/images/prune").json()
    assert pruned["references_deleted"] == 1 and pruned["bytes_reclaimed"] > 0
    assert images.call("HEAD", path(old.digest)).status_code == 404
    assert images.call("HEAD", path(reference)).status_code == 204
    assert images.delete(path(new.digest)).status_code == 204


def test_many_names_for_one_image(images, host, push):
    image = small("same")
    first, second = push(image, "first:x"), push(image, "second:x")
    for name in (first, second):
        assert pull(images, name).json()["id"] == image.digest
    assert images.delete(path(first)).status_code == 204 and images.call("HEAD", path(image.digest)).status_code == 204
    assert images.delete(path(second)).status_code == 204
    wait(lambda: files(host) == [])


def test_docker_manifests(images, push):
    reference = push(small("docker"), "docker:x", "--format", "v2s2")
    i = pull(images, reference).json()
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"], capture_output=True, check=True)
    assert b"vnd.docker.distribution.manifest.v2" in raw.stdout and i["id"] == digest(raw.stdout)
    assert images.delete(path(reference)).status_code == 204


def test_plain_and_zstd_layers(images, plain):
    image = Image(tar(entry("a", b"a")), tar(entry("b", b"b")), tar(entry("c", b"c")), packing=["", "zstd", "gzip"])
    r = pull(images, plain.serve("mixed", image))
    assert r.status_code == 200 and r.json()["id"] == image.digest, r.text
    assert images.delete(path(image.digest)).status_code == 204


def test_the_platform_is_chosen(images, plain):
    mine, other = small("amd64"), small("arm64")
    both = plain.serve("both", Index(arm64=other, amd64=mine))
    assert pull(images, both).json()["id"] == mine.digest
    by_digest = f"{both}@{plain.images['both'].digest}"
    assert pull(images, by_digest).json()["id"] == mine.digest and images.call("HEAD", path(by_digest)).status_code == 204
    r = pull(images, plain.serve("arm", Index(arm64=other)))
    assert r.status_code == 422 and "linux/amd64" in error_of(r)["message"]
    other.config["architecture"] = "arm64"
    r = pull(images, plain.serve("alone", other.seal()))
    assert r.status_code == 422 and "arm64" in error_of(r)["message"]
    assert images.delete(path(mine.digest)).status_code == 204


def test_progress(images, plain):
    image = Image(tar(entry("a", os.urandom(2_000_000))), tar(entry("b", os.urandom(1_000_000))))
    name, gate = plain.serve("progress", image), threading.Event()
    slow = image.layers[1]["digest"]
    plain.instead[slow] = lambda h, data: (gate.wait(10), h.answer(data))
    got = []
    t = threading.Thread(target=lambda: got.extend(events(images, name)))
    t.start()
    p = wait(lambda: [p for p in images.get("/images/pulls").json()["pulls"] if p["layers"] == 1])[0]
    assert p["reference"] == name + ":latest" and p["phase"] == "downloading" and p["layers_total"] == 2
    assert p["bytes"] >= image.layers[0]["size"] and p["bytes_total"] == sum(x["size"] for x in image.layers)
    gate.set()
    t.join(30)
    assert [n for n, _ in got][-1] == "done" and got[-1][1]["id"] == image.digest
    assert {d["phase"] for n, d in got if n == "progress"} >= {"resolving", "downloading"}
    assert events(images, f"{plain.host}/nothing")[-1][0] == "error"
    assert images.delete(path(image.digest)).status_code == 204


def test_those_who_ask_at_once_share_one_pull(images, plain):
    image, gate = small("shared"), threading.Event()
    name = plain.serve("shared", image)
    plain.instead[image.layers[0]["digest"]] = lambda h, data: (gate.wait(10), h.answer(data))
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(pull(images, name))) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: replies.append(images.post("/boxes", json={"image": name}))))
    for t in threads:
        t.start()
    wait(lambda: any("/blobs/" + image.layers[0]["digest"] in p for _, p in plain.asked))
    assert len(images.get("/images/pulls").json()["pulls"]) == 1
    time.sleep(0.3)  # for whoever might begin a second one
    gate.set()
    for t in threads:
        t.join(30)
    assert sorted(r.status_code for r in replies) == [200, 200, 200, 200, 201], [r.text for r in replies]
    assert sum(image.layers[0]["digest"] in p for _, p in plain.asked) == 1
    box = next(r.json()["box_id"] for r in replies if r.status_code == 201)
    assert images.get(path(name)).json()["boxes"] == 1
    assert images.remove(box).status_code == 204 and images.delete(path(name)).status_code == 204


# ---- what goes wrong --------------------------------------------------------------------------------


def cut(h, data):
    h.answer(data[: len(data) // 2], length=len(data))
    h.close_connection = True


def hang(h, data):
    h.answer(data[: len(data) // 2], length=len(data))
    time.sleep(8)


def stay_silent(h, data):
    time.sleep(8)


def other_bytes(h, data):
    h.answer(bytes([data[0] ^ 1]) + data[1:])


def more_bytes(h, data):
    h.answer(data + bytes(3_000_000))


def fewer_bytes(h, data):
    h.answer(data[:-1])


def fail(h, data):
    h.answer(b"it is broken", 500)


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("act", [cut, hang, stay_silent, other_bytes, more_bytes, fewer_bytes, fail])
def test_a_registry_that_misbehaves(hasty, plain, what, act):
    images, host = hasty.client(), hasty
    image = small(f"{what} {act.__name__}")
    name = plain.serve("bad", image) + ("@" + image.digest if what == "manifest" else "")
    plain.instead["/" + {"manifest": image.digest, "config": image.manifest["config"]["digest"], "layer": image.layers[1]["digest"]}[what]] = act
    began = time.monotonic()
    r = pull(images, name)
    assert r.status_code == 422 and error_of(r)["code"] == "image_pull_failed", r.text
    assert error_of(r)["type"] == "ImageError" and plain.host in error_of(r)["message"]
    assert time.monotonic() - began < 30
    assert images.call("HEAD", path(image.digest)).status_code == 404
    wait(lambda: files(host) == [])
    # At most whole layers wait for the next try; they are taken away by it.
    own = {b[7:] for b in image.blobs}
    assert cached(host) & own <= {image.layers[0]["digest"][7:], image.manifest["config"]["digest"][7:]}
    plain.instead.clear()
    assert pull(images, name).status_code == 200 and images.delete(path(name)).status_code == 204
    wait(lambda: files(host) == [] and not cached(host) & own)


def lying(kind):
    image = small(kind)
    if kind == "size":
        image.layers[0]["size"] -= 1
    elif kind == "diff_id":
        image.config["rootfs"]["diff_ids"][0] = digest(b"")
    elif kind == "foreign":
        image.layers[0]["urls"] = ["http://127.0.0.1:1/"]
    elif kind == "type":
        image.layers[0]["mediaType"] = "application/x-anything"
    elif kind == "dotdot":
        return Image(tar(entry("../../outside", b"")))
    elif kind == "no tar":
        return Image(b"not at all" * 100)
    elif kind == "artifact":
        image.seal()
        image.manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        return image
    return image.seal()


@pytest.mark.parametrize("kind", ["size", "diff_id", "foreign", "type", "dotdot", "no tar", "artifact"])
def test_an_image_that_lies(images, host, plain, kind):
    image = lying(kind)
    r = pull(images, plain.serve("lies", image))
    assert r.status_code == 422 and error_of(r)["code"] == "image_pull_failed", r.text
    wait(lambda: files(host) == [] and not cached(host) & {b[7:] for b in image.blobs})


def test_the_next_try_goes_on(images, host, plain):
    image = small("resumed")
    name, first, second = plain.serve("resumed", image), *(x["digest"] for x in image.layers)
    # The second layer breaks off, but not before the first has arrived.
    def late(h, data):
        wait(lambda: first[7:] in cached(host))
        cut(h, data)
    plain.instead["/" + second] = late
    assert pull(images, name).status_code == 422
    plain.instead.clear()
    plain.asked.clear()
    assert pull(images, name).status_code == 200
    blobs = [p for _, p in plain.asked if "/blobs/" in p]
    assert any(second in p for p in blobs) and not any(first in p for p in blobs)
    assert images.delete(path(name)).status_code == 204


def test_cancelled_and_left(images, host, plain):
    image = small("cancelled")
    name = plain.serve("cancelled", image)
    gate = threading.Event()
    plain.instead["/" + image.layers[0]["digest"]] = lambda h, data: (gate.wait(10), h.answer(data))
    got = []
    t = threading.Thread(target=lambda: got.append(pull(images, name)))
    t.start()
    p = wait(lambda: images.get("/images/pulls").json()["pulls"])[0]
    wait(lambda: skopeos(host))
    assert images.delete(f"/images/pulls/{p['id']}").status_code == 204
    t.join(10)
    assert got[0].status_code == 422 and "cancelled" in error_of(got[0])["message"]
    assert images.delete(f"/images/pulls/{p['id']}").status_code == 404
    wait(lambda: not skopeos(host))
    # The only client leaves: events notice when they are written, or their silence's comment is.
    with images.http.post(images.url + "/images/pull", json={"reference": name}, headers={"Accept": "text/event-stream"}, stream=True, timeout=20):
        wait(lambda: skopeos(host))
    wait(lambda: not skopeos(host) and not images.get("/images/pulls").json()["pulls"])
    gate.set()
    wait(lambda: files(host) == [])


def test_killed_programs(images, host, plain):
    image = small("killed")
    name = plain.serve("killed", image)
    gate = threading.Event()
    plain.instead["/" + image.layers[0]["digest"]] = lambda h, data: (gate.wait(10), h.answer(data))
    got = []
    t = threading.Thread(target=lambda: got.append(pull(images, name)))
    t.start()
    wait(lambda: any("/blobs/" + image.layers[0]["digest"] in p for _, p in plain.asked))
    os.kill(wait(lambda: skopeos(host))[0], signal.SIGKILL)
    t.join(10)
    gate.set()
    assert got[0].status_code == 422 and "signal 9" in error_of(got[0])["message"]
    wait(lambda: files(host) == [])


def test_tenond_is_killed_in_the_middle(make_daemon, plain):
    d = make_daemon()
    image, done = small("in the middle"), small("done")
    assert pull(d.client(), plain.serve("done", done)).status_code == 200
    name, gate = plain.serve("middle", image), threading.Event()
    plain.instead["/" + image.layers[0]["digest"]] = lambda h, data: (gate.wait(10), h.answer(data))
    t = threading.Thread(target=lambda: pytest.raises(Exception, pull, d.client(), name))
    t.start()
    wait(lambda: any("/blobs/" + image.layers[0]["digest"] in p for _, p in plain.asked))
    fetching = wait(lambda: skopeos(d))
    d.kill()
    t.join(10)
    wait(lambda: not any(Path(f"/proc/{p}").exists() and b"skopeo" in Path(f"/proc/{p}/cmdline").read_bytes() for p in fetching))
    # Files that a crash may leave: one without a row, and one that is half made.
    (d.state / "images" / ("0" * 64 + ".squashfs")).write_bytes(b"")
    d.start()
    gate.set()
    kept = done.digest[7:] + ".squashfs"
    assert files(d) == [kept]
    assert d.client().call("HEAD", path(image.digest)).status_code == 404
    assert d.client().get(path(done.digest)).json()["reference"] == f"{plain.host}/done:latest"
    plain.instead.clear()
    assert pull(d.client(), name).status_code == 200
    # A row whose file somebody has removed.
    d.kill()
    (d.state / "images" / kept).unlink()
    d.start()
    assert d.client().call("HEAD", path(done.digest)).status_code == 404
    assert d.client().call("HEAD", path(image.digest)).status_code == 204


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system takes root")
def test_no_space(make_daemon, plain):
    d = make_daemon()
    store = d.state / "images"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", store], capture_output=True).returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        for sub in ("work", "cache"):
            (store / sub).mkdir()
        # Too much for the download; and for what it unpacks to, since random bytes do not shrink.
        for size in (12_000_000, 5_000_000):
            image = Image(tar(entry("big", os.urandom(size))), packing="zstd")
            r = pull(d.client(), plain.serve("big", image))
            assert r.status_code == 507 and error_of(r)["code"] == "resource_exhausted", r.text
            wait(lambda: files(d) == [] and not cached(d))
        r = d.client().post("/images/load?reference=big", data=iter([bytes(1_000_000)] * 20))
        assert r.status_code == 507, r.text
        assert pull(d.client(), plain.serve("little", small())).status_code == 200
    finally:
        subprocess.run(["umount", "-l", store], check=True)


# ---- who may ----------------------------------------------------------------------------------------


def test_credentials(make_daemon, tmp_path, registry):
    """By request, or from the host's file; never where others see them."""
    (tmp_path / "htpasswd").write_text("me:" + crypt.crypt("a secret", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
    private = Registry(tmp_path, tmp_path / "htpasswd")
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {private.host: {"auth": "bWU6YSBzZWNyZXQ="}}}))
    auth.chmod(0o600)
    d = make_daemon("--registry-auth", auth)
    other = make_daemon()
    try:
        (tmp_path / "layout").mkdir()
        image = small("private")
        image.write(tmp_path / "layout")
        name = private.push(tmp_path / "layout", "private:x", "--dest-creds", "me:a secret")
        assert pull(d.client(), name).status_code == 200
        c = other.client()
        assert pull(c, name).status_code == 422
        assert pull(c, name, auth={"username": "me", "password": "wrong"}).status_code == 422
        assert pull(c, name, auth={"username": "me", "password": "a secret"}).status_code == 200
        assert pull(c, name).status_code == 422, "having it is not being allowed to have it"
        auth.chmod(0o644)
        r = pull(d.client(), name)
        assert r.status_code == 500 and "0600" in error_of(r)["message"]
        assert "a secret" not in other.log_tail() and "bWU6" not in other.log_tail()
        wait(lambda: not [f for f in files(other) if "work" in f])
    finally:
        private.close()


def test_a_secret_is_on_no_command_line(images, host, plain):
    plain.secret = "Basic bWU6dHVybmlwcw=="
    image, gate = small("secret"), threading.Event()
    name = plain.serve("secret", image)
    plain.instead["/" + image.layers[0]["digest"]] = lambda h, data: (gate.wait(10), h.answer(data))
    got = []
    t = threading.Thread(target=lambda: got.append(pull(images, name, auth={"username": "me", "password": "turnips"})))
    t.start()
    wait(lambda: any("/blobs/" + image.layers[0]["digest"] in p for _, p in plain.asked))
    pid = wait(lambda: skopeos(host))[0]
    seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    kept = list((host.state / "images/work").glob("*/auth.json"))
    assert b"turnips" not in seen and b"bWU6" not in seen
    assert len(kept) == 1 and kept[0].stat().st_mode & 0o777 == 0o600
    gate.set()
    t.join(20)
    assert got[0].status_code == 200 and "turnips" not in host.log_tail()
    wait(lambda: not kept[0].exists())
    assert images.delete(path(name)).status_code == 204


@pytest.fixture(scope="module")
def guarded(make_daemon):
    """A tenond with keys: (admin, a tenant with images:*, one that may only read)."""
    d = make_daemon(auth=True)
    key = (d.state / "admin.key").read_text().strip()
    admin = Client(d.url, {"Authorization": f"Bearer {key}"})
    assert admin.post("/prefixes", json={"prefix": "team"}).status_code == 204

    def token(base, scopes):
        c = admin.post(f"{base}/oauth/clients", json={"name": f"c{len(scopes)}{scopes[-1][-4:]}", "scopes": scopes}).json()
        r = admin.http.post(d.url + "/v1/oauth/tokens", data={"grant_type": "client_credentials", "client_id": c["client_id"], "client_secret": c["client_secret"]})
        return Client(d.url, {"Authorization": f"Bearer {r.json()['access_token']}"})

    return d, admin, token("/team", ["images:read", "images:write"]), token("/team", ["images:read"])


def test_tenants_and_scopes(guarded, plain):
    _, admin, team, reader = guarded
    image = small("tenant")
    name = plain.serve("tenant", image)
    r = reader.post("/images/pull", json={"reference": name})
    assert r.status_code == 403
    assert pull(team, name).status_code == 200 and reader.get(path(name)).status_code == 200
    assert reader.delete(path(name)).status_code == 403
    assert admin.get(path(name)).status_code == 404, "another tenant's"
    assert admin.get("/team" + path(name)).status_code == 200
    assert pull(admin, name).status_code == 200
    assert team.delete(path(name)).status_code == 204 and admin.get(path(image.digest)).status_code == 200
    assert admin.delete(path(name)).status_code == 204


def test_a_prefix_takes_its_images_with_it(guarded, plain):
    d, admin, _, _ = guarded
    image = small("prefix")
    name = plain.serve("prefix", image)
    assert admin.post("/prefixes", json={"prefix": "brief"}).status_code == 204
    assert admin.post("/brief/images/pull", json={"reference": name}).status_code == 200
    assert admin.delete("/prefixes/brief").status_code == 204
    wait(lambda: files(d) == [])


def test_places_on_the_host_are_the_admins(guarded, tmp_path):
    _, admin, team, _ = guarded
    image = small("layout")
    (tmp_path / "l").mkdir()
    image.write(tmp_path / "l")
    place = f"oci:{tmp_path}/l:it"
    assert pull(team, "mine:x", transport=place).status_code == 403
    r = pull(admin, "mine:x", transport=place)
    assert r.status_code == 200 and r.json()["id"] == image.digest and r.json()["reference"] == "docker.io/library/mine:x", r.text
    assert admin.delete(path("mine:x")).status_code == 204


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_load(images, host, tmp_path, kind):
    image = small(kind)
    (tmp_path / "l").mkdir()
    image.write(tmp_path / "l")
    archive = tmp_path / "it.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{tmp_path}/l:it", f"{kind}:{archive}:it:latest"], check=True, timeout=60)
    with open(archive, "rb") as f:
        r = images.post("/images/load?reference=loaded:x", data=f)
    assert r.status_code == 200 and r.json()["reference"] == "docker.io/library/loaded:x", r.text
    assert images.delete(path("loaded:x")).status_code == 204
    r = images.post("/images/load?reference=loaded:x", data=b"no archive")
    assert r.status_code == 422 and error_of(r)["code"] == "image_pull_failed"
    assert images.post("/images/load", data=b"").status_code == 400
    wait(lambda: files(host) == [])


# ---- a box of one -----------------------------------------------------------------------------------


def test_a_box_of_an_image_from_a_registry(images, host, push):
    """The whole way: Debian's own files, pushed, pulled because a box wants them, booted and looked at."""
    own = tar(
        entry("etc/passwd", b"root:x:0:0::/root:/bin/bash\nworker:x:1234:50::/srv:/bin/bash\n"),
        entry("etc/group", b"root:x:0:\nstaff:x:50:\nshadow:x:42:\n"),
        entry("srv", uid=1234, gid=50, mode=0o2750),
        entry("srv/mine", b"hello from the image\n", uid=1234, gid=50, mode=0o640),
        hard("srv/same", "srv/mine"),
        link("srv/link", "mine"),
        entry("usr/share/.wh.base-files", b""),
        entry("srv/attributes", b"", pax_headers={"SCHILY.xattr.user.colour": "blue"}),
    )
    image = Image(debian_tar().read_bytes(), own, Env=["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "FROM=image", "BOTH=image"], WorkingDir="/srv", User="worker",
                  Entrypoint=["/bin/bash", "-c"], Cmd=["id -un; pwd; exit 4"])
    name = push(image, "debian:box")
    r = images.post("/boxes", json={"image": name, "env": {"BOTH": "box"}, "memory_mib": 256})
    assert r.status_code == 201, r.text
    box = r.json()
    assert box["image"] == name and images.get(path(name)).json()["boxes"] == 1
    r = images.delete(path(name))
    assert r.status_code == 409 and "1 box" in error_of(r)["message"]
    assert images.post("/images/prune", json={"all": True}).json()["references_deleted"] == 0
    # What the image says is run if that is asked for, and not otherwise.
    asked = images.post("/boxes", json={"image": name, "image_command": True, "memory_mib": 256}).json()["box_id"]
    x = Execution(images, asked, images.post(f"/boxes/{asked}/start").json()["main_execution_id"])
    out, _, end = x.collect()
    assert (out, end["exit_code"]) == (b"worker\n/srv\n", 4)
    assert images.remove(asked).status_code == 204
    script = (
        "id -un; pwd; echo $FROM $BOTH; cat mine; stat -c '%a %u %g %h' mine; stat -c '%a %u %g' . /usr/bin/passwd /usr/bin/chage;"
        "stat -c %F link; test -e /usr/share/base-files || echo hidden; [ mine -ef same ] && echo same; touch new && ls"
    )
    out, err, end = images.run(box["box_id"], "/bin/bash", "-c", script)
    assert out.decode().splitlines() == [
        "worker", "/srv", "image box", "hello from the image",
        "640 1234 50 2", "2750 1234 50", "4755 0 0", "2755 0 42",
        "symbolic link", "hidden", "same", "attributes", "link", "mine", "new", "same",
    ], (out, err, end)
    assert end["exit_code"] == 0
    out, _, _ = images.run(box["box_id"], "/bin/bash", "-c", "id -u; echo $BOTH; pwd", user="root", working_dir="/", env={"BOTH": "exec"})
    assert out == b"0\nexec\n/\n"
    # The tag moves on under it: it stays what it is, also through a restart.
    push(small("later"), "debian:box")
    assert pull(images, name).json()["id"] != image.digest
    assert images.post(f"/boxes/{box['box_id']}/stop").status_code == 200
    out, _, end = images.run(box["box_id"], "/bin/cat", "/srv/mine", "/srv/new")
    assert out == b"hello from the image\n" and end["exit_code"] == 0
    assert images.post("/images/prune").json()["references_deleted"] == 0
    assert images.remove(box["box_id"]).status_code == 204
    assert images.post("/images/prune", json={"all": True}).json()["references_deleted"] == 2
    wait(lambda: files(host) == [])


def test_a_box_whose_image_cannot_be_had(images, plain):
    before = images.get("/boxes").json()["boxes"]
    r = images.post("/boxes", json={"image": f"{plain.host}/no/such:image", "name": "unborn"})
    assert r.status_code == 422 and error_of(r)["code"] == "image_pull_failed" and "no/such" in error_of(r)["message"]
    assert images.get("/boxes").json()["boxes"] == before
    # What can be said before is said before.
    plain.asked.clear()
    assert images.post("/boxes", json={"image": f"{plain.host}/x", "memory_mib": 1}).status_code == 400
    assert plain.asked == []


def test_the_command_line(host, plain, tmp_path):
    image = small("cli")
    name = plain.serve("cli", image)

    def tenon(*args, code=0, **kw):
        p = subprocess.run([TENON, "--host", host.url, *args], capture_output=True, text=True, timeout=60, **kw)
        assert p.returncode == code, (args, p.stdout, p.stderr)
        return p.stdout, p.stderr

    assert tenon("pull", name)[0] == f"{name}:latest {image.digest}\n"
    assert any(line.startswith(f"{name}:latest ") and image.digest[:19] in line for line in tenon("images")[0].splitlines())
    assert tenon("rmi", name)[0] == name + "\n"
    assert "no image" in tenon("rmi", name, code=125)[1]
    assert "image" in tenon("pull", f"{plain.host}/nothing", code=125)[1]
    assert "no/thing" in tenon("run", f"{plain.host}/no/thing", "true", code=125)[1]
    (tmp_path / "l").mkdir()
    image.write(tmp_path / "l")
    assert tenon("load", f"oci:{tmp_path}/l:it", "mine")[0] == f"docker.io/library/mine:latest {image.digest}\n"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{tmp_path}/l:it", f"oci-archive:{tmp_path}/a.tar:it"], check=True, timeout=60)
    assert image.digest in tenon("load", str(tmp_path / "a.tar"), "mine:2")[0]
    with open(tmp_path / "a.tar") as f:
        assert image.digest in tenon("load", "-", "mine:3", stdin=f)[0]
    tenon("rmi", image.digest)
    plain.secret = "Basic bWU6dHVybmlwcw=="
    assert tenon("pull", "-u", "me", name, input="turnips\n")[0].endswith(image.digest + "\n")
    tenon("rmi", name)
