"""A flat release under judgement: `bin/` alone, each executable for itself."""

from __future__ import annotations

import plistlib
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple import release
from release_tool.apple.checks import Check
from release_tool.apple.release import ReleaseReport
from release_tool.apple.tree import in_memory
from release_tool.apple.verification import Judge
from release_tool.rehearsal import samples
from release_tool.services import portable_signer
from tests import signed_release

VERSION = "0.4.9"
MAIN, HELPER = "bin/darkbloom", "bin/darkbloom-enclave"
NETWORK = {"com.apple.security.network.client": True}
RESTRICTED = {"keychain-access-groups": [f"{signed_release.TEAM}.io.darkbloom.provider"]}


@lru_cache
def signed(name: str, *, restricted: bool = False, stamped: bool = True) -> bytes:
    """A sample as the portable signer signs a bare executable."""
    folder = Path(mkdtemp(prefix="flat-"))
    try:
        path = folder / name
        path.write_bytes(samples.executable(name, VERSION))
        authority = signed_release.signing_authority()
        if not stamped:
            authority = type(authority)(
                identity=authority.identity, signing_time=authority.signing_time
            )
        portable_signer.sign_file(
            path,
            identifier=name,
            entitlements=plistlib.dumps(RESTRICTED if restricted else NETWORK),
            authority=authority,
        )
        return path.read_bytes()
    finally:
        shutil.rmtree(folder)


def files(**changed: bytes) -> dict[str, bytes]:
    return {MAIN: signed("darkbloom"), HELPER: signed("darkbloom-enclave"), **changed}


def judged(
    found: dict[str, bytes],
    *,
    modes: dict[str, int] | None = None,
    strict: bool = True,
    with_app: bool | None = None,
    wanted: tuple[str, ...] | None = None,
) -> ReleaseReport:
    of_code = dict.fromkeys((MAIN, HELPER), 0o755)
    tree = in_memory(found, modes={**of_code, **(modes or {})})
    trust = signed_release.trust()
    judge = Judge(trust=trust, now=signed_release.made().now, strict=strict)
    return release.verify(tree, judge=judge, with_app=with_app, flat_copies=wanted)


def failed(report: ReleaseReport) -> list[Check]:
    return [check for check in report.checks if check.outcome == "failed"]


def names(report: ReleaseReport) -> set[tuple[str, str]]:
    return {(check.name, check.subject) for check in failed(report)}


@pytest.mark.parametrize("with_app", [None, False])
def test_a_flat_release_holds(*, with_app: bool | None) -> None:
    """Two executables that nothing holds together, each signed, hardened and stamped."""
    report = judged(files(), with_app=with_app, wanted=("darkbloom", "darkbloom-enclave"))
    assert failed(report) == []
    assert not report.has_app
    assert sorted(report.flat_copies) == ["darkbloom", "darkbloom-enclave"]
    assert report.facts
    assert report.facts.main
    assert report.facts.main.identifier == "darkbloom"
    assert report.facts.profile is None
    passed = {check.name for check in report.checks if check.outcome == "passed"}
    assert {"code without an app", "restricted entitlements", "flat copies", "modes"} <= passed


def test_an_app_whose_app_was_taken_away_is_no_flat_release() -> None:
    """The flat copy of an app's main executable hashes a seal that is not there."""
    whole = signed_release.made().files
    stripped = {path: content for path, content in whole.items() if path.startswith("bin/")}
    report = judged(stripped)
    assert ("code without an app", MAIN) in names(report)
    assert ("embedded profile", MAIN) in names(report)


def test_each_layout_refuses_the_other() -> None:
    """Who wants an app takes no flat archive, and who wants none takes no app."""
    assert ("layout", "") in names(judged(files(), with_app=True))
    made = signed_release.made()
    report = release.verify(made.tree(), judge=made.judge(), with_app=False)
    assert ("layout", "") in names(report)


