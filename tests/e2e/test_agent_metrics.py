"""What only a box of its own shows: figures per cgroup, pressure, disks, every process, ports."""

import signal
import struct

import pytest

import wire
from agent import MB, eventually
from bulk import bulk_pb
from wire import DATA, RESET, frame, pb


@pytest.fixture
def bulk(agent_vm, conn):
    with agent_vm.bulk() as b:
        yield b


def metrics(bulk, **kw):
    return bulk.call(metrics=bulk_pb.GetMetrics(**kw)).metrics


def use(bulk, x):
    found, = metrics(bulk, exec_id=x.id).execs
    return found


def processes(bulk):
    found = [p for e in bulk.events(processes=bulk_pb.ListProcesses()) for p in e.processes.processes]
    return {p.pid: p for p in found}


def finish(conn, x):
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.finish(x)


def forget(conn, x):
    """Its cgroup becomes another's."""
    finish(conn, x)
    conn.wait(x.drained)
    conn.ack(x)


def test_the_machine(bulk, conn):
    m = metrics(bulk)
    total = int(conn.run("awk", "/^MemTotal/ {print $2}", "/proc/meminfo").stdout) * 1024
    assert m.memory.total == total and 0 < m.memory.available < total
    assert m.cpus == 1 and m.cpu.system_us > 0 and len(m.load_milli) == 3
    eventually(lambda: metrics(bulk).cpu.idle_us > 0)  # a machine that has just booted had no time to be idle
    assert [d.name for d in m.disks] == [b"vda", b"vdb"]
    assert all(d.reads > 0 and d.read_bytes > 0 for d in m.disks)
    assert b"lo" in [n.name for n in m.networks]
    assert 1 << 30 < m.root.total_bytes <= 2 << 30 and m.root.free_inodes > 0
    assert m.agent.workers == 1 and 0 < m.agent.rss_bytes < 4 * MB
    assert m.boot.configured_ns > m.boot.listening_ns > 0
    assert (m.processes, m.oom_kills, m.truncated) == (0, 0, False)


def test_pressure(bulk, conn):
    there = conn.run("test", "-e", "/proc/pressure/cpu").exit.code == 0
    m = metrics(bulk)
    assert there == m.HasField("cpu_pressure") == m.HasField("memory_pressure") == m.HasField("io_pressure")
    assert not there or m.cpu_pressure.some_us > 0


def test_memory_of_one(bulk, conn):
    small = conn.started(conn.start("sleep", "60"))
    # It has filled its memory when it hangs in writing it: nobody takes what it writes.
    x = conn.started(conn.start("dd", "if=/dev/zero", "bs=50M", "count=1", limit=None, first_limit=0))
    eventually(lambda: use(bulk, x).memory_bytes >= 50 * MB)
    assert use(bulk, x).memory_bytes < 60 * MB and use(bulk, small).memory_bytes < 5 * MB
    conn.signal(x, signal.SIGKILL)
    conn.wait(lambda: x.exit)
    u = use(bulk, x)
    assert u.memory_bytes < 5 * MB and 50 * MB <= u.memory_peak_bytes < 60 * MB
    assert u.processes == 0
    finish(conn, small)


def start_small(bulk, conn):
    x = conn.started(conn.start("sleep", "60"))
    return x, use(bulk, x)


def small_after_quiet(bulk, conn):
    """Cgroups that were used are made anew when nothing has ended for a while."""
    for _ in range(20):
        conn.settle(0.5)
        x, u = start_small(bulk, conn)
        forget(conn, x)
        if u.memory_peak_bytes:
            return u
    raise AssertionError("they were not made anew")


def test_each_begins_at_zero(bulk, conn):
    """What one execution used is not the next one's, which gets the same cgroup."""
    assert small_after_quiet(bulk, conn).memory_peak_bytes < 8 * MB
    for size in (12_000_000, 24_000_000):
        x = conn.start("sh", "-c", f"head -c {size} /dev/zero | tail -c {size} >/dev/null; echo; sleep 60")
        conn.wait(lambda: x.stdout)
        much = use(bulk, x)
        assert size < much.memory_peak_bytes < size + 8 * MB
        forget(conn, x)
        y, little = start_small(bulk, conn)
        assert little.user_us + little.system_us < (much.user_us + much.system_us) / 2
        assert little.memory_peak_bytes == 0  # the other's is there, and that is not told
        forget(conn, y)
    u = small_after_quiet(bulk, conn)
    assert u.memory_peak_bytes < 8 * MB and u.user_us + u.system_us < (much.user_us + much.system_us) / 2


