"""Programs that stand in for Apple's tools: each checks every argument and plays Apple's answers.

They prove our wiring, never Apple's behaviour: what they accept is what Apple documents or was seen
to take, and what they print was seen in public logs. State lies in one file, so that tools see what
others did, as on a Mac.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release_tool.services.apple_tools import AppleTools

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("codesign", "security", "xcrun", "ditto", "tar", "spctl")


@dataclass(frozen=True)
class FakeMac:
    """A folder of tools with their state."""

    root: Path

    @property
    def tools(self) -> AppleTools:
        """Where production has /usr/bin."""
        return AppleTools(
            **{name: self.root / "bin" / name for name in NAMES},
            environment={"HOME": str(self.root / "home"), "PATH": "/usr/bin:/bin"},
        )

    @property
    def folder(self) -> Path:
        """Where keychains of runs stand."""
        return self.root / "home" / "keychains of runs"

    @property
    def state(self) -> dict[str, object]:
        """What the tools know."""
        found = marshal.loads((self.root / "state").read_bytes())
        assert isinstance(found, dict)
        return found

    @property
    def search_list(self) -> list[str]:
        found = self.state["search"]
        assert isinstance(found, list)
        return found

    @property
    def keychains(self) -> Mapping[str, Mapping[str, object]]:
        found = self.state["keychains"]
        assert isinstance(found, dict)
        return found

    @property
    def calls(self) -> list[dict[str, object]]:
        """Each start of a tool: its name, arguments, environment, and the process table then."""
        path, found = self.root / "calls", []
        if path.exists():
            with path.open("rb") as log, contextlib.suppress(EOFError):
                while True:
                    found.append(marshal.load(log))
        return found

    def commands(self, tool: str) -> list[list[str]]:
        """What a tool was asked, `security -i`'s lines included."""
        found = []
        for call in self.calls:
            if call["tool"] == tool:
                asked = call["asked"]
                assert isinstance(asked, list)
                found.append(asked)
        return found

    def fault(self, command: str, *faults: Mapping[str, object]) -> None:
        """What the next starts of a command answer instead of working.

        Args:
            command: as `security import`, `codesign`, `notarytool submit`.
            faults: one for each start: `status`, `stdout`, `stderr`; or `pause`, to hang.
        """
        state = self.state
        known = state["faults"]
        assert isinstance(known, dict)
        known[command] = list(faults)
        self.write(state)

    def expect(self, p12: bytes, password: str, *, sha1: str, name: str) -> None:
        """Spare the import from opening this file: it is slow, and one test lets it."""
        state = self.state
        digest = hashlib.sha256(p12 + password.encode()).hexdigest()
        state["known"] = {digest: [sha1, name]}
        self.write(state)

    def write(self, state: Mapping[str, object]) -> None:
        """Replace the state."""
        (self.root / "state").write_bytes(marshal.dumps(dict(state)))


def install(root: Path) -> FakeMac:
    """Put the tools into a folder."""
    mac = FakeMac(root)
    (root / "bin").mkdir(parents=True)
    (root / "home").mkdir()
    login = root / "home" / "login.keychain-db"
    login.touch()
    mac.write({"search": [str(login)], "keychains": {}, "faults": {}, "known": {}})
    for name in NAMES:
        path = root / "bin" / name
        path.write_text(
            # Without the site's packages it starts fast; who needs them adds them.
            f"#!{sys.executable} -IS\n"
            "import sys\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests.fake_mac import {name}, play\n"
            f"play.main({name!r}, {str(root)!r}, {name}.answer, {sys.path!r})\n"
        )
        path.chmod(0o755)
    return mac
