"""The page in a real browser: on a phone, by keyboard, as a screen reader gets it, on paper.

`make report-check`. Skipped where no Chromium with its driver is found.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from release_tool.report.page import document, rendering
from tests import chromium, page_samples
from tests.chromium import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium with its driver is here"),
]
STATES: dict[str, Callable[[Path], Path]] = {
    "good": page_samples.good,
    "failed": page_samples.failed,
    "under way": page_samples.under_way,
    "withdrawn": page_samples.withdrawn,
    "withdrawn, hostile": page_samples.withdrawn_in_hostile_words,
    "rehearsed": page_samples.rehearsed,
    "rollback": page_samples.roll_back,
    "hostile": page_samples.hostile,
}
AXE = "axe-core@4.14.1"
AXE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
TAB, ENTER, SPACE = "\ue004", "\ue007", " "
_OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.started(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a release in each state."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, make in STATES.items():
        page = document.read(make(folder / name))
        found[name] = folder / f"{name}.html"
        found[name].write_text(rendering.as_html(page), encoding="utf-8")
    return found


@pytest.mark.parametrize("width", [320, 360, 1200])
@pytest.mark.parametrize("state", STATES)
def test_nothing_is_wider_than_the_window(
    browser: Browser, pages: dict[str, Path], state: str, width: int
) -> None:
    """Only tables scroll, each in a place of its own, whatever words a record holds."""
    browser.window(width, 740, phone=width < 1000)
    browser.open(pages[state])
    browser.run(_OPEN_ALL)
    assert browser.run("return document.documentElement.scrollWidth") == width
    wide = browser.run(
        "return [...document.querySelectorAll('body *')].filter(one => "
        "!one.closest('.scroll, .digest, .skip, .vh, svg') && "
        "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert wide == []


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_loaded_run_or_refused(
    browser: Browser, pages: dict[str, Path], state: str
) -> None:
    """No script, no request beside the file itself, and nothing that the policy had to stop."""
    browser.log()
    browser.open(pages[state])
    counted = "return [document.scripts.length, performance.getEntriesByType('resource').length]"
    assert browser.run(counted) == [0, 0]
    assert browser.log() == []
    assert browser.run("return getComputedStyle(document.body).maxWidth !== undefined")
    assert browser.run("return getComputedStyle(document.querySelector('.skip')).position") == (
        "absolute"
    )


def test_the_policy_holds_where_escaping_would_not(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Markup put into the file by hand runs nothing, loads nothing and styles nothing."""
    planted = (
        "<script>document.title = 'owned'</script>"
        "<img src='data:image/png;base64,AA' onerror=\"document.title = 'owned'\">"
        "<style>body { display: none }</style><p style='display: none' id=planted>x</p>"
        "<form action='http://127.0.0.1:1/'><button id=sent>x</button></form>"
    )
    changed = tmp_path / "planted.html"
    changed.write_text(pages["good"].read_text().replace("<main", f"{planted}<main"))
    browser.log()
    browser.open(changed)
    browser.run("document.getElementById('sent').click()")
    assert browser.run("return document.title") == "Darkbloom 0.5.0 is released in prod"
    assert browser.run("return getComputedStyle(document.body).display") == "block"
    shown = "return getComputedStyle(document.getElementById('planted')).display"
    assert browser.run(shown) == "block"
    refused = [
        one["message"] for one in browser.log() if "Content Security Policy" in one["message"]
    ]
    assert len(refused) >= 4


