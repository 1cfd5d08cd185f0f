"""Every rule of every gate, with something that keeps it and something that breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from release_tool.apple import certificates, metal_library, policy, verification
from release_tool.apple.checks import Check
from release_tool.apple.policy import (
    distribution,
    expiry,
    inventory,
    library_validation,
    linter,
    notary,
    rules,
)
from release_tool.apple.policy.expiry import Row
from release_tool.apple.tree import in_memory
from tests import linked_macho, macho_samples, policy_apps, signed_release
from tests.conftest import ROOT
from tests.signed_release import CLAIMS, MAIN, TEAM

DYLIB = "Contents/Frameworks/libpart.dylib"
METALLIB = "Contents/MacOS/mlx.metallib"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Case(NamedTuple):
    """What keeps a rule, and what breaks it."""

    kept: Callable[[], list[Check]]
    broken: Callable[[], list[Check]]


def launch(claims: Mapping[str, object], **options: object) -> list[Check]:
    return policy.launch(policy_apps.claiming(claims), policy_apps.grants(**options))  # type: ignore[arg-type]


def linked(main: bytes, files: Mapping[str, bytes] | None = None) -> list[Check]:
    return library_validation.judge(policy_apps.app({MAIN: main, **(files or {})}))


def with_library(team: str | None, *, exempt: bool = False, own: str | None = TEAM) -> list[Check]:
    """The signed app, its main executable linked against a library of a team."""
    library = "@executable_path/../Frameworks/libpart.dylib"
    taken = policy_apps.app({MAIN: linked_macho.build(libraries=[library]), DYLIB: dylib()})
    code = {
        path: file._replace(
            parts=tuple(
                part._replace(flags=0x10000, team_id=own if path == MAIN else team)
                for part in file.parts
            )
        )
        for path, file in taken.code.items()
    }
    facts = policy_apps.claiming({library_validation.DISABLED: True} if exempt else {})
    return library_validation.judge(replace(taken, code=code), facts=facts)


def dylib(**options: object) -> bytes:
    return linked_macho.build(executable=False, **options)  # type: ignore[arg-type]


def lint(body: str, **options: bool) -> list[Check]:
    return list(linter.lint(plist(body), name="role.plist", **options).checks)


def plist(body: str) -> bytes:
    return f'<?xml version="1.0"?><plist version="1.0"><dict>{body}</dict></plist>'.encode()


def of_code(data: bytes) -> list[Check]:
    """The notary's word on one Mach-O, trusted as the look-alike is."""
    judge = signed_release.made().judge(strict=False)
    report = verification.verify(data, judge=judge, path="tool")
    return list(notary.judge_code(inventory.read_code("tool", data), report, subject="tool"))


def of_app(changed: Mapping[str, bytes] | None = None) -> list[Check]:
    judge = signed_release.made().judge()
    return notary.judge(policy_apps.signed_tree(changed), judge=judge, path="Darkbloom.app")


def of_facts(**changes: object) -> list[Check]:
    """The notary's word on the signed executable, some facts changed."""
    content = signed_release.made().files[f"{signed_release.APP}/{MAIN}"]
    report = policy_apps.with_code({MAIN: replace(policy_apps.main(), **changes)}).code[MAIN]  # type: ignore[arg-type]
    return list(notary.judge_code(inventory.read_code(MAIN, content), report, subject=MAIN))


def names(*paths: str) -> list[Check]:
    return list(distribution.names(policy_apps.entries(*paths)))


def targets(files: Mapping[str, bytes], minimum: str = "14.0") -> list[Check]:
    return list(distribution.targets(policy_apps.app(files), minimum_macos=minimum))


def places(files: Mapping[str, bytes]) -> list[Check]:
    return list(distribution.code_places(policy_apps.app(files), allowed={METALLIB}))


def modes(mode: int) -> list[Check]:
    taken = policy_apps.app(modes={MAIN: mode})
    return list(distribution.modes(tuple(taken.entries.values()), taken.programs))


