"""The assemble stage on real Mach-O samples and a look-alike profile."""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
from collections.abc import Callable
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import metal_library
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import samples
from release_tool.stages import assemble, build_output
from tests import linked_macho
from tests.stages import release_parts
from tests.stages.release_parts import Told, assembled, binaries, changed

APP = "Darkbloom.app"


def _listing(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): path.lstat().st_mode & 0o777
        for path in root.rglob("*")
        if not path.is_dir()
    }


def _refusal(plan: ReleasePlan, folder: Path, **options: Path) -> str:
    with pytest.raises(errors.VerificationError) as caught:
        assembled(plan, folder, **options)  # type: ignore[arg-type]
    assert not (folder / "work" / assemble.ROOT).exists()
    return "\n".join(caught.value.lines())


def test_the_app_is_laid_out_as_the_contract_says(plan: ReleasePlan, tmp_path: Path) -> None:
    """Exactly the files of the May layout, regular, with their modes and contents."""
    value = assembled(plan, tmp_path)
    root = tmp_path / "work" / value.root
    assert _listing(root) == {
        f"{APP}/Contents/Info.plist": 0o644,
        f"{APP}/Contents/embedded.provisionprofile": 0o644,
        f"{APP}/Contents/MacOS/darkbloom": 0o755,
        f"{APP}/Contents/MacOS/darkbloom-enclave": 0o755,
        f"{APP}/Contents/MacOS/mlx.metallib": 0o644,
    }
    contents = root / APP / "Contents"
    assert plistlib.loads((contents / "Info.plist").read_bytes()) == {
        "CFBundleIdentifier": "io.darkbloom.provider",
        "CFBundleExecutable": "darkbloom",
        "CFBundleName": "Darkbloom",
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": plan.version,
        "CFBundleVersion": plan.version,
        "LSMinimumSystemVersion": "14.0",
    }
    assert (contents / "MacOS" / "darkbloom").read_bytes() == samples.executable(
        "darkbloom", plan.version, plan.source.commit
    )
    profile = (tmp_path / "work" / "embedded.provisionprofile").read_bytes()
    assert (contents / "embedded.provisionprofile").read_bytes() == profile


