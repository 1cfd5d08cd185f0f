"""Which version, and which kind of release: from a flag or a tag, never from a branch's name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import semver

from release_tool import errors

# Go's `$` is the end of the text and Python's is not, so the pattern is matched in full.
_COORDINATOR = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.-]+)?")
# The newest coordinator takes no more.
_CHARACTERS = 128

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_CORE = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
_PREFIX = r"(?P<prefix>(?:[a-z][a-z0-9]*-)*v)"
_FORMS = (
    re.compile(rf"{_PREFIX}(?P<version>{_CORE}(?:-dev\.{_NUMBER})?)"),
    # Only the first family had tags of a second build.
    re.compile(rf"(?P<prefix>v)(?P<version>{_CORE})-swift(?:\.{_NUMBER})?"),
)

Kind = Literal["development", "release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What a release tag says."""

    name: str
    version: str
    kind: Kind
    prefix: str
    """Of its family: `v`, `rust-bridge-v`."""


def is_version(text: str) -> bool:
    """Whether both sides accept it: the coordinator's pattern and strict SemVer."""
    return (
        len(text) <= _CHARACTERS
        and _COORDINATOR.fullmatch(text) is not None
        and semver.Version.is_valid(text)
    )


def check(text: str, *, origin: str) -> str:
    """Return the version as it stood.

    Raises:
        UsageError: the coordinator or strict SemVer would refuse it.
    """
    if not is_version(text):
        raise errors.UsageError(
            f"{origin} is not a version that the coordinator and SemVer both accept",
            expected=f"{example(text)}, X.Y.Z-dev.N, or X.Y.Z with one SemVer suffix",
            observed=repr(text[:_CHARACTERS]),
        )
    return text


def example(text: str) -> str:
    """What was meant, as an example: `0.5` and `v0.5.0` mean `0.5.0`."""
    numbers = text.strip().removeprefix("v").split(".")
    meant = ".".join([*numbers, "0", "0"][: max(3, len(numbers))])
    return f"X.Y.Z, such as {meant if is_version(meant) else '0.5.0'}"


def kind(version: str) -> Kind:
    """A `-dev.` version is for development; every other one is a release."""
    return "development" if "-dev." in version else "release"


def read_tag(name: str, prefixes: Collection[str] | None = None) -> Tag | None:
    """What a tag says, or None where it is none of ours.

    Args:
        name: of the tag.
        prefixes: of the families that count; None for any.
    """
    for form in _FORMS:
        found = form.fullmatch(name)
        if found is None or not is_version(found["version"]):
            continue
        prefix, text = found["prefix"], found["version"]
        if prefixes is None or prefix in prefixes:
            return Tag(name=name, version=text, kind=kind(text), prefix=prefix)
    return None


def is_tag_of(name: str, version: str, prefixes: Collection[str]) -> bool:
    """Whether a release of this version may stand at a tag, of any of these families."""
    if any(name == f"{prefix}{version}" for prefix in prefixes):
        return True
    found = read_tag(name, prefixes)
    return found is not None and found.version == version


def tag_forms(prefixes: Collection[str]) -> str:
    """What a release tag may look like, in words."""
    forms = [f"{prefix}X.Y.Z[-dev.N]" for prefix in prefixes]
    forms += ["vX.Y.Z-swift[.N]"] * ("v" in prefixes)
    return " or ".join([*(", ".join(forms[:-1]),) * (len(forms) > 1), forms[-1]])


def ref_tag(environ: Mapping[str, str]) -> str:
    """The name of the tag that a GitHub job runs on; empty on a branch, or outside.

    `GITHUB_REF` says fully what the ref is; `GITHUB_REF_NAME` alone could be a branch called
    `v0.5.0`, so it counts only beside `GITHUB_REF_TYPE=tag`.

    Raises:
        UsageError: the variables contradict each other.
    """
    full = environ.get("GITHUB_REF", "")
    kind_of_ref = environ.get("GITHUB_REF_TYPE", "")
    name = environ.get("GITHUB_REF_NAME", "")
    from_full = full.removeprefix("refs/tags/") if full.startswith("refs/tags/") else ""
    from_name = name if kind_of_ref == "tag" else ""
    disagree = bool(from_full) != (kind_of_ref == "tag") if full and kind_of_ref else False
    if disagree or (from_full and from_name and from_full != from_name):
        raise errors.UsageError(
            "the variables of GitHub contradict each other",
            observed=f"GITHUB_REF={full} GITHUB_REF_TYPE={kind_of_ref} GITHUB_REF_NAME={name}",
        )
    return from_full or from_name
