"""How alike random rows are: the histogram of their cosines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...figures import number
from .chart import NOW, Chart, Kind
from .grammar import Spec, by_version, label, layer, of_version, quantity, refs
from .measured import Floats, Measured

if TYPE_CHECKING:
    from ....registry.types import MeasureRecord

KIND = Kind(
    name="similarity",
    title="Cosines of random pairs",
    reading=(
        "Each step is the share of random pairs of rows whose cosine lies there: 1 for the same direction, "
        "0 for unrelated ones. A hill around 0 is good; a hill far to the right, or a spike near 1, is a "
        "collapsed space in which everything resembles everything."
    ),
)
_HEIGHT = 260
_X = quantity("cosine", "cosine of two random rows", scale={"domain": [-1, 1]})
_Y = quantity("share", "share of the pairs", scale={"zero": True})
#: Right of this mean its label would leave the picture.
_FAR = 0.3


def similarity(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return the histogram of the cosines of random pairs; None without items or without pairs.

    Args:
        now: a run of ``anisotropy``.
        before: the comparable run of the baseline; left out if it has none or other bins.
    """
    middles, own = _histogram(now)
    if not own.sum() > 0:
        return None
    both = [(now, own)]
    if before is not None:
        other = _histogram(before)[1]
        both += [(before, other)] if len(other) == len(own) and other.sum() > 0 else []
    names = refs(now.run.version, before.run.version if before and len(both) > 1 else None)
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=_text([given for given, _ in both]),
        spec=_spec(names, middles, both),
        columns=("cosine from", "to", *names),
        rows=_rows(middles, [shares for _, shares in both]),
    )


def _histogram(given: Measured) -> tuple[Floats, Floats]:
    """Return the middles of the bins, and the share of the pairs in each."""
    return given.column("position", "similarity"), given.column("value", "similarity")


def _spec(names: Sequence[str], middles: Floats, both: Sequence[tuple[Measured, Floats]]) -> Spec:
    values = [
        {"version": name, "cosine": round(x, 6), "share": float(f"{y:.4g}")}
        for name, (_, shares) in zip(names, both, strict=True)
        for x, y in zip(middles.tolist(), shares.tolist(), strict=True)
    ]
    told = [
        {"field": "version"},
        {"field": "cosine", "format": ".3~f"},
        {"field": "share", "format": ".3~g"},
    ]
    step = {"x": _X, "y": _Y}
    own = of_version(names[0])
    filled = layer("area", step, where=own, interpolate="step", opacity=0.25, color=NOW)
    lines = layer("line", step | by_version(names) | {"tooltip": told}, interpolate="step")
    means = [given.measure("mean_cosine") for given, _ in both]
    return {"height": _HEIGHT, "data": {"values": values}, "layer": [filled, lines, *_means(names, means)]}


def _means(names: Sequence[str], means: Sequence[MeasureRecord | None]) -> list[Spec]:
    """Return upright lines at the mean cosines, their labels below each other."""
    layers: list[Spec] = []
    for i, (name, mean) in enumerate(zip(names, means, strict=True)):
        if mean is None:
            continue
        told = f"mean {number(mean.value, 'cosine')}" + (f" ({name})" if len(names) > 1 else "")
        data = [{"version": name, "cosine": mean.value, "told": told}]
        hue = {"color": by_version(names)["color"]}
        layers.append(layer("rule", {"x": _X} | hue, data=data, strokeDash=[2, 2]))
        side = {"align": "right", "dx": -6} if mean.value > _FAR else {"dx": 6}
        layers += label({"x": _X, "y": {"value": 8 + 16 * i}, "text": {"field": "told"}}, data=data, **side)
    return layers


def _text(both: Sequence[Measured]) -> str:
    means = [m for given in both if (m := given.measure("mean_cosine"))]
    told = [f"Mean cosine {' (before '.join(number(m.value, 'cosine') for m in means)}"] if means else []
    told = [f"{one})" if len(means) > 1 else one for one in told]
    low, high = (both[0].measure("similarity_quantile", q=q) for q in ("0.05", "0.95"))
    if low and high:
        span = f"between {number(low.value, 'cosine')} and {number(high.value, 'cosine')}"
        told.append(f"90% of {low.n:,} random pairs lie {span}")
    return f"{'; '.join(told)}." if told else "How often each cosine occurs among random pairs."


def _rows(middles: Floats, shares: Sequence[Floats]) -> list[tuple[str, ...]]:
    """Return a row for each bin that any pair is in."""
    half = 1 / len(middles)
    return [
        (number(x - half), number(x + half), *(number(float(own[i]), "share") for own in shares))
        for i, x in enumerate(middles.tolist())
        if any(own[i] > 0 for own in shares)
    ]
