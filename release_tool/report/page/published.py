"""Where the release stands now: the store, its aliases, the coordinator, GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from release_tool import values
from release_tool.report.page.told import Told
from release_tool.report.summary import size


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place that holds something of the release."""

    what: str
    where: str
    digest: str
    text: str


def of(told: Told) -> tuple[Place, ...]:
    """What was put where, and how that was seen."""
    return (*_store(told), *_coordinator(told), *_aliases(told), *_github(told), *_back(told))


def _store(told: Told) -> Iterator[Place]:
    published = told.get("publish", values.PublishedRelease)
    if published is None:
        return
    how = "created" if published.created else "the same bytes stood there already"
    bucket = told.text("endpoints.r2_bucket")
    yield Place(
        what="object",
        where=f"{bucket}/{published.key}" if bucket else published.key,
        digest=published.archive_sha256,
        text=f"{how}, {size(published.size)}",
    )
    yield Place(
        what="public address",
        where=published.url,
        digest=published.archive_sha256,
        text="downloaded again, the same bytes",
    )
    yield from map(_document, published.documents)


def _document(found: values.PublishedDocument) -> Place:
    return Place(
        what="signed document", where=found.url, digest=found.sha256, text=size(found.size)
    )


def _line(found: values.LoggedEvent | None, event: str) -> Iterator[Place]:
    if found:
        yield Place(
            what="log of releases",
            where=f"line {found.line}",
            digest=found.sha256,
            text=f"{event}; the log had {size(found.size)} with it",
        )


def _coordinator(told: Told) -> Iterator[Place]:
    registered = told.get("register", values.RegisteredRelease)
    if registered is None:
        return
    yield Place(
        what="coordinator",
        where=told.text("endpoints.coordinator_url"),
        digest=registered.bundle_hash,
        text=f"{registered.status}: {registered.version} for {registered.platform},"
        f" backend {registered.backend}",
    )
    yield from _line(registered.logged, "registered")


def _aliases(told: Told) -> Iterator[Place]:
    promoted = told.get("promote", values.PromotedRelease)
    if promoted is None:
        return
    if promoted.pointer:
        text = f"names {promoted.version}"
        yield Place(what="pointer", where=promoted.pointer, digest="", text=text)
    for alias in promoted.aliases:
        yield Place(what="alias", where=alias, digest="", text=f"copied from {promoted.version}")
    yield from _line(promoted.logged, "promoted")
    yield from map(_document, promoted.documents)


def _github(told: Told) -> Iterator[Place]:
    released = told.get("github", values.GitHubRelease)
    if released is None:
        return
    how = "published" if released.outcome == "published" else "stood there already"
    more = ", immutable" if released.immutable else ""
    latest = ", latest" if released.latest else ""
    yield Place(
        what="GitHub release",
        where=released.page,
        digest="",
        text=f"{released.tag}: {how}{latest}{more}",
    )
    for asset in released.assets:
        yield Place(
            what="GitHub asset",
            where=asset.name,
            digest=asset.sha256,
            text=f"{size(asset.size)}, downloaded again, the same bytes",
        )


def _back(told: Told) -> Iterator[Place]:
    target = told.get("verify", values.RollbackTarget)
    if target:
        yield Place(
            what="verified again",
            where=target.url,
            digest=target.sha256,
            text=f"{size(target.size)} as users get it, {target.checks} checks passed",
        )
    withdrawn = told.get("tombstone", values.Withdrawn)
    for stone in withdrawn.tombstones if withdrawn else ():
        how = "written" if stone.outcome == "written" else "stood there already"
        yield Place(
            what="tombstone",
            where=stone.key,
            digest=stone.sha256,
            text=f"of {stone.version}: {how}",
        )
    pointed = told.get("point", values.RolledBack)
    for where in (pointed.pointer, *pointed.aliases) if pointed else ():
        what = "pointer" if pointed and where == pointed.pointer else "alias"
        text = f"back to {pointed.version}" if pointed else ""
        yield Place(what=what, where=where, digest="", text=text)
