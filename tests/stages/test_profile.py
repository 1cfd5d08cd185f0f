"""The profile stage: what authorizes the release is kept, what does not is refused with reasons."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import data, errors
from release_tool.apple import certificates, entitlements
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import profiles
from release_tool.rehearsal.profiles import Wish
from release_tool.stages import profile
from release_tool.values import VerifiedProfile
from tests import look_alike

WISH = Wish(team_id=look_alike.TEAM, bundle_id="io.darkbloom.provider")


def run(
    plan: ReleasePlan, tmp_path: Path, wish: Wish, *, trust: certificates.Trust | None = None
) -> VerifiedProfile:
    folder = data.entitlements_folder()
    return profile.run(
        plan,
        profiles.make(look_alike.authority(), wish),
        workspace=Workspace(tmp_path),
        reporter=Silent(),
        trust=trust or look_alike.trust(),
        entitlements=tuple(
            entitlements.parse_xml((folder / name).read_bytes())
            for name in ("provider.plist", "enclave.plist")
        ),
        certificate=look_alike.signer().leaf,
    )


def test_a_fitting_profile_is_kept_as_it_is(plan: ReleasePlan, tmp_path: Path) -> None:
    """The value names the profile's facts, and its very bytes lie in the workspace."""
    found = run(plan, tmp_path, WISH)
    kept = (tmp_path / found.path).read_bytes()
    assert hashlib.sha256(kept).hexdigest() == found.sha256
    assert found.team_id == look_alike.TEAM
    assert found.access_groups == (f"{look_alike.TEAM}.*",)
    assert found.days_left > 6000
    assert not [check for check in found.checks if check.outcome == "failed"]


def test_every_reason_comes_at_once(plan: ReleasePlan, tmp_path: Path) -> None:
    """A profile that is wrong in several ways is refused once, with all of them."""
    wish = replace(WISH, bundle_id="io.darkbloom.cli", kind="development", life_days=9)
    with pytest.raises(errors.VerificationError) as caught:
        run(plan, tmp_path, wish)
    told = "\n".join(caught.value.details)
    assert "kind" in told
    assert "app id" in told
    assert "expiry" in told
    assert not (tmp_path / profile.OUTPUT).exists()


def test_a_look_alike_is_no_apple(plan: ReleasePlan, tmp_path: Path) -> None:
    """Under Apple's roots the look-alike's profile is refused: its chain ends elsewhere."""
    with pytest.raises(errors.VerificationError) as caught:
        run(plan, tmp_path, WISH, trust=certificates.apple_trust())
    assert any("signature" in line for line in caught.value.details)


def test_a_profile_without_the_certificate_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """The certificate that signs must be one of the profile's, or AMFI kills the app."""
    other = certificates.intermediates()[0]
    with pytest.raises(errors.VerificationError) as caught:
        profile.run(
            plan,
            profiles.make(look_alike.authority(), WISH),
            workspace=Workspace(tmp_path),
            reporter=Silent(),
            trust=look_alike.trust(),
            entitlements=(),
            certificate=other,
        )
    assert any(line.startswith("certificate") for line in caught.value.details)
