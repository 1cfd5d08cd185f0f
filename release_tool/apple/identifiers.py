"""The signing identifier that Apple's codesign gives to code for which nobody names one.

Rules and source: Apple's published signer and its disk representations. A bundle has its
`CFBundleIdentifier`, a tool that of its `__info_plist` section, everything else a name out of its
path; ad-hoc code whose name has no dot gets what makes it unique appended.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from release_tool import errors
from release_tool.apple import macho, property_list

# What codesign hashes of the header: `mach_header`, also where the code is 64-bit.
_HASHED_HEADER = 28
_EXTENSION = re.compile(r"\.[^0-9.][^.]*\Z")
_FIRST_NUMBER = re.compile(r"\.?[0-9]*")
_UUID_PREFIX = b"UUID"


def canonical(path: str) -> str:
    """A name out of a path: no folders, no extension, no version behind the first number.

    `libfrotz7.3.5.dylib` becomes `libfrotz7`, `mumble.77.plugin` `mumble.77`, `rumble.rb`
    `rumble`; what begins with a digit or a dot keeps its numbers.
    """
    name = _EXTENSION.sub("", path.rpartition("/")[2])
    if not name or name[0] in "0123456789.":
        return name
    number = _FIRST_NUMBER.match(name, len(name.rstrip("0123456789.")))
    return name if number is None else name[: number.end()]


def of_tool(path: str, slices: Sequence[macho.Slice], *, adhoc: bool) -> str:
    """The identifier of code that belongs to no bundle, or is not its main executable.

    Raises:
        FormatError: its `__info_plist` section is no property list, or its identifier no text.
    """
    host = host_slice(slices)
    named = None
    if host.info_plist is not None:
        named = _text(property_list.parse_any(host.info_plist), "CFBundleIdentifier")
    return _unique(named or canonical(path), host, adhoc=adhoc)


def of_bundle(
    path: str, info: Mapping[str, object], slices: Sequence[macho.Slice], *, adhoc: bool
) -> str:
    """The identifier of a bundle, as its `Info.plist` says it or its folder is called.

    Raises:
        FormatError: the identifier of the property list is no text.
    """
    named = _text(info, "CFBundleIdentifier") or _text(info, "CFBundleName")
    return _unique(named or canonical(path), host_slice(slices), adhoc=adhoc)


def host_slice(slices: Sequence[macho.Slice]) -> macho.Slice:
    """The slice that codesign asks on today's Macs: arm64 where there is one."""
    return next((code for code in slices if code.arch.startswith("arm64")), slices[0])


def _text(values: Mapping[str, object], key: str) -> str | None:
    found = values.get(key)
    if found is not None and not isinstance(found, str):
        raise errors.FormatError("is no text", subject=key, observed=type(found).__name__)
    return found


def _unique(name: str, code: macho.Slice, *, adhoc: bool) -> str:
    if "." in name or not adhoc:
        return name
    return f"{name}-{_identification(code).hex()}"


def _identification(code: macho.Slice) -> bytes:
    """The linker's UUID, else a digest of the load commands."""
    if code.uuid is not None:
        return _UUID_PREFIX + code.uuid
    digest = hashlib.sha1(code.data[:_HASHED_HEADER])
    digest.update(code.data[code.header_size : code.commands_end])
    return digest.digest()
