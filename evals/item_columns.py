"""The columns of per-item tables: which one ranks the items, of which metric, and how bad a value is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..registry.errors import UnknownChoice, UsageError, printable
from .suite import Better

if TYPE_CHECKING:
    from .suite import Metric, Suite

Floats = NDArray[np.float64]
#: How far the ranks of the two columns of a correlation are apart, from -1 to 1.
RANK_GAP = "rank_gap"
_MOST_VALUES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The column that items are ranked by.

    Attributes:
        metric: whose values it holds; None where it is none's.
        worst: which end is bad; ``far`` from zero, either way.
        directed: whether one end is better than the other; else ``worst`` is only where ranking begins.
    """

    name: str
    metric: str | None
    unit: str
    worst: Literal["lower", "higher", "far"]
    directed: bool = True

    @property
    def ends(self) -> tuple[str, str]:
        """What the items at both ends are called."""
        return ("worst", "best") if self.directed else ("highest", "lowest")

    @property
    def moves(self) -> tuple[str, str]:
        """What items are called that moved towards either end."""
        return ("worse", "better") if self.directed else ("risen", "fallen")


def prepared(
    items: pa.Table, suite: Suite | None, column: str | None, labels: Mapping[str, str]
) -> tuple[pa.Table, Column]:
    """Return the items of a slice, the column that they are ranked by, added where it is not among theirs."""
    for label, value in labels.items():
        items = _sliced(items, label, value)
    variants = [f"[{label}={value}]" for label, value in labels.items()]
    by = _column(items, suite, column)
    if by.name == RANK_GAP and RANK_GAP not in items.column_names:
        items = items.append_column(RANK_GAP, pa.array(_rank_gap(items, suite)))
    own = next((by.name + v for v in variants if by.name + v in items.column_names), by.name)
    return items, replace(by, name=own)


def asked_for(by: Column) -> str | None:
    """Return the column to ask for in another table; none where it is made."""
    return None if by.name == RANK_GAP else by.name


def _sliced(items: pa.Table, label: str, value: str) -> pa.Table:
    if any(name.endswith(f"[{label}={value}]") for name in items.column_names):
        return items  # a column of its own
    slices = [name for name in items.column_names if name != "item" and is_text(items.column(name))]
    if label not in slices:
        raise UnknownChoice("label of the items", label, slices)
    texts = items.column(label).cast(pa.string())
    kept = items.filter(pc.equal(texts, value))
    if not len(kept):
        known = pc.unique(texts).drop_null().to_pylist()
        raise UnknownChoice(printable(label, 60), value, [printable(k, 60) for k in known[:_MOST_VALUES]])
    return kept


def _column(items: pa.Table, suite: Suite | None, asked: str | None) -> Column:
    if asked is not None and asked != RANK_GAP:
        if asked not in items.column_names:
            raise UnknownChoice("column of the items", asked, items.column_names)
        return meant(asked, suite)
    correlated = _correlated(items, suite)
    own = None if asked else _of_a_metric(items, suite)
    if own is None and correlated is not None:
        return Column(name=RANK_GAP, metric=correlated.name, unit="share", worst="far")
    if own is None and asked is not None:
        raise UnknownChoice("column of the items", asked, items.column_names)
    numeric = [name for name in items.column_names if not is_text(items.column(name))]
    if own is None and not numeric:
        raise UsageError("these items have no numbers to be ranked by", hint="--sort COLUMN ranks by a text")
    return own or meant(numeric[-1], suite)


def _of_a_metric(items: pa.Table, suite: Suite | None) -> Column | None:
    """Return the first column that holds the values of a metric with a direction."""
    for name in items.column_names:
        column = meant(name, suite)
        if column.directed and items.column(name).null_count < len(items):
            return column
    return None


def meant(name: str, suite: Suite | None) -> Column:
    """Return what a column (``recall``, ``recall[rescore=2]``) means by the metrics of its suite."""
    metric = _metric(name, suite)
    if metric is None:
        return Column(name=name, metric=None, unit="", worst="higher", directed=False)
    worst: Literal["lower", "higher"] = "lower" if metric.better is Better.HIGHER else "higher"
    directed = metric.better is not Better.NEITHER
    return Column(name=name, metric=metric.name, unit=metric.unit, worst=worst, directed=directed)


def _metric(column: str, suite: Suite | None) -> Metric | None:
    """Return the metric whose values a column (``recall``, ``recall[rescore=2]``) holds."""
    plain = column.partition("[")[0]
    return next((m for m in suite.metrics if m.item == plain), None) if suite else None


def _correlated(items: pa.Table, suite: Suite | None) -> Metric | None:
    """Return the metric that correlates two columns of the items."""
    for metric in suite.metrics if suite else ():
        columns = metric.statistic.columns if metric.statistic else ()
        if metric.unit == "correlation" and len(columns) == 2 and set(columns) <= set(items.column_names):
            return metric
    return None


def _rank_gap(items: pa.Table, suite: Suite | None) -> pa.Array:
    """Return how far the second of two correlated columns ranks an item above the first, over n - 1."""
    from scipy.stats import rankdata

    metric = _correlated(items, suite)
    if metric is None or metric.statistic is None:
        return pa.nulls(len(items), pa.float64())
    told, found = (numbers(items, name) for name in metric.statistic.columns)
    there = ~(np.isnan(told) | np.isnan(found))
    gap = np.zeros(len(items))
    apart = rankdata(found[there]) - rankdata(told[there])
    gap[there] = apart / max(1, len(apart) - 1)
    return pa.array(gap, mask=~there)


def numbers(items: pa.Table, column: str) -> Floats:
    """Return a column as float64, NaN where it has no finite value."""
    values = items.column(column).cast(pa.float64()).combine_chunks().fill_null(np.nan)
    found: Floats = np.array(values.to_numpy(zero_copy_only=False))
    found[~np.isfinite(found)] = np.nan
    return found


def badness(items: pa.Table, by: Column) -> Floats:
    """Return how bad each item is, NaN where it was not scored; of texts A is the worst."""
    column = items.column(by.name)
    if is_text(column):
        ranks = pc.rank(column.combine_chunks(), sort_keys="ascending", tiebreaker="dense").to_numpy()
        return np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, -ranks.astype(np.float64))
    values = numbers(items, by.name)
    if by.worst == "far":
        return np.abs(values)
    return -values if by.worst == "lower" else values


def is_text(column: pa.ChunkedArray) -> bool:
    """Whether a column holds anything but numbers and truth values."""
    kind = column.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return not number
