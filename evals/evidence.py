"""What a check is about: the run, the measure, its counterpart in the baseline, their common items.

Each step either finds its thing or returns ``Missing`` with the reason in words; nothing is guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..registry.builtin import is_builtin
from ..registry.errors import did_you_mean, printable
from .config import Check, best
from .figures import named
from .jackknife import jackknife_changes, left_out_together
from .statistics import (
    Ties,
    is_binary,
    mean_error,
    paired_p,
    smallest_p,
    smallest_tied_p,
    tied_degrees,
    tied_error,
    tied_p,
)
from .statistics import detectable as _detectable
from .suite import Metric, Need, Statistic, Suite

if TYPE_CHECKING:
    from ..registry.types import MeasureRecord, RunRecord

Floats = NDArray[np.float64]
#: Opens the per-item table of a digest; None where it is not kept.
Items = Callable[[str], pa.Table | None]
#: A paired test speaks for a measure if it covers at least this share of either side's items.
_COVERED = 0.5
#: A metric is that of its items if it agrees with it to this, relative to 1.
_ROUNDING = 1e-5
_TOTAL = ("group", "total")
#: Labels of a check that pick runs; the others pick a measure.
RUN_LABELS = frozenset({"dataset", "index"})


@dataclass(frozen=True, slots=True)
class Missing:
    """Why something is not there."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The values of the items that two versions scored, in one order.

    Attributes:
        old, new: float64 ``(n, c)``, n >= 1.
        statistic: how the metric follows from them; None where it is the mean, and c = 1.
        ties: which of them depend on each other, as in ``statistics.tied_error``; None where none do.
    """

    old: Floats
    new: Floats
    statistic: Statistic | None = None
    ties: Ties | None = None

    def __len__(self) -> int:
        return len(self.old)

    @property
    def change(self) -> float:
        """What the metric of these items alone rose by; NaN where it is undefined on a side."""
        return _value(self.new, self.statistic) - _value(self.old, self.statistic)

    def smallest_p(self, permutations: int) -> float:
        """Return a bound that the p-value of so many items cannot fall below, whatever they do."""
        if self._tied is not None:
            return smallest_tied_p(self._tied)
        return smallest_p(self.old[:, 0], self.new[:, 0], permutations=permutations)

    @property
    def binary(self) -> bool:
        """Whether every item is right or wrong on both sides."""
        return self.statistic is None and is_binary(self.old) and is_binary(self.new)

    @property
    def testable(self) -> bool:
        """Whether it is known what each item adds to the change: a statistic may be undefined without one."""
        return self._changes is not None

    @cached_property
    def _cells(self) -> tuple[NDArray[np.int64], Ties]:
        return left_out_together(np.arange(len(self))[:, None] if self.ties is None else self.ties)

    @property
    def _tied(self) -> Ties | None:
        """The ties of ``_changes``; None where none of them depend on each other."""
        return self.ties if self.statistic is None else self._cells[1]

    @cached_property
    def _changes(self) -> Floats | None:
        """What each item, or cell of items, adds to the change; None where that is undefined."""
        if self.statistic is None:
            moved: Floats = (self.new - self.old)[:, 0]
            return moved
        return jackknife_changes(self.old, self.new, self.statistic.of, self._cells[0])

    @property
    def error(self) -> float:
        """The standard error of the change, over draws of the items; 0 where it is not known."""
        if self._changes is None:
            return 0.0
        return mean_error(self._changes) if self._tied is None else tied_error(self._changes, self._tied)

    @property
    def test(self) -> str:
        """The name of the test that ``p`` makes."""
        if self._tied is not None:
            return f"t test of {'tied items' if self.statistic is None else 'what each item adds'}"
        return "McNemar's exact test" if self.binary else "test by flipped signs"

    @property
    def degrees(self) -> float | None:
        """The degrees of freedom of the t test of these items; None where another test is made."""
        return None if self._tied is None else tied_degrees(self._tied)

    def p(self, worse: Literal["lower", "higher"], rng: np.random.Generator, permutations: int) -> float:
        """Return the one-sided p-value that the new values are worse than the old ones.

        It is 1, and means nothing, where the items are not ``testable``.
        """
        if self.statistic is None or self._tied is None:
            old, new = self.old[:, 0], self.new[:, 0]
            return paired_p(old, new, rng, worse=worse, ties=self.ties, permutations=permutations)
        if self._changes is None:
            return 1.0
        return tied_p(-self._changes if worse == "lower" else self._changes, self._tied)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The baseline's value; ``run`` is None where it is that of a version against itself."""

    value: float
    run: RunRecord | None


