"""The index suite: real FAISS builds, made by the registry, beside brute force in numpy."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embreg import EmbeddingTable, Registry, Space, connect, evaluate, gate
from embreg.cli import main
from embreg.evals.runner import check_findings
from embreg.evals.subject import Subject
from embreg.evals.suite import Findings, Measure, Skipped
from embreg.evals.suites import index
from embreg.registry import health, indexes
from embreg.registry.errors import UnknownChoice, UsageError
from embreg.registry.serving import Knob, PresentBuild
from embreg.registry.types import IndexState, MeasureRecord, Repair, RunRecord, utc_now

WORDS, MORE = 3000, 600
QUICK = {"sweep": False, "timed": 20}


@pytest.fixture(scope="module")
def words(glove_rows) -> tuple[list[str], np.ndarray]:
    """The most frequent words in an order of chance, so that those added are like those there."""
    ids, vectors = glove_rows(WORDS + MORE)
    order = np.random.default_rng(0).permutation(len(ids))
    return [ids[i] for i in order], vectors[order]


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """8 x 8 pictures of digits: small whole numbers, so many distances tie."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    return load_digits().data.astype(np.float32)


@pytest.fixture(scope="module")
def shelf(words, tmp_path_factory: pytest.TempPathFactory):
    """``words@1``, and on it every kind of index; nothing here is changed by a test."""
    ids, vectors = words
    with connect(tmp_path_factory.mktemp("shelf") / "registry", create=True) as registry:
        registry.register("words", EmbeddingTable.from_arrays(ids[:WORDS], vectors[:WORDS]))
        for name, (factory, search) in FACTORIES.items():
            registry.index(name, "words@1", factory=factory, search=search)
        yield registry


FACTORIES = {
    "flat": ("Flat", ""),
    "lists": ("IVF32,Flat", "nprobe=3"),
    "graph": ("HNSW8", ""),
    "pq": ("PQ10x4", ""),
    "sq": ("SQ8", ""),
    "refined": ("IVF16,PQ10x4,RFlat", "nprobe=4,k_factor_rf=3"),
    "bits": ("BIVF16", "nprobe=5"),
    "hash": ("LSH", ""),
}


def measured(registry: Registry, ref: str, name: str, **params: Any) -> RunRecord:
    (run,) = evaluate(registry, ref, suites=["index"], params={"index": QUICK | params | {"index": name}})
    assert run.status == "done", run.reason
    return run


def value(run: RunRecord, metric: str, **labels: str) -> MeasureRecord:
    (found,) = [m for m in run.measures if m.metric == metric and m.labels == labels]
    return found


def absent(run: RunRecord) -> dict[str, str]:
    return {a["metric"]: a["reason"] for a in run.absent}


def present(table: EmbeddingTable, factory: str, *, search: str = "", of: str = "table") -> PresentBuild:
    """A build that is in no registry."""
    built = indexes.build(table, factory, table.space.metric, search=search)
    state = IndexState(
        name="i", tracks="t@latest", built_from=of, tracked=of, state="fresh", relation=None,
        repair=Repair.NONE, reason="", factory=factory, search=search, metric=table.space.metric,
        rows=built.rows, nbytes=1000, recall=None, recall_k=10, recall_queries=0, method="build",
        duration_s=0.0, built_at=utc_now(),
    )  # fmt: skip
    fit = health.baseline(built, table)
    return PresentBuild(
        state=state, digests=("", "", ""), health=fit, basis=lambda: table, load=lambda: built
    )


def look(table: EmbeddingTable, build: PresentBuild, **params: Any) -> Findings:
    given = index.Params(**QUICK | {"queries": 10_000} | params)
    findings = index.run(Subject(table, index=build), given, np.random.default_rng(0))
    check_findings(index.SUITE, findings)
    return findings


def recall_of(findings: Findings) -> Measure | None:
    return next((m for m in findings.measures if m.metric.startswith("recall") and not m.labels), None)


