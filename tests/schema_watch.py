"""Every JSON document that a command prints in any test is held against its schema."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from release_tool.cli import main, schemas
from release_tool.cli.session import Session

_OPEN = frozenset(("verify", "inspect", "handoff", "release.yaml", "record"))
"""Their keys depend on the subject."""
_SEVERAL = {"rehearse": "run"}


@functools.lru_cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """A schema that also refuses keys which it does not name: what is printed is written down."""
    schema = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema if name in _OPEN else _closed(schema))


def _closed(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(one) for key, one in schema.items()}
    if found.get("type") == "object" and isinstance(found.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def name_of(argv: Sequence[str], document: object) -> str:
    """The schema of what a command line printed."""
    if isinstance(document, dict) and "error" in document:
        return "error"
    if argv[0] == "doctor" and "--rules" in argv:
        return "rules"
    if argv[0] in ("run", "rehearse") and "--dry-run" in argv:
        return "dry-run"
    return _SEVERAL.get(argv[0], argv[0])


def faults(argv: Sequence[str], printed: str) -> list[str]:
    """What of a printed document its schema does not allow."""
    try:
        document = json.loads(printed)
    except ValueError:
        # Not one document: the streams were one, or several commands wrote into it.
        return []
    name = name_of(argv, document)
    if name not in schemas.NAMES:
        return [f"there is no schema {name}: release_tool/cli/schemas.py"]
    return [
        f"{one.json_path}: {one.message[:300]}" for one in validator(name).iter_errors(document)
    ]


class Watch:
    """Stands behind `main.invoke` for the whole session."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def pytest_sessionstart(self) -> None:
        inner = main.invoke

        def watching(argv: list[str], session: Session) -> int:
            before = session.out.getvalue() if isinstance(session.out, io.StringIO) else ""
            code = inner(argv, session)
            if "--json" in argv and isinstance(session.out, io.StringIO):
                found = faults(argv, session.out.getvalue()[len(before) :])
                assert not found, f"{argv}: {found}"
            return code

        self._patch.setattr(main, "invoke", watching)

    def pytest_sessionfinish(self) -> None:
        self._patch.undo()
