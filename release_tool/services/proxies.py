"""The proxies of the environment, found and judged in one place for every client.

The libraries differ about them: one takes a name that another refuses, one shows the password of
what it cannot use, and only one knows `ALL_PROXY` and a port in `NO_PROXY`.
"""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request

from release_tool import errors
from release_tool.services import addresses

_SCHEMES = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USER = re.compile(r"[\x21-\x7e]*")
_BEHIND = "something stands behind its host; in a password, escape it: %2F, %3F, %23"


def before(address: str) -> dict[str, str]:
    """What stands before an address, by its scheme; as `HTTPS_PROXY` and its like name it.

    Args:
        address: a full address; none stands before this machine itself.

    Raises:
        UsageError: what is named is no proxy of HTTP. It is shown nowhere, for it may hold a
            password.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        # Nobody is asked there: the client refuses the address itself.
        return {}
    if addresses.is_loopback(address) or urllib.request.proxy_bypass(parts.netloc):
        return {}
    found = urllib.request.getproxies()
    named = next((name for name in (parts.scheme, "all") if found.get(name)), "")
    return {parts.scheme: _judged(found[named], named)} if named else {}


def passwords() -> list[str]:
    """The passwords that proxies of the environment carry, as they are written and as meant."""
    found = set()
    for proxy in urllib.request.getproxies().values():
        user, at, _ = proxy.rpartition("@")
        password = user.partition("://")[2] or user
        password = password.partition(":")[2]
        if at and password:
            found |= {password, urllib.parse.unquote(password)}
    return sorted(found, key=len, reverse=True)


def _judged(proxy: str, named: str) -> str:
    """The proxy as both libraries read it."""
    whole = proxy if _SCHEME.match(proxy) else f"http://{proxy.removeprefix('//')}"
    if reason := _fault(whole):
        variable = _variable(named)
        raise errors.UsageError(
            f"the proxy that {variable} names cannot be used: {reason}",
            expected="http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before it or not",
            hint=f"correct {variable}, or spare the host with NO_PROXY; nothing was sent",
        )
    scheme, _, rest = whole.partition("://")
    return f"{scheme.lower()}://{rest}"


def _fault(proxy: str) -> str:
    """Why it cannot be used, without a word of it but its scheme; empty where it can."""
    scheme = proxy.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        return f"it speaks {scheme[:20]}, and only proxies of HTTP are spoken to"
    if "?" in proxy or "#" in proxy:
        return _BEHIND
    try:
        parts = urllib.parse.urlsplit(proxy)
        named, _ = parts.hostname, parts.port
    except ValueError:
        return "it is no address"
    user, _, authority = parts.netloc.rpartition("@")
    if not named:
        return "it names no host"
    if not addresses.host(f"http://{authority}") or not _USER.fullmatch(user) or "@" in user:
        return "its host is not plain"
    return "" if parts.path in ("", "/") else _BEHIND


def _variable(named: str) -> str:
    """The variable that won; a Mac keeps proxies in its settings, too."""
    for name in (f"{named}_proxy", f"{named}_proxy".upper()):
        if os.environ.get(name):
            return name
    return "the system"
