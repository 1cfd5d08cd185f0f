"""A whole release as the embedded environment makes one: signed, sealed, stamped, packed."""

from __future__ import annotations

import plistlib
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from werkzeug.test import Client

from release_tool.apple import armor, certificates, identity, timestamp_token
from release_tool.apple.signatures import digest
from release_tool.apple.signing import Authority as SigningAuthority
from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.apple.verification import Judge
from release_tool.files import archive_writer
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import faults, profiles, samples
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.timestamp_server import PATH, TimestampServer
from release_tool.services import portable_signer
from release_tool.services.portable_signer import Executable

TEAM = "SLDQ2GJ6TL"
BUNDLE_ID = "io.darkbloom.provider"
ENCLAVE_ID = "io.darkbloom.enclave"
VERSION = "0.5.0"
DATE = 1_780_000_000
APP = "Darkbloom.app"
MAIN = "Contents/MacOS/darkbloom"
ENCLAVE = "Contents/MacOS/darkbloom-enclave"
METALLIB = "Contents/MacOS/mlx.metallib"
PASSWORD = "a password for a test"

CLAIMS: dict[str, object] = {
    "com.apple.application-identifier": f"{TEAM}.{BUNDLE_ID}",
    "com.apple.developer.team-identifier": TEAM,
    "com.apple.security.network.client": True,
    "com.apple.security.network.server": True,
    "keychain-access-groups": [f"{TEAM}.{BUNDLE_ID}"],
}
ENCLAVE_CLAIMS: dict[str, object] = {"com.apple.security.network.client": True}


@dataclass(frozen=True)
class SignedRelease:
    """One release, held in memory."""

    files: dict[str, bytes]
    modes: dict[str, int]
    archive: bytes
    trust_pem: bytes
    trust: certificates.Trust
    now: datetime

    def judge(self, *, strict: bool = True) -> Judge:
        return Judge(trust=self.trust, now=self.now, strict=strict)

    def tree(self, changed: dict[str, bytes] | None = None) -> MemoryTree:
        """The unpacked release, some files changed."""
        return in_memory({**self.files, **(changed or {})}, modes=self.modes)

    def write(self, folder: Path) -> Path:
        """Unpack it into a folder."""
        for path, content in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(self.modes[path])
        return folder


@lru_cache(maxsize=1)
def look_alike() -> Authority:
    """One authority for all tests of a process: its keys take a second to make."""
    return Authority.create(TEAM)


@lru_cache(maxsize=1)
def made() -> SignedRelease:
    """The release, made once for the test run."""
    folder = Path(mkdtemp(prefix="signed-release-"))
    try:
        return _make(folder)
    finally:
        shutil.rmtree(folder)


@lru_cache(maxsize=1)
def impostor() -> Authority:
    """Another authority, with certificates of the same names and markers that nobody trusts."""
    return Authority.create(TEAM)


def signing_authority(authority: Authority | None = None) -> SigningAuthority:
    """Who signs, with the look-alike's timestamp service behind it."""
    authority = authority or look_alike()
    found = identity.load(
        authority.identity_p12(PASSWORD, with_chain=True), PASSWORD, known=trust_of(authority).roots
    )
    client = Client(TimestampServer(authority, broken=faults.Faults()))

    def stamp(octets: bytes) -> bytes:
        request = timestamp_token.encode_request(digest("sha256", octets), 77)
        answer = client.post(PATH, data=request, content_type="application/timestamp-query")
        return timestamp_token.parse_response(answer.data)

    return SigningAuthority(identity=found, signing_time=datetime.now(UTC), timestamp=stamp)


@lru_cache(maxsize=1)
def trust() -> certificates.Trust:
    """The look-alike's roots in place of Apple's."""
    return trust_of(look_alike())


def trust_of(authority: Authority) -> certificates.Trust:
    """The roots of an authority."""
    blocks = armor.unwrap_all(authority.trust_pem(), "a certificate", label="CERTIFICATE")
    return certificates.Trust(name="look-alike", roots=tuple(map(certificates.load, blocks)))


def assemble(folder: Path, *, profile: bytes | None = None) -> Path:
    """Lay the app out, unsigned."""
    app = folder / APP
    (app / "Contents" / "MacOS").mkdir(parents=True)
    for name in samples.EXECUTABLES:
        path = app / "Contents" / "MacOS" / name
        path.write_bytes(samples.executable(name, VERSION))
        path.chmod(0o755)
    (app / METALLIB).write_bytes(samples.metallib(20_000))
    info = {
        "CFBundleIdentifier": BUNDLE_ID,
        "CFBundleExecutable": "darkbloom",
        "CFBundleShortVersionString": VERSION,
        "CFBundleVersion": VERSION,
        "CFBundlePackageType": "APPL",
        "LSMinimumSystemVersion": "14.0",
    }
    (app / "Contents" / "Info.plist").write_bytes(plistlib.dumps(info))
    wish = profiles.Wish(
        team_id=TEAM,
        bundle_id=BUNDLE_ID,
        granted={"keychain-access-groups": [f"{TEAM}.*"]},
    )
    content = profiles.make(look_alike(), wish) if profile is None else profile
    (app / "Contents" / "embedded.provisionprofile").write_bytes(content)
    return app


def sign(
    app: Path,
    *,
    claims: dict[str, object] | None = None,
    enclave_claims: dict[str, object] | None = None,
    adhoc: bool = False,
    timestamped: bool = True,
) -> None:
    """Sign the app in place, as the stage does."""
    authority = None if adhoc else signing_authority()
    if authority is not None and not timestamped:
        authority = replace(authority, timestamp=None)
    portable_signer.sign_app(
        app,
        main=Executable(
            path=MAIN, identifier=BUNDLE_ID, entitlements=plistlib.dumps(claims or CLAIMS)
        ),
        nested=[
            Executable(
                path=ENCLAVE,
                identifier=ENCLAVE_ID,
                entitlements=plistlib.dumps(enclave_claims or ENCLAVE_CLAIMS),
            )
        ],
        authority=authority,
    )


def _make(folder: Path) -> SignedRelease:
    root = folder / "root"
    app = assemble(root)
    sign(app)
    (root / "bin").mkdir()
    for path in (MAIN, ENCLAVE, METALLIB):
        shutil.copy2(app / path, root / "bin" / Path(path).name)
    archive_writer.pack(root, folder / "release.tar.gz", date=DATE)
    entries = [entry for entry in DiskTree(root).entries() if entry.kind == "file"]
    return SignedRelease(
        files={entry.path: (root / entry.path).read_bytes() for entry in entries},
        modes={entry.path: entry.mode for entry in entries},
        archive=(folder / "release.tar.gz").read_bytes(),
        trust_pem=look_alike().trust_pem(),
        trust=trust(),
        now=datetime.now(UTC),
    )
