"""What nobody would send: every reader of the notary ends in its own refusal, whatever comes."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from release_tool.rehearsal import faults, notary_tokens, notary_zip, s3_chunks, s3_errors
from release_tool.rehearsal.notary_store import NotaryStore
from release_tool.rehearsal.ticket_server import PATH, TicketServer
from release_tool.rehearsal.ticket_signer import TicketSigner
from tests import macho_samples, signed_release
from tests.rehearsal.notary_client import zipped

NOW = datetime(2026, 11, 26, tzinfo=UTC)
KEY = notary_tokens.ApiKey(
    key_id="K", issuer_id="I", public_key=ec.generate_private_key(ec.SECP256R1()).public_key()
)
SEED = zipped({"a/b": b"x" * 300, "c": macho_samples.thin()[:500]}, links={"d": "c"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@given(
    header=st.text(max_size=200)
    | st.tuples(JSON, JSON, st.binary(max_size=70)).map(
        lambda parts: f"Bearer {encoded(parts[0])}.{encoded(parts[1])}.{encoded(parts[2].hex())}"
    )
)
def test_any_header_is_refused_as_a_token(header: str) -> None:
    """No text but a signed one opens, and none makes the check fall over."""
    try:
        notary_tokens.verify(header, KEY, now=NOW, method="GET", path="/notary/v2/submissions")
    except notary_tokens.TokenError:
        return
    raise AssertionError(header)


@given(
    wire=st.binary(max_size=200)
    | st.lists(
        st.sampled_from([b"5\r\n", b"hello", b"\r\n", b"0\r\n", b"a:b\r\n", b"fffffffff"])
    ).map(b"".join)
)
def test_any_chunked_body_ends(wire: bytes) -> None:
    """It is decoded to no more bytes than came, or refused as S3 refuses."""
    body = s3_chunks.ChunkedBody(io.BytesIO(wire), len(wire))
    found = b""
    try:
        while piece := body.read(64):
            found += piece
    except s3_errors.S3Error:
        pass
    assert len(found) <= len(wire)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    cut=st.integers(0, 20),
)
def test_any_damaged_zip_is_unpacked_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    """No other error, and nothing beside the folder."""
    data = bytearray(SEED)
    for offset, value in changes:
        data[offset] = value
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        archive, folder = root / "archive", root / "folder"
        archive.write_bytes(bytes(data[: len(data) - cut]))
        folder.mkdir()
        with contextlib.suppress(notary_zip.ZipError):
            notary_zip.unpack(archive, folder)
        assert sorted(path.name for path in root.iterdir()) == ["archive", "folder"]


def test_any_lookup_is_answered() -> None:
    """With a list of as many records, or CloudKit's 400."""
    with tempfile.TemporaryDirectory() as name:
        store = NotaryStore(Path(name))
        signer = TicketSigner(signed_release.look_alike())
        client = Client(TicketServer(store, signer, broken=faults.Faults()))

        @settings(max_examples=20)
        @given(body=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
        def ask(body: bytes) -> None:
            answer = client.post(PATH, data=body)
            assert answer.status_code in (200, 400)

        @settings(max_examples=10)
        @given(names=st.lists(st.text(), min_size=1, max_size=5))
        def ask_names(names: list[str]) -> None:
            body = json.dumps({"records": [{"recordName": name} for name in names]})
            answer = client.post(PATH, data=body)
            assert [item["recordName"] for item in answer.get_json()["records"]] == names

        ask()
        ask_names()
        half = '{"records": [{"recordName": "\\ud800"}]}'
        assert client.post(PATH, data=half).status_code == 400
        store.close()
