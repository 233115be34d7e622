"""Where labels go, so that they do not cover each other. All places are in pixels, y downwards."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

#: What a line of labels takes, and a character of one.
LINE_HEIGHT, CHARACTER = 14, 6.7


def pixels(value: float, ends: Sequence[float], size: float, *, logarithmic: bool = False) -> float:
    """Return where a value is on an axis of ``size`` pixels that begins and ends at ``ends``."""
    low, high = (log(end) for end in ends) if logarithmic else ends
    return size * ((log(value) if logarithmic else value) - low) / (high - low)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least ``gap`` apart in the same order, as near to the given ones as can be.

    They stay between ``low`` and ``high`` if there is room, and share it evenly if there is not.

    Source: isotonic regression by pooling (Barlow et al. 1972), of the places less their gaps.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = min(max(places[i], low), high) - rank * gap, 1
        while pools and pools[-1][0] >= mean:
            other, many = pools.pop()
            mean, size = (mean * size + other * many) / (size + many), size + many
        pools.append((mean, size))
    last = high - (len(order) - 1) * gap
    levels = [min(max(mean, low), last) for mean, size in pools for _ in range(size)]
    moved = {i: level + rank * gap for rank, (i, level) in enumerate(zip(order, levels, strict=True))}
    return [moved[i] for i in range(len(places))]


def beside(points: Sequence[tuple[float, float, str]], height: float) -> list[float]:
    """Return the heights of labels right of some points: each its own where others are as far right.

    Args:
        points: x, y and text of each.
        height: of the picture.
    """
    found = [y for _, y, _ in points]
    group: list[int] = []
    end = float("-inf")
    for i in sorted(range(len(points)), key=lambda i: points[i][0]):
        x, _, text = points[i]
        if x > end:
            _part(group, found, height)
            group = []
        group.append(i)
        end = max(end, x + 2 * LINE_HEIGHT + CHARACTER * len(text))
    _part(group, found, height)
    return found


def _part(group: Sequence[int], found: list[float], height: float) -> None:
    for i, y in zip(group, spread([found[i] for i in group], LINE_HEIGHT, 0, height), strict=True):
        found[i] = y


def free(boxes: Sequence[tuple[float, float, str]]) -> list[int]:
    """Return which labels can be shown without covering one another, the first ones rather than later ones.

    Args:
        boxes: left end, middle and text of each.
    """
    kept: list[int] = []
    for i, (x, y, text) in enumerate(boxes):
        ends = x + CHARACTER * len(text)
        near = (boxes[j] for j in kept if abs(boxes[j][1] - y) < LINE_HEIGHT)
        if all(ends < left or left + CHARACTER * len(other) < x for left, _, other in near):
            kept.append(i)
    return sorted(kept)
