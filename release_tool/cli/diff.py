"""`release-tool diff`: what differs between two releases, or what signing changed."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from release_tool import errors
from release_tool.apple import certificates, checks, difference, portrait, signing_changes
from release_tool.apple.checks import Check
from release_tool.apple.difference import Difference
from release_tool.apple.portrait import Portrait
from release_tool.apple.verification import Judge
from release_tool.cli import check_lines, signed_subject
from release_tool.cli.opened import CODE, Opened, opened
from release_tool.cli.session import Session, pass_session
from release_tool.schema_number import SCHEMA

_WIDTH = 100
_LABEL = 15
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_OF_FILES = ("file", "mode", "link")
_SHORT = 60
"""Values up to this length stand side by side, longer ones below each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Both sides, and what differs."""

    sides: tuple[Opened, Opened]
    portraits: tuple[Portrait, Portrait]
    differences: tuple[Difference, ...]

    @property
    def locks_out(self) -> bool:
        return any(item.locks_out for item in self.differences)


@click.command("diff")
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--ignore-signature",
    is_flag=True,
    help="Prove instead that BEFORE, unsigned, and AFTER, signed, are the same outside signatures.",
)
@click.option("--exit-code", is_flag=True, help="Exit 6 on any difference.")
@click.option(
    "--trust",
    multiple=True,
    metavar="CA",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this root instead of Apple's; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def command(
    session: Session,
    before: Path,
    after: Path,
    trust: tuple[Path, ...],
    *,
    ignore_signature: bool,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Compare two releases: archives, unpacked releases, apps or Mach-O files.

    Requirements, entitlements, flags, minimum macOS, SDK, linked libraries, certificates, plists,
    profile, ticket, files. Exits 0 whatever it lists, but 6 when the new release would lock users
    out of what the old one stored: a designated requirement that the new code does not meet, or
    an access group that is gone. It does not verify: `release-tool verify` does.

    With --ignore-signature it exits 0 when signing is all that lies between the two, and 6 with
    the first other difference.

    \b
    Two releases:     release-tool diff old.tar.gz new.tar.gz
    Build to release: release-tool diff --ignore-signature build/Darkbloom.app bundle.tar.gz
    """
    with ExitStack() as stack:
        sides = stack.enter_context(opened(before)), stack.enter_context(opened(after))
        if sides[0].is_release != sides[1].is_release:
            one, other = (side.only_app() if side.is_release else side for side in sides)
            sides = one, other
        _require_alike(sides)
        if ignore_signature:
            return _outside_signatures(session, sides, as_json=as_json)
        return _differences(
            session, sides, signed_subject.trusting(trust), exit_code=exit_code, as_json=as_json
        )


def _require_alike(sides: tuple[Opened, Opened]) -> None:
    code = [side.kind == "Mach-O" for side in sides]
    if code[0] != code[1]:
        raise errors.UsageError(
            "a Mach-O file is compared with another one",
            observed=f"{sides[0].kind} and {sides[1].kind}",
        )


# What signing changed


def _outside_signatures(session: Session, sides: tuple[Opened, Opened], *, as_json: bool) -> int:
    before, after = sides
    if before.kind == "Mach-O":
        views = before.tree.view(CODE), after.tree.view(CODE)
        found: Sequence[Check] = [signing_changes.compare_code(*views, subject=after.name)]
    else:
        found = signing_changes.compare(before.tree, after.tree)
    same = checks.all_hold(found)
    if as_json:
        document = {
            "schema": SCHEMA,
            "same_outside_signatures": same,
            "before": _side(before),
            "after": _side(after),
            "checks": [check.as_json() for check in found],
        }
        print(json.dumps(document, ensure_ascii=False, indent=2), file=session.out)
    else:
        print("\n".join(_proof_lines(before, after, found)), file=session.out)
    return 0 if same else _refuse(session, f"{after.name}: not what was built", found)


def _proof_lines(before: Opened, after: Opened, found: Sequence[Check]) -> Iterator[str]:
    same = checks.all_hold(found)
    verdict = "only signing lies between" if same else "not only signing lies between"
    yield check_lines.headline(f"{before.name} → {after.name}: {verdict}", after.kind)
    yield from check_lines.lines([check for check in found if check.name != "file" or not same])
    files = sum(check.name == "file" and check.outcome == "passed" for check in found)
    if same and files:
        yield f"  {'passed':<13}{files} other files  the same"
    if not same:
        yield f"exit {errors.VerificationError.exit_code}"


