"""Sample executables: small real Mach-O files, and the build step that writes a version into them.

Their bytes are committed beside their source; `tools/build_samples.py` makes them again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from release_tool import errors
from release_tool.apple import (
    code_directory,
    macho,
    metal_functions,
    metal_library,
    superblob,
)
from release_tool.files import atomic

EXECUTABLES = ("darkbloom", "darkbloom-enclave")
"""The executables of the May layout, for arm64."""
FOREIGN = "darkbloom-x86_64"
"""The same program for x86_64, which no release may hold: for tests of refusals and signers."""
MANIFEST = "build.json"
FUNCTIONS = (
    "affine_gather_qmm_t_float_gs_64_b_4_alN_true",
    "affine_qmv_fast_float_gs_64_b_4_batch_0",
    "gemv_float32_bm1_bn1_sm1_sn32_tm4_tn4_nc0_axpby0",
    "rmsfloat32",
    "rope_float32",
    "sdpa_vector_float_64_64",
    "steel_attention_float32_bq32_bk16_bd64_wm4_wn1_maskfloat32",
)
"""Of the sample library: one name of each kind that the provider's engine asks for."""

_VERSION_MARK = b"sample-record:version\0\0\0"
_COMMIT_MARK = b"sample-record:commit\0\0\0\0"
_VERSION_WIDTH = 64
_COMMIT_WIDTH = 48
# What the list of its functions needs; smaller ones have none.
_LEAST_METALLIB = 2048
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,62}")
_COMMIT = re.compile(r"[0-9a-f]{40}|unknown")


def template(name: str) -> bytes:
    """The committed bytes of a sample, version not yet written.

    Raises:
        UsageError: no sample has this name.
    """
    if name not in (*EXECUTABLES, FOREIGN):
        raise errors.UsageError(f"no sample executable is called {name}")
    return resources.files(__name__).joinpath(f"{name}.bin").read_bytes()


def executable(name: str, version: str, commit: str = "unknown") -> bytes:
    """A sample as a build of `version` would have produced it.

    The version goes into its field, and the linker's ad-hoc signature is brought up to date: an
    Apple Silicon Mac kills code whose page differs from its hash, and assembly runs it there.

    Raises:
        UsageError: no such sample, or the version or the commit does not fit its field.
    """
    if not _VERSION.fullmatch(version):
        raise errors.UsageError("this version does not fit into a sample", observed=version[:80])
    if not _COMMIT.fullmatch(commit):
        raise errors.UsageError("a commit is 40 hex digits or `unknown`", observed=commit[:80])
    data = bytearray(template(name))
    _write(data, _VERSION_MARK, version.encode(), _VERSION_WIDTH)
    _write(data, _COMMIT_MARK, commit.encode(), _COMMIT_WIDTH)
    _refresh_page_hashes(data)
    return bytes(data)


def metallib(size: int = 64 * 1024) -> bytes:
    """A Metal library for macOS 14.0: names of MLX's functions, no code in them, then filler."""
    if size < _LEAST_METALLIB:
        return metal_library.header(size=size).ljust(size, b".")[:size]
    modules = {name: f"A sample of the rehearsal: no {name}.".encode() for name in FUNCTIONS}
    bare = len(metal_functions.library(modules))
    return metal_functions.library(modules, filler=size - bare)


def materialize(
    folder: Path, version: str, commit: str = "unknown", *, names: Sequence[str] = EXECUTABLES
) -> Path:
    """Write what a build hands over: the executables and `build.json` beside them.

    The manifest holds `source_commit`, `version`, `test_outcome` and `files` (name to SHA-256).
    Written again, it comes out the same, so an interrupted rehearsal may call it twice.

    Args:
        folder: gets the files.
        version: goes into each executable.
        commit: of the source.
        names: of the executables; one that no sample has gets the helper's bytes.

    Returns:
        The manifest's path.

    Raises:
        UsageError: the version or the commit does not fit into a sample.
        HostError: the folder cannot be written.
    """
    with atomic.naming(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        atomic.drop_unfinished(folder)
        digests = {}
        for name in names:
            sample = name if name in EXECUTABLES else EXECUTABLES[-1]
            data = executable(sample, version, commit)
            atomic.write_atomically(folder / name, data, mode=0o755)
            digests[name] = hashlib.sha256(data).hexdigest()
        manifest = {
            "source_commit": commit,
            "version": version,
            "test_outcome": "passed",
            "files": digests,
        }
        path = folder / MANIFEST
        atomic.write_atomically(path, (json.dumps(manifest, indent=2) + "\n").encode())
    return path


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder: a second rehearsal of the version writes here before it meets a lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(data: bytearray, mark: bytes, text: bytes, width: int) -> None:
    at = data.index(mark) + len(mark)
    data[at : at + width] = text.ljust(width, b"\0")


def _refresh_page_hashes(data: bytearray) -> None:
    """Replace each page hash of the linker's code directory that no longer holds."""
    code = bytes(data)
    (part,) = macho.parse(code)
    if part.signature is None or part.signature_bytes is None:
        return
    signature = bytes(part.signature_bytes)
    (raw,) = superblob.parse(signature).code_directories
    directory = code_directory.parse(raw)
    fresh = code_directory.page_hashes(
        code,
        code_limit=directory.code_limit,
        page_size_log2=directory.page_size_log2,
        hash_type=directory.hash_type,
    )
    renewed = signature
    for old, new in zip(directory.code_hashes, fresh, strict=True):
        renewed = renewed.replace(old, new)
    offset, size = part.signature
    data[offset : offset + size] = renewed
