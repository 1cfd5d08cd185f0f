"""`diff` from the command line, as people and programs read it."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool.cli.main import invoke
from release_tool.cli.session import Session
from release_tool.files import archive_writer
from tests import signed_release
from tests.signed_release import APP, CLAIMS, ENCLAVE, MAIN, METALLIB

INFO = f"{APP}/Contents/Info.plist"
GROUPS = "keychain-access-groups"


def run(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    session = Session(environ or {}, out=out, err=err)
    code = invoke(["diff", *(str(item) for item in arguments)], session)
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue() + err.getvalue()


def masked(text: str) -> str:
    """Digests, sizes and identifiers differ from run to run."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "UUID", text)
    return re.sub(r"\b\d+\s+bytes", "N B", text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`old`, `old.tar.gz`, `unsigned` and `new`: a newer release of the same team."""
    folder = tmp_path_factory.mktemp("diff")
    old = signed_release.made()
    old.write(folder / "old")
    (folder / "old.tar.gz").write_bytes(old.archive)
    (folder / "roots.pem").write_bytes(old.trust_pem)
    profile = old.files[f"{APP}/Contents/embedded.provisionprofile"]
    signed_release.assemble(folder / "unsigned", profile=profile)
    new = signed_release.assemble(folder / "new", profile=profile)
    info = new / "Contents/Info.plist"
    info.write_bytes(info.read_bytes().replace(b"0.5.0", b"0.6.0"))
    (new / "Contents/Resources").mkdir()
    (new / "Contents/Resources/notes.txt").write_text("new")
    (new / METALLIB).chmod(0o755)
    claims = {key: value for key, value in CLAIMS.items() if not key.endswith("server")}
    signed_release.sign(new, claims={**claims, "com.apple.security.cs.allow-jit": True})
    (folder / "new/bin").mkdir()
    for path in (MAIN, ENCLAVE, METALLIB):
        shutil.copy2(new / path, folder / "new/bin" / Path(path).name)
    return folder


def test_the_same_release_is_the_same_whatever_it_lies_in(world: Path) -> None:
    """An archive, what was unpacked from it, and its app: exit 0, one line."""
    code, text = run(world / "old", world / "old.tar.gz", "--exit-code")
    assert code == 0
    assert re.fullmatch(r"old → old.tar.gz: the same +release archive, 0.3 MB\n", text)
    code, text = run(world / "old" / APP, world / "old.tar.gz")
    assert (code, text.split("  ")[0]) == (0, f"{APP} → old.tar.gz/{APP}: the same")


def test_a_newer_release_is_told_object_by_object(world: Path) -> None:
    """The transcript: entitlements, plist, seal, modes, a new file; nobody is locked out."""
    arguments = world / "old.tar.gz", world / "new", "--trust", world / "roots.pem"
    code, text = run(*arguments)
    assert code == 0
    head, *lines = masked(text).splitlines()
    assert head.split("  ")[0] == "old.tar.gz → new: 15 differences"
    assert "\n".join(lines) == TRANSCRIPT.strip("\n")
    code, text = run(*arguments, "--exit-code")
    assert code == 6
    assert text.endswith("exit 6\n")


TRANSCRIPT = """
  Darkbloom.app/Contents/MacOS/darkbloom
    cdhash       DIGEST → DIGEST
    entitlement  com.apple.security.cs.allow-jit  added: true
    entitlement  com.apple.security.network.server  removed, was true
    file         N B DIGEST → N B DIGEST
  Darkbloom.app/Contents/Info.plist
    Info.plist   CFBundleShortVersionString  0.5.0 → 0.6.0
    Info.plist   CFBundleVersion  0.5.0 → 0.6.0
    file         N B DIGEST → N B DIGEST
  file           Darkbloom.app/Contents/MacOS/darkbloom-enclave  N B DIGEST → N B DIGEST
  mode           Darkbloom.app/Contents/MacOS/mlx.metallib  0644 → 0755
  file           Darkbloom.app/Contents/Resources  added: a folder, 0755
  file           Darkbloom.app/Contents/Resources/notes.txt  added: a file, 0644, N B
  file           Darkbloom.app/Contents/_CodeSignature/CodeResources  N B DIGEST → N B DIGEST
  file           bin/darkbloom  N B DIGEST → N B DIGEST
  file           bin/darkbloom-enclave  N B DIGEST → N B DIGEST
  mode           bin/mlx.metallib  0644 → 0755
"""


def test_an_unmet_requirement_is_told_first_and_ends_in_6(world: Path, tmp_path: Path) -> None:
    """Ad-hoc code is a stranger to the keychain items of the Developer ID release before it."""
    app = shutil.copytree(world / "new" / APP, tmp_path / APP)
    signed_release.sign(app, adhoc=True)
    code, text = run(world / "new" / APP, app, "--trust", world / "roots.pem")
    assert code == 6
    lines = text.splitlines()
    assert f"{APP} → {APP}: LOCKS USERS OUT, " in lines[0]
    assert lines[1] == f"  LOCKS OUT      requirement of {MAIN}"
    assert lines[2].startswith('                 before  identifier "io.darkbloom.provider" and')
    assert '                 after   cdhash H"' in text
    assert "users' keychain items" in text


def test_who_meets_the_old_requirement_is_locked_out_of_nothing(
    world: Path, tmp_path: Path
) -> None:
    """Each release may follow itself, ad-hoc ones too; a signed one no ad-hoc one."""
    code, text = run(world / "old", world / "old", "--trust", world / "roots.pem")
    assert (code, "LOCKS" in text) == (0, False)
    app = shutil.copytree(world / "new" / APP, tmp_path / APP)
    signed_release.sign(app, adhoc=True)
    assert run(app, app)[0] == 0
    assert run(app, world / "new" / APP)[0] == 6


def test_an_access_group_that_is_gone_locks_users_out(world: Path, tmp_path: Path) -> None:
    """Items stay in the group that stored them; one more group costs nothing."""
    group = signed_release.CLAIMS[GROUPS]
    assert isinstance(group, list)
    text = ""
    for groups, locked in (([*group, f"{signed_release.TEAM}.more"], False), (["x"], True)):
        app = tmp_path / f"{locked}" / APP
        shutil.copytree(world / "old" / APP, app)
        signed_release.sign(app, claims={**CLAIMS, GROUPS: groups})
        code, text = run(world / "old" / APP, app, "--trust", world / "roots.pem")
        assert (code == 6, "LOCKS OUT" in text) == (locked, locked), text
    assert f"LOCKS OUT      entitlement {GROUPS} of {MAIN}" in text


def test_the_json_document_is_whole(world: Path) -> None:
    """`--json` has the verdict, both sides and every difference with whole digests."""
    new, roots = world / "new", world / "roots.pem"
    code, text = run(world / "old.tar.gz", new, "--trust", roots, "--json")
    document = json.loads(text)
    assert code == 0
    assert (document["same"], document["locks_out"]) == (False, False)
    assert document["before"]["kind"] == "release archive"
    found = {
        (item["kind"], item["subject"], item["name"]): (item["before"], item["after"])
        for item in document["differences"]
    }
    assert found["Info.plist", INFO, "CFBundleVersion"] == ("0.5.0", "0.6.0")
    assert found["mode", f"{APP}/{METALLIB}", ""] == ("0644", "0755")
    assert found["file", f"{APP}/Contents/Resources/notes.txt", ""] == (
        None,
        "a file, 0644, 3 bytes",
    )
    jit = "com.apple.security.cs.allow-jit"
    assert found["entitlement", f"{APP}/{MAIN}", jit] == (None, "true")
    assert len(found["cdhash", f"{APP}/{MAIN}", ""][0]) == 40


def test_two_mach_o_files_are_called_as_they_were_named(world: Path, tmp_path: Path) -> None:
    """Files of different names are compared; a Mach-O and an app are not."""
    other = tmp_path / "other"
    other.write_bytes((world / "new/bin/darkbloom").read_bytes())
    code, text = run(world / "old/bin/darkbloom", other, "--trust", world / "roots.pem")
    assert code == 0
    assert "\n  other\n    cdhash " in text
    code, text = run(other, world / "old")
    assert code == 2
    assert "observed  Mach-O and app" in text
    assert run(world / "roots.pem", other)[0] == 6
    assert run(tmp_path, tmp_path)[0] == 6


def test_a_build_is_linked_to_what_ships(world: Path) -> None:
    """From the unsigned app to the archive only signing lies: exit 0 and what was added."""
    app, archive = world / "unsigned" / APP, world / "old.tar.gz"
    code, text = run("--ignore-signature", app, archive)
    assert code == 0
    assert text.splitlines()[0].startswith(f"{APP} → old.tar.gz/{APP}: only signing lies between")
    assert f"  passed       {MAIN}, {MAIN}-enclave  outside the signature\n" in text
    assert "Contents/_CodeSignature/CodeResources  added by signing" in text
    code, text = run("--ignore-signature", app / MAIN, world / "old/bin/darkbloom", "--json")
    document = json.loads(text)
    assert (code, document["same_outside_signatures"]) == (0, True)
    assert len(document["checks"][0]["observed"]) == 64


def test_a_changed_byte_of_code_ends_in_6_with_its_place(world: Path, tmp_path: Path) -> None:
    """Validly signed again, the changed code is still not what was built."""
    app = shutil.copytree(world / "unsigned" / APP, tmp_path / APP)
    code = bytearray((app / MAIN).read_bytes())
    code[0x4000] ^= 1
    (app / MAIN).write_bytes(code)
    signed_release.sign(app)
    runner = {"GITHUB_ACTIONS": "true"}
    status, text = run("--ignore-signature", world / "unsigned" / APP, app, environ=runner)
    assert status == 6
    assert f"  failed       outside the signature  {MAIN}: expected " in text
    assert "at offset 0x4000" in text
    assert "::error" in text
    assert "not only signing lies between" in text


def test_an_archive_is_compared_with_an_app_only_where_it_holds_one(
    world: Path, tmp_path: Path
) -> None:
    """An archive without an app has nothing to compare; a damaged one is refused."""
    (tmp_path / "root/bin").mkdir(parents=True)
    (tmp_path / "root/bin/x").write_bytes(b"x")
    archive_writer.pack(tmp_path / "root", tmp_path / "empty.tar.gz", date=signed_release.DATE)
    code, text = run(world / "old" / APP, tmp_path / "empty.tar.gz")
    assert code == 6
    assert "holds no app" in text
    (tmp_path / "cut.tar.gz").write_bytes((world / "old.tar.gz").read_bytes()[:-9])
    assert run(world / "old.tar.gz", tmp_path / "cut.tar.gz")[0] == 6


def test_what_cannot_be_compared_gets_a_next_step(world: Path, tmp_path: Path) -> None:
    """Text, an empty file and a folder of other things: what may be named stands below."""
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("text", "empty", "folder"):
        code, text = run(world / "old.tar.gz", tmp_path / name)
        assert code == 6
        assert f"{tmp_path / name}: is neither" in text
        assert "name two of a kind" in text
