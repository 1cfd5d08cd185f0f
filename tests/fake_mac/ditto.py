"""Stands in for `/usr/bin/ditto`: zips an app, copies files with their attributes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.fake_mac import attributes
from tests.fake_mac.play import Stage


def answer(stage: Stage, argv: list[str]) -> None:
    """One start."""
    stage.record(argv)
    if argv[:3] == ["-c", "-k", "--keepParent"] and len(argv) == 5:
        stage.fault("ditto -c")
        _zip(Path(argv[3]), Path(argv[4]))
    elif len(argv) == 2 and not argv[0].startswith("-"):
        stage.fault("ditto")
        source, target = Path(argv[0]), Path(argv[1])
        if source.is_dir():
            shutil.copytree(
                source,
                target,
                symlinks=True,
                copy_function=lambda one, other: attributes.copy(Path(one), Path(other)),
            )
        else:
            attributes.copy(source, target)
    else:
        stage.usage(argv)


def _zip(app: Path, archive: Path) -> None:
    import zipfile

    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(app.rglob("*")):
            if path.is_file():
                target.write(path, f"{app.name}/{path.relative_to(app)}")
                if attributes.of(path):
                    # As ditto keeps what lies beside a file.
                    beside = f"__MACOSX/{app.name}/{path.relative_to(app).parent}/._{path.name}"
                    target.writestr(beside, attributes.apple_double(attributes.of(path)))
