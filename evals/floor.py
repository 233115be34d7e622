"""The floor of a metric: how large its moves are where nothing, or next to nothing, happened.

Two versions are compared again on random halves of the ids they share, and with other seeds. What a metric
does between two halves of one comparison, or between two seeds, is noise: smaller moves of it mean nothing.
A metric of one version is measured on random halves of its rows in the same way.
A third kind of floor is for the user to bring: versions that ought to be equal, such as the same model
trained again from another seed; how far they drifted from each other is what a real change must exceed
(Leszczynski et al. 2020, section 5; Wendlandt, Kummerfeld & Mihalcea 2018).

Source of the split halves: Mahalanobis 1946 (interpenetrating samples); Shao & Tu 1995, section 2.3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..registry.errors import UsageError
from ..registry.tables import EmbeddingTable
from ..registry.types import Progress
from .shared import Shared
from .statistics import normal_quantile
from .subject import Memory, Subject
from .suite import Findings, Measure, Need, Skipped, Suite

#: A half holds no more rows than this: noise falls with the root of the rows, and is scaled to all of them.
HALF_ROWS = 10_000
#: Fewer shared rows than this have no halves to speak of.
_LEAST = 40
Rows = NDArray[np.int64]
_Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What is noise in one metric of a comparison.

    Attributes:
        metric, labels: of the measure.
        value: of the whole.
        halves: standard error of ``value`` as the spread between disjoint halves says; None where a half has
            no such value.
        seeds: standard deviation of the value over other seeds; 0 where chance has no part in it.
        noise: half the width of the interval about ``value`` that both together make, at the confidence in
            force: a difference from another comparison must exceed it by the root of 2 to mean anything.
        splits: how many pairs of halves were compared.
    """

    metric: str
    labels: Mapping[str, str]
    value: float
    halves: float | None
    seeds: float
    noise: float
    splits: int

    @property
    def error(self) -> float:
        """The standard error that halves and seeds make together."""
        return float(np.hypot(self.halves or 0.0, self.seeds))


def measure_floor(
    suite: Suite,
    subject: Subject,
    params: Any,
    *,
    seed: int = 0,
    splits: int = 10,
    seeds: int = 3,
    progress: Progress | None = None,
) -> tuple[Floor, ...]:
    """Measure the noise of every metric of a suite on ``subject``.

    Args:
        suite: one that needs a baseline (drift), or rows only.
        subject: the candidate, with its baseline where the suite needs one.
        params: of the suite.
        seed: of the halves and of the other seeds.
        splits: pairs of halves, at least 2.
        seeds: further seeds, at least 1.
        progress: told after each comparison.

    Returns:
        One floor for each measure of the whole, in its order.

    Raises:
        Skipped: there is no baseline, or there are fewer than 40 rows (that both share).
        UsageError: too few splits or seeds.
    """
    if splits < 2 or seeds < 1:
        raise UsageError(f"{splits} splits and {seeds} seeds: at least 2 and 1")
    n, part = _cut(suite, subject)
    steps, total = 0, 1 + seeds + 2 * splits

    def told(findings: Findings) -> Findings:
        nonlocal steps
        steps += 1
        if progress is not None:
            progress("measuring the floor", steps, total)
        return findings

    whole = told(suite.run(subject, params, np.random.default_rng(seed)))
    others = [told(suite.run(subject, params, np.random.default_rng([seed, i]))) for i in range(1, seeds + 1)]
    halves = []
    for i in range(splits):
        pair = _halves(n, part, np.random.default_rng([seed, i]))
        halves.append([told(suite.run(half, params, np.random.default_rng(seed))) for half in pair])
    return _floors(whole.measures, others, halves)


def _cut(suite: Suite, subject: Subject) -> tuple[int, Callable[[Rows], Subject]]:
    """Return how many rows there are to halve, and what makes a part of some of them."""
    if Need.BASELINE not in suite.needs:
        if len(subject.valid) < _LEAST:
            raise Skipped(f"{len(subject.valid)} rows are too few to halve: at least {_LEAST}")
        return len(subject.valid), lambda positions: rows_of(subject, subject.valid[positions])
    if subject.baseline is None:
        raise Skipped("needs a baseline")
    shared = Shared.of(subject.baseline, subject)
    if shared.n < _LEAST:
        raise Skipped(f"{shared.n} shared rows are too few to halve: at least {_LEAST}")
    return shared.n, lambda positions: _part(shared, positions)


def _halves(n: int, part: Callable[[Rows], Subject], rng: np.random.Generator) -> tuple[Subject, Subject]:
    """Return two disjoint random halves of n rows, at most ``HALF_ROWS`` each."""
    m = min(n // 2, HALF_ROWS)
    drawn = rng.choice(n, size=2 * m, replace=False)
    return part(np.sort(drawn[:m])), part(np.sort(drawn[m:]))


def _part(shared: Shared, positions: Rows) -> Subject:
    old = rows_of(shared.old, shared.old_rows[positions])
    return rows_of(shared.new, shared.new_rows[positions]).with_(baseline=old)


def rows_of(subject: Subject, rows: Rows) -> Subject:
    """Return some rows of a subject as one of their own."""
    table = subject.table
    ids = table.ids.combine_chunks().take(pa.array(rows))
    part = EmbeddingTable.from_arrays(ids, table.take(rows), space=table.space)
    return Subject(part, ref=subject.ref, store=Memory())


def _floors(
    whole: Sequence[Measure], others: Iterable[Findings], halves: Sequence[Sequence[Findings]]
) -> tuple[Floor, ...]:
    again: dict[_Key, list[float]] = defaultdict(list)
    for findings in others:
        for m in findings.measures:
            again[_key(m)].append(m.value)
    apart: dict[_Key, list[tuple[float, int]]] = defaultdict(list)
    for first, second in halves:
        there = {_key(m): m for m in second.measures}
        for m in first.measures:
            if (other := there.get(_key(m))) is not None:
                apart[_key(m)].append((m.value - other.value, min(m.n, other.n)))
    return tuple(_floor(m, again[_key(m)], apart[_key(m)]) for m in whole)


def _floor(measure: Measure, again: Sequence[float], apart: Sequence[tuple[float, int]]) -> Floor:
    values = [measure.value, *again]
    seeds = float(np.std(values, ddof=1)) if max(values) > min(values) else 0.0
    error = None
    if len(apart) > 1:
        gaps, n = np.array([gap for gap, _ in apart]), float(np.mean([n for _, n in apart]))
        # Each gap is the difference of two independent values of n items.
        error = float(np.sqrt(np.square(gaps).mean() / 2 * min(n / max(measure.n, 1), 1.0)))
    noise = normal_quantile() * float(np.hypot(error or 0.0, seeds))
    return Floor(
        metric=measure.metric,
        labels=dict(measure.labels),
        value=measure.value,
        halves=error,
        seeds=seeds,
        noise=noise,
        splits=len(apart),
    )


def _key(measure: Measure) -> _Key:
    return measure.metric, tuple(sorted(measure.labels.items()))
