"""Each SDK goes through every operation that tenond serves so far; what it reports is compared with what was done."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def report(command, **env):
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env={**os.environ, **env})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(got):
    """What all SDKs do alike."""
    box = got["created"]["id"]
    assert got["again"] == {"created": False, "id": box}
    assert box in got["listed"] and got["nobody"] is None and got["gone"] is None
    assert "exists" in got["taken"] and "image" in got["badImage"]
    assert got["output"]["stdout"] == "out hello you\n" and got["output"]["stderr"] == "err\n"
    assert got["output"]["code"] == 3 and not got["output"]["error"]
    assert got["input"] == {"stdout": "grüße\n", "stderr": "", "code": 0, "error": None}
    assert got["big"] == 1 << 20
    assert "eth0" in got["network"].split() and "eth0" not in got["alone"] and "lo" in got["alone"].split()
    assert "ENOENT" in got["missing"]
    assert got["signal"] is None or got["signal"]["code"] == -15
    assert got["killed"]["code"] == -9
    assert "force" in got["removeRunning"]
    made = got["snapshot"]
    assert (made["name"], made["boxId"]) == ("a/b c", box) and made["createdAt"] > 1.7e9 and made["sizeBytes"] > 0
    assert made["containerDiskBytes"] == 10 << 30
    assert "exists" in got["snapshotTwice"] and got["snapshots"] == ["a/b c"] and got["snapshotNone"] is None
    assert got["snapshotGot"]["name"] == "a/b c" and "stopped" in got["restoreRunning"]
    for other in "copy", "back":
        assert got[other]["stdout"] == "second\n" and got[other]["id"] != box and got[other]["name"].endswith(other)
    assert got["restored"]["stdout"] == "first\n" and got["snapshotsAfter"] == 0
    assert "not valid" in got["stranger"]


def check_volumes(got):
    assert got["name"].endswith("-data") and got["got"] == got["id"] and got["createdAt"]
    assert got["unnamed"] and got["listed"]
    assert "no volume" in got["missing"] and "mounted by box" in got["used"] and "nowhere" in got["nowhere"]
    assert got["file"] == got["again"] == "kept\n" and got["idle"] == "stopped"


@pytest.mark.parametrize("version", ["0.9.7", "0.10.0"])
def test_node(sdks, account, version, tmp_path):
    got = report(["node", str(HERE / "node_client.mjs"), str(sdks / f"node-{version}"), str(tmp_path), *account["new"]])
    check(got)
    assert got["info"]["id"] == got["boxInfo"]["id"] == got["created"]["id"]
    assert got["info"]["memoryMib"] == 192 and got["info"]["cpus"] == 1
    assert got["running"]["status"] == "running" and got["running"]["pid"] > 0
    assert got["stopped"]["status"] == "stopped"
    assert got["cwd"]["stdout"] == "/tmp\n"
    assert got["timeout"]["code"] < 0
    assert "signal" in got["sig9"] and "secrets" in got["secrets"]
    assert got["boxMetrics"]["commandsExecutedTotal"] >= 8 and got["boxMetrics"]["execErrorsTotal"] == 1
    assert got["boxMetrics"]["guestBootDurationMs"] > 0
    assert got["metrics"]["boxesCreatedTotal"] >= 1 and got["metrics"]["numRunningBoxes"] == 1, got["metrics"]
    if version == "0.10.0":
        check_volumes(got["volumes"])
        assert got["main"] == "65534\n/tmp\n" * 2


@pytest.mark.parametrize("version", ["0.9.1", "0.9.7", "0.10.8"])
def test_python(sdks, account, version, tmp_path):
    got = report(["/usr/bin/python3", str(HERE / "python_client.py"), str(tmp_path), *account["old" if version == "0.9.1" else "new"]], PYTHONPATH=str(sdks / f"python-{version}"))
    check(got)
    assert got["info"] == got["created"]["id"]
    assert got["running"] == "running" and got["stopped"] == "stopped"
    assert got["aloneInfo"] == ("disabled" if version == "0.10.8" else None)
    assert got["boxMetrics"] >= 5 and got["metrics"] >= 1
    if version == "0.10.8":
        assert got["tunnel"]["echo"] == "through the tunnel" and got["tunnel"]["revoked"]
    if version == "0.10.8":
        check_volumes(got["volumes"])
        assert got["main"] == "65534\n/tmp\n" * 2
