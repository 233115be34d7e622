"""Where labels go, which names pictures have, and where the marks of logarithmic axes are."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embreg.evals.report.charts.grammar import apart, logarithmic, refs, slug
from embreg.evals.report.charts.placing import CHARACTER, LINE_HEIGHT, beside, free, pixels, spread

PLACES = st.floats(-50, 450)
TEXTS = st.text(st.sampled_from("abc"), max_size=12)


def test_places_that_are_apart_stay() -> None:
    assert spread([10, 50, 30], 14, 0, 100) == pytest.approx([10, 50, 30])


def test_places_that_are_near_part_evenly_from_their_middle() -> None:
    assert spread([50, 50], 10, 0, 100) == pytest.approx([45, 55])
    assert spread([48, 50, 52, 90], 10, 0, 100) == pytest.approx([40, 50, 60, 90])


def test_places_stay_inside() -> None:
    assert spread([100, 100], 10, 0, 100) == pytest.approx([90, 100])
    assert spread([0] * 11, 50, 0, 100) == pytest.approx(range(0, 101, 10)), "too many share the room"
    assert spread([], 10, 0, 1) == []


@given(st.lists(PLACES, max_size=12))
def test_spread_keeps_the_order_the_gap_and_the_ends(places: list[float]) -> None:
    moved = spread(places, 14, 0, 400)
    order = sorted(range(len(places)), key=lambda i: places[i])
    ordered = [moved[i] for i in order]
    assert all(b - a >= 14 - 1e-9 for a, b in pairwise(ordered))
    assert all(-1e-9 <= place <= 400 + 1e-9 for place in moved)


@given(st.lists(st.tuples(PLACES, PLACES, TEXTS), max_size=15))
def test_labels_beside_points_do_not_overlap(points: list[tuple[float, float, str]]) -> None:
    heights = beside(points, 400)
    boxes = [(x, y, CHARACTER * len(text)) for (x, _, text), y in zip(points, heights, strict=True)]
    for i, (x, y, wide) in enumerate(boxes):
        for left, other, width in boxes[:i]:
            meet = x < left + width and left < x + wide
            assert not meet or abs(y - other) >= LINE_HEIGHT - 1e-6


@given(st.lists(st.tuples(PLACES, PLACES, TEXTS.filter(bool)), max_size=15))
def test_labels_that_are_kept_do_not_overlap_and_the_first_is_kept(
    boxes: list[tuple[float, float, str]],
) -> None:
    kept = free(boxes)
    assert kept == sorted(set(kept))
    assert not boxes or kept[0] == 0
    for n, i in enumerate(kept):
        for j in kept[:n]:
            (x, y, text), (left, other, more) = boxes[i], boxes[j]
            apart_enough = x >= left + CHARACTER * len(more) or left >= x + CHARACTER * len(text)
            assert apart_enough or abs(y - other) >= LINE_HEIGHT


def test_pixels_by_step_and_by_factor() -> None:
    assert pixels(3, (1, 5), 100) == 50
    assert pixels(1, (5, 1), 100) == 100
    assert pixels(10, (1, 100), 100, logarithmic=True) == pytest.approx(50)


def test_marks_of_a_logarithmic_axis() -> None:
    assert logarithmic(1, 20_000)["axis"]["values"] == [1, 10, 100, 1000, 10_000]
    assert logarithmic(3, 60, format="~g")["axis"] == {"values": [5, 10, 20, 50], "format": "~g"}
    assert logarithmic(7, 7)["axis"]["values"] == [5, 10]
    assert logarithmic(1, 1)["axis"]["values"] == [1, 2]


@given(st.floats(1e-300, 1e300), st.floats(1, 1e6))
def test_a_logarithmic_axis_holds_its_ends_and_few_marks(low: float, factor: float) -> None:
    high = min(low * factor, 1e305)
    made = logarithmic(low, high)
    first, last = made["scale"]["domain"]
    assert 0 < first <= low <= high <= last
    marks = made["axis"]["values"]
    assert 2 <= len(marks) <= 40
    assert marks == sorted(set(marks))
    assert first <= marks[0] < marks[-1] <= last


def test_versions_are_never_called_alike() -> None:
    assert refs("words@2", None) == ("words@2",)
    assert refs("table", "table") == ("table", "table (before)")
    assert apart(["x" * 50, "x" * 60, "y"]) == [f"{'x' * 39}… (1)", f"{'x' * 39}… (2)", "y"]


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_slug_is_an_anchor_and_a_file_name(words: list[str]) -> None:
    made = slug("kind", *words)
    assert re.fullmatch(r"kind[a-z0-9-]*", made)
    assert len(made) <= 60


def test_slugs_tell_apart_what_their_letters_do_not() -> None:
    assert slug("sections", "google") == "sections-google"
    names = ["a.b", "a b", "a-b", "a_b", "A-B", "é", "è", "a" * 50, "a" * 51]
    assert len({slug("sections", name) for name in names}) == len(names)
