"""What fewer bytes cost: recall of each codec against the size of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....registry.types import MeasureRecord
from ...figures import interval, number
from .chart import Chart, Kind
from .grammar import (
    BOUNDED,
    SHAPES,
    Spec,
    by_version,
    category,
    label,
    layer,
    logarithmic,
    of_version,
    quantity,
    refs,
    short,
)
from .measured import Measured, ends
from .placing import beside, pixels

KIND = Kind(
    name="tradeoff",
    title="Recall against bytes",
    reading=(
        "Each circle is a codec, by the bytes that a vector takes and the share of the true neighbours that "
        "is found among its codes; other shapes above it are the same codes with the best candidates ranked "
        "anew by exact vectors, which must be kept too. Up and to the left is good; a codec below and right "
        "of another one is not worth having."
    ),
)
_HEIGHT = 320
#: The picture is about so wide inside its axes, as far as labels have to know.
_WIDTH = 540


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    codec: str
    rescore: str
    bytes: float
    recall: MeasureRecord

    @property
    def search(self) -> str:
        """How neighbours were looked for."""
        return f"{self.rescore} × k ranked anew" if self.rescore else "codes alone"

    @property
    def low(self) -> float:
        """Where the interval begins."""
        return self.recall.value if self.recall.low is None else self.recall.low


def tradeoff(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return recall against bytes per vector; None where no codec has both.

    Args:
        now: a run of ``quantization``; its items are not used.
        before: the comparable run of the baseline.
    """
    own, other = _points(now), _points(before) if before else []
    if not own:
        return None
    names = refs(now.run.version, before.run.version if before and other else None)
    was = {(p.codec, p.rescore): number(p.recall.value, "share") for p in other}
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=_text(own, was),
        spec=_spec(names, [own, other] if other else [own]),
        columns=("codec", "ranked anew", "bytes", own[0].recall.metric, "interval", *names[1:]),
        rows=[(*_row(p), *([was.get((p.codec, p.rescore), "–")] if other else [])) for p in own],
    )


def _points(given: Measured) -> list[_Point]:
    """Return the points in the order of the run; searches other than the usual one take no part."""
    sizes = {
        m.labels.get("codec"): m.value
        for m in given.run.measures
        if m.metric == "bytes_per_vector" and m.value > 0
    }
    recalls = (m for m in given.run.measures if m.metric.startswith("recall@") and "search" not in m.labels)
    return [
        _Point(codec=codec, rescore=m.labels.get("rescore", ""), bytes=sizes[codec], recall=m)
        for m in recalls
        if (codec := m.labels.get("codec", "")) in sizes
    ]


def _spec(names: Sequence[str], both: Sequence[Sequence[_Point]]) -> Spec:
    values = [
        {"version": name, "codec": short(p.codec), "search": p.search, "bytes": p.bytes}
        | {"recall": round(p.recall.value, 5), **ends(p.recall)}
        for name, points in zip(names, both, strict=True)
        for p in points
    ]
    every = [p for points in both for p in points]
    sizes, metric = [p.bytes for p in every], every[0].recall.metric
    floor = max(0.0, int(10 * min(p.low for p in every) - 0.1) / 10)
    scale = {"domain": [floor, 1.01]}
    x = quantity("bytes", "bytes of a vector", **logarithmic(min(sizes), 1.6 * max(sizes), format=",~f"))
    y = quantity("recall", metric, scale=scale)
    hue = _hue(names)
    low = {"y": quantity("low", metric, scale=scale), "y2": {"field": "high"}}
    error = layer("rule", {"x": x} | low | hue, where=BOUNDED, opacity=0.7)
    by_codec = {"x": x, "y": y, "detail": {"field": "codec"}} | hue
    stem = layer("line", by_codec, where=of_version(names[0]), strokeWidth=1, opacity=0.5)
    told = [{"field": f} for f in ("version", "codec", "search", "bytes")]
    told += [{"field": "recall", "format": ".3f"}]
    points = {"x": x, "y": y, "shape": _shape(every), "tooltip": told} | hue
    dots = [
        layer(
            "point",
            points,
            where=of_version(name),
            filled=name == names[0],
            opacity=1,
            size=70,
            strokeWidth=1.5,
        )
        for name in reversed(names)
    ]
    return {
        "height": _HEIGHT,
        "data": {"values": values},
        "layer": [stem, error, *dots, *_labels(x, y, both[0])],
    }


def _hue(names: Sequence[str]) -> Spec:
    colour: Spec = by_version(names)["color"]
    if len(names) > 1:
        told = "datum.index ? datum.label + ' (hollow)' : datum.label"
        colour |= {"legend": colour["legend"] | {"symbolType": "circle", "labelExpr": told}}
    return {"color": colour}


def _shape(points: Sequence[_Point]) -> Spec:
    searches = list(dict.fromkeys(p.search for p in points))
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(searches))]
    legend = {"title": None, "orient": "bottom", "symbolOpacity": 1}
    return category("search", scale={"domain": searches, "range": shapes}, legend=legend)


def _labels(x: Spec, y: Spec, points: Sequence[_Point]) -> list[Spec]:
    """Return the name of each codec, right of its own point."""
    plain = [p for p in points if not p.rescore]
    across, (floor, top) = x["scale"]["domain"], y["scale"]["domain"]
    places = [
        (
            pixels(p.bytes, across, _WIDTH, logarithmic=True),
            pixels(p.recall.value, (top, floor), _HEIGHT),
            short(p.codec),
        )
        for p in plain
    ]
    heights = beside(places, _HEIGHT)
    data = [
        {"bytes": p.bytes, "recall": round(top - at * (top - floor) / _HEIGHT, 5), "told": short(p.codec)}
        for p, at in zip(plain, heights, strict=True)
    ]
    return label({"x": x, "y": y, "text": {"field": "told"}}, data=data, dx=9)


def _text(own: Sequence[_Point], was: dict[tuple[str, str], str]) -> str:
    told = []
    for p in sorted((p for p in own if not p.rescore), key=lambda p: -p.recall.value):
        before = was.get((p.codec, ""))
        beside = f" (before {before})" if before is not None else ""
        told.append(f"{short(p.codec)} {number(p.recall.value, 'share')}{beside} in {number(p.bytes)} bytes")
    return f"{own[0].recall.metric} by codec: {', '.join(told)}."


def _row(p: _Point) -> tuple[str, ...]:
    value, span = number(p.recall.value, "share"), interval(p.recall.low, p.recall.high, "share")
    return short(p.codec), f"{p.rescore} × k" if p.rescore else "", number(p.bytes), value, span
