"""Base addresses of services, and addresses below them.

The coordinator's own rule (section 1.1 of its contract): absolute, https, or http on a loopback
host only; no credentials, query or fragment; a path prefix is allowed. We hold every endpoint to
it, so a secret never travels in the clear.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import urllib.parse

from release_tool import errors

# Longer addresses come from a mistake, not from a configuration.
_ADDRESS_CHARACTERS = 2048
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/\[\]-]*")
# A name or an address in four numbers, or one of IPv6 in brackets, and a port. Readers of
# addresses differ about everything else: one finds `::1` in `evil.example[::1]`.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")


def base(text: str, *, name: str) -> str:
    """Check a base address; returns it without a trailing slash.

    Args:
        text: the address as configured.
        name: the setting's name, for the error.

    Raises:
        UsageError: it is not an address that a release may use.
    """
    reason = _fault(text)
    if reason:
        raise errors.UsageError(
            f"{name} is not an address that can be used: {reason}",
            expected="https://HOST[/PREFIX], or http:// on a loopback host",
            observed=_without_userinfo(text),
            hint=f"correct {name}",
        )
    return text.rstrip("/")


def join(base_address: str, key: str) -> str:
    """The address of `key` below a base.

    `+` stays as it is: the coordinator compares the escaped path, and Go writes `+` plainly.
    """
    quoted = urllib.parse.quote(key, safe="/+")
    return f"{base_address.rstrip('/')}/{quoted}"


def same(one: str, other: str) -> bool:
    """Whether two addresses are equal by the coordinator's rule.

    Scheme and host without regard to case, the cleaned escaped path exactly; neither may carry
    credentials, a query or a fragment.
    """
    if _fault(one) or _fault(other):
        return False
    left, right = urllib.parse.urlsplit(one), urllib.parse.urlsplit(other)
    return (
        left.scheme.lower() == right.scheme.lower()
        and left.netloc.lower() == right.netloc.lower()
        and posixpath.normpath(left.path or "/") == posixpath.normpath(right.path or "/")
    )


def host(address: str) -> str:
    """The host that every reader of addresses finds in this one; empty where they may differ."""
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return ""
    # urlsplit drops tabs and line ends silently.
    as_it_stands = address.partition("://")[2].startswith(parts.netloc)
    whole = as_it_stands and _AUTHORITY.fullmatch(parts.netloc) is not None
    return (parts.hostname or "") if whole else ""


def is_loopback(address: str) -> bool:
    """Whether the address names this machine."""
    return _names_this_machine(host(address))


def is_confidential(address: str) -> bool:
    """Whether what is sent there can be read by nobody on the way: https, or this machine."""
    scheme, named = address.partition("://")[0].lower(), host(address)
    return bool(named) and (scheme == "https" or (scheme == "http" and _names_this_machine(named)))


def _names_this_machine(named: str) -> bool:
    if named == "localhost":
        return True
    try:
        return ipaddress.ip_address(named).is_loopback
    except ValueError:
        return False


def _fault(text: str) -> str:
    """Why the address cannot be used; empty when it can."""
    if len(text) > _ADDRESS_CHARACTERS:
        return "it is too long"
    if "?" in text or "#" in text:
        return "it has a query or a fragment"
    try:
        parts = urllib.parse.urlsplit(text)
        named, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not an address"
    if parts.scheme not in ("http", "https") or not named:
        return "it is not absolute"
    if "@" in parts.netloc:
        return "it carries credentials"
    if not host(text):
        return "its host is not plain"
    if not is_confidential(text):
        return "it would travel in the clear"
    path = parts.path.rstrip("/")
    # urlsplit drops tabs and line ends silently, so the text as it stood is judged.
    clean = not path or ("//" not in path and posixpath.normpath(path) == path)
    if not clean or not _PLAIN.fullmatch(text):
        return "its path is not plain"
    return ""


def _without_userinfo(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", text)[:200]