def detectable(pairs: Pairs, alpha: float) -> float | None:
    """Return the smallest change for the worse that a test of these items at ``alpha`` would find.

    It is found with a power of .8, if what comes scatters about the change as what was seen does. Where
    items are right or wrong, it is no less than what the exact test asks for. None where no item
    moved, where an alpha of 1 lets the size of a change decide, or one of 0 lets nothing.
    """
    if not 0 < alpha < 1:
        return None
    error = pairs.error
    # So many items must be lost, and none won, for as many fair coins to be as rare as alpha.
    least = math.ceil(-math.log2(alpha)) / len(pairs) if pairs.binary else 0.0
    if not error and not least:
        return None
    return max(least, _detectable(error, alpha, degrees=pairs.degrees))


def run_labels(run: RunRecord, suite: Suite) -> dict[str, str]:
    """Return what a run is about, by the labels that pick it: its ``dataset``, its ``index``."""
    index = run.params.get("index") if Need.INDEX in suite.needs else None
    named_so = {"dataset": run.dataset, "index": index}
    return {label: str(name) for label, name in named_so.items() if name}


def runs_of(check: Check, suite: Suite, candidate: Sequence[RunRecord]) -> list[RunRecord] | Missing:
    """Return the runs a check holds for: one per dataset and index, or those that its labels name.

    Of several runs on one dataset and index the last counts.
    """
    runs = {tuple(run_labels(run, suite).items()): run for run in candidate if run.suite == check.suite}
    if not runs:
        return Missing(f"{check.suite} was not run")
    for label in RUN_LABELS & check.labels.keys():
        wanted, known = check.labels[label], [name for key in runs if (name := dict(key).get(label))]
        if wanted not in known:
            hint = did_you_mean(wanted, known)
            told = f": {hint}" if hint else ""
            return Missing(f"{check.suite} was not run on {label} '{printable(wanted, 60)}'{told}")
        runs = {key: run for key, run in runs.items() if dict(key).get(label) == wanted}
    if "dataset" not in check.labels:
        # What is built in is judged where it is named only: it stands in where a dataset was removed.
        runs = {key: run for key, run in runs.items() if not is_builtin(run.dataset or "")}
    told = f"{check.suite} was run on nothing but what is built in: a check on that names the dataset"
    return list(runs.values()) or Missing(told)


def measure_of(run: RunRecord, check: Check, metric: Metric) -> MeasureRecord | Missing:
    """Return the measure that a check picks from a run.

    Exactly the labels asked for (the dataset apart) come first, then the only measure that has them
    among its own, then the one that adds ``group=total`` and nothing else, then the only one of those with
    ``group=total``.
    """
    if run.status != "done":
        return Missing(f"{run.suite} {_status(run)}")
    named_so = [m for m in run.measures if _is_meant(check.name, metric, m.metric)]
    asked = _of_measures(check.labels)
    fitting = [m for m in named_so if asked.items() <= m.labels.items()]
    exact = [m for m in named_so if _of_measures(m.labels) == asked]
    total = [m for m in fitting if _TOTAL in m.labels.items()]
    plain = [m for m in total if len(_of_measures(m.labels)) == len(asked) + 1]
    picked = next((group for group in (exact, fitting, plain, total) if len(group) == 1), None)
    if picked:
        return _finite(picked[0])
    if fitting:
        return Missing(f"ambiguous: labels {_some(m.labels for m in fitting)}")
    return Missing(_why_none(run, check, metric, named_so))


def reference_of(
    run: RunRecord, measure: MeasureRecord, suite: Suite, baseline: Sequence[RunRecord]
) -> Reference | Missing:
    """Return the baseline's value of a measure.

    Only runs of the same suite version, dataset contents and parameters are comparable. A suite that
    itself compares with the baseline has no value of the baseline's own: its reference is a version
    compared with itself, the best value of the metric.
    """
    metric = suite.metric(measure.metric)
    if Need.BASELINE in suite.needs:
        ideal = best(metric) if metric else None
        return Missing("no baseline") if ideal is None else Reference(value=ideal, run=None)
    other = comparable(run, baseline)
    if isinstance(other, Missing):
        return other
    same = [m for m in other.measures if m.metric == measure.metric and m.labels == measure.labels]
    if len(same) != 1:
        told = f" ({named(measure.labels)})" if measure.labels else ""
        why = _absence(other, measure.metric, measure.labels)
        return Missing(f"the baseline has no {measure.metric}{told}{why}")
    found = _finite(same[0])
    return found if isinstance(found, Missing) else Reference(value=found.value, run=other)


