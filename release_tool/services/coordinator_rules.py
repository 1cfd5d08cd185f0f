"""The coordinator's own rules for a registration, run here before anything is sent.

They follow section 1.1 of the coordinator's contract: fields, address, archive. What it accepts
is written down here and nothing stricter, but for digests, which we only send in lower case.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Literal

from release_tool import errors
from release_tool.apple import checks
from release_tool.files import hashing
from release_tool.services import addresses

# Go's `$` is the end of the text; Python's is not, hence fullmatch everywhere.
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.-]+)?")
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BACKENDS_WITH_METALLIB = ("mlx-swift",)

Contract = Literal["2026-05", "2026-10"]
# What October binds an approval to; see `Build`.
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RUN = re.compile(r"[0-9]{1,32}")
_APPROVED_PLATFORM = "macos-arm64"
APPROVED_BACKEND = "mlx-swift"
"""The one backend whose builds can be approved."""
_APPROVED_CHARACTERS = {"url": 2048, "version": 128}

BODY_BYTES = 64 * 1024
ARCHIVE_BYTES = 2 * 1024**3
BINARY_BYTES = 512 * 1024**2
BINARY_MEMBER = "bin/darkbloom"
# Four times what the installers take; each member costs memory while it is walked.
_MEMBERS = 65_536
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release as it is registered and as it is served: the fields of May.

    `template_hashes`, `python_hash` and `runtime_hash` are never sent: we cannot prove them from
    the bundle, and invented ones once took the whole fleet's capacity.
    """

    version: str
    platform: str
    backend: str
    binary_hash: str
    bundle_hash: str
    metallib_hash: str
    url: str
    changelog: str


