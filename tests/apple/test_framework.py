"""Frameworks: every version holds by itself, and the root holds nothing but links."""

from __future__ import annotations

import pytest

from release_tool.apple.facts import BundleReport
from release_tool.apple.tree import in_memory
from tests import nested_app
from tests.nested_app import KIT

_OLD, _CURRENT = f"{KIT}/Versions/A", f"{KIT}/Versions/B"


def judged(
    files: dict[str, bytes | None], links: dict[str, str | None] | None = None
) -> BundleReport:
    """The nested app, some files and links changed, added or (None) taken away."""
    tree = nested_app.made()
    merged = {**tree.files, **files}
    linked = {**tree.links, **(links or {})}
    return nested_app.judged(
        in_memory(
            {path: content for path, content in merged.items() if content is not None},
            links={path: target for path, target in linked.items() if target is not None},
        )
    )


def refused(report: BundleReport) -> set[tuple[str, str]]:
    return {
        (check.name, check.subject.removeprefix(f"The.app/{KIT}/"))
        for check in report.checks
        if check.outcome == "failed"
    }


@pytest.mark.parametrize("version", [_OLD, _CURRENT])
@pytest.mark.parametrize(
    ("place", "content", "name"),
    [
        ("Resources/data", b"other", "sealed file"),
        ("Resources/extra", b"x", "sealed file"),
        ("Resources/data", None, "sealed file"),
        ("_CodeSignature/CodeResources", None, "resource seal"),
        ("Kit", None, "main executable"),
    ],
)
def test_each_version_is_judged(version: str, place: str, content: bytes | None, name: str) -> None:
    """A change in the version that is not current is found as in the one that is."""
    found = refused(judged({f"{version}/{place}": content}))
    inside = version.removeprefix(f"{KIT}/")
    assert any(check == name and subject.startswith(inside) for check, subject in found)


@pytest.mark.parametrize(
    ("files", "links", "name"),
    [
        ({f"{KIT}/extra": b"x"}, {}, "bundle root"),
        ({f"{KIT}/Headers/a.h": b"x"}, {}, "bundle root"),
        ({f"{KIT}/Versions/extra": b"x"}, {}, "bundle root"),
        ({f"{KIT}/Versions/C/extra": b"x"}, {}, "bundle"),
        ({}, {f"{KIT}/Kit": "Versions/A/Kit"}, "bundle root"),
        ({}, {f"{KIT}/Kit": "Versions/Current/Resources"}, "bundle root"),
        ({}, {f"{KIT}/Other": "/tmp/x"}, "bundle root"),
        ({}, {f"{KIT}/Versions/D": "B"}, "bundle root"),
        ({}, {f"{KIT}/Versions/Current": "A"}, "nested cdhash"),
        ({}, {f"{KIT}/Versions/Current": "../../Inner"}, "bundle"),
        ({}, {f"{KIT}/Versions/Current": ".."}, "bundle"),
        ({}, {f"{KIT}/Versions/Current": None}, "bundle"),
    ],
)
def test_the_root_of_a_framework_leads_into_its_current_version(
    files: dict[str, bytes | None], links: dict[str, str | None], name: str
) -> None:
    """No seal reaches there: strangers, links elsewhere and a moved Current are refused."""
    assert name in {check for check, _ in refused(judged(files, links))}


def test_finders_files_in_the_root_are_listed() -> None:
    """They may lie there; nothing protects them."""
    report = judged({f"{KIT}/.DS_Store": b"x", f"{KIT}/Versions/.DS_Store": b"x"})
    assert refused(report) == set()
    listed = [check.subject for check in report.checks if check.name == "outside the seal"]
    assert {f"The.app/{KIT}/.DS_Store", f"The.app/{KIT}/Versions/.DS_Store"} <= set(listed)
