"""What the two dialects have beside boxes and commands: pages, filters, metrics, health, what is not built; and a client
of the 2026-02 dialect from its token to the exit of a command."""

import re
import time

import pytest
import websocket

from client import Client, Execution, error_of

# ---- the list ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(client):
    assert client.post("/prefixes", json={"prefix": "pages"}).status_code == 204
    made = [client.post("/pages/boxes", json={}).json()["box_id"] for _ in range(7)]
    yield made
    for b in made:
        client.delete("/pages/boxes/" + b)


def ids(r):
    assert r.status_code == 200, r.text
    return [b["box_id"] for b in r.json()["boxes"]]


def test_everything_is_on_page_1_without_a_size(client, few):
    r = client.get("/pages/boxes")
    assert sorted(ids(r)) == sorted(few) and r.json()["next_page_token"] is None


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_pages_hold_each_box_once(client, few, size):
    seen, token = [], ""
    while token is not None:
        r = client.get(f"/pages/boxes?pageSize={size}" + (f"&pageToken={token}" if token else ""))
        assert 0 < len(ids(r)) <= size
        seen += ids(r)
        token = r.json()["next_page_token"]
    assert seen == ids(client.get("/pages/boxes"))


def test_a_page_goes_on_where_a_deleted_box_was(client, few):
    extra = client.post("/pages/boxes", json={}).json()["box_id"]
    token = client.get(f"/pages/boxes?pageSize={len(few)}").json()["next_page_token"]
    assert token and client.delete(f"/pages/boxes/{extra}").status_code == 204
    assert ids(client.get(f"/pages/boxes?pageSize=5&pageToken={token}")) in ([], few[-1:])


def test_status_filter(client, few, box):
    assert box in ids(client.get("/boxes?status=running")) and box not in ids(client.get("/boxes?status=stopped"))
    assert sorted(ids(client.get("/pages/boxes?status=configured"))) == sorted(few)
    assert ids(client.get("/pages/boxes?status=paused")) == []


def test_name_filter(client, few):
    named = client.post("/pages/boxes", json={"name": "named"}).json()["box_id"]
    try:
        assert ids(client.get("/pages/boxes?name=named")) == ids(client.get("/pages/boxes?name=named&status=configured")) == [named]
        assert ids(client.get("/pages/boxes?name=nam")) == ids(client.get("/pages/boxes?name=named&status=running")) == []
    finally:
        client.delete("/pages/boxes/" + named)


@pytest.mark.parametrize(
    "query, field",
    [("status=", "status"), ("status=up", "status"), ("pageSize=0", "pageSize"), ("pageSize=1001", "pageSize"), ("pageSize=x", "pageSize")]
    + [("pageSize=1&pageToken=", "pageToken"), ("pageToken=../x", "pageToken")],
)
def test_bad_lists(client, query, field):
    e = error_of(client.get("/boxes?" + query))
    assert (e["code"], e["field"]) == ("invalid_argument", field)


# ---- metrics and health --------------------------------------------------------------------------------


def test_box_metrics(client, box):
    before = client.get(f"/boxes/{box}/metrics").json()
    client.run(box, "true")
    assert client.post(f"/boxes/{box}/exec", json={"command": "/no/such"}).status_code == 422
    after = client.get(f"/boxes/{box}/metrics").json()
    assert after["commands_executed_total"] == before["commands_executed_total"] + 2
    assert after["exec_errors_total"] == before["exec_errors_total"] + 1
    timing = after["boot_timing"]
    assert 0 < timing["guest_boot_ms"] <= timing["total_create_ms"]
    assert client.get("/boxes/nobody/metrics").status_code == 404


def test_runtime_metrics(client, box):
    before = client.get("/metrics").json()
    assert all(type(v) is int for v in before.values()) and before["num_running_boxes"] >= 1
    client.run(box, "true")
    b = client.create()["box_id"]
    after = client.get("/metrics").json()
    assert client.delete("/boxes/" + b).status_code == 204
    assert after["boxes_created_total"] == before["boxes_created_total"] + 1
    assert after["total_commands_executed"] == before["total_commands_executed"] + 1
    assert client.get("/metrics").json()["boxes_created_total"] == after["boxes_created_total"]


