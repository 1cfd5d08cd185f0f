"""The serving process of the embedded environment: `python -m release_tool.rehearsal.serve DIR`.

Every server on a port of 127.0.0.1, in threads of one process, with all state in one folder. It
outlives whoever started it and ends on SIGTERM, on request, when nobody asked anything for a
while, or when its folder goes.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from release_tool import errors
from release_tool.files import atomic
from release_tool.rehearsal import (
    control,
    coordinator,
    faults,
    github,
    materials,
    notary_servers,
    places,
    public_bucket,
    servers,
    signature_v4,
    timestamp_server,
    wire,
)
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.rehearsal.notary_worker import Delays
from release_tool.rehearsal.object_index import ObjectIndex
from release_tool.rehearsal.object_store import ObjectStore
from release_tool.rehearsal.registration import AUTUMN, MAY
from release_tool.rehearsal.release_store import ReleaseStore
from release_tool.rehearsal.servers import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from werkzeug.serving import WSGIRequestHandler

BUCKET = "darkbloom-rehearsal"
REPOSITORY = "look-alike/darkbloom"
EXIT_ALREADY_SERVED = 3
_WATCH_SECONDS = 0.25
_CONTROL, _ELSEWHERE = "control", "elsewhere"
# What sets the faults, and what sees where they lead, never fails.
_OFF_THE_WIRE = (_CONTROL, _ELSEWHERE)


class Clock:
    """When somebody last asked anything."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def touch(self) -> None:
        """Somebody asks."""
        self._last = time.monotonic()

    def idle_seconds(self) -> float:
        """How long nobody asked."""
        return time.monotonic() - self._last


def main(arguments: list[str] | None = None) -> int:
    """Serve until it is over; the exit code of the process."""
    options = parser().parse_args(arguments)
    state: Path = options.state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with places.lock(state).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return EXIT_ALREADY_SERVED
        with serving(state, options) as (ended, clock, described):
            _watch(state, options.idle_seconds, ended, clock)
            # Only our own: the folder may already be another's.
            if _is(described, state):
                places.description(state).unlink(missing_ok=True)
    return 0


@contextmanager
def serving(
    state: Path, options: argparse.Namespace
) -> Iterator[tuple[threading.Event, Clock, str]]:
    """Open the stores, start every server and describe them, until the block ends.

    Yields:
        What is set when the process shall end, the idle clock, and the name of this instance.
    """
    ended, clock = threading.Event(), Clock()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    instance = secrets.token_hex(16)
    known = _known_ports(state)
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def start(
            name: str,
            application: WSGIApplication,
            handler: type[WSGIRequestHandler] = servers.QuietHandler,
        ) -> Server:
            server = Server(
                application,
                port=known.get(name, 0),
                handler=handler,
                touched=clock.touch,
                name=name,
                wire=None if name in _OFF_THE_WIRE else lines,
            )
            started[name] = stack.enter_context(server)
            return server

        broken, lines = faults.Faults(), wire.Wire()
        # Another host by its name, and the same machine.
        lines.elsewhere_url = f"http://localhost:{start(_ELSEWHERE, lines.elsewhere).port}"
        authority = materials.prepare(state, _subject(options))
        _start_look_alikes(state, options, authority, broken, stack, start)
        notarized = notary_servers.serve(
            places.notary(state),
            authority,
            _notary_settings(state, options),
            broken=broken,
            stack=stack,
            start=start,
        )
        _start_github(state, options, broken, start)
        token = materials.read_secret(state, places.CONTROL_TOKEN)
        start(
            _CONTROL,
            control.Control(token=token, instance=instance, broken=broken, wire=lines, ended=ended),
        )
        _write_json(places.ports(state), {name: server.port for name, server in started.items()})
        _describe(state, options, instance, started, notarized)
        yield ended, clock, instance


def _start_look_alikes(
    state: Path,
    options: argparse.Namespace,
    authority: Authority,
    broken: faults.Faults,
    stack: ExitStack,
    start: notary_servers.Start,
) -> None:
    _empty(places.scratch(state))
    index = ObjectIndex(places.objects(state))
    stack.callback(index.close)
    releases = ReleaseStore(places.releases(state), options.contract)
    stack.callback(releases.close)
    public = start("public", public_bucket.PublicBucket(index, broken=broken))
    start("store", _store(state, options.bucket, index, broken))
    settings = coordinator.Settings(
        release_key=materials.read_secret(state, places.RELEASE_KEY),
        admin_key=materials.read_secret(state, places.ADMIN_KEY),
        cdn_url=public.url,
        cache_seconds=options.cache_seconds,
        contract=options.contract,
    )
    scratch = places.scratch(state)
    start(
        "coordinator",
        coordinator.Coordinator(releases, settings, scratch=scratch, broken=broken),
    )
    start("timestamp", timestamp_server.TimestampServer(authority, broken=broken))


