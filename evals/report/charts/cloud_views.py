"""One version of a map: its points, the names of some, and a ring around the row under the pointer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .chart import CLASSES, INK, NOW, QUIET, RAMP
from .grammar import SHAPES, Spec, category, label, layer, quantity, short
from .placing import CHARACTER, free, pixels

Value = Mapping[str, Any]
Fields = tuple[str, str]
#: Points of small classes, and those of which no class is known.
OTHERS, NO_CLASS = "other classes", "no class"
_QUIET = {OTHERS: "triangle-left", NO_CLASS: "circle"}
_NAMES = {"id": "id", "label": "class", "movement": "moved", "occurrence": "in lists"}
_LEGENDS = {"movement": "moved (cosine distance)", "occurrence": "stands in so many lists"}
_SIDE = 310
#: So many points are named.
_NAMED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What both versions of a map share.

    Attributes:
        across, up: the ends of the axes; a step is as long in both.
        titles: of the axes.
    """

    across: tuple[float, float]
    up: tuple[float, float]
    titles: Sequence[str]

    @classmethod
    def around(cls, points: NDArray[np.float64], titles: Sequence[str]) -> Self:
        """Return the square around points ``(m, 2)``, m >= 1."""
        low, high = points.min(axis=0), points.max(axis=0)
        width, largest = float((high - low).max()), float(np.abs(points).max())
        half = max(0.52 * width, 1e-5 * largest) or 1.0
        ends = [(float(f"{c - half:.7g}"), float(f"{c + half:.7g}")) for c in ((low + high) / 2).tolist()]
        return cls(across=ends[0], up=ends[1], titles=titles)


def view(name: str, frame: Frame, fields: Fields, by: str, values: Sequence[Value]) -> Spec:
    """Return one version of a map.

    Args:
        name: of the version.
        frame: the axes.
        fields: which of the values hold its coordinates; rows without them are not in this version.
        by: what points are coloured by.
        values: the points; those that come last are drawn last.
    """
    bare = {"ticks": False, "labels": False, "grid": False}
    x, y = (
        quantity(field, title, scale={"domain": list(ends), "zero": False, "nice": False}, axis=bare)
        for field, title, ends in zip(fields, frame.titles, (frame.across, frame.up), strict=True)
    )
    place, there = {"x": x, "y": y}, f"isValid(datum.{fields[0]})"
    known = {field for value in values for field in value}
    told = [{"field": field, "title": title} for field, title in _NAMES.items() if field in known]
    points = layer(
        "point", place | _looks(by, values) | {"tooltip": told}, where=there, filled=True, strokeWidth=0
    )
    points["params"] = [{"name": _pointed(fields), "select": {"type": "point", "fields": ["id"]}
                         | {"on": "pointerover", "clear": "pointerout"}}]  # fmt: skip
    either = [{"param": _pointed(f), "empty": False} for f in (("x", "y"), ("bx", "by")) if f[0] in known]
    ring = layer("point", place, where={"and": [there, {"or": either}]}, filled=False, color=INK, size=160)
    title = {"text": name, "fontWeight": "normal", "fontSize": 13, "color": INK}
    layers = [points, ring, *_names(place, fields, frame, by, values)]
    return {"title": title, "width": _SIDE, "height": _SIDE, "layer": layers}


def _pointed(fields: Fields) -> str:
    return f"pointed_{fields[0]}"


def _looks(by: str, values: Sequence[Value]) -> Spec:
    """Return the colours, and shapes or sizes that say the same."""
    if by == "label":
        return _by_class(values)
    if not by:
        return {"color": {"value": NOW}, "opacity": {"value": 0.5}, "size": {"value": 20}}
    legend, scale = {"title": _LEGENDS[by]}, {"zero": True, "nice": False}
    return {
        "color": quantity(by, None, scale=scale | {"range": list(RAMP), "interpolate": "lab"}, legend=legend),
        "size": quantity(by, None, scale=scale | {"range": [8, 90]}, legend=legend),
        "opacity": {"value": 0.7},
    }


def _by_class(values: Sequence[Value]) -> Spec:
    counts = Counter(value["group"] for value in values)
    names = sorted((name for name in counts if name not in _QUIET), key=lambda name: -counts[name])
    rest = [name for name in _QUIET if name in counts]
    ranges = {
        "color": [*CLASSES[: len(names)], *(QUIET for _ in rest)],
        "shape": [*SHAPES[: len(names)], *(_QUIET[name] for name in rest)],
    }
    legend = {"title": None, "columns": 4, "labelLimit": 150, "symbolOpacity": 1}
    looks = {
        channel: category("group", scale={"domain": [*names, *rest], "range": own}, legend=legend)
        for channel, own in ranges.items()
    }
    faint = {"condition": {"test": {"field": "group", "oneOf": rest}, "value": 0.35}, "value": 0.8}
    return {**looks, "opacity": faint, "size": {"value": 24}}


def _names(place: Spec, fields: Fields, frame: Frame, by: str, values: Sequence[Value]) -> list[Spec]:
    """Return names that do not cover each other: of classes in their middle, else of the first points."""
    there = [value for value in values if fields[0] in value]
    told = _classes(there, fields) if by == "label" else _first(there, fields, by)
    boxes = [
        (
            pixels(x, frame.across, _SIDE) + (-CHARACTER * len(text) / 2 if by == "label" else 7),
            pixels(y, frame.up[::-1], _SIDE),
            text,
        )
        for x, y, text in told
    ]
    data = [dict(zip((*fields, "told"), told[i], strict=True)) for i in free(boxes)]
    look = {"align": "center", "fontWeight": "bold", "fontSize": 11} if by == "label" else {"dx": 7}
    return label(place | {"text": {"field": "told"}}, data=data, **look) if data else []


def _classes(values: Sequence[Value], fields: Fields) -> list[tuple[float, float, str]]:
    places: dict[str, list[tuple[float, float]]] = {}
    for value in values:
        if value["group"] not in _QUIET:
            places.setdefault(value["group"], []).append((value[fields[0]], value[fields[1]]))
    middles = {name: np.median(own, axis=0) for name, own in places.items()}
    return [
        (float(middles[name][0]), float(middles[name][1]), name)
        for name in sorted(places, key=lambda name: -len(places[name]))
    ]


def _first(values: Sequence[Value], fields: Fields, by: str) -> list[tuple[float, float, str]]:
    most = [value for value in reversed(values) if by and value.get(by, 0) > 0][:_NAMED]
    return [(value[fields[0]], value[fields[1]], short(value["id"])) for value in most]
