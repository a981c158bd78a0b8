"""tenon-init as PID 1 of a real box, spoken to directly: what it cannot show on a plain host."""

import signal

import pytest

import wire
from wire import pb


def test_it_is_configured(agent_vm, conn):
    assert conn.hello.configured
    assert conn.hello.boot.configured_ns > conn.hello.boot.listening_ns > conn.hello.boot.init_ns > 0
    with pytest.raises(wire.WireError) as e:
        conn.configure()
    assert e.value.code == pb.CODE_ALREADY_EXISTS


@pytest.mark.parametrize("argv, code", [(["true"], 0), (["sh", "-c", "exit 7"], 7)])
def test_exit_codes(conn, argv, code):
    x = conn.run(*argv)
    assert (x.exit.code, x.exit.signal) == (code, 0)


def test_both_channels_and_stdin(conn):
    x = conn.run("sh", "-c", "cat; echo err >&2", stdin=b"in" * 100_000)
    assert (x.stdout, x.stderr) == (b"in" * 100_000, b"err\n")


def test_the_root_is_the_image_with_a_writable_layer(conn):
    x = conn.run("sh", "-c", "hostname; echo kept > /etc/mark; cat /etc/mark; awk '$2 == \"/\" {print $3}' /proc/mounts")
    assert x.stdout == b"box\nkept\noverlay\n"


def test_kill_reaches_what_has_left_the_session(conn):
    x = conn.started(conn.start("sh", "-c", "setsid sh -c 'echo $$; exec sleep 600' & echo started; wait"))
    conn.wait(lambda: x.stdout.count(b"\n") == 2)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.finish(x)
    conn.wait(x.drained)  # EOF: nobody holds the pipe any more
    assert x.exit.signal == signal.SIGKILL


# ---- what a process is given ----

MEMORY_HOG = "x=x; while :; do x=$x$x; done"


def cgroup_file(conn, name, **resources):
    """Read by a process in the cgroup itself."""
    script = f"cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/{name}"
    return conn.run("sh", "-c", script, resources=pb.Resources(**resources)).stdout.decode().strip()


def test_out_of_memory_is_told(conn):
    x = conn.run("sh", "-c", MEMORY_HOG, resources=pb.Resources(memory_max=16 << 20), timeout=60)
    assert (x.exit.signal, x.exit.oom_killed) == (signal.SIGKILL, True)
    x = conn.run("true", resources=pb.Resources(memory_max=16 << 20))
    assert (x.exit.code, x.exit.signal, x.exit.oom_killed) == (0, 0, False)


def test_limits_are_in_the_cgroup_and_gone_with_it(conn):
    given = dict(memory_max=64 << 20, memory_high=32 << 20, pids_max=20, cpu_quota_us=50_000, cpu_period_us=200_000,
                 cpu_weight=300)
    for name, value, otherwise in [("memory.max", str(64 << 20), "max"), ("memory.high", str(32 << 20), "max"),
                                   ("pids.max", "20", "max"), ("cpu.max", "50000 200000", "max 100000"),
                                   ("cpu.weight", "300", "100")]:
        assert cgroup_file(conn, name, **given) == value
        assert cgroup_file(conn, name) == otherwise
    assert cgroup_file(conn, "cpu.max", cpu_quota_us=30_000) == "30000 100000"


def test_limits_of_what_is_left_behind_are_nobody_elses(conn):
    x = conn.start("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo", resources=pb.Resources(pids_max=3))
    conn.finish(x)
    conn.ack(x)
    conn.wait(lambda: not conn.list())
    for _ in range(3):
        assert cgroup_file(conn, "pids.max") == "max"
        assert cgroup_file(conn, "pids.max", pids_max=9) == "9"
    conn.run("killall", "-9", "sleep")


def test_more_processes_than_allowed(conn):
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; true"
    x = conn.run("sh", "-c", script, resources=pb.Resources(pids_max=4))
    assert b"fork" in x.stderr
    conn.run("killall", "-9", "sleep")


