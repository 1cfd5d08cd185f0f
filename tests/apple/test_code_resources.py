"""Resource seals: written, and verified both ways."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import (
    checks,
    code_resources,
    property_list,
    resource_rules,
    seal_verification,
)
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.tree import MemoryTree, Subtree, in_memory

MAIN = "MacOS/darkbloom"
MACHO = bytes.fromhex("cffaedfe0c000001") + bytes(24)
HELPER = NestedCode(cdhash=b"h" * 20, requirement_text='identifier "helper"')
FILES = {
    "Info.plist": b"<plist/>",
    "PkgInfo": b"APPL????",
    "embedded.provisionprofile": b"profile",
    MAIN: MACHO,
    "MacOS/helper": MACHO,
    "MacOS/mlx.metallib": b"MTLB" + bytes(100),
    "Resources/en.lproj/Localizable.strings": b"text",
    "Resources/en.lproj/locversion.plist": b"version",
    "Resources/Base.lproj/Main.nib": b"nib",
    "Resources/data.json": b"{}",
    "Resources/.DS_Store": b"finder",
    "_CodeSignature/CodeResources": b"",
    "CodeResources": b"ticket",
    "Helpers/Nested.app/Contents/MacOS/nested": MACHO,
}
LINKS = {"Resources/link": "data.json"}
NESTED = {"MacOS/helper": HELPER, "Helpers/Nested.app": HELPER}


def sealed(tree: MemoryTree) -> bytes:
    return code_resources.build(tree, NESTED, main_executable=MAIN)


def failures(seal: bytes, tree: MemoryTree, *, strict: bool = False) -> set[str]:
    report = seal_verification.verify(seal, tree, main_executable=MAIN, strict=strict)
    return {check.subject for check in report.checks if check.outcome == "failed"}


def test_the_seal_covers_what_apples_rules_cover() -> None:
    """Executable, seal, ticket, Info.plist and omitted files stay out; all else goes in."""
    document = property_list.parse(sealed(in_memory(FILES, links=LINKS)))
    files, files2 = document["files"], document["files2"]
    assert isinstance(files, dict)
    assert isinstance(files2, dict)
    assert set(files2) == {
        "embedded.provisionprofile",
        "Helpers/Nested.app",
        "MacOS/helper",
        "MacOS/mlx.metallib",
        "Resources/en.lproj/Localizable.strings",
        "Resources/Base.lproj/Main.nib",
        "Resources/data.json",
        "Resources/link",
    }
    assert files2["Resources/link"] == {"symlink": "data.json"}
    assert files2["Resources/en.lproj/Localizable.strings"]["optional"] is True
    assert "optional" not in files2["Resources/Base.lproj/Main.nib"]
    metallib = hashlib.sha256(FILES["MacOS/mlx.metallib"]).digest()
    assert files2["MacOS/mlx.metallib"] == {"hash2": metallib}
    assert files2["MacOS/helper"] == {
        "cdhash": HELPER.cdhash,
        "requirement": HELPER.requirement_text,
    }
    assert files["Resources/data.json"] == hashlib.sha1(b"{}").digest()
    assert "MacOS/mlx.metallib" not in files


def test_weights_are_written_as_apple_writes_them() -> None:
    """Weights are whole reals without a fraction."""
    seal = sealed(in_memory(FILES, links=LINKS))
    assert set(re.findall(rb"<real>(.*?)</real>", seal)) == {
        *(b"1000", b"1100", b"1010", b"11", b"2000", b"10", b"20")
    }


def test_an_untouched_bundle_holds_and_names_its_data_file() -> None:
    """The seal of a bundle verifies, and the data file among the code is named."""
    files = {path: content for path, content in FILES.items() if path != "PkgInfo"}
    tree = in_memory(files, links=LINKS)
    seal = sealed(tree)
    report = seal_verification.verify(seal, tree, main_executable=MAIN)
    assert checks.all_hold(report.checks)
    assert report.data_in_code_places == ("MacOS/mlx.metallib",)
    assert dict(report.nested) == NESTED
    assert {check.subject for check in report.checks if check.outcome == "unprotected"} == {
        "Resources/.DS_Store",
        "Resources/en.lproj/locversion.plist",
    }


@given(path=st.sampled_from(sorted(FILES)), data=st.data())
def test_every_changed_byte_of_a_sealed_file_is_found(path: str, data: st.DataObject) -> None:
    """A changed byte is named by its file, or the file is one that another hash covers."""
    seal = sealed(in_memory(FILES, links=LINKS))
    content = bytearray(FILES[path])
    if not content:
        return
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    broken = failures(seal, in_memory({**FILES, path: bytes(content)}, links=LINKS))
    document = property_list.parse(seal)["files2"]
    assert isinstance(document, dict)
    expected = {path} if path in document and path not in NESTED else set()
    assert broken == expected


@pytest.mark.parametrize(
    ("path", "content"),
    [("Resources/extra", b"x"), ("MacOS/extra", b"x"), ("top", b"x"), ("Helpers/x/y", MACHO)],
)
def test_an_added_file_breaks_the_seal(path: str, content: bytes) -> None:
    """A file that the rules seal and the seal does not name is found."""
    seal = sealed(in_memory(FILES, links=LINKS))
    assert failures(seal, in_memory({**FILES, path: content}, links=LINKS)) == {path}


def test_a_missing_file_breaks_the_seal_unless_it_is_optional() -> None:
    """Localizations may be removed, nothing else may."""
    seal = sealed(in_memory(FILES, links=LINKS))
    for path, broken in (
        ("Resources/data.json", {"Resources/data.json"}),
        ("Resources/en.lproj/Localizable.strings", set()),
    ):
        files = {name: content for name, content in FILES.items() if name != path}
        assert failures(seal, in_memory(files, links=LINKS)) == broken


def test_links_are_compared_by_their_text() -> None:
    """A link that was retargeted, replaced by a file or added is found."""
    seal = sealed(in_memory(FILES, links=LINKS))
    assert failures(seal, in_memory(FILES, links={"Resources/link": "Info.plist"})) == {
        "Resources/link"
    }
    replaced = {**FILES, "Resources/link": b"{}"}
    assert failures(seal, in_memory(replaced)) == {"Resources/link"}
    more = {**LINKS, "Resources/other": "data.json"}
    assert failures(seal, in_memory(FILES, links=more)) == {"Resources/other"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../x", "a/../../../.."])
def test_links_that_leave_the_bundle_are_not_sealed(target: str) -> None:
    """An absolute link, or one that climbs out, is refused when sealing."""
    with pytest.raises(errors.VerificationError):
        sealed(in_memory(FILES, links={"Resources/link": target}))


def test_unsigned_code_is_not_sealed() -> None:
    """Code among the code that was not signed is refused, not sealed as data."""
    with pytest.raises(errors.VerificationError):
        code_resources.build(in_memory(FILES), {"MacOS/helper": HELPER}, main_executable=MAIN)


def test_strict_refuses_what_no_rule_covers() -> None:
    """As our own work, a bundle may hold nothing that the seal leaves out."""
    tidy = {
        path: content
        for path, content in FILES.items()
        if path not in ("PkgInfo", "Resources/.DS_Store", "Resources/en.lproj/locversion.plist")
    }
    tree = in_memory(tidy, links=LINKS)
    seal = sealed(tree)
    assert failures(seal, tree, strict=True) == set()
    for extra in ("PkgInfo", "_CodeSignature/CodeDirectory", "Resources/.DS_Store"):
        assert failures(seal, in_memory({**tidy, extra: b"x"}, links=LINKS), strict=True) == {extra}
    other = seal.replace(b"\t<key>files2</key>", b"\t <key>files2</key>")
    assert failures(other, tree, strict=True) == {code_resources.PATH}


def rules_check(seal: bytes, *, strict: bool = False) -> str:
    tree = in_memory(FILES, links=LINKS)
    report = seal_verification.verify(seal, tree, main_executable=MAIN, strict=strict)
    (check,) = [check for check in report.checks if check.name == "resource rules"]
    return check.outcome


def test_rules_of_others_are_used_only_when_harmless() -> None:
    """A pattern that could stall the matcher is refused; a plain one is judged, but is not ours."""
    seal = sealed(in_memory(FILES, links=LINKS))
    plain = seal.replace(b"^version\\.plist$</key>\n\t\t<dict>", b"^docs/.*$</key>\n\t\t<dict>")
    assert plain != seal
    assert rules_check(plain) == "passed"
    assert rules_check(plain, strict=True) == "failed"
    hostile = plain.replace(b"^docs/.*$", b"^(a+)+$")
    with pytest.raises(errors.FormatError):
        rules_check(hostile)


_ALL = b"<key>^.*</key>\n\t\t<true/>"
_OMIT = b"<dict><key>omit</key><true/></dict>"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<key>^Resources/</key>\n\t\t<dict>", b"<key>^Resources/</key>" + _OMIT[:-7]),
        (_ALL, b""),
        (_ALL, b"<key>^.*</key>" + _OMIT),
        (b"<key>^PkgInfo$</key>", b"<key>^docs/.*$</key>"),
    ],
)
def test_weak_rules_are_refused_whoever_wrote_them(old: bytes, new: bytes) -> None:
    """Rules that leave out more than Apple's default does are refused in foreign seals, too."""
    seal = sealed(in_memory(FILES, links=LINKS))
    at = seal.index(b"<key>rules2</key>")
    weak = seal[:at] + seal[at:].replace(old, new)
    assert weak != seal
    assert rules_check(weak) == "failed"


