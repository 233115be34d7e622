"""GloVe and word2vec text: three routes with one result, and every error with its line and column."""

from __future__ import annotations

import gzip
import importlib.metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError, UsageError
from embreg.registry.formats import Options, lines, open_source, parsing


def rows_of(path, **more):
    source = open_source(path, **more)
    batches = list(source.batches())
    ids = [name for b in batches for name in b.ids.to_pylist()]
    return source, ids, np.concatenate([b.vectors for b in batches])


def written(tmp_path, data: bytes | str, name: str = "v.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


# -- what a line holds ---------------------------------------------------------------------------------------

WORDS = [
    "the",
    '"',
    "'s",
    'a"b"',
    ". . .",
    "New York",
    "x\u0085y",
    "\u00a0",
    "tab\tbed",
    "cr\rcr",
    "#",
    "\\",
    ",",
]


def test_words_are_cut_from_the_right_and_never_quoted(tmp_path):
    text = "".join(f"{word} {i}.5 -{i}e-3\n" for i, word in enumerate(WORDS))
    source, ids, x = rows_of(written(tmp_path, text))
    assert (source.format, source.dim, source.dtype, source.rows) == ("glove", 2, "float32", None)
    assert ids == WORDS
    assert x.tolist() == [[np.float32(i + 0.5), np.float32(-i / 1000)] for i in range(len(WORDS))]


NUMBERS = [
    *(
        "0",
        "-0",
        "1",
        "+1",
        "1.",
        ".5",
        "1e5",
        "1E+5",
        "1e-45",
        "7e-46",
        "1e-400",
        "-1e-400",
        "00012",
        "-.5e-3",
    ),
    *("3.4028235e38", "3.4028236e38", "1e39", "-1e400", "nan", "NaN", "inf", "-Infinity", "0.1", "16777217"),
    # Half way between two float32 values, and just above: rounding once or twice differs.
    *("1.00000005960464477539062500000", "1.0000000596046447753906250001", "-0.0007369244245224787"),
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("word", ["a", "a b", "+"])
def test_numbers_are_what_numpy_reads(number, word, tmp_path):
    _, _, x = rows_of(written(tmp_path, f"{word} 1 {number}\nb 2 3\nc 2 3\n"))
    with np.errstate(over="ignore", under="ignore"):
        expected = np.float32(number)
    assert x[0, 1].tobytes() == expected.tobytes() or (np.isnan(x[0, 1]) and np.isnan(expected))


word = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=6)
number = st.one_of(
    st.floats(width=32).map(repr),
    st.sampled_from(NUMBERS),
    st.text("0123456789.eE+-_xnaif\t\r\x00", max_size=6),
)
line = st.tuples(word, st.lists(number, min_size=2, max_size=4)).map(lambda t: " ".join([t[0], *t[1]]))


@settings(deadline=None, max_examples=400)
@given(st.lists(line, min_size=1, max_size=5), st.booleans())
@example(["\ufeffa 1 2", "b 1 2"], True)
@example(["a\rb 1 2"], True)
@example(["a 7 1 2"], True)
@example(["a 7 1 2"], False)
@example([" 1 2", "  1 2"], True)
@example(["a nan(x) 2"], True)
def test_the_fast_routes_agree_with_the_careful_one(texts, spaces):
    """Whatever Arrow accepts is read as the line-by-line route reads it, and refused as it refuses."""
    layout = parsing.Layout(Path("f"), 2, spaces)
    data = parsing.tidy("".join(f"{text}\n" for text in texts).encode())
    try:
        slow = parsing._careful(lines.Chunk(1, data), layout)
    except InputError as refused:
        with pytest.raises(InputError) as caught:
            parsing.parse(lines.Chunk(1, data), layout)
        assert caught.value.message == refused.message
        return
    fast = parsing.parse(lines.Chunk(1, data), layout)
    assert fast.ids.to_pylist() == slow.ids.to_pylist()
    np.testing.assert_array_equal(fast.vectors.view(np.uint32) | np.isnan(fast.vectors),
                                  slow.vectors.view(np.uint32) | np.isnan(slow.vectors))  # fmt: skip


def test_ids_with_spaces_still_take_a_fast_route():
    data = "".join(f"New York {i} City{i} 0.5 {i}\n" for i in range(100)).encode()
    layout = parsing.Layout(Path("f"), 2, True)
    assert parsing._arrow(data, layout) is None
    fast = parsing._masked(data, layout)
    assert fast.ids.to_pylist()[7] == "New York 7 City7"
    assert fast.vectors[7].tolist() == [0.5, 7]


# -- how a file is laid out ----------------------------------------------------------------------------------

EXPECTED = (["a", "b b", "c"], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    "data",
    [
        b"a 1 2\nb b 3 4\nc 5 6\n",
        b"a 1 2\nb b 3 4\nc 5 6",
        b"a 1 2\r\nb b 3 4\r\nc 5 6\r\n",
        b"a 1 2 \nb b 3 4  \t\nc 5 6 \r\n",
        b"a 1 2\nb b 3 4\nc 5 6\n\n \n\r\n",
        b"\xef\xbb\xbfa 1 2\nb b 3 4\nc 5 6\n",
        gzip.compress(b"a 1 2\nb b 3 4\nc 5 6\n", mtime=0),
        gzip.compress(b"a 1 2\nb b", mtime=0) + gzip.compress(b" 3 4\nc 5 6\n", mtime=0),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 13, 1 << 20])
def test_line_ends_blanks_and_chunks_make_no_difference(data, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    _, ids, x = rows_of(written(tmp_path, data), format="glove")
    assert (ids, x.tolist()) == EXPECTED


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252"])
def test_other_encodings(encoding, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 3)
    path = written(tmp_path, "é 1 2\nüb 3 4\n".encode(encoding))
    _, ids, x = rows_of(path, options=Options(encoding=encoding))
    assert (ids, x.tolist()) == (["é", "üb"], [[1, 2], [3, 4]])


def test_a_number_may_be_a_word(tmp_path):
    _, ids, x = rows_of(written(tmp_path, "1990 1 2\nat 3 4\n7 5 6\n"))
    assert (ids, x.tolist()) == (["1990", "at", "7"], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize("text", ["2 3\na 1 2 3\nb 4 5 6\n", "2\t3 \r\na 1 2 3 \r\nb 4 5 6"])
def test_word2vec_text_is_told_from_glove(text, tmp_path):
    source, ids, x = rows_of(written(tmp_path, text))
    assert (source.format, source.rows, source.dim) == ("word2vec", 2, 3)
    assert (ids, x.tolist()) == (["a", "b"], [[1, 2, 3], [4, 5, 6]])


def test_two_integers_may_also_be_a_row_of_glove(tmp_path):
    source, ids, _ = rows_of(written(tmp_path, "7 5\n8 6\n"))
    assert (source.format, ids) == ("glove", ["7", "8"])


def test_many_columns_take_the_careful_route(tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "_ARROW_MAX_DIM", 1)
    _, ids, x = rows_of(written(tmp_path, "a 1 2\nb b 3 4\nc 5 6\n"))
    assert (ids, x.tolist()) == EXPECTED


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a 1 2\nb 3\nc 5 6\n", "line 2", "expected an id and 2 numbers, found 1"),
        ("a 1 2\nb 3 4 5\nc 5 6\n", "line 2", "expected an id and 2 numbers, found 3"),
        ("a 1 2\nb\nc 5 6\n", "line 2", "expected an id and 2 numbers, found 0"),
        ("a 1 2\nb 3 x\nc 5 6\n", "line 2, column 3", "'x' is not a number"),
        ("a 1 2\nb 1_0 4\nc 5 6\n", "line 2, column 2", "'1_0' is not a number"),
        ("a 1 2\nb 0x1 4\nc 5 6\n", "line 2, column 2", "'0x1' is not a number"),
        ("a 1 2\nb  4\nc 5 6\n", "line 2, column 2", "'' is not a number"),
        ("a 1 2\nb \x1b[31m 4\nc 5 6\n", "line 2, column 2", r"'\x1b[31m' is not a number"),
        ("a 1 2\n\nc 5 6\n", "line 2", "an empty line"),
        ("a 1 2\nb 3 4\n \nc 5 6\n", "line 3", "an empty line"),
        ("a\nb\n", "line 1", "no numbers after the id"),
        ("a\t1\t2\nb\t3\t4\n", "line 1", "no numbers after the id"),
        ("a 1 2\nb\t3 4\nc 1 2\n", "line 2", "expected an id and 2 numbers, found 1"),
        ("\n\n", "", "holds no rows"),
    ],
)
@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_glove_names_the_place(text, place, what, chunk, tmp_path, monkeypatch):
    if chunk == 4 and "no numbers" not in what:
        # The width is told from the first chunk: keep it right by insisting on a longer one.
        chunk = 6
    monkeypatch.setattr(lines, "CHUNK", chunk)
    error = refusal(written(tmp_path, text), format="glove")
    assert f"{place}: {what}" in error.message


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("3 2\na 1 2\nb 3 4\n", "", "the header promises 3 rows, the file holds 2"),
        ("1 2\na 1 2\nb 3 4\n", "row 1", "the header promises 1 rows, but the file goes on"),
        ("0 2\na 1 2\n", "row 0", "the header promises 0 rows, but the file goes on"),
        ("0 2\n", "", "holds no rows"),
        ("2 0\na\nb\n", "line 1", "the vectors have dimension 0"),
        ("2 3\na 1 2\nb 3 4\n", "line 2", "expected an id and 3 numbers, found 2"),
        ("2 2\na 1 2\nb b 3 4\n", "line 3", "expected an id and 2 numbers, found 3"),
        ("1000000000000 300\na 1 2\n", "", "the header promises 1000000000000 rows"),
        ("1 999999999999\na 1 2\n", "line 1", "rows of 999999999999 numbers are too wide"),
        ("a 1 2\nb 3 4\n", "line 1", "not a header of two integers"),
    ],
)
def test_word2vec_names_the_place(text, place, what, tmp_path):
    error = refusal(written(tmp_path, text, "v.vec"), format="word2vec")
    assert f"{place}: {what}" in error.message or (not place and what in error.message)


