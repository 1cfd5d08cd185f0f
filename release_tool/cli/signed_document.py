"""What `verify --json` and `inspect --json` say of a subject.

Top level: `kind`, `name`, and by kind: `slices[]` of a Mach-O; `app` of a bundle or a release (its
`code[]`, each with `slices[]`, its `tree`, its `ticket`); `issued`, `flags`, `entries[]` and
`certificates[]` of a ticket; `profile`; `archive` with its `members[]`, and `flat_copies`. The
keys below are those of `apple.disclosure`.
"""

from __future__ import annotations

from release_tool.apple import disclosure, facts
from release_tool.apple.provisioning_profile import Profile
from release_tool.cli.signed_subject import Judged
from release_tool.files.archive_reader import Unpacked
from release_tool.schema_number import SCHEMA


def document(judged: Judged) -> dict[str, object]:
    """Everything that is known about a subject."""
    found: dict[str, object] = {"schema": SCHEMA, "kind": judged.kind, "name": judged.name}
    if judged.unpacked is not None:
        found["archive"] = _archive(judged.unpacked)
    if judged.app is not None:
        found["app"] = disclosure.of_bundle(judged.app)
    elif judged.kind == "macho" or judged.code:
        found["slices"] = [disclosure.of_slice(item) for item in judged.code]
    if judged.flat_copies:
        found["flat_copies"] = dict(judged.flat_copies)
    if judged.profile is not None:
        found["profile"] = profile(judged.profile)
    if judged.ticket is not None:
        found |= disclosure.of_ticket(judged.ticket)
    return found


def _archive(unpacked: Unpacked) -> dict[str, object]:
    return {
        "sha256": unpacked.sha256,
        "size": unpacked.size,
        "tar_sha256": unpacked.tar_sha256 or None,
        "members": [
            {
                "path": member.path,
                "kind": member.kind,
                "mode": f"{member.mode:o}",
                "size": member.size,
                "target": member.target or None,
                "sha256": member.sha256,
            }
            for member in unpacked.members
        ],
    }


def profile(found: Profile) -> dict[str, object]:
    """A provisioning profile."""
    return {
        "name": found.name,
        "uuid": found.uuid,
        "kind": found.kind,
        "team_ids": list(found.team_ids),
        "prefixes": list(found.prefixes),
        "platforms": list(found.platforms),
        "created": found.created.isoformat() if found.created else None,
        "expires": found.expires.isoformat() if found.expires else None,
        "signed": found.signed.isoformat() if found.signed else None,
        "entitlements": facts.plain(found.entitlements),
        "certificates": [disclosure.of_certificate(item) for item in found.certificates],
        "authenticity": [check.as_json() for check in found.authenticity],
        "sha256": found.sha256,
    }
