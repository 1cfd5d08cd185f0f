"""Notes: recorded facts, and no text that becomes markup."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError

from release_tool import values
from release_tool.plan import ReleasePlan, Source
from release_tool.report import notes
from tests import smoke_samples
from tests.stages.release_parts import changed

HOSTILE = [
    "</code><script>alert(1)</script>",
    "| a | b |\n|---|---|\n| c | d |",
    "```\n# out of the fence\n```` ~~~\n<img src=x onerror=y>",
    "@everyone fixes #1 https://evil.example [x](javascript:y) ![z](http://e)",
    "{{ facts }} {% raw %} `code` **bold** &lt; &#96;",
    "\x1b[31mred \u202egnp.exe\u2066 \u200b",
    "a\r\nb\rc\u2028d\x00",
]


def _archive(**other: object) -> values.ReleaseArchive:
    return values.ReleaseArchive.model_validate(
        {
            "path": "darkbloom-bundle-macos-arm64.tar.gz",
            "sha256": "a" * 64,
            "size": 78_900_000,
            "tar_sha256": "0" * 64,
            "binary_sha256": "b" * 64,
            "enclave_sha256": "2" * 64,
            "metallib_sha256": "c" * 64,
            "cdhash": "d" * 40,
            "code_directory_sha256": "e" * 64,
            "source_commit": "f" * 40,
            "test_outcome": "passed",
            "members": (),
        }
        | other
    )


def _smoke(model: str = "mlx-community/Qwen3", kind: str = "bundle") -> values.SmokeEvidence:
    host = values.Host(system="macos", release="14.6", machine="arm64", chip="Apple M1")
    return values.SmokeEvidence.model_validate(
        smoke_samples.evidence(prompts=("q", "q")).model_dump()
        | {
            "kind": kind,
            "ran": "x",
            "ran_sha256": "b" * 64,
            "version_ran": True,
            "host": host,
            "model": model,
        }
    )


def _notarization() -> values.Notarization:
    return values.Notarization(
        submission_id="0b5c0000-0000-4000-8000-0000000000e1",
        name="x.zip",
        archive_sha256="7" * 64,
        archive_size=1,
        log="log.json",
        log_sha256="8" * 64,
        cdhashes=("d" * 40,),
        extra_cdhashes=0,
        issues=(),
        route="api",
    )


def _found(**other: values.Value) -> dict[str, values.Value]:
    return {"archive": _archive(), "smoke": _smoke(), "notarize": _notarization()} | other


def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like", {"linkify": False})


def _shape(text: str) -> list[str]:
    """What Markdown makes of a text, its words aside."""
    shape = []
    for token in _parser().parse(text):
        shape.append(token.type)
        shape += [
            child.content if child.type == "html_inline" else child.type
            for child in token.children or ()
        ]
    return shape


def _shown(text: str) -> str:
    return re.sub(r"<[^>]*>", "", _parser().render(text))


def test_the_notes_hold_what_was_recorded(plan: ReleasePlan) -> None:
    """Each digest and name stands in the rendered page, whole."""
    text = notes.render(_built_in_run(plan, "1234567"), _found())
    shown = _shown(text)
    facts = ("0.5.0", plan.source.commit, "1234567", "a" * 64, "b" * 64, "c" * 64, "d" * 40)
    notary = ("e" * 64, "8" * 64, "0b5c0000-0000-4000-8000-0000000000e1")
    smoke = ("2 of 2 prompts agree", "macos 14.6, arm64 Apple M1", "mlx-community/Qwen3")
    for fact in (*facts, *notary, *smoke):
        assert fact in shown
    assert f"release-tool verify {plan.archive.name} --team-id SLDQ2GJ6TL" in shown
    assert "not notarized" not in shown


def test_what_was_not_recorded_is_not_claimed(plan: ReleasePlan) -> None:
    """No notarization, a stand-in and failed tests are said, and no row speaks of a verdict."""
    found = _found(smoke=_smoke(kind="stand-in"), archive=_archive(test_outcome="failed"))
    del found["notarize"]
    shown = _shown(notes.render(plan, found))
    assert "not notarized" in shown
    assert "stand-in" in shown
    assert "recorded as failed" in shown
    assert "Notary log" not in shown
    assert "Run" not in re.findall(r"^\w+$", shown, re.MULTILINE)


def test_a_fleet_that_nobody_watched_is_told(plan: ReleasePlan) -> None:
    """Where release.yaml does without, readers are told first; a first release is no such case."""
    told = "Nobody looked whether providers of the release before are still accepted."
    for name, expected in ((values.FLEET_WATCH, True), ("routable capacity", False)):
        check = values.CheckOutcome(name=name, outcome="not_checked", hint="no key")
        registered = values.RegisteredRelease(
            version="0.5.0",
            platform="macos-arm64",
            backend="mlx-swift",
            binary_hash="b" * 64,
            bundle_hash="a" * 64,
            metallib_hash="c" * 64,
            url="https://cdn.example/x",
            status="release_registered",
            checks=(check,),
        )
        assert (told in _shown(notes.render(plan, _found(register=registered)))) is expected


def test_the_command_that_verifies_it_names_another_flavour(plan: ReleasePlan) -> None:
    """The usual flavour needs no word; typed without its own, another one would be condemned."""
    document = values.PublishedDocument(name="x", key="k", url="u", size=1, sha256="a" * 64)
    published = values.PublishedRelease(
        archive_sha256="a" * 64, size=1, key="k", url="u", created=True, documents=(document,)
    )
    bridge = changed(plan, flavour={"name": "rust-bridge", "tag_prefix": "rust-bridge-v"})
    for asked, said in ((plan, ""), (bridge, " --flavour rust-bridge")):
        shown = _shown(notes.render(asked, _found(publish=published)))
        assert f"--env {plan.environment.name}{said} --log-head log.head.json" in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_the_text_of_a_tag_makes_no_markup(plan: ReleasePlan, text: str) -> None:
    """By an independent parser: one code block more or less, and the rest of the page the same."""
    plain = notes.render(changed(plan, source={"changelog": "plain words"}), _found())
    hostile = notes.render(changed(plan, source={"changelog": text}), _found())
    assert _shape(hostile) == _shape(plain)
    assert _shape(plain)[-1] == "fence"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_recorded_text_makes_no_markup(plan: ReleasePlan, text: str) -> None:
    """A model's name, a chip's, a certificate's: the cell holds it as code, with no mark raw."""
    plain = notes.render(plan, _found())
    hostile = notes.render(plan, _found(smoke=_smoke(model=text)))
    assert _shape(hostile) == _shape(plain)


