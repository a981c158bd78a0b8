"""Files of the box, one operation each. The agent on a plain host works on the host's own: all below tmp_path."""

import errno
import os
import stat
import threading

import pytest

import wire
from agent import MB, code_of, eventually
from files import ROOT, at, failure, needs_root, tree, worker_memory
from wire import frame

REPLACE, CREATE, UPDATE, APPEND = range(4)


def refused(b, errnum, path, stage=None, **op):
    error = failure(b.call, **op)
    assert (error.errnum, error.path) == (errnum, path), str(error)
    assert stage is None or error.stage == stage
    return error


def put(b, path, data=b"x", **kw):
    return b.put(data, write=dict(at=at(path), **kw))


# ---- names ----


@pytest.mark.parametrize("where, field", [
    (dict(path=b""), "at.path"), (dict(path=b"relative"), "at.path"), (dict(path=b"/a\0b"), "at.path"),
    (dict(path=b"/" + b"x" * 4095), "at.path"), (dict(path=b"/absolute", beneath=b"/tmp"), "at.path"),
    (dict(path=b"x", beneath=b"tmp"), "at.beneath"), (dict(path=b"x", beneath=b"/t\0"), "at.beneath"), (None, "at")])
def test_what_is_no_path(b, where, field):
    with pytest.raises(wire.WireError) as e:
        b.call(stat=dict(at=where) if where else {})
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", field)