@pytest.mark.parametrize(
    ("target", "foreign"),
    [
        ("/System/Library/Fonts", True),
        ("/Library/Fonts", True),
        ("/System/../etc/passwd", False),
        ("/etc/passwd", False),
        ("../../../outside", False),
        ("", False),
    ],
)
def test_sealed_links_that_leave_are_for_the_system_only(target: str, *, foreign: bool) -> None:
    """A foreign seal may lead into the system's folders; ours leads nowhere outside."""
    seal = sealed(in_memory(FILES, links=LINKS))
    leaving = seal.replace(b"<string>data.json</string>", b"<string>%s</string>" % target.encode())
    tree = in_memory(FILES, links={"Resources/link": target})
    assert ("Resources/link" in failures(leaving, tree)) is not foreign
    assert "Resources/link" in failures(leaving, tree, strict=True)


@given(st.binary(max_size=200))
def test_hostile_seals_end_in_a_format_error(data: bytes) -> None:
    """A seal of random bytes is refused."""
    with pytest.raises(errors.FormatError):
        seal_verification.verify(data, in_memory(FILES), main_executable=MAIN)


def test_the_tables_are_apples() -> None:
    """Thirteen rules decide, and each sample path is decided as Apple documents."""
    rules = resource_rules.compile_rules(resource_rules.RULES2)
    assert len(rules) == 13
    assert resource_rules.choose(rules, "Info.plist").omit
    assert resource_rules.choose(rules, "MacOS/x").nested
    assert not resource_rules.choose(rules, "Resources/x.bundle").nested
    assert resource_rules.choose(rules, "Resources/a.lproj/x").optional
    assert resource_rules.choose(rules, "a/b/.DS_Store").omit


def test_a_subtree_is_a_tree() -> None:
    """The `Contents` folder of an app seals as the same files on their own."""
    whole = in_memory({f"A.app/Contents/{path}": data for path, data in FILES.items()})
    inner = Subtree(tree=whole, prefix="A.app/Contents")
    alone = in_memory(FILES)
    assert code_resources.build(inner, NESTED, main_executable=MAIN) == sealed(alone)
    assert inner.head(MAIN, 4) == MACHO[:4]
    with pytest.raises(errors.VerificationError):
        inner.read("none")
