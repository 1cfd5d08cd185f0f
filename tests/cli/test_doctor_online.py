"""`doctor --online` against the look-alikes of a whole environment, with each thing broken."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from release_tool import data
from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.rehearsal import environment, faults, places, signature_v4
from release_tool.rehearsal.environment import Environment
from release_tool.rehearsal.object_index import ObjectIndex
from release_tool.rehearsal.object_store import ObjectStore
from release_tool.rehearsal.servers import Server
from release_tool.rehearsal.wire import Rule
from release_tool.services import patience
from tests import scripted_server
from tests.scripted_server import Reply

SERVICES = (
    *("timestamps", "notary", "tickets", "bucket", "public address", "coordinator"),
    *("release key", "github", "clock"),
)


@dataclass(frozen=True)
class World:
    """An environment that a release file leads to, and the settings of it."""

    living: Environment
    folder: Path
    settings: Mapping[str, str]

    def doctor(self, **changed: str) -> tuple[dict[str, Any], int]:
        """Ask with these settings in place of the good ones; an empty one is none."""
        out, err = io.StringIO(), io.StringIO()
        environ = {**self.settings, **changed}
        argv = ["doctor", "--env", "dev", "--online", "--json", "--trust", str(self.living.trust)]
        argv += ["--config", str(self.folder / "doctor.yaml")]
        code = main.invoke(argv, Session(environ, out=out, err=err))
        for name, value in environ.items():
            assert not (name.endswith("KEY") and len(value) > 6 and value in out.getvalue())
        return json.loads(out.getvalue()), code

    def services(self, **changed: str) -> dict[str, dict[str, str]]:
        """The checks of services by their names."""
        found, _ = self.doctor(**changed)
        return {one["name"]: one for one in found["checks"] if one["section"] == "services"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("doctor")
    living = environment.start(
        folder / "environment", team_id="SLDQ2GJ6TL", bundle_id="io.darkbloom.provider"
    )
    made = dict(embedded._settings(living).values)
    release = yaml.safe_load(data.release_file().read_text())
    dev = release["environments"]["dev"]
    dev |= {
        "signer": "portable",
        "github_release": True,
        "github_repository": "look-alike/darkbloom",
    }
    # What a real release has to pin is pinned: here the services are at fault.
    release["smoke"] |= {"model_revision": "0" * 40, "model_sha256": "0" * 64}
    public = places.provenance(living.state).read_text(encoding="ascii").splitlines()
    dev["provenance"]["keys"] = ["".join(line for line in public if "-----" not in line)]
    for name in ("timestamp", "notary", "notary_upload", "ticket", "github_api", "github_uploads"):
        dev[f"{name}_url"] = made.pop(f"{name.upper()}_URL")
    # What does not answer is asked again and again; here without the pauses.
    release["limits"]["pause_share"] = 0.001
    (folder / "doctor.yaml").write_text(yaml.safe_dump(release))
    settings = {
        name if name.startswith(("APPLE", "PROVISIONING", "GITHUB")) else f"DEV_{name}": value
        for name, value in made.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield World(living, folder, settings)
    # A run's bounds hold for its whole process.
    patience.hold(patience.Patience())
    living.stop()


def test_every_service_that_is_well_holds(world: World) -> None:
    """All are asked, each says what it proved, and nothing is there that was not."""
    before = world.living.counts()
    found = world.services()
    assert {name: one["outcome"] for name, one in found.items()} == dict.fromkeys(
        SERVICES, "passed"
    )
    assert found["bucket"]["observed"] == f"the key may read and write {world.living.bucket}"
    after = world.living.counts()
    assert (before.registrations, before.writes) == (after.registrations, after.writes)
    assert not (world.folder / "dist").exists()


@pytest.mark.parametrize(
    ("changed", "name", "said"),
    [
        ({"DEV_R2_SECRET_ACCESS_KEY": "another-secret"}, "bucket", "R2_SECRET_ACCESS_KEY"),
        ({"DEV_R2_BUCKET": "another-bucket"}, "bucket", "R2_BUCKET"),
        ({"DEV_R2_ENDPOINT": "http://127.0.0.1:9"}, "bucket", "Could not connect"),
        ({"DEV_R2_PUBLIC_URL": "http://127.0.0.1:9"}, "public address", "no answer"),
        ({"DEV_COORDINATOR_URL": "http://127.0.0.1:9"}, "coordinator", "no answer"),
        ({"DEV_RELEASE_KEY": "another-key"}, "release key", "RELEASE_KEY"),
        ({"APPLE_API_KEY_ID": "2X9R4HXF34"}, "notary", "APPLE_API_KEY"),
        ({"GITHUB_TOKEN": "another-token"}, "github", "GITHUB_TOKEN"),
    ],
)
def test_a_wrong_setting_is_told_by_the_service_that_minds(
    world: World, changed: dict[str, str], name: str, said: str
) -> None:
    """Only what depends on it fails, with what to do; the others hold."""
    found = world.services(**changed)
    assert found[name]["outcome"] == "failed"
    assert said in json.dumps(found[name])
    also = {"release key"} if name == "coordinator" else set()
    failed = {one for one in found if found[one]["outcome"] == "failed"}
    assert failed == {name} | also


def test_what_lacks_a_setting_is_not_asked(world: World) -> None:
    """Its absence is told with the settings; nobody is asked with half a key."""
    found = world.services(DEV_RELEASE_KEY="", APPLE_API_KEY_ID="", DEV_R2_ACCESS_KEY_ID="")
    left = {name: one["hint"] for name, one in found.items() if one["outcome"] == "not_checked"}
    assert left == {
        "notary": "needs APPLE_API_KEY_ID",
        "bucket": "needs DEV_R2_ACCESS_KEY_ID",
        "release key": "needs DEV_RELEASE_KEY",
    }


@pytest.mark.parametrize(
    ("fault", "name", "code"),
    [
        (faults.NOTARY_AGREEMENT, "notary", 7),
        (faults.NOTARY_PROVIDER, "notary", 4),
    ],
)
def test_a_refusal_of_the_notary_is_told(world: World, fault: str, name: str, code: int) -> None:
    """An agreement that nobody signed shows before a release, and says who must act."""
    world.living.set_faults({fault: 20})
    try:
        found, exit_code = world.doctor()
    finally:
        world.living.set_faults({fault: 0})
    (one,) = [check for check in found["checks"] if check["name"] == name]
    assert one["outcome"] == "failed"
    assert one["hint"]
    assert exit_code == code


def test_a_key_that_may_only_read_is_told(world: World, tmp_path: Path) -> None:
    """R2's "Object Read only" reads everything; the first write would fail after the signing."""
    credentials = signature_v4.Credentials(
        access_key_id=world.settings["DEV_R2_ACCESS_KEY_ID"],
        secret_access_key=world.settings["DEV_R2_SECRET_ACCESS_KEY"],
    )
    index = ObjectIndex(tmp_path)
    store = ObjectStore(
        world.living.bucket, credentials, index=index, broken=faults.Faults(), read_only=True
    )
    with Server(store) as server:
        found = world.services(DEV_R2_ENDPOINT=server.url)
    assert found["bucket"]["outcome"] == "failed"
    assert "R2_ACCESS_KEY_ID" in found["bucket"]["hint"]
    assert list(index.everything()) == []


