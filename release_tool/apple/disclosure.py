"""Everything that is in a signature, as JSON can say it: the keys of `inspect --json`.

The keys are stable. A slice has `arch`, `identifier`, `team_id`, `cdhash` (40 digits),
`cdhash_full`, `flags`, `page_size`, `signing_time`, `timestamp`, `certificates[]`,
`entitlements`, `requirement` and what else stands below; a ticket `issued`, `flags`, `entries[]`;
a bundle its `code[]` and its `tree`. Numbers that Apple's headers write in hexadecimal are texts
such as `0x10000`, times are ISO 8601 in UTC, digests lower-case hexadecimal, what is not there is
null or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from release_tool import errors
from release_tool.apple import (
    certificates,
    code_directory,
    facts,
    launch_constraints,
    macho,
    requirement,
    superblob,
)
from release_tool.apple.code_directory import CodeDirectory
from release_tool.apple.facts import BundleFacts, CodeFacts, CodeReport
from release_tool.apple.ticket import Ticket

_EXEC_FLAGS: Mapping[int, str] = {
    0x1: "main-binary",
    0x10: "allow-unsigned",
    0x20: "debugger",
    0x40: "jit",
    0x80: "skip-library-validation",
    0x100: "can-load-cdhash",
    0x200: "can-exec-cdhash",
}
_SLOT_NAMES: Mapping[int, str] = {
    superblob.SLOT_CODE_DIRECTORY: "code directory",
    superblob.SLOT_INFO_PLIST: "Info.plist",
    superblob.SLOT_REQUIREMENTS: "requirements",
    superblob.SLOT_CODE_RESOURCES: "resource seal",
    4: "application",
    superblob.SLOT_ENTITLEMENTS: "entitlements",
    superblob.SLOT_REP_SPECIFIC: "representation",
    superblob.SLOT_ENTITLEMENTS_DER: "DER entitlements",
    **launch_constraints.SLOT_NAMES,
    **{slot: f"alternate code directory {slot - 0xFFF}" for slot in superblob.SLOTS_ALTERNATE},
    superblob.SLOT_CMS: "CMS",
    superblob.SLOT_IDENTIFICATION: "identification",
    superblob.SLOT_TICKET: "ticket",
}
_REQUIREMENT_NAMES: Mapping[int, str] = {
    requirement.HOST: "host",
    requirement.GUEST: "guest",
    requirement.DESIGNATED: "designated",
    requirement.LIBRARY: "library",
    requirement.PLUG_IN: "plug-in",
}
_BUNDLE_KINDS: Mapping[str, str] = {
    "app": "app",
    "framework": "framework",
    "bundle": "plug-in",
    "plugin": "plug-in",
    "appex": "plug-in",
    "xpc": "xpc",
}
_FILE_KINDS: Mapping[str, str] = {
    "executable": "tool",
    "dynamic library": "library",
    "bundle": "plug-in",
}


def slot_name(slot: int) -> str:
    """What a slot holds, or its number."""
    return _SLOT_NAMES.get(slot, f"{slot:#x}")


def of_slice(item: CodeFacts) -> dict[str, object]:
    """One slice of one Mach-O, or a data file whose signature lies beside it."""
    primary = next(
        one for one in item.directories if code_directory.cdhash(one.raw).hex() == item.cdhash
    )
    return {
        "path": item.path,
        "arch": item.arch,
        "identifier": item.identifier,
        "team_id": item.team_id,
        "signer": item.signer_kind,
        "trusted": item.trusted,
        "cdhash": item.cdhash,
        "cdhash_full": item.full_digest,
        "cdhashes": list(item.cdhashes),
        "flags": f"{item.flags:#x}",
        "flag_names": list(item.flag_names),
        **_of_directory(primary),
        "directories": [_directory_head(one) for one in item.directories],
        "slots": [
            [f"{slot:#x}", f"{int.from_bytes(blob[:4], 'big'):#x}", len(blob)]
            for slot, blob in item.signature.blobs
        ],
        "signature_bytes": {"used": item.signature.length, "reserved": item.reserved},
        "signing_time": _iso(item.signing_time),
        "timestamp": _iso(item.signed_at),
        "timestamp_certificates": [of_certificate(one) for one in item.timestamp_certificates],
        "certificates": [of_certificate(one) for one in item.certificates],
        "entitlements": facts.plain(item.entitlements),
        "requirement": item.requirement_text,
        "requirements": _requirements(item),
        "launch_constraints": _constraints(item),
        "minos": item.minos,
        "sdk": item.sdk,
        "platforms": [
            {"name": name, "minos": minos, "sdk": sdk or None}
            for name, minos, sdk in item.header.platforms
        ],
        "uuid": item.header.uuid or None,
        "file_type": item.header.file_type or None,
        "executable": item.is_executable,
        "linked_libraries": list(item.linked_libraries),
        "rpaths": list(item.header.rpaths),
    }


def _directory_head(directory: CodeDirectory) -> dict[str, object]:
    return {
        "hash_type": directory.algorithm,
        "cdhash": code_directory.cdhash(directory.raw).hex(),
        "cdhash_full": code_directory.full_digest(directory.raw).hex(),
    }


def _of_directory(directory: CodeDirectory) -> dict[str, object]:
    flags = directory.exec_segment_flags
    return {
        "version": f"{directory.version:#x}",
        "hash_type": directory.algorithm,
        "page_size": directory.page_size,
        "code_limit": directory.code_limit,
        "code_slots": len(directory.code_hashes),
        "special_slots": directory.special_slots,
        "special_hashes": [
            {"slot": slot, "name": slot_name(slot), "hash": directory.special[slot].hex()}
            for slot in sorted(directory.special)
        ],
        "platform": directory.platform,
        "exec_segment": {
            "base": directory.exec_segment_base,
            "limit": directory.exec_segment_limit,
            "flags": f"{flags:#x}",
            "flag_names": exec_flag_names(flags),
        },
        "runtime": macho.version_text(directory.runtime) if directory.runtime else None,
        "scattered": bool(directory.scatter),
    }


def exec_flag_names(flags: int) -> list[str]:
    """The set flags of an exec segment by name, an unnamed bit as its number."""
    bits = [1 << bit for bit in range(64) if flags >> bit & 1]
    return [_EXEC_FLAGS.get(bit, f"{bit:#x}") for bit in bits]


def _requirements(item: CodeFacts) -> dict[str, str]:
    """The stated requirements by their kind; empty where the set cannot be read."""
    blob = item.signature.get(superblob.SLOT_REQUIREMENTS)
    try:
        found = requirement.parse_set(blob) if blob is not None else {}
        return {
            _REQUIREMENT_NAMES.get(kind, str(kind)): requirement.to_text(expression)
            for kind, expression in found.items()
        }
    except errors.FormatError:
        return {}


def _constraints(item: CodeFacts) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for slot in superblob.SLOTS_LAUNCH_CONSTRAINTS:
        blob = item.signature.get(slot)
        if blob is None:
            continue
        told: dict[str, object] = {"slot": slot, "name": slot_name(slot)}
        try:
            parsed = launch_constraints.parse(blob)
            told["requirements"] = facts.plain(parsed.requirements)
            told["document"] = facts.plain(parsed.document.values)
        except errors.FormatError as problem:
            told["unreadable"] = problem.message
        found.append(told)
    return found


def of_certificate(certificate: certificates.Certificate) -> dict[str, object]:
    """One certificate."""
    return {
        "name": certificates.display_name(certificate),
        "issuer": certificates.printable(certificates.issuer_name(certificate)),
        "team_id": certificates.organizational_unit(certificate),
        "serial": certificates.serial_hex(certificate),
        "sha256": certificates.fingerprint(certificate),
        "valid_from": certificate.not_before.isoformat(),
        "valid_to": certificate.not_after.isoformat(),
    }


def of_ticket(ticket: Ticket) -> dict[str, object]:
    """A notarization ticket."""
    chain = [certificates.load(item) for item in ticket.chain]
    return {
        "issued": ticket.issued.isoformat(),
        "flags": ticket.flags,
        "version": ticket.version,
        "entries": [
            {"hash_type": entry.hash_type, "cdhash": entry.cdhash.hex()} for entry in ticket.entries
        ],
        "certificates": [of_certificate(item) for item in chain],
    }


def of_bundle(bundle: BundleFacts) -> dict[str, object]:
    """An app or another bundle, with the tree of everything in it."""
    return {
        "path": bundle.path,
        "kind": bundle_kind(bundle.path),
        "bundle_id": bundle.bundle_id,
        "version": bundle.version,
        "minimum_macos": bundle.minimum_macos,
        "main_executable": bundle.main_executable,
        "sealed_entries": bundle.sealed,
        "data_in_code_places": list(bundle.data_in_code_places),
        "profile": bundle.profile is not None,
        "ticket": of_ticket(bundle.ticket) if bundle.ticket is not None else None,
        "code": [
            {"path": path, "slices": [of_slice(item) for item in report.slices]}
            for path, report in bundle.code.items()
        ],
        "tree": tree(bundle),
    }


def bundle_kind(path: str) -> str:
    """What kind of bundle a folder's name says it is."""
    return _BUNDLE_KINDS.get(path.rpartition(".")[2].lower(), "bundle")


