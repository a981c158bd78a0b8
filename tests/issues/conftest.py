"""Bugs that need a daemon and a box: the fixtures are those of tests/e2e."""

import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location("e2e_conftest", Path(__file__).parents[1] / "e2e/conftest.py")
e2e = importlib.util.module_from_spec(spec)
spec.loader.exec_module(e2e)
make_daemon, daemon, client, box = e2e.make_daemon, e2e.daemon, e2e.client, e2e.box
