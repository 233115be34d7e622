"""Analogies: a is to b as c is to which word? Source: Mikolov, Yih & Zweig 2013 (3CosAdd).

The answer is the row x of the highest score among the first ``restrict_vocab`` rows without a, b and c; u^ is
the unit vector of u:

============== ============================================= =========================================
method         score of x                                    source
============== ============================================= =========================================
3cosadd        cos(x, b^ - a^ + c^)                          Mikolov, Yih & Zweig 2013, section 5
3cosmul        s(b) s(c) / (s(a) + 0.001), s = (1 + cos) / 2 Levy & Goldberg 2014 (gensim: 0.000001)
pair-direction cos(x^ - c^, b^ - a^)                         Mikolov et al. 2013; Levy & Goldberg 2014
3cosavg        cos(x, c^ + mean(b^ - a^))                    Drozd, Gladkova & Matsuoka 2016
lrcos          P(x is of the class of b) cos(x, c)           Drozd, Gladkova & Matsuoka 2016
============== ============================================= =========================================

The last two (``evals.categories``) learn from all other pairs of a section: they answer pairs, not questions,
so their items are pairs, and only c is excluded. Numbers of 3CosAdd bear no label ``method``.

Words are matched as ``evaluate_word_analogies`` of gensim matches them. With ``case_fold`` both words and ids
are compared in upper case; of several ids that fold to one word the first row (the most frequent, in the
order of most files) gives the vector of a, b and c, *none* of them may answer where the word is a, b or c,
and *any* of them is right where the word is an answer. A question counts as covered when a, b, c and at least
one answer are in the vocabulary. Two differences: gensim looks past excluded words only among the five
nearest rows, and it does not know several right answers.

A covered question without any candidate (every row is excluded, or b^ - a^ + c^ or b^ - a^ is zero) counts as
wrong.

The band of a question is that of its rarest word: of the largest row number (from 1) among a, b, c and the
first right row. In files in the order of frequency that is a band of frequency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...registry.datasets import SCHEMAS
from ...registry.errors import UnknownChoice, UsageError
from .. import categories
from ..categories import Pair
from ..questions import Asked, answer, ask
from ..statistics import Ties, bootstrap_mean, tied_mean, wilson
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..vocabulary import Vocabulary, advice, scarce, unique

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

_SOURCE = "Mikolov, Yih & Zweig 2013, section 5"
#: Questions that share a pair of words stand and fall together.
_TIES = (("a", "b"), ("c", "expected"))
ACCURACY = Metric(
    "accuracy",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="accuracy",
    ties=_TIES,
    doc="Share of the covered questions (3CosAvg, LRCos: pairs) answered right; with no method, by 3CosAdd.",
    formula="|{questions whose answer argmax_x score(x) is right}| / |{covered questions}|",
    source=_SOURCE,
)
COVERAGE = Metric(
    "coverage",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    doc="Share of the questions (3CosAvg, LRCos: pairs) whose words are in the vocabulary.",
    formula="|{questions with a, b, c and an answer among the rows}| / |{questions}|",
    source="own",
)
ACCURACY_AT_K = Metric(
    "accuracy@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="hit",
    ties=_TIES,
    doc="Share of the covered questions with a right answer among the first k.",
    formula="|{questions with rank <= k}| / |{covered questions}|, rank of the first right row by score",
    source=_SOURCE,
)
MRR_AT_K = Metric(
    "mrr@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="reciprocal_rank",
    ties=_TIES,
    doc="Mean of 1 / rank of the first right answer; 0 where it is not among the first k.",
    formula="mean over covered questions of 1/rank, 0 where rank > k",
    source="Voorhees 1999, section 3",
)

_BY_QUESTION: Final = ("3cosadd", "3cosmul", "pair-direction")
_BY_PAIR: Final = ("3cosavg", "lrcos")
METHODS: Final = (*_BY_QUESTION, *_BY_PAIR)
#: The method whose numbers bear no label.
_PLAIN: Final = "3cosadd"

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters of the suite.

    Attributes:
        restrict_vocab: only the first so many rows ask and answer; 0 for all.
        case_fold: whether words and ids are compared in upper case.
        k: depth of ``accuracy@k`` and ``mrr@k``.
        methods: how questions are answered (see the module). 3CosMul and PairDirection each cost about as
            much as 3CosAdd (ten seconds for Google's questions among 400,000 rows on two idle cores), LRCos a
            third of that, 3CosAvg next to nothing.
        bands: the last row of each band but the open last one, ascending.
    """

    restrict_vocab: int = 300_000
    case_fold: bool = True
    k: int = 5
    methods: tuple[str, ...] = ("3cosadd",)
    bands: tuple[int, ...] = (1_000, 10_000, 100_000)

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise UnknownChoice("method", method, METHODS)
        if list(self.bands) != sorted(set(self.bands)) or min(self.bands, default=1) < 1:
            raise UsageError(f"analogies.bands ascend from 1 on, not {list(self.bands)}")
        if self.k < 1 or self.restrict_vocab < 0:
            raise UsageError(
                f"k = {self.k}, restrict_vocab = {self.restrict_vocab}: out of range",
                hint="k is at least 1, restrict_vocab at least 0 (all rows)",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What is answered, and what is right: questions, or pairs.

    Attributes:
        section, group: of each.
        right: its right rows; None where it is not asked.
        rarest: int64 ``(n,)``, the largest row of its words, -1 where it is not asked.
        ties: int64 ``(n, 2)``, the numbers of their two pairs, of which each may be another's; None where
            they share none.
    """

    section: list[str]
    group: list[str]
    right: list[frozenset[int] | None]
    rarest: Rows
    ties: Ties | None

    @property
    def asked(self) -> Mask:
        """Which of them are asked."""
        return self.rarest >= 0

    def bands(self, edges: tuple[int, ...]) -> list[str | None]:
        """Return the band of each, such as ``1001-10000``; None where it is not asked."""
        names = [f"{low + 1}-{high or ''}" for low, high in zip((0, *edges), (*edges, None), strict=True)]
        places = np.searchsorted(edges, self.rarest, side="right")
        return [names[i] if there else None for i, there in zip(places, self.asked, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """What a method answered: the rows int64 ``(n, k)``, and the rank of the first right one, 0 for none."""

    method: str
    frame: _Frame
    answers: Rows
    ranks: Rows

    @property
    def values(self) -> dict[str, Floats]:
        """What is averaged, by the column of the items, float64 ``(n,)``."""
        return {
            "accuracy": (self.ranks == 1).astype(np.float64),
            "hit": (self.ranks > 0).astype(np.float64),
            "reciprocal_rank": np.where(self.ranks > 0, 1 / np.maximum(self.ranks, 1), 0.0),
        }

    def mean(self, metric: Metric, name: str, here: Mask, labels: dict[str, str], rng: Generator) -> Measure:
        """Return a measure with its interval, over those of ``here`` (at least one) that were asked."""
        values = self.values[str(metric.item)][here & self.frame.asked]
        if self.frame.ties is not None:
            low, high = tied_mean(values, self.frame.ties[here & self.frame.asked])
        elif metric is MRR_AT_K:
            low, high = bootstrap_mean(values, rng)
        else:
            low, high = wilson(values.sum(), len(values))
        return Measure(name, float(values.mean()), len(values), labels, low, high)


def run(subject: Subject, params: Params, rng: Generator) -> Findings:
    """Ask every covered question once with every method; see ``Params`` for the parameters.

    Raises:
        Skipped: there is no dataset, or none of its questions is covered.
    """
    if subject.dataset is None:
        raise Skipped("needs a dataset of analogies")
    questions = subject.dataset.rows
    vocabulary = _vocabulary(subject, questions, params)
    asked = ask(questions, vocabulary)
    if not len(asked.triples):
        raise Skipped(
            f"none of the {questions.num_rows:,} questions of '{subject.dataset.name}' has its words "
            f"among the {len(vocabulary.searched):,} rows"
        )
    frame, solved = _of_questions(questions, asked), []
    for method in (m for m in _BY_QUESTION if m in params.methods):
        answers = answer(method, subject, vocabulary, asked, params.k)
        solved.append(_Solved(method=method, frame=frame, answers=answers, ranks=_ranks(frame, answers)))
    pairs = categories.pairs_of(questions, vocabulary) if set(_BY_PAIR) & set(params.methods) else []
    for learner in (m for m in _BY_PAIR if m in params.methods):
        answers, learnt = categories.answer(learner, subject, vocabulary, pairs, params.k)
        of_pairs = _of_pairs(pairs, learnt)
        ranks = _ranks(of_pairs, answers)
        solved.append(_Solved(method=learner, frame=of_pairs, answers=answers, ranks=ranks))
    found = [*_coverages(frame, {}), *(f for s in solved for f in _measure(s, params, rng))]
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(subject, questions, pairs, solved, params),
        notes=[*_notes(subject, params), *_scarcity(subject, frame, params)],
    )


def _vocabulary(subject: Subject, questions: pa.Table, params: Params) -> Vocabulary:
    words = {w for name in ("a", "b", "c") for w in questions.column(name).unique().to_pylist()}
    words.update(questions.column("answers").combine_chunks().flatten().to_pylist())
    return Vocabulary.of(subject, words, restrict=params.restrict_vocab, fold=params.case_fold)


def _of_questions(questions: pa.Table, asked: Asked) -> _Frame:
    first = np.array([-1 if rows is None else min(rows) for rows in asked.right], dtype=np.int64)
    given = np.where(asked.which >= 0, asked.triples.max(axis=1)[asked.which], -1)
    return _Frame(
        section=questions.column("section").to_pylist(),
        group=questions.column("group").to_pylist(),
        right=asked.right,
        rarest=np.maximum(first, given),
        ties=_ties(questions),
    )


def _of_pairs(pairs: list[Pair], learnt: Mask) -> _Frame:
    used = list(zip(pairs, learnt.tolist(), strict=True))
    rarest = [max(pair.source[0], min(pair.targets)) if there else -1 for pair, there in used]
    return _Frame(
        section=[pair.section for pair in pairs],
        group=[pair.group for pair in pairs],
        right=[frozenset(pair.targets) if there else None for pair, there in used],
        rarest=np.array(rarest, dtype=np.int64),
        ties=None,
    )


def _ties(questions: pa.Table) -> Ties:
    """Return the numbers of each question's pairs, (a, b) and (c, answers), int64 ``(n, 2)``."""
    numbers: dict[tuple[str, str], int] = {}
    a, b, c = (questions.column(name).to_pylist() for name in ("a", "b", "c"))
    d = ["/".join(words) for words in questions.column("answers").to_pylist()]
    both = zip(zip(a, b, strict=True), zip(c, d, strict=True), strict=True)
    tied = [[numbers.setdefault(pair, len(numbers)) for pair in pairs] for pairs in both]
    return np.array(tied, dtype=np.int64).reshape(-1, 2)


def _ranks(frame: _Frame, answers: Rows) -> Rows:
    """Return the rank (from 1) of the first right row of each; 0 where there is none."""
    ranks = np.zeros(len(frame.right), dtype=np.int64)
    for i, (rows, given) in enumerate(zip(frame.right, answers.tolist(), strict=True)):
        if rows is not None:
            ranks[i] = next((rank for rank, row in enumerate(given, 1) if row in rows), 0)
    return ranks


def _coverages(frame: _Frame, labels: dict[str, str]) -> Iterator[Measure]:
    for own, here in _slices(frame):
        total = int(here.sum())
        yield Measure("coverage", int((here & frame.asked).sum()) / total, total, own | labels)


def _measure(solved: _Solved, params: Params, rng: Generator) -> Iterator[Measure | Absent]:
    frame, asked = solved.frame, solved.frame.asked
    labels = {} if solved.method == _PLAIN else {"method": solved.method}
    if frame.ties is None:
        yield from _coverages(frame, labels)
    uncovered = "questions is covered" if frame.ties is not None else "pairs is covered beside another"
    for own, here in [*_slices(frame), *_bands(frame, params.bands)]:
        if (here & asked).any():
            yield solved.mean(ACCURACY, "accuracy", here, own | labels, rng)
        else:
            yield Absent("accuracy", f"none of the {int(here.sum()):,} {uncovered}", own | labels)
    for metric in (ACCURACY_AT_K, MRR_AT_K):
        name, own = metric.at(params.k), {"group": "total"} | labels
        if asked.any():
            yield solved.mean(metric, name, asked, own, rng)
        else:
            yield Absent(name, f"none of the {len(asked):,} {uncovered}", own)


def _slices(frame: _Frame) -> list[tuple[dict[str, str], Mask]]:
    """Return the total, then every group, then every section in the order of the dataset."""
    slices = [({"group": "total"}, np.ones(len(frame.right), dtype=bool))]
    for label, column in (("group", frame.group), ("section", frame.section)):
        values, names = np.array(column, dtype=object), list(dict.fromkeys(column))
        # A group of that name is told from the total.
        told = unique(["total", *names])[1:] if label == "group" else names
        slices += [({label: one}, values == name) for name, one in zip(names, told, strict=True)]
    return slices


def _bands(frame: _Frame, edges: tuple[int, ...]) -> list[tuple[dict[str, str], Mask]]:
    """Return the bands in which something is asked, the most frequent words first."""
    values = np.array(frame.bands(edges), dtype=object)
    names = dict.fromkeys(values[np.argsort(frame.rarest)])
    return [({"band": name}, values == name) for name in names if name]


def _items(
    subject: Subject, questions: pa.Table, pairs: list[Pair], solved: list[_Solved], params: Params
) -> pa.Table:
    """Return a row for each question and, where a method answers pairs, for each pair.

    The columns of a method but 3CosAdd are called ``accuracy[method=METHOD]`` and alike.
    """
    import pyarrow as pa

    asked = questions.num_rows
    texts = {name: questions.column(name).to_pylist() for name in SCHEMAS["analogies"].names}
    told = zip(*(texts[name] for name in ("section", "a", "b", "c")), strict=True)
    names = [f"{section}: {a} {b} {c}" for section, a, b, c in told]
    columns: dict[str, Any] = {
        "item": unique(names + [f"{pair.section}: {pair.word}" for pair in pairs]),
        "section": texts["section"] + [pair.section for pair in pairs],
        "group": texts["group"] + [pair.group for pair in pairs],
        "a": pa.array(texts["a"] + [None] * len(pairs), pa.string()),
        "b": pa.array(texts["b"] + [None] * len(pairs), pa.string()),
        "c": texts["c"] + [pair.word for pair in pairs],
        "expected": ["/".join(rows) for rows in texts["answers"] + [pair.answers for pair in pairs]],
    }
    bands: list[str | None] = [None] * (asked + len(pairs))
    for one in solved:
        before = 0 if one.frame.ties is not None else asked
        for i, band in enumerate(one.frame.bands(params.bands), before):
            bands[i] = band
        columns |= _answered(subject, one, before, len(bands))
    return pa.table(columns | {"band": pa.array(bands, pa.string())})


def _answered(subject: Subject, solved: _Solved, before: int, length: int) -> dict[str, pa.Array]:
    """Return the columns of a method; it answered the items from ``before`` on."""
    import pyarrow as pa

    def spread(values: NDArray[Any], there: Mask) -> pa.Array:
        filled, mask = np.zeros(length, dtype=values.dtype), np.ones(length, dtype=bool)
        here = slice(before, before + len(values))
        filled[here], mask[here] = values, ~there
        return pa.array(filled, mask=mask)

    first = solved.answers[:, 0]
    words = np.array(subject.table.ids_of(np.maximum(first, 0)), dtype=object)
    columns = {"predicted": spread(words, first >= 0).cast(pa.string())}
    columns |= {name: spread(values, solved.frame.asked) for name, values in solved.values.items()}
    columns["rank"] = spread(solved.ranks, solved.ranks > 0)
    suffix = "" if solved.method == _PLAIN else f"[method={solved.method}]"
    return {name + suffix: column for name, column in columns.items()}


def _scarcity(subject: Subject, frame: _Frame, params: Params) -> list[str]:
    name = subject.dataset.name if subject.dataset else ""
    return scarce(name, int(frame.asked.sum()), len(frame.right), *advice(subject, "analogies", params))


def _notes(subject: Subject, params: Params) -> list[str]:
    rows = subject.table.rows
    notes = []
    if 0 < params.restrict_vocab < rows:
        notes.append(f"only the first {params.restrict_vocab:,} of {rows:,} rows ask and answer")
    if zero := int((subject.norms == 0).sum()):
        notes.append(f"{zero:,} rows of zeros take no part")
    if bad := len(subject.nonfinite):
        notes.append(f"{bad:,} rows with NaN or infinity take no part")
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
