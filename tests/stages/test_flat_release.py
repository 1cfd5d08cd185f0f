"""Assemble, sign and archive a flat release: by either signer, without an app around it."""

from __future__ import annotations

import os
import plistlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool import data, errors, layout
from release_tool.cli.wiring import STAGES
from release_tool.files import archive_reader
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import samples
from release_tool.stages import (
    archive,
    assemble,
    github,
    mac_verdicts,
    notarize,
    profile,
    promote,
    public_copy,
    publish,
    register,
    role_entitlements,
    sign,
    smoke,
    staple,
)
from release_tool.values import AssembledBundle, ReleaseArchive, SignedBundle
from tests import look_alike
from tests.stages.release_parts import Told, changed, entitlements, metallib
from tests.stages.test_sign_with_codesign import NAME, _ready, _route

MAIN, HELPER = "darkbloom", "darkbloom-enclave"
READS = {
    "profile": profile.READS,
    "assemble": assemble.READS,
    "sign": sign.READS,
    "notarize": notarize.READS,
    "staple": staple.READS,
    "archive": archive.READS,
    "smoke": smoke.READS,
    "publish": publish.READS,
    "register": register.READS,
    "promote": promote.READS,
    "github": github.READS,
}


@pytest.fixture
def flat(plan: ReleasePlan) -> ReleasePlan:
    """The small plan as a flat release, its executables with entitlements that need no profile."""
    executables = [
        one.model_dump(mode="json") | {"identifier": one.name, "entitlements": "bridge.plist"}
        for one in plan.bundle.executables
    ]
    return changed(
        plan,
        bundle={"executables": executables, "metallib": None},
        product={"backend": "another"},
        flavour={"name": "bridge", "layout": "flat", "tag_prefix": "bridge-v"},
    )


@dataclass(frozen=True)
class Made:
    """A flat release, signed and packed."""

    plan: ReleasePlan
    workspace: Workspace
    assembled: AssembledBundle
    signed: SignedBundle
    archived: ReleaseArchive


def laid_out(
    plan: ReleasePlan, folder: Path, *, from_folder: Path | None = None, with_metallib: bool = False
) -> AssembledBundle:
    built = folder / "built"
    samples.materialize(built, plan.version, names=[one.name for one in plan.bundle.executables])
    workspace = Workspace(folder / "work")
    workspace.root.mkdir(exist_ok=True)
    return assemble.run(
        plan,
        None,
        workspace=workspace,
        reporter=Told(),
        binaries=built,
        entitlements=from_folder or data.entitlements_folder(),
        metallib=metallib(folder) if with_metallib else None,
        cache=folder / "cache",
        environ=dict(os.environ),
    )


def carried(plan: ReleasePlan, folder: Path, *, with_metallib: bool = False) -> Made:
    """From binaries to the archive, by the portable signer."""
    assembled = laid_out(plan, folder, with_metallib=with_metallib)
    workspace = Workspace(folder / "work")
    with look_alike.timestamp_server() as url:
        signed = sign.run(
            plan,
            assembled,
            workspace=workspace,
            reporter=Silent(),
            identity=look_alike.signer(),
            trust=look_alike.trust(),
            timestamp_url=url,
        )
    archived = archive.run(
        plan,
        signed,
        assembled,
        workspace=workspace,
        reporter=Silent(),
        trust=look_alike.trust(),
    )
    return Made(plan, workspace, assembled, signed, archived)


def test_a_flat_release_is_its_executables(flat: ReleasePlan, tmp_path: Path) -> None:
    """Each signed alone with its own identifier; the archive holds the signed bytes, once."""
    made = carried(flat, tmp_path)
    assert (made.assembled.app, made.assembled.metallib_origin) == ("bin", "")
    assert [one.path for one in made.assembled.files] == [f"bin/{MAIN}", f"bin/{HELPER}"]
    code = {one.path: one for one in made.signed.code}
    assert {path: one.identifier for path, one in code.items()} == {
        f"bin/{MAIN}": MAIN,
        f"bin/{HELPER}": HELPER,
    }
    assert made.signed.sealed_files == 0
    digests = {one.path: one.sha256 for one in made.signed.files}
    assert {one.path: one.sha256 for one in made.archived.members} == digests
    assert made.archived.binary_sha256 == digests[f"bin/{MAIN}"]
    assert made.archived.enclave_sha256 == digests[f"bin/{HELPER}"]
    assert made.archived.metallib_sha256 == ""
    assert made.archived.cdhash == code[f"bin/{MAIN}"].cdhash


