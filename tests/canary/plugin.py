"""The watch as a plugin of pytest: a test after which a secret is found somewhere fails."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary import sources
from tests.canary.channels import Channels
from tests.canary.needles import Needles


class Watch:
    """Watches the whole session."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="canary-")
        self._patch = pytest.MonkeyPatch()
        self._module = ""
        self.needles = Needles()
        self.channels = Channels(folder=Path(self._scratch.name), needles=self.needles)

    def pytest_sessionstart(self) -> None:
        sources.install(self.needles, self._patch)
        self.channels.install(self._patch)

    def pytest_sessionfinish(self) -> None:
        self._patch.undo()
        self._scratch.cleanup()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.nodeid.partition("::")[0] != self._module:
            self._module = item.nodeid.partition("::")[0]
            self.needles.forget()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: pytest.TestReport = yield  # type: ignore[assignment]
        if call.when == "teardown":
            self.channels.said += [(name, text) for _, name, text in item._report_sections]
            leaks = self.channels.leaks()
            if leaks:
                report.outcome = "failed"
                report.longrepr = "\n".join(["a secret was left behind:", *leaks])
        return report  # type: ignore[return-value]
