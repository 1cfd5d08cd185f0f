"""How the notary is asked: its REST interface with an API key, or Apple's notarytool on a Mac."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from release_tool import credentials


def supplied(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The settings of an API key that this host can do without."""
    return credentials.replaced_by_notarytool(environ, on_a_mac=sys.platform == "darwin")
