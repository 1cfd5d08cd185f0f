"""What other programs build on is there, says what it does, and takes what it took."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

from release_tool import apple

_ARGUMENTS = {
    "certificates.apple_trust": "()",
    "certificates.build_chain": (
        "(leaf, pool, *, trust, at, required_leaf_marker, required_issuer_marker,"
        " required_purpose, required_root)"
    ),
    "certificates.fingerprint": "(certificate)",
    "certificates.load": "(data)",
    "checks.all_hold": "(checks)",
    "difference.compare": "(before, after)",
    "disclosure.of_bundle": "(bundle)",
    "disclosure.of_slice": "(item)",
    "disclosure.of_ticket": "(ticket)",
    "entitlements.coverage": "(values, granted, team_id, *, prefixes)",
    "entitlements.decode_der": "(data)",
    "entitlements.parse_xml": "(data)",
    "macho.is_macho": "(head)",
    "macho.parse": "(data)",
    "policy.expiry.forecast": "(*, now, leaf, chain, profile, timestamp_authorities)",
    "policy.expiry.soon": "(rows)",
    "policy.linter.lint": "(data, *, name, jit)",
    "portrait.draw": "(tree, *, judge)",
    "profile_policy.days_left": "(profile, now)",
    "profile_policy.judge": "(profile, wanted, *, now)",
    "provisioning_profile.read": "(data, *, trust)",
    "release.verify": "(tree, *, judge, flat_copies, with_app)",
    "release.verify_app": "(tree, *, judge, path)",
    "ticket.missing": "(ticket, cdhashes, *, hash_type)",
    "ticket.parse": "(data)",
    "ticket.verify": "(ticket, *, trust)",
    "tree.in_memory": "(files, *, links, modes)",
    "verification.verify": "(data, *, judge, path, bundle)",
}


def public() -> Iterator[tuple[str, object]]:
    for module, names in apple.PUBLIC.items():
        found = importlib.import_module(f"release_tool.apple.{module}")
        for name in names:
            yield f"{module}.{name}", getattr(found, name)


PUBLIC = dict(public())


def arguments(found: object) -> str:
    """The parameters by name and kind, without types and defaults."""
    assert callable(found)
    bare = [
        one.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
        for one in inspect.signature(found).parameters.values()
    ]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_says_what_it_does(name: str) -> None:
    """A docstring of its own."""
    assert (inspect.getdoc(PUBLIC[name]) or "").strip()


def test_functions_take_what_they_took() -> None:
    """A change here is a change for other programs: it wants a new version, and a word about it."""
    found = {name: arguments(one) for name, one in PUBLIC.items() if not inspect.isclass(one)}
    assert found == _ARGUMENTS
