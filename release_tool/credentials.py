"""Seven settings and Apple's: which name won, what is missing, and secrets that stay secret.

One table says everything; where a value comes from is decided here and shown by `plan`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn

from release_tool import errors
from release_tool.services import addresses, covering

Kind = Literal["address", "bucket", "key", "text", "base64", "p8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: what it is for, and whether it may be seen."""

    name: str
    kind: Kind
    secret: bool
    stages: tuple[str, ...]
    """The stages that cannot run without it."""
    per_environment: bool = True
    """Whether each environment has its own, under its prefix."""
    optional: bool = False
    """Whether a release does without, unless its environment says otherwise."""
    advice: str = ""
    """How to come by it, where that is not plain."""


_MAKE_A_KEY = (
    "make one in App Store Connect: Users and Access, Integrations, App Store Connect API, Team"
    " Keys, role Developer; the .p8 file can be downloaded once; APPLE_ID with APPLE_APP_PASSWORD"
    " serves on a Mac only"
)
LOCAL_FILE = ".env.release"
"""Where a maintainer's own machine may keep settings; see `env_file`."""
_STORE = ("publish", "promote")
ADMIN_KEY = "ADMIN_KEY"
"""An administrator's key for the coordinator: it reads what is accepted, and withdraws releases."""
PROVENANCE_KEY = "PROVENANCE_KEY"
"""Signs provenance and the log of releases, where release.yaml asks for them: Ed25519."""
SETTINGS = (
    Setting(name="R2_ACCESS_KEY_ID", kind="key", secret=True, stages=_STORE),
    Setting(name="R2_SECRET_ACCESS_KEY", kind="key", secret=True, stages=_STORE),
    Setting(name="R2_ENDPOINT", kind="address", secret=False, stages=_STORE),
    Setting(
        name="R2_PUBLIC_URL",
        kind="address",
        secret=False,
        stages=("publish", "register", "promote"),
    ),
    Setting(name="R2_BUCKET", kind="bucket", secret=False, stages=_STORE),
    Setting(name="COORDINATOR_URL", kind="address", secret=False, stages=("register", "promote")),
    Setting(name="RELEASE_KEY", kind="key", secret=True, stages=("register",)),
    Setting(
        name=ADMIN_KEY,
        kind="key",
        secret=True,
        stages=("register",),
        optional=True,
        advice="an administrator's key of the coordinator, which alone sees what a registration"
        " does to the fleet; `fleet_watch: unchecked` in release.yaml does without, and says so",
    ),
    Setting(
        name=PROVENANCE_KEY,
        kind="p8",
        secret=True,
        stages=_STORE,
        advice="make one: release-tool provenance-key provenance.pem",
    ),
    Setting(
        name="APPLE_CERTIFICATE_P12",
        kind="base64",
        secret=True,
        stages=("sign",),
        per_environment=False,
    ),
    Setting(
        name="APPLE_CERTIFICATE_PASSWORD",
        kind="text",
        secret=True,
        stages=("sign",),
        per_environment=False,
    ),
    Setting(
        name="PROVISIONING_PROFILE_BASE64",
        kind="base64",
        secret=True,
        stages=("profile",),
        per_environment=False,
    ),
    Setting(
        name="APPLE_API_KEY_P8",
        kind="p8",
        secret=True,
        stages=("notarize",),
        per_environment=False,
        advice=_MAKE_A_KEY,
    ),
    Setting(
        name="APPLE_API_KEY_ID",
        kind="key",
        secret=True,
        stages=("notarize",),
        per_environment=False,
        advice="the Key ID column beside the key in App Store Connect",
    ),
    Setting(
        name="APPLE_API_ISSUER_ID",
        kind="key",
        secret=True,
        stages=("notarize",),
        per_environment=False,
        advice="the Issuer ID above the keys in App Store Connect",
    ),
    Setting(
        name="APPLE_ID",
        kind="key",
        secret=True,
        stages=("notarize",),
        per_environment=False,
        optional=True,
    ),
    Setting(
        name="GITHUB_TOKEN",
        kind="key",
        secret=True,
        stages=("github",),
        per_environment=False,
        advice="a job has one: `secrets.GITHUB_TOKEN` with `permissions: contents: write`",
    ),
    Setting(
        name="HF_TOKEN",
        kind="key",
        secret=True,
        stages=("smoke",),
        per_environment=False,
        optional=True,
    ),
    Setting(
        name="APPLE_APP_PASSWORD",
        kind="key",
        secret=True,
        stages=("notarize",),
        per_environment=False,
        optional=True,
    ),
)
API_KEY = ("APPLE_API_KEY_P8", "APPLE_API_KEY_ID", "APPLE_API_ISSUER_ID")
"""What the notary's REST interface is asked with, anywhere."""
NOTARYTOOL = ("APPLE_ID", "APPLE_APP_PASSWORD")
"""What Apple's `notarytool` is driven with, on a Mac, where no key is set."""
_BY_NAME = {setting.name: setting for setting in SETTINGS}
SEVEN = tuple(
    setting.name
    for setting in SETTINGS
    if setting.per_environment and not setting.optional and setting.name != PROVENANCE_KEY
)
"""What every environment that is not embedded needs."""

