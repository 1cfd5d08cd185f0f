"""What all tests share: real data in place, and no way to the outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_socket
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "realdata"

settings.register_profile(
    "project",
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="how often the kill test kills a run")


@pytest.fixture(autouse=True)
def only_loopback(request: pytest.FixtureRequest) -> None:
    """No test reaches past this machine, but for those marked as needing the indexes."""
    if request.node.get_closest_marker("online"):
        pytest_socket._remove_restrictions()
    else:
        pytest_socket.socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real Apple-signed data, read in place."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data is not beside this checkout")
    return REAL_DATA