@given(st.text(max_size=60))
def test_a_fact_is_code_whose_marks_are_references(text: str) -> None:
    """Nothing of a text is left that Markdown, HTML or a linker could take for structure."""
    made = notes.fact(text)
    inner = made.removeprefix("<code>").removesuffix("</code>")
    assert re.fullmatch(r"(?:[A-Za-z0-9 -]|&#[0-9]+;)*", inner)


@given(st.text(alphabet="`~\n\r ab<|", max_size=60))
def test_a_fence_is_longer_than_any_that_it_holds(text: str) -> None:
    """The whole text is one code block, and nothing stands behind it."""
    tokens = _parser().parse(notes.fenced(text))
    assert [token.type for token in tokens] == ["fence"]


@pytest.mark.parametrize("run_id", ["12\n# x", "@me", "1" * 33, "١٢"])
def test_a_run_is_a_number(run_id: str) -> None:
    """What the approval binds is what the notes name, and the plan takes nothing else."""
    with pytest.raises(ValidationError):
        Source(commit="a" * 40, clean=True, date=1, ci_run_id=run_id)


def test_a_run_that_is_not_known_is_left_out(plan: ReleasePlan) -> None:
    """As on a maintainer's own machine."""
    assert "| Run |" not in notes.render(_built_in_run(plan, ""), _found())


def _built_in_run(plan: ReleasePlan, run_id: str) -> ReleasePlan:
    source = plan.source.model_copy(update={"ci_run_id": run_id})
    return plan.model_copy(update={"source": source})
