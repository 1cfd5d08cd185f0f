"""The run's keychain on a stand-in for `security`: it proves wiring, a Mac is still to come."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import identity
from release_tool.progress import Silent
from release_tool.services import keychain
from release_tool.services.keychain import Held, Wanted
from tests import signing_identity
from tests.fake_mac import mac as fake_mac
from tests.fake_mac.mac import FakeMac
from tests.stages.release_parts import Told

AUTHORITY = signing_identity.authority()
PASSWORD = "p12 s\u00e9cret"
FOUND, P12 = identity.for_keychain(
    AUTHORITY.p12(b"original"), "original", new_password=PASSWORD.replace("\u00e9", "e")
)
P12_PASSWORD = PASSWORD.replace("\u00e9", "e")
SHA1 = hashlib.sha1(AUTHORITY.leaf.der).hexdigest().upper()
WANTED = Wanted(name=FOUND.name, sha1=SHA1.lower())


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[FakeMac]:
    mac = fake_mac.install(tmp_path / "mac")
    mac.expect(P12, P12_PASSWORD, sha1=SHA1, name=FOUND.name)
    yield mac
    assert not (mac.root / "misused").exists(), (mac.root / "misused").read_text()


def _login(mac: FakeMac) -> str:
    return str(mac.root / "home" / "login.keychain-db")


def _use(mac: FakeMac, scratch: Path, wanted: Wanted = WANTED) -> tuple[Held, Path]:
    """One run: a keychain with the identity, looked at while it is there."""
    with keychain.made_for_run(mac.folder, reporter=Silent(), tools=mac.tools) as made:
        held = made.add(P12, P12_PASSWORD, wanted, scratch=scratch)
        known = mac.keychains[str(made.path)]
        assert mac.search_list == [str(made.path), _login(mac)]
        assert known["timeout"] is False
        assert known["unlocked"] is True
        assert "codesign:" in str(known["partitions"])
        assert known["trusted"] == [str(mac.tools.codesign), str(mac.tools.security)]
    return held, made.path


def _is_clean(mac: FakeMac) -> bool:
    """Nothing of any run is left: no keychain, no entry in the list, no file, no lock."""
    left = [path.name for path in mac.folder.iterdir()] if mac.folder.exists() else []
    return (
        mac.search_list == [_login(mac)] and not mac.keychains and set(left) <= {"search-list.lock"}
    )


def test_a_keychain_lives_for_the_block(mac: FakeMac, tmp_path: Path) -> None:
    """Made, unlocked, without a timeout, searched, open to codesign; then gone without a trace.

    The stand-in opens the PKCS#12 with the password that it was told, as the real tool does.
    """
    mac.write(mac.state | {"known": {}})
    held, path = _use(mac, tmp_path)
    assert held == Held(name=FOUND.name, sha1=SHA1, keychain=path)
    assert _is_clean(mac)
    assert not list(tmp_path.glob("*.p12"))
    asked = [words[0] for words in mac.commands("security")]
    for command in ("create-keychain", "import", "set-key-partition-list", "delete-keychain"):
        assert asked.count(command) == 1


def test_passwords_are_never_in_the_process_table(mac: FakeMac, tmp_path: Path) -> None:
    """Each start of `security` reads the arguments and environments of all processes."""
    (mac.root / "watch").touch()
    _use(mac, tmp_path)
    lines = {words[0]: words for words in mac.commands("security")}
    made = lines["create-keychain"][2]
    assert len(made) == 64
    assert lines["set-key-partition-list"][5] == made
    assert P12_PASSWORD in lines["import"]
    assert len(mac.calls) > 10
    for call in mac.calls:
        seen = "\n".join([*call["visible"], *call["argv"], *call["environment"].values()])  # type: ignore[misc, attr-defined]
        assert "security" in seen
        assert made not in seen
        assert P12_PASSWORD not in seen


def test_each_run_has_its_own_password(mac: FakeMac) -> None:
    """Random, and neither a name nor a password comes again."""
    with keychain.made_for_run(mac.folder, reporter=Silent(), tools=mac.tools) as made_first:
        first = made_first.path
    with keychain.made_for_run(mac.folder, reporter=Silent(), tools=mac.tools) as made_second:
        second = made_second.path
    made = [words[2] for words in mac.commands("security") if words[0] == "create-keychain"]
    assert first != second
    assert len(set(made)) == 2


@pytest.mark.parametrize(
    ("command", "fault", "kind"),
    [
        ("create-keychain", {"status": 1, "stderr": "security: SecKeychainCreate: no"}, "Host"),
        # The interactive mode can end well although its command did not.
        (
            "unlock-keychain",
            {"status": 0, "stderr": "security> unlock-keychain: returned 51\n"},
            "Host",
        ),
        (
            "import",
            {"status": 1, "stderr": "security: SecKeychainItemImport: MAC verification failed"},
            "Credential",
        ),
        ("set-key-partition-list", {"status": 51, "stderr": "errSecInternalComponent"}, "Host"),
        ("find-identity", {"stdout": "     0 valid identities found\n", "status": 0}, "Credential"),
        ("find-identity", {"status": 1, "stderr": "security: SecKeychainOpen"}, "Host"),
    ],
)
def test_every_failure_leaves_nothing(
    mac: FakeMac, tmp_path: Path, command: str, fault: dict[str, object], kind: str
) -> None:
    """Whatever step fails, the error says so and the search list is as it was."""
    mac.fault(f"security {command}", fault)
    with pytest.raises(errors.ReleaseError) as caught:
        _use(mac, tmp_path)
    assert type(caught.value).__name__ == f"{kind}Error"
    assert _is_clean(mac)
    assert not list(tmp_path.glob("*.p12"))


def test_a_keychain_that_does_not_enter_the_search_list_is_an_error(
    mac: FakeMac, tmp_path: Path
) -> None:
    """What was set is read again: codesign would not find the identity."""
    nothing: dict[str, object] = {}
    # Read (dead runs), read, set (ignored), read.
    mac.fault("security list-keychains", nothing, nothing, {"status": 0})
    with pytest.raises(errors.HostError, match="search list"):
        _use(mac, tmp_path)
    assert _is_clean(mac)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(name="Developer ID Application: Other (ABCDE12345)"), "does not hold"),
        (Wanted(name=FOUND.name, sha1="0" * 40), "holds another"),
    ],
)
def test_exactly_the_wanted_identity_is_there(
    mac: FakeMac, tmp_path: Path, wanted: Wanted, said: str
) -> None:
    """By name and by SHA-1; what is there instead is listed."""
    with pytest.raises(errors.CredentialError, match=said) as caught:
        _use(mac, tmp_path, wanted)
    assert caught.value.details == (f"{SHA1} {FOUND.name}",)
    assert _is_clean(mac)


def _user_keychain(mac: FakeMac, *identities: tuple[str, str]) -> None:
    state = mac.state
    state["keychains"] = {_login(mac): {"identities": [list(one) for one in identities]}}
    mac.write(state)


def test_an_identity_of_the_users_keychains_is_found_by_name(mac: FakeMac) -> None:
    """Without a file the name counts; two certificates of one name need the SHA-1."""
    _user_keychain(mac, ("A" * 40, "Apple Development: Me"), (SHA1, FOUND.name))
    held = keychain.find(Wanted(name=FOUND.name), tools=mac.tools)
    assert held == Held(name=FOUND.name, sha1=SHA1)
    _user_keychain(mac, ("B" * 40, FOUND.name), (SHA1, FOUND.name))
    with pytest.raises(errors.CredentialError, match="more than one") as caught:
        keychain.find(Wanted(name=FOUND.name), tools=mac.tools)
    assert len(caught.value.details) == 2
    assert keychain.find(WANTED, tools=mac.tools).sha1 == SHA1
    with pytest.raises(errors.CredentialError, match="does not hold"):
        keychain.find(Wanted(name=FOUND.name[:-1]), tools=mac.tools)


def test_identities_that_are_not_valid_do_not_count(mac: FakeMac) -> None:
    """`find-identity` names the reason behind the name."""
    line = f'  1) {SHA1} "{FOUND.name}" (CSSMERR_TP_CERT_EXPIRED)\n     1 identities found\n'
    mac.fault("security find-identity", {"status": 0, "stdout": line})
    with pytest.raises(errors.CredentialError, match="does not hold"):
        keychain.find(WANTED, tools=mac.tools)


def test_paths_with_quotes_and_spaces_are_carried(tmp_path: Path) -> None:
    """A folder may be called anything that a line of `security -i` can carry."""
    mac = fake_mac.install(tmp_path / 'a "b" c\\d\'s')
    held, _ = _use(mac, tmp_path)
    assert held.sha1 == SHA1
    assert _is_clean(mac)
    odd = fake_mac.install(tmp_path / "line\nbreak")
    with pytest.raises(errors.UsageError, match="control character"):
        _use(odd, tmp_path)


def test_a_host_without_security_is_named(tmp_path: Path) -> None:
    """Before anything is made."""
    mac = fake_mac.install(tmp_path / "mac")
    mac.tools.security.unlink()
    with pytest.raises(errors.HostError, match="security"):
        _use(mac, tmp_path)
    assert not mac.folder.exists()


_RUN = """
import signal, sys, time
from pathlib import Path
from release_tool.cli import main
from release_tool.progress import Silent
from release_tool.services import keychain
from tests.fake_mac.mac import FakeMac
mac = FakeMac(Path(sys.argv[1]))
signal.signal(signal.SIGTERM, main._terminated)
try:
    with keychain.made_for_run(mac.folder, reporter=Silent(), tools=mac.tools) as made:
        made.add(
            (mac.root / "p12").read_bytes(), sys.stdin.read(),
            keychain.Wanted(name=sys.argv[2]), scratch=mac.root,
        )
        (mac.root / "paused").touch()
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def _start(mac: FakeMac) -> subprocess.Popen[str]:
    """A run in a process of its own, until it holds the identity or hangs where it was told to."""
    (mac.root / "p12").write_bytes(P12)
    (mac.root / "paused").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(mac.root), FOUND.name],
        stdin=subprocess.PIPE,
        cwd=fake_mac.ROOT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(P12_PASSWORD)
    process.stdin.close()
    deadline = time.monotonic() + 60
    while not (mac.root / "paused").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGTERM, ""),
        (signal.SIGINT, "create-keychain"),
        (signal.SIGTERM, "import"),
    ],
)
def test_an_interrupt_leaves_nothing(mac: FakeMac, number: signal.Signals, where: str) -> None:
    """A real signal to a real process, while it holds the identity or while `security` works."""
    if where:
        mac.fault(f"security {where}", {"pause": True})
    process = _start(mac)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert _is_clean(mac)
    assert not [path for path in mac.root.glob("*.p12") if path.name != "imported.p12"]


