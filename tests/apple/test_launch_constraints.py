"""Launch constraints: read to values, written back, refused when malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import der, der_dictionary, launch_constraints, superblob
from release_tool.apple.launch_constraints import LaunchConstraint

HASHES = [bytes([number]) * 20 for number in (1, 2)]


def _pair(key: str, value: bytes) -> bytes:
    return der.sequence(der.utf8(key), value)


def _dictionary(*pairs: bytes) -> bytes:
    return der.encode(0xB0, *pairs)


def _blob(*pairs: bytes) -> bytes:
    content = der.encode(0x70, der.integer(1), _dictionary(*pairs))
    return superblob.wrap(superblob.MAGIC_LAUNCH_CONSTRAINT, content)


def _library_constraint() -> bytes:
    """The envelope that codesign of macOS 26 was seen to write, element by element."""
    hashes = der.sequence(*map(der.octets, HASHES))
    return _blob(
        _pair("ccat", der.integer(0)),
        _pair("comp", der.integer(1)),
        _pair(
            "reqs",
            _dictionary(
                _pair("cdhash", _dictionary(_pair("$in", hashes))),
                _pair("team-identifier", der.utf8("SLDQ2GJ6TL")),
                _pair("validation-category", der.integer(6)),
            ),
        ),
        _pair("vers", der.integer(1)),
    )


def test_a_constraint_is_read_to_its_facts() -> None:
    """The envelope's numbers and the facts, data among them; written back byte for byte."""
    blob = _library_constraint()
    found = launch_constraints.parse(blob)
    assert (found.category, found.comparison, found.version) == (0, 1, 1)
    assert found.requirements == {
        "cdhash": {"$in": HASHES},
        "team-identifier": "SLDQ2GJ6TL",
        "validation-category": 6,
    }
    assert launch_constraints.encode(found) == blob


def test_we_build_the_envelope_that_was_seen() -> None:
    """From a property list's values in any order come the same bytes."""
    built = launch_constraints.build(
        {
            "validation-category": 6,
            "team-identifier": "SLDQ2GJ6TL",
            "cdhash": {"$in": HASHES},
        }
    )
    assert launch_constraints.encode(built) == _library_constraint()


def test_unknown_keys_are_kept() -> None:
    """What a later version adds stays where it stood."""
    blob = _blob(
        _pair("zzz", der.sequence(der.utf8("new"))),
        _pair("reqs", _dictionary(_pair("is-init-proc", der.boolean(True)))),
        _pair("vers", der.integer(2)),
    )
    found = launch_constraints.parse(blob)
    assert (found.version, found.category) == (2, None)
    assert found.document.values["zzz"] == ["new"]
    assert launch_constraints.encode(found) == blob


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        superblob.wrap(superblob.MAGIC_ENTITLEMENTS_DER, _library_constraint()[8:]),
        _library_constraint()[:-1],
        _library_constraint() + b"\0",
        superblob.wrap(superblob.MAGIC_LAUNCH_CONSTRAINT, b"not DER"),
        _blob(_pair("vers", der.integer(1))),
        _blob(_pair("reqs", der.sequence())),
        _blob(_pair("reqs", _dictionary()), _pair("vers", der.utf8("1"))),
        _blob(_pair("reqs", _dictionary()), _pair("reqs", _dictionary())),
        _blob(_pair("reqs", _dictionary(_pair("a", der.null())))),
        _blob(_pair("reqs", _dictionary(_pair("a", der.octets(bytes(70_000)))))),
    ],
)
def test_malformed_constraints_are_refused(blob: bytes) -> None:
    """Another blob, another type, no requirements, or too much."""
    with pytest.raises(errors.FormatError):
        launch_constraints.parse(blob)


facts = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 2**70), st.text(max_size=9), st.binary(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("$abcé-", min_size=1, max_size=6), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("$abc-", min_size=1, max_size=9), facts, max_size=5))
def test_constraints_round_trip(requirements: dict[str, object]) -> None:
    """Whatever facts are written are read again, and come out as the same bytes."""
    blob = launch_constraints.encode(launch_constraints.build(requirements))
    found = launch_constraints.parse(blob)
    assert found.requirements == requirements
    assert launch_constraints.encode(found) == blob


@given(st.binary(max_size=60), st.integers(0, 120))
def test_hostile_constraints_end_in_a_format_error(noise: bytes, start: int) -> None:
    """Changed or made up, a blob is read and written back, or refused."""
    changed = bytearray(_library_constraint())
    changed[start : start + len(noise)] = noise
    for blob in (bytes(changed), superblob.wrap(superblob.MAGIC_LAUNCH_CONSTRAINT, noise)):
        try:
            found = launch_constraints.parse(blob)
        except errors.FormatError:
            continue
        assert launch_constraints.encode(found) == blob


def test_types_that_cannot_be_said_are_refused() -> None:
    """A real has no form."""
    constraint = LaunchConstraint(der_dictionary.Document({"reqs": {"a": 1.5}}))
    with pytest.raises(errors.FormatError):
        launch_constraints.encode(constraint)
