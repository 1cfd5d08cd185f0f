"""The coordinator's client against scripted answers: who sees the key, what each answer means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.services import coordinator, coordinator_answers, coordinator_refusals, retries
from release_tool.services.coordinator import Approval, Coordinator, Fleet
from release_tool.services.coordinator_refusals import (
    FailedError,
    NotReadyError,
    NotTakenError,
    UnapprovedError,
)
from release_tool.services.coordinator_rules import Build, Contract, Release
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer

KEY = "rk-0123456789.abc~DEF"
ADMIN = "ak-9876543210"
BUILD = Build(
    code_directory_hash="d" * 64, source_commit="e" * 40, ci_run_id="17041704", qualified=True
)
RELEASE = Release(
    version="0.5.0",
    platform="macos-arm64",
    backend="mlx-swift",
    binary_hash="a" * 64,
    bundle_hash="b" * 64,
    metallib_hash="c" * 64,
    url="https://cdn.example/releases/v0.5.0/darkbloom-bundle-macos-arm64.tar.gz",
    changelog='Ein "Zitat", <b>& ‮ 漢字\n`$(rm -rf /)`',
)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on loopback."""
    with scripted_server.running() as made:
        yield made


def _client(
    server: ScriptedServer, key: str = KEY, prefix: str = "", contract: Contract = "2026-05"
) -> Coordinator:
    return Coordinator(
        base_url=server.url + prefix,
        release_key=lambda: key,
        seconds=5,
        policy=retries.Policy(attempts=3, sleep=lambda _: None),
        contract=contract,
        admin_key=lambda: ADMIN,
    )


def _october(server: ScriptedServer) -> Coordinator:
    return _client(server, contract="2026-10")


def _reply(status: int, body: object, **headers: str) -> Reply:
    return Reply(status, json.dumps(body).encode(), headers)


def _refusal(status: int, kind: str, message: str) -> Reply:
    return _reply(status, {"error": {"type": kind, "message": message}})


def test_a_registration_carries_the_fields_of_may_and_the_key(server: ScriptedServer) -> None:
    """The eight fields, nothing that we cannot prove, and the key in its one header."""
    server.says(_reply(200, {"status": "release_registered", "release": asdict(RELEASE)}))
    answer = _client(server).register(RELEASE)
    assert answer == coordinator.Registration(status="release_registered", release=RELEASE)
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/releases")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(sent.body) == asdict(RELEASE)
    assert not {"template_hashes", "python_hash", "runtime_hash"} & set(json.loads(sent.body))


def test_a_path_prefix_of_the_coordinator_is_kept(server: ScriptedServer) -> None:
    """A coordinator may live below a path."""
    server.says(_refusal(404, "not_found", "no active release"))
    assert _client(server, prefix="/deep/er/").latest("macos-arm64") is None
    assert server.requests[0].path == "/deep/er/v1/releases/latest?platform=macos-arm64"


def test_the_key_never_follows_a_redirect(server: ScriptedServer) -> None:
    """A redirect is refused by name, and its target sees no request at all."""
    with scripted_server.running() as other:
        other.says(Reply())
        for status in (301, 302, 303, 307, 308):
            server.says(Reply(status, b"", {"Location": other.url + "/v1/releases"}))
            with pytest.raises(errors.RemoteRefusedError, match="redirect") as caught:
                _client(server).register(RELEASE)
            assert other.url in caught.value.observed
        assert other.requests == []


def test_the_key_never_travels_in_the_clear() -> None:
    """Plain http is refused for any host but this one, before the key is asked for."""

    def never() -> str:
        message = "the key was revealed"
        raise AssertionError(message)

    with pytest.raises(errors.UsageError):
        Coordinator(base_url="http://coordinator.example", release_key=never)


