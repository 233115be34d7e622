"""Metrics over versions: a column for each version, the latest last; or one row for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from ...registry.errors import UnknownChoice, printable
from ..figures import interval, named, number
from ..glance import at_a_glance
from .arrows import legend, moved
from .comparison import short
from .tables import Cell, Column, table

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from ..suite import Metric, Suite

Point = Mapping[str, Any]
#: Columns of the long form.
COLUMNS = ("ref", "version", "suite", "dataset", "metric", "labels", "value", "n", "low", "high")
_MOST_KNOWN = 200


def labelled(points: Sequence[Point], labels: Mapping[str, str]) -> list[Point]:
    """Return the points that bear some labels; ``dataset`` and ``baseline`` are labels too.

    Raises:
        UnknownChoice: no point has such a label, or such a value of it.
    """
    for label, value in labels.items():
        if not points:
            break
        known = {p["labels"][label] for p in points if label in p["labels"]}
        if not known:
            raise UnknownChoice("label", label, {name for p in points for name in p["labels"]})
        if value not in known:
            few = [printable(k, 60) for k in sorted(known)[:_MOST_KNOWN]]
            raise UnknownChoice(printable(label, 60), value, few)
        points = [p for p in points if p["labels"].get(label) == value]
    return list(points)


def long(points: Sequence[Point]) -> pa.Table:
    """Return one row per point: version number, and labels as ``section=family, group=semantic``."""
    import pyarrow as pa

    rows = [
        {**p, "version": int(p["ref"].rpartition("@")[2]), "labels": named(p["labels"])} for p in points
    ]  # fmt: skip
    kinds = {"version": pa.int64(), "n": pa.int64()}
    kinds |= dict.fromkeys(("value", "low", "high"), pa.float64())
    return pa.Table.from_pylist(rows, schema=pa.schema([(c, kinds.get(c, pa.string())) for c in COLUMNS]))


def series(points: Sequence[Point], *, suites: Mapping[str, Suite], glance: bool = False) -> RenderableType:
    """Return metrics over versions.

    Where a metric was measured in several ways (another suite version, other parameters or dataset
    contents), each is a row of its own and says what is different. Of versions there are as many as fit.

    Args:
        points: as the JSON document has them, oldest version first.
        suites: by name, for units.
        glance: leave out slices and variants.
    """
    if not points:
        return Text("nothing was measured yet: 'embreg eval REF'")
    shown = _glance(points, suites) if glance else list(points)
    rows: dict[tuple[str, str], dict[str, Point]] = {}
    told = lines(shown)
    for point, labels in zip(shown, told, strict=True):
        rows.setdefault((point["metric"], labels), {})[point["ref"]] = point
    left = len(points) - len(shown)
    notes = [Text(f"{left:,} more values (slices and variants): --all-labels", style="dim")] if left else []
    refs = list(dict.fromkeys(p["ref"] for p in points))
    if len(refs) == 1:
        return Group(Text(short(refs[0]), style="bold"), _single(shown, told, suites), *notes)
    return Group(_Wide(rows, refs, suites), *notes)


class _Wide:
    """A table with a column for each version, the oldest left out where the terminal is too narrow."""

    def __init__(
        self,
        rows: Mapping[tuple[str, str], Mapping[str, Point]],
        refs: Sequence[str],
        suites: Mapping[str, Suite],
    ) -> None:
        self._rows = rows
        self._refs = refs
        self._suites = suites

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # No column is narrower than five cells with its gap.
        most = min(len(self._refs), max(1, options.max_width // 5))
        for count in range(most, 0, -1):
            refs = self._refs[-count:]
            heads = [Column(short(ref), right=True, point=True, rigid=True) for ref in refs]
            drawn = table(("metric", "labels", *heads, ".change", "="), self._cells(refs))
            if count == 1 or drawn.natural <= options.max_width:
                break
        yield drawn
        yield from legend("the value before it")
        if count < len(self._refs):
            left = len(self._refs) - count
            yield Text(f"{left:,} earlier versions: --csv FILE or --json has them", style="dim")

    def _cells(self, refs: Sequence[str]) -> list[list[Cell]]:
        rows: list[list[Cell]] = []
        for (metric, labels), points in self._rows.items():
            unit = _unit(metric, self._suites)
            values = [number(points[r]["value"], unit) if r in points else "–" for r in refs]
            if any(r in points for r in refs):
                rows.append([metric, labels, *values, *self._change(metric, points)])
        return rows

    def _change(self, metric: str, points: Mapping[str, Point]) -> tuple[str, Text]:
        """Return how the latest version's value differs from the one before it."""
        last = self._refs[-1]
        before = [points[r]["value"] for r in self._refs[:-1] if r in points]
        if last not in points or not before:
            return "", Text()
        return moved(points[last]["value"], before[-1], _metric(metric, self._suites.get(_suite(metric))))


