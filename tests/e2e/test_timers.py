"""auto_stop, auto_delete and auto_resume, with small numbers of seconds."""

import socket

import pytest
from client import error_of
from test_boxes import processes_of, status, wait_for, wait_status


@pytest.fixture(scope="module")
def own(make_daemon):
    return make_daemon()


@pytest.fixture
def client(own):
    yield own.client()
    own.remove_boxes()


def started(client, **body):
    box = client.create(memory_mib=192, **body)["box_id"]
    assert client.post(f"/boxes/{box}/start").status_code == 200
    return box


def test_idle_boxes_stop_and_come_back(own, client):
    idle = started(client, name="idle", auto_stop=1)
    never = started(client, name="never", auto_stop=0)
    # Whoever looks at it does not keep it, and does not wake it.
    wait_for(lambda: client.get(f"/boxes/{idle}/metrics").status_code == 200 and status(client, idle) == "stopped", 60)
    assert client.get(f"/boxes/{idle}/metrics").status_code == 200 and status(client, idle) == "stopped"
    assert not client.get(f"/boxes/{idle}").json().get("error")
    assert status(client, never) == "running"
    # Who uses it starts it again, by a command or by a file.
    assert client.run(idle, "echo", "back")[0] == b"back\n"
    wait_status(client, idle, "stopped")
    assert client.get(f"/boxes/{idle}/files/content?path=/etc/hostname").status_code == 200


def test_what_is_used_stays(own, client):
    busy = started(client, name="busy", auto_stop=1)
    tunnelled = started(client, name="tunnelled", auto_stop=1)
    listen = "nc -l -p 5000 >/dev/null & until grep -q :1388 /proc/net/tcp*; do :; done; echo up; read end"
    server = client.exec(tunnelled, "sh", "-c", listen)
    assert next(server.events()).bytes == b"up\n"
    uri = client.post(f"/boxes/{tunnelled}/network/tunnel?port=5000").json()["uri"]
    with socket.create_connection(("127.0.0.1", int(uri.rsplit(":", 1)[1])), timeout=20) as tunnel:
        tunnel.sendall(b"x")
        assert server.write(b"\n", close=True).status_code == 204 and server.collect()[2]["exit_code"] == 0
        x = client.exec(busy, "sleep", "4")
        assert x.collect()[2]["exit_code"] == 0
        assert status(client, tunnelled) == "running"
    wait_status(client, busy, "stopped")
    wait_status(client, tunnelled, "stopped")


def test_a_box_that_may_not_resume(own, client):
    box = client.create(memory_mib=192, auto_stop=1, auto_resume=False)["box_id"]
    assert client.run(box, "true")[2]["exit_code"] == 0  # the first start is none
    wait_status(client, box, "stopped")
    for method, path, more in (
        ("POST", "exec", {"json": {"command": "true"}}),
        ("GET", "files?path=/etc", {}),
        ("PUT", "files/content?path=/x", {"data": b"x"}),
    ):
        r = client.call(method, f"/boxes/{box}/{path}", **more)
        assert (r.status_code, error_of(r)["code"]) == (409, "invalid_state"), path
    assert status(client, box) == "stopped"
    assert client.post(f"/boxes/{box}/start").json()["status"] == "running"


def test_stopped_boxes_go_and_timers_outlive_tenond(own, client):
    going = started(client, name="going", auto_delete=2)
    idle = started(client, name="idle", auto_stop=1)
    x = client.exec(idle, "cat")
    fresh = client.create(name="fresh", auto_delete=1)["box_id"]
    assert client.post(f"/boxes/{going}/stop").json()["status"] == "stopped"
    own.kill()
    own.start()
    client = own.client()
    assert status(client, idle) == "running"
    wait_for(lambda: client.get(f"/boxes/{going}").status_code == 404, 10)
    wait_for(lambda: not (own.state / "boxes" / going).exists())
    x.client = client
    x.kill()
    wait_status(client, idle, "stopped")
    assert not processes_of(own)
    assert status(client, fresh) == "configured"  # it was never stopped
