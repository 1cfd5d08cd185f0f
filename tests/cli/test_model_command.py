"""`release-tool model`: what to pin is printed whole, and what is pinned is what comes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from release_tool import data
from release_tool.cli import main
from release_tool.cli.session import Session
from tests import hub_world
from tests.hub_world import COMMIT, FILES, MODEL, READER, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with hub_world.living(tmp_path) as made:
        yield made


def release_with(folder: Path, **pinned: str) -> Path:
    """A release file with this model."""
    text = data.release_file().read_text(encoding="utf-8")
    lines = "".join(f'\n  {key}: "{value}"' for key, value in pinned.items())
    path = folder / "release.yaml"
    bare = re.sub(r"\n  model(_revision|_sha256)?: .*", "", text)
    path.write_text(bare.replace("\nsmoke:", f"\nsmoke:{lines}", 1))
    return path


def called(world: World, *words: str, **environ: str) -> tuple[int, str, str]:
    environment = {
        "HOME": str(world.folder / "home"),
        "XDG_CACHE_HOME": str(world.folder / "cache"),
        "HF_ENDPOINT": world.url,
        **environ,
    }
    out, err = io.StringIO(), io.StringIO()
    session = Session(environment, out=out, err=err)
    return main.invoke(["model", *words], session), out.getvalue(), err.getvalue()


def test_what_is_printed_pins_what_is_fetched(world: World) -> None:
    """The lines of `pin`, put into release.yaml, are what `fetch` asks for and gets."""
    code, told, _ = called(world, "pin", MODEL)
    assert code == 0
    digest = hub_world.digest(FILES)
    assert f"{MODEL}: {len(FILES)} files, 0.3 MB, in " in told
    assert all(path in told for path in FILES)
    lines = told[told.index("smoke:") :]
    pinned = yaml.safe_load(lines)["smoke"]
    assert pinned == {"model": MODEL, "model_revision": COMMIT, "model_sha256": digest}
    release = release_with(world.folder, **pinned)
    world.hub.asked.clear()
    code, told, _ = called(world, "fetch", "--config", str(release), "--json", HF_HUB_OFFLINE="1")
    assert code == 0
    assert json.loads(told)["model_sha256"] == digest
    assert world.hub.asked == []


def test_another_model_under_the_same_name_is_told(world: World) -> None:
    """Exit 6, with both digests: a commit that holds other files than were reviewed."""
    release = release_with(world.folder, model=MODEL, model_revision=COMMIT, model_sha256="0" * 64)
    code, _, said = called(world, "fetch", "--config", str(release))
    assert code == 6
    assert hub_world.digest(FILES)[:12] in said


@pytest.mark.parametrize("words", [("pin", MODEL), ("fetch", "--config", "release.yaml")])
def test_offline_is_said_at_once(
    world: World, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3, by the name of the variable that says so; nobody is asked."""
    monkeypatch.chdir(world.folder)
    release_with(world.folder, model=MODEL, model_revision=COMMIT)
    code, _, said = called(world, *words, HF_HUB_OFFLINE="yes")
    assert code == 3
    assert "HF_HUB_OFFLINE forbids" in said
    assert world.hub.asked == []


def test_a_token_is_used_and_never_shown(world: World) -> None:
    """HF_TOKEN opens a gated model; without it the terms are named."""
    world.add("org/closed", access="gated", readers=frozenset({READER}))
    code, _, said = called(world, "pin", "org/closed")
    assert (code, "accept its terms" in said) == (4, True)
    code, told, said = called(world, "pin", "org/closed", HF_TOKEN=f"{READER}\n")
    assert code == 0
    assert READER not in told + said
    code, told, said = called(world, "pin", MODEL, HF_TOKEN="hf_made-up-token")
    assert (code, "set HF_TOKEN again" in said) == (4, True)
    assert "hf_made-up-token" not in told + said


def test_an_address_in_the_clear_is_refused(world: World) -> None:
    """Before anything is sent there."""
    code, _, said = called(world, "pin", MODEL, HF_ENDPOINT="http://hub.example")
    assert code == 2
    assert "HF_ENDPOINT" in said


def test_the_hubs_own_cache_is_looked_into_by_its_variables(world: World) -> None:
    """HF_HOME, and HF_HUB_CACHE before it; nothing is downloaded for what lies there."""
    for variable, below in (("HF_HOME", "hub/"), ("HF_HUB_CACHE", "")):
        place = world.folder / variable
        snapshot = place / f"{below}models--mlx-look-alike--tiny" / "snapshots" / COMMIT
        hub_world.write(snapshot, FILES)
        release = release_with(
            world.folder,
            model=MODEL,
            model_revision=COMMIT,
            model_sha256=hub_world.digest(FILES),
        )
        code, told, _ = called(
            world, "fetch", "--config", str(release), "--json", **{variable: str(place)}
        )
        assert (code, json.loads(told)["folder"]) == (0, str(snapshot.resolve()))
    assert world.hub.asked == []
