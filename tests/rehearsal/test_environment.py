"""The embedded environment as a process of its own: started, found again, killed, ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.serialization import pkcs12

from release_tool import errors
from release_tool.rehearsal import counts, environment, faults, places
from release_tool.rehearsal.environment import Environment

TEAM = "SLDQ2GJ6TL"
BUNDLE = "io.darkbloom.provider"


def start(state: Path, **options: float) -> Environment:
    return environment.start(state, team_id=TEAM, bundle_id=BUNDLE, **options)  # type: ignore[arg-type]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "environment"
    yield folder
    living = environment.attach(folder)
    if living is not None:
        living.stop()


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One for all that end nothing."""
    made = start(tmp_path_factory.mktemp("shared") / "environment")
    yield made
    made.stop()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_it_starts_answers_and_stops(state: Path) -> None:
    """All eight addresses answer on 127.0.0.1, its files are there, and after `stop` none is."""
    living = start(state)
    addresses = [
        living.coordinator_url,
        living.r2_endpoint,
        living.r2_public_url,
        living.timestamp_url,
        living.control_url,
        living.notary_url,
        living.notary_upload_url,
        living.ticket_url,
    ]
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)
    statuses = [requests.get(address, timeout=10).status_code for address in addresses]
    assert statuses == [404, 401, 404, 405, 401, 401, 403, 405]
    assert living.trust.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert living.profile.read_bytes()[0] == 0x30
    password = living.secret(places.IDENTITY_PASSWORD).encode()
    assert pkcs12.load_key_and_certificates(living.identity.read_bytes(), password)[0]
    told = counts.Asked(operation="unauthorized", subject="no bearer token", sha256="")
    assert living.counts() == counts.Counts(registrations=(), writes=(), objects={}, notary=(told,))
    living.stop()
    assert not living.is_alive()
    assert environment.attach(state) is None
    with pytest.raises(requests.ConnectionError):
        requests.get(living.coordinator_url, timeout=10)


def test_secrets_are_files_of_the_owner_and_nowhere_else(living: Environment) -> None:
    """No secret stands in the description, the log, the repr or the process's arguments."""
    secrets = [living.secret(name) for name in places.SECRETS]
    for name in (*places.SECRETS, "identity.p12"):
        assert stat.S_IMODE(places.secret(living.state, name).stat().st_mode) == 0o600
    texts = [
        places.description(living.state).read_text(),
        places.log(living.state).read_text(),
        repr(living),
    ]
    if sys.platform == "linux":
        texts.append(Path(f"/proc/{living.pid}/cmdline").read_text())
    assert not [name for name in secrets for text in texts if name in text]


def test_a_second_start_finds_the_first(state: Path) -> None:
    """Attaching gives the same process; two starts at once make one."""
    found: list[Environment] = []
    threads = [Thread(target=lambda: found.append(start(state))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item.instance for item in found}) == 1
    assert start(state) == found[0] == environment.attach(state)


