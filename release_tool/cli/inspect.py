"""`release-tool inspect`: everything that is in a signature, without a verdict."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from release_tool import errors
from release_tool.apple import certificates, entitlements
from release_tool.apple.facts import CodeFacts
from release_tool.apple.provisioning_profile import KIND_NAMES, Profile
from release_tool.cli import check_lines, signed_subject
from release_tool.cli.session import Session, pass_session
from release_tool.cli.signed_subject import Judged, Question

_LABEL = 15
_WIDTH = 100
_DIGITS = 12


@click.command("inspect")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def command(session: Session, path: Path, *, as_json: bool) -> int:
    """Show what is in the signature of a Mach-O, an app, a profile or a release archive.

    It judges nothing: `release-tool verify` does.

    \b
    For people:   release-tool inspect Darkbloom.app
    For programs: release-tool inspect Darkbloom.app --json
    """
    question = Question(trust=certificates.apple_trust(), ours=False)
    judged = signed_subject.judge(path, question)
    _require_readable(judged)
    if as_json:
        text = json.dumps(signed_subject.document(judged), ensure_ascii=False, indent=2)
    else:
        text = "\n".join(_lines(judged))
    print(text, file=session.out)
    return 0


def _require_readable(judged: Judged) -> None:
    """Refuse what held nothing to show; a signature that merely does not hold is shown."""
    if judged.code or judged.profile is not None or judged.ticket is not None:
        return
    reason = next((check for check in judged.checks if check.outcome == "failed"), None)
    raise errors.FormatError(
        "holds no signature that can be read",
        subject=judged.name,
        expected=reason.expected if reason else "",
        observed=reason.observed if reason else "",
    )


def _lines(judged: Judged) -> Iterator[str]:
    yield check_lines.headline(judged.name, signed_subject.KIND_NAMES[judged.kind])
    if judged.unpacked is not None:
        unpacked = judged.unpacked
        yield _row("archive", f"{unpacked.sha256[:_DIGITS]}, {unpacked.size} bytes")
        yield _row("tar stream", unpacked.tar_sha256[:_DIGITS])
        yield _row("members", str(len(unpacked.members)))
    if judged.app is not None:
        app = judged.app
        yield _row("app", f"{app.bundle_id} {app.version}, from macOS {app.minimum_macos or '?'}")
        yield _row("seal", f"{app.sealed} entries")
        yield _row("ticket", "stapled" if app.ticket is not None else "none")
        yield _row("profile", "embedded" if app.profile is not None else "none")
    for path, digest in judged.flat_copies.items():
        yield _row("flat copy", f"bin/{path} {digest[:_DIGITS]}")
    for item in judged.code:
        yield from _code(item)
    if judged.profile is not None:
        yield from _profile(judged.profile)


def _code(item: CodeFacts) -> Iterator[str]:
    yield ""
    yield f"  {item.path} ({item.arch})"
    yield _row("identifier", item.identifier)
    yield _row("team", item.team_id or "none")
    yield _row("cdhash", item.cdhash)
    yield _row("code directory", f"{item.full_digest}, version {item.version:#x}")
    yield _row("flags", ", ".join(item.flag_names) or "none")
    yield _row("pages", f"{item.code_limit} bytes in pages of {item.page_size}")
    yield _row("sealed slots", ", ".join(map(str, item.sealed_slots)) or "none")
    yield _row("minimum macOS", f"{item.minos or 'none'}, SDK {item.sdk or 'none'}")
    yield from _signer(item)
    yield _row("requirement", item.requirement_text)
    yield from _claims(item.entitlements)


def _signer(item: CodeFacts) -> Iterator[str]:
    names = " < ".join(map(certificates.display_name, item.certificates))
    yield _row("signed by", names or "nobody: ad-hoc")
    if item.signing_time is not None:
        yield _row("claims time", f"{item.signing_time:%Y-%m-%d %H:%M:%S} UTC")
    if item.signed_at is not None:
        yield _row("timestamp", f"{item.signed_at:%Y-%m-%d %H:%M:%S} UTC")


def _claims(claims: Mapping[str, object] | None) -> Iterator[str]:
    if claims is None:
        yield _row("entitlements", "none")
    for key, value in (claims or {}).items():
        yield _row("entitlement", f"{key}: {entitlements.describe(value)}")


def _profile(profile: Profile) -> Iterator[str]:
    yield _row("name", profile.name)
    yield _row("UUID", profile.uuid)
    yield _row("kind", f"{KIND_NAMES[profile.kind]} for {', '.join(profile.platforms)}")
    yield _row("team", ", ".join(profile.team_ids))
    if profile.created is not None:
        yield _row("made", f"{profile.created:%Y-%m-%d}")
    if profile.expires is not None:
        yield _row("expires", f"{profile.expires:%Y-%m-%d}")
    for certificate in profile.certificates:
        digest = certificates.fingerprint(certificate)[:_DIGITS]
        yield _row("certificate", f"{certificates.display_name(certificate)} {digest}")
    for key, value in profile.entitlements.items():
        yield _row("grants", f"{key}: {entitlements.describe(value)}")


def _row(label: str, text: str) -> str:
    return "\n".join(
        textwrap.wrap(
            certificates.printable(text, 2000) or "none",
            width=_WIDTH,
            initial_indent=f"    {label:<{_LABEL}} ",
            subsequent_indent=" " * (_LABEL + 5),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