def tree(bundle: BundleFacts) -> dict[str, object]:
    """The bundle as its seal has it; paths are relative to `contents`.

    `nested` holds the code inside with `path`, `kind`, `identifier`, `cdhash` and, of a bundle,
    its own `tree`; `files` and `symlinks` what is sealed by digest and by target; `omitted` what
    nothing protects; `versions` the trees of a framework's other versions.
    """
    seal = bundle.seal
    entries = seal.entries if seal is not None else {}
    nested = seal.nested if seal is not None else {}
    return {
        "contents": bundle.contents,
        "nested": [_nested(bundle, path) for path in nested],
        "files": [
            {"path": path, **_sealed_file(value)}
            for path, value in entries.items()
            if path not in nested and "symlink" not in value
        ],
        "symlinks": [
            {"path": path, "target": str(value["symlink"])}
            for path, value in entries.items()
            if "symlink" in value
        ],
        "omitted": list(seal.omitted) if seal is not None else [],
        "versions": [
            {"path": path, "tree": tree(inner)}
            for path, inner in bundle.bundles.items()
            if _relative(bundle, path) not in nested
        ],
    }


def _relative(bundle: BundleFacts, path: str) -> str:
    return path.removeprefix(f"{bundle.contents}/") if bundle.contents else path


def _nested(bundle: BundleFacts, path: str) -> dict[str, object]:
    whole = f"{bundle.contents}/{path}" if bundle.contents else path
    inner = bundle.bundles.get(whole)
    if inner is not None:
        main, kind = inner.main, bundle_kind(path)
    else:
        report = bundle.code.get(whole)
        main, kind = (report.primary if report else None), _file_kind(report)
    told: dict[str, object] = {
        "path": path,
        "kind": kind,
        "identifier": main.identifier if main else None,
        "cdhash": main.cdhash if main else None,
    }
    return {**told, "tree": tree(inner)} if inner is not None else told


def _file_kind(report: CodeReport | None) -> str:
    main = report.primary if report else None
    return _FILE_KINDS.get(main.header.file_type if main else "", "code")


def _sealed_file(value: Mapping[str, object]) -> dict[str, object]:
    digest, older = value.get("hash2"), value.get("hash")
    return {
        "sha256": digest.hex() if isinstance(digest, bytes) else None,
        "sha1": older.hex() if isinstance(older, bytes) else None,
        "optional": value.get("optional") is True,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
