"""tenon-net without a VM: what its guest would send, made by hand, since no kernel would send most of it."""

import ipaddress
import os
import socket
import struct
import subprocess
from pathlib import Path

NET = Path(__file__).resolve().parents[2] / "build/bin/tenon-net"
MAC = bytes.fromhex("525400123456")
GATEWAY_MAC = bytes.fromhex("52550a000202")
GUEST = {4: ipaddress.ip_address("10.0.2.15"), 6: ipaddress.ip_address("fec0::15")}
SYN, RST, ACK = 2, 4, 16
TCP, UDP = 6, 17


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(to, protocol, body, check_at):
    """An Ethernet frame from the guest, with the checksums that libslirp looks at."""
    to = ipaddress.ip_address(to)
    source = GUEST[to.version]
    pseudo = source.packed + to.packed + struct.pack("!II", len(body), protocol)
    body = body[:check_at] + struct.pack("!H", checksum(pseudo + body) or 0xFFFF) + body[check_at + 2:]
    if to.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source.packed + to.packed
        return GATEWAY_MAC + MAC + b"\x86\xdd" + head + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + source.packed + to.packed
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return GATEWAY_MAC + MAC + b"\x08\x00" + head + body


def tcp(to, port, source=40000, flags=SYN, sequence=1):
    return packet(to, TCP, struct.pack("!HHIIBBHHH", source, port, sequence, 0, 0x50, flags, 65000, 0, 0), 16)


def udp(to, port, data, source=40000):
    return packet(to, UDP, struct.pack("!HHHH", source, port, 8 + len(data), 0) + data, 6)


class Network:
    """One tenon-net and its guest's end. command: what stands before it, to start it elsewhere."""

    def __init__(self, *command):
        self.guest, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.guest.settimeout(20)
        fd = theirs.fileno()
        self.process = subprocess.Popen([*command, NET, str(fd)], pass_fds=[fd], stderr=subprocess.PIPE)
        theirs.close()
        # It learns where the guest is before it has anything for it.
        for version, gateway in ((4, "10.0.2.2"), (6, "fec0::2")):
            self.introduce(version, ipaddress.ip_address(gateway))

    def introduce(self, version, gateway):
        own = GUEST[version].packed
        if version == 4:
            head = b"\xff" * 6 + MAC + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1)
            self.guest.send(head + MAC + own + bytes(6) + gateway.packed)
        else:
            solicit = struct.pack("!BBHI", 135, 0, 0, 0) + gateway.packed + b"\x01\x01" + MAC
            frame = bytearray(packet(gateway, 58, solicit, 2))
            frame[21] = 255  # the hop limit that proves a neighbour
            self.guest.send(frame)

    def settle(self):
        """Until all that was sent is through, as the answer to one more frame tells; what else came is dropped."""
        self.introduce(4, ipaddress.ip_address("10.0.2.2"))
        while self.guest.recv(1 << 16)[12:14] != b"\x08\x06":
            pass

    def send(self, *frames):
        for frame in frames:
            self.guest.send(frame)

    def receive(self, wanted):
        """The first frame for which wanted(protocol, source address, its port, our port, the rest) is true."""
        while True:
            frame = self.guest.recv(1 << 16)
            kind, ip = frame[12:14], frame[14:]
            if kind == b"\x08\x00":
                protocol, source, body = ip[9], ip[12:16], ip[20:]
            elif kind == b"\x86\xdd":
                protocol, source, body = ip[6], ip[8:24], ip[40:]
            else:
                continue
            if protocol in (TCP, UDP):
                theirs, ours = struct.unpack("!HH", body[:4])
                if wanted(protocol, ipaddress.ip_address(source), theirs, ours, body):
                    return body

    def answer(self, to, port, source=40000):
        """The TCP flags that come back from there."""
        to = ipaddress.ip_address(to)
        return self.receive(lambda p, a, theirs, ours, _: (p, a, theirs, ours) == (TCP, to, port, source))[13]

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stderr.close()
        self.guest.close()
