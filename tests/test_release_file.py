"""`release.yaml`: what the real one says, and how a wrong one is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from release_tool import data, errors, release_file, release_yaml
from release_tool.release_file import ReleaseFile

TEXT = data.release_file().read_text(encoding="utf-8")


def problems(text: str) -> list[str]:
    """Every fault of a release file with this text."""
    document = release_yaml.parse(text.encode(), name="release.yaml")
    return release_file.validate(document, {})[1]


def refusals(text: str) -> list[str]:
    """The faults, or the one error with which the file as a whole was refused."""
    try:
        return problems(text)
    except errors.UsageError as refused:
        return [str(refused)] if refused.subject.startswith("release.yaml") else []


def line_of(text: str, part: str) -> int:
    """The line of the first occurrence."""
    return text[: text.index(part)].count("\n") + 1


def changed(old: str, new: str) -> str:
    """The real file with one change."""
    assert old in TEXT
    return TEXT.replace(old, new, 1)


@pytest.fixture
def release() -> ReleaseFile:
    """The real release."""
    found, wrong = release_file.validate(release_yaml.read(data.release_file()), {})
    assert wrong == []
    assert found is not None
    return found


def test_the_release_is_that_of_darkbloom(release: ReleaseFile) -> None:
    """Identity, layout and pins are those of the May contracts."""
    assert release.product.bundle_id == "io.darkbloom.provider"
    assert release.product.team_id == "SLDQ2GJ6TL"
    assert release.product.access_groups == ("SLDQ2GJ6TL.io.darkbloom.provider",)
    real = [one for one in release.environments.values() if one.trust == "apple"]
    # The address that ends in /ts does not answer as a timestamp service.
    assert {one.timestamp_url for one in real} == {"http://timestamp.apple.com/ts01"}
    assert {name: one.built_in for name, one in release.environments.items()} == {
        "rehearsal": (),
        "dev": ("api.dev.darkbloom.xyz",),
        "prod": ("api.darkbloom.dev",),
    }
    assert all("localhost:8080" in one.not_built_in for one in real)
    assert list(release_file.doubts(release)) == []
    flat = [one.name for one in release.bundle.executables if one.flat_copy]
    assert flat == ["darkbloom", "darkbloom-enclave"]
    assert release.bundle.metallib
    assert release.bundle.metallib.flat_copy
    assert (release.bundle.metallib.package, release.bundle.metallib.version) == (
        "mlx-metal",
        "0.31.1",
    )
    assert not release.bundle.helpers
    assert release.archive.name == "darkbloom-bundle-macos-arm64.tar.gz"
    assert release.publish.legacy_aliases == ("eigeninference-bundle-macos-arm64.tar.gz",)


def test_a_real_environment_that_proves_little_is_doubted(release: ReleaseFile) -> None:
    """One host of any kind, and no threshold: each is told; a rehearsal may do so."""
    changes: list[tuple[dict[str, object], str]] = [
        ({"lanes": "any-host"}, "prod takes one host of any kind"),
        ({"smoke_thresholds": ()}, "prod has no threshold of speed"),
    ]
    for change, told in changes:
        lax = release.environments["prod"].model_copy(update=change)
        environments = {**release.environments, "prod": lax}
        asked = release.model_copy(update={"environments": environments})
        [(place, text)] = release_file.doubts(asked)
        assert place[:2] == ("environments", "prod")
        assert text.startswith(told)


def test_the_bridge_is_another_archive_of_the_same_product(release: ReleaseFile) -> None:
    """Flat files, tags and backend of its own, no Metal library; name and platform are shared."""
    section = release.flavours["rust-bridge"]
    assert (section.layout, section.tag_prefix, section.title) == (
        "flat",
        "rust-bridge-v",
        "Rust bridge",
    )
    bridge = release.of_flavour("rust-bridge")
    assert bridge.product.backend != release.product.backend
    assert bridge.product.model_copy(update={"backend": "mlx-swift"}) == release.product
    assert bridge.bundle.metallib is None
    assert [one.name for one in bridge.bundle.executables] == [
        "darkbloom",
        "eigeninference-enclave",
    ]
    assert bridge.archive == release.archive
    assert release.of_flavour("swift") == release


def test_a_file_without_flavours_has_the_one_of_before() -> None:
    """A release file that was written before there were flavours is read as it was meant."""
    start = TEXT.index("# What the product is released as.")
    text = TEXT[:start] + TEXT[TEXT.index("# The notary is asked with") :]
    found, wrong = release_file.validate(release_yaml.parse(text.encode(), name="release.yaml"), {})
    assert wrong == []
    assert found
    assert list(found.flavours) == [found.default_flavour] == ["swift"]
    assert found.of_flavour("swift").bundle == found.bundle


def test_only_prod_guards_its_source(release: ReleaseFile) -> None:
    """The environments differ as the house's plan says."""
    rehearsal, dev, prod = (release.environments[name] for name in ("rehearsal", "dev", "prod"))
    assert (rehearsal.embedded, rehearsal.trust, rehearsal.signer) == (
        True,
        "look-alike",
        "portable",
    )
    assert (dev.prefix, dev.legacy_fallback, dev.trust, dev.signer) == (
        "DEV_",
        False,
        "apple",
        "codesign",
    )
    assert (prod.prefix, prod.legacy_fallback, prod.notarization) == ("PROD_", True, "required")
    assert prod.require_clean_tree
    assert prod.require_default_branch
    assert prod.require_known_source
    assert not dev.require_clean_tree


