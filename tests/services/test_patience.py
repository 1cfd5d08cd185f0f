"""A plan can shorten what is waited for, and never lengthen it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import http_client, patience, retries, s3_client
from release_tool.services.patience import Patience
from tests import scripted_server
from tests.scripted_server import Reply


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    patience.hold(Patience())


def test_bounds_only_shrink() -> None:
    """The own bound of a call holds where it is the shorter one."""
    patience.hold(Patience(answer_seconds=10))
    assert patience.answer(60) == 10
    assert patience.answer(5) == 5
    patience.hold(Patience())
    assert patience.answer(60) == 60


def test_every_client_keeps_to_it() -> None:
    """HTTP gives up, S3 is made with the bound, and pauses are as much shorter."""
    patience.hold(Patience(answer_seconds=0.2, pause_share=0.01))
    with scripted_server.running() as server:
        server.says(Reply(200, b"short", declared=50))
        with pytest.raises(errors.TransientError):
            http_client.exchange("GET", server.url, seconds=60, limit_bytes=100)
    client = s3_client.connect(
        endpoint="http://127.0.0.1:9", region="auto", access_key_id="a", secret_access_key="b"
    )
    config: Any = client.meta.config
    assert config.read_timeout == config.connect_timeout == 0.2
    for pause in itertools.islice(retries.pauses(1.0, 20.0), 3):
        assert pause < 0.05


def test_the_plans_defaults_shorten_nothing(plan: ReleasePlan) -> None:
    """The longest bound of the code is that of two gigabytes on their way to GitHub."""
    limits = plan.limits
    longest = 60 + limits.archive_bytes / 100_000
    assert limits.answer_seconds > longest
    assert limits.pause_share == 1
