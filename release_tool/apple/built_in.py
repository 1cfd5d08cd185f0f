"""Which addresses are built into an executable, and whether they are those of its environment.

A constant is told from prose: what a program connects to by default stands in the file as a whole
C string, `http://localhost:8080`, while help and messages hold such a text among other words.
Strings of fifteen bytes or fewer a Swift compiler may write into the code itself; an address with
its scheme and host is longer. Of two constants nobody can tell from outside which is the default.

Source: a release once shipped with `localhost:8080` as its coordinator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from release_tool import errors
from release_tool.apple import checks, macho
from release_tool.apple.checks import Check

# Real addresses have some dozen bytes.
_MAX_ADDRESS = 512
# Of one executable; the largest that was looked at has 214.
_MAX_ADDRESSES = 10_000
_SHOWN = 3
_CONSTANT = re.compile(
    rb"(?:\A|(?<=\0))[a-z][a-z0-9+.-]{1,15}://[\x21-\x7e]{1,%d}(?=\0)" % _MAX_ADDRESS
)
_CODE = "__text"


def addresses(code: bytes | memoryview) -> tuple[str, ...]:
    """The constants of an executable that are whole addresses, sorted, each once.

    Raises:
        FormatError: no Mach-O, or one with more of them than any program has.
    """
    found: set[str] = set()
    for part in macho.parse(code):
        for segment in part.segments:
            for section in segment.sections:
                if section.zero_fill or section.name == _CODE:
                    continue
                data = part.data[section.offset : section.offset + section.size]
                found.update(match[0].decode("ascii") for match in _CONSTANT.finditer(data))
    if len(found) > _MAX_ADDRESSES:
        raise errors.FormatError(
            "too many addresses",
            expected=f"at most {_MAX_ADDRESSES} built into a program",
            observed=f"{len(found)}",
        )
    return tuple(sorted(found))


def judge(
    code: bytes | memoryview,
    *,
    wanted: Sequence[str],
    unwanted: Sequence[str],
    environment: str,
    subject: str,
) -> list[Check]:
    """Whether an executable was built for its environment.

    Args:
        code: the executable's file.
        wanted: texts that it must hold, such as the coordinator's host.
        unwanted: texts that no address among its constants may hold: `localhost:8080`, the hosts
            of other environments.
        environment: its name, for the next step.
        subject: how checks name the executable.
    """
    try:
        held = addresses(code)
    except errors.FormatError as problem:
        observed = f"{problem.message} {problem.observed}".strip()
        return [checks.failed("built in", expected="a program", observed=observed, subject=subject)]
    hint = f"build it for {environment}"
    return [
        *(_wanted(code, text, held, subject, hint) for text in wanted),
        *(_unwanted(text, held, subject, hint) for text in unwanted),
    ]


def _wanted(
    code: bytes | memoryview, text: str, held: Sequence[str], subject: str, hint: str
) -> Check:
    there = ", ".join([address for address in held if text in address][:_SHOWN])
    if not there and re.search(re.escape(text.encode()), code):
        there = f"{text}, in no address of its own"
    if there:
        return checks.passed("built in", there, subject=subject, expected=text)
    return checks.failed(
        "built in", expected=text, observed="nowhere in it", subject=subject, hint=hint
    )


def _unwanted(text: str, held: Sequence[str], subject: str, hint: str) -> Check:
    expected = f"no address with {text}"
    there = [address for address in held if text in address]
    if not there:
        return checks.passed(
            "not built in", f"none of {len(held)}", subject=subject, expected=expected
        )
    return checks.failed(
        "not built in",
        expected=expected,
        observed=", ".join(there[:_SHOWN]),
        subject=subject,
        hint=f"{hint}; if it means to hold it, take it out of not_built_in in release.yaml",
    )
