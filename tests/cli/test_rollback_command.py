"""`rollback` as people and jobs call it, on releases that went through every stage."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
import requests

from release_tool import data
from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.provenance import log
from release_tool.rehearsal import environment, places, samples, tiny_model
from release_tool.rehearsal.environment import Environment
from release_tool.rehearsal.wire import Rule

# Its fixture makes two whole releases.
pytestmark = pytest.mark.timeout(300)
NAME = "darkbloom-bundle-macos-arm64.tar.gz"
BACK = ("--to", "0.5.0", "--deactivate", "0.5.1", "--reason", "no start", "--by", "night shift")


class Place:
    """A dist folder with look-alikes whose coordinator forgets its cache within a second."""

    def __init__(
        self,
        folder: Path,
        cache_seconds: float = 0.5,
        contract: Literal["2026-05", "2026-10"] = "2026-05",
    ) -> None:
        self.folder = folder
        self.config = _speaking(contract, folder) if contract != "2026-05" else ()
        self.cache_seconds = cache_seconds
        self.dist = folder / "dist"
        (folder / "lib.metallib").write_bytes(samples.metallib())
        tiny_model.make(folder / "model")
        self.living: Environment = environment.start(
            embedded.state_folder(self.dist, "rehearsal"),
            team_id="SLDQ2GJ6TL",
            bundle_id="io.darkbloom.provider",
            contract=contract,
            cache_seconds=cache_seconds,
            processing_seconds=0.1,
            ticket_seconds=0.1,
        )

    def call(self, *argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        return _call(*argv, environ=environ)

    def run(self, version: str, *more: str) -> tuple[int, str, str]:
        return self.call(
            *("run", "--env", "rehearsal", "--dist", str(self.dist), "--version", version),
            *("--metallib", str(self.folder / "lib.metallib")),
            *("--model", str(self.folder / "model"), *self.config, *more),
            # A coordinator of October wants to know it.
            environ={"RELEASE_CI_RUN_ID": "17041704"} if self.config else {},
        )

    def words(self, *argv: str, name: str = "rehearsal") -> list[str]:
        return ["rollback", "--env", name, "--dist", str(self.dist), *self.config, *argv]

    def settings(self) -> dict[str, str]:
        """Those of a real environment that is led to the look-alikes."""
        found = embedded._settings(self.living).values
        wanted = {
            *("R2_ENDPOINT", "R2_PUBLIC_URL", "R2_BUCKET", "COORDINATOR_URL", "ADMIN_KEY"),
            *("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "PROVENANCE_KEY"),
        }
        return {f"PROD_{name}": found[name] for name in wanted}

    def await_cache(self) -> None:
        """Until the coordinator has forgotten what it answered last."""
        time.sleep(self.cache_seconds * 1.2)

    def latest(self) -> str:
        answer = requests.get(f"{self.living.coordinator_url}/v1/releases/latest", timeout=10)
        return str(answer.json()["version"])

    def public(self, key: str) -> bytes | None:
        answer = requests.get(f"{self.living.r2_public_url}/releases/{key}", timeout=10)
        return answer.content if answer.status_code == 200 else None

    def document(self, key: str) -> dict[str, str]:
        content = self.public(key)
        assert content
        found: dict[str, str] = json.loads(content)
        return found

    def active(self) -> list[str]:
        key = self.living.secret(places.ADMIN_KEY)
        answer = requests.get(
            f"{self.living.coordinator_url}/v1/admin/releases",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )
        return sorted(row["version"] for row in answer.json()["releases"] if row["active"])

    def served(self) -> set[bytes | None]:
        aliases = (NAME, "eigeninference-bundle-macos-arm64.tar.gz")
        return {self.public(f"latest/{alias}") for alias in aliases}

    def is_untouched(self) -> bool:
        """Whether 0.5.1 is still what everybody gets."""
        return (
            self.public("v0.5.1/tombstone.json") is None
            and self.active() == ["0.5.0", "0.5.1"]
            and self.served() == {self.public(f"v0.5.1/{NAME}")}
            and self.document("latest/release.json")["version"] == "0.5.1"
        )


def _speaking(contract: str, folder: Path) -> tuple[str, str]:
    """A release file for a coordinator of this contract, as an option."""
    text = data.release_file().read_text().replace("contract: 2026-05", f"contract: {contract}")
    (folder / "release.yaml").write_text(text)
    return ("--config", str(folder / "release.yaml"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """0.5.0 and after it 0.5.1, both released."""
    made = Place(tmp_path_factory.mktemp("rollback"))
    for version in ("0.5.0", "0.5.1"):
        code, _, err = made.run(version)
        assert code == 0, err
    yield made
    made.living.stop()


# Nobody is asked with these.
SETTINGS = {
    "PROD_R2_ENDPOINT": "https://store.example",
    "PROD_R2_PUBLIC_URL": "https://public.example",
    "PROD_R2_BUCKET": "bucket",
    "PROD_COORDINATOR_URL": "https://coordinator.example",
    "PROD_R2_ACCESS_KEY_ID": "AKIDLOOKALIKE0001",
    "PROD_R2_SECRET_ACCESS_KEY": "look-alike-secret",
    "PROD_ADMIN_KEY": "look-alike-admin-key",
    "PROD_PROVENANCE_KEY": "-----BEGIN PRIVATE KEY-----",
}


def _call(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(list(argv), Session(dict(environ or {}), out=out, err=err))
    return code, out.getvalue(), err.getvalue()


def _prod(*argv: str, lacking: str = "") -> tuple[int, str, str]:
    environ = {name: value for name, value in SETTINGS.items() if name != lacking}
    return _call("rollback", "--env", "prod", *argv, environ=environ)


def test_every_missing_setting_is_named_at_once() -> None:
    """The administrator's key among them, by its own name; nothing is asked."""
    code, _, err = _call("rollback", "--env", "prod", *BACK, "--yes")
    assert code == 4
    for name in ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_ENDPOINT", "ADMIN_KEY"):
        assert f"PROD_{name}" in err
    assert "RELEASE_KEY" not in err
    code, _, err = _prod(*BACK, "--yes", lacking="PROD_ADMIN_KEY")
    assert code == 4
    assert "1 setting is missing" in err
    assert "PROD_ADMIN_KEY is not set" in err


