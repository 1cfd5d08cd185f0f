"""The key of provenance: made once, private, pinned, and refused in words that do not show it."""

from __future__ import annotations

import io
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool import config, data, errors
from release_tool.cli import main, probes, wiring
from release_tool.cli.session import Session
from release_tool.files.workspace import Workspace
from release_tool.provenance import keys
from tests.cli.test_plan_command import APPLE, SEVEN


def _call(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main.invoke(list(argv), Session({}, out=out, err=err)), out.getvalue(), err.getvalue()


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The line for release.yaml, and nothing else, on standard output; the key on none."""
    path = tmp_path / "key.pem"
    code, out, err = _call("provenance-key", str(path))
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = keys.load(path.read_bytes())
    assert out == f"{key.public.line}\n"
    assert path.read_text().splitlines()[1] not in out + err
    before = path.read_bytes()
    assert _call("provenance-key", str(path)) == (0, out, err)
    assert path.read_bytes() == before


def test_a_file_that_is_no_key_is_left(tmp_path: Path) -> None:
    """Neither written over nor taken for one; a folder that is not there is told."""
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    code, _, err = _call("provenance-key", str(path))
    assert code == 2
    assert "is no private key" in err
    assert str(path) in err
    assert path.read_text() == "keep me"
    path.write_bytes(b"\xff\xfe")
    assert _call("provenance-key", str(path))[0] == 3
    assert _call("provenance-key", str(tmp_path / "none" / "key.pem"))[0] == 3


def _wired(folder: Path, secret: str, *pinned: str) -> wiring.Services:
    text = data.release_file().read_text()
    folder.mkdir(exist_ok=True)
    (folder / "release.yaml").write_text(text.replace("keys: []", f"keys: [{', '.join(pinned)}]"))
    environ: Mapping[str, str] = {
        **{f"DEV_{name}": value for name, value in SEVEN.items()},
        **APPLE,
        "DEV_PROVENANCE_KEY": secret,
    }
    request = config.Request(
        environ=environ, working_folder=folder, environment="dev", version="0.5.0-dev.1"
    )
    return wiring.Services(
        resolved=config.resolve(request),
        workspace=Workspace(folder),
        inputs=wiring.Inputs(environ=environ),
    )


def test_only_a_pinned_key_signs(tmp_path: Path) -> None:
    """Any of the pinned ones; the preflight asks before anything is done."""
    pem = keys.make()
    key = keys.load(pem.encode())
    other = keys.load(keys.make().encode())
    both = _wired(tmp_path / "a", pem, other.public.line, key.public.line)
    assert both.signing_key.public == key.public
    assert both.pinned_keys == (other.public, key.public)
    for name, pinned in (("b", [other.public.line]), ("c", [])):
        wired = _wired(tmp_path / name, pem, *pinned)
        (probe,) = [one for one in probes.of(wired) if one.name == "provenance key"]
        assert probe.stages == {"publish", "promote"}
        with pytest.raises(errors.CredentialError, match="does not pin this key") as caught:
            probe.ask()
        assert key.public.line in caught.value.hint


@pytest.mark.parametrize("secret", ["-----BEGIN PRIVATE KEY-----\nhunter2-hunter2\n"])
def test_what_is_no_key_is_told_without_it(tmp_path: Path, secret: str) -> None:
    """With how to make one; not a byte of the value comes into the error."""
    with pytest.raises(errors.CredentialError, match="no private key") as caught:
        _ = _wired(tmp_path, secret).signing_key
    assert "release-tool provenance-key" in caught.value.hint
    assert "hunter2" not in str(caught.value.as_json())
    assert caught.value.__cause__ is None
