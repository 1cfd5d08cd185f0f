"""Parse then encode gives the same bytes: over everything real that is at hand, and our own."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import lief
import pytest

from release_tool.apple import (
    certificates,
    cms,
    code_directory,
    code_resources,
    entitlements,
    macho,
    property_list,
    superblob,
    ticket,
    verification,
)
from release_tool.rehearsal import samples
from tests import macho_samples, real_code, round_trips, signed_release

APPLES = {
    "Mach-O",
    "SuperBlob",
    "CodeDirectory",
    "requirements",
    "CMS slot",
    "CMS",
    "certificate",
    "cdhashes",
    "timestamp token",
}


# Here


def test_real_tickets_come_out_as_they_were(real_data: Path) -> None:
    """Both tickets: chain, list and signature."""
    for path in sorted((real_data / "tickets").iterdir()):
        data = path.read_bytes()
        assert ticket.encode(ticket.parse(data)) == data, path.name


def test_real_profiles_come_out_as_they_were(real_data: Path) -> None:
    """Every profile's CMS, the forged one's too, the inner one's, and its payload.

    The property list itself comes from a template that nobody else has; its bytes are the CMS's
    content and stay as they are.
    """
    told = json.loads((real_data / "expected.json").read_text())["profiles"]
    expected = {name: facts for name, facts in told.items() if "uuid" in facts}
    assert len(expected) == len(told) - 1, "one of them is a text"
    inner = set()
    for name in expected:
        found = round_trips.profile((real_data / "profiles" / name).read_bytes())
        if "inner profile" in found:
            inner.add(name)
    assert inner == {name for name in expected if expected[name]["has_der_encoded_profile"]}


def test_linker_signed_samples_come_out_as_they_were() -> None:
    """What an independent linker signed, thin and universal in both headers."""
    for data in (
        macho_samples.thin(),
        samples.template("darkbloom-enclave"),
        macho_samples.universal(),
        macho_samples.universal(wide=True),
    ):
        assert {"Mach-O", "SuperBlob", "CodeDirectory"} <= round_trips.code(data)


def test_our_own_release_comes_out_as_it_was() -> None:
    """Code that we sign, entitlements and timestamp included, and its seal."""
    files = signed_release.made().files
    found: set[str] = set()
    for name, data in files.items():
        if macho.is_macho(data[:8]):
            found |= round_trips.code(data)
        elif name.endswith(code_resources.PATH):
            round_trips.seal(data)
    assert found >= APPLES | {"entitlements", "DER entitlements"}


def test_reals_of_a_seal_keep_their_form() -> None:
    """Whole weights stand without a fraction, others with what they have."""
    values = {"a": property_list.WholeReal(1000), "b": 1.5, "c": property_list.WholeReal(-3)}
    data = property_list.write(values)
    assert b"<real>1000</real>" in data
    round_trips.seal(data)


# From the package indexes


@pytest.mark.online
@pytest.mark.parametrize("path", [real_code.MAIN, real_code.TOOL, real_code.INNER_MAIN])
def test_apples_code_comes_out_as_it_was(path: str) -> None:
    """What Apple's codesign of 2026 wrote: every slice down to the timestamp's certificates."""
    assert round_trips.code(real_code.app().read(path)) == APPLES


@pytest.mark.online
def test_other_signers_code_comes_out_as_it_was() -> None:
    """The second dialect of 2026 in a thin tool, and another signer's universal one."""
    assert round_trips.code(real_code.ruff()) == APPLES
    assert round_trips.code(real_code.sentry()) == APPLES | {"entitlements", "DER entitlements"}


