"""A small Debian, unpacked from its packages by mmdebstrap: real files, owners, setuid bits and hard links."""

import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "base-files,base-passwd,bash,coreutils,passwd,login,mount,sudo"


def debian_tar():
    """Its tar; made once for a checkout, from the machine's own package sources (rootfs/sources.sh)."""
    made = ROOT / "build/test-images/debian.tar"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    lists = subprocess.run([ROOT / "rootfs/sources.sh", "lists"], check=True, capture_output=True, text=True, timeout=60)
    part = tempfile.NamedTemporaryFile(dir=made.parent, suffix=".tar", delete=False)
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "locale", "man")]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGES}", '--aptopt=Acquire::Languages "none"',
         *excluded, "bookworm", part.name, *lists.stdout.splitlines()],
        check=True, timeout=300, stdin=subprocess.DEVNULL, capture_output=True,
    )
    os.rename(part.name, made)
    return made
