"""`--dry-run`: what would be signed, and nothing changed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.rehearsal import samples, tiny_model

TRANSCRIPT = """\
Darkbloom 0.5.0 · rehearsal: 2 files would be signed, inside out
  Contents/MacOS/darkbloom-enclave
    identifier    io.darkbloom.enclave
    code          arm64, flags runtime
    entitlements  com.apple.security.network.client true
  Contents/MacOS/darkbloom
    identifier    io.darkbloom.provider
    code          arm64, flags runtime
    entitlements  com.apple.application-identifier SLDQ2GJ6TL.io.darkbloom.provider
                  com.apple.developer.team-identifier SLDQ2GJ6TL
                  com.apple.security.network.client true
                  com.apple.security.network.server true
                  keychain-access-groups SLDQ2GJ6TL.io.darkbloom.provider
    seal          3 entries: 1 nested code, 1 resource, 1 no code in code places
                  MacOS/mlx.metallib sealed as data
By the portable signer as team SLDQ2GJ6TL. Nothing was changed.
"""


def invoke(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(list(argv), Session({}, out=out, err=err))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small Metal library, a tiny model, and no dist."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(folder / "model")
    yield folder
    embedded.stop(folder / "dist", "rehearsal")


def dry(parts: Path, *argv: str) -> tuple[int, str, str]:
    before = sorted(parts.rglob("*"))
    done = invoke(
        *argv,
        *("--dry-run", "--dist", str(parts / "dist"), "--model", str(parts / "model")),
        *("--metallib", str(parts / "lib.metallib")),
    )
    assert sorted(parts.rglob("*")) == before, "nothing was written"
    return done


def test_what_would_be_signed_is_told(parts: Path) -> None:
    """Inside out, with identifier, flags, entitlements and the seal; and nothing is there then."""
    code, out, err = dry(parts, "rehearse", "--version", "0.5.0")
    assert (code, err) == (0, "")
    assert out == TRANSCRIPT


def test_machines_get_one_document(parts: Path) -> None:
    """The same facts, entitlements as they would be signed."""
    code, out, _ = dry(parts, "run", "--env", "rehearsal", "--version", "0.5.0", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["dry_run"] is True
    helper, app = document["code"]
    assert (helper["path"], helper["bundle"], helper["seal"]) == (
        "Contents/MacOS/darkbloom-enclave",
        None,
        None,
    )
    assert app["identifier"] == "io.darkbloom.provider"
    assert app["flags"] == ["runtime"]
    assert app["entitlements"]["keychain-access-groups"] == ["SLDQ2GJ6TL.io.darkbloom.provider"]
    assert app["seal"] == {
        "entries": 3,
        "code": 1,
        "links": 0,
        "resources": 1,
        "data_in_code_places": ["MacOS/mlx.metallib"],
    }


def test_what_cannot_be_assembled_is_refused(parts: Path, tmp_path: Path) -> None:
    """As `run` would refuse it, and with its exit code."""
    samples.materialize(tmp_path / "build", "0.5.0")
    (tmp_path / "build" / "darkbloom-enclave").unlink()
    code, out, err = dry(
        parts,
        *("run", "--env", "rehearsal", "--version", "0.5.0"),
        *("--binaries", str(tmp_path / "build")),
    )
    assert code == 6
    assert out == ""
    assert "darkbloom-enclave" in err


def test_flags_are_checked_as_run_checks_them(parts: Path) -> None:
    """A command that `run` would refuse is no dry run of anything."""
    for flags, said in (
        (("--until", "nonsense"), "no such stage"),
        (("--only", "sign", "--until", "sign"), "exclude each other"),
    ):
        code, out, err = dry(parts, "run", "--env", "rehearsal", "--version", "0.5.0", *flags)
        assert (code, out) == (2, "")
        assert said in err


def test_missing_settings_are_named(parts: Path, tmp_path: Path) -> None:
    """A real environment needs its profile, and nothing more."""
    samples.materialize(tmp_path / "build", "0.5.0")
    code, _, err = invoke(
        *("run", "--env", "dev", "--version", "0.5.0", "--binaries", str(tmp_path / "build")),
        *("--dry-run", "--dist", str(parts / "dist")),
    )
    assert code == 4
    assert "PROVISIONING_PROFILE_BASE64" in err
    assert "APPLE_CERTIFICATE" not in err
