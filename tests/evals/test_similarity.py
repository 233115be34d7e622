"""The similarity suite: by hand, against scipy and gensim, and the published figures on GloVe.

gensim sums in float32, here in float64: the correlations differ by less than 1e-6.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Findings, Skipped
from embreg.evals.suites.similarity import SUITE, Params, run
from embreg.registry.datasets import SCHEMAS, parse
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable


def pairs(*rows: tuple[str, str, float]) -> DatasetTable:
    filled = [{"a": a, "b": b, "score": score} for a, b, score in rows]
    table = pa.Table.from_pylist(filled, schema=SCHEMAS["pairs"])
    return DatasetTable(name="toy", kind="pairs", rows=table)


def measure(ids, vectors, dataset: DatasetTable, **params) -> Findings:
    subject = Subject(EmbeddingTable.from_arrays(ids, vectors), dataset=dataset)
    return run(subject, Params(**params), np.random.default_rng(0))


def values(findings: Findings) -> dict[str, float]:
    return {m.metric: m.value for m in findings.measures}


IDS = ["e", "n", "ne", "w"]
ROWS = np.array([[2, 0], [0, 1], [3, 3], [-1, 0]], dtype=np.float32)


def test_by_hand():
    found = measure(
        IDS, ROWS, pairs(("e", "n", 2), ("e", "ne", 3), ("e", "w", 1), ("n", "ne", 3), ("e", "x", 9))
    )
    # Cosines 0, .7071, -1, .7071; ranks (2, 3.5, 1, 3.5) on both sides.
    assert values(found)["spearman"] == pytest.approx(1.0)
    x, y = np.array([2, 3, 1, 3.0]), np.array([0, 0.5**0.5, -1, 0.5**0.5])
    assert values(found)["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert values(found)["coverage"] == 0.8
    assert {m.metric: m.n for m in found.measures} == {"coverage": 5, "spearman": 4, "pearson": 4}
    assert found.items.column("item").to_pylist() == ["e|n", "e|ne", "e|w", "n|ne", "e|x"]
    assert found.items.column("predicted").to_pylist() == [
        pytest.approx(0), pytest.approx(0.5**0.5), -1.0, pytest.approx(0.5**0.5), None
    ]  # fmt: skip


def test_what_has_no_correlation_is_absent():
    equal = measure(IDS, ROWS, pairs(("e", "n", 5), ("e", "ne", 5), ("e", "w", 5)))
    assert {a.metric: a.reason for a in equal.absent} == {
        "spearman": "all 3 scores are equal",
        "pearson": "all 3 scores are equal",
    }
    ids, rows = [f"w{i}" for i in range(30)], np.random.default_rng(0).standard_normal((30, 7))
    same = measure(ids, rows, pairs(*((i, i, float(n)) for n, i in enumerate(ids))))
    assert [a.reason for a in same.absent] == ["all 30 cosines are equal"] * 2
    two = measure(IDS, ROWS, pairs(("e", "n", 1), ("e", "ne", 2), ("e", "x", 3)))
    assert [a.metric for a in two.absent] == ["spearman", "pearson"]
    assert "at least 3" in two.absent[0].reason
    assert values(two) == {"coverage": pytest.approx(2 / 3)}


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scores_of_any_size(scale):
    plain = measure(IDS, ROWS, pairs(("e", "n", 2), ("e", "ne", 3), ("e", "w", 1), ("n", "w", 1)))
    scaled = pairs(("e", "n", 2 * scale), ("e", "ne", 3 * scale), ("e", "w", scale), ("n", "w", scale))
    assert values(measure(IDS, ROWS, scaled)) == pytest.approx(values(plain))


def test_nothing_to_measure_is_skipped():
    with pytest.raises(Skipped, match="none of the 1 pairs of 'toy'"):
        measure(IDS, ROWS, pairs(("x", "y", 1)))
    with pytest.raises(Skipped, match="needs a dataset"):
        run(Subject(EmbeddingTable.from_arrays(IDS, ROWS)), Params(), np.random.default_rng(0))
    with pytest.raises(UsageError):
        Params(restrict_vocab=-1)


def test_case_restriction_and_rows_of_zeros():
    ids, rows = ["E", "e", "n", "ne", "zero"], np.vstack([ROWS[3], ROWS[:3], np.zeros(2)])
    dataset = pairs(("e", "ne", 1), ("e", "N", 2), ("e", "zero", 3))
    folded = measure(ids, rows, dataset).items.column("predicted").to_pylist()
    assert folded == [pytest.approx(-(0.5**0.5)), pytest.approx(0), None]
    exact = measure(ids, rows, dataset, case_fold=False).items.column("predicted").to_pylist()
    assert exact == [pytest.approx(0.5**0.5), None, None]
    few = measure(ids, rows, dataset, restrict_vocab=3).items.column("predicted").to_pylist()
    assert few == [None, pytest.approx(0), None]


def test_equal_pairs_stay_apart_as_items():
    found = measure(IDS, ROWS, pairs(("e", "n", 1), ("e", "n", 2), ("e", "ne", 3)))
    assert found.items.column("item").to_pylist() == ["e|n", "e|n #2", "e|ne"]


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["wordsim353.tsv", "simlex999.txt"])
@pytest.mark.parametrize("fold", [True, False])
def test_gensim_agrees_on_glove(name, fold, packaged, glove_rows, oracle):
    gensim = pytest.importorskip("gensim", reason="gensim is the oracle of this suite")
    ids, vectors = glove_rows(10_000)
    path = packaged("gensim", f"gensim/test/test_data/{name}")
    keyed = gensim.models.KeyedVectors(50)
    keyed.add_vectors(ids, vectors)
    pearson, spearman, missing = keyed.evaluate_word_pairs(
        str(path), restrict_vocab=9_000, case_insensitive=fold
    )
    dataset = DatasetTable(name=name, kind="pairs", rows=parse(path, "pairs"))
    found = measure(ids, vectors, dataset, restrict_vocab=9_000, case_fold=fold)
    for metric, theirs in (
        ("pearson", pearson[0]),
        ("spearman", spearman[0]),
        ("coverage", 1 - missing / 100),
    ):
        oracle.agrees(
            "gensim", f"similarity.{metric}", values(found)[metric], theirs, atol=1e-6, data="GloVe",
            why="" if metric == "coverage" else "float32 sums",
        )  # fmt: skip
    assert 0 < missing < 50


@pytest.mark.known_answer
def test_gensim_knows_its_own_vectors(packaged, known):
    gensim = pytest.importorskip("gensim", reason="gensim reads this file")
    source = packaged("gensim", "gensim/test/test_data/euclidean_vectors.bin")
    path = packaged("gensim", "gensim/test/test_data/wordsim353.tsv")
    keyed = gensim.models.KeyedVectors.load_word2vec_format(str(source), binary=True)
    dataset = DatasetTable(name="ws", kind="pairs", rows=parse(path, "pairs"))
    found = measure(keyed.index_to_key, keyed.vectors, dataset)
    got = values(found)
    known.answer("gensim's test vectors: WordSim353, Pearson", ".24425", got["pearson"])
    known.answer("gensim's test vectors: WordSim353, Spearman", ".27360", got["spearman"])
    known.answer(
        "gensim's test vectors: WordSim353, out of vocabulary", "69.12%", 100 - 100 * got["coverage"]
    )


def test_known_answers_on_the_whole_of_glove(packaged, glove_rows):
    subject = EmbeddingTable.from_arrays(*glove_rows(400_000))
    for name, expected in (("wordsim353.tsv", 0.5033), ("simlex999.txt", 0.2646)):
        rows = parse(packaged("gensim", f"gensim/test/test_data/{name}"), "pairs")
        dataset = DatasetTable(name=name, kind="pairs", rows=rows)
        found = run(Subject(subject, dataset=dataset), Params(), np.random.default_rng(0))
        assert values(found)["spearman"] == pytest.approx(expected, abs=5e-5)
        assert values(found)["coverage"] == 1.0
        spearman = next(m for m in found.measures if m.metric == "spearman")
        z, half = np.arctanh(spearman.value), 1.959964 / np.sqrt(spearman.n - 3)
        assert (spearman.low, spearman.high) == pytest.approx(
            (np.tanh(z - half), np.tanh(z + half)), abs=1e-6
        )


@pytest.mark.oracle
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 30))
def test_scipy_agrees_and_geometry_does_not_matter(oracle, seed, n):
    rng = np.random.default_rng(seed)
    ids = [f"w{i}" for i in range(8)]
    x = rng.standard_normal((8, 4))
    # Few distinct scores and repeated pairs: ties on both sides.
    drawn = [(*rng.choice(ids, 2, replace=False), float(rng.integers(0, 4))) for _ in range(n)]
    drawn[0], drawn[1] = (*drawn[0][:2], -1.0), (*drawn[1][:2], 5.0)
    dataset = pairs(*drawn)
    found = measure(ids, x.astype(np.float32), dataset)
    scores = np.array([score for *_, score in drawn])
    cosines = found.items.column("predicted").to_numpy()
    if np.ptp(cosines) > 1e-9:
        for metric, theirs in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
            own = values(found)[metric]
            oracle.agrees("scipy", f"similarity.{metric}", own, theirs(scores, cosines)[0], atol=1e-12)
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    scaled = x @ rotation * rng.uniform(0.1, 9, (8, 1))
    order = rng.permutation(8)
    moved = measure([ids[i] for i in order], scaled[order].astype(np.float32), dataset)
    assert values(moved) == pytest.approx(values(found), abs=2e-6)


def test_contract():
    vectors = ROWS.copy()
    dataset = pairs(("e", "n", 2), ("e", "ne", 3), ("e", "w", 1))
    first, second = measure(IDS, vectors, dataset), measure(IDS, vectors, dataset)
    assert first.measures == second.measures
    assert np.array_equal(vectors, ROWS)
    assert {m.metric for m in first.measures} == {m.name for m in SUITE.metrics}


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 10),
    dim=st.integers(1, 3),
    kind=st.sampled_from(["random", "equal", "zero", "huge", "tiny", "mixed", "signs"]),
    seed=st.integers(0, 1000),
)
def test_no_table_gives_nan_or_a_warning(rows, dim, kind, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, dim))
    if kind == "equal":
        x[:] = x[0]
    elif kind == "mixed":
        x *= 10.0 ** rng.integers(-44, 37, (rows, 1))
        x[rng.integers(rows)] = 0
    elif kind == "signs":
        x = np.sign(x)
    x = (x * {"huge": 1e30, "tiny": 1e-42, "zero": 0.0}.get(kind, 1.0)).astype(np.float32)
    ids = [f"w{i}" for i in range(10)]
    drawn = [(*rng.choice(ids, 2), float(rng.integers(0, 4))) for _ in range(12)]
    try:
        found = measure(ids[:rows], x, pairs(*drawn))
    except Skipped:
        return
    # What is no number is told as absent: every metric is one or the other.
    assert {m.metric for m in found.measures} | {a.metric for a in found.absent} == {
        m.name for m in SUITE.metrics
    }
    for m in found.measures:
        assert SUITE.metric(m.metric).low <= m.value <= 1
        assert m.low is None or -1 <= m.low <= m.value <= m.high <= 1
