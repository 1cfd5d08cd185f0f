"""Which way a release takes to the notary: a key, or on a Mac the Apple ID through notarytool."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from release_tool.cli import notary_route, wiring
from release_tool.credentials import Credentials, Secret
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from tests.fake_mac import mac as fake_mac
from tests.stages.release_parts import changed

PASSWORD = "abcd-efgh-ijkl-mnop"


def _wiring(plan: ReleasePlan, folder: Path) -> wiring.Services:
    secrets = {
        name: Secret(name, value)
        for name, value in (("APPLE_ID", "a@example.com"), ("APPLE_APP_PASSWORD", PASSWORD))
    }
    resolved = SimpleNamespace(plan=plan, credentials=Credentials(secrets=secrets))
    inputs = wiring.Inputs(environ={})
    return wiring.Services(resolved=resolved, workspace=Workspace(folder), inputs=inputs)  # type: ignore[arg-type]


def test_an_apple_id_is_taken_through_notarytool(
    plan: ReleasePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac without a key; the password reaches the prompt, and the keychain is gone after."""
    mac = fake_mac.install(tmp_path / "mac")
    mac.write(mac.state | {"app_password": PASSWORD})
    monkeypatch.setattr(notary_route, "supplied", lambda _: ("APPLE_API_KEY_P8",))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    wired = _wiring(changed(plan, environment={"embedded": False}), tmp_path)
    wired.__dict__["apple_tools"] = mac.tools
    with wired.notary(Silent()) as notary:
        assert notary.route == "notarytool"
        assert notary.history() == []
    assert not mac.keychains
    assert not (mac.root / "misused").exists()


def test_everything_else_asks_with_a_key(
    plan: ReleasePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off a Mac, with a key, and in an embedded environment whatever else is set."""
    there = changed(plan, endpoints={"notary_url": "http://127.0.0.1:9/notary"})
    real = changed(there, environment={"embedded": False})
    with _wiring(real, tmp_path).notary(Silent()) as one:
        assert one.route == "api"
    monkeypatch.setattr(notary_route, "supplied", lambda _: ("APPLE_API_KEY_P8",))
    with _wiring(there, tmp_path).notary(Silent()) as one:
        assert one.route == "api"
