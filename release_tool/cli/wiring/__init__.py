"""Wires stages to services: which secret and which tool each gets, and in which order they run.

`services` makes them by their settings, `work` calls each stage with its own, `externals` tells
what each reads from outside of the ledger, and `chain` puts them in order.
"""

from release_tool.cli.stage_names import STAGES
from release_tool.cli.wiring.chain import steps
from release_tool.cli.wiring.inputs import Inputs
from release_tool.cli.wiring.services import Services

__all__ = ["STAGES", "Inputs", "Services", "steps"]
