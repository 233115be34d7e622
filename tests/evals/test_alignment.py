"""Alignment: by hand, against torch and dense numpy, and where sides share rows or ids repeat."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from embreg.evals.runner import check_findings
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites import alignment
from embreg.evals.suites.alignment import SUITE, Params, run
from embreg.registry.datasets import SCHEMAS, parse, with_vectors
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable


def positives(pairs, vectors=None):
    table = pa.table([list(c) for c in zip(*pairs, strict=True)], schema=SCHEMAS["positives"])
    if vectors is not None:
        table = with_vectors(table, "positives", vectors)
    return DatasetTable(name="partners", kind="positives", rows=table)


def measured(subject, seed=0, **params):
    found = run(subject, Params(**params), np.random.default_rng(seed))
    check_findings(SUITE, found)
    return {"/".join([m.metric, *m.labels.values()]): m for m in found.measures}, found


def values_of(measures):
    return {name: m.value for name, m in measures.items()}


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def two_sides(n=120, dim=8, noise=0.6, seed=0):
    """A table of the a, another of the b, and their unit rows; partners are near, and the sides apart."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim)).astype(np.float32)
    y = (x + noise * rng.standard_normal((n, dim)) + 0.3).astype(np.float32)
    a = EmbeddingTable.from_arrays([f"a{i}" for i in range(n)], x)
    b = EmbeddingTable.from_arrays([f"b{i}" for i in range(n)], y)
    return a, b, unit(x), unit(y)


def test_by_hand():
    """Axes of the plane: a east, b north, c west, d north too; pairs a-b and c-d, at temperature 1."""
    table = EmbeddingTable.from_arrays(list("abcd"), [[2, 0], [0, 1], [-1, 0], [0, 3]])
    subject = Subject(table, dataset=positives([("a", "b"), ("c", "d"), ("a", "a"), ("a", "nobody")]))
    measures, found = measured(subject, temperature=1.0, batch=2, cuts=(1,))
    got = values_of(measures)
    assert got["alignment"] == pytest.approx(2)  # right angles
    assert got["infonce"] == pytest.approx(np.log(2))  # every similarity is 0
    assert got["infonce_in_batch"] == pytest.approx(np.log(2))
    # East and west are 4 apart (squared), both norths are one point.
    assert got["uniformity/a"] == pytest.approx(-8)
    assert got["uniformity/b"] == pytest.approx(0)
    assert got["uniformity"] == pytest.approx(-4)
    assert got["modality_gap"] == pytest.approx(1)  # the mean of the a is 0, of the b north
    # Both norths tie: the first row wins, and is right for one of the two.
    assert (got["recall@1/a-to-b"], got["recall@1/b-to-a"]) == (0.5, 0.5)
    assert (got["coverage"], measures["coverage"].n, measures["alignment"].n) == (0.5, 4, 2)
    assert found.items.to_pydict() == {
        "item": ["a|b", "c|d"],
        "alignment": [pytest.approx(2)] * 2,
        "infonce": [pytest.approx(np.log(2))] * 2,
    }


@pytest.mark.oracle
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_infonce_against_torch(temperature, monkeypatch, oracle):
    """Cross entropy of the similarity matrix and of its transpose, in one block or many."""
    torch = pytest.importorskip("torch")
    a, b, x, y = two_sides()
    subject = Subject(a, dataset=positives([(f"a{i}", f"b{i}") for i in range(120)], b))
    logits = torch.tensor(x @ y.T / temperature)
    own = torch.arange(len(x))
    there, back = (torch.nn.functional.cross_entropy(m, own).item() for m in (logits, logits.T))
    for block in (alignment._BLOCK, 500):
        monkeypatch.setattr(alignment, "_BLOCK", block)
        measures, found = measured(subject, temperature=temperature)
        ours = [measures[f"infonce{way}"].value for way in ("/a-to-b", "/b-to-a", "")]
        oracle.agrees("torch", "alignment.infonce", ours, [there, back, (there + back) / 2], rtol=1e-12)
        assert np.mean(found.items["infonce"].to_pylist()) == pytest.approx(measures["infonce"].value)
        assert measures["infonce"].low < measures["infonce"].value < measures["infonce"].high
    (absent,) = [f for f in found.absent if f.metric == "infonce_in_batch"]
    assert "120 pairs do not fill a batch of 256" in absent.reason


