"""Lengths of rows down the table, which is by frequency in most tables of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...figures import number
from ...norms import NormsByRank
from .chart import NOW, Chart, Kind
from .grammar import Spec, by_version, layer, logarithmic, of_version, quantity, refs

KIND = Kind(
    name="norms",
    title="Norms down the table",
    reading=(
        "The line is the median length of the rows at each place of the table (in most tables of words: by "
        "frequency), the dark band holds half of them and the light one nine in ten. A level, narrow band "
        "is good; one that bends or fans out tells that common and rare rows differ in length, which dot "
        "product and L2 search mistake for relevance."
    ),
)
_HEIGHT = 260
_FIELDS = ("q5", "q25", "median", "q75", "q95")


def norms(now: NormsByRank, before: NormsByRank | None = None) -> Chart | None:
    """Return quantiles of the norms by place in the table; None without rows.

    Args:
        now: as ``evals.norms.norms_by_rank`` gives them; their ``ref`` names them.
        before: of the baseline.
    """
    if not len(now.counts):
        return None
    other = before if before is not None and len(before.counts) else None
    names = refs(now.ref, other.ref if other else None)
    both = [now] if other is None else [now, other]
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=f"Median norm {_told(now)}{f' (before {_told(other)})' if other else ''}.",
        spec=_spec(names, both),
        columns=("version", "rows", "from", "5%", "25%", "median", "75%", "95%"),
        rows=[row for name, n in zip(names, both, strict=True) for row in _rows(name, n)],
    )


def _spec(names: Sequence[str], both: Sequence[NormsByRank]) -> Spec:
    values = [value for name, n in zip(names, both, strict=True) for value in _bins(name, n)]
    last = max(int(n.ends[-1]) + 1 for n in both)
    x = {"x": quantity("start", "row of the table", **logarithmic(1, last, format=",~f"))}
    x |= {"x2": {"field": "end"}}
    told = [{"field": "version"}, {"field": "rows"}, *({"field": f, "format": ".4~g"} for f in _FIELDS)]

    def band(low: str, high: str, opacity: float) -> Spec:
        y = {"y": quantity(low, "norm", scale={"zero": True}), "y2": {"field": high}}
        own = of_version(names[0])
        return layer("rect", x | y | {"tooltip": told}, where=own, color=NOW, opacity=opacity, stroke=None)

    def line(field: str, width: float, opacity: float) -> Spec:
        y = {"y": quantity(field, "norm"), "tooltip": told}
        return layer("rule", x | y | by_version(names), strokeWidth=width, opacity=opacity)

    edges = [line(field, 1, 0.7) for field in ("q5", "q95")] if len(names) > 1 else []
    layers = [band("q5", "q95", 0.2), band("q25", "q75", 0.35), *edges, line("median", 2.5, 1)]
    return {"height": _HEIGHT, "data": {"values": values}, "layer": layers}


def _bins(name: str, n: NormsByRank) -> list[dict[str, Any]]:
    return [
        {"version": name, "rows": _span(n, i), "start": int(n.starts[i]), "end": int(n.ends[i]) + 1}
        | {field: float(f"{q:.4g}") for field, q in zip(_FIELDS, n.quantiles[i].tolist(), strict=True)}
        for i in range(len(n.counts))
    ]


def _told(n: NormsByRank) -> str:
    first, last = (f"{number(float(n.quantiles[i, 2]))} in rows {_span(n, i)}" for i in (0, -1))
    return first if len(n.counts) == 1 else f"{first} and {last}"


def _span(n: NormsByRank, place: int) -> str:
    return f"{n.starts[place]:,}–{n.ends[place]:,}"


def _rows(name: str, n: NormsByRank) -> list[tuple[str, ...]]:
    return [
        (name, _span(n, i), f"{n.counts[i]:,}", *(number(float(q)) for q in n.quantiles[i]))
        for i in range(len(n.counts))
    ]
