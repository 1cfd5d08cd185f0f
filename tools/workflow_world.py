"""What is around the jobs of a replay: a repository, look-alikes of every service, runners.

Everything is below one folder and on 127.0.0.1.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import workflow_files as files
import workflow_program as program
import yaml
from workflow_expressions import Value
from workflow_runner import Run
from workflow_store import ArtifactError, Store

from release_tool.rehearsal import environment, places, samples, tiny_model
from release_tool.rehearsal.counts import Counts
from release_tool.rehearsal.environment import Environment
from release_tool.rehearsal.github_store import Run as GitHubRun

ROOT = Path(__file__).resolve().parent.parent
BRANCH, REPOSITORY, BUCKET = "master", "Layr-Labs/d-inference", "replay"
RUN_ID = "4711"
SIGNING = "signing"
APPLES = (
    *("APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD", "PROVISIONING_PROFILE_BASE64"),
    *("APPLE_API_KEY_P8", "APPLE_API_KEY_ID", "APPLE_API_ISSUER_ID"),
)
# What a checkout must hold for the jobs; the tool itself runs from where this file stands.
_COPIED = (".github", "Makefile", ".gitignore", "release.yaml", "entitlements", "templates")
_READY_SECONDS = 30.0
# A minute of patience proves no more than a second against look-alikes.
_LIMITS = {
    "latest_poll_seconds": 20,
    "notary_wait_seconds": 30,
    "ticket_wait_seconds": 10,
}
_SERVED = (
    *("--bucket", BUCKET, "--repository", REPOSITORY, "--cache-seconds", "0.3"),
    *("--processing-seconds", "0.2", "--ticket-seconds", "0.1"),
)
_RUNNERS: Mapping[str, Mapping[str, str]] = {
    "ubuntu-22.04": {"RUNNER_OS": "Linux", "RUNNER_ARCH": "X64", "ImageOS": "ubuntu22"},
    "macos-14": {"RUNNER_OS": "macOS", "RUNNER_ARCH": "ARM64", "ImageOS": "macos14"},
    "macos-26": {"RUNNER_OS": "macOS", "RUNNER_ARCH": "ARM64", "ImageOS": "macos26"},
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One way in which a release begins.

    Args:
        environment: where it goes.
        prefix: of that environment's own secrets.
        version: what is released.
        by_tag: whether a pushed tag starts it, or somebody by hand.
        pinned: whether the secrets that release.yaml states itself are left out.
        workflow: the file.
        inputs: of who starts it by hand, beside environment and version.
    """

    environment: str
    prefix: str
    version: str
    by_tag: bool
    pinned: bool = False
    workflow: str = "release.yml"
    inputs: Mapping[str, Value] = field(default_factory=dict)


DEV = Shape(environment="dev", prefix="DEV_", version="0.5.1-dev.1", by_tag=False)
PROD = Shape(environment="prod", prefix="PROD_", version="0.5.0", by_tag=True, pinned=True)
ADDRESSES = ("R2_ENDPOINT", "R2_PUBLIC_URL", "R2_BUCKET", "COORDINATOR_URL")
STATED = ("R2_BUCKET", "COORDINATOR_URL")
"""The settings that release.yaml states, so that no secret need say them."""


