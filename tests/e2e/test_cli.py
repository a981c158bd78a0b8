"""`tenon` as people type it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

TENON = Path(os.environ.get("TENON", Path(__file__).resolve().parents[2] / "build/bin/tenon"))


@pytest.fixture
def tenon(daemon):
    def run(*args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        if "input" in kw:
            kw.pop("stdin")
        env = {k: v for k, v in os.environ.items() if not k.startswith("TENON")}
        env["TENON_HOST"] = daemon.url
        return subprocess.run([str(TENON), *args], capture_output=True, timeout=120, env=env, **kw)

    return run


def test_run_rm(tenon, client):
    before = len(client.get("/boxes").json()["boxes"])
    r = tenon("run", "--rm", "--timing", "--env", "A=b c", "tenon/base", "--", "sh", "-c", "echo $A; echo err >&2; exit 7")
    assert (r.returncode, r.stdout) == (7, b"b c\n")
    err = r.stderr.decode().splitlines()
    assert err[0] == "err" and err[1].startswith("boot ") and ", exec " in err[1]
    assert len(client.get("/boxes").json()["boxes"]) == before


def test_run_keeps_the_box_and_exec_finds_it(tenon):
    assert tenon("run", "--name", "kept", "tenon/base", "echo", "hi").stdout == b"hi\n"
    assert b" kept " in tenon("ps").stdout
    r = tenon("exec", "--workdir", "/tmp", "kept", "pwd")
    assert (r.returncode, r.stdout) == (0, b"/tmp\n")
    # exec started it again, and the main command with it; the box stops once nobody uses it.
    assert tenon("logs", "-f", "kept").stdout == b"hi\n"
    assert tenon("rm", "-f", "kept").returncode == 0
    assert b" kept " not in tenon("ps").stdout


def test_run_as_docker_does(tenon, client):
    """The command is the box's main one: the box ends with it, and is started anew by whoever uses it."""
    r = tenon("run", "--name", "entry", "--entrypoint", "sh", "-u", "65534", "-w", "/tmp", "-i", "tenon/base", "-c", "id -u; pwd; cat; exit 3", input=b"in")
    assert (r.returncode, r.stdout) == (3, b"65534\n/tmp\nin")
    box = client.get("/boxes/entry").json()
    assert box["status"] in ("stopping", "stopped", "running") and tenon("logs", "entry").stdout == b"65534\n/tmp\nin"
    assert tenon("rm", "-f", "entry").returncode == 0
    # Without -i there is nothing to read.
    assert tenon("run", "--rm", "tenon/base", "cat", input=b"x").stdout == b""
    r = tenon("run", "--rm", "tenon/base", "/no/such")
    assert r.returncode == 127 and b"/no/such" in r.stderr
    assert tenon("run", "--rm", "tenon/base", "/etc").returncode == 126
    r = tenon("run", "--rm", "tenon/base")
    assert r.returncode == 125 and b"no command" in r.stderr
    # In the background; --rm is the server's then.
    r = tenon("run", "-d", "--rm", "--name", "back", "tenon/base", "sh", "-c", "echo began; read line; exit 6")
    assert r.returncode == 0 and r.stdout.strip().decode() == client.get("/boxes/back").json()["box_id"]
    assert tenon("logs", "back").returncode == 125
    r = tenon("attach", "back", input=b"\n")
    assert (r.returncode, r.stdout) == (6, b"began\n")
    end = time.monotonic() + 60
    while client.get("/boxes/back").status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert tenon("run", "--help").stdout.startswith(b"usage: tenon run")


def test_stdin(tenon, box):
    data = b"".join(b"line %d\n" % i for i in range(50000))
    assert tenon("exec", "-i", "shared", "--", "cat", input=data).stdout == data
    assert tenon("exec", "shared", "cat", input=data).stdout == b""


def test_exit_codes(tenon, box):
    assert tenon("exec", "shared", "sh", "-c", "kill -9 $$").returncode == 137
    r = tenon("exec", "shared", "no-such-command")
    assert r.returncode == 127 and r.stderr.startswith(b"tenon: execve: ENOENT")
    assert tenon("exec", "shared", "/etc").returncode == 126
    assert tenon("exec", "nobody", "true").returncode == 125
    assert tenon("run", "alpine:latest", "true").returncode == 125
    assert tenon("run", "--bogus").returncode == 125
    assert tenon("--host", "http://127.0.0.1:1", "ps").returncode == 125