def test_reading_needs_no_key(server: ScriptedServer) -> None:
    """Public questions carry no Authorization, and the key is not even revealed."""
    server.says(_reply(200, asdict(RELEASE)))
    client = Coordinator(base_url=server.url, release_key=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert client.latest("macos-arm64") == RELEASE
    assert client.current() is not None
    assert all("authorization" not in request.headers for request in server.requests)


@pytest.mark.parametrize("key", ["", "with space", "two\nlines", "ends\r\n", "ключ", "a\tb"])
def test_a_key_that_cannot_be_a_token_is_never_shown(server: ScriptedServer, key: str) -> None:
    """The error says what is wrong and not what the key is."""
    server.says(Reply())
    with pytest.raises(errors.CredentialError) as caught:
        _client(server, key).register(RELEASE)
    shown = "\n".join(caught.value.lines())
    assert not key.strip() or key.strip() not in shown
    assert server.requests == []


@pytest.mark.parametrize("key", [KEY, 'with"quotes\\and<marks>'])
def test_an_echoed_key_is_not_shown(server: ScriptedServer, key: str) -> None:
    """What stands before a coordinator may echo the header; the error does not."""
    for reply in (
        Reply(502, f"upstream refused Bearer {key}".encode()),
        _refusal(502, "bad_gateway", f"refused Bearer {key}"),
    ):
        server.says(reply)
        with pytest.raises(errors.TransientError) as caught:
            _client(server, key).register(RELEASE)
        assert key not in "\n".join(caught.value.lines())
        assert "refused Bearer ..." in caught.value.observed
    assert server.requests[-1].headers["authorization"] == f"Bearer {key}"
    assert key not in repr(_client(server, key))


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "version is required", errors.RemoteRefusedError),
        (400, "invalid_request_error", "invalid JSON: unknown field", errors.RemoteRefusedError),
        (401, "unauthorized", "invalid release key", errors.CredentialError),
        (403, "forbidden", "error code: 1010", errors.RemoteRefusedError),
        (409, "app_attest_qualification_required", "no matching approval", UnapprovedError),
        (409, "app_attest_qualification_required", "is immutable", errors.RemoteRefusedError),
        (
            *(409, "app_attest_qualification_required"),
            *("replacement bytes refused: published version", errors.RemoteRefusedError),
        ),
        (409, "conflict", "something else", errors.RemoteRefusedError),
        (429, "rate_limited", "slow down", NotTakenError),
        (500, "internal_error", "store write failed", FailedError),
        (503, "not_configured", "no CDN URL", errors.RemoteRefusedError),
        (503, "qualification_unavailable", "later", NotReadyError),
        (503, "release_not_ready", "later", NotReadyError),
    ],
)
def test_each_refusal_has_its_remedy_and_its_text(
    server: ScriptedServer,
    status: int,
    kind: str,
    message: str,
    expected: type[errors.ReleaseError],
) -> None:
    """The status table of the contract, with the coordinator's own words, in one request."""
    server.says(_refusal(status, kind, message))
    with pytest.raises(expected) as caught:
        _october(server).register(RELEASE)
    assert type(caught.value) is expected
    assert caught.value.observed == f"{status} {kind}: {message}"
    assert caught.value.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("the approval was revoked", "revoked"),
        ("approval mismatch for bundle_hash", "mismatched"),
        ("mismatched or revoked approval", "untold"),
        ("no matching approval: mismatched", "untold"),
        ("wants an unrevoked approval", "untold"),
        ("approve the exact signed artifact, then register again", "untold"),
    ],
)
def test_words_count_only_where_they_single_one_reason_out(told: str, why: str) -> None:
    """An approval that was revoked is for good: no text that lists reasons may be read as that."""
    said = f"409 app_attest_qualification_required: {told}"
    assert coordinator_refusals.why_unapproved(said) == why


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("download bundle: unexpected status 503", NotTakenError),
        ("download bundle: context deadline exceeded", NotTakenError),
        ("read bundle: unexpected EOF", NotTakenError),
        ("bundle hash mismatch", errors.RemoteRefusedError),
        ("binary hash mismatch after download bundle", errors.RemoteRefusedError),
        ("bundle exceeds 2 GiB", errors.RemoteRefusedError),
        ("unsafe member ../read bundle", errors.RemoteRefusedError),
    ],
)
def test_download_trouble_is_told_from_verdicts(
    server: ScriptedServer, message: str, expected: type[errors.ReleaseError]
) -> None:
    """Both are 400s with one prefix; only the coordinator's own download may be tried again."""
    prefix = "release artifact verification failed: "
    server.says(_refusal(400, "invalid_request_error", prefix + message))
    with pytest.raises(expected) as caught:
        _client(server).register(RELEASE)
    assert type(caught.value) is expected


