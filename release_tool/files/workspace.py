"""One release's folder: scratch first, then a rename, so a half-made output has no name."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release_tool.files import atomic

_SCRATCH = ".scratch"


@dataclass(frozen=True, slots=True)
class Workspace:
    """`dist/<environment>/<version>`: outputs, the ledger and scratch side by side."""

    root: Path

    def path(self, relative: str) -> Path:
        """The absolute path of an output."""
        return self.root / relative

    def tidy(self) -> None:
        """Remove what a killed run left half made; the caller holds the ledger's lock."""
        shutil.rmtree(self.path(_SCRATCH), ignore_errors=True)
        atomic.drop_unfinished(self.root)
        for folder in self.root.glob(".*"):
            # Emptied, and its own removal was not reached.
            with contextlib.suppress(OSError):
                folder.rmdir()

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder on the same volume, gone afterwards in every outcome."""
        folder = self.root / _SCRATCH / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()

    def place(self, made: Path, relative: str) -> Path:
        """Give a finished file or folder its name.

        A leftover of that name has no record (the pipeline asks only then), so it goes.
        """
        final = self.path(relative)
        if final.is_dir() and not final.is_symlink():
            shutil.rmtree(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        return made.replace(final)