def test_the_value_names_every_file_and_its_origin(plan: ReleasePlan, tmp_path: Path) -> None:
    """The recorded outputs are the digests on disk; source, tests and versions are told."""
    value = assembled(plan, tmp_path)
    for path, digest in value.outputs().items():
        content = (tmp_path / "work" / path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert value.source_commit == plan.source.commit
    assert value.test_outcome == "passed"
    assert [(one.name, one.version, one.minos) for one in value.binaries] == [
        ("darkbloom", plan.version, "14.0.0"),
        ("darkbloom-enclave", plan.version, "14.0.0"),
    ]
    assert value.binaries[0].version_proof in ("ran", "found")
    assert value.metallib_sha256 == hashlib.sha256(samples.metallib()).hexdigest()
    assert value.metallib_origin == "a given file"


def test_it_can_run_again_over_its_leftover(plan: ReleasePlan, tmp_path: Path) -> None:
    """A second run over what an interrupted one left gives the same files."""
    first = assembled(plan, tmp_path)
    stray = tmp_path / "work" / first.root / "stray"
    stray.write_text("left")
    second = assembled(plan, tmp_path)
    assert second == first
    assert not stray.exists()


def test_the_entitlements_differ_by_role(plan: ReleasePlan, tmp_path: Path) -> None:
    """The provider claims its identity and access group; the enclave helper nothing restricted."""
    value = assembled(plan, tmp_path)
    provider = value.entitlements["darkbloom"]
    enclave = value.entitlements["darkbloom-enclave"]
    assert provider == {
        "com.apple.application-identifier": "SLDQ2GJ6TL.io.darkbloom.provider",
        "com.apple.developer.team-identifier": "SLDQ2GJ6TL",
        "keychain-access-groups": ["SLDQ2GJ6TL.io.darkbloom.provider"],
        "com.apple.security.network.client": True,
        "com.apple.security.network.server": True,
    }
    assert enclave == {"com.apple.security.network.client": True}


def test_what_the_profile_grants_is_added(plan: ReleasePlan, tmp_path: Path) -> None:
    """An entitlement of `when_granted` is claimed if and only if the profile grants it."""
    key = "com.apple.developer.devicecheck.appattest-environment"
    addition = {"executable": "darkbloom", "key": key, "value": "production"}
    wanting = changed(plan, bundle={"when_granted": [addition]})
    without = assembled(wanting, tmp_path)
    granted = assembled(wanting, tmp_path, granted={key: ["development", "production"]})
    assert key not in (without.entitlements["darkbloom"] or {})
    assert (granted.entitlements["darkbloom"] or {})[key] == "production"


def test_resources_helpers_and_markers(plan: ReleasePlan, tmp_path: Path) -> None:
    """Declared resources and helpers get their places; a marker stands only where its code is."""
    helper = {"name": "darkbloom-fan-helper", "role": "helper", "identifier": "io.darkbloom.fan"}
    wanting = changed(
        plan,
        bundle={
            "resources": [{"source": "kernels.bundle", "destination": "kernels.bundle"}],
            "helpers": [helper],
            "capability_markers": [
                {"name": "sample-v1", "code_string": "sample-record:version"},
                {"name": "absent-v1", "code_string": "no such string"},
            ],
        },
    )
    built = binaries(tmp_path / "built", plan)
    (built / "kernels.bundle" / "inner").mkdir(parents=True)
    (built / "kernels.bundle" / "inner" / "a.metal").write_text("kernel")
    (built / "darkbloom-fan-helper").write_bytes(samples.template("darkbloom-enclave"))
    value = assembled(wanting, tmp_path, binaries_folder=built)
    contents = tmp_path / "work" / value.root / APP / "Contents"
    markers = contents / "Resources" / "darkbloom-runtime-capabilities"
    assert (contents / "Resources/kernels.bundle/inner/a.metal").read_text() == "kernel"
    assert (contents / "Helpers/darkbloom-fan-helper").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in markers.iterdir()] == ["sample-v1"]
    assert (markers / "sample-v1").read_bytes() == b"1"


def _set_minimum(code: bytes, minimum: bytes) -> bytes:
    """The sample with another minimum macOS in its LC_BUILD_VERSION."""
    at = code.index((0x32).to_bytes(4, "little") + (32).to_bytes(4, "little"))
    return code[: at + 12] + minimum + code[at + 16 :]


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def write(built: Path) -> None:
        (built / name).write_bytes(content)

    return write


def _link(built: Path) -> None:
    (built / "darkbloom").rename(built / "real")
    (built / "darkbloom").symlink_to("real")


_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda built: (built / "darkbloom").unlink(), "darkbloom: expected present"),
    "undeclared": (_write("extra.txt", b"x"), "extra.txt: expected declared"),
    "AppleDouble": (_write("._darkbloom", b"x"), "AppleDouble file of ._darkbloom"),
    "link": (_link, "expected a regular file, observed a link"),
    "other bytes": (
        lambda built: (built / "darkbloom").write_bytes(
            samples.executable("darkbloom", "0.5.0") + b"\0"
        ),
        "digest of darkbloom",
    ),
    "another version": (
        lambda built: samples.materialize(built, "0.5.1"),
        "version inside of darkbloom: expected 0.5.0",
    ),
    "a longer version": (
        lambda built: samples.materialize(built, "0.5.0-dev.1"),
        "version inside of darkbloom: expected 0.5.0",
    ),
    "another architecture": (
        _write("darkbloom", samples.template(samples.FOREIGN)),
        "architecture of darkbloom: expected arm64, observed x86_64",
    ),
    "no code": (_write("darkbloom", b"#!/bin/sh\n"), "Mach-O of darkbloom"),
    "a newer minimum": (
        _write(
            "darkbloom", _set_minimum(samples.executable("darkbloom", "0.5.0"), b"\x00\x00\x0f\x00")
        ),
        "minimum macOS of darkbloom: expected at most 14.0, observed 15.0.0",
    ),
}


