"""Provenance and bill: read by their formats' own libraries, and the same for the same facts."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement as other_statement
from in_toto_attestation.v1 import statement_pb2
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.provenance import sbom, statement
from tests.provenance import samples
from tests.provenance.samples import COMMIT


@pytest.fixture
def planned(plan: ReleasePlan) -> ReleasePlan:
    return samples.with_provenance(plan, samples.key())


def _payload(plan: ReleasePlan, *, sha256: str = "9" * 64) -> bytes:
    made = samples.materials(plan, sha256=sha256)
    return statement.payload(plan, made, samples.RUN, sbom_sha256="5" * 64)


def test_in_totos_own_library_reads_the_statement(planned: ReleasePlan) -> None:
    """The protocol buffers of in-toto and SLSA take every field, and refuse an unknown one."""
    whole = json.loads(_payload(planned))
    predicate = json_format.ParseDict(whole["predicate"], provenance_pb2.Provenance())
    read = json_format.ParseDict(whole, statement_pb2.Statement())
    other_statement.Statement.copy_from_pb(read).validate()
    assert read.subject[0].digest["sha256"] == "9" * 64
    named = {one.name: dict(one.digest) for one in predicate.build_definition.resolved_dependencies}
    assert named["source"] == {"gitCommit": COMMIT}
    pin = planned.bundle.metallib
    assert pin
    assert named["wheel mlx-metal"] == {"sha256": pin.wheel_sha256}
    assert predicate.run_details.builder.id == samples.BUILDER
    metadata = predicate.run_details.metadata
    assert metadata.started_on.seconds < metadata.finished_on.seconds
    broken = whole["predicate"] | {"buildDefinitions": {}}
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(broken, provenance_pb2.Provenance())


def test_a_statement_is_read_back(planned: ReleasePlan) -> None:
    """Signed and opened, with what somebody compares; the same facts give the same bytes."""
    content = _payload(planned)
    assert content == _payload(planned)
    sealed = statement.seal(content, samples.key())
    found = statement.unseal(sealed, trusted=[samples.key().public])
    assert (found.sha256, found.commit, found.sbom_sha256) == ("9" * 64, COMMIT, "5" * 64)
    assert (found.builder, found.version) == (samples.BUILDER, planned.version)
    assert found.flavour == planned.flavour.name
    assert found.build_type == statement.BUILD_TYPE


def test_an_unknown_source_is_not_made_up(planned: ReleasePlan) -> None:
    """No dependency stands for a commit that nobody knew."""
    made = samples.materials(planned)
    archive = made.archive.model_copy(update={"source_commit": "unknown"})
    made = statement.Materials(archive=archive, assembled=made.assembled, signed=made.signed)
    content = statement.payload(planned, made, samples.RUN, sbom_sha256="5" * 64)
    assert statement.read(content).commit == ""
    assert b"unknown" not in content


def _changed(content: bytes, path: str, value: object) -> bytes:
    whole: Any = json.loads(content)
    place = whole
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        place = place[step]
    place[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "x"), ("predicateType", "https://slsa.dev/provenance/v0.2"), ("subject", []),
        ("subject.0.digest.sha256", "9"), ("subject.0.name", 5), ("predicate", None),
        ("predicate.buildDefinition", "x"), ("predicate.runDetails.builder", []),
        ("predicate.runDetails.byproducts", []), ("predicate.runDetails.byproducts.0.digest", {}),
        ("predicate.buildDefinition.resolvedDependencies.0.digest.gitCommit", "main"),
        ("predicate.buildDefinition.externalParameters.version", "a\nb"),
        ("predicate.buildDefinition.externalParameters.flavour", None),
    ],
)  # fmt: skip
def test_each_part_that_is_compared_is_judged(
    planned: ReleasePlan, path: str, value: object
) -> None:
    """Provenance of another kind, or without a part, is no provenance."""
    with pytest.raises(errors.FormatError):
        statement.read(_changed(_payload(planned), path, value))


def _bill(plan: ReleasePlan) -> bytes:
    pin = plan.bundle.metallib
    assert pin
    return sbom.build(plan, "9" * 64, samples.files(pin.sha256), samples.code())


def test_cyclonedx_takes_the_bill(planned: ReleasePlan) -> None:
    """By the official JSON Schema of 1.6, formats and references included."""
    folder = resources.files("cyclonedx.schema._res")
    loaded = {
        name: json.loads((folder / name).read_text())
        for name in (
            "bom-1.6.SNAPSHOT.schema.json",
            "spdx.SNAPSHOT.schema.json",
            "jsf-0.82.SNAPSHOT.schema.json",
        )
    }
    registry: Registry[Any] = Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in loaded.values()
    )
    validator = Draft7Validator(loaded["bom-1.6.SNAPSHOT.schema.json"], registry=registry)
    whole = json.loads(_bill(planned))
    assert list(validator.iter_errors(whole)) == []
    assert list(validator.iter_errors(whole | {"serialNumber": "5"}))
    references = [one["bom-ref"] for one in whole["components"]] + ["archive"]
    assert len(references) == len(set(references))
    for one in whole["dependencies"]:
        assert {one["ref"], *one["dependsOn"]} <= set(references)


def test_the_bill_says_what_is_inside(planned: ReleasePlan) -> None:
    """Digests, cdhash and identifier of code, what no Mac brings along, the library's package."""
    whole = json.loads(_bill(planned))
    named = {one["name"]: one for one in whole["components"]}
    program = named["Darkbloom.app/Contents/MacOS/darkbloom"]
    told = {one["name"]: one["value"] for one in program["properties"]}
    assert told["release-tool:arm64:cdhash"] == "c" * 40
    assert told["release-tool:arm64:identifier"] == "io.darkbloom.provider"
    assert named["mlx-metal"]["purl"] == "pkg:pypi/mlx-metal@0.31.1"
    assert "@rpath/libunusual.dylib" in named
    needs = {one["ref"]: one["dependsOn"] for one in whole["dependencies"]}
    assert needs["file:Darkbloom.app/Contents/MacOS/mlx.metallib"] == ["pkg:pypi/mlx-metal@0.31.1"]