def test_a_body_over_the_cap_is_never_sent(server: ScriptedServer) -> None:
    """64 KiB exactly may travel; one byte more is refused here."""
    server.says(_reply(200, {"status": "release_registered", "release": {}}))
    spare = 64 * 1024 - len(
        json.dumps(asdict(replace(RELEASE, changelog="")), separators=(",", ":"))
    )
    _client(server).register(replace(RELEASE, changelog="x" * spare))
    assert len(server.requests[0].body) == 64 * 1024
    with pytest.raises(errors.UsageError):
        _client(server).register(replace(RELEASE, changelog="x" * (spare + 1)))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'{"status":"release_registered"}',
        b'{"status":1,"release":{}}',
        b'{"status":"release_registered","release":{"version":5}}',
    ],
)
def test_an_answer_that_cannot_be_read_is_one_error(server: ScriptedServer, body: bytes) -> None:
    """A 200 that is no registration is a failed verification and never a traceback."""
    server.says(Reply(200, body))
    with pytest.raises(errors.VerificationError):
        _client(server).register(RELEASE)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"status":"release_regis', b"[" * 100_000, b"\xff\xfe"]
)
def test_a_cut_or_damaged_answer_is_asked_for_again(server: ScriptedServer, body: bytes) -> None:
    """What is no JSON at all says nothing about the release: a passing fault, with a next step."""
    server.says(Reply(200, body))
    for ask in (lambda: _client(server).register(RELEASE), lambda: _client(server).latest("x")):
        with pytest.raises(errors.TransientError) as caught:
            ask()
        assert "run again" in caught.value.hint


@settings(max_examples=150)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["error", "type", "message", "x"]), inner, max_size=2)
        ),
        max_leaves=6,
    ).map(lambda tree: json.dumps(tree).encode())
)
def test_any_error_body_is_shown_as_plain_text(body: bytes) -> None:
    """Whatever a refusal carries, its text is bounded and holds no control characters."""
    shown = coordinator_answers.error(body).shown(400)
    assert shown.isprintable()
    assert len(shown) <= 600


def test_questions_are_asked_again_after_passing_faults(server: ScriptedServer) -> None:
    """Reading is free to repeat: 503, 429, then the answer."""
    server.says(
        _refusal(503, "release_not_ready", "catalog"),
        _refusal(429, "rate_limited", ""),
        _reply(200, asdict(RELEASE) | {"active": True, "created_at": "2026-05-14T21:51:00Z"}),
    )
    assert _october(server).latest("macos-arm64") == RELEASE
    assert len(server.requests) == 3


def test_a_404_that_is_no_coordinators_is_refused(server: ScriptedServer) -> None:
    """Only the coordinator's own `not_found` means that there is no release."""
    server.says(Reply(404, b"404 page not found"))
    with pytest.raises(errors.RemoteRefusedError, match="latest"):
        _client(server).latest("macos-arm64")


def test_an_unready_version_page_tells_nothing(server: ScriptedServer) -> None:
    """`/api/version` differs between coordinators: what is not understood is no answer."""
    server.says(_reply(200, {"version": 1}))
    assert _client(server).current() is None
    server.says(Reply(404, b""))
    assert _client(server).current() is None


def test_the_key_can_be_checked_without_registering(server: ScriptedServer) -> None:
    """An empty object is refused for its fields once the key holds, and for the key before."""
    server.says(_refusal(400, "invalid_request_error", "version is required"))
    _client(server).check_key()
    assert server.requests[0].body == b"{}"
    server.says(_refusal(401, "unauthorized", "invalid release key"))
    with pytest.raises(errors.CredentialError):
        _client(server).check_key()


