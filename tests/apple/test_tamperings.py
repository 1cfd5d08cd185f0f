"""Authentic items hold, and each named tampering of them is caught by the check that should."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from release_tool import errors
from release_tool.apple import (
    certificates,
    checks,
    macho,
    provisioning_profile,
    requirement,
    signing,
    stapled,
    superblob,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.signing import Authority as SigningAuthority
from release_tool.rehearsal import certificate_parts
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.ticket_signer import TicketSigner
from tests import macho_samples, nested_app, real_code, signed_release
from tests.tamperings import app as app_table
from tests.tamperings import code as code_table
from tests.tamperings import framework as framework_table
from tests.tamperings import insider as insider_table
from tests.tamperings import profile as profile_table
from tests.tamperings import signature as signature_table
from tests.tamperings import ticket as ticket_table
from tests.tamperings.app import App
from tests.tamperings.code import Code, CodeTampering

REAL_TICKETS = ("PermanentAgentRecord-2026.ticket", "opera-beta-installer-2019.ticket")
REAL_PROFILES = (
    "developer-id-2019-endpoint-security.provisionprofile",
    "developer-id-2020-icloud.provisionprofile",
    "developer-id-2026.provisionprofile",
    "ios-app-store-2019-expired.mobileprovision",
    "mac-app-store-2017-expired.provisionprofile",
    "mac-app-store-2023-expired.provisionprofile",
    "mac-app-store-2026.provisionprofile",
)
WANTED = 200
"""Named tamperings of real items, at least."""

CODE = (*code_table.table(), *signature_table.table())
DUAL = tuple(code_table.dual_table())
APPS = tuple(app_table.table())
FRAMEWORKS = tuple(framework_table.table())
INSIDERS = tuple(insider_table.table())


def _refused_by(found: list[Check] | tuple[Check, ...]) -> set[str]:
    return {check.name for check in found if check.outcome == "failed"}


# Real items that are at hand offline


def profile_refused_by(content: bytes) -> set[str]:
    """The checks that fail; `format` where it is no profile."""
    try:
        profile = provisioning_profile.read(content, trust=certificates.apple_trust())
    except errors.FormatError:
        return {"format"}
    return _refused_by(profile.authenticity)


@pytest.mark.parametrize("name", REAL_PROFILES)
def test_real_profiles_hold_and_no_tampering_of_them_does(real_data: Path, name: str) -> None:
    """Authentic as they stand; each named change is caught by the named check."""
    content = (real_data / "profiles" / name).read_bytes()
    assert profile_refused_by(content) == set()
    for case in profile_table.table():
        changed = case.change(content)
        assert changed != content, case.name
        assert case.caught_by in profile_refused_by(changed), case.name


@pytest.mark.parametrize("name", REAL_TICKETS)
def test_real_tickets_hold_and_no_tampering_of_them_does(real_data: Path, name: str) -> None:
    """Apple's as they stand; each named change is caught."""
    content = (real_data / "tickets" / name).read_bytes()
    trust = certificates.apple_trust()
    assert checks.all_hold(stapled.read(content, trust=trust, subject="")[1])
    for case in ticket_table.table():
        changed = case.change(content)
        assert changed != content, case.name
        found = stapled.read(changed, trust=trust, subject="")[1]
        assert case.caught_by in _refused_by(found), case.name


def test_the_tables_name_enough_tamperings() -> None:
    """At least 200 different changes of real items, no name twice."""
    names = [f"code: {case.name}" for case in (*CODE, *DUAL)]
    names += [f"app: {case.name}" for case in (*APPS, *FRAMEWORKS, *INSIDERS)]
    names += [f"profile: {case.name}" for case in profile_table.table()]
    assert len(set(names)) == len(names)
    assert len(names) >= WANTED


def test_the_documentation_names_every_check_and_count() -> None:
    """What catches a tampering is explained, and the counts are those of the tables."""
    text = (Path(__file__).parents[2] / "docs" / "verify.md").read_text()
    profiles = tuple(profile_table.table())
    caught_by = {
        *(case.caught_by for case in (*CODE, *DUAL)),
        *(case.caught_by for case in (*APPS, *FRAMEWORKS, *INSIDERS)),
        *(case.caught_by for case in profiles),
    }
    numbered = {f"special slot {slot}" for slot in range(8, 12)}
    assert {name for name in caught_by - numbered if f"`{name}`" not in text} == set()
    tickets = len(tuple(ticket_table.table()))
    assert f"{len(CODE)} changes of a Mach-O and its CMS" in text
    assert f"{len(DUAL)} more of one with two code directories" in text
    assert f"{len(APPS)} of an\napp ({tickets} of them of its ticket)" in text
    assert f"{len(profiles)} of a profile" in text
    assert f"{len(FRAMEWORKS)} of a\nframework" in text
    assert f"{len(INSIDERS)} that the developer's own key signed" in text


