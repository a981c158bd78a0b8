"""What makes a VM a box, and the box a copy: Configure in full, Quiesce and Resume, events, the end. In real QEMU."""

import errno
import os
import signal
import subprocess
import time

import pytest

import wire
from vmm import AgentVm, make_upper
from wire import pb

MAC = b"\x52\x54\x00\x12\x34\x56"
HOSTS = b"127.0.0.1 localhost\n10.9.0.9 friend\n"
RESOLV = b"nameserver 10.0.2.3\n"


def make_disk(path, **files):
    """An ext4 disk with some files."""
    folder = path.with_suffix(".d")
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    subprocess.run(["mkfs.ext4", "-q", "-d", folder, path, "16M"], check=True, timeout=60)
    return path


def ip(text):
    return bytes(int(part) for part in text.split("."))


def shell(conn, script):
    x = conn.run("sh", "-c", script)
    assert x.exit.code == 0, (script, x.stdout, x.stderr)
    return x.stdout.decode()


def refused(e):
    return pb.Code.Name(e.value.code), e.value.error.stage, e.value.error.field


# ---- Configure ----

MOUNTS = [
    pb.Mount(source=b"vdc", target=b"/data/deep/er", fstype=b"ext4"),
    pb.Mount(source=b"vdd", target=b"/frozen", fstype=b"ext4", read_only=True),
    pb.Mount(target=b"/scratch", fstype=b"tmpfs", options=b"size=8m,mode=0700"),
    pb.Mount(target=b"/data/deep/er/inner", fstype=b"tmpfs"),
]

