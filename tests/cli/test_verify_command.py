"""`verify` and `inspect` from the command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool.apple import checks, code_resources
from release_tool.cli import check_lines
from release_tool.cli.main import invoke
from release_tool.cli.session import Session
from release_tool.files import archive_writer
from release_tool.files.tree import DiskTree
from tests import nested_app, signed_release
from tests.signed_release import APP, MAIN, METALLIB, TEAM


def run(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    session = Session(environ or {}, out=out, err=err)
    code = invoke([str(item) for item in arguments], session)
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue() + err.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "darkbloom-bundle-macos-arm64.tar.gz"
    path.write_bytes(signed_release.made().archive)
    return path


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(signed_release.made().trust_pem)
    return path


def test_our_archive_holds_under_its_root_only(archive: Path, trust: Path) -> None:
    """The archive passes with the run's root and is refused without it."""
    code, text = run("verify", archive, "--trust", trust, "--team-id", TEAM)
    assert code == 0, text
    assert text.startswith(f"{archive.name}: holds")
    assert "byte for byte what this tool writes" in text
    code, text = run("verify", archive)
    assert code == 6
    assert text.startswith(f"{archive.name}: do not ship")
    assert "certificate chain" in text
    assert text.endswith("exit 6\n")


def test_the_json_document_is_whole(archive: Path, trust: Path) -> None:
    """`--json` has the verdict, whole digests, every code object and every check."""
    code, text = run("verify", archive, "--trust", trust, "--json")
    document = json.loads(text)
    assert code == 0
    assert document["ok"] is True
    assert document["ours"] is True
    assert document["kind"] == "archive"
    assert len(document["archive"]["sha256"]) == 64
    assert [item["slices"][0]["identifier"] for item in document["app"]["code"]] == [
        signed_release.BUNDLE_ID,
        signed_release.ENCLAVE_ID,
    ]
    outcomes = {check["outcome"] for check in document["checks"]}
    assert outcomes == {"passed", "not_checked"}
    assert [check["name"] for check in document["checks"] if check["outcome"] == "not_checked"] == [
        "team",
        "revocation",
    ]


def test_another_team_is_refused(archive: Path, trust: Path) -> None:
    """`--team-id` is compared with every code object."""
    code, text = run("verify", archive, "--trust", trust, "--team-id", "OTHERTEAM1")
    assert code == 6
    assert "expected OTHERTEAM1" in text
    assert run("verify", archive, "--team-id", " ")[0] == 2


