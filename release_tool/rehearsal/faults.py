"""Faults on demand: what a test or a rehearsal lets go wrong, and how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from release_tool import errors

COORDINATOR_UNAVAILABLE: Final = "coordinator.unavailable"
"""Registrations that are answered 503 without being looked at."""
COORDINATOR_DROP_AFTER_ACCEPT: Final = "coordinator.drop_after_accept"
"""Registrations that are stored, and whose answer never arrives."""
COORDINATOR_NOT_READY: Final = "coordinator.not_ready"
"""Questions for the latest release and the version that October answers 503 release_not_ready."""
COORDINATOR_QUALIFICATION_UNAVAILABLE: Final = "coordinator.qualification_unavailable"
"""Requests that need October's approvals and are answered 503."""
COORDINATOR_EVICTS: Final = "coordinator.evicts"
"""Registrations that leave no other release active."""
COORDINATOR_CAPACITY_FALLS: Final = "coordinator.capacity_falls"
"""Registrations after which the fleet's capacity is a tenth."""
STORE_UNAVAILABLE: Final = "store.unavailable"
"""Writes to the object store that are answered 503."""
STORE_DROP_AFTER_WRITE: Final = "store.drop_after_write"
"""Writes to the object store that are kept, and whose answer never arrives."""
PUBLIC_UNAVAILABLE: Final = "public.unavailable"
"""Public downloads that are answered 503."""
TIMESTAMP_UNAVAILABLE: Final = "timestamp.unavailable"
"""Timestamp requests that are answered 503, as Apple's service does now and then."""

NOTARY_UNAUTHORIZED: Final = "notary.unauthorized"
"""Notary requests that are answered 401 NOT_AUTHORIZED, good token or not."""
NOTARY_AGREEMENT: Final = "notary.agreement"
"""403 FORBIDDEN.REQUIRED_AGREEMENTS_MISSING_OR_EXPIRED."""
NOTARY_PROVIDER: Final = "notary.provider"
"""403 FORBIDDEN.MISSING_PROVIDER."""
NOTARY_THROTTLED: Final = "notary.throttled"
"""429 with `Retry-After: 1`."""
NOTARY_ERROR: Final = "notary.error"
"""500 with JSON."""
NOTARY_UNAVAILABLE: Final = "notary.unavailable"
"""503 with JSON."""
NOTARY_HTML: Final = "notary.html"
"""502 with a page of HTML, as the edge before the service answers."""
NOTARY_HTML_OK: Final = "notary.html_ok"
"""200 with a page of HTML."""
NOTARY_RESET: Final = "notary.reset"
"""The connection is cut, and nothing was done."""
NOTARY_DROP_AFTER_SUBMIT: Final = "notary.drop_after_submit"
"""Submissions that are kept, and whose answer never arrives."""
NOTARY_SLOW: Final = "notary.slow"
"""The right answer, late: see `slow_seconds` of the notary's settings."""
NOTARY_TRUNCATED: Final = "notary.truncated"
"""200 with the first half of the JSON."""
NOTARY_CUT_SHORT: Final = "notary.cut_short"
"""200 with the whole length, half of the body, and the end of the connection."""
NOTARY_REDIRECT: Final = "notary.redirect"
"""307 to another address, which notes a bearer token that comes along."""
NOTARY_UNKNOWN_STATUS: Final = "notary.unknown_status"
"""Status requests that are answered with a word that no documentation has."""
NOTARY_REJECTED: Final = "notary.rejected"
"""Uploads that are judged `Rejected`, code 7000, whatever they hold."""
NOTARY_WARNING: Final = "notary.warning"
"""Accepted uploads whose log carries a warning."""
NOTARY_LOG_LATE: Final = "notary.log_late"
"""Log requests after the verdict that are answered 404 as before it."""
NOTARY_LOG_OTHER_SHA256: Final = "notary.log_other_sha256"
"""Logs that name another archive's SHA-256."""
NOTARY_LOG_LACKS_CDHASH: Final = "notary.log_lacks_cdhash"
"""Logs whose ticket contents lack the last cdhash."""
NOTARY_LOG_UNAVAILABLE: Final = "notary.log_unavailable"
"""Downloads of a log that are answered 503."""
NOTARY_LOG_EXPIRED: Final = "notary.log_expired"
"""Downloads of a log that are answered 403 as if the URL had expired."""
UPLOAD_UNAVAILABLE: Final = "upload.unavailable"
"""Writes to the notary's S3 that are answered 503 SlowDown."""
UPLOAD_CUT: Final = "upload.cut"
"""Writes to the notary's S3 whose connection is cut while the body comes in."""
UPLOAD_CUT_LATER_PART: Final = "upload.cut_later_part"
"""The same for parts behind the first: an upload that breaks midway."""
UPLOAD_DROP_AFTER_WRITE: Final = "upload.drop_after_write"
"""Writes to the notary's S3 that are kept, and whose answer never arrives."""
UPLOAD_EXPIRED: Final = "upload.expired"
"""Requests to the notary's S3 that are refused as if the credentials had expired."""
TICKET_UNAVAILABLE: Final = "ticket.unavailable"
"""Ticket lookups that are answered 503."""
TICKET_THROTTLED: Final = "ticket.throttled"
"""Ticket lookups that are answered 429 with `Retry-After: 1`."""
TICKET_HTML: Final = "ticket.html"
"""Ticket lookups that are answered 502 with HTML."""
TICKET_RESET: Final = "ticket.reset"
"""Ticket lookups whose connection is cut."""
TICKET_LATE: Final = "ticket.late"
"""Ticket lookups that find nothing, whatever is there."""
TICKET_BAD_SIGNATURE: Final = "ticket.bad_signature"
"""Tickets whose signature does not hold."""
TICKET_OTHER_APP: Final = "ticket.other_app"
"""Well-signed tickets that list none of the code asked for."""
TICKET_LACKS_SLICE: Final = "ticket.lacks_slice"
"""Well-signed tickets without one of the code's cdhashes; not the one asked for, if it can be."""