NETWORK = pb.Network(
    interfaces=[
        pb.Interface(name=b"lan0", mac=MAC, mtu=1400, addresses=[
            pb.IpAddress(ip=ip("10.0.2.15"), prefix=24), pb.IpAddress(ip=ip("10.77.0.1"), prefix=31),
            pb.IpAddress(ip=bytes([0xfd] + [0] * 14 + [5]), prefix=64)]),
        pb.Interface(name=b"lo", addresses=[pb.IpAddress(ip=ip("10.99.0.1"), prefix=32)]),
    ],
    routes=[
        pb.Route(destination=ip("10.3.0.0"), prefix=16, interface=b"lan0"),
        pb.Route(gateway=ip("10.0.2.2"), interface=b"lan0"),
        pb.Route(gateway=bytes([0xfd] + [0] * 14 + [1]), interface=b"lan0"),
    ])


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A box with everything that Configure can give, after Configures that failed."""
    folder = tmp_path_factory.mktemp("full")
    v = AgentVm(make_upper(folder), disks=[
        f"{make_disk(folder / 'rw.img', kept='from the host')},format=raw,readonly=off",
        f"{make_disk(folder / 'ro.img', word='read me')},format=raw,readonly=on"])
    try:
        v.up().connect()
        # A NIC that is not there yet when Configure asks for it would do as well: it waits for the probe.
        v.qmp("netdev_add", type="user", id="n0")
        v.qmp("device_add", driver="virtio-net-pci", netdev="n0", id="nic", bus="plug0", mac="52:54:00:12:34:56")
        v.failures = failing_configures(v)
        v.configure(mounts=MOUNTS, network=NETWORK, hosts=HOSTS, resolv_conf=RESOLV, hostname=b"full")
        yield v
    finally:
        v.close()


def failing_configures(v):
    """Each fails in another step, and leaves everything free for the next."""
    failures = []
    for bad in (dict(mounts=MOUNTS + [pb.Mount(source=b"vdb", target=b"/x", fstype=b"squashfs")]),
                dict(mounts=MOUNTS + [pb.Mount(target=b"/proc/1/root/trap", fstype=b"tmpfs")]),
                dict(mounts=MOUNTS, network=pb.Network(interfaces=NETWORK.interfaces, routes=[
                    pb.Route(gateway=ip("172.16.0.1"), interface=b"lan0")]))):
        with pytest.raises(wire.WireError) as e:
            v.configure(**bad)
        assert not v.connect().hello.configured
        failures.append((refused(e), e.value.error.errnum, e.value.error.message))
    return failures


@pytest.fixture
def conn(full):
    c = full.connect()
    yield c
    full.connect().clear()


def test_a_failed_step_is_named_and_undone(full):
    mount, trap, route = full.failures
    assert mount[0] == ("CODE_INTERNAL", "mounts", "configure.mounts") and "vdb as squashfs" in mount[2]
    assert trap[0] == ("CODE_INTERNAL", "mounts", "configure.mounts") and "/proc/1/root" in trap[2]
    assert route[0] == ("CODE_INTERNAL", "network", "configure.network")
    assert "lan0" in route[2] and route[1] == errno.ENETUNREACH


def test_mounts(conn):
    mounts = {line.split()[1]: line.split() for line in shell(conn, "cat /proc/mounts").splitlines()}
    assert mounts["/data/deep/er"][0::2][:2] == ["/dev/vdc", "ext4"]
    assert mounts["/data/deep/er"][3].startswith("rw") and mounts["/frozen"][3].startswith("ro")
    assert "size=8192k" in mounts["/scratch"][3] and "mode=700" in mounts["/scratch"][3]
    assert shell(conn, "cat /data/deep/er/kept /frozen/word") == "from the hostread me"
    assert shell(conn, "echo w >/data/deep/er/new && echo w >/data/deep/er/inner/t && cat /data/deep/er/new") == "w\n"
    assert conn.run("sh", "-c", "echo w >/frozen/no").exit.code != 0


def test_files_of_etc(conn):
    assert shell(conn, "cat /etc/hosts").encode() == HOSTS
    assert shell(conn, "cat /etc/resolv.conf").encode() == RESOLV
    assert shell(conn, "cat /etc/hostname; hostname") == "full\nfull\n"
    assert shell(conn, "stat -c '%a %u' /etc/hosts /etc/resolv.conf; ls -A /etc | grep tenon || true") == "644 0\n644 0\n"


def test_addresses_and_routes(conn):
    links = shell(conn, "ip -o link")
    assert ": lan0: " in links and "mtu 1400" in links and "eth0" not in links
    addresses = shell(conn, "ip -o addr")
    for text in ("10.0.2.15/24 brd 10.0.2.255", "10.77.0.1/31", "fd00::5/64", "127.0.0.1/8", "10.99.0.1/32"):
        assert text in addresses, (text, addresses)
    # The one of its own making, fe80::, may still be asking around.
    assert not any("tentative" in line for line in addresses.splitlines() if "fe80::" not in line)
    found = shell(conn, "ip route; ip -6 route")
    for text in ("default via 10.0.2.2 dev lan0", "10.3.0.0/16 dev lan0", "default via fd00::1 dev lan0"):
        assert text in found, (text, found)


def test_packets_pass(conn):
    """QEMU's own gateway answers an ARP request; and lo is up."""
    shell(conn, "ping -c 1 -W 5 10.0.2.2 && ping -c 1 -W 5 127.0.0.1 && ping -c 1 -W 5 10.99.0.1")


def test_resume_gives_another_network(full, conn):
    other = pb.Network(interfaces=[pb.Interface(name=b"wan0", mac=MAC, addresses=[
        pb.IpAddress(ip=ip("10.0.2.99"), prefix=24)])], routes=[pb.Route(gateway=ip("10.0.2.2"), interface=b"wan0")])
    conn.resume(network=other, hostname=b"copy")
    addresses = shell(conn, "ip -o -4 addr")
    assert "10.0.2.99/24" in addresses and "wan0" in addresses
    assert "10.0.2.15" not in addresses and "10.77.0.1" not in addresses
    assert "10.3.0.0/16" not in shell(conn, "ip route")
    assert shell(conn, "hostname") == "copy\n"
    with pytest.raises(wire.WireError) as e:
        conn.resume(clone_generation=9, network=pb.Network(interfaces=[pb.Interface(name=b"wan0", mtu=65536)]))
    assert refused(e)[:2] == ("CODE_INTERNAL", "network") and "wan0" in e.value.error.message
    assert full.connect().hello.clone_generation == 0  # what failed can be repeated


