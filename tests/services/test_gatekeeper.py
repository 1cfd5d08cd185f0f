"""Gatekeeper's and stapler's answers, on stand-ins: how each is read, and what it advises."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_tool import errors
from release_tool.services import gatekeeper
from tests.fake_mac.mac import FakeMac


def test_a_stapled_app_is_accepted(mac: FakeMac, app: Path) -> None:
    """Both tools say so, and what they said is kept."""
    (app / "Contents/CodeResources").write_bytes(b"s8ch")
    assert gatekeeper.assess(app, tools=mac.tools) == "accepted, Notarized Developer ID"
    assert gatekeeper.validate_ticket(app, tools=mac.tools) == "the validate action worked"
    assert not (mac.root / "misused").exists()


def test_an_app_without_ticket_is_refused(mac: FakeMac, app: Path) -> None:
    """By both, each with what to do."""
    with pytest.raises(errors.VerificationError, match="rejects") as caught:
        gatekeeper.assess(app, tools=mac.tools)
    assert "notarize" in caught.value.hint
    with pytest.raises(errors.VerificationError, match="no ticket is stapled") as caught:
        gatekeeper.validate_ticket(app, tools=mac.tools)
    assert caught.value.observed == "stapler ended with 65"


@pytest.mark.parametrize(
    ("status", "stderr", "kind", "said"),
    [
        (3, "x: rejected\nsource=no usable signature", errors.VerificationError, "codesign"),
        (
            3,
            "x: rejected\nsource=Developer ID\nCSSMERR_TP_CERT_REVOKED",
            errors.VerificationError,
            "revoked",
        ),
        (0, "x: accepted\nsource=Developer ID", errors.VerificationError, ""),
        (0, "x: accepted", errors.VerificationError, ""),
        (
            0,
            "x: accepted\nsource=Notarized Developer ID\noverride=security disabled",
            errors.HostError,
            "switch it on",
        ),
        (1, "x: internal error in Code Signing subsystem", errors.HostError, "run again"),
        (-9, "", errors.HostError, "run again"),
    ],
)
def test_only_a_notarized_app_passes(
    status: int, stderr: str, kind: type[errors.ReleaseError], said: str, mac: FakeMac, app: Path
) -> None:
    """Neither the exit code nor the word `accepted` is enough."""
    mac.fault("spctl", {"status": status % 256, "stderr": stderr + "\n"})
    with pytest.raises(kind) as caught:
        gatekeeper.assess(app, tools=mac.tools)
    assert said in caught.value.hint


@pytest.mark.parametrize(
    ("status", "stderr", "kind"),
    [
        (0, "Processing: x", errors.VerificationError),
        (64, "Stapler is incapable of working with ZIP archive files.", errors.VerificationError),
        (65, "x does not have a ticket stapled to it.", errors.VerificationError),
        (66, "Could not locate x", errors.VerificationError),
        (68, 'NSURLErrorDomain Code=-1200 "A TLS error"', errors.TransientError),
        (65, 'NSURLErrorDomain Code=-1009 "offline"', errors.TransientError),
        (73, "Could not validate ticket", errors.VerificationError),
        (75, "", errors.TransientError),
        (77, "", errors.HostError),
        (1, "unknown", errors.VerificationError),
        (72, 'xcrun: error: unable to find utility "stapler"', errors.HostError),
    ],
)
def test_stapler_is_read_by_its_code_and_words(
    status: int, stderr: str, kind: type[errors.ReleaseError], mac: FakeMac, app: Path
) -> None:
    """A network that fails is no missing ticket; success without its word is no success."""
    mac.fault("stapler", {"status": status, "stderr": stderr + "\n"})
    with pytest.raises(kind) as caught:
        gatekeeper.validate_ticket(app, tools=mac.tools)
    assert type(caught.value) is kind
    assert str(status) in caught.value.observed


def test_a_host_without_the_tools_is_named(mac: FakeMac, app: Path) -> None:
    """Exit 3."""
    mac.tools.spctl.unlink()
    mac.tools.xcrun.unlink()
    for ask in (gatekeeper.assess, gatekeeper.validate_ticket):
        with pytest.raises(errors.HostError):
            ask(app, tools=mac.tools)