SLIPS = [
    ("  team_id:", "  teamid:", "unknown key product.teamid; did you mean team_id?"),
    ("\nlimits:", "\nlimit:", "unknown key limit; did you mean limits?"),
    (
        "      entitlements: enclave.plist",
        "      entitlement: enclave.plist",
        "unknown key bundle.executables[1].entitlement; did you mean entitlements?",
    ),
    (
        "    legacy_fallback: true",
        "    legacy_fall_back: true",
        "unknown key environments.prod.legacy_fall_back; did you mean legacy_fallback?",
    ),
    (
        "      r2_bucket: d-inf-app-prod",
        "      r2_buckets: d-inf-app-prod",
        "unknown key environments.prod.endpoints.r2_buckets; did you mean r2_bucket?",
    ),
    ("\nsource:", "\nqqqqqqqq:", "unknown key qqqqqqqq"),
]


@pytest.mark.parametrize(("old", "new", "expected"), SLIPS)
def test_an_unknown_key_is_named_with_its_line(old: str, new: str, expected: str) -> None:
    """At every depth the key, its line and the nearest known one are told."""
    text = changed(old, new)
    assert f"release.yaml:{line_of(text, new.strip())}: {expected}" in problems(text)


WRONG = [
    (
        "portable: sealed-as-data",
        "portable: extended-attributes",
        "bundle.metallib.placement.portable is 'extended-attributes', expected",
    ),
    (
        "codesign: extended-attributes",
        "codesign: sealed-as-data",
        "bundle.metallib.placement.codesign is 'sealed-as-data', expected",
    ),
    (
        'minimum_macos: "14.0"',
        "minimum_macos: 14.0",
        "product.minimum_macos is 14.0, expected text",
    ),
    ("SLDQ2GJ6TL\n", "sldq\n", "product.team_id is 'sldq', expected text of the form"),
    ("minimum_days: 30", "minimum_days: '30'", "is '30', expected a whole number"),
    ("minimum_days: 30", "minimum_days: -1", "is -1, expected greater than or equal to 0"),
    ("minimum_days: 30", "minimum_days: yes", "is true, expected a whole number"),
    ("members: 16384", "members: 16384.5", "is 16384.5, expected a whole number"),
    ("request_seconds: 150", "request_seconds: .inf", "expected a finite number"),
    ("request_seconds: 150", "request_seconds: .nan", "request_seconds is NaN"),
    ("role: enclave", "role: enclav", "'enclav', expected 'provider', 'enclave' or 'helper'"),
    ("resources: []", "resources: {}", "is keys and values, expected a list"),
    ("embedded: true", "embedded: 1", "is 1, expected true or false"),
    ("signer: portable", "signer:", "environments.rehearsal.signer is empty"),
    ("trust: look-alike", "trust: [a]", "environments.rehearsal.trust is a list"),
    ("backend: mlx-swift", "backend: 2026-05-14", ""),
]


@pytest.mark.parametrize(("old", "new", "expected"), WRONG)
def test_a_wrong_value_is_told_with_what_was_expected(old: str, new: str, expected: str) -> None:
    """Place, observed and expected stand in one line; no type is bent."""
    text = changed(old, new)
    if not expected:
        assert problems(text) == []
        return
    (found,) = problems(text)
    assert expected in found
    assert found.startswith(f"release.yaml:{line_of(text, new.strip())}: ")


def test_a_missing_key_is_told_at_its_parent() -> None:
    """The line is that of the part that lacks it."""
    text = changed("  team_id: SLDQ2GJ6TL\n", "")
    found = problems(text)
    assert f"release.yaml:{line_of(text, 'product:')}: product.team_id is missing" in found