def exact(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Every distance, in its plainest dense form: float64, differences taken one by one."""
    x = vectors.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(norms > 0, norms, 1)
        return 2 - 2 * x @ x.T
    return -x @ x.T if metric == "dot" else ((x[:, None] - x[None]) ** 2).sum(axis=2)


def brute_recall(
    distances: np.ndarray, ids: Sequence[str], answers: dict[str, list[str]], k: int
) -> dict[str, float]:
    """The share of k by query, one query, one answer at a time."""
    row = {item: i for i, item in enumerate(ids)}
    found = {}
    for item, told in answers.items():
        own = distances[row[item]]
        others = np.sort(np.delete(own, row[item]))
        bound = others[k - 1] + 1e-6 * abs(others[k - 1]) + 4e-7
        first = [answer for answer in told if answer != item][:k]
        found[item] = sum(answer in row and own[row[answer]] <= bound for answer in set(first)) / k
    return found


def answers_of(registry: Registry, name: str, table: EmbeddingTable, k: int) -> dict[str, list[str]]:
    found = registry.search_vectors(name, table, k)
    return {query: [item for item, _ in own] for query, own in found.items()}


# -- recall ------------------------------------------------------------------------------------------------


def test_a_share_by_hand() -> None:
    """Own rows are left out, then k = 3 answers count: near ones, each once, and no padding."""
    far, own = -5, np.array([0, 1, 2, 3, 4, 5])
    found = np.array([
        [0, 7, 8, 9],     # itself and three neighbours
        [7, 8, 9, 6],     # it does not find itself: the fourth answer is one too many
        [2, 7, 7, 8],     # one neighbour twice
        [3, 7, -1, -1],   # padded
        [7, far, 4, 8],   # one answer is too far
        [-1, -1, -1, -1],
    ])  # fmt: skip
    near = found != far
    assert index.shares(found, own, near, 3).tolist() == [1, 1, 2 / 3, 1 / 3, 2 / 3, 0]


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(2, 8)), elements=st.integers(-1, 9)),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_a_share_is_that_of_the_definition(found: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, found.shape[1] - 1))
    own = np.arange(len(found))
    near = data.draw(hnp.arrays(bool, found.shape))
    # A row is near or far, wherever it stands in the list.
    for i, row in enumerate(found):
        for item in set(row.tolist()):
            near[i, row == item] = near[i, row == item][0]
    shares = index.shares(found, own, near, k)
    for i, row in enumerate(found.tolist()):
        first = [(j, item) for j, item in enumerate(row) if item != i][:k]
        hit = {item for j, item in first if item >= 0 and near[i, j]}
        assert shares[i] == len(hit) / k
    padded = np.hstack([found, np.full((len(found), 2), -1)])
    more = np.hstack([near, np.ones((len(found), 2), dtype=bool)])
    assert np.array_equal(index.shares(padded, own, more, k), shares)
    order = data.draw(st.permutations(range(len(found))))
    assert np.array_equal(index.shares(found[order], own[order], near[order], k), shares[order])


def test_recall_by_hand() -> None:
    """Rows at 0, 1, 2 on one side and 10, 11 on the other, a list each: whoever asks sees one list.

    k = 2: the left rows find both others of theirs; the right ones one, and a padding.
    """
    x = np.array([[0, 1], [1, 1], [2, 1], [10, 1], [11, 1]], dtype=np.float32)
    table = EmbeddingTable.from_arrays(list("abcde"), x, space=Space(dim=2, dtype="float32", metric="l2"))
    findings = look(table, present(table, "IVF2,Flat"), k=2)
    assert findings.items.column("recall").to_pylist() == [1, 1, 1, 0.5, 0.5]
    found = recall_of(findings)
    assert (found.metric, found.value, found.n) == ("recall@2", pytest.approx(0.8), 5)
    assert found.low <= found.value <= found.high
    assert recall_of(look(table, present(table, "IVF2,Flat", search="nprobe=2"), k=2)).value == 1


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_exact_search_finds_everything(words, metric: str) -> None:
    ids, vectors = words[0][:1500], words[1][:1500]
    space = Space(dim=50, dtype="float32", metric=metric)
    table = EmbeddingTable.from_arrays(ids, vectors, space=space)
    for factory, search in (("Flat", ""), ("IVF16,Flat", "nprobe=16")):
        findings = look(table, present(table, factory, search=search), queries=1000)
        assert findings.items.column("recall").to_pylist() == [1.0] * 1000
        found = recall_of(findings)
        assert (found.value, found.low, found.high) == (1, 1, 1)


def test_ties_of_pictures_are_fair(digits) -> None:
    """Whole numbers: at many a k-th place several pictures are equally far, and any of them will do."""
    table = EmbeddingTable.from_arrays(None, digits, space=Space(dim=64, dtype="float32", metric="l2"))
    for factory, search in (("Flat", ""), ("IVF16,Flat", "nprobe=16")):
        assert recall_of(look(table, present(table, factory, search=search), queries=500)).value == 1
    assert recall_of(look(table, present(table, "HNSW32", search="efSearch=512"))).value > 0.999


@pytest.mark.oracle
@pytest.mark.parametrize("name", FACTORIES)
def test_recall_is_that_of_brute_force(name: str, shelf: Registry, oracle) -> None:
    run = measured(shelf, "words@1", name, queries=300)
    items = shelf.stored_table(run.items)
    table = shelf.table("words@1")
    ids = table.ids.to_pylist()
    asked = items.column("item").to_pylist()
    queries = EmbeddingTable.from_arrays(asked, table.take(table.lookup(asked)))
    theirs = brute_recall(exact(table.vectors, "cosine"), ids, answers_of(shelf, name, queries, 11), 10)
    oracle.agrees(
        "formula of Jégou, Douze & Schmid 2011", "index.recall@k", items.column("recall").to_pylist(),
        [theirs[item] for item in asked], data="GloVe",
    )  # fmt: skip
    assert value(run, "recall@10").value == pytest.approx(np.mean(list(theirs.values())))
    assert value(run, "recall@10").n == 300


@pytest.mark.parametrize("name", FACTORIES)
def test_recall_is_what_index_status_shows(name: str, shelf: Registry) -> None:
    """The same 1,000 queries; apart where a row does not find itself among its 11 nearest, and in ties."""
    (state,) = shelf.indexes(name)
    ours = value(measured(shelf, "words@1", name), "recall@10")
    assert ours.n == state.recall_queries
    own = {"bits": 0.01, "hash": 0.01, "pq": 0.01}.get(name, 1e-4)
    assert ours.value == pytest.approx(state.recall, abs=own)


def test_copies_of_a_row_are_each_other(words) -> None:
    """Exact copies, and copies of other lengths, which cosine does not tell apart; any of them counts."""
    x = words[1][:100]
    table = EmbeddingTable.from_arrays(None, np.concatenate([x, x, 3 * x, 0.7 * x]))
    for k in (1, 3, 10):
        assert recall_of(look(table, present(table, "Flat"), k=k)).value == 1


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 6])
def test_few_rows(rows: int) -> None:
    """k = 5 neighbours take 6 rows; with fewer there is no recall, and the rest is measured."""
    table = EmbeddingTable.from_arrays(None, np.random.default_rng(rows).standard_normal((rows, 4)))
    findings = look(table, present(table, "Flat"), k=5, sweep=True)
    told = {a.metric: a.reason for a in findings.absent}
    assert {m.metric for m in findings.measures} >= {"latency_p50", "qps", "bytes", "bytes_per_vector"}
    if rows == 6:
        assert recall_of(findings).value == 1
    else:
        assert told["recall@5"] == f"5 neighbours need at least 6 rows that are not zero; there are {rows}"
        assert findings.items is None


def test_paddings_are_no_hits(words) -> None:
    """16 lists of 40 rows hold two or three each: most answers are missing."""
    ids, vectors = words[0][:40], words[1][:40]
    table = EmbeddingTable.from_arrays(ids, vectors)
    build = present(table, "IVF16,Flat")
    built = build.load()
    slots, _ = indexes.search(built, vectors, 11)
    assert (slots < 0).mean() > 0.5
    answers = {ids[i]: [ids[s] for s in row if s >= 0] for i, row in enumerate(slots.tolist())}
    theirs = brute_recall(exact(vectors, "cosine"), ids, answers, 10)
    findings = look(table, build)
    assert findings.items.column("recall").to_pylist() == [theirs[item] for item in ids]


def test_rows_of_zeros_are_no_queries(words) -> None:
    x = words[1][:60].copy()
    x[:20] = 0
    table = EmbeddingTable.from_arrays(None, x)
    found = recall_of(look(table, present(table, "Flat")))
    assert (found.value, found.n) == (1, 40)
    nothing = EmbeddingTable.from_arrays(None, np.zeros((30, 5)))
    told = {a.metric: a.reason for a in look(nothing, present(nothing, "Flat")).absent}
    assert told["recall@10"] == told["qps"] == "there is no row that is not zero to ask for"


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(3, 25), st.integers(1, 3)), elements=st.integers(-3, 3)),
    st.sampled_from(["cosine", "dot", "l2"]),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=20)
def test_exact_search_finds_everything_on_any_table(x: np.ndarray, metric: str, k: int) -> None:
    """Rows of zeros, repeated rows and ties included."""
    space = Space(dim=x.shape[1], dtype="float32", metric=metric)
    table = EmbeddingTable.from_arrays(None, x, space=space)
    findings = look(table, present(table, "Flat"), k=k)
    valid = int((x != 0).any(axis=1).sum())
    found = recall_of(findings)
    assert (found is not None) == (valid > k)
    if found is not None:
        assert found.value == 1


def test_recall_does_not_hang_on_the_order_of_rows(words) -> None:
    """The same ids, in another order, in a build of another order."""
    ids, vectors = words[0][:800], words[1][:800]
    order = np.random.default_rng(1).permutation(800)
    table = EmbeddingTable.from_arrays(ids, vectors)
    mixed = EmbeddingTable.from_arrays([ids[i] for i in order], vectors[order])
    build = present(table, "IVF8,Flat")
    a, b = look(table, build, queries=200), look(mixed, build, queries=200)
    ours = dict(zip(*(a.items.column(c).to_pylist() for c in ("item", "recall")), strict=True))
    theirs = dict(zip(*(b.items.column(c).to_pylist() for c in ("item", "recall")), strict=True))
    assert ours == theirs
    assert a.verdict == b.verdict == "none"


# -- the sweep ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knob", "k", "told"),
    [
        (Knob(name="nprobe", value=3, most=24), 10, [1, 2, 3, 4, 8, 16, 24]),
        (Knob(name="nprobe", value=1, most=1), 10, [1]),
        (Knob(name="efSearch", value=16, most=100), 10, [16, 32, 64]),
        (Knob(name="efSearch", value=16, most=10**6), 10, [16, 32, 64, 128, 256, 512, 1024]),
        (Knob(name="efSearch", value=40, most=10), 10, [40]),
        (Knob(name="k_factor_rf", value=1.5, most=10**6), 10, [1, 1.5, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_levels(knob: Knob, k: int, told: list[float]) -> None:
    assert index.levels(knob, k) == told


def points(run: RunRecord, metric: str) -> dict[str, MeasureRecord]:
    return {
        f"{label}={level}": m for m in run.measures if m.metric == metric for label, level in m.labels.items()
    }


def test_a_sweep_of_lists(shelf: Registry) -> None:
    """More lists find no less; all of them everything, and there it ends."""
    run = measured(shelf, "words@1", "lists", sweep=True, queries=300)
    recalls = points(run, "recall@10")
    assert list(recalls) == [f"nprobe={i}" for i in (1, 2, 3, 4, 8, 16, 32)]
    values = [m.value for m in recalls.values()]
    assert values == sorted(values)
    assert values[0] < 0.8
    assert values[-1] == 1
    assert recalls["nprobe=3"].value == value(run, "recall@10").value
    for metric in ("latency_p50", "qps", "pareto"):
        assert points(run, metric).keys() == recalls.keys()
    items = shelf.stored_table(run.items)
    for level, m in recalls.items():
        assert np.mean(items.column(f"recall[{level}]").to_pylist()) == pytest.approx(m.value)
    best = [level for level, m in points(run, "pareto").items() if m.value]
    (note,) = [note for note in run.notes if "no other setting" in note]
    assert sorted(part.split()[0] for part in note.partition(": ")[2].split(", ")) == sorted(best)


def test_a_sweep_ends_where_nothing_is_left_to_find(words) -> None:
    """Of 8 lists of far apart groups one is enough; its own setting is still told."""
    rng = np.random.default_rng(0)
    x = (np.eye(8) * 100)[np.arange(400) % 8] + rng.standard_normal((400, 8))
    table = EmbeddingTable.from_arrays(None, x)
    build = present(table, "IVF8,Flat", search="nprobe=4")
    findings = look(table, build, sweep=True)
    told = [m.labels["nprobe"] for m in findings.measures if m.metric == "recall@10" and m.labels]
    assert told == ["1", "4"]
    assert faiss.downcast_index(build.load().index).nprobe == 4


def test_a_sweep_of_a_refined_index_turns_both(shelf: Registry) -> None:
    recalls = points(measured(shelf, "words@1", "refined", sweep=True, queries=200), "recall@10")
    assert [level for level in recalls if level.startswith("k_factor_rf")][:4] == [
        f"k_factor_rf={i}" for i in (1, 2, 3, 4)
    ]
    assert recalls["nprobe=4"].value == recalls["k_factor_rf=3"].value
    assert recalls["k_factor_rf=64"].value > recalls["k_factor_rf=1"].value


def test_a_sweep_of_a_graph(shelf: Registry) -> None:
    recalls = points(measured(shelf, "words@1", "graph", sweep=True, queries=200), "recall@10")
    assert list(recalls)[:4] == [f"efSearch={i}" for i in (16, 32, 64, 128)]
    assert recalls["efSearch=128"].value > recalls["efSearch=16"].value


def test_a_sweep_of_bits(shelf: Registry) -> None:
    run = measured(shelf, "words@1", "bits", sweep=True, queries=200)
    recalls = points(run, "recall@10")
    assert list(recalls) == [f"nprobe={i}" for i in (1, 2, 4, 5, 8, 16)]
    assert 0 < recalls["nprobe=16"].value < 1  # bits tell only so much


def test_what_has_nothing_to_turn_says_so(shelf: Registry) -> None:
    told = absent(measured(shelf, "words@1", "flat", sweep=True))
    assert told["pareto"] == "the type has no search parameter to turn"
    assert absent(measured(shelf, "words@1", "lists"))["pareto"] == "no sweep was asked for"


def test_pareto_by_hand() -> None:
    """A point as good in both is not better: both stay."""
    recall = np.array([0.5, 0.9, 0.9, 0.8, 0.95, 0.5])
    time = np.array([1.0, 2.0, 3.0, 2.5, 9.0, 1.0])
    assert index.pareto(recall, time).tolist() == [True, True, False, False, True, True]


@pytest.mark.oracle
def test_pareto_is_that_of_the_definition(oracle) -> None:
    rng = np.random.default_rng(0)
    for n in range(1, 30):
        recall, time = rng.integers(0, 6, size=(2, n)) / 5
        theirs = [
            not any(
                recall[j] >= recall[i] and time[j] <= time[i] and (recall[j], time[j]) != (recall[i], time[i])
                for j in range(n)
            )
            for i in range(n)
        ]
        oracle.agrees("formula of Aumüller et al. 2020", "index.pareto", index.pareto(recall, time), theirs)
        assert any(theirs)


# -- times and sizes ---------------------------------------------------------------------------------------


def clocked(registry: Registry, name: str) -> float:
    """Milliseconds that one search takes, by another clock, around many."""
    built = registry.present_build(name).load()
    x = registry.table("words@1").vectors[:1].copy()
    start = time.monotonic()
    for _ in range(500):
        built.index.search(x, 11)
    return (time.monotonic() - start) / 500 * 1e3


def test_times(shelf: Registry) -> None:
    run = measured(shelf, "words@1", "flat", timed=120)
    half, most = value(run, "latency_p50"), value(run, "latency_p99")
    assert (half.n, most.n) == (120, 120)
    assert 0 < half.value <= most.value < 1000
    own = clocked(shelf, "flat")
    assert own / 20 < half.value < 20 * own, "milliseconds"
    assert 1e3 / (20 * own) < value(run, "qps").value < 1e3 * 20 / own
    threads = faiss.omp_get_max_threads()
    told = f"1,000 queries at once on {threads} thread{'s' if threads > 1 else ''}; latency: one query on one"
    assert any(told in note for note in run.notes)
    assert faiss.omp_get_max_threads() == threads
    few = measured(shelf, "words@1", "flat", timed=99)
    assert value(few, "latency_p50").n == 99
    assert absent(few)["latency_p99"] == "a 99th percentile takes 100 times; there are 99"


def test_few_queries_are_timed_again_and_again(words) -> None:
    table = EmbeddingTable.from_arrays(None, words[1][:3])
    findings = look(table, present(table, "Flat"), timed=150)
    (half,) = [m for m in findings.measures if m.metric == "latency_p50"]
    assert half.n == 150


def test_more_to_scan_takes_longer(words) -> None:
    """A hundred times the rows: whatever else the machine does, the clock must see that."""
    many = EmbeddingTable.from_arrays(None, np.tile(words[1], (30, 1)))
    few = EmbeddingTable.from_arrays(None, words[1][:1000])
    took = [
        present(table, "Flat").open().latencies(words[1][:50], 11, 60) for table in (few, many)
    ]  # fmt: skip
    assert np.median(took[1]) > 5 * np.median(took[0])


def test_bytes_are_those_of_the_files(shelf: Registry) -> None:
    build = shelf.present_build("sq")
    files = [shelf.root / "blobs" / "sha256" / d[:2] / d for d in build.digests[:2]]
    size = sum(file.stat().st_size for file in files)
    run = measured(shelf, "words@1", "sq")
    assert value(run, "bytes").value == size
    assert value(run, "bytes_per_vector").value == size / WORDS


# -- another version than the build's ----------------------------------------------------------------------


@pytest.fixture
def grown(registry: Registry, words) -> Registry:
    """``words@1`` with a SQ8 index; ``words@2``: 50 rows gone, 30 moved, 600 new ones, another order."""
    ids, vectors = words
    registry.register("words", EmbeddingTable.from_arrays(ids[:WORDS], vectors[:WORDS]))
    registry.index("sq", "words@1", factory="SQ8")
    order = np.random.default_rng(2).permutation(np.arange(50, WORDS + MORE))
    moved = vectors.copy()
    moved[100:130] = vectors[200:230]
    registry.register("words", EmbeddingTable.from_arrays([ids[i] for i in order], moved[order]))
    return registry


def test_a_build_of_an_older_version_answers_as_it_is(grown: Registry) -> None:
    """Recall by brute force of the new version's neighbours, in what the old build answers, by ids."""
    run = measured(grown, "words@2", "sq", queries=400)
    table = grown.table("words@2")
    asked = grown.stored_table(run.items).column("item").to_pylist()
    queries = EmbeddingTable.from_arrays(asked, table.take(table.lookup(asked)))
    answers = answers_of(grown, "sq", queries, 11)
    gone = set(grown.table("words@1").ids.to_pylist()) - set(table.ids.to_pylist())
    assert any(gone & set(told) for told in answers.values())
    theirs = brute_recall(exact(table.vectors, "cosine"), table.ids.to_pylist(), answers, 10)
    assert grown.stored_table(run.items).column("recall").to_pylist() == [theirs[item] for item in asked]
    assert 0.6 < value(run, "recall@10").value < 0.9
    assert "3,000 rows of words@1; measured on words@2: this is what it answers until" in run.notes[0]
    assert run.verdict == "update"
    assert "600 rows added" in run.notes[-1]


def test_a_rebuilt_index_is_measured_again(grown: Registry) -> None:
    before = measured(grown, "words@2", "sq")
    assert measured(grown, "words@2", "sq").cached
    assert grown.rebuild("sq").method == "update"
    after = measured(grown, "words@2", "sq")
    assert not after.cached
    assert after.params == before.params
    assert after.verdict == "none"
    assert value(after, "recall@10").value > value(before, "recall@10").value + 0.1
    assert measured(grown, "words@2", "sq").cached


def test_the_gate_compares_an_index_item_by_item(grown: Registry, tmp_path: Path) -> None:
    (tmp_path / "embreg.toml").write_text(
        '[suites.index]\nsweep = false\n[[gates]]\nmetric = "index.recall@10"\nmax_drop = 0.05\n'
    )
    (check,) = gate(grown, "words@2", baseline="words@1", config=tmp_path / "embreg.toml").verdict.checks
    assert check.outcome == "failed"
    assert check.p_value is not None
    assert check.p_value < 1e-3
    grown.rebuild("sq")
    (check,) = gate(grown, "words@2", baseline="words@1", config=tmp_path / "embreg.toml").verdict.checks
    assert check.outcome == "passed"


def test_another_width_cannot_be_asked(registry: Registry, words) -> None:
    ids, vectors = words
    registry.register("words", EmbeddingTable.from_arrays(ids[:500], vectors[:500]))
    registry.index("lists", "words", factory="IVF8,SQ8", search="nprobe=2")
    registry.register("words", EmbeddingTable.from_arrays(ids[:500], vectors[:500, :20]))
    run = measured(registry, "words@2", "lists", sweep=True)
    reason = "the rows have 20 dimensions, the build 50"
    names = {
        "recall@10", "latency_p50", "latency_p99", "qps", "pareto", "sq_clip_share", "pq_distortion_ratio",
        "ivf_imbalance",
    }  # fmt: skip
    assert absent(run) == dict.fromkeys(names, reason)
    assert {m.metric for m in run.measures} == {"bytes", "bytes_per_vector"}
    assert run.verdict == "rebuild"
    assert "dim" in run.notes[-1]


@pytest.mark.oracle
def test_the_clip_share_of_new_rows(registry: Registry, words, oracle) -> None:
    """The components of the new rows outside the trained range, counted one by one."""
    ids, vectors = words
    registry.register("words", EmbeddingTable.from_arrays(ids[:WORDS], vectors[:WORDS]), metric="l2")
    registry.index("sq", "words", factory="SQ8")
    later = vectors.copy()
    later[WORDS:] *= 1.6
    registry.register("words", EmbeddingTable.from_arrays(ids, later), metric="l2")
    run = measured(registry, "words@2", "sq")
    built = registry.present_build("sq").load()
    low, span = faiss.vector_to_array(faiss.downcast_index(built.index).sq.trained).reshape(2, -1)
    outside = (later[WORDS:] < low) | (later[WORDS:] > low + span)
    ours = value(run, "sq_clip_share")
    oracle.agrees("numpy", "index.sq_clip_share", ours.value, outside.mean(), atol=2e-5, data="GloVe",
                  why="what lies outside by a hundred-thousandth of the range is not counted")  # fmt: skip
    assert ours.n == MORE
    assert ours.value > 0.005
    assert run.verdict == "rebuild"
    assert "out of the range its scalar quantizer was trained on" in run.notes[-1]
    assert registry.rebuild("sq").method == "build"


@pytest.mark.oracle
@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_distortion_of_new_rows(shift: float, registry: Registry, glove_rows, oracle) -> None:
    """By a product quantizer written out in numpy; rows that training left out stand for those trained on."""
    _, vectors = glove_rows(6000 + MORE)
    vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
    vectors[6000:] += shift
    registry.register("words", EmbeddingTable.from_arrays(None, vectors[:6000]), metric="l2")
    registry.index("pq", "words", factory="PQ5x6")
    registry.register("words", EmbeddingTable.from_arrays(None, vectors), metric="l2")
    run = measured(registry, "words@2", "pq")
    build = registry.present_build("pq")
    built, old = build.load(), registry.table("words@1")
    pq = faiss.downcast_index(built.index).pq
    centroids = faiss.vector_to_array(pq.centroids).reshape(5, 64, 10)

    def distortion(rows: np.ndarray, whole: np.ndarray) -> float:
        gaps = rows.reshape(-1, 5, 1, 10).astype(np.float64) - centroids[None]
        spread = ((rows - whole.mean(axis=0, dtype=np.float64)) ** 2).sum()
        return (gaps**2).sum(axis=3).min(axis=2).sum() / spread

    held_out = old.take(indexes.held_out(built, old))
    theirs = distortion(vectors[6000:], vectors) / distortion(held_out, vectors[:6000])
    ours = value(run, "pq_distortion_ratio")
    oracle.agrees("formula of Jégou, Douze & Schmid 2011", "index.pq_distortion_ratio", ours.value, theirs,
                  rtol=1e-4, data="GloVe")  # fmt: skip
    assert ours.n == MORE
    assert run.verdict == ("add" if shift == 0 else "rebuild")
    assert registry.rebuild("pq").method == ("add" if shift == 0 else "build")


@pytest.mark.oracle
def test_the_imbalance_of_lists_that_nobody_filled(registry: Registry, words, oracle) -> None:
    """What it will be after the repair, told before; and of a sample nearly what it is of all."""
    ids, vectors = words
    registry.register("words", EmbeddingTable.from_arrays(ids[:WORDS], vectors[:WORDS]))
    registry.index("lists", "words", factory="IVF32,Flat")
    registry.register("words", EmbeddingTable.from_arrays(ids, vectors))
    before = value(measured(registry, "words@2", "lists"), "ivf_imbalance")
    assert registry.rebuild("lists").method == "add"
    built = registry.present_build("lists").load()
    inner = faiss.downcast_index(built.index)
    sizes = np.array([inner.invlists.list_size(i) for i in range(32)], dtype=np.float64)
    theirs = 32 * (sizes**2).sum() / sizes.sum() ** 2
    after = value(measured(registry, "words@2", "lists"), "ivf_imbalance")
    oracle.agrees("formula of Jégou, Douze & Schmid 2011", "index.ivf_imbalance", [before.value, after.value],
                  [theirs, theirs], rtol=1e-12, data="GloVe")  # fmt: skip
    assert (before.n, after.n) == (WORDS + MORE, WORDS + MORE)
    sampled = np.random.default_rng(0).choice(3600, size=1800, replace=False)
    some = EmbeddingTable.from_arrays([ids[i] for i in sampled], vectors[sampled])
    factor, seen = health.foreseen_imbalance(built, some)
    assert seen == 1800
    assert factor == pytest.approx(theirs, rel=0.1)


def test_an_imbalance_seen_through_a_sample_is_not_biased(words, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 of 3,600 rows in 64 lists: taken as they are they would look half as uneven again."""
    table = EmbeddingTable.from_arrays(*words)
    built = indexes.build(table, "IVF64,Flat", "cosine")
    whole, _ = health.foreseen_imbalance(built, table)
    assert whole == pytest.approx(health.imbalance(built), rel=1e-12)
    monkeypatch.setattr(health, "SAMPLE", 300)
    found = []
    for i in range(30):
        named = EmbeddingTable.from_arrays([f"{i} {word}" for word in words[0]], words[1])
        factor, seen = health.foreseen_imbalance(built, named)
        assert seen == 300
        found.append(factor)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - whole) < 4 * error
    assert error < 0.05


def test_rows_of_one_corner_make_lists_uneven(registry: Registry) -> None:
    """As many rows again, all in one list: a search there costs what a rebuild would save."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 4)).astype(np.float32)
    registry.register("r", EmbeddingTable.from_arrays(None, x), metric="l2")
    registry.index("lists", "r", factory="IVF16,Flat")
    corner = x[:1] + 0.01 * rng.standard_normal((1000, 4)).astype(np.float32)
    registry.register("r", EmbeddingTable.from_arrays(None, np.concatenate([x, corner])), metric="l2")
    run = measured(registry, "r@2", "lists")
    assert value(run, "ivf_imbalance").value > 4
    assert run.verdict == "rebuild"
    assert "times as uneven" in run.notes[-1]
    assert registry.rebuild("lists").method == "build"


@pytest.mark.parametrize("name", FACTORIES)
def test_every_metric_is_told_or_its_absence(name: str, shelf: Registry) -> None:
    run = measured(shelf, "words@1", name)
    told = {m.metric for m in run.measures} | set(absent(run))
    assert told == {m.at(10) for m in index.SUITE.metrics}
    assert run.verdict == "none"
    assert absent(run)["sq_clip_share"] == "the build holds every row as it is"


def test_rows_that_no_index_can_hold(words) -> None:
    space = Space(dim=50, dtype="float32", metric="dot")
    table = EmbeddingTable.from_arrays(words[0][:50], words[1][:50], space=space)
    long = EmbeddingTable.from_arrays(words[0][:50], words[1][:50] * 1e20, space=space)
    with pytest.raises(Skipped, match="products of such rows overflow"):
        look(long, present(table, "Flat"))


# -- the runner --------------------------------------------------------------------------------------------


def test_each_index_of_the_embedding_is_a_run(shelf: Registry) -> None:
    runs = evaluate(shelf, "words", suites=["index"], params={"index": QUICK})
    assert [run.params["index"] for run in runs] == sorted(FACTORIES)
    assert {run.status for run in runs} == {"done"}
    assert len({run.cache_key for run in runs}) == len(runs)


@pytest.fixture
def two(registry: Registry, words) -> Registry:
    ids, vectors = words
    for name in ("words", "pictures"):
        registry.register(name, EmbeddingTable.from_arrays(ids[:200], vectors[:200]), alias="live")
    return registry


def test_without_an_index_it_is_skipped_with_the_command(two: Registry) -> None:
    two.index("theirs", "pictures", factory="Flat")
    (run,) = evaluate(two, "words", suites=["index"])
    assert (run.status, run.reason) == (
        "skipped", "no index follows 'words' ('embreg index build INDEX words --factory HNSW32')",
    )  # fmt: skip
    (run,) = evaluate(two, "words", suites=["index"], params={"index": {"index": "theirs"}})
    assert (run.status, run.reason) == ("skipped", "index 'theirs' follows 'pictures', not 'words'")
    with pytest.raises(UnknownChoice, match=r"unknown index 'their'.*did you mean 'theirs'"):
        evaluate(two, "words", suites=["index"], params={"index": {"index": "their"}})
    assert two.runs("words") == ()


def test_an_index_that_follows_an_alias_is_one_of_the_embedding(two: Registry) -> None:
    two.index("ours", "words", factory="Flat", track="live")
    (run,) = evaluate(two, "words", suites=["index"], params={"index": QUICK})
    assert (run.status, run.params["index"]) == ("done", "ours")


def test_another_factory_under_the_same_name_is_measured(two: Registry) -> None:
    two.index("ours", "words", factory="Flat")
    flat = measured(two, "words", "ours")
    two.index("ours", "words", factory="SQ4")
    coarse = measured(two, "words", "ours")
    assert not coarse.cached
    assert value(coarse, "recall@10").value < value(flat, "recall@10").value == 1
    two.index("ours", "words", factory="Flat")
    assert measured(two, "words", "ours").cached


def test_a_damaged_build_is_an_error_of_its_own_run(two: Registry) -> None:
    two.index("broken", "words", factory="Flat")
    two.index("whole", "words", factory="SQ8")
    digest = two.present_build("broken").digests[0]
    file = two.root / "blobs" / "sha256" / digest[:2] / digest
    file.chmod(0o644)
    file.write_bytes(b"nothing")
    broken, whole = evaluate(two, "words", suites=["index"], params={"index": QUICK})
    assert (broken.status, whole.status) == ("error", "done")
    assert digest[:12] in broken.reason


@pytest.mark.parametrize("param", ["k", "queries", "timed"])
def test_a_parameter_below_one(param: str) -> None:
    with pytest.raises(UsageError, match=f"index.{param} must be at least 1"):
        index.Params(**{param: 0})


def test_without_an_index_the_suite_says_what_it_needs(words) -> None:
    with pytest.raises(Skipped, match="embreg index build"):
        index.run(Subject(EmbeddingTable.from_arrays(*words)), index.Params(), np.random.default_rng(0))


def test_the_command_line(two: Registry) -> None:
    two.index("ours", "words", factory="IVF4,Flat")
    two.index("bits", "words", factory="BFlat")

    def ask(*options: str, code: int = 0) -> Any:
        command = ["--registry", str(two.root), "eval", "words", "--suite", "index", "--json", *options]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    runs = ask("-p", "index.timed=20")["runs"]
    assert [(run["params"]["index"], run["status"], run["verdict"]) for run in runs] == [
        ("bits", "done", "none"),
        ("ours", "done", "none"),
    ]
    swept = [m for m in runs[1]["measures"] if m["labels"]]
    assert {"metric", "labels", "value", "n", "low", "high"} <= set(swept[0])
    assert {"1", "2", "4"} == {m["labels"]["nprobe"] for m in swept}
    (one,) = ask("-p", "index.index=ours", "-p", "index.timed=20")["runs"]
    assert one["cached"]
    error = ask("-p", "index.index=nobody", code=2)["error"]
    assert (error["type"], error["message"]) == ("UnknownChoice", "unknown index 'nobody'")


def test_the_health_of_what_was_never_measured(words) -> None:
    """A build without figures of its training: there is no ratio, and it says why."""
    ids, vectors = words
    old = EmbeddingTable.from_arrays(ids[:WORDS], vectors[:WORDS])
    new = EmbeddingTable.from_arrays(ids, vectors)
    build = present(old, "PQ10x4")
    assert build.health.distortion is None
    told = {a.metric: a.reason for a in look(new, build, queries=50).absent}
    assert told["pq_distortion_ratio"].startswith("the build was trained on every row of its version")
    bare = {a.metric: a.reason for a in look(new, present(old, "HNSW8"), queries=50).absent}
    assert bare["pq_distortion_ratio"] == "the type has no codes that were trained"
    assert bare["sq_clip_share"] == "the type has no scalar quantizer that was trained on a range"
    assert bare["ivf_imbalance"] == "the type has no inverted lists"


def test_the_gate_judges_every_index(two: Registry, tmp_path: Path) -> None:
    """One check of each index, unless it names one; the last of them must not stand for all."""
    two.index("coarse", "words", factory="BFlat")
    two.index("exact", "words", factory="Flat")

    def checks(bounds: str, **params: str) -> dict[str, str]:
        path = tmp_path / "embreg.toml"
        path.write_text(f'[suites.index]\nsweep = false\n[[gates]]\nmetric = "index.recall@10"\n{bounds}\n')
        judged = gate(two, "words", no_baseline=True, config=path).verdict.checks
        return {check.labels["index"]: check.outcome for check in judged}

    assert checks("min = 0.9") == {"coarse": "failed", "exact": "passed"}
    assert checks('min = 0.9\nlabels = { index = "exact" }') == {"exact": "passed"}
    assert checks('min = 0.9\nlabels = { index = "coarse" }') == {"coarse": "failed"}
    assert checks('min = 0.9\nlabels = { index = "exakt" }') == {"exakt": "failed"}
