"""What is inside an archive: a CycloneDX 1.6 bill of materials, made from the archive alone.

Its time is the source's, as for every member of the archive, so that the same archive gives the
same bytes (https://reproducible-builds.org/specs/source-date-epoch); when the archive was made is
said by its provenance, which names the bill's digest.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeReport
from release_tool.plan import Metallib, ReleasePlan
from release_tool.provenance import canonical
from release_tool.values import SealedFile

NAME = "sbom.cdx.json"
MEDIA_TYPE: Final = "application/vnd.cyclonedx+json; version=1.6"
LIMIT_BYTES = 32 * 1024 * 1024
"""16384 members, the most an archive has, with a KiB each, and as much again."""
_OURS = "release-tool"
_SYSTEM = ("/usr/lib/", "/System/Library/")
"""What every Mac has: no part of a release."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_COMPONENTS = 64 * 1024
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One slice of a Mach-O file, as its signature says it."""

    path: str
    """Of the file in the archive."""
    arch: str
    identifier: str
    team_id: str
    cdhash: str
    minos: str
    sdk: str
    libraries: tuple[str, ...]
    """What it loads that no Mac brings along, as it names them."""


def code_of(facts: BundleFacts | None) -> tuple[Code, ...]:
    """Every signed slice of a release, by path and architecture.

    Args:
        facts: of the app, or of `bin/` where there is none.
    """
    found = {(one.path, one.arch): one for one in _code(facts)} if facts else {}
    return tuple(found[place] for place in sorted(found))


def _code(facts: BundleFacts) -> Iterator[Code]:
    for path, report in facts.code.items():
        yield from _slices(f"{facts.path}/{path}", report)
    for inner in facts.bundles.values():
        yield from _code(inner)


def _slices(path: str, report: CodeReport) -> Iterator[Code]:
    for one in report.slices:
        yield Code(
            path=path,
            arch=one.arch,
            identifier=one.identifier,
            team_id=one.team_id or "",
            cdhash=one.cdhash,
            minos=one.minos or "",
            sdk=one.sdk or "",
            libraries=tuple(
                sorted({name for name in one.linked_libraries if not name.startswith(_SYSTEM)})
            ),
        )


def purl(pin: Metallib) -> str:
    """The package that a Metal library comes from, as a package URL."""
    return f"pkg:pypi/{pin.package}@{pin.version}"


def build(
    plan: ReleasePlan, sha256: str, files: Sequence[SealedFile], code: Sequence[Code]
) -> bytes:
    """The bill as canonical JSON.

    Args:
        plan: names the product and where its Metal library comes from.
        sha256: of the archive.
        files: its regular files and links.
        code: its signed code.
    """
    by_path: dict[str, list[Code]] = {}
    for one in code:
        by_path.setdefault(one.path, []).append(one)
    packages = list(_packages(plan, files))
    components = [_file(one, by_path.get(one.path, ())) for one in _sorted(files)]
    libraries = sorted({name for one in code for name in one.libraries})
    components += [_library(name) for name in libraries]
    components += packages
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{sha256}")
    facts = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(plan.source.date, UTC).isoformat(),
            "lifecycles": [{"phase": "post-build"}],
            # Without its version: a rerun with a newer one makes the same bill.
            "tools": {"components": [{"type": "application", "name": _OURS}]},
            "component": {
                "type": "application",
                "bom-ref": "archive",
                "name": plan.archive.name,
                "version": plan.version,
                "description": plan.name,
                "hashes": _hashes(sha256),
            },
        },
        "components": components,
        "dependencies": list(_dependencies(plan, files, by_path, packages)),
    }
    return canonical.encode(facts) + b"\n"


def _sorted(files: Sequence[SealedFile]) -> list[SealedFile]:
    return sorted(files, key=lambda one: one.path)


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"{_OURS}:{name}", "value": value}


def _file(file: SealedFile, code: Sequence[Code]) -> dict[str, object]:
    properties = [_property("size", f"{file.size}"), _property("mode", f"{file.mode:04o}")]
    if file.link:
        properties.append(_property("link", "true"))
    for one in code:
        properties += [_property(f"{one.arch}:{name}", text) for name, text in _traits(one)]
    return {
        "type": "file",
        "bom-ref": _reference(file.path),
        "name": file.path,
        "hashes": _hashes(file.sha256),
        "properties": properties,
    }


def _traits(one: Code) -> Iterator[tuple[str, str]]:
    yield "cdhash", one.cdhash
    yield "identifier", one.identifier
    for name, text in (("team", one.team_id), ("minos", one.minos), ("sdk", one.sdk)):
        if text:
            yield name, text
    for library in one.libraries:
        yield "library", library


def _reference(path: str) -> str:
    return f"file:{path}"


def _library(name: str) -> dict[str, object]:
    return {"type": "library", "bom-ref": f"library:{name}", "name": name}


def _packages(plan: ReleasePlan, files: Sequence[SealedFile]) -> Iterator[dict[str, object]]:
    """The package of the Metal library, where the one that ships is the package's."""
    pin = plan.bundle.metallib
    if pin is not None and _copies(pin, files):
        yield {
            "type": "library",
            "bom-ref": purl(pin),
            "name": pin.package,
            "version": pin.version,
            "purl": purl(pin),
            "hashes": _hashes(pin.wheel_sha256),
        }


