"""YAML read safely: plain values, each with its line; no file unfolds or nests endlessly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import JsonValue

from release_tool import errors

# The real file has about 5 KiB and 300 nodes; what is far beyond is not a release.
_FILE_BYTES = 256 * 1024
_EVENTS = 20_000
_DEPTH = 16
_NUMBER = 2**63

Location = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """The plain values of a file, and where each of them stands."""

    name: str
    """As people call it: `release.yaml`."""
    data: dict[str, JsonValue]
    lines: Mapping[Location, int]
    problems: Sequence[str] = ()

    def at(self, location: Location) -> str:
        """`release.yaml:12`, of the place or of the nearest one around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return f"{self.name}:{self.lines.get(location, 1)}"


def read(path: Path) -> Document:
    """Read the file without judging its values.

    Raises:
        UsageError: it cannot be read, or is not the kind of YAML that a release is written in.
    """
    try:
        with path.open("rb") as source:
            data = source.read(_FILE_BYTES + 1)
    except OSError as problem:
        raise errors.UsageError(
            "the release file cannot be read",
            subject=str(path),
            observed=problem.strerror or "",
            hint="name one with --config",
        ) from None
    return parse(data, name=_shown(path))


def parse(data: bytes, *, name: str) -> Document:
    """Turn YAML into plain values.

    Anchors and aliases are refused: a release needs none, and they are what makes a small file
    unfold into a huge one.

    Raises:
        UsageError: the file is too large, too deep or not plain YAML.
    """
    if len(data) > _FILE_BYTES:
        raise errors.UsageError(
            "the release file is too large", subject=name, expected=f"at most {_FILE_BYTES} bytes"
        )
    try:
        text = data.decode("utf-8")
        _refuse_hostile(text, name)
        loader = _PlainLoader(text)
        node = loader.get_single_node()
    except UnicodeDecodeError:
        raise errors.UsageError("the release file is not UTF-8", subject=name) from None
    except yaml.YAMLError as problem:
        raise _not_yaml(problem, name) from None
    if not isinstance(node, yaml.MappingNode):
        raise errors.UsageError(
            "the release file does not hold keys and values", subject=f"{name}:1"
        )
    walk = _Walk(loader, name)
    values = walk.value(node, ())
    assert isinstance(values, dict)  # noqa: S101 - a mapping node yields a dict
    return Document(name=name, data=values, lines=walk.lines, problems=walk.problems)


def dotted(location: Location) -> str:
    """`bundle.executables[0].name`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without dates: a version that looks like a date stays text."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_hostile(text: str, name: str) -> None:
    """Look at the events only: nothing recursive runs before the depth is known."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_PlainLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise errors.UsageError(
                "anchors and aliases are not used in a release file", subject=f"{name}:{line}"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH or number > _EVENTS:
            raise errors.UsageError(
                "the release file is too deeply nested or too long", subject=f"{name}:{line}"
            )


@dataclass
class _Walk:
    """Plain values of a node tree, with lines; what is wrong is collected."""

    loader: yaml.SafeLoader
    name: str
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def value(self, node: yaml.Node, location: Location) -> JsonValue:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, location))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, at)) for at, item in enumerate(node.value)]
        return self._scalar(node)

    def _pairs(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, JsonValue]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self.problems.append(f"{self.name}:{line}: a key must be text")
            elif key in seen:
                self.problems.append(
                    f"{self.name}:{line}: {key} was already given in line {seen[key]}"
                )
            else:
                seen[key] = line
                self.lines[(*location, key)] = line
                yield key, self.value(value_node, (*location, key))

    def _scalar(self, node: yaml.Node) -> JsonValue:
        try:
            found = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            found = object()
        if _is_plain(found):
            return found  # type: ignore[no-any-return] # by _is_plain
        line = node.start_mark.line + 1
        self.problems.append(f"{self.name}:{line}: this is not a plain value")
        return None


def _is_plain(found: object) -> bool:
    """Whether JSON can hold the value: no half of a character pair, no endless number."""
    if isinstance(found, str):
        return not any("\ud800" <= character <= "\udfff" for character in found)
    if isinstance(found, int):
        return abs(found) < _NUMBER
    return found is None or isinstance(found, float)


def _not_yaml(problem: yaml.YAMLError, name: str) -> errors.UsageError:
    mark = getattr(problem, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark is not None else name
    said = getattr(problem, "problem", None) or "a character that YAML does not allow"
    return errors.UsageError("the release file is not YAML", subject=where, observed=str(said))


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