def test_the_fields_of_october_are_sent_as_they_are_known(server: ScriptedServer) -> None:
    """Four fields more, and without an approval only those that have a value."""
    server.says(_reply(200, {"status": "release_registered", "release": asdict(RELEASE)}))
    _october(server).register(RELEASE, BUILD)
    october = {
        "code_directory_hash": "d" * 64,
        "source_commit": "e" * 40,
        "ci_run_id": "17041704",
        "require_app_attest_qualification": True,
    }
    assert json.loads(server.requests[0].body) == asdict(RELEASE) | october
    _october(server).register(RELEASE, replace(BUILD, ci_run_id="", qualified=False))
    del october["ci_run_id"], october["require_app_attest_qualification"]
    assert json.loads(server.requests[1].body) == asdict(RELEASE) | october


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (409, "app_attest_qualification_required", "no matching approval"),
        (503, "release_not_ready", "later"),
        (503, "qualification_unavailable", "later"),
    ],
)
def test_an_answer_of_october_to_may_names_the_contract(
    server: ScriptedServer, status: int, kind: str, message: str
) -> None:
    """Exit 2 with the line to change, whether it was told or asked, and no second try."""
    server.says(_refusal(status, kind, message))
    for ask in (lambda: _client(server).register(RELEASE), lambda: _client(server).latest("x")):
        with pytest.raises(errors.UsageError, match="speaks the contract 2026-10") as caught:
            ask()
        assert "contract: 2026-10" in caught.value.hint
        assert ("nothing was registered" in caught.value.hint) == (status == 409)
    assert len(server.requests) == 2


def test_an_answer_of_may_to_october_names_the_contract(server: ScriptedServer) -> None:
    """May refuses the first field that it does not know; other unknown fields are a refusal."""
    text = 'invalid JSON: json: unknown field "{}"'
    server.says(_refusal(400, "invalid_request_error", text.format("code_directory_hash")))
    with pytest.raises(errors.UsageError, match="speaks the contract 2026-05"):
        _october(server).register(RELEASE, BUILD)
    server.says(_refusal(400, "invalid_request_error", text.format("backend")))
    with pytest.raises(errors.RemoteRefusedError):
        _october(server).register(RELEASE, BUILD)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"status": "approved"}, Approval(status="approved")),
        ({"status": "pending"}, Approval(status="pending")),
        ({"status": "revoked", "mismatched_fields": None}, Approval(status="revoked")),
        (
            {"status": "mismatched", "mismatched_fields": ["ci_run_id"]},
            Approval(status="mismatched", mismatched=("ci_run_id",)),
        ),
    ],
)
def test_an_approval_is_asked_for_with_the_same_body(
    server: ScriptedServer, told: dict[str, object], expected: Approval
) -> None:
    """The question carries what the registration would; a 503 is asked again."""
    server.says(_refusal(503, "qualification_unavailable", "later"), _reply(200, told))
    assert _october(server).approval(RELEASE, BUILD) == expected
    server.says(_reply(200, {"status": "release_registered", "release": asdict(RELEASE)}))
    _october(server).register(RELEASE, BUILD)
    asked, again, sent = server.requests
    assert (asked.method, asked.path) == ("POST", "/v1/releases/qualification")
    assert asked.body == again.body == sent.body


def test_an_approval_that_cannot_be_asked_for_is_none(server: ScriptedServer) -> None:
    """Not every coordinator of October has the question; another status is an error."""
    for status in (404, 405):
        server.says(Reply(status, b"404 page not found"))
        assert _october(server).approval(RELEASE, BUILD) is None
    server.says(_reply(200, {"status": "perhaps"}))
    with pytest.raises(errors.VerificationError, match="another status"):
        _october(server).approval(RELEASE, BUILD)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"active_providers": 3}, Fleet(providers=3, capacity=None)),
        (
            {"active_providers": 3, "network_capacity_tps": 21100, "providers": []},
            Fleet(providers=3, capacity=21100.0),
        ),
        (
            {"active_providers": 3, "network_capacity_tps": 10**400},
            Fleet(providers=3, capacity=None),
        ),
        ({"active_providers": True}, None),
        ({"active_providers": "3"}, None),
        ([], None),
    ],
)
def test_the_fleet_is_told_as_far_as_it_is_told(
    server: ScriptedServer, told: object, expected: Fleet | None
) -> None:
    """Providers, and their capacity where it is told; what is not understood is no answer."""
    server.says(_reply(200, told))
    assert _client(server).fleet() == expected
    assert "authorization" not in server.requests[0].headers