def _copies(pin: Metallib, files: Sequence[SealedFile]) -> list[str]:
    return [one.path for one in _sorted(files) if one.sha256 == pin.sha256]


def _dependencies(
    plan: ReleasePlan,
    files: Sequence[SealedFile],
    code: Mapping[str, Sequence[Code]],
    packages: Sequence[Mapping[str, object]],
) -> Iterator[dict[str, object]]:
    yield {"ref": "archive", "dependsOn": [_reference(one.path) for one in _sorted(files)]}
    for path in sorted(code):
        names = sorted({name for one in code[path] for name in one.libraries})
        if names:
            yield {"ref": _reference(path), "dependsOn": [f"library:{name}" for name in names]}
    pin = plan.bundle.metallib
    if pin is not None and packages:
        for path in _copies(pin, files):
            yield {"ref": _reference(path), "dependsOn": [purl(pin)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a bill says of an archive, as far as it is compared."""

    sha256: str
    files: Mapping[str, str]
    """By path, what is said of it: its digest, and properties in order."""


def read(content: bytes) -> Bill:
    """Read a bill, anybody's.

    Raises:
        FormatError: it is none, or names a file twice.
    """
    whole = canonical.any_spelling(content, limit_bytes=LIMIT_BYTES, what="a bill of materials")
    if (whole.get("bomFormat"), whole.get("specVersion")) != ("CycloneDX", "1.6"):
        raise errors.FormatError("is no CycloneDX 1.6")
    metadata, components = whole.get("metadata"), whole.get("components")
    subject = metadata.get("component") if isinstance(metadata, dict) else None
    if not isinstance(components, list) or len(components) > _MOST_COMPONENTS:
        raise errors.FormatError("lists no components")
    files: dict[str, str] = {}
    for one in components:
        if isinstance(one, dict) and one.get("type") == "file":
            name = one.get("name")
            if not isinstance(name, str) or not name.isprintable() or name in files:
                raise errors.FormatError("lists a file without a name of its own")
            files[name] = _described(one)
    return Bill(sha256=_sha256(subject), files=files)


def judge(
    bill: Bill, sha256: str, files: Sequence[SealedFile], code: Sequence[Code]
) -> Iterator[Check]:
    """Compare a bill with an archive that was unpacked, both ways.

    Args:
        bill: what was published.
        sha256: of the archive.
        files: as they were unpacked.
        code: as it was read from them.
    """
    yield checks.compare("SBOM subject", expected=sha256, observed=bill.sha256)
    by_path: dict[str, list[Code]] = {}
    for one in code:
        by_path.setdefault(one.path, []).append(one)
    found = {one.path: _described(_file(one, by_path.get(one.path, ()))) for one in files}
    differing = [
        checks.failed(
            "SBOM",
            expected=found.get(path, "no such file")[:_SHOWN],
            observed=bill.files.get(path, "not listed")[:_SHOWN],
            subject=path,
        )
        for path in sorted(found.keys() | bill.files.keys())
        if found.get(path) != bill.files.get(path)
    ]
    yield from differing
    if not differing:
        yield checks.passed("SBOM", f"{len(found)} files and {len(code)} code objects, as unpacked")


def _described(component: Mapping[str, Any]) -> str:
    listed = component.get("properties", [])
    if not isinstance(listed, list):
        raise errors.FormatError("holds properties that are no list")
    texts = []
    for one in listed:
        if not isinstance(one, dict):
            raise errors.FormatError("holds a property that is no object")
        texts.append(f"{one.get('name')}={one.get('value')}")
    return " ".join([_sha256(component), *texts])


def _sha256(component: object) -> str:
    listed = component.get("hashes") if isinstance(component, dict) else None
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("alg") == "SHA-256":
            content = one.get("content")
            if isinstance(content, str) and _SHA256.fullmatch(content):
                return content
    raise errors.FormatError("lists a component without its SHA-256")
