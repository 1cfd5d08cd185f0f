"""A folder in which every command of the pages finds what it names.

`dev` and `prod` are embedded here, as the rehearsal is: their look-alikes take a release the whole
way, through the command line as it stands on the page. What works on the project itself, such as
`plan`, `doctor` and `tag`, gets a clone with its own release file.
"""

from __future__ import annotations

import base64
import copy
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import requests
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from release_tool import credentials, data
from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.files import archive_reader
from release_tool.ledger import Ledger
from release_tool.rehearsal import environment, samples, tiny_model
from release_tool.rehearsal.environment import Environment
from tests import git_trees

ARCHIVE = "darkbloom-bundle-macos-arm64.tar.gz"
# A release of these takes a tiny model and few questions.
_SMALL_SMOKE = {
    "prompts": ["What is the capital of France?"],
    "max_tokens": 4,
    "long_tokens": 8,
    "concurrency": [1],
    "thresholds": [],
}
_BRIDGE = ("darkbloom", "eigeninference-enclave")
_PUBLIC_URL = "https://downloads.example.com"
_SERVICES = (
    *("timestamp_url", "notary_url", "notary_upload_url", "ticket_url"),
    *("github_api_url", "github_uploads_url"),
)
_TO_LOOK_AT = ("rehearsal", "prod")
_OF_THE_PROJECT = ("plan", "doctor", "expiries", "tag")
_TAKES_MODEL = (("run",), ("rehearse",), ("handoff", "unpack"), ("handoff", "merge"))