# Our look-alike app


@lru_cache(maxsize=1)
def impostor() -> SigningAuthority:
    """Another authority with certificates of the same names and markers."""
    return signed_release.signing_authority(signed_release.impostor())


@lru_cache(maxsize=1)
def look_alike() -> App:
    """Our nested app; somebody else's code is the impostor's."""
    stranger = TicketSigner(signed_release.look_alike())
    return App(
        tree=nested_app.made(),
        trust=signed_release.trust(),
        main=nested_app.MAIN,
        tool=nested_app.TOOL,
        inner=nested_app.INNER,
        inner_main=nested_app.INNER_MAIN,
        resource=nested_app.RESOURCE,
        second=nested_app.SECOND,
        other=nested_app.signed_by(impostor(), "com.example.stranger"),
        other_ticket=stranger.issue([hashlib.sha256(b"other").digest()[:20]], datetime.now(UTC)),
        impostor=impostor(),
        owner=signed_release.signing_authority(),
    )


def test_our_app_holds() -> None:
    """App, nested app, tool, both framework versions, links, seals and the ticket hold."""
    report = look_alike().judge(look_alike().tree)
    assert _refused_by(report.checks) == set()
    assert report.facts is not None
    assert sorted(report.facts.code) == [
        "Contents/Frameworks/Kit.framework/Versions/A/Kit",
        "Contents/Frameworks/Kit.framework/Versions/B/Kit",
        nested_app.INNER_MAIN,
        nested_app.TOOL,
        nested_app.MAIN,
    ]
    listed = [check.observed for check in report.checks if check.name == "ticket cdhashes"]
    assert listed == ["8 of 8 slices of the app's code are listed"]


@pytest.mark.parametrize("case", APPS, ids=lambda case: case.name)
def test_no_tampering_of_our_app_holds(case: app_table.AppTampering) -> None:
    """Each named change is caught by the named check."""
    app = look_alike()
    refused = _refused_by(app.judge(case.change(app)).checks)
    assert case.caught_by in refused


@lru_cache(maxsize=1)
def with_a_neighbour() -> App:
    """Our app where another developer is as trusted as we are; somebody else's code is theirs."""
    neighbour = Authority.create("NEIGHBOUR1")
    roots = (*signed_release.trust().roots, *signed_release.trust_of(neighbour).roots)
    return replace(
        look_alike(),
        trust=certificates.Trust(name="both", roots=roots),
        impostor=signed_release.signing_authority(neighbour),
    )


@pytest.mark.parametrize("case", [*FRAMEWORKS, *INSIDERS], ids=lambda case: case.name)
def test_no_signed_lie_of_our_app_holds(case: app_table.AppTampering) -> None:
    """Versions of a framework that hold by themselves, and what our own key signed wrongly."""
    app = with_a_neighbour()
    assert case.caught_by in _refused_by(app.judge(case.change(app)).checks)


@pytest.mark.parametrize("text", ["always", 'identifier "com.example.app"', "always or never"])
def test_a_requirement_that_binds_nobody_is_told(text: str) -> None:
    """In others' code it is unprotected, in ours refused: anyone's code would take its place."""
    given = signing.Given(requirements=requirement.encode_set({3: requirement.parse_text(text)}))
    intent = signing.Intent(identifier="com.example.app", given=given)
    data = signing.sign(macho_samples.thin(), intent, signed_release.signing_authority()).data
    for strict, outcome in ((False, "unprotected"), (True, "failed")):
        found = verification.verify(data, judge=signed_release.made().judge(strict=strict)).checks
        assert [c.outcome for c in found if c.name == "designated requirement"] == [outcome]