def test_a_flat_release_may_hold_a_metal_library(
    flat: ReleasePlan, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It lies beside the executables as it was given, and its digest is known."""
    assert plan.bundle.metallib
    pin = plan.bundle.metallib.model_dump(mode="json")
    made = carried(changed(flat, bundle={"metallib": pin}), tmp_path, with_metallib=True)
    assert f"bin/{pin['name']}" in {one.path for one in made.archived.members}
    assert made.archived.metallib_sha256 == made.assembled.metallib_sha256
    assert {one.path for one in made.signed.code} == {f"bin/{MAIN}", f"bin/{HELPER}"}


def test_what_users_download_is_judged_by_its_executables(
    flat: ReleasePlan, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The same archive holds for the flat plan, and is refused where an app is meant."""
    made = carried(flat, tmp_path)
    root = tmp_path / "served"
    root.mkdir()
    unpacked = archive_reader.unpack(made.workspace.path(made.archived.path), root)
    judge = public_copy.from_the_seal_down(look_alike.trust())

    def refused(by: ReleasePlan) -> list[str]:
        judged = judge(by, made.archived, root, unpacked)
        return [check.name for check in judged if check.outcome == "failed"]

    assert refused(flat) == []
    assert "layout" in refused(plan)
    (root / "bin" / HELPER).unlink()
    assert "flat copies" in refused(flat)


def test_no_profile_no_restricted_entitlement(flat: ReleasePlan, tmp_path: Path) -> None:
    """What only a profile grants is refused before anything is signed, whatever the role."""
    folder = entitlements(tmp_path)
    claims = {"keychain-access-groups": [f"{look_alike.TEAM}.io.darkbloom.provider"]}
    (folder / "bridge.plist").write_bytes(plistlib.dumps(claims))
    with pytest.raises(errors.VerificationError) as caught:
        laid_out(flat, tmp_path, from_folder=folder)
    told = "\n".join(caught.value.details)
    for name in (MAIN, HELPER):
        assert f"restricted entitlements of {name}: expected none" in told
    assert role_entitlements.resolve(flat, data.entitlements_folder(), {}).checks


def test_apples_tools_sign_each_file(flat: ReleasePlan, tmp_path: Path) -> None:
    """Neither a folder nor a library goes to codesign; macOS's tar packs what came of it."""
    apples = changed(flat, environment={"signer": "codesign"}, product={"signing_identity": NAME})
    assembled = laid_out(apples, tmp_path)
    workspace = Workspace(tmp_path / "work")
    with look_alike.timestamp_server() as url:
        mac = _ready(tmp_path, url)
        signed = sign.run(
            apples,
            assembled,
            workspace=workspace,
            reporter=Told(),
            identity=None,
            trust=look_alike.trust(),
            timestamp_url="",
            route=_route(mac),
        )
    commands = mac.commands("codesign")
    bare = [f"/bin/{HELPER}", f"/bin/{MAIN}"]
    assert [words[-1].rpartition("/signed")[2] for words in commands if "--sign" in words] == bare
    assert [words[-1].rpartition("/signed")[2] for words in commands if "--verify" in words] == bare
    assert signed.signer == "codesign"
    assert {one.path for one in signed.code} == {f"bin/{MAIN}", f"bin/{HELPER}"}
    archived = archive.run(
        apples,
        signed,
        assembled,
        workspace=workspace,
        reporter=Silent(),
        trust=look_alike.trust(),
        tools=mac.tools,
    )
    with tarfile.open(workspace.path(archived.path)) as tar:
        names = {one.name.removeprefix("./") for one in tar if one.isfile()}
    assert {f"bin/{MAIN}", f"bin/{HELPER}"} <= names
    assert not (mac.root / "misused").exists()


def test_of_bare_code_codesign_alone_is_asked(flat: ReleasePlan, tmp_path: Path) -> None:
    """Spctl and stapler judge apps; each executable has a verdict of its own."""
    asked = mac_verdicts.of_unpacked(flat)(tmp_path)
    assert set(asked) == {f"codesign {MAIN}", f"codesign {HELPER}"}


def test_no_stage_reads_what_the_flavour_of_before_would_say(
    plan: ReleasePlan, flat: ReleasePlan
) -> None:
    """Records of every stage go on counting; of a flat release the layout is part of them."""
    assert set(READS) == set(STAGES)
    for name, reads in READS.items():
        assert not [key for key in plan.part(reads) if key.startswith("flavour")], name
    told = {name for name, reads in READS.items() if "flavour.layout" in flat.part(reads)}
    assert told >= {"assemble", "sign", "notarize", "archive", "smoke", "publish"}


def test_places_are_those_of_the_layout(plan: ReleasePlan, flat: ReleasePlan) -> None:
    """An app repeats its executables under `bin/`; flat files stand there once."""
    app, bare = layout.of(plan), layout.of(flat)
    assert app.place(MAIN) == f"Contents/MacOS/{MAIN}"
    assert app.flat_copies[f"bin/{MAIN}"] == f"Darkbloom.app/Contents/MacOS/{MAIN}"
    assert app.omitted == {}
    assert (bare.top, bare.place(MAIN), bare.flat_copies) == ("bin", MAIN, {})
    assert set(bare.omitted) == {"profile", "staple"}
    assert layout.flat_names(flat)[0] == flat.bundle.main_executable
