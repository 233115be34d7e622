"""Retrieval: by hand, against trec_eval, and where queries, items or rows are missing."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings

from embreg.evals import knn
from embreg.evals.runner import check_findings
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites import retrieval
from embreg.evals.suites.retrieval import SUITE, Params, run
from embreg.registry.datasets import SCHEMAS, with_vectors
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space


def qrels(*rows, vectors=None):
    table = pa.table([list(c) for c in zip(*rows, strict=True)], schema=SCHEMAS["qrels"])
    if vectors is not None:
        table = with_vectors(table, "qrels", vectors)
    return DatasetTable(name="judged", kind="qrels", rows=table)


def measured(subject, **params):
    found = run(subject, Params(**params), np.random.default_rng(0))
    check_findings(SUITE, found)
    return {m.metric: m for m in found.measures}, found


def values_of(measures):
    return {name: m.value for name, m in measures.items()}


def line(space=None):
    """Rows on a line, by distance: a 0, b 1, c 3, d 7, e 15."""
    x = np.array([[0.5], [1.5], [3.5], [7.5], [15.5]])
    return EmbeddingTable.from_arrays(list("abcde"), x, space=space or Space(dim=1, metric="l2"))


def test_by_hand():
    """Query a ranks b c d e; c (2) and e (1) are relevant, b is not."""
    judged = qrels(("a", "b", 0), ("a", "c", 2), ("a", "e", 1), ("e", "d", 1))
    measures, found = measured(Subject(line(), dataset=judged), k=3, cuts=(1, 2))
    got = values_of(measures)
    ideal = 2 / np.log2(2) + 1 / np.log2(3)
    assert found.items.to_pydict() == {
        "item": ["a", "e"],
        "relevant": [2, 1],
        "ndcg": [pytest.approx(2 / np.log2(3) / ideal), 1],
        "recall": [0.5, 1],
        "hit": [1, 1],
        "reciprocal_rank": [0.5, 1],
        "average_precision": [pytest.approx((1 / 2 + 2 / 4) / 2), 1],
        "first_rank": [2, 1],
    }
    assert got["map"] == pytest.approx(0.75)
    assert got["mrr@3"] == 0.75
    assert (got["recall@1"], got["recall@2"], got["recall@3"]) == (0.5, 0.75, 0.75)
    assert (got["hit@1"], got["hit@2"], got["hit@3"]) == (0.5, 1, 1)
    assert (got["coverage"], got["item_coverage"], got["queries_without_relevant"]) == (1, 1, 0)
    assert measures["ndcg@3"].n == 2
    assert measures["hit@1"].low < 0.5 < measures["hit@1"].high
    assert "mrr@2" not in got


def test_what_is_missing_is_counted():
    """An unknown query, one without a relevant item, one judged by itself only, an unknown item."""
    judged = qrels(
        ("a", "b", 1), ("a", "nothing", 1),
        ("nobody", "b", 1),
        ("c", "b", 0), ("c", "d", -2),
        ("d", "d", 1),
        ("e", "e", 3), ("e", "d", 1),
    )  # fmt: skip
    measures, found = measured(Subject(line(), dataset=judged))
    got = values_of(measures)
    assert got["queries_without_relevant"] == 2
    assert (got["coverage"], measures["coverage"].n) == (pytest.approx(2 / 3), 3)
    assert (got["item_coverage"], measures["item_coverage"].n) == (pytest.approx(2 / 3), 3)
    # What cannot be found counts as missed, as in trec_eval.
    assert (got["recall@10"], measures["recall@10"].n) == (0.75, 2)
    assert found.items.column("relevant").to_pylist() == [2, 1, 0, 0, 1]
    assert found.items.column("ndcg").to_pylist() == [
        pytest.approx(1 / (1 + 1 / np.log2(3))), None, None, None, 1,
    ]  # fmt: skip
    assert found.items.column("first_rank").null_count == 3


def test_nothing_to_measure():
    for judged, reason in (
        (None, "needs a dataset"),
        (qrels(("a", "b", 0), ("c", "d", -1)), "none of the 2 queries has a relevant item"),
        (qrels(("a", "a", 1)), "none of the 1 queries has a relevant item"),
        (qrels(("x", "b", 1), ("y", "b", 1)), "none of the 2 queries with a relevant item is a row"),
        (qrels(("a", "x", 1), ("b", "y", 2)), "none of the 2 relevant items is a row"),
    ):
        with pytest.raises(Skipped, match=reason):
            measured(Subject(line(), dataset=judged))


def test_rows_of_zeros_neither_ask_nor_answer():
    x = np.array([[1, 0], [0, 0], [1, 0.1], [0, 1]])
    subject = Subject(EmbeddingTable.from_arrays(list("abcd"), x))
    measures, _ = measured(
        subject.with_(dataset=qrels(("a", "b", 1), ("a", "c", 1), ("b", "a", 1))), cuts=(1,)
    )
    got = values_of(measures)
    assert (got["coverage"], got["item_coverage"], got["recall@10"]) == (0.5, 0.5, 0.5)


def test_ties_are_broken_by_row():
    table = EmbeddingTable.from_arrays(list("abcd"), np.ones((4, 3)))
    for item, rank in (("a", 1), ("b", 2), ("d", 3)):
        _, found = measured(Subject(table, dataset=qrels(("c", item, 1))))
        assert found.items.column("first_rank").to_pylist() == [rank]


def test_queries_with_vectors_of_their_own():
    """They may find the row of their own id, unless told otherwise; ids without a vector are not asked."""
    queries = EmbeddingTable.from_arrays(["a", "q"], np.array([[7.4], [0.4]]))
    judged = qrels(("a", "a", 1), ("q", "a", 1), ("q", "c", 1), ("lost", "a", 1), vectors=queries)
    subject = Subject(line(), dataset=judged)
    measures, found = measured(subject)
    assert found.items.to_pydict()["first_rank"] == [4, 1, None]
    assert measures["coverage"].value == pytest.approx(2 / 3)
    assert measures["map"].value == pytest.approx((1 / 4 + (1 + 2 / 3) / 2) / 2)
    measures, found = measured(subject, ignore_same_id=True)
    assert found.items.to_pydict()["first_rank"] == [None, 1, None]
    assert measures["queries_without_relevant"].value == 1
    wide = EmbeddingTable.from_arrays(["a"], np.ones((1, 2)))
    with pytest.raises(Skipped, match="the queries have 2 dimensions, the rows 1"):
        measured(Subject(line(), dataset=qrels(("a", "b", 1), vectors=wide)))


def test_queries_that_are_rows_and_others_go_equally_deep():
    """The fourth and last row that q can find, while a can find only three."""
    queries = EmbeddingTable.from_arrays(["a", "q"], np.array([[0.5], [0.5]]))
    table = EmbeddingTable.from_arrays(list("abcd"), line().vectors[:4], space=Space(dim=1, metric="l2"))
    judged = qrels(("q", "d", 1), ("a", "d", 1), vectors=queries)
    _, found = measured(Subject(table, dataset=judged), ignore_same_id=True)
    assert found.items.column("first_rank").to_pylist() == [4, 3]


def random_case(seed, *, rows=300, queries=40, metric="cosine"):
    """Judgements of three grades on clustered rows; some queries and items are unknown."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6)) + 2 * rng.standard_normal((8, 6))[rng.integers(8, size=rows)]
    table = EmbeddingTable.from_arrays([f"r{i}" for i in range(rows)], x, space=Space(dim=6, metric=metric))
    near = knn.self_neighbors(table.vectors, 30, metric).rows
    judged = {}
    for q in range(queries):
        for item in {*near[q, rng.integers(30, size=4)].tolist(), *rng.integers(rows + 20, size=6).tolist()}:
            if item != q:
                judged[f"r{q}", f"r{item}"] = int(rng.integers(-1, 4))
    judged |= {("unknown", "r1"): 1, ("r299", "r3"): 0}
    return table, [(q, item, grade) for (q, item), grade in judged.items()]


