"""Clients of attach that only talk: what is owed to one that does not read must not pile up in tenond."""

import base64
import os
import socket

import pytest

FLOOD = 48 << 20  # bytes that the client would like to send
GROWTH_KIB = 16 << 10
MASK = bytes(4)


def frame(opcode, payload=b""):
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + MASK + payload


def rss_kib(daemon):
    for line in open(f"/proc/{daemon.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def open_attach(client, x):
    s = client.connect()
    key = base64.b64encode(os.urandom(16)).decode()
    host = client.url.split("/")[2]
    prefix = client.url.split(host, 1)[1]
    s.sendall(
        f"GET {prefix}{x.path}/attach HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        piece = s.recv(1)
        assert piece, head
        head += piece
    assert b" 101 " in head, head
    return s


def flood(s, unit):
    """Sends until all is gone or nothing moved for two seconds; never reads."""
    block = unit * (65536 // len(unit))
    s.settimeout(2)
    sent, rest = 0, block
    while sent < FLOOD:
        try:
            n = s.send(rest)
        except socket.timeout:
            return
        sent += n
        rest = rest[n:] or block


@pytest.mark.parametrize(
    "unit",
    [
        frame(9),
        frame(9, b"p" * 125),
        frame(1, b"{}"),
        frame(1, b'{"type":"resize","rows":1,"cols":2}'),
        frame(1, b'{"type":"signal","sig":18}'),
    ],
    ids=["pings", "long pings", "bad messages", "resizes", "signals"],
)
def test_a_client_that_talks_and_never_reads(daemon, client, box, unit):
    x = client.exec(box, "sleep", "600")
    before = rss_kib(daemon)
    with open_attach(client, x) as s:
        flood(s, unit)
        grown = rss_kib(daemon) - before
        assert client.get(x.path).status_code == 200
        assert grown < GROWTH_KIB, f"{grown} KiB more"
    x.kill_and_wait()
