"""Versions and tags: the forms of the contract, and nothing else."""

from __future__ import annotations

import re

import pytest
import semver
from hypothesis import example, given
from hypothesis import strategies as st

from release_tool import errors, version

# Written anew from the contract, with the anchors that Go gives them.
COORDINATOR = re.compile(r"\A[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.-]+)?\Z")
# The pattern that semver.org publishes, in groups without names.
STRICT = re.compile(
    r"\A(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-((0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?\Z"
)

TAGS = [
    ("v0.5.0", "0.5.0", "release"),
    ("v10.20.30", "10.20.30", "release"),
    ("v0.5.0-dev.1", "0.5.0-dev.1", "development"),
    ("v0.5.0-dev.0", "0.5.0-dev.0", "development"),
    ("v0.5.0-swift", "0.5.0", "release"),
    ("v0.5.0-swift.2", "0.5.0", "release"),
    ("rust-bridge-v0.4.9", "0.4.9", "release"),
    ("rust-bridge-v0.4.9-dev.1", "0.4.9-dev.1", "development"),
]
NO_TAGS = [
    "",
    "v",
    "0.5.0",
    "v0.5",
    "v0.5.0.1",
    "v0.05.0",
    "v00.5.0",
    "v0.5.0-dev",
    "v0.5.0-dev.",
    "v0.5.0-dev.01",
    "v0.5.0-dev.1-swift",
    "v0.5.0-swift.",
    "v0.5.0-swift.01",
    "v0.5.0-rc.1",
    "v0.5.0+b1",
    "V0.5.0",
    "v0.5.0\n",
    " v0.5.0",
    "v\u0660.5.0",
    "rust-bridge-0.4.9",
    "rust-bridge-v0.4.9-swift",
    "rust-bridge-v0.4.9-rc.1",
    "rust--bridge-v0.4.9",
    "-v0.4.9",
    "master",
    "release/v0.5.0",
    "nightly",
    "v" + "9" * 200 + ".0.0",
]
VERSIONS = ["0.5.0", "1.2.3-dev.1", "1.2.3+b1", "1.2.3-rc.1", "0.0.0", "1.0.0-a-b", "1.0.0-0a"]
NO_VERSIONS = [
    "",
    "1",
    "1.2",
    "1.2.3.4",
    "v1.2.3",
    "01.2.3",
    "1.2.3-",
    "1.2.3+",
    "1.2.3-01",
    "1.2.3-a..b",
    "1.2.3-rc.1+b1",
    "1.2.3\n",
    " 1.2.3",
    "1.2.3-dev_1",
    "\u0661.\u0662.\u0663",
    "main",
    "1.2.3-" + "a" * 128,
    "9" * 5000 + ".0.0",
]


@pytest.mark.parametrize(("name", "number", "kind"), TAGS)
def test_release_tags_name_a_version(name: str, number: str, kind: str) -> None:
    """Each form of the contract gives its version and its kind."""
    tag = version.read_tag(name)
    assert tag is not None
    assert (tag.name, tag.version, tag.kind) == (name, number, kind)


@pytest.mark.parametrize("name", NO_TAGS)
def test_other_tags_name_none(name: str) -> None:
    """What is of none of the forms never becomes a version."""
    assert version.read_tag(name) is None


@given(
    st.sampled_from(["v", "rust-bridge-v", "other-v"]),
    st.sampled_from(["0.4.9", "0.4.9-dev.2", "10.0.0"]),
)
def test_a_tag_is_of_one_family(prefix: str, number: str) -> None:
    """Whatever the version, a tag counts in its own family and in no other."""
    families = ["v", "rust-bridge-v"]
    name = f"{prefix}{number}"
    tag = version.read_tag(name)
    assert tag is not None
    assert (tag.prefix, tag.version) == (prefix, number)
    assert version.read_tag(name, families) == (tag if prefix in families else None)
    assert [one for one in families if version.read_tag(name, [one])] == [prefix][
        : prefix in families
    ]


def test_tag_forms_are_told_by_family() -> None:
    """Each family's form stands in the text; only the first one has second builds."""
    assert version.tag_forms(["v"]) == "vX.Y.Z[-dev.N] or vX.Y.Z-swift[.N]"
    assert version.tag_forms(["a-v"]) == "a-vX.Y.Z[-dev.N]"
    assert version.tag_forms(["v", "rust-bridge-v"]) == (
        "vX.Y.Z[-dev.N], rust-bridge-vX.Y.Z[-dev.N] or vX.Y.Z-swift[.N]"
    )