HASHES = ("binary_hash", "bundle_hash", "metallib_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Where a release comes from: the further fields of October. The coordinator proves none."""

    code_directory_hash: str
    """The whole SHA-256 of the main executable's code directory, not the cut cdhash."""
    source_commit: str
    ci_run_id: str
    qualified: bool
    """Whether the release asks to be refused without an approval of exactly this build."""

    def sent(self) -> dict[str, str | bool]:
        """The fields as they are sent; what is not known is left out."""
        known = {name: getattr(self, name) for name in BUILD if getattr(self, name)}
        return known | ({"require_app_attest_qualification": True} if self.qualified else {})


BUILD = ("code_directory_hash", "source_commit", "ci_run_id")


def encode(release: Release, build: Build | None = None) -> bytes:
    """The JSON body of a registration, and of the question for an approval.

    Args:
        release: the fields of May.
        build: the further fields of October, for a coordinator that knows them.

    Raises:
        UsageError: the changelog holds what is not text.
    """
    whole = asdict(release) | (build.sent() if build else {})
    try:
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as problem:
        raise errors.UsageError(
            "the changelog holds what is not text", observed=str(problem)[:200]
        ) from problem


def expected_url(public_base: str, version: str, platform: str) -> str:
    """The one address that the coordinator accepts and downloads from."""
    return addresses.join(public_base, f"releases/v{version}/darkbloom-bundle-{platform}.tar.gz")


def content_url(public_base: str, release: Release) -> str:
    """The further address that October accepts: it holds the archive's digest."""
    name = f"darkbloom-bundle-{release.platform}.tar.gz"
    key = f"releases/v{release.version}/artifacts/{release.bundle_hash}/{name}"
    return addresses.join(public_base, key)


def differences(ours: Release, theirs: Release) -> list[str]:
    """Each field that differs, ours against theirs, in words."""
    found = []
    for field in fields(Release):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        equal = addresses.same(left, right) if field.name == "url" else left == right
        if not equal:
            found.append(f"{field.name}: sent {_cut(left)}, answered {_cut(right)}")
    return found


def field_checks(
    release: Release, *, public_base: str, build: Build | None = None
) -> list[checks.Check]:
    """The rules for the fields of a registration, all of them.

    Args:
        release: what will be sent.
        public_base: the base of the public bucket.
        build: what October is sent, and thereby its rules.
    """
    urls = [expected_url(public_base, release.version, release.platform)]
    if build:
        urls.append(content_url(public_base, release))
    known = any(addresses.same(url, release.url) for url in urls)
    return [
        _matches(
            "version", _VERSION, release.version, "digits.digits.digits, one -suffix or +suffix"
        ),
        _matches("platform", _PLATFORM, release.platform, "lower-case letters, digits, . _ -"),
        *(_digest_check(name, release) for name in HASHES),
        _holds("url", known, expected=" or ".join(urls), observed=release.url),
        _size_check(release, build),
        *(_build_checks(release, build) if build else ()),
    ]


def _build_checks(release: Release, build: Build) -> Iterator[checks.Check]:
    for name, pattern, expected in (
        ("code_directory_hash", _DIGEST, "64 lower-case hex digits"),
        ("source_commit", _COMMIT, "40 lower-case hex digits"),
        ("ci_run_id", _RUN, "1 to 32 digits"),
    ):
        value = getattr(build, name)
        if value or build.qualified:
            yield _holds(
                name,
                pattern.fullmatch(value),
                expected=expected,
                observed=_cut(value),
                hint=_BUILD_HINTS.get(name, ""),
            )
        else:
            yield checks.not_checked(name, "it is not known and not sent")
    if build.qualified:
        yield from _approvable(release)


_BUILD_HINTS = {
    "source_commit": "build from a commit and name it in build.json",
    "ci_run_id": "set RELEASE_CI_RUN_ID to the run that built the release",
}


def _approvable(release: Release) -> Iterator[checks.Check]:
    """An approval is bound to fewer releases than a registration accepts."""
    yield checks.compare("platform", expected=_APPROVED_PLATFORM, observed=release.platform)
    yield checks.compare("backend", expected=APPROVED_BACKEND, observed=release.backend)
    for name, most in _APPROVED_CHARACTERS.items():
        size = len(getattr(release, name))
        yield _holds(name, size <= most, expected=f"at most {most} characters", observed=f"{size}")


def archive_checks(archive: Path, *, bundle_hash: str, binary_hash: str) -> list[checks.Check]:
    """The rules for the archive: size, digest, and the walk over every member."""
    size = archive.stat().st_size
    found = [
        _holds(
            "archive size",
            size <= ARCHIVE_BYTES,
            expected=f"at most {ARCHIVE_BYTES} bytes",
            observed=f"{size} bytes",
        ),
        checks.compare("bundle_hash", expected=bundle_hash, observed=hashing.sha256_of(archive)),
    ]
    try:
        found.extend(_walk(archive, binary_hash))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as problem:
        found.append(
            checks.failed("archive", expected="a gzip-compressed tar", observed=str(problem)[:200])
        )
    return found


def _walk(archive: Path, binary_hash: str) -> Iterator[checks.Check]:
    refused: list[str] = []
    seen: list[checks.Check] = []
    with (
        gzip.open(archive) as content,
        tarfile.open(fileobj=content, mode="r:", tarinfo=_StrictHeader) as tar,
    ):
        for count, member in enumerate(tar):
            if count == _MEMBERS:
                message = f"more than {_MEMBERS} members"
                raise ValueError(message)
            if not _is_safe(member.name):
                refused.append(member.name)
            elif posixpath.normpath(member.name) == BINARY_MEMBER:
                seen.append(_binary_check(tar, member, binary_hash))
    yield _holds(
        "member names",
        not refused,
        expected="relative names without ..",
        observed=", ".join(repr(name)[:80] for name in refused[:5]),
    )
    yield _holds(
        BINARY_MEMBER, len(seen) == 1, expected="exactly once", observed=f"{len(seen)} times"
    )
    yield from seen


class _StrictHeader(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _StrictHeader:
        try:
            return super().fromtarfile(tarfile)
        except Exception as problem:
            if type(problem).__name__ in _DAMAGED:
                message = f"a damaged tar header: {problem}"
                raise ValueError(message) from problem
            raise


_DAMAGED = ("InvalidHeaderError", "TruncatedHeaderError", "SubsequentHeaderError")


def _is_safe(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")


def _binary_check(tar: tarfile.TarFile, member: tarfile.TarInfo, binary_hash: str) -> checks.Check:
    regular = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    if not regular:
        return checks.failed("binary", expected="a regular file", observed=f"type {member.type!r}")
    if member.size > BINARY_BYTES:
        return checks.failed(
            "binary", expected=f"at most {BINARY_BYTES} bytes", observed=f"{member.size} bytes"
        )
    content = tar.extractfile(member)
    observed = _hash(content) if content else ""
    return checks.compare("binary_hash", expected=binary_hash, observed=observed)


def _digest_check(name: str, release: Release) -> checks.Check:
    value: str = getattr(release, name)
    needed = name != "metallib_hash" or release.backend in _BACKENDS_WITH_METALLIB
    if not value and not needed:
        return checks.not_checked(name, f"not needed with backend {release.backend or 'none'}")
    return _matches(name, _DIGEST, value, "64 lower-case hex digits")


def _size_check(release: Release, build: Build | None) -> checks.Check:
    size = len(encode(release, build))
    return _holds(
        "body",
        size <= BODY_BYTES,
        expected=f"at most {BODY_BYTES} bytes",
        observed=f"{size} bytes",
        hint="shorten the changelog",
    )


def _matches(name: str, pattern: re.Pattern[str], value: str, expected: str) -> checks.Check:
    return _holds(
        name, pattern.fullmatch(value) is not None, expected=expected, observed=_cut(value)
    )


def _holds(
    name: str, passed: object, *, expected: str, observed: str, hint: str = ""
) -> checks.Check:
    if passed:
        return checks.passed(name, observed, expected=expected)
    return checks.failed(name, expected=expected, observed=observed, hint=hint)


def _hash(source: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}…"
