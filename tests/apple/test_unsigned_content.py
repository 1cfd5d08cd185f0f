"""What signing leaves alone: every byte outside the signature, found where it is not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import macho, signing, unsigned_content
from tests import macho_samples, signing_identity
from tests.signing_identity import NOW, TEAM

AUTHORITY = signing_identity.authority()
SIGNER = signing.Authority(
    identity=AUTHORITY.identity(), signing_time=NOW, timestamp=AUTHORITY.token
)
UNSIGNED = {
    "unsigned": macho_samples.unsigned(),
    "linker-signed": macho_samples.thin(),
    "x86_64": macho_samples.thin(macho_samples.INTEL),
    "universal": macho_samples.universal(),
    "universal, 64-bit header": macho_samples.universal(wide=True),
}
INTENT = signing.Intent(
    identifier="io.example", entitlements=b'<plist version="1.0"><dict/></plist>'
)
SIGNED = {name: signing.sign(data, INTENT, SIGNER).data for name, data in UNSIGNED.items()}
ADHOC = {name: signing.sign(data, INTENT, None).data for name, data in UNSIGNED.items()}


def signature_spans(data: bytes) -> list[range]:
    """What belongs to the signature: itself, its load command, both sizes of `__LINKEDIT`.

    Of a universal header, the offsets and sizes: they follow from the slices.
    """
    spans: list[range] = []
    for code in macho.parse(data):
        assert code.signature is not None
        assert code.linkedit is not None
        offset, size = code.signature
        command = next(one for one in code.commands if one.command == macho.LC_CODE_SIGNATURE)
        starts = [
            (offset, size),
            (command.offset + 8, 8),
            (code.linkedit.command.offset + 32, 8),
            (code.linkedit.command.offset + 48, 8),
        ]
        spans += [range(code.offset + start, code.offset + start + n) for start, n in starts]
    return spans


@pytest.mark.parametrize("name", UNSIGNED)
def test_signing_changes_nothing_outside(name: str) -> None:
    """Unsigned, ad-hoc and fully signed, again and in any order: one content, one digest."""
    forms = [UNSIGNED[name], SIGNED[name], ADHOC[name]]
    forms.append(signing.sign(SIGNED[name], INTENT, None).data)
    for one in forms:
        for other in forms:
            assert unsigned_content.compare(one, other) is None
    assert len({unsigned_content.digest(form) for form in forms}) == 1


def test_each_file_has_a_digest_of_its_own() -> None:
    """An unsigned and a linker-signed build are one content where only the signature differs."""
    digests = {name: unsigned_content.digest(data) for name, data in SIGNED.items()}
    assert len(set(digests.values())) == len(digests) - 1
    assert digests["unsigned"] == digests["linker-signed"]


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(SIGNED)), data=st.data())
def test_a_changed_byte_outside_is_found(name: str, data: st.DataObject) -> None:
    """Whatever byte outside the signature changes, the comparison or the reader tells."""
    signed = bytearray(SIGNED[name])
    spans = signature_spans(bytes(signed))
    entry, moved = (32, 16) if "64-bit" in name else (20, 8)
    if name.startswith("universal"):
        # Offset and size of each slice move with the signature; a wrong one is no Mach-O.
        spans += [range(8 + n * entry + 8, 8 + n * entry + 8 + moved) for n in range(2)]
    position = data.draw(
        st.integers(0, len(signed) - 1).filter(lambda at: not any(at in span for span in spans))
    )
    signed[position] ^= data.draw(st.integers(1, 255))
    try:
        found = unsigned_content.compare(UNSIGNED[name], bytes(signed))
    except errors.FormatError:
        return
    assert found is not None
    if found.place.endswith("header") or found.place == "the file":
        return
    assert found.offset == position
    before = unsigned_content.digest(UNSIGNED[name])
    assert unsigned_content.digest(bytes(signed)) != before


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(SIGNED)), data=st.data())
def test_a_changed_byte_inside_is_none_of_its_business(name: str, data: st.DataObject) -> None:
    """In the signature itself any byte may change, padding included."""
    signed = bytearray(SIGNED[name])
    span = data.draw(st.sampled_from(signature_spans(bytes(signed))[::4]))
    position = data.draw(st.sampled_from(span))
    signed[position] ^= data.draw(st.integers(1, 255))
    assert unsigned_content.compare(UNSIGNED[name], bytes(signed)) is None
    assert unsigned_content.digest(bytes(signed)) == unsigned_content.digest(UNSIGNED[name])


def test_every_byte_of_the_header_and_the_load_commands_is_compared() -> None:
    """Byte by byte: only the signature's command and the two sizes may differ."""
    signed = SIGNED["unsigned"]
    (code,) = macho.parse(signed)
    spans = signature_spans(signed)[1:]
    for position in range(code.commands_end):
        changed = bytearray(signed)
        changed[position] ^= 0x40
        try:
            found = unsigned_content.compare(UNSIGNED["unsigned"], bytes(changed))
        except errors.FormatError:
            continue
        inside = any(position in span for span in spans[1:])
        assert (found is None) == inside, position


