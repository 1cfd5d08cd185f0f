"""Start, find and stop the embedded environment.

It is one process beside the tool, so it survives the tool's death and the rerun finds it again,
with the same addresses, keys and stores.
"""

from __future__ import annotations

import dataclasses
import fcntl
import http.client
import json
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import release_tool
from release_tool import errors
from release_tool.files import atomic
from release_tool.rehearsal import counts, github_store, places, registration

if TYPE_CHECKING:
    from release_tool.rehearsal import wire

# A rehearsal would otherwise wait out May's 60 s cache at promotion.
CACHE_SECONDS = 2.0
# Long enough that a client which does not wait is found out.
PROCESSING_SECONDS = 1.0
TICKET_SECONDS = 1.0
_READY_SECONDS = 60.0
_PROBE_SECONDS = 5.0
# It downloads the archive meanwhile.
_APPROVAL_SECONDS = 30.0
_STOP_SECONDS = 15.0
_STEP_SECONDS = 0.05
_LOG_BYTES = 2000
_FIELDS = (
    "instance",
    "bucket",
    "coordinator_url",
    "r2_endpoint",
    "r2_public_url",
    "timestamp_url",
    "notary_url",
    "notary_upload_url",
    "ticket_url",
    "github_api_url",
    "github_uploads_url",
    "control_url",
    "contract",
    "provenance",
)
# Kept so that a child that still serves is not reported as forgotten when its handle goes.
_CHILDREN: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A living embedded environment."""

    state: Path
    pid: int
    instance: str
    bucket: str
    coordinator_url: str
    r2_endpoint: str
    r2_public_url: str
    timestamp_url: str
    notary_url: str
    """Of the submissions, with their path."""
    notary_upload_url: str
    """The S3 endpoint for the temporary credentials of a submission."""
    ticket_url: str
    """Of the ticket lookup, with its path."""
    github_api_url: str
    """Of the releases' interface."""
    github_uploads_url: str
    """Where the interface says that uploads go."""
    control_url: str
    contract: str
    """Of its coordinator."""
    provenance: str
    """Where the public key of provenance and log stands."""

    @property
    def trust(self) -> Path:
        """PEM of both roots; tickets hang on the EC one, the look-alike of Apple Root CA - G3."""
        return places.trust(self.state)

    @property
    def profile(self) -> Path:
        """The provisioning profile."""
        return places.profile(self.state)

    @property
    def identity(self) -> Path:
        """The signing identity, PKCS#12 with its intermediate."""
        return places.identity(self.state)

    def push_tag(self, tag: str, commit: str) -> None:
        """Let a tag of the look-alike's repository lead to a commit, as `git push` does."""
        github_store.push_tag(places.github(self.state), tag, commit)

    def approve(self, request: Mapping[str, object], *, evidence: str) -> None:
        """Approve a build at October's coordinator, as its administrator does.

        Args:
            request: what the release wrote for the operator.
            evidence: the operator's own words.

        Raises:
            HostError: the coordinator did not take it.
        """
        address = urllib.parse.urlsplit(self.coordinator_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=_APPROVAL_SECONDS)
        body = json.dumps({**request, "evidence": evidence}).encode()
        headers = {
            "Authorization": f"Bearer {self.secret(places.ADMIN_KEY)}",
            "Content-Type": "application/json",
        }
        with closing(connection):
            connection.request("POST", "/v1/admin/app-attest/builds", body, headers)
            answer = connection.getresponse()
            told = answer.read().decode()
        if answer.status != 200:
            raise errors.HostError("the build was not approved", observed=told[:200])

    def record_runs(self, runs: Sequence[github_store.Run]) -> None:
        """Let the look-alike's repository have had exactly these runs of workflows."""
        github_store.record_runs(places.github(self.state), runs)

    def secret(self, name: str) -> str:
        """Read one of `places.SECRETS`."""
        return places.secret(self.state, name).read_text(encoding="ascii")

    def counts(self) -> counts.Counts:
        """What coordinator, store and notary counted."""
        return counts.read(self.state)

    def set_faults(self, wanted: Mapping[str, int]) -> None:
        """Let the next so many requests go wrong, see `faults`.

        Raises:
            UsageError: no such fault.
            HostError: the environment does not answer.
        """
        status, text = self._ask("POST", "/faults", json.dumps(dict(wanted)).encode())
        if status != 204:
            raise errors.UsageError(text or "the fault was not set")

    def set_rules(self, rules: Sequence[wire.Rule]) -> None:
        """Let exactly these faults of the wire hold from now on; none ends them all.

        Raises:
            UsageError: a rule names no service or kind that there is.
            HostError: the environment does not answer.
        """
        told = json.dumps([dataclasses.asdict(rule) for rule in rules]).encode()
        status, text = self._ask("POST", "/wire", told)
        if status != 204:
            raise errors.UsageError(text or "the rules were not set")

    def wire_report(self) -> wire.Report:
        """What came over the wire since rules were set.

        Raises:
            HostError: the environment does not answer.
        """
        status, text = self._ask("GET", "/wire")
        if status != 200:
            raise errors.HostError("the embedded environment tells nothing of its wire")
        # Who runs a release without the look-alikes' packages comes by this module, too.
        from release_tool.rehearsal import wire

        return wire.report_of(json.loads(text))

    def is_alive(self) -> bool:
        """Whether exactly this process still answers."""
        try:
            status, text = self._ask("GET", "/alive")
            return status == 200 and json.loads(text)["instance"] == self.instance
        except (errors.HostError, ValueError, KeyError, TypeError):
            return False

    def stop(self) -> None:
        """End it, and return once its ports and files are free.

        Raises:
            HostError: it does not end.
        """
        if self.is_alive():
            self._ask("POST", "/stop")
        deadline = time.monotonic() + _STOP_SECONDS
        while is_served(self.state):
            if time.monotonic() > deadline:
                raise errors.HostError(
                    "the embedded environment does not end",
                    subject=str(self.state),
                    hint=f"end process {self.pid}",
                )
            time.sleep(_STEP_SECONDS)
        for child in _CHILDREN:
            if child.pid == self.pid:
                child.wait(_STOP_SECONDS)
        _reap()

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        address = urllib.parse.urlsplit(self.control_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=_PROBE_SECONDS)
        try:
            token = self.secret(places.CONTROL_TOKEN)
            connection.request(method, path, body, {places.CONTROL_HEADER: token})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as problem:
            raise errors.HostError(
                "the embedded environment does not answer", subject=self.control_url
            ) from problem
        finally:
            connection.close()


