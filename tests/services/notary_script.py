"""Apple's notary as a script: answers in its shapes, and clients of ours for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from release_tool.services import retries
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_uploads import Uploads
from tests.scripted_server import Reply
from tests.services.test_notary_token import api_key

ID = "0b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de1"
SECRETS = {
    "awsAccessKeyId": "ASIAHUNTER2HUNTER2",
    "awsSecretAccessKey": "hunter2/secret+key",
    "awsSessionToken": "hunter2-session-token==",
}
BUCKET = "notary-submissions-prod"
OBJECT = "prod/AROAhunter/Darkbloom.zip"


def reply(status: int, whole: object, headers: Mapping[str, str] | None = None) -> Reply:
    kind = {"Content-Type": "application/json;charset=utf-8"}
    return Reply(status, json.dumps(whole).encode(), kind | dict(headers or {}))


def created(**changed: object) -> Reply:
    given = {"bucket": BUCKET, "object": OBJECT} | SECRETS | changed
    data = {"id": ID, "type": "submissionsPostResponse", "attributes": given}
    return reply(200, {"data": data, "meta": {}})


def state(status: str, submission_id: str = ID) -> Reply:
    given = {"createdDate": "2026-11-24T17:02:11.098Z", "name": "Darkbloom.zip", "status": status}
    data = {"id": submission_id, "type": "submissions", "attributes": given}
    return reply(200, {"data": data, "meta": {}})


def history(*rows: Mapping[str, str]) -> Reply:
    data = [
        {
            "id": row.get("id", ID),
            "type": "submissions",
            "attributes": {
                "createdDate": row.get("created", "2026-11-24T17:02:11.098Z"),
                "name": row.get("name", "Darkbloom.zip"),
                "status": row.get("status", "Accepted"),
            },
        }
        for row in rows
    ]
    return reply(200, {"data": data, "meta": {}})


def log_at(url: str) -> Reply:
    data = {"id": ID, "type": "submissionsLog", "attributes": {"developerLogUrl": url}}
    return reply(200, {"data": data, "meta": {}})


def refusal(
    status: int, code: str, detail: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    error = {"id": "x", "status": f"{status}", "code": code, "title": "t", "detail": detail}
    return reply(status, {"errors": [error]}, headers)


def client(
    url: str, folder: Path, *, upload_url: str = "", slept: list[float] | None = None
) -> NotaryAPI:
    """A client whose pauses take no time; an odd part size shows cuts."""
    times = [] if slept is None else slept
    return NotaryAPI(
        base_url=f"{url}/notary/v2/submissions",
        upload_url=upload_url,
        key=api_key(),
        uploads=Uploads(folder=folder / ".notary"),
        policy=retries.Policy(attempts=3, sleep=times.append),
        multipart_bytes=100_000,
        part_bytes=40_000,
    )