def _single(points: Sequence[Point], told: Sequence[str], suites: Mapping[str, Suite]) -> RenderableType:
    rows = []
    for p, labels in zip(points, told, strict=True):
        unit = _unit(p["metric"], suites)
        bounds = interval(p["low"], p["high"], unit)
        rows.append([p["metric"], labels, number(p["value"], unit), bounds, f"{p['n']:,}"])
    return table(("metric", "labels", ".value", ">interval", ">n"), rows)


def lines(points: Sequence[Point]) -> list[str]:
    """Return the labels of each point as text, and what tells it from others of the same metric."""
    ways: dict[str, dict[str, set[str]]] = {}
    baselines: dict[tuple[str, str, str], set[str]] = {}
    for p in points:
        for name, value in _way(p).items():
            ways.setdefault(p["metric"], {}).setdefault(name, set()).add(value)
        own = _without(p["labels"], "baseline")
        key = (p["metric"], p["ref"], named(own))
        baselines.setdefault(key, set()).add(p["labels"].get("baseline", ""))
    # A version that was held against one other only has one value: it stands in one row with the others'.
    several = any(len(found) > 1 for found in baselines.values())
    texts = []
    for p in points:
        labels = dict(p["labels"]) if several else _without(p["labels"], "baseline")
        told = [named(labels)] if labels else []
        if not several and "baseline" in p["labels"]:
            told.append("against its baseline")
        own_ways = ways.get(p["metric"], {})
        told += [f"{n}{printable(v, 60)}" for n, v in _way(p).items() if len(own_ways[n]) > 1]
        texts.append(", ".join(told))
    return texts


def _without(labels: Mapping[str, str], name: str) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k != name}


def _way(point: Point) -> dict[str, str]:
    """Return how a point was measured: suite version, dataset contents, parameters."""
    told = {"suite version ": str(point["suite_version"]), "data ": (point["dataset_digest"] or "")[:8]}
    return told | {f"{printable(str(k), 60)}=": str(v) for k, v in point["params"].items()}


def _glance(points: Sequence[Point], suites: Mapping[str, Suite]) -> list[Point]:
    topics: dict[tuple[str, ...], list[int]] = {}
    for at, p in enumerate(points):
        topics.setdefault((p["ref"], p["suite"], repr(_way(p)), p["labels"].get("baseline", "")), []).append(
            at
        )
    kept: set[int] = set()
    for (_, suite, *_rest), places in topics.items():
        named_so = [(_declared(points[at], suites.get(suite)), _own_labels(points[at])) for at in places]
        kept |= {places[i] for i in at_a_glance(named_so)}
    return [p for at, p in enumerate(points) if at in kept]


def _own_labels(point: Point) -> dict[str, str]:
    return _without(_without(point["labels"], "baseline"), "dataset")


def _declared(point: Point, suite: Suite | None) -> str:
    metric = _metric(point["metric"], suite)
    return metric.name if metric else str(point["metric"])


def _suite(metric: str) -> str:
    return metric.partition(".")[0]


def _metric(name: str, suite: Suite | None) -> Metric | None:
    return suite.metric(name.partition(".")[2]) if suite else None


def _unit(name: str, suites: Mapping[str, Suite]) -> str:
    metric = _metric(name, suites.get(_suite(name)))
    return metric.unit if metric else ""