_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
# A PKCS#12 file or a profile has some KiB.
_BASE64_CHARACTERS = 4 * 1024 * 1024
# A P-256 key in PEM has some 250 bytes.
_P8_BYTES = 16 * 1024
# A DER sequence, PEM with and without a byte order mark, and DER that was encoded twice.
_BEGINNINGS = (b"\x30", b"-----BEGIN ", b"\xef\xbb\xbf", b"MI")


class Secret:
    """A value that can be used and not be shown: every way of writing it down names it instead."""

    __slots__ = ("__value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.__value = value

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self.__value

    def decoded(self) -> bytes:
        """The bytes of a base64 value.

        Raises:
            CredentialError: it is not base64.
        """
        try:
            return base64.b64decode("".join(self.__value.split()), validate=True)
        except (binascii.Error, ValueError):
            # The chain of exceptions would carry the value.
            raise errors.CredentialError(
                "the setting is not base64", subject=self.name, hint=f"set {self.name} again"
            ) from None

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    __hash__ = None  # type: ignore[assignment] # a digest of a secret tells something about it

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no state to show")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a secret has one form")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Where an environment's settings are looked for."""

    values: Mapping[str, str] = field(repr=False)
    prefix: str = ""
    legacy_fallback: bool = False
    source: str = ""
    """What made the values; empty for the process's environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One setting that has a value."""

    variable: str
    """The name that won."""
    value: Secret
    """Kept as a secret even where it is none, so that no mistake can show one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One setting that has none."""

    name: str
    wanted: tuple[str, ...]
    """The names under which it was looked for."""
    stages: tuple[str, ...]
    advice: str = ""

    def beside(self, found: str) -> Missing:
        """The same, with what was found in its place; empty for nothing."""
        return replace(self, advice=found) if found else self

    def line(self) -> str:
        """For the list of everything that is missing."""
        line = f"{' or '.join(self.wanted)} is not set: wanted for {', '.join(self.stages)}"
        return f"{line} ({self.advice})" if self.advice else line


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What was found, without a way to print it, and what was not."""

    secrets: Mapping[str, Secret]
    missing: tuple[Missing, ...] = ()

    def secret(self, name: str) -> Secret:
        """One secret.

        Raises:
            CredentialError: it is not set.
        """
        if name in self.secrets:
            return self.secrets[name]
        found = [entry for entry in self.missing if entry.name == name]
        raise missing_error(found or [_missing(_BY_NAME[name], (name,))])

    def lacking(
        self, stages: Collection[str] | None = None, *, supplied: Collection[str] = ()
    ) -> list[Missing]:
        """What the stages need and nothing provides.

        Args:
            stages: those that will run; None for all.
            supplied: settings that a flag replaces, such as a profile given as a file.
        """
        return [
            entry
            for entry in self.missing
            if entry.name not in supplied
            and (stages is None or set(entry.stages).intersection(stages))
        ]

    def require(
        self, stages: Collection[str] | None = None, *, supplied: Collection[str] = ()
    ) -> None:
        """Refuse, naming every missing setting at once.

        Raises:
            CredentialError: something is missing.
        """
        lacking = self.lacking(stages, supplied=supplied)
        if lacking:
            raise missing_error(lacking)


def missing_error(missing: Collection[Missing]) -> errors.CredentialError:
    """The one error for everything that is not set."""
    count = len(missing)
    return errors.CredentialError(
        f"{count} {'setting is' if count == 1 else 'settings are'} missing",
        details=[entry.line() for entry in missing],
        hint=f"set them in the environment or in {LOCAL_FILE}; an empty value counts as none",
    )


def names(setting: Setting, lookup: Lookup) -> tuple[str, ...]:
    """The names under which a setting is looked for, best first."""
    if not setting.per_environment or not lookup.prefix:
        return (setting.name,)
    prefixed = f"{lookup.prefix}{setting.name}"
    return (prefixed, setting.name) if lookup.legacy_fallback else (prefixed,)


def find(setting: Setting, lookup: Lookup) -> Found | None:
    """The first name with a value; an empty or blank one counts as unset."""
    for variable in names(setting, lookup):
        value = lookup.values.get(variable, "")
        if value.strip():
            # White space around a pasted key is never meant; in a password it may be.
            meant = value if setting.kind == "text" else value.strip()
            return Found(variable=variable, value=Secret(setting.name, meant))
    return None


def legacy_notice(setting: Setting, lookup: Lookup, found: Found) -> str:
    """Says that an unprefixed name served; empty when the first name did."""
    first = names(setting, lookup)[0]
    if found.variable == first:
        return ""
    return f"{first} is not set, the legacy name {found.variable} serves"


def fault(setting: Setting, found: Found) -> str:
    """Why a value cannot be right, without showing it; empty when it can."""
    text = found.value.reveal()
    if reason := plain_fault(setting.kind, found.variable, text):
        return reason
    if setting.kind == "p8":
        return _p8_fault(found)
    return _content_fault(found) if setting.kind == "base64" else ""


def replaced_by_notarytool(values: Mapping[str, str], *, on_a_mac: bool) -> tuple[str, ...]:
    """The settings that need not be set because Apple's own tool is driven instead.

    That is a Mac's way only, and only where no part of an API key is set: half a key is a mistake.
    """
    has_key = any(values.get(name, "").strip() for name in API_KEY)
    has_password = all(values.get(name, "").strip() for name in NOTARYTOOL)
    return API_KEY if on_a_mac and has_password and not has_key else ()


def p8(value: Secret) -> bytes:
    """The bytes of an API key's file, given as PEM text or as its base64.

    Raises:
        CredentialError: it is neither.
    """
    text = value.reveal()
    if "-----BEGIN " in text:
        return text.encode()
    return value.decoded()


_KEY_FILES = {
    PROVENANCE_KEY: "file of `release-tool provenance-key` (PEM, BEGIN PRIVATE KEY)",
    "APPLE_API_KEY_P8": ".p8 file (PEM, BEGIN PRIVATE KEY)",
}


def _p8_fault(found: Found) -> str:
    try:
        content = p8(found.value)
    except errors.CredentialError:
        content = b""
    if len(content) <= _P8_BYTES and b"-----BEGIN PRIVATE KEY-----" in content:
        return ""
    return f"{found.variable} is neither a {_KEY_FILES[found.value.name]} nor its base64"


def _content_fault(found: Found) -> str:
    """Whether it decodes, and to the beginning of what profiles and identities are."""
    try:
        content = found.value.decoded()
    except errors.CredentialError:
        return f"{found.variable} is not base64: it does not decode"
    if content.startswith(_BEGINNINGS):
        return ""
    return f"{found.variable} does not decode to a file of this kind: neither DER nor PEM"


def plain_fault(kind: Kind, name: str, value: str) -> str:
    """The same for a value that is no secret, such as one from the release file."""
    if kind == "address":
        return _address_fault(name, value)
    if kind == "bucket" and not _BUCKET.fullmatch(value):
        return f"{name} is not the name of a bucket"
    if kind == "key" and not _KEY.fullmatch(value):
        return f"{name} is not plain text in one line"
    if kind == "base64" and (len(value) > _BASE64_CHARACTERS or not _BASE64.fullmatch(value)):
        return f"{name} is not base64"
    return ""


def _address_fault(name: str, value: str) -> str:
    try:
        addresses.base(value, name=name)
    except errors.UsageError as problem:
        # Only the reason: a mistaken address may carry a password or a token.
        return problem.message
    return ""


def _missing(setting: Setting, wanted: tuple[str, ...]) -> Missing:
    return Missing(name=setting.name, wanted=wanted, stages=setting.stages, advice=setting.advice)


def missing(setting: Setting, lookup: Lookup) -> Missing:
    """The entry of a setting that was not found."""
    return _missing(setting, names(setting, lookup))


_SECRET_NAMES = tuple(setting.name for setting in SETTINGS if setting.secret)
# A key in PEM is told line by line where somebody quotes a part of it.
_LINE_CHARACTERS = 40


def covered(text: str, environ: Mapping[str, str]) -> str:
    """A text without any secret that the environment holds, whatever prefix its name has.

    No error of ours carries one. This stands behind all of them, for texts of libraries and for
    bugs: what is printed goes through here last.
    """
    return covering.text(text, _secrets_of(environ))


def cover(found: Credentials, environ: Mapping[str, str]) -> Callable[[str], str]:
    """Takes a release's secrets out of a text, wherever they came from, and the environment's."""
    told = {name: secret.reveal() for name, secret in found.secrets.items()}
    secrets = sorted({*_secrets_of(told), *_secrets_of(environ)}, key=len, reverse=True)
    return lambda text: covering.text(text, secrets)


def _secrets_of(values: Mapping[str, str]) -> list[str]:
    found = []
    for name, value in values.items():
        if name.endswith(_SECRET_NAMES) and value.strip():
            found += [value, value.strip()]
            found += [line for line in value.splitlines() if len(line) >= _LINE_CHARACTERS]
    return sorted(set(found), key=len, reverse=True)


# What a child needs to run at all; everything else may hold a secret.
_HARMLESS = frozenset(
    {
        "DEVELOPER_DIR",
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
    }
)


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: names known to be harmless, and no other."""
    return {name: value for name, value in environ.items() if name in _HARMLESS}


