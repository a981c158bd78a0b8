"""The network of a box: what lies outside this host is reached, and what belongs to it alone is not."""

import ipaddress
import json
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from frames import ACK, NET, RST, SYN, UDP, Network, tcp, udp
from vmm import VMM, Vmm

HOST_ONLY = [
    "127.0.0.1", "127.0.0.53", "127.1.2.3", "0.0.0.0", "10.0.2.2", "10.0.2.3", "10.0.2.4", "10.0.2.15", "10.0.2.255",
    "169.254.169.254", "255.255.255.255", "224.0.0.1", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "fec0::2",
    "fec0::3", "fec0::15", "fe80::1", "fe80::2", "ff02::1",
]  # fmt: skip


def own_address(family, far):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((far, 9))  # nothing is sent
        return s.getsockname()[0]


@pytest.fixture(scope="module")
def outside():
    """Addresses that stand for the world outside: {4: …, 6: …}. Those that no machine has (RFC 2544, and a unique
    local one), put on lo, so that their every port is ours; without the right to do so this machine's own."""
    n = random.randrange(1 << 16)
    wanted = {4: f"198.18.{n >> 8}.{n & 255}/32", 6: f"fd00:7e60::{n:x}/128"}
    got = {}
    for version, address in wanted.items():
        if subprocess.run(["ip", "address", "add", address, "dev", "lo"], capture_output=True).returncode == 0:
            got[version] = address
    yield {v: a.split("/")[0] for v, a in got.items()} or {4: own_address(socket.AF_INET, "192.0.2.1")}
    for address in got.values():
        subprocess.run(["ip", "address", "del", address, "dev", "lo"], check=True)


def listen(kind, address="", port=0):
    """On all addresses of this host, loopback and others, of both families; or on one."""
    family = socket.AF_INET if "." in address else socket.AF_INET6
    s = socket.socket(family, kind)
    s.settimeout(20)
    if not address:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen(2048)
    return s


@pytest.fixture
def net():
    n = Network()
    yield n
    n.close()


def name_of(address):
    """As accept and recvfrom of a socket of both families give it."""
    ip = ipaddress.ip_address(address[0])
    return str(getattr(ip, "ipv4_mapped", None) or ip)


# ---- frames that no kernel would send ----


def test_no_frame_reaches_what_is_only_this_hosts(net, outside):
    with listen(socket.SOCK_STREAM) as stream, listen(socket.SOCK_DGRAM) as datagrams:
        tcp_port, udp_port = stream.getsockname()[1], datagrams.getsockname()[1]
        for i, address in enumerate(HOST_ONLY):
            net.send(tcp(address, tcp_port, 41000 + i), udp(address, udp_port, b"inside", 41000 + i))
        # Frames are taken in order: when these have come, those before are through.
        for address in outside.values():
            net.send(tcp(address, tcp_port), udp(address, udp_port, b"outside"))
            assert net.answer(address, tcp_port) == SYN | ACK
            accepted, peer = stream.accept()
            accepted.close()
            assert name_of(peer) == address
            data, peer = datagrams.recvfrom(100)
            assert (data, name_of(peer)) == (b"outside", address)
        assert select.select([stream, datagrams], [], [], 0)[0] == []


