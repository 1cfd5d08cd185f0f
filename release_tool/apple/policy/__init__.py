"""What macOS and we ourselves demand of our app, beyond signatures that hold.

A room for each gate: `amfi` and `library_validation` for what happens at exec, `notary` for what
Apple's service would answer, `distribution` for Gatekeeper, unpackers and old systems, `linter`
for entitlements files, `expiry` for what ends. `verdict` asks all that concern a whole app,
`read_back` holds what was signed against what was meant. `rules` states every rule with its
source and what proves it; `inventory` is what they look at.
"""

from __future__ import annotations

from release_tool.apple.policy.amfi import Grants, NestedBundle, launch
from release_tool.apple.policy.read_back import Meant, MeantCode, compare

__all__ = ["Grants", "Meant", "MeantCode", "NestedBundle", "compare", "launch"]
