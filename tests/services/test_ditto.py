"""The notary's zip and copies by ditto, on a stand-in: it proves wiring, a Mac is still to come."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.services import ditto
from tests.fake_mac.mac import FakeMac


def test_the_zip_holds_the_app_with_its_folder(mac: FakeMac, app: Path, tmp_path: Path) -> None:
    """The app's own folder is the top, as the notary wants it; an older zip is replaced."""
    archive = tmp_path / "notary.zip"
    archive.write_bytes(b"old")
    ditto.zip_app(app, archive, tools=mac.tools)
    with zipfile.ZipFile(archive) as made:
        assert made.namelist() == ["Example.app/Contents/Info.plist"]
    assert mac.commands("ditto") == [["-c", "-k", "--keepParent", str(app), str(archive)]]


@pytest.mark.parametrize(
    "fault",
    [{"status": 1, "stderr": "ditto: No space left on device\n"}, {"status": 0}],
)
def test_a_zip_that_is_none_is_refused(
    fault: dict[str, object], mac: FakeMac, app: Path, tmp_path: Path
) -> None:
    """By the exit code, and by what stands there; no half of a zip is left."""
    mac.fault("ditto -c", fault)
    with pytest.raises(errors.HostError, match="no zip") as caught:
        ditto.zip_app(app, tmp_path / "notary.zip", tools=mac.tools)
    if fault["status"]:
        assert "No space left" in caught.value.details[0]
    assert not (tmp_path / "notary.zip").exists()


def test_a_host_without_ditto_is_named(mac: FakeMac, app: Path, tmp_path: Path) -> None:
    """Exit 3, before anything is made."""
    mac.tools.ditto.unlink()
    with pytest.raises(errors.HostError, match="ditto"):
        ditto.zip_app(app, tmp_path / "notary.zip", tools=mac.tools)
