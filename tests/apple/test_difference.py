"""What differs between two trees, fact by fact."""

from __future__ import annotations

import plistlib
import struct
from dataclasses import replace
from datetime import timedelta

import pytest

from release_tool.apple import (
    certificates,
    difference,
    macho,
    portrait,
    signing,
    ticket,
    verification,
)
from release_tool.apple.difference import Difference
from release_tool.apple.tree import MemoryTree, in_memory
from tests import macho_samples, signing_identity
from tests.signing_identity import NOW, TEAM

AUTHORITY = signing_identity.authority()
JUDGE = verification.Judge(trust=AUTHORITY.trust, now=NOW, strict=False)
SIGNER = signing.Authority(
    identity=AUTHORITY.identity(), signing_time=NOW, timestamp=AUTHORITY.token
)
TICKET = "Contents/CodeResources"


def compare(before: MemoryTree, after: MemoryTree) -> dict[tuple[str, str], Difference]:
    drawn = [portrait.draw(tree, judge=JUDGE) for tree in (before, after)]
    found = difference.compare(drawn[0], drawn[1])
    return {(item.kind, item.name or item.subject): item for item in found}


def signed(
    identifier: str = "io.example", data: bytes | None = None, *, adhoc: bool = False
) -> bytes:
    intent = signing.Intent(identifier=identifier)
    return signing.sign(data or macho_samples.thin(), intent, None if adhoc else SIGNER).data


def with_versions(minos: str, sdk: str) -> bytes:
    """The sample with another minimum macOS and SDK."""
    data = bytearray(macho_samples.thin())
    (code,) = macho.parse(bytes(data))
    command = next(one for one in code.commands if one.command == 0x32)
    packed = macho.packed_version(minos), macho.packed_version(sdk)
    struct.pack_into("<II", data, command.offset + 12, *packed)
    return bytes(data)


def test_nothing_differs_from_itself() -> None:
    """A tree with code, a plist, a link and a ticket that cannot be read."""
    tree = in_memory(
        {"x": signed(), "Info.plist": b"rubbish", TICKET: b"s8ch"}, links={"link": "x"}
    )
    assert compare(tree, tree) == {}


def test_versions_libraries_and_signers_are_compared() -> None:
    """Minimum macOS, SDK, identifier, flags, team, certificate, timestamp; from the code itself."""
    before = in_memory({"x": signed("io.one", with_versions("13.0", "14.5"))})
    after = in_memory({"x": signed("io.two", with_versions("14.0", "15.2"), adhoc=True)})
    found = compare(before, after)
    assert found["minimum macOS", "x"][3:5] == ("13.0.0", "14.0.0")
    assert found["SDK", "x"][3:5] == ("14.5.0", "15.2.0")
    assert found["identifier", "x"][3:5] == ("io.one", "io.two")
    assert found["flags", "x"].after.startswith("adhoc")
    assert found["team", "x"][3:5] == (TEAM, "none")
    assert found["signed by", "x"].after == "nobody: ad-hoc"
    assert found["certificate", "x"].before == AUTHORITY.identity().fingerprint
    assert found["timestamp", "x"][3:5] == ("one", "none")
    assert found["requirement", "x"].locks_out
    library = macho.parse(macho_samples.thin())[0].linked_libraries[0].encode()
    other = library[:-1] + b"X"
    renamed = in_memory({"x": signed("io.one", macho_samples.thin().replace(library, other))})
    found = compare(in_memory({"x": signed("io.one")}), renamed)
    assert found["linked library", library.decode()].after == difference.ABSENT
    assert found["linked library", other.decode()].before == difference.ABSENT


def test_a_new_identifier_locks_out_and_a_new_certificate_of_the_team_does_not() -> None:
    """The default requirement names identifier and team, not the certificate."""
    found = compare(in_memory({"x": signed("io.one")}), in_memory({"x": signed("io.two")}))
    assert found["requirement", "x"].locks_out
    elliptic = replace(SIGNER, identity=AUTHORITY.identity(elliptic=True))
    intent = signing.Intent(identifier="io.one")
    renewed = signing.sign(macho_samples.thin(), intent, elliptic).data
    found = compare(in_memory({"x": signed("io.one")}), in_memory({"x": renewed}))
    assert ("certificate", "x") in found
    assert not any(item.locks_out for item in found.values())


def test_without_trust_nobody_says_who_meets_what() -> None:
    """Under other roots the old code does not meet its own requirement: that is said instead."""
    foreign = replace(JUDGE, trust=certificates.apple_trust())
    trees = [in_memory({"x": signed(name)}) for name in ("io.one", "io.two")]
    before, after = (portrait.draw(tree, judge=foreign) for tree in trees)
    (found,) = [item for item in difference.compare(before, after) if item.kind == "requirement"]
    assert "cannot be told" in found.locks_out
    before, after = (portrait.draw(tree, judge=JUDGE) for tree in trees)
    assert "does not meet the old requirement" in difference.compare(before, after)[0].locks_out


