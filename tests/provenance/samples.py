"""A signed release's facts, small: what statements, bills and logs are made of."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from release_tool import config
from release_tool.plan import ReleasePlan
from release_tool.provenance import keys, sbom, statement
from release_tool.provenance.keys import SigningKey
from release_tool.provenance.log import Entry, Kind
from release_tool.provenance.sbom import Code
from release_tool.values import (
    AssembledBundle,
    BuiltBinary,
    ReleaseArchive,
    SealedFile,
    SignedBundle,
    VerifiedProfile,
)

COMMIT = "3f2a91c" + "0" * 33
BUILDER = "https://ci.example/release.yml"


@lru_cache
def key(name: str = "ours") -> SigningKey:
    """A key of its own for each name, the same within a run."""
    del name
    return keys.load(keys.make().encode())


def with_provenance(plan: ReleasePlan, *trusted: SigningKey) -> ReleasePlan:
    """The plan, asking for provenance by these keys."""
    whole = plan.model_dump(mode="json")
    whole["environment"]["provenance"] = {
        "builder": BUILDER,
        "keys": [one.public.line for one in trusted],
    }
    return ReleasePlan.model_validate(whole)


def files(metallib_sha256: str) -> tuple[SealedFile, ...]:
    """A program, its copy, its library and the app's plist."""
    return (
        _file("Darkbloom.app/Contents/MacOS/darkbloom", "a" * 64, 0o755),
        _file("Darkbloom.app/Contents/MacOS/mlx.metallib", metallib_sha256),
        _file("Darkbloom.app/Contents/Info.plist", "b" * 64),
        _file("bin/darkbloom", "a" * 64, 0o755),
    )


def _file(path: str, sha256: str, mode: int = 0o644) -> SealedFile:
    return SealedFile(path=path, mode=mode, size=7, sha256=sha256)


def code() -> tuple[Code, ...]:
    return (
        Code(
            path="Darkbloom.app/Contents/MacOS/darkbloom",
            arch="arm64",
            identifier="io.darkbloom.provider",
            team_id="SLDQ2GJ6TL",
            cdhash="c" * 40,
            minos="14.0",
            sdk="15.2",
            libraries=("@rpath/libunusual.dylib",),
        ),
    )


def materials(plan: ReleasePlan, *, sha256: str = "9" * 64) -> statement.Materials:
    pin = plan.bundle.metallib
    assert pin
    return statement.Materials(
        archive=archive(plan, sha256),
        assembled=AssembledBundle(
            root="assembled",
            app="Darkbloom.app",
            files=(),
            source_commit=COMMIT,
            test_outcome="passed",
            binaries=(
                BuiltBinary(
                    name="darkbloom",
                    sha256="d" * 64,
                    version=plan.version,
                    version_proof="found",
                    minos="14.0",
                    sdk="15.2",
                ),
            ),
            metallib_sha256=pin.sha256,
            metallib_origin=f"{pin.package} {pin.version}",
            entitlements={},
        ),
        signed=SignedBundle(
            root="signed",
            app="Darkbloom.app",
            files=(),
            code=(),
            signer="portable",
            certificate_sha256="e" * 64,
            certificate_name="Developer ID Application: Look-alike (SLDQ2GJ6TL)",
            sealed_files=3,
        ),
        profile=VerifiedProfile(
            path="profile",
            sha256="f" * 64,
            name="Darkbloom Direct",
            uuid="6c1e0a52-0000-4000-8000-000000000040",
            team_id="SLDQ2GJ6TL",
            expires="2044-01-01T00:00:00+00:00",
            days_left=6000,
            app_ids=(),
            access_groups=(),
            entitlements={},
            certificates=(),
            checks=(),
        ),
    )


def archive(plan: ReleasePlan, sha256: str) -> ReleaseArchive:
    pin = plan.bundle.metallib
    assert pin
    return ReleaseArchive(
        path=plan.archive.name,
        sha256=sha256,
        size=100,
        tar_sha256="0" * 64,
        binary_sha256="a" * 64,
        enclave_sha256="0" * 64,
        metallib_sha256=pin.sha256,
        cdhash="c" * 40,
        code_directory_sha256="c" * 64,
        source_commit=COMMIT,
        test_outcome="passed",
        members=files(pin.sha256),
    )


RUN = statement.Run(
    invocation="7" * 64,
    started="2026-05-14T21:40:07+00:00",
    finished="2026-05-14T21:51:07+00:00",
    tool="release-tool 0.1.0",
    system="macos 15.1 arm64",
)


def entry(
    kind: Kind = "registered", version: str = "0.5.0", sha256: str = "9" * 64, note: str = ""
) -> Entry:
    return Entry(
        kind=kind,
        environment="rehearsal",
        version=version,
        platform="macos-arm64",
        sha256=sha256,
        at="2026-05-14T21:51:07+00:00",
        note=note,
    )


@lru_cache
def released() -> ReleasePlan:
    """The plan of the release file's own rehearsal."""
    with tempfile.TemporaryDirectory() as folder:
        request = config.Request(
            environ={}, working_folder=Path(folder), environment="rehearsal", from_source=False
        )
        return config.resolve(request).plan


def payload() -> bytes:
    """A statement of the release file's own release."""
    made = with_provenance(released(), key())
    return statement.payload(made, materials(made), RUN, sbom_sha256="5" * 64)


def bill() -> bytes:
    """Its bill of materials."""
    made = released()
    assert made.bundle.metallib
    return sbom.build(made, "9" * 64, files(made.bundle.metallib.sha256), code())