def test_a_given_library_is_nobodys_package(planned: ReleasePlan) -> None:
    """Only the pinned bytes are the pinned package."""
    content = sbom.build(planned, "9" * 64, samples.files("1" * 64), samples.code())
    assert b"pkg:pypi" not in content


def test_a_bill_is_compared_both_ways(planned: ReleasePlan) -> None:
    """A file more, a file less, another digest, mode, cdhash or library: each is named."""
    pin = planned.bundle.metallib
    assert pin
    files, code = samples.files(pin.sha256), samples.code()
    bill = sbom.read(_bill(planned))

    def failed(
        given: tuple[Any, ...] = files, found: tuple[Any, ...] = code, sha256: str = "9" * 64
    ) -> list[str]:
        judged = sbom.judge(bill, sha256, given, found)
        return [one.subject or one.name for one in judged if one.outcome == "failed"]

    assert failed() == []
    assert failed(sha256="8" * 64) == ["SBOM subject"]
    assert failed(files[1:]) == [files[0].path]
    more = files[0].model_copy(update={"path": "bin/more"})
    assert failed((*files, more)) == ["bin/more"]
    for change in ({"sha256": "2" * 64}, {"mode": 0o600}, {"size": 8}, {"link": True}):
        assert failed((*files[:3], files[3].model_copy(update=change))) == [files[3].path]
    assert failed(files, ()) == [files[0].path]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'{"bomFormat":"CycloneDX","specVersion":"1.5"}',
        b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":{}}',
        b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"file","name":"a"}]}',
        b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}',
    ],
)  # fmt: skip
def test_what_is_no_bill_is_refused(content: bytes) -> None:
    """Whatever is served."""
    with pytest.raises(errors.FormatError):
        sbom.read(content)
