"""tenon-flatten, and tar2sqfs behind it: what an image's layers add up to, compared with what umoci unpacks of the same
image, entry by entry; and what must not get through."""

import hashlib
import io
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from oci import Image, device, digest, entry, hard, link, tar
from debian import debian_tar

ROOT = Path(__file__).resolve().parents[2]
FLATTEN = ROOT / "build/bin/tenon-flatten"
MAX_BYTES, MAX_FILES = 2_000_000_000, 100_000

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="keeping owners and devices takes root")


def flatten(folder, image, max_bytes=MAX_BYTES, max_files=MAX_FILES):
    folder.mkdir(exist_ok=True)
    manifest, blobs = image.write(folder)
    return subprocess.run(
        [FLATTEN, manifest, blobs, str(max_bytes), str(max_files)], capture_output=True, timeout=60
    )


def listed(folder, image):
    """Of the tar: {name: (type, mode, uid, gid, size, link, contents)}."""
    r = flatten(folder, image)
    assert r.returncode == 0, r.stderr
    with tarfile.open(fileobj=io.BytesIO(r.stdout)) as t:
        return {
            m.name: (m.type, m.mode, m.uid, m.gid, m.size, m.linkname, t.extractfile(m).read() if m.isreg() else b"")
            for m in t
        }


def refused(folder, image, *words, **limits):
    r = flatten(folder, image, **limits)
    assert r.returncode == 1, (r.returncode, r.stderr)
    message = r.stderr.decode()
    assert all(w in message for w in words), message
    assert message.count("\n") == 1 and len(message) < 200


def look(root):
    """What there is below a folder, as lstat(2) sees it."""
    seen, links = {}, {}
    for where, folders, files in os.walk(os.fsencode(root)):
        for name in [b""] + folders + files if where == os.fsencode(root) else folders + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            what = [oct(st.st_mode), st.st_uid, st.st_gid]
            if kind == stat.S_IFREG:
                with open(path, "rb") as f:
                    what += [st.st_size, int(st.st_mtime), hashlib.file_digest(f, "sha256").hexdigest()]
                links.setdefault(st.st_ino, []).append(path[len(os.fsencode(root)):])
            elif kind == stat.S_IFLNK:
                what.append(os.readlink(path))
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                what.append(st.st_rdev)
            if kind != stat.S_IFLNK:
                what.append({x: os.getxattr(path, x) for x in os.listxattr(path)})
            seen[path[len(os.fsencode(root)):].rstrip(b"/")] = tuple(map(str, what))
    return seen, sorted(sorted(names) for names in links.values() if len(names) > 1)


