"""Sign: a copy of the assembled app, inside out, then everything read back from disk.

What is read back is compared with what was meant before the output gets its name: an app that
would be refused later never becomes a signed one.
"""

from __future__ import annotations

import plistlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from release_tool import errors, layout
from release_tool.apple import certificates, checks, policy, signing_changes
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts
from release_tool.apple.identity import Identity
from release_tool.apple.policy import expiry, inventory, notary, verdict
from release_tool.apple.signing import Authority
from release_tool.apple.tree import Subtree
from release_tool.apple.verification import Judge
from release_tool.files import atomic
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.plan import Executable, ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import codesign, codesign_signer, portable_signer, signing_preview
from release_tool.services.codesign_signer import Route
from release_tool.services.signing_preview import PreviewedCode
from release_tool.services.timestamp import TimestampService
from release_tool.stages import code_report, findings, listing
from release_tool.values import AssembledBundle, CodeObject, Expiry, SealedFile, SignedBundle

# The timestamp service's address is left out on purpose: another address of the same service is
# no reason to sign again.
READS = (
    "product.team_id",
    "product.bundle_id",
    "product.signing_identity",
    "product.architecture",
    "product.minimum_macos",
    "bundle.main_executable",
    "bundle.executables",
    "bundle.helpers",
    "bundle.metallib.name",
    "environment.signer",
    "flavour.layout",
)
OUTPUT = "signed"
_HELPERS_FOLDER = "Contents/Helpers"
_SEAL = "Contents/_CodeSignature/CodeResources"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """One executable: where it stands, and what it is signed as."""

    path: str
    """Relative to the app, or to the folder of flat files."""
    executable: Executable
    entitlements: Mapping[str, JsonValue] | None

    @property
    def property_list(self) -> bytes | None:
        return None if self.entitlements is None else plistlib.dumps(dict(self.entitlements))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meant:
    """What the signed app is to be."""

    code: list[_Code]
    data: list[codesign_signer.Code]
    """Files beside the executables that codesign signs too; none on the portable route."""
    certificate: str
    """SHA-256 of the signing certificate; empty where only its name is known."""
    route: Route | None
    """None on the portable route."""


