"""The analogies suite: by hand, against gensim, and against the published count on GloVe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Findings, Skipped
from embreg.evals.suites.analogies import SUITE, Params, run
from embreg.registry.datasets import SCHEMAS, parse
from embreg.registry.errors import UsageError
from embreg.registry.tables import EmbeddingTable

gensim = pytest.importorskip("gensim", reason="gensim is the oracle of this suite")


def questions(*rows: tuple[str, str, str, str, list[str]]) -> DatasetTable:
    """Section, a, b, c, answers; a section that starts with ``gram`` is syntactic."""
    filled = [
        {"section": s, "group": "syntactic" if s.startswith("gram") else "semantic",
         "a": a, "b": b, "c": c, "answers": d}
        for s, a, b, c, d in rows
    ]  # fmt: skip
    table = pa.Table.from_pylist(filled, schema=SCHEMAS["analogies"])
    return DatasetTable(name="toy", kind="analogies", rows=table)


def measure(ids, vectors, dataset: DatasetTable, seed: int = 0, **params) -> Findings:
    subject = Subject(EmbeddingTable.from_arrays(ids, vectors), dataset=dataset)
    return run(subject, Params(**params), np.random.default_rng(seed))


def value(findings: Findings, metric: str, **labels: str):
    return next(m for m in findings.measures if m.metric == metric and m.labels == (labels or TOTAL))


TOTAL = {"group": "total"}
# Two directions, royal and female, and one row that only stands in the way.
IDS = ["man", "woman", "king", "queen", "prince", "noise"]
ROWS = np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 2, 0], [-1, 0, 0]], dtype=np.float32)


def test_by_hand():
    found = measure(
        IDS, ROWS,
        questions(
            ("family", "man", "woman", "king", ["queen"]),
            ("family", "woman", "man", "queen", ["prince"]),
            ("gram1", "man", "king", "woman", ["absent"]),
            ("gram1", "man", "king", "woman", ["absent", "noise"]),
        ),
    )  # fmt: skip
    # king^ + woman^ - man^ = (.4142, .7071, .7071): cosines queen .974, prince .763, noise -.383.
    assert value(found, "accuracy", section="family").value == 0.5
    # woman - man + queen: (1,0,0) - (.7071,0,.7071) + (.577,.577,.577) = (.870,.577,-.130): prince .740,
    # king .975: prince is second.
    rows = found.items.to_pylist()
    assert [r["predicted"] for r in rows] == ["queen", "king", None, "queen"]
    assert [r["accuracy"] for r in rows] == [1.0, 0.0, None, 0.0]
    assert [r["rank"] for r in rows] == [1, 2, None, 3]
    assert [r["expected"] for r in rows] == ["queen", "prince", "absent", "absent/noise"]
    assert rows[3]["item"] == "gram1: man king woman #2"
    assert value(found, "coverage").value == 0.75
    assert value(found, "coverage").n == 4
    assert value(found, "coverage", section="gram1").value == 0.5
    assert value(found, "accuracy").value == pytest.approx(1 / 3)
    assert value(found, "accuracy").n == 3
    assert value(found, "mrr@5").value == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert value(found, "accuracy@5").value == 1.0
    assert not found.absent


def test_depth_cuts_rank_and_mrr():
    dataset = questions(("s", "woman", "man", "queen", ["prince"]))
    found = measure(IDS, ROWS, dataset, k=1)
    assert value(found, "mrr@1").value == value(found, "accuracy@1").value == 0.0
    assert found.items.column("rank").to_pylist() == [None]
    assert value(measure(IDS, ROWS, dataset, k=2), "mrr@2").value == 0.5


def test_any_of_several_answers_is_right():
    found = measure(IDS, ROWS, questions(("s", "man", "woman", "king", ["absent", "queen"])))
    assert value(found, "accuracy").value == 1.0


def test_a_section_without_covered_questions_is_absent():
    dataset = questions(("in", "man", "woman", "king", ["queen"]), ("out", "x", "y", "z", ["w"]))
    found = measure(IDS, ROWS, dataset)
    assert [(a.metric, a.labels) for a in found.absent] == [("accuracy", {"section": "out"})]
    assert value(found, "coverage", section="out").value == 0.0


def test_restrict_vocab_limits_questions_and_answers():
    dataset = questions(("s", "man", "woman", "king", ["queen"]), ("s", "man", "king", "woman", ["prince"]))
    found = measure(IDS, ROWS, dataset, restrict_vocab=4)
    assert value(found, "coverage").value == 0.5
    assert any("first 4 of 6 rows" in note for note in found.notes)
    assert value(measure(IDS, ROWS, dataset, restrict_vocab=0), "coverage").value == 1.0
    assert value(measure(IDS, ROWS, dataset, restrict_vocab=100), "coverage").value == 1.0


def test_rows_of_zeros_neither_ask_nor_answer():
    ids, rows = [*IDS, "nothing"], np.vstack([ROWS, np.zeros((1, 3), np.float32)])
    dataset = questions(("s", "man", "woman", "king", ["queen"]), ("s", "man", "woman", "nothing", ["king"]))
    found = measure(ids, rows, dataset)
    assert value(found, "coverage").value == 0.5
    assert any("1 rows of zeros" in note for note in found.notes)


def test_a_query_of_zeros_is_wrong_not_guessed():
    # b and c stand 60 degrees to either side of a: b^ - a^ + c^ = 0.
    rows = np.array([[2, 0], [1, 1.7320508], [1, -1.7320508], [0, 1]], dtype=np.float32)
    dataset = questions(("s", "a", "b", "c", ["d"]), ("s", "b", "a", "c", ["d"]))
    found = measure(["a", "b", "c", "d"], rows, dataset)
    assert found.items.column("predicted").to_pylist() == [None, "d"]
    assert found.items.column("accuracy").to_pylist() == [0.0, 1.0]
    assert value(found, "coverage").value == 1.0


def test_a_question_that_leaves_no_candidate_is_wrong():
    rows = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    found = measure(
        ["a", "b", "c"], rows, questions(("s", "a", "b", "c", ["c"]), ("s", "a", "a", "b", ["c"]))
    )
    assert found.items.column("predicted").to_pylist() == [None, "c"]
    assert value(found, "accuracy").value == 0.5


def test_nothing_to_measure_is_skipped():
    with pytest.raises(Skipped, match="none of the 1 questions of 'toy'"):
        measure(IDS, ROWS, questions(("s", "x", "y", "z", ["w"])))
    with pytest.raises(Skipped, match="needs a dataset"):
        run(Subject(EmbeddingTable.from_arrays(IDS, ROWS)), Params(), np.random.default_rng(0))
    for wrong in ({"k": 0}, {"restrict_vocab": -1}):
        with pytest.raises(UsageError):
            Params(**wrong)


def test_case_variants_are_one_word():
    ids = ["MAN", "woman", "king", "Queen", "man", "King", "queen"]
    rows = np.vstack([ROWS[:4], ROWS[[5]], ROWS[[2]] + 0.01, ROWS[[3]] - 0.01]).astype(np.float32)
    dataset = questions(("s", "man", "woman", "KING", ["QUEEN"]))
    found = measure(ids, rows, dataset)
    assert value(found, "accuracy").value == 1.0
    assert found.items.column("predicted").to_pylist() == ["Queen"]
    with pytest.raises(Skipped):
        measure(ids, rows, dataset, case_fold=False)


def gensim_right(ids, vectors, path: Path, **params) -> tuple[set, int, float]:
    keyed = gensim.models.KeyedVectors(vectors.shape[1])
    keyed.add_vectors(ids, vectors)
    score, sections = keyed.evaluate_word_analogies(str(path), **params)
    asked = len(sections[-1]["correct"]) + len(sections[-1]["incorrect"])
    return {tuple(q) for q in sections[-1]["correct"]}, asked, score


def our_right(found: Findings, fold: bool) -> set:
    def told(word: str) -> str:
        return word.upper() if fold else word

    return {
        tuple(told(r[name]) for name in ("a", "b", "c", "expected"))
        for r in found.items.to_pylist()
        if r["accuracy"] == 1.0
    }


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_gensim_agrees_question_by_question_on_mixed_case(tmp_path, fold, seed):
    rng = np.random.default_rng(seed)
    stems = [f"w{i}" for i in range(40)]
    ids = [*stems, *(s.upper() for s in stems[:25]), *(s.title() + "x" for s in stems[:9])]
    rng.shuffle(ids)
    # Variants of a word are near each other, as they are in life: they would answer if they could.
    place = {stem: rng.standard_normal(6) for stem in stems}
    vectors = np.array([place[i.lower().rstrip("x")] for i in ids]) + 0.1 * rng.standard_normal((len(ids), 6))
    vectors = vectors.astype(np.float32)
    words = [*ids, "Absent"]
    # gensim cannot rank an answer that is also given.
    lines = [" ".join(words[i] for i in rng.choice(len(words), 4, replace=False)) for _ in range(3000)]
    lines = [line for line in lines if len(set(line.upper().split())) == 4]
    path = tmp_path / "questions.txt"
    path.write_text(": all\n" + "\n".join(dict.fromkeys(lines)) + "\n")
    dataset = DatasetTable(name="q", kind="analogies", rows=parse(path, "analogies"))
    right, asked, score = gensim_right(ids, vectors, path, restrict_vocab=60, case_insensitive=fold)
    found = measure(ids, vectors, dataset, restrict_vocab=60, case_fold=fold)
    assert value(found, "accuracy").n == asked > 20
    assert our_right(found, fold) == right
    assert value(found, "accuracy").value == pytest.approx(score)
    assert right


def test_gensim_agrees_on_glove(tmp_path, packaged, glove_rows):
    ids, vectors = glove_rows(8_000)
    lines = packaged("gensim", "gensim/test/test_data/questions-words.txt").read_text().split("\n")
    path = tmp_path / "some.txt"
    path.write_text("\n".join(line for i, line in enumerate(lines) if line[:1] == ":" or i % 8 == 0))
    dataset = DatasetTable(name="some", kind="analogies", rows=parse(path, "analogies"))
    right, asked, score = gensim_right(ids, vectors, path)
    found = measure(ids, vectors, dataset)
    assert value(found, "accuracy").n == asked
    assert our_right(found, fold=True) == right
    assert value(found, "accuracy").value == pytest.approx(score)


def test_gensim_agrees_on_its_own_cased_vectors(packaged):
    path = packaged("gensim", "gensim/test/test_data/questions-words.txt")
    source = packaged("gensim", "gensim/test/test_data/euclidean_vectors.bin")
    keyed = gensim.models.KeyedVectors.load_word2vec_format(str(source), binary=True)
    score, _ = keyed.evaluate_word_analogies(str(path))
    dataset = DatasetTable(name="google", kind="analogies", rows=parse(path, "analogies"))
    found = measure(keyed.index_to_key, keyed.vectors, dataset)
    assert value(found, "accuracy").value == pytest.approx(score)
    assert score == pytest.approx(0.0024, abs=5e-5)


def test_known_answer_on_glove(packaged, glove_rows):
    ids, vectors = glove_rows(30_000)
    path = packaged("gensim", "gensim/test/test_data/questions-words.txt")
    dataset = DatasetTable(name="google", kind="analogies", rows=parse(path, "analogies"))
    found = measure(ids, vectors, dataset)
    total = value(found, "accuracy")
    assert (round(total.value * total.n), total.n) == (7393, 14877)
    assert value(found, "coverage").value == 14877 / 19544
    assert total.low < total.value < total.high
    # Questions share pairs: the interval is wider than that of as many independent questions.
    assert total.high - total.low > 2 * 1.96 * np.sqrt(total.value * (1 - total.value) / total.n)
    assert len(set(found.items.column("item").to_pylist())) == 19544
    scored = found.items.column("accuracy").drop_null().to_numpy()
    assert scored.mean() == total.value


WORDS = [f"w{i}" for i in range(12)]
TOY = questions(*[("s", *WORDS[i : i + 3], [WORDS[(i * 5) % 12]]) for i in range(10)])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_rotation_scale_and_order_of_rows_change_nothing(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 5))
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    order = rng.permutation(12)
    plain = measure(WORDS, x.astype(np.float32), TOY)
    turned = measure(WORDS, (x @ rotation).astype(np.float32), TOY)
    scaled = measure(WORDS, (x * rng.uniform(0.1, 9, (12, 1))).astype(np.float32), TOY)
    shuffled = measure([WORDS[i] for i in order], x[order].astype(np.float32), TOY)
    for other in (turned, scaled, shuffled):
        assert other.items.equals(plain.items)
        assert [m.value for m in other.measures] == [m.value for m in plain.measures]


def test_contract():
    vectors = ROWS.copy()
    dataset = questions(("s", "man", "woman", "king", ["queen"]))
    first, second = measure(IDS, vectors, dataset), measure(IDS, vectors, dataset)
    assert first.measures == second.measures
    assert np.array_equal(vectors, ROWS)
    for m in first.measures:
        metric = SUITE.metric(m.metric)
        assert metric is not None
        assert metric.low <= m.value <= metric.high