def _refuse(session: Session, verdict: str, found: Sequence[Check]) -> int:
    if session.in_github_actions:
        print(check_lines.annotation(verdict, found), file=session.err)
    return errors.VerificationError.exit_code


# What differs


def _differences(
    session: Session,
    sides: tuple[Opened, Opened],
    trust: certificates.Trust,
    *,
    exit_code: bool,
    as_json: bool,
) -> int:
    judge = Judge(trust=trust, now=datetime.now(UTC), strict=False)
    before, after = (portrait.draw(side.tree, judge=judge) for side in sides)
    compared = _Compared(
        sides=sides,
        portraits=(before, after),
        differences=tuple(_named(difference.compare(before, after), sides[1])),
    )
    refused = compared.locks_out or (exit_code and bool(compared.differences))
    code = errors.VerificationError.exit_code if refused else 0
    text = _document(compared) if as_json else "\n".join(_lines(compared, code))
    print(text, file=session.out)
    return code


def _named(found: Sequence[Difference], after: Opened) -> Iterator[Difference]:
    """A lone file is called as it is called on the command line."""
    for item in found:
        lone = after.kind == "Mach-O"
        yield item._replace(subject=item.subject.replace(CODE, after.name, 1)) if lone else item


def _document(compared: _Compared) -> str:
    before, after = (
        {**_side(side), "size": drawn.size}
        for side, drawn in zip(compared.sides, compared.portraits, strict=True)
    )
    document = {
        "schema": SCHEMA,
        "same": not compared.differences,
        "locks_out": compared.locks_out,
        "before": before,
        "after": after,
        "differences": [item.as_json() for item in compared.differences],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _side(side: Opened) -> dict[str, object]:
    return {"name": side.name, "kind": side.kind}


def _lines(compared: _Compared, code: int) -> Iterator[str]:
    before, after = compared.sides
    sizes = [_megabytes(drawn.size) for drawn in compared.portraits]
    sized = sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]} → {sizes[1]}"
    verdict = _verdict(compared)
    yield check_lines.headline(f"{before.name} → {after.name}: {verdict}", f"{after.kind}, {sized}")
    for item in compared.differences:
        if item.locks_out:
            yield from _locked_out(item)
    yield from _others([item for item in compared.differences if not item.locks_out])
    if code:
        yield f"exit {code}"


def _verdict(compared: _Compared) -> str:
    count = len(compared.differences)
    if compared.locks_out:
        return f"LOCKS USERS OUT, {count} differences"
    return {0: "the same", 1: "1 difference"}.get(count, f"{count} differences")


def _locked_out(item: Difference) -> Iterator[str]:
    name = f" {item.name}" if item.name else ""
    yield from _wrapped("LOCKS OUT", f"{item.kind}{name} of {item.subject}")
    yield from _wrapped("", f"before  {_printable(item.before) or 'none'}")
    yield from _wrapped("", f"after   {_printable(item.after) or 'none'}")
    yield from _wrapped("", item.locks_out)


def _others(items: Sequence[Difference]) -> Iterator[str]:
    """Under the name of each object what differs in it; files have a line each."""
    for subject in dict.fromkeys(item.subject for item in items):
        own = [item for item in items if item.subject == subject]
        if all(item.kind in _OF_FILES for item in own):
            for item in own:
                yield from _difference(item.kind, item, f"{subject}  ")
            continue
        yield f"  {certificates.printable(subject, 4000)}"
        for item in own:
            name = f"{_printable(item.name)}  " if item.name else ""
            yield from _difference(f"  {item.kind}", item, name)


def _difference(label: str, item: Difference, about: str) -> Iterator[str]:
    before, after = _printable(item.before), _printable(item.after)
    if len(before) + len(after) <= _SHORT or not (before and after):
        yield from _wrapped(label, f"{about}{_change(before, after)}")
        return
    yield from _wrapped(label, f"{about}before  {before}")
    yield from _wrapped("", f"{' ' * len(about)}after   {after}")


def _change(before: str, after: str) -> str:
    if not before:
        return "added" if after == "yes" else f"added: {after}"
    if not after:
        return "removed" if before == "yes" else f"removed, was {before}"
    return f"{before} → {after}"


def _printable(text: str) -> str:
    return certificates.printable(_DIGEST.sub(r"\1", text), 2000)


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        certificates.printable(text, 4000),
        width=_WIDTH,
        initial_indent=f"  {label:<{_LABEL - 1}} ",
        subsequent_indent=" " * (_LABEL + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 100_000 else f"{count / 1000:.1f} kB"
