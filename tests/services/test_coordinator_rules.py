"""The coordinator's rules, run here: fields, address and archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool.apple.checks import Check
from release_tool.services import coordinator_rules
from release_tool.services.coordinator_rules import Release

BASE = "https://cdn.example/apps"
BINARY = b"\xcf\xfa\xed\xfe" + bytes(5000)
BINARY_HASH = hashlib.sha256(BINARY).hexdigest()
RELEASE = Release(
    version="0.5.0",
    platform="macos-arm64",
    backend="mlx-swift",
    binary_hash="a" * 64,
    bundle_hash="b" * 64,
    metallib_hash="c" * 64,
    url=f"{BASE}/releases/v0.5.0/darkbloom-bundle-macos-arm64.tar.gz",
    changelog="words",
)


def _failed(found: list[Check]) -> list[str]:
    return [check.name for check in found if check.outcome == "failed"]


def _fields(release: Release) -> list[str]:
    return _failed(coordinator_rules.field_checks(release, public_base=BASE))


def test_a_good_release_passes_every_rule() -> None:
    """Nothing failed, and each rule was asked."""
    found = coordinator_rules.field_checks(RELEASE, public_base=BASE)
    assert _failed(found) == []
    assert len(found) == 7


def test_all_wrong_fields_are_told_at_once() -> None:
    """One wrong field does not hide another."""
    wrong = Release(
        version="main",
        platform="MacOS",
        backend="mlx-swift",
        binary_hash="A" * 64,
        bundle_hash="b" * 63,
        metallib_hash="",
        url="https://cdn.example/x",
        changelog="x" * 70_000,
    )
    assert _fields(wrong) == [
        "version", "platform", "binary_hash", "bundle_hash", "metallib_hash", "url", "body",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("0.5.0", True),
        ("0.5.0-dev.1", True),
        ("0.5.0+b1", True),
        ("00.5.0", True),  # the coordinator's pattern allows what strict SemVer forbids
        ("0.5.0-dev.1+b1", False),
        ("v0.5.0", False),
        ("0.5", False),
        ("0.5.0\n", False),
        ("\u0660.\u0665.\u0660", False),
        ("", False),
    ],
)
def test_the_version_pattern_is_gos_pattern(version: str, accepted: bool) -> None:
    """A line end does not slip past the end of the text, and only ASCII digits count."""
    url = coordinator_rules.expected_url(BASE, version, "macos-arm64")
    assert ("version" not in _fields(replace(RELEASE, version=version, url=url))) is accepted


def test_a_metallib_digest_is_needed_by_its_backend_only() -> None:
    """Without the backend that needs it, an absent digest is not a failure."""
    assert _fields(replace(RELEASE, metallib_hash="")) == ["metallib_hash"]
    assert _fields(replace(RELEASE, metallib_hash="", backend="")) == []
    assert _fields(replace(RELEASE, metallib_hash="zz", backend="")) == ["metallib_hash"]


def _pack(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return whole.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = b"0") -> None:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = len(content)
    member.linkname = "elsewhere" if kind in (b"1", b"2") else ""
    tar.addfile(member, io.BytesIO(content))


def _good(tar: tarfile.TarFile) -> None:
    _add(tar, "./", kind=b"5")
    _add(tar, "./Darkbloom.app/Contents/MacOS/darkbloom", BINARY)
    _add(tar, "./bin/darkbloom", BINARY)
    _add(tar, "./bin/" + "n" * 300, b"long")


def _judge(tmp_path: Path, tar: bytes, *, compressed: bytes | None = None) -> list[Check]:
    whole = gzip.compress(tar, mtime=0) if compressed is None else compressed
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(whole)
    return coordinator_rules.archive_checks(
        path, bundle_hash=hashlib.sha256(whole).hexdigest(), binary_hash=BINARY_HASH
    )


def test_a_good_archive_passes(tmp_path: Path) -> None:
    """The layout of May, made by `tar -C stage .` with its `./` entry, passes every rule."""
    found = _judge(tmp_path, _pack(_good))
    assert _failed(found) == []
    assert [check.name for check in found] == [
        "archive size", "bundle_hash", "member names", "bin/darkbloom", "binary_hash",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "failing"),
    [
        (("../outside", b"", b"0"), "member names"),
        (("a/../b", b"", b"0"), "member names"),
        (("/absolute", b"", b"0"), "member names"),
        (("bin/darkbloom", BINARY, b"0"), "bin/darkbloom"),
        (("bin//darkbloom", BINARY, b"0"), "bin/darkbloom"),
    ],
)
def test_one_bad_member_refuses_the_archive(
    tmp_path: Path, extra: tuple[str, bytes, bytes], failing: str
) -> None:
    """Unsafe names anywhere, and a second binary under any spelling of its name."""

    def fill(tar: tarfile.TarFile) -> None:
        _good(tar)
        _add(tar, *extra)

    assert failing in _failed(_judge(tmp_path, _pack(fill)))


@pytest.mark.parametrize("kind", [b"1", b"2", b"5", b"3", b"6"])
def test_the_binary_must_be_a_regular_file(tmp_path: Path, kind: bytes) -> None:
    """Links are what broke the release of May."""
    tar = _pack(lambda tar: _add(tar, "bin/darkbloom", kind=kind))
    assert "binary" in _failed(_judge(tmp_path, tar))


def test_a_missing_and_a_wrong_binary_are_refused(tmp_path: Path) -> None:
    """The member must be there and must have its digest."""
    missing = _pack(lambda tar: _add(tar, "bin/other", BINARY))
    assert _failed(_judge(tmp_path, missing)) == ["bin/darkbloom"]
    wrong = _pack(lambda tar: _add(tar, "bin/darkbloom", BINARY + b"x"))
    assert _failed(_judge(tmp_path, wrong)) == ["binary_hash"]


def test_a_huge_binary_is_judged_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the limit nothing of it is hashed."""
    monkeypatch.setattr(coordinator_rules, "BINARY_BYTES", len(BINARY) - 1)
    assert _failed(_judge(tmp_path, _pack(_good))) == ["binary"]


