"""Faults of the wire, for every look-alike: what may happen to a request, whatever it asks for.

`faults` names what one service does wrong by itself. These are what stands between a client and
any service: networks that cut, stall and repeat, edges that answer in its place, hosts that go.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from release_tool import errors
from release_tool.rehearsal import wire_acts
from release_tool.rehearsal.wire_acts import Act

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REFUSED: Final = "refused"
"""Nobody listens on the service's port."""
DUPLICATE: Final = "duplicate"
LATE: Final = "late"
_ACTS: Mapping[str, Act] = {
    "reset": wire_acts.reset,
    "stalled": wire_acts.stalled,
    "slow": wire_acts.slow,
    "endless": wire_acts.endless,
    "429": wire_acts.throttled,
    "500": wire_acts.broken,
    "503": wire_acts.unavailable,
    "truncated": wire_acts.truncated,
    "longer": wire_acts.longer,
    "shorter": wire_acts.shorter,
    "other-bytes": wire_acts.other_bytes,
    "other-json": wire_acts.other_json,
    "not-json": wire_acts.not_json,
    "redirect": wire_acts.redirect,
    DUPLICATE: wire_acts.duplicate,
    "lost-answer": wire_acts.lost_answer,
    LATE: wire_acts.late,
}
KINDS: Final = (REFUSED, *_ACTS)
"""Every kind of fault."""


class Listener(Protocol):
    """A server that can go away and come back on its port."""

    def cease(self) -> None:
        """Listen no more."""

    def resume(self) -> None:
        """Listen again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What goes wrong, and for which requests.

    Args:
        service: the server's name.
        kind: one of `KINDS`.
        method: only requests of this method; any, where empty.
        path: only requests whose target this pattern is found in.
        agent: only requests whose user agent this pattern is found in.
        least_bytes: only requests with a body of at least this length.
        skip: matching requests that go well first.
        count: how many go wrong then; None for every one.
        seconds: how long a server stays away that refuses `count` times, how long a slow
            answer takes, and how long after its connection a late request is handled.
    """

    service: str
    kind: str
    method: str = ""
    path: str = ""
    agent: str = ""
    least_bytes: int = 0
    skip: int = 0
    count: int | None = None
    seconds: float = 1.0

    @property
    def is_narrow(self) -> bool:
        """Whether it waits for some request, and does not concern all of them."""
        return bool(self.method or self.path or self.agent or self.least_bytes or self.skip)

    def concerns(self, service: str, environ: WSGIEnvironment) -> bool:
        """Whether a request is one of those that it is about."""
        length = str(environ.get("CONTENT_LENGTH") or "0")
        return (
            service == self.service
            and self.method in ("", environ["REQUEST_METHOD"])
            and bool(re.search(self.path, wire_acts.target(environ)))
            and bool(re.search(self.agent, str(environ.get("HTTP_USER_AGENT", ""))))
            and (int(length) if length.isdigit() else 0) >= self.least_bytes
        )


@dataclass(kw_only=True)
class _Standing:
    """A rule that holds, and what it did."""

    rule: Rule
    seen: int = 0

    def takes(self) -> bool:
        """Whether this matching request goes wrong; counts it."""
        self.seen += 1
        done = self.seen - self.rule.skip
        return done > 0 and (self.rule.count is None or done <= self.rule.count)


@dataclass(kw_only=True)
class Report:
    """What came over the wire since the rules were set."""

    requests: Counter[str] = field(default_factory=Counter)
    """By service, those that went wrong included; not those that were refused."""
    hits: int = 0
    """Requests that went wrong; a refusal counts once for the time that it lasts.

    An answer without a body cannot have other bytes, nor be shorter: it counts as none.
    """
    duplicated: list[str] = field(default_factory=list)
    """What was handed over twice: service, method and target."""
    strayed: list[dict[str, str]] = field(default_factory=list)
    """What followed a redirect: the headers, names in lower case."""
    outstanding: int = 0
    """Late requests that are still to be handled; those under earlier rules, too."""

    def as_json(self) -> dict[str, object]:
        """For the control address."""
        return {
            "requests": dict(self.requests),
            "hits": self.hits,
            "duplicated": self.duplicated,
            "strayed": self.strayed,
            "outstanding": self.outstanding,
        }