CLASHES = [
    ("smoke_long_tokens: 32", "smoke_long_tokens: 24", "no longer than the others: 24"),
    (
        "tags: development",
        "tags: development\n    smoke_long_tokens: 64",
        "only an embedded environment",
    ),
    (
        "portable: sealed-as-data",
        "portable: resources-link",
        "the archive may hold no link: installers in the field refuse them",
    ),
    ("[SLDQ2GJ6TL.io.darkbloom.provider]", "[XXXXXXXXXX.io.darkbloom.provider]", "not one of team"),
    ("[SLDQ2GJ6TL.io.darkbloom.provider]", '["SLDQ2GJ6TL.*"]', "not one of team"),
    ("Inc. (SLDQ2GJ6TL)", "Inc. (XXXXXXXXXX)", "does not end with (SLDQ2GJ6TL)"),
    ("platform: macos-arm64", "platform: macos-x", "darkbloom-bundle-macos-x.tar.gz"),
    ("main_executable: darkbloom", "main_executable: other", "other is not an executable"),
    ("role: enclave", "role: provider", "exactly one executable has the role provider"),
    ("name: darkbloom-enclave", "name: darkbloom", "darkbloom is listed twice"),
    (
        "resources: []",
        "resources: [{source: a/../../b, destination: a}]",
        "source leaves its folder",
    ),
    ("resources: []", "resources: [{source: a, destination: ..}]", "destination leaves"),
    ("prefix: releases", "prefix: ../releases", "not a plain path"),
    (
        "when_granted: []",
        "when_granted: [{executable: x, key: k, value: true}]",
        "x is not an executable",
    ),
    (
        "      entitlements: enclave.plist",
        "      jit: true",
        "darkbloom-enclave is `jit` and names no entitlements",
    ),
    (
        "helpers: []",
        "helpers: [{name: h, role: helper, identifier: a.b, jit: true}]",
        "h is `jit` and names no entitlements",
    ),
    ("prefix: PROD_", "prefix: DEV_", "DEV_ is already the prefix of dev"),
    ("    prefix: DEV_\n", "", "dev has no prefix"),
    ("trust: apple", "trust: look-alike", "only an embedded environment may trust"),
    ("provider: bundle", "provider: stand-in", "only an embedded environment may be smoked"),
    ('default_version: "0.5.0"', "default_version: main", "main is not a version"),
    ("    tags: development", '    default_version: "1.0.0"', "only an embedded environment"),
    ("    embedded: true", "    embedded: true\n    prefix: X_", "made for the run, not read"),
    ("    embedded: true", "    embedded: true\n    tags: release", "no tag selects it"),
    ("https://api.darkbloom.dev", "http://api.darkbloom.dev", "in the clear"),
    ("https://api.darkbloom.dev", "https://u:p@api.darkbloom.dev", "credentials"),
    ("r2_bucket: d-inf-app-dev", "r2_bucket: D/inf", "not the name of a bucket"),
    ("    prefix: DEV_", "    prefix: DEV_\n    notary_url: http://x.example", "in the clear"),
    ("    prefix: DEV_", "    prefix: DEV_\n    notary_upload_url: s3.example", "not absolute"),
    ("    prefix: DEV_", "    prefix: DEV_\n    ticket_url: https://x.example/?a=b", "query"),
    ("    prefix: DEV_", "    prefix: DEV_\n    github_api_url: http://x.example", "in the clear"),
    ("    prefix: DEV_", "    prefix: DEV_\n    github_release: true", "names no repository"),
    ("default_flavour: swift", "default_flavour: swft", "no flavour is called swft"),
    ("tag_prefix: rust-bridge-v", "tag_prefix: v", "v is already the prefix of swift"),
    ("    backend: vllm-mlx\n", "", "the coordinator wants a metallib"),
    ("    backend: vllm-mlx", "    backend: mlx-swift", "wants a metallib of backend mlx-swift"),
    (
        "          entitlements: bridge.plist\n          flat_copy: true",
        "          entitlements: bridge.plist",
        "the coordinator reads the main executable in bin/",
    ),
    (
        "      main_executable: darkbloom\n      executables",
        "      main_executable: bloom\n      executables",
        "bloom is not an executable with the role provider",
    ),
    (
        "      main_executable: darkbloom\n      executables",
        "      resources: [{source: a, destination: a}]\n"
        "      main_executable: darkbloom\n      executables",
        "resources lie in an app, and a flat layout has none",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CLASHES)
def test_values_that_do_not_fit_together(old: str, new: str, expected: str) -> None:
    """What is well-formed alone is still held against the rest."""
    found = problems(changed(old, new))
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tftt:b1<=2s", "did you mean ttft?"),
        ("decode_ratio<=2", ">=, not <=: decode_ratio is better high"),
        ("ttft:b8<=2s", "ttft:b8<=2s: smoke.concurrency has no b8 (b1, b2, b4)"),
    ],
)
def test_a_threshold_that_is_none_is_told_with_its_line(text: str, expected: str) -> None:
    """Of the release or of one environment: the place in the list, the line, what was expected."""
    old, none = '"ttft:p95:b1<=2s"', "smoke_thresholds: []"
    found = problems(changed(old, f'"{text}"'))
    assert len(found) == 1
    assert found[0].startswith(f"release.yaml:{line_of(TEXT, old)}: ")
    assert expected in found[0]
    found = problems(changed(none, f'smoke_thresholds: ["ttft<=9s", "{text}"]'))
    assert len(found) == 1
    assert found[0].startswith(f"release.yaml:{line_of(TEXT, none)}: ")
    assert expected in found[0]