def links(target: str) -> list[Check]:
    taken = policy_apps.app(links={"Contents/MacOS/link": target})
    return list(distribution.links(tuple(taken.entries.values())))


def ends(what: str, days: int) -> list[Check]:
    row = Row(what, "a name", NOW + timedelta(days=days), days, "renew it")
    return expiry.judge([row], within=30)


def metal(minimum: str) -> bytes:
    return metal_library.header(size=metal_library.HEADER_SIZE, minimum=minimum)


RESTRICTED = {"com.apple.developer.networking.vpn.api": ["allow-vpn"]}
ALLOW_JIT = "<key>com.apple.security.cs.allow-jit</key><true/>"
LONG_KEY = f"<key>{linter.LONG_KEYCHAIN_KEY}</key><array/>"

CASES: Mapping[str, Case] = {
    "amfi.profile": Case(
        kept=lambda: launch(CLAIMS),
        broken=lambda: policy.launch(policy_apps.claiming(CLAIMS), None),
    ),
    "amfi.granted": Case(
        kept=lambda: launch(CLAIMS), broken=lambda: launch({**CLAIMS, **RESTRICTED})
    ),
    "amfi.certificate": Case(
        kept=lambda: launch(CLAIMS), broken=lambda: launch(CLAIMS, certificates=["0" * 64])
    ),
    "amfi.team": Case(
        kept=lambda: launch(CLAIMS), broken=lambda: launch(CLAIMS, team="OTHERTEAM1")
    ),
    "amfi.identity": Case(
        kept=lambda: launch(CLAIMS),
        broken=lambda: launch({"keychain-access-groups": [f"{TEAM}.any"]}),
    ),
    "amfi.bare": Case(
        kept=lambda: policy.launch(
            policy_apps.with_code(policy_apps.helper("Contents/Helpers/tool")), None
        ),
        broken=lambda: policy.launch(
            policy_apps.with_code(policy_apps.helper("Contents/Helpers/tool", CLAIMS)),
            policy_apps.grants(),
        ),
    ),
    "amfi.get-task-allow": Case(
        kept=lambda: launch({"com.apple.security.get-task-allow": False}),
        broken=lambda: launch({"get-task-allow": True}),
    ),
    "amfi.keychain-group": Case(
        kept=lambda: launch(CLAIMS),
        broken=lambda: launch(
            {**CLAIMS, "keychain-access-groups": ["OTHERTEAM1.group"]},
            granted={"keychain-access-groups": ["OTHERTEAM1.group"]},
        ),
    ),
    "lv.location": Case(
        kept=lambda: linked(
            linked_macho.build(
                libraries=["@rpath/libpart.dylib", "/usr/lib/libSystem.B.dylib"],
                search_paths=["@executable_path/../Frameworks"],
            ),
            {DYLIB: dylib()},
        ),
        broken=lambda: linked(linked_macho.build(libraries=["/opt/homebrew/lib/libpart.dylib"])),
    ),
    "lv.team": Case(kept=lambda: with_library(TEAM), broken=lambda: with_library("OTHERTEAM1")),
    "lv.search-path": Case(
        kept=lambda: linked(linked_macho.build(search_paths=["@loader_path", "/usr/lib/swift"])),
        broken=lambda: linked(linked_macho.build(search_paths=["/Users/ci/build/lib"])),
    ),
    "file.readable": Case(
        kept=lambda: lint(""),
        broken=lambda: lint("<key>a</key><true/><key>a</key><false/>"),
    ),
    "file.placeholder": Case(
        kept=lambda: lint("<key>a</key><string>TEAM.b</string>"),
        broken=lambda: lint("<key>a</key><string>$(AppIdentifierPrefix)b</string>"),
    ),
    "file.keychain-key": Case(
        kept=lambda: lint("<key>keychain-access-groups</key><array/>"),
        broken=lambda: lint(LONG_KEY),
    ),
    "file.type": Case(
        kept=lambda: lint(ALLOW_JIT),
        broken=lambda: lint("<key>com.apple.security.network.client</key><string>true</string>"),
    ),
    "file.jit": Case(kept=lambda: lint(ALLOW_JIT, jit=True), broken=lambda: lint("", jit=True)),
    "notary.valid": Case(
        kept=of_app, broken=lambda: of_app({"Contents/Resources/added": b"not sealed"})
    ),
    "notary.signed": Case(
        kept=of_app,
        broken=lambda: of_app({"Contents/Resources/tool": macho_samples.unsigned()}),
    ),
    "notary.developer-id": Case(kept=of_app, broken=lambda: of_code(macho_samples.thin())),
    "notary.timestamp": Case(kept=of_app, broken=lambda: of_facts(signed_at=None)),
    "notary.runtime": Case(kept=of_app, broken=lambda: of_code(macho_samples.thin())),
    "notary.sdk": Case(kept=of_app, broken=lambda: of_code(linked_macho.build(sdk="10.8"))),
    "notary.get-task-allow": Case(
        kept=of_app,
        broken=lambda: of_facts(entitlements={"com.apple.security.get-task-allow": True}),
    ),
    "files.apple-double": Case(kept=lambda: names("a/b"), broken=lambda: names("a/._b")),
    "files.name-form": Case(kept=lambda: names("a/\u00e9"), broken=lambda: names("a/e\u0301")),
    "files.collision": Case(
        kept=lambda: names("a/b", "a/c"), broken=lambda: names("a/Stra\u00dfe", "A/strasse")
    ),
    "files.link": Case(kept=lambda: links("darkbloom"), broken=lambda: links("../../../outside")),
    "files.mode": Case(kept=lambda: modes(0o755), broken=lambda: modes(0o4755)),
    "files.attributes": Case(
        kept=lambda: [distribution.attributes({})],
        broken=lambda: [distribution.attributes({MAIN: ["com.apple.FinderInfo"]})],
    ),
    "files.minimum": Case(
        kept=lambda: targets({}), broken=lambda: targets({DYLIB: dylib(minos="26.2")})
    ),
    "files.metal-target": Case(
        kept=lambda: targets({METALLIB: metal("14.0")}),
        broken=lambda: targets({METALLIB: metal("26.2")}),
    ),
    "files.code-place": Case(
        kept=lambda: places({METALLIB: metal("14.0"), "Contents/Resources/run.sh": b"#!/bin/sh"}),
        broken=lambda: places({"Contents/MacOS/run.sh": b"#!/bin/sh"}),
    ),
    "expiry.signer": Case(
        kept=lambda: ends("signing certificate", 31), broken=lambda: ends("intermediate", 29)
    ),
    "expiry.profile": Case(kept=lambda: ends("profile", 31), broken=lambda: ends("profile", -1)),
    "expiry.timestamp": Case(
        kept=lambda: ends("timestamp CA", 131), broken=lambda: ends("timestamp CA", 29)
    ),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.id)
