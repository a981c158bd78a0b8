"""Who may call and for whom: keys, clients of OAuth2 and their tokens, prefixes. No box is booted here but one."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Client, error_of, receive_all


@pytest.fixture(scope="module")
def guarded(make_daemon):
    """A tenond that wants a key; its url, its admin's client."""
    d = make_daemon(auth=True)
    d.admin = bearer(d.url, (d.state / "admin.key").read_text().strip())
    yield d
    for prefix in ("", "/acme", "/acme/eu"):
        r = d.admin.get(prefix + "/boxes")
        for b in r.json().get("boxes", []):
            d.admin.delete(f"{prefix}/boxes/{b['box_id']}?force=true")


def bearer(url, value):
    return Client(url, {"Authorization": "Bearer " + value})


@pytest.fixture(scope="module")
def prefixes(guarded):
    for name, boxes in (("acme", 2), ("acme/eu", 1000)):
        r = guarded.admin.post("/prefixes", json={"prefix": name, "max_boxes": boxes})
        assert r.status_code == 204, r.text


def make_key(at, name, *permissions, prefix="", **more):
    r = at.post(prefix + "/api-keys", json={"name": name, "permissions": list(permissions), **more})
    assert r.status_code == 201, r.text
    return r.json()


def make_client(at, name, *scopes, prefix="", **more):
    r = at.post(prefix + "/oauth/clients", json={"name": name, "scopes": list(scopes), **more})
    assert r.status_code == 201, r.text
    return r.json()


def take_token(url, made, **more):
    form = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    return Client(url).post("/oauth/tokens", data={**form, **more})


# ---- api keys ------------------------------------------------------------------------------------------


def test_a_key_is_shown_once(guarded):
    k = make_key(guarded.admin, "once", "write:boxes")
    assert set(k) == {"name", "permissions", "created_at", "expires_at", "value"} and k["expires_at"] is None
    mine = bearer(guarded.url, k["value"])
    assert mine.get("/boxes").status_code == 200
    listed = [x for x in guarded.admin.get("/api-keys").json()["api_keys"] if x["name"] == "once"]
    assert listed[0]["permissions"] == ["write:boxes"] and "value" not in listed[0] and listed[0]["last_used_at"]
    assert k["value"] not in guarded.log_tail()
    assert error_of(guarded.admin.post("/api-keys", json={"name": "once", "permissions": ["box:read"]}))["code"] == "already_exists"
    assert guarded.admin.delete("/api-keys/once").status_code == 204
    assert error_of(mine.get("/boxes"))["code"] == "unauthenticated"
    assert guarded.admin.delete("/api-keys/once").status_code == 404


def test_me_says_what_a_key_may(guarded):
    k = make_key(guarded.admin, "me", "write:boxes", "delete:boxes")
    me = bearer(guarded.url, k["value"]).get("/me").json()
    assert me["scopes"] == ["box:read", "box:write", "box:exec", "box:delete", "me:read"]
    assert me["display_name"] == "me" and me["path_prefix"] is None and me["expires_at"] is None


@pytest.mark.parametrize("word", ["images:read", "images:write", "runtime:admin"])
def test_me_has_a_word_for_every_scope(guarded, word):
    """What is not in the list is not served, and what is served is in it."""
    k = make_key(guarded.admin, "one", word)
    assert bearer(guarded.url, k["value"]).get("/me").json()["scopes"] == ["me:read", word]
    assert word in guarded.admin.get("/me").json()["scopes"]
    assert guarded.admin.delete("/api-keys/one").status_code == 204


def test_scopes_are_asked_for(guarded):
    reader = bearer(guarded.url, make_key(guarded.admin, "reader", "box:read")["value"])
    assert reader.get("/boxes").status_code == 200
    for method, path in (("POST", "/boxes"), ("DELETE", "/boxes/x"), ("POST", "/boxes/x/exec"), ("GET", "/volumes"), ("GET", "/api-keys"), ("GET", "/prefixes")):
        e = error_of(reader.call(method, path))
        assert e["code"] == "permission_denied", path


