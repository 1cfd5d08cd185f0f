"""What tests of Apple's tools ask of: stand-ins for them, and an app of one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_mac import mac as fake_mac
from tests.fake_mac.mac import FakeMac


@pytest.fixture
def mac(tmp_path: Path) -> FakeMac:
    return fake_mac.install(tmp_path / "mac")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "Example.app"
    (app / "Contents").mkdir(parents=True)
    (app / "Contents/Info.plist").write_bytes(b"<plist/>")
    return app