@pytest.mark.parametrize("fault", sorted(_FAULTS))
def test_a_wrong_build_is_refused(plan: ReleasePlan, tmp_path: Path, fault: str) -> None:
    """Each fault of the binaries folder is named with what was expected and what was there."""
    spoil, expected = _FAULTS[fault]
    built = binaries(tmp_path / "built", plan)
    spoil(built)
    assert expected in _refusal(plan, tmp_path, binaries_folder=built)


def test_a_build_for_another_coordinator_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """What an environment wants built in must stand in the main executable, and only there."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    built = changed(plan, environment={"built_in": ["sample-record:version"]})
    assert assembled(built, tmp_path / "ours").binaries
    foreign = changed(plan, environment={"built_in": ["api.darkbloom.dev"]})
    text = _refusal(foreign, tmp_path / "theirs")
    assert "built in of darkbloom: expected api.darkbloom.dev, observed nowhere in it" in text
    assert "built in of darkbloom-enclave" not in text


def test_all_faults_are_told_at_once(plan: ReleasePlan, tmp_path: Path) -> None:
    """Faults of the folder, the code and the entitlements come in one error."""
    built = binaries(tmp_path / "built", plan)
    (built / "extra").write_text("x")
    (built / "darkbloom-enclave").write_bytes(samples.template(samples.FOREIGN))
    folder = release_parts.entitlements(tmp_path)
    (folder / "provider.plist").write_bytes(plistlib.dumps({"com.apple.developer.team": "X"}))
    text = _refusal(plan, tmp_path, binaries_folder=built, entitlements_folder=folder)
    for expected in ("extra", "architecture of darkbloom-enclave", "com.apple.developer.team"):
        assert expected in text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("provider.plist", {"com.apple.developer.aps-environment": "production"}, "granted"),
        ("provider.plist", {"com.apple.security.get-task-allow": True}, "get-task-allow"),
        ("provider.plist", {"keychain-access-groups": ["OTHERTEAM0.x"]}, "OTHERTEAM0.x"),
        ("enclave.plist", {"keychain-access-groups": ["SLDQ2GJ6TL.x"]}, "restricted entitlements"),
        ("provider.plist", {"keychain-access-groups": ["$(AppIdentifierPrefix)x"]}, "$("),
        ("provider.plist", None, "a property list"),
    ],
)
def test_wrong_entitlements_are_refused(
    plan: ReleasePlan, tmp_path: Path, name: str, content: dict[str, object] | None, expected: str
) -> None:
    """Keys that the profile or the role does not allow, placeholders and non-lists are refused."""
    folder = release_parts.entitlements(tmp_path)
    whole = plistlib.loads((folder / name).read_bytes())
    text = b"nothing" if content is None else plistlib.dumps(whole | content)
    (folder / name).write_bytes(text)
    assert expected in _refusal(plan, tmp_path, entitlements_folder=folder)


def test_a_jit_role_needs_its_exception(plan: ReleasePlan, tmp_path: Path) -> None:
    """An executable that release.yaml calls `jit` is refused without allow-jit."""
    executables = [one.model_dump(mode="json") for one in plan.bundle.executables]
    executables[1]["jit"] = True
    jit = changed(plan, bundle={"executables": executables})
    assert "com.apple.security.cs.allow-jit" in _refusal(jit, tmp_path)
    folder = release_parts.entitlements(tmp_path)
    whole = plistlib.loads((folder / "enclave.plist").read_bytes())
    whole["com.apple.security.cs.allow-jit"] = True
    (folder / "enclave.plist").write_bytes(plistlib.dumps(whole))
    value = assembled(jit, tmp_path, entitlements_folder=folder)
    assert (value.entitlements["darkbloom-enclave"] or {})["com.apple.security.cs.allow-jit"]


def test_what_macos_would_ignore_is_told(plan: ReleasePlan, tmp_path: Path) -> None:
    """A misspelt key of Apple's family stops nothing, but nobody learns of it too late."""
    folder = release_parts.entitlements(tmp_path)
    whole = plistlib.loads((folder / "enclave.plist").read_bytes())
    whole["com.apple.security.network.servers"] = True
    (folder / "enclave.plist").write_bytes(plistlib.dumps(whole))
    told = Told()
    assembled(plan, tmp_path, entitlements_folder=folder, reporter=told)
    assert "did you mean com.apple.security.network.server?" in "\n".join(told.warnings)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ({"libraries": ["/opt/homebrew/lib/libz.dylib"]}, "linked library of"),
        ({"libraries": ["@rpath/libpart.dylib"]}, "linked library of"),
        ({"search_paths": ["/Users/ci/provider/.build/release"]}, "search path of"),
    ],
)
def test_libraries_of_the_build_host_are_refused(
    plan: ReleasePlan, tmp_path: Path, code: dict[str, list[str]], expected: str
) -> None:
    """Dyld would look where no user has anything: refused before anything is signed."""
    built = binaries(tmp_path / "built", plan)
    content = linked_macho.build(**code)  # type: ignore[arg-type]
    (built / "darkbloom-enclave").write_bytes(content)
    manifest = json.loads((built / build_output.MANIFEST).read_text())
    manifest["files"]["darkbloom-enclave"] = hashlib.sha256(content).hexdigest()
    (built / build_output.MANIFEST).write_text(json.dumps(manifest))
    assert expected in _refusal(plan, tmp_path, binaries_folder=built)


