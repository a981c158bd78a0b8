"""`tenon exec BOX sleep 200` gave up: curl's low-speed limit took a stream with only comments in it for dead."""

import base64
import http.server
import json
import os
import subprocess
import threading
import time
from pathlib import Path

TENON = Path(os.environ.get("TENON", Path(__file__).resolve().parents[2] / "build/bin/tenon"))
QUIET = 63  # seconds; the command line takes 60 without any byte for a dead daemon


class Tenond(http.server.BaseHTTPRequestHandler):
    streams = 0

    def do_GET(self):
        if not self.path.endswith("/output"):
            return self.reply(200, {"box_id": "b"})
        Tenond.streams += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        end = time.monotonic() + QUIET
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 15))
            self.wfile.write(b":\n\n")
        data = base64.b64encode(b"late\n").decode()
        self.wfile.write(b'event: stdout\nid: 5\ndata: {"data":"%s"}\n\n' % data.encode())
        self.wfile.write(b'event: exit\nid: 5\ndata: {"exit_code":0}\n\n')

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(201, {"execution_id": "e", "box_id": "b"})

    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def test_a_quiet_command_keeps_its_stream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tenond)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = dict(os.environ, TENON_HOST=f"http://127.0.0.1:{server.server_port}", TENON_KEY="x")
    try:
        r = subprocess.run([str(TENON), "exec", "b", "--", "sleep", "63"], env=env, capture_output=True, timeout=120)
    finally:
        server.shutdown()
    assert (r.returncode, r.stdout, r.stderr) == (0, b"late\n", b"")
    assert Tenond.streams == 1
