"""Runs on approximate neighbours: their intervals hold the exact figures, and nobody takes them for exact."""

from __future__ import annotations

import numpy as np
import pytest

import embreg
from embreg import EmbeddingTable, Registry
from embreg.evals import approximate
from embreg.evals import subject as subject_module
from embreg.evals.comparing import compare
from embreg.evals.runner import evaluate
from embreg.evals.subject import Subject
from embreg.evals.suites import hubness, neighbors
from embreg.registry.errors import UnknownChoice

from ..conftest import Cli

ROWS, DIM, CHECKED = 2000, 10, 300


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of some thousand rows count as large, and an index finds three quarters of the neighbours."""
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
    monkeypatch.setattr(subject_module, "CHECKED_QUERIES", CHECKED)
    monkeypatch.setattr(approximate, "FACTORY", "IVF48,Flat")
    monkeypatch.setattr(approximate, "KNOB", "nprobe")
    monkeypatch.setattr(approximate, "SETTINGS", (3,))


def cloud(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres, kinds = rng.normal(size=(5, DIM)), rng.integers(0, 5, ROWS)
    rows = 0.8 * centres[kinds] + 0.7 * rng.normal(size=(ROWS, DIM))
    return rows.astype(np.float32), kinds


def key(measure) -> tuple:
    return measure.metric, tuple(sorted(measure.labels.items()))


def of_run(run) -> dict:
    return {key(m): m for m in run.measures}


def test_intervals_hold_the_exact_figures() -> None:
    """Over draws of the rows that are asked exactly (the sample is a matter of the ids), at 95%."""
    x, kinds = cloud()
    labels = [str(kind) for kind in kinds]

    def subject(draw: int, method: str) -> Subject:
        ids = [f"{draw}/{i}" for i in range(ROWS)]
        table = EmbeddingTable.from_arrays(ids, x, attributes={"label": labels})
        return Subject(table, method=method, queries=0)

    suites = ((hubness, hubness.Params()), (neighbors, neighbors.Params(edges=600)))
    exact = {
        key(m): m.value
        for suite, params in suites
        for m in suite.run(subject(0, "exact"), params, np.random.default_rng(0)).measures
    }
    held: dict[tuple, list[bool]] = {}
    found = {}
    for draw in range(30):
        own = subject(draw, "approx")
        for name, arrays in found.items():  # what the index finds is the same whatever the ids
            own.store.put(name, arrays)
        for suite, params in suites:
            for m in suite.run(own, params, np.random.default_rng(draw)).measures:
                assert m.low is not None, f"{key(m)} has no interval"
                assert m.low <= m.value <= m.high
                held.setdefault(key(m), []).append(m.low <= exact[key(m)] <= m.high)
        found = {name: own.store.get(name) for name in (f"neighbors.approx.{ROWS}",)}
        assert own.approximated[0].recall()[0] < 0.85
    assert exact.keys() - held.keys() == {("max_occurrence", ())}
    assert min(sum(each) for each in held.values()) >= 26, held
    assert np.mean([sum(each) / len(each) for each in held.values()]) >= 0.95


def test_what_was_missed_is_put_right() -> None:
    """The uncorrected figures of the approximate lists lie outside of the intervals."""
    x, kinds = cloud(1)
    labels = [str(kind) for kind in kinds]
    exact, approx = (
        embreg.evaluate(x, labels=labels, suites=["neighbors"], queries=0, neighbors=how)["neighbors"]
        for how in ("exact", "approx")
    )
    own = of_run(approx)[("lid", ())]
    assert own.low < of_run(exact)[("lid", ())].value < own.high
    wrong = subject_module.Subject(
        EmbeddingTable.from_arrays(None, x), method="approx"
    ).approximate_neighbors(20)
    wrong_lid = neighbors.dimension.lid(
        neighbors.dimension.radii(Subject(EmbeddingTable.from_arrays(None, x)), wrong.found)
    )
    assert not own.low < wrong_lid.value < own.high


def test_suites_that_need_the_truth_get_it() -> None:
    x, _ = cloud()
    few = embreg.evaluate(x, suites=["quantization"], queries=CHECKED)["quantization"]
    approx = embreg.evaluate(x, suites=["quantization"], neighbors="approx")["quantization"]
    assert [(m.metric, m.labels, m.value, m.low) for m in approx.measures] == [
        (m.metric, m.labels, m.value, m.low) for m in few.measures
    ]
    assert not any("approximate" in note for note in approx.notes), "nothing approximate was taken"


def test_fewer_queries_than_rows() -> None:
    """Means are corrected as those of all rows are; k-occurrences are estimated from the exact lists."""
    x, kinds = cloud()
    labels = [str(kind) for kind in kinds]
    runs = embreg.evaluate(x, labels=labels, suites=["hubness", "neighbors"], queries=900, neighbors="approx")
    whole = embreg.evaluate(x, labels=labels, suites=["hubness", "neighbors"], queries=0)
    (skewness,) = runs["hubness"].measures
    assert skewness.n == CHECKED
    assert not any("approximate" in note for note in runs["hubness"].notes)
    own, true = of_run(runs["neighbors"]), of_run(whole["neighbors"])
    for name in ("purity@10", "top1_cosine", "lid", "reciprocity@10"):
        measure = own[name, ()]
        assert measure.low < true[name, ()].value < measure.high
    assert own["purity@10", ()].n == 900
    assert (
        runs["neighbors"].params | {"graph_queries": 900, "graph_neighbors": "approx"}
        == runs["neighbors"].params
    )


def test_drift_tells_both_recalls_and_holds_the_exact_overlap() -> None:
    x, _ = cloud()
    y = x + 0.2 * np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    exact = embreg.evaluate(y, suites=["drift"], baseline=x, queries=0)["drift"]
    approx = embreg.drift(x, y, neighbors="approx")
    own, true = of_run(approx), of_run(exact)
    for name in ("neighbor_overlap@10", "rbo", "cross_recall@10"):
        assert own[name, ()].low < true[name, ()].value < own[name, ()].high
    assert own["neighbor_overlap@10", ()].n == ROWS
    assert own["cross_recall@10", ()].n == CHECKED
    told = [note for note in approx.notes if "approximate" in note]
    assert len(told) == 2
    assert told[0].startswith("neighbours of old approximate: recall@10 ")
    assert told[1].startswith("neighbours of new approximate: recall@10 ")
    assert f"on {CHECKED} queries (IVF48,Flat, nprobe=3)" in told[1]
    assert approx.verdict == exact.verdict


@pytest.fixture
def shelf(registry: Registry) -> Registry:
    for seed in range(2):
        registry.register("words", EmbeddingTable.from_arrays(None, cloud(seed)[0]), metric="cosine")
    return registry


def test_approximate_runs_are_other_runs(shelf: Registry) -> None:
    (exact,) = evaluate(shelf, "words@1", suites=["hubness"])
    (approx,) = evaluate(shelf, "words@1", suites=["hubness"], neighbors="approx")
    (again,) = evaluate(shelf, "words@1", suites=["hubness"], neighbors="approx")
    assert (exact.cached, approx.cached, again.cached) == (False, False, True)
    assert exact.cache_key != approx.cache_key
    assert approx.params == {**exact.params, "graph_neighbors": "approx"}
    assert [m.value for m in approx.measures] != [m.value for m in exact.measures]
    assert any(note.startswith("neighbours approximate: recall@10 ") for note in again.notes)
    with pytest.raises(UnknownChoice, match="kind of neighbors 'fast'"):
        evaluate(shelf, "words@1", suites=["hubness"], neighbors="fast")


def test_they_are_never_held_against_exact_ones(shelf: Registry) -> None:
    evaluate(shelf, "words@1", suites=["hubness"])
    evaluate(shelf, "words@2", suites=["hubness"], neighbors="approx")
    mixed = compare(shelf, ["words@1", "words@2"], suites=["hubness"], measure=False)
    assert all(row.cells[1].value is None for row in mixed.rows)
    assert "graph_neighbors" in mixed.rows[0].cells[1].reason
    evaluate(shelf, "words@1", suites=["hubness"], neighbors="approx")
    alike = compare(shelf, ["words@1", "words@2"], suites=["hubness"], measure=False)
    assert any(row.cells[1].value is not None for row in alike.rows)
    assert all(dict(run.params).get("graph_neighbors") for run in alike.runs["words@2"])


def test_a_gate_takes_no_approximate_run(shelf: Registry, tmp_path) -> None:
    evaluate(shelf, "words@2", suites=["hubness"], neighbors="approx")
    config = tmp_path / "embreg.toml"
    config.write_text('[[gates]]\nmetric = "hubness.skewness"\nmax = 100\n')
    result = embreg.gate(shelf, "words@2", config=config)
    (run,) = result.runs
    assert not run.cached
    assert "graph_neighbors" not in run.params


def test_on_the_command_line(cli: Cli) -> None:
    """The rule of large tables as it is: more than 50,000 rows, a graph index, 1,000 rows asked exactly."""
    x = np.random.default_rng(0).normal(size=(50_400, 3)).astype(np.float32)
    np.save(cli.folder / "x.npy", x)
    cli("init")
    cli("register", "big", "x.npy")
    document = cli.json("eval", "big", "--suite", "hubness", "--neighbors", "approx")
    (run,) = document["runs"]
    assert run["status"] == "done"
    assert {m["metric"] for m in run["measures"]} >= {"skewness", "antihub_rate"}
    (note,) = [n for n in run["notes"] if "approximate" in n]
    assert "on 1,000 queries (HNSW32, efSearch=" in note
    assert "leave --neighbors out" in cli.fails(
        "drift", "big@1", "big@1", "--floor", "--neighbors", "approx", code=2
    )
    cli.fails("eval", "big", "--neighbors", "quick", code=2)
