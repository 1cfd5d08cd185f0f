"""notarytool on a stand-in: credentials through its prompt, answers by their JSON alone.

It proves the wiring; that Apple's tool asks and answers so is a Mac's to prove.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import notary, notarytool, password_prompt
from release_tool.services.notarytool import Notarytool
from tests.fake_mac import mac as fake_mac
from tests.fake_mac.mac import FakeMac

APPLE_ID, TEAM = "releases@example.com", "SLDQ2GJ6TL"
PASSWORD = "abcd-efgh-ijkl-mnop"
ID = "2efe2717-52ef-43a5-96dc-0797e4ca1041"


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[FakeMac]:
    mac = fake_mac.install(tmp_path / "mac")
    mac.write(mac.state | {"app_password": PASSWORD})
    yield mac
    assert not (mac.root / "misused").exists(), (mac.root / "misused").read_text()


def _signed_in(mac: FakeMac, password: str = PASSWORD) -> AbstractContextManager[Notarytool]:
    return notarytool.signed_in(
        apple_id=APPLE_ID,
        password=lambda: password,
        team_id=TEAM,
        folder=mac.folder,
        reporter=Silent(),
        tools=mac.tools,
    )


def _is_clean(mac: FakeMac) -> bool:
    return not mac.keychains and not list(mac.folder.glob("run-*"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "notary.zip"
    path.write_bytes(b"PK\x03\x04 and more")
    return path


def test_the_whole_way(mac: FakeMac, archive: Path) -> None:
    """Submitted under its name, in progress without a log, then accepted with one; in history.

    The value fulfils the protocol that both routes share.
    """
    with _signed_in(mac) as tool:
        route: notary.Notary = tool
        assert route.route == "notarytool"
        name = "Darkbloom-0.5.0-abc.zip"
        found = route.submit(archive, name=name, sha256="0" * 64, reporter=Silent())
        assert found == ID
        assert not route.is_begun("0" * 64)
        assert route.status(ID) == notary.IN_PROGRESS
        assert route.log(ID) is None
        state = mac.state
        submissions = state["submissions"]
        assert isinstance(submissions, dict)
        submissions[ID]["status"] = "Accepted"
        mac.write(state)
        assert route.status(ID) == notary.ACCEPTED
        log = route.log(ID)
        assert log is not None
        assert json.loads(log)["jobId"] == ID
        (entry,) = route.history()
        moment = datetime(2026, 11, 26, 20, 0, 0, 123000, tzinfo=UTC)
        assert entry == notary.Submission(id=ID, name=name, created=moment, status="Accepted")
    assert _is_clean(mac)
    assert sorted(path.name for path in archive.parent.iterdir()) == ["mac", "notary.zip"]


def test_the_password_goes_to_the_prompt_and_nowhere_else(mac: FakeMac) -> None:
    """Neither arguments nor environments of any process hold it, and nothing prints it."""
    (mac.root / "watch").touch()
    with _signed_in(mac) as tool:
        tool.history()
        assert PASSWORD not in repr(tool)
    seen = json.dumps(mac.calls)
    assert "store-credentials" in seen
    assert PASSWORD not in seen
    with pytest.raises(errors.CredentialError) as caught, _signed_in(mac, "wrong-wrong-wrong"):
        pass
    assert "wrong-wrong-wrong" not in "".join(caught.value.lines())


def test_a_refused_password_is_a_credential(mac: FakeMac) -> None:
    """Exit 4 with what to make; no keychain is left."""
    refused = pytest.raises(errors.CredentialError, match="app-specific password")
    with refused as caught, _signed_in(mac, "abcd-wrong"):
        pass
    assert "APPLE_APP_PASSWORD" in caught.value.hint
    assert _is_clean(mac)


def test_the_verdict_is_in_the_json_and_not_in_the_exit_code(mac: FakeMac, archive: Path) -> None:
    """Notarytool ends with 0 on Invalid, and with an error on a good answer it counts as given."""
    with _signed_in(mac) as tool:
        tool.submit(archive, name="a.zip", sha256="", reporter=Silent())
        invalid = {"id": ID, "status": "Invalid", "message": "Processing complete"}
        mac.fault("notarytool info", {"status": 0, "stdout": json.dumps(invalid)})
        assert tool.status(ID) == notary.INVALID
        words = f"Current status: In Progress...\n{json.dumps(invalid)}\n"
        mac.fault("notarytool info", {"status": 1, "stdout": words})
        assert tool.status(ID) == notary.INVALID


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("Error: HTTP status code: 401. Unauthenticated.", errors.CredentialError),
        (
            "Error: HTTP status code: 403. A required agreement is missing or has expired.",
            errors.RemoteRefusedError,
        ),
        ("Error: HTTP status code: 403. Forbidden.", errors.CredentialError),
        (
            "Error: No Keychain password item found for profile: release-tool",
            errors.CredentialError,
        ),
        ("Error: HTTP status code: 503. Service unavailable.", errors.TransientError),
        ("Error: HTTP status code: 429.", errors.TransientError),
        ("Error: The Internet connection appears to be offline.", errors.TransientError),
        ("Error: The network connection was lost.", errors.TransientError),
        (
            'xcrun: error: unable to find utility "notarytool", not a developer tool',
            errors.HostError,
        ),
        (
            "Error: Submission does not exist or does not belong to your team.",
            errors.RemoteRefusedError,
        ),
        ("Error: something that Apple says first in 2027", errors.RemoteRefusedError),
        ("<html>Bad Gateway</html>", errors.RemoteRefusedError),
    ],
)
def test_each_refusal_has_its_remedy(
    stderr: str, kind: type[errors.ReleaseError], mac: FakeMac
) -> None:
    """By Apple's words, whatever the exit code says."""
    tool = Notarytool(keychain=mac.root / "any", tools=mac.tools)
    mac.fault("notarytool history", {"status": 0, "stderr": stderr + "\n"})
    with pytest.raises(kind) as caught:
        tool.history()
    assert type(caught.value) is kind
    assert caught.value.hint
    # Words behind "password" are cut, whatever they are.
    assert caught.value.details == (stderr.replace("password item", "password [redacted]"),)


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "[]",
        "null",
        '{"id": 7}',
        '{"id": "not-a-uuid", "status": "Accepted"}',
        '{"id": "' + "0" * 8 + '-0000-0000-0000-000000000000", "status": "Accepted"}',
        f'{{"id": "{ID}", "status": 1}}',
        "[" * 100_000,
    ],
)
def test_an_answer_of_another_shape_is_refused(answer: str, mac: FakeMac) -> None:
    """Nothing is guessed from an answer that is not understood, another submission's included."""
    tool = Notarytool(keychain=mac.root / "any", tools=mac.tools)
    mac.fault("notarytool info", {"status": 0, "stdout": answer})
    with pytest.raises(errors.RemoteRefusedError):
        tool.status(ID)