def run_of(table, judged, depth):
    """Return the ranking of every query that is a row as trec_eval takes it: scores strictly descending."""
    asked = sorted({q for q, _, _ in judged if q != "unknown"})
    rows = table.lookup(asked)
    depth = min(depth, table.rows - 1)
    found = knn.neighbors(
        table.vectors[rows], table.vectors, depth, table.space.metric, exclude=rows[:, None]
    )
    return {
        q: {item: float(depth - i) for i, item in enumerate(table.ids_of(answers))}
        for q, answers in zip(asked, found.rows, strict=True)
    }


def told_by_trec_eval(table, judged, depth):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is an oracle of this suite")
    nested = {}
    for q, item, grade in judged:
        nested.setdefault(q, {})[item] = grade
    wanted = {"ndcg_cut_10", "recall_10", "success_10", "recip_rank", "map"}
    return pytrec_eval.RelevanceEvaluator(nested, wanted).evaluate(run_of(table, judged, depth))


@pytest.mark.oracle
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("depth", [100, 1000])
def test_against_trec_eval(metric, depth, oracle):
    """pytrec_eval (bindings of trec_eval 9) agrees to 1e-12 in every metric of every query.

    Its reciprocal rank knows no cut: the ranks within ours are compared.
    """
    table, judged = random_case(1, metric=metric)
    _, found = measured(Subject(table, dataset=qrels(*judged)), depth=depth)
    told = told_by_trec_eval(table, judged, depth)
    scored = found.items.filter(pc.is_valid(found.items.column("ndcg"))).to_pylist()
    assert len(scored) >= 35
    compare_with_trec_eval(oracle, scored, told)
    for row in scored:
        first = row["first_rank"]
        assert told[row["item"]]["recip_rank"] == pytest.approx(1 / first if first else 0)
        assert row["reciprocal_rank"] == (1 / first if first and first <= 10 else 0)


