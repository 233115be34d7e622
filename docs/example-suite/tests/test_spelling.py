"""The suite on tables small enough to check by hand, and what every suite must keep to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from embreg_spelling import COSINE, HIT, SUITE, Params, fold, run

from embreg import EmbeddingTable
from embreg.evals.discovery import defect
from embreg.evals.runner import check_findings
from embreg.evals.subject import Subject
from embreg.evals.suite import Findings, Skipped

IDS = ["Paris", "paris", "café", "cafe", "dog", "a", "A"]
# Paris and paris are one degree apart, café and cafe ninety; dog lies beside cafe.
DEGREES = [0, 1, 90, 180, 181, 270, 271]


def subject(ids: list[str] = IDS, degrees: list[int] = DEGREES) -> Subject:
    turns = np.deg2rad(degrees)
    rows = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    return Subject(EmbeddingTable.from_arrays(ids, rows))


def measured(given: Subject, **params: object) -> tuple[Findings, dict[str, float]]:
    before = given.table.vectors.copy()
    findings = run(given, Params(**params), np.random.default_rng(0))
    assert np.array_equal(given.table.vectors, before)
    check_findings(SUITE, findings)
    return findings, {m.metric: m.value for m in findings.measures}


def test_embreg_takes_it() -> None:
    assert defect(SUITE, "spelling") is None


def test_by_hand() -> None:
    findings, found = measured(subject(), k=1)
    assert found["hit@1"] == 0.5, "Paris and paris find each other; café and cafe do not"
    assert found["cosine"] == pytest.approx((math.cos(math.radians(1)) + math.cos(math.radians(90))) / 2)
    assert found["respelled"] == pytest.approx(4 / 7), "a and A are one letter each, not a word"
    assert findings.items is not None
    assert findings.items.column("item").to_pylist() == IDS[:4]
    assert findings.items.column("hit").to_pylist() == [1, 1, 0, 0]


def test_measures_are_the_means_of_their_items() -> None:
    """Else a gate could not test them item by item."""
    findings, found = measured(subject(), k=3)
    assert findings.items is not None
    for metric in (HIT, COSINE):
        assert np.mean(findings.items.column(metric.item).to_numpy()) == pytest.approx(found[metric.at(3)])


@pytest.mark.parametrize(("a", "b"), [("Paris", "paris"), ("café", "cafe"), ("STRASSE", "straße")])
def test_spellings_of_one_word(a: str, b: str) -> None:
    assert fold(a) == fold(b)


def test_the_mark_of_a_tokenizer_is_no_accent() -> None:
    assert fold("Ġking", "Ġ") == fold("king") != fold("Ġking")


def test_a_table_without_spellings_is_skipped() -> None:
    with pytest.raises(Skipped, match="no two of the 3 ids spell one word"):
        run(subject(["one", "two", "three"], [0, 1, 2]), Params(k=1), np.random.default_rng(0))