def run(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    *,
    workspace: Workspace,
    reporter: Reporter,
    identity: Identity | None,
    trust: certificates.Trust,
    timestamp_url: str,
    route: Route | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SignedBundle:
    """Sign the assembled app and read it back.

    Args:
        plan: the release plan.
        assembled: the unsigned app; its files are left as they are.
        workspace: holds the app, gets the signed one.
        reporter: is told what was signed.
        identity: of the portable signer.
        trust: whom the signature and its timestamp must lead to.
        timestamp_url: the RFC 3161 service, for the portable signer.
        route: where codesign finds its identity and its tools; None for the user's keychains.
        clock: the time of signing.

    Raises:
        CredentialError: no identity, an unusable one, or one of another team.
        HostError: the environment asks for codesign and this host has none.
        TransientError, RemoteRefusedError: the timestamp service.
        VerificationError: what was read back is not what was meant; every reason at once.
    """
    now = clock().astimezone(UTC).replace(microsecond=0)
    code = _code(plan, assembled)
    with workspace.scratch("sign") as folder:
        made = folder / OUTPUT
        _copy(workspace.path(assembled.root), made)
        app = made / assembled.app
        if plan.environment.signer == "codesign":
            meant = _sign_with_codesign(
                plan, assembled, app, code, folder, route or Route(), reporter
            )
        else:
            signer = _authority(plan, identity, trust, timestamp_url, now, reporter)
            _sign_portably(plan, app, code, signer)
            fingerprint = signer.identity.fingerprint
            meant = _Meant(code=code, data=[], certificate=fingerprint, route=None)
        # Judged at this moment and not at that of signing: the timestamps lie between.
        judge = Judge(trust=trust, now=clock(), strict=plan.environment.signer == "portable")
        source = workspace.path(assembled.root)
        outside = _outside_signatures(source, made, [f"{assembled.app}/{one.path}" for one in code])
        value = _read_back(plan, assembled, made, meant, outside, judge=judge)
        workspace.place(made, OUTPUT)
    return value


def preview(
    plan: ReleasePlan, assembled: AssembledBundle, *, workspace: Workspace
) -> tuple[PreviewedCode, ...]:
    """What `run` would sign, inside out; nothing is changed and no identity is needed.

    Raises:
        VerificationError: something in the app cannot be signed.
        FormatError: a Mach-O or a property list is malformed.
    """
    app = workspace.path(assembled.root) / assembled.app
    code = _code(plan, assembled)
    executables = _executables(code)
    if layout.of(plan).is_app:
        wanted = {one.path: one for one in executables}
        planned = portable_signer.plan_bundle(
            app, lambda found: wanted.get(found.path), data=_declared_data(plan)
        )
    else:
        planned = portable_signer.plan_files(app, executables)
    told = signing_preview.of(app, planned)
    if plan.environment.signer != "codesign":
        return told
    if not layout.of(plan).is_app:
        return told
    data = _data_in_code_places(plan, assembled, code)
    return (*(signing_preview.no_code(one.path, one.identifier) for one in data), *told)


def _executables(code: list[_Code]) -> list[portable_signer.Executable]:
    return [
        portable_signer.Executable(
            path=one.path, identifier=one.executable.identifier, entitlements=one.property_list
        )
        for one in code
    ]


def _code(plan: ReleasePlan, assembled: AssembledBundle) -> list[_Code]:
    """All executables, the main one last: it carries the seal over the others."""
    place = layout.of(plan).place
    placed = [
        *((place(executable.name), executable) for executable in plan.bundle.executables),
        *((f"{_HELPERS_FOLDER}/{helper.name}", helper) for helper in plan.bundle.helpers),
    ]
    found = [
        _Code(
            path=path,
            executable=executable,
            entitlements=assembled.entitlements.get(executable.name),
        )
        for path, executable in placed
    ]
    main = place(plan.bundle.main_executable)
    return sorted(found, key=lambda one: (one.path == main, one.path))


def _copy(source: Path, target: Path) -> None:
    """Copy contents and modes; extended attributes have no place in a release."""
    with atomic.naming(target, "copy to"):
        shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)


def _authority(
    plan: ReleasePlan,
    identity: Identity | None,
    trust: certificates.Trust,
    timestamp_url: str,
    now: datetime,
    reporter: Reporter,
) -> Authority:
    if identity is None:
        raise errors.CredentialError(
            "no signing identity", hint="name one with --identity, or set APPLE_CERTIFICATE_P12"
        )
    if identity.team_id != plan.product.team_id:
        raise errors.CredentialError(
            "the signing certificate is another team's",
            subject=identity.name,
            expected=plan.product.team_id,
            observed=identity.team_id or "none",
        )
    service = TimestampService(url=timestamp_url, trust=trust, reporter=reporter)
    return Authority(identity=identity, signing_time=now, timestamp=service.stamp)


def _sign_portably(plan: ReleasePlan, app: Path, code: list[_Code], authority: Authority) -> None:
    executables = _executables(code)
    if not layout.of(plan).is_app:
        for one in executables:
            portable_signer.sign_file(
                app / one.path,
                identifier=one.identifier,
                entitlements=one.entitlements,
                authority=authority,
            )
        return
    portable_signer.sign_app(
        app,
        main=executables[-1],
        nested=executables[:-1],
        authority=authority,
        data=_declared_data(plan),
    )


def _declared_data(plan: ReleasePlan) -> set[str]:
    """The one file that is no code and may lie where code belongs."""
    return {layout.of(plan).place(name) for name in plan.bundle.data}


