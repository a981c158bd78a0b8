"""/openapi.json is of what is served: each path has exactly the methods it names, each reference leads somewhere, and
what comes back has the shape that is promised."""

import re

import pytest

TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list, "null": type(None)}


@pytest.fixture(scope="module")
def document(client, daemon):
    d = client.get("/openapi.json").json()
    assert client.http.get(daemon.url + "/openapi.json").json() == d
    return d


def operations(document):
    return [(path, method, op) for path, item in document["paths"].items() for method, op in item.items()]


def test_form(document):
    assert document["openapi"].startswith("3.1.") and document["info"]["title"] and document["info"]["version"]
    for path, method, op in operations(document):
        assert op["summary"], f"{method} {path} has no note in rest/openapi.c"
        named = [p["name"] for p in op["parameters"] if p["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path) and "default" in op["responses"]


def test_references_lead_somewhere(document):
    used = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert used == set(document["components"]["schemas"])


def test_methods_are_those_of_the_router(client, document):
    for path in document["paths"]:
        asked = re.sub("{.*?}", "x", path)
        r = client.call("PATCH", asked)
        # "/boxes/import" is also the box of that name.
        meant = [t for t in document["paths"] if re.fullmatch(re.sub("{.*?}", "[^/]+", t), asked)]
        known = {method for t in meant for method in document["paths"][t]}
        assert r.status_code == 405 and set(r.headers["Allow"].lower().split(", ")) == known, path


@pytest.mark.parametrize(
    "operation, names",
    [
        ("post /boxes/{box}/exec", {"wait"}),
        ("put /boxes/{box}/files/content", {"path", "mode", "parents", "overwrite"}),
        ("get /boxes/{box}/files/list", {"path", "depth", "limit"}),
        ("get /boxes/{box}/files/content", {"path", "Range"}),
        ("post /boxes/{box}/executions/{id}/input", {"X-Close-Stdin"}),
        ("get /boxes/{box}/executions/{id}/output", {"from", "Last-Event-ID"}),
    ],
)
def test_what_may_be_said_beside_the_body(document, operation, names):
    method, path = operation.split()
    said = {p["name"] for p in document["paths"][path][method]["parameters"] if p["in"] != "path"}
    assert said - {"Idempotency-Key"} == names


def test_bodies_of_terminals_tunnels_and_waits(client, document, box):
    resize = document["paths"]["/boxes/{box}/executions/{id}/resize"]["post"]["requestBody"]
    assert resize["content"]["application/json"]["schema"]["$ref"].endswith("/Resize")
    tunnel = document["paths"]["/boxes/{box}/network/tunnel"]["post"]["responses"]["200"]
    waited = client.post(f"/boxes/{box}/exec?wait=true", json={"command": "echo", "args": ["on"]})
    fits(document, {"$ref": "/Waited"}, waited.json(), "wait")
    assert waited.status_code == 200 and "200" in document["paths"]["/boxes/{box}/exec"]["post"]["responses"]
    assert tunnel["content"]["application/json"]["schema"]["$ref"].endswith("/Tunnel")


def fits(document, schema, value, where):
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, TYPES[t]) for t in types), where
    assert "enum" not in schema or value in schema["enum"], where
    if isinstance(value, list):
        for item in value:
            fits(document, schema["items"], item, where)
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema.get("required", [])) <= set(value), where
        for name, member in value.items():
            assert name in schema["properties"], f"{where}: {name} is not in the document"
            fits(document, schema["properties"][name], member, f"{where}.{name}")


def test_what_comes_back_is_what_is_promised(client, document, box):
    x = client.exec(box, "true")
    x.collect()
    names = {"{box}": box, "{id}": x.id}
    seen = 0
    for path, method, op in operations(document):
        filled = re.sub("{.*?}", lambda m: names.get(m[0], "nobody"), path)
        if method != "get" or "101" in op["responses"]:
            continue
        r = client.get(filled)
        good = op["responses"].get(str(r.status_code), {} if r.status_code < 400 else op["responses"]["default"])
        if "content" in good:
            fits(document, good["content"]["application/json"]["schema"], r.json(), path)
            seen += 1
    assert seen > 15
