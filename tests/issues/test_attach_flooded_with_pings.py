"""Output did not go on for a client that had filled its socket with our pongs: nothing called the writer again."""

import socket

from websocket import ABNF

PINGS = (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 1000


def test_output_goes_on_after_the_flood(client, box):
    x = client.exec(box, "sh", "-c", "read line; echo after")
    ws = x.attach(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]).ws
    ws.sock.settimeout(1)
    try:
        while True:
            ws.sock.send(PINGS)
    except TimeoutError:
        pass  # nothing is read any more: the pongs have filled what there is
    assert x.write(b"line\n").status_code == 204
    assert x.collect()[0] == b"after\n"
    ws.sock.settimeout(60)
    while (frame := ws.recv_frame()).opcode != ABNF.OPCODE_BINARY:
        assert frame.opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG)
    assert frame.data == b"\x01after\n"
    ws.sock.close()