@dataclass(kw_only=True)
class World:
    """A repository and its services.

    Args:
        folder: everything is in it.
        living: the look-alikes.
    """

    folder: Path
    living: Environment
    repository: Path
    sha: str
    attested: list[str] = field(default_factory=list)
    """SHA-256 of what GitHub attested."""
    runs: list[Run] = field(default_factory=list)
    """Every run of a workflow, the oldest first."""
    strangers: list[GitHubRun] = field(default_factory=list)
    """Runs that somebody else started in this repository."""
    _runs: int = 0

    def machine(self, label: str) -> Mapping[str, str]:
        if label not in _RUNNERS:
            message = f"there is no runner {label!r} here"
            raise files.WorkflowError(message)
        return _RUNNERS[label]

    def path(self) -> str:
        return f"{self.folder / 'stand-ins'}:{os.environ.get('PATH', '/usr/bin:/bin')}"

    def attest(self, subjects: list[Path]) -> None:
        self.attested += [hashlib.sha256(path.read_bytes()).hexdigest() for path in subjects]

    def uploaded(self) -> None:
        """Let the look-alike of GitHub list what the runs hold now."""
        self.living.record_runs([*map(_on_github, self.runs), *self.strangers])

    def store_of(self, run_id: str) -> Store:
        for one in self.runs:
            if one.github["run_id"] == run_id:
                return one.store
        message = f"Unable to download artifact(s): there is no run {run_id}"
        raise ArtifactError(message)

    def counts(self) -> Counts:
        return self.living.counts()

    def secrets(self, shape: Shape) -> dict[str, str]:
        """What a repository and its protected environment hold for a shape."""
        living = self.living
        own = {
            "R2_ENDPOINT": living.r2_endpoint,
            "R2_PUBLIC_URL": living.r2_public_url,
            "R2_BUCKET": BUCKET,
            "COORDINATOR_URL": living.coordinator_url,
            "R2_ACCESS_KEY_ID": living.secret(places.ACCESS_KEY_ID),
            "R2_SECRET_ACCESS_KEY": living.secret(places.SECRET_ACCESS_KEY),
            "RELEASE_KEY": living.secret(places.RELEASE_KEY),
            "ADMIN_KEY": living.secret(places.ADMIN_KEY),
            "PROVENANCE_KEY": living.secret(places.PROVENANCE_KEY),
        }
        apples = {
            "APPLE_CERTIFICATE_P12": base64.b64encode(living.identity.read_bytes()).decode(),
            "APPLE_CERTIFICATE_PASSWORD": living.secret(places.IDENTITY_PASSWORD),
            "PROVISIONING_PROFILE_BASE64": base64.b64encode(living.profile.read_bytes()).decode(),
            "APPLE_API_KEY_P8": living.secret(places.NOTARY_KEY),
            "APPLE_API_KEY_ID": living.secret(places.NOTARY_KEY_ID),
            "APPLE_API_ISSUER_ID": living.secret(places.NOTARY_ISSUER_ID),
        }
        left_out = STATED if shape.pinned else ()
        prefixed = {
            f"{shape.prefix}{name}": value for name, value in own.items() if name not in left_out
        }
        return prefixed | apples

    def run(self, shape: Shape) -> Run:
        """A run of a workflow from its beginning."""
        self._runs += 1
        tag = f"v{shape.version}"
        self.living.push_tag(tag, self.sha)
        if shape.by_tag:
            _tag(self.repository, shape)
        ref = tag if shape.by_tag else BRANCH
        kind = "tags" if shape.by_tag else "heads"
        workflow = files.read(self.repository / ".github" / "workflows" / shape.workflow)
        inputs: dict[str, Value] = {}
        if not shape.by_tag:
            for name, told in workflow.inputs.items():
                default = told.get("default", "")
                inputs[name] = default if isinstance(default, bool) else str(default)
            said = {"environment": shape.environment, "version": shape.version, **shape.inputs}
            inputs |= {name: value for name, value in said.items() if name in inputs}
        secrets = self.secrets(shape)
        folder = self.folder / "runs" / f"{self._runs}-{shape.environment}"
        made = Run(
            workflow=workflow,
            world=self,
            folder=folder,
            store=Store(folder / "artifacts"),
            github={
                "event_name": "push" if shape.by_tag else "workflow_dispatch",
                "ref": f"refs/{kind}/{ref}",
                "ref_name": ref,
                "ref_type": kind.removesuffix("s").replace("head", "branch"),
                "sha": self.sha,
                "repository": REPOSITORY,
                "actor": "octocat",
                "run_id": f"{RUN_ID}{self._runs}",
                "workflow": workflow.name,
            },
            inputs=inputs,
            secrets={name: secrets[name] for name in secrets if is_address(name)},
            environments={
                SIGNING: {name: secrets[name] for name in secrets if is_apples(name)},
                shape.environment: {
                    name: secrets[name]
                    for name in secrets
                    if not (is_address(name) or is_apples(name))
                },
            },
            variables={"PROVIDER_BUILD_COMMAND": str(self.folder / "parts" / "build")},
            tokens=(
                self.living.secret(places.GITHUB_TOKEN),
                self.living.secret(places.GITHUB_READER),
                "ghs_reads-contents-alone",
            ),
        )
        self.runs.append(made)
        self.uploaded()
        return made


def _on_github(run: Run) -> GitHubRun:
    """A run as GitHub lists it."""
    return GitHubRun(
        id=int(run.github["run_id"]),
        workflow=run.workflow.path.name,
        event=run.github["event_name"],
        ref=run.github["ref_name"],
        artifacts=tuple(run.store.names()),
    )


def is_address(name: str) -> bool:
    """Whether a secret is one of the repository, since many jobs state it."""
    return name.endswith(ADDRESSES)


def is_apples(name: str) -> bool:
    """Whether a secret is one of the environment in which jobs sign and notarize."""
    return name in APPLES


