"""Every measure that says it follows from items does: what the gate pairs is what the suite measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embreg.evals.config import Check, Tolerance
from embreg.evals.evidence import Missing, Reference, pairs_of
from embreg.evals.gate import CheckResult, judge
from embreg.evals.side_by_side import two_sided
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Findings, Measure, Suite
from embreg.evals.suites import analogies, quantization, similarity
from embreg.registry.datasets import parse
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import MeasureRecord, RunRecord

Rows = Callable[[int], tuple[list[str], np.ndarray]]


def record(suite: Suite, found: Findings, name: str) -> RunRecord:
    measures = tuple(
        MeasureRecord(metric=m.metric, labels=m.labels, value=m.value, n=m.n, low=m.low, high=m.high)
        for m in found.measures
    )
    return RunRecord(suite=suite.name, suite_version=suite.version, version=name, version_digest=name,
                     dataset="data", dataset_digest="d", measures=measures, items=name)  # fmt: skip


def unpaired(suite: Suite, found: Findings) -> list[tuple[str, dict[str, str], str]]:
    """The measures of a metric with items that do not follow from them."""
    run, failed = record(suite, found, "v"), []
    for m in run.measures:
        metric = suite.metric(m.metric)
        if metric is None or (metric.item is None and metric.statistic is None):
            continue
        pairs = pairs_of(run, m, Reference(value=m.value, run=run), metric, {"v": found.items}.get)
        if isinstance(pairs, Missing):
            failed.append((m.metric, dict(m.labels), pairs.reason))
        else:
            assert len(pairs) == m.n
            assert pairs.change == 0
    return failed


def test_analogies_by_every_method(glove_rows: Rows, gensim_data: Path) -> None:
    words, vectors = glove_rows(4_000)
    rows = parse(gensim_data / "questions-words.txt", "analogies")
    dataset = DatasetTable(name="google", kind="analogies", rows=rows)
    subject = Subject(EmbeddingTable.from_arrays(words, vectors), dataset=dataset)
    found = analogies.run(subject, analogies.Params(methods=analogies.METHODS), np.random.default_rng(0))
    assert unpaired(analogies.SUITE, found) == []
    assert {m.labels.get("method") for m in found.measures} == {None, *analogies.METHODS[1:]}


def test_quantization(glove_rows: Rows) -> None:
    words, vectors = glove_rows(3_000)
    subject = Subject(EmbeddingTable.from_arrays(words, vectors))
    params = quantization.Params(codecs=("int4", "1-bit", "rabitq"), queries=300)
    found = quantization.run(subject, params, np.random.default_rng(0))
    assert unpaired(quantization.SUITE, found) == []


def similar(words: list[str], vectors: np.ndarray, path: Path) -> Findings:
    dataset = DatasetTable(name="ws", kind="pairs", rows=parse(path, "pairs"))
    subject = Subject(EmbeddingTable.from_arrays(words, vectors), dataset=dataset)
    return similarity.run(subject, similarity.Params(), np.random.default_rng(0))


def test_similarity_is_gated_pair_by_pair(glove_rows: Rows, gensim_data: Path) -> None:
    words, vectors = glove_rows(10_000)
    rng = np.random.default_rng(0)
    path = gensim_data / "wordsim353.tsv"
    noise = rng.standard_normal(vectors.shape).astype(np.float32)
    before = similar(words, vectors, path)
    assert unpaired(similarity.SUITE, before) == []

    def gate(after: Findings, metric: str, drop: float) -> CheckResult:
        runs = [record(similarity.SUITE, found, name) for found, name in ((before, "v1"), (after, "v2"))]
        check = Check(metric=f"similarity.{metric}", max_drop=Tolerance(abs=drop))
        items = {"v1": before.items, "v2": after.items}.get
        suites = {"similarity": similarity.SUITE}
        (result,) = judge([check], suites, runs[1:], runs[:1], items, np.random.default_rng(0))
        return result

    rotation = np.linalg.qr(rng.standard_normal((50, 50)))[0].astype(np.float32)
    assert gate(similar(words, vectors @ rotation, path), "spearman", 0.0).outcome == "passed"
    for metric in ("spearman", "pearson"):
        result = gate(similar(words, vectors + noise, path), metric, 0.01)
        assert (result.outcome, result.n) == ("failed", before.measures[1].n)
        assert result.p_value is not None
        assert result.p_value < 0.01
        assert f"over {result.n} items" in result.reason
    # A drop that is there but may be chance.
    small = gate(similar(words, vectors + noise / 5, path), "spearman", 0.005)
    assert small.outcome == "passed"
    assert small.p_value is not None
    assert small.p_value > 0.05
    assert "not significant" in small.reason


def test_pairs_that_only_one_version_knows_do_not_excuse_a_loss(glove_rows: Rows, gensim_data: Path) -> None:
    words, vectors = glove_rows(10_000)
    path = gensim_data / "wordsim353.tsv"
    old = similar(words, vectors, path)
    items = old.items.to_pylist()
    scored = [i for i, r in enumerate(items) if r["predicted"] is not None]
    # The pairs that agree best are not covered any more.
    ranks = {i: abs(items[i]["score"] / 10 - items[i]["predicted"]) for i in scored}
    lost = sorted(scored, key=ranks.__getitem__)[: len(scored) // 3]
    predicted = old.items.column("predicted").to_pylist()
    for i in lost:
        predicted[i] = None
    left = [i for i in scored if i not in lost]
    values = np.array([[items[i]["score"], items[i]["predicted"]] for i in left])
    spearman = similarity.SUITE.metric("spearman")
    assert spearman is not None
    assert spearman.statistic is not None
    after = float(spearman.statistic.of(values, np.ones((1, len(left))))[0])
    new_items = old.items.set_column(old.items.schema.get_field_index("predicted"), "predicted", [predicted])
    before = record(similarity.SUITE, old, "v1")
    measure = MeasureRecord(metric="spearman", labels={}, value=after, n=len(left))
    now = RunRecord(suite="similarity", suite_version=1, version="v2", version_digest="v2", dataset="data",
                    dataset_digest="d", items="v2", measures=(measure,))  # fmt: skip
    check = Check(metric="similarity.spearman", max_drop=Tolerance(abs=0.01))
    kept = {"v1": old.items, "v2": new_items}.get
    (result,) = judge(
        [check], {"similarity": similarity.SUITE}, [now], [before], kept, np.random.default_rng(0)
    )
    assert after < before.measures[1].value - 0.01
    assert result.p_value == 1
    assert result.outcome == "failed"
    assert "only one version scored" in result.reason


def test_a_collapse_that_leaves_one_item_out_of_the_statistic_is_not_excused() -> None:
    """All cosines but one are equal: without that one there is no correlation, and chance is not known."""
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(200)]
    score = np.arange(200.0)
    told = {"v1": score + 20 * rng.standard_normal(200), "v2": np.ones(200)}
    told["v2"][7] = 0.9
    spearman = similarity.SUITE.metric("spearman")
    assert spearman is not None
    assert spearman.statistic is not None
    items, runs = {}, {}
    for name, predicted in told.items():
        items[name] = pa.table({"item": names, "a": names, "b": [f"{w}!" for w in names], "score": score,
                                "predicted": predicted})  # fmt: skip
        value = float(spearman.statistic.of(np.column_stack([score, predicted]), np.ones((1, 200)))[0])
        found = Findings(measures=[Measure("spearman", value, 200)])
        runs[name] = record(similarity.SUITE, found, name)
    check = Check(metric="similarity.spearman", max_drop=Tolerance(abs=0.01))
    suites = {"similarity": similarity.SUITE}
    (result,) = judge([check], suites, [runs["v2"]], [runs["v1"]], items.get, rng)
    assert (result.outcome, result.p_value) == ("failed", None)
    assert "no paired test: undefined once some of the items are left out" in result.reason
    before = Reference(value=runs["v1"].measures[0].value, run=runs["v1"])
    pairs = pairs_of(runs["v2"], runs["v2"].measures[0], before, spearman, items.get)
    assert not isinstance(pairs, Missing)
    assert isinstance(two_sided(pairs, rng, 99), Missing)
    # What ties the items is told by those of the candidate: a baseline that was measured before is as good.
    items["v1"] = items["v1"].drop_columns(["a", "b"])
    (result,) = judge([check], suites, [runs["v2"]], [runs["v1"]], items.get, rng)
    assert "undefined once" in result.reason


def test_a_method_is_paired_without_the_plain_one(glove_rows: Rows, gensim_data: Path) -> None:
    words, vectors = glove_rows(1_000)
    rows = parse(gensim_data / "questions-words.txt", "analogies")
    dataset = DatasetTable(name="google", kind="analogies", rows=rows)
    subject = Subject(EmbeddingTable.from_arrays(words, vectors), dataset=dataset)
    found = analogies.run(subject, analogies.Params(methods=("3cosavg",)), np.random.default_rng(0))
    assert "accuracy" not in found.items.column_names
    assert unpaired(analogies.SUITE, found) == []


@pytest.mark.parametrize(
    ("labels", "picked"),
    [
        ({}, {"group": "total"}),
        ({"method": "3cosmul"}, {"group": "total", "method": "3cosmul"}),
        ({"group": "semantic"}, {"group": "semantic"}),
        ({"section": "s", "method": "3cosmul"}, {"section": "s", "method": "3cosmul"}),
    ],
)
def test_a_check_without_a_method_is_about_the_plain_one(
    labels: dict[str, str], picked: dict[str, str]
) -> None:
    slices = ({"group": "total"}, {"group": "semantic"}, {"section": "s"}, {"section": "t"})
    measures = tuple(
        MeasureRecord(metric="accuracy", labels=own | method, value=0.5, n=9)
        for method in ({}, {"method": "3cosmul"}, {"method": "lrcos"})
        for own in slices
    )
    run = RunRecord(suite="analogies", suite_version=1, version="v", version_digest="v", measures=measures)
    check = Check(metric="analogies.accuracy", labels=labels, min=0.1)
    (result,) = judge([check], {"analogies": analogies.SUITE}, [run], [], {}.get, np.random.default_rng(0))
    assert result.labels == picked
