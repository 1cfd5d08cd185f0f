"""How a provider is started: its words, its contract, and the small world that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from release_tool.apple.policy import deaths
from release_tool.services import child, provider_contract
from release_tool.services.provider_contract import MAY, Authorization, Contract

Kind = Literal["bundle", "stand-in"]
STAND_IN_FOR = "STAND_IN_FOR"
"""Tells a stand-in the executable in whose place it answers."""
STAND_IN_CONTRACT = "STAND_IN_CONTRACT"
"""Tells a stand-in whose manners it has."""
STAND_IN_BUILT_FOR = "STAND_IN_BUILT_FOR"
"""Tells a stand-in the environment and the coordinator's address that it was built with."""

Explain = Callable[[str, Sequence[str]], deaths.Reading]


def explain_without_facts(signal_name: str, said: Sequence[str]) -> deaths.Reading:
    """What a death means where nobody has read the signature."""
    return deaths.read(signal_name, said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCommand:
    """How a provider is started: the words before `start` or `--version`."""

    argv: tuple[str, ...]
    kind: Kind
    """`bundle`: the shipping executable itself. `stand-in` proves the wiring only."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the small world that every provider gets."""
    contract: Contract = MAY
    authorization: Authorization = "open"
    explain: Explain = explain_without_facts
    """What a death by signal means, asked with the signal's name and its last words."""


def environment(command: ProviderCommand, home: Path) -> dict[str, str]:
    """The whole environment of a provider: its small world and what isolates it from others."""
    return {
        **child.small_world(home),
        **provider_contract.isolation(home),
        **command.environment,
    }
