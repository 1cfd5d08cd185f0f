"""The base of what the release file, the plan and records are made of.

Each field says what it is in a string below it. JSON Schemas show those as descriptions; they are
looked for once somebody asks for a schema, since reading a hundred classes again would take a tenth
of every start of the tool.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class FrozenModel(BaseModel):
    """A frozen shape of which every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """The schema that pydantic makes, with what the class says of its fields."""
        made = handler(core_schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for kind in reversed(cls.__mro__):
            if issubclass(kind, FrozenModel):
                for name, text in _described(kind):
                    properties[name]["description"] = text
        return made


def _described(kind: type) -> Iterator[tuple[str, str]]:
    """The fields that a class itself declares and describes."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    for field, below in pairwise(getattr(body, "body", ())):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
