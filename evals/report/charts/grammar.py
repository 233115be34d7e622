"""Words of Vega-Lite that several pictures use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ....registry.errors import printable
from .chart import BEFORE, NOW, PAGE

Spec = dict[str, Any]
Values = Sequence[Mapping[str, Any]]
#: Lines of this version and of its baseline.
DASHES = ([1, 0], [5, 3])
#: Shapes of classes, as many as there are colours for them.
SHAPES = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "triangle-right",
    "wedge",
)
_SLUG = re.compile(r"[^a-z0-9]+")
_LONGEST = 40
#: Of an axis by powers of ten.
_MOST_MARKS = 10


def layer(
    kind: str,
    encoding: Mapping[str, Any],
    *,
    data: Values | None = None,
    where: str | Mapping[str, Any] | None = None,
    **look: Any,
) -> Spec:
    """Return a layer: marks of one kind.

    Args:
        kind: ``point``, ``line``, ``rule`` …
        encoding: what of the data each mark shows.
        data: its own; by default that of the picture.
        where: which of the data; by default all.
        look: of every mark.
    """
    made: Spec = {"mark": {"type": kind} | look, "encoding": dict(encoding)}
    made |= {} if data is None else {"data": {"values": list(data)}}
    return made if where is None else made | {"transform": [{"filter": where}]}


def label(encoding: Mapping[str, Any], *, data: Values | None = None, **look: Any) -> list[Spec]:
    """Return two layers of one text: the lower one keeps lines off it, in the colour of the page."""
    look = {"fontSize": 12, "align": "left", "baseline": "middle", **look}
    halo = {k: v for k, v in encoding.items() if k not in ("color", "tooltip")}
    edge = {**look, "color": PAGE, "stroke": PAGE, "strokeWidth": 4, "strokeJoin": "round"}
    return [layer("text", halo, data=data, **edge), layer("text", encoding, data=data, **look)]


def quantity(field: str, title: str | None, **more: Any) -> Spec:
    """Return the encoding of a number."""
    return {"field": field, "type": "quantitative", "title": title} | more


def category(field: str, title: str | None = None, **more: Any) -> Spec:
    """Return the encoding of a name."""
    return {"field": field, "type": "nominal", "title": title} | more


def of_version(name: str) -> Spec:
    """Return the filter of the data of one version."""
    return {"field": "version", "equal": name}


#: Data whose measure has an interval.
BOUNDED = "isValid(datum.low)"


def logarithmic(low: float, high: float, **axis: Any) -> Spec:
    """Return the scale and axis of numbers > 0 by their logarithm: marks at 1, 10, 100, else 1, 2, 5, 10.

    There are two marks at least, and a little room at both ends.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    powers = range(first - 1, last + 2, 1 + (last - first) // _MOST_MARKS)
    marks = [float(f"{step}e{power}") for power in (*powers, last + 1) for step in steps]
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) < 2:
        below, above = max(m for m in marks if m <= low), min(m for m in marks if m > high)
        inside = [below, *inside, above] if below < low else [*inside, above]
    ends = min(low, inside[0]), max(high, inside[-1])
    room = (ends[1] / ends[0]) ** 0.02
    scale = {"type": "log", "domain": [ends[0] / room, ends[1] * room], "nice": False}
    return {"scale": scale, "axis": {"values": inside} | axis}


def refs(now: str, before: str | None) -> tuple[str, ...]:
    """Return how one or two versions are called in a picture, never alike."""
    if before is None:
        return (short(now),)
    return short(now), short(before) if short(before) != short(now) else f"{short(before)} (before)"


def by_version(names: Sequence[str], *, dashed: bool = True) -> Spec:
    """Return the encodings that tell versions apart: by colour, and by dashes or by shape.

    Args:
        names: as ``refs`` gives them; no legend of a single one.
        dashed: whether marks are lines; else symbols, those of the baseline squares.
    """
    symbol = {"symbolType": "stroke"} if dashed else {}
    legend = {"title": None, "symbolOpacity": 1} | symbol if len(names) > 1 else None
    channel, looks = ("strokeDash", DASHES) if dashed else ("shape", SHAPES)
    ranges: dict[str, Sequence[Any]] = {"color": (NOW, BEFORE), channel: looks}
    scales = {c: {"domain": list(names), "range": list(r[: len(names)])} for c, r in ranges.items()}
    return {channel: category("version", scale=scale, legend=legend) for channel, scale in scales.items()}


def short(text: str) -> str:
    """Return a text as it may stand in a picture."""
    return printable(text, _LONGEST)


def apart(texts: Sequence[str]) -> list[str]:
    """Return texts as they may stand in a picture, never two alike."""
    told = [short(text) for text in texts]
    return [one if told.count(one) == 1 else f"{one} ({i})" for i, one in enumerate(told, 1)]


def slug(*words: str) -> str:
    """Return words as one name of an anchor and of a file: letters, digits and hyphens.

    What no such name can tell apart is told by a checksum.
    """
    from zlib import crc32

    text = "-".join(words)
    told = _SLUG.sub("-", text.lower()).strip("-")[:_LONGEST]
    return told if told == text else f"{told}-{crc32(text.encode('utf-8', 'surrogatepass')):08x}".strip("-")