def _ask(code: str, seconds: float = 20.0, password: str = PASSWORD) -> list[str]:
    said = password_prompt.answer(
        [sys.executable, "-I", "-S", "-c", code],
        question=re.compile(r"(?i)password[^\n]*: ?\Z"),
        password=password,
        environment={},
        seconds=seconds,
    )
    return [str(said.status), said.stdout]


def test_a_prompt_on_the_terminal_is_answered_once() -> None:
    """The real getpass of Python reads the controlling terminal; its echo shows nothing."""
    code = "import getpass; print(getpass.getpass('Password: ')[::-1])"
    status, said = _ask(code)
    assert status == "0"
    assert PASSWORD[::-1] in said
    assert PASSWORD not in said
    # A tool that prints the password itself is cut.
    status, said = _ask("import getpass; print(getpass.getpass('Password: '))")
    assert PASSWORD not in said
    assert "[redacted]" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import getpass; getpass.getpass('Password: '); getpass.getpass('Password: ')", "again"),
        ("import time; time.sleep(60)", "did not ask in time"),
        ("import getpass, time; getpass.getpass('Password: '); time.sleep(60)", "did not end"),
        ("print('x' * 100_000)", "without end"),
    ],
)
def test_a_tool_that_does_otherwise_is_ended(code: str, said: str) -> None:
    """Asks twice, never asks, never ends, never stops talking."""
    with pytest.raises(errors.HostError, match=said):
        _ask(code, seconds=1.5)


def test_a_password_of_several_lines_is_refused() -> None:
    """A line break would answer the question after it."""
    for password in ("", "a\nb", "a\x03"):
        with pytest.raises(errors.CredentialError):
            _ask("pass", password=password)
