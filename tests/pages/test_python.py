"""The recipes of `docs/python.md` run as they stand, on a look-alike release."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from release_tool import data
from release_tool.apple import certificates, verification
from release_tool.rehearsal.ticket_signer import TicketSigner
from tests import signed_release
from tests.pages import markdown

PAGE = markdown.DOCS / "python.md"
RECIPES = {one.line: one.text for one in markdown.fences(PAGE) if one.language == "python"}
_SAID = {
    "verify_app": "holds",
    "of_slice": "SLDQ2GJ6TL",
    "profile_policy": "passed app id",
    "ticket.missing": "()",
    "difference.compare": "entitlement",
    "linter.lint": "[]",
    "macho.parse": "",
}
"""What the output of the recipe that calls it holds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes read, by the names that they use."""
    made = tmp_path_factory.mktemp("recipes")
    signed_release.made().write(made)
    app, new = made / signed_release.APP, made / "New.app"
    shutil.copytree(app, new)
    # The enclave in place of the provider: other entitlements, another identifier.
    shutil.copy(app / signed_release.ENCLAVE, new / signed_release.MAIN)
    shutil.copy(app / "Contents" / "embedded.provisionprofile", made / "my.provisionprofile")
    shutil.copy(data.entitlements_folder() / "provider.plist", made)
    judge = signed_release.made().judge()
    code = verification.verify((app / signed_release.ENCLAVE).read_bytes(), judge=judge)
    cdhashes = [bytes.fromhex(item.cdhash) for item in code.slices]
    signer = TicketSigner(signed_release.look_alike())
    (made / "ticket").write_bytes(signer.issue(cdhashes, datetime.now(UTC) - timedelta(hours=1)))
    return made


@pytest.mark.parametrize("line", RECIPES)
def test_a_recipe_runs_as_it_stands(
    line: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a folder with the files that it names, and the look-alike's roots in place of Apple's."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(certificates, "apple_trust", signed_release.trust)
    recipe = compile(RECIPES[line], f"{PAGE.name}:{line}", "exec")
    exec(recipe, {"__name__": "recipe"})  # noqa: S102 - our own page
    said = capsys.readouterr().out
    (holds,) = [text for call, text in _SAID.items() if call in RECIPES[line]]
    assert holds in said
    assert said.strip()
