"""The routes that only the contract of October has: approvals, and the question for one."""

from __future__ import annotations

from collections.abc import Callable

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, qualification, registration
from release_tool.rehearsal.coordinator_answers import answer, bearer_is, error
from release_tool.rehearsal.qualification import Approvals, Build
from release_tool.rehearsal.registration import MetadataError
from release_tool.rehearsal.release_store import ImmutableError

Routes = dict[str, dict[str, Callable[[Request], Response]]]


class QualificationRoutes:
    """Approvals of signed builds.

    Args:
        approvals: what was approved.
        release_key: who may ask.
        admin_key: who may approve. In the original a person's login; a key of the API never is.
        verify: downloads and verifies the archive of a build.
        asks: whether the status question exists.
        broken: faults on demand.
    """

    def __init__(
        self,
        approvals: Approvals,
        *,
        release_key: str,
        admin_key: str,
        verify: Callable[[Build], None],
        asks: bool,
        broken: faults.Faults,
    ) -> None:
        self._approvals = approvals
        self._release_key = release_key
        self._admin_key = admin_key
        self._verify = verify
        self._asks = asks
        self._broken = broken

    def routes(self) -> Routes:
        """Path to method to handler."""
        found: Routes = {
            "/v1/admin/app-attest/builds": {"GET": self._list, "POST": self._approve},
            "/v1/admin/app-attest/builds/revoke": {"POST": self._revoke},
        }
        if self._asks:
            found["/v1/releases/qualification"] = {"POST": self._status}
        return found

    def _status(self, request: Request) -> Response:
        if not bearer_is(request, self._release_key):
            return error(401, "unauthorized", "invalid release key")
        if self._broken.take(faults.COORDINATOR_QUALIFICATION_UNAVAILABLE):
            return error(503, "qualification_unavailable", "qualification refresh failed")
        try:
            build = qualification.validated(qualification.decode(request.stream)).build
        except MetadataError as problem:
            return error(400, "invalid_request_error", str(problem))
        if fault := build.fault():
            return error(400, "invalid_request_error", fault)
        return answer(200, self._approvals.status(build))

    def _list(self, request: Request) -> Response:
        if not bearer_is(request, self._admin_key):
            return _forbidden()
        return answer(200, {"builds": self._approvals.everything()})

    def _approve(self, request: Request) -> Response:
        if not bearer_is(request, self._admin_key):
            return _forbidden()
        try:
            wanted = qualification.decode_request(request.stream)
            self._verify(wanted.build)
        except MetadataError as problem:
            return error(400, "invalid_request_error", str(problem))
        try:
            changed = self._approvals.approve(wanted)
        except ImmutableError:
            return error(409, "qualification_failed", "another build is approved or it is revoked")
        if self._broken.take(faults.COORDINATOR_QUALIFICATION_UNAVAILABLE):
            return error(503, "qualification_pending", "stored; send the same request again")
        key = wanted.build.release.binary_hash
        return answer(200, {"qualified": True, "changed": changed, "binary_hash": key})

    def _revoke(self, request: Request) -> Response:
        if not bearer_is(request, self._admin_key):
            return _forbidden()
        try:
            given = registration.texts(
                registration.read_object(request.stream), ("binary_hash", "reason")
            )
        except MetadataError as problem:
            return error(400, "invalid_request_error", str(problem))
        if not given.get("reason", "").strip():
            return error(400, "invalid_request_error", "reason is required")
        if not self._approvals.revoke(given.get("binary_hash", ""), given["reason"]):
            return error(404, "not_found", "no such build")
        return answer(200, {"revoked": True, "binary_hash": given["binary_hash"]})


def _forbidden() -> Response:
    return error(403, "forbidden", "admin access required")