def compare(folder, image):
    """Unpacks both ways and looks."""
    folder.mkdir(exist_ok=True)
    manifest, blobs = image.write(folder)
    ours, theirs, squashfs = folder / "ours", folder / "theirs", folder / "it.squashfs"
    subprocess.run(
        f"set -o pipefail; {FLATTEN} {manifest} {blobs} {MAX_BYTES} {MAX_FILES}"
        f" | tar2sqfs -q -s -f -c zstd -X level=3 {squashfs}"
        f" && mkdir {ours} && sqfs2tar {squashfs}"
        f" | tar --xattrs --xattrs-include='*' --numeric-owner -C {ours} -xpf -",
        shell=True,
        executable="/bin/bash",
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(["umoci", "unpack", "--image", f"{folder}:it", theirs], check=True, timeout=120, capture_output=True)
    mine, my_links = look(ours)
    others, other_links = look(theirs / "rootfs")
    differing = {p: (mine.get(p), others.get(p)) for p in mine.keys() | others.keys() if mine.get(p) != others.get(p)}
    return differing, my_links, other_links, mine


# ---- beside umoci -----------------------------------------------------------------------------------


@as_root
def test_debian_as_umoci_has_it(tmp_path):
    differing, ours, theirs, seen = compare(tmp_path, Image(debian_tar().read_bytes()))
    assert differing == {} and ours == theirs
    assert len(seen) > 3000 and ours, "the image has become too small to prove anything"
    assert any(what[0].startswith("0o104") for what in seen.values()), "setuid"


def change(r, layer, files):
    """A layer on top: some files removed, some replaced, some moved under another name, new ones."""
    entries = []
    for name in r.sample(sorted(files), min(40, len(files))):
        folder, _, base = name.rpartition("/")
        what = r.randrange(6)
        if what == 0:
            entries.append(entry(f"{folder}/.wh.{base}", b""))
        elif what == 1:
            entries.append(entry(name, r.randbytes(r.randrange(9000)), uid=layer, mode=r.choice([0o755, 0o4711, 0o600])))
        elif what == 2:
            entries.append(link(name, r.choice(["/etc/passwd", "../x", "nowhere"])))
        elif what == 3:
            entries += [entry(name), entry(f"{name}/new {layer}", b"below")]
        elif what == 4:
            entries.append(entry(f"{folder}/added-{layer}-{base}", b"added", gid=layer))
        else:
            entries += [entry(f"{folder}/first-{layer}-{base}", b"both"), hard(f"{folder}/second-{layer}-{base}", f"{folder}/first-{layer}-{base}")]
    return tar(*entries)


@as_root
def test_many_layers_as_umoci_has_them(tmp_path):
    """Debian's files in forty layers, each of which changes what those below brought."""
    r = random.Random(5)
    with tarfile.open(debian_tar()) as t:
        members = [m for m in t if not m.name.startswith("./dev")]
        files = {m.name: t.extractfile(m).read() for m in members if m.isreg() and m.size < 20_000}
    names = sorted(files)
    layers = []
    for n in range(20):
        layers.append(tar(*[entry(name, files[name], mode=0o755, uid=n) for name in names[n::20]]))
        layers.append(change(r, n, set(names[n::20])))
    packing = [r.choice(["gzip", "zstd", ""]) for _ in layers]
    if subprocess.run(["umoci", "--version"], capture_output=True, text=True).stdout.split()[2] < "0.5":
        packing = ["gzip" if p == "zstd" else p for p in packing]  # older ones know no zstd
    differing, ours, theirs, seen = compare(tmp_path, Image(*layers, packing=packing))
    # A folder that no layer speaks of is umoci's umask and clock; here it is 0755.
    assert differing == {} and ours == theirs and len(seen) > 1000


NASTY = [
    [
        entry("./"),
        entry("etc"),
        entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        entry("gone", b"x"),
        entry("folder"),
        entry("folder/old", b"old"),
        entry("folder/sub"),
        entry("folder/sub/deep", b"deep"),
        entry("opaque"),
        entry("opaque/old", b"old"),
        entry("opaque/sub"),
        entry("opaque/sub/x", b"x"),
        entry("becomes-file"),
        entry("becomes-file/x", b"x"),
        entry("becomes-folder", b"file"),
        entry("becomes-link"),
        entry("one", b"the same inode", mode=0o4755, uid=1000, gid=50),
        hard("two", "one"),
        hard("three", "./one"),
        link("absolute", "/etc/passwd"),
        link("up", "../../../../etc"),
        link("lib", "usr/lib"),
        entry("usr"),
        entry("usr/lib"),
        entry("usr/lib/a", b"a"),
        device("null", 1, 3, mode=0o666),
        device("disk", 8, 1, tarfile.BLKTYPE, gid=6),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("attributes", b"a", pax_headers={"SCHILY.xattr.user.colour": "blue"}),
        entry("sticky", mode=0o1777),
        entry("with space and \u00fcmlaut", b"u"),
        entry("n" * 200 + "/" + "m" * 250, b"long"),
        entry("uid", b"", uid=4_000_000_000, gid=3_000_000_000),
        entry("again", b"first"),
        entry("again", b"second"),
        entry(".wh-not", b"no whiteout"),
        entry("empty"),
    ],
    [
        entry(".wh.gone", b""),
        entry("folder/.wh.old", b""),
        entry("folder/.wh.sub", b""),
        entry("opaque"),
        entry("opaque/new", b"new"),
        entry("opaque/.wh..wh..opq", b""),
        entry("opaque/sub"),
        entry("opaque/sub/y", b"y"),
        entry("becomes-file", b"now"),
        entry("becomes-folder"),
        entry("becomes-folder/x", b"x"),
        link("becomes-link", "etc"),
        entry(".wh.one", b""),
        hard("four", "two"),
        entry("lib/b", b"through the link"),
        entry("up/shadow", b"stays inside"),
        entry(".wh..wh.aufs", b""),
        entry(".wh.never-there", b""),
    ],
    [
        entry("gone", b"back again"),
        entry("folder/sub", b"a file now"),
        entry("lib/.wh.a", b""),
        entry(".wh.empty", b""),
        entry("etc", mode=0o700, uid=7),
    ],
]


@as_root
def test_a_nasty_image_as_umoci_has_it(tmp_path):
    differing, ours, theirs, seen = compare(tmp_path, Image(*[tar(*layer) for layer in NASTY]))
    assert differing == {} and ours == theirs
    assert b"/gone" in seen and b"/one" not in seen and b"/usr/lib/b" in seen and b"/opaque/old" not in seen
    assert ours == [[b"/four", b"/three", b"/two"]]


# ---- by itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
def test_packings(tmp_path, packing):
    seen = listed(tmp_path, Image(tar(entry("a", b"x" * 200_000)), tar(entry("b", b"y")), packing=packing))
    assert seen["a"][6] == b"x" * 200_000 and seen["b"][6] == b"y"


def test_whiteouts_come_in_any_order(tmp_path):
    """Only what is below is hidden, be the whiteout first or last in its own layer."""
    below = tar(entry("d"), entry("d/old", b""), entry("d/sub"), entry("d/sub/old", b""))
    new = [entry("d/new", b"n"), entry("d/sub/new", b"n")]
    for n, mark in enumerate(["d/.wh..wh..opq", ".wh.d"]):
        for m, layer in enumerate([[entry(mark, b""), *new], [*new, entry(mark, b"")]]):
            seen = listed(tmp_path / f"{n}{m}", Image(below, tar(*layer)))
            assert set(seen) == {".", "d", "d/new", "d/sub", "d/sub/new"}, (mark, m)


def test_a_hard_link_to_what_a_layer_below_has(tmp_path):
    """The file stays one file, also if the name it was made by is hidden in the same layer, or replaced in a later."""
    image = Image(
        tar(entry("a", b"first", mode=0o4755)), tar(hard("b", "a"), entry(".wh.a", b"")), tar(entry("a", b"other")), tar(hard("c", "/b"))
    )
    seen = listed(tmp_path, image)
    assert seen["a"][6] == b"other" and {seen["b"][0], seen["c"][0]} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert seen["b" if seen["b"][0] == tarfile.REGTYPE else "c"][6] == b"first"


def test_symbolic_links_among_parents_stay_inside(tmp_path):
    out = [link("a", "../../../out"), link("b", "/a/x"), entry("b/y", b"1"), link("here", "."), entry("here/here/z", b"2")]
    seen = listed(tmp_path, Image(tar(*out)))
    assert seen["out/x/y"][6] == b"1" and seen["z"][6] == b"2" and seen["a"][5] == "../../../out"
    refused(tmp_path / "loop", Image(tar(link("a", "b"), link("b", "a"), entry("a/x", b""))), "a/x", "symbolic links")
    refused(tmp_path / "file", Image(tar(entry("f", b"")), tar(entry("f/x", b""))), "f/x", "ot a directory")


@pytest.mark.parametrize(
    "bad",
    [
        entry("../x", b""),
        entry("a/../../x", b""),
        entry("a/..", b""),
        hard("x", "../../etc/shadow"),
        hard("x", "missing"),
        hard("x", "folder"),
        entry("a/.wh.", b""),
        entry("a/.wh...", b""),
        link("x", ""),
        entry("x" * 256, b""),
        entry("d/" * 2100 + "x", b""),
        entry("", b""),
    ],
    ids=lambda e: (e[0].name[-12:] + " " + e[0].linkname).strip() or "empty",
)
def test_names_that_are_refused(tmp_path, bad):
    refused(tmp_path, Image(tar(entry("folder"), bad)), "layer 1 of 1")


def test_absolute_names_are_below_the_root(tmp_path):
    seen = listed(tmp_path, Image(tar(entry("/etc/x", b"1"), entry("//etc//y", b"2"), hard("/z", "/etc/x"))))
    assert seen["etc/x"][6] == b"1" and seen["etc/y"][6] == b"2" and seen["z"][5] == "etc/x"


def test_overlay_marks_and_foreign_attributes_are_left_out(tmp_path):
    pax = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.a": "b", "SCHILY.xattr.system.posix_acl_access": "z"}
    r = flatten(tmp_path, Image(tar(entry("d", pax_headers=pax))))
    assert b"user.a" in r.stdout and b"overlay" not in r.stdout and b"posix" not in r.stdout


def test_holes(tmp_path):
    """GNU's sparse files come with their holes filled."""
    (tmp_path / "f").write_bytes(b"a" * 4096)
    with open(tmp_path / "f", "r+b") as f:
        f.truncate(10_000_000)
        f.seek(9_000_000)
        f.write(b"z")
    packed = subprocess.run(["tar", "-C", tmp_path, "-cSf", "-", "f"], capture_output=True, check=True).stdout
    assert len(packed) < 100_000
    assert listed(tmp_path / "i", Image(packed))["f"][6] == (tmp_path / "f").read_bytes()


# ---- lies -----------------------------------------------------------------------------------------


def test_a_wrong_size(tmp_path):
    image = Image(tar(entry("a", b"")))
    image.layers[0]["size"] += 1
    refused(tmp_path, image.seal(), "layer 1 of 1", "bytes")


def test_a_wrong_digest(tmp_path):
    image = Image(tar(entry("a", b"")))
    name = image.layers[0]["digest"]
    image.blobs[name] = image.blobs[name][:-8] + bytes(8)
    refused(tmp_path, image, "layer 1 of 1")


def test_other_bytes_than_the_config_says(tmp_path):
    image = Image(tar(entry("a", b"")), tar(entry("b", b"")))
    image.config["rootfs"]["diff_ids"][1] = digest(b"")
    refused(tmp_path, image.seal(), "layer 2 of 2", "config")
    image.config["rootfs"]["diff_ids"].pop()
    refused(tmp_path / "fewer", image.seal(), "2 layers", "1 in the config")


def test_bombs(tmp_path):
    zeroes = Image(tar(entry("zeroes", bytes(50_000_000))))
    refused(tmp_path / "1", zeroes, "more than is taken", max_bytes=40_000_000)
    files = Image(tar(*[entry(f"f{n}", b"") for n in range(2000)]))
    refused(tmp_path / "2", files, "too many files", max_files=1000)
    # A hole of a terabyte takes no byte of the archive.
    header, _ = entry("hole", b"")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "hole", "GNU.sparse.realsize": str(1 << 40)}
    header.size = 512
    refused(tmp_path / "3", Image(tar((header, b"1\n1099511627775\n1\n".ljust(512, b"\0")))), max_bytes=1 << 30)
    # What libarchive keeps of headers before an entry.
    long = tar(entry("x", b"", pax_headers={"comment": "c" * 900_000}))
    header = 512 + (int(long[124:135], 8) + 511) // 512 * 512
    refused(tmp_path / "4", Image(long[:header] * 4 + long), "headers")


