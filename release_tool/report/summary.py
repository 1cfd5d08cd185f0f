"""One line for each value: what a maintainer wants to read about a finished stage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from release_tool import values

_DAYS_PER_YEAR = 365.25


def summary(value: values.Value) -> str:
    """The stage's result in one clause."""
    speak: Callable[[Any], str] | None = _SPEAKERS.get(type(value))
    return speak(value) if speak else ""


def size(count: int) -> str:
    """Bytes in decimal megabytes, as downloads are quoted."""
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def time_left(days: int) -> str:
    """Days as people count them: `17 y 11 mo left`, `41 days left`."""
    if days < 0:
        return f"expired {-days} days ago"
    if days < 2 * _DAYS_PER_YEAR:
        return f"{days} days left"
    years, rest = divmod(days, _DAYS_PER_YEAR)
    return f"{int(years)} y {int(rest / 30.5)} mo left"


def counted(count: int, what: str, many: str = "") -> str:
    """A number of things: `1 alias`, `2 aliases`."""
    if count == 1:
        return f"1 {what}"
    if many:
        return f"{count} {many}"
    return f"{count} {what}{'es' if what.endswith(('s', 'sh')) else 's'}"


def _profile(value: values.VerifiedProfile) -> str:
    return f'"{value.name}", team {value.team_id}, {time_left(value.days_left)}'


def _assembled(value: values.AssembledBundle) -> str:
    total = sum(file.size for file in value.files)
    systems = sorted({binary.minos for binary in value.binaries})
    said = f"{value.app}, {len(value.files)} files, {size(total)}, minos {', '.join(systems)}"
    return f"{said}, tests {value.test_outcome}" if value.test_outcome != "passed" else said


def _signed(value: values.SignedBundle) -> str:
    # The app itself, or the main executable of flat files, which is read first.
    if not value.code:
        return "no code object"
    main = next((code for code in value.code if code.path == value.app), value.code[0])
    stamped = "timestamped" if all(code.signed_at for code in value.code) else "no timestamp"
    told = f"{len(value.code)} code objects, cdhash {main.cdhash[:12]}, {stamped}"
    return f"{told}, sealed {value.sealed_files} files" if value.sealed_files else told


def _notarized(value: values.Notarization) -> str:
    count = len(value.cdhashes)
    short = value.submission_id[:8]
    said = f"Accepted {short}, our sha256 and {count} of {count} cdhashes in Apple's log"
    warned = len(value.issues)
    return f"{said}, {warned} warning{'s' if warned > 1 else ''}" if warned else said


def _stapled(value: values.StapledBundle) -> str:
    covered = "covers every slice, verified offline"
    return f"ticket of {value.ticket_issued[:19].replace('T', ' ')} {covered}"


def _archive(value: values.ReleaseArchive) -> str:
    return f"{value.path}, {size(value.size)}, sha256 {value.sha256[:12]}"


def _smoke(value: values.SmokeEvidence) -> str:
    agree = sum(prompt.agrees for prompt in value.prompts)
    first = max((prompt.first_token_seconds for prompt in value.prompts), default=0.0)
    ran = "stand-in" if value.kind == "stand-in" else "the bundle's executable"
    return (
        f"{ran} on {value.host.system}-{value.host.machine}: {agree} of {len(value.prompts)} "
        f"prompts agree with mlx-lm, first token {first * 1000:.0f} ms"
    )


def _published(value: values.PublishedRelease) -> str:
    how = "created" if value.created else "already there"
    return f"{value.key}: {how}, read back, same bytes"


def _registered(value: values.RegisteredRelease) -> str:
    told = f"{value.status}, {value.version} for {value.platform}"
    unseen = any(check.name == values.FLEET_WATCH for check in value.checks)
    return f"{told}; nobody watched the fleet" if unseen else told


def _promoted(value: values.PromotedRelease) -> str:
    if value.outcome == "superseded":
        return f"superseded: latest serves {value.latest_version}, aliases untouched"
    return f"latest serves {value.latest_version}, {counted(len(value.aliases), 'alias')} copied"


def _github(value: values.GitHubRelease) -> str:
    how = "published" if value.outcome == "published" else "already there"
    return f"{value.tag}: {how}, {counted(len(value.assets), 'asset')} downloaded again, same bytes"


def _target(value: values.RollbackTarget) -> str:
    return f"{value.version} as users get it, {size(value.size)}, {value.checks} checks passed"


def _withdrawn(value: values.Withdrawn) -> str:
    found = [f"{one.version} {one.outcome}" for one in value.tombstones]
    return ", ".join(found) or "none wanted"


def _deactivated(value: values.Deactivated) -> str:
    found = [f"{one.version} {one.outcome}" for one in value.releases]
    return ", ".join(found) or "nothing"


def _rolled_back(value: values.RolledBack) -> str:
    aliases = counted(len(value.aliases), "alias")
    return f"latest serves {value.version}, the pointer and {aliases} hold it"


def _on_github(value: values.WithdrawnOnGitHub) -> str:
    found = [
        f"{one.version} {'has no release there' if one.outcome == 'none' else one.outcome}"
        for one in value.releases
    ]
    head = f"{value.head} is there; " if value.head and any(map(_has_head, value.releases)) else ""
    return f"{head}{', '.join(found)}"


def _has_head(mark: values.GitHubMark) -> bool:
    return mark.head != "none"


_SPEAKERS: dict[type[values.Value], Callable[[Any], str]] = {
    values.VerifiedProfile: _profile,
    values.AssembledBundle: _assembled,
    values.SignedBundle: _signed,
    values.Notarization: _notarized,
    values.StapledBundle: _stapled,
    values.ReleaseArchive: _archive,
    values.SmokeEvidence: _smoke,
    values.PublishedRelease: _published,
    values.RegisteredRelease: _registered,
    values.PromotedRelease: _promoted,
    values.GitHubRelease: _github,
    values.RollbackTarget: _target,
    values.Withdrawn: _withdrawn,
    values.Deactivated: _deactivated,
    values.RolledBack: _rolled_back,
    values.WithdrawnOnGitHub: _on_github,
}


def ago(stamp: str, now: datetime | None = None) -> str:
    """How long before now an ISO 8601 time was: `2 h 10 min ago`."""
    seconds = int(((now or datetime.now(UTC)) - datetime.fromisoformat(stamp)).total_seconds())
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 1:
        return f"{max(seconds, 0)} s ago"
    if hours < 1:
        return f"{minutes} min ago"
    if hours < 48:
        return f"{hours} h {minutes % 60} min ago"
    return f"{hours // 24} days ago"
