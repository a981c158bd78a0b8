"""Configure, Resume and single processes, as far as a machine that is not the agent's own can show them."""

import os
import signal
import subprocess
import time

import pytest

import wire
from agent import Agent, code_of, eventually
from wire import pb


@pytest.fixture(scope="module")
def blank():
    """An agent that stays unconfigured: each of its Configures is refused."""
    a = Agent()
    yield a
    a.end()


def ip(text):
    return bytes(int(part) for part in text.split("."))


def network(**kw):
    interface = dict(name=b"eth0", addresses=[pb.IpAddress(ip=ip("10.0.0.2"), prefix=24)])
    interface.update(kw)
    return pb.Network(interfaces=[pb.Interface(**interface)])


def routes(*many):
    n = network()
    n.routes.extend(pb.Route(**{"interface": b"eth0", **r}) for r in many)
    return n


def mount(**kw):
    return [pb.Mount(**{"source": b"vdc", "target": b"/data", "fstype": b"ext4", **kw})]


BAD_NETWORKS = [
    ("interfaces.name", network(name=b"")),
    ("interfaces.name", network(name=b"sixteen-long-name")),
    ("interfaces.name", network(name=b"../eth0")),
    ("interfaces.name", pb.Network(interfaces=[pb.Interface(name=b"a"), pb.Interface(name=b"a")])),
    ("interfaces.mac", network(mac=b"12345")),
    ("interfaces.mac", network(mac=bytes(6))),
    ("interfaces.mac", pb.Network(interfaces=[pb.Interface(name=b"a", mac=b"123456"),
                                              pb.Interface(name=b"b", mac=b"123456")])),
    ("interfaces.mtu", network(mtu=67)),
    ("interfaces.mtu", network(mtu=1 << 20)),
    ("interfaces.addresses.ip", network(addresses=[pb.IpAddress(ip=b"123")])),
    ("interfaces.addresses.ip", network(addresses=[pb.IpAddress()])),
    ("interfaces.addresses.prefix", network(addresses=[pb.IpAddress(ip=b"1234", prefix=33)])),
    ("interfaces.addresses.prefix", network(addresses=[pb.IpAddress(ip=b"1" * 16, prefix=129)])),
    ("routes.destination", routes(dict(destination=b"12345", prefix=8))),
    ("routes.destination", routes(dict(destination=ip("10.1.0.1"), prefix=16))),
    ("routes.destination", routes(*[dict(gateway=ip("10.0.0.1"))] * 2)),
    ("routes.prefix", routes(dict(destination=ip("10.1.0.0"), prefix=33))),
    ("routes.prefix", routes(dict(gateway=ip("10.0.0.1"), prefix=8))),
    ("routes.gateway", routes(dict())),
    ("routes.gateway", routes(dict(destination=ip("10.1.0.0"), prefix=16, gateway=b"6" * 16))),
    ("routes.interface", routes(dict(gateway=ip("10.0.0.1"), interface=b"eth1"))),
    ("routes.interface", routes(dict(gateway=ip("10.0.0.1"), interface=b""))),
]


