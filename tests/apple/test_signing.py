"""Code signed in memory: judged by our verifier, by LIEF and by openssl."""

from __future__ import annotations

import hashlib
import plistlib
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import lief
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import (
    checks,
    code_directory,
    identity,
    macho,
    reproduction,
    requirement,
    signing,
    superblob,
    verification,
)
from release_tool.apple.facts import CodeReport
from tests import macho_samples, signing_identity
from tests.signing_identity import NOW, TEAM

AUTHORITY = signing_identity.authority()
SIGNER = signing.Authority(
    identity=AUTHORITY.identity(), signing_time=NOW, timestamp=AUTHORITY.token
)
JUDGE = verification.Judge(trust=AUTHORITY.trust, now=NOW, strict=True)
# Strictness refuses universal files, which no release of ours holds.
LENIENT = verification.Judge(trust=AUTHORITY.trust, now=NOW, strict=False)
CLAIMS: dict[str, object] = {
    "com.apple.security.network.client": True,
    "keychain-access-groups": [f"{TEAM}.io.example"],
}
FILES = {
    "arm64": macho_samples.thin(),
    "x86_64": macho_samples.thin(macho_samples.INTEL),
    "unsigned arm64": macho_samples.unsigned(),
    "universal": macho_samples.universal(),
    "universal, 64-bit header": macho_samples.universal(wide=True),
}
IDENTIFIERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,60}", fullmatch=True)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=12).filter(str.isprintable),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
ENTITLEMENTS = st.none() | st.dictionaries(
    st.from_regex(r"[a-z][a-z.-]{0,30}", fullmatch=True), VALUES, max_size=4
)


def _sign(
    data: bytes,
    authority: signing.Authority | None = SIGNER,
    *,
    identifier: str = "io.example.tool",
    claims: dict[str, object] | None = CLAIMS,
    hardened: bool = True,
) -> signing.SignedCode:
    intent = signing.Intent(
        identifier=identifier,
        hardened_runtime=hardened,
        entitlements=None if claims is None else plistlib.dumps(claims),
    )
    return signing.sign(data, intent, authority)


def _failed(report: CodeReport) -> list[str]:
    return [
        f"{check.name}: {check.observed}" for check in report.checks if check.outcome == "failed"
    ]


def _judge(name: str) -> verification.Judge:
    return LENIENT if "universal" in name else JUDGE


def _signature(data: bytes) -> superblob.SuperBlob:
    room = macho.parse(data)[-1].signature_bytes
    assert room is not None
    return superblob.parse(room)


@pytest.mark.parametrize("name", sorted(FILES))
def test_signed_code_verifies_and_says_what_was_meant(name: str) -> None:
    """Every kind of file, strictly: facts read back equal the intent."""
    signed = _sign(FILES[name])
    report = verification.verify(signed.data, judge=_judge(name))
    assert _failed(report) == []
    assert len(report.slices) == len(signed.slices)
    for facts, made in zip(report.slices, signed.slices, strict=True):
        assert facts.identifier == "io.example.tool"
        assert facts.team_id == TEAM
        assert facts.flags == code_directory.RUNTIME
        assert facts.version == 0x20500
        assert facts.page_size == (16384 if facts.arch == "arm64" else 4096)
        assert facts.entitlements == CLAIMS
        assert facts.signed_at == NOW
        assert facts.signing_time == NOW
        assert facts.cdhash == made.cdhash.hex()
        assert facts.full_digest == made.code_directory_digest.hex()
        assert facts.requirement_text == signed.requirement_text


@pytest.mark.parametrize("name", sorted(FILES))
def test_ad_hoc_code_verifies(name: str) -> None:
    """Without an identity: no team, no certificate, the cdhash is the requirement."""
    signed = _sign(FILES[name], None)
    report = verification.verify(signed.data, judge=_judge(name))
    assert _failed(report) == []
    for facts in report.slices:
        assert facts.is_adhoc
        assert facts.is_hardened
        assert facts.team_id is None
    assert signed.cdhash.hex() in signed.requirement_text


@given(st.sampled_from(sorted(FILES)), IDENTIFIERS, ENTITLEMENTS, st.booleans(), st.booleans())
@settings(max_examples=25)
def test_whatever_is_signed_verifies(
    name: str, identifier: str, claims: dict[str, object] | None, hardened: bool, adhoc: bool
) -> None:
    """Any identifier and entitlements, hardened or not, signed or ad-hoc."""
    authority = None if adhoc else SIGNER
    signed = _sign(FILES[name], authority, identifier=identifier, claims=claims, hardened=hardened)
    report = verification.verify(signed.data, judge=_judge(name))
    assert _failed(report) == []
    for facts in report.slices:
        assert facts.identifier == identifier
        assert facts.is_hardened == hardened
        assert facts.entitlements == claims
        assert facts.version == (0x20500 if hardened else 0x20400)