_PROXIES = frozenset(("http_proxy", "https_proxy", "all_proxy", "no_proxy"))


def for_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip: harmless names, the user's proxies, and pip's own settings."""
    chosen = {
        name: value
        for name, value in environ.items()
        if name.startswith("PIP_") or name.lower() in _PROXIES
    }
    return scrubbed(environ) | chosen


_GIT = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_COMMITTER_DATE",
        "GIT_COMMITTER_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_TERMINAL_PROMPT",
    }
)
"""Git's own: who tags, and how a remote is reached. None that names another repository."""
_AGENTS = frozenset(
    {
        *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "GNUPGHOME", "GPG_TTY", "SSH_AGENT_PID"),
        *("SSH_ASKPASS", "SSH_AUTH_SOCK", "TERM", "WAYLAND_DISPLAY", "XDG_CONFIG_HOME"),
        "XDG_RUNTIME_DIR",
    }
)
"""Where the user's own agents for keys and passwords are, and how they ask."""


def for_git(environ: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """The environment for git where it signs and pushes, and which of its own names are in it.

    No setting of a release is among them: git takes keys and passwords from the user's agents.
    """
    chosen = {
        name: value
        for name, value in environ.items()
        if name in _GIT or name in _AGENTS or name.lower() in _PROXIES
    }
    return scrubbed(environ) | chosen, _GIT