def test_the_keyboard_reaches_everything(browser: Browser, pages: dict[str, Path]) -> None:
    """The skip link first, then in order: each focus is seen, and details open by themselves."""
    browser.window(1200, 900)
    browser.open(pages["failed"])
    browser.press(TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().top >= 0")
    browser.press(ENTER)
    assert browser.run("return document.activeElement.id") == "content"
    browser.open(pages["failed"])
    wanted = browser.run(
        "return document.querySelectorAll('a, input, summary, [tabindex=\"0\"]').length"
        " - document.querySelectorAll('details:not([open]) [tabindex=\"0\"]').length"
    )
    seen = []
    for _ in range(wanted):
        browser.press(TAB)
        found = browser.run(
            "const one = document.activeElement; const style = getComputedStyle(one);"
            "return [one.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]"
        )
        assert (found[1], found[2] >= 2) == ("solid", True), found
        seen.append(found[0])
    assert "SUMMARY" in seen
    assert "INPUT" in seen
    browser.run("document.querySelector('summary').focus()")
    browser.press(ENTER)
    assert browser.run("return document.querySelector('details').open")


def test_a_digest_is_copied_whole(browser: Browser, pages: dict[str, Path]) -> None:
    """Twelve digits are seen; a selection holds them all, and the switch shows them all."""
    browser.window(1200, 900)
    browser.open(pages["good"])
    measured = (
        "const one = [...document.querySelectorAll('.digest')].find(one => "
        "one.textContent.length === 64);"
        "return [one.scrollWidth > one.clientWidth, one.textContent.length]"
    )
    assert browser.run(measured) == [True, 64]
    selected = (
        "const one = [...document.querySelectorAll('.digest')].find(one => "
        "one.textContent.length === 64); getSelection().selectAllChildren(one);"
        "return [getComputedStyle(one).userSelect, getSelection().toString().length]"
    )
    assert browser.run(selected) == ["all", 64]
    browser.run("document.getElementById('whole').focus()")
    browser.press(SPACE)
    assert browser.run(measured) == [False, 64]


@pytest.mark.parametrize("state", STATES)
def test_a_screen_reader_gets_it_in_order(
    browser: Browser, pages: dict[str, Path], state: str
) -> None:
    """Landmarks, headings without a gap, named tables with heads, and pictures in words."""
    browser.open(pages[state])
    browser.run(_OPEN_ALL)
    nodes = browser.accessible()
    roles = [node["role"]["value"] for node in nodes]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1, landmark
    levels = browser.run(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].map(one => +one.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for node in nodes:
        if node["role"]["value"] in ("image", "region", "checkbox", "link"):
            assert node["name"]["value"], node["role"]
        if node["role"]["value"] == "image":
            assert node["description"]["value"]
    bare = "return document.querySelectorAll('th:not([scope]), tbody tr:not(:has(th))').length"
    assert browser.run(bare) == 0
    assert browser.run("return document.documentElement.lang") == "en"


def test_the_dark_scheme_is_dark(browser: Browser, pages: dict[str, Path]) -> None:
    """As the reader's system asks for, and the light one is light."""
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.window(1200, 900, dark=True)
    browser.open(pages["good"])
    assert browser.run(ground) == "rgb(19, 20, 18)"
    browser.window(1200, 900)
    assert browser.run(ground) == "rgb(251, 251, 249)"


@pytest.mark.parametrize("state", ["good", "failed"])
def test_paper_holds_everything(browser: Browser, pages: dict[str, Path], state: str) -> None:
    """Digests whole, what is folded away opened, nothing to click, and nothing cut off."""
    browser.window(700, 900)
    browser.open(pages[state])
    browser.media("print")
    try:
        folded = (
            "return [...document.querySelectorAll('details > div')]"
            ".filter(one => one.getBoundingClientRect().height === 0).length"
        )
        assert browser.run(folded) == 0
        cut = (
            "return [...document.querySelectorAll('.digest')]"
            ".filter(one => one.scrollWidth > one.clientWidth + 1).length"
        )
        assert browser.run(cut) == 0
        assert browser.run("return document.querySelector('nav').offsetHeight") == 0
        assert browser.run("return document.documentElement.scrollWidth") == 700
    finally:
        browser.media("")
    assert browser.printed().startswith(b"%PDF")


@pytest.fixture(scope="module")
def axe() -> str:
    """Deque's axe-core, which judges pages by WCAG's rules."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                ["npm", "pack", "--silent", AXE], cwd=folder, check=True, capture_output=True
            )
        except FileNotFoundError:
            pytest.skip("npm is not here")
        packed = (Path(folder) / done.stdout.decode().strip()).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == AXE_SHA256
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        member = tar.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.online
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(
    browser: Browser, pages: dict[str, Path], axe: str, state: str, *, dark: bool
) -> None:
    """Every rule of axe-core, best practices as well, on everything that can be unfolded."""
    browser.window(1200, 900, dark=dark)
    browser.open(pages[state])
    browser.run(_OPEN_ALL)
    browser.run(axe)
    found = browser.wait_for(
        "const back = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then(found => back(found.violations"
        ".map(one => [one.id, one.help, one.nodes.slice(0, 3).map(node => node.html)])))"
    )
    assert found == []
