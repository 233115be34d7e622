"""Retrieval: do the rows that answer a query come first?

The qrels say which items answer which query, and how well. Each query ranks the rows of the table by the
table's own metric, exactly and ties by row, down to ``depth`` (1,000, as TREC runs go). A query is a row of
the table, which never finds itself, or has a vector of its own that the dataset carries.

The conventions are those of trec_eval: an item is relevant if its relevance is above 0, the gain of nDCG is
the relevance itself, and a relevant item that cannot be found (it is no row, or a row of zeros) counts as
missed. Queries without a relevant item are counted and not scored; nor are those that have no vector.

Sources: Järvelin & Kekäläinen 2002 (nDCG); Manning, Raghavan & Schütze 2008, chapter 8 (recall, average
precision); Voorhees 1999 (reciprocal rank).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...registry.datasets import vectors_in
from ...registry.errors import UsageError
from ...registry.vectors import Vectors, split
from .. import knn
from ..statistics import bootstrap_mean, wilson
from ..subject import Subject
from ..suite import Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..vocabulary import EXACT, rows_of, scarce

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_SHARE: dict[str, Any] = {"unit": "share", "low": 0.0, "high": 1.0, "better": Better.HIGHER}
NDCG = Metric(
    "ndcg@k",
    **_SHARE,
    item="ndcg",
    doc="Discounted gain of the first k answers over that of the best k; the gain is the relevance.",
    formula="mean over queries of Σ_{r <= k} g_r / log2(r + 1), g_r the gain at rank r, over that of the "
    "ideal order",
    source="Järvelin & Kekäläinen 2002, section 2.3; gains as in trec_eval (ndcg_cut)",
)
RECALL = Metric(
    "recall@k",
    **_SHARE,
    item="recall",
    doc="Share of a query's relevant items among its first k answers.",
    formula="mean over queries of |{relevant among the first k}| / |{relevant}|",
    source="Manning, Raghavan & Schütze 2008, section 8.3",
)
HIT = Metric(
    "hit@k",
    **_SHARE,
    item="hit",
    doc="Share of the queries with a relevant item among the first k answers.",
    formula="|{queries with a relevant item among the first k}| / |{queries}|",
    source="trec_eval (success)",
)
MRR = Metric(
    "mrr@k",
    **_SHARE,
    item="reciprocal_rank",
    doc="Mean of one over the rank of the first relevant answer, 0 beyond k.",
    formula="mean over queries of 1/rank of the first relevant answer, 0 where rank > k",
    source="Voorhees 1999",
)
MAP = Metric(
    "map",
    **_SHARE,
    item="average_precision",
    doc="Mean over queries of the precision at each relevant item, 0 for those beyond the depth.",
    formula="mean over queries of Σ_{relevant at rank r} |{relevant among the first r}| / r, over "
    "|{relevant}|",
    source="Manning, Raghavan & Schütze 2008, section 8.4",
)
COVERAGE = Metric(
    "coverage",
    **_SHARE,
    doc="Share of the queries with a relevant item that could be asked: they have a vector that is not 0.",
    formula="|{queries asked}| / |{queries with a relevant item}|",
    source="own",
)
ITEM_COVERAGE = Metric(
    "item_coverage",
    **_SHARE,
    doc="Share of the relevant items of the queries asked that are rows which can be found.",
    formula="|{relevant items that are rows}| / |{relevant items of the queries asked}|",
    source="own",
)
WITHOUT_RELEVANT = Metric(
    "queries_without_relevant",
    unit="queries",
    low=0.0,
    better=Better.NEITHER,
    doc="Queries of the dataset without a relevant item, which are not scored.",
    formula="|{queries without a relevant item}|",
    source="own",
)
#: Column of the items, and the metric at ``Params.k`` whose value per query it holds.
_COLUMNS = ("ndcg", "recall", "hit", "reciprocal_rank", "average_precision")
#: Answers held at a time: 64 MiB of row numbers and as much of scores and gains each.
_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: cut of nDCG, reciprocal rank and the items.
        cuts: further cuts of recall and hits.
        depth: how many answers are ranked, at least every cut.
        ignore_same_id: whether a row cannot answer a query of the same id that has a vector of its own
            (``ignore_identical_ids`` of BEIR). Queries that are rows never find themselves.
    """

    k: int = 10
    cuts: tuple[int, ...] = (1, 10, 100)
    depth: int = 1000
    ignore_same_id: bool = False

    def __post_init__(self) -> None:
        if min(self.k, *self.cuts) < 1:
            raise UsageError("retrieval.k and retrieval.cuts must be at least 1")
        if self.depth < max(self.all_cuts):
            raise UsageError(f"retrieval.depth must be at least {max(self.all_cuts)}, not {self.depth}")

    @property
    def all_cuts(self) -> tuple[int, ...]:
        """Every cut of recall and hits, ascending."""
        return tuple(sorted({self.k, *self.cuts}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """The relevant items of the queries that are asked, sorted by query, then relevance, best first.

    Position q stands for the q-th query asked; all arrays of judgements have one length.

    Attributes:
        ids: every query of the dataset, in its order.
        relevant: int64 ``(len(ids),)``, how many relevant items each has.
        asked: int64 ``(q,)``, places in ``ids``.
        vectors: ``(q, d)``.
        own: int64 ``(q,)``, row that may not answer; -1 for none.
        query: int64, the position in ``asked`` of each judgement.
        row: int64, the row of its item; -1 where that cannot be found.
        gain: float64, its relevance.
    """

    ids: list[str]
    relevant: Rows
    asked: Rows
    vectors: Vectors
    own: Rows
    query: Rows
    row: Rows
    gain: Floats

    @classmethod
    def of(cls, subject: Subject, qrels: pa.Table, *, ignore_same_id: bool) -> Self:
        """Match the qrels with the rows of a table.

        Raises:
            Skipped: no query can be asked, or no relevant item can be found.
        """
        carried = vectors_in(qrels, "qrels")
        source = subject if carried is None else Subject(carried)
        if source.table.dim != subject.table.dim:
            raise Skipped(f"the queries have {source.table.dim} dimensions, the rows {subject.table.dim}")
        coded = qrels.column("query").combine_chunks().dictionary_encode()
        ids = coded.dictionary
        same = rows_of(subject, ids) if carried is None or ignore_same_id else np.full(len(ids), -1)
        query = coded.indices.to_numpy().astype(np.int64)
        row = rows_of(subject, qrels.column("item").combine_chunks())
        gain = qrels.column("relevance").to_numpy().astype(np.float64)
        counts = (gain > 0) & ~((row == same[query]) & (row >= 0))
        relevant = np.bincount(query[counts], minlength=len(ids))
        rows = rows_of(source, ids)
        asked = np.flatnonzero((rows >= 0) & (relevant > 0))
        if not asked.size:
            raise Skipped(_why_not_asked(relevant, carried is None))
        place = np.full(len(ids), -1)
        place[asked] = np.arange(len(asked))
        kept = np.flatnonzero(counts & (place[query] >= 0))
        kept = kept[np.lexsort((-gain[kept], query[kept]))]
        if not (row[kept] >= 0).any():
            raise Skipped(f"none of the {len(kept):,} relevant items is a row that can be found")
        return cls(
            ids=ids.to_pylist(),
            relevant=relevant,
            asked=asked,
            vectors=source.table.take(rows[asked]),
            own=same[asked],
            query=place[query[kept]],
            row=row[kept],
            gain=gain[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What each of q queries scored.

    Attributes:
        ndcg, average_precision: float64 ``(q,)``.
        first: int64 ``(q,)``, rank from 1 of the first relevant answer; 0 where the depth holds none.
        recall: cut -> float64 ``(q,)``.
    """

    ndcg: Floats
    average_precision: Floats
    first: Rows
    recall: dict[int, Floats]

    def hit(self, k: int) -> Floats:
        """Return 1 where a relevant item is among the first k answers."""
        return ((self.first > 0) & (self.first <= k)).astype(np.float64)

    def reciprocal_rank(self, k: int) -> Floats:
        """Return one over the rank of the first relevant answer, 0 where that is beyond k."""
        return self.hit(k) / np.maximum(self.first, 1)


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure how well the queries of a dataset find what is relevant.

    Raises:
        Skipped: there is no dataset, no query can be asked, or no relevant item can be found.
    """
    if subject.dataset is None:
        raise Skipped("needs a dataset of qrels")
    judged = _Judged.of(subject, subject.dataset.rows, ignore_same_id=params.ignore_same_id)
    scores = _ranked(subject, judged, params)
    return Findings(
        measures=[*_means(scores, params, rng), *_coverage(judged)],
        items=_items(judged, scores, params.k),
        notes=_scarcity(judged, subject.dataset.name),
    )


def _why_not_asked(relevant: Rows, own_rows: bool) -> str:
    if not relevant.any():
        return f"none of the {len(relevant):,} queries has a relevant item"
    what = "is a row of the table that is not zero" if own_rows else "has a vector that is not zero"
    return f"none of the {int((relevant > 0).sum()):,} queries with a relevant item {what}"


def _ranked(subject: Subject, judged: _Judged, params: Params) -> Scores:
    valid, table = subject.valid, subject.table
    base = table.stacked(None if len(valid) == table.rows else valid)
    own = np.where(judged.own >= 0, np.searchsorted(valid, judged.own), -1)
    q = len(judged.asked)
    scores = Scores(
        ndcg=np.zeros(q),
        average_precision=np.zeros(q),
        first=np.zeros(q, dtype=np.int64),
        recall={k: np.zeros(q) for k in params.all_cuts},
    )
    # A query that may find every row is answered one row deeper than one that may not find itself.
    for these, barred in ((np.flatnonzero(own < 0), 0), (np.flatnonzero(own >= 0), 1)):
        depth = min(params.depth, len(valid) - barred)
        for part in split(len(these) if depth else 0, max(1, _BLOCK // max(1, depth))):
            asked = these[part]
            exclude = own[asked][:, None]
            found = knn.neighbors(judged.vectors[asked], base, depth, subject.space.metric, exclude=exclude)
            _score(judged, asked, valid[found.rows], params.k, scores)
    return scores


def _score(judged: _Judged, asked: Rows, answers: Rows, k: int, scores: Scores) -> None:
    """Score the answers ``(m, depth)`` of the queries at some positions, and note it in ``scores``."""
    start, stop = (np.searchsorted(judged.query, asked, side) for side in ("left", "right"))
    gains = _gains(judged, asked, answers)
    ranks = np.arange(1, answers.shape[1] + 1)
    hits = gains > 0
    so_far = np.cumsum(hits, axis=1)
    total = (stop - start).astype(np.float64)
    gained = gains[:, :k] @ _discounts(gains[:, :k].shape[1])
    scores.ndcg[asked] = np.minimum(gained / _ideal(judged, start, stop, k), 1.0)
    scores.average_precision[asked] = (hits * so_far / ranks).sum(axis=1) / total
    scores.first[asked] = np.where(so_far[:, -1] > 0, hits.argmax(axis=1) + 1, 0)
    for cut, recall in scores.recall.items():
        recall[asked] = so_far[:, min(cut, len(ranks)) - 1] / total


def _gains(judged: _Judged, asked: Rows, answers: Rows) -> Floats:
    """Return the relevance of each answer, 0 where it is not relevant."""
    width = int(max(answers.max(), judged.row.max())) + 1
    known = np.flatnonzero(judged.row >= 0)
    keys = judged.query[known] * width + judged.row[known]
    order = np.argsort(keys)
    keys, gain = keys[order], judged.gain[known][order]
    wanted = asked[:, None] * width + answers
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, gain[place], 0.0)


def _ideal(judged: _Judged, start: Rows, stop: Rows, k: int) -> Floats:
    """Return the discounted gain of the best k of each query's relevant items, found or not."""
    best = np.arange(int(min(k, (stop - start).max())))
    place = start[:, None] + best
    gain = np.where(place < stop[:, None], judged.gain[np.minimum(place, len(judged.gain) - 1)], 0.0)
    ideal: Floats = gain @ _discounts(len(best))
    return ideal


def _discounts(k: int) -> Floats:
    return 1 / np.log2(np.arange(2, k + 2))


def _means(scores: Scores, params: Params, rng: np.random.Generator) -> Iterator[Measure]:
    n, k = len(scores.ndcg), params.k
    for name, values in (
        (NDCG.at(k), scores.ndcg),
        (MRR.at(k), scores.reciprocal_rank(k)),
        (MAP.name, scores.average_precision),
        *((RECALL.at(cut), scores.recall[cut]) for cut in params.all_cuts),
    ):
        low, high = bootstrap_mean(values, rng)
        yield Measure(name, float(values.mean()), n, low=low, high=high)
    for cut in params.all_cuts:
        yield _proportion(HIT.at(cut), int(scores.hit(cut).sum()), n)


def _proportion(metric: str, successes: int, n: int) -> Measure:
    low, high = wilson(successes, n)
    return Measure(metric, successes / n, n, low=low, high=high)


def _coverage(judged: _Judged) -> Iterator[Measure]:
    queries, scorable = len(judged.ids), int((judged.relevant > 0).sum())
    yield _proportion(COVERAGE.name, len(judged.asked), scorable)
    yield _proportion(ITEM_COVERAGE.name, int((judged.row >= 0).sum()), len(judged.row))
    yield Measure(WITHOUT_RELEVANT.name, float(queries - scorable), queries)


def _scarcity(judged: _Judged, name: str) -> list[str]:
    scorable, found = int((judged.relevant > 0).sum()), int((judged.row >= 0).sum())
    return [
        *scarce(name, len(judged.asked), scorable, EXACT, what="queries"),
        *scarce(name, found, len(judged.row), EXACT, what="relevant items"),
    ]


def _items(judged: _Judged, scores: Scores, k: int) -> pa.Table:
    place = np.full(len(judged.ids), -1)
    place[judged.asked] = np.arange(len(judged.asked))
    at = pa.array(place, mask=place < 0)
    values = (
        scores.ndcg,
        scores.recall[k],
        scores.hit(k),
        scores.reciprocal_rank(k),
        scores.average_precision,
    )
    first = pa.array(scores.first, mask=scores.first == 0).take(at)
    return pa.table(
        {
            "item": pa.array(judged.ids, pa.string()),
            "relevant": judged.relevant,
            **{name: pa.array(v).take(at) for name, v in zip(_COLUMNS, values, strict=True)},
            "first_rank": first,
        }
    )


SUITE = Suite(
    name="retrieval",
    version=1,
    params=Params,
    metrics=(NDCG, RECALL, MRR, MAP, HIT, COVERAGE, ITEM_COVERAGE, WITHOUT_RELEVANT),
    needs=frozenset({Need.QRELS}),
    run=run,
    doc="Do the rows that answer a query come first?",
)
