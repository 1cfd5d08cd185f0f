"""The wrapper of Apple's codesign: a real verdict on a Mac, a clear refusal elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.rehearsal import samples
from release_tool.services import codesign, portable_signer


@pytest.mark.skipif(sys.platform == "darwin", reason="this host has codesign")
def test_a_host_without_codesign_is_named(tmp_path: Path) -> None:
    """Off macOS both operations end in HostError, before anything is touched."""
    with pytest.raises(errors.HostError, match="codesign"):
        codesign.sign(tmp_path / "code", identity="-", identifier="io.example")
    with pytest.raises(errors.HostError, match="codesign"):
        codesign.verify(tmp_path / "code")


@pytest.mark.macos
@pytest.mark.skipif(sys.platform != "darwin", reason="needs /usr/bin/codesign")
def test_apples_codesign_accepts_what_the_portable_signer_wrote(tmp_path: Path) -> None:
    """An ad-hoc signature of ours passes codesign's strict verification."""
    path = tmp_path / "tool"
    path.write_bytes(samples.template("darkbloom"))
    path.chmod(0o755)
    portable_signer.sign_file(path, identifier="io.example.tool")
    codesign.verify(path)


@pytest.mark.macos
@pytest.mark.skipif(sys.platform != "darwin", reason="needs /usr/bin/codesign")
def test_codesign_signs_ad_hoc(tmp_path: Path) -> None:
    """The real tool signs ad-hoc and accepts its own signature."""
    path = tmp_path / "tool"
    path.write_bytes(samples.template("darkbloom"))
    path.chmod(0o755)
    codesign.sign(path, identity="-", identifier="io.example.tool")
    codesign.verify(path)
