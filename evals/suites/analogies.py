"""Analogies: a is to b as c is to which word? Source: Mikolov, Yih & Zweig 2013 (3CosAdd).

The answer is the row x with the largest cos(x, b^ - a^ + c^), where u^ is the unit vector of u, among the
first ``restrict_vocab`` rows without a, b and c.

Words are matched as ``evaluate_word_analogies`` of gensim matches them. With ``case_fold`` both words and ids
are compared in upper case; of several ids that fold to one word the first row (the most frequent, in the
order of most files) gives the vector of a, b and c, *none* of them may answer where the word is a, b or c,
and *any* of them is right where the word is an answer. A question counts as covered when a, b, c and at least
one answer are in the vocabulary. Two differences: gensim looks past excluded words only among the five
nearest rows, and it does not know several right answers.

A covered question without any candidate (every row is excluded, or b^ - a^ + c^ is zero) counts as wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UsageError
from ...registry.vectors import unit_rows
from .. import knn
from ..statistics import cluster_bootstrap_mean
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..vocabulary import Vocabulary, unique

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

_SOURCE = "Mikolov, Yih & Zweig 2013, section 5"
ACCURACY = Metric(
    "accuracy",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="accuracy",
    doc="Share of the covered questions whose nearest row is a right answer (3CosAdd).",
    source=_SOURCE,
)
COVERAGE = Metric(
    "coverage",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    doc="Share of the questions whose words are in the vocabulary.",
    source="own",
)
ACCURACY_AT_K = Metric(
    "accuracy@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    doc="Share of the covered questions with a right answer among the k nearest rows.",
    source=_SOURCE,
)
MRR_AT_K = Metric(
    "mrr@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    doc="Mean of 1 / rank of the first right answer; 0 where it is not among the k nearest rows.",
    source="Voorhees 1999, section 3",
)

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters of the suite.

    Attributes:
        restrict_vocab: only the first so many rows ask and answer; 0 for all.
        case_fold: whether words and ids are compared in upper case.
        k: depth of ``accuracy@k`` and ``mrr@k``.
    """

    restrict_vocab: int = 300_000
    case_fold: bool = True
    k: int = 5

    def __post_init__(self) -> None:
        if self.k < 1 or self.restrict_vocab < 0:
            raise UsageError(
                f"k = {self.k}, restrict_vocab = {self.restrict_vocab}: out of range",
                hint="k is at least 1, restrict_vocab at least 0 (all rows)",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The distinct questions (a, b, c) in vocabulary, and which of them each covered question is.

    Attributes:
        triples: int64 ``(t, 3)``, the rows of a, b and c.
        excluded: int64 ``(t, e)``, every row that folds to a, b or c; -1 pads.
        right: for each question its right rows; None where it is not covered.
        which: int64 ``(questions,)``, row of ``triples``; -1 where not covered.
    """

    triples: Rows
    excluded: Rows
    right: list[frozenset[int] | None]
    which: Rows


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Ask every covered question once; see ``Params`` for the parameters.

    Raises:
        Skipped: there is no dataset, or none of its questions is covered.
    """
    if subject.dataset is None:
        raise Skipped("needs a dataset of analogies")
    questions = subject.dataset.rows
    vocabulary = _vocabulary(subject, questions, params)
    asked = _ask(questions, vocabulary)
    if not len(asked.triples):
        raise Skipped(
            f"none of the {questions.num_rows:,} questions of '{subject.dataset.name}' has its words "
            f"among the {len(vocabulary.searched):,} rows"
        )
    answers = _answer(subject, vocabulary, asked, params.k)
    ranks = _ranks(asked, answers)
    measures, absent = _measure(questions, asked, ranks, params.k, rng)
    predicted = np.where(asked.which >= 0, answers[asked.which, 0], -1)
    items = _items(subject, questions, asked, ranks, predicted)
    return Findings(measures=measures, absent=absent, items=items, notes=_notes(subject, params))


def _vocabulary(subject: Subject, questions: pa.Table, params: Params) -> Vocabulary:
    words = {w for name in ("a", "b", "c") for w in questions.column(name).unique().to_pylist()}
    words.update(questions.column("answers").combine_chunks().flatten().to_pylist())
    return Vocabulary.of(subject, words, restrict=params.restrict_vocab, fold=params.case_fold)


def _ask(questions: pa.Table, vocabulary: Vocabulary) -> _Asked:
    numbers: dict[tuple[int, ...], int] = {}
    excluded: list[list[int]] = []
    right: list[frozenset[int] | None] = []
    which = np.full(questions.num_rows, -1, dtype=np.int64)
    columns = [questions.column(name).to_pylist() for name in ("a", "b", "c", "answers")]
    for i, (a, b, c, answers) in enumerate(zip(*columns, strict=True)):
        given = [vocabulary.all(word) for word in (a, b, c)]
        rows = [row for answer in answers for row in vocabulary.all(answer)]
        if not rows or not all(given):
            right.append(None)
            continue
        triple = tuple(variants[0] for variants in given)
        which[i] = numbers.setdefault(triple, len(numbers))
        if which[i] == len(excluded):
            excluded.append(sorted({row for variants in given for row in variants}))
        right.append(frozenset(rows))
    width = max(map(len, excluded), default=0)
    padded = [rows + [-1] * (width - len(rows)) for rows in excluded]
    return _Asked(
        triples=np.array(list(numbers), dtype=np.int64).reshape(-1, 3),
        excluded=np.array(padded, dtype=np.int64).reshape(len(padded), width),
        right=right,
        which=which,
    )


def _answer(subject: Subject, vocabulary: Vocabulary, asked: _Asked, k: int) -> Rows:
    """Return int64 ``(t, k)``, the rows nearest to each query, best first; -1 where there is none."""
    searched = vocabulary.searched
    vectors = subject.table.vectors
    base = vectors[: len(searched)] if len(searched) == searched[-1] + 1 else vectors[searched]
    words, place = np.unique(asked.triples, return_inverse=True)
    a, b, c = unit_rows(subject.table.take(words))[place.reshape(-1, 3)].swapaxes(0, 1)
    queries = b - a + c
    found = np.full((len(queries), k), -1, dtype=np.int64)
    left = len(searched) - (asked.excluded >= 0).sum(axis=1)
    ask = np.flatnonzero(queries.any(axis=1) & (left > 0))
    if len(ask):
        depth = min(k, int(left[ask].min()))
        excluded = np.searchsorted(searched, asked.excluded[ask])
        excluded[asked.excluded[ask] < 0] = -1
        nearest = knn.neighbors(queries[ask], base, depth, "cosine", exclude=excluded)
        found[ask, :depth] = searched[nearest.rows]
    return found


def _ranks(asked: _Asked, answers: Rows) -> Rows:
    """Return for each question the rank (from 1) of its first right row; 0 where there is none."""
    ranks = np.zeros(len(asked.right), dtype=np.int64)
    for i, (rows, which) in enumerate(zip(asked.right, asked.which.tolist(), strict=True)):
        if rows is not None:
            hits = (rank for rank, row in enumerate(answers[which].tolist(), 1) if row in rows)
            ranks[i] = next(hits, 0)
    return ranks


def _measure(
    questions: pa.Table, asked: _Asked, ranks: Rows, k: int, rng: np.random.Generator
) -> tuple[list[Measure], list[Absent]]:
    covered, right = asked.which >= 0, ranks == 1
    pairs = _pairs(questions)
    measures: list[Measure] = []
    absent: list[Absent] = []
    for labels, here in _slices(questions):
        use = here & covered
        total, n = int(here.sum()), int(use.sum())
        measures.append(Measure("coverage", n / total, total, labels))
        if not n:
            absent.append(Absent("accuracy", f"none of the {total:,} questions is covered", labels))
            continue
        low, high = cluster_bootstrap_mean(right[use], pairs[use], rng)
        measures.append(Measure("accuracy", float(right[use].mean()), n, labels, low, high))
    n, found = int(covered.sum()), ranks[covered]
    reciprocal = np.where(found > 0, 1 / np.maximum(found, 1), 0.0)
    everything = {"group": "total"}
    measures += [
        Measure(ACCURACY_AT_K.at(k), float((found > 0).mean()), n, everything),
        Measure(MRR_AT_K.at(k), float(reciprocal.mean()), n, everything),
    ]
    return measures, absent


def _pairs(questions: pa.Table) -> Rows:
    """Return the number of each question's pair (a, b): questions share pairs, and are not independent."""
    numbers: dict[tuple[str, str], int] = {}
    both = zip(questions.column("a").to_pylist(), questions.column("b").to_pylist(), strict=True)
    return np.array([numbers.setdefault(pair, len(numbers)) for pair in both], dtype=np.int64)


def _slices(questions: pa.Table) -> list[tuple[dict[str, str], Mask]]:
    """Return the total, then every group, then every section in the order of the dataset."""
    slices = [({"group": "total"}, np.ones(questions.num_rows, dtype=bool))]
    for label in ("group", "section"):
        values = np.array(questions.column(label).to_pylist(), dtype=object)
        slices += [({label: value}, values == value) for value in dict.fromkeys(values)]
    return slices


def _items(subject: Subject, questions: pa.Table, asked: _Asked, ranks: Rows, predicted: Rows) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: questions.column(name).to_pylist()
                                     for name in questions.column_names}  # fmt: skip
    told = zip(*(columns[name] for name in ("section", "a", "b", "c")), strict=True)
    names = unique([f"{section}: {a} {b} {c}" for section, a, b, c in told])
    words = subject.table.ids_of(np.maximum(predicted, 0))
    return pa.table(
        {
            "item": names,
            **{name: columns[name] for name in ("section", "group", "a", "b", "c")},
            "expected": ["/".join(answers) for answers in columns["answers"]],
            "predicted": pa.array(words, pa.string(), mask=predicted < 0),
            "accuracy": pa.array((ranks == 1).astype(np.float64), mask=asked.which < 0),
            "rank": pa.array(ranks, mask=ranks == 0),
        }
    )


def _notes(subject: Subject, params: Params) -> list[str]:
    rows = subject.table.rows
    notes = []
    if 0 < params.restrict_vocab < rows:
        notes.append(f"only the first {params.restrict_vocab:,} of {rows:,} rows ask and answer")
    if zero := rows - len(subject.valid):
        notes.append(f"{zero:,} rows of zeros take no part")
    return notes


SUITE = Suite(
    name="analogies",
    version=1,
    params=Params,
    metrics=(ACCURACY, COVERAGE, ACCURACY_AT_K, MRR_AT_K),
    needs=frozenset({Need.ANALOGIES}),
    run=run,
    doc="How many analogies (a is to b as c is to d) do the offsets between rows solve?",
)