@pytest.mark.parametrize("field, bad", [
    *[("network." + f, dict(network=n)) for f, n in BAD_NETWORKS],
    ("hostname", dict(hostname=b"h" * 65)),
    ("hostname", dict(hostname=b"a/b")),
    ("seed", dict(seed=bytes(513))),
    ("realtime_ns", dict(realtime_ns=1 << 63)),
    ("env", dict(env=[b"=x"])),
    ("hosts", dict(hosts=bytes(1))),
    ("hosts", dict(hosts=b"h" * 65537)),
    ("resolv_conf", dict(resolv_conf=b"a\0b")),
    ("mounts.source", dict(mounts=mount(source=b""))),
    ("mounts.source", dict(mounts=mount(source=b"../vdc"))),
    ("mounts.source", dict(mounts=mount(fstype=b"tmpfs"))),
    ("mounts.source", dict(mounts=mount(fstype=b"virtiofs", source=b"t" * 37))),
    ("mounts.target", dict(mounts=mount(target=b"data"))),
    ("mounts.target", dict(mounts=mount(target=b""))),
    ("mounts.target", dict(mounts=mount(target=b"//"))),
    ("mounts.target", dict(mounts=mount(target=b"/a/../b"))),
    ("mounts.target", dict(mounts=mount(target=b"/a/."))),
    ("mounts.target", dict(mounts=mount(target=b"/a\0b"))),
    ("mounts.target", dict(mounts=mount(target=b"/" + b"a" * 4095))),
    ("mounts.fstype", dict(mounts=mount(fstype=b""))),
    ("mounts.fstype", dict(mounts=mount(fstype=b"ext4/.."))),
    ("mounts.options", dict(mounts=mount(options=b"o" * 4096))),
    ("mounts.options", dict(mounts=mount(options=b"ro\0"))),
])
def test_configure_names_the_field_at_fault(blank, field, bad):
    with pytest.raises(wire.WireError) as e:
        blank.dial().configure(**bad)
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "configure." + field)


@pytest.mark.parametrize("field, much", [
    ("mounts", dict(mounts=mount() * 65)),
    ("network.interfaces", dict(network=pb.Network(interfaces=[pb.Interface(name=b"a%d" % i) for i in range(17)]))),
    ("network.interfaces.addresses", dict(network=network(addresses=[pb.IpAddress(ip=b"1234", prefix=8)] * 17))),
    ("network.routes", dict(network=routes(*[dict(destination=b"%04d" % i, prefix=32) for i in range(65)]))),
])
def test_configure_is_bounded(blank, field, much):
    with pytest.raises(wire.WireError) as e:
        blank.dial().configure(**much)
    assert (code_of(e), e.value.error.field) == ("CODE_RESOURCE_EXHAUSTED", "configure." + field)


@pytest.mark.parametrize("field, foreign", [
    ("root", dict(root=pb.Root(device=pb.DeviceRoot(device=pb.Device(name=b"vda", fstype=b"ext4"))))),
    ("mounts", dict(mounts=mount())),
    ("network", dict(network=pb.Network())),
    ("hosts", dict(hosts=b"127.0.0.1 localhost\n")),
    ("resolv_conf", dict(resolv_conf=b"nameserver 10.0.0.1\n")),
])
def test_the_machine_of_others_is_left_alone(blank, field, foreign):
    with pytest.raises(wire.WireError) as e:
        blank.dial().configure(**foreign)
    assert (code_of(e), e.value.error.field) == ("CODE_UNSUPPORTED", "configure." + field)
    assert not blank.dial().hello.configured


# ---- Resume and Quiesce ----


def test_the_generation_only_grows(own_agent):
    conn = own_agent.dial()
    assert conn.hello.clone_generation == 0
    conn.resume()
    assert own_agent.dial().hello.clone_generation == 0
    own_agent.conn.resume(clone_generation=7)
    conn = own_agent.dial()
    assert conn.hello.clone_generation == 7
    for stale in (1, 7):
        with pytest.raises(wire.WireError) as e:
            conn.resume(clone_generation=stale)
        assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "resume.clone_generation")
    conn.resume(clone_generation=(1 << 64) - 1)
    assert own_agent.dial().hello.clone_generation == (1 << 64) - 1


@pytest.mark.parametrize("field, bad", [
    *[("network." + f, dict(network=n)) for f, n in BAD_NETWORKS[:2]],
    ("hostname", dict(hostname=b"a b")),
    ("seed", dict(seed=bytes(513))),
    ("realtime_ns", dict(realtime_ns=(1 << 64) - 1)),
])
def test_resume_names_the_field_at_fault(own_agent, field, bad):
    conn = own_agent.dial()
    with pytest.raises(wire.WireError) as e:
        conn.resume(clone_generation=3, **bad)
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "resume." + field)
    assert own_agent.dial().hello.clone_generation == 0


