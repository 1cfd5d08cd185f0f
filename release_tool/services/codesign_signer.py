"""Sign an app with Apple's codesign, leaf to root, under an identity of the run's keychain."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.apple.identity import Identity
from release_tool.files import atomic
from release_tool.progress import Reporter
from release_tool.services import codesign, keychain, retries
from release_tool.services.apple_tools import TOOLS, AppleTools
from release_tool.services.keychain import Held, Wanted

PATIENCE = retries.Policy(attempts=6, first_seconds=5.0, largest_seconds=60.0)
"""The timestamp service was seen to be away for minutes; nothing else is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code object, and what it is signed as."""

    path: str
    """Relative to the app; empty for the app itself, whose main executable carries the seal."""
    identifier: str
    entitlements: bytes | None = field(default=None, repr=False)
    """A property list; None for code without entitlements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the codesign route finds its identity and its tools."""

    export: Callable[[str], tuple[Identity, bytes]] | None = field(default=None, repr=False)
    """Writes the identity as PKCS#12 under a password; None for one of the user's keychains."""
    folder: Path = field(default_factory=lambda: Path.home() / keychain.FOLDER)
    """Where keychains of runs stand."""
    tools: AppleTools = field(default=TOOLS, repr=False)
    patience: retries.Policy = field(default=PATIENCE, repr=False)

    @contextmanager
    def identity(
        self, name: str, team_id: str, *, scratch: Path, reporter: Reporter
    ) -> Iterator[tuple[Held, str]]:
        """The wanted identity for codesign while the block lasts, and its certificate's SHA-256.

        The SHA-256 is empty for an identity of the user's keychains: only its name is known.

        Args:
            name: the certificate's common name.
            team_id: of the certificate.
            scratch: a folder for the moment of the import.
            reporter: sees what is put in order.

        Raises:
            CredentialError: the identity is another one, is missing, or cannot be used.
            HostError: this host lacks the tools.
        """
        codesign.require(self.tools)
        if self.export is None:
            yield keychain.find(Wanted(name=name), tools=self.tools), ""
            return
        password = secrets.token_hex(32)
        identity, p12 = self.export(password)
        _require(identity, name, team_id)
        wanted = Wanted(name=name, sha1=hashlib.sha1(identity.leaf.der).hexdigest())
        with keychain.made_for_run(self.folder, reporter=reporter, tools=self.tools) as made:
            yield made.add(p12, password, wanted, scratch=scratch), identity.fingerprint


def sign_code(
    app: Path,
    code: Sequence[Code],
    *,
    whole: bool = True,
    identity: Held,
    scratch: Path,
    route: Route,
    reporter: Reporter,
) -> None:
    """Sign each code object in the order given, and ask codesign for its verdict.

    Args:
        app: the bundle, or a folder of flat files; they change in place, so hand over a copy.
        code: leaf to root: what a seal names stands before what carries the seal.
        whole: whether the folder is one bundle, which codesign judges whole.
        identity: for codesign.
        scratch: a folder for entitlements files, which only the owner can read.
        route: the tools, and the patience with the timestamp service.
        reporter: sees retries.

    Raises:
        CredentialError, HostError, UsageError, TransientError: as `codesign.sign` says.
        VerificationError: codesign refuses code, or the signed app.
    """
    for number, one in enumerate(code):
        entitlements = None
        if one.entitlements is not None:
            entitlements = scratch / f"{number}.entitlements"
            atomic.write_atomically(entitlements, one.entitlements, mode=0o600)
        _sign(app / one.path, one.identifier, entitlements, identity, route, reporter)
    for path in [app] if whole else [app / one.path for one in code]:
        codesign.verify(path, tools=route.tools)


def _sign(
    path: Path,
    identifier: str,
    entitlements: Path | None,
    identity: Held,
    route: Route,
    reporter: Reporter,
) -> None:
    def sign() -> None:
        codesign.sign(
            path,
            identity=identity,
            identifier=identifier,
            entitlements=entitlements,
            tools=route.tools,
        )

    retries.call(sign, route.patience, reporter)


def _require(identity: Identity, name: str, team_id: str) -> None:
    if identity.name != name:
        raise errors.CredentialError(
            "the signing certificate is another one than the release names",
            expected=name,
            observed=identity.name,
            hint="set APPLE_CERTIFICATE_P12 to the identity that release.yaml names",
        )
    if identity.team_id != team_id:
        raise errors.CredentialError(
            "the signing certificate is another team's",
            subject=identity.name,
            expected=team_id,
            observed=identity.team_id or "none",
        )
