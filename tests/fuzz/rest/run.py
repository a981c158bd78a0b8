#!/usr/bin/python3
"""Requests made of /openapi.json, valid and not, against a real tenond with real boxes: once without keys, once with.
usage: run.py SECONDS     for each of the two; exit code 1 if an answer is a 5xx or not what the document says"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from client import Client  # noqa: E402
from conftest import Daemon  # noqa: E402

WANTED = Path(__file__).with_name("requirements.txt")
VENV = ROOT / "build/schemathesis"
LOGS = ROOT / "build/fuzz"

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]
# Not allow_header_conformance: a box may be called "import", so that POST is not all that /boxes/import has.
# Where keys are asked for.
CHECKS_OF_KEYS = ["ignored_auth", "missing_required_header"]

# What is left out, each for its reason.
LEFT_OUT = {
    "GET /boxes/{box}/files/watch": "its answer never ends; tests/e2e/test_files.py",
    "GET /boxes/{box}/executions/{id}/attach": "it is a WebSocket; tests/e2e/test_rest.py",
}


def install():
    """build/schemathesis, made anew when the list of versions changes."""
    mark = VENV / hashlib.sha256(WANTED.read_bytes()).hexdigest()
    if mark.exists():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, timeout=120)
    pip = [str(VENV / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    subprocess.run([*pip, "-r", str(WANTED)], check=True, timeout=600)
    mark.touch()


def furnish(client):
    """What requests can be about: a box that stays, one to be stopped and deleted, executions that live and ended."""
    for name in ("steady", "victim"):
        client.create(name=name, image="tenon/base")
    assert client.call("PUT", "/boxes/steady/files/content?path=/root/f", data=b"some bytes").status_code == 204
    ended = client.exec("steady", "echo", "done", stdin="")
    ended.collect()
    return {"ended": ended.id, "living": client.exec("steady", "cat").id, "doomed": client.exec("steady", "cat").id}


def configure(folder, ids, header):
    """schemathesis.toml: the names that exist, among which it also invents others."""
    name = json.dumps
    lines = [f"headers = {{ Authorization = {name(header)} }}"] if header else []
    lines += ["[parameters]", 'box = "steady"', f"id = {name(ids['ended'])}", '"query.path" = "/root/f"']
    for operation, values in {
        "DELETE /boxes/{box}": {"box": "victim"},
        "POST /boxes/{box}/stop": {"box": "victim"},
        "DELETE /boxes/{box}/executions/{id}": {"id": ids["doomed"]},
        "POST /boxes/{box}/executions/{id}/input": {"id": ids["living"]},
        "POST /boxes/{box}/executions/{id}/resize": {"id": ids["living"]},
        # An archive replaces what it brings; a file that is deleted is not the one that others read.
        "PUT /boxes/{box}/files": {"query.path": "/root/put"},
        "PUT /boxes/{box}/files/content": {"query.path": "/root/put"},
        "DELETE /boxes/{box}/files/content": {"query.path": "/root/put"},
        "GET /boxes/{box}/files/list": {"query.path": "/etc"},
        "GET /boxes/{box}/console": {"query.follow": "false"},
        "POST /boxes/{box}/exec": {"query.wait": "false"},  # a command may never end
    }.items():
        lines += ["[[operations]]", f"include-name = {name(operation)}"]
        lines += ["parameters = { " + ", ".join(f"{name(k)} = {name(v)}" for k, v in values.items()) + " }"]
    for operation in LEFT_OUT:
        lines += ["[[operations]]", f"include-name = {name(operation)}", "enabled = false"]
    (folder / "schemathesis.toml").write_text("\n".join(lines) + "\n")


def fuzz(seconds, auth):
    folder = Path(tempfile.mkdtemp(prefix="tn-", dir="/tmp"))
    daemon = Daemon(folder, auth=auth)
    title = "keys" if auth else "no-auth"
    log = LOGS / f"rest-{title}.log"
    try:
        daemon.start()
        header = "Bearer " + (daemon.state / "admin.key").read_text().strip() if auth else None
        client = Client(daemon.url, {"Authorization": header} if auth else None)
        ids = furnish(client)
        configure(folder, ids, header)
        command = [str(VENV / "bin/schemathesis"), "--config-file", str(folder / "schemathesis.toml"), "run"]
        command += [daemon.url + "/openapi.json", "--url", daemon.url + "/v1", "--max-time", str(seconds)]
        command += ["--checks", ",".join(CHECKS + (CHECKS_OF_KEYS if auth else [])), "--continue-on-failure"]
        command += ["--request-timeout", "30", "--warnings", "off", "--output-truncate", "false"]
        print(f"fuzz: rest ({title}) for {seconds} s", flush=True)
        with open(log, "wb") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd=folder, timeout=seconds * 4 + 300)
        text = log.read_text()
        print("".join(line + "\n" for line in text.splitlines() if "generated" in line), end="")
        alive = daemon.process.poll() is None and client.get("/healthz", timeout=30).status_code == 200
        if done.returncode or not alive:
            print(text[text.find("= FAILURES =") :][:20000])
            print("tenond is dead:\n" + daemon.log_tail() if not alive else f"the whole of it is in {log}")
        if alive:
            for box in client.get("/boxes").json()["boxes"]:
                client.remove(box["box_id"])
        return done.returncode == 0 and alive
    finally:
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    seconds = int(sys.argv[1])
    install()
    LOGS.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    results = [fuzz(seconds, auth) for auth in (False, True)]
    sys.exit(not all(results))


main()
