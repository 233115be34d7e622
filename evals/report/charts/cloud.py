"""Rows as points of a plane, now and before: by their class, by how far they moved, or as hubs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, log10
from typing import Any

import numpy as np

from ....registry.errors import UnknownChoice, printable
from ...figures import number
from ...projection import Projection
from . import cloud_views
from .chart import Chart, Kind
from .cloud_views import NO_CLASS, OTHERS
from .grammar import SHAPES, Spec, apart, refs, short

KIND = Kind(
    name="cloud",
    title="Map",
    reading=(
        "Each point is a row, laid into a plane so that rows that are alike lie near each other as far as a "
        "plane allows; the baseline's rows are turned onto this version's, so what lies elsewhere has "
        "moved. Classes that stay in places of their own are good; distances between far points mean "
        "little, and a map shows what to look at, it proves nothing."
    ),
)
#: What points may be coloured by.
BY = ("label", "movement", "occurrence")
_TITLES = {"label": "Map by class", "movement": "Map by movement", "occurrence": "Map by hubs", "": "Map"}
_MOST = {"movement": "moved most", "occurrence": "in most lists"}
_WAYS = {"pca": "principal axes", "tsne": "t-SNE", "umap": "UMAP"}
#: One less than there are colours: points of other classes are none of these.
_CLASSES = len(SHAPES) - 1
#: So many points are named in words, and stand in the table.
_NAMED, _ROWS = 6, 100
#: Coordinates are rounded to the power of ten below this share of the width.
_FINE = 1 / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Points of a map, and what is known of them; what is missing for an id is not known.

    Attributes:
        ref, before_ref: how the versions are called.
        now: the projection of the version (``evals.projection.project``).
        before: that of the baseline's rows of the same ids (``evals.projection.beside``).
        labels: id -> class.
        movement: id -> how far it moved: the column ``semantic_displacement`` of the items of ``drift``.
        occurrence: id -> ``k_occurrence`` of the items of ``hubness``.
    """

    ref: str
    now: Projection
    before_ref: str = ""
    before: Projection | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    movement: Mapping[str, float] = field(default_factory=dict)
    occurrence: Mapping[str, float] = field(default_factory=dict)

    def known(self, by: str) -> Mapping[str, Any]:
        """Return what is known of rows under one of ``BY``."""
        return {"label": self.labels, "movement": self.movement, "occurrence": self.occurrence}[by]

    @property
    def every(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """All points of both versions, float64 ``(m, 2)``."""
        return np.vstack([self.now.xy] if self.before is None else [self.now.xy, self.before.xy])


def clouds(given: Cloud) -> list[Chart]:
    """Return the map in every colouring that something is known for; uncoloured where there is none."""
    found = [chart for by in BY if (chart := cloud(given, by))]
    return found or [chart for chart in [cloud(given, "")] if chart]


def cloud(given: Cloud, by: str = "label") -> Chart | None:
    """Return the map coloured by one of ``BY``; None where nothing is known of that, or there is no point.

    Args:
        given: the points.
        by: one of ``BY``; empty for no colours.

    Raises:
        UnknownChoice: ``by`` is none of them.
    """
    if by and by not in BY:
        raise UnknownChoice("colouring", by, BY)
    if not len(given.now.ids) or (by and not any(name in given.known(by) for name in given.now.ids)):
        return None
    values = _values(given, by)
    return Chart(
        kind=KIND,
        name=f"{KIND.name}-{by}" if by else KIND.name,
        title=_TITLES[by],
        text=_text(given, by, values),
        spec=_spec(given, by, values),
        columns=("id", "x", "y", "class", "moved", "in lists"),
        rows=[_row(value) for value in values[: -_ROWS - 1 : -1]],
    )


def _values(given: Cloud, by: str) -> list[dict[str, Any]]:
    """Return a value for each point; those that are drawn last, and lie on top, have the most of ``by``."""
    step, groups = _step(given), _groups(given)
    was = dict(zip(given.before.ids, given.before.xy, strict=True)) if given.before else {}
    values = []
    for name, place in zip(given.now.ids, given.now.xy, strict=True):
        value: dict[str, Any] = {"id": printable(name, 60), **_at("x", "y", place, step)}
        if name in was:
            value |= _at("bx", "by", was[name], step)
        if name in given.labels:
            value["label"] = short(given.labels[name])
        if by == "label":
            value["group"] = groups.get(given.labels[name], OTHERS) if name in given.labels else NO_CLASS
        numbers = (f for f in ("movement", "occurrence") if name in given.known(f))
        values.append(value | {f: float(f"{given.known(f)[name]:.4g}") for f in numbers})
    if by == "label":
        return sorted(values, key=lambda v: v["group"] not in (OTHERS, NO_CLASS))
    return sorted(values, key=lambda v: v.get(by, -1.0)) if by else values


def _at(x: str, y: str, place: Sequence[float], step: float) -> dict[str, float]:
    """Return a point, rounded."""
    return {
        name: float(f"{round(float(v) / step) * step:.6g}") for name, v in zip((x, y), place, strict=True)
    }


def _step(given: Cloud) -> float:
    width = float(np.ptp(given.every, axis=0).max())
    return 10.0 ** floor(log10(width * _FINE)) if width > 0 else 1.0


def _groups(given: Cloud) -> dict[str, str]:
    """Return how the largest classes among the points are called."""
    counts = Counter(given.labels[name] for name in given.now.ids if name in given.labels)
    most = [name for name, _ in counts.most_common(_CLASSES)]
    return dict(zip(most, apart(most), strict=True))


def _spec(given: Cloud, by: str, values: Sequence[dict[str, Any]]) -> Spec:
    shares = given.now.explained
    titles = tuple(f"axis {i}: {100 * s:.2g}% of the variance" for i, s in enumerate(shares or (), 1))
    frame = cloud_views.Frame.around(given.every, titles or (_WAYS[given.now.how], ""))
    names = refs(given.ref, given.before_ref if given.before else None)
    fields = (("x", "y"), ("bx", "by"))[: len(names)]
    views = [
        cloud_views.view(name, frame, place, by, values)
        for name, place in zip(reversed(names), reversed(fields), strict=True)
    ]
    return {"data": {"values": list(values)}, "hconcat": views, "spacing": 16}


def _text(given: Cloud, by: str, values: Sequence[dict[str, Any]]) -> str:
    told = f"{len(values):,} rows of {short(given.ref)} by {_WAYS[given.now.how]}"
    if given.now.explained:
        told += f" ({100 * sum(given.now.explained):.2g}% of the variance)"
    if given.before:
        told += f", beside {len(given.before.ids):,} of {short(given.before_ref)}"
    if by == "label":
        counts = Counter(given.labels[name] for name in given.now.ids if name in given.labels)
        ((name, count),) = counts.most_common(1)
        return f"{told}; {len(counts):,} classes, the largest '{short(name)}' with {count:,} of them."
    most = [v for v in reversed(values) if by and v.get(by, 0) > 0][:_NAMED]
    named = ", ".join(f"{short(v['id'])} {number(v[by])}" for v in most)
    return f"{told}; {_MOST[by]}: {named}." if named else f"{told}."


def _row(value: dict[str, Any]) -> tuple[str, ...]:
    """Return a point of the table; it has those that are drawn last, for all would be a page of their own."""
    figures = [number(value[f]) if f in value else "–" for f in ("x", "y", "movement", "occurrence")]
    return value["id"], *figures[:2], value.get("label", "–"), *figures[2:]
