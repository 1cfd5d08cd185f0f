"""JSON Schemas of everything that this tool prints with `--json`, keeps or is configured by.

They say what a reader may count on: each key that is named is there, in this form. Further keys
may come without a new number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from release_tool import release_file, schema_number
from release_tool.ledger import Record
from release_tool.plan import ReleasePlan
from release_tool.report import overview
from release_tool.schema_number import SCHEMA

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_ANYTHING: Schema = {"type": "object"}
_SHA256: Schema = {"type": "string", "pattern": "^([0-9a-f]{64})?$"}
_DAY: Schema = {"type": "string", "description": "ISO 8601"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _document(**properties: Schema) -> Schema:
    return _object(schema={"const": SCHEMA}, **properties)


def _by_name(items: Schema) -> Schema:
    return {"type": "object", "additionalProperties": items}


_OUTCOME: Schema = {"enum": ["passed", "failed", "not_checked", "unprotected"]}
_CHECK_KEYS: Mapping[str, Schema] = {
    "name": _TEXT,
    "outcome": _OUTCOME,
    "subject": _TEXT,
    "expected": _TEXT,
    "observed": _TEXT,
    "hint": _TEXT,
}
_CHECK = _object(**_CHECK_KEYS)
_CHECKS = _list(_CHECK)
_EXPIRY = _object(what=_TEXT, name=_TEXT, ends=_DAY, days_left=_WHOLE, todo=_TEXT)
_ORIGIN = _object(kind=_TEXT, where=_TEXT)
_MISSING = _object(name=_TEXT, wanted=_list(_TEXT), stages=_list(_TEXT))
_STAGE = _object(
    stage=_TEXT, outcome=_TEXT, text=_TEXT, at=_TEXT, seconds=_NUMBER, notes=_list(_TEXT)
)
_LANE = _object(lane=_TEXT, wanted=_TEXT, host=_TEXT, at=_TEXT)
_OVERVIEW_KEYS: Mapping[str, Schema] = {
    "folder": _TEXT,
    "verdict": _TEXT,
    "head": _SHA256,
    "stages": _list(_STAGE),
    "lanes": _list(_LANE),
    "expiries": _list(_EXPIRY),
}
_SIDE = _object(name=_TEXT, kind=_TEXT)
_KINDS: Schema = {"type": "string", "description": "of the subject: macho, app, ticket, profile, …"}


def _of_model(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(mode="serialization")


def _plan() -> Schema:
    return _document(
        ok=_FLAG,
        plan=_of_model(ReleasePlan),
        origins=_by_name(_ORIGIN),
        missing=_list(_MISSING),
        notices=_list(_TEXT),
    )


def _record() -> Schema:
    """A record, and the value of each stage by the stage's name."""
    made = _of_model(Record)
    made["allOf"] = [
        {
            "if": {"properties": {"stage": {"const": stage}, "kind": {"const": "record"}}},
            "then": {"properties": {"value": _of_model(model)}},
        }
        for stage, model in overview.STAGES.items()
    ]
    return made


def _error() -> Schema:
    return _document(
        ok={"const": False},
        error=_TEXT,
        exit_code=_WHOLE,
        message=_TEXT,
        subject=_TEXT,
        expected=_TEXT,
        observed=_TEXT,
        details=_list(_TEXT),
        hint=_TEXT,
    )


def _doctor() -> Schema:
    return _document(
        ok=_FLAG,
        exit_code=_WHOLE,
        environment=_TEXT,
        checks=_list(_object(section=_TEXT, **_CHECK_KEYS)),
        expiries=_list(_EXPIRY),
        warnings=_list(_TEXT),
    )


def _tag() -> Schema:
    return _document(
        ok={"const": True},
        tag=_TEXT,
        version=_TEXT,
        environment=_TEXT,
        commit=_TEXT,
        branch=_TEXT,
        previous=_TEXT,
        message=_TEXT,
        remote=_TEXT,
        checks=_CHECKS,
        made=_FLAG,
        object=_TEXT,
        signed=_FLAG,
        signature_fault=_TEXT,
        pushed=_FLAG,
    )


