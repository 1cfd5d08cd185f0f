"""Signatures made again: ours, of which every choice is known, and damaged ones."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import cms, code_directory, macho, reproduction, signing, superblob
from release_tool.apple.reproduction import Reproduction
from release_tool.files.tree import DiskTree
from release_tool.services import portable_signer
from release_tool.services.portable_signer import Executable
from tests import bundle_samples, macho_samples, signing_identity

AUTHORITY = signing_identity.authority()
SIGNER = signing.Authority(
    identity=AUTHORITY.identity(), signing_time=signing_identity.NOW, timestamp=AUTHORITY.token
)
CLAIMS = plistlib.dumps({"com.apple.security.network.client": True})


def _signed(
    data: bytes, given: signing.Given | None = None, *, adhoc: bool = False, identifier: str = ""
) -> bytes:
    intent = signing.Intent(
        identifier=identifier or "io.example.tool",
        entitlements=CLAIMS,
        given=given or signing.Given(),
    )
    return signing.sign(data, intent, None if adhoc else SIGNER).data


def _slices(data: bytes) -> list[Reproduction]:
    *slices, whole = reproduction.of_file("tool", data)
    assert whole.part == "file"
    assert whole.reproduced == all(one.reproduced for one in slices)
    return slices


@pytest.mark.parametrize("adhoc", [False, True])
def test_our_signatures_come_out_again(adhoc: bool) -> None:
    """By rule, but for what only the signer knows."""
    found = _slices(_signed(macho_samples.universal(), adhoc=adhoc))
    assert [one.part for one in found] == ["x86_64", "arm64"]
    for one in found:
        assert one.reproduced
        assert one.explained
        own = {"flags", "identifier", "entitlements as XML"}
        octets = {"signature octets", "signing time", "certificates", "timestamp token"}
        assert {*one.copied} == own | (set() if adhoc else octets)
        assert {"page hashes", "reserved size", "exec segment", "page size"} <= {*one.derived}
        assert ("CMS" in one.derived) == (not adhoc)


def test_an_identifier_that_follows_from_the_path_is_derived() -> None:
    """The tool is called as codesign would call it."""
    (found,) = _slices(_signed(macho_samples.thin(), identifier="tool"))
    assert "identifier" in found.derived


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (signing.Given(page_size_log2=12), "page size"),
        (signing.Given(reserved=60_000), "reserved size"),
        (signing.Given(exec_segment=(0, 0, 0)), "exec segment"),
        (signing.Given(hash_types=(code_directory.SHA384,)), "digests"),
        (
            signing.Given(hash_types=(code_directory.SHA1, code_directory.SHA256)),
            "digests",
        ),
        (
            signing.Given(requirements=bytes.fromhex("fade0c010000000c00000000")),
            "an explicit requirement",
        ),
    ],
)
def test_other_choices_are_copied_by_name(given: signing.Given, name: str) -> None:
    """One choice that is not codesign's is named, and everything comes out all the same."""
    (found,) = _slices(_signed(macho_samples.thin(), given))
    assert found.reproduced
    assert name in found.copied
    plain = _slices(_signed(macho_samples.thin()))[0]
    assert {*found.copied} - {*plain.copied} == {name}


def test_the_linkers_signature_comes_out_again() -> None:
    """A code directory alone, without a signer, in the room that the linker reserved."""
    (found,) = _slices(macho_samples.thin())
    assert found.reproduced
    assert {*found.copied} <= {"flags", "identifier", "page size", "exec segment", "reserved size"}


def _octets(blob: superblob.SuperBlob) -> bytes:
    content = (blob.get(superblob.SLOT_CMS) or b"")[8:]
    return cms.parse(content).signers[0].signature