def test_the_first_difference_is_named_by_slice_section_and_offset() -> None:
    """A changed instruction of a universal file's second slice is told where it lies."""
    signed = bytearray(SIGNED["universal"])
    code = macho.parse(bytes(signed))[1]
    text = next(s for s in code.segments[1].sections if s.name == "__text")
    signed[code.offset + text.offset] ^= 0xFF
    found = unsigned_content.compare(UNSIGNED["universal"], bytes(signed))
    assert found is not None
    assert found.place == "arm64, __TEXT,__text"
    assert found.offset == code.offset + text.offset
    original = SIGNED["universal"][found.offset]
    assert (found.expected, found.observed) == (f"{original:#04x}", f"{original ^ 0xFF:#04x}")


def test_bytes_between_slices_and_behind_them_are_compared() -> None:
    """A universal file's gaps, where nothing is hashed, must be as they were."""
    signed = SIGNED["universal"]
    first = macho.parse(signed)[0]
    gap = bytearray(signed)
    gap[first.offset - 1] = 1
    found = unsigned_content.compare(UNSIGNED["universal"], bytes(gap))
    assert found == ("between the slices", first.offset - 1, "0x00", "0x01")
    behind = unsigned_content.compare(UNSIGNED["universal"], signed + b"\0\1")
    assert behind == ("between the slices", len(signed) + 1, "0x00", "0x01")
    assert unsigned_content.digest(signed + b"\1") != unsigned_content.digest(bytes(signed))
    assert unsigned_content.digest(signed + b"\0") == unsigned_content.digest(bytes(signed))


def test_longer_code_and_other_kinds_are_told() -> None:
    """Sixteen more bytes of code, a slice left out, another processor."""
    longer = bytearray(UNSIGNED["unsigned"])
    (code,) = macho.parse(bytes(longer))
    assert code.linkedit is not None
    longer += bytes(32)
    struct.pack_into("<Q", longer, code.linkedit.command.offset + 48, code.linkedit.size + 32)
    signed = signing.sign(bytes(longer), INTENT, None).data
    found = unsigned_content.compare(UNSIGNED["unsigned"], signed)
    assert found is not None
    assert found.expected.endswith("bytes of code")
    for other in ("universal", "x86_64"):
        found = unsigned_content.compare(UNSIGNED["unsigned"], SIGNED[other])
        assert found is not None
        assert found.place == "the file"


def test_a_signature_that_does_not_stand_last_is_refused() -> None:
    """Bytes behind the signature would be outside of everything."""
    with pytest.raises(errors.FormatError):
        unsigned_content.digest(SIGNED["unsigned"] + b"\0")
    assert TEAM.encode() in SIGNED["unsigned"]