@pytest.fixture
def jail(tmp_path):
    """A folder with every way out that a tenant can make, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "dir").mkdir()
    (inside / "file").write_bytes(b"file")
    (inside / "absolute").symlink_to(tmp_path)
    (inside / "up").symlink_to("..")
    (inside / "dir/far").symlink_to("../../secret")
    (inside / "leaf").symlink_to(tmp_path / "secret")
    (inside / "magic").symlink_to("/proc/self/root")
    (inside / "within").symlink_to("dir/../file")
    return bytes(inside)


ESCAPES = [b"../secret", b"dir/../../secret", b"absolute/secret", b"up/secret", b"dir/far", b"leaf",
           b"magic/etc/passwd"]


@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_leads_out(b, jail, path):
    w = at(path, jail)
    for op in (dict(stat=dict(at=w, follow=True)), dict(read=dict(at=w)), dict(chmod=dict(at=w, mode=0o777)),
               dict(chown=dict(at=w, owner=b"0")), dict(set_times=dict(at=w)), dict(tar_out=dict(at=w, follow=True)),
               dict(watch=dict(at=w)), dict(write=dict(at=w)), dict(write=dict(at=w, how=APPEND))):
        assert failure(b.call, **op).errnum in (errno.EXDEV, errno.ELOOP), op
    if b"/" not in path or path == b"dir/far":
        return  # its parent is inside: what follows is about the link itself
    for op in (dict(make_dir=dict(at=at(path + b"-new", jail))), dict(remove=dict(at=w)),
               dict(rename={"from": at(b"file", jail), "to": w}), dict(link={"from": w, "to": at(b"stolen", jail)}),
               dict(symlink=dict(at=w, target=b"x")), dict(make_dir=dict(at=at(path + b"/a/b", jail), parents=True)),
               dict(write=dict(at=w, how=CREATE)), dict(write=dict(at=at(path + b"/a", jail), make_parents=True)),
               dict(list=dict(at=w))):
        assert failure(b.call, **op).errnum in (errno.EXDEV, errno.ELOOP), op
    assert open(os.path.join(jail, b"../secret"), "rb").read() == b"secret"
    assert tree(jail + b"/..")[0] == b"inside" and len(os.listdir(jail + b"/..")) == 2


@pytest.mark.parametrize("path", [b"..", b"dir/..", b".", b"dir/.", b"/"])
def test_dots_are_no_names(b, jail, path):
    w = at(jail + b"/" + path) if path != b"/" else at(path)
    for op in (dict(remove=dict(at=w, recursive=True)), dict(rename={"from": w, "to": at(jail + b"/x")}),
               dict(symlink=dict(at=w, target=b"x")), dict(make_dir=dict(at=w)), dict(write=dict(at=w, how=CREATE))):
        assert failure(b.call, **op).errnum == errno.EINVAL, op


def test_links_within_are_followed_beneath(b, jail):
    assert b.get(read=dict(at=at(b"within", jail)))[1] == b"file"
    assert b.put(b"new", write=dict(at=at(b"within", jail))) == 3
    assert os.path.islink(jail + b"/within") and open(jail + b"/file", "rb").read() == b"new"


def test_a_race_for_a_link_never_leads_out(b, jail):
    """A parent that is a directory and a link out by turns."""
    os.mkdir(jail + b"/real")
    os.symlink(b"..", jail + b"/out")
    os.mkdir(jail + b"/swap")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            os.rename(jail + b"/swap", jail + b"/t")
            os.rename(jail + b"/out", jail + b"/swap")
            os.rename(jail + b"/swap", jail + b"/out")
            os.rename(jail + b"/t", jail + b"/swap")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for i in range(300):
            try:
                b.put(b"stolen", write=dict(at=at(b"swap/secret", jail)))
            except wire.WireError as e:
                assert e.error.errnum in (errno.EXDEV, errno.ENOENT, errno.ELOOP), str(e)
    finally:
        stop.set()
        thread.join()
    assert open(os.path.join(jail, b"../secret"), "rb").read() == b"secret"


# ---- stat, list, links ----


def test_stat_tells_what_stat_tells(b, top):
    os.symlink("f", top + b"/l")
    put(b, top + b"/f", b"12345", mode=0o4750)
    info = b.call(stat=dict(at=at(top + b"/f"))).file
    st = os.stat(top + b"/f")
    assert (info.name, info.mode, info.size, info.inode, info.mtime_ns) == (b"f", st.st_mode, 5, st.st_ino, st.st_mtime_ns)
    assert (info.uid, info.gid, info.links, info.device) == (st.st_uid, st.st_gid, 1, st.st_dev)
    link = b.call(stat=dict(at=at(top + b"/l"))).file
    assert stat.S_ISLNK(link.mode) and link.link_target == b"f" and link.name == b"l"
    assert b.call(stat=dict(at=at(top + b"/l"), follow=True)).file.inode == st.st_ino
    assert b.call(stat=dict(at=at(b"/"))).file.name == b"/"
    assert b.call(stat=dict(at=at(top + b"/"))).file.name == os.path.basename(top)
    assert b.call(read_link=dict(at=at(top + b"/l"))).target.path == b"f"
    refused(b, errno.EINVAL, top + b"/f", "readlink", read_link=dict(at=at(top + b"/f")))
    refused(b, errno.ENOENT, top + b"/none", "open", stat=dict(at=at(top + b"/none")))
    refused(b, errno.ENOTDIR, top + b"/f/x", stat=dict(at=at(top + b"/f/x")))
    refused(b, errno.ENOTDIR, top + b"/f/", stat=dict(at=at(top + b"/f/")))


def listed(b, path, **kw):
    lists = [e.files for e in b.events(list=dict(at=at(path), **kw))]
    files = [f for l in lists for f in l.files]
    assert b.total == len(files)
    return files, [l.truncated for l in lists]


def test_list(b, top):
    os.makedirs(top + b"/d/e/f")
    os.symlink("/nowhere", top + b"/d/link")
    open(top + b"/.hidden", "w").close()
    open(top + b"/new\nline\xff", "w").close()
    assert {f.name for f in listed(b, top)[0]} == {b"d", b".hidden", b"new\nline\xff"}
    deep = {f.name: f for f in listed(b, top, depth=2)[0]}
    assert set(deep) == {b"d", b"d/e", b"d/link", b".hidden", b"new\nline\xff"}
    assert deep[b"d/link"].link_target == b"/nowhere"
    assert {b"d/e/f"} == {f.name for f in listed(b, top, depth=99)[0]} - set(deep)
    assert listed(b, top + b"/d/e/f") == ([], [])
    refused(b, errno.ENOTDIR, top + b"/.hidden", list=dict(at=at(top + b"/.hidden")))


def test_a_long_list_comes_in_pieces_and_has_an_end(b, top):
    names = {b"%0200d" % i for i in range(2000)}
    for n in names:
        open(top + b"/" + n, "w").close()
    files, truncated = listed(b, top)
    assert {f.name for f in files} == names and not any(truncated) and len(truncated) > 5
    files, truncated = listed(b, top, max=1999)
    assert len(files) == 1999 and truncated[-1] and not any(truncated[:-1])
    files, truncated = listed(b, top, max=2000)
    assert len(files) == 2000 and not truncated[-1]


# ---- reading ----


def test_read_ranges(b, top):
    data = os.urandom(300000)
    put(b, top + b"/f", data)
    for offset, length in ((0, 0), (0, 1), (5, 70000), (299999, 1), (299999, 50), (100, 0), (300000, 0), (1 << 40, 9)):
        r, got = b.get(read=dict(at=at(top + b"/f"), offset=offset, length=length))
        assert got == data[offset:][:length or None]
        assert r.file.size == 300000
    for last in (1, 70000, 300000, 300001, 1 << 40):
        assert b.get(read=dict(at=at(top + b"/f"), last=last))[1] == data[-last:]
    with pytest.raises(wire.WireError) as e:
        b.call(read=dict(at=at(top + b"/f"), offset=1 << 62))
    assert e.value.error.field == "offset"
    with pytest.raises(wire.WireError) as e:
        b.call(read=dict(at=at(top + b"/f"), offset=1, last=1))
    assert e.value.error.field == "last"


def test_files_without_a_size_are_read_to_their_end(b):
    assert b.get(read=dict(at=at(b"/proc/self/status")))[1].startswith(b"Name:")


def test_only_regular_files_and_no_waiting(b, top):
    os.mkfifo(top + b"/fifo")
    os.mkdir(top + b"/dir")
    os.symlink("fifo", top + b"/to-fifo")
    for name in (b"/fifo", b"/to-fifo"):
        refused(b, errno.EINVAL, top + name, "open", read=dict(at=at(top + name)))
        for how in (REPLACE, UPDATE, APPEND):
            refused(b, errno.EINVAL, top + name, "open", write=dict(at=at(top + name), how=how))
    for how in (REPLACE, UPDATE, APPEND):
        refused(b, errno.EISDIR, top + b"/dir", "open", write=dict(at=at(top + b"/dir"), how=how))
        refused(b, errno.EISDIR, top + b"/new/", "open", write=dict(at=at(top + b"/new/"), how=how))
        refused(b, errno.EINVAL, b"/dev/null", "open", write=dict(at=at(b"/dev/null"), how=how))
    refused(b, errno.EISDIR, top + b"/dir", "open", read=dict(at=at(top + b"/dir")))
    refused(b, errno.EINVAL, b"/dev/zero", "open", read=dict(at=at(b"/dev/zero")))


# ---- writing ----


def test_replace_is_another_file_and_keeps_what_it_was(b, top):
    put(b, top + b"/f", b"old", mode=0o640)
    if ROOT:
        os.chown(top + b"/f", 1234, 5678)
    before = os.stat(top + b"/f")
    with open(top + b"/f", "rb") as reader:
        assert put(b, top + b"/f", b"new!") == 4
        assert reader.read() == b"old"
    after = os.stat(top + b"/f")
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    put(b, top + b"/f", b"", mode=0o4711)
    assert stat.S_IMODE(os.stat(top + b"/f").st_mode) == 0o4711 and os.listdir(top) == [b"f"]


def test_ways_to_write(b, top):
    assert put(b, top + b"/f", b"0123456789", how=CREATE, sync=True) == 10
    st = os.stat(top + b"/f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o644, os.geteuid(), os.getegid())
    refused(b, errno.EEXIST, top + b"/f", "open", write=dict(at=at(top + b"/f"), how=CREATE))
    put(b, top + b"/f", b"ab", how=UPDATE, offset=3)
    put(b, top + b"/f", b"end", how=APPEND)
    assert open(top + b"/f", "rb").read() == b"012ab56789end" and os.stat(top + b"/f").st_ino == st.st_ino
    put(b, top + b"/new", b"x", how=UPDATE, offset=5, mode=0o600)
    assert open(top + b"/new", "rb").read() == b"\0\0\0\0\0x" and os.stat(top + b"/new").st_mode & 0o777 == 0o600
    put(b, top + b"/log", b"x", how=APPEND)
    with pytest.raises(wire.WireError) as e:
        put(b, top + b"/f", how=APPEND, offset=1)
    assert e.value.error.field == "offset"
    for bad in (dict(mode=0o10000), dict(how=4), dict(owner=b"a\0b")):
        with pytest.raises(wire.WireError) as e:
            put(b, top + b"/f", **bad)
        assert e.value.error.field == list(bad)[0]


def test_a_link_at_the_end_is_written_through(b, top):
    os.mkdir(top + b"/d")
    os.symlink("d/real", top + b"/l")
    os.symlink(top + b"/l", top + b"/l2")
    put(b, top + b"/l2", b"made")  # also where nothing is yet
    put(b, top + b"/l2", b"more", how=APPEND)
    assert open(top + b"/d/real", "rb").read() == b"mademore" and os.path.islink(top + b"/l")
    refused(b, errno.EEXIST, top + b"/l", write=dict(at=at(top + b"/l"), how=CREATE))
    os.symlink("loop", top + b"/loop")
    refused(b, errno.ELOOP, top + b"/loop", write=dict(at=at(top + b"/loop")))


@needs_root
def test_parents_and_owners(b, top):
    b.put(b"x", write=dict(at=at(b"a/b/f", top), make_parents=True, owner=b"1234:5678", mode=0o600))
    for path, mode in ((b"/a", 0o755), (b"/a/b", 0o755), (b"/a/b/f", 0o600)):
        st = os.stat(top + path)
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1234, 5678, mode)
    b.call(make_dir=dict(at=at(top + b"/a/c/d"), parents=True, owner=b"7:8", mode=0o1700))
    assert [os.stat(top + p).st_uid for p in (b"/a", b"/a/c", b"/a/c/d")] == [1234, 7, 7]
    assert stat.S_IMODE(os.stat(top + b"/a/c/d").st_mode) == 0o1700
    b.call(make_dir=dict(at=at(top + b"/a/c/d"), parents=True, owner=b"9:9"))  # there already: left as it is
    assert os.stat(top + b"/a/c/d").st_uid == 7
    refused(b, errno.ENOENT, top + b"/no/f", write=dict(at=at(top + b"/no/f")))


@pytest.mark.parametrize("how", [REPLACE, CREATE, UPDATE, APPEND])
def test_given_up_or_broken_off_leaves_nothing(agent, conn, top, how):
    with agent.bulk() as b:
        b.call(write=dict(at=at(top + b"/f"), how=how))
        b.send(frame(wire.DATA, b.stream, bytes(8) + b"partial"))
        b.give_up()
        with pytest.raises(wire.WireError) as e:
            b.confirmed()
        assert code_of(e) == "CODE_DETACHED"
        assert os.listdir(top) == []
        b.call(stat=dict(at=at(top)))  # good for the next
        b.call(write=dict(at=at(top + b"/f"), how=how))
        b.send(frame(wire.DATA, b.stream, bytes(8) + b"partial"))
        eventually(lambda: os.listdir(top))
    eventually(lambda: os.listdir(top) == [])


def test_what_was_there_survives_a_broken_replace(agent, conn, top):
    with open(top + b"/f", "wb") as f:
        f.write(b"old")
    with agent.bulk() as b:
        b.call(write=dict(at=at(top + b"/f")))
        b.send(frame(wire.DATA, b.stream, bytes(8) + b"new"))
        eventually(lambda: len(os.listdir(top)) == 2)
    eventually(lambda: os.listdir(top) == [b"f"])
    assert open(top + b"/f", "rb").read() == b"old"


# ---- names changed ----


def test_rename_link_symlink(b, top):
    put(b, top + b"/a", b"a")
    put(b, top + b"/b", b"b")
    def pair(x, y, **kw):
        return {"from": at(top + x), "to": at(top + y), **kw}

    refused(b, errno.EEXIST, top + b"/b", "rename", rename=pair(b"/a", b"/b", no_replace=True))
    b.call(rename=pair(b"/a", b"/b"))
    assert open(top + b"/b").read() == "a" and os.listdir(top) == [b"b"]
    refused(b, errno.ENOENT, top + b"/a", "rename", rename=pair(b"/a", b"/c"))
    b.call(link=pair(b"/b", b"/hard"))
    assert os.stat(top + b"/hard").st_nlink == 2
    b.call(symlink=dict(at=at(top + b"/sym"), target=b"b\xff"))
    assert os.readlink(top + b"/sym") == b"b\xff"
    b.call(link=pair(b"/sym", b"/sym2"))  # the link itself
    assert os.path.islink(top + b"/sym2")
    refused(b, errno.EEXIST, top + b"/sym", "symlink", symlink=dict(at=at(top + b"/sym"), target=b"x"))
    refused(b, errno.ENOTDIR, top + b"/b/x", rename=pair(b"/hard", b"/b/x"))
    for target in (b"", b"a\0", b"x" * 4096):
        with pytest.raises(wire.WireError) as e:
            b.call(symlink=dict(at=at(top + b"/n"), target=target))
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "target")


def test_remove(b, top):
    os.makedirs(top + b"/keep")
    os.makedirs(top + b"/d/e/f")
    os.symlink(top + b"/keep", top + b"/d/link")
    os.mkfifo(top + b"/d/fifo")
    open(top + b"/keep/precious", "w").close()
    os.symlink(b"keep", top + b"/l")
    refused(b, errno.ENOTEMPTY, top + b"/d", "unlink", remove=dict(at=at(top + b"/d")))
    refused(b, errno.ENOTDIR, top + b"/l/", remove=dict(at=at(top + b"/l/"), recursive=True))
    b.call(remove=dict(at=at(top + b"/d"), recursive=True))
    b.call(remove=dict(at=at(top + b"/l"), recursive=True))
    refused(b, errno.ENOENT, top + b"/d", "unlink", remove=dict(at=at(top + b"/d")))
    b.call(remove=dict(at=at(top + b"/d"), missing_ok=True))
    b.call(remove=dict(at=at(top + b"/d/x/y"), missing_ok=True))
    assert tree(top) == [b"keep", b"keep/precious"]


@needs_root
def test_removal_stops_at_a_mount(b, top, mounted):
    os.mkdir(top + b"/d")
    mount = mounted(top + b"/d/m", b"tmpfs")
    open(mount + b"/precious", "w").close()
    refused(b, errno.EXDEV, top + b"/d/m", remove=dict(at=at(top + b"/d"), recursive=True))
    refused(b, errno.EXDEV, top + b"/d/m", remove=dict(at=at(mount), recursive=True))
    assert os.listdir(mount) == [b"precious"]


def test_chmod_and_times(b, top):
    os.makedirs(top + b"/d/e")
    for name in (b"/d/f", b"/d/e/g", b"/outside"):
        put(b, top + name, mode=0o600)
    os.symlink(b"../outside", top + b"/d/link")
    b.call(chmod=dict(at=at(top + b"/d"), mode=0o2750, recursive=True))
    for name in (b"/d", b"/d/e", b"/d/f", b"/d/e/g"):
        assert stat.S_IMODE(os.stat(top + name).st_mode) == 0o2750
    assert stat.S_IMODE(os.stat(top + b"/outside").st_mode) == 0o600
    b.call(chmod=dict(at=at(top + b"/d/link"), mode=0o644))  # the path itself is resolved as any program would
    assert stat.S_IMODE(os.stat(top + b"/outside").st_mode) == 0o644
    os.mkfifo(top + b"/fifo")
    b.call(chmod=dict(at=at(top + b"/fifo"), mode=0o666))
    assert stat.S_IMODE(os.stat(top + b"/fifo").st_mode) == 0o666
    b.call(set_times=dict(at=at(top + b"/d/f"), mtime_ns=1_234_567_890_123_456_789, atime_ns=-1))
    st = os.stat(top + b"/d/f")
    assert (st.st_mtime_ns, st.st_atime_ns) == (1_234_567_890_123_456_789, -1)


@needs_root
def test_chown(b, top):
    os.mkdir(top + b"/d")
    put(b, top + b"/outside")
    put(b, top + b"/d/f")
    os.symlink(b"../outside", top + b"/d/link")
    b.call(chown=dict(at=at(top + b"/d"), owner=b"12:34", recursive=True))
    assert [(os.lstat(top + p).st_uid, os.lstat(top + p).st_gid) for p in (b"/d", b"/d/f", b"/d/link", b"/outside")] == \
        [(12, 34)] * 3 + [(0, 0)]
    b.call(chown=dict(at=at(top + b"/d/f"), owner=b":99"))
    b.call(chown=dict(at=at(top + b"/d"), owner=b"77"))
    assert (os.stat(top + b"/d/f").st_uid, os.stat(top + b"/d/f").st_gid) == (12, 99)
    assert (os.stat(top + b"/d").st_uid, os.stat(top + b"/d").st_gid) == (77, 34)
    for owner in (b"", b"no-such-user", b"4294967295", b"1:no-such-group", b"-1"):
        with pytest.raises(wire.WireError) as e:
            b.call(chown=dict(at=at(top + b"/d"), owner=owner))
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "owner")


# ---- full and read-only disks ----


@needs_root
def test_a_full_disk_leaves_what_was_there(b, top, mounted):
    disk = mounted(top + b"/m", b"tmpfs", b"size=1m")
    put(b, disk + b"/f", b"old" * 1000)
    for how in (REPLACE, CREATE):
        path = disk + (b"/f" if how == REPLACE else b"/g")
        error = failure(put, b, path, b"x" * (2 * MB), how=how)
        assert (error.stage, error.errnum, error.path) == ("write", errno.ENOSPC, path)
        assert os.listdir(disk) == [b"f"] and open(disk + b"/f", "rb").read() == b"old" * 1000
    assert put(b, disk + b"/f", b"fits") == 4


@needs_root
def test_a_read_only_disk(b, top, mounted):
    disk = mounted(top + b"/m", b"tmpfs", readonly=True)
    for op in (dict(write=dict(at=at(disk + b"/f"))), dict(make_dir=dict(at=at(disk + b"/f"))),
               dict(symlink=dict(at=at(disk + b"/f"), target=b"x")), dict(chmod=dict(at=at(disk), mode=0o755)),
               dict(set_times=dict(at=at(disk)))):
        assert failure(b.call, **op).errnum == errno.EROFS


# ---- many at once ----


def test_a_hung_file_delays_only_its_own(agent, conn, hung_mount, top):
    with agent.bulk() as hung, agent.bulk() as b:
        hung.request(read=dict(at=at(hung_mount + b"/file")))
        for _ in range(50):
            b.call(stat=dict(at=at(b"/")))
        assert conn.ping() and conn.run("true").exit.code == 0
        hung.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            hung.next()


def test_a_thousand_tiny_ones_ahead(b, top):
    ahead = bytearray()
    b.send = ahead.extend
    streams = [b.request(symlink=dict(at=at(b"%d" % i, top), target=b"t")) for i in range(1000)]
    del b.send
    b.send(ahead)  # at once: of so many small pieces a unix socket takes few, unless they are read meanwhile
    for stream in streams:
        b.stream = stream
        b.response()
    assert len(os.listdir(top)) == 1000


def test_64_at_once(own_agent, top):
    conn = own_agent.configured()
    fds = own_agent.fds()
    data = os.urandom(300000)
    open_ = [own_agent.bulk() for _ in range(64)]
    for i, b in enumerate(open_):
        b.request(write=dict(at=at(top + b"/%d" % i)))
    for b in open_:
        b.response()
    for start in range(0, len(data), 50000):
        for b in open_:
            b.send(frame(wire.DATA, b.stream, start.to_bytes(8, "little") + data[start:start + 50000]))
    for b in open_:
        b.end(len(data))
    assert all(b.confirmed() == len(data) for b in open_)
    assert all(open(top + b"/%d" % i, "rb").read() == data for i in range(64))
    for b in open_:
        b.close()
    eventually(lambda: not own_agent.children())
    eventually(lambda: own_agent.fds() == fds)
    assert conn.ping()


def test_256_mb_take_no_memory(own_agent, top):
    own_agent.configured()
    piece = os.urandom(MB)
    with own_agent.bulk() as b:
        assert b.put((piece for _ in range(256)), write=dict(at=at(top + b"/f"))) == 256 * MB
        assert worker_memory(own_agent) < 6 * 1024
        b.call(read=dict(at=at(top + b"/f")))
        assert sum(len(c) for c in b.chunks()) == 256 * MB
        assert worker_memory(own_agent) < 6 * 1024
    os.unlink(top + b"/f")
