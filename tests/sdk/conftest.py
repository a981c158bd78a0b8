"""BoxLite's published clients against a real tenond and real boxes. The daemon's fixtures are those of tests/e2e."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDKS = ROOT / "build/sdk"

spec = importlib.util.spec_from_file_location("e2e_conftest", ROOT / "tests/e2e/conftest.py")
e2e = importlib.util.module_from_spec(spec)
spec.loader.exec_module(e2e)
make_daemon = e2e.make_daemon


@pytest.fixture(scope="session")
def sdks():
    done = subprocess.run([ROOT / "tests/sdk/install.sh"], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return SDKS


@pytest.fixture(scope="session")
def account(make_daemon):
    """What somebody who uses an SDK is given: a url, a key and a prefix."""
    d = make_daemon(auth=True)
    admin = e2e.Client(d.url, {"Authorization": "Bearer " + (d.state / "admin.key").read_text().strip()})
    assert admin.post("/prefixes", json={"prefix": "sdk/team"}).status_code == 204
    key = {"name": "sdk", "permissions": ["write:boxes", "delete:boxes", "write:volumes", "delete:volumes"]}
    value = admin.post("/sdk/team/api-keys", json=key).json()["value"]
    scopes = ["boxes:read", "boxes:write", "boxes:exec", "images:read", "images:write", "runtime:admin"]
    # Clients of the 2026-02 dialect know no prefix but "default"; what they call one is the API's version.
    old = admin.post("/oauth/clients", json={"name": "old", "scopes": scopes}).json()
    yield {"new": (d.url, value, "sdk/team"), "old": (d.url, old["client_id"] + ":" + old["client_secret"], "v1")}
    for prefix in ("/sdk/team", "/default"):
        for b in admin.get(prefix + "/boxes").json()["boxes"]:
            admin.delete(f"{prefix}/boxes/{b['box_id']}?force=true")
