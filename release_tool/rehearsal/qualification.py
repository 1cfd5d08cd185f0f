"""The identity of a signed build, which the contract of October asks approval for (section 1.5).

An approval is another person's, through the admin interface; whoever registers may only ask how
it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import IO

from release_tool.rehearsal import registration
from release_tool.rehearsal.registration import MetadataError, Registration
from release_tool.rehearsal.release_store import ImmutableError, ReleaseStore

EVIDENCE_CHARACTERS = 4096
_URL_CHARACTERS = 2048
_VERSION_CHARACTERS = 128
_REMOVED = ("python_hash", "runtime_hash")
_RELEASE = tuple(field.name for field in fields(Registration) if field.name not in _REMOVED)
_BUILD = ("code_directory_hash", "source_commit", "ci_run_id")
_REQUIRED = "require_app_attest_qualification"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RUN = re.compile(r"[0-9]{1,32}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS approvals (
  binary_hash TEXT PRIMARY KEY, identity TEXT NOT NULL, evidence TEXT NOT NULL,
  revoked TEXT NOT NULL DEFAULT ''
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Exactly one signed build: its release and where it comes from."""

    release: Registration
    code_directory_hash: str = ""
    source_commit: str = ""
    ci_run_id: str = ""

    def identity(self) -> dict[str, str]:
        """What an approval binds: every field of the release but its changelog, and the build."""
        release = self.release.as_dict()
        return {name: release[name] for name in _RELEASE if name != "changelog"} | {
            name: str(getattr(self, name)) for name in _BUILD
        }

    def fault(self) -> str:
        """Why it cannot be approved, or nothing; nothing is trimmed or lowered here."""
        release = self.release
        rules = {
            "platform must be macos-arm64": release.platform == "macos-arm64",
            "backend must be mlx-swift": release.backend == "mlx-swift",
            "binary_hash": _DIGEST.fullmatch(release.binary_hash),
            "bundle_hash": _DIGEST.fullmatch(release.bundle_hash),
            "metallib_hash": _DIGEST.fullmatch(release.metallib_hash),
            "code_directory_hash": _DIGEST.fullmatch(self.code_directory_hash),
            "source_commit": _COMMIT.fullmatch(self.source_commit),
            "ci_run_id": _RUN.fullmatch(self.ci_run_id),
            "template_hashes must be empty": not release.template_hashes,
            "url": 0 < len(release.url) <= _URL_CHARACTERS,
            "version": 0 < len(release.version) <= _VERSION_CHARACTERS,
        }
        broken = [name for name, holds in rules.items() if not holds]
        return f"invalid build identity: {broken[0]}" if broken else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A registration of October, or the same body as a question."""

    build: Build
    required: bool
    """Whether the caller itself asks for an approval."""


def decode(body: IO[bytes]) -> Submission:
    """Decode a body of October.

    Raises:
        MetadataError: as for May; python and runtime hashes are unknown here.
    """
    given = dict(registration.read_object(body))
    required = given.pop(_REQUIRED, None)
    if not isinstance(required, bool | None):
        raise MetadataError(f"invalid JSON: cannot unmarshal field {_REQUIRED} into a bool")
    return Submission(build=_build(given), required=bool(required))


def validated(given: Submission) -> Submission:
    """The rules of every release; the build itself is judged where an approval is asked for.

    Raises:
        MetadataError: the first field that breaks its rule.
    """
    release = registration.validate(given.build.release)
    return replace(given, build=replace(given.build, release=release))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an administrator approves."""

    build: Build
    evidence: str


def decode_request(body: IO[bytes]) -> Request:
    """Decode the request for an approval, as an operator sends it.

    Raises:
        MetadataError: an unknown field, a wrong type, no evidence, or an identity that cannot be.
    """
    given = dict(registration.read_object(body))
    release = given.pop("release", {})
    evidence = given.pop("evidence", "")
    if not isinstance(release, dict) or not isinstance(evidence, str):
        raise MetadataError("invalid JSON: cannot unmarshal into a qualification")
    # The stored row may be sent as it is.
    kept = {name: value for name, value in release.items() if name not in ("active", "created_at")}
    build = Build(
        release=Registration(**registration.texts(kept, _RELEASE)),
        **registration.texts(given, _BUILD),
    )
    if not evidence.strip() or len(evidence) > EVIDENCE_CHARACTERS:
        raise MetadataError("evidence is required, at most 4096 characters")
    if fault := build.fault():
        raise MetadataError(fault)
    return Request(build=build, evidence=evidence)


class Approvals:
    """What administrators approved and revoked.

    Args:
        store: whose database keeps them.
    """

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store
        with store.transaction() as connection:
            connection.executescript(_SCHEMA)

    def approve(self, request: Request) -> bool:
        """Approve a build for good; False where it was approved before.

        Raises:
            ImmutableError: this executable is approved as another build, or revoked.
        """
        wanted = json.dumps(request.build.identity(), sort_keys=True)
        key = request.build.release.binary_hash
        with self._store.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM approvals WHERE binary_hash = ?", (key,)
            ).fetchone()
            if row and (row["revoked"] or row["identity"] != wanted):
                raise ImmutableError
            if row:
                return False
            connection.execute(
                "INSERT INTO approvals (binary_hash, identity, evidence) VALUES (?, ?, ?)",
                (key, wanted, request.evidence),
            )
        return True

    def revoke(self, binary_hash: str, reason: str) -> bool:
        """Revoke an approval for good; False where there is none."""
        with self._store.transaction() as connection:
            done = connection.execute(
                "UPDATE approvals SET revoked = ? WHERE binary_hash = ?", (reason, binary_hash)
            )
            return done.rowcount == 1

    def everything(self) -> list[dict[str, object]]:
        """Each approval with its identity and revocation."""
        with self._store.transaction() as connection:
            return [dict(row) for row in connection.execute("SELECT * FROM approvals")]

    def status(self, build: Build) -> Mapping[str, object]:
        """How the approval of exactly this build stands, as the status question answers it."""
        found = [
            row for row in self.everything() if row["binary_hash"] == build.release.binary_hash
        ]
        if not found:
            return {"status": "pending"}
        if found[0]["revoked"]:
            return {"status": "revoked"}
        approved = json.loads(str(found[0]["identity"]))
        other = sorted(
            name for name, value in build.identity().items() if approved.get(name) != value
        )
        return {"status": "mismatched", "mismatched_fields": other} if other else _APPROVED


_APPROVED: Mapping[str, object] = {"status": "approved"}


def _build(given: Mapping[str, object]) -> Build:
    found = registration.texts(given, (*_RELEASE, *_BUILD))
    release = {name: value for name, value in found.items() if name in _RELEASE}
    return Build(
        release=Registration(**release),
        **{name: value for name, value in found.items() if name in _BUILD},
    )
