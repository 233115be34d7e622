"""Sets runs of versions side by side: every value that may be compared, and which differences are chance.

Pure: what must be measured is measured before (``comparing``). The first version is the one that all others
are held against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..registry.errors import UsageError, printable
from .comparison import Cell, Comparison, LeftOut, Mark, Row, Spoken
from .evidence import Items, Missing, Pairs, Reference, pairs_of
from .figures import named
from .glance import at_a_glance
from .lineup import Lined, lined_up, topics
from .statistics import holm, permutations_for
from .suite import Better

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import MeasureRecord, RunRecord
    from .suite import Metric, Suite

_Key = tuple[str, frozenset[tuple[str, str]]]


def side_by_side(
    runs: Mapping[str, Sequence[RunRecord]],
    suites: Mapping[str, Suite],
    items: Items,
    rng: np.random.Generator,
    *,
    alpha: float = 0.05,
    glance: bool = False,
) -> Comparison:
    """Set the runs of versions side by side.

    A value stands beside another's only if suite version, dataset contents and parameters are the same; of
    several runs on one dataset that of the first version counts which most of the others can be held
    against, the newest of these. Where a metric follows from its items, the items that both versions
    scored are tested in pairs (McNemar's exact test for right and wrong, else sign flips; a t test where
    items depend on each other, or the metric is no mean), two-sided, and Holm adjusts over all tests of all
    rows and versions. What a suite says of a version against a baseline is shown for a baseline that is the
    first version, and not tested.

    Args:
        runs: by version, each oldest first; the first version is the reference.
        suites: by name; a suite that is not there any more is shown without direction or test.
        items: opens the per-item table of a digest.
        rng: for the permutation tests.
        alpha: at which a difference counts as significant, between 0 and 1, exclusive.
        glance: leave out slices and most variants of a metric that has a value of its own.

    Raises:
        UsageError: fewer than two versions, or an alpha outside its range.
    """
    if len(runs) < 2:
        raise UsageError("a comparison takes at least two versions")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha lies between 0 and 1, not at {alpha}")
    found: list[_Draft] = []
    verdicts: list[Spoken] = []
    left_out: list[LeftOut] = []
    more = 0
    for topic in topics(runs, suites):
        lined = lined_up(topic, runs, suites)
        if isinstance(lined, Missing):
            left_out.append(LeftOut(suite=topic.suite, dataset=topic.dataset, reason=lined.reason))
            continue
        drafts = list(_drafts(lined))
        kept = _at_a_glance(drafts) if glance else drafts
        more += len(drafts) - len(kept)
        opened = _once(items)
        found += kept if lined.against else [_against_first(draft, lined, opened) for draft in kept]
        verdicts += _verdicts(lined)
    rows, tests = _tested(found, rng, alpha)
    return Comparison(
        refs=tuple(runs),
        rows=rows,
        alpha=alpha,
        tests=tests,
        more=more,
        verdicts=tuple(verdicts),
        left_out=tuple(left_out),
        runs={ref: tuple(own) for ref, own in runs.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A row before its tests: its measures in the order of versions, and the pairs of each to test."""

    row: Row
    labels: Mapping[str, str]
    measures: tuple[MeasureRecord | Missing, ...]
    metric: Metric | None
    pairs: dict[int, Pairs]


def _verdicts(lined: Lined) -> Iterator[Spoken]:
    for ref, run in lined.runs.items():
        if not isinstance(run, Missing) and run.verdict:
            yield Spoken(suite=run.suite, ref=ref, verdict=run.verdict)


def _drafts(lined: Lined) -> Iterator[_Draft]:
    """Yield the rows of one suite on one dataset: those of the first run, then what others have besides."""
    known = {ref: _by_key(run) for ref, run in lined.runs.items()}
    keys: dict[_Key, MeasureRecord] = {}
    for own in known.values():
        for key, measure in own.items():
            keys.setdefault(key, measure)
    for key, measure in keys.items():
        metric = lined.suite.metric(measure.metric) if lined.suite else None
        found = {ref: known[ref].get(key) or _absence(run, key) for ref, run in lined.runs.items()}
        cells = tuple(_cell(ref, lined.runs[ref], own) for ref, own in found.items())
        row = Row(
            suite=lined.topic.suite,
            dataset=lined.topic.dataset,
            metric=measure.metric,
            labels=lined.topic.labels | dict(measure.labels),
            unit=metric.unit if metric else "",
            better=str(metric.better if metric else Better.NEITHER),
            cells=cells,
        )
        yield _Draft(
            row=row, labels=measure.labels, measures=tuple(found.values()), metric=metric, pairs={}
        )  # fmt: skip


def _once(items: Items) -> Items:
    """Return the opener of items that reads each table once: all rows of a suite rest on the same."""
    opened: dict[str, pa.Table | None] = {}

    def opening(digest: str) -> pa.Table | None:
        if digest not in opened:
            opened[digest] = items(digest)
        return opened[digest]

    return opening


def _key(measure: MeasureRecord) -> _Key:
    return measure.metric, frozenset(measure.labels.items())


def _by_key(run: RunRecord | Missing) -> dict[_Key, MeasureRecord]:
    found: dict[_Key, MeasureRecord] = {}
    for measure in () if isinstance(run, Missing) else run.measures:
        found.setdefault(_key(measure), measure)
    return found


def _absence(run: RunRecord | Missing, key: _Key) -> Missing:
    """Return why a version has no such measure."""
    if isinstance(run, Missing):
        return run
    metric, labels = key
    for absent in run.absent:
        theirs = frozenset((absent.get("labels") or {}).items())
        if absent["metric"] == metric and theirs <= labels:
            return Missing(printable(str(absent["reason"])))
    told = f" ({named(dict(sorted(labels)))})" if labels else ""
    return Missing(f"{run.version} has no {metric}{told}")


