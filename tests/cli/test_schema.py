"""The schemas: whole, of what is really printed, and noticed when that changes."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest

from release_tool.cli import main, schemas
from release_tool.cli.session import Session
from release_tool.schema_number import SCHEMA
from tests import schema_watch


def printed(*argv: str) -> str:
    out = io.StringIO()
    main.invoke(list(argv), Session({}, out=out, err=io.StringIO()))
    return out.getvalue()


@pytest.mark.parametrize("name", schemas.NAMES)
def test_each_schema_is_one_and_needs_no_other(name: str) -> None:
    """Printed as it is: valid by the dialect that it names, each reference inside of it."""
    found = json.loads(printed("schema", name))
    jsonschema.Draft202012Validator.check_schema(found)
    references = set(_references(found))
    assert references <= {f"#/$defs/{one}" for one in found.get("$defs", {})}
    assert found["title"] == name
    assert found["$id"] == f"urn:release-tool:schema:{SCHEMA}:{name}"


def _references(found: object) -> list[str]:
    if isinstance(found, list):
        return [ref for one in found for ref in _references(one)]
    if not isinstance(found, dict):
        return []
    own = [found["$ref"]] if isinstance(found.get("$ref"), str) else []
    return own + [ref for one in found.values() for ref in _references(one)]


def test_the_list_names_every_schema() -> None:
    """With what it is of."""
    assert [line.split()[0] for line in printed("schema").splitlines()] == list(schemas.NAMES)


@pytest.mark.parametrize(
    "argv",
    [
        ("plan", "--env", "dev", "--version", "0.5.0", "--json"),
        ("plan", "--env", "nowhere", "--json"),
        ("doctor", "--json"),
        ("doctor", "--rules", "--json"),
        ("verify", "/nowhere", "--json"),
        ("run", "--no-such-option", "--json"),
    ],
)
def test_what_is_printed_is_of_its_schema(argv: tuple[str, ...]) -> None:
    """And carries the number of its form."""
    text = printed(*argv)
    document = json.loads(text)
    assert schema_watch.faults(argv, text) == []
    if isinstance(document, dict):
        assert document["schema"] == SCHEMA


def test_a_document_that_is_not_is_noticed() -> None:
    """A key that went, one that nobody wrote down, another number: each is a fault."""
    argv = ("doctor", "--json")
    document = json.loads(printed(*argv))
    changes: tuple[dict[str, object], ...] = (
        {"schema": 2},
        {"more": 1},
        {"checks": [{}]},
        {"ok": "yes"},
    )
    for change in changes:
        assert schema_watch.faults(argv, json.dumps({**document, **change}))
    del document["warnings"]
    assert schema_watch.faults(argv, json.dumps(document))