def test_the_inventory_needs_an_administrator(server: ScriptedServer) -> None:
    """Rows with whether they are accepted; a refusal is of the key, which is never shown."""
    row = asdict(RELEASE) | {"active": False}
    server.says(_reply(200, {"releases": [row]}))
    found = _client(server).inventory()
    assert [(one.release, one.active) for one in found] == [(RELEASE, False)]
    assert server.requests[0].headers["authorization"] == f"Bearer {ADMIN}"
    for status in (401, 403):
        server.says(_refusal(status, "forbidden", f"no {ADMIN}"))
        with pytest.raises(errors.CredentialError, match="administrator's key") as caught:
            _client(server).inventory()
        assert ADMIN not in "\n".join(caught.value.lines())
    with pytest.raises(errors.CredentialError, match="administrator"):
        Coordinator(base_url=server.url, release_key=lambda: KEY).inventory()
    dev = Coordinator(base_url=server.url, release_key=lambda: KEY, prefix="DEV_")
    with pytest.raises(errors.CredentialError) as caught:
        dev.inventory()
    assert caught.value.hint == "set DEV_ADMIN_KEY"
    server.says(Reply(401))
    with pytest.raises(errors.CredentialError) as caught:
        dev.register(RELEASE)
    assert caught.value.hint.startswith("DEV_RELEASE_KEY must equal")
    for body in (b"[]", b'{"releases":1}', b'{"releases":[{}]}', b'{"releases":[1]}'):
        server.says(Reply(200, body))
        with pytest.raises(errors.VerificationError):
            _client(server).inventory()


def test_a_release_in_use_is_withdrawn_by_force(server: ScriptedServer) -> None:
    """The refusal says what it would do, and force is sent when it is meant."""
    server.says(_refusal(409, "release_in_use", "3 connected"))
    with pytest.raises(errors.RemoteRefusedError, match="still run") as caught:
        _client(server).deactivate("0.5.0", "macos-arm64", force=False)
    assert "--force" in caught.value.hint
    server.says(_reply(200, {"status": "release_deactivated"}))
    _client(server).deactivate("0.5.0", "macos-arm64", force=True)
    wanted = {"version": "0.5.0", "platform": "macos-arm64"}
    assert [json.loads(one.body) for one in server.requests] == [wanted, wanted | {"force": True}]
    assert {one.method for one in server.requests} == {"DELETE"}


def test_a_question_is_asked_again_where_its_answer_is_damaged(server: ScriptedServer) -> None:
    """The second answer counts."""
    server.says(Reply(200, b'{"version":"0.5'), _reply(200, asdict(RELEASE)))
    assert _client(server).latest("macos-arm64") == RELEASE
    assert len(server.requests) == 2


@pytest.mark.parametrize("row", [{}, {"unexpected": [1]}, {"version": "0.5.0"}])
def test_a_row_without_version_or_hash_is_no_release(
    server: ScriptedServer, row: dict[str, object]
) -> None:
    """JSON of another shape must not pass for some other release that is served."""
    server.says(_reply(200, row))
    with pytest.raises(errors.VerificationError):
        _client(server).latest("macos-arm64")


def test_an_unknown_release_need_not_be_withdrawn(server: ScriptedServer) -> None:
    """The coordinator's own 404 says so; anybody else's is a wrong address."""
    server.says(_refusal(404, "not_found", "release not found"))
    assert not _client(server).deactivate("0.5.0", "macos-arm64", force=False).known
    server.says(Reply(404, b"404 page not found"))
    with pytest.raises(errors.RemoteRefusedError, match="refused to deactivate"):
        _client(server).deactivate("0.5.0", "macos-arm64", force=False)


def test_a_deactivation_is_asked_again_and_its_warning_is_one_line(server: ScriptedServer) -> None:
    """Twice is as good as once; what is warned of goes to a terminal."""
    warned = _reply(200, {"status": "release_deactivated", "warning": "3 left\x1b[31m\nbehind"})
    server.says(_refusal(503, "release_inventory_unavailable", "later"), warned)
    answer = _client(server).deactivate("0.5.0", "macos-arm64", force=True)
    assert (answer.known, answer.warning) == (True, "3 left [31m behind")
    assert len(server.requests) == 2