def pairs_of(
    run: RunRecord,
    measure: MeasureRecord,
    reference: Reference,
    metric: Metric,
    items: Items,
) -> Pairs | Missing:
    """Return the values of the items that both versions scored.

    Rows are those the measure's labels select, where the items have a column of that name. The measure
    must follow from the items, and at least half of them must be common to both.
    """
    if reference.run is None:
        return Missing("the reference is a version against itself")
    if metric.item is None and metric.statistic is None:
        return Missing("the metric has no values per item")
    groups = {name for group in metric.ties for name in group}
    new = _scored(run, measure.value, measure.labels, metric, items, groups)
    if isinstance(new, Missing):
        return new
    old = _scored(reference.run, reference.value, measure.labels, metric, items)
    if isinstance(old, Missing):
        return old
    at = pc.index_in(new.column("item"), value_set=old.column("item").combine_chunks())
    at = at.fill_null(-1).to_numpy()
    common, most = int((at >= 0).sum()), max(len(new), len(old))
    if common < _COVERED * most:
        return Missing(f"only {common:,} of {most:,} items are in both versions")
    return Pairs(
        old=_values(old)[at[at >= 0]],
        new=_values(new)[at >= 0],
        statistic=metric.statistic,
        ties=_ties(new.filter(pa.array(at >= 0)), metric),
    )


def comparable(run: RunRecord, baseline: Sequence[RunRecord]) -> RunRecord | Missing:
    """Return the baseline's run whose values may be set beside those of ``run``.

    Only the same suite version, dataset contents and parameters are comparable.
    """
    if not baseline:
        return Missing("there is no baseline")
    same = [other for other in baseline if other.suite == run.suite]
    if not same:
        return Missing(f"{run.suite} was not run on the baseline")
    here = [other for other in same if other.dataset_digest == run.dataset_digest]
    if not here:
        return Missing(_other_dataset(run, same))
    version = [other for other in here if other.suite_version == run.suite_version]
    if not version:
        return Missing(f"not comparable: {_other_suite(run, here[-1])}")
    params = _canonical(run.params)
    equal = [other for other in version if _canonical(other.params) == params]
    if not equal:
        return Missing(f"not comparable: {_other_params(run, version[-1])}")
    done = [other for other in equal if other.status == "done"]
    return done[-1] if done else Missing(f"{run.suite} {_status(equal[-1])} on the baseline")


def _scored(
    run: RunRecord,
    value: float,
    labels: Mapping[str, str],
    metric: Metric,
    items: Items,
    besides: AbstractSet[str] = frozenset(),
) -> pa.Table | Missing:
    """Return the scored items behind a measure: the columns ``item`` and ``besides``, and its values."""
    table = items(run.items) if run.items else None
    if table is None:
        return Missing(f"no items are kept of {run.version}")
    single = metric.independent or str(metric.item)
    columns = (single,) if metric.statistic is None else metric.statistic.columns
    slices = []
    for label, wanted in labels.items():
        own = [f"{column}[{label}={wanted}]" for column in columns]
        if set(own) <= set(table.column_names):
            columns = tuple(own)
        elif label in table.column_names and (label, wanted) != _TOTAL:
            slices.append(pc.equal(table.column(label).cast(pa.string()), wanted))
    if lacking := sorted({"item", *columns, *besides} - set(table.column_names)):
        return Missing(f"the items of {run.version} have no column '{printable(lacking[0], 60)}'")
    table = table.select(list(dict.fromkeys(("item", *columns, *besides))))
    if slices:  # of the few columns that are needed: a table may have many
        table = table.filter(reduce(pc.and_, slices))
    values = [table.column(column).cast(pa.float64()) for column in columns]
    kept = [pc.is_finite(column).fill_null(False) for column in values]
    item = table.column("item").cast(pa.large_string())
    named = {"item": item} | {str(i): column for i, column in enumerate(values)}
    scored = pa.table({name: table.column(name) for name in besides} | named).filter(reduce(pc.and_, kept))
    off = abs(_value(_values(scored), metric.statistic) - value) if len(scored) else math.inf
    # Compared so that an undefined value is off too.
    if not off <= _ROUNDING * max(1.0, abs(value)):
        return Missing(f"the items of {run.version} do not average to the measure")
    return scored