def test_every_changed_byte_of_the_archive_is_refused(tmp_path: Path, trust: Path) -> None:
    """The gzip header and trailer whole, and bytes throughout: each change ends in 6."""
    content = signed_release.made().archive
    chosen = {*range(12), *range(len(content) - 12, len(content))}
    chosen |= set(range(12, len(content), len(content) // 250))
    path = tmp_path / "changed.tar.gz"
    for position in sorted(chosen):
        changed = bytearray(content)
        changed[position] ^= 1 + position % 255
        path.write_bytes(changed)
        code, _ = run("verify", path, "--trust", trust)
        assert code == 6, position
    for changed in (bytearray(content[:-1]), bytearray(content + b"\0")):
        path.write_bytes(changed)
        assert run("verify", path, "--trust", trust)[0] == 6


def test_an_archive_of_another_writer_is_foreign(tmp_path: Path, trust: Path) -> None:
    """Other compression of the same release is refused as ours and holds as foreign."""
    import gzip

    content = gzip.compress(gzip.decompress(signed_release.made().archive))
    path = tmp_path / "other.tar.gz"
    path.write_bytes(content)
    code, text = run("verify", path, "--trust", trust)
    assert code == 6
    assert "--foreign" in text
    code, text = run("verify", path, "--trust", trust, "--foreign")
    assert code == 0, text
    assert "unprotected" in text


def test_an_unpacked_release_and_its_app_hold(tmp_path: Path, trust: Path) -> None:
    """The folder, the app in it and a lone executable are each judged as what they are."""
    root = signed_release.made().write(tmp_path / "unpacked")
    assert run("verify", root, "--trust", trust)[0] == 0
    code, text = run("verify", root / APP, "--trust", trust, "--ours")
    assert code == 0, text
    code, text = run("verify", root / "bin" / "darkbloom", "--trust", trust)
    assert code == 0
    assert "bound to a bundle" in text
    (root / APP / MAIN).chmod(0o755)
    changed = bytearray((root / APP / MAIN).read_bytes())
    changed[5000] ^= 1
    (root / APP / MAIN).write_bytes(changed)
    code, text = run("verify", root, "--trust", trust)
    assert code == 6
    assert f"{APP}/{MAIN}" in text


def test_what_is_none_of_the_kinds_is_refused(tmp_path: Path) -> None:
    """Text, an empty folder, a truncated Mach-O and a gzip of nothing end in 6, one line each."""
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "code").write_bytes(bytes.fromhex("cffaedfe0c000001"))
    (tmp_path / "zipped").write_bytes(bytes.fromhex("1f8b08000000000000ff03000000000000000000"))
    for name in ("text", "empty", "folder", "code", "zipped"):
        code, text = run("verify", tmp_path / name)
        assert code == 6, text
    assert "name what was signed" in run("verify", tmp_path / "text")[1]
    assert run("verify", tmp_path / "missing")[0] == 2
    assert run("verify", tmp_path / "text", "--trust", tmp_path / "text")[0] == 6


def test_real_profiles_come_out_as_told(real_data: Path) -> None:
    """The real profiles are told apart: Developer ID holds, everything else is refused."""
    for path in sorted((real_data / "profiles").iterdir()):
        code, text = run("verify", path)
        assert code == (0 if path.name.startswith("developer-id") else 6), text


def test_inspect_shows_what_a_signature_holds(archive: Path, tmp_path: Path) -> None:
    """Every kind is shown, without a verdict and without trust."""
    code, text = run("inspect", archive)
    assert code == 0
    for part in ("io.darkbloom.enclave", "identifier", "cdhash", "runtime", "bin/darkbloom"):
        assert part in text
    root = signed_release.made().write(tmp_path / "unpacked")
    code, text = run("inspect", root / "bin" / "darkbloom", "--json")
    document = json.loads(text)
    assert document["slices"][0]["entitlements"] == signed_release.CLAIMS
    code, text = run("inspect", root / APP / "Contents" / "embedded.provisionprofile")
    assert code == 0
    assert "keychain-access-groups" in text


def test_inspect_refuses_what_holds_no_signature(tmp_path: Path) -> None:
    """A truncated Mach-O has nothing to show: exit 6 with the reason."""
    (tmp_path / "code").write_bytes(bytes.fromhex("cffaedfe0c000001"))
    code, text = run("inspect", tmp_path / "code")
    assert code == 6
    assert "holds no signature that can be read" in text


def test_lines_fit_and_put_failures_first() -> None:
    """Failures come first with both sides, digests are cut, like findings share a line."""
    found = [
        checks.passed("page hashes", "4 pages", subject="a (arm64)"),
        checks.passed("signature", "holds", subject="a (x86_64)"),
        checks.unprotected("padding", "9 zero bytes", subject="a"),
        checks.unprotected("padding", "9 zero bytes", subject="b"),
        checks.not_checked("team", "name it with --team-id"),
        checks.failed("sealed file", subject="c", expected="0" * 64, observed="missing"),
    ]
    assert list(check_lines.lines(found)) == [
        "  failed       sealed file  c: expected 000000000000; found missing",
        "  passed       a  page hashes, signature",
        "  unprotected  padding  2 objects: 9 zero bytes",
        "  not checked  team  name it with --team-id",
    ]


def test_what_held_is_told_by_name_and_who_signed_when() -> None:
    """Of many objects: signer and time as found, other checks by the objects that they share."""
    found = [
        check
        for name in ("a", "b", "c")
        for check in (
            checks.passed("page hashes", f"{name} pages", subject=f"{name} (arm64)"),
            checks.passed("signature", "holds", subject=name),
            checks.passed("timestamp", f"today by {name}", subject=name),
            checks.unprotected("padding", f"{len(name)} zero bytes", subject=name),
            checks.unprotected("outside the seal", "no rule seals it", subject=f"{name}/PkgInfo"),
        )
    ]
    found += [
        checks.passed("resource seal", "2 entries", subject="a"),
        checks.unprotected("padding", "12 zero bytes", subject="d"),
    ]
    assert list(check_lines.lines(found)) == [
        "  passed       timestamp  today by a, and 2 more",
        "  passed       3 objects  page hashes, signature",
        "  passed       a  resource seal",
        "  unprotected  padding  4 objects: 1 zero bytes, others alike",
        "  unprotected  outside the seal  a/PkgInfo, b/PkgInfo, c/PkgInfo: no rule seals it",
    ]


def test_neither_command_loads_pydantic() -> None:
    """Verifying needs none of the heavy libraries of a run."""
    program = (
        "import sys; import release_tool.cli.verify, release_tool.cli.inspect;"
        "print([m for m in ('pydantic', 'rich', 'boto3', 'requests') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_release_that_lacks_the_flat_main_executable_is_refused(
    tmp_path: Path, trust: Path
) -> None:
    """The coordinator and the installer start from `bin/darkbloom`."""
    root = signed_release.made().write(tmp_path / "unpacked")
    (root / "bin" / "darkbloom").unlink()
    packed = tmp_path / "packed.tar.gz"
    archive_writer.pack(root, packed, date=signed_release.DATE)
    code, text = run("verify", packed, "--trust", trust)
    assert code == 6
    assert "flat copies" in text


@pytest.mark.parametrize("mode", [0o644, 0o777, 0o4755])
def test_modes_that_our_writer_never_gives_are_refused(
    tmp_path: Path, trust: Path, mode: int
) -> None:
    """The release folder and the app judged as ours; as foreign only what cannot run."""
    root = signed_release.made().write(tmp_path / "unpacked")
    for path in (root / APP / MAIN, root / "bin" / "darkbloom"):
        path.chmod(mode)
    code, text = run("verify", root, "--trust", trust)
    assert code == 6
    assert f"expected 0755; found {mode:04o}" in text
    assert run("verify", root / APP, "--trust", trust, "--ours")[0] == 6
    assert run("verify", root / APP, "--trust", trust)[0] == (6 if mode == 0o644 else 0)
    (root / APP / MAIN).chmod(0o755)
    (root / APP / "Contents").chmod(0o777)
    assert run("verify", root / APP, "--trust", trust, "--ours")[0] == 6
    assert run("verify", root / APP, "--trust", trust)[0] == 0


def test_a_umask_does_not_make_an_archive_fail(archive: Path, trust: Path) -> None:
    """Folders are unpacked with the archive's modes, not with what the host would give."""
    old = os.umask(0o002)
    try:
        code, text = run("verify", archive, "--trust", trust)
    finally:
        os.umask(old)
    assert code == 0, text


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Python sets attributes on Linux only")
def test_extended_attributes_are_judged(tmp_path: Path, trust: Path) -> None:
    """Finder information and resource forks are refused, quarantine is harmless, others listed."""
    root = signed_release.made().write(tmp_path / "unpacked")

    def marked(path: Path, name: str) -> tuple[int, str]:
        try:
            os.setxattr(path, f"user.{name}", b"x")
        except OSError as problem:
            pytest.skip(f"this file system has no attributes: {problem.strerror}")
        found = run("verify", root if path != root / APP else path, "--trust", trust)
        os.removexattr(path, f"user.{name}")
        return found

    for path in (root / APP / METALLIB, root / "bin" / "darkbloom", root / APP):
        for name in ("com.apple.FinderInfo", "com.apple.ResourceFork"):
            code, text = marked(path, name)
            assert code == 6
            assert name in text
        code, text = marked(path, "com.apple.quarantine")
        assert (code, "extended attribute" in text) == (0, False), text
        code, text = marked(path, "org.example.note")
        assert code == 0
        assert "unprotected  extended attribute" in text
        assert "org.example.note" in text


def test_a_release_with_gaps_is_told_what_is_missing(tmp_path: Path, trust: Path) -> None:
    """Without `bin/` or without the app, unpacked or packed, the missing part is named."""
    gaps = (("bin", "no bin/, only"), (APP, "it is the flat copy of an app that is not here"))
    for number, (gone, told) in enumerate(gaps):
        root = signed_release.made().write(tmp_path / f"unpacked-{number}")
        shutil.rmtree(root / gone)
        packed = tmp_path / f"packed-{number}.tar.gz"
        archive_writer.pack(root, packed, date=signed_release.DATE)
        for path in (root, packed):
            code, text = run("verify", path, "--trust", trust)
            assert code == 6
            assert told in text
            assert "failed       Info.plist" not in text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x7fELF\x02\x01\x01\0" + bytes(9_000_000), "7f 45 4c 46 02 01 01 00 (.ELF....)"),
        (b"Rar!", "52 61 72 21 (Rar!)"),
        (b"PK\x03\x04", "not a zip"),
        (b"\x1b[31mred", "(.[31mred)"),
        (b"", "an empty file"),
        (b"\x30\x82\x01\x00rubbish", "truncated"),
    ],
)
def test_an_unknown_file_is_told_by_its_beginning(
    tmp_path: Path, content: bytes, told: str
) -> None:
    """What does not look like a profile is not told what is wrong with it as a profile."""
    (tmp_path / "file").write_bytes(content)
    code, text = run("verify", tmp_path / "file")
    assert code == 6
    assert told in text
    assert "8 MB" not in text


