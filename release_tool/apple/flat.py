"""Judge executables that lie in a folder of their own, each by its own signature.

No seal holds such a folder together: what else lies in it is signed by nobody. A flat copy of an
app's main executable hashes the app's seal, so it is refused here: its app was taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from release_tool.apple import checks, file_attributes, superblob, verification
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, BundleReport, CodeReport
from release_tool.apple.policy import inventory as inventories
from release_tool.apple.policy import verdict
from release_tool.apple.policy.inventory import Inventory
from release_tool.apple.tree import BundleTree, Remembered
from release_tool.apple.verification import Judge


def verify(tree: BundleTree, *, judge: Judge, path: str, main: str = "") -> BundleReport:
    """Judge every executable of a folder, and what macOS would say when it starts.

    Args:
        tree: the folder.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how checks name the folder.
        main: the executable that users start; empty for the first by name.

    Returns:
        The checks, and the facts as of an app without seal and profile; its identifier is that of
        the main executable. None where nothing in it is code.
    """
    tree = Remembered(tree)
    taken = inventories.take(tree)
    code = {
        name: verification.verify(tree.view(name), judge=judge, path=_named(path, name))
        for name in taken.code
    }
    if not code or (main and main not in code):
        observed = ", ".join(sorted(code)) or "none"
        wanted = main or "executables"
        failure = checks.failed("code", subject=path, expected=wanted, observed=observed)
        return BundleReport(checks=(failure,), facts=None)
    facts = _facts(path, main or min(code), code)
    found = [check for report in code.values() for check in report.checks]
    found += _alone(code)
    found += _of_one_team(facts, strict=judge.strict)
    found += _others(taken, path, strict=judge.strict)
    found += verdict.of_app(tree, facts, judge=judge, own=judge.strict)
    programs = file_attributes.executables(facts)
    found += file_attributes.runnable(tree.entries(), programs, path=path)
    if judge.strict:
        found += unstamped(facts)
    return BundleReport(checks=tuple(found), facts=facts)


def unstamped(facts: BundleFacts) -> Iterator[Check]:
    """A timestamp can be taken off without breaking a signature; ours always have one."""
    for report in facts.code.values():
        for item in report.slices:
            if item.certificates and item.signed_at is None:
                yield checks.failed(
                    "timestamped", subject=item.path, expected="a timestamp", observed="none"
                )


def _named(path: str, name: str) -> str:
    return f"{path}/{name}".removeprefix("/")


def _facts(path: str, main: str, code: Mapping[str, CodeReport]) -> BundleFacts:
    primary = code[main].primary
    return BundleFacts(
        path=path,
        bundle_id=primary.identifier if primary else "",
        version="",
        minimum_macos="",
        main_executable=main,
        code={main: code[main], **code},
        sealed=0,
        data_in_code_places=(),
        profile=None,
        seal=None,
        contents="",
        bundles={},
        ticket=None,
    )


def _alone(code: Mapping[str, CodeReport]) -> Iterator[Check]:
    """Nothing here belongs to an app."""
    for report in code.values():
        for item in report.slices:
            sealed = superblob.SLOT_CODE_RESOURCES in item.sealed_slots
            yield checks.compare(
                "code without an app",
                expected="signed alone",
                observed="signed with an app around it" if sealed else "signed alone",
                subject=item.path,
                hint="it is the flat copy of an app that is not here",
            )


def _of_one_team(facts: BundleFacts, *, strict: bool) -> Iterator[Check]:
    """No seal says which code belongs together: it is that of the main executable's team."""
    team = facts.main.team_id if facts.main else None
    for report in facts.code.values():
        for item in report.slices:
            yield checks.compare(
                "team of the code",
                expected=team or ("a team" if strict else "none"),
                observed=item.team_id or "none",
                subject=item.path,
                hint="sign every executable of the release with its certificate",
            )


def _others(taken: Inventory, path: str, *, strict: bool) -> Iterator[Check]:
    """What is no code: a Metal library is known by its digest alone, all else has no place."""
    for name, entry in taken.entries.items():
        if name in taken.code or (entry.kind == "directory" and not strict):
            continue
        if name in taken.metal or not strict:
            yield checks.unprotected("file", "no signature covers it", subject=_named(path, name))
        else:
            yield checks.failed(
                "layout",
                subject=_named(path, name),
                expected="executables and Metal libraries only",
                observed=f"a {entry.kind}",
            )