def test_an_archive_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GiB compressed is the coordinator's bound."""
    monkeypatch.setattr(coordinator_rules, "ARCHIVE_BYTES", 10)
    assert _failed(_judge(tmp_path, _pack(_good))) == ["archive size"]


def test_too_many_members_end_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers cost memory, so they are counted."""
    monkeypatch.setattr(coordinator_rules, "_MEMBERS", 3)
    assert _failed(_judge(tmp_path, _pack(_good))) == ["archive"]


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    """The library alone would stop silently there and miss what follows."""
    tar = bytearray(_pack(_good))
    second = tar.index(b"./bin/darkbloom")
    tar[second + 150] ^= 0xFF
    assert "archive" in _failed(_judge(tmp_path, bytes(tar)))


@settings(max_examples=120)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_always_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    """Against the recorded digest any change of the file fails, and none crashes the walk."""
    whole = bytearray(gzip.compress(_pack(_good), mtime=0))
    recorded = hashlib.sha256(whole).hexdigest()
    whole[position % len(whole)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "x"
    path.write_bytes(whole)
    found = coordinator_rules.archive_checks(path, bundle_hash=recorded, binary_hash=BINARY_HASH)
    assert "bundle_hash" in _failed(found)


@given(st.binary(max_size=2000))
def test_any_tar_stream_is_judged_without_a_crash(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    """Noise in the place of a tar is a failed check."""
    assert _failed(_judge(tmp_path_factory.mktemp("noise"), noise))


def test_differences_are_told_field_by_field() -> None:
    """The host's case is no difference; everything else is, each named."""
    echoed = replace(RELEASE, url=RELEASE.url.replace("cdn.example", "CDN.example"))
    assert coordinator_rules.differences(RELEASE, echoed) == []
    echoed = replace(RELEASE, bundle_hash="d" * 64, changelog="other")
    found = coordinator_rules.differences(RELEASE, echoed)
    assert [line.split(":")[0] for line in found] == ["bundle_hash", "changelog"]


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_changelog_travels_as_data(text: str) -> None:
    """Whatever a tag says comes back from the JSON as it was."""
    body = coordinator_rules.encode(replace(RELEASE, changelog=text))
    assert json.loads(body)["changelog"] == text
