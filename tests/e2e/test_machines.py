"""The same box on both kernels and both machines: what it boots to, and that it can do there what a box must."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

import wire
from bulk import bulk_pb
from vmm import KERNELS, MACHINES, AgentVm, make_upper
from wire import pb

pytestmark = pytest.mark.machines
COMBINATIONS = [pytest.param((k, m), id=f"{k}-{m}") for k in KERNELS for m in MACHINES]
LO = pb.Network(interfaces=[pb.Interface(name=b"lo", addresses=[pb.IpAddress(ip=bytes([10, 99, 0, 1]), prefix=32)])])


def shell(conn, script, **kw):
    x = conn.run("sh", "-c", script, **kw)
    assert x.exit.code == 0, (script, x.stdout, x.stderr)
    return x.stdout.decode()


def look_at_the_clock(conn):
    """(not before, the box's uptime, not after), in seconds."""
    before = time.monotonic()
    return before, float(shell(conn, "cat /proc/uptime").split()[0]), time.monotonic()


@pytest.fixture(scope="module", params=COMBINATIONS)
def vm(request, tmp_path_factory):
    kernel, machine = request.param
    v = AgentVm(make_upper(tmp_path_factory.mktemp("box")), kernel=KERNELS[kernel], machine=machine)
    v.combination = request.param
    try:
        v.configured(network=LO)
        v.first_look = look_at_the_clock(v.conn)
        yield v
    finally:
        v.close()


@pytest.fixture
def conn(vm):
    c = vm.connect()
    yield c
    vm.connect().clear()


def test_it_is_what_was_asked_for(vm, conn):
    kernel, machine = vm.combination
    assert ("cloud" in shell(conn, "uname -r")) == (kernel == "debian")
    assert bool(shell(conn, "ls /sys/bus/pci/devices 2>/dev/null; true")) == (machine == "q35")
    assert ("tsc_early_khz=" in shell(conn, "cat /proc/cmdline")) == (machine == "microvm")
    sizes = shell(conn, "cat /sys/block/vda/size /sys/block/vdb/size").split()
    assert int(sizes[0]) < int(sizes[1]) == 4 << 20  # sectors: the image first, the writable disk second


def test_an_execution(conn):
    x = conn.run("sh", "-c", "cat; echo err >&2; exit 7", stdin=b"in" * 100_000)
    assert (x.stdout, x.stderr, x.exit.code) == (b"in" * 100_000, b"err\n", 7)
    x = conn.run("tty", tty=pb.Tty(rows=24, cols=80))
    assert x.stdout.startswith(b"/dev/pts/")


def test_the_root(conn):
    mounts = {line.split()[1]: line.split()[2] for line in shell(conn, "cat /proc/mounts").splitlines()}
    assert mounts["/"] == "overlay" and mounts["/sys/fs/cgroup"] == "cgroup2"
    assert int(shell(conn, "df -m / | awk 'NR == 2 {print $2}'")) > 1900  # grown to its disk
    shell(conn, "dd if=/dev/urandom of=/big bs=1M count=16 2>/dev/null && sync && echo 3 >/proc/sys/vm/drop_caches"
                " && md5sum /big >/sum && md5sum -c /sum && rm /big")
    shell(conn, "rm /bin/vi && ! ls /bin/vi 2>/dev/null")  # a whiteout


def test_files(vm, conn):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("d/file")
        info.size = 3 << 20
        t.addfile(info, io.BytesIO(b"x" * info.size))
    with vm.bulk() as b:
        b.put(out.getvalue(), tar_in=dict(at=dict(path=b"/tmp")))
        data = b.get(tar_out=dict(at=dict(path=b"/tmp/d")))[1]
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        assert t.extractfile("d/file").read() == b"x" * (3 << 20)


def test_metrics_and_limits(vm, conn):
    shell(conn, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    with vm.bulk() as b:
        m = b.call(metrics=bulk_pb.GetMetrics()).metrics
    assert [d.name for d in m.disks] == [b"vda", b"vdb"] and m.memory.available > 100 << 20
    assert m.HasField("memory_pressure") and m.HasField("io_pressure") and m.cpu_pressure.some_us > 0
    script = "cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) && cat memory.max pids.max cpu.max"
    limits = pb.Resources(memory_max=64 << 20, pids_max=20, cpu_quota_us=50_000, cpu_period_us=200_000)
    assert shell(conn, script, resources=limits) == f"{64 << 20}\n20\n50000 200000\n"


def test_out_of_memory_is_told(conn):
    x = conn.run("sh", "-c", "x=x; while :; do x=$x$x; done", resources=pb.Resources(memory_max=16 << 20), timeout=60)
    assert (x.exit.signal, x.exit.oom_killed) == (signal.SIGKILL, True)


def test_confinement(conn):
    x = conn.run("sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true", preset=pb.PRESET_STANDARD)
    assert x.stdout.split()[1] == b"2" and b"Operation not permitted" in x.stderr
    assert shell(conn, "unshare -Ur id -u", user=b"tenon") == "0\n"
    shell(conn, "unshare -munip true")


def test_a_network_is_prepared(conn):
    """Configure was given one: the driver is there, should a card come."""
    assert "10.99.0.1/32" in shell(conn, "ip -o -4 addr show lo")
    assert shell(conn, "ls -d /sys/bus/virtio/drivers/virtio_net")


def test_what_containers_need(vm, conn):
    known = set(shell(conn, "cat /proc/filesystems").split())
    assert {"overlay", "squashfs", "ext4", "tmpfs", "mqueue", "cgroup2"} <= known
    if vm.combination[0] == "debian":
        return  # it has the rest as modules, which a box cannot load
    assert {"fuse", "virtiofs", "binfmt_misc"} <= known
    shell(conn, "ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0")
    names = set(shell(conn, "cat /proc/net/ip_tables_targets /proc/net/ip_tables_matches 2>/dev/null; true").split())
    assert {"MASQUERADE", "REJECT", "conntrack", "addrtype"} <= names
    assert int(shell(conn, "cat /proc/sys/kernel/pid_max")) >= 32768


def test_plugging(vm, conn):
    """q35 takes a device while it runs; microvm says that it does not."""
    if vm.combination[1] == "microvm":
        with pytest.raises(AssertionError, match="hotplugging|hot-plug"):
            vm.qmp("device_add", driver="virtio-rng-device", id="more")
        return
    vm.qmp("netdev_add", type="user", id="n0")
    vm.qmp("device_add", driver="virtio-net-pci", netdev="n0", id="nic", bus="plug0")
    shell(conn, "i=0; until ls /sys/class/net/eth0; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done")


def test_the_clock_keeps_pace(vm, conn):
    """By now some seconds have passed since the first look. Uptime has two digits."""
    before, first, after = vm.first_look
    earliest, last, latest = look_at_the_clock(conn)
    assert (earliest - after) * 0.995 - 0.02 < last - first < (latest - before) * 1.005 + 0.02


def test_it_powers_off(vm):
    """The last: nothing of the box is left."""
    conn = vm.connect()
    conn.call(shutdown=pb.Shutdown(grace_ms=1000))
    conn.close()
    assert vm.ended(20)["reason"] == "guest_shutdown", vm.console()


# ---- each a box of its own ----


@pytest.mark.parametrize("kernel", KERNELS)
def test_microvm_on_a_busy_host(tmp_path, kernel):
    """Without being told the processor's clock Debian's kernel spins early in its boot. It ends here by a panic."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    v = None
    try:
        v = AgentVm(make_upper(tmp_path), kernel=KERNELS[kernel], machine="microvm")
        v.configured()
        with pytest.raises(wire.Closed):
            v.conn.run("sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
        assert v.ended()["reason"] == "guest_reset" and "sysrq triggered crash" in v.console()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
        if v:
            v.close()


def test_a_box_made_on_one_machine_starts_on_the_other(make_daemon):
    d = make_daemon()
    client = d.client()
    box = client.create(image="tenon/base")["box_id"]
    look = "test -d /sys/bus/pci/devices && ls /sys/bus/pci/devices | head -n 1; cat /mark 2>/dev/null; echo made >/mark"
    assert b"made" not in client.run(box, "sh", "-c", look)[0]
    assert client.post(f"/boxes/{box}/stop").status_code == 200
    for args, pci in ((("--machine", "microvm"), False), ((), True)):
        d.process.send_signal(signal.SIGTERM)
        d.process.wait(30)
        d.process.stdout.close()
        d.args = args
        d.start()
        out = d.client().run(box, "sh", "-c", look)[0].split()
        assert out[-1] == b"made" and (len(out) > 1) == pci
        # Its network is there too: the router answers.
        out = d.client().run(box, "sh", "-c", "nc -w 1 10.0.2.2 9; ip neigh show 10.0.2.2")[0]
        assert b"dev eth0 lladdr" in out, out
        assert d.client().post(f"/boxes/{box}/stop").status_code == 200
