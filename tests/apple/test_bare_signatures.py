"""Code whose CMS signs the code directory itself, without signed attributes."""

from __future__ import annotations

import hashlib

import pytest

from release_tool.apple import cms, macho, signing, superblob, verification
from tests import macho_samples, signing_identity
from tests.signing_identity import NOW

AUTHORITY = signing_identity.authority()


def _signed(*, over: bytes | None = None) -> bytes:
    """A signed sample whose signature is over the code directory, or over other octets."""
    signer = signing.Authority(identity=AUTHORITY.identity(), signing_time=NOW)
    data = signing.sign(macho_samples.thin(), signing.Intent(identifier="io.example"), signer).data
    (code,) = macho.parse(data)
    assert code.signature is not None
    blobs = dict(superblob.parse(code.signature_bytes or b"").blobs)
    content = superblob.unwrap(blobs[superblob.SLOT_CMS], superblob.MAGIC_WRAPPER)
    signed = cms.parse(content)
    octets = blobs[superblob.SLOT_CODE_DIRECTORY] if over is None else over
    signature = AUTHORITY.identity().sign(hashlib.sha256(octets).digest())
    bare = signed.signers[0]._replace(
        signed_attributes_raw=None, unsigned_raw=None, signature=signature
    )
    content = cms.encode(signed._replace(signers=(bare,)))
    blobs[superblob.SLOT_CMS] = superblob.wrap(superblob.MAGIC_WRAPPER, content)
    offset, size = code.signature
    room = superblob.encode(list(blobs.items())).ljust(size, b"\0")
    return data[:offset] + room


def _judged(data: bytes, *, strict: bool = False) -> dict[str, tuple[str, str]]:
    judge = verification.Judge(trust=AUTHORITY.trust, now=NOW, strict=strict)
    report = verification.verify(data, judge=judge)
    return {check.name: (check.outcome, check.observed) for check in report.checks}


def test_a_signature_over_the_directory_itself_is_told_as_such() -> None:
    """It holds, its chain is judged, and the report says that it has no attributes."""
    found = _judged(_signed())
    assert found["signature"] == (
        "passed",
        "covers the code directory itself, without signed attributes",
    )
    assert found["cdhashes in the signature"] == ("passed", "one directory, signed itself")
    assert found["certificate chain"][0] == "passed"
    assert "failed" not in {outcome for outcome, _ in found.values()}


def test_in_our_own_code_it_is_refused() -> None:
    """Our writer signs attributes, so a signature without them is not its work."""
    assert _judged(_signed(), strict=True)["signature"][0] == "failed"


@pytest.mark.parametrize("over", [b"another directory", b""])
def test_a_signature_over_something_else_is_refused(over: bytes) -> None:
    """It is over this directory, or it is nothing."""
    assert _judged(_signed(over=over))["signature"][0] == "failed"
