"""Trees in and out as tar, with Python's tarfile and GNU tar as the other side."""

import errno
import io
import os
import socket
import stat
import subprocess
import tarfile

import pytest

import wire
from agent import MB, code_of, eventually
from files import at, failure, needs_root, tree, worker_memory
from wire import frame


def archive(*entries, fmt=tarfile.PAX_FORMAT):
    """(name, contents) pairs, or TarInfo objects perhaps with contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt, encoding="utf-8", errors="surrogateescape") as t:
        for e in entries:
            info, data = e if isinstance(e, tuple) else (e, None)
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.mode = 0o644
                if data is None:
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
            if data is not None:
                info.size = len(data)
            t.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def special(name, type_, link="", **kw):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type_, link, 0o644
    for k, v in kw.items():
        setattr(info, k, v)
    return info


def tar_in(b, path, data, beneath=b"", **kw):
    return b.put(data, tar_in=dict(at=at(path, beneath), **kw))


def tar_out(b, path, **kw):
    return b.get(tar_out=dict(at=at(path), **kw))[1]


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as t:
        return {m.name: m for m in t.getmembers()}


def describe(top):
    """All that an archive has to keep, by path."""
    found, first = {}, {}
    for d, dirs, files in os.walk(top):
        for n in dirs + files:
            path = os.path.join(d, n)
            st = os.lstat(path)
            what = [stat.filemode(st.st_mode), st.st_uid, st.st_gid, int(st.st_mtime)]
            if stat.S_ISREG(st.st_mode):
                what += [st.st_size, hash(open(path, "rb").read()) if st.st_size < MB else st.st_blocks < 2048]
                what.append(first.setdefault(st.st_ino, path)[len(top):] if st.st_nlink > 1 else "")
            if stat.S_ISCHR(st.st_mode):
                what.append(st.st_rdev)
            if stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(path))
            elif os.path.isfile(path) or os.path.isdir(path):
                what.append({x: os.getxattr(path, x) for x in os.listxattr(path)})
            found[path[len(top):]] = what
    return found


def make_nasty(top):
    os.makedirs(top + b"/" + b"/".join(b"%0100d" % i for i in range(8)))
    os.makedirs(top + b"/empty")
    os.makedirs(top + b"/deep/" + b"/".join([b"d"] * 120))
    for name in (b"plain", b"n" * 255, b"new\nline", b"bytes\xff\xfe", "smörgås".encode(), b" space ", b"-dash", b"a=b"):
        with open(top + b"/" + name, "wb") as f:
            f.write(name * 100)
    os.chmod(top + b"/plain", 0o4751)
    os.link(top + b"/plain", top + b"/empty/../hard1")
    os.link(top + b"/" + b"n" * 255, top + b"/hard2")
    os.symlink(b"/absolute/nowhere", top + b"/link")
    os.symlink(b"t" * 300, top + b"/longlink")
    os.symlink(b"bytes\xff\xfe", top + b"/link2")
    os.mkfifo(top + b"/fifo", 0o640)
    with open(top + b"/hole", "wb") as f:
        f.truncate(1 << 30)
        f.seek(512 << 20)
        f.write(b"in the middle")
    with open(top + b"/all-hole", "wb") as f:
        f.truncate(50 * MB)
    with open(top + b"/tail", "wb") as f:
        f.truncate(5 * MB)
        f.seek(5 * MB - 5)
        f.write(b"tail!")
    try:
        os.setxattr(top + b"/plain", "user.note", b"\0binary\n=\xff")
        os.setxattr(top + b"/empty", "user.dir", b"x" * 3000)
        os.setxattr(top + b"/tail", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    except OSError:
        pass
    os.chmod(top + b"/empty", 0o1555)
    if os.geteuid() == 0:
        os.lchown(top + b"/link", 3_000_000, 4_000_000)
        os.chown(top + b"/fifo", 12, 34)
    for d, dirs, files in os.walk(top, topdown=False):
        for i, n in enumerate(dirs + files):
            os.utime(os.path.join(d, n), ns=(1, 1_000_000_000_123_456_789 + i), follow_symlinks=False)


# ---- both ways ----


def test_a_nasty_tree_goes_round(b, top):
    os.mkdir(top + b"/a")
    make_nasty(top + b"/a")
    data = tar_out(b, top + b"/a/.")
    assert len(data) < 4 * MB  # the holes were left out
    os.mkdir(top + b"/b")
    assert tar_in(b, top + b"/b", data, keep_owner=True) == len(data)
    assert describe(top + b"/b") == describe(top + b"/a")


@needs_root
def test_gnu_tar_reads_what_we_pack_and_we_what_it_packs(b, top):
    for d in b"abcd":
        os.mkdir(top + b"/" + bytes([d]))
    make_nasty(top + b"/a")
    tar = ["tar", "--numeric-owner", "-p"]
    xattrs = ["--xattrs", "--xattrs-include=*"]
    subprocess.run(tar + xattrs + ["-xf", "-", "-C", top + b"/b"], input=tar_out(b, top + b"/a/."), check=True,
                   stderr=subprocess.DEVNULL)  # it does not know hdrcharset
    assert describe(top + b"/b") == describe(top + b"/a")
    for fmt, folder in (("pax", b"/c"), ("gnu", b"/d")):
        packed = subprocess.run(tar + (xattrs if fmt == "pax" else []) + [
            "--format", fmt, "--sparse", "-cf", "-", "-C", top + b"/a", "."], check=True, stdout=subprocess.PIPE).stdout
        tar_in(b, top + folder, packed, keep_owner=True)
        want = describe(top + b"/a")
        if fmt == "gnu":  # has no extended attributes
            for what in want.values():
                if isinstance(what[-1], dict):
                    what[-1] = {}
        assert describe(top + folder) == want, fmt


def test_python_reads_what_we_pack_and_we_what_it_packs(b, top):
    os.mkdir(top + b"/a")
    make_nasty(top + b"/a")
    for name in (b"/hole", b"/all-hole", b"/tail"):
        os.unlink(top + b"/a" + name)  # tarfile writes no holes, and reads ours as the real size
    found = members(tar_out(b, top + b"/a"))
    assert set(found) == {"a"} | {"a/" + os.fsdecode(n) for n in tree(top + b"/a")}
    assert found["a/hard1"].islnk() != found["a/plain"].islnk()
    for fmt in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=fmt, encoding="utf-8", errors="surrogateescape") as t:
            t.add(os.fsdecode(top + b"/a"), "x")
        tar_in(b, top + b"/%d" % fmt, out.getvalue(), keep_owner=True)
        assert tree(top + b"/%d/x" % fmt) == tree(top + b"/a")
        assert os.path.samefile(top + b"/%d/x/plain" % fmt, top + b"/%d/x/hard1" % fmt)
    old = archive(("some/file", b"old"), fmt=tarfile.USTAR_FORMAT)
    tar_in(b, top + b"/ustar/", old + b"\0" * 100_000)
    assert open(top + b"/ustar/some/file", "rb").read() == b"old"


@needs_root
def test_what_ustar_can_just_say_and_just_not(b, top):
    """One archive holds entries with pax headers and without, side by side."""
    os.mkdir(top + b"/a")
    for n, change in enumerate((
            lambda f: None,
            lambda f: os.chown(f, 0o777777, 0o777777),
            lambda f: os.chown(f, 0o1000000, 0),
            lambda f: os.chown(f, 0, 0o10000000),
            lambda f: os.setxattr(f, "user.a", b"b"),
            lambda f: os.utime(f, (0, 0)),
            lambda f: os.utime(f, (-1, -1)),
            lambda f: os.utime(f, (0o77777777777, 0o77777777777)),
            lambda f: os.utime(f, (0o100000000000, 0o100000000000)),
            lambda f: os.truncate(f, 1),
            lambda f: os.truncate(f, 8 << 30))):
        open(top + b"/a/%d" % n, "wb").write(b"%d" % n)
        change(top + b"/a/%d" % n)
    for length in (98, 99, 100, 101):
        name = top + b"/a/" + b"n" * (length - 2)
        open(name, "wb").write(b"n")
        os.symlink(b"t" * length, name + b"l")
        os.mkdir(name + b"dir")
    for minor in (0o777777, 0o1000000):
        os.mknod(top + b"/a/dev%d" % minor, 0o600 | stat.S_IFCHR, os.makedev(1, minor))
    data = tar_out(b, top + b"/a", devices=True)
    tar_in(b, top + b"/b/", data, keep_owner=True, devices=True)
    assert describe(top + b"/b/a") == describe(top + b"/a")
    os.mkdir(top + b"/c")
    subprocess.run(["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-pxf", "-", "-C", top + b"/c"],
                   input=data, check=True)
    assert describe(top + b"/c/a") == describe(top + b"/a")


def test_sparse_files_keep_their_names(b, top):
    """Of those whose names are long and not ASCII libarchive says another: they go without holes."""
    for n in (1, 20, 39, 40, 41, 49, 50, 51, 60, 100, 125):
        for path in (b"/a/" + "é".encode() * n, b"/a/" + "日".encode() * (n * 2 // 3) + b"/disk", b"/a/" + b"n" * 2 * n):
            os.makedirs(os.path.dirname(top + path), exist_ok=True)
            with open(top + path, "wb") as f:
                f.truncate(100_000)
                f.seek(50_000)
                f.write(b"x")
    tar_in(b, top + b"/b/", tar_out(b, top + b"/a"), keep_owner=True)
    assert describe(top + b"/b/a") == describe(top + b"/a")


def test_10000_small_files(b, top):
    os.mkdir(top + b"/a")
    for i in range(10000):
        with open(top + b"/a/%d" % i, "wb") as f:
            f.write(b"%d" % i)
    data = tar_out(b, top + b"/a")
    tar_in(b, top + b"/b/", data)
    assert len(os.listdir(top + b"/b/a")) == 10000
    assert all(open(top + b"/b/a/%d" % i, "rb").read() == b"%d" % i for i in range(0, 10000, 97))


def test_256_mb_through_tar_take_no_memory(own_agent, top):
    own_agent.configured()
    head = tarfile.TarInfo("big")
    head.size = 256 * MB
    piece = os.urandom(MB)

    def stream():
        yield head.tobuf()
        for _ in range(256):
            yield piece
        yield bytes(1024)

    with own_agent.bulk() as b:
        assert b.put(stream(), tar_in=dict(at=at(top + b"/f"))) == 256 * MB + 1536
        assert os.path.getsize(top + b"/f") == 256 * MB
        b.call(tar_out=dict(at=at(top + b"/f")))
        assert 256 * MB < sum(len(c) for c in b.chunks()) < 257 * MB
        assert worker_memory(own_agent) < 8 * 1024
    os.unlink(top + b"/f")


# ---- docker cp's rules ----

ONE = [("file", b"1")]
TWO = [("file", b"1"), ("other", b"2")]
DIR = [("./",), ("./file", b"1")]


def entries(pairs):
    return archive(*[p if len(p) == 2 else (p[0], None) for p in pairs])


@pytest.mark.parametrize("what, target, before, after", [
    (ONE, b"/t", {}, {b"t": b"1"}),                              # at the path
    (ONE, b"/t", {b"t": b"old"}, {b"t": b"1"}),                  # over a file
    (ONE, b"/t", {b"t/": None}, {b"t": None, b"t/file": b"1"}),  # into a folder
    (ONE, b"/t/", {}, {b"t": None, b"t/file": b"1"}),            # a slash asks for one
    (ONE, b"/t/.", {}, {b"t": None, b"t/file": b"1"}),
    (ONE, b"/p/q/t", {}, {b"p": None, b"p/q": None, b"p/q/t": b"1"}),
    (TWO, b"/t", {}, {b"t": None, b"t/file": b"1", b"t/other": b"2"}),
    (TWO, b"/t", {b"t": b"old"}, errno.ENOTDIR),
    (TWO, b"/t", {b"t/": None, b"t/other": b"old"}, {b"t": None, b"t/file": b"1", b"t/other": b"2"}),
    (DIR, b"/t", {}, {b"t": None, b"t/file": b"1"}),
    (DIR, b"/t", {b"t/": None, b"t/kept": b"k"}, {b"t": None, b"t/file": b"1", b"t/kept": b"k"}),
    (DIR, b"/t", {b"t": b"old"}, errno.ENOTDIR),
    ([("d/",), ("d/file", b"1")], b"/t", {}, {b"t": None, b"t/d": None, b"t/d/file": b"1"}),
    ([("d/file", b"1")], b"/t", {}, {b"t": b"1"}),               # one file, whatever it is called
    ([("d/file", b"1"), ("d/g", b"2")], b"/t", {}, {b"t": None, b"t/d": None, b"t/d/file": b"1", b"t/d/g": b"2"}),
    ([], b"/t", {}, {b"t": None}),
    (ONE, b"/f/t", {b"f": b"old"}, errno.ENOTDIR),
])
def test_where_it_lands(b, top, what, target, before, after):
    for name, data in before.items():
        if data is None:
            os.mkdir(top + b"/" + name)
        else:
            with open(top + b"/" + name, "wb") as f:
                f.write(data)
    if isinstance(after, int):
        assert failure(tar_in, b, top + target, entries(what)).errnum == after
        after = {n.rstrip(b"/"): d for n, d in before.items()}
    else:
        tar_in(b, top + target, entries(what))
    assert {n: None if os.path.isdir(top + b"/" + n) else open(top + b"/" + n, "rb").read() for n in tree(top)} == after


def test_a_target_that_is_a_link(b, top):
    os.mkdir(top + b"/d")
    os.symlink("d", top + b"/to-dir")
    os.symlink("d/real", top + b"/to-file")
    tar_in(b, top + b"/to-dir", entries(ONE))
    tar_in(b, top + b"/to-file", entries(ONE))
    assert tree(top) == [b"d", b"d/file", b"d/real", b"to-dir", b"to-file"]


def test_names_of_what_comes_out(b, top):
    os.makedirs(top + b"/a/b")
    open(top + b"/a/b/f", "w").close()
    os.symlink("b", top + b"/a/l")
    assert list(members(tar_out(b, top + b"/a/b"))) == ["b", "b/f"]
    assert list(members(tar_out(b, top + b"/a/b/"))) == ["b", "b/f"]
    assert list(members(tar_out(b, top + b"/a/b/."))) == [".", "./f"]
    assert sorted(members(tar_out(b, top + b"/a/b/.."))) == [".", "./b", "./b/f", "./l"]
    assert list(members(tar_out(b, top + b"/a/b/f"))) == ["f"]
    assert members(tar_out(b, top + b"/a/l"))["l"].issym()
    assert list(members(tar_out(b, top + b"/a/l", follow=True))) == ["l", "l/f"]
    data = b.get(tar_out=dict(at=at(b".", top + b"/a/b")))[1]
    assert list(members(data)) == [".", "./f"]


# ---- what may not be ----


@pytest.mark.parametrize("name", ["/absolute", "../up", "a/../../up", "a/..", "..", "./.."])
@pytest.mark.parametrize("second", [False, True])
def test_names_that_lead_out(b, top, name, second):
    os.mkdir(top + b"/t")
    info = tarfile.TarInfo(name)
    data = archive(*([("first", b"1")] if second else []), (info, b"evil"))
    error = failure(tar_in, b, top + b"/t", data)
    assert (error.stage, error.errnum) == ("entry", errno.EINVAL)
    assert tree(top) == ([b"t", b"t/first"] if second else [b"t"])


@pytest.mark.parametrize("target", ["..", "../outside", "/", "/tmp", "a/../../outside"])
def test_links_of_the_archive_lead_nowhere(b, top, target):
    os.mkdir(top + b"/t")
    os.mkdir(top + b"/t/a")
    os.mkdir(top + b"/outside")
    for evil in (("l/evil", b"x"), special("l/evil", tarfile.DIRTYPE), special("l/evil", tarfile.SYMTYPE, "x"),
                 special("h", tarfile.LNKTYPE, "l/secret")):
        error = failure(tar_in, b, top + b"/t", archive(special("l", tarfile.SYMTYPE, target), evil))
        assert error.errnum in (errno.EXDEV, errno.ENOENT), str(error)
    assert tree(top) == [b"outside", b"t", b"t/a", b"t/l"]


def test_links_of_the_folder_lead_nowhere(b, top):
    os.makedirs(top + b"/t/real")
    os.mkdir(top + b"/outside")
    os.symlink("../outside", top + b"/t/out")
    os.symlink(top + b"/outside", top + b"/t/absolute")
    os.symlink("real", top + b"/t/in")
    for name in ("out/x", "absolute/x"):
        assert failure(tar_in, b, top + b"/t", archive((name, b"x"))).errnum == errno.EXDEV
    tar_in(b, top + b"/t", archive(("in/x", b"x"), ("in/d/y", b"y")))
    assert tree(top + b"/t/real") == [b"d", b"d/y", b"x"] and tree(top + b"/outside") == []


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "", "nowhere", "d", "out/f"])
def test_hard_links_within_only(b, top, target):
    os.makedirs(top + b"/t/d")
    with open(top + b"/outside", "w") as f:
        f.write("secret")
    os.symlink("..", top + b"/t/out")
    error = failure(tar_in, b, top + b"/t", archive(special("h", tarfile.LNKTYPE, target)))
    assert error.stage in ("link", "entry") and error.errnum in (errno.EINVAL, errno.ENOENT, errno.EPERM, errno.EXDEV)
    assert tree(top) == [b"outside", b"t", b"t/d", b"t/out"]


def test_hard_links_to_what_was_there_and_to_themselves(b, top):
    os.mkdir(top + b"/t")
    with open(top + b"/t/old", "w") as f:
        f.write("old")
    data = archive(special("h", tarfile.LNKTYPE, "./old"), special("old", tarfile.LNKTYPE, "h"))
    tar_in(b, top + b"/t", data)
    assert os.path.samefile(top + b"/t/h", top + b"/t/old") and tree(top + b"/t") == [b"h", b"old"]


def test_one_kind_over_another(b, top):
    os.makedirs(top + b"/t/dir/full")
    with open(top + b"/t/file", "w") as f:
        f.write("old")
    os.symlink("dir", top + b"/t/link")
    for data, errnum, name in (
            (archive(("dir", b"x"), ("y", b"y")), errno.EISDIR, b"/dir"),
            (archive(special("dir", tarfile.SYMTYPE, "x")), errno.EISDIR, b"/dir"),
            (archive(special("dir", tarfile.LNKTYPE, "file")), errno.EISDIR, b"/dir"),
            (archive(("file", None)), errno.ENOTDIR, b"/file"),
            (archive(("link", None)), errno.ENOTDIR, b"/link"),
            (archive(("file/x", b"x")), errno.ENOTDIR, b"/file/x")):
        error = failure(tar_in, b, top + b"/t", data)
        assert (error.errnum, error.path) == (errnum, top + b"/t" + name)
    assert os.path.islink(top + b"/t/link") and open(top + b"/t/file").read() == "old"
    tar_in(b, top + b"/t", archive(("link", b"now a file"), special("file", tarfile.SYMTYPE, "link")))
    assert open(top + b"/t/file").read() == "now a file" and tree(top + b"/t/dir") == [b"full"]


def test_no_clobber(b, top):
    os.makedirs(top + b"/t/d")
    for path in (b"/t/d/f", b"/one"):
        with open(top + path, "w") as f:
            f.write("old")
    for path, data in ((b"/t", archive(("d", None), ("d/new", b"n"), ("d/f", b"x"))), (b"/one", entries(ONE)),
                       (b"/t/d", archive(special("f", tarfile.SYMTYPE, "x")))):
        assert failure(tar_in, b, top + path, data, no_clobber=True).errnum == errno.EEXIST
    assert tree(top) == [b"one", b"t", b"t/d", b"t/d/f", b"t/d/new"]
    assert open(top + b"/t/d/f").read() == open(top + b"/one").read() == "old"


@needs_root
def test_devices_only_when_asked_for(b, top):
    data = archive(special("null", tarfile.CHRTYPE, devmajor=1, devminor=3))
    error = failure(tar_in, b, top + b"/t", data)
    assert (error.errnum, error.stage, error.path) == (errno.EPERM, "mknod", top + b"/t/null")
    tar_in(b, top + b"/t", data, devices=True)
    assert os.stat(top + b"/t/null").st_rdev == os.makedev(1, 3)
    assert list(members(tar_out(b, top + b"/t"))) == ["t"]
    assert members(tar_out(b, top + b"/t", devices=True))["t/null"].ischr()


@needs_root
def test_owners_and_what_gives_rights(b, top):
    evil = special("s", tarfile.REGTYPE, uid=33, gid=44, mode=0o6755, pax_headers={
        "SCHILY.xattr.user.note": "n", "SCHILY.xattr.trusted.t": "t"})
    link = special("l", tarfile.SYMTYPE, "s", uid=33, gid=44)
    fifo = special("p", tarfile.FIFOTYPE, uid=33, gid=44, mode=0o622)
    data = archive(special("d", tarfile.DIRTYPE, uid=33, gid=44, mode=0o2750), evil, link, fifo, ("implied/x", b""))
    for folder, kw, owner, modes in ((b"/def", {}, (0, 0), (0o750, 0o755)),
                                     (b"/own", dict(owner=b"12:34"), (12, 34), (0o750, 0o755)),
                                     (b"/keep", dict(keep_owner=True), (33, 44), (0o2750, 0o6755))):
        tar_in(b, top + folder, data, **kw)
        for name in (b"/d", b"/s", b"/l", b"/p"):
            st = os.lstat(top + folder + name)
            assert (st.st_uid, st.st_gid) == owner, name
        assert tuple(stat.S_IMODE(os.stat(top + folder + n).st_mode) for n in (b"/d", b"/s")) == modes
        assert stat.S_IMODE(os.stat(top + folder + b"/p").st_mode) == 0o622
        assert ("trusted.t" in os.listxattr(top + folder + b"/s")) <= bool(kw.get("keep_owner"))
        assert os.stat(top + folder + b"/implied").st_uid == (12 if owner == (12, 34) else 0)
    with pytest.raises(wire.WireError) as e:
        tar_in(b, top, data, keep_owner=True, owner=b"1")
    assert e.value.error.field == "owner"


def test_a_folder_that_was_there_stays_as_it_is(b, top):
    os.mkdir(top + b"/t")
    os.mkdir(top + b"/t/tmp")
    os.chmod(top + b"/t/tmp", 0o1777)
    os.chmod(top + b"/t", 0o700)
    tar_in(b, top + b"/t", archive(("./", None), ("tmp", None), ("tmp/f", b"f")))
    assert [stat.S_IMODE(os.stat(top + p).st_mode) for p in (b"/t", b"/t/tmp")] == [0o700, 0o1777]


def test_a_folder_may_forbid_what_goes_into_it(b, top):
    data = archive(special("ro", tarfile.DIRTYPE, mode=0o555, mtime=1234), ("ro/f", b"f"),
                   special("ro/d", tarfile.DIRTYPE, mode=0o500, mtime=5678), ("ro/d/g", b"g"))
    tar_in(b, top + b"/t", data)
    for path, mode, mtime in ((b"/t/ro", 0o555, 1234), (b"/t/ro/d", 0o500, 5678)):
        st = os.stat(top + path)
        assert (stat.S_IMODE(st.st_mode), st.st_mtime) == (mode, mtime)


# ---- damaged, cut off, too much ----


def test_what_is_no_tar(b, top):
    good = archive(("f", b"x" * 5000), ("g", b"y"))
    assert good[257:262] == good[5632 + 257:5632 + 262] == b"ustar"
    for data in (b"", b"hello" * 1000, good[:700], good[:3000], good[:5632] + b"junk" * 300):
        with pytest.raises(wire.WireError) as e:
            tar_in(b, top + b"/t/", data)
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "data")
        assert not [n for n in tree(top) if b".tenon" in n]
    b.call(stat=dict(at=at(top)))


@pytest.mark.parametrize("size", [60000, 200000])  # made in its place, and beside it
@pytest.mark.parametrize("target", [b"/t", b"/t/"])
def test_broken_off_leaves_what_came_before(agent, conn, top, target, size):
    data = archive(("d", None), ("d/first", b"1"), ("d/second", b"x" * size))
    os.mkdir(top + b"/t")
    for end in ("give up", "close"):
        with agent.bulk() as b:
            b.call(tar_in=dict(at=at(top + target)))
            b.send(frame(wire.DATA, b.stream, bytes(8) + data[:50000]))
            eventually(lambda: len(tree(top)) == 4)
            if end == "give up":
                b.give_up()
                with pytest.raises(wire.WireError) as e:
                    b.confirmed()
                assert code_of(e) == "CODE_DETACHED"
        eventually(lambda: tree(top) == [b"t", b"t/d", b"t/d/first"])
    assert stat.S_IMODE(os.stat(top + b"/t/d").st_mode) == 0o755


def test_one_file_broken_off_leaves_nothing(agent, conn, top):
    data = archive(("file", b"x" * 200000))
    with agent.bulk() as b:
        b.call(tar_in=dict(at=at(top + b"/t")))
        b.send(frame(wire.DATA, b.stream, bytes(8) + data[:50000]))
        eventually(lambda: tree(top))
    eventually(lambda: not tree(top))


@needs_root
def test_a_full_disk_keeps_the_old_file(b, top, mounted):
    disk = mounted(top + b"/m", b"tmpfs", b"size=1m")
    tar_in(b, disk, archive(("./", None), ("big", b"old")))
    error = failure(tar_in, b, disk, archive(("./", None), ("small", b"s"), ("big", b"x" * (2 * MB))))
    assert (error.stage, error.errnum, error.path) == ("write", errno.ENOSPC, disk + b"/big")
    assert tree(disk) == [b"big", b"small"] and open(disk + b"/big").read() == "old"


def test_bombs(b, top):
    for info, errnum in ((tarfile.TarInfo("a/" * 3000 + "f"), errno.ENAMETOOLONG),
                         (tarfile.TarInfo("n" * 256), errno.ENAMETOOLONG)):
        error = failure(tar_in, b, top + b"/t/", archive((info, b"x")))
        assert error.errnum == errnum and len(error.path) <= 512 and not [n for n in tree(top) if n != b"t"]
    # Holes beyond what the header says, and data beyond the end.
    lie = tarfile.TarInfo("lie")
    lie.pax_headers = {"GNU.sparse.map": "9000000000000000000,512", "GNU.sparse.size": "512", "GNU.sparse.major": "0",
                       "GNU.sparse.minor": "1"}
    with pytest.raises(wire.WireError):
        tar_in(b, top + b"/t/", archive((lie, b"x" * 512)))
    many = archive(*[(tarfile.TarInfo(f"d{i}"), b"") for i in range(50)],
                   *[special(f"dirs/{i}", tarfile.DIRTYPE) for i in range(3000)])
    tar_in(b, top + b"/u/", many)
    assert len(os.listdir(top + b"/u/dirs")) == 3000


def test_the_deepest_tree_goes_round_and_away(b, top):
    error = failure(tar_in, b, top + b"/t/", archive((tarfile.TarInfo("d/" * 1024 + "f"), b"x")))
    assert error.errnum == errno.ENAMETOOLONG and tree(top) == []
    tar_in(b, top + b"/deep/", archive((tarfile.TarInfo("d/" * 1023 + "f"), b"x")))
    packed = tar_out(b, top + b"/deep/.")
    b.call(remove=dict(at=at(top + b"/deep"), recursive=True))
    tar_in(b, top + b"/again/", packed)
    b.call(remove=dict(at=at(top + b"/again"), recursive=True))


def test_a_map_of_holes_takes_no_memory(own_agent, top):
    own_agent.configured()
    pairs = b"0\n0\n" * (8 * MB)
    numbers = b"%d\n" % (len(pairs) // 4) + pairs
    info = tarfile.TarInfo("GNUSparseFile.0/f")
    info.size = len(numbers)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": "0"}
    head = info.tobuf(tarfile.PAX_FORMAT)
    with own_agent.bulk() as b:
        with pytest.raises(wire.WireError) as e:
            b.put([head, numbers, bytes(1024)], tar_in=dict(at=at(top + b"/t/")))
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "data")
        assert worker_memory(own_agent) < 64 * 1024


# ---- out: what is left out, what changes meanwhile ----


@needs_root
def test_mounts_inside_come_but_the_kernels_own(b, top, mounted):
    os.mkdir(top + b"/d")
    disk = mounted(top + b"/d/disk", b"tmpfs")
    open(disk + b"/f", "w").close()
    mounted(top + b"/d/proc", b"proc")
    os.mkfifo(top + b"/d/fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.fsdecode(os.path.relpath(top + b"/d/sock")))
    assert sorted(members(tar_out(b, top + b"/d"))) == ["d", "d/disk", "d/disk/f", "d/fifo", "d/proc"]
    sock.close()
    for path in (b"/dev/null", top + b"/d/sock"):  # alone, nothing would be left
        assert failure(b.get, tar_out=dict(at=at(path))).errnum == errno.EINVAL


@needs_root
def test_a_file_with_another_mounted_on_it(b, top, mounted):
    """Its directory says what lies below."""
    os.mkdir(top + b"/d")
    os.mkfifo(top + b"/fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.fsdecode(os.path.relpath(top + b"/sock")))
    open(top + b"/d/plain", "w").write("seen")
    os.mkfifo(top + b"/d/was-fifo")
    for name, over in ((b"null", b"/dev/null"), (b"fifo", top + b"/fifo"), (b"sock", top + b"/sock"),
                       (b"file", top + b"/d/plain"), (b"was-fifo", top + b"/d/plain")):
        if name != b"was-fifo":
            open(top + b"/d/" + name, "w").write("below")
        mounted(top + b"/d/" + name, bind=over)
    data = tar_out(b, top + b"/d")
    sock.close()
    assert {n: m.type for n, m in members(data).items()} == {
        "d": tarfile.DIRTYPE, "d/plain": tarfile.REGTYPE, "d/file": tarfile.REGTYPE, "d/was-fifo": tarfile.REGTYPE,
        "d/fifo": tarfile.FIFOTYPE}
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        assert t.extractfile("d/was-fifo").read() == b"seen"


def test_a_file_that_changes_while_it_is_read(agent, conn, top):
    size = 8 * MB
    for change in ("shrinks", "grows"):
        with open(top + b"/f", "wb") as f:
            f.write(b"x" * size)
        with agent.bulk() as b:
            b.call(tar_out=dict(at=at(top + b"/f")))
            chunks = b.chunks()
            first = next(chunks)  # the header is out, and the socket full
            os.truncate(top + b"/f", MB if change == "shrinks" else 2 * size)
            if change == "grows":
                data = first + b"".join(chunks)
                assert members(data)["f"].size == size
            else:
                error = failure(lambda: list(chunks))
                assert (error.stage, error.errnum, error.path) == ("read", errno.ENODATA, top + b"/f")
                b.call(stat=dict(at=at(top)))


def test_many_hard_links(b, top):
    os.mkdir(top + b"/a")
    for i in range(3000):
        os.makedirs(top + b"/a/%d" % (i % 50), exist_ok=True)
        path = top + b"/a/%d/%d" % (i % 50, i)
        open(path, "w").close()
        os.link(path, path + b"-twin")
    tar_in(b, top + b"/b", tar_out(b, top + b"/a/."))
    assert all(os.path.samefile(top + b"/b/%d/%d" % (i % 50, i), top + b"/b/%d/%d-twin" % (i % 50, i)) for i in range(3000))