def test_a_job_says_beforehand_that_it_may() -> None:
    """Without a terminal and without --yes: exit 2. No rule about the tree is asked before it."""
    code, out, err = _prod(*BACK)
    assert code == 2
    assert "nobody is here to confirm the rollback to 0.5.0" in err
    assert out == ""


def test_the_version_is_refused_by_the_flag_that_it_was_typed_behind() -> None:
    """Somebody who typed the tag's name is told of --to."""
    code, _, err = _prod("--to", "v0.5.0", "--deactivate", "0.5.1", "--yes")
    assert code == 2
    assert "--to: 'v0.5.0' is not a version" in err


def _type(place: Place, typed: str) -> tuple[int, str]:
    """The command on a terminal, and what somebody types."""
    ours, theirs = pty.openpty()
    words = place.words(*BACK, name="prod")
    child = subprocess.Popen(
        [sys.executable, "-m", "release_tool", *words],
        env=place.settings() | {"PATH": os.environ["PATH"], "HOME": str(place.folder)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 4096):
            said += piece
            if said.rstrip().endswith(b"Type the version:"):
                os.write(ours, f"{typed}\n".encode())
    os.close(ours)
    return child.wait(60), said.decode()


@pytest.mark.parametrize("text", ["two\nlines", "x" * 501, "\x1b[31m"])
def test_what_stays_for_ever_is_one_short_line(text: str) -> None:
    """The tombstone can never be mended, and is read on terminals: exit 2 before anything."""
    for option in ("--reason", "--by"):
        code, _, err = _prod("--to", "0.5.0", "--deactivate", "0.5.1", "--yes", option, text)
        assert code == 2
        assert f"{option} is no short printable line" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("0.5.1", 2, "not rolled back, nothing was changed"),
        # No look-alike's signature leads to Apple: the way back is proved before it is taken.
        ("0.5.0", 6, "0.5.0 does not verify; nothing was changed"),
    ],
)
def test_the_version_is_typed_by_somebody_who_saw_what_is_affected(
    place: Place, typed: str, code: int, message: str
) -> None:
    """On a terminal; another word ends it, and so does an archive that does not verify."""
    exit_code, said = _type(place, typed)
    assert exit_code == code, said
    assert "withdraw   0.5.1: active" in said
    assert "Roll prod back to 0.5.0? Type the version" in said
    assert message in said
    assert place.is_untouched()


