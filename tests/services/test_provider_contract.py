"""What a provider is told at its start keeps it in its own home."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_tool.services import provider_command, provider_contract
from release_tool.services.provider_command import ProviderCommand
from release_tool.services.provider_contract import CONTRACTS, MAY, OCTOBER

# Files and folders of state whose usual place is below the real home, in either generation.
STATE = frozenset(
    {
        "DARKBLOOM_PID_FILE",
        "DARKBLOOM_LOCAL_DIR",
        "DARKBLOOM_STATE_FILE",
        "DARKBLOOM_AUTH_TOKEN_PATH",
        "DARKBLOOM_LOADED_MODELS_FILE",
        "DARKBLOOM_KV_BACKEND_GUARD",
        "DARKBLOOM_WATCHDOG_STATE",
    }
)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda one: one.name)
def test_every_place_of_its_state_lies_in_its_home(
    contract: provider_contract.Contract, tmp_path: Path
) -> None:
    """Whatever names a path leads below the scratch home, and each known place is named."""
    command = ProviderCommand(argv=("provider",), kind="bundle", contract=contract)
    told = provider_command.environment(command, tmp_path)
    paths = {name: value for name, value in told.items() if value.startswith("/")}
    outside = {name for name, value in paths.items() if not Path(value).is_relative_to(tmp_path)}
    assert outside == {"PATH"}
    assert paths.keys() >= STATE | {"HOME", "CFFIXED_USER_HOME", "TMPDIR"}
    assert told["DARKBLOOM_NO_UPDATE_CHECK"] == "1"


def test_only_october_is_told_to_want_no_key() -> None:
    """May's refuse an option that they do not know; with a key nobody is told so."""
    assert MAY.words("open") == MAY.words("token") == ("start", "--local")
    assert OCTOBER.words("token") == ("start", "--local")
    assert OCTOBER.words("open") == ("start", "--local", "--no-auth")
