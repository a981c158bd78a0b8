"""A client that sends its upgrade and a frame in one packet, to an execution that has ended: the close frame went out
before that frame was read, and tenond's loop spun until the client had closed, for five seconds at most."""

import os

import processor

UPGRADE = ("GET /v1{path}/attach HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def test_a_frame_behind_the_upgrade_leaves_nothing_to_do(daemon, client, box):
    x = client.exec(box, "echo", "out", stdin="")
    x.collect()
    with client.connect() as s:
        s.sendall(UPGRADE.format(path=x.path).encode() + b"\x89\x84" + os.urandom(4) + b"ping")
        got = b""
        while b"\x88" not in got.partition(b"\r\n\r\n")[2]:
            piece = s.recv(65536)
            assert piece, got
            got += piece
        assert b"\x01out\n" in got and b"exit" in got
        assert processor.used_within(daemon.process.pid, 1) < 0.25