def test_everything_is_reported_at_once() -> None:
    """Faults of every kind come in one list."""
    text = TEXT.replace("role: enclave", "role: enclave\n      role: x", 1)
    text = text.replace("team_id:", "teamid:").replace("members: 16384", "members: many")
    text = text.replace("signer: portable", "signer: prtable")
    found = problems(text)
    assert len(found) == 5
    for part in ("already given", "did you mean team_id", "is missing", "'many'", "'prtable'"):
        assert any(part in line for line in found), part


def test_a_key_that_stands_twice_is_refused() -> None:
    """YAML would silently keep the last one."""
    text = changed("  name: Darkbloom", "  name: Darkbloom\n  name: Other")
    line = line_of(text, "  name: Other")
    assert problems(text) == [f"release.yaml:{line}: name was already given in line {line - 1}"]


BOMBS = [
    "a: &a [x]\nb: *a\n",
    "a: &a [x]\n",
    "a: &a\n  <<: *a\n",
    "[" * 100_000,
    "{a: " * 50_000,
    "- " * 50_000,
    "a: [" + "x, " * 60_000 + "x]",
    "a: !!python/object/apply:os.system [id]",
    "? [a, b]\n: c",
    "a: !!binary '%'",
    "a: !!int x",
    "a: " + "9" * 100_000,
    "a: 0x" + "f" * 100_000,
    "a: 1:" + ":".join(["9"] * 50_000),
    'a: "\\ud800"',
    "a: \x00",
    "a: \x1b[2J",
    "%YAML 3.0\n---\na",
    "a: b\n---\na: b\n",
    "a: b: c",
    "'",
    "",
    "null",
    "- a",
    "text",
    "x" * 300_000,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", BOMBS)
def test_hostile_yaml_is_refused_at_once(text: str) -> None:
    """No alias, depth, tag or number costs time without end, memory or a traceback."""
    assert refusals(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    """Whatever the bytes, there is an answer of ours."""
    try:
        document = release_yaml.parse(noise, name="release.yaml")
    except errors.UsageError:
        return
    assert release_file.validate(document, {})[1]


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6), _PLAIN, min_size=1, max_size=4))
def test_plain_values_come_back_as_they_were(values: dict[str, Any]) -> None:
    """Reading gives what another writer of YAML wrote, each value with a line of the file."""
    text = yaml.safe_dump(values, allow_unicode=True)
    # The other writer loses a few control characters at the end of a key.
    assume(yaml.safe_load(text) == values)
    document = release_yaml.parse(text.encode(), name="x.yaml")
    assert document.data == values
    assert set(document.lines.values()) <= set(range(1, text.count("\n") + 2))


@given(st.sampled_from(sorted(ReleaseFile.model_fields)), _PLAIN)
def test_any_part_may_be_nonsense(name: str, value: object) -> None:
    """A part replaced by anything is judged, never a traceback."""
    whole = yaml.safe_load(TEXT)
    whole[name] = value
    problems(yaml.safe_dump(whole))


def test_the_schema_accepts_the_release_and_refuses_a_slip() -> None:
    """An editor with the schema says what we say."""
    schema = release_file.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    whole = yaml.safe_load(TEXT)
    assert list(validator.iter_errors(whole)) == []
    for place in (whole, whole["product"], whole["environments"]["dev"]["endpoints"]):
        place["unknown_key"] = 1
        assert [fault.validator for fault in validator.iter_errors(whole)] == [
            "additionalProperties"
        ]
        del place["unknown_key"]
    whole["profile"]["minimum_days"] = "30"
    assert not validator.is_valid(whole)


def test_the_schema_explains_keys() -> None:
    """What the code says about a key an editor shows."""
    text = json.dumps(release_file.schema())
    assert "Whether `bin/` of the archive gets a copy" in text
    assert "Which tags select it" in text
