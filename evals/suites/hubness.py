"""Hubness: are a few rows everybody's neighbour?

N_k(j), the k-occurrence of row j, is in how many k-nearest-neighbour lists it stands (its own left out); its
mean is k, so hubs pay for themselves with antihubs. Sources: Radovanović, Nanopoulos & Ivanović 2010
(skewness, section 3; antihubs, section 4.1); Feldbauer, Leodolter, Plant & Flexer 2018 (Robin Hood index);
Flexer & Schnitzer 2015 (hub and antihub occurrence).

Above some size the neighbour graph holds the lists of a sample only (``Subject.neighbors``). Counts on a
sample are biased: most rows are in no list. The skewness is then estimated from factorial moments, which
are unbiased; that of their ratio, and the interval, come from a jackknife over groups of lists. The other
figures are absent.

Where an index found the lists of all rows, those of a sample are known exactly too. The skewness is corrected
by what they differ in; the other figures are those of the approximate lists, with intervals that hold
whatever the missing neighbours can do to them (``evals.occurrence``). How often one row occurs is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UsageError, printable
from ..occurrence import Swaps, corrected_skewness, moved, reach
from ..statistics import normal_quantile, wilson
from ..suite import Absent, Better, Findings, Measure, Metric, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from ..graphs import ApproximateGraph
    from ..subject import NeighborGraph, Subject

_LOWER: dict[str, Any] = {"better": Better.LOWER}
SKEWNESS = Metric(
    "skewness",
    unit="standard deviations",
    **_LOWER,
    doc="Skewness of the k-occurrences: 0 is even, above 1.4 hubs are strong.",
    formula="mean of (N_k - k)³ / (mean of (N_k - k)²)^1.5",
    source="Radovanović et al. 2010, section 3",
)
ROBIN_HOOD = Metric(
    "robin_hood",
    unit="share",
    **_LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the list slots that would have to change hands for all rows to occur equally often.",
    formula="Σ |N_k(j) - k| / (2 Σ N_k(j))",
    source="Feldbauer et al. 2018, section 2.3",
)
GINI = Metric(
    "gini",
    unit="share",
    **_LOWER,
    low=0.0,
    high=1.0,
    doc="Gini coefficient of the k-occurrences: 0 when all are equal.",
    formula="2 Σ j N_(j) / (n Σ N_(j)) - (n + 1) / n, N_(j) the k-occurrences in ascending order",
    source="Gini 1912",
)
ANTIHUB_RATE = Metric(
    "antihub_rate",
    unit="share",
    **_LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the rows that are nobody's neighbour.",
    formula="|{j: N_k(j) = 0}| / n",
    source="Radovanović et al. 2010, section 4.1",
)
HUB_OCCURRENCE = Metric(
    "hub_occurrence",
    unit="share",
    **_LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the list slots taken by hubs, the rows that occur at least 2k times.",
    formula="Σ N_k(j) over the j with N_k(j) >= 2k, over Σ N_k(j)",
    source="Flexer & Schnitzer 2015, section 3.3",
)
MAX_OCCURRENCE = Metric(
    "max_occurrence",
    unit="lists",
    **_LOWER,
    low=0.0,
    doc="In how many lists the strongest hub stands.",
    formula="max N_k(j)",
    source="own",
)
_WHOLE = (ROBIN_HOOD, GINI, ANTIHUB_RATE, HUB_OCCURRENCE, MAX_OCCURRENCE)
#: Groups of lists that the jackknife leaves out in turn.
_GROUPS = 50
#: So many hubs are named.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: length of the neighbour lists.
    """

    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"hubness.k must be at least 1, not {self.k}")


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:  # noqa: ARG001
    """Measure the hubness of a table.

    Raises:
        Skipped: the table has fewer than k + 1 rows that are not zero.
    """
    approximate = subject.approximate_neighbors(params.k, whole=True)
    if approximate is not None:
        return _of_approximate(subject, approximate)
    graph = subject.neighbors(params.k)
    counts = np.bincount(graph.rows.ravel(), minlength=subject.table.rows)[subject.valid]
    skew = _skewness(subject, graph, counts)
    measures = [skew] if isinstance(skew, Measure) else []
    absent = [skew] if isinstance(skew, Absent) else []
    if graph.whole:
        measures += _whole(counts, params.k)
    else:
        reason = f"biased on the lists of a sample ({len(graph.queries):,} of {graph.n:,} rows)"
        absent += [Absent(metric.name, reason) for metric in _WHOLE]
    return Findings(
        measures=measures,
        absent=absent,
        items=_items(subject, counts) if graph.whole else None,
        notes=[_hubs(subject, counts, len(graph.queries))],
    )


