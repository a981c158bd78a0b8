"""Idempotency-Key: the first answer again, one effect, other requests refused; across the death of tenond, too."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Execution, error_of


@pytest.fixture
def key():
    return {"Idempotency-Key": str(uuid.uuid4())}


def count(client):
    return len(client.get("/boxes").json()["boxes"])


def test_create_once(make_daemon, key):
    d = make_daemon()
    client = d.client()
    first = client.post("/boxes", json={"name": "once"}, headers=key)
    assert first.status_code == 201 and "Idempotency-Replayed" not in first.headers
    for _ in range(2):
        again = client.post("/boxes", json={"name": "once"}, headers=key)
        assert (again.status_code, again.text, again.headers["Location"]) == (201, first.text, first.headers["Location"])
        assert again.headers["Idempotency-Replayed"] == "true"
        other = client.post("/boxes", json={"name": "other"}, headers=key)
        assert other.status_code == 422 and error_of(other)["code"] == "invalid_argument"
        assert client.post("/boxes/once/stop", headers=key).status_code == 422
        assert count(client) == 1
        d.kill()
        d.start()
    # Another prefix has keys of its own.
    assert client.post("/prefixes", json={"prefix": "acme"}).status_code == 204
    assert client.post("/acme/boxes", json={"name": "other"}, headers=key).status_code == 201
    # The answer is the first one, whatever became of the box. A box of an unkeyed request is another.
    gone = {"Idempotency-Key": "gone"}
    assert client.delete("/boxes/once", headers=gone).status_code == 204
    assert client.delete("/boxes/once", headers=gone).status_code == 204
    assert client.delete("/boxes/once").status_code == 404
    assert client.post("/boxes", json={"name": "once"}, headers=key).text == first.text
    assert count(client) == 0
    assert client.delete("/acme/boxes/other").status_code == 204


def test_twins_have_one_effect(client, key):
    before = count(client)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post("/boxes", json={}, headers=key), range(16)))
    assert {r.status_code for r in answers} == {201} and len({r.text for r in answers}) == 1
    assert count(client) == before + 1
    client.remove(answers[0].json()["box_id"])


def test_refusals_are_kept_too(client, key):
    first = client.post("/boxes", json={"cpus": 0}, headers=key)
    again = client.post("/boxes", json={"cpus": 0}, headers=key)
    assert first.status_code == again.status_code == 400 and first.text == again.text


def test_one_command_and_one_signal(client, box, key):
    body = {"command": "sh", "args": ["-c", "trap 'echo x' USR1; echo r; while :; do sleep 0.05; done"]}
    runs = [client.post(f"/boxes/{box}/exec", json=body, headers=key).json()["execution_id"] for _ in range(3)]
    assert len(set(runs)) == 1
    path = f"/boxes/{box}/executions/{runs[0]}"
    signal = {"Idempotency-Key": "s" + key["Idempotency-Key"]}
    x = Execution(client, box, runs[0])
    events = x.events()
    assert next(events).bytes == b"r\n"
    for _ in range(3):
        assert client.post(path + "/signal", json={"signal": 10}, headers=signal).status_code == 204
    assert next(events).bytes == b"x\n"
    # Only one without the key is a second; pending at once, the two would have been one.
    assert client.post(path + "/signal", json={"signal": 10}).status_code == 204
    assert next(events).bytes == b"x\n"
    assert x.kill().status_code == 204
    assert b"".join(e.bytes for e in events) == b""


def test_start_and_stop(client, box, key):
    answers = [client.post(f"/boxes/{box}/start", headers=key) for _ in range(2)]
    assert [r.status_code for r in answers] == [200, 200] and answers[0].text == answers[1].text
    assert client.post(f"/boxes/{box}/stop", json={"timeout_seconds": -1}, headers={"Idempotency-Key": "bad"}).status_code == 400


def test_what_else_lists_it(client, box, key):
    """A pull, a stop and a deletion: the first answer again, and another body is another request."""
    body = {"reference": "tenon/base"}
    answers = [client.post("/images/pull", json=body, headers=key) for _ in range(2)]
    assert answers[0].status_code == 200 and answers[0].text == answers[1].text and "Idempotency-Replayed" in answers[1].headers
    assert client.post("/images/pull", json={"reference": "other"}, headers=key).status_code == 422
    b = client.create()["box_id"]
    for call in (lambda **kw: client.post(f"/boxes/{b}/stop", **kw), lambda **kw: client.delete(f"/boxes/{b}", **kw)):
        own = {"Idempotency-Key": str(uuid.uuid4())}
        answers = [call(headers=own) for _ in range(2)]
        assert answers[0].status_code in (200, 204) and answers[0].status_code == answers[1].status_code
        assert answers[0].text == answers[1].text and "Idempotency-Replayed" in answers[1].headers


@pytest.mark.parametrize("value", ["", "a b", "x" * 256, "\u00e9"])
def test_bad_keys(client, value):
    r = client.post("/boxes", json={}, headers={"Idempotency-Key": value.encode("latin-1")})
    assert r.status_code == 400 and error_of(r)["code"] == "invalid_argument"
