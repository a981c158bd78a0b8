"""What an exec body gives its process: a user, limits, a filter."""

import json

from client import error_of


def run(client, box, script, **more):
    r = client.post(f"/boxes/{box}/exec", params={"wait": "true"}, json={"command": "sh", "args": ["-c", script], **more})
    assert r.status_code == 200, r.text
    return r.json()


def test_user(client, box):
    assert run(client, box, "id -u; id -g", user="1000:7")["stdout"] == "1000\n7\n"
    r = client.post(f"/boxes/{box}/exec", json={"command": "true", "user": "nobody-of-that-name"})
    assert r.status_code in (400, 422) and error_of(r)["message"]


def test_rlimits_and_resources(client, box):
    limits = {"nofile": {"soft": 77, "hard": 88}, "core": 0, "memlock": "unlimited"}
    out = run(client, box, "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -l", rlimits=limits)["stdout"]
    assert out == "77\n88\n0\nunlimited\n"
    body = run(client, box, "dd if=/dev/zero of=/dev/null bs=200M count=1", resources={"memory_bytes": 32 << 20})
    assert body["exit_code"] not in (0, 126, 127), json.dumps(body)
    assert run(client, box, "echo ok", resources={"pids": 8, "cpus": 0.5, "cpu_weight": 50})["stdout"] == "ok\n"


def test_security_presets(client, box):
    caps = "grep CapBnd /proc/self/status"
    full = run(client, box, caps)["stdout"]
    assert run(client, box, caps, security="development")["stdout"] == full
    standard = run(client, box, caps, security="standard")["stdout"]
    assert int(standard.split()[1], 16) < int(full.split()[1], 16)
    none = run(client, box, caps + "; grep NoNewPrivs /proc/self/status", security="maximum")["stdout"].split()
    assert int(none[1], 16) == 0 and none[3] == "1"
    filtered = "grep Seccomp: /proc/self/status"
    assert run(client, box, filtered, seccomp="default")["stdout"].split()[1] == "2"
    assert run(client, box, filtered, security="standard", seccomp="unconfined")["stdout"].split()[1] == "0"
