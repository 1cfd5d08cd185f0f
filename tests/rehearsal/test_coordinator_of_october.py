"""The coordinator's look-alike when it speaks the contract of October 2026."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from release_tool.rehearsal import faults, qualification, version_order
from release_tool.rehearsal.registration import AUTUMN, MetadataError
from tests.rehearsal.test_coordinator import ADMIN, KEY, NAME, Place, bundle, refused

BUILD = {
    "code_directory_hash": "a" * 64,
    "source_commit": "b" * 40,
    "ci_run_id": "17041704",
}
OTHER = bundle({"./bin/darkbloom": b"\xcf\xfa\xed\xfe provider", "x": b"more"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A coordinator of October."""
    made = Place(tmp_path)
    made.reopen(contract=AUTUMN)
    yield made
    made.close()


def required(release: Mapping[str, str]) -> dict[str, object]:
    """The registration of a build that asks for its approval."""
    return dict(release) | BUILD | {"require_app_attest_qualification": True}


def ask(place: Place, body: object) -> requests.Response:
    return _send(place, "/v1/releases/qualification", body, KEY)


def approve(place: Place, wanted: Mapping[str, str], **other: object) -> requests.Response:
    row = {name: value for name, value in wanted.items() if name != "changelog"}
    request = BUILD | {"release": row, "evidence": "qualified on a Mac"} | other
    return _send(place, "/v1/admin/app-attest/builds", request, ADMIN)


