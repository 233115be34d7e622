"""The runner: choice, cache, seed, recording; and the contract that every suite keeps."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from embreg import EmbeddingTable, Registry, drift, evaluate
from embreg.evals.report import documents, series
from embreg.evals.runner import check_findings, discover, make_params, suite_named
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from embreg.registry.errors import UnknownChoice, UsageError

SUITES = sorted(discover())


def words(rows: int = 300, dim: int = 12, seed: int = 0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    labels = [f"group{i % 5}" for i in range(rows)]
    centres = rng.standard_normal((5, dim)) * 2
    x = centres[np.arange(rows) % 5] + rng.standard_normal((rows, dim))
    return EmbeddingTable.from_arrays([f"w{i}" for i in range(rows)], x, attributes={"label": labels})


def write_datasets(registry: Registry, folder: Path) -> None:
    quads = "\n".join(f"w{i} w{i + 1} w{i + 2} w{i + 3}" for i in range(0, 80, 2))
    (folder / "analogies.txt").write_text(f": first\n{quads}\n: gram-second\n{quads}\n")
    pairs = "\n".join(f"w{i}\tw{i * 3 % 300}\t{i % 7}" for i in range(60))
    (folder / "pairs.tsv").write_text(pairs + "\n")
    judged = "\n".join(f"w{i} 0 w{(i + step) % 300} {step % 3}" for i in range(40) for step in (5, 10, 12))
    (folder / "judged.qrels").write_text(judged + "\n")
    (folder / "positives.tsv").write_text("".join(f"w{i}\tw{i + 5}\n" for i in range(290)))
    registry.add_dataset("analogies", folder / "analogies.txt", "analogies")
    registry.add_dataset("pairs", folder / "pairs.tsv", "pairs")
    registry.add_dataset("qrels", folder / "judged.qrels", "qrels")
    registry.add_dataset("positives", folder / "positives.tsv", "positives")


@pytest.fixture
def filled(registry: Registry, tmp_path: Path) -> Registry:
    registry.register("words", words())
    registry.register("words", words(seed=1))
    write_datasets(registry, tmp_path)
    registry.index("lists", "words@1", factory="IVF4,Flat")
    return registry


def test_the_card_names_these_suites() -> None:
    card = {"analogies", "neighbors", "hubness", "anisotropy", "quantization", "drift", "similarity"}
    assert card | {"retrieval", "alignment", "probe"} <= set(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_declares_itself(name: str) -> None:
    suite = discover()[name]
    assert suite.name == name
    assert suite.version >= 1
    assert suite.doc.endswith((".", "?"))
    assert is_dataclass(suite.params)
    assert suite.params.__dataclass_params__.frozen
    assert all(getattr(suite.params(), f.name) is not None for f in fields(suite.params))
    assert len({m.name for m in suite.metrics}) == len(suite.metrics)
    for metric in suite.metrics:
        assert metric.doc.endswith("."), metric.name
        assert metric.source, metric.name
        assert isinstance(metric.better, Better)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_pure_deterministic_and_keeps_its_word(name: str, filled: Registry) -> None:
    """The same bits twice, the table untouched, exactly the declared metrics, an item key that is unique."""
    suite = discover()[name]
    table, other = filled.table("words@2"), filled.table("words@1")
    before = table.vectors.copy()
    dataset = None
    if suite.dataset_kind in suite.needs:
        kept = filled.dataset(suite.dataset_kind)
        dataset = DatasetTable(name="d", kind=kept.kind, rows=filled.stored_table(kept.digest))
    results = []
    for _ in range(2):
        index = filled.present_build("lists") if Need.INDEX in suite.needs else None
        subject = Subject(table, baseline=Subject(other), dataset=dataset, index=index)
        results.append(suite.run(subject, suite.params(), np.random.default_rng(7)))
    timed = {m.name for m in suite.metrics if m.timed}
    first, second = (
        [(m.metric, m.labels, None if m.metric in timed else m.value, m.n) for m in findings.measures]
        for findings in results
    )
    assert first == second
    first = results[0]
    assert np.array_equal(table.vectors, before)
    check_findings(suite, first)
    assert first.measures
    for measure in first.measures:
        metric = suite.metric(measure.metric)
        assert metric is not None
        assert metric.low is None or measure.value >= metric.low - 1e-9, measure
        assert metric.high is None or measure.value <= metric.high + 1e-9, measure
        assert measure.n >= 0
    told = {m.metric for m in first.measures} | {a.metric for a in first.absent}
    silent = [m.name for m in suite.metrics if not any(m.matches(t) for t in told)]
    assert silent == [], "every declared metric is measured, or absent with a reason"
    if first.items is not None:
        assert first.items.column_names[0] == "item"
        items = first.items.column("item").to_pylist()
        assert len(set(items)) == len(items)
        for metric in suite.metrics:
            assert metric.item is None or metric.item in first.items.column_names


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("rows", ["none", "one", "two", "equal", "zero", "narrow", "huge", "tiny"])
def test_a_suite_answers_or_skips_on_degenerate_tables(name: str, rows: str, filled: Registry) -> None:
    """Right values or a reason: never NaN, never a warning, never another exception."""
    suite = discover()[name]
    rng = np.random.default_rng(0)
    tables = {
        "none": np.zeros((0, 4)),
        "one": np.ones((1, 4)),
        "two": np.eye(2, 4),
        "equal": np.ones((40, 4)),
        "zero": np.zeros((40, 4)),
        "narrow": rng.standard_normal((40, 1)),
        "huge": rng.standard_normal((40, 4)) * 1e30,
        "tiny": rng.standard_normal((40, 4)) * 1e-38,
    }
    x = tables[rows].astype(np.float32)
    table = EmbeddingTable.from_arrays([f"w{i}" for i in range(len(x))], x)
    dataset = None
    if suite.dataset_kind in suite.needs:
        kept = filled.dataset(suite.dataset_kind)
        dataset = DatasetTable(name="d", kind=kept.kind, rows=filled.stored_table(kept.digest))
    index = filled.present_build("lists") if Need.INDEX in suite.needs else None
    subject = Subject(table, baseline=Subject(table), dataset=dataset, index=index)
    try:
        findings = suite.run(subject, suite.params(), rng)
    except Skipped as skipped:
        assert str(skipped)
    else:
        check_findings(suite, findings)
        assert all(a.reason for a in findings.absent)


def test_without_a_choice_every_suite_runs_or_says_why_not(filled: Registry) -> None:
    runs = evaluate(filled, "words@2")
    by_name = {run.suite: run for run in runs}
    assert set(by_name) == set(SUITES)
    assert by_name["drift"].status == "skipped"
    assert "--baseline" in by_name["drift"].reason
    assert all(run.status == "done" for name, run in by_name.items() if name != "drift"), by_name


def test_a_missing_dataset_is_said_with_the_command(registry: Registry) -> None:
    registry.register("words", words())
    (run,) = evaluate(registry, "words", suites=["analogies"])
    assert (run.status, run.cached) == ("skipped", False)
    assert "embreg dataset add NAME FILE --kind analogies" in run.reason


def test_a_second_run_is_read_back_and_says_the_same(filled: Registry) -> None:
    chosen = ["anisotropy", "hubness", "similarity"]
    first = evaluate(filled, "words@1", suites=chosen)
    second = evaluate(filled, "words@1", suites=chosen)
    assert [run.cached for run in first + second] == [False] * 3 + [True] * 3
    assert [run.measures for run in first] == [run.measures for run in second]
    assert [run.items for run in first] == [run.items for run in second]
    assert not evaluate(filled, "words@1", suites=["hubness"], force=True)[0].cached


def test_another_parameter_seed_version_or_dataset_is_another_run(filled: Registry, tmp_path: Path) -> None:
    def run(**given):
        return evaluate(filled, given.pop("ref", "words@1"), suites=["similarity"], **given)[0]

    assert not run().cached
    assert run().cached
    assert not run(seed=1).cached
    assert not run(params={"similarity": {"restrict_vocab": 100}}).cached
    assert not run(ref="words@2").cached
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t3\nw3\tw4\t5\nw5\tw6\t1\n")
    filled.add_dataset("pairs", tmp_path / "pairs.tsv", "pairs")
    assert not run().cached


def test_runs_of_the_same_bytes_are_shared_but_named_as_asked(filled: Registry) -> None:
    filled.register("words", words())  # version 3 holds the bytes of version 1
    evaluate(filled, "words@1", suites=["anisotropy"])
    (again,) = evaluate(filled, "words@3", suites=["anisotropy"])
    assert (again.cached, again.version) == (True, "words@3")
    assert {run.version for run in filled.runs("words")} == {"words@1", "words@3"}


def test_a_run_read_back_is_recorded_once_per_name(filled: Registry) -> None:
    filled.register("words", words())  # version 3 holds the bytes of version 1
    for _ in range(3):
        for ref in ("words@1", "words@3"):
            evaluate(filled, ref, suites=["anisotropy"])
    assert sorted(run.version for run in filled.runs("words")) == ["words@1", "words@3"]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_nothing_can_keep(filled: Registry, seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        evaluate(filled, "words", suites=["anisotropy"], seed=seed)


@pytest.mark.parametrize("suite", SUITES)
def test_a_higher_confidence_widens_every_interval(suite: str, filled: Registry) -> None:
    def intervals(confidence: float) -> dict[str, float]:
        runs = evaluate(filled, "words@2", suites=[suite], baseline="words@1", confidence=confidence,
                        params={"probe": {"label": "label"}, "neighbors": {"label": "label"}})  # fmt: skip
        assert {run.confidence for run in runs} == {confidence}
        spans = [m for run in runs for m in run.measures if m.low is not None and m.high is not None]
        return {f"{m.metric}{dict(m.labels)}": m.high - m.low for m in spans}

    narrow, wide = intervals(0.5), intervals(0.99)
    assert narrow.keys() == wide.keys()
    assert all(wide[name] >= narrow[name] for name in narrow)
    spread = [name for name in narrow if wide[name] > narrow[name]]
    assert spread or not any(wide.values())


@pytest.mark.parametrize("suite", SUITES)
def test_every_average_has_its_interval(suite: str, filled: Registry) -> None:
    runs = evaluate(filled, "words@2", suites=[suite], baseline="words@1",
                    params={"probe": {"label": "label"}, "neighbors": {"label": "label"}})  # fmt: skip
    for run in runs:
        for m in run.measures:
            metric = suite_named(suite).metric(m.metric)
            assert metric is not None
            if (metric.item or metric.statistic) and "q" not in m.labels:
                assert m.low is not None and m.high is not None, (m.metric, m.labels)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, math.nan])
def test_a_confidence_that_no_interval_has(filled: Registry, confidence: float) -> None:
    with pytest.raises(UsageError, match="confidence"):
        evaluate(filled, "words", suites=["hubness"], confidence=confidence)


def test_a_run_has_the_number_under_which_it_is_kept(filled: Registry) -> None:
    (first,) = evaluate(filled, "words@1", suites=["hubness"])
    (again,) = evaluate(filled, "words@1", suites=["hubness"])
    (other,) = evaluate(filled, "words@1", suites=["hubness"], confidence=0.9)
    assert first.id is not None
    assert (again.id, again.cached) == (first.id, True)
    assert (other.id, other.cached) == (first.id + 1, False)
    assert [run.id for run in filled.runs("words@1")] == [first.id, other.id]


def test_a_dataset_runs_once_each(filled: Registry, tmp_path: Path) -> None:
    filled.add_dataset("more", tmp_path / "pairs.tsv", "pairs")
    runs = evaluate(filled, "words@1", suites=["similarity"])
    assert [run.dataset for run in runs] == ["more", "pairs"]
    (one,) = evaluate(filled, "words@1", suites=["similarity"], datasets=["more"])
    assert one.dataset == "more"


def test_neighbours_are_computed_once_for_all_suites(filled: Registry, monkeypatch) -> None:
    from embreg.evals import subject

    counted: list[int] = []
    real = subject.knn.self_neighbors

    def count(*args, **kwargs):
        counted.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(subject.knn, "self_neighbors", count)
    evaluate(filled, "words@1", suites=["hubness", "neighbors", "quantization"])
    evaluate(filled, "words@1", suites=["hubness"], force=True)
    assert len(counted) == 1


def test_items_are_kept_as_parquet(filled: Registry) -> None:
    (run,) = evaluate(filled, "words@1", suites=["analogies"])
    items = filled.stored_table(run.items)
    assert items.num_rows == 80
    share = np.nanmean(items.column("accuracy").to_numpy(zero_copy_only=False))
    (total,) = [m for m in run.measures if m.metric == "accuracy" and m.labels == {"group": "total"}]
    assert total.value == pytest.approx(share)


def test_drift_compares_two_versions_and_carries_a_verdict(filled: Registry) -> None:
    run = drift(filled, "words@1", "words@2")
    assert (run.baseline, run.version) == ("words@1", "words@2")
    assert run.verdict in ("drifted", "respaced")
    same = drift(filled, "words@1", "words@1")
    assert same.verdict == "identical"


def test_what_a_suite_may_not_return() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Params:
        k: int = 10

    metric = Metric("recall@k", unit="share", better=Better.HIGHER, doc="A doc.", source="own")
    suite = Suite(name="s", version=1, params=Params, metrics=(metric,), needs=frozenset(),
                  run=lambda *_: Findings(measures=()), doc="A doc.")  # fmt: skip
    good = Findings(measures=(Measure("recall@10", 0.5, 3),))
    assert check_findings(suite, good)[0].value == 0.5
    twice = (Measure("recall@10", 0.5, 3), Measure("recall@10", 0.6, 3))
    for bad in (
        Findings(measures=(Measure("precision@10", 0.5, 3),)),
        Findings(measures=(Measure("recall@10", math.nan, 3),)),
        Findings(measures=(Measure("recall@10", 0.5, 3, low=-math.inf),)),
        Findings(measures=twice),
        Findings(measures=(), absent=(Absent("nope", "because"),)),
    ):
        with pytest.raises(TypeError):
            check_findings(suite, bad)
    assert Need.BASELINE not in suite.needs


def test_a_suite_that_breaks_costs_the_others_nothing(filled: Registry, monkeypatch) -> None:
    from dataclasses import replace

    from embreg.evals import runner

    def broken(*_):
        raise AttributeError("no such thing")

    suites = dict(discover()) | {"hubness": replace(discover()["hubness"], run=broken)}
    monkeypatch.setattr(runner, "discover", lambda: suites)
    runs = {run.suite: run for run in evaluate(filled, "words@1", suites=["hubness", "anisotropy"])}
    assert (runs["hubness"].status, runs["anisotropy"].status) == ("error", "done")
    assert "no such thing" in runs["hubness"].reason


def test_parameters_take_the_type_of_their_default() -> None:
    suite = suite_named("analogies")
    assert make_params(suite, {"restrict_vocab": "0"}).restrict_vocab == 0
    assert make_params(suite, {"case_fold": "false"}).case_fold is False
    for bad in ({"restrict_vocab": "many"}, {"restrict_vocab": 1.5}, {"case_fold": "perhaps"}):
        with pytest.raises(UsageError):
            make_params(suite, bad)
    with pytest.raises(UnknownChoice, match="did you mean 'restrict_vocab'"):
        make_params(suite, {"restrict_vocabs": 1})


def test_an_unknown_suite_is_refused_before_anything_runs(filled: Registry) -> None:
    with pytest.raises(UnknownChoice, match="did you mean 'hubness'"):
        evaluate(filled, "words", suites=["hubnes"])
    assert filled.runs("words") == ()


def test_a_parquet_of_items_holds_plain_columns(filled: Registry) -> None:
    run = drift(filled, "words@1", "words@2")
    assert isinstance(filled.stored_table(run.items), pa.Table)


def test_numbers_measured_in_other_ways_are_points_of_their_own(filled: Registry) -> None:
    def measured(restrict: int, **more: bool) -> list[dict]:
        params = {"similarity": {"restrict_vocab": restrict}}
        evaluate(filled, "words@1", suites=["similarity"], params=params, **more)
        return documents.series(filled.runs("words"), "similarity.coverage")["series"]

    measured(0)
    points = measured(100)
    assert sorted(p["params"]["restrict_vocab"] for p in points) == [0, 100]
    shown = io.StringIO()
    Console(file=shown, width=200).print(series.series(points, suites={}))
    assert "restrict_vocab=100" in shown.getvalue()
    assert len(measured(100, force=True)) == 2