def test_a_lying_header_is_found_through_gzip_too(tmp_path):
    path = written(tmp_path, gzip.compress(b"1000000000000 2\na 1 2\nb 3 4\n"), "v.vec.gz")
    assert "promises 1000000000000 rows, the file holds 2" in refusal(path).message


def test_a_header_in_glove_text_names_the_other_format(tmp_path):
    error = refusal(written(tmp_path, "2 2\na 1 2\nb 3 4\n"), format="glove")
    assert "line 1" in error.message
    assert "--format word2vec" in error.hint


@pytest.mark.parametrize("spaces", ["", "b "])
def test_text_that_is_not_utf8_names_line_and_remedy(spaces, tmp_path):
    error = refusal(written(tmp_path, f"a 1 2\n{spaces}é 3 4\n".encode("latin-1")))
    assert "line 2: not UTF-8 text" in error.message
    assert "--encoding" in error.hint


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_the_wrong_encoding_names_the_line(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    error = refusal(written(tmp_path, "a 1 2\né 3 4\n"), options=Options(encoding="ascii"))
    assert "line 2: not ASCII text" in error.message


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "\x00"])
def test_an_unknown_encoding(encoding, tmp_path):
    with pytest.raises(UsageError, match="unknown encoding"):
        rows_of(written(tmp_path, "a 1 2\n"), options=Options(encoding=encoding))


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path):
    path = tmp_path / "v.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        for _ in range(80):
            out.write(b"1 " * (1 << 19))
    assert "line 1: longer than 64 MiB" in refusal(path).message