def test_a_refusal_is_annotated_in_github_actions(
    tmp_path: Path, archive: Path, trust: Path
) -> None:
    """One line for the runner with at most three checks, beside the answer; none where it holds."""
    runner = {"GITHUB_ACTIONS": "true"}
    odd = archive.rename(tmp_path / "100%\nodd.tar.gz")
    code, text = run("verify", odd, environ=runner)
    lines = [line for line in text.splitlines() if line.startswith("::error")]
    assert code == 6
    assert len(lines) == 1
    assert lines[0].startswith(
        f"::error title=release-tool::{tmp_path}/100%25%0Aodd.tar.gz: do not"
    )
    assert lines[0].count("%0A") == 4
    assert "more" in lines[0]
    assert "::error" not in run("verify", odd)[1]
    assert "::error" not in run("verify", odd, "--trust", trust, environ=runner)[1]


TICKETS = ("PermanentAgentRecord-2026.ticket", "opera-beta-installer-2019.ticket")


def test_a_bare_ticket_is_verified_and_shown(real_data: Path, tmp_path: Path) -> None:
    """A real ticket holds offline; its entries stand in text and JSON; a changed one is refused."""
    told = json.loads((real_data / "expected.json").read_text())["tickets"]
    for name in TICKETS:
        path = real_data / "tickets" / name
        code, text = run("verify", path)
        assert code == 0
        assert "Software Ticket Signing" in text
        assert "not checked  ticket cdhashes  verify the app that it is stapled to" in text
        document = json.loads(run("inspect", path, "--json")[1])
        assert document["issued"] == told[name]["issued"]
        assert document["flags"] == told[name]["flags"]
        listed = sorted(entry["cdhash"] for entry in document["entries"])
        assert listed == sorted(told[name]["entries"])
        assert document["certificates"][0]["sha256"] == told[name]["leaf_sha256"]
        assert listed[0] in run("inspect", path)[1]
        (tmp_path / "changed").write_bytes(path.read_bytes()[:-80] + bytes(80))
        assert run("verify", tmp_path / "changed")[0] == 6


