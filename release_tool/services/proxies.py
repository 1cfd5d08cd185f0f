"""The proxies of the environment, for clients that do not take all of its settings themselves."""

from __future__ import annotations

import urllib.parse
import urllib.request

from release_tool.services import addresses


def before(address: str) -> dict[str, str]:
    """What stands before an address: by scheme, as requests reads `HTTPS_PROXY` and its like.

    botocore knows neither `ALL_PROXY` nor a port in `NO_PROXY`, so that one tool would reach the
    coordinator by way of the proxy and the store without.

    Args:
        address: a full address; none stands before this machine itself.
    """
    parts = urllib.parse.urlsplit(address)
    if addresses.is_loopback(address) or urllib.request.proxy_bypass(parts.netloc):
        return {}
    found = urllib.request.getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    return {parts.scheme: proxy} if proxy else {}
