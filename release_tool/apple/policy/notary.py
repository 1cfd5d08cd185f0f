"""What Apple's notary would say of an app, every reason at once, before anything is uploaded.

`rules` names each rule with its source. The notary looks at every Mach-O, wherever it lies and
whatever seals it: also at those that a seal lists as data. It opens archives inside an app, too,
which is left open here. It scans for malware as well, which
nobody can foretell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from release_tool.apple import (
    bundle,
    certificates,
    checks,
    entitlements,
    macho,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts, CodeReport
from release_tool.apple.policy import inventory as inventories
from release_tool.apple.policy.inventory import CodeFile, Inventory
from release_tool.apple.tree import BundleTree
from release_tool.apple.verification import Judge

OLDEST_SDK = "10.9"
_LISTED = 5
_OPENED = "the notary opens it: all code inside must be signed, too, which is not looked at here"


def judge(
    tree: BundleTree,
    *,
    judge: Judge,
    path: str = "",
    facts: BundleFacts | None = None,
    inventory: Inventory | None = None,
) -> list[Check]:
    """Judge an app as the notary does.

    Args:
        tree: the app's root.
        judge: whom signatures must lead to, and when.
        path: how checks name the app.
        facts: the app as `bundle.verify` read it; None to have it read here, when what fails
            there is a reason, too.
        inventory: what lies in it; None to have it taken here.
    """
    found: list[Check] = []
    if facts is None:
        report = bundle.verify(tree, judge=judge, path=path)
        facts = report.facts
        found.append(_valid(report.checks, path))
    taken = inventory or inventories.take(tree)
    reports = dict(facts.code) if facts is not None else {}
    for own, file in taken.code.items():
        subject = "/".join(piece for piece in (path, own) if piece)
        report_of = reports.get(own)
        if report_of is None:
            report_of = verification.verify(tree.view(own), judge=judge, path=subject)
            found.append(_valid(report_of.checks, subject))
        found += judge_code(file, report_of, subject=subject)
    found += (
        checks.not_checked(
            "signed for the notary", _OPENED, subject="/".join(one for one in (path, own) if one)
        )
        for own in taken.containers
    )
    if not taken.code:
        found.append(
            checks.failed("signed for the notary", subject=path, expected="code", observed="none")
        )
    return found


def judge_code(file: CodeFile, report: CodeReport, *, subject: str) -> Iterator[Check]:
    """Judge one Mach-O as the notary does.

    Args:
        file: what it is.
        report: its signature as it was judged.
        subject: how checks name it.
    """
    if file.problem:
        yield checks.failed(
            "signed for the notary", subject=subject, expected="readable", observed=file.problem
        )
        return
    by_arch: Mapping[str, CodeFacts] = {item.arch: item for item in report.slices}
    for part in file.parts:
        where = f"{subject} ({part.arch})" if len(file.parts) > 1 else subject
        yield _sdk(part.sdk, where)
        facts = by_arch.get(part.arch)
        if facts is None:
            yield _unsigned(where)
            continue
        yield checks.passed("signed for the notary", facts.identifier, subject=where)
        yield from _judge_signature(facts, where)
        if part.is_executable:
            yield _hardened(facts, where)


def _valid(outcomes: tuple[Check, ...], subject: str) -> Check:
    """The notary takes nothing that strict validation refuses."""
    failed = [check for check in outcomes if check.outcome == "failed"]
    if not failed:
        return checks.passed("valid signature", "as codesign --strict asks", subject=subject)
    told = [f"{check.name} {check.subject}".strip() for check in failed]
    more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    return checks.failed(
        "valid signature",
        subject=subject,
        expected="what codesign --verify --deep --strict takes",
        observed=", ".join(told[:_LISTED]) + more,
        hint="sign again, and change nothing afterwards",
    )


def _unsigned(subject: str) -> Check:
    return checks.failed(
        "signed for the notary",
        subject=subject,
        expected="a signature",
        observed="none",
        hint="every Mach-O must be signed, also one in Resources that a seal lists as data",
    )


def _judge_signature(facts: CodeFacts, subject: str) -> Iterator[Check]:
    yield _developer_id(facts, subject)
    if facts.signed_at is None:
        yield checks.failed(
            "secure timestamp",
            subject=subject,
            expected="a token of a timestamp authority",
            observed="none that holds",
            hint="sign with --timestamp",
        )
    else:
        moment = f"{facts.signed_at:%Y-%m-%d %H:%M:%S} UTC"
        yield checks.passed("secure timestamp", moment, subject=subject)
    allows = entitlements.allows_debugging(facts.entitlements or {})
    yield checks.compare(
        "debugging for the notary",
        expected="get-task-allow absent or false",
        observed="get-task-allow" if allows else "get-task-allow absent or false",
        subject=subject,
        hint="sign with the entitlements of a release, not of a debug build",
    )


def _developer_id(facts: CodeFacts, subject: str) -> Check:
    name, wanted = "Developer ID", "a Developer ID Application certificate"
    if facts.is_adhoc or not facts.certificates:
        return checks.failed(
            name,
            subject=subject,
            expected=wanted,
            observed="an ad-hoc signature" if facts.is_adhoc else "no certificate",
            hint="sign with the team's Developer ID Application certificate",
        )
    leaf = facts.certificates[0]
    marked = certificates.has_marker(leaf, certificates.DEVELOPER_ID_APPLICATION)
    if marked and facts.trusted:
        return checks.passed(name, facts.certificate_name, subject=subject)
    lack = "" if marked else ", without the Developer ID marker"
    lack += "" if facts.trusted else ", whose chain does not hold"
    return checks.failed(
        name, subject=subject, expected=wanted, observed=f"{facts.certificate_name}{lack}"
    )


def _hardened(facts: CodeFacts, subject: str) -> Check:
    return checks.compare(
        "hardened runtime",
        expected="on",
        observed="on" if facts.is_hardened else "off",
        subject=subject,
        hint="sign with --options runtime",
    )


def _sdk(sdk: str | None, subject: str) -> Check:
    if sdk is not None and macho.packed_version(sdk) >= macho.packed_version(OLDEST_SDK):
        return checks.passed("SDK", sdk, subject=subject, expected=f"{OLDEST_SDK} or later")
    return checks.failed(
        "SDK",
        subject=subject,
        expected=f"{OLDEST_SDK} or later",
        observed=sdk or "none stated",
        hint="link it again with a current SDK: no tool may add the version afterwards",
    )
