"""What the coordinator accepts as a registration: body, fields, address.

Written from section 1.1 of the contract alone: the fields of May, and the rules that the contract
of October shares (its own fields are in `qualification`). Go's decoder and Go's regular
expressions are followed where Python's differ: `$` is the end of the text, NaN is no JSON, keys
match whatever their case, and a null leaves a field empty.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import IO, Final, Literal, NoReturn

Contract = Literal["2026-05", "2026-10"]
MAY: Final = "2026-05"
AUTUMN: Final = "2026-10"

BODY_BYTES = 64 * 1024
DEFAULT_PLATFORM = "macos-arm64"
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.-]+)?")
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TEMPLATE = re.compile(r"([A-Za-z0-9._-]+)=([0-9a-fA-F]{64})")
_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>\#.*)?",
    re.DOTALL,
)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x20\x7f]")
_LOOPBACK = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d*)?", re.IGNORECASE)
# unicode.IsSpace of Go; Python's strip() would take four control characters more.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)


class MetadataError(Exception):
    """The registration was refused; the text is the coordinator's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The fields of a registration, in the order in which Go writes them."""

    version: str = ""
    platform: str = ""
    backend: str = ""
    binary_hash: str = ""
    bundle_hash: str = ""
    python_hash: str = ""
    runtime_hash: str = ""
    metallib_hash: str = ""
    template_hashes: str = ""
    url: str = ""
    changelog: str = ""

    def as_dict(self) -> dict[str, str]:
        """Every field by its wire name."""
        return asdict(self)


_FIELDS = tuple(field.name for field in fields(Registration))


def decode(body: IO[bytes]) -> Registration:
    """Decode a body of May as Go's decoder with unknown fields disallowed.

    Raises:
        MetadataError: too long, no JSON, an unknown field, a wrong type, or a second value.
    """
    return Registration(**texts(read_object(body), _FIELDS))


def read_object(body: IO[bytes]) -> Mapping[str, object]:
    """The one JSON object of a body; null is an empty one.

    Raises:
        MetadataError: too long, no JSON, no object, or a second value.
    """
    raw = body.read(BODY_BYTES + 1)
    if len(raw) > BODY_BYTES:
        raise MetadataError("invalid JSON: http: request body too large")
    # Go puts U+FFFD in the place of bytes that are no UTF-8.
    text = raw.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    try:
        value, end = decoder.raw_decode(text)
    except (ValueError, RecursionError) as problem:
        raise MetadataError(f"invalid JSON: {problem}") from problem
    if text[end:].strip(" \t\r\n"):
        raise MetadataError("invalid JSON: multiple JSON values")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MetadataError("invalid JSON: cannot unmarshal into a release")
    return value


def texts(given: Mapping[str, object], known: Collection[str]) -> dict[str, str]:
    """The text fields of an object, by their wire names.

    Raises:
        MetadataError: an unknown field, or one that is no text.
    """
    found: dict[str, str] = {}
    for key, content in given.items():
        # Go matches keys whatever their case.
        name = key if key in known else key.lower()
        if name not in known:
            raise MetadataError(f'invalid JSON: json: unknown field "{key}"')
        if content is None:
            continue
        if not isinstance(content, str):
            raise MetadataError(f"invalid JSON: cannot unmarshal field {name} into a string")
        # A lone surrogate escape becomes U+FFFD in Go.
        found[name] = content.encode("utf-8", errors="replace").decode()
    return found


def validate(given: Registration) -> Registration:
    """Trim, lower and judge each field.

    Raises:
        MetadataError: the first field that breaks its rule.
    """
    version = given.version.strip(_SPACE)
    if not _VERSION.fullmatch(version):
        raise MetadataError("version must be a semantic version")
    platform = given.platform.strip(_SPACE) or DEFAULT_PLATFORM
    if not _PLATFORM.fullmatch(platform):
        raise MetadataError("platform is not valid")
    backend = given.backend.strip(_SPACE)
    kept = replace(
        given,
        version=version,
        platform=platform,
        backend=backend,
        binary_hash=_hash("binary_hash", given.binary_hash, required=True),
        bundle_hash=_hash("bundle_hash", given.bundle_hash, required=True),
        metallib_hash=_hash("metallib_hash", given.metallib_hash, required=backend == "mlx-swift"),
        python_hash=_hash("python_hash", given.python_hash, required=False),
        runtime_hash=_hash("runtime_hash", given.runtime_hash, required=False),
        template_hashes=_templates(given.template_hashes),
        url=given.url.strip(_SPACE),
    )
    if not kept.url:
        raise MetadataError("url is required")
    return kept


def expected_urls(base: str, release: Registration, contract: Contract) -> tuple[str, ...]:
    """Where the archive of a release may lie, below the configured CDN base.

    Raises:
        MetadataError: the base itself is not usable.
    """
    parts = _split(base)
    local = parts and _LOOPBACK.fullmatch(parts["authority"])
    if parts is None or not (parts["scheme"] == "https" or (parts["scheme"] == "http" and local)):
        raise MetadataError("release CDN URL is not valid")
    folder = f"{base.rstrip('/')}/releases/v{release.version}"
    name = f"darkbloom-bundle-{release.platform}.tar.gz"
    versioned = f"{folder}/{name}"
    if contract == MAY:
        return (versioned,)
    return (versioned, f"{folder}/artifacts/{release.bundle_hash}/{name}")


def check_url(url: str, expected: tuple[str, ...]) -> str:
    """Compare a caller's address with the derived ones; returns the derived one that it is.

    Raises:
        MetadataError: it is another address, or one with userinfo, query or fragment.
    """
    theirs = _split(url)
    for derived in expected:
        if theirs is not None and _split(derived) == theirs:
            return derived
    raise MetadataError(f"url must be {' or '.join(expected)}")


def _split(url: str) -> dict[str, str] | None:
    """Scheme and host in lower case and the cleaned escaped path; None for a bad address."""
    found = _URL.fullmatch(url)
    if not found or _ESCAPE.search(url) or found["query"] or found["fragment"]:
        return None
    authority = (found["authority"] or "").lower()
    if not authority or "@" in authority or not found["scheme"]:
        return None
    path = posixpath.normpath("/" + found["path"].lstrip("/")) if found["path"] else "/"
    return {"scheme": found["scheme"].lower(), "authority": authority, "path": path}


def _hash(name: str, value: str, *, required: bool) -> str:
    value = value.strip(_SPACE).lower()
    if not value and not required:
        return ""
    if not _HASH.fullmatch(value):
        raise MetadataError(f"{name} must be a SHA-256 hex digest")
    return value


def _templates(value: str) -> str:
    value = value.strip(_SPACE)
    if not value:
        return ""
    found = [_TEMPLATE.fullmatch(item.strip(_SPACE)) for item in value.split(",")]
    if not all(found):
        raise MetadataError("template_hashes must be a comma separated list of name=sha256")
    return ",".join(f"{item[1]}={item[2].lower()}" for item in found if item)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character in {name}")