def test_prometheus_text(client, daemon, box):
    for url in (daemon.url + "/metrics", daemon.url + "/v1/metrics"):
        r = client.http.get(url, headers={"Accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
        assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        for line in r.text.splitlines():
            assert re.fullmatch(r"# HELP tenon_\w+ .+|# TYPE tenon_\w+ (counter|gauge)|tenon_\w+ \d+", line)
        assert "\ntenon_boxes_running " in r.text and r.text.endswith("\n")


def test_health(client, daemon):
    for url in (daemon.url + "/healthz", daemon.url + "/v1/healthz"):
        assert client.http.get(url).json() == {"status": "ok"}


# ---- 2026-02 -------------------------------------------------------------------------------------------


def attach_when_free(x):
    """A place in an execution is free once its last holder's end was seen."""
    for _ in range(100):
        try:
            return x.attach()
        except websocket.WebSocketBadStatusException as e:
            assert e.status_code == 409
            time.sleep(0.05)
    raise AssertionError("the place is never free")


def test_the_old_dialect_from_token_to_exit(client, box):
    made = client.post("/default/oauth/clients", json={"name": "old", "scopes": ["boxes:read", "boxes:write", "boxes:exec"]}).json()
    form = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    token = client.post("/oauth/tokens", data=form).json()
    url = client.url.removesuffix("/v1")
    old = Client(url, {"Authorization": "Bearer " + token["access_token"]})
    old.url += "/default"
    r = old.post(f"/boxes/{box}/exec", json={"command": "sh", "args": ["-c", "cat; echo end >&2; exit 3"]})
    assert r.status_code == 201
    x = Execution(old, box, r.json()["execution_id"])
    assert r.headers["Location"] == f"/v1/default/boxes/{box}/executions/{x.id}"
    assert x.write(b"one ").status_code == 204
    assert x.write(b"two", close=True).status_code == 204
    out, err, end = x.collect()
    assert (out, err, end["exit_code"]) == (b"one two", b"end\n", 3) and type(end["duration_ms"]) is int
    # Signal 9 is theirs alone.
    x = Execution(old, box, old.post(f"/boxes/{box}/exec", json={"command": "sleep", "args": ["1000"]}).json()["execution_id"])
    assert Execution(client, box, x.id).signal(9).status_code == 400
    assert x.signal(9).status_code == 204
    assert x.collect()[2]["exit_code"] == -9
    # Over a WebSocket, too.
    x = Execution(old, box, old.post(f"/boxes/{box}/exec", json={"command": "sleep", "args": ["1000"]}).json()["execution_id"])
    a = Execution(client, box, x.id).attach()
    a.control(type="signal", sig=9)
    kind, refused = a.next()
    assert kind == "text" and refused["type"] == "error" and "DELETE" in refused["message"]
    a.ws.close()
    a = attach_when_free(x)
    a.control(type="signal", sig=9)
    assert a.collect()[2][-1]["exit_code"] == -9
    e = old.post(f"/boxes/{box}/executions/{x.id}/signal", json={"signal": 99}).json()["error"]
    assert (e["code"], e["type"]) == (400, "InvalidArgumentError")
    assert client.delete("/default/oauth/clients/old").status_code == 204


def test_stop_with_a_time_of_zero_is_at_once(client):
    b = client.create()["box_id"]
    x = client.exec(b, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert next(x.events()).bytes == b"ready\n"
    began = time.monotonic()
    r = client.post(f"/boxes/{b}/stop", json={"timeout_seconds": 0})
    assert r.status_code == 200 and r.json()["status"] == "stopped"
    assert time.monotonic() - began < 4.5
    assert client.delete(f"/boxes/{b}").status_code == 204


# ---- every operation of the two specifications ---------------------------------------------------------

BOTH = """
GET /config; POST /boxes 1; GET /boxes; GET /boxes/{box}; HEAD /boxes/{box}; DELETE /boxes/{box} 1
POST /boxes/{box}/start 1; POST /boxes/{box}/stop 1; POST /boxes/{box}/exec 1; GET /boxes/{box}/executions/{id}
POST /boxes/{box}/executions/{id}/signal 1; POST /boxes/{box}/executions/{id}/resize; PUT /boxes/{box}/files
GET /boxes/{box}/files; GET /metrics; GET /boxes/{box}/metrics; POST /images/pull 1; GET /images; GET /images/{image}
HEAD /images/{image}
"""
OLD = """
POST /oauth/tokens; GET /boxes/{box}/exec/tty; GET /boxes/{box}/executions/{id}/output
POST /boxes/{box}/executions/{id}/input
"""
NEW = """
GET /me; POST /api-keys; GET /api-keys; DELETE /api-keys/{name}; POST /volumes; GET /volumes; GET /volumes/{volume}
DELETE /volumes/{volume}; POST /boxes/{box}/snapshots; GET /boxes/{box}/snapshots; GET /boxes/{box}/snapshots/{name}
DELETE /boxes/{box}/snapshots/{name}; POST /boxes/{box}/snapshots/{name}/restore; POST /boxes/{box}/clone
POST /boxes/{box}/export; POST /boxes/import; DELETE /boxes/{box}/executions/{id}
GET /boxes/{box}/executions/{id}/attach; POST /boxes/{box}/network/tunnel
"""


def operations(text):
    return [o.split() for line in text.split("\n") for o in line.split(";") if o.strip()]


def test_every_operation_is_served(client):
    old, new = operations(BOTH + OLD), operations(BOTH + NEW)
    assert (len(old), len(new)) == (24, 39)
    paths = client.get("/openapi.json").json()["paths"]
    for method, path, *once in operations(BOTH + OLD + NEW):
        names = [p["name"] for p in paths[path][method.lower()]["parameters"]]
        assert not once or "Idempotency-Key" in names, (method, path)


@pytest.fixture
def old(client):
    """A client of the 2026-02 dialect, with all of its scopes."""
    scopes = ["boxes:read", "boxes:write", "boxes:exec", "images:read", "images:write", "runtime:admin"]
    made = client.post("/oauth/clients", json={"name": "all", "scopes": scopes}).json()
    form = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    r = client.post("/oauth/tokens", data={**form, "scope": " ".join(scopes)})
    assert r.json()["scope"].split() == scopes
    c = Client(client.url.removesuffix("/v1"), {"Authorization": "Bearer " + r.json()["access_token"]})
    c.url += "/default"
    yield c
    assert client.delete("/oauth/clients/all").status_code == 204


def refused(r, status, type):
    e = r.json()["error"]
    assert (r.status_code, e["code"], e["type"]) == (status, status, type), r.text


def test_the_old_dialect_goes_through_all_of_it(old):
    """What the 24 operations answer, those of a command apart, which the test above has."""
    c = old.get("/config").json()
    assert c["defaults"]["security_preset"] in c["capabilities"]["supported_security_presets"]
    body = {"name": "old-one", "image": "tenon/base", "security": "maximum", "auto_remove": True, "detach": True}
    r = old.post("/boxes", json={**body, "volumes": [], "ports": [], "labels": {}})
    b = r.json()["box_id"]
    assert (r.status_code, r.headers["Location"], r.json()["status"]) == (201, "/v1/default/boxes/" + b, "configured")
    refused(old.post("/boxes", json=body), 409, "AlreadyExistsError")
    refused(old.post("/boxes", json={"cpus": 0}), 400, "InvalidArgumentError")
    refused(old.post("/boxes", json={"ports": [{"guest_port": 80}]}), 400, "UnsupportedError")
    page = old.get("/boxes?pageSize=1&status=configured").json()
    assert len(page["boxes"]) == 1 and "next_page_token" in page
    assert old.get("/boxes/old-one").json()["box_id"] == old.get("/boxes/" + b).json()["box_id"] == b
    assert [old.call("HEAD", "/boxes/" + x).status_code for x in (b, "nobody")] == [204, 404]
    r = old.post(f"/boxes/{b}/start")
    assert r.status_code == 200 and r.json()["status"] == "running"
    refused(old.delete("/boxes/" + b), 409, "InvalidStateError")
    refused(old.post("/boxes/nobody/start"), 404, "NotFoundError")

    x = Execution(old, b, old.post(f"/boxes/{b}/exec", json={"command": "cat", "timeout_seconds": 60.5}).json()["execution_id"])
    refused(old.post(x.path + "/resize", json={"cols": 80, "rows": 24}), 409, "InvalidStateError")
    refused(old.post(x.path + "/input", data=b"x", headers={"X-Close-Stdin": "perhaps"}), 400, "InvalidArgumentError")
    assert old.post(x.path + "/input", data=b"on ", headers={"X-Close-Stdin": "false"}).status_code == 204
    assert x.write(b"", close=True).status_code == 204
    assert x.collect()[0] == b"on " and x.collect(1)[0] == b"n "
    assert x.info()["status"] == "completed"
    refused(x.signal(15), 409, "InvalidStateError")
    refused(x.write(b"late"), 409, "InvalidStateError")
    refused(old.get(f"/boxes/{b}/executions/{'0' * 32}/output"), 404, "NotFoundError")
    with pytest.raises(websocket.WebSocketBadStatusException) as e:
        tty = "ws" + old.url[4:] + "/boxes/nobody/exec/tty"
        websocket.create_connection(tty, header={"Authorization": old.http.headers["Authorization"]}, http_no_proxy=["*"])
    assert e.value.status_code == 404

    tar = old.get(f"/boxes/{b}/files?path=/etc/hostname")
    assert (tar.status_code, tar.headers["Content-Type"]) == (200, "application/x-tar")
    assert old.call("PUT", f"/boxes/{b}/files?path=/tmp", data=tar.content).status_code == 204
    refused(old.call("PUT", f"/boxes/{b}/files?path=/tmp&overwrite=false", data=tar.content), 409, "AlreadyExistsError")
    refused(old.get(f"/boxes/{b}/files?path=/none"), 404, "NotFoundError")
    assert old.get("/metrics").json()["num_running_boxes"] >= 1
    assert old.get(f"/boxes/{b}/metrics").json()["boot_timing"]["guest_boot_ms"] > 0

    refused(old.post("/images/pull", json={"reference": "127.0.0.1:1/no/such:image"}), 422, "ImageError")
    i = old.post("/images/pull", json={"reference": "tenon/base"}).json()
    assert {"reference", "repository", "tag", "id", "cached_at"} <= set(i)
    assert i["id"] in [x["id"] for x in old.get("/images?pageSize=1000").json()["images"]]
    assert old.get("/images/" + i["id"]).json()["reference"] == i["reference"]
    assert [old.call("HEAD", "/images/" + x).status_code for x in (i["id"], "sha256:" + "0" * 64)] == [204, 404]

    # auto_remove: it is gone once it has stopped.
    r = old.post(f"/boxes/{b}/stop", json={"timeout_seconds": 5})
    assert r.status_code == 200 and r.json()["box_id"] == b
    for _ in range(200):
        r = old.get("/boxes/" + b)
        if r.status_code == 404:
            break
        time.sleep(0.05)
    refused(r, 404, "NotFoundError")
    r = old.post("/boxes", json={})
    assert old.delete(f"/boxes/{r.json()['box_id']}?force=true").status_code == 204
    # Its types are those of its specification; both of these are newer.
    refused(old.get("/api-keys"), 403, "UnauthorizedError")
