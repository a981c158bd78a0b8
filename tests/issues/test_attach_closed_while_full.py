"""tenond's loop spun for five seconds after a client had closed while more was queued for it than its socket took: in
one of two cases, as the close met a frame out of memory or out of a file."""

import socket
import struct
import time

import processor
from websocket import ABNF


def close_while_full(client, box):
    x = client.exec(box, "dd", "if=/dev/zero", "bs=65536", "count=640")
    ws = x.attach(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]).ws
    while x.info()["status"] == "running":
        time.sleep(0.05)
    ws.send(struct.pack("!H", 1000), ABNF.OPCODE_CLOSE)
    while ws.recv_frame().opcode != ABNF.OPCODE_CLOSE:
        pass
    return ws


def test_a_close_behind_a_full_queue_leaves_nothing_to_do(daemon, client, box):
    spent = []
    for _ in range(8):
        ws = close_while_full(client, box)
        spent.append(processor.used_within(daemon.process.pid, 0.5))
        ws.sock.close()
    assert max(spent) < 0.25, spent
