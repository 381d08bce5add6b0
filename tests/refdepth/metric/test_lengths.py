"""Lengths and picked pixels as people write them."""

from __future__ import annotations

import pytest

from refdepth.errors import ConfigurationError
from refdepth.metric.lengths import KnownDistance, Pick, parse_distance, parse_length


@pytest.mark.parametrize(
    ("text", "metres"),
    [("1.25m", 1.25), ("16cm", 0.16), ("160 mm", 0.16), ("5ft", 1.524), (".5IN", 0.0127)],
)
def test_a_length_has_its_unit(text: str, metres: float) -> None:
    assert parse_length(text, "--tag-size") == pytest.approx(metres)


@pytest.mark.parametrize("text", ["1.25", "m", "-1m", "0cm", "1.25 yards", "nan m", "1e3m", ""])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--tag-size .*like 16cm"):
        parse_length(text, "--tag-size")


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("A.jpg:812,440 B.jpg:90.5,1020 1.25m", ("A.jpg", 812, 440), ("B.jpg", 90.5, 1020)),
        ("A.jpg:812,440 820,1020 125 cm", ("A.jpg", 812, 440), ("A.jpg", 820, 1020)),
        ("my room/a b:c.jpg:1,2 d e.jpg:3,4 1.25m", ("my room/a b:c.jpg", 1, 2), ("d e.jpg", 3, 4)),
        (" clip.mp4#000012:1,2  3,4  1.25m ", ("clip.mp4#000012", 1, 2), ("clip.mp4#000012", 3, 4)),
    ],
)
def test_a_distance_names_two_pixels(
    text: str, first: tuple[str, float, float], second: tuple[str, float, float]
) -> None:
    def pick(photo: str, x: float, y: float) -> Pick:
        return Pick(photo=photo, x=x, y=y)

    assert parse_distance(text) == KnownDistance(
        first=pick(*first), second=pick(*second), length_m=1.25
    )


@pytest.mark.parametrize(
    "text",
    ["A.jpg:1,2 B.jpg:3,4", "A.jpg B.jpg 1m", "A.jpg:1,2 1m", "1,2 3,4 1m", "A.jpg:1;2 3,4 1m"],
)
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"A\.jpg:812,440 B\.jpg:90,1020 1\.25m"):
        parse_distance(text)