def test_bytes_behind_a_lone_slice_are_refused() -> None:
    """As strict validation refuses them: a payload behind the code that no hash covers."""
    data = bytes(macho.parse(nested_app.made().read(nested_app.TOOL))[-1].data)
    judge = signed_release.made().judge(strict=False)
    assert _refused_by(verification.verify(data, judge=judge).checks) == set()
    found = verification.verify(data + b"#!/bin/sh\n", judge=judge).checks
    assert _refused_by(found) == {"bytes behind the signature"}


@pytest.mark.parametrize("case", CODE, ids=lambda case: case.name)
def test_no_tampering_of_our_main_executable_holds(case: CodeTampering) -> None:
    """Each named change of a slice is caught by the named check, within the whole app."""
    app = look_alike()
    changed = case.change(app.code(app.main))
    refused = _refused_by(app.judge(app.put({app.main: changed})).checks)
    assert case.caught_by in refused


@pytest.mark.parametrize("case", CODE, ids=lambda case: case.name)
def test_no_tampering_of_our_tool_holds(case: CodeTampering) -> None:
    """The same of a lone file's other slice."""
    app = look_alike()
    judge = signed_release.made().judge(strict=False)
    changed = case.change(app.code(app.tool, "x86_64"))
    refused = _refused_by(verification.verify(changed, judge=judge).checks)
    assert case.caught_by in refused


# Downloaded real items


@pytest.fixture(scope="module")
def real_app(real_data: Path) -> App:
    """The complete, notarized and stapled app of a real developer."""
    return App(
        tree=real_code.app(),
        trust=certificates.apple_trust(),
        main=real_code.MAIN,
        tool=real_code.TOOL,
        inner=real_code.INNER,
        inner_main=real_code.INNER_MAIN,
        resource="Contents/Resources/AppIcon.icns",
        second=real_code.LAUNCH_AGENT,
        other=real_code.ruff(),
        other_ticket=(real_data / "tickets" / REAL_TICKETS[1]).read_bytes(),
        impostor=impostor(),
    )


@pytest.mark.online
def test_the_real_app_holds(real_app: App) -> None:
    """Authentic as it stands, ticket included, and what nothing protects is listed."""
    report = real_app.judge(real_app.tree)
    assert _refused_by(report.checks) == set()
    listed = [check.observed for check in report.checks if check.name == "ticket cdhashes"]
    assert listed == ["6 of 6 slices of the app's code are listed"]
    unprotected = {check.name for check in report.checks if check.outcome == "unprotected"}
    assert unprotected == {"padding", "gaps", "outside the seal"}


@pytest.mark.online
@pytest.mark.parametrize("case", APPS, ids=lambda case: case.name)
def test_no_tampering_of_the_real_app_holds(real_app: App, case: app_table.AppTampering) -> None:
    """Each named change is caught by the named check."""
    refused = _refused_by(real_app.judge(case.change(real_app)).checks)
    assert case.caught_by in refused


@pytest.mark.online
@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
@pytest.mark.parametrize("part", ["main", "tool", "inner_main"])
@pytest.mark.parametrize("case", CODE, ids=lambda case: case.name)
def test_no_tampering_of_real_code_holds(
    real_app: App, case: CodeTampering, part: str, arch: str
) -> None:
    """Each named change of either slice of each executable is caught, within the whole app."""
    path = str(getattr(real_app, part))
    changed = case.change(real_app.code(path, arch))
    found = _refused_by(real_app.judge(real_app.put({path: changed})).checks)
    emptied = not changed and part == "tool"
    assert ("nested code" if emptied else case.caught_by) in found


@pytest.mark.online
@pytest.mark.parametrize("case", CODE, ids=lambda case: case.name)
@pytest.mark.parametrize(("item", "arch"), [("ruff", "arm64"), ("sentry", "x86_64")])
def test_no_tampering_of_other_signers_code_holds(
    case: CodeTampering, item: str, arch: str
) -> None:
    """Two more signers' dialects: a thin tool, and one with another identifier in each slice."""
    data = real_code.ruff() if item == "ruff" else real_code.sentry()
    code = Code(data, arch, real_code.app().read(real_code.TOOL))
    if case.universal_only and not code.is_universal:
        return
    judge = verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=False
    )
    refused = _refused_by(verification.verify(case.change(code), judge=judge).checks)
    assert case.caught_by in refused