def test_of_the_resolver_only_dns(net, outside):
    """A resolver on the loopback answers at 10.0.2.3, where nothing else of the loopback is."""
    address = next(iter(outside.values()))
    with listen(socket.SOCK_STREAM) as there:
        port = there.getsockname()[1]
        net.send(*(tcp("10.0.2.3", p, 42000) for p in (1, 22, 54, 80, port)), tcp(address, port))
        assert net.answer(address, port) == SYN | ACK  # and so it is the first that came back
        assert name_of(there.accept()[1]) == address


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 and another /etc/resolv.conf are root's")
def test_a_resolver_on_the_loopback(tmp_path):
    loopback = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
    (tmp_path / "resolv.conf").write_text(f"nameserver {loopback}\n")
    n = Network("unshare", "-m", "sh", "-c", f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$@"', "sh")
    try:
        with listen(socket.SOCK_DGRAM, loopback, 53) as resolver:
            n.send(udp("10.0.2.3", 53, b"question"))
            data, peer = resolver.recvfrom(100)
            assert data == b"question"
            resolver.sendto(b"answer", peer)
            came = n.receive(lambda p, a, theirs, _, body: p == UDP and theirs == 53)
            assert came[8:] == b"answer"
    finally:
        n.close()


def test_few_rights(net, outside):
    net.send(udp(next(iter(outside.values())), 9, b"x"))
    with listen(socket.SOCK_STREAM) as there:  # it serves, so it is confined
        port = there.getsockname()[1]
        net.send(tcp(next(iter(outside.values())), port))
        there.accept()[0].close()
    status = dict(line.split(":\t") for line in open(f"/proc/{net.process.pid}/status").read().splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"], status["CapEff"].strip("0")) == ("2", "1", "")
    assert "0" not in status["Uid"].split()
    if os.geteuid() == 0:
        assert "0" not in status["Gid"].split() and status["Groups"].strip() == ""


def test_many_connections_are_bounded_and_others_go_on(net, outside):
    address = next(iter(outside.values()))
    with listen(socket.SOCK_STREAM) as there:
        port = there.getsockname()[1]
        for source in range(20000, 21500):
            net.send(tcp(address, port, source))
            if source % 50 == 0:
                net.settle()
        assert 1000 < net.fds() <= 1024 + 8
        accepted = [there.accept()[0] for _ in range(900)]
        # Those that end make room.
        for source in range(20000, 20100):
            net.send(tcp(address, port, source, RST, 2))
        net.send(tcp(address, port, 39000))
        assert net.answer(address, port, 39000) == SYN | ACK
        for s in accepted:
            s.close()
    assert net.process.poll() is None


def test_noise_ends_nothing(net, outside):
    random.seed(7)
    address = next(iter(outside.values()))
    with listen(socket.SOCK_STREAM) as there:
        port = there.getsockname()[1]
        good = [bytearray(tcp(address, port, 30001)), bytearray(udp(address, port, b"x" * 40)), bytearray(tcp("10.0.2.3", 53))]
        for i in range(5000):
            frame = bytearray(random.choice(good))
            for _ in range(random.randrange(1, 6)):
                frame[random.randrange(14, len(frame))] = random.randrange(256)
            net.send(frame[: random.randrange(len(frame))] if i % 4 == 0 else frame)
        net.send(b"", b"x", random.randbytes(65000), tcp(address, port, 39000))
        assert net.answer(address, port, 39000) == SYN | ACK
    assert net.process.poll() is None


# ---- boxes ----


@pytest.fixture(scope="module")
def networked(make_daemon, outside):
    """A client of a tenond whose boxes ask a resolver of ours, if we may have its port."""
    daemon = make_daemon(*(["--dns", outside[4]] if os.geteuid() == 0 else []))
    c = daemon.client()
    c.daemon = daemon
    return c


@pytest.fixture(scope="module")
def connected(networked):
    b = networked.create(name="connected", image="tenon/base")["box_id"]  # as if nothing was said of a network
    said, _ = sh(networked, b, "ip -o link show dev eth0")  # which starts it
    assert "NO-CARRIER" not in said and "mtu 65520" in said, said  # the first packet would be lost otherwise
    return b


def sh(client, box, script):
    out, err, end = client.run(box, "sh", "-c", script)
    return out.decode() + err.decode(), end["exit_code"]


def test_tcp_both_ways(networked, connected, outside):
    """Also what is larger than all windows, and half-closed."""
    for address in outside.values():
        with listen(socket.SOCK_STREAM) as there:
            port = there.getsockname()[1]
            job = networked.exec(connected, "sh", "-c", f"seq 200000 | nc {address} {port} | tail -n 1", stdin="")
            s, peer = there.accept()
            assert name_of(peer) == address
            with s, s.makefile("rb") as f:
                lines = f.read()
                assert lines == b"".join(b"%d\n" % i for i in range(1, 200001))
                s.sendall(lines + b"end\n")
            assert job.collect()[0] == b"end\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 is root's")
def test_names_are_looked_up(networked, connected, outside):
    """By UDP; busybox has nothing else that speaks it both ways."""

    def serve(s):
        for _ in range(2):
            question, peer = s.recvfrom(512)
            kind = struct.unpack("!H", question[12:].split(b"\0", 1)[1][:2])[0]
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([203, 0, 113, 7]) if kind == 1 else b""
            s.sendto(question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0) + question[12:] + answer, peer)

    with listen(socket.SOCK_DGRAM, outside[4], 53) as resolver:
        t = threading.Thread(target=serve, args=[resolver])
        t.start()
        said, code = sh(networked, connected, "cat /etc/resolv.conf; nslookup box.example")
        t.join(20)
    assert said.startswith(f"nameserver {outside[4]}\n")
    assert code == 0 and "203.0.113.7" in said, said


def test_a_box_knows_itself(networked, connected):
    said, _ = sh(networked, connected, "cat /etc/hosts; hostname; ip -o address show dev eth0; ip route; ip -6 route")
    assert "10.0.2.15 connected\n" in said and "127.0.0.1 localhost\n" in said
    assert "inet 10.0.2.15/24 " in said and "inet6 fec0::15/64 " in said
    assert "default via 10.0.2.2 dev eth0" in said and "default via fec0::2 dev eth0" in said