@pytest.mark.oracle
def test_infonce_in_batches_against_torch(oracle):
    """Batches are random: the mean over 200 others of one size is met within four standard errors."""
    torch = pytest.importorskip("torch")
    a, b, x, y = two_sides()
    subject = Subject(a, dataset=positives([(f"a{i}", f"b{i}") for i in range(120)], b))
    for size in (7, 32, 60, 120):
        # Within the spread of many random batches.
        got = measured(subject, batch=size)[0]["infonce_in_batch"]
        assert got.n == 120 // size * size
        losses = []
        for order in np.random.default_rng(1).permuted(np.tile(np.arange(120), (200, 1)), axis=1):
            chosen = order[:size]
            logits, own = torch.tensor(x[chosen] @ y[chosen].T / 0.07), torch.arange(size)
            pair = [torch.nn.functional.cross_entropy(m, own).item() for m in (logits, logits.T)]
            losses.append(np.mean(pair))
        spread = np.std(losses) / np.sqrt(120 // size)
        oracle.agrees(
            "torch", "alignment.infonce_in_batch[random batches]", got.value, np.mean(losses),
            atol=4 * spread + 1e-9, why="the mean of 200 other batches: four standard errors",
        )  # fmt: skip
    oracle.agrees("torch", "alignment.infonce_in_batch", got.value, losses[0], rtol=1e-12)
    assert got.value == pytest.approx(measured(subject)[0]["infonce"].value, rel=1e-12)


WANG = "formula of Wang & Isola 2020, section 4.1.2"
LIANG = "formula of Liang et al. 2022, section 2.1"
RADFORD = "formula of Radford et al. 2021, section 3.1"


@pytest.mark.oracle
def test_the_rest_against_dense_numpy(oracle):
    a, b, x, y = two_sides()
    subject = Subject(a, dataset=positives([(f"a{i}", f"b{i}") for i in range(120)], b))
    measures, found = measured(subject)
    got = values_of(measures)
    oracle.agrees(
        WANG, "alignment.alignment", got["alignment"], np.mean(np.sum((x - y) ** 2, axis=1)), rtol=1e-12
    )
    gap = np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))
    oracle.agrees(LIANG, "alignment.modality_gap", got["modality_gap"], gap, rtol=1e-12)
    off = ~np.eye(120, dtype=bool)
    sides = []
    for u in (x, y):
        squares = np.sum((u[:, None] - u[None]) ** 2, axis=2)
        sides.append(np.log(np.exp(-2 * squares[off]).mean()))
    ours = [got["uniformity/a"], got["uniformity/b"], got["uniformity"]]
    oracle.agrees(WANG, "alignment.uniformity", ours, [*sides, np.mean(sides)], rtol=1e-12)
    scores = x @ y.T
    for way, m in (("a-to-b", scores), ("b-to-a", scores.T)):
        ranks = (m > np.diag(m)[:, None]).sum(axis=1) + 1
        for k in (1, 5, 10):
            oracle.agrees(RADFORD, "alignment.recall@k", got[f"recall@{k}/{way}"], np.mean(ranks <= k))
    assert 0.2 < got["recall@1/a-to-b"] < got["recall@10/a-to-b"] <= 1
    for name, m in measures.items():
        assert m.low <= m.value <= m.high, name
    assert found.items.num_rows == 120


def capitals(parsed, words, vectors):
    """Countries and their capitals among words, as pairs and as unit rows of both sides."""
    place = {word: i for i, word in enumerate(words)}
    pairs = {(r["a"].lower(), r["b"].lower()) for r in parsed if r["section"] == "capital-world"}
    kept = sorted(pair for pair in pairs if place.keys() >= set(pair))
    a, b = (unit(vectors[[place[pair[side]] for pair in kept]]) for side in (0, 1))
    return kept, a, b


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["GloVe", "random"])
def test_the_published_code_in_torch_and_scikit_learn(data, request, oracle):
    """``align_loss`` and ``uniform_loss`` of Wang & Isola, cross entropy, and neighbours by scikit-learn."""
    torch = pytest.importorskip("torch")
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is an oracle of this suite")
    if data == "GloVe":
        words, vectors = request.getfixturevalue("glove_rows")(30_000)
        asked = parse(request.getfixturevalue("gensim_data") / "questions-words.txt", "analogies").to_pylist()
        pairs, x, y = capitals(asked, words, vectors)
        subject = Subject(EmbeddingTable.from_arrays(words, vectors), dataset=positives(pairs))
    else:
        a, b, x, y = two_sides(n=90, dim=3)
        subject = Subject(a, dataset=positives([(f"a{i}", f"b{i}") for i in range(90)], b))
    assert len(x) > 80
    got = values_of(measured(subject, batch=len(x))[0])
    p, q = torch.tensor(x), torch.tensor(y)
    logits, own = p @ q.T / 0.07, torch.arange(len(x))
    losses = [torch.nn.functional.cross_entropy(m, own).item() for m in (logits, logits.T)]
    sides = [torch.pdist(u, p=2).pow(2).mul(-2).exp().mean().log().item() for u in (p, q)]
    wanted = {
        "alignment": (p - q).norm(p=2, dim=1).pow(2).mean().item(),
        "uniformity/a": sides[0],
        "uniformity/b": sides[1],
        "uniformity": np.mean(sides),
        "infonce": np.mean(losses),
        "infonce_in_batch": np.mean(losses),
        "modality_gap": (p.mean(dim=0) - q.mean(dim=0)).norm().item(),
    }
    for name, theirs in wanted.items():
        metric = f"alignment.{name.partition('/')[0]}"
        oracle.agrees("torch", metric, got[name], theirs, rtol=1e-9, data=data)
    for way, asking, answering in (("a-to-b", x, y), ("b-to-a", y, x)):
        model = neighbors.NearestNeighbors(metric="cosine", algorithm="brute").fit(answering)
        found = model.kneighbors(asking, n_neighbors=10, return_distance=False)
        for k in (1, 5, 10):
            hit = np.mean((found[:, :k] == np.arange(len(x))[:, None]).any(axis=1))
            oracle.agrees("scikit-learn", "alignment.recall@k", got[f"recall@{k}/{way}"], hit, data=data)


