"""Launch constraints: under which circumstances macOS runs a piece of code.

A signature holds up to four, each a DER dictionary in a blob of its own. The envelope was seen in
what codesign of macOS 26 wrote: `ccat`, `comp`, `reqs` and `vers`, with the facts under `reqs`.
What `ccat` and `comp` mean is published nowhere; their values are kept as they stand. The names of
facts and operators are Apple's (Defining launch environment and library constraints).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import der_dictionary, superblob

SELF, PARENT, RESPONSIBLE, LIBRARY = superblob.SLOTS_LAUNCH_CONSTRAINTS
SLOT_NAMES: Mapping[int, str] = MappingProxyType(
    {
        SELF: "launch constraint on itself",
        PARENT: "launch constraint on its parent",
        RESPONSIBLE: "launch constraint on its responsible process",
        LIBRARY: "library constraint",
    }
)

MAX_BYTES = 64 * 1024
"""A constraint lists some facts, or the cdhashes of an app's own code."""

_CATEGORY, _COMPARISON, _REQUIREMENTS, _VERSION = "ccat", "comp", "reqs", "vers"
# As codesign of macOS 26 writes them for a developer's own constraint.
_OBSERVED = {_CATEGORY: 0, _COMPARISON: 1, _VERSION: 1}


class LaunchConstraint(NamedTuple):
    """One constraint as it stands in a signature."""

    document: der_dictionary.Document
    """The whole dictionary, unknown keys included, in its order."""

    @property
    def requirements(self) -> Mapping[str, object]:
        """The facts and operators, such as `team-identifier` and `$or`, that must all hold."""
        found = self.document.values[_REQUIREMENTS]
        assert isinstance(found, dict)  # noqa: S101 - `parse` and `build` see to it
        return found

    @property
    def category(self) -> int | None:
        """`ccat`: 0 for a developer's own, as far as seen."""
        return self._number(_CATEGORY)

    @property
    def comparison(self) -> int | None:
        """`comp`: 1, as far as seen."""
        return self._number(_COMPARISON)

    @property
    def version(self) -> int | None:
        return self._number(_VERSION)

    def _number(self, key: str) -> int | None:
        value = self.document.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse(blob: bytes) -> LaunchConstraint:
    """Read the blob of a constraint's slot.

    Raises:
        FormatError: another blob, no dictionary in DER, or one without requirements.
    """
    if len(blob) > MAX_BYTES:
        raise errors.FormatError(f"a launch constraint of {len(blob)} bytes")
    content = superblob.unwrap(blob, superblob.MAGIC_LAUNCH_CONSTRAINT)
    document = der_dictionary.decode(content, allow_data=True)
    for key, kind in ((_REQUIREMENTS, dict), *((name, int) for name in _OBSERVED)):
        if key in document.values and not isinstance(document.values[key], kind):
            raise errors.FormatError(f"a launch constraint's {key} is of another type")
    if _REQUIREMENTS not in document.values:
        raise errors.FormatError("a launch constraint holds no requirements")
    return LaunchConstraint(document)


def encode(constraint: LaunchConstraint) -> bytes:
    """Write the blob; what `parse` returned comes out as it was.

    Raises:
        FormatError: a value has a type that DER dictionaries cannot say.
    """
    content = der_dictionary.encode(constraint.document, allow_data=True)
    return superblob.wrap(superblob.MAGIC_LAUNCH_CONSTRAINT, content)


def build(requirements: Mapping[str, object]) -> LaunchConstraint:
    """A developer's own constraint in the envelope that codesign of macOS 26 writes.

    Args:
        requirements: facts and operators as a constraint's property list has them; keys are
            written sorted.
    """
    values = {**_OBSERVED, _REQUIREMENTS: _sorted(requirements)}
    return LaunchConstraint(der_dictionary.Document(dict(sorted(values.items()))))


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str.encode)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