def test_the_hosts_loopback_is_not_there(networked, connected):
    """tenond listens there itself, here without any key. Also when the guest's kernel is told to send such packets."""
    with listen(socket.SOCK_STREAM) as there:
        ports = f"{networked.daemon.port} {there.getsockname()[1]}"
        script = f"""
            ip link set lo down
            ip address flush dev lo
            ip route flush table local dev lo
            echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
            ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0 src 10.0.2.15
            ip -6 route add ::1/128 via fec0::2 dev eth0
            ip route get 127.0.0.1
            for port in {ports}; do
                for a in 127.0.0.1 127.0.0.53 10.0.2.2 10.0.2.3 169.254.169.254 ::1 fec0::2 fec0::3; do
                    timeout 3 nc $a $port </dev/null >/dev/null 2>&1 && echo "$a $port is there" &
                done
            done
            wait
            ip route del 127.0.0.0/8
            ip link set lo up"""
        said, _ = sh(networked, connected, script)
        assert said.startswith("127.0.0.1 via 10.0.2.2 dev eth0") and "is there" not in said, said
        assert select.select([there], [], [], 0)[0] == []


def test_a_flood_harms_nobody_else(networked, connected, outside):
    with listen(socket.SOCK_STREAM) as there:
        port = there.getsockname()[1]
        flood = f"""
            for i in $(seq 8); do yes floodfloodflood | nc {outside[4]} {port} & done
            for i in $(seq 200); do nc {outside[4]} {port} </dev/null >/dev/null & done
            wait"""
        job = networked.exec(connected, "sh", "-c", flood, stdin="")
        accepted = [there.accept()[0] for _ in range(100)]
        took = [networked.get("/boxes").elapsed.total_seconds() for _ in range(50)]
        came = sum(len(s.recv(1 << 20)) for s in select.select(accepted, [], [], 0)[0])
        for s in accepted:
            s.close()
    assert came > 1000 and max(took) < 5, (came, took)
    job.kill()
    assert sh(networked, connected, "echo alive") == ("alive\n", 0)


def processes_of(pid):
    """{name: pid} of the children of a process."""
    got = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            got[name] = int(stat.parent.name)
    return got


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def wait_gone(pid, seconds=20):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], seconds)[0], f"{pid} is there still"
    finally:
        os.close(fd)


def test_without_a_network_there_is_no_card(networked):
    b = networked.create(name="alone", network={"outbound": {"mode": "disabled"}, "inbound": {"mode": "enabled"}})["box_id"]
    said, _ = sh(networked, b, "ls /sys/class/net; cat /etc/hosts; ip route")
    info = networked.get(f"/boxes/{b}").json()
    assert "lo\n" in said and "eth0" not in said and "default" not in said
    assert "127.0.1.1 alone\n" in said
    assert "tenon-net" not in processes_of(parent_of(info["pid"]))
    assert b"netdev" not in Path(f"/proc/{info['pid']}/cmdline").read_bytes()
    networked.remove(b)


def test_run_takes_dockers_words(networked):
    def run(*args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("TENON")} | {"TENON_HOST": networked.daemon.url}
        command = [VMM.parent / "tenon", "run", "--rm", *args, "tenon/base", "ls", "/sys/class/net"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, stdin=subprocess.DEVNULL)

    there = run("--network", "none").stdout.split()
    assert "lo" in there and "eth0" not in there  # a kernel may bring dummies of its own
    r = run("--network", "host")
    assert r.returncode == 125 and "--network host" in r.stderr


def test_a_box_whose_network_dies_fails_and_says_so(networked, connected):
    """The last one that uses the box."""
    vmm = parent_of(networked.get(f"/boxes/{connected}").json()["pid"])
    job = networked.exec(connected, "sleep", "1000")
    os.kill(processes_of(vmm)["tenon-net"], 9)
    wait_gone(vmm)
    assert job.collect()[2]["exit_code"] != 0
    info = networked.get(f"/boxes/{connected}").json()
    assert info["status"] == "failed", info
    assert "the network is broken: tenon-net was ended by signal 9" in info["error"], info


# ---- tenon-vmm ----


def test_the_network_ends_with_tenon_vmm():
    v = Vmm(VMM, "--network")  # nothing to boot: all that counts is that QEMU runs
    try:
        assert v.ready == "ready"
        child = processes_of(v.process.pid)["tenon-net"]
        v.process.kill()
        wait_gone(child)
    finally:
        v.close()


def test_without_its_program_the_start_fails_and_says_so(tmp_path, monkeypatch):
    shutil.copy(VMM, tmp_path / "tenon-vmm")
    monkeypatch.setattr("vmm.VMM", tmp_path / "tenon-vmm")
    v = Vmm(VMM, "--network")
    try:
        assert f"starting {tmp_path}/tenon-net: No such file" in v.ready
        assert v.ended()["reason"] == "start_failed"
    finally:
        v.close()


def test_usage():
    r = subprocess.run([NET], capture_output=True, text=True, timeout=10)
    assert r.returncode == 2 and "usage" in r.stderr
    # What is no socket ends it, with a word.
    with open("/dev/null") as f:
        fd = f.fileno()
        r = subprocess.run([NET, str(fd)], pass_fds=[fd], capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and json.dumps("receiving from QEMU")[1:-1] in r.stderr