def test_links_of_the_image_lead_nowhere(tmp_path):
    """A box that is started again, its disk full of links: they are followed within the box, or not at all."""
    upper = make_upper(tmp_path)
    v = AgentVm(upper)
    try:
        c = v.configured(resolv_conf=b"first\n").conn
        shell(c, "mkdir /real && ln -s /real /way && ln -s ../../../../../real /up && ln -s /proc/1/root /trap &&"
                 "echo theirs >/real/resolv && rm /etc/resolv.conf && ln -s /real/resolv /etc/resolv.conf")
        shut_down(v, 5000, 20)
    finally:
        v.close()
    v = AgentVm(upper)
    try:
        v.up().connect()
        with pytest.raises(wire.WireError) as e:
            v.configure(mounts=[pb.Mount(target=b"/trap/box", fstype=b"tmpfs")])
        assert refused(e)[1:] == ("mounts", "configure.mounts") and e.value.error.errnum == errno.ELOOP
        v.configure(mounts=[pb.Mount(target=b"/way/x", fstype=b"tmpfs"), pb.Mount(target=b"/up/y/z", fstype=b"tmpfs")],
                    resolv_conf=RESOLV)
        c = v.conn
        assert shell(c, "awk '$3 == \"tmpfs\" {print $2}' /proc/mounts").split()[-2:] == ["/real/x", "/real/y/z"]
        assert shell(c, "cat /etc/resolv.conf").encode() == RESOLV
        assert shell(c, "cat /real/resolv; test -L /etc/resolv.conf || echo a file") == "theirs\na file\n"
    finally:
        v.close()


# ---- Quiesce and Resume, in a box of their own ----

WRITER = "i=0; while :; do echo $i >>/journal; i=$((i+1)); done"


@pytest.fixture
def quiet(agent_vm):
    c = agent_vm.connect()
    yield c
    try:
        agent_vm.connect().resume()
    finally:
        agent_vm.conn.clear()


def test_a_writer_stops_and_goes_on(agent_vm, quiet):
    c = quiet
    x = c.started(c.start("sh", "-c", WRITER + "& echo $!; j=0; while :; do echo $j; j=$((j+1)); done", keep=True))
    c.wait(lambda: x.end[wire.STDOUT] > 1000)
    c.quiesce()
    c.ping()  # whatever was under way has come
    c.settle(0.2)
    still = x.end[wire.STDOUT]
    c.settle(1)
    assert x.end[wire.STDOUT] == still, "it goes on writing"
    c.quiesce()  # joins
    with pytest.raises(wire.WireError) as e:
        c.started(c.start("true"))
    assert e.value.code == pb.CODE_FROZEN
    c = agent_vm.connect()  # the link is as alive as ever
    assert c.hello.configured and [row.id for row in c.list()] == [x.id]
    c.resume()
    c.attach(x)
    c.wait(lambda: x.end[wire.STDOUT] > still + 1000)
    assert shell(c, "echo fresh") == "fresh\n"
    c.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    c.wait(x.drained)
    lines = x.stdout.split(b"\n")[1:-1]
    assert lines == [b"%d" % i for i in range(len(lines))], "a byte was lost"
    c.ack(x)
    journal = shell(c, "cat /journal; rm /journal").split("\n")[:-1]
    assert journal == [str(i) for i in range(len(journal))] and len(journal) > 10