def attach(state: Path) -> Environment | None:
    """Find the environment that serves a state folder; None where none answers."""
    try:
        found = json.loads(places.description(state).read_bytes())
        environment = Environment(
            state=state.resolve(),
            pid=int(found["pid"]),
            **{name: str(found[name]) for name in _FIELDS},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return environment if environment.is_alive() else None


def start(
    state: Path,
    *,
    team_id: str,
    bundle_id: str,
    organization: str = "Look-alike",
    idle_seconds: float = places.IDLE_SECONDS,
    cache_seconds: float = CACHE_SECONDS,
    processing_seconds: float = PROCESSING_SECONDS,
    ticket_seconds: float = TICKET_SECONDS,
    contract: registration.Contract = registration.MAY,
) -> Environment:
    """Attach to the environment of a state folder, or start it and wait until it is ready.

    Args:
        state: its folder; made where absent. What it holds comes back as it was.
        team_id: whose identity and profile are made.
        bundle_id: what the profile is for.
        organization: the name in the identity.
        idle_seconds: after how long without a request it ends itself.
        cache_seconds: the coordinator's cache; 60 in the original.
        processing_seconds: how long the notary takes at least; minutes in the original.
        ticket_seconds: how long after a verdict its ticket comes; up to minutes in the original.
        contract: what its coordinator speaks; one that speaks the other is started again.

    Raises:
        HostError: it cannot be started.
    """
    if (living := attach(state)) is not None:
        if living.contract == contract:
            return living
        living.stop()
    _retire(state)
    with atomic.naming(state, "make the folder"):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "release_tool.rehearsal.serve", str(state.resolve())),
        *("--team-id", team_id),
        *("--bundle-id", bundle_id),
        *("--organization", organization),
        *("--idle-seconds", str(idle_seconds)),
        *("--cache-seconds", str(cache_seconds)),
        *("--processing-seconds", str(processing_seconds)),
        *("--ticket-seconds", str(ticket_seconds)),
        *("--contract", contract),
    ]
    return _await(state, _spawn(state.resolve(), command))


def is_served(state: Path) -> bool:
    """Whether a process holds the folder, answering or not."""
    try:
        with places.lock(state).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _retire(state: Path) -> None:
    """End an environment of an earlier version: it lives, and lacks what this one offers."""
    try:
        found = json.loads(places.description(state).read_bytes())
        pid, control = int(found["pid"]), str(found["control_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if all(name in found for name in _FIELDS) or not is_served(state):
        return
    known = {name: str(found.get(name, "")) for name in _FIELDS}
    Environment(state=state.resolve(), pid=pid, **known | {"control_url": control}).stop()


def _await(state: Path, child: subprocess.Popen[bytes]) -> Environment:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if (living := attach(state)) is not None:
            return living
        # A second one that was started at the same moment ends at once; the first will answer.
        if child.poll() is not None and not is_served(state):
            break
        time.sleep(_STEP_SECONDS)
    raise errors.HostError(
        "the embedded environment did not start",
        subject=str(state),
        details=_log_tail(state),
        hint="install the extra `rehearsal`" if _lacks_moto(state) else "",
    )


def _spawn(state: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """Start it detached, with nothing of the caller's environment: no credential, no setting."""
    _reap()
    scrubbed = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(state),
        "TMPDIR": str(places.scratch(state)),
        "PYTHONPATH": str(Path(release_tool.__file__).resolve().parent.parent),
    }
    with atomic.naming(places.log(state), "write"):
        log = places.log(state).open("ab")
    with log:
        child = subprocess.Popen(
            command,
            env=scrubbed,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _CHILDREN.append(child)
    return child


def _reap() -> None:
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]


def _log_tail(state: Path) -> list[str]:
    try:
        text = places.log(state).read_bytes()[-_LOG_BYTES:]
    except OSError:
        return []
    return text.decode(errors="replace").splitlines()[-5:]


def _lacks_moto(state: Path) -> bool:
    return any("ModuleNotFoundError" in line for line in _log_tail(state))
