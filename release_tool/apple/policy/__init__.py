"""What macOS and we ourselves demand of our app, beyond signatures that hold.

A room for each gate: `amfi` says what happens at exec. `read_back` holds what was read against
what was meant.
"""

from __future__ import annotations

from release_tool.apple.policy.amfi import Grants, launch
from release_tool.apple.policy.read_back import Meant, MeantCode, compare

__all__ = ["Grants", "Meant", "MeantCode", "compare", "launch"]
