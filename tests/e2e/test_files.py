"""Files of a real box over REST: tar in both directions by docker cp's rules, single files, listing, watching."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from client import error_of, receive_all

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def archive(*entries):
    """A tar of (name, bytes or None for a folder, mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.mtime = 1700000000
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def folder(client, box, request):
    """A folder of its own in the box."""
    path = f"/srv/{request.node.name[:60]}"
    path = "".join(c if c.isalnum() or c in "/_" else "_" for c in path)
    assert client.run(box, "mkdir", "-p", path)[2]["exit_code"] == 0
    return path


def put(client, box, path, data, **query):
    return client.call("PUT", f"/boxes/{box}/files", params={"path": path, **query}, data=data,
                       headers={"Content-Type": "application/x-tar"})


def get(client, box, path, **query):
    r = client.get(f"/boxes/{box}/files", params={"path": path, **query})
    assert r.status_code == 200, r.text
    assert r.headers["Content-Type"] == "application/x-tar"
    return tarfile.open(fileobj=io.BytesIO(r.content))


def content(client, method, box, path, **kw):
    query = kw.pop("query", {})
    return client.call(method, f"/boxes/{box}/files/content", params={"path": path, **query}, **kw)


def sh(client, box, script):
    out, err, end = client.run(box, "sh", "-c", script)
    assert end["exit_code"] == 0, err
    return out.decode()


# ---- tar ----


def test_one_file_lands_at_its_path(client, box, folder):
    """BoxLite #238, #692: neither as a folder, nor as a raw tar, nor one level too deep."""
    assert put(client, box, f"{folder}/new.txt", archive(("a.txt", b"hello", 0o640))).status_code == 204
    assert sh(client, box, f"cd {folder}; cat new.txt; stat -c ' %F %a %u:%g' new.txt; ls") == (
        "hello regular file 640 0:0\nnew.txt\n")


def test_one_file_into_a_folder(client, box, folder):
    tar = archive(("a.txt", b"hello", 0o644))
    assert put(client, box, folder, tar).status_code == 204  # it exists
    assert put(client, box, f"{folder}/made/", tar).status_code == 204  # it ends in a slash
    assert sh(client, box, f"cd {folder}; cat a.txt made/a.txt") == "hellohello"


def test_a_folder_is_unpacked_into_the_path(client, box, folder):
    tar = archive(("./", None, 0o755), ("./x", b"1", 0o755), ("./sub", None, 0o750), ("./sub/y", b"2", 0o600))
    assert put(client, box, f"{folder}/deep/er", tar).status_code == 204
    assert sh(client, box, f"cd {folder}/deep/er; cat x sub/y; stat -c ' %a' x sub sub/y | tr -d '\\n'") == (
        "12 755 750 600")


def test_under_a_mount_it_is_seen_by_programs(client, box):
    """BoxLite #1361: /tmp is a mount, and what was copied there went below it."""
    assert put(client, box, "/tmp/up.txt", archive(("up.txt", b"seen", 0o644))).status_code == 204
    assert sh(client, box, "cat /tmp/up.txt; echo more > /tmp/down.txt") == "seen"
    assert get(client, box, "/tmp/down.txt").extractfile("down.txt").read() == b"more\n"
    assert content(client, "GET", box, "/dev/shm/none").status_code == 404


def test_overwrite(client, box, folder):
    one, two = archive(("f", b"one", 0o644)), archive(("f", b"two", 0o644))
    assert put(client, box, f"{folder}/f", one).status_code == 204
    r = put(client, box, f"{folder}/f", two, overwrite="false")
    e = error_of(r)
    assert (r.status_code, e["code"], e["errno_name"]) == (409, "already_exists", "EEXIST")
    assert e["path"].endswith("/f")
    assert sh(client, box, f"cat {folder}/f") == "one"
    assert put(client, box, f"{folder}/f", two).status_code == 204
    assert sh(client, box, f"cat {folder}/f") == "two"


@pytest.mark.parametrize("name", ["/etc/abs", "../up", "a/../../up"])
def test_an_entry_that_would_leave_is_refused(client, box, folder, name):
    r = put(client, box, f"{folder}/in/", archive((name, b"x", 0o644)))
    e = error_of(r)
    assert r.status_code == 400 and e["code"] == "invalid_argument", e
    assert sh(client, box, f"ls {folder}/up /etc/abs 2>/dev/null; true") == ""


@pytest.mark.parametrize("body", [b"this is no tar at all, however long it may be" * 50, archive(("a", b"x" * 5000, 0o644))[:3000]])
def test_a_bad_tar_is_a_clear_4xx(client, box, folder, body):
    r = put(client, box, f"{folder}/in/", body)
    assert 400 <= r.status_code < 500, r.text
    assert error_of(r)["message"]


def test_what_is_not_there(client, box):
    r = client.get(f"/boxes/{box}/files", params={"path": "/no/such/thing"})
    e = error_of(r)
    assert (r.status_code, e["code"], e["errno_name"], e["path"]) == (404, "not_found", "ENOENT", "/no/such/thing")
    assert error_of(client.get(f"/boxes/{box}/files"))["field"] == "path"
    assert error_of(client.get(f"/boxes/{box}/files", params={"path": "etc"}))["field"] == "path"


def test_download_of_a_file_and_of_folders(client, box, folder):
    sh(client, box, f"cd {folder}; mkdir -p d/e; echo 1 > d/one; echo 2 > d/e/two; ln -s one d/link; chmod 700 d/one")
    one = get(client, box, f"{folder}/d/one")
    assert [m.name for m in one] == ["one"] and one.getmember("one").mode == 0o700
    names = {m.name.rstrip("/") for m in get(client, box, f"{folder}/d")}
    assert names == {"d", "d/one", "d/e", "d/e/two", "d/link"}
    names = {m.name.rstrip("/").removeprefix("./") for m in get(client, box, f"{folder}/d/.")}
    assert {"one", "e", "e/two", "link"} <= names
    assert get(client, box, f"{folder}/d/link").getmember("link").issym()
    assert get(client, box, f"{folder}/d/link", follow_symlinks="true").extractfile("link").read() == b"1\n"


def test_there_and_back(client, box, folder):
    data = os.urandom(3 * MIB + 17)
    assert put(client, box, f"{folder}/big", archive(("big", data, 0o644))).status_code == 204
    assert get(client, box, f"{folder}/big").extractfile("big").read() == data


def memory_of(daemon):
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def test_memory_is_flat_for_any_size(daemon, client, box, folder):
    """BoxLite #1298, #1307: bodies were held in memory whole. Chunked up, streamed down, tenond stays as it is."""
    size, piece = 96 * MIB, os.urandom(MIB)
    head = tarfile.TarInfo("f")
    head.size = size
    before, seen = memory_of(daemon), hashlib.sha256()

    def body():
        yield head.tobuf()
        for _ in range(size // MIB):
            yield piece
        yield bytes(1024)

    assert put(client, box, f"{folder}/f", body()).status_code == 204
    with client.get(f"/boxes/{box}/files/content", params={"path": f"{folder}/f"}, stream=True) as r:
        assert int(r.headers["Content-Length"]) == size
        for got in r.iter_content(MIB):
            seen.update(got)
    expected = hashlib.sha256()
    for _ in range(size // MIB):
        expected.update(piece)
    assert seen.digest() == expected.digest()
    sh(client, box, f"rm {folder}/f")
    assert memory_of(daemon) - before < 16


def test_a_slow_reader_slows_only_itself(daemon, client, box, folder):
    sh(client, box, f"head -c {24 * MIB} /dev/zero > {folder}/f")
    with client.connect(60) as slow:
        slow.sendall(f"GET /v1/boxes/{box}/files/content?path={folder}/f HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        for _ in range(5):
            assert content(client, "GET", box, "/etc/passwd").status_code == 200
            assert sh(client, box, "echo ok") == "ok\n"
        assert time.monotonic() - began < 30


def test_who_leaves_takes_the_file_with_them(client, box, folder):
    with client.connect() as s:
        s.sendall(f"PUT /v1/boxes/{box}/files/content?path={folder}/f HTTP/1.1\r\nHost: localhost\r\n"
                  f"Content-Length: 1000000\r\n\r\n".encode() + bytes(300000))
        time.sleep(0.5)  # so that some of it is in the box
    for _ in range(200):
        if sh(client, box, f"ls -A {folder}") == "":
            return
        time.sleep(0.05)
    raise AssertionError(sh(client, box, f"ls -lA {folder}"))


def test_a_full_disk_is_told(client, box):
    sh(client, box, "mkdir -p /tmp/small && mount -t tmpfs -o size=1m none /tmp/small")
    try:
        r = content(client, "PUT", box, "/tmp/small/f", data=bytes(3 * MIB))
        e = error_of(r)
        assert (r.status_code, e["code"], e["errno_name"]) == (507, "resource_exhausted", "ENOSPC")
        assert e["path"].startswith("/tmp/small/f")
        assert sh(client, box, "ls -A /tmp/small") == ""
    finally:
        sh(client, box, "umount /tmp/small")


def test_files_start_a_stopped_box(client):
    """BoxLite #821, #861, #1415."""
    b = client.create(image="tenon/base")["box_id"]
    try:
        assert put(client, b, "/srv/f", archive(("f", b"early", 0o644))).status_code == 204
        assert client.get(f"/boxes/{b}").json()["status"] == "running"
        assert client.post(f"/boxes/{b}/stop").status_code == 200
        assert content(client, "GET", b, "/srv/f").content == b"early"
        assert client.get(f"/boxes/{b}").json()["status"] == "running"
    finally:
        client.remove(b)


# ---- one file ----


def test_put_get_head_delete(client, box, folder):
    path = f"{folder}/f.bin"
    data = bytes(range(256)) * 40
    assert content(client, "PUT", box, path, data=data, query={"mode": "0751"}).status_code == 204
    r = content(client, "GET", box, path)
    assert r.content == data and r.headers["X-File-Mode"] == "0751" and r.headers["X-File-Owner"] == "0:0"
    r = content(client, "HEAD", box, path)
    assert r.headers["Content-Length"] == str(len(data)) and r.headers["X-File-Type"] == "file"
    assert "GMT" in r.headers["Last-Modified"]
    r = content(client, "GET", box, path, headers={"Range": "bytes=250-261"})
    assert r.status_code == 206 and r.content == data[250:262]
    assert r.headers["Content-Range"] == f"bytes 250-261/{len(data)}"
    r = content(client, "GET", box, path, headers={"Range": "bytes=10230-"})
    assert r.status_code == 206 and r.content == data[10230:]
    r = content(client, "GET", box, path, headers={"Range": "bytes=-7"})
    assert r.status_code == 206 and r.content == data[-7:]
    assert r.headers["Content-Range"] == f"bytes 10233-10239/{len(data)}"
    r = content(client, "GET", box, path, headers={"Range": "bytes=-99999"})
    assert r.status_code == 206 and r.content == data
    for several in ("bytes=0-1,5-9", "bytes=5-2", "bytes=-", "bytes=x", "lines=1-2"):
        r = content(client, "GET", box, path, headers={"Range": several})
        assert r.status_code == 200 and r.content == data, several
    for beyond in ("bytes=10240-", "bytes=-0"):
        r = content(client, "GET", box, path, headers={"Range": beyond})
        assert r.status_code == 416 and r.headers["Content-Range"] == f"bytes */{len(data)}"
    assert content(client, "DELETE", box, path).status_code == 204
    assert content(client, "DELETE", box, path).status_code == 404
    assert content(client, "HEAD", box, path).status_code == 404


def test_put_makes_parents_and_can_refuse_to_replace(client, box, folder):
    path = f"{folder}/a/b/c"
    assert content(client, "PUT", box, path, data=b"x").status_code == 404
    assert content(client, "PUT", box, path, data=b"", query={"parents": "true"}).status_code == 204
    r = content(client, "PUT", box, path, data=b"y", query={"overwrite": "false"})
    assert (r.status_code, error_of(r)["code"]) == (409, "already_exists")
    assert content(client, "GET", box, path).content == b""
    r = content(client, "DELETE", box, f"{folder}/a")
    assert (r.status_code, error_of(r)["errno_name"]) == (409, "ENOTEMPTY")
    assert content(client, "DELETE", box, f"{folder}/a", query={"recursive": "true"}).status_code == 204


def test_a_folder_is_no_file(client, box, folder):
    r = content(client, "GET", box, folder)
    assert (r.status_code, error_of(r)["errno_name"]) == (400, "EISDIR")
    assert content(client, "HEAD", box, folder).headers["X-File-Type"] == "directory"


def test_the_kernels_own_files(client, box):
    assert content(client, "GET", box, "/proc/version").content.startswith(b"Linux version")


# ---- folders ----


def test_listing(client, box, folder):
    sh(client, box, f"cd {folder}; echo 123 > f; ln -s f l; mkdir d; echo > d/in; printf x > \"$(printf 'b\\377d')\"")
    r = client.get(f"/boxes/{box}/files/list", params={"path": folder})
    assert r.status_code == 200 and r.json()["truncated"] is False
    entries = {e["name"]: e for e in r.json()["entries"]}
    assert set(entries) == {"f", "l", "d", "b\ufffdd"}
    assert (entries["f"]["type"], entries["f"]["size"], entries["f"]["mode"]) == ("file", 4, "0644")
    assert (entries["l"]["type"], entries["l"]["target"]) == ("symlink", "f")
    assert entries["b\ufffdd"]["name_base64"] == "Yv9k"
    deep = client.get(f"/boxes/{box}/files/list", params={"path": folder, "depth": 2}).json()["entries"]
    assert "d/in" in {e["name"] for e in deep}
    some = client.get(f"/boxes/{box}/files/list", params={"path": folder, "limit": 2}).json()
    assert len(some["entries"]) == 2 and some["truncated"] is True
    r = client.get(f"/boxes/{box}/files/list", params={"path": f"{folder}/f"})
    assert (r.status_code, error_of(r)["errno_name"]) == (400, "ENOTDIR")


def test_watching(client, box, folder):
    """Changes come as they happen, and the stream ends when the client does."""
    with client.get(f"/boxes/{box}/files/watch", params={"path": folder, "recursive": "true"}, stream=True,
                    timeout=30) as r:
        assert r.status_code == 200 and r.headers["Content-Type"] == "text/event-stream"
        sh(client, box, f"cd {folder}; echo > f; mkdir d; mv f g; rm g")
        seen = []
        for line in r.iter_lines():
            if line.startswith(b"data: "):
                change = json.loads(line[6:])
                seen.append((change["kind"], change["name"], change.get("to")))
            if ("removed", "g", None) in seen:
                break
    assert ("created", "f", None) in seen and ("written", "f", None) in seen
    assert ("renamed", "f", "g") in seen and ("created", "d", None) in seen


def test_watching_what_is_not_there(client, box):
    r = client.get(f"/boxes/{box}/files/watch", params={"path": "/none"})
    assert r.status_code == 404


# ---- bad requests ----


@pytest.mark.parametrize("query, field", [
    ("", "path"), ("?path=", "path"), ("?path=a", "path"), ("?path=/" + "x" * 5000, "path"),
    ("?path=/x&mode=8", "mode"), ("?path=/x&mode=", "mode"),
])
def test_bad_queries_name_the_field(client, box, query, field):
    r = client.call("PUT", f"/boxes/{box}/files/content{query}", data=b"x")
    assert (r.status_code, error_of(r)["field"]) == (400, field)


def test_a_refused_upload_with_expect_is_not_sent(client, box):
    got = b""
    with client.connect() as s:
        s.sendall(f"PUT /v1/boxes/{box}/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n"
                  "Expect: 100-continue\r\n\r\n".encode())
        got = receive_all(s)
    assert got.startswith(b"HTTP/1.1 400")