def test_what_a_killed_run_left_goes_with_the_next(mac: FakeMac, tmp_path: Path) -> None:
    """SIGKILL leaves a keychain in the list; a living run's keychain is not touched by others."""
    mac.fault("security import", {"pause": True})
    process = _start(mac)
    (left,) = mac.keychains
    told = Told()
    with keychain.made_for_run(mac.folder, reporter=told, tools=mac.tools):
        # It lives: another run beside it leaves it alone.
        assert left in mac.search_list
    assert left in mac.search_list
    process.kill()
    process.wait(60)
    assert left in mac.search_list
    assert not told.notes
    with keychain.made_for_run(mac.folder, reporter=told, tools=mac.tools):
        assert left not in mac.search_list
        assert left not in mac.keychains
    assert [note for note in told.notes if Path(left).name in note]
    assert _is_clean(mac)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the stand-in by /proc")
def test_a_second_interrupt_waits_for_the_cleanup(mac: FakeMac) -> None:
    """Whoever presses Ctrl-C twice gets the keychain removed all the same."""
    mac.fault("security delete-keychain", {"pause": True})
    process = _start(mac)
    (mac.root / "paused").unlink()
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while not (mac.root / "paused").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    _end_stand_in(mac)
    process.wait(60)
    assert mac.search_list == [_login(mac)]
    assert not list(mac.folder.glob("run-*"))


def _end_stand_in(mac: FakeMac) -> None:
    """End the hanging stand-in, as if it had come to its end."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if bytes(mac.tools.security) in words:
            os.kill(int(entry.name), signal.SIGKILL)
