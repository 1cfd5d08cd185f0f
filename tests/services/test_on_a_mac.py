"""What only a Mac can tell: Apple's codesign, security and tar on the work of both signers.

Everything is signed ad-hoc, so no account is needed. What is certain is asserted; what nobody could
see before is written to the file that `SECOND_OPINION` names, and a job keeps it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import plistlib
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import bundle, identity
from release_tool.apple.facts import BundleReport
from release_tool.apple.verification import Judge
from release_tool.files.tree import DiskTree
from release_tool.progress import Silent
from release_tool.rehearsal import samples
from release_tool.services import (
    apple_tools,
    codesign,
    codesign_signer,
    keychain,
    portable_signer,
    retries,
    system_tar,
)
from release_tool.services.apple_tools import TOOLS
from release_tool.services.codesign_signer import Code, Route
from tests import look_alike

pytestmark = [
    pytest.mark.macos,
    pytest.mark.skipif(sys.platform != "darwin", reason="needs Apple's tools"),
]
IDENTIFIER, HELPER_IDENTIFIER = "io.darkbloom.provider", "io.darkbloom.enclave"
MAIN, HELPER = "Contents/MacOS/darkbloom", "Contents/MacOS/darkbloom-enclave"
METALLIB = "Contents/MacOS/mlx.metallib"
CLAIMS = plistlib.dumps({"com.apple.security.network.client": True})
ROUTE = Route(export=None, patience=retries.Policy(attempts=1))


def _record(name: str, facts: Mapping[str, object]) -> None:
    """Add to what the job keeps, and print it for whoever reads the log."""
    line = {"name": name, "macos": platform.mac_ver()[0], "machine": platform.machine(), **facts}
    print(json.dumps(line, indent=2, sort_keys=True))  # noqa: T201 - the log is a reader, too
    if where := os.environ.get("SECOND_OPINION"):
        with Path(where).open("a") as record:
            record.write(json.dumps(line, sort_keys=True) + "\n")


def _app(folder: Path, *, metallib: bool) -> Path:
    """The release's layout, unsigned."""
    app = folder / "Darkbloom.app"
    (app / "Contents/MacOS").mkdir(parents=True)
    (app / "Contents/Resources").mkdir()
    info = {
        "CFBundleExecutable": "darkbloom",
        "CFBundleIdentifier": IDENTIFIER,
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": "0.5.0",
        "LSMinimumSystemVersion": "14.0",
    }
    files = {
        "Contents/Info.plist": plistlib.dumps(info),
        "Contents/Resources/notes.txt": b"text\n",
        MAIN: samples.executable("darkbloom", "0.5.0"),
        HELPER: samples.executable("darkbloom-enclave", "0.5.0"),
    }
    if metallib:
        files[METALLIB] = samples.metallib()
    for path, content in files.items():
        (app / path).write_bytes(content)
        (app / path).chmod(0o755 if path in (MAIN, HELPER) else 0o644)
    return app


def _portably(app: Path) -> None:
    portable_signer.sign_app(
        app,
        main=portable_signer.Executable(path=MAIN, identifier=IDENTIFIER, entitlements=CLAIMS),
        nested=[portable_signer.Executable(path=HELPER, identifier=HELPER_IDENTIFIER)],
    )


def _with_codesign(app: Path, scratch: Path, *, metallib: bool) -> None:
    code = [Code(path=METALLIB, identifier=f"{IDENTIFIER}.mlx")] if metallib else []
    code += [
        Code(path=HELPER, identifier=HELPER_IDENTIFIER),
        Code(path="", identifier=IDENTIFIER, entitlements=CLAIMS),
    ]
    codesign_signer.sign_code(
        app, code, identity=codesign.AD_HOC, scratch=scratch, route=ROUTE, reporter=Silent()
    )


def _verdict(app: Path) -> dict[str, object]:
    """Apple's own, whatever it is."""
    arguments = ["--verify", "--deep", "--strict", "--verbose=2", str(app)]
    said = apple_tools.run(TOOLS.codesign, arguments, tools=TOOLS, seconds=120)
    return {"accepted": said.status == 0, "said": said.lines}


def _ours(app: Path) -> BundleReport:
    judge = Judge(trust=look_alike.trust(), now=datetime.now(UTC), strict=False)
    return bundle.verify(DiskTree(app), judge=judge, path=app.name)


def _failed(report: BundleReport) -> list[str]:
    return [
        f"{one.name} {one.subject}: {one.observed}"
        for one in report.checks
        if one.outcome == "failed"
    ]


def test_codesign_accepts_the_portable_signers_app(tmp_path: Path) -> None:
    """`--verify --deep --strict` on an app of ours, executables and resources."""
    app = _app(tmp_path, metallib=False)
    _portably(app)
    found = _verdict(app)
    _record("portable, without a metallib", found)
    assert found["accepted"]


