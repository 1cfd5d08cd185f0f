"""Apple's own codesign, on a Mac; the only caller of `/usr/bin/codesign`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from release_tool import errors

TOOL = Path("/usr/bin/codesign")
# Signing asks Apple's timestamp service, which answers within seconds.
_SECONDS = 600
_NO_IDENTITY = ("no identity found", "The specified item could not be found in the keychain")
_NO_TIMESTAMP = ("timestamp was expected but was not found", "timestamp service is not available")
_OUTPUT_LINES = 20


def require() -> None:
    """Refuse a host without Apple's codesign.

    Raises:
        HostError: not a Mac, or the tool is missing.
    """
    if sys.platform != "darwin" or not TOOL.exists():
        raise errors.HostError(
            "this environment signs with Apple's codesign, which this host lacks",
            expected=str(TOOL),
            observed=sys.platform,
            hint="run this stage on a Mac, or choose the portable signer for the environment",
        )


def sign(path: Path, *, identity: str, identifier: str, entitlements: Path | None = None) -> None:
    """Sign code with hardened runtime and a secure timestamp; an old signature is replaced.

    Args:
        path: a Mach-O file or an app.
        identity: common name or SHA-1 of a certificate in the keychain; `-` signs ad-hoc.
        identifier: the code's signing identifier.
        entitlements: a property list file; None for none.

    Raises:
        HostError: this host has no codesign, or it does not end.
        CredentialError: the keychain does not hold the identity.
        TransientError: the timestamp service did not answer.
        VerificationError: codesign refused the code.
    """
    require()
    wanted = ["--force", "--options", "runtime", "--identifier", identifier, "--sign", identity]
    wanted.append("--timestamp=none" if identity == "-" else "--timestamp")
    if entitlements is not None:
        wanted += ["--entitlements", str(entitlements)]
    code, output = _run([*wanted, str(path)])
    if code == 0:
        return
    if any(text in output for text in _NO_IDENTITY):
        raise errors.CredentialError(
            "the keychain does not hold the signing identity",
            subject=identity,
            hint="import the Developer ID certificate with its key, and unlock the keychain",
        )
    if any(text in output for text in _NO_TIMESTAMP):
        raise errors.TransientError("Apple's timestamp service did not answer", subject=str(path))
    raise _refusal("codesign refused to sign", path, output)


def verify(path: Path) -> None:
    """Ask codesign for its strict verdict, nested code included.

    Raises:
        HostError: this host has no codesign, or it does not end.
        VerificationError: the signature does not hold.
    """
    require()
    code, output = _run(["--verify", "--deep", "--strict", "--verbose=2", str(path)])
    if code:
        raise _refusal("codesign does not accept the signature", path, output)


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [str(TOOL), *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as problem:
        raise errors.HostError(
            f"codesign did not end within {_SECONDS} s",
            hint="it may be asking for the keychain's password: unlock the keychain first",
        ) from problem
    except OSError as problem:
        raise errors.HostError("codesign does not start", observed=str(problem)) from problem
    return done.returncode, done.stderr + done.stdout


def _refusal(message: str, path: Path, output: str) -> errors.VerificationError:
    lines = [line for line in output.splitlines() if line.strip()]
    return errors.VerificationError(message, subject=str(path), details=lines[:_OUTPUT_LINES])