@pytest.mark.parametrize("path", [MAIN, HELPER])
@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.6, 0.99999])
def test_every_changed_byte_is_refused_by_name(path: str, place: float) -> None:
    """Headers, code and signature, at both ends and between."""
    content = bytearray(files()[path])
    content[int(len(content) * place)] ^= 1
    assert any(path in subject for _, subject in names(judged(files(**{path: bytes(content)}))))


@pytest.mark.parametrize(
    ("added", "content", "name"),
    [
        ("bin/readme.txt", b"text", "layout"),
        ("bin/lib/tool", b"text", "layout"),
        ("README", b"text", "layout"),
        ("bin/other", samples.executable("darkbloom", VERSION), "team of the code"),
    ],
)
def test_what_nobody_signed_has_no_place(added: str, content: bytes, name: str) -> None:
    """Neither a file, nor a folder, nor code that a linker alone signed."""
    report = judged(files(**{added: content}), modes={added: 0o755})
    assert failed(report)
    assert name in {check.name for check in failed(report)}


def test_a_metal_library_is_known_by_its_digest_alone() -> None:
    """It is no code: it may lie there, and the checks say that no signature covers it."""
    report = judged(
        files(**{"bin/mlx.metallib": samples.metallib(3000)}),
        wanted=("darkbloom", "darkbloom-enclave", "mlx.metallib"),
    )
    assert failed(report) == []
    open_ends = {check.subject for check in report.checks if check.outcome == "unprotected"}
    assert "bin/mlx.metallib" in open_ends


def test_a_bare_executable_may_claim_nothing_that_a_profile_must_grant() -> None:
    """It is killed at launch: there is no profile, and there is no place for one."""
    report = judged(files(**{MAIN: signed("darkbloom", restricted=True)}))
    assert ("embedded profile", MAIN) in names(report)
    report = judged(files(**{HELPER: signed("darkbloom-enclave", restricted=True)}))
    assert ("restricted entitlements", HELPER) in names(report)


def test_ours_is_timestamped_and_may_be_run() -> None:
    """A timestamp can be taken off, and a mode is nobody's signature."""
    assert ("timestamped", MAIN) in names(
        judged(files(**{MAIN: signed("darkbloom", stamped=False)}))
    )
    assert ("executable", HELPER) in names(judged(files(), modes={HELPER: 0o644}))


def test_all_that_is_wanted_is_there_and_nothing_else() -> None:
    """Missing and additional executables are told by their names."""
    wanted = ("darkbloom", "darkbloom-enclave")
    only_main = {MAIN: signed("darkbloom")}
    assert ("flat copies", "bin") in names(judged(only_main, wanted=wanted))
    assert failed(judged(only_main, wanted=wanted[:1])) == []
    more = files(**{"bin/tool": signed("darkbloom")})
    report = judged(more, wanted=wanted, modes={"bin/tool": 0o755})
    assert ("flat copies", "bin") in names(report)
    assert ("code", "bin") in names(judged({"bin/text": b"no code"}))
    no_code = files(**{MAIN: b"#!/bin/sh"})
    assert ("code", "bin") in names(judged(no_code, wanted=wanted, strict=False))


def test_code_that_nobody_signed_is_never_ours() -> None:
    """Whoever packs a flat release of ad-hoc code has signed nothing."""
    bare = {MAIN: samples.executable("darkbloom", VERSION)}
    assert ("team of the code", MAIN) in names(judged(bare))
    assert failed(judged(bare, strict=False)) == []


@given(st.sampled_from([MAIN, HELPER]), st.integers(0, 60_000), st.binary(max_size=40))
def test_no_wreck_escapes_as_another_error(path: str, cut: int, splice: bytes) -> None:
    """Cut, and something else put in its place: a refusal, never a traceback."""
    content = files()[path]
    wreck = content[:cut] + splice + content[cut + len(splice) :]
    report = judged(files(**{path: wreck}))
    if wreck != content:
        assert failed(report)
