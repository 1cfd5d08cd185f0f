"""The bench tells an aim that was missed, beside its number and at the end."""

from __future__ import annotations

from bench_aims import Aims

MB = 1_000_000


def test_an_aim_that_is_met_is_told_beside_its_number() -> None:
    """The limit itself is met, too."""
    aims = Aims()
    assert aims.at_most("bytes", 1.01, 1.01) == "(aim at most 1.01)"
    assert aims.at_least("speed", 5, 5) == "(aim at least 5)"
    assert aims.summary() == ["every aim that was measured is met"]


def test_a_miss_is_never_silent() -> None:
    """Told where it stands and once more at the end, by its name."""
    aims = Aims()
    assert aims.at_most("bytes", 3.0, 1.01) == "(aim at most 1.01: missed)"
    assert aims.at_least("speed", 4.9, 5) == "(aim at least 5: missed)"
    assert aims.summary() == [
        "missed: bytes (aim at most 1.01)",
        "missed: speed (aim at least 5)",
    ]


def test_memory_is_judged_from_the_smallest_size_on() -> None:
    """What grows between the two smallest sizes is growth as any other."""
    aims = Aims()
    told = aims.flat("memory", {10 * MB: 60 * MB, 250 * MB: 100 * MB, 2000 * MB: 101 * MB})
    assert told.startswith("60 MB at 10 MB, 100 MB at 250 MB, 101 MB at 2000 MB: 1.68 times")
    assert told.endswith("+41 MB (aim the same, within 1.2 times: missed)")
    assert aims.missed == ["memory (aim the same, within 1.2 times)"]
    even = Aims()
    assert "missed" not in even.flat("memory", {10 * MB: 100 * MB, 2000 * MB: 119 * MB})
    assert even.missed == []
