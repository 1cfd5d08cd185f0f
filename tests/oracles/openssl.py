"""What the `openssl` command says of the same bytes."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from release_tool.apple import certificates

CRITICAL = "unhandled critical extension"
"""Apple marks what a certificate is for by extensions of its own, critical in leaves of code
signers. OpenSSL knows none of them and stops, as X.509 says it must; `-ignore_critical` lets it
judge the rest."""


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def pem(path: Path, found: Sequence[certificates.Certificate]) -> Path:
    """Certificates as a file that openssl reads."""
    path.write_text("".join(ssl.DER_cert_to_PEM_cert(item.der) for item in found))
    return path


def verify_cms(
    folder: Path,
    signed_data: bytes,
    *,
    roots: Sequence[certificates.Certificate],
    content: bytes | None = None,
    ignore_critical: bool = False,
) -> tuple[bool, str]:
    """`openssl cms -verify`: signature, digest, chain without its times; the content comes out."""
    (folder / "cms").write_bytes(signed_data)
    arguments: list[object] = ["cms", "-verify", "-binary", "-inform", "DER"]
    arguments += ["-in", folder / "cms", "-CAfile", pem(folder / "roots.pem", roots)]
    arguments += ["-purpose", "any", "-no_check_time", "-out", folder / "content.out"]
    if content is not None:
        (folder / "content").write_bytes(content)
        arguments += ["-content", folder / "content"]
    if ignore_critical:
        arguments.append("-ignore_critical")
    done = run(*arguments)
    return done.returncode == 0, done.stderr.decode(errors="replace")


def verify_token(
    folder: Path,
    token: bytes,
    octets: bytes,
    *,
    roots: Sequence[certificates.Certificate],
    at: datetime,
) -> bool:
    """`openssl ts -verify` at a time: imprint, signature, signer's purpose and binding, chain."""
    (folder / "token").write_bytes(token)
    (folder / "octets").write_bytes(octets)
    done = run(
        *("ts", "-verify", "-token_in", "-in", folder / "token", "-data", folder / "octets"),
        *("-CAfile", pem(folder / "roots.pem", roots), "-attime", int(at.timestamp())),
    )
    return done.returncode == 0


def verify_chain(
    folder: Path,
    chain: Sequence[certificates.Certificate],
    *,
    roots: Sequence[certificates.Certificate],
    at: datetime,
    ignore_critical: bool = False,
) -> tuple[bool, str]:
    """`openssl verify` of a leaf with what stands above it, at a time."""
    leaf = pem(folder / "leaf.pem", chain[:1])
    above = pem(folder / "above.pem", chain[1:])
    extra = ["-ignore_critical"] if ignore_critical else []
    done = run(
        *("verify", "-CAfile", pem(folder / "roots.pem", roots), "-untrusted", above),
        *("-attime", int(at.timestamp()), *extra, leaf),
    )
    return done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def verify_signature(
    folder: Path, certificate: certificates.Certificate, message: bytes, signature: bytes
) -> bool:
    """`openssl dgst -sha256 -verify` with a certificate's key."""
    key = run("x509", "-in", pem(folder / "signer.pem", [certificate]), "-noout", "-pubkey")
    (folder / "key.pem").write_bytes(key.stdout)
    (folder / "message").write_bytes(message)
    (folder / "signature").write_bytes(signature)
    done = run(
        *("dgst", "-sha256", "-verify", folder / "key.pem"),
        *("-signature", folder / "signature", folder / "message"),
    )
    return done.returncode == 0
