"""Assemble: the unsigned app, or flat files alone, out of binaries, profile and Metal library.

Only contents are copied, so nothing that a volume or a download attached to a file reaches the
app. The flat copies under `bin/` are made of signed files, by the archive stage.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from pathlib import Path

from release_tool import errors, values
from release_tool import layout as layouts
from release_tool.apple import capabilities, checks, macho, metal_library
from release_tool.apple.checks import Check
from release_tool.apple.policy import distribution, inventory, library_validation, verdict
from release_tool.files import atomic, copying
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.plan import Executable, Metallib, ReleasePlan
from release_tool.progress import Reporter, task
from release_tool.services import executable_version, wheels
from release_tool.stages import build_output, bundle_needs, findings, listing, role_entitlements
from release_tool.values import AssembledBundle, BuiltBinary, VerifiedProfile

READS = (
    "version",
    "source.commit",
    "product",
    "bundle",
    "environment.built_in",
    "environment.not_built_in",
    "environment.require_known_source",
    "flavour.layout",
)
ROOT = "assembled"
EXECUTABLE_MODE = 0o755
DATA_MODE = 0o644
_HELPERS = "Contents/Helpers"


def run(
    plan: ReleasePlan,
    profile: VerifiedProfile | None,
    *,
    workspace: Workspace,
    reporter: Reporter,
    binaries: Path,
    entitlements: Path,
    metallib: Path | None,
    cache: Path,
    environ: Mapping[str, str],
) -> AssembledBundle:
    """Lay out the release under `assembled/` and prove its parts.

    Args:
        plan: the release plan.
        profile: the verified profile; its file goes into the app. None where there is no app.
        workspace: gets the app.
        reporter: sees copying and downloading, and what is unknown about the build.
        binaries: what the build produced.
        entitlements: the folder of entitlements files.
        metallib: a Metal library instead of the pinned wheel's.
        cache: where files out of wheels are kept (see `wheels.cache_folder`).
        environ: the environment for pip.

    Raises:
        VerificationError: every part that does not fit, at once.
        HostError: the Metal library cannot be fetched, or the disk refuses.
        UsageError: there is no folder of binaries.
    """
    copying.require_folder(binaries, "the binaries' place")
    manifest = build_output.read_manifest(binaries)
    claimed = role_entitlements.resolve(plan, entitlements, profile.entitlements if profile else {})
    for doubt in (*build_output.doubts(plan, manifest), *claimed.warnings):
        reporter.warn(doubt)
    with workspace.scratch("assemble") as scratch:
        layout = _Layout(plan, scratch / "home", scratch / ROOT)
        layout.checks += claimed.checks + build_output.judge_manifest(plan, manifest)
        layout.build(binaries, manifest)
        if profile is not None:
            layout.profile(workspace.path(profile.path), profile.sha256)
        pin = plan.bundle.metallib
        if pin and metallib is not None:
            layout.metallib(pin.name, metallib, reporter)
        layout.require()
        if pin and metallib is None:
            layout.metallib(pin.name, _fetch(pin, cache, environ, reporter), reporter)
            layout.require()
        layout.judge()
        layout.require()
        files = listing.sealed_files(scratch / ROOT)
        workspace.place(scratch / ROOT, ROOT)
    return AssembledBundle(
        root=ROOT,
        app=layout.top.name,
        files=files,
        source_commit=manifest.source_commit,
        test_outcome=manifest.test_outcome,
        binaries=tuple(layout.binaries),
        metallib_sha256=layout.metallib_sha256,
        metallib_origin=_origin(pin, layout.metallib_sha256),
        entitlements={
            name: None if value is None else listing.json_dictionary(value)
            for name, value in claimed.entitlements.items()
        },
    )


class _Layout:
    """The release in the making: each part is copied, digested and judged."""

    def __init__(self, plan: ReleasePlan, home: Path, root: Path) -> None:
        self._plan = plan
        self._home = home
        self._layout = layouts.of(plan)
        self.top = root / self._layout.top
        self.checks: list[Check] = []
        self.binaries: list[BuiltBinary] = []
        self.metallib_sha256 = ""
        self._main = b""
        home.mkdir(parents=True)
        (self.top / self._layout.executables).mkdir(parents=True)

    def build(self, folder: Path, manifest: build_output.BuildManifest) -> None:
        """Copy everything that the build produced, and write what follows from the plan."""
        self.checks += build_output.judge_folder(self._plan, folder)
        for executable in self._plan.bundle.executables:
            self._executable(executable, self._layout.executables, folder, manifest)
        for executable in self._plan.bundle.helpers:
            self._executable(executable, _HELPERS, folder, manifest)
        for resource in self._plan.bundle.resources:
            self._resources(folder / resource.source, resource.destination)
        self._markers()
        if not self._layout.is_app:
            return
        data = plistlib.dumps(info(self._plan), sort_keys=True)
        atomic.write_atomically(self.top / "Contents" / "Info.plist", data, mode=DATA_MODE)

    def require(self) -> None:
        """Go on only while every check so far held."""
        findings.require(self.checks, "the parts of this release do not fit together")

    def _executable(
        self,
        executable: Executable,
        place: str,
        folder: Path,
        manifest: build_output.BuildManifest,
    ) -> None:
        name = executable.name
        if (folder / name).is_symlink() or not (folder / name).is_file():
            return  # judged with the whole folder
        target = self.top / place / name
        sha256 = copying.copy_file(folder / name, target, mode=EXECUTABLE_MODE)
        code = DiskTree(target.parent).read(name)
        self.checks.append(build_output.judge_digest(self._plan, manifest, name, sha256))
        found, part = build_output.judge_code(self._plan, name, code)
        self.checks += found
        if name == self._plan.bundle.main_executable:
            self._main = code
        if part is None:
            return
        if name == self._plan.bundle.main_executable:
            self.checks += build_output.judge_built_in(self._plan, name, code)
        version, proof = self._version(executable, target, code, part)
        self.binaries.append(
            BuiltBinary(
                name=name,
                sha256=sha256,
                version=version,
                version_proof=proof,
                minos=part.minos or "",
                sdk=part.sdk or "",
            )
        )

    def _version(
        self, executable: Executable, target: Path, code: bytes, part: macho.Slice
    ) -> tuple[str, values.VersionProof]:
        """The version inside; only the main executable answers `--version` by contract."""
        version = self._plan.version
        is_main = executable.name == self._plan.bundle.main_executable
        if is_main and executable_version.can_run(part.arch):
            try:
                version = executable_version.ask(target, home=self._home)
            except errors.VerificationError as problem:
                version = f"{problem.message}: {problem.observed}"
            self._compare_version(executable.name, version)
            return version, "ran"
        if build_output.holds_version(code, version):
            return version, "found"
        if is_main:
            self._compare_version(executable.name, "nowhere in it")
        return values.UNKNOWN, "unknown"

    def _compare_version(self, name: str, observed: str) -> None:
        self.checks.append(
            checks.compare(
                "version inside",
                expected=self._plan.version,
                observed=observed,
                subject=name,
                hint="build it with this version; where it cannot run, its bytes are searched",
            )
        )

    def _resources(self, source: Path, destination: str) -> None:
        """Copy a file or a resource bundle into `Contents/Resources`; none may be code."""
        target = self.top / "Contents" / "Resources" / destination
        if source.is_dir():
            for entry in DiskTree(source).entries():
                self._resource(source / entry.path, target / entry.path)
        else:
            self._resource(source, target)

    def _resource(self, source: Path, target: Path) -> None:
        if source.is_symlink() or not source.is_file():
            return  # a folder comes with its files; the rest was judged with the whole folder
        copying.copy_file(source, target, mode=DATA_MODE)
        name = target.relative_to(self.top).as_posix()
        self.checks.append(build_output.judge_attributes(source, name))
        if macho.is_macho(DiskTree(target.parent).head(target.name, 8)):
            self.checks.append(
                checks.failed("resource", expected="no code", observed="a Mach-O", subject=name)
            )

    def _markers(self) -> None:
        """A marker stands if and only if its code is in the main executable."""
        for marker in self._plan.bundle.capability_markers:
            if marker.code_string.encode() in self._main:
                target = self.top / capabilities.FOLDER / marker.name
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_atomically(target, capabilities.CONTENT, mode=DATA_MODE)

    def metallib(self, name: str, source: Path, reporter: Reporter) -> None:
        """Copy the Metal library beside the executables, where the runtime looks for it."""
        target = self.top / self._layout.executables / name
        with task(reporter, "copy", source.stat().st_size if source.is_file() else None):
            self.metallib_sha256 = copying.copy_file(
                source, target, mode=DATA_MODE, reporter=reporter
            )
        head = DiskTree(target.parent).head(name, len(metal_library.MAGIC))
        is_metal = metal_library.is_metal_library(head)
        self.checks += [
            build_output.judge_attributes(source, name),
            checks.compare(
                "kind",
                expected="a Metal library",
                observed="a Metal library" if is_metal else "something else",
                subject=name,
            ),
        ]

    def judge(self) -> None:
        """Ask the gates that need no signature: libraries, names, links, modes and targets."""
        tree = DiskTree(self.top)
        taken = inventory.take(tree)
        self.checks += library_validation.judge(taken)
        self.checks += verdict.files(
            taken,
            minimum_macos=self._plan.product.minimum_macos,
            data_in_code_places={self._layout.place(name) for name in self._plan.bundle.data},
            as_written=True,
        )
        self.checks.append(distribution.attributes(tree.attributes()))
        self.checks += bundle_needs.of_build(self._plan, tree)

    def profile(self, source: Path, sha256: str) -> None:
        """Embed the provisioning profile as it was verified."""
        target = self.top / "Contents" / "embedded.provisionprofile"
        observed = copying.copy_file(source, target, mode=DATA_MODE)
        self.checks.append(
            checks.compare("profile", expected=sha256, observed=observed, subject=target.name)
        )


def info(plan: ReleasePlan) -> dict[str, str]:
    """What `Info.plist` says."""
    return {
        "CFBundleExecutable": plan.bundle.main_executable,
        "CFBundleIdentifier": plan.product.bundle_id,
        "CFBundleName": plan.product.name,
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": plan.version,
        "CFBundleVersion": plan.version,
        "LSMinimumSystemVersion": plan.product.minimum_macos,
    }


def _fetch(pin: Metallib, cache: Path, environ: Mapping[str, str], reporter: Reporter) -> Path:
    wanted = wheels.WheelFile(
        package=pin.package,
        version=pin.version,
        platform=pin.wheel_platform,
        wheel_sha256=pin.wheel_sha256,
        member=pin.member,
        sha256=pin.sha256,
    )
    return wheels.fetch(wanted, cache=cache, environ=environ, reporter=reporter)


def _origin(pin: Metallib | None, sha256: str) -> str:
    if pin is None:
        return ""
    return f"{pin.package} {pin.version}" if sha256 == pin.sha256 else "a given file"
