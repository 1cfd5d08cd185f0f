"""Publish, register and promote against the embedded environment's store and coordinator."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import coordinator as look_alike_coordinator
from release_tool.rehearsal import faults, object_store, public_bucket, servers, signature_v4
from release_tool.rehearsal.object_index import ObjectIndex
from release_tool.rehearsal.release_store import ReleaseStore
from release_tool.services import registration_claim, release_pointer, retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Contract
from release_tool.services.multipart_upload import Parts
from release_tool.services.object_store import ObjectStore
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain
from tests.stages.release_parts import Told, changed

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

KEY = "look-alike-release-key"
ADMIN = "look-alike-admin-key"
CREDENTIALS = signature_v4.Credentials(
    access_key_id="LOOKALIKE0001", secret_access_key="look-alike/secret+key"
)
# May's minute would make each test as long; the rule is the same.
_CACHE_SECONDS = 0.8
POINTER = "releases/latest/release.json"
ALIASES = {f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz"}


class LookAlikes:
    """The look-alikes' servers, and clients of ours for them."""

    parts = Parts()

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        contract: Contract = "2026-05",
        *,
        approval_always: bool = False,
        approval_question: bool = True,
        new_bucket: Callable[..., WSGIApplication] = object_store.ObjectStore,
    ) -> None:
        self.contract: Contract = contract
        self.spoken: Contract | None = None
        """What the client speaks, where it is mistaken."""
        self.fleet = look_alike_coordinator.Fleet()
        self.broken = faults.Faults()
        self.index = ObjectIndex(folder / "objects")
        self.rows = ReleaseStore(folder / "releases.sqlite", contract)
        stack.callback(self.index.close)
        stack.callback(self.rows.close)
        bucket = new_bucket("releases", CREDENTIALS, index=self.index, broken=self.broken)
        self._store = stack.enter_context(servers.Server(bucket))
        public = public_bucket.PublicBucket(self.index, broken=self.broken)
        self._public = stack.enter_context(servers.Server(public))
        settings = look_alike_coordinator.Settings(
            release_key=KEY,
            admin_key=ADMIN,
            cdn_url=self._public.url,
            cache_seconds=_CACHE_SECONDS,
            contract=contract,
            approval_always=approval_always,
            approval_question=approval_question,
        )
        application = look_alike_coordinator.Coordinator(
            self.rows, settings, scratch=folder, broken=self.broken, fleet=self.fleet
        )
        self._coordinator = stack.enter_context(servers.Server(application))

    @property
    def store_url(self) -> str:
        return self._store.url

    @property
    def public_url(self) -> str:
        return self._public.url

    @property
    def coordinator_url(self) -> str:
        return self._coordinator.url

    @property
    def policy(self) -> retries.Policy:
        # In all longer than the second for which a store refuses the next write to a key.
        return retries.Policy(attempts=8, first_seconds=0.1, largest_seconds=0.5)

    def object_store(self, secret: str = CREDENTIALS.secret_access_key) -> ObjectStore:
        return ObjectStore(
            endpoint=self.store_url,
            bucket="releases",
            access_key_id=lambda: CREDENTIALS.access_key_id,
            secret_access_key=lambda: secret,
            policy=self.policy,
            parts=self.parts,
        )

    def coordinator(self, key: str = KEY) -> Coordinator:
        return Coordinator(
            base_url=self.coordinator_url,
            release_key=lambda: key,
            seconds=20,
            policy=self.policy,
            contract=self.spoken or self.contract,
            admin_key=lambda: ADMIN,
        )

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def clock(self) -> float:
        return time.monotonic()

    def written(self) -> list[str]:
        return [f"{write['operation']} {write['key']}" for write in self.index.writes()]


@pytest.fixture
def world(tmp_path: Path, new_bucket: Callable[..., WSGIApplication]) -> Iterator[LookAlikes]:
    """A fresh store and coordinator."""
    with ExitStack() as stack:
        yield LookAlikes(tmp_path / "world", stack, new_bucket=new_bucket)


