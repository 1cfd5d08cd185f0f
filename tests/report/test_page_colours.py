"""The colours of the page: each pair that stands together can be read, in both schemes."""

from __future__ import annotations

import re

import pytest

from release_tool import data

TEXT, SHAPE = 4.5, 3.0
"""WCAG 2.2: 1.4.3 for text, level AA; 1.4.11 for shapes that say something."""
PAIRS = [
    *((name, ground, TEXT) for name in ("text", "soft") for ground in ("page", "card", "tint")),
    *(("accent", ground, TEXT) for ground in ("page", "card", "tint")),
    *((name, f"{name}-tint", TEXT) for name in ("good", "bad", "wait")),
    *((name, "card", TEXT) for name in ("good", "bad", "wait")),
    *((name, "page", SHAPE) for name in ("good", "bad", "wait", "edge")),
    *((name, "card", SHAPE) for name in ("edge", "accent", "bad")),
    *((name, "tint", SHAPE) for name in ("accent", "edge", "wait", "bad")),
]


def _schemes() -> dict[str, dict[str, str]]:
    style = (data.templates_folder() / "report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    found = {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))
        for name, text in (("light", light), ("dark", dark))
    }
    assert found["light"].keys() == found["dark"].keys()
    return found


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_ratio_is_wcags() -> None:
    """Black on white is 21, and the grey that is known to be the last to pass passes."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_can_be_read(scheme: str) -> None:
    """All pairs at once, so that a changed colour shows everything that it breaks."""
    colours = _schemes()[scheme]
    weak = [
        f"{one} on {other}: {found:.2f}"
        for one, other, wanted in PAIRS
        if (found := contrast(colours[one], colours[other])) < wanted
    ]
    assert weak == []


def test_no_colour_is_named_elsewhere() -> None:
    """A colour outside of the two schemes and of print would escape the computation."""
    style = (data.templates_folder() / "report.css").read_text()
    outside = re.sub(r":root \{.*?\}", "", style, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(|\bopacity", outside) == []
