"""Neighbour quality: by hand, against scikit-learn on labelled digits, and sampled against whole."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from embreg.evals import subject as subject_module
from embreg.evals.subject import DatasetTable, Memory, Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites.neighbors import SUITE, Params, run
from embreg.registry.errors import ItemNotFound, UsageError
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space

from ..rough import rough


def measured(subject, **params):
    found = run(subject, Params(**params), np.random.default_rng(0))
    return {"/".join([m.metric, *m.labels.values()]): m for m in found.measures}, found


def absent(found):
    return {a.metric: a.reason for a in found.absent}


def values_of(measures):
    return {name: m.value for name, m in measures.items()}


def by_hand(labels=None, column="kind"):
    """Four rows with given neighbours, k=2."""
    store = Memory()
    store.put(
        "neighbors",
        {
            "queries": np.arange(4),
            "rows": np.array([[1, 2], [0, 2], [3, 0], [2, 1]]),
            "scores": np.array([[1, 0.5], [1, 0.25], [0.75, 0.5], [0.75, 0]], dtype=np.float32),
        },
    )
    attributes = {} if labels is None else {column: labels}
    table = EmbeddingTable.from_arrays(list("abcd"), np.eye(4, dtype=np.float32), attributes=attributes)
    return Subject(table, store=store)


def test_by_hand():
    measures, found = measured(by_hand(["x", "x", "y", None]), k=2, lid_k=2, label="kind")
    values = values_of(measures)
    # 0->1 1->0 0->2 2->0 2->3 3->2 go both ways; 1->2 and 3->1 do not.
    assert values["reciprocity@2"] == 6 / 8
    # a: b is x, c is not; b: a is x, c is not; c: d has no label, a is x.
    assert values["purity@2"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    # By chance: one of three others for a and b, none for c.
    assert values["purity_lift@2"] == pytest.approx((1 / 3) / ((1 + 1 + 0) / 3 / 3))
    assert (values["purity@2/x"], values["purity@2/y"]) == (0.5, 0)
    assert values["label_coverage"] == 0.75
    assert values["top1_cosine"] == 0.875
    assert values["margin@2/0.5"] == pytest.approx(0.625)
    assert values["duplicate_rate"] == 0.5
    assert (measures["purity@2"].n, measures["reciprocity@2"].n, measures["label_coverage"].n) == (3, 4, 4)
    assert found.items.to_pydict() == {
        "item": list("abcd"),
        "top1_cosine": [1, 1, 0.75, 0.75],
        "purity": [0.5, 0.5, 0, None],
        "reciprocity": [1, 0.5, 1, 0.5],
        "counted_once": [0, 1, 2, 0],
        "class": ["x", "x", "y", None],
    }


def test_without_labels():
    measures, found = measured(by_hand(), k=2, lid_k=2)
    assert absent(found).keys() == {"purity@2", "purity_lift@2", "label_coverage"}
    assert "neighbors.label" in absent(found)["label_coverage"]
    assert found.items.column("purity").null_count == 4
    assert "reciprocity@2" in measures


def test_labels_of_a_dataset_match_by_id():
    subject = by_hand()
    rows = pa.table({"id": ["c", "b", "a", "nobody"], "label": ["y", "x", "x", "x"]})
    dataset = DatasetTable(name="kinds", kind="labels", rows=rows)
    got, _ = measured(subject.with_(dataset=dataset), k=2, lid_k=2)
    want, _ = measured(by_hand(["x", "x", "y", None]), k=2, lid_k=2, label="kind")
    assert values_of(got) == values_of(want)
    pairs = DatasetTable(name="p", kind="pairs", rows=rows)
    assert "purity@2" not in measured(subject.with_(dataset=pairs), k=2, lid_k=2)[0]


def test_a_column_label_is_read_unless_something_else_is_named():
    want = values_of(measured(by_hand(["x", "x", "y", None]), k=2, lid_k=2, label="kind")[0])
    labelled = by_hand(["x", "x", "y", None], "label")
    assert values_of(measured(labelled, k=2, lid_k=2)[0]) == want
    other = pa.table({"id": list("abcd"), "label": list("xyxy")})
    given = labelled.with_(dataset=DatasetTable(name="kinds", kind="labels", rows=other))
    assert measured(given, k=2, lid_k=2)[0]["label_coverage"].value == 1
    assert values_of(measured(given, k=2, lid_k=2, label="label")[0]) == want


def test_labels_nobody_shares():
    _, found = measured(by_hand([None] * 4), k=2, lid_k=2, label="kind")
    unlabelled = "no row of the graph has a label"
    assert absent(found).items() >= {("purity@2", unlabelled), ("purity_lift@2", unlabelled)}
    measures, found = measured(by_hand(list("wxyz")), k=2, lid_k=2, label="kind")
    assert measures["purity@2"].value == 0
    assert absent(found)["purity_lift@2"] == "every row has a label of its own"
    assert "purity@2" not in absent(found)


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    return x.astype(np.float32), y


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_digits_against_scikit_learn(digits, metric, oracle):
    """Whole lists of neighbours. Of some digits the fifth and sixth are equally far, and either may stand."""
    from sklearn.neighbors import NearestNeighbors

    def agrees(metric, theirs, **tolerance):
        name = metric.partition("/")[0].partition("@")
        ours = measures[metric].value
        oracle.agrees(
            "scikit-learn", f"neighbors.{name[0]}{name[1] and '@k'}", ours, theirs, data="digits", **tolerance
        )

    x, y = digits
    space = Space(dim=64, metric=metric)
    table = EmbeddingTable.from_arrays(None, x, space=space, attributes={"digit": y})
    measures, found = measured(Subject(table), k=5, label="digit")
    model = NearestNeighbors(metric="cosine" if metric == "cosine" else "euclidean", algorithm="brute")
    distances, rows = model.fit(x.astype(float)).kneighbors(n_neighbors=5)
    same = (y[rows] == y[:, None]).mean(axis=1)
    ties = {"why": "ties of distance at the border of a list"}
    agrees("purity@5", same.mean(), atol=2e-4, **ties)
    agrees("purity@5/8", same[y == 8].mean(), atol=2e-3, **ties)
    assert measures["purity@5"].low < same.mean() < measures["purity@5"].high
    sizes = np.bincount(y)
    chance = (sizes * (sizes - 1)).sum() / len(y) / (len(y) - 1)
    agrees("purity_lift@5", same.mean() / chance, rtol=3e-4, **ties)
    lists = [set(r) for r in rows.tolist()]
    mutual = np.mean([i in lists[j] for i, row in enumerate(rows.tolist()) for j in row])
    agrees("reciprocity@5", mutual, atol=1e-3, **ties)
    unit = x.astype(float) / np.linalg.norm(x.astype(float), axis=1)[:, None]
    top1 = np.einsum("ij,ij->i", unit, unit[rows[:, 0]])
    agrees("top1_cosine", top1.mean(), atol=1e-5, **ties)
    agrees("top1_cosine/0.5", np.median(top1), atol=1e-4, **ties)
    agrees("duplicate_rate", np.mean(top1 > 1 - 1e-6))
    gap = (distances[:, -1] - distances[:, 0]) if metric == "cosine" else np.diff(distances[:, [0, -1]] ** 2)
    agrees("margin@5/0.95", np.quantile(gap, 0.95), rtol=1e-4)
    columns = found.items.to_pydict()
    assert np.mean(columns["purity"]) == pytest.approx(measures["purity@5"].value)
    assert np.mean(columns["reciprocity"]) == pytest.approx(measures["reciprocity@5"].value)


def test_reciprocity_of_a_sample_agrees_with_the_whole(digits, monkeypatch):
    x = np.insert(digits[0], [0, 900], 0, axis=0)
    whole, _ = measured(Subject(EmbeddingTable.from_arrays(None, x)))
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
    monkeypatch.setattr(subject_module, "SAMPLED_QUERIES", 700)
    sampled, found = measured(Subject(EmbeddingTable.from_arrays(None, x)))
    got = sampled["reciprocity@10"]
    assert got.n == 2000
    assert got.low < whole["reciprocity@10"].value < got.high
    assert found.items.num_rows == 700
    assert found.items.column("reciprocity").null_count == 700
    # All 7,000 edges of the sample, followed back, are those of the whole graph.
    every, _ = measured(Subject(EmbeddingTable.from_arrays(None, x)), edges=10**6)
    subject = Subject(EmbeddingTable.from_arrays(None, x))
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 10_000)
    graph = subject.neighbors(10)
    lists = dict(zip(graph.queries.tolist(), map(set, graph.rows.tolist()), strict=True))
    asked = subject.sample(700).tolist()
    mutual = np.mean([i in lists[j] for i in asked for j in lists[i]])
    assert every["reciprocity@10"].value == pytest.approx(mutual, abs=1e-12)
    assert every["reciprocity@10"].n == 7000


@pytest.mark.oracle
def test_random_rows_against_scikit_learn(oracle):
    """Without ties the lists are equal, and so is all that follows from them."""
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(700, 12)).astype(np.float32), rng.integers(4, size=700)
    measures, _ = measured(Subject(EmbeddingTable.from_arrays(None, x, attributes={"label": y})))
    model = NearestNeighbors(metric="cosine", algorithm="brute").fit(x.astype(float))
    distances, rows = model.kneighbors(n_neighbors=10)
    lists = [set(r) for r in rows.tolist()]
    sizes = np.bincount(y)
    same = (y[rows] == y[:, None]).mean()
    top1 = cosine_similarity(x.astype(float))[np.arange(700), rows[:, 0]]
    wanted = {
        "purity@k": (same, 1e-12),
        "purity_lift@k": (same / ((sizes * (sizes - 1)).sum() / 700 / 699), 1e-12),
        "reciprocity@k": (np.mean([i in lists[j] for i, row in enumerate(rows) for j in row]), 1e-12),
        "top1_cosine": (top1.mean(), 1e-6),
    }
    for metric, (theirs, atol) in wanted.items():
        ours = measures[metric.replace("@k", "@10")].value
        oracle.agrees("scikit-learn", f"neighbors.{metric}", ours, theirs, atol=atol)
    quantiles = np.quantile(distances[:, -1] - distances[:, 0], [0.05, 0.5, 0.95])
    ours = [measures[f"margin@10/{q}"].value for q in (0.05, 0.5, 0.95)]
    oracle.agrees("scikit-learn", "neighbors.margin@k", ours, quantiles, atol=1e-6)
    # Copies tie with their originals in the lists of others, so they come last.
    x[600:650] = x[:50] * 2
    ours = measured(Subject(EmbeddingTable.from_arrays(None, x)))[0]["duplicate_rate"].value
    cosines = cosine_similarity(x.astype(float)) - 2 * np.eye(700)
    oracle.agrees("scikit-learn", "neighbors.duplicate_rate", ours, np.mean(cosines.max(axis=1) > 1 - 1e-6))
    assert ours == 1 / 7


def test_duplicates_are_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 8)).astype(np.float32)
    x[50:60] = x[:10] * 3
    measures, _ = measured(Subject(EmbeddingTable.from_arrays(None, x)))
    assert measures["duplicate_rate"].value == 0.2
    assert measures["duplicate_rate"].low < 0.2 < measures["duplicate_rate"].high


@given(seed=st.integers(0, 1000), power=st.integers(-3, 3))
@settings(deadline=None, max_examples=20)
def test_rotation_scale_and_order_of_rows_do_not_matter(seed, power):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    turn, order = np.linalg.qr(rng.normal(size=(5, 5)))[0], rng.permutation(60)

    def values(rows, kinds):
        table = EmbeddingTable.from_arrays(None, rows, attributes={"kind": kinds})
        return values_of(measured(Subject(table), k=4, label="kind")[0])

    want = values(x, labels)
    got = values((x @ turn * 10.0**power)[order], labels[order])
    for name, value in want.items():
        loose = {"rel": 1e-3} if name in ("lid", "twonn") else {"abs": 1e-6}
        assert got[name] == pytest.approx(value, **loose), name


def test_every_metric_is_a_measure_or_absent():
    for subject in (by_hand(), by_hand(list("xxyy"))):
        _, found = measured(subject, k=2, lid_k=2)
        told = {m.metric for m in found.measures} | {a.metric for a in found.absent}
        assert told == {m.at(2) for m in SUITE.metrics}


def test_refusals():
    with pytest.raises(Skipped, match="at least 11 rows"):
        measured(Subject(EmbeddingTable.from_arrays(None, np.eye(10))))
    with pytest.raises(ItemNotFound, match=r"no column 'kin' \(did you mean 'kind'\?\)"):
        measured(by_hand(list("xxyy")), k=2, label="kin")
    for name, least in (("k", 1), ("edges", 1), ("lid_k", 2)):
        with pytest.raises(UsageError, match=rf"neighbors\.{name} must be at least {least}, not {least - 1}"):
            Params(**{name: least - 1})


@given(
    kind=st.sampled_from(["plain", "huge", "tiny", "mixed", "equal", "zeros", "copies", "lattice"]),
    n=st.sampled_from([1, 2, 3, 10, 11, 12, 20, 21, 22, 60]),
    d=st.sampled_from([1, 2, 5]),
    metric=st.sampled_from(["cosine", "dot", "l2"]),
    labels=st.sampled_from(["none", "one", "own"]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=150)
def test_any_table_is_measured_or_skipped(kind, n, d, metric, labels, seed):
    x = rough(kind, n, d, seed)
    attributes = {"none": {}, "one": {"label": ["a"] * n}, "own": {"label": [str(i) for i in range(n)]}}
    table = EmbeddingTable.from_arrays(
        None, x, space=Space(dim=d, metric=metric), attributes=attributes[labels]
    )
    rows = int(x.any(axis=1).sum())
    if rows < 11:
        with pytest.raises(Skipped, match=f"at least 11 rows that are not zero; there are {rows}"):
            measured(Subject(table))
        return
    measures, found = measured(Subject(table))
    declared = {m.at(10): m for m in SUITE.metrics}
    assert {m.metric for m in found.measures} | absent(found).keys() == declared.keys()
    for m in found.measures:
        low, high = declared[m.metric].low, declared[m.metric].high
        assert np.isfinite([m.value, m.low or 0, m.high or 0]).all()
        assert (low is None or low <= m.value) and (high is None or m.value <= high), m
    assert all(absent(found).values())
    if rows < 21:
        assert absent(found)["lid"].endswith(f"at least 21 rows that are not zero; there are {rows}")
    if kind == "equal":
        assert measures["duplicate_rate"].value == 1
        assert {"lid", "twonn"} <= absent(found).keys()
