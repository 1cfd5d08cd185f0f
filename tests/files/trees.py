"""Any small tree of files, folders and links, on disk and in memory."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

Entry = tuple[str, bytes, int]
"""Kind, content or target, mode."""
Tree = dict[str, Entry]

_PARTS = st.sampled_from(
    ["a", "bin", "Info.plist", "with space", "\u00fcber", "x" * 120, "\u65e5\u672c", "._side", "-n"]
)
_MODES = st.sampled_from([0o644, 0o755, 0o600, 0o700])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree without names that meet on a volume that ignores case."""
    paths = draw(st.lists(st.lists(_PARTS, min_size=1, max_size=4), max_size=8))
    tree: Tree = {}
    for parts in paths:
        path = "/".join(parts)
        if not _free(tree, path):
            continue
        kind = draw(st.sampled_from(["file", "file", "directory", "symlink"]))
        content = draw(st.binary(max_size=1500)) if kind == "file" else b""
        if kind == "symlink":
            content = draw(st.sampled_from([b"a", b"bin/x", "\u00fcber".encode()]))
        tree[path] = (kind, content, draw(_MODES) if kind == "file" else 0o755)
    return tree


def _free(tree: Tree, path: str) -> bool:
    for other, (kind, _, _) in tree.items():
        if other == path or other.startswith(f"{path}/"):
            return False
        if path.startswith(f"{other}/") and kind != "directory":
            return False
    return True


def write(tree: Mapping[str, Entry], root: Path) -> None:
    """Make the tree on disk."""
    root.mkdir()
    for path, (kind, content, mode) in tree.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "directory":
            target.mkdir(exist_ok=True)
        elif kind == "symlink":
            target.symlink_to(content.decode())
        else:
            target.write_bytes(content)
            target.chmod(mode)


def contents_of(root: Path) -> Tree:
    """The tree on disk, modes as an archive keeps them."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
        if path.is_symlink():
            found[name] = ("symlink", str(path.readlink()).encode(), 0o777)
        elif path.is_dir():
            found[name] = ("directory", b"", 0o755)
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            found[name] = ("file", path.read_bytes(), mode)
    return found