GITHUB_RESET: Final = "github.reset"
"""Requests to GitHub's interface whose connection is cut, and nothing was done."""
GITHUB_UNAVAILABLE: Final = "github.unavailable"
"""503 with JSON."""
GITHUB_HTML: Final = "github.html"
"""502 with a page of HTML."""
GITHUB_RATE_LIMITED: Final = "github.rate_limited"
"""403 with no requests left and the time of the reset, a second ahead."""
GITHUB_SECONDARY_LIMITED: Final = "github.secondary_limited"
"""403 with `Retry-After: 1`."""
GITHUB_TRUNCATED: Final = "github.truncated"
"""200 with the beginning of the JSON."""
GITHUB_REDIRECT: Final = "github.redirect"
"""307 to another host, which notes a bearer token that comes along."""
GITHUB_DROP_AFTER_CREATE: Final = "github.drop_after_create"
"""Drafts that are made, and whose answer never arrives."""
GITHUB_DROP_AFTER_PUBLISH: Final = "github.drop_after_publish"
"""Releases that are published, and whose answer never arrives."""
GITHUB_DROP_AFTER_UPLOAD: Final = "github.drop_after_upload"
"""Assets that are kept, and whose answer never arrives."""
GITHUB_UPLOAD_UNAVAILABLE: Final = "github.upload_unavailable"
"""Uploads that are answered 503, and nothing is left."""
GITHUB_UPLOAD_BAD_GATEWAY: Final = "github.upload_bad_gateway"
"""Uploads that are answered 502 and leave a `starter`."""
GITHUB_UPLOAD_CUT: Final = "github.upload_cut"
"""Uploads whose connection is cut midway; they leave a `starter`."""
GITHUB_STORAGE_UNAVAILABLE: Final = "github.storage_unavailable"
"""Downloads of assets that are answered 503."""
GITHUB_STORAGE_OTHER_BYTES: Final = "github.storage_other_bytes"
"""Downloads of assets with one bit changed."""
GITHUB_STORAGE_CUT_SHORT: Final = "github.storage_cut_short"
"""Downloads of assets that end in the middle."""
GITHUB_STORAGE_REDIRECT: Final = "github.storage_redirect"
"""Downloads of assets that are sent on once more."""

HUB_UNAVAILABLE: Final = "hub.unavailable"
"""Questions to the model hub that are answered 503."""
HUB_RATE_LIMITED: Final = "hub.rate_limited"
"""429 with the hub's own fields: nothing left, and a reset in a second."""
HUB_HTML: Final = "hub.html"
"""200 with a page of HTML."""
HUB_RENAMED: Final = "hub.renamed"
"""307 to another name of the model."""
HUB_OTHER_COMMIT: Final = "hub.other_commit"
"""Revisions that are said to be another commit."""
HUB_MOVED: Final = "hub.moved"
"""Files that are said to be another commit's."""
HUB_OTHER_SIZE: Final = "hub.other_size"
"""Files that are said to be larger than they were listed."""
HUB_REDIRECT_IN_CLEAR: Final = "hub.redirect_in_clear"
"""Large files whose store is somewhere else, without TLS."""
HUB_STORE_ENDED: Final = "hub.store_ended"
"""Downloads from the hub's store that are refused as if the signed address had ended."""
HUB_STORE_UNAVAILABLE: Final = "hub.store_unavailable"
"""Downloads from the hub's store that are answered 503."""
HUB_STORE_REDIRECTS: Final = "hub.store_redirects"
"""Downloads from the hub's store that are sent on, to where they came from."""
HUB_STORE_WITHOUT_RANGES: Final = "hub.store_without_ranges"
"""Downloads from the hub's store that are answered with the whole file, whatever was asked for."""
HUB_STORE_OTHER_RANGE: Final = "hub.store_other_range"
"""Downloads from the hub's store that are answered with another part."""
HUB_STORE_CUT_SHORT: Final = "hub.store_cut_short"
"""Downloads from the hub's store that end in the middle."""
HUB_STORE_OTHER_BYTES: Final = "hub.store_other_bytes"
"""Downloads from the hub's store with one bit changed."""

NAMES: Final = frozenset(
    value
    for name, value in list(globals().items())
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
)
"""Every fault that there is."""


class Faults:
    """Counters that servers take from; at zero everything goes well."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def set(self, wanted: Mapping[str, int]) -> None:
        """Let the next so many requests of each kind go wrong.

        Raises:
            UsageError: no such fault.
        """
        for name, count in wanted.items():
            if name not in NAMES or count < 0:
                raise errors.UsageError(
                    "no such fault", subject=name, expected=", ".join(sorted(NAMES))
                )
        with self._lock:
            self._left.update(wanted)

    def take(self, name: str) -> bool:
        """Whether this request goes wrong; counts it."""
        with self._lock:
            left = self._left.get(name, 0)
            self._left[name] = max(0, left - 1)
            return left > 0
