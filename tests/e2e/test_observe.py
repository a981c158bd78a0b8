"""What can be seen of a box from outside: metrics, processes, executions, the console."""

import threading

from client import error_of


def test_metrics_of_a_running_box(client, box):
    client.run(box, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    m = client.get(f"/boxes/{box}/metrics").json()
    assert 0 < m["cpu_percent"] <= 100
    assert 0 < m["memory_bytes"] < m["memory"]["total_bytes"]
    assert isinstance(m["network_bytes_sent"], int) and isinstance(m["network_bytes_received"], int)
    assert 0 < m["boot_timing"]["guest_boot_ms"] < 120000
    assert m["filesystem"]["free_bytes"] > 0 and m["uptime_ms"] > 0


def test_bytes_are_counted_once(client, box):
    def counted():
        m = client.get(f"/boxes/{box}/metrics").json()
        assert m["network_tcp_connections"] >= 0 and m["network_tcp_errors"] >= 0
        return m["bytes_sent_total"], m["bytes_received_total"]

    sent, received = counted()
    assert client.run(box, "sh", "-c", "cat; echo 12345 >&2", stdin="x" * 1000)[2]["exit_code"] == 0
    assert counted() == (sent + 1000, received + 1006)


def test_metrics_never_wake_a_box(client):
    b = client.create(image="tenon/base")["box_id"]
    try:
        r = client.get(f"/boxes/{b}/metrics")
        assert r.status_code == 200 and "memory" not in r.json()
        r = client.get(f"/boxes/{b}/processes")
        assert (r.status_code, error_of(r)["code"]) == (409, "invalid_state")
        assert client.get(f"/boxes/{b}").json()["status"] == "configured"
    finally:
        client.remove(b)


def test_processes_and_executions(client, box):
    x = client.exec(box, "sleep", "1234", stdin="")
    processes = client.get(f"/boxes/{box}/processes").json()["processes"]
    mine = [p for p in processes if p["command"] == ["sleep", "1234"]]
    assert len(mine) == 1 and mine[0]["execution_id"] == x.id
    assert mine[0]["uid"] == 0 and mine[0]["memory_bytes"] > 0
    listed = client.get(f"/boxes/{box}/executions", params={"limit": 10000}).json()["executions"]
    assert [e["status"] for e in listed if e["execution_id"] == x.id] == ["running"]
    x.kill_and_wait()
    listed = client.get(f"/boxes/{box}/executions", params={"limit": 10000}).json()["executions"]
    assert x.id not in [e["execution_id"] for e in listed]


def test_exec_and_wait(client, box):
    r = client.post(f"/boxes/{box}/exec", params={"wait": "true"},
                    json={"command": "sh", "args": ["-c", "cat; echo out; printf '\\377' >&2; exit 3"]})
    assert r.status_code == 200
    body = r.json()
    assert (body["stdout"], body["stdout_encoding"], body["exit_code"]) == ("out\n", "utf-8", 3)
    assert (body["stderr"], body["stderr_encoding"], body["truncated"]) == ("/w==", "base64", False)
    r = client.post(f"/boxes/{box}/exec", params={"wait": "true"}, json={"command": "/none"})
    assert (r.status_code, error_of(r)["code"]) == (422, "execution_failed")


def test_exec_and_wait_is_bounded(client, box):
    r = client.post(f"/boxes/{box}/exec", params={"wait": "true"},
                    json={"command": "sh", "args": ["-c", "head -c 20000000 /dev/zero | tr '\\0' x"]})
    assert len(r.json()["stdout"]) == 8 << 20 and r.json()["truncated"] is True and r.json()["exit_code"] == 0


def test_console(client):
    b = client.create(image="tenon/base")["box_id"]
    try:
        assert client.get(f"/boxes/{b}/console").content == b""
        client.post(f"/boxes/{b}/start")
        client.run(b, "sh", "-c", "echo to the console > /dev/kmsg")
        got = []
        follower = threading.Thread(
            target=lambda: got.append(client.get(f"/boxes/{b}/console", params={"follow": "true"}, timeout=60).content))
        follower.start()
        client.run(b, "sh", "-c", "echo '<1>seen by who follows' > /dev/kmsg")
        client.post(f"/boxes/{b}/stop")
        follower.join(30)
        assert got and b"seen by who follows" in got[0]
    finally:
        client.remove(b)
