"""`release-tool model`: the model of the smoke run, pinned and brought to this host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from release_tool import credentials, data, errors, release_file, release_yaml
from release_tool.cli import model_cache
from release_tool.cli.console import RunConsole
from release_tool.cli.session import Session, pass_session
from release_tool.credentials import Lookup
from release_tool.plan import Smoke
from release_tool.progress import Reporter, Silent
from release_tool.schema_number import SCHEMA
from release_tool.services import hub_cache, hub_errors
from release_tool.services.model_store import ModelStore, Pin

_CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Release file; else release.yaml here, else the one of this tool.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group("model", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Pin the model of the smoke run, and bring it to this host.

    \b
    What to pin:      release-tool model pin
    Before a release: release-tool model fetch
    """


@command.command("pin")
@click.argument("model", required=False)
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@_CONFIG
@_JSON
@pass_session
def pin(
    session: Session, model: str | None, revision: str, config_file: Path | None, *, as_json: bool
) -> None:
    """Download a model of the hub, and print its commit and the digest of its files.

    MODEL is the one of release.yaml where none is named. Nothing is written into that file: review
    what was downloaded, then put the lines there. HF_TOKEN serves for a model that is not open.

    \b
    The one of release.yaml: release-tool model pin
    Another one:             release-tool model pin mlx-community/Qwen3-0.6B-8bit
    """
    name = model or _smoke(config_file).model
    store = _store(session)
    if store.hub is None:
        raise hub_errors.offline(name, store.barred)
    commit = store.hub.commit(name, revision)
    folder = store.obtain(Pin(name, commit, ""), _reporter(session, as_json=as_json))
    _tell(session, name, commit, folder, as_json=as_json)


@command.command("fetch")
@_CONFIG
@_JSON
@pass_session
def fetch(session: Session, config_file: Path | None, *, as_json: bool) -> None:
    """Download the model that release.yaml pins, unless this host has it.

    A release downloads it by itself; this is for a host that will be offline, and for caches of a
    CI. A download that broke off goes on where it was.

    \b
    Before a release: release-tool model fetch
    """
    smoke = _smoke(config_file)
    wanted = Pin(smoke.model, smoke.model_revision, smoke.model_sha256)
    folder = _store(session).obtain(wanted, _reporter(session, as_json=as_json))
    observed = hub_cache.digest(folder)
    if smoke.model_sha256 not in ("", observed):
        raise errors.VerificationError(
            "this is not the model that release.yaml pins",
            subject=str(folder),
            expected=smoke.model_sha256,
            observed=observed,
            hint="find out who changed it: `release-tool model pin` tells what the hub has now",
        )
    _tell(session, smoke.model, smoke.model_revision, folder, as_json=as_json)


def _smoke(config_file: Path | None) -> Smoke:
    chosen = data.release_file_of(Path.cwd(), config_file)
    release, problems = release_file.validate(release_yaml.read(chosen), {})
    if release is None or problems:
        raise errors.UsageError(f"{chosen} is not fit", details=problems)
    return release.smoke


def _store(session: Session) -> ModelStore:
    setting = next(one for one in credentials.SETTINGS if one.name == hub_errors.TOKEN)
    found = credentials.find(setting, Lookup(values=session.environ))
    return model_cache.store(session.environ, token=found.value.reveal if found else None)


def _reporter(session: Session, *, as_json: bool) -> Reporter:
    return Silent() if as_json else RunConsole(session).aside("model")


def _tell(session: Session, name: str, commit: str, folder: Path, *, as_json: bool) -> None:
    sizes = _sizes(folder)
    digest = hub_cache.digest(folder)
    if as_json:
        facts: Mapping[str, object] = {
            "schema": SCHEMA,
            "ok": True,
            "model": name,
            "model_revision": commit,
            "model_sha256": digest,
            "folder": str(folder),
            "files": sizes,
        }
        print(json.dumps(facts, ensure_ascii=False), file=session.out)
        return
    total = sum(sizes.values())
    lines = [
        f"{name}: {len(sizes)} files, {total / 1e6:.1f} MB, in {folder}",
        *(f"  {size:>14,}  {path}" for path, size in sizes.items()),
        "smoke:",
        f"  model: {name}",
        # In quotes: of digits alone it would be a number.
        f'  model_revision: "{commit}"',
        f'  model_sha256: "{digest}"',
    ]
    print("\n".join(lines), file=session.out)


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
