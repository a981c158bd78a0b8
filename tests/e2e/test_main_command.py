"""The main command of a box: begun at each start, kept like any execution, and the end of the box when it ends."""

import json
import time

import pytest
import websocket

from client import Attached, Execution, error_of


@pytest.fixture
def make(client):
    made = []

    def create(**body):
        made.append(client.create(**body)["box_id"])
        return made[-1]

    yield create
    for b in made:
        client.remove(b)


def until(client, box, *wanted, seconds=60):
    """The box, once its status is one of those."""
    end = time.monotonic() + seconds
    while (b := client.get("/boxes/" + box).json())["status"] not in wanted:
        assert time.monotonic() < end, b
        time.sleep(0.05)
    return b


def attach(client, box, path="/attach", **kw):
    """A WebSocket to the box's main command, and the id of its execution."""
    url = "ws" + client.url[4:] + f"/boxes/{box}{path}"
    ws = websocket.create_connection(url, timeout=120, http_no_proxy=["*"], **kw)
    return Attached(ws), ws.getheaders()["x-boxlite-execution-id"]


def test_it_runs_at_each_start_and_its_end_stops_the_box(client, make):
    b = make(entrypoint=["sh", "-c"], cmd=["echo out; echo err >&2; pwd; echo $A; exit 3"], env={"A": "é"}, working_dir="/tmp")
    assert client.get("/boxes/" + b).json()["exit_code"] is None
    ids = []
    for _ in range(2):
        r = client.post(f"/boxes/{b}/start")
        assert r.status_code == 200 and r.json()["status"] == "running", r.text
        ids.append(r.json()["main_execution_id"])
        out, err, end = Execution(client, b, ids[-1]).collect()
        assert (out, err, end["exit_code"]) == ("out\n/tmp\né\n".encode(), b"err\n", 3)
        box = until(client, b, "stopped")
        assert (box["exit_code"], box["main_execution_id"]) == (3, ids[-1])
    assert ids[0] != ids[1]
    # The log of a run is kept, past the next.
    assert Execution(client, b, ids[0]).info()["exit_code"] == 3
    # Attaching to a box that has run shows how that went, and does not run it again.
    ws, id = attach(client, b)
    out, err, texts, code = ws.collect()
    assert (out, err, texts[-1], code) == ("out\n/tmp\né\n".encode(), b"err\n", {"type": "exit", "exit_code": 3}, 1000)
    assert id == ids[1] and client.get("/boxes/" + b).json()["status"] == "stopped"


def test_a_live_attach_and_a_user(client, make):
    b = make(cmd=["sh", "-c", "id -u; read line; echo got $line; tty; exec cat"], user="65534", tty=True, security="standard")
    ws, id = attach(client, b)  # it starts the box
    box = client.get("/boxes/" + b).json()
    assert (box["status"], box["main_execution_id"]) == ("running", id)
    with pytest.raises(websocket.WebSocketBadStatusException) as second:
        attach(client, b)
    assert second.value.status_code == 409
    seen = b""
    while not seen.endswith(b"65534\r\n"):
        kind, piece = ws.next()
        assert kind == "out", piece
        seen += piece
    ws.send(b"hello\n\x04")
    out, err, texts, _ = ws.collect()
    assert b"got hello\r\n/dev/pts/" in out and err == b"" and texts[-1]["exit_code"] == 0
    assert until(client, b, "stopped")["exit_code"] == 0
    # Its user is that of other commands and owns what is uploaded; a command may say otherwise.
    b = make(user="65534:65533", advanced={"capabilities": {"drop": ["ALL"]}}, security="maximum")
    assert client.call("PUT", f"/boxes/{b}/files/content?path=/tmp/new", data=b"x").status_code == 204
    script = "id -u; id -g; stat -c %u:%g /tmp/new; grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status"
    assert client.run(b, "sh", "-c", script)[0].split() == b"65534 65533 65534:65533 CapBnd: 0000000000000000 Seccomp: 2".split()
    out = client.run(b, "sh", "-c", script, user="root", security="development", capabilities={"add": ["NET_RAW"]})[0].split()
    assert out[:5] == b"0 0 65534:65533 CapBnd: 0000000000002000".split()