def test_whether_codesign_accepts_a_metallib_sealed_as_data(tmp_path: Path) -> None:
    """Recorded, whatever it says: it decides which signer a release takes.

    What is asserted is that the verdict hangs on the metallib alone, and that a damaged metallib is
    refused: the seal covers it.
    """
    app = _app(tmp_path, metallib=True)
    _portably(app)
    found = _verdict(app)
    _record("portable, metallib sealed as data", found)
    if found["accepted"]:
        (app / METALLIB).write_bytes(samples.metallib()[:-1] + b"\xff")
        assert not _verdict(app)["accepted"]
    else:
        assert "mlx.metallib" in str(found["said"])


def test_we_accept_codesigns_app(tmp_path: Path) -> None:
    """Apple's signer on the same app, judged by its own tool and by ours."""
    app = _app(tmp_path, metallib=False)
    _with_codesign(app, tmp_path, metallib=False)
    assert _failed(_ours(app)) == []


def test_codesigns_metallib_is_read_where_it_lies(tmp_path: Path) -> None:
    """Its signature is in extended attributes; their names, and what we make of them, are kept."""
    app = _app(tmp_path, metallib=True)
    _with_codesign(app, tmp_path, metallib=True)
    parts = DiskTree(app).detached(METALLIB)
    failed = _failed(_ours(app))
    sizes = {name: len(content) for name, content in parts.items()}
    _record("codesign, metallib in extended attributes", {"parts": sizes, "we refuse": failed})
    assert "CodeDirectory" in parts


def test_cdhashes_of_both_signers(tmp_path: Path) -> None:
    """Each tool reads the same cdhash in the same file; whether both write the same is kept."""
    ours, theirs = (tmp_path / name for name in ("ours", "theirs"))
    for folder in (ours, theirs):
        folder.mkdir()
        _app(folder, metallib=False)
    _portably(ours / "Darkbloom.app")
    _with_codesign(theirs / "Darkbloom.app", tmp_path, metallib=False)
    found: dict[str, object] = {}
    for signer, folder in (("portable", ours), ("codesign", theirs)):
        app = folder / "Darkbloom.app"
        facts = _ours(app).facts
        assert facts is not None
        for path in (HELPER, MAIN):
            read = facts.code[path].primary
            assert read is not None
            said = codesign.describe(app if path == MAIN else app / path)
            assert said.cdhash_full == read.full_digest
            assert said.identifier == read.identifier
            assert said.flags == read.flags
            found[f"{signer} {path}"] = {
                "cdhash": said.cdhash,
                "flags": f"{said.flags:#x}",
                "version": f"{read.version:#x}",
                "page size": read.page_size,
                "slots": list(read.sealed_slots),
                "code limit": read.code_limit,
            }
    seals = [
        hashlib.sha256(
            (folder / "Darkbloom.app/Contents/_CodeSignature/CodeResources").read_bytes()
        ).hexdigest()
        for folder in (ours, theirs)
    ]
    found["the same seal"] = seals[0] == seals[1]
    for path in (HELPER, MAIN):
        found[f"the same {path}"] = found[f"portable {path}"] == found[f"codesign {path}"]
    _record("cdhashes of both signers", found)


def test_apples_tar_carries_signatures_beside_files(tmp_path: Path) -> None:
    """Packed and unpacked by macOS's tar, codesign still accepts the metallib's signature."""
    root, opened = tmp_path / "root", tmp_path / "opened"
    root.mkdir()
    opened.mkdir()
    app = _app(root, metallib=True)
    _with_codesign(app, tmp_path, metallib=True)
    made = tmp_path / "made.tar.gz"
    copies = {"bin/mlx.metallib": f"Darkbloom.app/{METALLIB}"}
    system_tar.pack(root, made, copies=copies, scratch=tmp_path)
    system_tar.unpack(made, opened)
    codesign.verify(opened / "Darkbloom.app")
    original = (app / METALLIB).read_bytes()
    assert (opened / "bin/mlx.metallib").read_bytes() == original


def test_a_keychain_of_the_run_on_the_real_security(tmp_path: Path) -> None:
    """Made, filled and removed; an identity that leads to no root of Apple's is not valid.

    The user's search list is afterwards what it was.
    """
    found, p12 = identity.for_keychain(
        look_alike.authority().identity_p12("original", with_chain=True),
        "original",
        new_password="known",
        known=look_alike.trust().roots,
    )
    before = keychain._search_list(TOOLS)
    folder = tmp_path / "keychains of runs"
    wanted = keychain.Wanted(name=found.name)
    with keychain.made_for_run(folder, reporter=Silent()) as made:
        assert keychain._search_list(TOOLS) == [str(made.path), *before]
        with pytest.raises(errors.CredentialError, match="does not hold") as caught:
            made.add(p12, "known", wanted, scratch=tmp_path)
    assert "0 valid identities" in caught.value.observed
    assert keychain._search_list(TOOLS) == before
    assert not list(folder.glob("run-*"))
    shutil.rmtree(folder)
