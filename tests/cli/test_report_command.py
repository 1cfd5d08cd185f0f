"""`report` as people call it: which release, which file, and what it answers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool.cli import main, report
from release_tool.cli.session import Session
from tests import page_samples
from tests.page_samples import Release


def call(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(["report", *argv], Session(dict(environ or {}), out=out, err=err))
    return code, out.getvalue(), err.getvalue()


def test_the_only_release_here_is_meant(tmp_path: Path) -> None:
    """Its page lies beside its ledger, and the answer is the file's name."""
    workspace = Release(tmp_path).up_to("sign").workspace
    code, out, err = call("--dist", str(tmp_path))
    assert (code, err) == (0, "")
    path = workspace / "report.html"
    assert out.strip() == str(path)
    assert path.read_text().startswith("<!doctype html>")


def test_one_of_several_is_named(tmp_path: Path) -> None:
    """Without a name all are listed and nothing is written; a rollback's folder is no release."""
    page_samples.withdrawn(tmp_path)
    code, out, err = call("--dist", str(tmp_path))
    assert (code, out) == (2, "")
    assert "there are several releases here" in err
    assert str(tmp_path / "prod" / "0.5.0") in err
    assert "rollback" not in err
    code, out, _ = call("--dist", str(tmp_path), "--env", "prod", "--version", "0.5.1")
    assert code == 0
    assert (
        "is withdrawn; users get 0.5.0 again"
        in (tmp_path / "prod" / "0.5.1" / "report.html").read_text()
    )


def test_a_flavour_is_named_by_its_version(tmp_path: Path) -> None:
    """Its folder is called like its tag; where two flavours have a version, both are listed."""
    Release(tmp_path, version="rust-bridge-0.4.9").up_to("profile")
    assert call("--dist", str(tmp_path), "--version", "0.4.9")[0] == 0
    Release(tmp_path, version="0.4.9").up_to("profile")
    assert call("--dist", str(tmp_path), "--version", "0.4.9")[0] == 2


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """An unknown version, and a folder without a ledger."""
    Release(tmp_path).up_to("profile")
    code, _, err = call("--dist", str(tmp_path), "--env", "dev", "--version", "0.5.0")
    assert code == 2
    assert "no release of dev 0.5.0 was begun here" in err
    code, _, err = call(str(tmp_path))
    assert code == 2
    assert "there is no ledger here" in err


@pytest.mark.parametrize(
    ("argv", "begins"),
    [
        (("-o", "page.html"), "<!doctype html>"),
        (("-o", "page.md"), "# Darkbloom 0.5.0"),
        (("-o", "page.txt", "--format", "markdown"), "# Darkbloom 0.5.0"),
    ],
)
def test_the_form_goes_by_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], begins: str
) -> None:
    """A folder handed over, a file named, and the form said or seen."""
    workspace = Release(tmp_path).up_to("sign").workspace
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(str(workspace), *argv)
    assert (code, out.strip()) == (0, argv[1])
    assert (tmp_path / argv[1]).read_text().startswith(begins)


def test_it_goes_into_a_pipe(tmp_path: Path) -> None:
    """And nothing else is said there, nor written beside the ledger."""
    workspace = Release(tmp_path).up_to("sign").workspace
    code, out, err = call(str(workspace), "--format", "markdown", "-o", "-")
    assert (code, err) == (0, "")
    assert out.startswith("# Darkbloom 0.5.0")
    assert [path.name for path in workspace.iterdir()] == ["ledger"]


def test_a_damaged_ledger_is_no_page(tmp_path: Path) -> None:
    """The chain does not hold: nothing is told of it as a fact."""
    workspace = Release(tmp_path).up_to("sign").workspace
    (workspace / "ledger" / "0002-assemble.json").unlink()
    code, out, err = call(str(workspace))
    assert (code, out) == (6, "")
    assert "broken" in err
    assert not (workspace / "report.html").exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that is not there."""
    workspace = Release(tmp_path).up_to("profile").workspace
    code, _, err = call(str(workspace), "-o", str(tmp_path / "missing" / "page.html"))
    assert code == 3
    assert "missing" in err


def test_a_secret_of_the_environment_is_covered() -> None:
    """However it is spelled; no record holds one, so only the cover itself can be asked."""
    cover = report.cover({"PROD_RELEASE_KEY": "release-key-0123456789<"})
    assert cover("refused with release-key-0123456789<, twice") == "refused with ..., twice"
    assert "0123456789" not in cover("refused with release-key-0123456789%3C")


def test_a_run_leaves_the_page_beside_its_ledger(tmp_path: Path) -> None:
    """Whatever came out of it; nothing without a record, and a full disk is only a warning."""
    release = Release(tmp_path).up_to("archive")
    release.fail("smoke")
    err = io.StringIO()
    session = Session({}, err=err)
    where = Path(report.leave(session, release.workspace))
    assert where.read_text().count("was refused at smoke") == 2
    assert where.name == "report.html"
    where.unlink()
    where.mkdir()
    assert report.leave(session, release.workspace) == ""
    assert "the report was not written" in err.getvalue()
    (tmp_path / "empty" / "ledger").mkdir(parents=True)
    assert report.leave(session, tmp_path / "empty") == ""
    assert not (tmp_path / "empty" / "report.html").exists()


def test_without_a_browser_the_page_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--open` on a machine without one: exit 3, and where the file is."""
    workspace = Release(tmp_path).up_to("profile").workspace
    opened: list[str] = []

    def refuse(address: str) -> bool:
        opened.append(address)
        return False

    monkeypatch.setattr("webbrowser.open", refuse)
    code, out, err = call(str(workspace), "--open")
    assert code == 3
    assert out.strip() == str(workspace / "report.html")
    assert opened == [(workspace / "report.html").as_uri()]
    assert "open this file on a machine that has one" in err
