"""One look-alike authority for all tests here: keys take half a second."""

from __future__ import annotations

import pytest

from release_tool.rehearsal.authority import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create("SLDQ2GJ6TL")