def _skewness(subject: Subject, graph: NeighborGraph, counts: NDArray[np.integer[Any]]) -> Measure | Absent:
    if graph.whole:
        skew = skewness(counts)
        if skew is None:
            return Absent(SKEWNESS.name, "all rows occur equally often")
        return Measure(SKEWNESS.name, skew, len(counts))
    found = estimated_skewness(np.searchsorted(subject.valid, graph.rows), len(counts))
    if found is None:
        return Absent(SKEWNESS.name, "the sample shows no variance")
    return Measure(SKEWNESS.name, found[0], len(graph.queries), low=found[1], high=found[2])


def skewness(counts: NDArray[np.integer[Any]]) -> float | None:
    """Return the biased skewness m3 / m2^1.5 of all counts ``(n,)``; None where they are equal."""
    apart = counts - counts.mean()
    m2 = float(np.square(apart).mean())
    return float((apart**3).mean() / m2**1.5) if m2 > 0 else None


def sampled_skewness(counts: NDArray[np.integer[Any]], queries: int) -> float | None:
    """Estimate the skewness of N_k from counts ``(n,)`` on the lists of some rows only.

    Of the N lists that hold a row, the number seen in Q of n lists drawn without replacement is
    hypergeometric, so E[N'(N'-1)…(N'-r+1)] = N(N-1)…(N-r+1) prod_{i<r} (Q-i)/(n-i): the factorial moments
    are unbiased, and the skewness follows from the first three.

    Source: own; Johnson, Kemp & Kotz 2005, section 6.3, for the factorial moments.

    Returns:
        None where there are fewer than three lists, or the estimated variance is not positive.
    """
    n = len(counts)
    if queries < 3:
        return None
    falling, scale, factorial = np.ones(n), 1.0, []
    for i in range(3):
        falling = falling * (counts - i)
        scale *= (n - i) / (queries - i)
        factorial.append(float(falling.mean()) * scale)
    f1, f2, f3 = factorial
    m1, m2, m3 = f1, f2 + f1, f3 + 3 * f2 + f1
    variance = m2 - m1 * m1
    return (m3 - 3 * m1 * m2 + 2 * m1**3) / variance**1.5 if variance > 0 else None


def estimated_skewness(lists: NDArray[np.int64], n: int) -> tuple[float, float, float] | None:
    """Estimate the skewness of N_k from some of its lists: the value, and the interval around it.

    ``sampled_skewness`` is a ratio, and too small on few lists (by 4% with 400 lists of 4,000 rows of GloVe,
    by 7% further down its vocabulary). A jackknife that leaves out each of 50 groups of lists takes that bias
    off, and says how far the value scatters; both shrink with the share of lists that are not drawn.

    Args:
        lists: ``(q, k)``, numbers below n, of q rows drawn without replacement.
        n: rows.

    Returns:
        The estimate and its interval at the confidence in force; None where the variance of all lists, or
        of all but one group, is not positive.

    Source: Quenouille 1956; Shao & Tu 1995, section 2.3 (groups); Cochran 1977, section 5.9 (the share).
    """
    q = len(lists)
    counts, groups = np.bincount(lists.ravel(), minlength=n), min(_GROUPS, q)
    whole = sampled_skewness(counts, q)
    if whole is None:
        return None
    without = []
    for group in (lists[i::groups] for i in range(groups)):
        left = sampled_skewness(counts - np.bincount(group.ravel(), minlength=n), q - len(group))
        if left is None:
            return None
        without.append(left)
    undrawn, scatter = 1 - q / n, np.array(without) - np.mean(without)
    value = whole + undrawn * (groups - 1) * (whole - float(np.mean(without)))
    half = normal_quantile() * math.sqrt(undrawn * (groups - 1) / groups * float(scatter @ scatter))
    return value, value - half, value + half


