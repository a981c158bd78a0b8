"""GetMetrics: the figures are the machine's, and move the right way."""

import os
import socket
import time

import pytest

from agent import code_of, eventually
from bulk import bulk_pb


def metrics(agent, **kw):
    with agent.bulk() as b:
        return b.call(metrics=bulk_pb.GetMetrics(**kw)).metrics


def field(path, key):
    for line in open(path):
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)


def test_the_machine(agent, conn):
    m = metrics(agent)
    assert m.memory.total == field("/proc/meminfo", "MemTotal:") * 1024
    assert 0 < m.memory.free <= m.memory.available <= m.memory.total
    assert m.memory.swap_total == field("/proc/meminfo", "SwapTotal:") * 1024
    assert m.cpus == os.cpu_count()
    assert abs(m.realtime_ns - time.time_ns()) < 5e9
    assert abs(m.uptime_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < 5e9
    assert len(m.load_milli) == 3
    for told, here in zip(m.load_milli, os.getloadavg()):
        assert abs(told / 1000 - here) < 2
    assert m.boot.init_ns <= m.boot.listening_ns <= m.boot.configured_ns < m.uptime_ns
    root = os.statvfs("/")
    assert m.root.total_bytes == root.f_blocks * root.f_frsize
    assert 0 < m.root.free_bytes <= m.root.total_bytes
    assert not m.truncated


def test_pressure_is_there_if_the_kernel_has_it(agent, conn):
    m = metrics(agent)
    assert m.HasField("cpu_pressure") == os.path.exists("/proc/pressure/cpu")
    if m.HasField("cpu_pressure"):
        assert m.cpu_pressure.some_us > 0
        assert metrics(agent).cpu_pressure.some_us >= m.cpu_pressure.some_us


def test_disks_are_whole_ones(agent, conn):
    disks = {d.name.decode(): d for d in metrics(agent).disks}
    here = {n for n in os.listdir("/sys/block") if not n.startswith(("loop", "ram"))}
    assert set(disks) == here
    for name, d in disks.items():
        stat = open(f"/sys/block/{name}/stat").read().split()
        assert d.reads <= int(stat[0]) and d.read_bytes <= int(stat[2]) * 512


def test_tcp(agent, conn):
    with socket.create_server(("127.0.0.1", 0)) as s, socket.create_connection(s.getsockname()):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            refusing = nobody.getsockname()
        before = metrics(agent).tcp
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(refusing)
        after = metrics(agent).tcp
    assert before.established >= 2 and after.failed > before.failed


def test_networks(agent, conn):
    networks = {n.name.decode(): n for n in metrics(agent).networks}
    assert set(networks) == {line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line}
    before = networks["lo"].received_bytes
    assert conn.run("/usr/bin/python3", "-c", "import socket; s = socket.socket(type=socket.SOCK_DGRAM); "
                    "s.bind(('127.0.0.1', 0)); s.sendto(bytes(10000), s.getsockname()); s.recv(1)").exit.code == 0
    after = {n.name.decode(): n for n in metrics(agent).networks}["lo"]
    assert after.received_bytes >= before + 10000 and after.sent_packets > 0


def test_time_spent_moves(agent, conn):
    before = metrics(agent)
    x = conn.run("/usr/bin/python3", "-c", "import time; e = time.process_time() + .3\nwhile time.process_time() < e: pass")
    assert x.exit.code == 0
    after = metrics(agent)
    assert after.cpu.user_us + after.cpu.system_us >= before.cpu.user_us + before.cpu.system_us + 200000
    assert after.cpu.idle_us >= before.cpu.idle_us


def test_the_agent_itself(agent, conn):
    m = metrics(agent).agent
    assert m.version == agent.conn.hello.version
    assert abs(m.rss_bytes - agent.memory() * 1024) < 1 << 20
    assert (m.user_us + m.system_us) // 10000 <= agent.cpu_ticks()
    assert m.upgrades == 0


def test_workers_are_counted_and_are_not_the_box(own_agent):
    conn = own_agent.configured()
    assert metrics(own_agent).agent.workers == 1
    others = [own_agent.bulk() for _ in range(5)]
    m = metrics(own_agent)
    assert (m.agent.workers, m.processes) == (6, 0)
    for b in others:
        b.close()
    eventually(lambda: metrics(own_agent).agent.workers == 1)
    assert conn.ping()


def test_processes_are_counted(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("/usr/bin/python3", "-c", "import os\nfor _ in range(4): os.fork()\n"
                                "print(flush=True)\nwhile True: pass"))
    conn.wait(lambda: x.stdout.count(b"\n") == 16)
    m = metrics(own_agent)
    assert m.processes == 16 and 1 <= m.processes_running <= 16
    conn.signal(x, 9, 3)
    conn.finish(x)
    eventually(lambda: metrics(own_agent).processes == 0)


def test_executions_in_the_order_of_their_ids(agent, conn):
    ids = sorted(os.urandom(16) for _ in range(20))
    for i in reversed(ids):
        conn.started(conn.start("sleep", "60", id_=i))
    assert [u.id for u in metrics(agent).execs] == ids
    assert [u.id for u in metrics(agent, exec_id=ids[7]).execs] == [ids[7]]
    assert not metrics(agent, exec_id=os.urandom(16)).execs


def test_an_id_has_sixteen_bytes(agent, conn):
    with agent.bulk() as b:
        with pytest.raises(Exception) as e:
            b.call(metrics=bulk_pb.GetMetrics(exec_id=b"short"))
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "metrics.exec_id")
        assert b.call(metrics=bulk_pb.GetMetrics()).metrics.cpus > 0


def test_rows_that_come_and_go(own_agent):
    """What is listed was there, whatever happens meanwhile."""
    conn = own_agent.configured()
    kept = conn.started(conn.start("sleep", "60"))
    with own_agent.bulk() as b:
        known = {kept.id}
        for _ in range(60):
            started = [conn.start("true") for _ in range(4)]
            known |= {x.id for x in started}
            for x in started:
                b.request(metrics=bulk_pb.GetMetrics())
                seen = [u.id for u in b.response().metrics.execs]
                assert kept.id in seen and set(seen) <= known and seen == sorted(set(seen))
                conn.finish(x)
                conn.ack(x)
    conn.clear()
