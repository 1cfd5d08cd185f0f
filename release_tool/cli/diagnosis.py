"""What `doctor` looks at: host, tools, settings, entitlements, certificate, profile, expiry.

It reads and asks nobody, unless services are wanted: no network, nothing is written and no key
is used.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from release_tool import credentials, data, env_file, errors, release_file, release_yaml, settings
from release_tool.apple import certificates, checks, identity, profile_policy, provisioning_profile
from release_tool.apple.checks import Check
from release_tool.apple.policy import expiry, linter
from release_tool.apple.provisioning_profile import Profile
from release_tool.cli import extras, notary_route, preflight
from release_tool.origin import Origin
from release_tool.plan import Environment, Layout
from release_tool.release_file import EnvironmentSection, ReleaseFile
from release_tool.services import keychain, notary_token
from release_tool.services.apple_tools import TOOLS, AppleTools
from release_tool.stages import role_entitlements, smoke_model

Section = Literal[
    "host", "tools", "settings", "entitlements", "certificate", "profile", "expiry", "services"
]

# The assembled, the signed and the unpacked app, and the archive, each about 150 MB.
_FREE_BYTES = 1_000_000_000
_P12, _PASSWORD = "APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD"
_PROFILE = "PROVISIONING_PROFILE_BASE64"
_EXTRAS = {
    "smoke": ("mlx_lm", "the smoke stage"),
    "rehearsal": ("moto", "the rehearsal's object store"),
}


class Finding(NamedTuple):
    """One check, and what class of remedy it asks for when it failed."""

    section: Section
    check: Check
    remedy: type[errors.ReleaseError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be looked at."""

    environ: Mapping[str, str] = field(repr=False)
    working_folder: Path
    now: datetime
    environment: str | None = None
    flavour: str | None = None
    """None for the release's default."""
    config_file: Path | None = None
    profile: bytes | None = None
    identity: bytes | None = field(default=None, repr=False)
    entitlements: tuple[Path, ...] = ()
    """Files to look at instead of the release's."""
    fail_within: int = 0
    online: bool = False
    """Whether the services are asked, too."""
    services: Collection[str] = ()
    """Then only these, where any is named."""
    trust: certificates.Trust = field(default_factory=certificates.apple_trust)
    tools: AppleTools = TOOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that was found."""

    environment: str
    findings: tuple[Finding, ...]
    expiries: tuple[expiry.Row, ...]
    warnings: tuple[str, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.check.outcome == "failed")

    @property
    def exit_code(self) -> int:
        """By the remedy that comes first; 0 when nothing failed."""
        return preflight.gravest([one.remedy for one in self.failed])


def examine(question: Question) -> Diagnosis:
    """Look at everything.

    Raises:
        UsageError: the release file cannot be read, or names no such environment.
    """
    return _Examination(question).run()


def environment_of(folder: Path, name: str, config_file: Path | None) -> Environment:
    """One environment of the release file that counts in a folder.

    Raises:
        UsageError: the release file cannot be read, or names no such environment.
    """
    chosen = data.release_file_of(folder, config_file)
    release, _ = _release(release_yaml.read(chosen), None)
    return _named(release, name)


class _Examination:
    """One look around, section by section."""

    def __init__(self, question: Question) -> None:
        self._question = question
        chosen = data.release_file_of(question.working_folder, question.config_file)
        self._document = release_yaml.read(chosen)
        self._release, self._layout = _release(self._document, question.flavour)
        self._environment = _environment(self._release, question.environment)
        self._leaf: certificates.Certificate | None = None
        self._chain: Sequence[certificates.Certificate] = ()
        self._warnings = [
            f"{self._document.at(place)}: {text}"
            for place, text in release_file.doubts(self._release)
            if self._environment is None or place[1] == self._environment.name
        ]
        prefixes = [one.prefix for one in self._release.environments.values()]
        self._warnings += env_file.unused(question.environ, prefixes).values()

    def run(self) -> Diagnosis:
        found: list[Finding] = []
        found += self._section("host", errors.HostError, self._host())
        found += self._section("tools", errors.HostError, self._tools())
        found += self._section("settings", errors.CredentialError, self._settings())
        found += self._section("settings", errors.CredentialError, self._api_key())
        found += self._section("settings", errors.CredentialError, self._pins())
        found += self._section("entitlements", errors.VerificationError, self._entitlements())
        found += self._section("certificate", errors.CredentialError, self._certificate())
        profile, profile_checks = self._read_profile()
        found += self._section("profile", errors.VerificationError, profile_checks)
        rows = expiry.forecast(
            now=self._question.now,
            leaf=self._leaf,
            chain=self._chain,
            # What a forger writes about its end says nothing.
            profile=profile if profile is not None and profile.authentic else None,
            timestamp_authorities=expiry.apple_timestamp_authorities(),
        )
        ends = expiry.judge(rows, within=self._question.fail_within)
        found += self._section("expiry", errors.CredentialError, ends)
        found += self._services()
        return Diagnosis(
            environment=self._environment.name if self._environment else "",
            findings=tuple(found),
            expiries=rows,
            warnings=tuple(self._warnings),
        )

    @staticmethod
    def _section(
        section: Section, remedy: type[errors.ReleaseError], found: Iterable[Check]
    ) -> Iterator[Finding]:
        for check in found:
            yield Finding(section, check, remedy)

    def _services(self) -> Iterator[Finding]:
        question, environment = self._question, self._environment
        if environment is None:
            return
        if environment.embedded or not question.online:
            why = "made for the run" if environment.embedded else "ask them with --online"
            yield Finding("services", checks.not_checked("services", why), errors.HostError)
            return
        from release_tool.cli import asked_services

        asked = asked_services.Question(
            environ=question.environ,
            working_folder=question.working_folder,
            environment=environment.name,
            flavour=question.flavour,
            config_file=question.config_file,
            trust=question.trust,
            services=question.services,
        )
        for check, remedy in asked_services.ask(asked):
            yield Finding("services", check, remedy)

    # Host and tools

    def _host(self) -> Iterator[Check]:
        system = "macOS" if sys.platform == "darwin" else sys.platform
        told = f"{system} {platform.machine()}, Python {platform.python_version()}"
        yield checks.passed("host", told)
        folder = self._question.working_folder
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            yield checks.failed(
                "disk",
                expected=f"{_FREE_BYTES // 1_000_000} MB free",
                observed=f"{free // 1_000_000} MB free",
                hint="make room where `dist` stands",
            )
        else:
            yield checks.passed("disk", f"{free // 1_000_000} MB free")
        yield from self._extras()

    def _extras(self) -> Iterator[Check]:
        rehearsed = self._environment is not None and self._environment.embedded
        for extra, (module, purpose) in _EXTRAS.items():
            name = f"extra {extra}"
            hint = f"{purpose} needs it: {extras.how_to_install(extra)}"
            if extras.has(module):
                yield checks.passed(name, f"{module} for {purpose}")
            elif rehearsed:
                yield checks.failed(name, expected=module, observed="missing", hint=hint)
            else:
                yield checks.not_checked(name, hint)

    def _tools(self) -> Iterator[Check]:
        git = shutil.which("git", path=self._question.environ.get("PATH"))
        if git:
            yield checks.passed("tool git", git)
        else:
            yield checks.failed(
                "tool git",
                expected="git on the PATH",
                observed="missing",
                hint="install it: the source of a release is proved by it",
            )
        on_a_mac = sys.platform == "darwin"
        needed = self._environment is not None and self._environment.signer == "codesign"
        tools = self._question.tools
        for tool in (tools.codesign, tools.security, tools.xcrun, tools.spctl, tools.ditto):
            name = f"tool {tool.name}"
            if os.access(tool, os.X_OK):
                yield checks.passed(name, str(tool))
            elif on_a_mac or needed:
                yield checks.failed(
                    name,
                    expected=str(tool),
                    observed="missing",
                    hint="xcode-select --install"
                    if on_a_mac
                    else "sign on a Mac: this environment signs with Apple's codesign",
                )
            else:
                yield checks.not_checked(name, "a Mac's; the portable signer needs none of them")

    # Settings

    def _settings(self) -> Iterator[Check]:
        environment = self._environment
        if environment is None:
            yield from self._shared_settings()
            return
        section = self._release.environments[environment.name]
        supplied = [*notary_route.supplied(self._question.environ), *self._given()]
        settled = settings.settle(
            environment,
            section.endpoints,
            self._document,
            environ=self._question.environ,
            made=None,
            supplied=supplied,
        )
        self._warnings += settled.notices
        lacking = {entry.name: entry for entry in settled.missing if entry.name not in supplied}
        for setting in credentials.SETTINGS:
            if setting.name in lacking and not _pinned(section, setting.name):
                yield _lacks(setting, lacking[setting.name].wanted)
            else:
                origin = settled.origins[f"credentials.{setting.name}"]
                yield _there(setting, origin, supplied)
        for problem in settled.problems:
            yield checks.failed("setting", expected="a usable value", observed=problem)

    def _api_key(self) -> Iterator[Check]:
        """Whether all three parts can be what they are named; what lacks is told with the rest."""
        found = [self._secret(name) for name in credentials.API_KEY]
        if None in found:
            return
        p8, key_id, issuer_id = (one for one in found if one is not None)
        try:
            content = credentials.p8(p8)
        except errors.CredentialError:
            return
        key = notary_token.APIKey(
            private_key=lambda: content,
            key_id=key_id.reveal,
            issuer_id=issuer_id.reveal,
        )
        try:
            key.parts()
        except errors.CredentialError as problem:
            expected, observed = problem.expected or "a usable one", problem.observed
            yield checks.failed(
                "App Store Connect key",
                expected=expected,
                observed=f"{problem.message}: {observed}" if observed else problem.message,
                hint=problem.hint,
            )
        else:
            yield checks.passed("App Store Connect key", "tokens can be made with it")

    def _given(self) -> list[str]:
        """The settings that a file on the command line replaces, or that the layout needs not."""
        needless = self._question.profile is not None or self._layout == "flat"
        found = [_PROFILE] if needless else []
        return found + ([_P12, _PASSWORD] if self._question.identity is not None else [])

    def _shared_settings(self) -> Iterator[Check]:
        """Without an environment only those that all share are looked at; none is missed."""
        lookup = credentials.Lookup(values=self._question.environ)
        for setting in credentials.SETTINGS:
            found = None if setting.per_environment else credentials.find(setting, lookup)
            name = f"setting {setting.name}"
            if found is None:
                hint = "not set" if not setting.per_environment else "name an environment: --env"
                yield checks.not_checked(name, hint)
            elif fault := credentials.fault(setting, found):
                yield checks.failed(name, expected="a usable value", observed=fault)
            else:
                place = env_file.place(self._question.environ, found.variable)
                told = f"{found.variable} in {place}" if place else ""
                yield checks.passed(name, told or f"environment variable {found.variable}")

    def _secret(self, name: str) -> credentials.Secret | None:
        setting = next(one for one in credentials.SETTINGS if one.name == name)
        lookup = credentials.Lookup(values=self._question.environ)
        found = credentials.find(setting, lookup)
        return found.value if found else None

    def _pins(self) -> Iterator[Check]:
        """What release.yaml has to name before a real release: each run refuses without it."""
        environment = self._environment
        if environment is None or environment.embedded:
            return
        if environment.provenance is not None:
            yield _in_release_yaml(
                "pinned provenance keys",
                ["provenance.keys"] if not environment.provenance.keys else [],
                "`release-tool provenance-key FILE` makes one and prints the line for release.yaml",
            )
        if environment.provider == "bundle":
            yield _in_release_yaml(
                "pinned smoke model",
                smoke_model.unpinned(self._release.smoke),
                "`release-tool model pin` downloads it and prints both, for release.yaml",
            )

    # Entitlements files

    def _entitlements(self) -> Iterator[Check]:
        for path in self._question.entitlements:
            lint = linter.lint(path.read_bytes(), name=path.name)
            self._warnings += lint.warnings
            yield from lint.checks
        if not self._question.entitlements:
            yield from self._own_entitlements()

    def _own_entitlements(self) -> Iterator[Check]:
        folder = data.entitlements_folder()
        bundle = self._release.bundle
        for executable in (*bundle.executables, *bundle.helpers):
            if executable.entitlements is None:
                continue
            try:
                lint = role_entitlements.examine(folder, executable)
            except errors.HostError as problem:
                yield _refused("entitlements file", problem)
                continue
            self._warnings += lint.warnings
            yield from lint.checks

    # Certificate and profile

    def _certificate(self) -> Iterator[Check]:
        name = "signing identity"
        found, why = self._file(self._question.identity, _P12)
        if found is None:
            yield self._in_keychain(name) or why(name, f"name one with --identity, or set {_P12}")
            return
        password = self._secret(_PASSWORD)
        try:
            loaded = identity.load(
                found,
                password.reveal() if password else None,
                known=self._question.trust.roots,
            )
        except errors.ReleaseError as problem:
            yield _refused(name, problem)
            return
        self._leaf, self._chain = loaded.leaf, loaded.chain
        yield checks.passed(name, f"{loaded.name} {loaded.fingerprint[:12]}")
        yield from self._judge_leaf(loaded)

    def _in_keychain(self, name: str) -> Check | None:
        """Where codesign signs, an identity of the user's keychains serves, too."""
        environment, tools = self._environment, self._question.tools
        if environment is None or environment.signer != "codesign":
            return None
        if not os.access(tools.security, os.X_OK):
            return None
        wanted = keychain.Wanted(name=self._release.product.signing_identity)
        try:
            held = keychain.find(wanted, tools=tools)
        except errors.ReleaseError as problem:
            return _refused(name, problem)
        told = f"{held.name} {held.sha1[:12].lower()} in a keychain, for `run --keychain`"
        return checks.passed(name, told)

    def _judge_leaf(self, loaded: identity.Identity) -> Iterator[Check]:
        yield checks.compare(
            "team of the certificate",
            expected=self._release.product.team_id,
            observed=loaded.team_id or "none",
            hint="sign with the team's own certificate",
        )
        marked = certificates.has_marker(loaded.leaf, certificates.DEVELOPER_ID_APPLICATION)
        kind = "Developer ID Application"
        yield checks.compare(
            "kind of certificate",
            expected=kind,
            observed=kind if marked else "another",
            hint="create a Developer ID Application certificate: the notary takes no other",
        )
        try:
            certificates.build_chain(
                loaded.leaf,
                loaded.chain,
                trust=self._question.trust,
                at=self._question.now,
                required_purpose=certificates.CODE_SIGNING,
            )
        except errors.VerificationError as problem:
            yield _refused("chain of the certificate", problem)
        else:
            yield checks.passed("chain of the certificate", self._question.trust.name)

    def _read_profile(self) -> tuple[Profile | None, list[Check]]:
        name = "provisioning profile"
        if self._layout == "flat":
            return None, [checks.not_checked(name, "a flat release has no place for one")]
        found, why = self._file(self._question.profile, _PROFILE)
        if found is None:
            return None, [why(name, f"name one with --profile, or set {_PROFILE}")]
        try:
            profile = provisioning_profile.read(found, trust=self._question.trust)
        except errors.VerificationError as problem:
            return None, [_refused(name, problem)]
        product = self._release.product
        wanted = profile_policy.Wanted(
            team_id=product.team_id,
            bundle_id=product.bundle_id,
            access_groups=product.access_groups,
            certificate=self._leaf,
            entitlements=self._claims(),
            minimum_days=self._release.profile.minimum_days,
        )
        judged = profile_policy.judge(profile, wanted, now=self._question.now)
        told = (check._replace(name=f"profile {check.name}") for check in judged)
        return profile, list(told)

    def _claims(self) -> tuple[Mapping[str, object], ...]:
        """What the executables will claim; a file that cannot be read is told elsewhere."""
        folder = data.entitlements_folder()
        bundle = self._release.bundle
        found = []
        for executable in (*bundle.executables, *bundle.helpers):
            if executable.entitlements and (folder / executable.entitlements).is_file():
                values = role_entitlements.examine(folder, executable).values
                found.append(values or {})
        return tuple(found)

    def _file(
        self, given: bytes | None, setting: str
    ) -> tuple[bytes | None, Callable[[str, str], Check]]:
        """A file from the command line or from its setting, and how to say that it lacks."""
        environment = self._environment
        if given is not None:
            return given, checks.not_checked
        if environment is not None and environment.embedded:
            return None, lambda name, _: checks.not_checked(name, "made for the run")
        secret = self._secret(setting)
        if secret is None:
            return None, checks.not_checked
        try:
            return secret.decoded(), checks.not_checked
        except errors.CredentialError as problem:
            refused = _refused(setting, problem)
            return None, lambda name, _: refused._replace(name=name)