def _whole(counts: NDArray[np.integer[Any]], k: int) -> list[Measure]:
    n, slots = len(counts), int(counts.sum())
    ranks = np.arange(1, n + 1)
    gini = 2 * float(ranks @ np.sort(counts)) / (n * slots) - (n + 1) / n
    antihubs = int((counts == 0).sum())
    low, high = wilson(antihubs, n)
    return [
        Measure(ROBIN_HOOD.name, float(np.abs(counts - counts.mean()).sum()) / 2 / slots, n),
        Measure(GINI.name, max(gini, 0.0), n),
        Measure(ANTIHUB_RATE.name, antihubs / n, n, low=low, high=high),
        Measure(HUB_OCCURRENCE.name, int(counts[counts >= 2 * k].sum()) / slots, n),
        Measure(MAX_OCCURRENCE.name, float(counts.max()), n),
    ]


def _of_approximate(subject: Subject, graph: ApproximateGraph) -> Findings:
    """Measure what the approximate lists of all rows say of the exact ones."""
    swaps, k = Swaps.of(graph, subject.valid), graph.found.k
    counts, n = swaps.counts, len(swaps.counts)
    skew = corrected_skewness(swaps)
    absent = [Absent(MAX_OCCURRENCE.name, "the lists that an index misses may be those of the strongest hub")]
    if skew is None:
        absent.append(Absent(SKEWNESS.name, "the lists show no variance"))
    measures = [] if skew is None else [Measure(SKEWNESS.name, skew[0], n, low=skew[1][0], high=skew[1][1])]
    reached = _reached(swaps, k)
    for measure in _whole(counts, k):
        if measure.metric in reached:
            below, above = reached[measure.metric]
            low = measure.value if measure.low is None else measure.low
            high = measure.value if measure.high is None else measure.high
            low, high = max(low - below, 0.0), min(high + above, 1.0)
            measures.append(Measure(measure.metric, measure.value, n, low=low, high=high))
    return Findings(
        measures=measures,
        absent=absent,
        items=_items(subject, counts),
        notes=[_hubs(subject, counts, n)],
    )


def _reached(swaps: Swaps, k: int) -> dict[str, tuple[float, float]]:
    """Return how far below and above the figures of the approximate lists those of the exact ones may be."""
    # Half the sum of all |N_i - N_j| over n Σ N: a change of one N moves it by no more than that over Σ N.
    gini = moved(swaps) / k
    uneven = reach(swaps, lambda counts: np.abs(counts - k), bend=k)
    in_hubs = reach(swaps, lambda counts: counts * (counts >= 2 * k), bend=2 * k)
    return {
        ROBIN_HOOD.name: (uneven[0] / (2 * k), uneven[1] / (2 * k)),
        GINI.name: (gini, gini),
        ANTIHUB_RATE.name: reach(swaps, lambda counts: (counts == 0).astype(np.float64), bend=1),
        HUB_OCCURRENCE.name: (in_hubs[0] / k, in_hubs[1] / k),
    }


def _items(subject: Subject, counts: NDArray[np.integer[Any]]) -> pa.Table:
    import pyarrow as pa

    ids = subject.table.ids_of(subject.valid)
    return pa.table({"item": pa.array(ids, pa.string()), "k_occurrence": pa.array(counts, pa.int64())})


def _hubs(subject: Subject, counts: NDArray[np.integer[Any]], lists: int) -> str:
    top = np.argsort(-counts, kind="stable")[:_NAMED]
    names = subject.table.ids_of(subject.valid[top])
    told = [f"'{printable(name, 40)}' {counts[row]:,}" for name, row in zip(names, top, strict=True)]
    return f"top hubs of {lists:,} lists: {', '.join(told)}"


SUITE = Suite(
    name="hubness",
    version=2,
    params=Params,
    metrics=(SKEWNESS, *_WHOLE),
    needs=frozenset(),
    run=run,
    doc="Are a few rows everybody's neighbour?",
)
