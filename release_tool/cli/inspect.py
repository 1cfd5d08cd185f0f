"""`release-tool inspect`: everything that is in a signature, without a verdict."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from release_tool import errors
from release_tool.apple import certificates, disclosure, entitlements, superblob
from release_tool.apple.facts import BundleFacts, CodeFacts
from release_tool.apple.provisioning_profile import KIND_NAMES, Profile
from release_tool.apple.ticket import Ticket
from release_tool.cli import check_lines, signed_document, signed_subject
from release_tool.cli.session import Session, pass_session
from release_tool.cli.signed_subject import Judged, Question

_LABEL = 15
_WIDTH = 100
_DIGITS = 12
_INDENT = 2


@click.command("inspect")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def command(session: Session, path: Path, *, as_json: bool) -> int:
    """Show what is in the signature of a Mach-O, a bundle, a ticket, a profile or an archive.

    It judges nothing: `release-tool verify` does.

    \b
    For people:   release-tool inspect Darkbloom.app
    For programs: release-tool inspect Darkbloom.app --json
    """
    question = Question(trust=certificates.apple_trust(), ours=False)
    judged = signed_subject.judge(path, question)
    _require_readable(judged)
    if as_json:
        text = json.dumps(signed_document.document(judged), ensure_ascii=False, indent=2)
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
        if unpacked.tar_sha256:
            yield _row("tar stream", unpacked.tar_sha256[:_DIGITS])
        for member in unpacked.members:
            told = f"{member.path} {member.kind} {member.mode:04o}"
            yield _row("member", f"{told} {member.sha256[:_DIGITS]}".rstrip())
    if judged.app is not None:
        yield from _bundle(judged.app)
    for path, digest in judged.flat_copies.items():
        yield _row("flat copy", f"bin/{path} {digest[:_DIGITS]}")
    for item in judged.code:
        yield from _code(item)
    if judged.profile is not None:
        yield from _profile(judged.profile)
    if judged.ticket is not None:
        yield from _ticket(judged.ticket)


# An app


def _bundle(app: BundleFacts) -> Iterator[str]:
    name = f"{app.bundle_id or 'no identifier'} {app.version}".rstrip()
    yield _row("bundle", f"{name}, from macOS {app.minimum_macos or '?'}")
    yield _row("main executable", app.main_executable)
    yield _row("profile", "embedded" if app.profile is not None else "none")
    if app.ticket is None:
        yield _row("ticket", "none")
    else:
        yield from _ticket(app.ticket)
    yield _row("seal", f"{app.sealed} entries")
    yield from _tree(disclosure.tree(app), _INDENT)


def _tree(tree: Mapping[str, Any], indent: int) -> Iterator[str]:
    """Code first, then what is sealed by its digest, links, and what nothing protects."""
    pad = " " * (indent + 2)
    yield f"{' ' * indent}{_shown(tree['contents'] or '.')}"
    for node in tree["nested"]:
        digest = (node["cdhash"] or "")[:_DIGITS]
        told = f"{node['kind']} {node['identifier'] or 'unreadable'} {digest}".rstrip()
        yield f"{pad}{_shown(node['path'])}  {_shown(told)}"
        if "tree" in node:
            yield from _tree(node["tree"], indent + 4)
    for node in tree["files"]:
        digest = (node["sha256"] or node["sha1"] or "no digest")[:_DIGITS]
        yield f"{pad}{_shown(node['path'])}  {digest}{', optional' if node['optional'] else ''}"
    for node in tree["symlinks"]:
        yield f"{pad}{_shown(node['path'])}  link to {_shown(node['target'])}"
    for path in tree["omitted"]:
        yield f"{pad}{_shown(path)}  outside the seal"
    for node in tree["versions"]:
        yield f"{pad}{_shown(node['path'])}  another version"
        yield from _tree(node["tree"], indent + 4)


def _shown(text: str) -> str:
    return certificates.printable(text, 300)


# Code


def _code(item: CodeFacts) -> Iterator[str]:
    told = disclosure.of_slice(item)
    yield ""
    yield f"  {_shown(item.path)} ({item.arch})" if item.arch else f"  {_shown(item.path)}"
    yield _row("identifier", item.identifier)
    yield _row("team", item.team_id or "none")
    yield _row("cdhash", ", ".join(item.cdhashes))
    yield _row("code directory", f"{item.full_digest}, {told['hash_type']}, {told['version']}")
    yield _row("flags", ", ".join(item.flag_names) or "none")
    yield _row("pages", f"{told['code_slots']} of {item.page_size} bytes, {item.code_limit} in all")
    yield from _special(told)
    yield from _header(item, told)
    yield from _signer(item)
    yield _row("requirement", item.requirement_text)
    yield from _constraints(told)
    yield from _claims(item.entitlements)


def _special(told: Mapping[str, Any]) -> Iterator[str]:
    for slot in told["special_hashes"]:
        yield _row("sealed slot", f"{slot['slot']} {slot['name']} {slot['hash'][:_DIGITS]}")
    segment = told["exec_segment"]
    flags = ", ".join(segment["flag_names"]) or "no flags"
    yield _row("exec segment", f"{segment['limit']} bytes at {segment['base']}, {flags}")
    if told["platform"]:
        yield _row("platform", str(told["platform"]))
    blobs = ", ".join(
        f"{disclosure.slot_name(int(slot, 16))} {size}" for slot, _, size in told["slots"]
    )
    room = told["signature_bytes"]
    yield _row("blobs", f"{blobs}; {room['used']} of {room['reserved']} bytes used")


def _header(item: CodeFacts, told: Mapping[str, Any]) -> Iterator[str]:
    for platform in told["platforms"]:
        sdk = f", SDK {platform['sdk']}" if platform["sdk"] else ""
        yield _row("built for", f"{platform['name']} {platform['minos']}{sdk}")
    if told["runtime"]:
        yield _row("runtime", str(told["runtime"]))
    if told["uuid"]:
        yield _row("UUID", str(told["uuid"]))
    for library in item.linked_libraries:
        yield _row("library", library)
    for path in item.header.rpaths:
        yield _row("rpath", path)


def _signer(item: CodeFacts) -> Iterator[str]:
    kind = f", {item.signer_kind}" if item.certificates and item.signer_kind else ""
    nobody = f"nobody: {item.signer_kind}" if item.signer_kind else "nobody that can be told"
    yield _row("signed by", _chain(item.certificates) + kind if item.certificates else nobody)
    for certificate in item.certificates[:1]:
        period = f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
        digest = certificates.fingerprint(certificate)[:_DIGITS]
        yield _row("certificate", f"{digest}, {period}")
    if item.signing_time is not None:
        yield _row("claims time", f"{item.signing_time:%Y-%m-%d %H:%M:%S} UTC")
    if item.signed_at is not None:
        chain = _chain(item.timestamp_certificates)
        yield _row("timestamp", f"{item.signed_at:%Y-%m-%d %H:%M:%S} UTC by {chain}")
    elif item.signature.get(superblob.SLOT_CMS) and item.certificates:
        yield _row("timestamp", "none that holds")


def _chain(found: tuple[certificates.Certificate, ...]) -> str:
    return " < ".join(map(certificates.display_name, found))


def _constraints(told: Mapping[str, Any]) -> Iterator[str]:
    for constraint in told["launch_constraints"]:
        said = constraint.get("requirements", constraint.get("unreadable"))
        yield _row("constraint", f"{constraint['name']}: {json.dumps(said, ensure_ascii=False)}")


def _claims(claims: Mapping[str, object] | None) -> Iterator[str]:
    if claims is None:
        yield _row("entitlements", "none")
    for key, value in (claims or {}).items():
        yield _row("entitlement", f"{key}: {entitlements.describe(value)}")


# Tickets and profiles


def _ticket(ticket: Ticket) -> Iterator[str]:
    chain = tuple(map(certificates.load, ticket.chain))
    yield _row("ticket", f"issued {ticket.issued:%Y-%m-%d %H:%M:%S} UTC, flags {ticket.flags}")
    yield _row("ticket signer", _chain(chain))
    for entry in ticket.entries:
        yield _row("ticket entry", f"{entry.cdhash.hex()} (hash type {entry.hash_type})")


def _profile(profile: Profile) -> Iterator[str]:
    yield _row("name", profile.name)
    yield _row("UUID", profile.uuid)
    yield _row("kind", f"{KIND_NAMES[profile.kind]} for {', '.join(profile.platforms)}")
    yield _row("team", ", ".join(profile.team_ids))
    yield _row("prefix", ", ".join(profile.prefixes))
    if profile.created is not None:
        yield _row("made", f"{profile.created:%Y-%m-%d}")
    if profile.signed is not None:
        yield _row("signed", f"{profile.signed:%Y-%m-%d %H:%M:%S} UTC")
    if profile.expires is not None:
        yield _row("expires", f"{profile.expires:%Y-%m-%d}")
    for check in profile.authenticity:
        yield _row(check.name, check.observed)
    for certificate in profile.certificates:
        digest = certificates.fingerprint(certificate)[:_DIGITS]
        ends = f"until {certificate.not_after:%Y-%m-%d}"
        yield _row("certificate", f"{certificates.display_name(certificate)} {digest} {ends}")
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
