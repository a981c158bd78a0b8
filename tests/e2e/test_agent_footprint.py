"""How little of a box the agent takes: measured in the guest, with the limits of the design."""

import re

import wire

KIB = 1024


def pss(conn):
    """KiB of PID 1's proportional share; the box's own /proc shows it."""
    text = conn.run("cat", "/proc/1/smaps_rollup").stdout.decode()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1))


def peak(conn):
    text = conn.run("cat", "/proc/1/status").stdout.decode()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", text, re.M).group(1))


def cgroups(conn):
    return conn.run("sh", "-c", "ls -d /sys/fs/cgroup/box/* | grep -c '/e[0-9]*$'").stdout


def test_the_binary():
    assert (wire.TOP / "build/guest/tenon-init").stat().st_size <= 450 * KIB


def test_idle_then_busy_then_idle(conn):
    assert pss(conn) <= 600

    def hundred(n):
        all_ = [conn.start("sh", "-c", f"echo {i}; exit {i % 256}") for i in range(n)]
        for i, x in enumerate(all_):
            conn.finish(x, 60)
            assert (x.stdout, x.exit.code) == (b"%d\n" % i, i % 256)
        for x in all_:
            conn.ack(x)

    hundred(100)
    before, made = pss(conn), cgroups(conn)
    for _ in range(10):
        hundred(100)
    assert pss(conn) <= before + 16
    assert cgroups(conn) == made


def test_two_hundred_at_once(conn):
    """Each prints a megabyte: every byte and code right, and the agent small."""
    script = "head -c 1000000 /dev/zero | tr '\\0' $0; exit $1"
    all_ = [conn.start("sh", "-c", script, chr(97 + i % 26), str(i)) for i in range(200)]
    for i, x in enumerate(all_):
        conn.finish(x, 120)
        assert x.stdout == bytes([97 + i % 26]) * 1000000 and x.exit.code == i
    assert peak(conn) <= 16 * KIB
    for x in all_:
        conn.ack(x)
    assert not conn.list()
