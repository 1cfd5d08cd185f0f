"""A client of the notary that shares nothing with ours: http.client, PyJWT and boto3."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import sqlite3
import stat
import time
import urllib.parse
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
import botocore.config
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.serving import WSGIRequestHandler

from release_tool.rehearsal import faults, notary_servers, notary_tokens
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.notary_worker import Delays
from release_tool.rehearsal.servers import QuietHandler, Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

KEY_ID = "2X9R4HXF34"
ISSUER = "57246542-96fe-1a63-e053-0824d011072a"
SECONDS = 20
Json = Any
S3Client = Any
Checksums = Literal["when_supported", "when_required"]


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.json["errors"][0]["code"])


@dataclass
class Notarization:
    """A running notary, and how to speak with it."""

    addresses: notary_servers.Addresses
    broken: faults.Faults
    folder: Path
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def token(
        self,
        *,
        headers: Mapping[str, Any] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        **claims: object,
    ) -> str:
        """A bearer token; claims that are None are left out."""
        now = int(time.time())
        usual = {"iss": ISSUER, "iat": now, "exp": now + 600, "aud": "appstoreconnect-v1"}
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(said, key or self.key, "ES256", {"kid": KEY_ID, **(headers or {})})

    def ask(
        self, method: str, tail: str = "", body: object = None, token: str | None = None
    ) -> Answer:
        """Ask the notary itself."""
        headers = {"Authorization": f"Bearer {self.token() if token is None else token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return fetch(
            method,
            f"{self.addresses.notary_url}{tail}",
            None if body is None else json.dumps(body).encode(),
            headers,
        )

    def submit(self, sha256: str, name: str = "Darkbloom.zip") -> dict[str, str]:
        """Submit; the attributes with the id."""
        answer = self.ask("POST", body={"submissionName": name, "sha256": sha256})
        assert answer.status == 200, answer.body
        data = answer.json["data"]
        assert data["type"] == "submissionsPostResponse"
        return {"id": data["id"], **data["attributes"]}

    def upload(self, archive: bytes, name: str = "Darkbloom.zip") -> str:
        """Submit an archive and upload it; its id."""
        made = self.submit(hashlib.sha256(archive).hexdigest(), name)
        self.s3(made).put_object(Bucket=made["bucket"], Key=made["object"], Body=archive)
        return made["id"]

    def status(self, identity: str) -> str:
        """The word for a submission."""
        return str(self.ask("GET", f"/{identity}").json["data"]["attributes"]["status"])

    def await_status(self, identity: str) -> str:
        """Ask until it is no longer in progress."""
        deadline = time.monotonic() + SECONDS
        while (word := self.status(identity)) == "In Progress":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return word

    def log(self, identity: str) -> Json:
        """Fetch the log through its URL, without the token."""
        answer = self.ask("GET", f"/{identity}/logs")
        assert answer.status == 200, answer.body
        return fetch("GET", answer.json["data"]["attributes"]["developerLogUrl"]).json

    def s3(
        self,
        attributes: Mapping[str, str],
        checksums: Checksums = "when_supported",
        *,
        region: str = "us-west-2",
    ) -> S3Client:
        """Boto3 with temporary credentials and otherwise its defaults; it tries once."""
        return boto3.client(
            "s3",
            endpoint_url=self.addresses.notary_upload_url,
            region_name=region,
            aws_access_key_id=attributes["awsAccessKeyId"],
            aws_secret_access_key=attributes["awsSecretAccessKey"],
            aws_session_token=attributes["awsSessionToken"],
            config=botocore.config.Config(
                retries={"total_max_attempts": 1}, request_checksum_calculation=checksums
            ),
        )

    def ticket(self, cdhash: str) -> bytes:
        """Ask for the ticket of a cdhash until it is there."""
        deadline = time.monotonic() + SECONDS
        while "fields" not in (record := self.lookup(f"2/2/{cdhash}").json["records"][0]):
            assert record["serverErrorCode"] == "NOT_FOUND"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return base64.b64decode(record["fields"]["signedTicket"]["value"])

    def is_judged(self, identity: str) -> bool:
        """Whether there is a verdict, told or not."""
        with closing(self._database()) as database:
            query = "SELECT judged_at FROM submissions WHERE id = ?"
            return database.execute(query, (identity,)).fetchone()[0] is not None

    def forget_verdict(self, identity: str) -> None:
        """Wait for the verdict and undo it: as if the process had died before it."""
        self.await_status(identity)
        with closing(self._database()) as database, database:
            undo = "UPDATE submissions SET judged_at = NULL, verdict = NULL, ticket = NULL"
            database.execute(f"{undo} WHERE id = ?", (identity,))

    def keys_of(self, identity: str) -> tuple[str, str, str]:
        """Bucket, access key and secret of a submission."""
        names = "bucket, access_key_id, secret_access_key"
        with closing(self._database()) as database:
            query = f"SELECT {names} FROM submissions WHERE id = ?"  # noqa: S608 our own names
            bucket, access, secret = database.execute(query, (identity,)).fetchone()
        return bucket, access, secret

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "notary.sqlite", timeout=SECONDS)

    def lookup(self, *names: str) -> Answer:
        """Ask for tickets."""
        body = json.dumps({"records": [{"recordName": name} for name in names]}).encode()
        headers = {"Content-Type": "application/json"}
        return fetch("POST", self.addresses.ticket_url, body, headers)


def fetch(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = SECONDS,
) -> Answer:
    """One request over a socket of its own; redirects are not followed."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


@contextmanager
def running(
    folder: Path,
    authority: Authority,
    *,
    processing: float = 0.1,
    ticket: float = 0.1,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Iterator[Notarization]:
    """A notary on a folder."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    settings = notary_servers.Settings(
        key=notary_tokens.ApiKey(key_id=KEY_ID, issuer_id=ISSUER, public_key=key.public_key()),
        delays=Delays(processing_seconds=processing, ticket_seconds=ticket),
        slow_seconds=0.5,
    )
    broken = faults.Faults()
    with ExitStack() as stack:

        def start(
            name: str,
            application: WSGIApplication,
            handler: type[WSGIRequestHandler] = QuietHandler,
        ) -> Server:
            return stack.enter_context(Server(application, handler=handler))

        addresses = notary_servers.serve(
            folder, authority, settings, broken=broken, stack=stack, start=start
        )
        yield Notarization(addresses, broken, folder, key)


def zipped(
    files: Mapping[str, bytes],
    modes: Mapping[str, int] | None = None,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """A zip of files and links, by the standard library."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | (modes or {}).get(path, 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
        for path, target in (links or {}).items():
            info = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFLNK | 0o755) << 16
            archive.writestr(info, target)
    return whole.getvalue()
