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


def test_capabilities(client, box):
    """As docker's --cap-add and --cap-drop: the preset's, less what is dropped, and what is added."""
    caps = "grep CapBnd /proc/self/status"

    def bounding(**more):
        return int(run(client, box, caps, **more)["stdout"].split()[1], 16)

    assert bounding(capabilities={"drop": ["ALL"]}) == 0
    assert bounding(capabilities={"drop": ["ALL"], "add": ["CAP_NET_ADMIN", "chown"]}) == 1 << 12 | 1 << 0
    assert bounding(security="maximum", capabilities={"add": ["KILL"]}) == 1 << 5
    standard = bounding(security="standard")
    assert bounding(security="standard", capabilities={"drop": ["NET_RAW"]}) == standard & ~(1 << 13)
    r = client.post(f"/boxes/{box}/exec", json={"command": "true", "capabilities": {"add": ["FLY"]}})
    assert (r.status_code, error_of(r)["field"]) == (400, "capabilities.add")


def test_seccomp_rules_in_the_form_of_oci(client, box):
    rules = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            # kill(2) with signal 10, and no other
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
        ],
    }
    body = run(client, box, "mkdir /tmp/x; kill -USR1 $$; kill -0 $$ && echo on", seccomp=rules)
    assert "not supported" in body["stderr"] and "not permitted" in body["stderr"] and body["stdout"] == "on\n"
    killed = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]}
    assert run(client, box, "exec mkdir /tmp/x", seccomp=killed)["exit_code"] == -31


def test_rules_that_are_refused(client, box):
    def refused(**rules):
        r = client.post(f"/boxes/{box}/exec", json={"command": "true", "seccomp": rules})
        assert r.status_code == 400
        e = error_of(r)
        return e["code"], e["field"]

    allow = "SCMP_ACT_ALLOW"
    one = {"names": ["read"], "action": allow}
    assert refused() == ("invalid_argument", "seccomp.defaultAction")
    assert refused(defaultAction="SCMP_ACT_NOTIFY") == ("unsupported", "seccomp.defaultAction")
    assert refused(defaultAction=allow, flags=["SECCOMP_FILTER_FLAG_TSYNC"]) == ("unsupported", "seccomp.flags")
    assert refused(defaultAction=allow, architectures=["SCMP_ARCH_S390"]) == ("unsupported", "seccomp.architectures")
    assert refused(defaultAction=allow, syscalls=[{**one, "names": []}]) == ("invalid_argument", "seccomp.syscalls.names")
    assert refused(defaultAction=allow, syscalls=[{**one, "includes": {}}])[1] == "seccomp.syscalls.includes"
    bad = {"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}
    assert refused(defaultAction=allow, syscalls=[{**one, "args": [bad]}])[1] == "seccomp.syscalls.args.index"
