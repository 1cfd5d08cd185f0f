"""Gatekeeper's own words about an app, on a Mac: spctl and stapler.

Exit codes and texts: spctl's manual (3 is a rejection), the codes of sysexits.h that stapler ends
with, and what public logs of both show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from release_tool import errors
from release_tool.services import apple_tools
from release_tool.services.apple_tools import TOOLS, AppleTools, Said

# An assessment may ask Apple's ticket service, which answers within seconds.
_SECONDS = 300.0
_SOURCE = re.compile(r"^source=(.{1,200})$", re.MULTILINE)
NOTARIZED = "Notarized Developer ID"
"""The one source that opens on every user's Mac."""
ACCEPTED = f"accepted, {NOTARIZED}"
VALIDATED = "the validate action worked"
"""stapler's own words for a ticket that fits."""
_REJECTED = 3
_HINTS: Mapping[str, str] = {
    "Unnotarized Developer ID": "the signature holds, but Apple knows no ticket: notarize first",
    "no usable signature": "it is not signed, or its signature is broken: codesign --verify --deep",
    "obsolete resource envelope": "sign again with a current codesign",
}
_REVOKED = "CSSMERR_TP_CERT_REVOKED"


def assess(app: Path, *, tools: AppleTools = TOOLS) -> str:
    """What Gatekeeper would say to a user who opens the app: `accepted`, with its source.

    Raises:
        HostError: this host has no spctl, it does not end, or Gatekeeper is switched off.
        VerificationError: Gatekeeper rejects the app, or accepts it for another reason than that
            Apple notarized it.
    """
    apple_tools.require(tools.spctl, "asking Gatekeeper")
    arguments = ["--assess", "--type", "execute", "--verbose=4", str(app)]
    said = apple_tools.run(tools.spctl, arguments, tools=tools, seconds=_SECONDS)
    found = _SOURCE.search(said.text)
    source = found[1].strip() if found else ""
    if said.has("override=security disabled", "assessments disabled"):
        raise errors.HostError(
            "Gatekeeper is switched off on this Mac, so its answer says nothing",
            subject=str(app),
            details=said.lines,
            hint="switch it on: sudo spctl --global-enable",
        )
    if said.status == 0 and source == NOTARIZED:
        return ACCEPTED
    if said.status not in (0, _REJECTED):
        raise errors.HostError(
            "Gatekeeper came to no verdict",
            subject=str(app),
            observed=f"spctl ended with {said.status}",
            details=said.lines,
            hint="run again; a Mac that was just started may still be at work",
        )
    raise errors.VerificationError(
        "Gatekeeper rejects the app"
        if said.status
        else "Gatekeeper accepts it, but not everywhere",
        subject=str(app),
        expected=f"accepted, source={NOTARIZED}",
        observed=f"{'rejected' if said.status else 'accepted'}, source={source or 'none'}",
        details=said.lines,
        hint="the signing certificate was revoked: make a new one"
        if said.has(_REVOKED)
        else _HINTS.get(source, ""),
    )


def validate_ticket(app: Path, *, tools: AppleTools = TOOLS) -> str:
    """Whether the stapled ticket is there and holds, asked of Apple's service too.

    Raises:
        HostError: this host has no stapler, or it does not end.
        TransientError: Apple's ticket service cannot be reached.
        VerificationError: there is no valid ticket.
    """
    apple_tools.require(tools.xcrun, "validating the ticket")
    arguments = ["stapler", "validate", "-v", str(app)]
    said = apple_tools.run(tools.xcrun, arguments, tools=tools, seconds=_SECONDS)
    if said.status == 0 and said.has("the validate action worked"):
        return VALIDATED
    raise _no_ticket(app, said)


def _no_ticket(app: Path, said: Said) -> errors.ReleaseError:
    kind, message, hint = _STAPLER.get(
        said.status, (errors.VerificationError, "no valid ticket is stapled", "")
    )
    if said.has("NSURLErrorDomain"):
        kind, message, hint = _STAPLER[68]
    if said.has("unable to find utility"):
        kind, message, hint = errors.HostError, "this Mac has no stapler", "install Xcode"
    return kind(
        message,
        subject=str(app),
        observed=f"stapler ended with {said.status}",
        details=said.lines,
        hint=hint,
    )


_STAPLER: Mapping[int, tuple[type[errors.ReleaseError], str, str]] = {
    0: (
        errors.VerificationError,
        "stapler ends well without saying that the ticket is valid",
        "run it by hand: xcrun stapler validate -v",
    ),
    64: (
        errors.VerificationError,
        "stapler does not take this kind of file",
        "apps, disk images and flat packages can be stapled; a zip or a bare executable cannot",
    ),
    65: (
        errors.VerificationError,
        "no ticket is stapled to the app, or Apple has none for its cdhash",
        "the submission must be Accepted and of exactly these bytes: see its log",
    ),
    66: (
        errors.VerificationError,
        "stapler cannot find or read the app",
        "see that the path names the signed app",
    ),
    68: (
        errors.TransientError,
        "Apple's ticket service cannot be reached",
        "check network, proxy and clock, then run again",
    ),
    73: (
        errors.VerificationError,
        "the stapled ticket is not valid for the app",
        "the app changed after it was notarized, the ticket was damaged, or Apple revoked it",
    ),
    75: (errors.TransientError, "Apple's ticket service failed in passing", "run again"),
    77: (
        errors.HostError,
        "stapler may not read or write the app",
        "see who owns the app; a path under Documents or Desktop needs the user's consent",
    ),
}
