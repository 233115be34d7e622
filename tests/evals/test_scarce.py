"""Datasets of which less than half is in the vocabulary: the run says so, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embreg import EmbeddingTable
from embreg.evals.runner import make_params, suite_named
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.vocabulary import scarce
from embreg.registry.datasets import to_table

WORDS = [f"w{i}" for i in range(60)]
EXACTLY = "its ids are matched exactly, case included"
OTHERWISE = "it may be of another language than the ids, or written otherwise"


def findings(name: str, kind: str, rows: list[tuple], ids: list[str] = WORDS, **params):
    x = np.random.default_rng(0).standard_normal((len(ids), 6))
    subject = Subject(
        EmbeddingTable.from_arrays(ids, x),
        dataset=DatasetTable(name="mine", kind=kind, rows=to_table(rows, kind)),
    )
    suite = suite_named(name)
    return suite.run(subject, make_params(suite, params), np.random.default_rng(0))


def notes(*args, **kwargs) -> list[str]:
    return [note for note in findings(*args, **kwargs).notes if "vocabulary" in note]


def rows_of(kind: str, known: int, unknown: int) -> list[tuple]:
    """So many items of words that are rows, and so many of words that are none."""
    named = [(WORDS[3 * i], WORDS[3 * i + 1], WORDS[3 * i + 2]) for i in range(known)]
    named += [(f"x{i}", f"y{i}", f"z{i}") for i in range(unknown)]
    return {
        "analogies": [("s", "g", a, b, c, [WORDS[59]]) for a, b, c in named],
        "pairs": [(a, b, float(i)) for i, (a, b, _) in enumerate(named)],
        "labels": [(a, "even" if i % 2 else "odd") for i, (a, _, _) in enumerate(named)],
        "positives": [(a, b) for a, b, _ in named],
        "qrels": [(a, b, 1) for a, b, _ in named],
    }[kind]


SUITES = [
    ("analogies", "analogies", OTHERWISE),
    ("similarity", "pairs", OTHERWISE),
    ("neighbors", "labels", f"{EXACTLY}; {OTHERWISE}"),
    ("probe", "labels", f"{EXACTLY}; {OTHERWISE}"),
    ("alignment", "positives", EXACTLY),
]


@pytest.mark.parametrize(("suite", "kind", "advice"), SUITES)
def test_less_than_half_is_told(suite: str, kind: str, advice: str) -> None:
    assert notes(suite, kind, rows_of(kind, 6, 6)) == []
    assert notes(suite, kind, rows_of(kind, 6, 7)) == [
        f"only 46% of 'mine' is in the vocabulary (6 of 13): {advice}"
    ]


def test_queries_and_items_of_qrels_are_told_apart() -> None:
    rows = [("w0", "w1", 1), ("w0", "x1", 1), ("w0", "x2", 1), ("y0", "w1", 1), ("y1", "w2", 1)]
    assert notes("retrieval", "qrels", rows, k=1, cuts="1", depth=2) == [
        f"only 33% of the queries of 'mine' are in the vocabulary (1 of 3): {EXACTLY}",
        f"only 33% of the relevant items of 'mine' are in the vocabulary (1 of 3): {EXACTLY}",
    ]
    assert notes("retrieval", "qrels", rows_of("qrels", 6, 6), k=1, cuts="1", depth=2) == []


@pytest.mark.parametrize(("suite", "kind"), [("analogies", "analogies"), ("similarity", "pairs")])
def test_the_parameters_that_keep_words_out_are_named(suite: str, kind: str) -> None:
    """The first three items are of the first nine rows; the last word answers every analogy."""
    ids = [WORDS[59], *WORDS[:59]]
    (told,) = notes(suite, kind, rows_of(kind, 9, 0), ids=ids, restrict_vocab=10)
    assert told == (
        f"only 33% of 'mine' is in the vocabulary (3 of 9): {suite}.restrict_vocab takes the first 10 of 60 "
        f"rows (0: all); {OTHERWISE}"
    )
    loud = [*(word.upper() for word in WORDS[:50]), *WORDS[50:]]
    assert notes(suite, kind, rows_of(kind, 9, 0), ids=loud) == []
    few = rows_of(kind, 12, 0) + rows_of(kind, 20, 0)[17:19]
    (told,) = notes(suite, kind, few, ids=loud, case_fold=False)
    assert f": {suite}.case_fold=true matches words of another case; {OTHERWISE}" in told


@given(total=st.integers(1, 10**6), data=st.data())
def test_what_is_told_is_never_half_or_more(total: int, data: st.DataObject) -> None:
    covered = data.draw(st.integers(0, total))
    told = scarce("mine", covered, total, "advice")
    assert bool(told) == (covered / total < 0.5)
    if told:
        assert int(told[0].removeprefix("only ").partition("%")[0]) < 50
