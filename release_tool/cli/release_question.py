"""What `verify-release` is asked: flags, settings and files, every fault of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from release_tool import config, errors
from release_tool.apple import armor, certificates
from release_tool.cli import asking, embedded
from release_tool.cli.session import Session
from release_tool.plan import ReleasePlan
from release_tool.provenance import keys
from release_tool.provenance.keys import PublicKey
from release_tool.services import addresses, json_document, retries
from release_tool.services.github_public import PublicReleases
from release_tool.stages.verification_findings import Question

_HEAD_BYTES = 64 * 1024
_COMMIT = re.compile(r"[0-9a-f]{12,64}")
_KEY_BYTES = 16 * 1024
# Who is offline shall not wait long for a witness that is asked besides.
_TRIES = 2
# Neither the file's own word nor a tag's, which is of the job, is about this release.
_CHOSEN = ("flag", "environment variable")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of the command."""

    version: str
    environment: str | None
    flavour: str | None
    config_file: Path | None
    public_url: str
    key: Path | None
    log_head: Path | None
    no_github: bool
    commit: str
    dist: Path
    as_json: bool


def ask(session: Session, options: Options) -> Question:
    """Everything that a verification is asked with.

    Raises:
        UsageError: naming all that has to be corrected.
        HostError: the embedded environment does not start.
    """
    faults = _Faults()
    commit = faults.kept(lambda: _commit(options.commit))
    seen = faults.kept(lambda: _head(options.log_head))
    given = faults.kept(lambda: _given_key(options.key))
    faults.kept(lambda: _public_url(options.public_url))
    # What the flags say is judged first, so that nothing is started for a mistyped one.
    request = _request(session, options)
    resolve = config.resolve if faults.found else _resolved(options)
    resolved = faults.kept(lambda: resolve(request))
    if resolved is None:
        raise faults.refusal()
    plan = _at(resolved.plan, options.public_url)
    if faults.found and plan.environment.embedded:
        # It was not started, so it has no addresses and no key to be missed.
        raise faults.refusal()
    for name in ("r2_public_url", "coordinator_url"):
        faults.kept(lambda name=name: _require_address(plan, name))  # type: ignore[misc]
    if options.key is None:
        given = faults.kept(lambda: _pinned(plan, options))
    if faults.found:
        raise faults.refusal()
    return Question(
        plan=plan,
        trusted=given or (),
        trust=_roots(plan, options),
        seen=seen,
        commit=commit or "",
        flavour_named=resolved.origins["flavour.name"].kind in _CHOSEN,
    )


def witness(plan: ReleasePlan, options: Options) -> tuple[PublicReleases | None, str]:
    """Whom to ask for heads of the log on GitHub, or why nobody is asked."""
    environment = plan.environment
    if options.no_github:
        return None, "--no-github says so"
    if not environment.github_release:
        return None, f"{environment.name} has no releases on GitHub"
    return PublicReleases(
        api_url=plan.endpoints.github_api_url,
        repository=environment.github_repository,
        policy=replace(retries.DEFAULT, attempts=_TRIES),
    ), ""


@dataclass
class _Faults:
    """Collects what has to be corrected, so that nobody is told of it bit by bit."""

    found: list[errors.UsageError] = field(default_factory=list)

    def kept(self, act: Callable[[], _T]) -> _T | None:
        """What an act gives; None where it finds a fault."""
        try:
            return act()
        except errors.UsageError as problem:
            self.found.append(problem)
            return None

    def refusal(self) -> errors.UsageError:
        """The one fault as it is, or all of them in one error."""
        if len(self.found) == 1:
            return self.found[0]
        told = [line for problem in self.found for line in _lines(problem)]
        return errors.UsageError(f"nothing was verified: {len(told)} problems", details=told)


def _lines(problem: errors.UsageError) -> Iterator[str]:
    if problem.details:
        yield from problem.details
        return
    told = str(problem)
    told += f": {problem.observed}" if problem.observed else ""
    told += f", expected {problem.expected}" if problem.expected else ""
    yield told + (f"; {problem.hint}" if problem.hint else "")


def _commit(given: str) -> str:
    """A commit, or as much of it as is shown in one line."""
    commit = given.strip().lower()
    if commit and not _COMMIT.fullmatch(commit):
        raise errors.UsageError(
            "--commit is no commit", expected="12 to 64 hexadecimal digits", observed=given[:80]
        )
    return commit


def _head(path: Path | None) -> bytes | None:
    """The caller's own file: one that holds nothing of the kind says nothing about a release."""
    if path is None:
        return None
    content = _read(path, _HEAD_BYTES)
    try:
        json_document.read(content, limit_bytes=_HEAD_BYTES, what="a signed head")
    except errors.FormatError as problem:
        raise errors.UsageError(
            f"--log-head {problem.message}",
            subject=str(path),
            expected="the log.head.json of a release",
        ) from problem
    return content


def _given_key(path: Path | None) -> tuple[PublicKey, ...] | None:
    """Whose word counts, where the caller chose it."""
    if path is None:
        return None
    try:
        return (keys.parse(_read(path, _KEY_BYTES).decode("utf-8", "replace")),)
    except errors.FormatError as problem:
        raise errors.UsageError(
            f"--key {problem.message}", subject=str(path), observed=problem.observed
        ) from problem


def _public_url(given: str) -> None:
    if given:
        addresses.base(given, name="--public-url")


def _resolved(options: Options) -> Callable[[config.Request], config.Resolved]:
    return lambda request: embedded.resolve(request, options.dist)


def _request(session: Session, options: Options) -> config.Request:
    return replace(
        asking.request(session, options),
        version=options.version,
        version_flag="VERSION",
        stages=(),
        supplied=("R2_PUBLIC_URL",) if options.public_url else (),
        from_source=False,
    )


def _at(plan: ReleasePlan, public_url: str) -> ReleasePlan:
    if not public_url:
        return plan
    endpoints = plan.endpoints.model_copy(update={"r2_public_url": public_url})
    return plan.model_copy(update={"endpoints": endpoints})


def _require_address(plan: ReleasePlan, name: str) -> None:
    if getattr(plan.endpoints, name):
        return
    flag = "--public-url, or set " if name == "r2_public_url" else ""
    raise errors.UsageError(
        f"nothing says where {plan.environment.name} is",
        observed=f"no {name.upper()}",
        hint=f"name it with {flag}{plan.environment.prefix}{name.upper()}",
    )


def _pinned(plan: ReleasePlan, options: Options) -> tuple[PublicKey, ...]:
    """Whose word counts, by release.yaml or by the look-alikes that were started."""
    if plan.environment.embedded:
        return (keys.parse(embedded.provenance_key(options.dist, plan.environment.name)),)
    section = plan.environment.provenance
    if section is None or not section.keys:
        raise errors.UsageError(
            f"release.yaml pins no key for {plan.environment.name}",
            hint="name the file of its public key with --key, from a source that you trust",
        )
    return tuple(map(keys.parse, section.keys))


def _roots(plan: ReleasePlan, options: Options) -> certificates.Trust:
    if not plan.environment.embedded:
        return certificates.apple_trust()
    roots = embedded.trust(options.dist, plan.environment.name)
    return certificates.Trust(
        name="the rehearsal's authority",
        roots=tuple(map(certificates.load, armor.unwrap_all(roots, "a root"))),
    )


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise errors.UsageError(
            "this is too large for what it should be",
            subject=str(path),
            expected=f"at most {limit_bytes} bytes",
        )
    return content
