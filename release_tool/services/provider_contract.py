"""What providers of May and of October 2026 are told at their start, and what they promise.

Both are in the field. May's serves without a key and knows no `runtime-smoke`; October's wants a
key unless it is told not to, and checks its own Metal runtime, saying for whom it was built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from release_tool.apple import checks
from release_tool.apple.checks import Check

Authorization = Literal["open", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One generation of providers."""

    name: str
    has_keys: bool
    """Whether it asks for a key, and knows `--no-auth`."""
    other_type_statuses: tuple[int, ...]
    """How it refuses a body that is no JSON by its content type; empty: it does not look at it."""
    tells_version: bool
    """Whether `/health` tells the version."""
    tells_length: bool
    """Whether an answer that its limit cut says so; else each ends as if by itself."""
    raw_answers: Mapping[str, str] = field(default_factory=dict)
    """What a request adds so that the text comes as the model wrote it, thoughts included."""
    smoke_seeds: Mapping[str, str] = field(default_factory=dict)
    """What `runtime-smoke` needs in its environment."""
    smoke_markers: tuple[str, ...] = ()
    """Lines that `runtime-smoke` prints when all is well; empty where there is none."""
    built_for_mark: str = ""
    """How its line about the environment that it was built for begins."""

    def words(self, authorization: Authorization) -> tuple[str, ...]:
        """What it is started with beside port and model."""
        open_to_all = self.has_keys and authorization == "open"
        return ("start", "--local", *(("--no-auth",) if open_to_all else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFor:
    """The environment that a build has to name as its own."""

    environment: str
    coordinators: tuple[str, ...]
    """Hosts, with their port where it is not the usual one: a build names its socket's address."""

    def judge(self, said: str) -> list[Check]:
        """Hold what a build says against it: `prod coordinator=wss://HOST/ws/provider cdn=URL`.

        Where models come from is kept as it is told: no release knows that address.
        """
        environment, *facts = said.split() or ["nothing"]
        told = dict(fact.split("=", 1) for fact in facts if "=" in fact)
        hosts = " or ".join(self.coordinators)
        host = _host(told.get("coordinator", ""))
        return [
            checks.compare(
                _BUILT_FOR, expected=self.environment, observed=environment, hint=_ELSEWHERE
            ),
            checks.compare(
                _BUILT_FOR,
                subject="coordinator",
                expected=host if host in self.coordinators else hosts,
                observed=host or "no address",
                hint=_ELSEWHERE,
            ),
            checks.not_checked(_BUILT_FOR, told.get("cdn", "no address of models"), subject="cdn"),
        ]


_BUILT_FOR = "built for"
_ELSEWHERE = "it was built for another environment: users of this one would talk to the wrong place"


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


MAY = Contract(
    name="2026-05",
    has_keys=False,
    other_type_statuses=(415,),
    tells_version=True,
    tells_length=False,
)
OCTOBER = Contract(
    name="2026-10",
    has_keys=True,
    # It reads each body as JSON, whatever its type is said to be.
    other_type_statuses=(),
    tells_version=False,
    tells_length=True,
    # Otherwise the thoughts of a model that has some stand in `reasoning_content`.
    raw_answers={"reasoning_parser": "none"},
    smoke_seeds={
        "DARKBLOOM_GEMMA4_PREFILL_CHUNK_EVAL": "18",
        "MLX_GEMMA4_FUSED_WEIGHTED_UNSORT": "1",
        "MLX_GATHER_QMM_EXPERT_SLICES": "1",
    },
    smoke_markers=(
        "app-attest-callback-runtime-smoke: ok",
        "gemma-optimizations-runtime-smoke: ok",
        "paged-kernel-runtime-smoke: ok",
        "qwen4-metal-resources-runtime-smoke: ok",
    ),
    built_for_mark="build-environment-runtime-smoke:",
)
CONTRACTS: Mapping[str, Contract] = {one.name: one for one in (MAY, OCTOBER)}


def isolation(home: Path) -> dict[str, str]:
    """What keeps a provider away from another one on this machine, and from being updated.

    A provider of May kills the one whose number it finds in the default file; October's refuse to
    start beside a living one.

    Args:
        home: the provider's home.
    """
    return {
        "DARKBLOOM_PID_FILE": str(home / "provider.pid"),
        "DARKBLOOM_LOCAL_DIR": str(local_folder(home)),
        "DARKBLOOM_STATE_FILE": str(home / "state.json"),
        "DARKBLOOM_AUTH_TOKEN_PATH": str(home / "auth_token"),
        "DARKBLOOM_LOADED_MODELS_FILE": str(home / "loaded_models.json"),
        "DARKBLOOM_KV_BACKEND_GUARD": str(home / "kv-backend-guard.json"),
        "DARKBLOOM_WATCHDOG_STATE": str(home / "watchdog.json"),
        "DARKBLOOM_DRAIN_TIMEOUT_SECONDS": "2",
        # Otherwise an older build might replace itself by what is released.
        "DARKBLOOM_NO_UPDATE_CHECK": "1",
    }


def local_folder(home: Path) -> Path:
    """Where October's keep their key and say where they listen."""
    return home / ".darkbloom"