def test_too_wide_a_line_is_refused_before_it_is_parsed(tmp_path):
    assert "too wide" in refusal(written(tmp_path, "a" + " 1" * (parsing.MAX_DIM + 1))).message


@pytest.mark.parametrize("cut", [1, 9, 30, -9, -1])
def test_a_truncated_gzip(cut, tmp_path):
    whole = gzip.compress("".join(f"w{i} {i} {i * i}\n" for i in range(1000)).encode())
    error = refusal(written(tmp_path, whole[:cut], "v.txt.gz"), format="glove")
    assert "truncated or damaged" in error.message or cut == 1


# -- real files ----------------------------------------------------------------------------------------------


def gensim_data(name: str) -> Path:
    try:
        files = importlib.metadata.distribution("gensim")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("gensim, whose test files are read here, is not installed")
    return Path(str(files.locate_file(f"gensim/test/test_data/{name}")))


def plain_python(path: Path, skip: int, encoding: str) -> tuple[list[str], np.ndarray]:
    """An independent reader: whole lines, cut by Python."""
    rows = [row.rstrip(" \r") for row in path.read_bytes().decode(encoding).split("\n")][skip:]
    cut = [row.split(" ") for row in rows if row]
    return [c[0] for c in cut], np.array([[np.float32(v) for v in c[1:]] for c in cut])


@pytest.mark.parametrize(
    ("name", "format_", "skip", "shape", "encoding"),
    [
        ("test_glove.txt", "glove", 0, (76, 50), "utf-8"),
        ("pang_lee_polarity_fasttext.vec", "word2vec", 1, (1694, 100), "cp1252"),
        ("high_precision.kv.txt", "word2vec", 1, (2, 2), "utf-8"),
        ("EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt", "word2vec", 1, (20, 300), "utf-8"),
    ],
)
def test_real_text(name, format_, skip, shape, encoding):
    path = gensim_data(name)
    source, ids, x = rows_of(path, options=Options(encoding=encoding))
    expected_ids, expected = plain_python(path, skip, encoding)
    assert source.format == format_
    assert ids == expected_ids
    assert x.tobytes() == expected.tobytes()
    assert x.shape == shape


def test_real_text_that_is_not_utf8():
    error = refusal(gensim_data("pang_lee_polarity_fasttext.vec"))
    assert "line 150: not UTF-8 text" in error.message


def test_gensim_reads_the_same():
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    path = gensim_data("pang_lee_polarity_fasttext.vec")
    oracle = keyedvectors.KeyedVectors.load_word2vec_format(str(path), binary=False, encoding="cp1252")
    _, ids, x = rows_of(path, options=Options(encoding="cp1252"))
    assert ids == oracle.index_to_key
    np.testing.assert_array_equal(x, oracle.vectors)


def test_ids_are_arrow_strings(tmp_path):
    source = open_source(written(tmp_path, "a 1 2\n"))
    kinds = {batch.ids.type for batch in source.batches()}
    assert kinds <= {pa.string(), pa.large_string()}
