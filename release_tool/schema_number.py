"""The number that every JSON document of this tool carries as `schema`."""

SCHEMA = 1
"""Raised when a key goes or changes its meaning. Keys may be added without a new number, so a
reader ignores what it does not know."""


def head(name: str) -> dict[str, str]:
    """How the JSON Schema of this name begins: its dialect, its number, its title."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:release-tool:schema:{SCHEMA}:{name}",
        "title": name,
    }