#: Column of the items, and what trec_eval calls it.
NAMES = (
    ("ndcg@k", "ndcg", "ndcg_cut_10"),
    ("recall@k", "recall", "recall_10"),
    ("hit@k", "hit", "success_10"),
    ("map", "average_precision", "map"),
)


def compare_with_trec_eval(oracle, scored, told, data="random"):
    for metric, column, name in NAMES:
        ours, theirs = [row[column] for row in scored], [told[row["item"]][name] for row in scored]
        oracle.agrees("pytrec-eval-terrier", f"retrieval.{metric}", ours, theirs, atol=1e-12, data=data)
    near = [row for row in scored if row["first_rank"] and row["first_rank"] <= 10]
    oracle.agrees(
        "pytrec-eval-terrier", "retrieval.mrr@k", [row["reciprocal_rank"] for row in near],
        [told[row["item"]]["recip_rank"] for row in near], atol=1e-12, data=data,
        why="of queries answered within the cut: trec_eval has none",
    )  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("k", [1, 5, 10])
def test_against_ir_measures(k, oracle):
    """Its RR@k is that of MS MARCO, computed by itself; the others it asks of trec_eval."""
    ir_measures = pytest.importorskip(
        "ir_measures", reason="ir-measures is an oracle: install embreg[oracles]"
    )
    table, judged = random_case(3)
    measures, found = measured(Subject(table, dataset=qrels(*judged)), k=k, cuts=(1,), depth=100)
    scored = found.items.filter(pc.is_valid(found.items.column("ndcg"))).column("item").to_pylist()
    judgements = [ir_measures.Qrel(q, item, grade) for q, item, grade in judged if q in scored]
    ranked = [
        ir_measures.ScoredDoc(q, item, score)
        for q, answers in run_of(table, judged, 100).items()
        for item, score in answers.items()
        if q in scored
    ]
    names = {"mrr": "RR", "ndcg": "nDCG", "recall": "R", "hit": "Success"}
    wanted = {name: ir_measures.parse_measure(f"{theirs}@{k}") for name, theirs in names.items()}
    told = ir_measures.calc_aggregate(wanted.values(), judgements, ranked)
    for name, measure in wanted.items():
        own = measures[f"{name}@{k}"].value
        oracle.agrees("ir-measures", f"retrieval.{name}@k", own, told[measure], atol=1e-12)


def plainly(table, judged, k, depth):
    """The same metrics of every query in the plainest form: dictionaries and loops."""
    out = {}
    for q, answers in run_of(table, judged, depth).items():
        gain = {item: grade for asker, item, grade in judged if asker == q and grade > 0}
        if not gain:
            continue
        ranked = [gain.get(item, 0) for item in answers]
        best = sorted(gain.values(), reverse=True)
        dcg, ideal = (sum(g / np.log2(i + 2) for i, g in enumerate(gs[:k])) for gs in (ranked, best))
        hits = [i for i, g in enumerate(ranked, 1) if g]
        out[q] = (
            dcg / ideal,
            sum(i <= k for i in hits) / len(gain),
            float(any(i <= k for i in hits)),
            1 / hits[0] if hits and hits[0] <= k else 0.0,
            sum(n / i for n, i in enumerate(hits, 1)) / len(gain),
            hits[0] if hits else None,
        )
    return out


