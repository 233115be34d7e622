"""Numbers measured once with plain numpy on public vectors; the suites must give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import skew

from embreg import EmbeddingTable
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suites import analogies, anisotropy, hubness
from embreg.registry import datasets


@pytest.fixture(scope="module")
def first_20k(glove) -> Subject:
    words, vectors = glove
    return Subject(EmbeddingTable.from_arrays(words[:20_000], np.ascontiguousarray(vectors[:20_000])))


def value(findings, metric: str) -> float:
    (found,) = [m.value for m in findings.measures if m.metric == metric and not m.labels]
    return found


def test_hubness_of_glove(first_20k: Subject) -> None:
    """N_10 skewness 1.54 and maximum 78; scipy and a dense computation of every list agree to the digit."""
    findings = hubness.run(first_20k, hubness.Params(k=10), np.random.default_rng(0))
    occurrence = np.zeros(20_000, dtype=np.int64)
    unit = first_20k.table.vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for start in range(0, 20_000, 2_000):
        scores = unit[start : start + 2_000] @ unit.T
        scores[np.arange(2_000), np.arange(start, start + 2_000)] = -np.inf
        np.add.at(occurrence, np.argpartition(scores, -10, axis=1)[:, -10:].ravel(), 1)
    assert value(findings, "skewness") == pytest.approx(skew(occurrence), abs=1e-9)
    assert value(findings, "max_occurrence") == occurrence.max()
    assert round(value(findings, "skewness"), 2) == 1.54
    assert value(findings, "max_occurrence") == 78


def test_mean_cosine_of_glove(first_20k: Subject) -> None:
    """Mean pairwise cosine .116, equal to the mean over every pair."""
    findings = anisotropy.run(first_20k, anisotropy.Params(), np.random.default_rng(0))
    unit = first_20k.table.vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = sum(float((unit[i : i + 2_000] @ unit.T).sum()) for i in range(0, 20_000, 2_000)) - 20_000
    assert value(findings, "mean_cosine") == pytest.approx(pairs / (20_000 * 19_999), rel=1e-9)
    assert round(value(findings, "mean_cosine"), 3) == 0.116


def test_the_google_analogies_on_all_of_glove(glove, gensim_data: Path) -> None:
    """9033 of 19544 right over all 400,000 rows: semantic 4298/8869, syntactic 4735/10675."""
    words, vectors = glove
    rows = datasets.parse(gensim_data / "questions-words.txt", "analogies")
    subject = Subject(
        EmbeddingTable.from_arrays(words, np.ascontiguousarray(vectors)),
        dataset=DatasetTable(name="google", kind="analogies", rows=rows),
    )
    findings = analogies.run(subject, analogies.Params(restrict_vocab=0), np.random.default_rng(0))
    right = {
        m.labels["group"]: (round(m.value * m.n), m.n)
        for m in findings.measures
        if m.metric == "accuracy" and "group" in m.labels
    }
    assert right == {"total": (9033, 19544), "semantic": (4298, 8869), "syntactic": (4735, 10675)}
