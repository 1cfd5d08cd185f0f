"""A headless Chromium, driven over the WebDriver protocol: no library, no script in the page."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
_PORT = re.compile(r"started successfully on port (\d+)")
_SECONDS = 60
_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    # Nothing of a page may leave this machine, whatever it tries.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find() -> tuple[str, str] | None:
    """The browser and its driver, where this machine has both."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which(DRIVER)
    return (browser, driver) if browser and driver else None


@dataclass(frozen=True)
class Browser:
    """One session of a browser."""

    address: str

    def open(self, path: Path) -> None:
        """Show a file of this machine."""
        self._post("url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever it returns
        """Run a script of the test's, which the policy of a page does not bind."""
        return self._post("execute/sync", {"script": script, "args": arguments})

    def wait_for(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - the same
        """Run a script that calls its last argument back."""
        return self._post("execute/async", {"script": script, "args": arguments})

    def window(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Look through a window of this size, in one of both colour schemes."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def media(self, name: str) -> None:
        """Show the page as on a medium: `print`, or nothing for the screen."""
        self._devtools("Emulation.setEmulatedMedia", {"media": name})

    def picture(self) -> bytes:
        """The whole page as PNG."""
        wanted = {"format": "png", "captureBeyondViewport": True}
        return base64.b64decode(self._devtools("Page.captureScreenshot", wanted)["data"])

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._post("print", {"background": True}))

    def press(self, *keys: str) -> None:
        """Press keys one after another, as WebDriver names them."""
        actions = [
            action
            for key in keys
            for action in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})
        ]
        self._post("actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def log(self) -> list[dict[str, Any]]:
        """What the console said since it was last asked."""
        found = self._post("se/log", {"type": "browser"})
        return found if isinstance(found, list) else []

    def accessible(self) -> list[dict[str, Any]]:
        """The tree that a screen reader gets."""
        nodes = self._devtools("Accessibility.getFullAXTree", {})["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def _devtools(self, command: str, parameters: Mapping[str, object]) -> Any:  # noqa: ANN401
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
        return _post(f"{self.address}/{path}", body)


def _post(address: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(  # noqa: S310 - http on loopback
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - the same
        return json.load(answer)["value"]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile below a folder.

    Raises:
        LookupError: this machine has none.
    """
    found = find()
    if found is None:
        raise LookupError("no Chromium with its driver")
    browser, driver = found
    home = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    with subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=home, text=True
    ) as process:
        try:
            yield from _session(process, browser, folder)
        finally:
            process.terminate()


def _session(process: subprocess.Popen[str], browser: str, folder: Path) -> Iterator[Browser]:
    base = f"http://127.0.0.1:{_port(process)}"
    flags = [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    if os.getuid() == 0:
        flags.append("--no-sandbox")  # Chromium has none for root
    options = {"binary": browser, "args": flags}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    made = _post(f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
    address = f"{base}/session/{made['sessionId']}"
    try:
        yield Browser(address)
    finally:
        request = urllib.request.Request(address, method="DELETE")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - loopback
            pass


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if found := _PORT.search(line):
            return int(found[1])
    raise LookupError("the driver did not start")
