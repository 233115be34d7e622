"""What faster search costs: recall of each index against the time of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....registry.types import MeasureRecord
from ...figures import interval, named, number
from .chart import CLASSES, INK, Chart, Kind
from .grammar import SHAPES, Spec, category, label, layer, logarithmic, quantity, short
from .measured import Measured
from .placing import CHARACTER, free, pixels

KIND = Kind(
    name="pareto",
    title="Recall against time",
    reading=(
        "Each point is an index at one search setting, by the median time of a query and the share of the "
        "true neighbours it finds; the line joins the settings that no other one beats in both, and the "
        "ring is the one in force. Up and to the left is good; faint points cost time and give nothing, and "
        "an index whose line lies under another one's has no use."
    ),
)
_HEIGHT, _WIDTH = 320, 540
_NOW, _BEFORE = "now", "before"
_FAINT = {"condition": {"test": f"datum.best && datum.when == '{_NOW}'", "value": 1}, "value": 0.35}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """An index at a setting.

    Attributes:
        setting: such as ``nprobe=16``; empty for one that has nothing to set.
        best: whether no other setting of the index beats it.
        built: whether it is the one in force.
        when: ``now`` or ``before``.
    """

    index: str
    setting: str
    ms: float
    recall: MeasureRecord
    best: bool
    built: bool
    when: str

    @property
    def value(self) -> str:
        """What the parameter is set to."""
        return self.setting.rpartition("=")[2] or "as built"


def pareto(now: Sequence[Measured], before: Sequence[Measured] = ()) -> Chart | None:
    """Return recall against the median time of a query; None where no index has both.

    Args:
        now: runs of ``index``, one each index (``run.params["index"]``); items are not used.
        before: the comparable runs of the baseline.
    """
    own = [p for given in now for p in _points(given, _NOW)]
    if not own:
        return None
    points = own + [p for given in before for p in _points(given, _BEFORE)]
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=_text(own),
        spec=_spec(points),
        columns=("index", "version", "setting", "ms", own[0].recall.metric, "interval", "unbeaten"),
        rows=[_row(p) for p in points],
    )


def _points(given: Measured, when: str) -> list[_Point]:
    """Return the settings of a sweep; of an index that has none the build as it is set."""
    measures = given.run.measures
    times = {named(m.labels): m.value for m in measures if m.metric == "latency_p50" and m.value > 0}
    flags = {named(m.labels): m.value > 0 for m in measures if m.metric == "pareto"}
    found = [
        _Point(
            index=str(given.run.params.get("index", "")),
            setting=short(told),
            ms=times[told],
            recall=m,
            best=flags.get(told, not flags),
            built=times[told] == times.get(""),
            when=when,
        )
        for m in measures
        if m.metric.startswith("recall@") and (told := named(m.labels)) in times
    ]
    return [p for p in found if p.setting] or found


def _spec(points: Sequence[_Point]) -> Spec:
    values = [
        {"index": short(p.index), "setting": p.setting or "as built", "ms": float(f"{p.ms:.4g}")}
        | {"recall": round(p.recall.value, 5), "best": p.best, "built": p.built, "when": p.when}
        for p in points
    ]
    times = [p.ms for p in points]
    scale = logarithmic(min(times) / 1.2, max(times), format="~g")
    floor = max(0.0, int(10 * min(p.recall.value for p in points) - 0.1) / 10)
    place = {
        "x": quantity("ms", "median time of a query, ms", **scale),
        "y": quantity("recall", points[0].recall.metric, scale={"domain": [floor, 1.005]}),
    }
    hue, shape, dash = _looks(points)
    told = [{"field": f} for f in ("index", "setting", "when")]
    told += [{"field": "ms", "format": ".3~g"}, {"field": "recall", "format": ".3f"}]
    front = place | {"order": {"field": "ms"}, "color": hue, "strokeDash": dash}
    dots = place | {"color": hue, "shape": shape, "opacity": _FAINT, "tooltip": told}
    in_force = f"datum.built && datum.when == '{_NOW}'"
    layers = [
        layer("line", front, where="datum.best", strokeWidth=1.5),
        layer("point", place, where=in_force, size=180, filled=False, color=INK, strokeWidth=1.5),
        layer("point", dots, size=60),
        *_labels(place, [p for p in points if p.best and p.when == _NOW]),
    ]
    return {"height": _HEIGHT, "data": {"values": values}, "layer": layers}


def _looks(points: Sequence[_Point]) -> tuple[Spec, Spec, Spec]:
    """Return colour and shape, which tell indexes apart, and dashes, which tell versions apart."""
    indexes = list(dict.fromkeys(short(p.index) for p in points))
    hue, shape = (
        category("index", scale={"domain": indexes, "range": [r[i % len(r)] for i in range(len(indexes))]})
        for r in (CLASSES, SHAPES)
    )
    dashes = {"domain": [_NOW, _BEFORE], "range": [[1, 0], [5, 3]]}
    several = len({p.when for p in points}) > 1
    legend = {"title": None, "symbolType": "stroke"} if several else None
    return hue, shape, category("when", scale=dashes, legend=legend)


def _labels(place: Spec, points: Sequence[_Point]) -> list[Spec]:
    """Return what points are set to, above and left of them, as far as there is room."""
    across, (floor, top) = place["x"]["scale"]["domain"], place["y"]["scale"]["domain"]
    ordered = sorted(points, key=lambda p: not p.built)
    boxes = [
        (
            pixels(p.ms, across, _WIDTH, logarithmic=True) - CHARACTER * len(p.value),
            pixels(p.recall.value, (top, floor), _HEIGHT),
            p.value,
        )
        for p in ordered
    ]
    data = [
        {"ms": float(f"{p.ms:.4g}"), "recall": round(p.recall.value, 5), "told": p.value}
        for p in (ordered[i] for i in free(boxes))
    ]
    text = place | {"text": {"field": "told"}}
    return label(text, data=data, align="right", dx=-5, dy=-8, fontSize=11)


def _text(points: Sequence[_Point]) -> str:
    told = []
    for index in dict.fromkeys(p.index for p in points):
        best = max((p for p in points if p.index == index), key=lambda p: (p.recall.value, -p.ms))
        at = f" at {best.setting}" if best.setting else ""
        reached = f"{number(best.recall.value, 'share')} in {best.ms:.3g} ms"
        told.append(f"{short(index)} reaches {reached}{at}")
    return f"{points[0].recall.metric} of a query: {'; '.join(told)}."


def _row(p: _Point) -> tuple[str, ...]:
    value, span = number(p.recall.value, "share"), interval(p.recall.low, p.recall.high, "share")
    setting = f"{p.setting} (in force)" if p.setting and p.built else p.setting
    return short(p.index), p.when, setting, number(p.ms), value, span, "yes" if p.best else ""
