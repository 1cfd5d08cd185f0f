"""Which kind of certificate signed code: each of Apple's programmes has markers of its own.

Rule and source: Apple's certificate policies and the requirements that codesign writes; platform
code is what the requirement `anchor apple` describes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from release_tool import errors
from release_tool.apple import certificates, requirement
from release_tool.apple.x509 import APPLE


class SignerKind(NamedTuple):
    """One kind of signer."""

    name: str
    """In the words of Apple's developer site."""
    leaf_marker: str | None
    issuer_marker: str | None
    names_team: bool
    """Whether the certificate is a developer's, whose organizational unit is the team."""


DEVELOPER_ID: Final = SignerKind(
    "Developer ID Application",
    certificates.DEVELOPER_ID_APPLICATION,
    certificates.DEVELOPER_ID_CA,
    names_team=True,
)
MAC_APP_STORE: Final = SignerKind(
    "Mac App Store", f"{APPLE}.6.1.9", certificates.DEVELOPER_RELATIONS_CA, names_team=False
)
_OTHERS: Final = (
    MAC_APP_STORE,
    SignerKind(
        "Apple Distribution (for submission to a store)",
        f"{APPLE}.6.1.7",
        certificates.DEVELOPER_RELATIONS_CA,
        names_team=True,
    ),
    SignerKind(
        "Apple Development (runs on its developer's own Macs)",
        f"{APPLE}.6.1.12",
        certificates.DEVELOPER_RELATIONS_CA,
        names_team=True,
    ),
)
PLATFORM: Final = SignerKind("Apple platform code", None, None, names_team=False)

_PLATFORM_AUTHORITY = "Apple Code Signing Certification Authority"


def of(leaf: certificates.Certificate) -> SignerKind:
    """The kind that a certificate claims to be; the chain has yet to bear it out.

    A certificate of no known kind is held to Developer ID's rules, and so refused by name.
    """
    for kind in (DEVELOPER_ID, *_OTHERS):
        if kind.leaf_marker and certificates.has_marker(leaf, kind.leaf_marker):
            return kind
    if certificates.issuer_name(leaf) == _PLATFORM_AUTHORITY:
        return PLATFORM
    return DEVELOPER_ID


def require_platform(kind: SignerKind, chain: tuple[certificates.Certificate, ...]) -> None:
    """Hold a chain of platform code, which has no markers, to the requirement `anchor apple`.

    Raises:
        VerificationError: the chain is another.
    """
    context = requirement.Context(identifier="", certificates=chain, apple_root=True)
    anchor = requirement.parse_text("anchor apple")
    if kind is PLATFORM and not requirement.evaluate(anchor, context):
        raise errors.VerificationError("the chain is not the one of Apple's own code")
