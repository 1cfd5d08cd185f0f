"""Apple's formats and rules: bytes in, values out.

`PUBLIC` names what other programs may build on; `docs/python.md` shows it at work. Everything else
of this room may change in any version.
"""

from __future__ import annotations

from collections.abc import Mapping

PUBLIC: Mapping[str, tuple[str, ...]] = {
    "certificates": ("Certificate", "Trust", "apple_trust", "build_chain", "fingerprint", "load"),
    "checks": ("Check", "all_hold"),
    "difference": ("Difference", "compare"),
    "disclosure": ("of_bundle", "of_slice", "of_ticket"),
    "entitlements": ("coverage", "decode_der", "parse_xml"),
    "macho": ("Slice", "is_macho", "parse"),
    "portrait": ("Portrait", "draw"),
    "profile_policy": ("Wanted", "days_left", "judge"),
    "provisioning_profile": ("Profile", "read"),
    "release": ("verify", "verify_app"),
    "ticket": ("Ticket", "missing", "parse", "verify"),
    "tree": ("BundleTree", "in_memory"),
    "verification": ("Judge", "verify"),
    "policy.expiry": ("forecast", "soon"),
    "policy.linter": ("Lint", "lint"),
}
"""Module to names. A name here goes, or takes other arguments, only with a new major version."""