def _start(world: LookAlikes, plan: ReleasePlan, folder: Path, **given: object) -> Chain:
    limits = plan.limits.model_copy(update={"latest_poll_seconds": 3.0})
    environment = plan.environment.model_copy(update={"registration_seconds": 3.0})
    chain = release_chain.start(world, plan, folder, **given)  # type: ignore[arg-type]
    chain.plan = chain.plan.model_copy(update={"limits": limits, "environment": environment})
    chain.watch_seconds = 0.0
    return chain


def test_a_release_is_carried_through_and_repeated(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """One object, one registration, two aliases; a run without any record changes nothing."""
    assert _start(world, plan, tmp_path / "a").resume().outcome == "promoted"
    again = _start(world, plan, tmp_path / "b")
    assert again.resume().outcome == "promoted"
    assert again.published
    assert not again.published.created
    assert again.registered
    assert again.registered.status == "already_registered"
    assert len(world.rows.registrations()) == 1
    assert sorted(world.written()) == sorted(
        [
            f"PutObject releases/v0.5.0/{NAME}",
            f"PutObject {registration_claim.key_of('releases', '0.5.0')}",
            f"PutObject {registration_claim.mark_of('releases', '0.5.0')}",
            f"PutObject {POINTER}",
            *(f"CopyObject {alias}" for alias in ALIASES),
        ]
    )
    assert {world.index.get(alias).sha256 for alias in ALIASES} == {again.archive.sha256}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fault",
    [
        faults.STORE_UNAVAILABLE,
        faults.STORE_DROP_AFTER_WRITE,
        faults.COORDINATOR_UNAVAILABLE,
        faults.COORDINATOR_DROP_AFTER_ACCEPT,
        faults.PUBLIC_UNAVAILABLE,
    ],
)
def test_passing_faults_leave_no_second_release(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path, fault: str
) -> None:
    """Unavailable for two requests, or an answer that is lost: one object, one registration."""
    world.broken.set({fault: 1 if "drop" in fault else 2})
    assert _start(world, plan, tmp_path / "a").resume().outcome == "promoted"
    assert len(world.rows.registrations()) == 1
    assert world.written().count(f"PutObject releases/v0.5.0/{NAME}") == 1


