"""Rules of R2 that the second store does not have, each with what it does instead.

A test of such a rule carries `@pytest.mark.rule(NAME)`: against the second store it must fail, so
that no reason here outlives its truth. docs/oracles.md tells people the same, word by word.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

LACKING: Mapping[str, str] = {
    "copy destination": "`cf-copy-destination-*` is unknown to it: a copy goes over what stands",
    "one write a second": "it takes any number of writes to a key",
    "equal parts": "it takes parts of any size from 5 MiB on",
    "lost upload": "a failed condition leaves the upload, to be completed again or aborted",
    "missing match": "`If-Match` on a missing key is 404 NoSuchKey",
    "refused headers": "it takes or ignores ACLs, grants, tags, locks, trailers and redirects",
    "regions": "it takes a signature for any region",
    "codes": "an unknown key is 404, no signature 403, a changed body XAmzContentSHA256Mismatch",
    "one bucket": "its credentials own the server: they list, make and delete buckets",
}
"""By the name that the marker gives."""


def expect(request: pytest.FixtureRequest) -> None:
    """Let a test fail, and fail it where it does not, if its rule is none of the second store's.

    A test marked `always=False` fails only where events come in one order; it is skipped.
    """
    for marker in request.node.iter_markers("rule"):
        reason = LACKING[marker.args[0]]
        if marker.kwargs.get("always", True):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        else:
            pytest.skip(reason)
