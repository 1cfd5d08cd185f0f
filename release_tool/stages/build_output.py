"""What a build hands over: a folder of binaries, and `build.json` that says where they are from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from release_tool import errors
from release_tool.apple import built_in, checks, macho
from release_tool.apple.checks import Check
from release_tool.files import extended_attributes
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan
from release_tool.values import UNKNOWN

MANIFEST = "build.json"
_MANIFEST_BYTES = 1024 * 1024

Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|unknown)$")]
Digest = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64}|unknown)$")]


class BuildManifest(BaseModel):
    """`build.json`. What it leaves out is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = UNKNOWN
    source_commit: Commit = UNKNOWN
    test_outcome: Literal["passed", "failed", "unknown"] = UNKNOWN
    files: Mapping[str, Digest] = {}
    """Digest of each file of the folder, by its path."""


def read_manifest(folder: Path) -> BuildManifest:
    """Read `build.json`; without one, everything is unknown.

    Raises:
        FormatError: it is no such document.
    """
    path = folder / MANIFEST
    if not path.exists():
        return BuildManifest()
    text = DiskTree(folder).head(MANIFEST, _MANIFEST_BYTES + 1)
    if len(text) > _MANIFEST_BYTES:
        raise errors.FormatError("is too large", subject=str(path))
    try:
        return BuildManifest.model_validate(json.loads(text, object_pairs_hook=_no_duplicates))
    except ValidationError as problem:
        lines = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in problem.errors()
        ]
        raise errors.FormatError(
            "does not describe a build", subject=str(path), details=lines
        ) from None
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError(
            "is not JSON", subject=str(path), observed=str(problem)[:200]
        ) from None


def judge_manifest(plan: ReleasePlan, manifest: BuildManifest) -> list[Check]:
    """Whether the build is of this release, and known enough for this environment."""
    found = []
    if manifest.version != UNKNOWN:
        found.append(
            checks.compare(
                "version", expected=plan.version, observed=manifest.version, subject=MANIFEST
            )
        )
    if not plan.environment.require_known_source:
        return found
    found += [
        checks.compare(
            "source commit",
            expected=plan.source.commit,
            observed=manifest.source_commit,
            subject=MANIFEST,
            hint="build from the commit that is released, and write build.json with it",
        ),
        checks.compare(
            "test outcome",
            expected="passed",
            observed=manifest.test_outcome,
            subject=MANIFEST,
            hint="let the build's tests pass, and write their outcome into build.json",
        ),
    ]
    return found


def doubts(plan: ReleasePlan, manifest: BuildManifest) -> Iterator[str]:
    """What an environment that takes unknown sources is only told."""
    if plan.environment.require_known_source:
        return
    if UNKNOWN not in (manifest.source_commit, plan.source.commit):
        if manifest.source_commit != plan.source.commit:
            yield (
                f"the binaries are of {manifest.source_commit[:7]}, "
                f"the release is cut from {plan.source.commit[:7]}"
            )
    elif manifest.source_commit == UNKNOWN:
        yield "the binaries' source commit is unknown"
    if manifest.test_outcome != "passed":
        yield f"the build's test outcome is {manifest.test_outcome}"


def judge_digest(plan: ReleasePlan, manifest: BuildManifest, path: str, observed: str) -> Check:
    """Whether a file is the one that the build wrote."""
    expected = manifest.files.get(path, UNKNOWN)
    if expected == UNKNOWN and not plan.environment.require_known_source:
        return checks.not_checked("digest", "build.json does not name it", subject=path)
    return checks.compare(
        "digest",
        expected=expected if expected != UNKNOWN else f"one in {MANIFEST}",
        observed=observed,
        subject=path,
    )


def judge_folder(plan: ReleasePlan, folder: Path) -> list[Check]:
    """Every file is declared, everything declared is there, and nothing hangs on a file."""
    tree = DiskTree(folder)
    entries = {entry.path: entry for entry in tree.entries()}
    found = []
    for path, entry in entries.items():
        if entry.path.rpartition("/")[2].startswith("._"):
            found.append(_refused("AppleDouble file", path, "none", "one"))
        elif entry.kind == "symlink":
            found.append(_refused("file", path, "a regular file", "a link"))
        elif entry.kind == "file" and not _declared(plan, path):
            found.append(_refused("file", path, "declared in release.yaml", "not declared"))
    wanted = [*_declared_files(plan), *(resource.source for resource in plan.bundle.resources)]
    found += [
        _refused("file", path, "present", "missing") for path in wanted if path not in entries
    ]
    found += [
        judge_attributes(folder / path, path) for path in _declared_files(plan) if path in entries
    ]
    return found


def judge_attributes(path: Path, shown: str) -> Check:
    """Extended attributes are lost in archives or become detritus that codesign refuses."""
    names = extended_attributes.names(path)
    return checks.compare(
        "extended attributes",
        expected="none",
        observed=", ".join(names) or "none",
        subject=shown,
        hint="take them off: xattr -c FILE",
    )


def judge_code(plan: ReleasePlan, path: str, code: bytes) -> tuple[list[Check], macho.Slice | None]:
    """Whether an executable is one thin Mach-O that the advertised macOS runs."""
    try:
        slices = macho.parse(code)
    except errors.FormatError as problem:
        return [_refused("Mach-O", path, "an executable", problem.message)], None
    wanted = plan.product.architecture
    found = [
        checks.compare(
            "architecture",
            expected=wanted,
            observed=", ".join(one.arch for one in slices),
            subject=path,
        ),
        checks.compare(
            "kind of Mach-O",
            expected="an executable",
            observed="an executable" if slices[0].is_executable else "a library or an object",
            subject=path,
        ),
        *(_judge_minimum(plan, path, one) for one in slices),
    ]
    return found, slices[0]


def judge_built_in(plan: ReleasePlan, name: str, code: bytes) -> list[Check]:
    """Whether the main executable was built for its environment (see `apple.built_in`)."""
    return built_in.judge(
        code,
        wanted=plan.environment.built_in,
        unwanted=plan.environment.not_built_in,
        environment=plan.environment.name,
        subject=name,
    )


def holds_version(code: bytes, version: str) -> bool:
    """Whether the version stands in the bytes of an executable, not as part of a longer one."""
    pattern = rb"(?<![0-9A-Za-z.+-])" + re.escape(version.encode()) + rb"(?![0-9A-Za-z.+-])"
    return re.search(pattern, code) is not None


def _declared_files(plan: ReleasePlan) -> list[str]:
    return [one.name for one in (*plan.bundle.executables, *plan.bundle.helpers)]


def _declared(plan: ReleasePlan, path: str) -> bool:
    if path == MANIFEST or path in _declared_files(plan):
        return True
    sources = [resource.source for resource in plan.bundle.resources]
    return any(path == source or path.startswith(f"{source}/") for source in sources)


def _judge_minimum(plan: ReleasePlan, path: str, code: macho.Slice) -> Check:
    minimum = plan.product.minimum_macos
    if code.minos and macho.packed_version(code.minos) <= macho.packed_version(minimum):
        return checks.passed("minimum macOS", code.minos, subject=path)
    return checks.failed(
        "minimum macOS",
        expected=f"at most {minimum}",
        observed=code.minos or "none stated",
        subject=path,
        hint="build with the deployment target that release.yaml advertises",
    )


def _refused(name: str, path: str, expected: str, observed: str) -> Check:
    return checks.failed(name, expected=expected, observed=observed, subject=path)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice"
        raise ValueError(message)
    return found
