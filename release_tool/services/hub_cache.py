"""Models in the cache of the model hub: where one lies, and how a provider's own home shows it.

Layout: `models--ORG--NAME/refs/REVISION` names a commit, `snapshots/COMMIT` holds its files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from release_tool import errors
from release_tool.files import hashing
from release_tool.services.hub import COMMIT, MODEL

_MAX_REF_BYTES = 100
_IN_HOME = Path(".cache/huggingface/hub")


def cache_folder(home: Path) -> Path:
    """Where the hub's clients keep models for the user of this home."""
    return home / _IN_HOME


def find(model: str, *, revision: str, hub: Path) -> Path:
    """The folder of a model: a path to one, or an id that the cache holds.

    Args:
        model: a folder, or `ORG/NAME`.
        revision: a commit or a name; empty for `main`.
        hub: the cache.

    Raises:
        HostError: this host does not have it, or not its weights.
        UsageError: neither a folder with a model nor an id, or a folder without weights.
    """
    folder = Path(model)
    if (folder / "config.json").is_file():
        if not _has_weights(folder):
            raise errors.UsageError(
                "holds no weights of a model",
                subject=str(folder),
                expected="*.safetensors beside config.json",
                hint="fetch the whole model into it, or name another folder with --model",
            )
        return folder.resolve()
    if not MODEL.fullmatch(model):
        raise errors.UsageError(
            "is neither a folder with a model nor the id of one",
            subject=model[:200],
            expected="a folder with config.json and *.safetensors, or ORG/NAME",
            observed="a folder without config.json" if folder.is_dir() else "no such folder",
            hint="name a model's folder with --model, or the id of one in smoke.model",
        )
    entry = hub / _entry(model)
    name = revision or "main"
    commit = name if COMMIT.fullmatch(name) else _commit(entry / "refs" / name)
    snapshot = entry / "snapshots" / commit
    if not commit or not (snapshot / "config.json").is_file() or not _has_weights(snapshot):
        raise errors.HostError(
            "the cache of the model hub on this host lacks the model",
            subject=model,
            expected=str(entry / "snapshots" / (commit or name)),
            hint=f"download it with `hf download {model} --revision {name}`,"
            " or name a folder with --model",
        )
    return snapshot.resolve()


def _has_weights(folder: Path) -> bool:
    """Whether mlx-lm finds weights there; a link of the cache may lead nowhere."""
    return any(path.is_file() for path in folder.glob("*.safetensors"))


def digest(folder: Path) -> str:
    """SHA-256 over the names and digests of a model's files, in the order of their names."""
    lines = [
        f"{hashing.sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def show(folder: Path, *, model: str, digest: str, home: Path) -> str:
    """Make a model visible in the cache of a provider's own home, as the hub's clients lay it out.

    A snapshot is a folder, and each of its files a link: who looks for folders does not find a link
    to one.

    Args:
        folder: the model.
        model: its id; a path gets an id of its own.
        digest: of the model, in hexadecimal; it serves as the commit.
        home: the provider's home.

    Returns:
        The id by which the provider finds it.
    """
    name = model if MODEL.fullmatch(model) else f"local/{folder.name}"
    entry = cache_folder(home) / _entry(name)
    commit = digest[:40]
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text(commit, encoding="ascii")
    snapshot = entry / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            shown = snapshot / path.relative_to(folder)
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.symlink_to(path.resolve())
    return name


def _entry(model: str) -> str:
    return "models--" + model.replace("/", "--")


def _commit(ref: Path) -> str:
    try:
        with ref.open("rb") as source:
            text = source.read(_MAX_REF_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if COMMIT.fullmatch(text) else ""