def _damaged(data: bytes, place: str) -> bytes:
    (code,) = macho.parse(data)
    assert code.signature is not None
    assert code.signature_bytes is not None
    blob = superblob.parse(code.signature_bytes)
    offsets = dict(zip(blob.slots, blob.offsets, strict=True))
    start = code.signature[0]
    directory = start + offsets[superblob.SLOT_CODE_DIRECTORY]
    position = {
        "page hash": start + offsets[superblob.SLOT_REQUIREMENTS] - 1,
        "runtime": directory + 91,
        "identifier": directory + 98,
        "signature octets": data.index(_octets(blob)) + 9,
        "padding": start + code.signature[1] - 1,
        "page": 5000,
    }[place]
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("page hash", "code directory: code_hashes"),
        ("page", "code directory: code_hashes"),
        ("runtime", "code directory: runtime"),
        ("identifier", "CMS"),
        ("signature octets", "CMS"),
        ("padding", "signature: bytes"),
    ],
)
def test_what_does_not_come_out_is_named(place: str, named: str) -> None:
    """One changed bit anywhere is a difference that nobody explains."""
    data = _damaged(_signed(macho_samples.thin()), place)
    found, whole = reproduction.of_file("tool", data)
    assert not found.reproduced
    assert not found.explained
    assert any(one.what.startswith(named) for one in found.differences)
    assert whole.reproduced == (whole.observed == whole.expected)


def test_a_bundle_comes_out_with_every_seal(tmp_path: Path) -> None:
    """Nested bundles included; a changed resource shows in its own seal alone."""
    root = tmp_path / "Example.app"
    bundle_samples.write(root, *bundle_samples.app())
    portable_signer.sign_bundle(
        root, lambda code: Executable(path=code.path), authority=SIGNER, data=None
    )
    found = reproduction.of_bundle(DiskTree(root), name=root.name)
    assert all(one.reproduced for one in found)
    seals = [one.item for one in found if one.part == "seal"]
    assert len(seals) == 7
    changed = root / "Contents/Helpers/Agent.app/Contents/Resources/icon.icns"
    changed.write_bytes(b"other")
    wrong = [
        one for one in reproduction.of_bundle(DiskTree(root), name=root.name) if not one.reproduced
    ]
    assert [one.item for one in wrong] == [
        "Example.app/Contents/Helpers/Agent.app/Contents/_CodeSignature/CodeResources"
    ]
    assert not wrong[0].explained


def test_unsigned_code_is_refused() -> None:
    """There is nothing to arrive at."""
    with pytest.raises(errors.FormatError, match="not signed"):
        reproduction.of_file("tool", macho_samples.unsigned())


def test_real_tickets_and_profiles_come_out(real_data: Path) -> None:
    """Tickets and profiles whole; of inner forms, the entitlements from the outer ones."""
    for path in sorted((real_data / "tickets").glob("*.ticket")):
        assert reproduction.of_ticket(path.name, path.read_bytes()).reproduced
    made = [
        one
        for path in sorted((real_data / "profiles").iterdir())
        if path.stem != "not-cms-at-all"
        for one in reproduction.of_profile(path.name, path.read_bytes())
    ]
    assert all(one.reproduced for one in made)
    assert len([one for one in made if one.part == "profile"]) == 8
    with_inner = {Path(one.item).stem for one in made if one.part == "inner profile"}
    assert with_inner == {"developer-id-2026", "mac-app-store-2023-expired", "mac-app-store-2026"}


def test_an_inner_profile_that_grants_otherwise_is_named(real_data: Path) -> None:
    """One changed letter in an outer entitlement: the CMS comes out, the inner form does not."""
    data = (real_data / "profiles/developer-id-2026.provisionprofile").read_bytes()
    place = data.index(b"<key>keychain-access-groups</key>") + len("<key>")
    changed = data[:place] + b"K" + data[place + 1 :]
    whole, inner = reproduction.of_profile("changed", changed)
    assert whole.reproduced
    assert not inner.reproduced
    assert not inner.explained
    assert next(one.what for one in inner.differences).startswith("inner profile: ")