def test_a_main_command_that_cannot_start(client, make):
    b = make(entrypoint=["/no/such"])
    r = client.post(f"/boxes/{b}/start")
    e = error_of(r)
    assert (r.status_code, e["code"], e["stage"], e["errno_name"]) == (422, "execution_failed", "execve", "ENOENT")
    assert "main command /no/such" in e["message"]
    box = client.get("/boxes/" + b).json()
    assert (box["status"], box["exit_code"]) == ("failed", 127) and "/no/such" in box["error"] and "main_execution_id" not in box


def test_no_main_command(client, box):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        attach(client, box)
    assert refused.value.status_code == 409
    assert client.get(f"/boxes/{box}/attach").status_code == 426
    for bad in ({"cmd": "ls"}, {"entrypoint": [1]}, {"security": "none"}, {"tty": "yes"}):
        e = error_of(client.post("/boxes", json=bad))
        assert (e["code"], e["field"]) == ("invalid_argument", *bad)


def test_tenond_is_killed(make_daemon):
    d = make_daemon()
    c = d.client()
    stays = c.create(cmd=["sh", "-c", "echo $$; until [ -e /tmp/go ]; do sleep 0.1; done; exit 4"])["box_id"]
    ends = c.create(cmd=["sh", "-c", "echo once >>/root/log; echo there; read line; exit 5"], auto_remove=True)["box_id"]
    ids = [c.post(f"/boxes/{b}/start").json()["main_execution_id"] for b in (stays, ends)]
    x = Execution(c, ends, ids[1])
    assert next(x.events()).bytes == b"there\n"
    d.kill()
    d.start()
    c = d.client()
    box = c.get("/boxes/" + stays).json()
    assert (box["status"], box["main_execution_id"], box["exit_code"]) == ("running", ids[0], None)
    assert c.run(ends, "cat", "/root/log")[0] == b"once\n"
    assert Execution(c, ends, x.id).write(b"\n").status_code == 204
    c.run(stays, "touch", "/tmp/go")
    assert until(c, stays, "stopped")["exit_code"] == 4
    end = time.monotonic() + 60
    while c.get("/boxes/" + ends).status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.05)
    d.kill()
    d.start()
    box = d.client().get("/boxes/" + stays).json()
    assert (box["status"], box["exit_code"], box["main_execution_id"]) == ("stopped", 4, ids[0])


def raw_terminal(client, box, query):
    url = "ws" + client.url[4:] + f"/boxes/{box}/exec/tty" + query
    return websocket.create_connection(url, timeout=60, http_no_proxy=["*"])


def test_exec_tty(client, box):
    ws = raw_terminal(client, box, "?command=sh&args=-c&args=stty%20size%3B%20read%20a%3B%20stty%20size%3B%20exit%209&rows=33&cols=77")
    got, end = b"", None
    while end is None:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_TEXT:
            end = json.loads(data)
        elif opcode == websocket.ABNF.OPCODE_BINARY:
            got += data
            if got == b"33 77\r\n":
                ws.send(json.dumps({"type": "resize", "rows": 40, "cols": 120}))
                ws.send_binary(b"\n")
    assert got == b"33 77\r\n\r\n40 120\r\n" and end == {"type": "exit", "exit_code": 9}
    # A terminal that is left hangs up.
    ws = raw_terminal(client, box, "?command=sleep&args=1000")
    x = Execution(client, box, ws.getheaders()["x-boxlite-execution-id"])
    assert x.info()["status"] == "running"
    ws.close()
    assert x.collect()[2]["exit_code"] == -1
    for query, status in (("?command=", 400), ("?rows=0", 400), ("?command=/no/such", 422)):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            raw_terminal(client, box, query)
        assert refused.value.status_code == status