def _written(folder: Path) -> Path:
    """The nested app on disk."""
    app = folder / "Nested.app"
    tree = nested_app.made()
    for path, content in tree.files.items():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_bytes(content)
        (app / path).chmod(0o755 if code_resources.is_code(content[:4]) else 0o644)
    for path, target in tree.links.items():
        (app / path).symlink_to(target)
    return app


def test_inspect_shows_the_tree_of_an_app(tmp_path: Path) -> None:
    """Nested code, framework versions, files, links and what no rule seals, in text and JSON."""
    app = _written(tmp_path)
    code, text = run("inspect", app)
    assert code == 0
    tree = text[text.index("  Contents\n") : text.index("\n\n")]
    assert tree.splitlines()[1].startswith(
        "    Frameworks/Kit.framework  framework com.example.kit"
    )
    for part in (
        "Helpers/Inner.app  app com.example.inner",
        "Helpers/tool  tool com.example.tool",
        "Resources/latest  link to icon.icns",
        "PkgInfo  outside the seal",
        "Versions/A  another version",
        "Resources/en.lproj/Localizable.strings",
        ", optional",
    ):
        assert part in tree
    document = json.loads(run("inspect", app, "--json")[1])["app"]
    assert [item["path"] for item in document["tree"]["nested"]] == [
        "Frameworks/Kit.framework",
        "Helpers/Inner.app",
        "Helpers/tool",
    ]
    assert document["tree"]["symlinks"] == [{"path": "Resources/latest", "target": "icon.icns"}]
    assert document["tree"]["omitted"] == ["PkgInfo"]
    kit = document["tree"]["nested"][0]
    assert [item["path"] for item in kit["tree"]["versions"]] == ["Versions/A"]
    assert len(document["ticket"]["entries"]) >= 8


