"""Rows about what is computed: neighbours, analogies and hubness.

A row that quick runs make smaller says its sizes, so it is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import clustered, glove, questions, unclustered, unit, widened
from .hardware import products
from .measure import QUICK, Row, compare

#: Scores of unit rows whose float32 products were added up in another order differ by less.
_ROUNDING = 2e-6
#: A pair asks faiss for a part of the self-join: it takes minutes, and answers rows in blocks of 4,096.
_PARTS = 4


def self_join(_: Path) -> Iterator[Row]:
    """Every row's 10 nearest, 131,072 x 384, clustered and not: against faiss.knn, row by row."""
    n, d = (16_384, 384) if QUICK else (131_072, 384)
    for kind, make in (("clustered", clustered), ("unclustered", unclustered)):
        x = make(n, d)
        yield _joined(f"self-join k=10, {n:,} x {d}, {kind}", x, asked=">= 3", times=2, parts=_PARTS)
    words = 20_000 if QUICK else 50_000
    x = unit(glove()[1][:words].copy())
    yield _joined(f"self-join k=10, GloVe {words:,} x 50", x, asked=">= 1", times=3, parts=1)


def _joined(work: str, x: NDArray[np.float32], *, asked: str, times: int, parts: int) -> Row:
    import faiss

    from embreg.evals import knn

    found: dict[str, Any] = {"parts": []}
    size = len(x) // parts

    def ours() -> None:
        found["ours"] = knn.self_neighbors(x, 10)

    def theirs() -> None:
        start = len(found["parts"]) % parts * size
        scores, rows = faiss.knn(x[start : start + size], x, 11, metric=faiss.METRIC_INNER_PRODUCT)
        found["parts"].append((start, *_without_self(scores, rows, start)))

    load = products(len(x), len(x), x.shape[1])
    row = compare(
        work, ours, "faiss.knn", theirs, asked=asked, times=times, load=load, part=1 / parts, in_process=True
    )
    answers = found["ours"]
    seen = {
        start: _differences(
            (answers.rows[start : start + size], answers.scores[start : start + size]),
            (rows, scores),
            x[start : start + size],
            x,
        )
        for start, scores, rows in found["parts"]
    }
    note = _agreement(seen.values(), len(seen) * size)
    if parts > 1:
        note = f"faiss answers 1/{parts} of the rows in each pair, its time counted {parts} times; {note}"
    return replace(row, note=note)


def queries(_: Path) -> Iterator[Row]:
    """4,096 queries among 1,000,000 x 384, unclustered, and 10,000 among GloVe: against faiss.knn."""
    q, n, d = (1024, 100_000, 384) if QUICK else (4096, 1_000_000, 384)
    base = unclustered(n, d)
    some = unclustered(q, d, seed=1)
    yield _asked(f"{q:,} queries k=10 x {n:,} x {d}, unclustered", some, base, asked=">= 2", times=2)
    del base
    base = unit(glove()[1].copy())
    some = np.ascontiguousarray(base[:: 400 if QUICK else 40])
    yield _asked(f"{len(some):,} queries k=10 x GloVe 400,000 x 50", some, base, asked=">= 1", times=3)


def _asked(
    work: str, asked_rows: NDArray[np.float32], base: NDArray[np.float32], *, asked: str, times: int
) -> Row:
    import faiss

    from embreg.evals import knn

    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = knn.neighbors(asked_rows, base, 10)

    def theirs() -> None:
        found["faiss"] = faiss.knn(asked_rows, base, 10, metric=faiss.METRIC_INNER_PRODUCT)

    load = products(len(asked_rows), *base.shape)
    row = compare(work, ours, "faiss.knn", theirs, asked=asked, times=times, load=load, in_process=True)
    answers, (scores, rows) = found["ours"], found["faiss"]
    seen = _differences((answers.rows, answers.scores), (rows, scores), asked_rows, base)
    return replace(row, note=_agreement([seen], len(asked_rows)))