def test_volumes(tenon, client):
    assert tenon("volume", "create", "made").stdout == b"made\n"
    # One that is not there is made, as docker does.
    r = tenon("run", "--rm", "-v", "made:/a", "-v", "new:/b", "tenon/base", "sh", "-c", "echo kept >/a/file; ls -A /b")
    assert (r.returncode, r.stdout) == (0, b"")
    assert tenon("volume", "ls", "-q").stdout == b"made\nnew\n" and b" made " in tenon("volume", "ls").stdout
    r = tenon("run", "--name", "reader", "--volume", "made:/a:ro", "tenon/base", "sh", "-c", "cat /a/file; touch /a/x")
    assert r.returncode == 1 and r.stdout == b"kept\n" and b"Read-only" in r.stderr
    r = tenon("volume", "rm", "new", "made")
    assert r.returncode == 125 and r.stdout == b"new\n" and b"box reader" in r.stderr
    tenon("rm", "-f", "reader")
    assert tenon("volume", "rm", "made").stdout == b"made\n"
    assert tenon("volume", "rm", "made").returncode == 125 and tenon("volume", "rm", "-f", "made").returncode == 0


@pytest.mark.parametrize(
    "option, word",
    [("/etc:/a", b"host"), ("./x:/a", b"host"), ("~/x:/a", b"host"), ("name", b"VOLUME:/PATH"), ("name:a", b"VOLUME:/PATH"), ("name:/a:z", b":ro")],
)
def test_volumes_that_are_refused(tenon, option, word):
    r = tenon("run", "-v", option, "tenon/base", "true")
    assert r.returncode == 125 and word in r.stderr and option.encode() in r.stderr


def test_volume_usage(tenon):
    for args in ([], ["bogus"], ["create", "a", "b"], ["ls", "x"], ["rm"], ["rm", "-f"]):
        r = tenon("volume", *args)
        assert r.returncode == 125 and b"usage: tenon volume" in r.stderr, args