def _send(place: Place, path: str, body: object, key: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"}
    data = json.dumps(body)
    return requests.post(f"{place.server.url}{path}", data=data, headers=headers, timeout=20)


def test_the_fields_of_october_are_taken_and_not_echoed(place: Place) -> None:
    """The row that is stored, echoed and served is that of the release alone."""
    wanted = place.publish(bundle())
    answer = place.post(wanted | BUILD)
    assert answer.status_code == 200
    assert not set(BUILD) & set(answer.json()["release"])


@pytest.mark.parametrize("field", ["python_hash", "runtime_hash"])
def test_removed_fields_are_unknown(place: Place, field: str) -> None:
    """What May took is a 400 now."""
    wanted = place.publish(bundle()) | {field: "a" * 64}
    assert "unknown field" in refused(place.post(wanted), 400, "invalid_request_error")


def test_both_addresses_are_accepted(place: Place) -> None:
    """The versioned one, and the one that holds the archive's digest; a wrong digest is refused."""
    wanted = place.publish(bundle())
    path = f"/releases/v0.5.0/artifacts/{wanted['bundle_hash']}/{NAME}"
    place.bucket.objects = {path: bundle()}
    moved = wanted | {"url": f"{place.base}{path}"}
    message = refused(
        place.post(wanted | {"url": f"{place.base}/releases/v0.5.0/artifacts/{'0' * 64}/{NAME}"}),
        400,
        "invalid_request_error",
    )
    assert "url must be" in message
    assert place.post(moved).status_code == 200
    assert place.get("/v1/releases/latest").json()["url"] == moved["url"]


def test_the_address_with_the_digest_is_unknown_in_may(place: Place) -> None:
    """A coordinator of May derives one address only."""
    place.reopen(contract="2026-05")
    wanted = place.publish(bundle())
    path = f"/releases/v0.5.0/artifacts/{wanted['bundle_hash']}/{NAME}"
    place.bucket.objects[path] = bundle()
    refused(place.post(wanted | {"url": f"{place.base}{path}"}), 400, "invalid_request_error")
    assert place.get("/v1/admin/app-attest/builds").status_code == 404
    assert ask(place, wanted).status_code == 404


def test_caches_are_cleared_and_versions_are_ordered_by_semver(place: Place) -> None:
    """A registration shows at once, and a prerelease ranks below its release."""
    place.post(place.publish(bundle(), "0.5.0"))
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.0"
    place.post(place.publish(bundle(), "0.5.1-dev.1"))
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.1-dev.1"
    place.post(place.publish(bundle(), "0.5.1"))
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.1"
    assert place.get("/api/version").json()["version"] == "0.5.1"


def test_a_build_is_registered_after_its_approval(place: Place) -> None:
    """409 and pending before, 200 and approved after, and the same again is a success."""
    wanted = place.publish(bundle())
    body = required(wanted)
    assert ask(place, body).json() == {"status": "pending"}
    refused(place.post(body), 409, "app_attest_qualification_required")
    assert place.store.registrations() == []
    assert approve(place, wanted).json()["changed"] is True
    assert approve(place, wanted).json()["changed"] is False
    assert ask(place, body).json() == {"status": "approved"}
    assert place.post(body).status_code == 200
    assert place.post(body).status_code == 200


def test_another_build_than_the_approved_is_mismatched(place: Place) -> None:
    """The question names the fields; the registration is refused."""
    wanted = place.publish(bundle())
    approve(place, wanted, ci_run_id="1")
    told = ask(place, required(wanted)).json()
    assert told == {"status": "mismatched", "mismatched_fields": ["ci_run_id"]}
    refused(place.post(required(wanted)), 409, "app_attest_qualification_required")


def test_a_revoked_approval_stays_revoked(place: Place) -> None:
    """Neither registered nor approved again."""
    wanted = place.publish(bundle())
    approve(place, wanted)
    revoked = {"binary_hash": wanted["binary_hash"], "reason": "it crashes"}
    path = "/v1/admin/app-attest/builds/revoke"
    assert _send(place, path, revoked, ADMIN).status_code == 200
    assert ask(place, required(wanted)).json() == {"status": "revoked"}
    refused(place.post(required(wanted)), 409, "app_attest_qualification_required")
    refused(approve(place, wanted), 409, "qualification_failed")


def test_a_published_version_never_changes(place: Place) -> None:
    """Other bytes under it have the same type of refusal and another text."""
    place.post(place.publish(bundle()))
    other = place.publish(OTHER)
    approve(place, other)
    message = refused(place.post(required(other)), 409, "app_attest_qualification_required")
    assert "immutable" in message


def test_without_being_asked_for_an_approval_the_old_way_stays(place: Place) -> None:
    """Unqualified registrations still replace, unless the coordinator always wants approvals."""
    place.post(place.publish(bundle()))
    assert place.post(place.publish(OTHER)).status_code == 200
    place.reopen(approval_always=True)
    refused(place.post(place.publish(bundle())), 409, "app_attest_qualification_required")


@pytest.mark.parametrize(
    "change",
    [
        {"release": 1},
        {"unknown": "x"},
        {"evidence": " "},
        {"evidence": "x" * 4097},
        {"ci_run_id": "run"},
        {"source_commit": "B" * 40},
        {"code_directory_hash": ""},
    ],
)
def test_an_approval_is_judged_strictly(place: Place, change: dict[str, object]) -> None:
    """Unknown fields, blank or long evidence, and an identity that is no identity."""
    refused(approve(place, place.publish(bundle()), **change), 400, "invalid_request_error")


def test_approving_needs_an_administrator(place: Place) -> None:
    """The release key can only ask."""
    wanted = place.publish(bundle())
    for path in ("/v1/admin/app-attest/builds", "/v1/admin/app-attest/builds/revoke"):
        refused(_send(place, path, wanted, KEY), 403, "forbidden")
    refused(place.get("/v1/admin/app-attest/builds", KEY), 403, "forbidden")
    url = f"{place.server.url}/v1/releases/qualification"
    refused(requests.post(url, data="{}", timeout=9), 401, "unauthorized")


def test_the_question_may_not_exist(place: Place) -> None:
    """Some coordinators of October answer 404 to it."""
    place.reopen(approval_question=False)
    assert ask(place, required(place.publish(bundle()))).status_code == 404


def test_what_is_not_ready_is_503(place: Place) -> None:
    """`release_not_ready` for questions, `qualification_unavailable` for what needs approvals."""
    wanted = place.publish(bundle())
    approve(place, wanted)
    place.faults.set(
        {faults.COORDINATOR_NOT_READY: 2, faults.COORDINATOR_QUALIFICATION_UNAVAILABLE: 2}
    )
    refused(place.get("/v1/releases/latest"), 503, "release_not_ready")
    refused(place.get("/api/version"), 503, "release_not_ready")
    refused(ask(place, required(wanted)), 503, "qualification_unavailable")
    refused(place.post(required(wanted)), 503, "qualification_unavailable")
    assert place.post(required(wanted)).status_code == 200


def test_a_release_in_use_is_deactivated_by_force_only(place: Place) -> None:
    """409 while connected providers report it; then it is gone at once."""
    wanted = place.publish(bundle())
    place.post(wanted)
    place.fleet.connected = {wanted["binary_hash"]: 3}
    assert place.get("/v1/stats").json()["active_providers"] == 3
    url = f"{place.server.url}/v1/admin/releases"
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def delete(**body: object) -> requests.Response:
        return requests.delete(url, json={"version": "0.5.0"} | body, headers=headers, timeout=9)

    refused(delete(), 409, "release_in_use")
    refused(delete(force="yes"), 409, "release_in_use")
    assert place.get("/v1/releases/latest").status_code == 200
    answer = delete(force=True)
    assert answer.status_code == 200
    assert answer.json()["warning"] == "3 connected providers still report it"
    refused(place.get("/v1/releases/latest"), 404, "not_found")


def test_a_registration_can_hurt_the_fleet(place: Place) -> None:
    """On demand it evicts every other release, or takes nine tenths of the capacity."""
    place.post(place.publish(bundle(), "0.4.9"))
    before = place.get("/v1/stats").json()["network_capacity_tps"]
    place.faults.set({faults.COORDINATOR_EVICTS: 1, faults.COORDINATOR_CAPACITY_FALLS: 1})
    place.post(place.publish(bundle()))
    rows = place.get("/v1/admin/releases", ADMIN).json()["releases"]
    assert {row["version"]: row["active"] for row in rows} == {"0.4.9": False, "0.5.0": True}
    assert place.get("/v1/stats").json()["network_capacity_tps"] == before / 10


ORDERED = (
    "nonsense",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-dev.1",
    "1.10.0",
)


def test_the_order_of_october_is_that_of_semver() -> None:
    """The example of SemVer's section 11, in both directions; what is no version is lowest."""
    for at, left in enumerate(ORDERED):
        for to, right in enumerate(ORDERED):
            assert version_order.compare(left, right) == (at > to) - (at < to)
    assert version_order.compare("1.0.0+a", "1.0.0+b") == 0
    assert version_order.compare("01.0.0", "0.0.1") == -1


@given(st.binary(max_size=300))
def test_any_body_of_october_is_decoded_or_refused(body: bytes) -> None:
    """No bytes end the decoders otherwise than with their own error."""
    for decode in (qualification.decode, qualification.decode_request):
        try:
            decode(io.BytesIO(body))
        except MetadataError:
            continue