def test_nothing_of_others_is_frozen(conn):
    with pytest.raises(wire.WireError) as e:
        conn.quiesce()
    assert code_of(e) == "CODE_UNSUPPORTED"
    with pytest.raises(wire.WireError) as e:
        conn.resume(network=pb.Network())
    assert (code_of(e), e.value.error.field) == ("CODE_UNSUPPORTED", "resume.network")
    conn.run("true")


# ---- KillProcess ----


def started_ticks(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19])


def grandchild(conn):
    """An execution and the pid of a process that it started."""
    x = conn.started(conn.start("sh", "-c", "sleep 600 & echo $!; wait; echo over"))
    conn.wait(lambda: b"\n" in x.stdout)
    return x, int(x.stdout)


def test_a_process_is_killed_by_its_number(conn):
    x, pid = grandchild(conn)
    conn.kill_process(pid, signal.SIGTERM, started_ticks(pid))
    conn.finish(x)
    assert x.stdout == b"%d\nover\n" % pid and x.exit.code == 0


def test_without_a_start_time_whoever_has_the_number(conn):
    x, pid = grandchild(conn)
    conn.kill_process(pid, signal.SIGKILL)
    assert conn.finish(x).exit.code == 0


@pytest.mark.parametrize("off", [-1, 1, 1 << 40])
def test_another_start_time_is_another_process(conn, off):
    x, pid = grandchild(conn)
    with pytest.raises(wire.WireError) as e:
        conn.kill_process(pid, signal.SIGKILL, started_ticks(pid) + off)
    assert code_of(e) == "CODE_NOT_FOUND"
    conn.kill_process(pid, signal.SIGKILL, started_ticks(pid))  # it is alive still
    conn.finish(x)


def test_only_processes_of_the_box(agent, conn):
    x, pid = grandchild(conn)
    with subprocess.Popen(["sleep", "600"]) as foreign, agent.bulk():
        eventually(lambda: len(agent.children()) == 2)
        worker = next(p for p in agent.children() if p != x.state.pid)
        for other in (1, 2, agent.pid, worker, os.getpid(), foreign.pid):
            with pytest.raises(wire.WireError) as e:
                conn.kill_process(other, signal.SIGKILL)
            assert code_of(e) == "CODE_NOT_FOUND"
        assert foreign.poll() is None and agent.alive() and worker in agent.children()
        foreign.kill()
    conn.kill_process(pid, signal.SIGKILL)
    conn.finish(x)
    with pytest.raises(wire.WireError) as e:
        conn.kill_process(pid, signal.SIGKILL)
    assert code_of(e) == "CODE_NOT_FOUND"


@pytest.mark.parametrize("field, kw", [("pid", dict(pid=0, signo=9)), ("pid", dict(pid=1 << 31, signo=9)),
                                       ("signo", dict(pid=5, signo=0)), ("signo", dict(pid=5, signo=65))])
def test_kill_names_the_field_at_fault(conn, field, kw):
    with pytest.raises(wire.WireError) as e:
        conn.kill_process(**kw)
    assert (code_of(e), e.value.error.field) == ("CODE_INVALID_ARGUMENT", "kill_process." + field)


# ---- Shutdown ----


def test_nobody_is_forgotten_at_the_end(own_agent):
    """A process that was started after the last one was reaped counts like any other."""
    conn = own_agent.configured()
    conn.run("true")
    x = conn.started(conn.start("sh", "-c", "trap '' TERM; echo; while :; do sleep 600; done"))
    conn.wait(lambda: x.stdout)
    began = time.monotonic()
    conn.call(shutdown=pb.Shutdown(grace_ms=500))
    conn.close()
    assert own_agent.process.wait(10) == 0
    assert time.monotonic() - began >= 0.5
    assert not os.path.exists(f"/proc/{x.state.pid}")


def test_idle_workers_do_not_hold_up_the_end(own_agent):
    """Bulk connections that wait for their next operation end at once, not when the grace is over."""
    conn = own_agent.configured()
    bulks = [own_agent.bulk() for _ in range(3)]
    conn.call(shutdown=pb.Shutdown(grace_ms=60_000))
    assert own_agent.process.wait(10) == 0
    for b in bulks:
        b.close()
