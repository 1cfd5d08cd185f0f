"""How an archive came to be: an in-toto Statement v1 with SLSA provenance v1.

Made of the ledger's facts alone, so the same records give the same bytes. What it says and what
it does not prove is written in docs/verify-release.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.provenance import canonical, dsse, sbom
from release_tool.provenance.keys import PublicKey, SigningKey
from release_tool.values import (
    UNKNOWN,
    AssembledBundle,
    ReleaseArchive,
    SignedBundle,
    VerifiedProfile,
)

NAME = "provenance.dsse.json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:release-tool:build:v1"
"""Our own: docs/verify-release.md says what its parameters mean."""
_LIMIT_BYTES = dsse.LIMIT_BYTES
_TEXT_CHARACTERS = 2048
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When, where and by what the archive was made, as the ledger has it."""

    invocation: str
    """SHA-256 of the record that the archive stands in, which chains all before it."""
    started: str
    """ISO 8601, UTC."""
    finished: str
    """ISO 8601, UTC."""
    tool: str
    """`release-tool 0.1.0`."""
    system: str
    """Where it was packed: `macos 15.1 arm64`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """What the archive was made of, as the stages recorded it."""

    archive: ReleaseArchive
    assembled: AssembledBundle
    signed: SignedBundle
    profile: VerifiedProfile | None = None
    """None for a layout that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a statement says, as far as somebody compares it."""

    name: str
    sha256: str
    """Of the archive."""
    build_type: str
    builder: str
    version: str
    environment: str
    flavour: str
    commit: str
    """Of the source; empty where it was not known."""
    sbom_sha256: str
    definition: bytes
    """`buildDefinition`, canonical: the same for two honest statements on one archive."""


def payload(plan: ReleasePlan, made: Materials, run: Run, *, sbom_sha256: str) -> bytes:
    """The statement as canonical JSON."""
    section = plan.environment.provenance
    builder = section.builder if section else ""
    subject = {"name": plan.archive.name, "digest": {"sha256": made.archive.sha256}}
    facts = {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "environment": plan.environment.name,
                    "flavour": plan.flavour.name,
                    "product": plan.product.name,
                    "tag": plan.source.tag,
                    "version": plan.version,
                },
                "internalParameters": {
                    "ciRunId": plan.source.ci_run_id,
                    "signer": made.signed.signer,
                    "teamId": plan.product.team_id,
                    "testOutcome": made.archive.test_outcome,
                },
                "resolvedDependencies": list(_dependencies(plan, made)),
            },
            "runDetails": {
                "builder": {"id": builder, "version": _version(run.tool)},
                "metadata": {
                    "invocationId": f"urn:release-tool:ledger:{run.invocation}",
                    "startedOn": _utc(run.started),
                    "finishedOn": _utc(run.finished),
                },
                "byproducts": [
                    {
                        "name": sbom.NAME,
                        "digest": {"sha256": sbom_sha256},
                        "mediaType": sbom.MEDIA_TYPE,
                    },
                    {"name": "host", "annotations": {"system": run.system}},
                ],
            },
        },
    }
    return canonical.encode(facts)


def seal(content: bytes, key: SigningKey) -> bytes:
    """The statement in its signed envelope."""
    return dsse.seal(PAYLOAD_TYPE, content, key)


def unseal(content: bytes, *, trusted: Sequence[PublicKey]) -> Statement:
    """Read a statement that a trusted key signed.

    Raises:
        FormatError: it is no such statement.
        VerificationError: no trusted key signed it.
    """
    return read(dsse.unseal(content, payload_type=PAYLOAD_TYPE, trusted=trusted).payload)


def read(content: bytes) -> Statement:
    """Read a statement, anybody's.

    Raises:
        FormatError: it is none, or of another kind.
    """
    whole = canonical.any_spelling(content, limit_bytes=_LIMIT_BYTES, what="a statement")
    for key, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if whole.get(key) != wanted:
            raise errors.FormatError(
                "is a statement of another kind",
                expected=wanted,
                observed=repr(whole.get(key))[:80],
            )
    subject = _only(_at(whole, "subject"))
    definition = _at(whole, "predicate", "buildDefinition")
    details = _at(whole, "predicate", "runDetails")
    try:
        spelled = canonical.encode(definition)
    except (TypeError, ValueError, RecursionError, AttributeError) as problem:
        raise errors.FormatError("defines no build") from problem
    return Statement(
        name=_text(subject, "name"),
        sha256=_digest(subject, "sha256", _SHA256),
        build_type=_text(definition, "buildType"),
        builder=_text(details, "builder", "id"),
        version=_text(definition, "externalParameters", "version"),
        environment=_text(definition, "externalParameters", "environment"),
        flavour=_text(definition, "externalParameters", "flavour"),
        commit=_commit(_at(definition, "resolvedDependencies")),
        sbom_sha256=_byproduct(_at(details, "byproducts")),
        definition=spelled,
    )


def _dependencies(plan: ReleasePlan, made: Materials) -> Iterator[dict[str, object]]:
    if made.archive.source_commit != UNKNOWN:
        yield _source(plan, made.archive.source_commit)
    for binary in made.assembled.binaries:
        yield {
            "name": f"binary {binary.name}",
            "digest": {"sha256": binary.sha256},
            "annotations": {"minos": binary.minos, "sdk": binary.sdk},
        }
    yield from _metallib(plan, made)
    if made.profile is not None:
        yield {
            "name": f"provisioning profile {made.profile.uuid}",
            "digest": {"sha256": made.profile.sha256},
        }
    yield {
        "name": f"signing certificate {made.signed.certificate_name}",
        "digest": {"sha256": made.signed.certificate_sha256},
    }


def _source(plan: ReleasePlan, commit: str) -> dict[str, object]:
    source: dict[str, object] = {"name": "source", "digest": {"gitCommit": commit}}
    repository = plan.environment.github_repository
    if repository and not plan.environment.embedded:
        reference = f"refs/tags/{plan.source.tag}" if plan.source.tag else commit
        source["uri"] = f"git+https://github.com/{repository}@{reference}"
    return source


def _metallib(plan: ReleasePlan, made: Materials) -> Iterator[dict[str, object]]:
    pin = plan.bundle.metallib
    if pin is None:
        return
    if made.assembled.metallib_sha256 == pin.sha256:
        yield {
            "name": f"wheel {pin.package}",
            "uri": sbom.purl(pin),
            "digest": {"sha256": pin.wheel_sha256},
        }
    yield {
        "name": f"Metal library {pin.name}",
        "digest": {"sha256": made.assembled.metallib_sha256},
        "annotations": {"origin": made.assembled.metallib_origin},
    }


def _version(tool: str) -> dict[str, str]:
    name, _, version = tool.partition(" ")
    return {name or "release-tool": version or UNKNOWN}


def _utc(at: str) -> str:
    """RFC 3339 with `Z`, as the predicate's timestamps are written."""
    return at.replace("+00:00", "Z")


