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


def is_loopback(address: str) -> bool:
    """Whether the address names this machine."""
    host = urllib.parse.urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
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
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not an address"
    if parts.scheme not in ("http", "https") or not host:
        return "it is not absolute"
    if "@" in parts.netloc:
        return "it carries credentials"
    if parts.scheme == "http" and not is_loopback(text):
        return "it would travel in the clear"
    path = parts.path.rstrip("/")
    # urlsplit drops tabs and line ends silently, so the text as it stood is judged.
    clean = not path or ("//" not in path and posixpath.normpath(path) == path)
    if not clean or not _PLAIN.fullmatch(text):
        return "its path is not plain"
    return ""


def _without_userinfo(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", text)[:200]