def start(daemon, *args):
    env = dict(os.environ, TENON_HOST=daemon.url)
    return subprocess.Popen([str(TENON), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def test_interrupts(daemon, box):
    """The first goes to the command, the second kills it."""
    p = start(daemon, "exec", "shared", "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == b"caught\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(20) == 137


def test_a_closed_pipe_ends_the_command(daemon, box, client):
    p = start(daemon, "exec", "shared", "yes")
    assert p.stdout.readline() == b"y\n"
    p.stdout.close()
    assert p.wait(20) == 141


def test_the_cli_outlives_tenond(make_daemon):
    d = make_daemon()
    p = start(d, "run", "--rm", "tenon/base", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 9")
    assert p.stdout.readline() == b"1\n"
    d.kill()
    time.sleep(0.3)
    d.start()
    out, _ = p.communicate(timeout=60)
    assert (out, p.returncode) == (b"2\n3\n4\n5\n6\n", 9)


def test_cp_files_and_folders(tenon, client, box, tmp_path):
    """docker cp's rules, in both directions."""
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/a").write_text("A")
    (tmp_path / "dir/sub/b").write_text("B")
    (tmp_path / "dir/a").chmod(0o751)
    client.run(box, "sh", "-c", "rm -rf /srv/cp; mkdir -p /srv/cp/there")
    for source, target in [("dir/a", "/srv/cp/new"), ("dir/a", "/srv/cp/there"), ("dir", "/srv/cp/there"),
                           ("dir", "/srv/cp/made"), ("dir/.", "/srv/cp/flat")]:
        r = tenon("cp", f"{tmp_path}/{source}", f"{box}:{target}")
        assert r.returncode == 0, r.stderr
    out, _, _ = client.run(box, "sh", "-c", "cd /srv/cp; find . -type f | sort; stat -c %a new")
    assert out.decode().split() == ["./flat/a", "./flat/sub/b", "./made/a", "./made/sub/b", "./new", "./there/a",
                                    "./there/dir/a", "./there/dir/sub/b", "751"]
    (tmp_path / "here").mkdir()
    for source, target in [("new", "got"), ("new", "here"), ("there/dir", "here"), ("there/dir", "here"), ("there/dir", "made"),
                           ("flat/.", "here/flat")]:
        r = tenon("cp", f"{box}:/srv/cp/{source}", f"{tmp_path}/{target}")
        assert r.returncode == 0, r.stderr
    assert (tmp_path / "got").read_text() == "A" and (tmp_path / "got").stat().st_mode & 0o777 == 0o751
    found = sorted(str(p.relative_to(tmp_path / "here")) for p in (tmp_path / "here").rglob("*") if p.is_file())
    assert found == ["dir/a", "dir/sub/b", "flat/a", "flat/sub/b", "new"]
    assert (tmp_path / "made/sub/b").read_text() == "B"
    assert not [p for p in tmp_path.rglob(".tenon-cp*")]


def test_cp_streams_and_fails_clearly(tenon, box, tmp_path):
    tar = tenon("cp", f"{box}:/etc/passwd", "-").stdout
    assert b"passwd" in tar[:1500] and b"root:" in tar
    assert tenon("cp", "-", f"{box}:/srv/streamed/", input=tar).returncode == 0
    r = tenon("cp", f"{box}:/srv/streamed/passwd", str(tmp_path / "p"))
    assert r.returncode == 0 and b"root:" in (tmp_path / "p").read_bytes()
    for args in (["/no/such", f"{box}:/x"], [f"{box}:/no/such", str(tmp_path)], ["a", "b"],
                 [f"{box}:/etc", str(tmp_path / "p")], ["/etc/passwd", "nobody:/x"]):
        r = tenon("cp", *args)
        assert r.returncode == 125 and r.stderr.startswith(b"tenon: "), (args, r.stderr)


def test_snapshot_clone_export_import(tenon, client, tmp_path):
    box = client.create(name="cli-disk", memory_mib=192, disk_size_gb=1)["box_id"]
    assert tenon("snapshot", "create", "cli-disk", "a/b").stdout == b"a/b\n"
    r = tenon("snapshot", "create", "cli-disk", "a/b")
    assert r.returncode == 125 and b"exists" in r.stderr
    lines = tenon("snapshot", "ls", "cli-disk").stdout.decode().splitlines()
    assert lines[0].startswith("SNAPSHOT") and lines[1].startswith("a/b ") and len(lines) == 2
    assert tenon("snapshot", "restore", "cli-disk", "a/b").returncode == 0
    assert tenon("snapshot", "rm", "cli-disk", "a/b").returncode == 0
    assert tenon("snapshot", "rm", "cli-disk", "a/b").returncode == 125
    for wrong in ("snapshot",), ("snapshot", "ls"), ("snapshot", "x", "y", "z"), ("clone",), ("export",), ("import",):
        r = tenon(*wrong)
        assert r.returncode == 125 and b"usage" in r.stderr, wrong
    copy = tenon("clone", "--name", "cli-copy", "cli-disk").stdout.decode().strip()
    assert client.get("/boxes/cli-copy").json()["box_id"] == copy
    assert tenon("export", "cli-copy", cwd=tmp_path).returncode == 0
    assert tenon("export", "-o", "-", "cli-copy").stdout[:4] == b"\x28\xb5\x2f\xfd"
    assert tenon("export", "nobody", cwd=tmp_path).returncode == 125
    assert [p.name for p in tmp_path.iterdir()] == ["cli-copy.boxlite"]
    archive = tmp_path / "cli-copy.boxlite"
    back = tenon("import", "--name", "cli-back", str(archive))
    assert client.get("/boxes/cli-back").json()["box_id"] == back.stdout.decode().strip(), back.stderr
    again = tenon("import", "-", input=archive.read_bytes()).stdout.decode().strip()
    assert client.get(f"/boxes/{again}").json()["name"] is None
    r = tenon("import", str(TENON))
    assert r.returncode == 125 and b"archive" in r.stderr
    assert tenon("rm", "cli-disk", "cli-copy", "cli-back", again).returncode == 0