def _release(document: release_yaml.Document, flavour: str | None) -> tuple[ReleaseFile, Layout]:
    release, problems = release_file.validate(document, {})
    if release is None or problems:
        raise errors.UsageError(f"{document.name} is not fit", details=problems)
    name = flavour or release.default_flavour
    if name not in release.flavours:
        raise errors.UsageError(
            "there is no such flavour",
            subject=name,
            expected=", ".join(release.flavours),
            hint="name one of these with --flavour",
        )
    return release.of_flavour(name), release.flavours[name].layout


def _environment(release: ReleaseFile, name: str | None) -> Environment | None:
    return None if name is None else _named(release, name)


def _named(release: ReleaseFile, name: str) -> Environment:
    section = release.environments.get(name)
    if section is None:
        raise errors.UsageError(
            "there is no such environment",
            subject=name,
            expected=", ".join(release.environments),
            hint="name one of these with --env",
        )
    return section.as_plan(name)


def _pinned(section: EnvironmentSection, name: str) -> bool:
    """Whether the release file itself knows an endpoint."""
    return bool(getattr(section.endpoints, name.lower(), ""))


_OPTIONAL = {
    **dict.fromkeys(credentials.NOTARYTOOL, "serves only in place of an API key, on a Mac"),
    credentials.ADMIN_KEY: "release.yaml does without: nobody sees the fleet; `rollback` needs it",
    "GITHUB_TOKEN": "wanted only where release.yaml says github_release",
}
"""What a setting that nobody must have is good for."""