def _cell(ref: str, run: RunRecord | Missing, measure: MeasureRecord | Missing) -> Cell:
    if isinstance(measure, Missing) or isinstance(run, Missing):
        return Cell(ref=ref, reason=measure.reason if isinstance(measure, Missing) else "")
    return Cell(
        ref=ref, value=measure.value, low=measure.low, high=measure.high, n=measure.n, run=run.id
    )  # fmt: skip


def _against_first(draft: _Draft, lined: Lined, items: Items) -> _Draft:
    """Hold the cells of a row against its first one; where both have a value, their items are paired."""
    first, *others = draft.row.cells
    cells, pairs = [first], {}
    for i, cell in enumerate(others, 1):
        if cell.value is None or first.value is None:
            alone = replace(cell, mark=Mark.UNTESTED, reason=f"{first.ref} has no value")
            cells.append(cell if cell.value is None else alone)
            continue
        cell = replace(cell, change=cell.value - first.value, mark=Mark.UNTESTED)
        cell = replace(cell, judged=_judged(cell, draft.metric))
        paired = _pairs(draft, i, lined, items)
        if isinstance(paired, Missing):
            cells.append(replace(cell, reason=paired.reason))
            continue
        pairs[i] = paired
        cells.append(replace(cell, items=len(paired)))
    return replace(draft, row=replace(draft.row, cells=tuple(cells)), pairs=pairs)


def _pairs(draft: _Draft, i: int, lined: Lined, items: Items) -> Pairs | Missing:
    first, cell, measure = draft.row.cells[0], draft.row.cells[i], draft.measures[i]
    new, old = lined.runs[cell.ref], lined.runs[first.ref]
    if draft.metric is None:
        return Missing(f"there is no suite '{printable(lined.topic.suite, 60)}' any more")
    if isinstance(new, Missing) or isinstance(old, Missing) or first.value is None:
        return Missing("nothing to compare")
    if isinstance(measure, Missing):
        return measure
    return pairs_of(new, measure, Reference(value=first.value, run=old), draft.metric, items)


def _judged(cell: Cell, metric: Metric | None) -> str:
    if metric is None or metric.better is Better.NEITHER or cell.change is None or not cell.moved:
        return ""
    return "better" if (cell.change > 0) is (metric.better is Better.HIGHER) else "worse"


def _tested(drafts: Sequence[_Draft], rng: np.random.Generator, alpha: float) -> tuple[tuple[Row, ...], int]:
    """Return the rows with their marks, and how many tests were made.

    A test that could not come below alpha, whatever the items did, is not made, and spares the others.
    """
    asked = sum(len(draft.pairs) for draft in drafts)
    permutations = permutations_for(asked, alpha)
    found: dict[tuple[int, int], float | Missing] = {
        (at, i): two_sided(pairs, rng, permutations, least=alpha / asked)
        for at, draft in enumerate(drafts)
        for i, pairs in draft.pairs.items()
    }
    made = {place: p for place, p in found.items() if not isinstance(p, Missing)}
    adjusted = dict(zip(made, holm(list(made.values())), strict=True))
    rows = []
    for at, draft in enumerate(drafts):
        cells = list(draft.row.cells)
        for i in draft.pairs:
            told = found[at, i]
            if isinstance(told, Missing):
                cells[i] = replace(cells[i], reason=told.reason)
            else:
                p = float(adjusted[at, i])
                cells[i] = _marked(replace(cells[i], p_value=p), draft.pairs[i], alpha, draft.metric)
        rows.append(replace(draft.row, cells=tuple(cells)))
    return tuple(rows), len(made)


def two_sided(
    pairs: Pairs, rng: np.random.Generator, permutations: int, *, least: float = 1.0
) -> float | Missing:
    """Return the p-value that the items of two versions differ by chance: twice the smaller of both sides.

    The smaller is that of the side to which the metric moved; only that one is drawn.

    Args:
        pairs: the items.
        rng: of the permutations.
        permutations: how many, where the test needs any.
        least: a test that cannot come as low is not made.
    """
    moved = pairs.change
    if math.isnan(moved):
        return Missing("undefined on the items that both versions scored")
    if 2 * pairs.smallest_p(permutations) > least:
        return Missing(f"{len(pairs):,} items are too few to show a difference")
    if moved == 0:
        return 1.0
    if not pairs.testable:
        return Missing("undefined once some of the items that both versions scored are left out")
    return min(1.0, 2 * pairs.p("lower" if moved < 0 else "higher", rng, permutations))


def _marked(cell: Cell, pairs: Pairs, alpha: float, metric: Metric | None) -> Cell:
    """Return a tested cell with its mark, which speaks of the items that were tested."""
    if cell.p_value is None or cell.p_value > alpha:
        return replace(cell, mark=Mark.NONE)
    if metric is None or metric.better is Better.NEITHER:
        return replace(cell, mark=Mark.DIFFERENT)
    mark = Mark.BETTER if (pairs.change > 0) is (metric.better is Better.HIGHER) else Mark.WORSE
    if mark == cell.judged:
        return replace(cell, mark=mark)
    # What only one version scored moved the value the other way.
    return replace(cell, mark=mark, reason=f"{mark} on the {len(pairs):,} items that both versions scored")


def _at_a_glance(drafts: Sequence[_Draft]) -> list[_Draft]:
    declared = [draft.metric.name if draft.metric else draft.row.metric for draft in drafts]
    places = at_a_glance([(name, draft.labels) for name, draft in zip(declared, drafts, strict=True)])
    return [drafts[at] for at in places]
