"""HTTPS: everything that works without it, over a certificate made here. The unix socket stays plain."""

import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest
import requests
import websocket

ROOT = Path(__file__).resolve().parents[2]
TENOND = ROOT / "build/bin/tenond"
TENON = ROOT / "build/bin/tenon"


def make_certificate(folder, name):
    """A self-made certificate for this machine's loopback: (certificate, key)."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), "tenon-test")


@pytest.fixture(scope="module")
def tls_daemon(make_daemon, files):
    return make_daemon("--tls-cert", files[0], "--tls-key", files[1], ca=files[0])


@pytest.fixture(scope="module")
def tls(tls_daemon):
    return tls_daemon.client()


@pytest.fixture(scope="module")
def tls_box(tls):
    box = tls.create(name="secure", image="tenon/base")["box_id"]
    yield box
    tls.remove(box)


def test_calls_and_streams(tls_daemon, tls, tls_box):
    assert tls_daemon.url.startswith("https://")
    out, err, end = tls.run(tls_box, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (out, err, end["exit_code"]) == (b"out\n", b"err\n", 3)
    # More than any buffer on the way, up and down, and as events.
    data = os.urandom(3 << 20)
    where = f"/boxes/{tls_box}/files/content?path=/root/blob"
    assert tls.call("PUT", where, data=data).status_code == 204
    assert tls.get(where).content == data
    out, _, end = tls.run(tls_box, "cat", "/root/blob")
    assert out == data and end["exit_code"] == 0


def test_websocket(tls, tls_box, files):
    x = tls.exec(tls_box, "sh", "-c", "head -c 2000000 | sha256sum; head -c 2000000 /dev/zero | tr '\\0' x")
    a = x.attach(sslopt={"ca_certs": str(files[0])})
    data = os.urandom(2000000)

    def feed():
        for at in range(0, len(data), 65536):
            a.send(data[at : at + 65536])
        a.control(type="stdin_eof")

    feeder = threading.Thread(target=feed)
    feeder.start()
    out, err, texts, code = a.collect()
    feeder.join(30)
    assert out == hashlib.sha256(data).hexdigest().encode() + b"  -\n" + b"x" * 2000000
    assert texts[-1] == {"type": "exit", "exit_code": 0} and code == 1000
    assert a.pings, "no sign of life was sent"
    assert a.ws.sock.recv(1) == b""


def test_a_client_that_leaves_is_noticed(tls, tls_box, files):
    x = tls.exec(tls_box, "cat")
    a = x.attach(sslopt={"ca_certs": str(files[0])})
    a.drop()
    # The place is free again once the connection's end was seen: not by the next ping, which is 15 s away.
    deadline = time.monotonic() + 10
    b = None
    while b is None:
        try:
            b = x.attach(sslopt={"ca_certs": str(files[0])})
        except websocket.WebSocketBadStatusException as refused:
            assert refused.status_code == 409 and time.monotonic() < deadline
            time.sleep(0.1)
    b.send(b"here")
    b.control(type="stdin_eof")
    assert b.collect()[0] == b"here"


def test_tunnels(tls, tls_box):
    """They are asked for over TLS. What comes back is plain, and a port of this machine alone."""
    x = tls.exec(tls_box, "sh", "-c", "while :; do nc -l -p 7000 -e cat; done", stdin="")
    listens = "until grep -qi ':1b58 .* 0A ' /proc/net/tcp*; do sleep 0.05; done"
    assert tls.run(tls_box, "sh", "-c", listens, timeout_seconds=30)[2]["exit_code"] == 0
    uri = tls.post(f"/boxes/{tls_box}/network/tunnel?port=7000").json()["uri"]
    with socket.create_connection(("127.0.0.1", int(uri.rsplit(":", 1)[1])), timeout=30) as s:
        s.sendall(b"CONNECT " + uri.split("//")[1].encode() + b" HTTP/1.1\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += s.recv(1)
        assert head.startswith(b"HTTP/1.1 200 ")
        s.sendall(b"ping")
        assert s.recv(4) == b"ping"
    x.kill()


def test_the_command_line(tls_daemon, tls_box, files):
    def tenon(*args, **env):
        return subprocess.run(
            [str(TENON), "--host", tls_daemon.url, *args],
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            env=dict(os.environ, **env),
        )

    done = tenon("--cacert", str(files[0]), "exec", "secure", "echo", "hello")
    assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr
    assert tenon("exec", "secure", "true", TENON_CA_FILE=str(files[0])).returncode == 0
    done = tenon("ps")
    assert done.returncode == 125 and "--cacert" in done.stderr


def test_what_is_not_tls_gets_nothing(tls_daemon, tls, files):
    with socket.create_connection(("127.0.0.1", tls_daemon.port), timeout=10) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        try:
            while piece := s.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
        assert b"HTTP/1.1" not in answer and b"status" not in answer
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(files[0])
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", tls_daemon.port), timeout=10) as s:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            old.wrap_socket(s, server_hostname="localhost")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(tls_daemon.url + "/healthz", timeout=10)
    assert tls.get("/config").status_code == 200


def test_the_certificate_is_read_again(make_daemon, tmp_path):
    cert, key = make_certificate(tmp_path, "first")
    d = make_daemon("--tls-cert", cert, "--tls-key", key, "--unix", tmp_path / "s", ca=cert)

    def shown():
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", d.port), timeout=10))

    def reload():
        d.process.send_signal(signal.SIGHUP)
        # The signal and this request are taken in one loop: when the second is answered, the first was too.
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(str(tmp_path / "s"))
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while piece := s.recv(4096):
                    answer += piece
                assert b'{"status":"ok"}' in answer

    first = shown()
    kept = d.client()
    assert kept.get("/config").status_code == 200
    new_cert, new_key = make_certificate(tmp_path, "second")
    cert.write_bytes(new_cert.read_bytes())
    reload()  # the key does not belong to it: refused, and the old one serves on
    assert shown() == first
    assert "certificate stays as it is" in d.log_tail()
    key.write_bytes(new_key.read_bytes())
    reload()
    assert shown() == ssl.PEM_cert_to_DER_cert(new_cert.read_text())
    assert kept.get("/config").status_code == 200  # a connection that stands is not disturbed


@pytest.mark.parametrize("wrong", ["missing", "garbage", "empty", "folder", "other key", "alone"])
def test_bad_files_are_named_at_the_start(tmp_path, files, wrong):
    cert, key = files
    runtime = tempfile.mkdtemp(prefix="tn-", dir="/tmp")  # sockets have short names
    if wrong == "missing":
        cert = tmp_path / "none.pem"
    elif wrong == "folder":
        cert = tmp_path
    elif wrong == "other key":
        key = make_certificate(tmp_path, "other")[1]
    elif wrong in ("garbage", "empty"):
        cert = tmp_path / "bad.pem"
        cert.write_text("not a certificate\n" if wrong == "garbage" else "")
    args = ["--tls-cert", cert] + ([] if wrong == "alone" else ["--tls-key", key])
    done = subprocess.run(
        [str(TENOND), "--listen", "127.0.0.1:0", "--no-auth", "--state", str(tmp_path / "state"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ, XDG_RUNTIME_DIR=runtime),
    )
    shutil.rmtree(runtime)
    assert done.returncode == 1 and "ready" not in done.stdout
    assert ("--tls-key" if wrong == "alone" else str(key if wrong == "other key" else cert)) in done.stderr
