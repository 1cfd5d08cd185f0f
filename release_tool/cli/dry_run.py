"""`--dry-run`: what would be signed, inside out, told without changing anything."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import release_tool
from release_tool import config, pipeline, values
from release_tool.apple import entitlements
from release_tool.apple.code_resources import Census
from release_tool.cli import carry, embedded, wiring
from release_tool.cli.console import JSONObserver
from release_tool.cli.session import Session
from release_tool.files.workspace import Workspace
from release_tool.ledger import Ledger
from release_tool.schema_number import SCHEMA
from release_tool.services.signing_preview import PreviewedCode
from release_tool.stages import sign

_BEFORE = ("profile", "assemble")
_LABEL = 14
# What happens to a file that is no code where code belongs, such as the Metal library.
_DATA = {
    "portable": "sealed as data",
    "codesign": "named by its signature",
}


def show(session: Session, options: carry.Options) -> None:
    """Assemble the release in a folder that goes away, and tell what would be signed.

    Neither `dist` nor its ledger is touched; look-alikes that are started for it end with it.

    Raises:
        ReleaseError: what `run` would raise up to the assembled app, or something in it cannot
            be signed.
    """
    carry.require_stages(options)
    with tempfile.TemporaryDirectory(prefix="release-tool-dry-run-") as folder:
        apart = replace(options, dist=Path(folder))
        try:
            resolved, inputs = carry.resolve(session, apart)
            found = _previewed(resolved, inputs, Path(folder))
        finally:
            for state in Path(folder).iterdir():
                embedded.stop(Path(folder), state.name)
    if options.as_json:
        document = {
            "schema": SCHEMA,
            "ok": True,
            "dry_run": True,
            "version": resolved.plan.version,
            "environment": resolved.plan.environment.name,
            "signer": resolved.plan.environment.signer,
            "code": [one.as_json() for one in found],
        }
        print(json.dumps(document, ensure_ascii=False), file=session.out)
        return
    for line in _lines(resolved, found):
        print(line, file=session.out)


def _previewed(
    resolved: config.Resolved, inputs: wiring.Inputs, folder: Path
) -> tuple[PreviewedCode, ...]:
    carry.require_settings(resolved, list(_BEFORE))
    workspace = Workspace(folder / "release")
    wired = wiring.Services(resolved=resolved, workspace=workspace, inputs=inputs)
    run = pipeline.Run(
        steps=wiring.steps(wired),
        plan=resolved.plan,
        ledger=Ledger(workspace.root / "ledger"),
        root=workspace.root,
        observer=JSONObserver(),
        host=carry.host(),
        tool=f"release-tool {release_tool.__version__}",
    )
    assembled = run.until(_BEFORE[-1])[_BEFORE[-1]]
    if not isinstance(assembled, values.AssembledBundle):
        message = f"assemble returned {type(assembled).__name__}"
        raise TypeError(message)
    return sign.preview(resolved.plan, assembled, workspace=workspace)


def _lines(resolved: config.Resolved, found: Sequence[PreviewedCode]) -> Iterator[str]:
    plan = resolved.plan
    yield (
        f"{plan.name} {plan.version} · {plan.environment.name}: "
        f"{len(found)} files would be signed, inside out"
    )
    for one in found:
        yield f"  {one.path}"
        yield _row("identifier", one.identifier)
        what = " and ".join(one.architectures) or "no Mach-O, signed in its extended attributes"
        yield _row("code", f"{what}, flags {', '.join(one.flags)}")
        yield from _entitlements(one)
        if one.seal is not None:
            yield from _seal(one.seal, _DATA[plan.environment.signer])
    yield (
        f"By the {plan.environment.signer} signer as team {plan.product.team_id}. "
        "Nothing was changed."
    )


def _entitlements(code: PreviewedCode) -> Iterator[str]:
    if code.entitlements is None:
        yield _row("entitlements", "none")
        return
    for number, (key, value) in enumerate(sorted(code.entitlements.items())):
        label = "" if number else "entitlements"
        yield _row(label, f"{key} {entitlements.describe(value)}")


def _seal(seal: Census, how: str) -> Iterator[str]:
    places = seal.data_in_code_places
    kinds = [
        f"{seal.code} nested code",
        _counted(seal.resources, "resource"),
        *([_counted(seal.links, "link")] if seal.links else []),
        *([f"{len(places)} no code in code places"] if places else []),
    ]
    yield _row("seal", f"{seal.entries} entries: {', '.join(kinds)}")
    for path in places:
        yield _row("", f"{path} {how}")


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _row(label: str, text: str) -> str:
    return f"    {label:<{_LABEL}}{text}".rstrip()