def test_starts_under_way_come_first(quiet):
    """A child that is frozen before its execve would be given up when the freeze lasts."""
    c = quiet
    many = [c.start("sleep", "600") for _ in range(20)]
    c.quiesce()
    assert all(x.state is not None for x in many)


def test_lo_is_up_without_a_network(quiet):
    shell(quiet, "ping -c 1 -W 5 127.0.0.1")


def test_it_holds_until_it_is_over_and_caches_are_dropped(quiet):
    c = quiet
    shell(c, "dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null; cat /big >/dev/null")

    def cached():
        return int(shell(c, "awk '$1 == \"Cached:\" {print $2}' /proc/meminfo"))

    before = cached()
    c.quiesce(keep_caches=True)
    c.resume()
    assert cached() > before - 4096
    c.quiesce()
    c.resume()
    assert cached() < before - 12288
    shell(c, "rm /big")


def test_it_thaws_by_itself(quiet):
    c = quiet
    x = c.started(c.start("sh", "-c", "while :; do echo t; sleep 0.05; done >>/ticks"))
    began = time.monotonic()
    c.quiesce(max_frozen_ms=1500)
    c.event("thawed")
    assert time.monotonic() - began > 1.4
    shell(c, "n=$(wc -l </ticks); while [ $(wc -l </ticks) = $n ]; do sleep 0.05; done; rm /ticks")
    c.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    c.finish(x)


def test_without_a_host_too(agent_vm, quiet):
    quiet.quiesce(max_frozen_ms=1000)
    quiet.close()
    time.sleep(1.5)  # the time it was given: there is nobody to be told
    shell(agent_vm.connect(), "echo w >/written; rm /written")


def test_a_frozen_file_system_delays_the_transfer_that_writes_to_it(agent_vm, quiet):
    """It waits in the kernel, holding its folder: others read elsewhere and are answered, and it ends with the freeze."""
    c = quiet
    with agent_vm.bulk() as writer, agent_vm.bulk() as other:
        c.quiesce()
        writer.request(write={"at": {"path": b"/tmp/frozen-word"}})
        writer.send(wire.frame(wire.DATA, writer.stream, bytes(8) + b"word"))
        writer.end(4)
        assert other.call(metrics={}).metrics.uptime_ns > 0
        assert other.get(read={"at": {"path": b"/etc/passwd"}})[1].startswith(b"root:")
        assert c.ping()
        c.resume()
        writer.response()
        assert writer.confirmed() == 4
    assert shell(c, "cat /tmp/frozen-word; rm /tmp/frozen-word") == "word"


def test_a_signal_reaches_the_frozen(quiet):
    c = quiet
    x = c.started(c.start("sleep", "600"))
    c.quiesce()
    c.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    assert c.finish(x).exit.signal == signal.SIGKILL


def test_resume_in_its_order(agent_vm, quiet):
    c = quiet
    x = c.started(c.start("sh", "-c", "while :; do head -c 8 /dev/urandom | hexdump -ve '1/1 \"%02x\"'; echo; done"))
    c.quiesce()
    then = 1_900_000_000
    generation = c.hello.clone_generation + 5
    c.resume(clone_generation=generation, seed=os.urandom(32), realtime_ns=then * 10**9)
    assert 0 <= int(shell(c, "date +%s")) - then < 60
    c.resume(realtime_ns=time.time_ns())  # again and without a Quiesce before it
    assert abs(int(shell(c, "date +%s")) - time.time()) < 60
    assert agent_vm.connect().hello.clone_generation == generation
    c = agent_vm.conn
    c.attach(x)
    c.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    c.wait(x.drained)
    c.ack(x)
    lines = x.stdout.split(b"\n")[:-1]
    assert len(set(lines)) == len(lines)
    with pytest.raises(wire.WireError) as e:
        c.resume(clone_generation=generation)
    assert refused(e)[::2] == ("CODE_INVALID_ARGUMENT", "resume.clone_generation")


