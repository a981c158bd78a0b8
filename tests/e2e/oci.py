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