@pytest.mark.online
def test_older_code_comes_out_as_it_was() -> None:
    """Two digests in two slots, entitlements in the older dialect, and white space before XML."""
    found = round_trips.code(real_code.node_of_2021())
    assert found == APPLES | {"entitlements"}
    (code,) = macho.parse(real_code.node_of_2021())
    assert code.signature_bytes is not None
    blob = superblob.parse(code.signature_bytes)
    assert [code_directory.parse(raw).algorithm for raw in blob.code_directories] == [
        "sha1",
        "sha256",
    ]
    (code,) = macho.parse(real_code.node_of_2024())
    assert round_trips.code(real_code.node_of_2024()) == APPLES | {
        "entitlements",
        "DER entitlements",
    }
    assert code.signature_bytes is not None
    blob = superblob.parse(code.signature_bytes)
    content = blob.get(superblob.SLOT_ENTITLEMENTS_DER)
    xml = blob.get(superblob.SLOT_ENTITLEMENTS)
    assert content is not None
    assert xml is not None
    document = entitlements.read_der(content[8:])
    assert (document.dialect, document.true_octet) == ("2020", 0x01)
    assert document.values == entitlements.parse_xml(xml[8:])


@pytest.mark.online
@pytest.mark.parametrize(
    "data",
    [real_code.node_of_2021, real_code.node_of_2024, real_code.signed_in_a_sixtieth_second],
)
def test_older_code_is_authentic(data: Callable[[], bytes]) -> None:
    """All verify up to Apple's root at the time of their timestamps, entitlements included."""
    judge = verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=False
    )
    report = verification.verify(data(), judge=judge)
    assert [check for check in report.checks if check.outcome == "failed"] == []
    assert "entitlements" in {check.name for check in report.checks if check.outcome == "passed"}


@pytest.mark.online
def test_a_sixtieth_second_is_kept() -> None:
    """A signing time that no clock shows is read as the next minute, and written as it was."""
    data = real_code.signed_in_a_sixtieth_second()
    assert round_trips.code(data) == APPLES | {"entitlements"}
    (code,) = macho.parse(data)
    blob = superblob.parse(code.signature_bytes or b"").get(superblob.SLOT_CMS) or b""
    (signer,) = cms.parse(superblob.unwrap(blob, superblob.MAGIC_WRAPPER)).signers
    assert signer.signing_time == datetime(2023, 10, 18, 8, 6, tzinfo=UTC)


@pytest.mark.online
def test_code_of_every_processor_is_read() -> None:
    """PowerPC, Intel and arm64, both word sizes and byte orders: as LIEF reads each slice."""
    lief.logging.disable()
    seen: set[tuple[str, bool, str]] = set()
    for name, data in real_code.old_code().items():
        slices = macho.parse(data)
        theirs = lief.MachO.parse(list(data))
        assert theirs is not None
        for code, other in zip(slices, theirs, strict=True):
            seen.add((code.arch, code.is_64_bit, code.byte_order))
            assert [(item.name, item.file_offset, item.file_size) for item in other.segments] == [
                (item.name, item.offset, item.size) for item in code.segments
            ], name
            assert [item.name for item in other.libraries] == list(code.linked_libraries), name
            assert not [one for one in code.commands if one.name.startswith("0x")], name
        assert "Mach-O" in round_trips.code(data)
    assert seen == {
        ("ppc", False, "big"),
        ("ppc64", True, "big"),
        ("i386", False, "little"),
        ("x86_64", True, "little"),
        ("arm64", True, "little"),
    }


@pytest.mark.online
def test_linker_signed_code_comes_out_as_it_was() -> None:
    """An ad-hoc tool of 124 MB with a directory of a megabyte."""
    assert round_trips.code(real_code.node()) == {"Mach-O", "SuperBlob", "CodeDirectory"}


@pytest.mark.online
def test_real_seals_and_the_stapled_ticket_come_out_as_they_were() -> None:
    """Both seals of the real app, its property lists, and the ticket in it."""
    packed = zipfile.ZipFile(io.BytesIO(real_code.packed_app()))
    names = [name for name in packed.namelist() if name.endswith(code_resources.PATH)]
    assert len(names) == 2
    for name in names:
        round_trips.seal(packed.read(name))
    data = packed.read(f"{real_code.APP}/Contents/{code_resources.TICKET}")
    assert ticket.encode(ticket.parse(data)) == data
