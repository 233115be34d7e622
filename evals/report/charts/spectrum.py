"""How many directions carry the variance: the eigenvalues, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...figures import number
from .chart import QUIET, Chart, Kind
from .grammar import Spec, by_version, label, layer, logarithmic, quantity, refs
from .measured import Floats, Measured

KIND = Kind(
    name="spectrum",
    title="Variance by direction",
    reading=(
        "Each point is the share of the variance along one principal direction, the strongest first, on a "
        "logarithmic scale; the upright line is how many directions are in use (the participation ratio). A "
        "line that falls slowly is good, for many directions are used; a few points far above the rest, or a "
        "cliff, say that most of the width is wasted."
    ),
)
CUMULATIVE = Kind(
    name="cumulative",
    title="Variance of the first directions together",
    reading=(
        "The curve is the share of the variance that the first directions hold together; the dotted "
        "diagonal is what it would be if all were used alike. The nearer to the diagonal the better the "
        "width is used; a curve that shoots up at once could be truncated to those directions and lose "
        "little."
    ),
)
_HEIGHT = 260
#: Of the variance: how many directions hold it is told.
_MOST = 0.9
#: Smaller shares are rounding.
_LEAST = 1e-12
#: More points than these would hide the line.
_FEW = 400
_TOLD = [{"field": "version"}, {"field": "direction"}, {"field": "share", "format": ".3~%"}]


def spectrum(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return the shares of the variance, largest first; None without items or without variance.

    Args:
        now: a run of ``anisotropy``.
        before: the comparable run of the baseline.
    """
    found = _found(now, before)
    if not found:
        return None
    names = tuple(found)
    points = [
        (name, j, share)
        for name, own in found.items()
        for j, share in enumerate(own.tolist(), 1)
        if share > _LEAST
    ]
    values = [{"version": name, "direction": j, "share": float(f"{y:.4g}")} for name, j, y in points]
    shares = [share for _, _, share in points]
    x = _directions("principal direction")
    y = quantity("share", "share of the variance", **logarithmic(min(shares), max(shares), format=".1~p"))
    encoding = {"x": x, "y": y, "tooltip": _TOLD} | by_version(names)
    line = layer("line", encoding, point={"size": 14} if len(values) <= _FEW else False)
    in_use = {
        name: measure.value
        for name, given in zip(names, (now, before), strict=False)
        if given and (measure := given.measure("participation_ratio"))
    }
    told = {name: f"{number(value)} directions in use" for name, value in in_use.items()}
    rules = _rules(x, names, in_use, told, max(map(len, found.values())))
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=_text(found, in_use),
        spec={"height": _HEIGHT, "data": {"values": values}, "layer": [line, *rules]},
        columns=("direction", *names),
        rows=_rows(list(found.values())),
    )


def cumulative(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return the variance in the first j directions; arguments and None as of ``spectrum``."""
    found = {name: np.minimum(np.cumsum(shares), 1.0) for name, shares in _found(now, before).items()}
    if not found:
        return None
    names, widest = tuple(found), max(map(len, found.values()))
    values = [
        {"version": name, "direction": j, "share": round(share, 5)}
        for name, sums in found.items()
        for j, share in enumerate([0.0, *sums.tolist()])
    ]
    x = _directions("first directions")
    y = quantity("share", "share of the variance", scale={"domain": [0, 1]}, axis={"format": "%"})
    line = layer("line", {"x": x, "y": y, "tooltip": _TOLD} | by_version(names))
    ends = [{"direction": 0, "share": 0}, {"direction": widest, "share": 1}]
    even = layer("line", {"x": x, "y": y}, data=ends, color=QUIET, strokeDash=[1, 3], strokeWidth=1.5)
    enough = {name: float(directions(sums)) for name, sums in found.items()}
    told = {name: f"{_MOST:.0%} in {count:.0f} directions" for name, count in enough.items()}
    rules = _rules(x, names, enough, told, widest)
    text = [
        f"{_MOST:.0%} of the variance of {name} is in {count:.0f} of {len(found[name]):,} directions"
        for name, count in enough.items()
    ]
    return Chart(
        kind=CUMULATIVE,
        name=CUMULATIVE.name,
        title=CUMULATIVE.title,
        text=f"{'; '.join(text)}.",
        spec={"height": _HEIGHT, "data": {"values": values}, "layer": [even, line, *rules]},
        columns=("first directions", *names),
        rows=_rows(list(found.values())),
    )


def directions(sums: Floats) -> int:
    """Return how many of the first directions hold 90% of the variance; ``sums`` ascend to 1."""
    return int(np.searchsorted(sums, _MOST - 1e-12)) + 1


def _found(now: Measured, before: Measured | None) -> dict[str, Floats]:
    """Return the shares of the variance by version; none where this version has none."""
    own, other = _shares(now), _shares(before) if before else None
    if own is None:
        return {}
    names = refs(now.run.version, before.run.version if before and other is not None else None)
    return {name: shares for name, shares in zip(names, (own, other), strict=False) if shares is not None}


def _shares(given: Measured) -> Floats | None:
    values = given.column("value", "eigenvalue")
    total = float(values.sum())
    return values / total if total > 0 else None


def _directions(title: str) -> Spec:
    return quantity("direction", title, axis={"tickMinStep": 1}, scale={"nice": False})


def _rules(
    x: Spec, names: Sequence[str], places: Mapping[str, float], told: Mapping[str, str], widest: int
) -> list[Spec]:
    """Return upright lines, each with its label: at the foot, where neither curve comes by."""
    layers: list[Spec] = []
    for i, (name, place) in enumerate(places.items()):
        text = told[name] + (f" ({name})" if len(names) > 1 else "")
        data = [{"version": name, "direction": place, "told": text}]
        hue = {"color": by_version(names)["color"]}
        layers.append(layer("rule", {"x": x} | hue, data=data, strokeDash=[2, 2]))
        foot = _HEIGHT - 10 - 16 * (len(places) - 1 - i)
        side = {"align": "right", "dx": -6} if 2 * place > widest else {"dx": 6}
        layers += label({"x": x, "y": {"value": foot}, "text": {"field": "told"}}, data=data, **side)
    return layers


def _text(found: Mapping[str, Floats], in_use: Mapping[str, float]) -> str:
    told = []
    for name, shares in found.items():
        idle = int((shares <= _LEAST).sum())
        parts = [f"{name}: {100 * float(shares[0]):.3g}% along the strongest direction"]
        parts += [f"{number(in_use[name])} of {len(shares):,} directions in use"] if name in in_use else []
        parts += [f"{idle:,} carry nothing"] if idle else []
        told.append(", ".join(parts))
    return f"{'; '.join(told)}."


def _rows(columns: Sequence[Floats]) -> list[tuple[str, ...]]:
    return [
        (str(j + 1), *(number(float(c[j]), "share") if j < len(c) else "–" for c in columns))
        for j in range(max(map(len, columns)))
    ]