@pytest.mark.parametrize("text", VERSIONS)
def test_versions_that_both_sides_accept(text: str) -> None:
    """A version stands if the coordinator and strict SemVer take it."""
    assert version.check(text, origin="--version") == text


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_versions_that_one_side_refuses(text: str) -> None:
    """One refusal is enough, and the error says where the text came from."""
    with pytest.raises(errors.UsageError, match="--version is not a version"):
        version.check(text, origin="--version")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0.5", "0.5.0"),
        ("1", "1.0.0"),
        ("v0.6.1", "0.6.1"),
        ("v2.4-dev.1", "0.5.0"),
        ("main", "0.5.0"),
        ("", "0.5.0"),
        ("0.5.0.1", "0.5.0"),
    ],
)
def test_a_refused_version_is_told_by_what_it_may_have_meant(text: str, meant: str) -> None:
    """What only lacks a part or has a letter before it is the example itself."""
    with pytest.raises(errors.UsageError) as caught:
        version.check(text, origin="--version")
    assert caught.value.expected.startswith(f"X.Y.Z, such as {meant}, ")


def _near_versions() -> st.SearchStrategy[str]:
    number = st.sampled_from(["0", "1", "12", "01", "\u0663", ""])
    tail = st.from_regex(r"\A([-+]?[0-9A-Za-z.+\n-]{0,8})\Z")
    return st.builds("{}.{}.{}{}".format, number, number, number, tail)


@given(st.text(max_size=24) | _near_versions())
@example("1.2.3\n")
@example("1.2.3-rc.1+b1")
def test_a_version_is_what_both_grammars_accept(text: str) -> None:
    """For any text the answer equals that of both grammars, written down a second time here."""
    assert version.is_version(text) == bool(COORDINATOR.match(text) and STRICT.match(text))


@given(st.text(max_size=30) | _near_versions().map("v{}".format))
def test_a_tag_never_gives_a_version_that_is_none(name: str) -> None:
    """Whatever the tag, its version stands in its name and satisfies both grammars."""
    tag = version.read_tag(name)
    if tag is not None:
        assert version.is_version(tag.version)
        assert tag.version in name
        assert semver.Version.parse(tag.version).build is None


REFS = [
    ({}, ""),
    ({"GITHUB_REF": ""}, ""),
    ({"GITHUB_REF": "refs/tags/v0.5.0"}, "v0.5.0"),
    ({"GITHUB_REF": "refs/heads/v0.5.0"}, ""),
    ({"GITHUB_REF": "refs/pull/12/merge"}, ""),
    ({"GITHUB_REF_NAME": "v0.5.0"}, ""),
    ({"GITHUB_REF_NAME": "v0.5.0", "GITHUB_REF_TYPE": "branch"}, ""),
    ({"GITHUB_REF_NAME": "v0.5.0", "GITHUB_REF_TYPE": "tag"}, "v0.5.0"),
    (
        {
            "GITHUB_REF": "refs/heads/v0.5.0",
            "GITHUB_REF_NAME": "v0.5.0",
            "GITHUB_REF_TYPE": "branch",
        },
        "",
    ),
    (
        {
            "GITHUB_REF": "refs/tags/v0.5.0",
            "GITHUB_REF_NAME": "v0.5.0",
            "GITHUB_REF_TYPE": "tag",
        },
        "v0.5.0",
    ),
]
CONTRADICTIONS = [
    {"GITHUB_REF": "refs/heads/main", "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v0.5.0"},
    {"GITHUB_REF": "refs/tags/v0.5.0", "GITHUB_REF_TYPE": "branch"},
    {"GITHUB_REF": "refs/tags/v0.5.0", "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v0.5.1"},
]


@pytest.mark.parametrize(("environ", "name"), REFS)
def test_only_a_tag_is_a_tag(environ: dict[str, str], name: str) -> None:
    """A branch that is called like a tag is still a branch."""
    assert version.ref_tag(environ) == name


@pytest.mark.parametrize("environ", CONTRADICTIONS)
def test_contradictory_refs_are_refused(environ: dict[str, str]) -> None:
    """Where the variables disagree nothing is guessed."""
    with pytest.raises(errors.UsageError, match="contradict"):
        version.ref_tag(environ)


@given(st.text(max_size=30))
def test_a_branch_never_becomes_a_version(name: str) -> None:
    """Whatever a branch is called, no tag comes of it."""
    environ = {
        "GITHUB_REF": f"refs/heads/{name}",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REF_NAME": name,
    }
    assert version.ref_tag(environ) == ""
