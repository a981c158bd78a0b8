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