def test_a_key_passes_on_no_more_than_it_has(guarded):
    k = make_key(guarded.admin, "maker", "api_key:write", "box:read", expires_at="2999-01-01T00:00:00Z")
    maker = bearer(guarded.url, k["value"])
    r = maker.post("/api-keys", json={"name": "x", "permissions": ["box:read", "write:boxes", "delete:boxes"]})
    e = error_of(r)
    assert r.status_code == 403 and e["code"] == "permission_denied" and e["field"] == "permissions"
    assert "write:boxes delete:boxes" in e["message"] and "box:read" not in e["message"]
    r = maker.post("/api-keys", json={"name": "x", "permissions": ["box:read"], "expires_at": "2999-01-02T00:00:00Z"})
    assert r.status_code == 403
    assert make_key(maker, "child", "box:read")["expires_at"] == "2999-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "body, status, field",
    [
        ({"permissions": ["box:read"]}, 400, "name"),
        ({"name": "a/b", "permissions": ["box:read"]}, 400, "name"),
        ({"name": "x" * 129, "permissions": ["box:read"]}, 400, "name"),
        ({"name": "a"}, 400, "permissions"),
        ({"name": "a", "permissions": []}, 400, "permissions"),
        ({"name": "a", "permissions": ["nonsense"]}, 400, "permissions"),
        ({"name": "a", "permissions": [1]}, 400, "permissions"),
        ({"name": "a", "permissions": ["write:registries"]}, 403, "permissions"),
        ({"name": "a", "permissions": ["box:read"], "expires_at": "soon"}, 400, "expires_at"),
        ({"name": "a", "permissions": ["box:read"], "expires_at": "2001-01-01T00:00:00Z"}, 400, "expires_at"),
        ({"name": "a", "permissions": ["box:read"], "value": "mine"}, 400, "value"),
    ],
)
def test_bad_keys(guarded, body, status, field):
    r = guarded.admin.post("/api-keys", json=body)
    assert (r.status_code, error_of(r)["field"]) == (status, field)


@pytest.mark.parametrize("path", ["/api-keys", "/boxes"])
def test_a_key_that_is_revoked_while_it_speaks_gets_nothing(guarded, path):
    k = make_key(guarded.admin, "leaving", "api_key:write", "write:boxes")
    body = b'{"name":"late","permissions":["box:read"]}' if path == "/api-keys" else b'{"name":"late"}'
    head = f"POST /v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {k['value']}\r\n"
    with guarded.admin.connect() as s:
        s.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body[:1])
        # Another request that was sent later is answered: the head of the first has been read.
        assert guarded.admin.get("/me").status_code == 200
        assert guarded.admin.delete("/api-keys/leaving").status_code == 204
        s.sendall(body[1:])
        assert receive_all(s).split(b" ")[1] in (b"401", b"404")
    assert "late" not in guarded.admin.get(path).text


# ---- tokens --------------------------------------------------------------------------------------------


def test_client_credentials(guarded):
    c = make_client(guarded.admin, "ci", "boxes:read", "boxes:write", "boxes:exec")
    assert c["client_secret"] not in guarded.admin.get("/oauth/clients").text
    r = take_token(guarded.url, c, scope="boxes:read boxes:exec runtime:admin")
    assert r.status_code == 200 and r.headers["Cache-Control"] == "no-store"
    t = r.json()
    assert (t["token_type"], t["expires_in"], t["scope"]) == ("bearer", 3600, "boxes:read boxes:exec")
    mine = bearer(guarded.url, t["access_token"])
    assert mine.get("/default/boxes").status_code == 200
    assert mine.post("/default/boxes", json={}).status_code == 403
    assert guarded.admin.delete("/oauth/clients/" + c["client_id"]).status_code == 204
    assert mine.get("/default/boxes").status_code == 401
    assert take_token(guarded.url, c).status_code == 401


def numeric(r):
    e = r.json()["error"]
    assert e["code"] == r.status_code and type(e["code"]) is int and e["request_id"] == r.headers["X-Request-Id"]
    return e


def test_codes_are_numbers_for_tokens_alone(guarded):
    c = make_client(guarded.admin, "numbers", "boxes:read")
    mine = bearer(guarded.url, take_token(guarded.url, c).json()["access_token"])
    assert numeric(mine.get("/default/boxes/nobody"))["type"] == "NotFoundError"
    assert numeric(mine.get("/default/nothing"))["code"] == 404
    assert numeric(mine.post("/default/boxes", json={}))["code"] == 403
    assert numeric(bearer(guarded.url, "tenon_t0").get("/boxes"))["type"] == "UnauthorizedError"
    assert numeric(take_token(guarded.url, {"client_id": "x", "client_secret": "y"}))["type"] == "UnauthorizedError"
    assert error_of(guarded.admin.get("/default/boxes/nobody"))["code"] == "not_found"


@pytest.mark.parametrize(
    "form", ["", "grant_type=password&client_id=a&client_secret=b", "grant_type=client_credentials&client_id=a", "grant_type=%&client_id=a&client_secret=b", "{}"]
)
def test_bad_token_requests(guarded, form):
    assert numeric(Client(guarded.url).post("/oauth/tokens", data=form))["code"] == 400


def test_a_token_expires(guarded):
    c = make_client(guarded.admin, "short", "boxes:read", token_seconds=1)
    t = take_token(guarded.url, c).json()
    assert t["expires_in"] == 1
    mine = bearer(guarded.url, t["access_token"])
    assert mine.get("/boxes").status_code == 200
    end = time.monotonic() + 10
    while mine.get("/boxes").status_code == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert numeric(mine.get("/boxes"))["code"] == 401


# ---- prefixes ------------------------------------------------------------------------------------------