def test_a_rule_tells_good_from_bad(rule: rules.Rule) -> None:
    """What keeps a rule passes its checks, what breaks it fails one and says what to do."""
    case = CASES[rule.id]
    kept = [check for check in case.kept() if check.name in rule.checks]
    assert {check.outcome for check in kept} == {"passed"}
    broken = [check for check in case.broken() if check.name in rule.checks]
    failed = [check for check in broken if check.outcome == "failed"]
    assert failed
    assert all(check.expected and check.observed for check in failed)


def test_every_check_of_a_gate_belongs_to_a_rule() -> None:
    """The names in the code of the gates are those of the table, and each rule is used."""
    folder = ROOT / "release_tool" / "apple" / "policy"
    apart = {"rules.py", "read_back.py", "embedded.py", "__init__.py"}
    text = "".join(path.read_text() for path in folder.glob("*.py") if path.name not in apart)
    text += (folder.parent / "entitlements.py").read_text()
    called = set(
        re.findall(r'checks\.(?:passed|failed|compare|not_checked|unprotected)\(\s*"([^"]+)"', text)
    )
    called |= set(re.findall(r'name = "([^"]+)"', text)) | set(
        re.findall(r'name, \w+ = "([^"]+)"', text)
    )
    called |= {name for name in rules.BY_CHECK if name.startswith("expiry of")}
    assert called == set(rules.BY_CHECK)