@pytest.mark.slow
def test_an_error_is_one_document_and_one_annotation(place: Place) -> None:
    """For programs and for jobs; nothing was changed."""
    words = place.words("--to", "0.4.0", "--deactivate", "0.5.1", "--json")
    code, out, err = place.call(*words, environ={"GITHUB_ACTIONS": "true"})
    assert code == 7
    assert json.loads(out)["message"] == "the coordinator does not know 0.4.0; nothing was changed"
    assert "::error title=release-tool::the coordinator does not know 0.4.0" in err
    assert place.is_untouched()


_DIE = """
import os, sys
from release_tool.stages import rollback
setattr(rollback, sys.argv[1], lambda *_, **__: os._exit(137))
from release_tool.cli import main
main.main(sys.argv[2:])
"""


def _die_at(place: Place, step: str) -> None:
    command = [sys.executable, "-c", _DIE, step, *place.words(*BACK)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 137


def _page(place: Place, name: str) -> str:
    return (place.dist / "rehearsal" / name / "report.html").read_text(encoding="utf-8")


def _masked(place: Place, out: str) -> list[str]:
    text = out.replace(place.living.r2_public_url, "URL").replace(str(place.dist), "DIST")
    text = re.sub(r"[0-9]+\.[0-9] s\b", "N s", re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text))
    text = re.sub(r"[0-9.]+ kB, [0-9]+ checks", "N kB, N checks", text)
    text = re.sub(r"[0-9-]{10}T[0-9:]{8}\+00:00", "TIME", text)
    return [re.sub(r"  +(N s)$", r" \1", line) for line in text.splitlines()]


TRANSCRIPT = f"""\
Darkbloom · rehearsal · back to 0.5.0
  latest     0.5.0, as the coordinator tells (up to 1 min old)
  pointer    0.5.1 in releases/latest/release.json
  alias      0.5.1 in releases/latest/{NAME}
  alias      0.5.1 in releases/latest/eigeninference-bundle-macos-arm64.tar.gz
  withdraw   0.5.1: not active any more, DIGEST; tombstone of TIME stands; never released again
  providers  0 connected
  github     the log's head goes there, and the withdrawn ones are marked
  stay       active and accepted: 0.5.0
  then       users get 0.5.0, DIGEST, from URL/releases/v0.5.0/{NAME}

  verify     0.5.0 as users get it, N kB, N checks passed N s
  tombstone  0.5.1 stood N s
             0.5.1 was withdrawn TIME by night shift: no start
  deactivate 0.5.1 inactive N s
             0.5.1: was not active any more
  point      latest serves 0.5.0, the pointer and 2 aliases hold it N s
  github     log.head.6.json is there; 0.5.0 given again, 0.5.1 marked N s
  log head   6 lines, kept in DIST/rehearsal/rollback/log.head.6.json
  report     DIST/rehearsal/rollback/report.html
  report     DIST/rehearsal/0.5.0/report.html
  report     DIST/rehearsal/0.5.1/report.html
Rolled back to 0.5.0 in N s   ledger head DIGEST in DIST/rehearsal/rollback
"""


