"""The REST API as its clients see it: shapes, streams, WebSocket rules, and every bad input."""

import json
import os
import re
import socket
import threading
import time

import pytest
import websocket

from client import Client, error_of, receive_all

# ---- discovery -----------------------------------------------------------------------------------------


def test_config_says_what_is_there(client):
    r = client.get("/config")
    assert r.status_code == 200
    c = r.json()
    for flag in ("linux_capabilities", "snapshots", "clone", "export", "import", "tty", "streaming"):
        assert c["capabilities"][flag + "_enabled"] is True
    # Of the 2026-02 dialect: its clients keep to what is said here.
    assert c["capabilities"]["supported_security_presets"] == ["development", "standard", "maximum"]
    assert c["defaults"]["auto_remove"] is False and c["defaults"]["auto_resume"] is True
    assert c["defaults"]["security_preset"] == "development"


def test_me(client):
    me = client.get("/me").json()
    assert me["path_prefix"] is None and "box:exec" in me["scopes"]


def test_request_id_is_echoed_or_minted(client):
    assert client.get("/config", headers={"X-Request-Id": "abc-1.2_3"}).headers["X-Request-Id"] == "abc-1.2_3"
    minted = client.get("/config", headers={"X-Request-Id": "a b<c>"}).headers["X-Request-Id"]
    assert re.fullmatch(r"req_[0-9a-f]{32}", minted)


def test_registered_prefix(client, box):
    assert client.get(f"/default/boxes/{box}").json()["box_id"] == box
    assert error_of(client.get(f"/nobody/boxes/{box}"))["code"] == "not_found"
    assert client.get("/default/nothing").status_code == 404


# ---- boxes ---------------------------------------------------------------------------------------------


def test_box_has_what_the_sdks_need(client, box):
    b = client.get(f"/boxes/{box}").json()
    assert re.fullmatch(r"[0-9A-Z]{26}", b["box_id"])  # 2026-02 wants a ULID
    assert b["status"] == "running" and b["name"] == "shared" and b["image"].startswith("tenon/base")
    assert type(b["cpus"]) is int and type(b["memory_mib"]) is int and type(b["pid"]) is int
    for t in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b[t])
    assert client.get("/boxes/shared").json()["box_id"] == box
    assert box in [x["box_id"] for x in client.get("/boxes").json()["boxes"]]


def test_head(client, box):
    assert client.call("HEAD", f"/boxes/{box}").status_code == 204
    assert client.call("HEAD", "/boxes/nobody").status_code == 404


def test_create_get_delete_without_a_boot(client):
    r = client.post("/boxes", json={"name": "brief", "auto_stop": 60, "auto_delete": 5, "auto_resume": False})
    assert r.status_code == 201
    b = r.json()
    assert r.headers["Location"] == f"/v1/boxes/{b['box_id']}"
    assert (b["status"], b["auto_stop"], b["auto_delete"], b["auto_resume"]) == ("configured", 60, 5, False)
    assert error_of(client.post("/boxes", json={"name": "brief"}))["code"] == "already_exists"
    assert client.post(f"/boxes/{b['box_id']}/stop").status_code < 500
    assert client.delete("/boxes/brief").status_code == 204
    assert client.get("/boxes/brief").status_code == 404
    assert client.get(f"/boxes/{b['box_id']}").status_code == 404


@pytest.mark.parametrize(
    "network",
    [
        "enabled",
        "isolated",
        {"mode": "enabled"},
        {"mode": "enabled", "allow_net": []},
        {"outbound": {"mode": "enabled", "allow_net": []}, "inbound": {"mode": "enabled"}},
        {"outbound": {"mode": "disabled"}},
        None,
    ],
)
def test_create_as_each_sdk_sends_it(client, network):
    body = {"image": "tenon/base", "env": {}, "network": network, "auto_remove": False, "detach": False}
    body.update(secrets=[], volumes=[], entrypoint=[], cmd=[], advanced={"capabilities": {"add": [], "drop": []}})
    b = client.create(**body)
    assert client.delete(f"/boxes/{b['box_id']}").status_code == 204


