"""What a release gets from outside of its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from release_tool.services.provider_command import ProviderCommand


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What comes from outside the ledger. Each may be absent in a job that does not need it."""

    environ: Mapping[str, str] = field(repr=False)
    binaries: Path | None = None
    metallib: Path | None = None
    profile: bytes | None = None
    identity: bytes | None = field(default=None, repr=False)
    """PKCS#12 or PEM."""
    identity_password: Callable[[], str | None] = lambda: None
    trust: bytes | None = None
    """PEM of the roots that replace Apple's; only the embedded environment has any."""
    model: Path | None = None
    """A folder; None for the plan's model out of the hub's cache."""
    stand_in: ProviderCommand | None = None
    """How the stand-in provider is started; None where the bundle's own executable runs."""
    wait: bool = True
    """Whether to wait for the notary, or to hand in and leave."""
    confirm: Callable[[], None] = lambda: None
    """Asked before registration, the point of no return."""