class Answer(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """The folder, and the settings that a person would have set."""

    folder: Path
    environ: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where the look-alikes of `dev` keep what they are."""
        return embedded.state_folder(self.dist, "dev")

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    def head(self, workspace: str = "dev/0.5.0") -> str:
        """The ledger's head, as `handoff pack` printed it."""
        return Ledger(self.dist / workspace / "ledger").head

    def run(self, words: tuple[str, ...]) -> Answer:
        """Run one command of ours here."""
        if words[1] == "tag":
            self._forget_tags()
        if words[1:3] == ("handoff", "unpack"):
            self._pack()
        out, err = io.StringIO(), io.StringIO()
        profile = (self.folder / "my.provisionprofile").read_bytes() if "-" in words else b""
        with working_in(self.folder_for(words[1])), _typed(profile):
            code = main.invoke(self.filled(words), Session(dict(self.environ), out=out, err=err))
        return Answer(code, out.getvalue(), err.getvalue())

    def folder_for(self, command: str) -> Path:
        """Where a command is typed."""
        return self.folder / "project" if command in _OF_THE_PROJECT else self.folder

    def filled(self, words: tuple[str, ...]) -> list[str]:
        """The words behind the tool's name: variables have values, and the model is a tiny one."""
        argv = [self._meant(word) for word in words[1:]]
        if argv[0] == "verify-release":
            # What was released here, was released in prod.
            argv = ["prod" if word == "rehearsal" else word for word in argv]
        if any(tuple(argv[: len(one)]) == one for one in _TAKES_MODEL):
            argv += _unless("--model", str(self.folder / "model"), argv)
        if argv[0] in ("run", "rehearse"):
            argv += _unless("--metallib", str(self.folder / "lib.metallib"), argv)
        return argv

    def _meant(self, word: str) -> str:
        if word == _PUBLIC_URL:
            living = environment.attach(embedded.state_folder(self.dist, "prod"))
            return living.r2_public_url if living else word
        return self.head() if word in ("$HEAD", "HEAD") or word.startswith("$(") else word

    def _forget_tags(self) -> None:
        """Each line of a page begins where its reader would."""
        for place in (self.folder / "project", self.folder / "origin.git"):
            for name in git_trees.git(place, "tag").split():
                git_trees.git(place, "tag", "-d", name)

    def _pack(self) -> None:
        """What the reader of the line before it has in hand."""
        pack = ("handoff", "pack", "handoff.tar.gz", "--env", "dev", "--version", "0.5.0")
        found = self.run(("release-tool", *pack))
        assert found.code == 0, found.err

    def release(self, *versions: str) -> None:
        """Release in `prod`, one behind the other, and keep the log's head as a reader would."""
        living = _started(self.dist, "prod")
        for version in versions:
            self.carry("--env", "prod", "--version", version, "--yes")
        head = requests.get(f"{living.r2_public_url}/releases/log.head.json", timeout=10)
        (self.folder / "log.head.json").write_bytes(head.content)

    def forget_copies(self) -> None:
        """Take away what only was there to be looked at."""
        (self.dist / "rehearsal/environment").unlink()
        for name in _TO_LOOK_AT:
            shutil.rmtree(self.dist / name)

    def carry(self, *argv: str) -> None:
        """Carry a release, before any page is read."""
        found = self.run(("release-tool", "run", *argv))
        assert found.code == 0, found.err


def _started(dist: Path, name: str) -> Environment:
    """The look-alikes of an environment; they answer sooner than real services."""
    return environment.start(
        embedded.state_folder(dist, name),
        team_id="SLDQ2GJ6TL",
        bundle_id="io.darkbloom.provider",
        cache_seconds=0.5,
        processing_seconds=0.1,
        ticket_seconds=0.1,
    )


@contextmanager
def existing(folder: Path) -> Iterator[World]:
    """A world in which `dev` has an archive of 0.5.0; its look-alikes end with it."""
    (folder / "release.yaml").write_text(yaml.dump(_release(), Dumper=_Plain))
    (folder / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(folder / "model")
    samples.materialize(folder / "build", "0.5.0")
    samples.materialize(folder / "build-bridge", "0.4.9", names=_BRIDGE)
    living = _started(folder / "dist", "dev")
    world = World(folder, _settings(living, folder))
    _clone(folder, embedded._settings(living).values)
    try:
        world.carry(
            "--env", "dev", "--version", "0.5.0", "--binaries", "build", "--until", "archive"
        )
        _furnish(world)
        yield world
    finally:
        for one in world.dist.iterdir():
            embedded.stop(world.dist, one.name)


def _clone(folder: Path, settings: Mapping[str, str]) -> None:
    """The project with a remote, as a maintainer has it."""
    git_trees.git(folder, "init", "-q", "--bare", "-b", "main", "origin.git")
    git_trees.git(folder, "clone", "-q", (folder / "origin.git").as_uri(), "project")
    project = folder / "project"
    git_trees.git(project, "checkout", "-q", "-b", "main")
    (project / "release.yaml").write_text(yaml.dump(_project(settings), Dumper=_Plain))
    (project / ".gitignore").write_text("notes.md\nmy*\n")
    (project / "notes.md").write_text("What changed.\n")
    git_trees.git(project, "add", ".")
    git_trees.commit(project, "source")
    git_trees.git(project, "push", "-q", "origin", "HEAD:main")


def _project(settings: Mapping[str, str]) -> dict[str, object]:
    """The project's release file; services of others are the look-alikes."""
    whole: dict[str, object] = yaml.safe_load(data.release_file().read_text())
    sections = whole["environments"]
    assert isinstance(sections, dict)
    for name in ("dev", "prod"):
        sections[name] |= {one: settings[one.upper()] for one in _SERVICES}
    return whole


def _release() -> dict[str, object]:
    """The project's release file, whose environments are all embedded."""
    whole: dict[str, object] = yaml.safe_load(data.release_file().read_text())
    sections = whole["environments"]
    assert isinstance(sections, dict)
    for name in ("dev", "prod"):
        sections[name] = copy.deepcopy(sections["rehearsal"])
        del sections[name]["default_version"]
    smoke = whole["smoke"]
    assert isinstance(smoke, dict)
    smoke |= _SMALL_SMOKE
    return whole


class _Plain(yaml.SafeDumper):
    """Writes no anchors: a release file may hold none."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _settings(living: Environment, folder: Path) -> dict[str, str]:
    """What a person would have set for dev and prod: the look-alikes' own."""
    made = embedded._settings(living).values
    own = {one.name for one in credentials.SETTINGS if one.per_environment}
    found = {name: value for name, value in made.items() if name not in own}
    for prefix in ("DEV_", "PROD_"):
        found |= {f"{prefix}{name}": made[name] for name in own}
    output = {"GITHUB_OUTPUT": str(folder / "output"), "HOME": str(folder)}
    return git_trees.ENVIRON | found | output


def _furnish(world: World) -> None:
    """What the pages name: archives, apps, a profile, entitlements, a handoff."""
    folder, release = world.folder, world.dist / "dev/0.5.0"
    for name in ("old.tar.gz", "new.tar.gz"):
        shutil.copy(release / ARCHIVE, folder / name)
    (folder / "unpacked").mkdir()
    archive_reader.unpack(release / ARCHIVE, folder / "unpacked")
    for name in ("Some.app", "Darkbloom.app"):
        shutil.copytree(folder / "unpacked/Darkbloom.app", folder / name)
    shutil.copytree(release / "assembled/Darkbloom.app", folder / "my-build/Darkbloom.app")
    secrets = world.environ
    p12 = base64.b64decode(secrets["APPLE_CERTIFICATE_P12"])
    password = secrets["APPLE_CERTIFICATE_PASSWORD"].encode()
    _, leaf, _ = pkcs12.load_key_and_certificates(p12, password)
    assert leaf
    for place in (folder, folder / "project"):
        shutil.copy(data.entitlements_folder() / "enclave.plist", place / "my.plist")
        shutil.copy(world.state / "profile.provisionprofile", place / "my.provisionprofile")
        (place / "my.p12").write_bytes(p12)
        (place / "my-certificate.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    # Others to look at, and the look-alikes' own root.
    for name in _TO_LOOK_AT:
        shutil.copytree(release, world.dist / name / "0.5.0")
    (world.dist / "rehearsal/environment").symlink_to(world.state)
    (folder / "log.head.json").touch()
    world._pack()
    (world.dist / "earlier").mkdir()
    shutil.copy(folder / "handoff.tar.gz", world.dist / "earlier")


@contextmanager
def _typed(content: bytes) -> Iterator[None]:
    """Standard input, as a redirection gives it."""
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(content))
    try:
        yield
    finally:
        sys.stdin = before


def _unless(option: str, value: str, argv: list[str]) -> list[str]:
    return [] if option in argv else [option, value]


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
