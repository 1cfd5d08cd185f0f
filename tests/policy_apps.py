"""Apps and facts for the rules of the gates: each as it should be, or wrong in one way."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from release_tool.apple import bundle
from release_tool.apple.facts import BundleFacts, CodeFacts, CodeReport
from release_tool.apple.policy import Grants, inventory
from release_tool.apple.policy.inventory import Inventory
from release_tool.apple.tree import BundleTree, Subtree, TreeEntry, in_memory
from tests import linked_macho, signed_release
from tests.signed_release import APP, BUNDLE_ID, ENCLAVE, MAIN, TEAM

PLAIN: Mapping[str, bytes] = {
    "Contents/Info.plist": plistlib.dumps({"CFBundleExecutable": "darkbloom"}),
    MAIN: linked_macho.build(),
}


def app(
    files: Mapping[str, bytes] | None = None,
    *,
    links: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
) -> Inventory:
    """An unsigned app with some more files."""
    return inventory.take(tree(files, links=links, modes=modes))


def tree(
    files: Mapping[str, bytes] | None = None,
    *,
    links: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
) -> BundleTree:
    whole = {**PLAIN, **(files or {})}
    given = {MAIN: 0o755, **(modes or {})}
    return in_memory(whole, links=links, modes=given)


def entries(*paths: str) -> list[TreeEntry]:
    """Regular files of these names."""
    return [TreeEntry(path=path, kind="file") for path in paths]


@lru_cache(maxsize=1)
def signed() -> BundleFacts:
    """The look-alike release's app as it was judged."""
    made = signed_release.made()
    found = bundle.verify(signed_tree(), judge=made.judge(), path=APP).facts
    assert found is not None
    return found


def signed_tree(changed: Mapping[str, bytes] | None = None) -> BundleTree:
    made = signed_release.made()
    named = {f"{APP}/{path}": content for path, content in (changed or {}).items()}
    return Subtree(tree=made.tree(named), prefix=APP)


def main() -> CodeFacts:
    """The facts of the main executable."""
    found = signed().main
    assert found is not None
    return found


def with_code(code: Mapping[str, CodeFacts]) -> BundleFacts:
    """The app's facts with other facts of some code."""
    reports = {path: CodeReport(checks=(), slices=(item,)) for path, item in code.items()}
    return replace(signed(), code={**signed().code, **reports})


def claiming(claims: Mapping[str, object], path: str = MAIN) -> BundleFacts:
    """The app whose executable claims these entitlements."""
    report = signed().code[path].primary
    assert report is not None
    return with_code({path: replace(report, entitlements=claims)})


def helper(path: str, claims: Mapping[str, object] | None = None) -> dict[str, CodeFacts]:
    """An executable of the app's signature at another path."""
    report = signed().code[ENCLAVE].primary
    assert report is not None
    return {path: replace(report, path=path, entitlements=claims)}


def grants(
    granted: Mapping[str, object] | None = None,
    *,
    team: str = TEAM,
    certificates: Sequence[str] | None = None,
    prefixes: tuple[str, ...] = (),
) -> Grants:
    """What a profile of the app grants."""
    standard = {
        "com.apple.application-identifier": f"{TEAM}.{BUNDLE_ID}",
        "com.apple.developer.team-identifier": TEAM,
        "keychain-access-groups": [f"{TEAM}.*"],
    }
    own = [main().certificate_sha256]
    return Grants(
        team_ids=(team,),
        entitlements={**standard, **(granted or {})},
        certificates=tuple(own if certificates is None else certificates),
        prefixes=prefixes,
    )
