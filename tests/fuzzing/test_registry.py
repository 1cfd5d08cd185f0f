"""No reader of hostile bytes is left out."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import release_tool.apple
import release_tool.files
import release_tool.provenance
import release_tool.services
from tests.fuzzing import readers

_ROOMS = (release_tool.apple, release_tool.files, release_tool.provenance, release_tool.services)
_VERBS = ("parse", "read", "load", "decode", "unwrap", "unpack", "lint")
_RAW = ("bytes", "memoryview")
_ARCHIVE = "archive: 'Path'"
"""What readers of archives take: a file that somebody else packed."""
UNDER: Mapping[str, str] = {
    "archive_reader.unpack": "archive",
    "canonical.decode": "release log",
    "der_dictionary.decode": "entitlements der, launch constraint dictionary",
    "entitlements.decode_der": "entitlements der",
    "identity_files.read": "signing identity",
    "inner_profile.read": "profile: it verifies, then hands to inner_profile.decode",
    "embedded.read": "profile",
    "json_document.read": "release pointer, tombstone",
    "listening.parse_names": "listeners of macOS",
    "listening.parse_rows": "listeners of Linux",
    "requirement_parser.parse": "requirement text",
    "requirement_parser.parse_set": "requirement set text",
    "stapled.read": "ticket",
    "system_tar.unpack": "none of ours: the system's own tar",
}
"""Readers that others call, by the name of the fuzzed one."""


def _readers() -> Iterator[str]:
    """Public functions of the formats, files and services that read bytes, by module and name."""
    for package in _ROOMS:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for name, member in vars(module).items():
                own = inspect.isfunction(member) and member.__module__ == found.name
                if own and name.split("_")[0] in _VERBS and _takes_bytes(name, member):
                    yield f"{found.name.rpartition('.')[2]}.{name}"


def _takes_bytes(name: str, member: object) -> bool:
    assert callable(member)
    parameters = list(inspect.signature(member).parameters.values())
    first = str(parameters[0].annotation) if parameters else ""
    of_text = name.startswith("parse") and first == "str"
    return any(raw in first for raw in _RAW) or of_text or [*map(str, parameters[:1])] == [_ARCHIVE]


def test_every_reader_gets_mutated_inputs() -> None:
    """Each public reader stands in the registry, or under one that does."""
    source = Path(readers.__file__).read_text()
    found = list(_readers())
    assert len(found) > 30
    missing = [name for name in found if f"{name}" not in source and name not in UNDER]
    assert missing == [], "give it to tests/fuzzing/readers.py, or name who calls it in UNDER"
    assert set(UNDER) <= set(found)
