"""The agent by itself, without a VM: the same binary on a unix socket."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agent import Agent  # noqa: E402


@pytest.fixture(scope="module")
def agent():
    a = Agent()
    a.configured()
    yield a
    a.end()


@pytest.fixture
def conn(agent):
    c = agent.dial()
    yield c
    agent.dial().clear()  # nothing stays behind, whatever became of the test


@pytest.fixture
def own_agent():
    """For tests that count, fence or end it."""
    a = Agent()
    yield a
    a.end()