class Wire:
    """The wire that all servers of an environment hang on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing: list[_Standing] = []
        self._report = Report()
        self._calm = threading.Event()
        self._listeners: dict[str, Listener] = {}
        self._ended: dict[str, threading.Event] = {}
        self._away: set[str] = set()
        self.elsewhere_url = ""
        """Where redirects lead; another host by its name."""

    def join(self, service: str, listener: Listener) -> None:
        """Let a server be among those that may go away."""
        self._listeners[service] = listener
        self._ended[service] = threading.Event()

    def part(self, service: str) -> None:
        """Let a server have ended: what it still had to handle, nobody handles."""
        self._ended[service].set()

    def set(self, rules: Sequence[Rule]) -> None:
        """Let exactly these hold from now on, and count anew.

        Raises:
            UsageError: a rule names no service or kind that there is, or is no pattern.
        """
        for rule in rules:
            _require(rule, self._listeners)
        with self._lock:
            self._calm.set()
            self._calm = threading.Event()
            self._standing = [_Standing(rule=rule) for rule in rules]
            self._report = Report(outstanding=self._report.outstanding)
            returning, self._away = self._away, set()
        for service in returning:
            self._listeners[service].resume()
        for rule in rules:
            if rule.kind == REFUSED and not rule.is_narrow:
                self._leave(rule)

    def report(self) -> Report:
        """What was seen so far."""
        return self._report

    def pass_on(
        self,
        service: str,
        application: WSGIApplication,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Hand a request to its application, or let it go wrong.

        Raises:
            ConnectionAbortedError: it went wrong; what the client got, it has.
        """
        rule = self._take(service, environ)
        if rule is None:
            return application(environ, start_response)
        if rule.kind == REFUSED:
            self._leave(rule)
            wire_acts.cut(environ)
            raise ConnectionAbortedError
        if rule.kind == DUPLICATE:
            told = f"{service} {environ['REQUEST_METHOD']} {wire_acts.target(environ)}"
            self._report.duplicated.append(told)
        turn = wire_acts.Turn(
            application=application,
            environ=environ,
            calm=self._calm,
            elsewhere_url=self.elsewhere_url,
            put_off=partial(self._put_off, service, rule.seconds),
            seconds=rule.seconds,
        )
        try:
            _ACTS[rule.kind](turn)
        except wire_acts.UnspoiltError as found:
            self._spare(rule)
            wire_acts.right(turn, found.answer)
        wire_acts.end(environ)
        raise ConnectionAbortedError

    def elsewhere(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The other host that redirects lead to: it notes what comes, and says yes."""
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        request = {"method": environ["REQUEST_METHOD"], "target": wire_acts.target(environ)}
        self._report.strayed.append(headers | request)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    def _take(self, service: str, environ: WSGIEnvironment) -> Rule | None:
        with self._lock:
            self._report.requests[service] += 1
            for standing in self._standing:
                if standing.rule.concerns(service, environ) and standing.takes():
                    self._report.hits += 1
                    return standing.rule
        return None

    def _spare(self, rule: Rule) -> None:
        """A request that could not go wrong so is none of those that did."""
        with self._lock:
            for standing in self._standing:
                if standing.rule == rule:
                    standing.seen -= 1
                    self._report.hits -= 1

    def _put_off(self, service: str, seconds: float, work: Callable[[], object]) -> None:
        with self._lock:
            self._report.outstanding += 1
        ended = self._ended[service]
        threading.Thread(target=self._do_late, args=(ended, seconds, work), daemon=True).start()

    def _do_late(self, ended: threading.Event, seconds: float, work: Callable[[], object]) -> None:
        # The end of the rules takes nothing back that a service took.
        if not ended.wait(seconds):
            # Nobody is left to be told of a failure.
            with contextlib.suppress(Exception):
                work()
        with self._lock:
            self._report.outstanding -= 1

    def _leave(self, rule: Rule) -> None:
        with self._lock:
            if rule.service in self._away:
                return
            self._away.add(rule.service)
            calm = self._calm
            if not rule.is_narrow:
                self._report.hits += 1
        self._listeners[rule.service].cease()
        if rule.count is not None:
            threading.Thread(target=self._return, args=(rule, calm), daemon=True).start()

    def _return(self, rule: Rule, calm: threading.Event) -> None:
        if calm.wait(rule.seconds):
            return
        with self._lock:
            if calm is not self._calm or rule.service not in self._away:
                return
            self._away.discard(rule.service)
            # Only a rule that is asked before it leaves can hold again.
            self._standing = [one for one in self._standing if one.rule != rule]
        self._listeners[rule.service].resume()


def report_of(told: Mapping[str, Any]) -> Report:
    """A report out of what `as_json` made."""
    return Report(
        requests=Counter(told["requests"]),
        hits=told["hits"],
        duplicated=told["duplicated"],
        strayed=told["strayed"],
        outstanding=told["outstanding"],
    )


def rule_of(told: Mapping[str, Any]) -> Rule:
    """A rule out of JSON.

    Raises:
        UsageError: it is none.
    """
    known = {one.name for one in fields(Rule)}
    if strange := told.keys() - known:
        raise errors.UsageError("a rule has no such field", subject=", ".join(sorted(strange)))
    try:
        return _checked(Rule(**told))
    except (TypeError, ValueError) as problem:
        raise errors.UsageError("this is no rule", observed=str(problem)) from problem


def _checked(rule: Rule) -> Rule:
    words: tuple[object, ...] = (rule.service, rule.kind, rule.method, rule.path, rule.agent)
    numbers: tuple[object, ...] = (rule.least_bytes, rule.skip, rule.count or 0)
    if not all(isinstance(word, str) for word in words):
        raise ValueError("a word is none")
    for number in numbers:
        if not isinstance(number, int) or number < 0:
            raise ValueError("a number is none")
    if not 0 <= rule.seconds < threading.TIMEOUT_MAX:
        raise ValueError("a time is none")
    return rule


def _require(rule: Rule, services: Mapping[str, Listener]) -> None:
    if rule.service not in services or rule.kind not in KINDS:
        raise errors.UsageError(
            "no such fault",
            subject=f"{rule.service} {rule.kind}",
            expected=f"one of {', '.join(sorted(services))}, and one of {', '.join(KINDS)}",
        )
    try:
        re.compile(rule.path)
        re.compile(rule.agent)
    except re.error as problem:
        raise errors.UsageError("this is no pattern", observed=str(problem)) from problem