def test_delete_of_a_running_box_wants_force(client, box):
    e = error_of(client.delete(f"/boxes/{box}"))
    assert e["code"] == "invalid_state"
    assert client.get(f"/boxes/{box}").json()["status"] == "running"
    assert error_of(client.delete(f"/boxes/{box}?force=maybe"))["code"] == "invalid_argument"


def test_start_is_idempotent(client, box):
    # Bodyless POSTs carry neither length header.
    raw = client.raw(f"POST /v1/boxes/{box}/start HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert json.loads(raw.split(b"\r\n\r\n", 1)[1])["box_id"] == box


def test_stop_and_start_again(client):
    b = client.create(name="again")["box_id"]
    assert client.run(b, "sh", "-c", "echo kept >/root/f; sync")[2]["exit_code"] == 0  # exec starts it
    r = client.post(f"/boxes/{b}/stop", json={"timeout_seconds": 5})
    assert r.status_code == 200 and r.json()["status"] == "stopped" and r.json()["pid"] is None
    assert client.post(f"/boxes/{b}/stop").status_code < 500
    assert client.run(b, "cat", "/root/f")[0] == b"kept\n"
    assert client.remove(b).status_code == 204


# ---- exec ----------------------------------------------------------------------------------------------


def test_output_and_exit_code(client, box):
    out, err, end = client.run(box, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (out, err, end["exit_code"]) == (b"out\n", b"err\n", 7)
    assert end["duration_ms"] >= 0


def test_environment_and_directory(client, box):
    out, _, _ = client.run(box, "sh", "-c", "echo $A; pwd", env={"A": "b = c"}, working_dir="/tmp")
    assert out == b"b = c\n/tmp\n"


def test_box_environment_comes_first(client):
    b = client.create(env={"ONE": "box", "TWO": "box"}, working_dir="/tmp")["box_id"]
    out, _, _ = client.run(b, "sh", "-c", "echo $ONE $TWO; pwd", env={"TWO": "exec"})
    client.remove(b)
    assert out == b"box exec\n/tmp\n"


def test_status(client, box):
    x = client.exec(box, "cat")
    i = x.info()
    assert i["status"] == "running" and i["execution_id"] == x.id and "exit_code" not in i
    assert x.write(b"", close=True).status_code == 204
    assert x.collect()[2]["exit_code"] == 0
    i = x.info()
    assert (i["status"], i["exit_code"]) == ("completed", 0)


def test_stdin_of_the_body(client, box):
    assert client.run(box, "cat", stdin="grüße\n")[0] == "grüße\n".encode()
    assert client.run(box, "cat", stdin="")[0] == b""


def test_stdin_posted(client, box):
    x = client.exec(box, "cat")
    data = bytes(range(256)) * 12000  # 3 MB
    assert x.write(data).status_code == 204
    assert x.write(b"end", close=True).status_code == 204
    assert x.collect()[0] == data + b"end"
    assert x.write(b"late").status_code in (409, 410)


def test_death_by_signal_is_negative(client, box):
    x = client.exec(box, "sleep", "1000")
    assert x.signal(15).status_code == 204
    assert x.collect()[2]["exit_code"] == -15
    assert x.info()["exit_code"] == -15


def test_signal_to_a_handler(client, box):
    x = client.exec(box, "sh", "-c", "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.05; done")
    events = x.events()
    assert next(events).bytes == b"ready\n"
    assert x.signal(10).status_code == 204
    assert b"".join(e.bytes for e in events) == b"got\n"
    assert x.info()["exit_code"] == 4


def test_signals_one_after_the_other_without_waiting(daemon, client, box):
    """The second was found while the first one's answer was written, and lay there until the next ping to the agent."""
    x = client.exec(box, "sleep", "1000")
    body = b'{"signal":28}'
    request = (f"POST /v1/boxes/{box}/executions/{x.id}/signal HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    with socket.create_connection(("127.0.0.1", daemon.port)) as s:
        s.settimeout(5)
        s.sendall(4 * request)
        got = b""
        while got.count(b"HTTP/1.1 204") < 4:
            piece = s.recv(65536)
            assert piece, got
            got += piece
    x.kill()


@pytest.mark.parametrize("number", [0, 9, 11, 64, -1, 2**40, "KILL", None, 1.5])
def test_signals_outside_the_list(client, box, number):
    x = client.exec(box, "sleep", "1000")
    e = error_of(x.signal(number))
    assert (e["code"], e["field"]) == ("invalid_argument", "signal")
    assert x.info()["status"] == "running"
    x.kill()


def test_delete_kills_tells_readers_and_is_gone(client, box):
    x = client.exec(box, "sh", "-c", "trap '' TERM; echo on; sleep 1000")
    events = x.events()
    assert next(events).bytes == b"on\n"
    gone = threading.Thread(target=x.kill_and_wait)
    gone.start()
    last = list(events)[-1]
    assert (last.name, last.data["exit_code"]) == ("exit", -9)
    gone.join()
    e = error_of(client.get(x.path))
    assert e["code"] == "session_reaped"
    assert client.get(x.path + "/output").status_code == 410
    assert x.kill().status_code == 410


def test_timeout(client, box):
    x = client.exec(box, "sleep", "1000", timeout_seconds=0.5)
    began = time.monotonic()
    assert x.collect()[2]["exit_code"] < 0
    assert time.monotonic() - began < 20
    assert x.info()["status"] == "timed_out"


@pytest.mark.parametrize(
    "body, stage, errno",
    [
        ({"command": "/no/such"}, "execve", "ENOENT"),
        ({"command": "no-such-command"}, "execve", "ENOENT"),
        ({"command": "/etc"}, "execve", "EACCES"),
        ({"command": "true", "working_dir": "/no/such"}, "chdir", "ENOENT"),
    ],
)
def test_what_cannot_start_names_stage_and_errno(client, box, body, stage, errno):
    r = client.post(f"/boxes/{box}/exec", json=body)
    assert r.status_code == 422
    e = error_of(r)
    assert (e["code"], e["stage"], e["errno_name"]) == ("execution_failed", stage, errno)
    assert stage in e["message"] and errno in e["message"]


# ---- SSE -----------------------------------------------------------------------------------------------


def test_sse_resumes_at_every_offset(client, box):
    script = "for i in 1 2 3; do echo out$i; sleep 0.1; echo err$i >&2; sleep 0.1; done"
    x = client.exec(box, "sh", "-c", script)
    whole = [e for e in x.events()]
    end = whole[-1]
    assert end.name == "exit"
    log = [(e.name, b) for e in whole[:-1] for b in e.bytes]
    assert len(log) == end.position == 30
    for last in range(len(log) + 1):
        again = list(x.events(last))
        assert [(e.name, b) for e in again[:-1] for b in e.bytes] == log[last:]
        assert again[-1].name == "exit" and again[-1].position == end.position
    # Beyond the end: nothing but the exit. ?from= overrides the header.
    assert [e.name for e in x.events(10**9)] == ["exit"]
    assert x.collect(20, "?from=0")[0] == b"out1\nout2\nout3\n"


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "", "99999999999999999999999"])
def test_sse_with_a_bad_position(client, box, last):
    x = client.exec(box, "true")
    assert client.get(x.path + "/output", headers={"Last-Event-ID": last}).status_code == 400
    assert client.get(x.path + "/output?from=" + (last or "%zz")).status_code == 400


def test_sse_is_live(client, box):
    x = client.exec(box, "cat")
    events = x.events()
    for word in (b"one\n", b"two\n"):
        x.write(word)
        assert next(events).bytes == word
    x.write(b"", close=True)
    assert next(events).name == "exit"


def test_a_megabyte_with_every_byte(client, box):
    out, _, end = client.run(box, "sh", "-c", "i=0; while [ $i -lt 1000 ]; do printf '%01024d' $i; i=$((i+1)); done")
    assert out == b"".join(b"%01024d" % i for i in range(1000)) and end["exit_code"] == 0


def test_background_child_does_not_delay_the_exit(client, box):
    began = time.monotonic()
    out, _, end = client.run(box, "sh", "-c", "sleep 30 & echo done; exit 5")
    assert (out, end["exit_code"]) == (b"done\n", 5)
    assert time.monotonic() - began < 15


# ---- WebSocket -----------------------------------------------------------------------------------------


def test_attach_output_stdin_exit(client, box):
    x = client.exec(box, "sh", "-c", "read line; echo got $line; echo err >&2; cat; exit 6")
    a = x.attach()
    a.send(b"hello\n")
    a.send(b"rest")
    a.control(type="stdin_eof")
    out, err, texts, code = a.collect()
    assert (out, err) == (b"got hello\nrest", b"err\n")
    assert texts == [{"type": "exit", "exit_code": 6}] and code == 1000
    assert a.pings, "a ping comes at once"


def test_attach_replays_from_the_start_when_late(client, box):
    x = client.exec(box, "sh", "-c", "echo early")
    x.collect()
    out, _, texts, code = x.attach().collect()
    assert out == b"early\n" and texts[-1]["exit_code"] == 0 and code == 1000


def test_reattach_begins_at_the_last_pong(client, box):
    x = client.exec(box, "cat")
    a = x.attach()
    a.send(b"first\n")
    assert a.next() == ("out", b"first\n")
    a.send(b"second\n")
    assert a.next() == ("out", b"second\n")
    # The ping that follows carries the position; reading on for a moment answers it.
    a.ws.settimeout(2)
    with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
        a.next()
    assert a.pings[-1] == len(b"first\nsecond\n")
    a.drop()
    b = attach_again(x)
    b.send(b"third\n")
    assert b.next() == ("out", b"third\n")
    b.control(type="stdin_eof")
    assert b.collect()[3] == 1000
    assert x.attach("?from=6").collect()[0] == b"second\nthird\n"


def test_a_pong_for_what_was_never_written_moves_nothing(client, box):
    x = client.exec(box, "cat")
    a = x.attach(f"?from={2**64 - 1}")
    a.ws.settimeout(1)
    with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
        a.next()  # answers the ping, which carries that position
    assert a.pings
    a.drop()
    x.write(b"first\n")
    time.sleep(1)  # so that it is in the log before anybody attaches
    b = attach_again(x)
    b.ws.settimeout(5)
    assert b.next() == ("out", b"first\n")
    b.control(type="stdin_eof")
    assert b.collect()[3] == 1000


def attach_again(x, query=""):
    """The server sees a lost connection a moment later."""
    for _ in range(100):
        try:
            return x.attach(query)
        except websocket.WebSocketBadStatusException as e:
            assert e.status_code == 409
            time.sleep(0.05)
    raise AssertionError("the attach slot stays taken")


def test_second_attach_is_refused_before_the_upgrade(client, box):
    x = client.exec(box, "cat")
    a = x.attach()
    with pytest.raises(websocket.WebSocketBadStatusException) as e:
        x.attach()
    assert e.value.status_code == 409
    a.ws.close()
    attach_again(x).drop()
    x.kill()


def test_attach_to_what_is_not_there(client, box):
    x = client.exec(box, "cat")
    x.kill_and_wait()
    for path, status in ((x.path, 410), (f"/boxes/{box}/executions/{'0' * 32}", 404), (f"/boxes/no/executions/{x.id}", 404)):
        x.path = path
        with pytest.raises(websocket.WebSocketBadStatusException) as e:
            x.attach()
        assert e.value.status_code == status


def test_attach_without_an_upgrade(client, box):
    x = client.exec(box, "true")
    r = client.get(x.path + "/attach")
    assert r.status_code == 426 and error_of(r)["code"] == "invalid_argument"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    r = client.get(x.path + "/attach", headers={**upgrade, "Sec-WebSocket-Version": "8"})
    assert r.status_code == 426 and r.headers["Sec-WebSocket-Version"] == "13"
    r = client.get(x.path + "/attach", headers={**upgrade, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"})
    assert r.status_code == 400


def test_frames_end_on_code_points(client, box):
    # Each byte of two code points by itself, with pauses longer than any batching.
    script = r"printf 'a\342'; sleep 0.2; printf '\202'; sleep 0.2; printf '\254b\303'; sleep 0.2; printf '\244'"
    x = client.exec(box, "sh", "-c", script)
    a, frames = x.attach(), []
    while True:
        kind, value = a.next()
        if kind == "close":
            break
        if kind == "out":
            frames.append(value)
    for f in frames:
        f.decode()  # each on its own
    assert b"".join(frames) == "a€bä".encode()


def test_what_is_no_utf8_passes(client, box):
    data = bytes(range(256)) * 3 + b"\xe2\x82"
    x = client.exec(box, "cat")
    a = x.attach()
    a.send(data)
    a.control(type="stdin_eof")
    assert a.collect()[0] == data


def test_control_messages(client, box):
    x = client.exec(box, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    a = x.attach()
    assert a.next() == ("out", b"ready\n")
    for message in ({"type": "signal", "sig": 9}, {"type": "signal"}, {"type": "resize", "cols": 80, "rows": 24}, {"type": "x"}, {}):
        a.control(**message)
        kind, value = a.next()
        assert kind == "text" and value["type"] == "error" and value["message"]
    a.ws.send("no json")
    assert a.next()[1]["type"] == "error"
    a.control(type="signal", sig=15)
    assert a.collect()[2:] == ([{"type": "exit", "exit_code": 3}], 1000)


def test_kill_while_attached(client, box):
    x = client.exec(box, "sleep", "1000")
    a = x.attach()
    assert x.kill().status_code == 204
    texts, code = a.collect()[2:]
    assert texts[-1]["exit_code"] == -9 and code == 1000


def test_unmasked_and_oversized_frames_close(client, box):
    x = client.exec(box, "cat")
    a = x.attach()
    a.ws.sock.sendall(b"\x82\x05hello")
    assert a.collect()[3] == 1002
    b = attach_again(x)
    try:
        b.send(b"x" * ((1 << 20) + 1))
        assert b.collect()[3] == 1009
    except (ConnectionError, websocket.WebSocketConnectionClosedException):
        pass
    c = attach_again(x)
    c.send(b"still here\n")
    assert c.next() == ("out", b"still here\n")
    x.kill()


def test_a_slow_client_gets_whole_frames_and_every_byte(client, box):
    """Long output goes from the log's file to the socket. A socket that is full cuts that anywhere; the answers to what
    the client says meanwhile come between two frames, and each frame is whole code points of its channel."""
    n = 60000
    x = client.exec(box, "sh", "-c", f"(seq {n}; printf end) & (seq {n} | sed 's/^/é/' >&2); wait")
    a = x.attach(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    got, turn = {"out": "", "err": ""}, 0
    while (said := a.next()) != ("text", {"type": "exit", "exit_code": 0}):
        assert said[0] in ("out", "err", "text")
        if said[0] in got:
            got[said[0]] += said[1].decode()
        turn += 1
        if turn % 5 == 0:
            a.ws.ping(b"x" * (turn % 120))
            a.control(type="resize", rows=1, cols=1)
        if turn % 8 == 0:
            time.sleep(0.01)
    assert got["out"] == "".join(f"{i}\n" for i in range(1, n + 1)) + "end"
    assert got["err"] == "".join(f"é{i}\n" for i in range(1, n + 1))


def test_a_megabyte_up_and_down(client, box):
    x = client.exec(box, "cat")
    a = x.attach()
    data = bytes(i * 7 % 251 for i in range(1 << 20))

    def send():
        for i in range(8):
            a.send(data)
        a.control(type="stdin_eof")

    t = threading.Thread(target=send)
    t.start()
    out = a.collect()[0]
    t.join()
    assert out == data * 8


def test_a_slow_reader_slows_only_itself(client, box):
    x = client.exec(box, "sh", "-c", "dd if=/dev/zero bs=65536 count=128 2>/dev/null | tr '\\0' x; echo")
    with client.connect() as s:
        s.sendall(f"GET /v1{x.path}/output HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        out, _, end = x.collect()
        assert len(out) == 8 * (1 << 20) + 1 and end["exit_code"] == 0


# ---- bad input -----------------------------------------------------------------------------------------


def test_unknown_things_are_404(client, box):
    for method, path in (
        ("GET", "/boxes/nobody"),
        ("DELETE", "/boxes/nobody"),
        ("POST", "/boxes/nobody/start"),
        ("POST", "/boxes/nobody/exec"),
        ("GET", f"/boxes/{box}/executions/{'0' * 32}"),
        ("GET", f"/boxes/{box}/executions/x"),
        ("POST", f"/boxes/{box}/executions/{'0' * 32}/input"),
        ("GET", "/nothing"),
        ("GET", "/boxes/a/b/c/d/e"),
    ):
        r = client.call(method, path)
        assert r.status_code == 404 and error_of(r)["code"] == "not_found", path


def test_wrong_method_says_which(client, box):
    r = client.call("PUT", f"/boxes/{box}")
    assert r.status_code == 405 and set(r.headers["Allow"].split(", ")) == {"GET", "HEAD", "DELETE"}
    error_of(r)


@pytest.mark.parametrize("path", ["/boxes/%", "/boxes/%zz", "/boxes/%00", "/boxes//x", "/" + "a/" * 40])
def test_malformed_paths(client, path):
    raw = client.raw(f"GET /v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body, place",
    [
        ('{"command": "a",\n  "args": [1,]}', "line 2"),
        ('{"command"', "line 1"),
        ("", "command"),
        ("[]", "object"),
        ('{"command": "a", "command": "b"}', "line 1"),
        ('{"command": "\\u0000"}', "line 1"),
        (b'{"command": "\xff"}', "line 1"),
        ("[" * 100000, "line 1"),
    ],
)
def test_malformed_json_names_the_place(client, box, body, place):
    r = client.post(f"/boxes/{box}/exec", data=body)
    e = error_of(r)
    assert r.status_code == 400 and e["code"] == "invalid_argument" and place in e["message"]


@pytest.mark.parametrize(
    "body, field",
    [
        ({}, "command"),
        ({"command": 5}, "command"),
        ({"command": ""}, "command"),
        ({"command": "a", "args": "b"}, "args"),
        ({"command": "a", "args": [1]}, "args"),
        ({"command": "a", "env": ["A=b"]}, "env"),
        ({"command": "a", "env": {"A": 1}}, "env"),
        ({"command": "a", "env": {"A=B": "c"}}, "env"),
        ({"command": "a", "env": {"": "c"}}, "env"),
        ({"command": "a", "working_dir": "relative"}, "working_dir"),
        ({"command": "a", "timeout_seconds": -1}, "timeout_seconds"),
        ({"command": "a", "timeout_seconds": 1e300}, "timeout_seconds"),
        ({"command": "a", "timeout_seconds": "5"}, "timeout_seconds"),
        ({"command": "a", "tty": "yes"}, "tty"),
        ({"command": "a", "stdin": 5}, "stdin"),
        ({"command": "a", "rows": 24, "cols": 80}, "rows"),
        ({"command": "a", "tty": True, "cols": 65536}, "cols"),
        ({"command": "a", "user": ""}, "user"),
        ({"command": "a", "security": "strict"}, "security"),
        ({"command": "a", "seccomp": "off"}, "seccomp"),
        ({"command": "a", "no_new_privileges": 1}, "no_new_privileges"),
        ({"command": "a", "resources": {"memory_bytes": 0}}, "resources.memory_bytes"),
        ({"command": "a", "resources": {"cpus": 0}}, "resources.cpus"),
        ({"command": "a", "resources": {"swap": 1}}, "resources.swap"),
        ({"command": "a", "rlimits": {"files": 1}}, "rlimits.files"),
        ({"command": "a", "rlimits": {"nofile": {"hard": 1}}}, "rlimits.nofile.soft"),
        ({"command": "a", "rlimits": {"nofile": {"soft": 2, "hard": 1}}}, "rlimits.nofile.hard"),
        ({"command": "a", "rlimits": {"core": "none"}}, "rlimits.core"),
        ({"command": "a", "comand": "b"}, "comand"),
    ],
)
def test_bad_exec_fields(client, box, body, field):
    r = client.post(f"/boxes/{box}/exec", json=body)
    e = error_of(r)
    assert (r.status_code, e["code"], e["field"]) == (400, "invalid_argument", field)


@pytest.mark.parametrize(
    "body, field",
    [
        ({"name": ""}, "name"),
        ({"name": "-x"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": 256}, "cpus"),
        ({"cpus": 1.5}, "cpus"),
        ({"memory_mib": -1}, "memory_mib"),
        ({"memory_mib": 2**63}, ""),
        ({"disk_size_gb": 0}, "disk_size_gb"),
        ({"env": {"A": None}}, "env"),
        ({"working_dir": "x"}, "working_dir"),
        ({"auto_stop": -1}, "auto_stop"),
        ({"auto_resume": 1}, "auto_resume"),
        ({"labels": {"a": 1}}, "labels"),
        ({"network": 5}, "network"),
        ({"network": "some"}, "network"),
        ({"network": {"mode": "x"}}, "network.mode"),
        ({"network": {"mode": "enabled", "outbound": {"mode": "enabled"}}}, "network.mode"),
        ({"network": {"outbound": {"mode": "enabled", "ports": 1}}}, "network.outbound.ports"),
        ({"advanced": {"turbo": True}}, "advanced.turbo"),
        ({"tty": "yes"}, "tty"),
        ({"detach": "yes"}, "detach"),
        ({"image_command": "yes"}, "image_command"),
        ({"open_stdin": 1}, "open_stdin"),
        ({"auto_remove": "yes"}, "auto_remove"),
        ({"advanced": {"capabilities": {"add": ["FLY"]}}}, "advanced.capabilities.add"),
        ({"volumes": [{"guest_path": "/a"}]}, "volumes.managed_volume"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_box_fields_create_nothing(client, body, field):
    before = len(client.get("/boxes").json()["boxes"])
    r = client.post("/boxes", json=body)
    e = error_of(r)
    assert (r.status_code, e["code"], e.get("field", "")) == (400, "invalid_argument", field)
    assert len(client.get("/boxes").json()["boxes"]) == before


@pytest.mark.parametrize(
    "body, field",
    [
        ({"secrets": [{"name": "a", "value": "b"}]}, "secrets"),
        ({"rootfs_path": "/srv/root"}, "rootfs_path"),
        ({"ports": [{"guest_port": 80}]}, "ports"),
        ({"health_check": {"command": "true"}}, "health_check"),
        ({"volumes": [{"host_path": "/srv", "guest_path": "/srv"}]}, "volumes.host_path"),
        ({"network": {"mode": "enabled", "allow_net": ["example.com"]}}, "network.allow_net"),
        ({"network": {"allow_net": ["example.com"]}}, "network.allow_net"),
        ({"network": {"outbound": {"mode": "enabled", "allow_net": ["10.0.0.0/8"]}}}, "network.outbound.allow_net"),
        ({"network": {"inbound": {"mode": "enabled", "allow_net": ["10.0.0.0/8"]}}}, "network.inbound.allow_net"),
    ],
)
def test_what_is_not_built_is_refused_by_name(client, body, field):
    e = error_of(client.post("/boxes", json=body))
    assert (e["code"], e["field"]) == ("unsupported", field)


def test_an_image_that_is_not_here(client):
    r = client.post("/boxes", json={"image": "127.0.0.1:1/alpine:latest"})
    assert r.status_code == 422 and error_of(r)["code"] == "image_pull_failed" and "127.0.0.1:1/alpine:latest" in error_of(r)["message"]


HEAD = b"POST /v1/boxes HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n",
        HEAD + b"Content-Length: -2\r\n",
        HEAD + b"Content-Length: 2 2\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n",
        HEAD + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length: 2\r\n 0\r\n",
        HEAD + b"X-Nul: a\0b\r\nContent-Length: 2\r\n",
        HEAD + b"X-Cr: a\rb\r\nContent-Length: 2\r\n",
        HEAD + b"Host: other\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length : 2\r\n",
        b"POST /v1/boxes HTTP/1.1\r\nContent-Length: 2\r\n",
        b"POST /v1/boxes\r\n",
        b"nonsense\r\n",
    ],
)
def test_ambiguous_framing_is_refused_and_closed(client, head):
    raw = client.raw(head + b"\r\n{}GET /v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n")
    # Nothing behind it is taken for a request of its own.
    assert b"capabilities" not in raw
    assert raw == b"" or raw.split(b" ")[1] in (b"400", b"413")


def test_json_of_100_mb_is_refused_in_flat_memory(client, daemon):
    def resident():
        status = open(f"/proc/{daemon.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    before = resident()
    body = b'{"command": "' + b"a" * (100 << 20) + b'"}'
    r = client.post("/boxes", data=body)
    assert r.status_code == 413
    assert "1048576" in error_of(r)["message"]
    assert resident() - before < 16 << 10
    # Chunked, so that nobody knows before.
    r = client.post("/boxes", data=(body[i : i + 65536] for i in range(0, 3 << 20, 65536)))
    assert r.status_code == 413


def test_input_over_its_limit(client, box):
    x = client.exec(box, "cat")
    assert x.write(b"x" * ((4 << 20) + 1)).status_code == 413
    x.kill()


def test_half_a_request_costs_nobody_else(client):
    sockets = [client.connect() for _ in range(50)]
    for i, s in enumerate(sockets):
        s.sendall((b"POST /v1/boxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{" * 2)[: 10 + i * 2])
    assert client.get("/config").status_code == 200
    for s in sockets:
        s.close()
    assert client.get("/config").status_code == 200


def test_huge_heads(client):
    raw = client.raw(b"GET /v1/config HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100000 + b"\r\n\r\n")
    assert raw == b"" or raw.split(b" ")[1] in (b"400", b"414", b"431")
    raw = client.raw(b"GET /v1/" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert raw == b"" or raw.split(b" ")[1] in (b"400", b"414", b"431")


def test_kept_connections_and_pipelining(client):
    one = b"GET /v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /v1/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert client.raw(one * 20 + last).count(b"HTTP/1.1 200 OK") == 21


def test_pages_of_a_browser_are_not_served_without_a_key(client, box):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        r = client.post(f"/boxes/{box}/exec", json={"command": "true"}, headers=headers)
        assert r.status_code == 403 and error_of(r)["code"] == "permission_denied"


# ---- auth ----------------------------------------------------------------------------------------------


def test_admin_key(make_daemon):
    d = make_daemon(auth=True)
    key_file = d.state / "admin.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_text().strip()
    assert re.fullmatch(r"tenon_[0-9a-f]{64}", key)
    assert Client(d.url).get("/config").status_code == 200
    for headers in ({}, {"Authorization": "Bearer " + key[:-1]}, {"Authorization": "Basic " + key}, {"Authorization": "Bearer"}):
        r = Client(d.url, headers).get("/boxes")
        assert r.status_code == 401 and error_of(r)["code"] == "unauthenticated"
        assert r.headers["WWW-Authenticate"] == "Bearer"
    assert Client(d.url, {"Authorization": "Bearer " + key}).get("/boxes").json()["boxes"] == []
    assert key not in d.log_tail()


def test_the_unix_socket_is_trusted_by_its_mode(make_daemon, tmp_path):
    before = os.umask(0)
    try:
        d = make_daemon("--unix", tmp_path / "s", auth=True)
    finally:
        os.umask(before)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(tmp_path / "s"))
        s.sendall(b"GET /v1/prefixes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert receive_all(s).startswith(b"HTTP/1.1 200 ")  # which is the admin's
    assert Client(d.url).get("/prefixes").status_code == 401