@pytest.mark.parametrize(("off", "worded"), [(3600, "60 min behind"), (-90, " s ahead of")])
def test_a_clock_that_is_off_is_told(world: World, off: int, worded: str) -> None:
    """Where every server tells another time, it is this host's; what it breaks is told, too."""
    world.living.set_rules([])

    def answer(_: object) -> Reply:
        moment = datetime.now(UTC) + timedelta(seconds=off)
        return Reply(404, b"{}", {"Date": format_datetime(moment, usegmt=True)})

    with scripted_server.running() as server:
        server.says(answer)
        elsewhere = {
            f"DEV_{name}": server.url
            for name in ("R2_ENDPOINT", "R2_PUBLIC_URL", "COORDINATOR_URL")
        }
        release = yaml.safe_load((world.folder / "doctor.yaml").read_text())
        release["environments"]["dev"] |= {
            "github_api_url": server.url,
            "ticket_url": f"{server.url}/lookup",
        }
        folder = world.folder / f"off{off}"
        folder.mkdir()
        (folder / "doctor.yaml").write_text(yaml.safe_dump(release))
        found = World(world.living, folder, world.settings).services(**elsewhere)
    assert found["clock"]["outcome"] == "failed"
    assert worded in found["clock"]["observed"]
    assert found["clock"]["hint"] == "set this host's clock"


def test_one_server_with_a_wrong_clock_is_not_ours(world: World) -> None:
    """The nearest clock counts: the others agree with this host."""

    def answer(_: object) -> Reply:
        return Reply(404, b"{}", {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    with scripted_server.running() as server:
        server.says(answer)
        found = world.services(DEV_COORDINATOR_URL=server.url)
    assert found["clock"]["outcome"] == "passed"


def test_an_answer_that_breaks_off_is_a_passing_fault(world: World) -> None:
    """The wire of one service is cut: it alone fails."""
    world.living.set_rules([Rule(service="tickets", kind="reset")])
    try:
        found = world.services()
    finally:
        world.living.set_rules([])
    assert found["tickets"]["outcome"] == "failed"
    assert found["coordinator"]["outcome"] == "passed"