def test_the_table_is_well_formed() -> None:
    """Identifiers and check names are unique; every rule has its source and its proof."""
    assert len(rules.BY_ID) == len(rules.RULES)
    assert sum(len(rule.checks) for rule in rules.RULES) == len(rules.BY_CHECK)
    assert all(rule.says.endswith((".", ").")) for rule in rules.RULES)
    assert all(rule.source and rule.proof for rule in rules.RULES)
    assert set(CASES) == set(rules.BY_ID)


def test_an_exempted_process_loads_any_team() -> None:
    """`disable-library-validation` of the process lifts the rule of one team, and only that."""
    assert not [
        check for check in with_library("OTHERTEAM1", exempt=True) if check.outcome == "failed"
    ]


def test_code_without_a_team_is_of_no_team() -> None:
    """Under the hardened runtime ad-hoc code loads no ad-hoc library, unless it is exempt."""
    (told,) = [check for check in with_library(None, own=None) if check.outcome == "failed"]
    assert (told.name, told.subject) == ("team of the linked library", MAIN)
    assert "a team that both have" in told.expected
    assert "failed" not in [check.outcome for check in with_library(None, own=None, exempt=True)]


def test_unreadable_code_is_named_by_the_notary() -> None:
    """A file that begins like code and is none is a reason, not an error."""
    tree = in_memory({MAIN: macho_samples.thin()[:100]})
    found = notary.judge(tree, judge=signed_release.made().judge())
    assert "signed for the notary" in {check.name for check in found if check.outcome == "failed"}


@pytest.mark.parametrize("content", [b"PK\x03\x04...", b"xar!....", b"koly"])
def test_archives_inside_are_told_as_not_looked_at(content: bytes) -> None:
    """The notary opens a zip, a flat package or a disk image in Resources; nobody here does."""
    tree = policy_apps.tree({"Contents/Resources/tools.dmg": content})
    found = notary.judge(tree, judge=signed_release.made().judge(), path="App.app")
    (told,) = [check for check in found if check.subject == "App.app/Contents/Resources/tools.dmg"]
    assert (told.name, told.outcome) == ("signed for the notary", "not_checked")
    assert "opens it" in told.hint


def test_every_reason_comes_at_once() -> None:
    """Linker-signed code fails for its certificate, its timestamp and its runtime together."""
    failed = {check.name for check in of_code(macho_samples.thin()) if check.outcome == "failed"}
    assert failed == {"Developer ID", "secure timestamp", "hardened runtime"}


def test_apple_s_own_certificates_are_forecast() -> None:
    """The first Developer ID authority ends 2027-02-01, the timestamp authority 2027-04-05."""
    first = next(
        one
        for one in certificates.intermediates()
        if certificates.has_marker(one, certificates.DEVELOPER_ID_CA) and one.not_after.year == 2027
    )
    rows = expiry.forecast(
        now=NOW,
        leaf=first,
        chain=[first],
        timestamp_authorities=expiry.apple_timestamp_authorities(),
    )
    told = {(row.what, f"{row.ends:%Y-%m-%d}", row.days_left) for row in rows}
    assert ("intermediate", "2027-02-01", 67) in told
    assert ("timestamp CA", "2027-04-05", 130) in told
    assert "G2" in next(row.todo for row in rows if row.what == "intermediate")
