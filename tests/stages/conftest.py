"""What the stages' tests share: one small world for a module, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import small_world
from tests.small_world import SmallWorld


@pytest.fixture(scope="module")
def servers() -> Iterator[SmallWorld]:
    """The servers that the tests of this module share."""
    with small_world.existing() as made:
        yield made


@pytest.fixture
def world(servers: SmallWorld) -> SmallWorld:
    """An empty bucket and a coordinator without releases."""
    servers.reset()
    return servers