@pytest.mark.slow
def test_it_outlives_its_starter_and_its_own_death(state: Path) -> None:
    """A kill -9 of the starter leaves it alive; after its own the next has the same addresses."""
    code = f"""
        import os, pathlib, signal
        from release_tool.rehearsal import environment
        environment.start(pathlib.Path({str(state)!r}), team_id={TEAM!r}, bundle_id={BUNDLE!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    root = str(Path(environment.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, env={"PYTHONPATH": root}
    )
    assert done.returncode == -signal.SIGKILL
    first = environment.attach(state)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: not environment.is_served(state))
    assert environment.attach(state) is None
    again = start(state)
    assert again.instance != first.instance
    assert again.coordinator_url == first.coordinator_url
    assert again.r2_endpoint == first.r2_endpoint
    assert again.secret(places.RELEASE_KEY) == first.secret(places.RELEASE_KEY)
    assert again.trust.read_bytes() == first.trust.read_bytes()


@pytest.mark.slow
def test_an_environment_of_before_the_notary_is_completed(state: Path) -> None:
    """A living one is ended; what it left stays as it is; keys and ticket signer are added."""
    first = start(state)
    kept = {path: path.read_bytes() for path in (first.trust, first.identity, first.profile)}
    for name in (places.NOTARY_KEY, places.NOTARY_KEY_ID, places.NOTARY_ISSUER_ID):
        places.secret(state, name).unlink()
    (places.authority(state) / "ticket-signer.pem").unlink()
    described = json.loads(places.description(state).read_bytes())
    for name in ("notary_url", "notary_upload_url", "ticket_url"):
        del described[name]
    places.description(state).write_text(json.dumps(described))
    again = start(state)
    assert not first.is_alive()
    assert again.coordinator_url == first.coordinator_url
    assert {path: path.read_bytes() for path in kept} == kept
    assert again.secret(places.NOTARY_KEY).startswith("-----BEGIN PRIVATE KEY-----")
    assert requests.get(again.notary_url, timeout=10).status_code == 401


@pytest.mark.slow
def test_a_port_that_was_taken_meanwhile_is_replaced(state: Path) -> None:
    """The other addresses stay, and the environment starts."""
    first = start(state)
    first.stop()
    port = int(first.coordinator_url.rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        again = start(state)
        assert again.coordinator_url != first.coordinator_url
        assert again.r2_endpoint == first.r2_endpoint


@pytest.mark.slow
def test_a_stale_description_is_not_believed(state: Path) -> None:
    """Another server on the port, or nothing there, is not our environment."""
    first = start(state)
    described = places.description(state).read_bytes()
    first.stop()
    places.description(state).write_bytes(described)
    assert environment.attach(state) is None
    places.description(state).write_bytes(b"[]")
    assert environment.attach(state) is None
    assert start(state).is_alive()


@pytest.mark.parametrize("end", ["idle", "signal", "folder"])
def test_it_ends_itself(state: Path, end: str) -> None:
    """After idle time, on SIGTERM, and when its folder goes."""
    living = start(state, idle_seconds=0.5 if end == "idle" else 600)
    if end == "signal":
        os.kill(living.pid, signal.SIGTERM)
    elif end == "folder":
        shutil.rmtree(state)
    assert eventually(lambda: not environment.is_served(state) and not _listens(living))
    if end != "folder":
        assert not places.description(state).exists()


def _listens(living: Environment) -> bool:
    port = int(living.control_url.rsplit(":", 1)[1])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_only_the_token_controls_it(living: Environment) -> None:
    """Without the token of the folder nobody stops it or sets a fault."""
    for path in ("/stop", "/faults"):
        answer = requests.post(f"{living.control_url}{path}", data=b"{}", timeout=10)
        assert answer.status_code == 401
    assert living.is_alive()


def test_faults_are_set_from_outside(living: Environment) -> None:
    """A fault reaches its server; an unknown one is refused."""
    living.set_faults({faults.PUBLIC_UNAVAILABLE: 1})
    url = f"{living.r2_public_url}/k"
    assert [requests.get(url, timeout=10).status_code for _ in range(2)] == [503, 404]
    with pytest.raises(errors.UsageError):
        living.set_faults({"nonsense": 1})


def _token(living: Environment) -> str:
    now = int(time.time())
    issuer, key_id = living.secret(places.NOTARY_ISSUER_ID), living.secret(places.NOTARY_KEY_ID)
    claims = {"iss": issuer, "iat": now, "exp": now + 300, "aud": "appstoreconnect-v1"}
    return jwt.encode(claims, living.secret(places.NOTARY_KEY), "ES256", {"kid": key_id})


def _submitted(living: Environment) -> str:
    answer = requests.post(
        living.notary_url,
        json={"submissionName": "a.zip", "sha256": "0" * 64},
        headers={"Authorization": f"Bearer {_token(living)}"},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["id"])


def test_what_it_holds_survives_kill_9(state: Path) -> None:
    """A registered release, its objects, a submission and all counts come back after it."""
    living = start(state)
    data = _registered(living)
    identity = _submitted(living)
    before = living.counts()
    assert [row.bundle_hash for row in before.registrations] == [hashlib.sha256(data).hexdigest()]
    assert [row.operation for row in before.writes] == ["PutObject"]
    assert [row.subject for row in before.submissions] == [identity]
    os.kill(living.pid, signal.SIGKILL)
    assert eventually(lambda: not environment.is_served(state))
    assert counts.read(state) == before
    again = start(state)
    assert again.counts() == before
    latest = requests.get(f"{again.coordinator_url}/v1/releases/latest", timeout=10).json()
    assert requests.get(latest["url"], timeout=10).content == data
    again.set_faults({faults.NOTARY_AGREEMENT: 1})
    url, headers = f"{living.notary_url}/{identity}", {"Authorization": f"Bearer {_token(again)}"}
    statuses = [requests.get(url, headers=headers, timeout=10).status_code for _ in range(2)]
    assert statuses == [403, 200]


def _registered(living: Environment) -> bytes:
    """Put an archive and register it, as a client would."""
    import io
    import tarfile

    import boto3
    import botocore.config

    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        info = tarfile.TarInfo("bin/darkbloom")
        info.size = 6
        tar.addfile(info, io.BytesIO(b"binary"))
    data = target.getvalue()
    client = boto3.client(
        "s3",
        endpoint_url=living.r2_endpoint,
        region_name="auto",
        aws_access_key_id=living.secret(places.ACCESS_KEY_ID),
        aws_secret_access_key=living.secret(places.SECRET_ACCESS_KEY),
        config=botocore.config.Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )
    key = "releases/v0.5.0/darkbloom-bundle-macos-arm64.tar.gz"
    client.put_object(Bucket=living.bucket, Key=key, Body=data)
    body = {
        "version": "0.5.0",
        "binary_hash": hashlib.sha256(b"binary").hexdigest(),
        "bundle_hash": hashlib.sha256(data).hexdigest(),
        "url": f"{living.r2_public_url}/{key}",
    }
    answer = requests.post(
        f"{living.coordinator_url}/v1/releases",
        data=json.dumps(body),
        headers={"Authorization": f"Bearer {living.secret(places.RELEASE_KEY)}"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    return data


def test_a_start_that_cannot_succeed_says_why(state: Path) -> None:
    """Another team's folder is refused with the reason, not by waiting."""
    start(state).stop()
    with pytest.raises(errors.HostError) as caught:
        environment.start(state, team_id="OTHERTEAM1", bundle_id=BUNDLE)
    assert any("another team" in line for line in caught.value.details)


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in its way is a lack of the host that names the path, and nothing is started."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.HostError, match="cannot make the folder") as caught:
        start(tmp_path / "file" / "environment")
    assert caught.value.subject == str(tmp_path / "file" / "environment")
