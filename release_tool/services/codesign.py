"""Apple's own codesign, on a Mac; the only caller of `/usr/bin/codesign`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.services import apple_tools
from release_tool.services.apple_tools import TOOLS, AppleTools, Said
from release_tool.services.keychain import Held

# Signing asks Apple's timestamp service, which answers within seconds.
_SECONDS = 600.0
AD_HOC = Held(name="-", sha1="-")
"""Signs without an identity."""


@dataclass(frozen=True, slots=True)
class _Reason:
    """What codesign says, and what it means."""

    texts: tuple[str, ...]
    kind: type[errors.ReleaseError]
    message: str
    hint: str = ""


# In order: the first that fits. Texts as public logs of releases show them.
_REASONS = (
    _Reason(
        (
            "timestamp was expected but was not found",
            "timestamp service is not available",
            "timestamps differ",
        ),
        errors.TransientError,
        "Apple's timestamp service did not answer",
    ),
    _Reason(
        ("ambiguous (matches",),
        errors.CredentialError,
        "more than one identity in the keychain has this name",
        "remove the old certificate from the keychain",
    ),
    _Reason(
        ("no identity found", "specified item could not be found in the keychain"),
        errors.CredentialError,
        "the keychain does not hold the signing identity",
        "import the Developer ID certificate with its key, and unlock the keychain",
    ),
    # It warns so before it fails with errSecInternalComponent.
    _Reason(
        ("unable to build chain to self-signed root", "CSSMERR_TP_NOT_TRUSTED"),
        errors.CredentialError,
        "the signing certificate leads to no root that this Mac trusts",
        "install Apple's Developer ID intermediate certificate",
    ),
    _Reason(
        ("errSecInternalComponent", "User interaction is not allowed"),
        errors.CredentialError,
        "the keychain does not let codesign use the key",
        "unlock the keychain, and open its partition list: security set-key-partition-list",
    ),
    _Reason(
        ("resource fork, Finder information, or similar detritus not allowed",),
        errors.VerificationError,
        "extended attributes stand where codesign allows none",
        "find them with: xattr -lr; remove them with: xattr -cr; iCloud folders put them back",
    ),
    _Reason(
        ("invalid entitlements blob", "AMFIUnserializeXML", "Failed to parse entitlements"),
        errors.UsageError,
        "codesign cannot read the entitlements",
        "check the file under entitlements/: plutil -lint",
    ),
    _Reason(
        ("code object is not signed at all",),
        errors.VerificationError,
        "code inside the bundle is not signed",
        "sign it first, or move what is no code to Contents/Resources",
    ),
    _Reason(
        ("a sealed resource is missing or invalid",),
        errors.VerificationError,
        "files of the bundle are not those that were sealed",
        "nothing may change in the bundle after it is signed",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `codesign --display` says of one code object, its host's slice."""

    identifier: str
    team_id: str
    """Empty for code without a team."""
    cdhash: str
    cdhash_full: str
    """The whole SHA-256 of the code directory."""
    flags: int
    authorities: tuple[str, ...]
    """Common names, the leaf first; none for ad-hoc code."""
    is_adhoc: bool
    timestamp: str
    """As printed, in the host's language; empty without one."""
    entitlements: bytes = field(repr=False)
    """The property list; empty for none."""


def require(tools: AppleTools = TOOLS) -> None:
    """Refuse a host without Apple's codesign.

    Raises:
        HostError: not a Mac, or the tool is missing.
    """
    try:
        apple_tools.require(tools.codesign, "this environment's signer")
    except errors.HostError as problem:
        problem.hint = "run this stage on a Mac, or choose the portable signer for the environment"
        raise


