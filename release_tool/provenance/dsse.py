"""DSSE envelopes: a payload with its type, signed over both (DSSE v1, secure-systems-lab).

Signed is `PAE(type, payload)`, so a signature for one kind of document never serves for another.
The key id in an envelope is a hint and nothing else: who is trusted is said by the caller.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from release_tool import errors
from release_tool.provenance import canonical
from release_tool.provenance.keys import PublicKey, SigningKey

# A statement has some KiB; base64 and the envelope add a third.
LIMIT_BYTES = 1024 * 1024
# Ours has one; more let a rotation sign with two keys, and bound the work.
_MOST_SIGNATURES = 8
_TYPE_CHARACTERS = 200
_KEYID_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature, by whoever the id says."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What an envelope holds; nothing of it is verified yet."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A payload that a trusted key signed."""

    payload: bytes
    key: PublicKey


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: `DSSEv1`, then type and payload, each behind its length in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """An envelope in one line of JSON; the same for the same payload and key."""
    signature = key.sign(pae(payload_type, payload))
    facts = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [
            {"keyid": key.public.keyid, "sig": base64.b64encode(signature).decode()},
        ],
    }
    return canonical.encode(facts) + b"\n"


def parse(content: bytes) -> Envelope:
    """Read an envelope, anybody's spelling of the JSON.

    Raises:
        FormatError: it is none.
    """
    found = canonical.any_spelling(content, limit_bytes=LIMIT_BYTES, what="an envelope")
    kind, listed = found.get("payloadType"), found.get("signatures")
    if not isinstance(kind, str) or not 0 < len(kind) <= _TYPE_CHARACTERS or not kind.isascii():
        raise errors.FormatError("names no type of payload", observed=repr(kind)[:80])
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_SIGNATURES:
        raise errors.FormatError("holds no list of one to eight signatures")
    return Envelope(
        payload_type=kind,
        payload=_decoded("payload", found.get("payload")),
        signatures=tuple(map(_signature, listed)),
    )


def unseal(content: bytes, *, payload_type: str, trusted: Sequence[PublicKey]) -> Opened:
    """The payload of an envelope, once a trusted key signed it.

    Args:
        content: the envelope.
        payload_type: what the payload must be.
        trusted: the keys that count; none found beside the envelope.

    Raises:
        FormatError: it is no envelope, or of another type.
        VerificationError: none of the trusted keys signed it.
    """
    envelope = parse(content)
    if envelope.payload_type != payload_type:
        raise errors.FormatError(
            "is an envelope of something else",
            expected=payload_type,
            observed=envelope.payload_type,
        )
    message = pae(envelope.payload_type, envelope.payload)
    for key in trusted:
        if any(key.verifies(one.sig, message) for one in envelope.signatures):
            return Opened(payload=envelope.payload, key=key)
    raise unsigned(trusted, [one.keyid for one in envelope.signatures])


def unsigned(trusted: Sequence[PublicKey], named: Sequence[str]) -> errors.VerificationError:
    """No trusted key signed; tells an edited document from one of another key."""
    expected = " or ".join(f"key {key.keyid}" for key in trusted) or "a trusted key"
    known = {key.keyid for key in trusted}.intersection(named)
    observed = (
        ", ".join(f"key {one[:64]}" for one in named if one.isascii() and one.isalnum())
        or "no key id"
    )
    return errors.VerificationError(
        "was changed after it was signed" if known else "is not signed by a trusted key",
        expected=expected,
        observed=f"a signature of other bytes, by {observed}" if known else observed,
    )


def _signature(entry: Any) -> Signature:  # noqa: ANN401 - anybody's JSON
    if not isinstance(entry, dict):
        raise errors.FormatError("holds a signature that is no object")
    keyid = entry.get("keyid", "")
    if not isinstance(keyid, str) or len(keyid) > _KEYID_CHARACTERS:
        raise errors.FormatError("holds a signature whose key id is no short text")
    return Signature(keyid=keyid, sig=_decoded("signature", entry.get("sig")))


def _decoded(name: str, value: object) -> bytes:
    """Base64, standard or URL-safe, as the specification lets writers choose."""
    if not isinstance(value, str) or not value.isascii():
        raise errors.FormatError(f"holds no {name} in base64")
    try:
        return base64.b64decode(value.translate(_STANDARD), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise errors.FormatError(f"holds no {name} in base64") from problem


_STANDARD = str.maketrans("-_", "+/")
