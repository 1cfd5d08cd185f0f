"""Texts of records inside tables of Markdown."""

from __future__ import annotations


def cell(text: str) -> str:
    """Text that cannot leave its table cell nor start markup."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())