def test_a_metal_library_for_newer_systems_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """August: a library for macOS 26.2 in a release that promised 14 blocked users' updates."""
    given = tmp_path / "new.metallib"
    size = metal_library.HEADER_SIZE
    given.write_bytes(metal_library.header(size=size, minimum="26.2"))
    text = _refusal(plan, tmp_path, metallib_file=given)
    assert "Metal target of Contents/MacOS/mlx.metallib: expected at most 14.0" in text
    assert "observed 26.2" in text


def test_extended_attributes_are_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """An attribute on a binary is refused by name."""
    built = binaries(tmp_path / "built", plan)
    if not hasattr(os, "setxattr"):
        pytest.skip("this system has no setxattr in Python")
    try:
        os.setxattr(built / "darkbloom", "user.quarantine", b"1")
    except OSError:
        pytest.skip("this volume has no extended attributes")
    assert "observed user.quarantine" in _refusal(plan, tmp_path, binaries_folder=built)


def test_a_file_that_is_no_metal_library_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """What `--metallib` names must at least begin as a Metal library does."""
    workspace = Workspace(tmp_path / "work")
    given = tmp_path / "other"
    given.write_bytes(b"MTLX")
    with pytest.raises(errors.VerificationError) as caught:
        assemble.run(
            plan,
            release_parts.verified_profile(plan, workspace),
            workspace=workspace,
            reporter=Told(),
            binaries=binaries(tmp_path / "built", plan),
            entitlements=release_parts.entitlements(tmp_path),
            metallib=given,
            cache=tmp_path / "cache",
            environ={},
        )
    assert "expected a Metal library" in "\n".join(caught.value.lines())


def _forget(built: Path, *names: str) -> None:
    manifest = json.loads((built / build_output.MANIFEST).read_text())
    for name in names:
        del manifest[name]
    (built / build_output.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("forgotten", "expected"),
    [
        ("source_commit", "source commit of build.json"),
        ("test_outcome", "test outcome of build.json: expected passed, observed unknown"),
        ("files", "digest of darkbloom: expected one in build.json"),
    ],
)
def test_unknown_is_refused_where_the_source_must_be_known(
    plan: ReleasePlan, tmp_path: Path, forgotten: str, expected: str
) -> None:
    """An environment like prod takes no binaries of unknown commit, tests or digests."""
    built = binaries(tmp_path / "built", plan)
    _forget(built, forgotten)
    strict = changed(plan, environment={"require_known_source": True})
    assert expected in _refusal(strict, tmp_path, binaries_folder=built)