def test_unsigned_code_is_described_too() -> None:
    """Signing it for the first time locks nobody out; taking the signature away does."""
    unsigned, code = in_memory({"x": macho_samples.unsigned()}), in_memory({"x": signed()})
    found = compare(unsigned, code)
    assert found["signed by", "x"].before == "nobody: unsigned"
    assert not any(item.locks_out for item in found.values())
    assert compare(code, unsigned)["requirement", "x"].locks_out


def test_architectures_are_compared_and_each_slice_named() -> None:
    """A thin file after a universal one has lost its Intel users."""
    universal = in_memory({"x": signed(data=macho_samples.universal())})
    found = compare(universal, in_memory({"x": signed()}))
    assert found["architectures", "x"][3:5] == ("x86_64, arm64", "arm64")
    again = in_memory({"x": signed("io.other", macho_samples.universal())})
    assert {("identifier", "x (arm64)"), ("identifier", "x (x86_64)")} <= compare(
        universal, again
    ).keys()


def test_a_copy_is_compared_once() -> None:
    """The flat copy's code is the app's; its file is listed."""
    before = in_memory({"a/x": signed("io.one"), "bin/x": signed("io.one")})
    code = signed("io.two")
    before = in_memory(dict.fromkeys(("a/x", "bin/x"), before.files["a/x"]))
    found = compare(before, in_memory({"a/x": code, "bin/x": code}))
    assert ("identifier", "a/x") in found
    assert ("identifier", "bin/x") not in found
    assert ("file", "bin/x") in found


def test_plists_are_compared_by_key() -> None:
    """Binary and XML alike; added, removed and changed keys."""
    old = {"A": 1, "B": ["x", True], "C": {"d": b"\1"}}
    new = {"A": 2, "B": ["x", True], "E": False}
    before = in_memory({"Info.plist": plistlib.dumps(old, fmt=plistlib.FMT_BINARY)})
    found = compare(before, in_memory({"Info.plist": plistlib.dumps(new)}))
    told = {name: item[3:5] for (kind, name), item in found.items() if kind == "Info.plist"}
    assert told == {"A": ("1", "2"), "C": ("d: 01", ""), "E": ("", "false")}


def test_tickets_are_compared_by_what_they_say() -> None:
    """A ticket that was added, one of another time, one that cannot be read."""
    chain = (AUTHORITY.timestamp.der, AUTHORITY.timestamp_ca.der)
    entries = (ticket.TicketEntry(2, bytes(20)),)
    signature = bytes.fromhex("3006020101020101")
    one = ticket.Ticket(1, chain, NOW, 0, entries, signature, b"")
    other = one._replace(issued=NOW + timedelta(days=1), entries=entries * 2)
    trees = [in_memory({TICKET: ticket.encode(item)}) for item in (one, other)]
    found = compare(*trees)
    assert found["ticket", "issued"][3:5] == ("2026-11-24 12:00:00 UTC", "2026-11-25 12:00:00 UTC")
    assert found["ticket", "entries"][3:5] == ("1", "2")
    added = compare(in_memory({}), trees[0])["ticket", TICKET]
    assert added.after == "issued 2026-11-24 12:00:00 UTC, entries 1"
    assert compare(trees[0], in_memory({TICKET: b"x"}))["ticket", "ticket"].after.startswith(
        "unreadable"
    )


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (in_memory({"a": b"22"}), ("file", "a", "1 bytes", "2 bytes")),
        (in_memory({}), ("file", "a", "a file, 0644, 1 bytes", "")),
        (in_memory({}, links={"a": "b"}), ("file", "a", "a file, 0644, 1 bytes", "a link to b")),
        (in_memory({"a": b"1"}, modes={"a": 0o755}), ("mode", "a", "0644", "0755")),
    ],
)
def test_files_are_compared_by_kind_mode_and_content(
    after: MemoryTree, expected: tuple[str, str, str, str]
) -> None:
    """Each change of a file is told as what it is."""
    kind, path, was, now = expected
    found = compare(in_memory({"a": b"1"}), after)[kind, path]
    assert found.before.startswith(was)
    assert found.after.startswith(now)


def test_links_are_compared_by_what_they_say() -> None:
    """A link that leads elsewhere."""
    one, other = (in_memory({}, links={"link": to}) for to in ("a", "b"))
    assert compare(one, other)["link", "link"][3:5] == ("a", "b")
