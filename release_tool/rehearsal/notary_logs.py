"""The addresses of the notary's logs: presigned, short-lived, and blind to bearer tokens.

It also stands at the end of the fault `notary.redirect`, where it notes a token that came along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, notary, presigned_urls, s3_errors, signature_v4
from release_tool.rehearsal.notary_store import BEARER_LEAK, NotaryStore, Submission, Verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REDIRECTED = "/redirected"
LOGS_LIVE = timedelta(hours=6)
_PATH = re.compile(r"/(?P<id>[0-9a-f-]{36})/developer_log\.json")
_REGION = "us-west-2"


class NotaryLogs:
    """The WSGI application.

    Args:
        store: verdicts.
        broken: faults on demand.
        clock: the time by which URLs expire.
    """

    def __init__(
        self,
        store: NotaryStore,
        *,
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._broken = broken
        self._clock = clock

    def url(self, base: str, submission: Submission) -> str:
        """The address of a log from now on, below the server's own."""
        return presigned_urls.make(
            base,
            f"/{submission.id}/developer_log.json",
            _credentials(submission),
            region=_REGION,
            at=self._clock(),
            lives=LOGS_LIVE,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if "Authorization" in request.headers:
            self._store.note(BEARER_LEAK, request.path)
        try:
            answer = self._answer(request)
        except s3_errors.S3Error as refusal:
            answer = refusal.response()
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path == REDIRECTED:
            return Response("{}", content_type="application/json")
        if self._broken.take(faults.NOTARY_LOG_UNAVAILABLE):
            raise s3_errors.unavailable()
        if self._broken.take(faults.NOTARY_LOG_EXPIRED):
            raise s3_errors.S3Error(403, "AccessDenied", "Request has expired")
        found = _PATH.fullmatch(request.path)
        submission = self._store.get(found["id"]) if found else None
        if submission is None:
            raise s3_errors.access_denied()
        presigned_urls.verify(
            request.environ, request.path, _credentials(submission), now=self._clock()
        )
        verdict, uploaded = submission.verdict, submission.uploaded_at
        if verdict is None or uploaded is None or request.method != "GET":
            raise s3_errors.S3Error(404, "NoSuchKey", "The specified key does not exist.")
        self._store.note("download log", submission.id)
        text = json.dumps(self._log(submission, verdict, uploaded), indent=2)
        return Response(text, content_type="application/json")

    def _log(
        self, submission: Submission, verdict: Verdict, uploaded: datetime
    ) -> dict[str, object]:
        contents = verdict.contents
        if self._broken.take(faults.NOTARY_LOG_LACKS_CDHASH) and contents:
            last = contents[-1].cdhash
            contents = tuple(code for code in contents if code.cdhash != last)
        sha256 = submission.uploaded_sha256 or ""
        if self._broken.take(faults.NOTARY_LOG_OTHER_SHA256):
            sha256 = sha256[::-1]
        return {
            "logFormatVersion": 1,
            "jobId": submission.id,
            "status": verdict.status,
            "statusSummary": verdict.summary,
            "statusCode": verdict.code,
            "archiveFilename": submission.name,
            "uploadDate": notary.timestamp(uploaded),
            "sha256": sha256,
            "ticketContents": [
                {
                    "path": code.path,
                    "digestAlgorithm": "SHA-256",
                    "cdhash": code.cdhash,
                    "arch": code.arch,
                }
                for code in contents
            ]
            if verdict.status == "Accepted"
            else None,
            "issues": [issue.as_json() for issue in verdict.issues] or None,
        }


def _credentials(submission: Submission) -> signature_v4.Credentials:
    """A submission's own keys sign its log's URLs, so these outlive the process."""
    return signature_v4.Credentials(
        access_key_id=submission.access_key_id, secret_access_key=submission.secret_access_key
    )