def test_the_clock_that_cannot_be_set_resumes_nothing(quiet):
    c = quiet
    c.quiesce()
    with pytest.raises(wire.WireError) as e:
        c.resume(realtime_ns=1)  # before the machine's start
    assert refused(e)[:2] == ("CODE_INTERNAL", "clock")
    with pytest.raises(wire.WireError) as e:
        c.started(c.start("true"))
    assert e.value.code == pb.CODE_FROZEN
    c.resume()
    shell(c, "true")


def test_many_times(quiet):
    c = quiet
    x = c.started(c.start("sh", "-c", WRITER))
    for _ in range(30):
        c.quiesce()
        c.resume()
    c.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    c.finish(x)
    shell(c, "rm /journal")


def test_resume_gives_up_a_quiesce_that_waits(quiet):
    c = quiet
    q = c.open(pb.Request(quiesce=pb.Quiesce()))
    r = c.open(pb.Request(resume=pb.Resume()))
    c.wait(lambda: q in c.replies and r in c.replies)
    assert not c.replies[r].HasField("error")
    assert c.replies[q].error.stage in ("", "resume")
    shell(c, "echo w >/w; rm /w")


# ---- events ----


def test_an_oom_kill_is_told(quiet):
    c = quiet
    shell(c, "true")
    x = c.started(c.start("sh", "-c", "echo 50000000 >/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max;"
                                      "(tail /dev/zero) ; echo survived"))
    event = c.event("oom_kill", 60)
    assert (event.id, event.kills) == (x.id, 1)
    c.finish(x, 60)
    assert x.stdout == b"survived\n" and x.exit.code == 0
    assert x.exit.oom_killed, "a child's counts too"
    c.ack(x)
    for _ in range(5):  # whoever gets the cgroup next has nothing to do with it
        assert not c.run("true").exit.oom_killed


def test_a_full_disk_is_told(agent_vm, quiet):
    c = quiet
    half = int(shell(c, "df -k / | tail -1").split()[3]) // 2
    shell(c, f"fallocate -l {half}K /half && fallocate -l {half * 19 // 20}K /rest")
    event = c.event("low_disk", 60)
    assert event.low and event.free_bytes < event.total_bytes / 10 and event.total_bytes > half * 1024
    shell(c, "rm /half /rest")


# ---- a disk that hangs ----


@pytest.fixture
def doomed(tmp_path):
    """A box whose writable disk is looked at afterwards."""
    v = AgentVm(make_upper(tmp_path))
    v.upper = tmp_path / "upper.qcow2"
    try:
        yield v.configured()
    finally:
        v.close()


def throttle(v, bytes_per_second):
    """QEMU's hold on the writable disk; 0 lets go."""
    rest = {k: 0 for k in ("bps", "bps_rd", "iops", "iops_rd", "iops_wr")}
    v.qmp("block_set_io_throttle", id="/machine/peripheral/disk1/virtio-backend", bps_wr=bytes_per_second, **rest)


def test_a_quiesce_that_hangs_is_undone(doomed):
    """sync does not come back: the workload goes on when its time is over, and no freeze is left behind."""
    c = doomed.conn
    x = c.started(c.start("sh", "-c", "while :; do echo t; sleep 0.05; done"))
    c.wait(lambda: x.stdout)
    throttle(doomed, 1)
    shell(c, "dd if=/dev/zero of=/dirty bs=1M count=4 2>/dev/null")
    with pytest.raises(wire.WireError) as e:
        c.quiesce(max_frozen_ms=1500)
    assert refused(e)[:2] == ("CODE_TIMEOUT", "quiesce")
    end = x.end[wire.STDOUT]
    c.wait(lambda: x.end[wire.STDOUT] > end + 10)
    shell(c, "echo hello")  # nothing is FROZEN any more
    throttle(doomed, 0)
    c.wait(lambda: can_quiesce(c))
    c.resume()
    shell(c, "echo w >/w; sync; rm /dirty")