@pytest.mark.parametrize("strict", [True, False])
def test_a_build_whose_tests_failed(plan: ReleasePlan, tmp_path: Path, *, strict: bool) -> None:
    """An environment like prod refuses it; another records it, and says so."""
    built = binaries(tmp_path / "built", plan)
    manifest = json.loads((built / build_output.MANIFEST).read_text())
    (built / build_output.MANIFEST).write_text(json.dumps(manifest | {"test_outcome": "failed"}))
    asked = changed(plan, environment={"require_known_source": strict})
    if strict:
        refusal = _refusal(asked, tmp_path, binaries_folder=built)
        assert "test outcome of build.json: expected passed, observed failed" in refusal
        return
    told = Told()
    assert assembled(asked, tmp_path, binaries_folder=built, reporter=told).test_outcome == "failed"
    assert "the build's test outcome is failed" in told.warnings


def test_a_resource_bundle_that_the_build_forgot_is_refused(
    plan: ReleasePlan, tmp_path: Path
) -> None:
    """July: an app without SwiftPM's resource bundle crashed before it could update itself."""
    kernels = {"source": "kernels.bundle", "destination": "kernels.bundle"}
    wanting = changed(plan, bundle={"resources": [kernels]})
    built = binaries(tmp_path / "built", plan)
    refusal = _refusal(wanting, tmp_path, binaries_folder=built)
    assert "kernels.bundle: expected present" in refusal


def test_unknown_is_recorded_elsewhere(plan: ReleasePlan, tmp_path: Path) -> None:
    """Without a manifest everything is recorded as unknown, and said."""
    built = binaries(tmp_path / "built", plan)
    (built / build_output.MANIFEST).unlink()
    told = Told()
    value = assembled(plan, tmp_path, binaries_folder=built, reporter=told)
    assert (value.source_commit, value.test_outcome) == ("unknown", "unknown")
    assert told.warnings == [
        "the binaries' source commit is unknown",
        "the build's test outcome is unknown",
    ]


def test_another_commit_is_refused_or_said(plan: ReleasePlan, tmp_path: Path) -> None:
    """Binaries of another commit than the release's are refused by prod and told elsewhere."""
    built = tmp_path / "built"
    samples.materialize(built, plan.version, "ab" * 20)
    told = Told()
    assembled(plan, tmp_path, binaries_folder=built, reporter=told)
    assert any("abababa" in warning for warning in told.warnings)
    (tmp_path / "strict").mkdir()
    strict = changed(plan, environment={"require_known_source": True})
    assert "source commit" in _refusal(strict, tmp_path / "strict", binaries_folder=built)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 1}',
        '{"commit": "x"}',
        '{"files": {"a": "b"}}',
        "[" * 100_000,
        '{"version": "1", "version": "2"}',
        '{"source_commit": "main"}',
    ],
)
def test_a_damaged_manifest_is_a_format_error(plan: ReleasePlan, tmp_path: Path, text: str) -> None:
    """`build.json` that is not of its shape gives one clear error."""
    built = binaries(tmp_path / "built", plan)
    (built / build_output.MANIFEST).write_text(text)
    with pytest.raises(errors.FormatError, match=r"build\.json"):
        build_output.read_manifest(built)


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        (b"\0000.5.0\000", True),
        (b"v 0.5.0 ", True),
        (b"\x0010.5.0\x00", False),
        (b"\x000.5.0-dev.1\x00", False),
        (b"\x000.5.01\x00", False),
    ],
)
def test_a_version_is_found_whole(code: bytes, holds: bool) -> None:
    """A version counts only where it does not stand inside a longer one."""
    assert build_output.holds_version(code, "0.5.0") is holds