@pytest.mark.oracle
@pytest.mark.parametrize(("k", "depth"), [(1, 3), (5, 40), (10, 1000)])
def test_against_the_definitions(k, depth, monkeypatch, oracle):
    """In blocks of few queries as in one."""
    table, judged = random_case(2)
    want = plainly(table, judged, k, depth)
    for block in (retrieval._BLOCK, 1000):
        monkeypatch.setattr(retrieval, "_BLOCK", block)
        measures, found = measured(Subject(table, dataset=qrels(*judged)), k=k, cuts=(1,), depth=depth)
        scored = found.items.filter(pc.is_valid(found.items.column("ndcg"))).drop_columns("relevant")
        got = {item: tuple(rest) for item, *rest in zip(*scored.to_pydict().values(), strict=True)}
        assert got.keys() == want.keys()
        for q, values in want.items():
            assert got[q] == pytest.approx(values, abs=1e-12)
        columns = np.array([v[:5] for v in want.values()]).mean(axis=0)
        names = [f"ndcg@{k}", f"recall@{k}", f"hit@{k}", f"mrr@{k}", "map"]
        sources = (
            "Järvelin & Kekäläinen 2002",
            *["Manning et al. 2008"] * 2,
            "Voorhees 1999",
            "Manning et al. 2008",
        )
        for name, source, theirs in zip(names, sources, columns, strict=True):
            metric = f"retrieval.{name.replace(f'@{k}', '@k')}"
            oracle.agrees(f"formula of {source}", metric, measures[name].value, theirs, atol=1e-12)
        assert measures[f"ndcg@{k}"].low < columns[0] < measures[f"ndcg@{k}"].high


@pytest.mark.oracle
def test_glove_finds_what_it_finds(glove_rows, gensim_data, oracle):
    """The words that people find most similar, asked of real vectors; trec_eval agrees on every query."""
    from embreg.registry.datasets import parse

    words, x = glove_rows(20_000)
    pairs = parse(gensim_data / "wordsim353.tsv", "pairs").to_pylist()
    grades = {(p["a"].lower(), p["b"].lower()): max(0, int(p["score"]) - 5) for p in pairs}
    judged = [(a, b, grade) for (a, b), grade in grades.items()]
    table = EmbeddingTable.from_arrays(words, x)
    measures, found = measured(Subject(table, dataset=qrels(*judged)), depth=100)
    got = values_of(measures)
    scored = found.items.filter(pc.is_valid(found.items.column("ndcg"))).to_pylist()
    there = set(words)
    # A query is no answer to itself here; to trec_eval it would be one that is missed.
    told = told_by_trec_eval(table, [j for j in judged if j[0] in there and j[0] != j[1]], 100)
    compare_with_trec_eval(oracle, [row for row in scored if row["item"] in told], told, data="GloVe")
    assert 0.05 < got["ndcg@10"] < got["recall@100"] < 0.9
    assert got["hit@1"] <= got["hit@10"] <= got["hit@100"]
    assert 0.8 < got["coverage"] <= 1


def test_half_precision_rows_and_float_queries():
    table, judged = random_case(4)
    half = EmbeddingTable.from_arrays(table.ids.combine_chunks(), table.vectors.astype(np.float16))
    want, _ = measured(Subject(half, dataset=qrels(*judged)))
    got, _ = measured(Subject(half, dataset=qrels(*judged, vectors=half)), ignore_same_id=True)
    assert values_of(got) == values_of(want)


@given(seed=st.integers(0, 1000), power=st.integers(-3, 3))
@settings(deadline=None, max_examples=15)
def test_rotation_scale_and_order_of_rows_do_not_matter(seed, power):
    table, judged = random_case(seed, rows=60, queries=10)
    rng = np.random.default_rng(seed)
    turn, order = np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.permutation(60)
    ids = np.array(table.ids.to_pylist())[order]
    moved = EmbeddingTable.from_arrays(list(ids), (table.vectors @ turn * 10.0**power)[order])
    shuffled = [judged[i] for i in rng.permutation(len(judged))]
    want, _ = measured(Subject(table, dataset=qrels(*judged)))
    got, _ = measured(Subject(moved, dataset=qrels(*shuffled)))
    assert values_of(got) == pytest.approx(values_of(want), abs=1e-9)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_any_table_gives_values_or_a_reason(data):
    rows, dim = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 3))
    number = st.sampled_from([0.0, 1.0, -1.0, 1e30, -3e30, 1e-38, 1e-45, 0.3])
    x = np.array(data.draw(st.lists(number, min_size=rows * dim, max_size=rows * dim)), dtype=np.float32)
    space = Space(dim=dim, metric=data.draw(st.sampled_from(["cosine", "dot", "l2"])))
    table = EmbeddingTable.from_arrays([f"r{i}" for i in range(rows)], x.reshape(rows, dim), space=space)
    ids = st.sampled_from([f"r{i}" for i in range(8)])
    pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=12, unique=True))
    judged = qrels(*((q, item, data.draw(st.integers(-1, 3))) for q, item in pairs))
    try:
        measures, _ = measured(Subject(table, dataset=judged))
    except Skipped as skipped:
        assert str(skipped)
    else:
        assert all(0 <= m.value <= 1 for name, m in measures.items() if not name.startswith("queries"))


def test_refusals():
    for bad in ({"k": 0}, {"cuts": (0,)}, {"depth": 99}, {"k": 2000}):
        with pytest.raises(UsageError):
            Params(**bad)
