"""One look-alike authority for all tests here (keys take time), and the look-alike notary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool.rehearsal import faults, places
from release_tool.rehearsal.authority import Authority
from tests import signed_release
from tests.rehearsal import notary_client
from tests.rehearsal.notary_client import Notarization


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create("SLDQ2GJ6TL")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def running(state: Path) -> Iterator[Notarization]:
    with notary_client.running(places.notary(state), signed_release.look_alike()) as found:
        yield found


@pytest.fixture
def notary(running: Notarization) -> Iterator[Notarization]:
    yield running
    running.broken.set(dict.fromkeys(faults.NAMES, 0))
