"""Tunnels to ports of a real box: CONNECT, raw bytes both ways, half-close, backpressure."""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from urllib.parse import urlsplit

import pytest

from client import error_of, receive_all

HAVE = "command -v nc >/dev/null || exit 42"


def tunnel(client, box, port):
    r = client.post(f"/boxes/{box}/network/tunnel", params={"port": port})
    assert r.status_code == 200, r.text
    at = urlsplit(r.json()["uri"])
    assert at.scheme == "http"
    return at.hostname, at.port


def connect(at, behind=b""):
    """A tunnel by CONNECT: (socket, what came behind the answer's head)."""
    s = socket.create_connection(at, timeout=30)
    s.sendall(f"CONNECT {at[0]}:{at[1]} HTTP/1.1\r\nHost: {at[0]}:{at[1]}\r\n\r\n".encode() + behind)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = s.recv(4096)
        assert piece, head
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    return s, head, rest


@pytest.fixture
def serve(client, box):
    """Runs a server on a port of the box, once for each connection."""
    running, next_port = [], iter(range(7100, 7200))

    def start(command):
        port = next(next_port)
        x = client.exec(box, "sh", "-c", f"{HAVE}; while :; do nc -l -p {port} -e {command}; done", stdin="")
        running.append(x)
        for _ in range(200):
            listening, _, _ = client.run(box, "sh", "-c", f"grep -qi ':{port:04x} .* 0A ' /proc/net/tcp* && echo yes")
            if listening == b"yes\n":
                return port
            if x.info()["status"] != "running":
                assert x.info()["exit_code"] != 42, "the box has no nc"
        raise AssertionError("nobody listens")

    yield start
    for x in running:
        x.kill()


def test_bytes_both_ways_and_half_close(client, box, serve):
    at = tunnel(client, box, serve("cat"))
    s, head, rest = connect(at, b"early ")
    assert head.startswith(b"HTTP/1.1 200")
    s.sendall(b"and late")
    s.shutdown(socket.SHUT_WR)  # cat ends at the end of its input, and not before
    assert rest + receive_all(s) == b"early and late"


def test_a_service_is_reachable_without_connect(client, box, serve):
    at = tunnel(client, box, serve("cat"))
    with socket.create_connection(at, timeout=30) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        assert receive_all(s) == b"GET / HTTP/1.0\r\n\r\n"


def test_much_passes_whole(client, box, serve):
    at = tunnel(client, box, serve("cat"))
    data = os.urandom(1 << 20) * 24
    s, _, rest = connect(at)
    s.settimeout(100)

    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    got = rest + receive_all(s)
    sender.join()
    assert len(got) == len(data) and hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_nobody_listens(client, box):
    at = tunnel(client, box, 7099)
    s = socket.create_connection(at, timeout=30)
    s.sendall(b"CONNECT x:1 HTTP/1.1\r\n\r\n")
    assert receive_all(s).startswith(b"HTTP/1.1 502")


def test_the_same_again_and_by_name(client, box):
    assert tunnel(client, box, 7098) == tunnel(client, "shared", 7098) != tunnel(client, box, 7097)


@pytest.mark.parametrize("query", ["", "?port=", "?port=0", "?port=65536", "?port=x"])
def test_bad_ports(client, box, query):
    r = client.post(f"/boxes/{box}/network/tunnel{query}")
    assert (r.status_code, error_of(r)["field"]) == (400, "port")


@pytest.mark.parametrize("head", [b"CONNECT x:1\r\n\r\n", b"CONNECT x:1 SPDY/1\r\n\r\n", b"CONNECT " + b"x" * 9000])
def test_bad_heads(client, box, head):
    with socket.create_connection(tunnel(client, box, 7096), timeout=30) as s:
        s.sendall(head)
        assert receive_all(s).startswith(b"HTTP/1.1 400")


def test_a_tunnel_can_be_revoked(client, box, serve):
    port = serve("cat")
    at = tunnel(client, box, port)
    s, _, rest = connect(at, b"x")
    while rest != b"x":
        rest += s.recv(1)
    assert client.delete(f"/boxes/{box}/network/tunnel?port={port}").status_code == 204
    assert receive_all(s) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(at, timeout=30)
    assert error_of(client.delete(f"/boxes/{box}/network/tunnel?port={port}"))["code"] == "not_found"
    s, _, _ = connect(tunnel(client, box, port))  # and made anew
    s.close()


AS_NOBODY = '''
import socket, sys, urllib.request
if sys.argv[3]:
    urllib.request.urlopen(urllib.request.Request(sys.argv[3], method="POST"), timeout=30).read()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as s:
    try:
        s.sendall(b"hello")
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # turned away before
    got = b""
    try:
        while piece := s.recv(4096):
            got += piece
    except ConnectionResetError:
        pass
print(got.split(b"\\r\\n")[0].decode())
'''


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process needs root to be started")
def test_a_tunnel_is_for_those_who_asked_for_it(client, box, serve):
    port = serve("cat")
    at = tunnel(client, box, port)

    def another_user(url=""):
        command = ["/usr/bin/python3", "-c", AS_NOBODY, at[0], str(at[1]), url]
        return subprocess.run(command, user=65534, capture_output=True, text=True, timeout=60, env={"no_proxy": "*"})

    done = another_user()
    assert done.stdout == "HTTP/1.1 403 Forbidden\n", done.stderr
    done = another_user(f"{client.url}/boxes/{box}/network/tunnel?port={port}")
    assert done.stdout == "hello\n", done.stderr
    assert another_user().stdout == "hello\n"  # from now on
    assert tunnel(client, box, port) == at


def test_a_tunnel_goes_with_its_box(client):
    b = client.create(image="tenon/base")["box_id"]
    at = tunnel(client, b, 80)
    client.remove(b)
    # The first to come finds that the box is gone, and the listener goes, too.
    with contextlib.suppress(ConnectionError), socket.create_connection(at, timeout=30) as s:
        assert receive_all(s) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(at, timeout=30)
