"""Word similarity: do cosines order word pairs as people do? Source: Finkelstein 2002; Hill 2015.

The cosine of each pair of words is correlated with the score that people gave it. Words are matched as in the
suite ``analogies``; pairs with a word outside the vocabulary are left out of the correlation and counted in
``coverage``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UsageError
from ..correlations import counted_pearson, counted_spearman
from ..statistics import fisher_z
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Statistic, Suite
from ..vocabulary import Vocabulary, advice, scarce, unique

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

#: Of the per-item table: what people and what cosines say.
_COLUMNS = ("score", "predicted")
#: Pairs that share a word depend on each other.
_TIES = (("a",), ("b",))
SPEARMAN = Metric(
    "spearman",
    unit="correlation",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    statistic=Statistic(columns=_COLUMNS, of=counted_spearman),
    ties=_TIES,
    doc="Rank correlation (ties share their average rank) of the cosines with the scores.",
    formula="Pearson correlation of the ranks of cos(a_i, b_i) with the ranks of the scores",
    source="Spearman 1904",
)
PEARSON = Metric(
    "pearson",
    unit="correlation",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    statistic=Statistic(columns=_COLUMNS, of=counted_pearson),
    ties=_TIES,
    doc="Linear correlation of the cosines with the scores.",
    formula="Σ (c_i - c)(s_i - s) / sqrt(Σ (c_i - c)² Σ (s_i - s)²), c_i = cos(a_i, b_i), s_i the score, "
    "c, s means",
    source="Pearson 1896",
)
COVERAGE = Metric(
    "coverage",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    doc="Share of the pairs whose words are both in the vocabulary.",
    formula="|{pairs with both words}| / |{pairs}|",
    source="own",
)
#: Two points always lie on a line.
_FEWEST_PAIRS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters of the suite.

    Attributes:
        restrict_vocab: only the first so many rows are known words; 0 for all.
        case_fold: whether words and ids are compared in upper case; the first row wins.
    """

    restrict_vocab: int = 0
    case_fold: bool = True

    def __post_init__(self) -> None:
        if self.restrict_vocab < 0:
            raise UsageError(f"restrict_vocab is at least 0 (all rows), not {self.restrict_vocab}")


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:  # noqa: ARG001
    """Correlate the cosines of the covered pairs with their scores.

    Raises:
        Skipped: there is no dataset, or none of its pairs is covered.
    """
    if subject.dataset is None:
        raise Skipped("needs a dataset of pairs")
    pairs = subject.dataset.rows
    covered, cosines = _cosines(subject, pairs, params)
    total, n = pairs.num_rows, int(covered.sum())
    if not n:
        raise Skipped(f"none of the {total:,} pairs of '{subject.dataset.name}' is in the vocabulary")
    scores = pairs.column("score").to_numpy().astype(np.float64)
    found = _correlations(scores[covered], cosines[covered])
    return Findings(
        measures=[
            Measure("coverage", n / total, total),
            *(m for m in found if isinstance(m, Measure)),
        ],
        absent=[a for a in found if isinstance(a, Absent)],
        items=_items(pairs, scores, covered, cosines),
        notes=scarce(subject.dataset.name, n, total, *advice(subject, "similarity", params)),
    )


def _cosines(subject: Subject, pairs: pa.Table, params: Params) -> tuple[NDArray[np.bool_], Floats]:
    """Return which pairs are covered and the cosine of each pair, 0 where it is not."""
    words = [pairs.column(name).to_pylist() for name in ("a", "b")]
    vocabulary = Vocabulary.of(
        subject, words[0] + words[1], restrict=params.restrict_vocab, fold=params.case_fold
    )
    rows = np.array([[next(iter(vocabulary.all(w)), -1) for w in side] for side in words])
    covered = np.all(rows >= 0, axis=0)
    a, b = (_units(subject, side[covered]) for side in rows)
    cosines = np.zeros(pairs.num_rows)
    # Rounded: what differs by float64 noise only is a tie.
    cosines[covered] = np.clip(np.einsum("ij,ij->i", a, b), -1.0, 1.0).round(12)
    return covered, cosines


def _units(subject: Subject, rows: NDArray[np.int64]) -> Floats:
    x = subject.table.take(rows).astype(np.float64)
    units: Floats = x / np.linalg.norm(x, axis=1, keepdims=True)
    return units


def _correlations(scores: Floats, cosines: Floats) -> list[Measure | Absent]:
    from scipy.stats import rankdata

    return [
        _correlation("spearman", rankdata(scores), rankdata(cosines)),
        _correlation("pearson", scores, cosines),
    ]


def _correlation(metric: str, scores: Floats, cosines: Floats) -> Measure | Absent:
    n = len(scores)
    if n < _FEWEST_PAIRS:
        return Absent(metric, f"{n} covered pairs; a correlation needs at least {_FEWEST_PAIRS}")
    for what, values in (("scores", scores), ("cosines", cosines)):
        if values.min() == values.max():
            return Absent(metric, f"all {n} {what} are equal")
    r = float(np.clip(_standard(scores) @ _standard(cosines), -1.0, 1.0))
    low, high = fisher_z(r, n)
    return Measure(metric, r, n, low=low, high=high)


def _standard(values: Floats) -> Floats:
    """Return the values less their mean, as a unit vector."""
    # Scaled first: squares of scores such as 1e200 or 1e-200 leave the range of float64.
    x = values / np.abs(values).max()
    x -= x.mean()
    unit: Floats = x / np.linalg.norm(x)
    return unit


def _items(pairs: pa.Table, scores: Floats, covered: NDArray[np.bool_], cosines: Floats) -> pa.Table:
    import pyarrow as pa

    a, b = (pairs.column(name).to_pylist() for name in ("a", "b"))
    return pa.table(
        {
            "item": unique([f"{x}|{y}" for x, y in zip(a, b, strict=True)]),
            "a": a,
            "b": b,
            "score": scores,
            "predicted": pa.array(cosines, mask=~covered),
        }
    )


SUITE = Suite(
    name="similarity",
    version=1,
    params=Params,
    metrics=(SPEARMAN, PEARSON, COVERAGE),
    needs=frozenset({Need.PAIRS}),
    run=run,
    doc="Do the cosines of word pairs agree with how similar people find them?",
)