_SIZES = st.integers(1, 70_000)
_LINKED = st.builds(
    macho_samples.linked,
    arch=st.sampled_from(["arm64", "x86_64"]),
    text=_SIZES,
    data=st.integers(0, 40_000),
    linkedit=_SIZES,
    info_plist=st.just(b"") | st.just(plistlib.dumps({"CFBundleIdentifier": "io.example"})),
    file_type=st.sampled_from([2, 6, 8]),
    room=st.sampled_from([16, 17, 4000]),
)


@given(_LINKED, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_generated_code_signs_and_verifies(
    data: bytes, hardened: bool, adhoc: bool, wide: bool
) -> None:
    """Any sizes, processor and kind, thin and beside another: strictly ours, and made again."""
    authority = None if adhoc else SIGNER
    signed = _sign(data, authority, claims=None, hardened=hardened)
    report = verification.verify(signed.data, judge=JUDGE)
    assert _failed(report) == []
    assert all(one.reproduced for one in reproduction.of_file("tool", signed.data))
    (code,) = macho.parse(data)
    other = macho_samples.linked(arch="arm64" if code.arch == "x86_64" else "x86_64")
    both = _sign(
        macho_samples.fat(data, other, wide=wide), authority, hardened=hardened, claims=None
    )
    assert _failed(verification.verify(both.data, judge=LENIENT)) == []
    assert both.slices[0] == signed.slices[0]


def test_code_without_room_for_the_command_is_refused() -> None:
    """Fifteen free bytes behind the load commands are one too few."""
    assert _sign(macho_samples.linked(room=16), None, claims=None).slices
    with pytest.raises(errors.FormatError, match="no room"):
        _sign(macho_samples.linked(room=15), None, claims=None)


def test_a_tool_with_a_property_list_has_its_hash() -> None:
    """The section stands in the first special slot, and two places are enough."""
    plist = plistlib.dumps({"CFBundleIdentifier": "io.example.tool"})
    data = _sign(macho_samples.linked(info_plist=plist), claims=None).data
    directory = code_directory.parse(_signature(data).get(0) or b"")
    assert directory.special_slots == 2
    assert directory.special[superblob.SLOT_INFO_PLIST] == hashlib.sha256(plist).digest()


@pytest.mark.parametrize(("claims", "places"), [(None, 3), (CLAIMS, 7)])
def test_a_bundles_executable_has_its_places(claims: dict[str, object] | None, places: int) -> None:
    """Info.plist and seal: three places without entitlements, seven with them."""
    intent = signing.Intent(
        identifier="io.example.app",
        entitlements=None if claims is None else plistlib.dumps(claims),
        info_plist=b"<plist/>",
        code_resources=b"<seal/>",
    )
    data = signing.sign(FILES["arm64"], intent, SIGNER).data
    directory = code_directory.parse(_signature(data).get(0) or b"")
    assert directory.special_slots == places
    assert directory.special[superblob.SLOT_CODE_RESOURCES] == hashlib.sha256(b"<seal/>").digest()


def test_ad_hoc_code_is_required_by_all_its_cdhashes() -> None:
    """The arm64 slice's first, then the others'; of old code each digest's."""
    both = _sign(FILES["universal"], None, claims=None)
    intel, arm = both.slices
    assert both.requirement_text == (
        f'cdhash H"{arm.cdhash.hex()}" or cdhash H"{intel.cdhash.hex()}"'
    )
    old = _sign(macho_samples.targeting("10.9"), None, claims=None)
    assert len(old.slices[0].cdhashes) == 2
    assert old.requirement_text == " or ".join(
        f'cdhash H"{one.hex()}"' for one in old.slices[0].cdhashes
    )
    report = verification.verify(both.data, judge=LENIENT)
    for facts in report.slices:
        expression = requirement.parse_text(both.requirement_text)
        assert requirement.decide(expression, facts.context) is True


def _resized(by: int, *, behind: bytes = b"") -> bytes:
    """Signed code whose load command states another size, bytes behind the signature."""
    data = bytearray(_sign(FILES["arm64"], None).data + behind)
    (code,) = macho.parse(_sign(FILES["arm64"], None).data)
    assert code.signature is not None
    assert code.linkedit is not None
    offset, size = code.signature
    command = next(one for one in code.commands if one.command == macho.LC_CODE_SIGNATURE)
    struct.pack_into("<II", data, command.offset + 8, offset, size + by)
    struct.pack_into(
        "<Q", data, code.linkedit.command.offset + 48, code.linkedit.size + len(behind)
    )
    return bytes(data)


def test_signatures_of_any_size_are_replaced() -> None:
    """One that states too little is taken away whole; bytes that are not zero are never lost."""
    fresh = _sign(FILES["unsigned arm64"], None).data
    assert _sign(_resized(-4096), None).data == fresh
    assert _sign(_resized(0, behind=bytes(4096)), None).data == fresh
    for wrong in (_resized(0, behind=b"\0" * 99 + b"x"), _resized(0, behind=bytes(20_000))):
        with pytest.raises(errors.FormatError, match="not the end of __LINKEDIT"):
            _sign(wrong, None)


SIGNED = {
    (name, adhoc): _sign(FILES[name], None if adhoc else SIGNER).data
    for name in ("arm64", "x86_64")
    for adhoc in (False, True)
}


def _positions(key: tuple[str, bool]) -> st.SearchStrategy[int]:
    """Every byte, with more weight on the signature and within it on what is not padding."""
    (code,) = macho.parse(SIGNED[key])
    assert code.signature is not None
    start, size = code.signature
    filled = start + _signature(SIGNED[key]).length
    return st.one_of(
        st.integers(0, start - 1),
        st.integers(start, filled - 1),
        st.integers(filled, start + size - 1),
    )


@given(st.sampled_from(["arm64", "x86_64"]), st.booleans(), st.data())
@settings(max_examples=150)
def test_any_changed_byte_is_caught(name: str, adhoc: bool, data: st.DataObject) -> None:
    """In a page, a slot, the code directory, the CMS or the padding: nothing is left open.

    Ad-hoc code directories are signed by nobody; there the change shows in the cdhash, which is
    all that identifies such code.
    """
    signed = SIGNED[name, adhoc]
    position = data.draw(_positions((name, adhoc)))
    changed = bytearray(signed)
    changed[position] ^= data.draw(st.integers(1, 255))
    report = verification.verify(bytes(changed), judge=JUDGE)
    (original,) = verification.verify(signed, judge=JUDGE).slices
    noticed = not checks.all_hold(report.checks)
    if adhoc and not noticed:
        noticed = [item.cdhash for item in report.slices] != [original.cdhash]
    assert noticed, f"byte {position} of {len(signed)}"


@given(st.sampled_from(sorted(SIGNED)), st.data())
@settings(max_examples=60)
def test_truncated_signed_code_is_a_format_error(
    key: tuple[str, bool], data: st.DataObject
) -> None:
    """Cut anywhere, reader and signer refuse it with our error."""
    signed = SIGNED[key]
    end = data.draw(st.integers(0, len(signed) - 1))
    with pytest.raises(errors.FormatError):
        _sign(signed[:end], None)


@pytest.mark.parametrize("name", sorted(FILES))
def test_signing_again_replaces_the_signature(name: str) -> None:
    """The same intent gives the same bytes that are hashed, whatever was signed before."""
    first = _sign(FILES[name])
    longer = _sign(first.data, identifier="io.example." + "long" * 20)
    again = _sign(longer.data)
    assert [one.cdhash for one in again.slices] == [one.cdhash for one in first.slices]
    assert len(again.data) == len(first.data)
    assert _sign(FILES[name], None).data == _sign(first.data, None).data


def test_an_elliptic_identity_signs_too() -> None:
    """The signature octets are made once, so the timestamp covers those that are written."""
    authority = signing.Authority(
        identity=AUTHORITY.identity(elliptic=True), signing_time=NOW, timestamp=AUTHORITY.token
    )
    report = verification.verify(_sign(FILES["arm64"], authority).data, judge=JUDGE)
    assert _failed(report) == []
    assert report.slices[0].signed_at == NOW


def test_without_a_timestamp_the_certificate_decides() -> None:
    """It verifies today and no longer once the certificate has expired."""
    bare = signing.Authority(identity=AUTHORITY.identity(), signing_time=NOW)
    data = _sign(FILES["arm64"], bare).data
    assert _failed(verification.verify(data, judge=JUDGE)) == []
    later = verification.Judge(trust=AUTHORITY.trust, now=NOW + timedelta(days=500), strict=True)
    assert _failed(verification.verify(data, judge=later))
    stamped = _sign(FILES["arm64"]).data
    assert _failed(verification.verify(stamped, judge=later)) == []


def test_blobs_stand_as_codesign_writes_them() -> None:
    """Order, places of special slots, and 18,000 bytes of room for the CMS."""
    data = _sign(FILES["arm64"]).data
    found = _signature(data)
    assert found.slots == (0, 2, 5, 7, 0x10000)
    directory = code_directory.parse(found.get(0) or b"")
    assert directory.special_slots == 7
    others = sum(len(blob) for slot, blob in found.blobs if slot != superblob.SLOT_CMS)
    (code,) = macho.parse(data)
    assert code.signature is not None
    assert code.signature[1] == -(-(12 + 5 * 8 + others + 18_000) // 16) * 16
    assert not any(data[code.signature[0] + found.length :])
    assert directory.runtime == code.sdk_packed
    assert code.text_segment is not None
    assert directory.exec_segment_limit == code.text_segment.size


def test_a_bare_tool_has_two_places_and_ad_hoc_an_empty_set() -> None:
    """Without entitlements only the requirements have a slot; ad-hoc has none inside."""
    plain = _signature(_sign(FILES["arm64"], claims=None).data)
    assert plain.slots == (0, 2, 0x10000)
    assert code_directory.parse(plain.get(0) or b"").special_slots == 2
    adhoc = _signature(_sign(FILES["arm64"], None, claims=None).data)
    assert requirement.parse_set(adhoc.get(2) or b"") == {}
    assert adhoc.get(superblob.SLOT_CMS) == superblob.wrap(superblob.MAGIC_WRAPPER, b"")


def test_a_larger_cms_gets_more_room() -> None:
    """A signature that outgrows the usual room is made again with enough."""
    huge = signing.Authority(
        identity=AUTHORITY.identity(),
        signing_time=NOW,
        timestamp=lambda octets: AUTHORITY.token(octets) + b"\x04\x82\x50\x00" + bytes(0x5000),
    )
    data = _sign(FILES["arm64"], huge).data
    assert _signature(data).length > 20_000
    directory = code_directory.parse(_signature(data).get(0) or b"")
    (code,) = macho.parse(data)
    pages = code_directory.page_hashes(
        code.data, code_limit=directory.code_limit, page_size_log2=14, hash_type=2
    )
    assert tuple(pages) == directory.code_hashes


def test_lief_accepts_the_layout(tmp_path: Path) -> None:
    """An independent parser finds signature and segments in order, in every slice."""
    lief.logging.disable()
    path = tmp_path / "code"
    path.write_bytes(_sign(FILES["universal"]).data)
    found = lief.MachO.parse(path)
    assert found is not None
    assert found.size == 2
    for number in range(2):
        code = found.at(number)
        assert code is not None
        assert code.has_code_signature
        assert lief.MachO.check_layout(code) == (True, "")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl judges the CMS")
@pytest.mark.parametrize("elliptic", [False, True])
def test_openssl_accepts_the_cms(elliptic: bool, tmp_path: Path) -> None:
    """Signature over the code directory and chain hold; another directory is refused."""
    authority = signing.Authority(
        identity=AUTHORITY.identity(elliptic=elliptic),
        signing_time=NOW,
        timestamp=AUTHORITY.token,
    )
    found = _signature(_sign(FILES["arm64"], authority).data)
    directory = found.get(0) or b""
    (tmp_path / "cms").write_bytes((found.get(superblob.SLOT_CMS) or b"")[8:])
    (tmp_path / "root").write_bytes(AUTHORITY.root.pem)
    command = "openssl cms -verify -inform DER -in cms -content directory -binary -CAfile root"
    # Developer ID leafs mark Apple's 6.1.13 critical, which openssl does not know.
    command += f" -purpose any -ignore_critical -attime {int(NOW.timestamp())} -out out"
    verdicts = []
    for content in (directory, directory[:-1] + bytes([directory[-1] ^ 1])):
        (tmp_path / "directory").write_bytes(content)
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
        verdicts.append(done.returncode)
    assert verdicts[0] == 0
    assert verdicts[1] != 0


def test_a_library_takes_no_entitlements() -> None:
    """Apple's tools give them to main executables only."""
    data = bytearray(FILES["unsigned arm64"])
    data[12:16] = (6).to_bytes(4, "little")
    with pytest.raises(errors.FormatError, match="main executable"):
        _sign(bytes(data))
    report = verification.verify(_sign(bytes(data), claims=None).data, judge=JUDGE)
    assert _failed(report) == []


def test_an_unknown_chain_is_refused() -> None:
    """A signature that carries only its leaf would verify nowhere."""
    lone = signing_identity.authority().p12(b"", whole_chain=False)
    authority = signing.Authority(identity=identity.load(lone), signing_time=NOW)
    with pytest.raises(errors.CredentialError, match="chain"):
        _sign(FILES["arm64"], authority)