def test_intervals_hold_the_truth():
    """Those of 40 samples of 150 pairs hold the value of all 2,000, but for one in six at most."""
    a, b, *_ = two_sides(n=2000, dim=4, seed=5)
    pairs = [(f"a{i}", f"b{i}") for i in range(2000)]

    def run_on(rows):
        data = positives([pairs[i] for i in rows], b)
        return measured(Subject(a, dataset=data), cuts=(1,))[0]

    truth = run_on(range(2000))
    rng = np.random.default_rng(0)
    names = ("alignment", "modality_gap", "uniformity/a", "uniformity")
    held = dict.fromkeys(names, 0)
    for _ in range(40):
        got = run_on(rng.choice(2000, 150, replace=False))
        for name in names:
            held[name] += got[name].low <= truth[name].value <= got[name].high
    assert min(held.values()) >= 34, held


def test_a_row_is_no_negative_of_itself():
    """In a table that holds both sides a row may stand on both: among the candidates it is left out."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 5))
    table = EmbeddingTable.from_arrays([f"r{i}" for i in range(20)], x)
    pairs = [(i, i + 1) for i in range(19)] + [(5, 9), (9, 2)]
    subject = Subject(table, dataset=positives([(f"r{i}", f"r{j}") for i, j in pairs]))
    got = values_of(measured(subject, temperature=0.2)[0])
    u, (left, right) = unit(x), np.array(pairs).T
    logits = u[left] @ u[right].T / 0.2
    logits[left[:, None] == right] = -np.inf
    sums = [np.log(np.exp(m).sum(axis=1)) - np.diag(m) for m in (logits, logits.T)]
    assert got["infonce/a-to-b"] == pytest.approx(sums[0].mean(), rel=1e-6)
    assert got["infonce/b-to-a"] == pytest.approx(sums[1].mean(), rel=1e-6)
    for way, (asking, answering) in (("a-to-b", (left, right)), ("b-to-a", (right, left))):
        for k in (1, 5, 10):
            hits = []
            for row in np.unique(asking):
                others = np.setdiff1d(answering, [row])
                nearest = others[np.argsort(-(u[others] @ u[row]), kind="stable")[:k]]
                hits.append(bool(np.isin(answering[asking == row], nearest).any()))
            assert got[f"recall@{k}/{way}"] == np.mean(hits), (way, k)


def test_several_partners():
    """Any of them counts for recall; distinct rows are what uniformity is of; InfoNCE says so."""
    a, b, _, _ = two_sides(n=40)
    pairs = [(f"a{i // 2}", f"b{i}") for i in range(40)]
    measures, found = measured(Subject(a, dataset=positives(pairs, b)))
    assert measures["recall@5/a-to-b"].n == 20
    assert measures["recall@5/b-to-a"].n == 40
    assert measures["uniformity/a"].n == 20
    assert measures["alignment"].n == 40
    assert any("20 ids stand in further pairs" in note for note in found.notes)


def test_at_most_so_many_pairs_and_the_same_for_every_version():
    a, b, _, _ = two_sides()
    pairs = [(f"a{i}", f"b{i}") for i in range(120)]
    measures, found = measured(Subject(a, dataset=positives(pairs, b)), most_pairs=50)
    assert measures["alignment"].n == found.items.num_rows == 50
    assert measures["coverage"].value == 1
    assert any("50 of 120 pairs" in note for note in found.notes)
    order = np.random.default_rng(0).permutation(120)
    other = EmbeddingTable.from_arrays([f"a{i}" for i in order], a.vectors[order])
    _, again = measured(Subject(other, dataset=positives(pairs[::-1], b)), most_pairs=50)
    assert set(again.items["item"].to_pylist()) == set(found.items["item"].to_pylist())


def test_too_few_candidates_and_pairs_are_said():
    table = EmbeddingTable.from_arrays(list("abc"), np.eye(3))
    measures, found = measured(Subject(table, dataset=positives([("a", "b")])))
    assert set(values_of(measures)) == {"alignment", "modality_gap", "coverage"}
    reasons = {(a.metric, a.labels.get("direction", "")): a.reason for a in found.absent}
    assert "single pair" in reasons["infonce", ""]
    assert "single row" in reasons["uniformity", ""]
    assert "every one is among the first 10" in reasons["recall@10", "a-to-b"]
    assert found.items["infonce"].null_count == 1


def test_nothing_to_measure():
    table = EmbeddingTable.from_arrays(list("abc"), [[1, 0], [0, 0], [0, 1]])
    wide = EmbeddingTable.from_arrays(list("abc"), np.eye(3))
    for dataset, reason in (
        (None, "needs a dataset"),
        (positives([("a", "a"), ("a", "b"), ("a", "x")]), "in none of the 3 pairs"),
        (positives([("a", "c")], wide), "the sides have 2 and 3 dimensions"),
    ):
        with pytest.raises(Skipped, match=reason):
            measured(Subject(table, dataset=dataset))


def test_carried_vectors_win_over_rows_of_the_same_id():
    table = EmbeddingTable.from_arrays(list("ab"), [[1, 0], [0, 1]])
    other = EmbeddingTable.from_arrays(list("ab"), [[1, 0], [-1, 0]])
    measures, _ = measured(Subject(table, dataset=positives([("a", "a"), ("b", "b")], other)), cuts=(1,))
    assert measures["alignment"].value == pytest.approx((0 + 2) / 2)
    assert measures["coverage"].value == 1


@given(seed=st.integers(0, 1000), power=st.integers(-3, 3))
@settings(deadline=None, max_examples=15)
def test_rotation_scale_and_order_of_rows_do_not_matter(seed, power):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 5))
    turn, order = np.linalg.qr(rng.normal(size=(5, 5)))[0], rng.permutation(60)
    ids = [f"r{i}" for i in range(60)]
    pairs = [(f"r{i}", f"r{i + 30}") for i in range(30)]

    def values(names, rows):
        table = EmbeddingTable.from_arrays(names, rows)
        return values_of(measured(Subject(table, dataset=positives(pairs)))[0])

    moved = values([ids[i] for i in order], (x @ turn * 10.0**power)[order])
    assert moved == pytest.approx(values(ids, x), abs=1e-5)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_any_table_gives_values_or_a_reason(data):
    rows, dim = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 3))
    number = st.sampled_from([0.0, 1.0, -1.0, 1e30, -3e30, 1e-38, 1e-45, 0.3])
    x = np.array(data.draw(st.lists(number, min_size=rows * dim, max_size=rows * dim)), dtype=np.float32)
    table = EmbeddingTable.from_arrays([f"r{i}" for i in range(rows)], x.reshape(rows, dim))
    ids = st.sampled_from([f"r{i}" for i in range(8)])
    pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=12))
    temperature = data.draw(st.sampled_from([1e-6, 0.07, 1e6]))
    try:
        measures, found = measured(Subject(table, dataset=positives(pairs)), batch=2, temperature=temperature)
    except Skipped as skipped:
        assert str(skipped)
        return
    for name, m in measures.items():
        metric = SUITE.metric(m.metric)
        assert metric.low <= m.value, name
        assert metric.high is None or m.value <= metric.high, name
    told = {m.metric for m in found.measures} | {a.metric for a in found.absent}
    assert {"infonce", "infonce_in_batch", "alignment", "uniformity", "modality_gap", "recall@10"} <= told


def test_refusals():
    for bad in ({"temperature": 0.0}, {"temperature": float("nan")}, {"batch": 1}, {"most_pairs": 1},
                {"cuts": ()}, {"cuts": (0,)}):  # fmt: skip
        with pytest.raises(UsageError):
            Params(**bad)