@pytest.mark.slow
def test_a_bad_release_is_taken_back_for_ever(place: Place, tmp_path: Path) -> None:
    """Killed before each step and begun again; then no rerun of 0.5.1, and 0.5.2 goes through."""
    good = place.public(f"v0.5.0/{NAME}")
    _die_at(place, "withdraw")
    assert place.is_untouched()
    output = tmp_path / "output"
    place.living.set_rules([Rule(service="coordinator", kind="redirect", method="DELETE")])
    try:
        code, _, err = place.call(
            *place.words(*BACK, "--github-output"), environ={"GITHUB_OUTPUT": str(output)}
        )
    finally:
        place.living.set_rules([])
    # The page beside the ledger does not wait until all is done.
    assert "is withdrawn, and the rollback is not finished" in _page(place, "0.5.1")
    # What stands must reach GitHub, although a later step was refused.
    assert (code, output.read_text()) == (7, "withdrawn=true\n"), err
    output.unlink()
    _die_at(place, "deactivate")
    assert place.document("v0.5.1/tombstone.json")["reason"] == "no start"
    assert place.active() == ["0.5.0", "0.5.1"]
    _die_at(place, "point_back")
    assert place.active() == ["0.5.0"]
    assert place.served() == {place.public(f"v0.5.1/{NAME}")}
    code, out, _ = place.call("status", str(place.dist / "rehearsal/rollback"))
    assert code == 0
    assert "rollback: done up to deactivate" in out

    while place.latest() != "0.5.0":
        pass
    summary = tmp_path / "summary.md"
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}
    half_made = place.dist / "rehearsal/rollback/.log.head.5.json.a1b2c3d4.part"
    half_made.touch()
    code, out, err = place.call(*place.words(*BACK, "--github-output"), environ=environ)
    assert code == 0, err
    assert not half_made.exists()
    assert _masked(place, out) == TRANSCRIPT.splitlines()
    told = _page(place, "0.5.1")
    assert "Darkbloom 0.5.1 is withdrawn; users get 0.5.0 again" in told
    assert "Withdrawn by night shift: no start." in told
    assert "Users were given this version again instead of 0.5.1" in _page(place, "0.5.0")
    assert "rehearsal is rolled back to 0.5.0" in _page(place, "rollback")
    assert place.latest() == "0.5.0"
    assert place.active() == ["0.5.0"]
    assert place.served() == {good}
    pointer = place.document("latest/release.json")
    assert (pointer["version"], pointer["instead_of"]) == ("0.5.0", "0.5.1")
    assert summary.read_text().startswith("## Darkbloom 0.5.0 · rehearsal: rolled back\n")
    assert output.read_text().startswith("withdrawn=true\nversion=0.5.0\nhead=")
    code, out, _ = place.call("status", "--dist", str(place.dist))
    assert code == 0
    assert "rollback: rolled back" in out

    for words in (("--only", "publish"), ("--only", "register"), ("--only", "promote"), ()):
        code, _, err = place.run("0.5.1", *words)
        assert code == 7, err
        assert "0.5.1 was withdrawn and is never released again" in err
        assert "release the next version: 0.5.2" in err
    assert place.active() == ["0.5.0"]

    code, out, err = place.call(*place.words(*BACK, "--json"))
    assert code == 0, err
    document = json.loads(out)
    assert (document["ok"], document["verdict"]) == (True, "rolled back")
    assert document["survey"]["withdrawn"][0]["tombstone"]["by"] == "night shift"

    code, _, err = place.run("0.5.2")
    assert code == 0, err
    assert place.latest() == "0.5.2"
    assert place.served() == {place.public(f"v0.5.2/{NAME}")}
    assert "instead_of" not in place.document("latest/release.json")
    told_of = log.parse(place.public("log.jsonl") or b"")
    assert [line.entry.told for line in told_of.lines] == [
        *("registered 0.5.0", "promoted 0.5.0", "registered 0.5.1", "promoted 0.5.1"),
        *("withdrawn 0.5.1", "rolled back 0.5.0", "registered 0.5.2", "promoted 0.5.2"),
    ]
    assert told_of.lines[4].entry.note == "by night shift: no start"
    assert told_of.lines[5].entry.note == "instead of 0.5.1"
