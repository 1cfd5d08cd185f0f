"""Which settings are there, asked before the work that comes long before they are needed.

A job that only looks needs no value: each secret comes as `set`, or empty. So what they hold is
not judged here; addresses, which are no secrets of anybody's, are.
"""

from __future__ import annotations

import dataclasses

from release_tool import config, credentials, errors
from release_tool.cli.session import Session
from release_tool.cli.stage_names import STAGES

_SECRET = tuple(setting.name for setting in credentials.SETTINGS if setting.secret)


def require(session: Session, request: config.Request, names: str) -> None:
    """Say that every setting of some stages is set.

    Args:
        session: is told.
        request: as `plan` makes it.
        names: of the stages, between commas.

    Raises:
        UsageError: no such stage.
        CredentialError: naming every setting that is missing.
    """
    stages = tuple(name.strip() for name in names.split(","))
    if unknown := [name for name in stages if name not in STAGES]:
        raise errors.UsageError(
            "there is no such stage",
            subject=unknown[0],
            expected=", ".join(STAGES),
            hint="name stages with commas between them",
        )
    resolved = config.resolve(dataclasses.replace(request, stages=stages, supplied=_SECRET))
    # What signs is also where it is notarized: another host than this one.
    on_a_mac = resolved.plan.environment.signer == "codesign"
    supplied = credentials.replaced_by_notarytool(session.environ, on_a_mac=on_a_mac)
    if lacking := resolved.credentials.lacking(stages, supplied=supplied):
        raise credentials.missing_error(lacking)
    plan = resolved.plan
    print(
        f"{plan.name} {plan.version} · {plan.environment.name}: every setting is set that is"
        f" wanted for {', '.join(stages)}",
        file=session.out,
    )