def can_quiesce(c):
    try:
        c.quiesce()
        return True
    except wire.WireError as e:
        assert e.code == pb.CODE_FROZEN, e
        c.pump(time.monotonic() + 60) if c.outbox else c.ping()
        return False


# ---- the end ----


def shut_down(v, grace_ms, within):
    began = time.monotonic()
    v.conn.call(shutdown=pb.Shutdown(grace_ms=grace_ms))
    v.conn.close()
    assert v.ended(within)["reason"] == "guest_shutdown", v.console()
    return time.monotonic() - began


def disk_of(v, command):
    """What debugfs says of the ext4 in the writable disk."""
    raw = v.upper.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", v.upper, raw], check=True, timeout=60)
    return subprocess.run(["debugfs", "-R", command, raw], check=True, timeout=60, capture_output=True, text=True).stdout


def was_unmounted(v):
    header = disk_of(v, "show_super_stats -h")
    return "needs_recovery" not in header and "Filesystem state:         clean" in header


def test_shutdown_while_frozen(doomed):
    """TERM does not reach what is frozen: it is thawed first, and may say goodbye."""
    c = doomed.conn
    x = c.started(c.start("sh", "-c", "trap 'echo bye >/bye; exit' TERM; echo ready; while :; do sleep 0.1; done"))
    c.wait(lambda: x.stdout == b"ready\n")
    c.quiesce()
    assert shut_down(doomed, 20_000, 20) < 15  # by itself, not by KILL
    assert was_unmounted(doomed)
    assert disk_of(doomed, "cat /data/bye") == "bye\n"


def test_shutdown_of_what_ignores_term(doomed):
    c = doomed.conn
    shell(c, "true")
    x = c.started(c.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"))
    c.wait(lambda: x.stdout == b"ready\n")
    assert 1 < shut_down(doomed, 1000, 20) < 10
    assert was_unmounted(doomed)


def test_shutdown_with_a_file_system_that_the_box_froze(doomed):
    """Its writers wait in the kernel, deaf to KILL, until the agent thaws it."""
    c = doomed.conn
    shell(c, "mkdir /mnt/up && mount /dev/vdb /mnt/up")
    x = c.started(c.start("sh", "-c", "fsfreeze --freeze /mnt/up && echo frozen; echo x >/stuck"))
    c.wait(lambda: b"frozen" in x.stdout)
    shell(c, f"until grep -q ') D ' /proc/{x.state.pid}/stat; do sleep 0.01; done")
    assert shut_down(doomed, 20_000, 40) < 15
    assert was_unmounted(doomed)


def test_shutdown_with_a_disk_that_hangs(doomed):
    """Nothing can be written, nothing unmounted: it is switched off all the same, without a host too."""
    throttle(doomed, 1)
    shell(doomed.conn, "dd if=/dev/zero of=/dirty bs=1M count=4 2>/dev/null")
    with doomed.bulk() as b:
        b.send(wire.frame(wire.PING))  # any word
        assert shut_down(doomed, 1000, 60) > 10  # the deadline of unmounting


def test_shutdown_ends_a_configure(tmp_path):
    """It waits for a disk that does not come; the end does not wait for it."""
    v = AgentVm(make_upper(tmp_path))
    try:
        conn = v.up().connect()
        device = pb.Device(name=b"vdz", fstype=b"ext4")
        stream = conn.open(pb.Request(configure=pb.Configure(root=pb.Root(device=pb.DeviceRoot(device=device)))))
        conn.ping()
        conn.call(shutdown=pb.Shutdown(grace_ms=20_000))
        conn.wait(lambda: stream in conn.replies)
        assert conn.replies[stream].error.code == pb.CODE_SHUTTING_DOWN
        began = time.monotonic()
        assert v.ended(20)["reason"] == "guest_shutdown" and time.monotonic() - began < 5
    finally:
        v.close()
