"""Code for the notary to judge: signed by the look-alike, well or with one thing wrong."""

from __future__ import annotations

import plistlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from release_tool.services import portable_signer
from tests import signed_release

TASK_ALLOW = "com.apple.security.get-task-allow"


def signed(
    code: bytes,
    *,
    adhoc: bool = False,
    timestamped: bool = True,
    hardened: bool = True,
    claims: Mapping[str, object] | None = None,
) -> bytes:
    """A Mach-O of no bundle, signed as a tool."""
    authority = None if adhoc else signed_release.signing_authority()
    if authority is not None and not timestamped:
        authority = replace(authority, timestamp=None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tool"
        path.write_bytes(code)
        portable_signer.sign_file(
            path,
            identifier="io.darkbloom.tool",
            entitlements=None if claims is None else plistlib.dumps(dict(claims)),
            hardened_runtime=hardened,
            authority=authority,
        )
        return path.read_bytes()