def _start_github(
    state: Path, options: argparse.Namespace, broken: faults.Faults, start: notary_servers.Start
) -> None:
    settings = github.Settings(
        repository=options.repository,
        rights={
            materials.read_secret(state, places.GITHUB_TOKEN): "write",
            materials.read_secret(state, places.GITHUB_READER): "read",
        },
        immutable=True,
    )
    made = github.GitHub(GitHubStore(places.github(state)), settings, broken=broken)
    settings.api_url = start("github", made.api).url
    settings.uploads_url = start("github uploads", made.uploads).url
    settings.storage_url = start("github storage", made.storage).url


def _subject(options: argparse.Namespace) -> materials.Subject:
    return materials.Subject(
        team_id=options.team_id, bundle_id=options.bundle_id, organization=options.organization
    )


def _notary_settings(state: Path, options: argparse.Namespace) -> notary_servers.Settings:
    return notary_servers.Settings(
        key=notary_servers.api_key(
            materials.read_secret(state, places.NOTARY_KEY),
            key_id=materials.read_secret(state, places.NOTARY_KEY_ID),
            issuer_id=materials.read_secret(state, places.NOTARY_ISSUER_ID),
        ),
        delays=Delays(
            processing_seconds=options.processing_seconds, ticket_seconds=options.ticket_seconds
        ),
    )


def _store(state: Path, bucket: str, index: ObjectIndex, broken: faults.Faults) -> ObjectStore:
    credentials = signature_v4.Credentials(
        access_key_id=materials.read_secret(state, places.ACCESS_KEY_ID),
        secret_access_key=materials.read_secret(state, places.SECRET_ACCESS_KEY),
    )
    return ObjectStore(bucket, credentials, index=index, broken=broken)


def _describe(
    state: Path,
    options: argparse.Namespace,
    instance: str,
    started: dict[str, Server],
    notarized: notary_servers.Addresses,
) -> None:
    """Tell where everything is; no secret stands in here."""
    described = {
        "instance": instance,
        "pid": os.getpid(),
        "bucket": options.bucket,
        "contract": options.contract,
        "coordinator_url": started["coordinator"].url,
        "r2_endpoint": started["store"].url,
        "r2_public_url": started["public"].url,
        "timestamp_url": f"{started['timestamp'].url}{timestamp_server.PATH}",
        "notary_url": notarized.notary_url,
        "notary_upload_url": notarized.notary_upload_url,
        "ticket_url": notarized.ticket_url,
        "github_api_url": started["github"].url,
        "github_uploads_url": started["github uploads"].url,
        "control_url": started[_CONTROL].url,
        "provenance": str(places.provenance(state)),
    }
    _write_json(places.description(state), described)


def _watch(state: Path, idle_seconds: float, ended: threading.Event, clock: Clock) -> None:
    while not ended.wait(_WATCH_SECONDS):
        if clock.idle_seconds() > idle_seconds or not places.description(state).exists():
            return


def _is(instance: str, state: Path) -> bool:
    try:
        found = json.loads(places.description(state).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(found["instance"] == instance)


def _known_ports(state: Path) -> dict[str, int]:
    try:
        found = json.loads(places.ports(state).read_bytes())
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_json(path: Path, value: object) -> None:
    atomic.write_atomically(path, json.dumps(value, indent=2).encode())


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def parser() -> argparse.ArgumentParser:
    """The options of the serving process, for who serves in a process of their own."""
    parser = argparse.ArgumentParser(prog="release_tool.rehearsal.serve", description=__doc__)
    parser.add_argument("state", type=Path, help="folder of all its state")
    parser.add_argument("--team-id", default="SLDQ2GJ6TL")
    parser.add_argument("--bundle-id", default="io.darkbloom.provider")
    parser.add_argument("--organization", default="Look-alike")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--repository", default=REPOSITORY)
    parser.add_argument("--idle-seconds", type=float, default=places.IDLE_SECONDS)
    parser.add_argument("--cache-seconds", type=float, default=coordinator.CACHE_SECONDS)
    parser.add_argument("--contract", choices=(MAY, AUTUMN), default=MAY)
    delays = Delays()
    parser.add_argument("--processing-seconds", type=float, default=delays.processing_seconds)
    parser.add_argument("--ticket-seconds", type=float, default=delays.ticket_seconds)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except errors.ReleaseError as problem:
        sys.stderr.write("\n".join(problem.lines()) + "\n")
        sys.exit(problem.exit_code)
