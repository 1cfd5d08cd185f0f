"""The wrapper of Apple's codesign: a real verdict on a Mac, a clear refusal elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.services import codesign
from release_tool.services.keychain import Held
from tests.fake_mac import mac as fake_mac

IDENTITY = Held(name="A", sha1="A" * 40, keychain=Path("/k/run.keychain-db"))


@pytest.mark.skipif(sys.platform == "darwin", reason="this host has codesign")
def test_a_host_without_codesign_is_named(tmp_path: Path) -> None:
    """Off macOS both operations end in HostError, before anything is touched."""
    with pytest.raises(errors.HostError, match="codesign"):
        codesign.sign(tmp_path / "code", identity=codesign.AD_HOC, identifier="io.example")
    with pytest.raises(errors.HostError, match="codesign"):
        codesign.verify(tmp_path / "code")


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        ("x: errSecInternalComponent", errors.CredentialError, "does not let codesign use"),
        ('x: ambiguous (matches "A" and "A" in y)', errors.CredentialError, "more than one"),
        (
            "error: The specified item could not be found in the keychain.",
            errors.CredentialError,
            "does not hold",
        ),
        ("x: User interaction is not allowed.", errors.CredentialError, "does not let"),
        (
            "Warning: unable to build chain to self-signed root\nx: errSecInternalComponent",
            errors.CredentialError,
            "leads to no root",
        ),
        (
            "x: resource fork, Finder information, or similar detritus not allowed",
            errors.VerificationError,
            "extended attributes",
        ),
        (
            "x: code object is not signed at all\nIn subcomponent: y",
            errors.VerificationError,
            "not signed",
        ),
        (
            "Failed to parse entitlements: AMFIUnserializeXML: syntax error near line 3",
            errors.UsageError,
            "entitlements",
        ),
        (
            "x: main executable failed strict validation",
            errors.VerificationError,
            "refused to sign",
        ),
    ],
)
def test_each_refusal_has_its_remedy(
    stderr: str, kind: type[errors.ReleaseError], said: str, tmp_path: Path
) -> None:
    """The exit code follows what has to be mended, and codesign's own words stand beside it."""
    mac = fake_mac.install(tmp_path / "mac")
    mac.fault("codesign --sign", {"stderr": f"{stderr}\n"})
    with pytest.raises(kind, match=said) as caught:
        codesign.sign(tmp_path, identity=IDENTITY, identifier="io.example", tools=mac.tools)
    assert type(caught.value) is kind
    assert caught.value.details == tuple(stderr.splitlines())
    assert caught.value.subject == str(tmp_path)


def test_the_arguments_are_those_of_a_release(tmp_path: Path) -> None:
    """Hardened runtime and timestamp always, the identity by SHA-1, its keychain by full path."""
    mac = fake_mac.install(tmp_path / "mac")
    mac.fault("codesign --sign", {"status": 0})
    claims = tmp_path / "claims"
    claims.touch(mode=0o600)
    codesign.sign(
        tmp_path, identity=IDENTITY, identifier="io.example", entitlements=claims, tools=mac.tools
    )
    (asked,) = mac.commands("codesign")
    assert asked == [
        *("--force", "--options", "runtime", "--identifier", "io.example"),
        *("--sign", "A" * 40, "--keychain", "/k/run.keychain-db", "--timestamp"),
        *("--entitlements", str(claims), str(tmp_path)),
    ]
    assert not (mac.root / "misused").exists()


def test_a_tool_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait for a password in a window that nobody sees; its whole group is ended."""
    mac = fake_mac.install(tmp_path / "mac")
    mac.fault("codesign --sign", {"pause": True})
    monkeypatch.setattr(codesign, "_SECONDS", 0.5)
    with pytest.raises(errors.HostError, match="did not end") as caught:
        codesign.sign(tmp_path, identity=IDENTITY, identifier="io.example", tools=mac.tools)
    assert "keychain" in caught.value.hint


DESCRIPTION = """\
Executable=/x/Darkbloom.app/Contents/MacOS/darkbloom
Identifier=io.darkbloom.provider
Format=app bundle with Mach-O thin (arm64)
CodeDirectory v=20500 size=1234 flags=0x10000(runtime) hashes=30+7 location=embedded
Hash type=sha256 size=32
CandidateCDHash sha256={0}
CandidateCDHashFull sha256={0}{1}
Hash choices=sha256
CDHash={0}
Signature size=9046
Authority=Developer ID Application: Example (SLDQ2GJ6TL)
Authority=Developer ID Certification Authority
Authority=Apple Root CA
Timestamp=26 Nov 2026 at 20:00:00
Info.plist entries=12
TeamIdentifier=SLDQ2GJ6TL
Runtime Version=14.0.0
""".format("ab" * 20, "cd" * 12)


def test_a_description_is_read() -> None:
    """The digest to record is the whole one; names come leaf first."""
    found = codesign.parse_description(DESCRIPTION, b"<plist/>")
    assert found.cdhash_full == "ab" * 20 + "cd" * 12
    assert found.cdhash == "ab" * 20
    assert (found.identifier, found.team_id) == ("io.darkbloom.provider", "SLDQ2GJ6TL")
    assert found.flags == 0x10000
    assert found.authorities[0] == "Developer ID Application: Example (SLDQ2GJ6TL)"
    assert len(found.authorities) == 3
    assert not found.is_adhoc
    assert found.timestamp
    adhoc = DESCRIPTION.replace("Signature size=9046", "Signature=adhoc").replace(
        "TeamIdentifier=SLDQ2GJ6TL", "TeamIdentifier=not set"
    )
    assert codesign.parse_description(adhoc).is_adhoc
    assert codesign.parse_description(adhoc).team_id == ""


@pytest.mark.parametrize("line", ["CDHash=", "CandidateCDHashFull", "CodeDirectory v="])
def test_a_description_in_other_words_is_refused(line: str) -> None:
    """What is missing is never guessed."""
    text = "\n".join(one for one in DESCRIPTION.splitlines() if not one.startswith(line))
    with pytest.raises(errors.VerificationError, match="not known"):
        codesign.parse_description(text)