@pytest.mark.online
@pytest.mark.parametrize("case", DUAL, ids=lambda case: case.name)
def test_no_tampering_of_a_second_directory_holds(case: CodeTampering) -> None:
    """Real code with directories of SHA-1 and SHA-256: each is bound by the signature."""
    data = real_code.node_of_2021()
    code = Code(data, macho.parse(data)[0].arch, b"")
    judge = verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=False
    )
    refused = _refused_by(verification.verify(case.change(code), judge=judge).checks)
    assert case.caught_by in refused


@pytest.mark.online
@pytest.mark.parametrize(
    ("make", "signer"),
    [
        (real_code.node_of_2021, "Developer ID Application"),
        (real_code.node_of_2024, "Developer ID Application"),
        (real_code.signed_in_a_sixtieth_second, "Developer ID Application"),
        (real_code.ruff, "Developer ID Application"),
        (real_code.sentry, "Developer ID Application"),
        (real_code.node, "ad-hoc by a linker"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_authentic_real_code_holds(make: Callable[[], bytes], signer: str) -> None:
    """Dialects, digests and oddities of five years hold, the expired by their timestamps."""
    judge = verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=False
    )
    report = verification.verify(make(), judge=judge)
    assert _refused_by(report.checks) == set()
    assert {item.signer_kind for item in report.slices} == {signer}


@pytest.mark.online
def test_every_byte_of_a_real_signature_is_covered_or_listed() -> None:
    """Bytes throughout: a change of each fails a check, or is told as unprotected."""
    data = bytes(macho.parse(real_code.app().read(real_code.TOOL))[-1].data)
    judge = verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=False
    )

    def told(content: bytes) -> tuple[bool, list[Check]]:
        found = verification.verify(content, judge=judge).checks
        return checks.all_hold(found), [c for c in found if c.outcome == "unprotected"]

    as_it_stands = told(data)
    code = Code(data, "arm64", b"")
    start, _ = code.room
    for position in range(start, start + code.blob.length, 13):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        assert told(changed) != as_it_stands, position - start


# What no check can catch is listed, not caught


def _padded(code: Code) -> bytes:
    offset, size = code.room
    return code.data[: offset + size - 1] + b"\x01" + code.data[offset + size :]


def _unknown_blob(code: Code) -> bytes:
    return code.with_blob(0x20000, superblob.wrap(superblob.MAGIC_WRAPPER, b"x"))


def _unstamped(code: Code) -> bytes:
    content = signature_table.content_of(code)
    return signature_table.with_content(code, signature_table.without_token(content))


def _surplus(code: Code) -> bytes:
    extra = signed_release.look_alike().certificate(certificate_parts.ROOT_G3)
    content = signature_table.content_of(code)
    raw = extra.public_bytes(Encoding.DER)
    return signature_table.with_content(
        code, signature_table.rebuilt(content, holders=lambda found: [*found, raw])
    )


def _versions(code: Code) -> bytes:
    content = signature_table.content_of(code)
    return signature_table.with_content(
        code, signature_table.rebuilt(content, fields=lambda f: [b"\x02\x01\x02", *f[1:]])
    )


OPEN: tuple[tuple[str, Callable[[Code], bytes]], ...] = (
    ("padding", _padded),
    ("unknown blobs", _unknown_blob),
    ("timestamp", _unstamped),
    ("surplus certificates", _surplus),
    ("CMS versions", _versions),
)


@pytest.mark.parametrize(("name", "change"), OPEN, ids=lambda item: str(item)[:20])
def test_what_nothing_protects_is_listed(name: str, change: Callable[[Code], bytes]) -> None:
    """Changes that no signature can tell are named as unprotected; they count as none caught."""
    app = look_alike()
    changed = change(app.code(app.main))
    assert changed != app.read(app.main)
    report = app.judge(app.put({app.main: changed}))
    assert _refused_by(report.checks) == set()
    assert name in {check.name for check in report.checks if check.outcome == "unprotected"}


def test_files_that_no_rule_seals_are_listed() -> None:
    """`PkgInfo`, Finder's state and locale versions are outside every seal."""
    app = look_alike()
    for path in (
        "Contents/PkgInfo",
        "Contents/Resources/.DS_Store",
        "Contents/Resources/en.lproj/locversion.plist",
    ):
        report = app.judge(app.put({path: b"x"}))
        assert _refused_by(report.checks) == set()
        assert ("outside the seal", f"The.app/{path}", "unprotected") in {
            (check.name, check.subject, check.outcome) for check in report.checks
        }
