"""A box that gave a link in one `tenon cp` and a file of that name in the next one wrote to the link's target: any file
of the user's on this host."""

import http.server
import io
import os
import subprocess
import tarfile
import threading
from pathlib import Path

TENON = Path(os.environ.get("TENON", Path(__file__).resolve().parents[2] / "build/bin/tenon"))


def archive(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == tarfile.SYMTYPE:
                info.linkname = content
                content = ""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def test_a_copy_never_follows_a_link_that_came_before_it(tmp_path):
    victim, target = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    target.mkdir()

    class Tenond(http.server.BaseHTTPRequestHandler):
        body = b""

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("X-File-Type", "directory")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(Tenond.body)))
            self.end_headers()
            self.wfile.write(Tenond.body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tenond)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for member in [("d/f", tarfile.SYMTYPE, str(victim)), ("d/f", tarfile.REGTYPE, "theirs")]:
            Tenond.body = archive(("d", tarfile.DIRTYPE, ""), member)
            r = subprocess.run(
                [str(TENON), "--host", f"http://127.0.0.1:{server.server_port}", "cp", "box:/d", str(target)],
                capture_output=True, text=True, timeout=60, env=dict(os.environ, TENON_KEY="k"),
            )
            assert r.returncode == 0, r.stderr
    finally:
        server.shutdown()
        server.server_close()
    assert victim.read_text() == "mine"
    assert not (target / "d/f").is_symlink() and (target / "d/f").read_text() == "theirs"