def test_a_share_of_the_processor(conn):
    """A tenth of it: a second's work takes ten."""
    x = conn.run("sh", "-c", "i=0; while :; do i=$((i+1)); done", timeout_ms=1500, grace_ms=1,
                 resources=pb.Resources(cpu_quota_us=10_000))
    used = x.exit.rusage.user_us + x.exit.rusage.system_us
    assert x.exit.timed_out and used < 500_000


@pytest.mark.parametrize("user, expected", [
    (b"", b"0 0 0 /root"), (b"tenon", b"1000 1000 1000 1050 /home/tenon"), (b"1000:tty", b"1000 5 5 /home/tenon"),
    (b"4000", b"4000 0 0 /")])
def test_users_are_the_boxs_own(conn, user, expected):
    conn.run("sh", "-c", "grep -q ^staff: /etc/group || echo staff:x:1050:tenon >>/etc/group")
    x = conn.run("sh", "-c", 'echo $(id -u) $(id -g) $(id -G) $HOME', user=user)
    assert x.stdout == expected + b"\n"


def test_an_unknown_user(conn):
    with pytest.raises(wire.WireError) as e:
        conn.run("true", user=b"daemon")  # this machine has one, the box has not
    assert (e.value.error.stage, e.value.error.errnum) == ("user", 2)


CAPS = ("grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status")


def fields(x):
    return [int(line.split()[1], 16) for line in x.stdout.splitlines()]


def test_presets(conn):
    everything = fields(conn.run(*CAPS))
    assert everything[0] == everything[1] and everything[0] & 1 << 21 and everything[2:] == [0, 0]
    assert fields(conn.run(*CAPS, preset=pb.PRESET_DEVELOPMENT)) == everything
    assert fields(conn.run(*CAPS, preset=pb.PRESET_STANDARD)) == [0xa80425fb, 0xa80425fb, 0, 2]
    assert fields(conn.run(*CAPS, preset=pb.PRESET_STANDARD, user=b"tenon")) == [0, 0xa80425fb, 0, 2]
    assert fields(conn.run(*CAPS, preset=pb.PRESET_MAXIMUM)) == [0, 0, 1, 2]
    assert conn.run("sh", "-c", "ulimit -c; ulimit -n", preset=pb.PRESET_MAXIMUM).stdout == b"0\n1024\n"
    script = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max"
    assert conn.run("sh", "-c", script, preset=pb.PRESET_MAXIMUM).stdout == b"1024\n"


def test_what_presets_let_pass(conn):
    mount = "mkdir -p /mnt; mount -t tmpfs none /mnt && umount /mnt"
    assert conn.run("sh", "-c", mount).exit.code == 0
    assert conn.run("unshare", "-m", "true").exit.code == 0
    for preset in (pb.PRESET_STANDARD, pb.PRESET_MAXIMUM):
        x = conn.run("sh", "-c", mount, preset=preset)
        assert x.exit.code != 0 and b"ermi" in x.stderr  # "Operation not permitted", "permission denied"
        x = conn.run("unshare", "-m", "true", preset=preset)
        assert x.exit.code != 0 and b"Operation not permitted" in x.stderr
        x = conn.run("unshare", "-U", "true", preset=preset)
        assert x.exit.code != 0 and b"Operation not permitted" in x.stderr
        x = conn.run("sh", "-c", "seq 1000 | wc -l; echo x > /tmp/file && cat /tmp/file", preset=preset)
        assert x.stdout == b"1000\nx\n"


def test_scores(conn):
    script = "cat /proc/self/oom_score_adj; cut -d\" \" -f19 /proc/self/stat"  # proc(5): 19 is nice
    for _ in range(3):
        assert conn.run("sh", "-c", script).stdout == b"0\n0\n"
        assert conn.run("sh", "-c", script, oom_score_adj=-500, nice=-7).stdout == b"-500\n-7\n"
        assert conn.run("sh", "-c", script, oom_score_adj=700, nice=19, user=b"tenon").stdout == b"700\n19\n"


def test_more_than_a_hard_limit_takes_a_privilege(conn):
    given = [pb.Rlimit(resource=7, soft=2_000, hard=600_000)]
    assert conn.run("sh", "-c", "ulimit -n; ulimit -Hn", rlimits=given).stdout == b"2000\n600000\n"