def _values(scored: pa.Table) -> Floats:
    """Return the values of scored items, float64 ``(n, c)``."""
    names = [name for name in scored.column_names if name.isdecimal()]
    return np.column_stack([scored.column(name).to_numpy() for name in names])


def _ties(scored: pa.Table, metric: Metric) -> Ties | None:
    """Return the ties of scored items ``(n, t)``; an item with a null in a group is tied to none there."""
    if not metric.ties:
        return None
    lone = iter(range(-1, -len(metric.ties) * len(scored) - 1, -1))
    numbers: dict[tuple[str, ...], int] = {}
    columns = []
    for group in metric.ties:
        told = zip(*(scored.column(name).to_pylist() for name in group), strict=True)
        columns.append([numbers.setdefault(t, len(numbers)) if None not in t else next(lone) for t in told])
    _, ties = np.unique(np.array(columns, dtype=np.int64), return_inverse=True)
    return ties.reshape(len(columns), -1).T


def _value(values: Floats, statistic: Statistic | None) -> float:
    """Return what a metric is on items ``(n, c)``; NaN where it is undefined."""
    if statistic is None:
        return float(values.mean())
    return float(statistic.of(values, np.ones((1, len(values))))[0])


def _other_dataset(run: RunRecord, others: Sequence[RunRecord]) -> str:
    if any(other.dataset == run.dataset for other in others):
        return f"not comparable: dataset '{printable(run.dataset or '', 60)}' has changed"
    return f"{run.suite} was not run on this dataset for the baseline"


def _other_suite(run: RunRecord, other: RunRecord) -> str:
    return f"{run.suite} is version {run.suite_version}, the baseline's was {other.suite_version}"


def _other_params(run: RunRecord, other: RunRecord) -> str:
    keys = sorted({*run.params, *other.params})
    changed = [k for k in keys if run.params.get(k) != other.params.get(k)]
    told = [f"{k} {other.params.get(k)!r} -> {run.params.get(k)!r}" for k in changed]
    return f"parameters differ: {printable('; '.join(told))}"


def _canonical(params: Mapping[str, Any]) -> str:
    """Return parameters as text in which a tuple and the list that JSON makes of it are equal."""
    return json.dumps(dict(params), sort_keys=True, default=str)


def _status(run: RunRecord) -> str:
    word = {"skipped": "was skipped", "error": "failed"}.get(run.status, f"is {run.status}")
    return f"{word}: {printable(run.reason)}" if run.reason else word


def _is_meant(asked: str, metric: Metric, name: str) -> bool:
    return name == asked or (asked == metric.name and metric.matches(name))


def _why_none(run: RunRecord, check: Check, metric: Metric, named_so: Sequence[MeasureRecord]) -> str:
    asked = _of_measures(check.labels)
    if absence := _absence(run, check.name, asked, metric):
        return absence.removeprefix(": ")
    if named_so:
        return f"no such labels; there are {_some(m.labels for m in named_so)}"
    others = sorted({m.metric for m in run.measures if metric.matches(m.metric)})
    return f"the run has {', '.join(others)}" if others else "the run gave no such metric"


def _absence(run: RunRecord, name: str, labels: Mapping[str, str], metric: Metric | None = None) -> str:
    """Return ``: REASON`` where the run says why it has no such value, else nothing."""
    for absent in run.absent:
        theirs = _of_measures(absent.get("labels") or {})
        meant = absent["metric"] == name or (metric is not None and metric.name == absent["metric"])
        if meant and (theirs.items() <= labels.items() or labels.items() <= theirs.items()):
            return f": {printable(str(absent['reason']))}"
    return ""


def _finite(measure: MeasureRecord) -> MeasureRecord | Missing:
    return measure if math.isfinite(measure.value) else Missing(f"the value is {measure.value}")


def _of_measures(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k not in RUN_LABELS}


def _some(labels: Any, most: int = 4) -> str:
    told = [named(one) or "none" for one in labels]
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