def test_a_prefix_sees_only_its_own(guarded, prefixes):
    a = guarded.admin
    here = a.post("/acme/boxes", json={"name": "twin"})
    there = a.post("/acme/eu/boxes", json={"name": "twin"})
    assert here.status_code == there.status_code == 201
    assert here.headers["Location"] == "/v1/acme/boxes/" + here.json()["box_id"]
    ids = here.json()["box_id"], there.json()["box_id"]
    for prefix, own, other in (("/acme", *ids), ("/acme/eu", ids[1], ids[0])):
        assert [b["box_id"] for b in a.get(prefix + "/boxes").json()["boxes"]] == [own]
        assert a.get(prefix + "/boxes/twin").json()["box_id"] == own
        assert a.get(f"{prefix}/boxes/{other}").status_code == 404
    assert a.get("/boxes/" + ids[0]).status_code == a.get("/default/boxes/twin").status_code == 404

    k = make_key(a, "eu", "write:boxes", prefix="/acme/eu")
    mine = bearer(guarded.url, k["value"])
    assert mine.get("/me").json()["path_prefix"] == "acme/eu"
    assert mine.get("/boxes/twin").json()["box_id"] == mine.get("/acme/eu/boxes/twin").json()["box_id"] == ids[1]
    assert [mine.get(p + "/boxes").status_code for p in ("/acme", "/default", "/nobody")] == [404] * 3
    assert a.get("/api-keys").json()["api_keys"] != a.get("/acme/eu/api-keys").json()["api_keys"]
    for p, i in (("/acme", ids[0]), ("/acme/eu", ids[1])):
        assert a.delete(f"{p}/boxes/{i}").status_code == 204


def test_boxes_of_a_prefix_are_limited(guarded, prefixes):
    with ThreadPoolExecutor(8) as pool:
        got = [r.status_code for r in pool.map(lambda _: guarded.admin.post("/acme/boxes", json={}), range(8))]
    assert sorted(got) == [201] * 2 + [429] * 6
    assert error_of(guarded.admin.post("/acme/boxes", json={}))["code"] == "resource_exhausted"
    # Whoever may look is told the prefix's own limit, all others what is the most.
    eu = bearer(guarded.url, make_key(guarded.admin, "counter", "box:read", prefix="/acme/eu")["value"])
    acme = bearer(guarded.url, make_key(guarded.admin, "counter", "box:read", prefix="/acme")["value"])
    asked = [(guarded.admin, "/acme", 2), (guarded.admin, "", 1000), (acme, "", 2), (acme, "/acme", 2), (eu, "/acme", 1000), (Client(guarded.url), "/acme", 1000)]
    for who, prefix, limit in asked:
        told = who.get(prefix + "/config").json()["capabilities"]
        assert told["max_boxes_per_prefix"] == told["max_boxes_per_path_prefix"] == limit


@pytest.mark.parametrize("prefix", ["", "boxes", "metrics/a", "a//b", "-a", "a b", "x" * 129, "v1", "prefixes"])
def test_what_is_no_prefix(guarded, prefix):
    e = error_of(guarded.admin.post("/prefixes", json={"prefix": prefix}))
    assert (e["code"], e["field"]) == ("invalid_argument", "prefix")


def test_prefixes_go_when_they_are_empty(guarded):
    a = guarded.admin
    assert a.post("/prefixes", json={"prefix": "gone/soon"}).status_code == 204
    assert a.post("/prefixes", json={"prefix": "gone/soon"}).status_code == 409
    assert "gone/soon" in [p["prefix"] for p in a.get("/prefixes").json()["prefixes"]]
    b = a.post("/gone/soon/boxes", json={}).json()["box_id"]
    assert a.delete("/prefixes/gone%2Fsoon").status_code == 409
    assert a.delete(f"/gone/soon/boxes/{b}").status_code == 204
    # The box's folder may still be on its way out.
    end = time.monotonic() + 10
    while (r := a.delete("/prefixes/gone%2Fsoon")).status_code == 409 and time.monotonic() < end:
        time.sleep(0.05)
    assert r.status_code == 204
    assert a.get("/gone/soon/boxes").status_code == 404
    assert a.delete("/prefixes/default").status_code == 409


def test_all_of_it_survives_tenond(guarded, prefixes):
    k = make_key(guarded.admin, "lasting", "box:read", prefix="/acme")
    c = make_client(guarded.admin, "lasting", "boxes:read", prefix="/acme")
    t = take_token(guarded.url, c).json()["access_token"]
    guarded.kill()
    guarded.start()
    for value in (k["value"], t):
        assert bearer(guarded.url, value).get("/acme/boxes").status_code == 200
    for file in guarded.state.glob("tenon.db*"):
        content = file.read_bytes()
        for secret in (k["value"], t, c["client_secret"]):
            assert re.sub(".*_", "", secret).encode() not in content
