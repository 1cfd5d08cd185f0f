"""`rollback` as people and jobs call it, on releases that went through every stage."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.rehearsal import environment, places, samples, tiny_model
from release_tool.rehearsal.environment import Environment

NAME = "darkbloom-bundle-macos-arm64.tar.gz"


class Place:
    """A dist folder with look-alikes whose coordinator forgets its cache within a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dist = folder / "dist"
        (folder / "lib.metallib").write_bytes(samples.metallib())
        tiny_model.make(folder / "model")
        self.living: Environment = environment.start(
            embedded.state_folder(self.dist, "rehearsal"),
            team_id="SLDQ2GJ6TL",
            bundle_id="io.darkbloom.provider",
            cache_seconds=0.5,
            processing_seconds=0.1,
            ticket_seconds=0.1,
        )

    def call(self, *argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        words = [*argv, "--env", "rehearsal", "--dist", str(self.dist)]
        code = main.invoke(words, Session(dict(environ or {}), out=out, err=err))
        return code, out.getvalue(), err.getvalue()

    def run(self, version: str, *more: str) -> tuple[int, str, str]:
        return self.call(
            *("run", "--version", version, "--metallib", str(self.folder / "lib.metallib")),
            *("--model", str(self.folder / "model"), *more),
        )

    def rollback(
        self, *argv: str, environ: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        return self.call("rollback", *argv, environ=environ)

    def latest(self) -> str:
        answer = requests.get(f"{self.living.coordinator_url}/v1/releases/latest", timeout=10)
        return str(answer.json()["version"])

    def public(self, key: str) -> bytes:
        answer = requests.get(f"{self.living.r2_public_url}/releases/{key}", timeout=10)
        assert answer.status_code == 200, key
        return answer.content

    def active(self) -> list[str]:
        key = self.living.secret(places.ADMIN_KEY)
        answer = requests.get(
            f"{self.living.coordinator_url}/v1/admin/releases",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )
        return sorted(row["version"] for row in answer.json()["releases"] if row["active"])

    def served(self) -> set[bytes]:
        aliases = (NAME, "eigeninference-bundle-macos-arm64.tar.gz")
        return {self.public(f"latest/{alias}") for alias in aliases}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("rollback"))
    yield made
    made.living.stop()


def test_a_bad_release_is_taken_back_for_ever(place: Place, tmp_path: Path) -> None:
    """0.5.0, then 0.5.1 that is bad: back to 0.5.0, no rerun of 0.5.1, and 0.5.2 goes through."""
    for version in ("0.5.0", "0.5.1"):
        code, _, err = place.run(version)
        assert code == 0, err
    good = place.public(f"v0.5.0/{NAME}")
    assert place.served() == {place.public(f"v0.5.1/{NAME}")}

    summary, output = tmp_path / "summary.md", tmp_path / "output"
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}
    code, out, err = place.rollback(
        *("--to", "0.5.0", "--deactivate", "0.5.1", "--reason", "no start", "--by", "night shift"),
        "--github-output",
        environ=environ,
    )
    assert code == 0, err
    assert place.latest() == "0.5.0"
    assert place.active() == ["0.5.0"]
    assert place.served() == {good}
    pointer = json.loads(place.public("latest/release.json"))
    assert (pointer["version"], pointer["instead_of"]) == ("0.5.0", "0.5.1")
    stone = json.loads(place.public("v0.5.1/tombstone.json"))
    assert (stone["by"], stone["reason"]) == ("night shift", "no start")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == [
        *("latest", "pointer", "alias", "alias", "withdraw", "providers", "stay", "then"),
        *("verify", "tombstone", "deactivate", "point"),
    ]
    assert out.splitlines()[-1].startswith("Rolled back to 0.5.0 in ")
    assert "rolled back" in summary.read_text()
    assert "version=0.5.0\nhead=" in output.read_text()

    for stage in ("publish", "register", "promote"):
        code, _, err = place.run("0.5.1", "--only", stage)
        assert code == 7, err
        assert "0.5.1 was withdrawn and is never released again" in err
        assert "release the next version: 0.5.2" in err
    assert place.active() == ["0.5.0"]

    code, _, err = place.run("0.5.2")
    assert code == 0, err
    assert place.latest() == "0.5.2"
    assert place.served() == {place.public(f"v0.5.2/{NAME}")}
    assert "instead_of" not in json.loads(place.public("latest/release.json"))