def _diff() -> Schema:
    side = _object(name=_TEXT, kind=_TEXT, size=_WHOLE)
    perhaps: Schema = {"type": ["string", "null"]}
    difference = _object(
        kind=_TEXT,
        subject=_TEXT,
        name=_TEXT,
        before=perhaps,
        after=perhaps,
        locks_out={"type": ["string", "boolean", "null"]},
    )
    differing = _document(
        same=_FLAG, locks_out=_FLAG, before=side, after=side, differences=_list(difference)
    )
    proof = _document(same_outside_signatures=_FLAG, before=_SIDE, after=_SIDE, checks=_CHECKS)
    return {"anyOf": [differing, proof]}


def _verify_release() -> Schema:
    head = _object(count=_WHOLE, size=_WHOLE, sha256=_SHA256)
    return _document(
        ok=_FLAG,
        version=_TEXT,
        environment=_TEXT,
        archive_sha256=_SHA256,
        source_commit=_TEXT,
        builder=_TEXT,
        log_head={"anyOf": [head, {"type": "null"}]},
        checks=_CHECKS,
    )


_MADE: Mapping[str, tuple[str, Callable[[], Schema]]] = {
    "release.yaml": ("the release file", release_file.schema),
    "record": ("a record of a ledger: `ledger/*.json`", _record),
    "error": ("any command that fails, with --json", _error),
    "plan": ("plan --json", _plan),
    "run": (
        "run --json and rehearse --json",
        lambda: _document(**_OVERVIEW_KEYS, values=_by_name(_ANYTHING)),
    ),
    "dry-run": (
        "run --dry-run --json",
        lambda: _document(
            ok={"const": True},
            dry_run={"const": True},
            version=_TEXT,
            environment=_TEXT,
            signer=_TEXT,
            code=_list(_ANYTHING),
        ),
    ),
    "status": ("status --json", lambda: _list(_document(**_OVERVIEW_KEYS))),
    "doctor": ("doctor --json", _doctor),
    "rules": (
        "doctor --rules --json",
        lambda: _list(
            _object(
                id=_TEXT, gate=_TEXT, says=_TEXT, source=_TEXT, proof=_TEXT, checks=_list(_TEXT)
            )
        ),
    ),
    "tag": ("tag --json", _tag),
    "rollback": (
        "rollback --json",
        lambda: _document(
            ok={"const": True}, **_OVERVIEW_KEYS, survey=_ANYTHING, values=_by_name(_ANYTHING)
        ),
    ),
    "handoff": (
        "handoff pack, unpack, earlier, find, merge and head --json",
        lambda: _document(ok={"const": True}),
    ),
    "verify-profile": (
        "verify-profile --json",
        lambda: _document(ok=_FLAG, authentic=_FLAG, profile=_ANYTHING, checks=_CHECKS),
    ),
    "verify": (
        "verify --json",
        lambda: _document(ok=_FLAG, ours=_FLAG, kind=_KINDS, name=_TEXT, checks=_CHECKS),
    ),
    "inspect": ("inspect --json", lambda: _document(kind=_KINDS, name=_TEXT)),
    "diff": ("diff --json", _diff),
    "verify-release": ("verify-release --json", _verify_release),
    "expiries": (
        "expiries --json",
        lambda: _document(
            ok=_FLAG,
            within=_WHOLE,
            expiries=_list(_EXPIRY),
            failed=_CHECKS,
            unanswered=_CHECKS,
            issue=_TEXT,
        ),
    ),
    "model": (
        "model pin --json and model fetch --json",
        lambda: _document(
            ok={"const": True},
            model=_TEXT,
            model_revision=_TEXT,
            model_sha256=_SHA256,
            folder=_TEXT,
            files=_by_name(_WHOLE),
        ),
    ),
}
NAMES = tuple(_MADE)


def says(name: str) -> str:
    """What a schema is of."""
    return _MADE[name][0]


def schema(name: str) -> Schema:
    """A schema by its name, whole: every definition that it needs is inside."""
    made = _MADE[name][1]()
    definitions: Schema = {}
    body = _lifted(made, definitions)
    head = schema_number.head(name)
    return {
        **head,
        "description": says(name),
        **{key: value for key, value in body.items() if key not in head},
        **({"$defs": definitions} if definitions else {}),
    }


def _lifted(found: Any, definitions: Schema) -> Any:  # noqa: ANN401 - any JSON
    """The definitions of inner schemas at the top, where their references look for them."""
    if isinstance(found, list):
        return [_lifted(one, definitions) for one in found]
    if not isinstance(found, dict):
        return found
    for name, one in found.get("$defs", {}).items():
        definitions[name] = _lifted(one, definitions)
    return {key: _lifted(one, definitions) for key, one in found.items() if key != "$defs"}