def _there(setting: credentials.Setting, origin: Origin, supplied: Collection[str]) -> Check:
    name = f"setting {setting.name}"
    if origin.kind == "missing" and setting.name in supplied:
        return checks.not_checked(name, "something else serves in its place")
    if origin.kind == "not set":
        return checks.not_checked(name, _OPTIONAL.get(setting.name, "not needed here"))
    return checks.passed(name, str(origin))


def _lacks(setting: credentials.Setting, wanted: Sequence[str]) -> Check:
    return checks.failed(
        f"setting {setting.name}",
        expected=f"{' or '.join(wanted)}, for {', '.join(setting.stages)}",
        observed="not set",
        hint=setting.advice or f"set it in the environment or in {credentials.LOCAL_FILE}",
    )


def _in_release_yaml(name: str, missing: Sequence[str], hint: str) -> Check:
    if not missing:
        return checks.passed(name, "in release.yaml")
    wanted = " and ".join(missing)
    return checks.failed(name, expected=wanted, observed="none in release.yaml", hint=hint)


def _refused(name: str, problem: errors.ReleaseError) -> Check:
    observed = "; ".join(
        part for part in (str(problem), problem.observed, *problem.details) if part
    )
    return checks.failed(
        name, expected=problem.expected or "a usable one", observed=observed, hint=problem.hint
    )
