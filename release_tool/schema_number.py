"""The number that every JSON document of this tool carries as `schema`."""

SCHEMA = 1
"""Raised when a key goes or changes its meaning. Keys may be added without a new number, so a
reader ignores what it does not know."""