def _without_self(
    scores: NDArray[np.float32], rows: NDArray[np.int64], start: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Leave each query's own row out of its list, or the last one where copies crowd it out."""
    own = rows == np.arange(start, start + len(rows))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = len(rows), rows.shape[1] - 1
    return scores[~own].reshape(shape), rows[~own].reshape(shape)


def _differences(
    ours: tuple[NDArray[np.int64], NDArray[np.float32]],
    theirs: tuple[NDArray[np.int64], NDArray[np.float32]],
    asked_rows: NDArray[np.float32],
    base: NDArray[np.float32],
) -> tuple[int, int, float]:
    """Return the places where other rows stand, those among them that do not tie, and the largest gap.

    Rows tie where their cosines, computed in float64, differ by less than float32 products round.
    """
    gap = float(np.abs(ours[1] - theirs[1]).max())
    query, place = np.nonzero(ours[0] != theirs[0])
    x = asked_rows[query].astype(np.float64)
    mine, other = (
        np.einsum("ij,ij->i", x, base[rows[query, place]].astype(np.float64)) for rows in (ours[0], theirs[0])
    )
    return len(query), int((np.abs(mine - other) > _ROUNDING).sum()), gap


def _agreement(seen: Any, lists: int) -> str:
    other, wrong, gap = (sum(s[i] for s in seen) if i < 2 else max(s[i] for s in seen) for i in range(3))
    if wrong or gap > _ROUNDING:
        return f"DIFFERENT ANSWERS: {wrong:,} places of {lists:,} lists, scores differ by up to {gap:.1e}"
    ties = f", but for {other:,} places where rows tie within {_ROUNDING:g}" if other else ""
    return f"neighbours of {lists:,} rows identical{ties}; scores within {gap:.1e}"


def analogies(folder: Path) -> Iterator[Row]:
    """Questions of Google among 400,000 words in 50 and in 300 dimensions: against gensim, one by one."""
    words, vectors = glove()
    some = folder / "questions.txt"
    count = questions(some, (4,) if QUICK else (0, 4, 5, 6))
    yield _answered(f"analogies, {count:,} questions x 400,000 x 50", words, vectors, some, times=3)
    count = questions(some, (4,), 100 if QUICK else 506)
    wide = widened(vectors, 300)
    del vectors
    row = _answered(f"analogies, {count:,} questions x 400,000 x 300", words, wide, some, times=2)
    yield replace(row, note=f"GloVe through a fixed random map to 300 dimensions, with noise; {row.note}")


def _answered(work: str, words: list[str], vectors: NDArray[np.float32], path: Path, *, times: int) -> Row:
    from gensim.models import KeyedVectors

    from embreg import EmbeddingTable
    from embreg.evals.subject import DatasetTable, Subject
    from embreg.evals.suites import analogies as suite
    from embreg.registry import datasets

    theirs = KeyedVectors(vectors.shape[1])
    theirs.add_vectors(words, vectors)
    theirs.fill_norms()
    table = EmbeddingTable.from_arrays(words, vectors)
    rows = datasets.parse(path, "analogies")
    dataset = DatasetTable(name="google", kind="analogies", rows=rows)
    params = suite.Params(restrict_vocab=0)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = suite.run(Subject(table, dataset=dataset), params, np.random.default_rng(0))

    def gensim() -> None:
        found["gensim"] = theirs.evaluate_word_analogies(str(path), restrict_vocab=len(words))[0]

    load = products(rows.num_rows, *vectors.shape)
    row = compare(work, ours, "gensim", gensim, asked=">= 10", times=times, load=load, in_process=True)
    accuracy = _value(found["ours"], "accuracy", group="total")
    return replace(row, note=f"accuracy {accuracy:.6f}, gensim {found['gensim']:.6f}")


def _value(findings: Any, metric: str, **labels: str) -> float:
    (value,) = [m.value for m in findings.measures if m.metric == metric and m.labels == labels]
    return float(value)


def hubness(_: Path) -> Iterator[Row]:
    """Hubness of 50,000 x 300: against the formulas of scikit-hubness on scikit-learn's neighbours."""
    from embreg import EmbeddingTable
    from embreg.evals.subject import Subject
    from embreg.evals.suites import hubness as suite

    from .practitioner import hubness_of

    n, d = (10_000 if QUICK else 50_000), 300
    x = widened(glove()[1][:n], d)
    table = EmbeddingTable.from_arrays(None, x)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = suite.run(Subject(table), suite.Params(), np.random.default_rng(0))

    def theirs() -> None:
        found["theirs"] = hubness_of(x, 10)

    row = compare(f"hubness, k=10, {n:,} x {d}", ours, "scikit-hubness' formulas", theirs, asked=">= 5",
                  times=2, load=products(n, n, d), in_process=True)  # fmt: skip
    skew = _value(found["ours"], "skewness")
    yield replace(
        row,
        note="scikit-hubness cannot be installed beside numpy 2: its measures are written out on neighbours"
        " that scikit-learn finds by brute force; skewness"
        f" {skew:.6f}, theirs {found['theirs']['skewness']:.6f};"
        " GloVe mapped to 300 dimensions; embreg finds 20 neighbours, for all suites",
    )
