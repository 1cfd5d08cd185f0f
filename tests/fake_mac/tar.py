"""Stands in for macOS's `/usr/bin/tar`: attributes as pax headers and as AppleDouble members."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.fake_mac import attributes
from tests.fake_mac.play import Stage

_OWNERS = ["--uid", "0", "--gid", "0", "--uname", "", "--gname", ""]


def answer(stage: Stage, argv: list[str]) -> None:
    """One start."""
    stage.record(argv)
    if argv[:9] == [*_OWNERS, "-czf"]:
        stage.fault("tar -c")
        _pack(stage, Path(argv[9]), argv[10:])
    elif argv[:1] == ["-xpf"] and argv[2:3] == ["-C"] and len(argv) == 4:
        stage.fault("tar -x")
        _unpack(Path(argv[1]), Path(argv[3]))
    else:
        stage.usage(argv)


def _pack(stage: Stage, archive: Path, rest: list[str]) -> None:
    with tarfile.open(archive, "w:gz", format=tarfile.USTAR_FORMAT) as target:
        folder = Path()
        while rest:
            word = rest.pop(0)
            if word == "-C":
                folder = Path(rest.pop(0))
            elif word.startswith("-") or not (folder / word).exists():
                stage.usage([word])
            else:
                for path in sorted([folder / word, *(folder / word).rglob("*")]):
                    _add(target, folder, path)


def _add(target: tarfile.TarFile, folder: Path, path: Path) -> None:
    name = str(path.relative_to(folder))
    member = target.gettarinfo(path, name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    beside = attributes.of(path) if path.is_file() else {}
    if beside:
        sidecar = tarfile.TarInfo(f"{Path(name).parent}/._{path.name}")
        content = attributes.apple_double(attributes.of(path))
        sidecar.size = len(content)
        target.addfile(sidecar, io.BytesIO(content))
        records = b"".join(
            _record(f"SCHILY.xattr.{key}".encode(), value) for key, value in beside.items()
        )
        header = tarfile.TarInfo(f"PaxHeader/{path.name}")
        header.type, header.size = tarfile.XHDTYPE, len(records)
        target.addfile(header, io.BytesIO(records))
    if path.is_file():
        with path.open("rb") as source:
            target.addfile(member, source)
    else:
        target.addfile(member)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its own length, which counts its own digits."""
    size = len(key) + len(value) + 3
    while len(text := str(size).encode() + b" " + key + b"=" + value + b"\n") != size:
        size = len(text)
    return text


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as source:
        for member in source:
            if Path(member.name).name.startswith("._"):
                continue
            source.extract(member, folder, filter="fully_trusted")
            found = {
                key.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape")
                for key, value in member.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            attributes.put(folder / member.name, found)