def _sign_with_codesign(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    app: Path,
    code: list[_Code],
    folder: Path,
    route: Route,
    reporter: Reporter,
) -> _Meant:
    """Sign leaf to root, under an identity that codesign finds while it is needed."""
    product = plan.product
    is_app = layout.of(plan).is_app
    # Only a seal makes codesign ask for it.
    data = list(_data_in_code_places(plan, assembled, code)) if is_app else []
    wanted = [*data, *_as_codesign_takes_it(code, is_app=is_app)]
    with route.identity(
        product.signing_identity, product.team_id, scratch=folder, reporter=reporter
    ) as (held, certificate):
        codesign_signer.sign_code(
            app,
            wanted,
            whole=is_app,
            identity=held,
            scratch=folder,
            route=route,
            reporter=reporter,
        )
    return _Meant(code=code, data=data, certificate=certificate, route=route)


def _as_codesign_takes_it(code: list[_Code], *, is_app: bool) -> Iterator[codesign_signer.Code]:
    """The main executable of an app is signed as the app, which seals everything else."""
    for one in code:
        yield codesign_signer.Code(
            path="" if is_app and one is code[-1] else one.path,
            identifier=one.executable.identifier,
            entitlements=one.property_list,
        )


def _data_in_code_places(
    plan: ReleasePlan, assembled: AssembledBundle, code: list[_Code]
) -> Iterator[codesign_signer.Code]:
    """Files such as the metallib, which codesign wants signed where code belongs."""
    executables = {one.path for one in code}
    folders = (layout.of(plan).executables, _HELPERS_FOLDER)
    for file in assembled.files:
        path = file.path.removeprefix(f"{assembled.app}/")
        folder, _, name = path.rpartition("/")
        in_place = folder in folders and path not in executables
        if in_place and not file.link:
            identifier = f"{plan.product.bundle_id}.{name.partition('.')[0]}"
            yield codesign_signer.Code(path=path, identifier=identifier)


def _codesigns_reading(app: Path, made: BundleFacts, route: Route) -> Iterator[Check]:
    """Apple's own words about the signature that it wrote, beside what we read."""
    main = made.main
    if main is None:
        return
    said = codesign.describe(app if made.seal else app / made.main_executable, tools=route.tools)
    for name, theirs, ours in (
        ("identifier", said.identifier, main.identifier),
        ("team", said.team_id, main.team_id or ""),
        ("code directory", said.cdhash_full, main.full_digest),
        ("flags", f"{said.flags:#x}", f"{main.flags:#x}"),
        ("leaf", "".join(said.authorities[:1]), main.certificate_name),
    ):
        yield checks.compare(
            f"{name} as codesign reads it", expected=ours, observed=theirs, subject=app.name
        )


def _read_back(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    made: Path,
    meant: _Meant,
    outside: list[Check],
    *,
    judge: Judge,
) -> SignedBundle:
    tree = Subtree(tree=DiskTree(made), prefix=assembled.app)
    report = code_report.of(plan, tree, judge=judge, path=assembled.app)
    files = listing.sealed_files(made)
    found = [*report.checks, *_untouched(assembled, files, meant.code), *outside]
    if report.facts is not None:
        found += policy.compare(report.facts, _meant(plan, meant))
        found += _gates(plan, tree, report.facts, judge)
        if meant.route is not None:
            found += _codesigns_reading(made / assembled.app, report.facts, meant.route)
    findings.require(
        found, "the signed app is not what was meant", hint="sign again; nothing was kept"
    )
    if report.facts is None or report.facts.main is None:
        raise errors.VerificationError("the signed app cannot be read", subject=assembled.app)
    digests = {check.subject: check.observed for check in outside}
    return SignedBundle(
        root=OUTPUT,
        app=assembled.app,
        files=files,
        code=tuple(_objects(plan, report.facts, assembled.app, digests)),
        signer=plan.environment.signer,
        certificate_sha256=report.facts.main.certificate_sha256,
        certificate_name=report.facts.main.certificate_name,
        sealed_files=report.facts.sealed,
        expiries=_expiries(report.facts.main, judge.now),
    )


