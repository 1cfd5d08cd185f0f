"""The workflow commands of GitHub Actions that we print."""

from __future__ import annotations


def error(text: str) -> str:
    """One `::error` command whose text cannot end it or begin another."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title=release-tool::{escaped}"
