"""Frames of output followed the close frame that answered a client's."""

import socket
import struct

from websocket import ABNF


def test_nothing_follows_the_close_frame(client, box):
    x = client.exec(box, "head", "-c", str(8 << 20), "/dev/zero")
    x.collect()  # from the log it comes faster than a client reads
    for _ in range(60):
        ws = x.attach("?from=0", sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]).ws
        for _ in range(30):
            ws.recv_frame()
        ws.send(struct.pack("!H", 1000), ABNF.OPCODE_CLOSE)
        while ws.recv_frame().opcode != ABNF.OPCODE_CLOSE:
            pass
        assert ws.sock.recv(1) == b""
        ws.sock.close()