def _expiries(main: CodeFacts, now: datetime) -> tuple[Expiry, ...]:
    """Of the certificates that are in the signature, whoever signed."""
    chain = main.certificates
    rows = expiry.forecast(
        now=now,
        leaf=chain[0] if chain else None,
        chain=chain[1:],
        timestamp_authorities=expiry.issuers(main.timestamp_certificates),
    )
    return listing.expiries(rows)


def _gates(plan: ReleasePlan, tree: Subtree, facts: BundleFacts, judge: Judge) -> list[Check]:
    """What the notary and users' machines would say, whoever signed."""
    taken = inventory.take(tree)
    return [
        *notary.judge(tree, judge=judge, path=facts.path, facts=facts, inventory=taken),
        *verdict.files(
            taken,
            minimum_macos=plan.product.minimum_macos,
            data_in_code_places=_declared_data(plan),
            path=facts.path,
            as_written=True,
        ),
    ]


def _meant(plan: ReleasePlan, meant: _Meant) -> policy.Meant:
    code = {
        one.path: policy.MeantCode(
            identifier=one.executable.identifier, entitlements=one.entitlements
        )
        for one in meant.code
    }
    data = {one.path: policy.MeantCode(identifier=one.identifier) for one in meant.data}
    return policy.Meant(
        team_id=plan.product.team_id,
        code=code | data,
        certificate_sha256=meant.certificate,
        arch=plan.product.architecture,
    )


def _untouched(
    assembled: AssembledBundle, files: tuple[SealedFile, ...], code: list[_Code]
) -> Iterator[Check]:
    """Signing changes the executables and adds the seal, and nothing else."""
    signed = {f"{assembled.app}/{one.path}" for one in code}
    before = {one.path: one for one in assembled.files}
    after = {one.path: one for one in files if one.path != f"{assembled.app}/{_SEAL}"}
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            yield checks.failed(
                "files beside the signatures",
                subject=path,
                expected="as assembled",
                observed="missing" if new is None else "added",
            )
        elif path in signed:
            yield checks.compare(
                "mode", expected=f"{old.mode:o}", observed=f"{new.mode:o}", subject=path
            )
        elif old != new:
            yield checks.failed(
                "files beside the signatures",
                subject=path,
                expected=f"{old.sha256} {old.mode:o}",
                observed=f"{new.sha256} {new.mode:o}",
            )


def _outside_signatures(source: Path, made: Path, paths: list[str]) -> list[Check]:
    """Signing an executable changes its signature: every other byte is the assembled one."""
    before, after = DiskTree(source), DiskTree(made)
    return [
        signing_changes.compare_code(before.view(path), after.view(path), subject=path)
        for path in paths
    ]


def _objects(
    plan: ReleasePlan, facts: BundleFacts, app: str, unsigned_sha256: Mapping[str, str]
) -> Iterator[CodeObject]:
    main = facts.main_executable if layout.of(plan).is_app else ""
    for path, report in facts.code.items():
        if report.primary is not None:
            whole = f"{app}/{path}"
            place = app if path == main else whole
            yield _object(report.primary, place, unsigned_sha256.get(whole, ""))


def _object(facts: CodeFacts, path: str, unsigned_sha256: str) -> CodeObject:
    return CodeObject(
        path=path,
        identifier=facts.identifier,
        team_id=facts.team_id or "",
        cdhash=facts.cdhash,
        code_directory_sha256=facts.full_digest,
        flags=facts.flags,
        entitlements=None
        if facts.entitlements is None
        else listing.json_dictionary(facts.entitlements),
        requirement=facts.requirement_text,
        signed_at=facts.signed_at.isoformat() if facts.signed_at else "",
        unsigned_sha256=unsigned_sha256,
    )