def sign(
    path: Path,
    *,
    identity: Held,
    identifier: str,
    entitlements: Path | None = None,
    tools: AppleTools = TOOLS,
) -> None:
    """Sign code with hardened runtime and a secure timestamp; an old signature is replaced.

    What is no Mach-O gets its signature in extended attributes.

    Args:
        path: a Mach-O file, an app, or data in a place for code.
        identity: by SHA-1, for names can be ambiguous; `AD_HOC` signs without one.
        identifier: the code's signing identifier.
        entitlements: a property list file; None for none.
        tools: Apple's tools.

    Raises:
        HostError: this host has no codesign, or it does not end.
        CredentialError: the keychain does not hold the identity, or does not let it be used.
        TransientError: the timestamp service did not answer.
        UsageError: the entitlements cannot be read.
        VerificationError: codesign refused the code.
    """
    require(tools)
    wanted = ["--force", "--options", "runtime", "--identifier", identifier]
    wanted += ["--sign", identity.sha1]
    if identity.keychain is not None:
        wanted += ["--keychain", str(identity.keychain)]
    wanted.append("--timestamp=none" if identity == AD_HOC else "--timestamp")
    if entitlements is not None:
        wanted += ["--entitlements", str(entitlements)]
    said = _run([*wanted, str(path)], tools)
    if said.status:
        raise _refusal("codesign refused to sign", path, said)


def verify(path: Path, *, tools: AppleTools = TOOLS) -> None:
    """Ask codesign for its strict verdict, nested code included.

    Raises:
        HostError: this host has no codesign, or it does not end.
        VerificationError: the signature does not hold.
    """
    require(tools)
    said = _run(["--verify", "--deep", "--strict", "--verbose=2", str(path)], tools)
    if said.status:
        raise _refusal("codesign does not accept the signature", path, said)


def describe(path: Path, *, tools: AppleTools = TOOLS) -> Description:
    """What codesign reads in a signature.

    Raises:
        HostError: this host has no codesign, or it does not end.
        VerificationError: not signed, or codesign prints something else than it does.
    """
    require(tools)
    arguments = ["--display", "--verbose=4", "--entitlements", "-", "--xml", str(path)]
    said = _run(arguments, tools)
    if said.status:
        raise _refusal("codesign reads no signature", path, said)
    return parse_description(said.stderr, said.stdout.encode())


_CODE_DIRECTORY = re.compile(r"\bflags=0x([0-9a-fA-F]{1,8})\b")
_FULL = re.compile(r"^CandidateCDHashFull sha256=([0-9a-f]{64})$", re.MULTILINE)


def parse_description(text: str, entitlements: bytes = b"") -> Description:
    """Read what `codesign --display --verbose=4` printed.

    Raises:
        VerificationError: it lacks what each signature has.
    """
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            values.setdefault(name.strip(), []).append(value.strip())
    flags = _CODE_DIRECTORY.search(_first(values, "CodeDirectory v"))
    full = _FULL.search(text)
    cdhash = _first(values, "CDHash")
    if flags is None or full is None or not full[1].startswith(cdhash) or not cdhash:
        raise errors.VerificationError(
            "codesign describes the signature in words that are not known",
            expected="CodeDirectory with flags, CDHash, CandidateCDHashFull sha256",
            observed=", ".join(sorted(values)),
        )
    team = _first(values, "TeamIdentifier")
    return Description(
        identifier=_first(values, "Identifier"),
        team_id="" if team == "not set" else team,
        cdhash=cdhash,
        cdhash_full=full[1],
        flags=int(flags[1], 16),
        authorities=tuple(values.get("Authority", ())),
        is_adhoc=_first(values, "Signature") == "adhoc",
        timestamp=_first(values, "Timestamp"),
        entitlements=entitlements,
    )


def _first(values: Mapping[str, Sequence[str]], name: str) -> str:
    return values.get(name, [""])[0]


def _run(arguments: Sequence[str], tools: AppleTools) -> Said:
    return apple_tools.run(tools.codesign, arguments, tools=tools, seconds=_SECONDS)


def _refusal(message: str, path: Path, said: Said) -> errors.ReleaseError:
    for reason in _REASONS:
        if said.has(*reason.texts):
            return reason.kind(
                reason.message, subject=str(path), details=said.lines, hint=reason.hint
            )
    return errors.VerificationError(
        message, subject=str(path), observed=f"exit code {said.status}", details=said.lines
    )