@contextmanager
def existing(folder: Path) -> Iterator[World]:
    """One world, ended afterwards.

    Args:
        folder: an empty one.
    """
    state = folder / "look-alikes"
    state.mkdir(parents=True)
    with (folder / "look-alikes.log").open("wb") as log:
        served = subprocess.Popen(
            [sys.executable, "-m", "release_tool.rehearsal.serve", str(state), *_SERVED],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        living = _awaited(state)
        _make_parts(folder, living)
        repository, sha = _repository(folder, living)
        yield World(folder=folder, living=living, repository=repository, sha=sha)
    finally:
        served.terminate()
        served.wait(_READY_SECONDS)


def _awaited(state: Path) -> Environment:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if (living := environment.attach(state)) is not None:
            return living
        time.sleep(0.05)
    message = "the look-alikes do not start"
    raise TimeoutError(message)


def _make_parts(folder: Path, living: Environment) -> None:
    """What is replaced, and the two programs that a runner has and this machine must not run."""
    parts, stand_ins = folder / "parts", folder / "stand-ins"
    parts.mkdir()
    stand_ins.mkdir()
    shutil.copyfile(living.trust, parts / program.TRUST)
    (parts / program.METALLIB).write_bytes(samples.metallib())
    tiny_model.make(parts / "model")
    # The tree that this file stands in, whichever is installed.
    words = f'"{sys.executable}" "{Path(program.__file__).resolve()}" "{parts}"'
    tool = f'PYTHONPATH="{ROOT}" exec {words}'
    _script(parts / "release-tool", f'{tool} "$@"')
    # `make -C FOLDER setup` would install the lock: a job finds it installed.
    install = f'mkdir -p "$2/.venv/bin" && ln -s "{parts}/release-tool" "$2/.venv/bin/release-tool"'
    _script(stand_ins / "make", f'[ "$1 $3" = "-C setup" ] || exit 64\n{install}')
    made = "samples.materialize(Path('binaries'), os.environ['RELEASE_VERSION'], os.environ['SHA'])"
    imports = "import os; from pathlib import Path; from release_tool.rehearsal import samples"
    _script(
        parts / "build",
        f'SHA=$(git rev-parse HEAD) exec "{sys.executable}" -c "{imports}; {made}"',
    )


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\nset -eu\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def _repository(folder: Path, living: Environment) -> tuple[Path, str]:
    """A repository with this tree's workflows and a release.yaml for these services."""
    here = folder / "repository"
    here.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, here / name)
        else:
            shutil.copyfile(source, here / name)
    release = here / "release.yaml"
    told = yaml.safe_load(release.read_text(encoding="utf-8"))
    release.write_text(yaml.safe_dump(_for_here(told, folder, living)), encoding="utf-8")
    (here / "requirements.txt").write_text("# installed already\n", encoding="utf-8")
    _git(here, "init", "--quiet", "-b", BRANCH)
    _git(here, "add", "-A")
    _git(here, "commit", "--quiet", "-m", "A release")
    for shape in (DEV, PROD):
        _tag(here, shape)
    return here, _git(here, "rev-parse", "HEAD").strip()


def _tag(repository: Path, shape: Shape) -> None:
    """Its annotated tag, once."""
    words = ("-a", f"v{shape.version}", "-m", f"Notes of {shape.version}\n\nAll.")
    if not _git(repository, "tag", "--list", f"v{shape.version}"):
        _git(repository, "tag", *words)


def _for_here(told: dict[str, object], folder: Path, living: Environment) -> dict[str, object]:
    """The release file with the addresses of look-alikes, the portable signer and a stand-in."""
    document = yaml.safe_load(yaml.safe_dump(told))
    document["limits"] |= _LIMITS
    document["bundle"]["metallib"]["sha256"] = hashlib.sha256(samples.metallib()).hexdigest()
    document["smoke"] |= {
        "model": str(folder / "parts" / "model"),
        "prompts": ["What is the capital of France?"],
        "concurrency": [1],
        "max_tokens": 4,
        "long_tokens": 8,
        "thresholds": [],
    }
    public = places.provenance(living.state).read_text(encoding="ascii")
    for name in (DEV.environment, PROD.environment):
        document["environments"][name]["provenance"]["keys"] = [
            "".join(line for line in public.splitlines() if "-----" not in line)
        ]
        document["environments"][name] |= {
            "trust": "look-alike",
            "signer": "portable",
            "provider": "stand-in",
            "timestamp_url": living.timestamp_url,
            "notary_url": living.notary_url,
            "notary_upload_url": living.notary_upload_url,
            "ticket_url": living.ticket_url,
            "github_api_url": living.github_api_url,
            "github_uploads_url": living.github_uploads_url,
            "fleet_watch_seconds": 0,
            "registration_seconds": 10,
            "built_in": [],
            "not_built_in": [],
            "endpoints": {"coordinator_url": living.coordinator_url, "r2_bucket": BUCKET},
        }
    found: dict[str, object] = document
    return found


def _git(folder: Path, *words: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "Replay",
        "GIT_AUTHOR_EMAIL": "replay@localhost",
        "GIT_COMMITTER_NAME": "Replay",
        "GIT_COMMITTER_EMAIL": "replay@localhost",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(folder),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=who, check=True, capture_output=True, text=True
    )
    return done.stdout
