"""OCI images made by hand: layers of any entries, in any packing, with any lie in the manifest."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(name, data=None, **more):
    """A tar entry and its bytes. Without data and type a folder."""
    t = tarfile.TarInfo(name)
    t.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
    t.mode = 0o644 if data is not None else 0o755
    t.mtime = 1_600_000_000
    t.size = len(data or b"")
    for key, value in more.items():
        setattr(t, key, value)
    return t, data or b""


def link(name, target, **more):
    return entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777, **more)


def hard(name, target, **more):
    return entry(name, type=tarfile.LNKTYPE, linkname=target, **more)


def device(name, major, minor, kind=tarfile.CHRTYPE, **more):
    return entry(name, type=kind, devmajor=major, devminor=minor, **more)


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


class Image:
    """Layers are tars; packing is "gzip", "zstd" or "" for each or for all."""

    def __init__(self, *layers, packing="gzip", **config):
        packing = [packing] * len(layers) if isinstance(packing, str) else packing
        pack = {"gzip": lambda d: gzip.compress(d, 1, mtime=0), "zstd": zstd, "": bytes}
        self.blobs = {}
        self.config = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(t) for t in layers]},
        }
        self.layers = [
            self.add(pack[p](t), LAYER + ("+" + p if p else "")) for t, p in zip(layers, packing)
        ]
        self.manifest = {"schemaVersion": 2, "mediaType": MANIFEST}
        self.seal()

    def add(self, data, kind):
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def seal(self):
        """After a change of config or layers."""
        config = self.add(json.dumps(self.config).encode(), CONFIG)
        self.manifest.update(config=config, layers=self.layers)
        return self

    @property
    def text(self):
        return json.dumps(self.manifest).encode()

    @property
    def digest(self):
        return digest(self.text)

    def manifests(self, what):
        """The manifest that a tag or a digest means, for a registry."""
        return self.text if what in ("latest", self.digest) else None

    def write(self, folder):
        """As tenon-flatten takes it: the manifest, and a folder of blobs. An OCI layout beside it."""
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for name, data in [*self.blobs.items(), (self.digest, self.text)]:
            (blobs / name[7:]).write_bytes(data)
        (folder / "manifest.json").write_bytes(self.text)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        index = {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": MANIFEST,
                    "digest": self.digest,
                    "size": len(self.text),
                    "annotations": {"org.opencontainers.image.ref.name": "it"},
                }
            ],
        }
        (folder / "index.json").write_text(json.dumps(index))
        return folder / "manifest.json", blobs


class Index:
    """Images of several platforms under one name."""

    def __init__(self, **images):
        self.images = images
        self.blobs = {k: v for i in images.values() for k, v in i.blobs.items()}
        self.text = json.dumps({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {"mediaType": MANIFEST, "digest": i.digest, "size": len(i.text), "platform": {"os": "linux", "architecture": a}}
                for a, i in images.items()
            ],
        }).encode()
        self.digest = digest(self.text)

    def manifests(self, what):
        if what in ("latest", self.digest):
            return self.text
        return next((i.text for i in self.images.values() if i.digest == what), None)


class Registry:
    """Debian's docker-registry on a free port of loopback."""

    def __init__(self, folder, htpasswd=None):
        import os
        import socket
        import time

        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{s.getsockname()[1]}"
        auth = f"auth: {{htpasswd: {{realm: it, path: {htpasswd}}}}}\n" if htpasswd else ""
        (folder / "registry.yml").write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.host}'}}\n{auth}"
        )
        self.log = open(folder / "registry.log", "wb")
        self.process = subprocess.Popen(
            ["docker-registry", "serve", folder / "registry.yml"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
        end = time.monotonic() + 30
        while True:
            try:
                host, port = self.host.split(":")
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, "docker-registry does not serve"
                time.sleep(0.05)

    def push(self, layout, name, *options):
        """An OCI layout's only image; its reference."""
        reference = f"{self.host}/{name}"
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", *options, f"oci:{layout}:it", f"docker://{reference}"],
            check=True,
            timeout=60,
        )
        return reference

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


class PlainRegistry:
    """A registry in a thread, that serves images as they are and can be told to misbehave. `asked` is what was asked of
    it; `instead` has, by the end of a path, a function that is called with the handler and the right answer's bytes."""

    def __init__(self):
        import http.server
        import threading

        self.images, self.asked, self.instead, self.secret = {}, [], {}, None
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                registry.asked.append((self.command, self.path))
                if registry.secret and self.headers.get("Authorization") != registry.secret:
                    return self.answer(b"{}", 401, [("WWW-Authenticate", 'Basic realm="it"')])
                if self.path == "/v2/":
                    return self.answer(b"{}")
                name, _, what = self.path[len("/v2/"):].rpartition("/")
                name, _, kind = name.rpartition("/")
                image = registry.images.get(name)
                data = image and (image.blobs.get(what) if kind == "blobs" else image.manifests(what))
                if data is None:
                    return self.answer(b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', 404)
                for end, act in registry.instead.items():
                    if self.path.endswith(end):
                        return act(self, data)
                self.answer(data)

            def answer(self, data, status=200, headers=(), length=None):
                self.send_response(status)
                is_manifest = "/manifests/" in self.path
                kind = json.loads(data).get("mediaType", MANIFEST) if is_manifest and status == 200 and data[:1] == b"{" else "application/json"
                self.send_header("Content-Type", kind if is_manifest else "application/octet-stream")
                self.send_header("Content-Length", str(len(data) if length is None else length))
                for header in headers:
                    self.send_header(*header)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                    self.wfile.flush()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, name, image):
        self.images[name] = image
        return f"{self.host}/{name}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