def test_the_keys_of_a_slice_are_stable(tmp_path: Path) -> None:
    """What programs read of a slice is all there, under these names."""
    (tmp_path / "tool").write_bytes(nested_app.made().files[nested_app.TOOL])
    document = json.loads(run("inspect", tmp_path / "tool", "--json")[1])
    assert [item["arch"] for item in document["slices"]] == ["x86_64", "arm64"]
    assert set(document["slices"][1]) == {
        *("path", "arch", "identifier", "team_id", "signer", "trusted"),
        *("cdhash", "cdhash_full", "cdhashes", "flags", "flag_names", "version", "hash_type"),
        *("page_size", "code_limit", "code_slots", "special_slots", "special_hashes", "platform"),
        *("exec_segment", "runtime", "scattered", "directories", "slots", "signature_bytes"),
        *("signing_time", "timestamp", "timestamp_certificates", "certificates"),
        *("entitlements", "requirement", "requirements", "launch_constraints"),
        *("minos", "sdk", "platforms", "uuid", "file_type", "executable"),
        *("linked_libraries", "rpaths"),
    }


@pytest.mark.parametrize(
    ("path", "kind"),
    [("", "app"), (nested_app.KIT, "framework"), (nested_app.INNER, "app")],
)
def test_bundles_of_each_kind_are_told(tmp_path: Path, trust: Path, path: str, kind: str) -> None:
    """An app and a framework in it are each judged by themselves, and called what they are."""
    app = _written(tmp_path)
    code, text = run("verify", app / path, "--trust", trust, "--json")
    document = json.loads(text)
    assert document["kind"] == kind
    assert code == 0, [item for item in document["checks"] if item["outcome"] == "failed"]
    names = {item["name"] for item in document["checks"] if item["outcome"] == "not_checked"}
    assert {"team", "revocation"} <= names


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("com.apple.FinderInfo", 6, "failed       extended attribute"),
        ("com.apple.quarantine", 0, ""),
        ("org.example.x", 0, "unprotected  extended attribute"),
        (None, 0, "attributes beside the files  1 in AppleDouble"),
    ],
)
def test_attributes_in_an_archive_are_judged_as_on_files(
    tmp_path: Path, trust: Path, name: str | None, code: int, told: str
) -> None:
    """A Mac's tar puts them onto the files that it unpacks, and so it does with `._name`."""
    made = signed_release.made()
    with (
        tarfile.open(fileobj=io.BytesIO(made.archive)) as old,
        tarfile.open(tmp_path / "a.tar.gz", "w:gz") as new,
    ):
        for member in old:
            is_info = member.name.endswith("Contents/Info.plist")
            member.pax_headers = {f"SCHILY.xattr.{name}": "x"} if is_info and name else {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
            if is_info and name is None:
                folder = member.name.rpartition("/")[0]
                new.addfile(tarfile.TarInfo(f"{folder}/._Info.plist"))
    found, text = run("verify", tmp_path / "a.tar.gz", "--foreign", "--trust", trust)
    assert (found, told in text) == (code, True), text


def test_a_verdict_as_people_read_it(tmp_path: Path, trust: Path) -> None:
    """The verdict first, then what failed, what held by object, and the open ends."""
    (tmp_path / "tool").write_bytes(nested_app.made().files[nested_app.TOOL])
    code, text = run("verify", tmp_path / "tool", "--trust", trust)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split("  ")[0] == "tool: holds"
    assert lines[0].endswith(f"Mach-O, com.example.tool, team {TEAM}")
    outcomes = [line[2:15].strip() for line in lines[1:] if line[2:3].strip()]
    assert outcomes == sorted(
        outcomes, key=("failed", "passed", "unprotected", "not checked").index
    )
    assert "unprotected  gaps  tool: the universal header and the gaps between slices" in text


def test_a_zip_of_an_app_is_judged_as_the_app(tmp_path: Path, trust: Path) -> None:
    """As users get apps and as the notary does: the app holds, the zip itself is open."""
    app = _written(tmp_path / "made")
    packed = tmp_path / "Nested.zip"
    with zipfile.ZipFile(packed, "w") as made:
        for entry in DiskTree(app.parent).entries():
            info = zipfile.ZipInfo(entry.path + ("/" if entry.kind == "directory" else ""))
            info.create_system = 3
            kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
            info.external_attr = (kinds[entry.kind] | entry.mode) << 16
            path = app.parent / entry.path
            content = path.read_bytes() if entry.kind == "file" else entry.target.encode()
            made.writestr(info, content)
    code, text = run("verify", packed, "--trust", trust)
    assert code == 0, text
    assert text.splitlines()[0].endswith(f"zip of an app, com.example.app 1.0, team {TEAM}")
    assert "unprotected  archive" in text
    document = json.loads(run("inspect", packed, "--json")[1])
    assert document["kind"] == "zip"
    assert document["archive"]["tar_sha256"] is None
    assert document["app"]["tree"]["omitted"] == ["PkgInfo"]
    with zipfile.ZipFile(packed, "a") as made:
        made.writestr("extra", b"x")
    assert run("verify", packed, "--trust", trust)[0] == 6


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Python sets attributes on Linux only")
def test_attributes_of_a_lone_tool_are_judged(tmp_path: Path, trust: Path) -> None:
    """A resource fork beside a Mach-O is refused, quarantine says nothing."""
    path = tmp_path / "tool"
    path.write_bytes(nested_app.made().files[nested_app.TOOL])
    for name, expected in (("com.apple.ResourceFork", 6), ("com.apple.quarantine", 0)):
        try:
            os.setxattr(path, f"user.{name}", b"x")
        except OSError as problem:
            pytest.skip(f"this file system has no attributes: {problem.strerror}")
        code, text = run("verify", path, "--trust", trust)
        os.removexattr(path, f"user.{name}")
        assert code == expected, text


def test_an_archive_of_another_app_is_judged_when_told_foreign(tmp_path: Path, trust: Path) -> None:
    """A tar of one app alone: no release of ours, but the app in it holds as foreign."""
    app = _written(tmp_path / "made")
    packed = tmp_path / "Nested.tar.gz"
    archive_writer.pack(app.parent, packed, date=signed_release.DATE)
    code, text = run("verify", packed, "--trust", trust)
    assert code == 6
    assert "no bin/" in text
    code, text = run("verify", packed, "--trust", trust, "--foreign")
    assert code == 0, text
    assert "com.example.app" in text
