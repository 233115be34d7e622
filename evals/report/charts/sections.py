"""Which kinds of question got better or worse: accuracy by section, before and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....registry.types import MeasureRecord
from ...figures import change, interval, number
from .chart import Chart, Kind
from .grammar import BOUNDED, Spec, apart, by_version, category, label, layer, quantity, refs, short, slug
from .measured import Measured, ends

KIND = Kind(
    name="sections",
    title="Analogies by section",
    reading=(
        "Each line is a section of the questions: the square is the share answered right before, the circle "
        "the share now, both with their intervals, and the number is the change. A circle right of its "
        "square is good; sections are ordered by the change, so that what got worse stands first, and "
        "intervals that overlap widely mean little."
    ),
)
#: So many sections are drawn; the table has all of them.
_MOST = 30
_LINE = 30
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
#: The axis goes on past 1 where the changes are written at its end.
_ROOM = 1.12
#: Beside its sections, the total.
_ALL = "all sections"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    name: str
    now: MeasureRecord
    before: MeasureRecord | None

    @property
    def change(self) -> float:
        """How much the accuracy rose."""
        return self.now.value - self.before.value if self.before else 0.0

    @property
    def told(self) -> str:
        """The accuracy and the name."""
        return f"{number(self.now.value, 'share')} ({short(self.name)})"


def sections(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return accuracy by section; None where no section has one. Its name bears that of the dataset.

    Args:
        now: a run of ``analogies``; its items are not used.
        before: the comparable run of the baseline.
    """
    found = _found(now, before)
    if not found:
        return None
    compared = any(s.before for s in found)
    names = refs(now.run.version, before.run.version if before and compared else None)
    on = now.run.dataset or ""
    return Chart(
        kind=KIND,
        name=slug(KIND.name, on) if on else KIND.name,
        title=f"{KIND.title}: {short(on)}" if on else KIND.title,
        text=_text(found),
        spec=_spec(names, found[:_MOST]),
        columns=("section", names[0], "interval", "questions", *names[1:], *(["change"] if compared else [])),
        rows=[_row(s, compared) for s in found],
    )


def _found(now: Measured, before: Measured | None) -> list[_Section]:
    """Return the sections and the total, ordered by change; by accuracy where there is none."""
    was = _accuracies(before) if before else {}
    found = [_Section(name=name, now=m, before=was.get(name)) for name, m in _accuracies(now).items()]
    if any(s.before for s in found):
        return sorted(found, key=lambda s: (s.before is None, s.change))
    return sorted(found, key=lambda s: s.now.value)


def _accuracies(given: Measured) -> dict[str, MeasureRecord]:
    """Return the accuracies of 3CosAdd by section, and that of all sections."""
    found = {
        m.labels["section"]: m
        for m in given.run.measures
        if m.metric == "accuracy" and list(m.labels) == ["section"]
    }
    total = given.measure("accuracy", group="total")
    return {_ALL: total} | found if total and found else found


def _spec(names: Sequence[str], found: Sequence[_Section]) -> Spec:
    told, compared = apart([s.name for s in found]), len(names) > 1
    values = [
        {"section": row, "version": name, "accuracy": round(m.value, 5), "questions": m.n, **ends(m)}
        for row, s in zip(told, found, strict=True)
        for name, m in zip(names, (s.now, s.before), strict=False)
        if m is not None
    ]
    axis = {"labelLimit": 220, "grid": True, "ticks": False, "domain": False}
    y = category("section", sort=None, scale={"domain": told}, axis=axis)
    scale = {"domain": [0, _ROOM if compared else 1]}
    marks = {"format": "%", "values": list(_TICKS)}
    x, low = (quantity(field, "accuracy", scale=scale, axis=marks) for field in ("accuracy", "low"))
    offset = {"field": "version", "scale": {"domain": list(names), "paddingOuter": 0.7}}
    looks, line = by_version(names, dashed=False), {"y": y, "yOffset": offset}
    span = line | {"x": low, "x2": {"field": "high"}, "color": looks["color"]}
    tips = [{"field": "section"}, {"field": "version"}, {"field": "accuracy", "format": ".3f"}]
    dots = line | looks | {"x": x, "tooltip": [*tips, {"field": "questions"}]}
    layers = [layer("rule", span, where=BOUNDED, strokeWidth=1.5), layer("point", dots, size=60, opacity=1)]
    changes = [
        {"section": row, "told": change(s.change, "share")}
        for row, s in zip(told, found, strict=True)
        if s.before
    ]
    numbers = {"y": y, "x": {"value": "width"}, "text": {"field": "told"}}
    layers += label(numbers, data=changes, align="right", dx=-2) if changes else []
    return {"height": _LINE * len(told), "data": {"values": values}, "layer": layers}


def _text(found: Sequence[_Section]) -> str:
    cut = f"; the first {_MOST} of {len(found):,} are drawn" if len(found) > _MOST else ""
    parts = [s for s in found if s.name != _ALL]
    both = [s for s in parts if s.before]
    if not both:
        return f"Between {parts[0].told} and {parts[-1].told}{cut}."
    down = sum(s.change < 0 for s in both)
    first, last = (f"{short(s.name)} {change(s.change, 'share')}" for s in (both[0], both[-1]))
    if len(both) == 1:
        return f"Accuracy changed in its one section: {first}{cut}."
    return (
        f"Accuracy fell in {down:,} of {len(both):,} sections: {first} at one end, {last} at the other{cut}."
    )


def _row(s: _Section, compared: bool) -> tuple[str, ...]:
    span = interval(s.now.low, s.now.high, "share")
    own = (short(s.name), number(s.now.value, "share"), span, f"{s.now.n:,}")
    if not compared:
        return own
    return (*own, number(s.before.value, "share"), change(s.change, "share")) if s.before else (*own, "–", "")
