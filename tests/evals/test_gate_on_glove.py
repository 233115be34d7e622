"""The gate on real vectors: the first 20,000 rows of GloVe 6B 50d and Google's analogies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embreg.evals.config import Check, Tolerance
from embreg.evals.gate import CheckResult, Outcome, judge
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suites import analogies
from embreg.registry.datasets import parse
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import MeasureRecord, RunRecord

ROWS = 20_000
CHECKS = (
    Check(metric="analogies.accuracy", max_drop=Tolerance(abs=0.01), alpha=0.01),
    Check(metric="analogies.accuracy", labels={"group": "semantic"}, max_drop=Tolerance(rel=0.05)),
    Check(metric="analogies.coverage", min=0.5),
)


@pytest.fixture(scope="module")
def questions(gensim_data: Path) -> DatasetTable:
    rows = parse(gensim_data / "questions-words.txt", "analogies")
    return DatasetTable(name="google", kind="analogies", rows=rows)


def measured(
    words: list[str], vectors: np.ndarray, questions: DatasetTable, name: str
) -> tuple[RunRecord, dict[str, pa.Table]]:
    table = EmbeddingTable.from_arrays(words, vectors)
    subject = Subject(table, ref=name, dataset=questions)
    found = analogies.run(subject, analogies.Params(), np.random.default_rng(0))
    measures = tuple(
        MeasureRecord(metric=m.metric, labels=m.labels, value=m.value, n=m.n, low=m.low, high=m.high)
        for m in found.measures
    )
    run = RunRecord(suite="analogies", suite_version=1, version=name, version_digest=name, dataset="google",
                    dataset_digest="d", measures=measures, items=name)  # fmt: skip
    return run, {name: found.items}


def gate(
    old: tuple[RunRecord, dict[str, pa.Table]], new: tuple[RunRecord, dict[str, pa.Table]]
) -> tuple[CheckResult, ...]:
    suites = {"analogies": analogies.SUITE}
    items = old[1] | new[1]
    return judge(CHECKS, suites, [new[0]], [old[0]], items.get, np.random.default_rng(0))


def test_a_rotation_passes_and_a_shuffle_does_not(
    glove_rows: Callable[[int], tuple[list[str], np.ndarray]], questions: DatasetTable
) -> None:
    words, vectors = glove_rows(ROWS)
    random = np.random.default_rng(1)
    rotation = np.linalg.qr(random.standard_normal((50, 50)))[0].astype(np.float32)
    swapped = vectors.copy()
    rows = random.choice(ROWS, ROWS // 5, replace=False)
    swapped[rows] = swapped[random.permutation(rows)]
    before = measured(words, vectors, questions, "v1")

    rotated = gate(before, measured(words, vectors @ rotation, questions, "v2"))
    assert [check.outcome for check in rotated] == [Outcome.PASSED] * 3
    assert all(check.p_value is not None and check.p_value > 0.05 for check in rotated[:2])

    shuffled = gate(before, measured(words, swapped, questions, "v3"))
    assert [check.outcome for check in shuffled] == [Outcome.FAILED, Outcome.FAILED, Outcome.PASSED]
    total, semantic, coverage = shuffled
    assert total.labels == {"group": "total", "dataset": "google"}
    assert total.value is not None
    assert total.baseline is not None
    assert total.value < total.baseline / 2
    for check in (total, semantic):
        assert check.p_value is not None
        assert check.p_value < 1e-6
    assert f"over {total.n:,} items" in total.reason
    assert coverage.n == 19_544