@pytest.mark.parametrize("cut", [1, 100, 512, 700, 1024])
def test_a_layer_that_is_cut_short(tmp_path, cut):
    whole = tar(entry("a", b"x" * 2000), entry("b", b"y" * 2000))
    image = Image(whole[: 512 * 5 + cut], packing="")
    refused(tmp_path, image, "layer 1 of 1")


def test_garbage(tmp_path):
    refused(tmp_path / "1", Image(b"no archive at all " * 100), "layer 1 of 1")
    refused(tmp_path / "2", Image(b"\x1f\x8b\x08\0" + b"garbage" * 100, packing=""), "layer 1 of 1")
    for n, lie in enumerate([b"", b"{}", b"[" * 100_000, b'{"schemaVersion": 1}', b'{"schemaVersion": 2, "layers": 5}']):
        folder = tmp_path / f"m{n}"
        folder.mkdir()
        (folder / "manifest").write_bytes(lie)
        r = subprocess.run([FLATTEN, folder / "manifest", folder, "1000", "10"], capture_output=True, timeout=20)
        assert r.returncode == 1 and r.stderr and not r.stdout, (lie[:20], r)


def test_memory_does_not_grow_with_the_layers(tmp_path):
    """Two hundred megabytes of contents, in a process that may have no more than it needs for names."""
    image = Image(*[tar(entry(f"f{n}", os.urandom(1000) * 50_000)) for n in range(4)], packing="zstd")
    manifest, blobs = image.write(tmp_path)
    r = subprocess.run(
        ["/usr/bin/python3", "-c",
         "import resource, subprocess, sys\n"
         "p = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
         "print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
         FLATTEN, manifest, blobs, str(MAX_BYTES), str(MAX_FILES)],
        capture_output=True, text=True, timeout=60,
    )
    code, kilobytes = map(int, r.stdout.split())
    assert code == 0 and kilobytes < 32_000


def test_a_reader_that_leaves(tmp_path):
    """tar2sqfs has died: that is not the image's fault."""
    manifest, blobs = Image(tar(entry("a", bytes(1_000_000)))).write(tmp_path)
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run([FLATTEN, manifest, blobs, str(MAX_BYTES), "10"], stdout=w, stderr=subprocess.PIPE, timeout=20)
    os.close(w)
    assert p.returncode == 2 and b"writing" in p.stderr


def test_it_is_confined(tmp_path):
    """While it reads layers it may make no call but those that it needs, and gain nothing."""
    manifest, blobs = Image(tar(entry("a", bytes(5_000_000)))).write(tmp_path)
    p = subprocess.Popen([FLATTEN, manifest, blobs, str(MAX_BYTES), "10"], stdout=subprocess.PIPE)
    assert p.stdout.read(512)  # so it has begun to write, and waits
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{p.pid}/status").read_text().splitlines() if ":\t" in line)
    p.stdout.read()
    assert p.wait(20) == 0
    assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1"