def test_the_coordinators_own_download_trouble_is_retried(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The public address fails just when the coordinator downloads."""
    chain = _start(world, plan, tmp_path / "a")
    chain.publish()
    world.broken.set({faults.PUBLIC_UNAVAILABLE: 2})
    assert chain.register().status == "release_registered"
    assert len(world.rows.registrations()) == 1


def test_an_older_release_is_superseded(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """0.5.0 after 0.5.1: registered, success, and the aliases stay with 0.5.1."""
    newer = _start(world, plan, tmp_path / "a", version="0.5.1", binary=b"newer")
    newer.resume()
    time.sleep(_CACHE_SECONDS)
    older = _start(world, plan, tmp_path / "b")
    promoted = older.resume()
    assert (promoted.outcome, promoted.latest_version) == ("superseded", "0.5.1")
    assert {world.index.get(alias).sha256 for alias in ALIASES} == {newer.archive.sha256}  # type: ignore[union-attr]


def test_a_prerelease_that_may_prefers_is_named(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The look-alike ranks as May does, so 0.5.0 is never served behind 0.5.0-dev.1."""
    _start(world, plan, tmp_path / "a", version="0.5.0-dev.1", binary=b"dev").resume()
    final = _start(world, plan, tmp_path / "b")
    limits = final.plan.limits.model_copy(update={"latest_poll_seconds": _CACHE_SECONDS})
    final.plan = final.plan.model_copy(update={"limits": limits})
    with pytest.raises(errors.RemoteRefusedError, match="ranks"):
        final.resume()
    assert len(world.rows.registrations()) == 2


def test_other_bytes_under_a_registered_version_are_refused_twice(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """At the store, and at the coordinator where the store was emptied behind its back."""
    _start(world, plan, tmp_path / "a").resume()
    other = _start(world, plan, tmp_path / "b", binary=b"other")
    with pytest.raises(errors.RemoteRefusedError, match="already holds other bytes"):
        other.publish()
    world.object_store()._client.delete_object(Bucket="releases", Key=f"releases/v0.5.0/{NAME}")
    other.publish()
    with pytest.raises(errors.RemoteRefusedError, match="with other bytes"):
        other.register()
    assert len(world.rows.registrations()) == 1


def test_of_two_publishers_exactly_one_wins(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Other bytes for one version at the same time: one write, the other exit 7."""
    chains = [_start(world, plan, tmp_path / name, binary=name.encode()) for name in ("a", "b")]
    outcomes: list[object] = []

    def publish(chain: Chain) -> None:
        try:
            outcomes.append(chain.publish())
        except errors.ReleaseError as problem:
            outcomes.append(problem)

    threads = [threading.Thread(target=publish, args=(chain,)) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "PublishedRelease", "RemoteRefusedError",
    ]  # fmt: skip
    assert len(world.written()) == 1


def test_a_release_in_parts_is_carried_through_and_repeated(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A copy of what went in parts bears another ETag: aliases are known again by their bytes."""
    world.parts = Parts(above_bytes=1024**2, part_bytes=5 * 1024**2)
    binary = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
    first, again = (_start(world, plan, tmp_path / name, binary=binary) for name in ("a", "b"))
    assert first.resume().outcome == again.resume().outcome == "promoted"
    assert sorted(world.written()) == sorted(
        [
            f"CompleteMultipartUpload releases/v0.5.0/{NAME}",
            f"PutObject {registration_claim.key_of('releases', '0.5.0')}",
            f"PutObject {registration_claim.mark_of('releases', '0.5.0')}",
            f"PutObject {POINTER}",
            *(f"CopyObject {alias}" for alias in ALIASES),
        ]
    )
    assert {world.index.get(alias).sha256 for alias in ALIASES} == {first.archive.sha256}  # type: ignore[union-attr]
    assert len(first.uploads.declared) == 1
    assert again.uploads.declared == []


@pytest.mark.rule("copy destination", always=False)
def test_two_versions_racing_to_latest_end_with_the_newer(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Both promote at the same time, each sure of itself: the store ends with 0.5.1 everywhere."""
    chains = [
        _start(world, plan, tmp_path / version, version=version, binary=version.encode())
        for version in ("0.5.0", "0.5.1")
    ]
    for chain in chains:
        chain.publish()
        chain.register()
        # The cache of May still serves this one when the next is registered.
        world.coordinator().latest("macos-arm64")
    threads = [threading.Thread(target=chain.promote) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    older, newer = (chain.promoted for chain in chains)
    assert older
    assert newer
    assert newer.outcome == "promoted"
    assert {world.index.get(alias).sha256 for alias in ALIASES} == {chains[1].archive.sha256}  # type: ignore[union-attr]
    pointer = world.object_store().read(POINTER, limit_bytes=10_000)
    assert pointer
    assert release_pointer.parse(pointer[1]).version == "0.5.1"
    assert pointer[0].version == "0.5.1"
    served = world.index.get(POINTER)
    assert served
    assert served.headers["cache-control"] == "public, max-age=60, must-revalidate"
    assert served.headers["content-type"] == "application/json"


def test_the_autumn_address_holds_the_archives_digest(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Other bytes go to another key, and the version stays with the archive that took it first."""
    chain, other = (
        _start(world, plan, tmp_path / name, binary=name.encode()) for name in ("a", "b")
    )
    for one in (chain, other):
        rules = one.plan.coordinator.model_copy(update={"contract": "2026-10"})
        one.plan = one.plan.model_copy(update={"coordinator": rules})
    published = chain.publish()
    assert published.key == f"releases/v0.5.0/artifacts/{chain.archive.sha256}/{NAME}"
    assert published.url == f"{world.public_url}/{published.key}"
    assert published.created
    assert not chain.publish().created
    with pytest.raises(errors.RemoteRefusedError, match=r"0\.5\.0 is already another archive's"):
        other.publish()
    assert not chain.publish().created
    assert world.written() == [
        f"PutObject {published.key}",
        "PutObject releases/v0.5.0/release.json",
        f"PutObject releases/v0.5.0/artifacts/{other.archive.sha256}/{NAME}",
    ]


def _bridge(world: LookAlikes, plan: ReleasePlan, folder: Path, version: str) -> Chain:
    """A release of the other flavour: another backend, no Metal library, tags of its own."""
    chain = _start(world, plan, folder, version=version, binary=b"a bridge")
    chain.plan = changed(
        chain.plan,
        product={"backend": "vllm-mlx"},
        bundle={"metallib": None},
        flavour={"name": "rust-bridge", "layout": "flat", "tag_prefix": "rust-bridge-v"},
    )
    chain.archive = chain.archive.model_copy(update={"metallib_sha256": ""})
    return chain


@pytest.mark.slow
@pytest.mark.parametrize("newer", [True, False])
def test_flavours_rank_by_version_alone(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path, *, newer: bool
) -> None:
    """A bridge behind 0.5.0 is superseded and moves nothing; above all others it is latest."""
    swift = _start(world, plan, tmp_path / "a")
    swift.resume()
    time.sleep(_CACHE_SECONDS)
    bridge = _bridge(world, plan, tmp_path / "b", "0.5.1" if newer else "0.4.9")
    told = Told()
    bridge.reporter = told
    promoted = bridge.resume()
    assert promoted.outcome == ("promoted" if newer else "superseded")
    assert any(note.startswith("0.5.0 of backend mlx-swift is served now") for note in told.notes)
    served = bridge if newer else swift
    assert {world.index.get(alias).sha256 for alias in ALIASES} == {served.archive.sha256}  # type: ignore[union-attr]
    rows = {row.release.version: row for row in world.coordinator().inventory()}
    assert rows[bridge.plan.version].release.backend == "vllm-mlx"
    assert rows[bridge.plan.version].release.metallib_hash == ""
    assert all(row.active for row in rows.values())


@pytest.mark.slow
def test_a_version_of_another_flavour_is_taken(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The key refuses other bytes; where it is gone, the coordinator's row does, latest or not."""
    _start(world, plan, tmp_path / "a").resume()
    _start(world, plan, tmp_path / "b", version="0.5.1", binary=b"newer").resume()
    bridge = _bridge(world, plan, tmp_path / "c", "0.5.0")
    with pytest.raises(errors.RemoteRefusedError, match="already holds other bytes"):
        bridge.publish()
    world.object_store()._client.delete_object(Bucket="releases", Key=f"releases/v0.5.0/{NAME}")
    bridge.publish()
    with pytest.raises(errors.RemoteRefusedError, match="as another flavour") as caught:
        bridge.register()
    assert caught.value.observed.startswith("backend mlx-swift, archive ")
    assert "one series" in caught.value.hint
    assert len(world.rows.registrations()) == 2
    assert bridge.intents.declared == []


def test_wrong_credentials_are_exit_4(world: LookAlikes) -> None:
    """A wrong secret and a wrong release key are told before any work."""
    with pytest.raises(errors.CredentialError):
        world.object_store(secret="wrong").check()
    world.object_store().check()
    with pytest.raises(errors.CredentialError):
        world.coordinator(key="wrong").check_key()
    world.coordinator().check_key()
    assert world.rows.registrations() == []