def test_processors_processes_and_disks_of_one(bulk, conn):
    x = conn.started(conn.start("sh", "-c", "dd if=/dev/zero of=/var/eight bs=1M count=8 conv=fsync; "
                                "sleep 60 & sleep 60 & echo; wait"))
    conn.wait(lambda: x.stdout)
    u = use(bulk, x)
    assert u.processes == 3 and u.written_bytes >= 8 * MB and u.system_us > 0
    finish(conn, x)


def test_oom_kills(bulk, conn):
    before = metrics(bulk).oom_kills
    x = conn.start("sh", "-c", "dd if=/dev/zero bs=150M count=1 | sleep 60 & dd if=/dev/zero bs=150M count=1 | sleep 60")
    conn.started(x)
    eventually(lambda: use(bulk, x).oom_kills >= 1, 60)
    assert metrics(bulk).oom_kills >= before + 1
    finish(conn, x)


def test_every_process_and_its_execution(bulk, conn):
    x = conn.started(conn.start("sh", "-c", "sleep 61 & (setsid sleep 62 &) ; echo; wait"))
    conn.wait(lambda: x.stdout)
    others = {(b"sleep", b"sleep\0" + b"61\0", x.id), (b"sleep", b"sleep\0" + b"62\0", x.id)}
    found = {}

    def settled():
        found.clear()
        found.update(processes(bulk))
        return {(p.name, p.command, p.exec_id) for p in found.values() if p.name == b"sleep"} == others

    eventually(settled)
    assert found[x.state.pid].ppid == 1 and abs(found[x.state.pid].started_ns - x.state.started_ns) < 2e9
    finish(conn, x)
    eventually(lambda: not processes(bulk))


def test_leftovers_have_no_execution(bulk, conn):
    x = conn.run("sh", "-c", "setsid sleep 63 >/dev/null 2>&1 & sleep 0.2")
    assert x.exit.code == 0
    p, = processes(bulk).values()
    assert (p.command, p.exec_id, p.ppid) == (b"sleep\0" + b"63\0", b"", 1)
    conn.run("kill", str(p.pid))


def test_the_boxs_own_proc_is_not_looked_at(agent_vm, conn):
    assert conn.run("mount", "-t", "tmpfs", "none", "/proc").exit.code == 0
    try:
        x = conn.started(conn.start("sleep", "64"))
        with agent_vm.bulk() as b:
            assert processes(b)[x.state.pid].name == b"sleep"
            assert metrics(b).memory.total > 0
        finish(conn, x)
    finally:
        assert conn.run("umount", "/proc").exit.code == 0


def test_a_port(bulk, conn):
    assert conn.run("ip", "link", "set", "lo", "up").exit.code == 0
    x = conn.started(conn.start("httpd", "-f", "-p", "8080", "-h", "/etc"))
    eventually(lambda: connected(bulk, 8080))
    request = b"GET /os-release HTTP/1.0\r\n\r\n"
    bulk.send(frame(DATA, bulk.stream, struct.pack("<Q", 0) + request))
    answer = b"".join(bulk.chunks())
    assert answer.startswith(b"HTTP/1.") and b"ID=tenon" in answer
    bulk.end(len(request))
    assert metrics(bulk).cpus == 1
    finish(conn, x)


def test_the_host_has_enough_of_a_flood(bulk, conn):
    """In the middle of a frame, which vsock takes in pieces: it is finished before anything else is said."""
    assert conn.run("ip", "link", "set", "lo", "up").exit.code == 0
    x = conn.started(conn.start("sh", "-c", "nc -l -p 8081 </dev/zero"))
    eventually(lambda: connected(bulk, 8081))
    for _ in range(8):
        type_, _, _, _ = bulk.next()
        assert type_ == DATA
    conn.settle(0.2)  # all there is room for has been sent
    bulk.give_up()
    with pytest.raises(wire.WireError) as e:
        while True:
            assert not take_data(bulk).strip(b"\0")
    assert e.value.code == pb.CODE_DETACHED
    assert metrics(bulk).cpus == 1
    finish(conn, x)


def take_data(bulk):
    type_, stream, _, payload = bulk.next()
    assert stream == bulk.stream and type_ in (DATA, RESET), type_
    if type_ == RESET:
        raise wire.WireError(pb.Error.FromString(payload))
    return payload[8:]


def connected(bulk, port):
    try:
        bulk.call(connect=bulk_pb.Connect(port=port))
        return True
    except wire.WireError as e:
        assert e.code == pb.CODE_PORT_FAILED
        return False