def _at(found: object, *steps: str) -> Any:  # noqa: ANN401 - anybody's JSON
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    if found is None:
        raise errors.FormatError(f"says no {'.'.join(steps)}")
    return found


def _text(found: object, *steps: str) -> str:
    value = _at(found, *steps)
    if not isinstance(value, str) or len(value) > _TEXT_CHARACTERS or not value.isprintable():
        raise errors.FormatError(f"says no {'.'.join(steps)} that can be shown")
    return value


def _digest(found: object, name: str, form: re.Pattern[str]) -> str:
    value = _text(found, "digest", name)
    if not form.fullmatch(value):
        raise errors.FormatError("names no digest", observed=repr(value)[:80])
    return value


def _only(subjects: object) -> object:
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise errors.FormatError("is not about exactly one archive")
    return subjects[0]


def _named(found: object, name: str) -> object | None:
    entries = found if isinstance(found, list) else []
    same = [one for one in entries if isinstance(one, dict) and one.get("name") == name]
    if len(same) > 1:
        raise errors.FormatError(f"names {name} twice")
    return same[0] if same else None


def _commit(dependencies: object) -> str:
    source = _named(dependencies, "source")
    return _digest(source, "gitCommit", _COMMIT) if source else ""


def _byproduct(found: object) -> str:
    made = _named(found, sbom.NAME)
    if made is None:
        raise errors.FormatError(f"names no {sbom.NAME}")
    return _digest(made, "sha256", _SHA256)
