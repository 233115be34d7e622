"""CSV and TSV: headers, which columns are what, quoting, two routes with one result, errors by line."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError
from embreg.registry.formats import Options, headers, lines, open_source, records, vectortext, write_table
from embreg.registry.tables import EmbeddingTable

X = np.array([[0.1, -0.0], [1e-45, 3.4028235e38], [1 / 3, -7]], dtype=np.float32)


def written(tmp_path, data: str | bytes, name: str = "v.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def rows_of(path, **more):
    source = open_source(path, options=Options(**more))
    batches = list(source.batches())
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    ids = None if batches[0].ids is None else [i for b in batches for i in b.ids.to_pylist()]
    extra = None
    if batches[0].attributes is not None:
        extra = pa.Table.from_batches([b.attributes for b in batches]).to_pydict()
    x = np.concatenate([b.vectors for b in batches])
    assert (source.dim, source.dtype) == (x.shape[1], x.dtype.name)
    return source, ids, x, extra


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


# -- headers and columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids", "x", "extra"),
    [
        ("id,0,1\na,1,2\nb,3,4\n", ["a", "b"], [[1, 2], [3, 4]], None),
        ("id,1,2\na,1,2\nb,3,4\n", ["a", "b"], [[1, 2], [3, 4]], None),
        # A data frame with and without its index.
        (",0,1\n7,1.5,2\n", ["7"], [[1.5, 2]], None),
        ("0,1,2\n1.5,2,3\n", None, [[1.5, 2, 3]], None),
        ("0,1,2\n5,2,3\n", None, [[5, 2, 3]], None),
        # No header.
        ("a,1,2\nb,3,4\n", ["a", "b"], [[1, 2], [3, 4]], None),
        ("a,0,1\nb,3,4\n", ["a", "b"], [[0, 1], [3, 4]], None),
        ("7,0.5,1\n8,3,4\n", ["7", "8"], [[0.5, 1], [3, 4]], None),
        ("0.5,1,2\n3,4,5\n", None, [[0.5, 1, 2], [3, 4, 5]], None),
        ("word,0.5,1\n", ["word"], [[0.5, 1]], None),
        ('a,"[1, 2]"\nb,"[3, 4]"\n', ["a", "b"], [[1, 2], [3, 4]], None),
        ('"[1, 2]"\n"[3, 4]"\n', None, [[1, 2], [3, 4]], None),
        # Series, in any order; what is no part of it is an attribute.
        ("word,dim_1,dim_0,n\na,2,1,5\n", ["a"], [[1, 2]], {"n": [5]}),
        ("n,v01,v02,token\n5,1,2,a\n", ["a"], [[1, 2]], {"n": [5]}),
        ("id,e.0,e.1,e.2,tag1,tag2\na,1,2,3,8,9\n", ["a"], [[1, 2, 3]], {"tag1": [8], "tag2": [9]}),
        ("id,tag1,tag2,x0,x1\na,p,q,1,2\n", ["a"], [[1, 2]], {"tag1": ["p"], "tag2": ["q"]}),
        ("id,0,1,vector,score\na,1,2,[5 6],0.5\n", ["a"], [[1, 2]], {"vector_": ["[5 6]"], "score": [0.5]}),
        # Floats, or where there are none integers.
        ("id,x,y,n\na,0.5,1.0,3\n", ["a"], [[0.5, 1]], {"n": [3]}),
        ("title,x,y\na,5,1\n", ["a"], [[5, 1]], None),
        ("x,title,y\n5,a,1\n", ["a"], [[5, 1]], None),
        # Text that holds vectors.
        ('id,embedding\na,"[0.5, 1]"\nb,[2 3]\n', ["a", "b"], [[0.5, 1], [2, 3]], None),
        ('id,n,vector\na,5,"(0.5, 1)"\n', ["a"], [[0.5, 1]], {"n": [5]}),
        ("id,0\na,1\n", ["a"], [[1]], None),
    ],
)
def test_what_the_columns_are(text, ids, x, extra, tmp_path):
    _, found, y, attributes = rows_of(written(tmp_path, text))
    assert (found, y.tolist(), attributes) == (ids, x, extra)
    tabs = "\n".join("\t".join(row) for row in csv.reader(io.StringIO(text)))
    if "\t" not in tabs:
        return
    source, found, y, attributes = rows_of(written(tmp_path, tabs, "v.tsv"))
    assert (source.format, found, y.tolist(), attributes) == ("tsv", ids, x, extra)


def test_what_was_decided_is_told(tmp_path):
    source, *_ = rows_of(written(tmp_path, "title,x,n\na,0.5,3\n"))
    assert source.warnings == (
        "columns that are not floats are attributes, not dimensions: title, n",
        "ids were taken from column 'title'",
    )


def test_named_columns_are_taken(tmp_path):
    path = written(tmp_path, 'id,key,v,w,n\na,b,"[1, 2]","[3, 4]",5\n')
    _, ids, x, extra = rows_of(path, id_column="key", vector_column="w")
    assert (ids, x.tolist(), extra) == (["b"], [[3, 4]], {"id_": ["a"], "v": ["[1, 2]"], "n": [5]})
    assert "did you mean 'key'?" in refusal(path, id_column="keys").hint
    assert "no column 'vv'" in refusal(path, vector_column="vv").message
    assert rows_of(written(tmp_path, "1.5,a,2\n"), id_column="1")[1] == ["a"]
    two = written(tmp_path, 'id,vector,embedding\na,"[1, 2]","[3, 4]"\n')
    assert "several columns of vectors: vector, embedding" in refusal(two).message
    assert rows_of(two, vector_column="embedding")[2].tolist() == [[3, 4]]


def test_two_series_of_one_length(tmp_path):
    error = refusal(written(tmp_path, "id,a0,a1,b0,b1\nx,1,2,3,4\n"))
    assert "several series of columns could be the vector: a0 … a1, b0 … b1" in error.message


def test_a_series_with_a_hole_is_not_one_dimension_less(tmp_path):
    path = written(tmp_path, "id,0,1,2\na,1,n/a,3\nb,4,5,6\n")
    assert "line 2, column '1': 'n/a' is not a number" in refusal(path).message


@pytest.mark.parametrize(
    ("name", "mark"), [("v.csv", ";"), ("v.csv", "\t"), ("v.tsv", ","), ("v.data", "\t")]
)
def test_another_separator_is_told_from_the_first_line(name, mark, tmp_path):
    path = written(tmp_path, "id,0,1\na,1,2\n".replace(",", mark), name)
    source = open_source(path, format="csv" if name == "v.data" else None)
    (batch,) = source.batches()
    assert batch.vectors.tolist() == [[1, 2]]


@pytest.mark.parametrize("chunk", [7, 64, 8 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_chunks_and_line_ends(chunk, end, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    ids = [f'é{i}"\n,' if i % 3 else f"é{i}" for i in range(40)]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end).writerows(
        [["id", "0", "1", "n"], *([n, i, 0.5, i] for i, n in enumerate(ids))]
    )
    for after in ("", end, 3 * end):
        _, found, x, extra = rows_of(written(tmp_path, "\ufeff" + out.getvalue().removesuffix(end) + after))
        assert found == ids
        assert x[:, 0].tolist() == extra["n"] == list(range(40))


def test_any_encoding(tmp_path):
    path = written(tmp_path, "id\t0\t1\né\t1\t2\n".encode("utf-16"), "v.tsv")
    assert rows_of(path, encoding="utf-16")[1] == ["é"]


# -- attributes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", ""], [1, -2, None]),
        (["1", "2.5", "nan"], [1.0, 2.5, np.nan]),
        (["true", "false", ""], [True, False, None]),
        (["a", '""', ""], ["a", "", None]),
        (["007", "1", "2"], ["007", "1", "2"]),
        (['"7"', "8", ""], ["7", "8", None]),
        (["+1", "1e3", "2"], [1.0, 1000.0, 2.0]),
        (["9223372036854775807", "1", "2"], [2**63 - 1, 1, 2]),
        (["9223372036854775808", "1", "2"], ["9223372036854775808", "1", "2"]),
        (
            ["123456789012345678.5", "12345678901234567", "1"],
            ["123456789012345678.5", "12345678901234567", "1"],
        ),
        (["2020-01-01", "x", "y"], ["2020-01-01", "x", "y"]),
        (["nan", "inf", ""], ["nan", "inf", None]),
    ],
)
def test_the_type_of_an_attribute(values, expected, tmp_path):
    text = "id,0,1,a\n" + "".join(f"w{i},1,2,{value}\n" for i, value in enumerate(values))
    found = rows_of(written(tmp_path, text))[3]["a"]
    assert [type(v) for v in found] == [type(v) for v in expected]
    assert all(a == b or (a != a and b != b) for a, b in zip(found, expected, strict=True))


def test_a_value_of_another_type_later_names_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "_LOOK_ROWS", 3)
    path = written(tmp_path, "id,0,1,n\na,1,2,3\nb,1,2,4\nc,1,2,x\n")
    error = refusal(path)
    assert "line 4, column 'n': 'x' is no int64" in error.message
    assert rows_of(written(tmp_path, 'id,0,1,n\na,1,2,"3"\nb,1,2,4\nc,1,2,x\n'))[3] == {"n": ["3", "4", "x"]}


# -- vectors as text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[1, -2.5]",
        "1 -2.5",
        "1,-2.5",
        "[1 -2.5]",
        "( 1 ,-2.5 )",
        "{1,-2.5}",
        " [ 1.  -25e-1]\n",
        "[1,\n -2.5,]",
    ],
)
def test_every_way_to_write_a_vector(text, tmp_path):
    path = written(tmp_path, f'id,v\na,"{text}"\nb,"[3, 4]"\n')
    assert rows_of(path, vector_column="v")[2].tolist() == [[1, -2.5], [3, 4]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1]", "expected 2 numbers, found 1"),
        ("[1, 2, 3]", "expected 2 numbers, found 3"),
        ("[1, x]", "'x' is not a number"),
        ("[1 ... 2]", "'...' is not a number"),
        ("[1,, 2]", "no list of numbers"),
        ("[[1, 2]]", "no list of numbers"),
        ("[1][2]", "no list of numbers"),
        (",1,2", "no list of numbers"),
        ("", "no vector"),
        ("[]", "expected 2 numbers, found 0"),
    ],
)
def test_a_bad_vector_names_the_line(text, what, tmp_path):
    quoted = f'"{text}"' if text else ""
    path = written(tmp_path, f'id,v\na,"[3,\n4]"\nb,{quoted}\nc,"[3, 4]"\n')
    error = refusal(path, vector_column="v")
    assert f"line 4, column 'v': {what}" in error.message


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text("[](){}, \n\t0123.e-+naif_x", max_size=8), min_size=1, max_size=4), st.integers(1, 3))
@example(["[1, 2]", "1,2"], 2)
def test_a_vector_is_taken_whole_or_named(texts, d):
    column = pa.array(texts, pa.large_string())
    found = vectortext.parsed(column, d)
    faults = [vectortext._fault(text, d) for text in texts]
    assert (found is None) == any(faults)
    if found is not None:
        assert found.shape == (len(texts), d)


def test_vectors_of_a_data_frame(tmp_path):
    """As Python's own csv writes lists and numpy arrays."""
    out = io.StringIO()
    csv.writer(out).writerows(
        [["word", "vector"], *([f"w{i}", row] for i, row in enumerate(X.astype(float).tolist()))]
    )
    assert rows_of(written(tmp_path, out.getvalue()))[2].tobytes() == X.tobytes()


# -- two routes, and the csv module --------------------------------------------------------------------------

plain = st.text("ab\"',;\t\r\n 01.e-é\x00\u0085\ufeff", max_size=5)
number = st.sampled_from(["1", "-0", "1e5", "nan", "", "x", " 2 ", "1_0", "0x1", '"3"', '""']) | st.floats(
    width=32
).map(repr)


def grid(quoted: bool = True) -> records.Grid:
    return records.Grid(
        path=Path("f"), delimiter=b",", quoted=quoted, names=("id", "x", "t"), numbers=(1,), texts=(0, 2)
    )


def agree(data: bytes, layout: records.Grid) -> None:
    chunk = lines.Chunk(1, data)
    try:
        slow = records._careful(chunk, layout)
    except InputError as refused:
        with pytest.raises(InputError) as caught:
            records.parse(chunk, layout)
        assert caught.value.message == refused.message
        return
    fast = records.parse(chunk, layout)
    np.testing.assert_array_equal(fast.numbers, slow.numbers)
    assert {i: column.to_pylist() for i, column in fast.texts.items()} == {
        i: column.to_pylist() for i, column in slow.texts.items()
    }


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.lists(plain | number, min_size=2, max_size=4).map(",".join), min_size=1, max_size=4),
    st.booleans(),
)
@example(['"a\nb",1,c'], True)
@example(['"a""b",1,"c"', '"",2,'], True)
@example(['a"b,1,c"', 'd,2,"e'], True)
@example(['"a"b,1,c'], True)
@example(['"a,1,c'], True)
@example(["a,1,c\r"], True)
@example(["a\rb,1,c"], True)
@example(['"a', 'b",1,c'], False)
@example(["\ufeffa,1,c"], True)
@example(["", "a,1,c"], True)
def test_the_fast_route_agrees_with_the_careful_one(rows, quoted):
    agree(("\n".join(rows) + "\n").encode(), grid(quoted))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(plain, st.floats(width=32), plain), min_size=1, max_size=5),
    st.booleans(),
    st.integers(1, 40),
)
def test_what_the_csv_module_writes_is_read(rows, all_quoted, chunk):
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL).writerows(rows)
    data = out.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK", chunk)
        pieces = [data[i : i + chunk] for i in range(0, len(data), chunk)]
        chunks = list(lines._whole_lines(Path("f"), iter(pieces), lines._after_last_record))
    assert b"".join(c.data for c in chunks) == data
    found = [records.parse(c, grid()) for c in chunks]
    ids = [i or "" for f in found for i in f.texts[0].to_pylist()]
    texts = [t or "" for f in found for t in f.texts[2].to_pylist()]
    assert list(zip(ids, texts, strict=True)) == [(a, b) for a, _, b in rows]
    np.testing.assert_array_equal(
        np.concatenate([f.numbers for f in found])[:, 0], np.float32([x for _, x, _ in rows])
    )


@pytest.mark.parametrize("quoted", [False, True])
def test_most_files_take_the_fast_route(quoted):
    data = b'"w,""1",0.5,"a\nb"\nw,1.5,\n' if quoted else b"w,0.5,a\nw,1.5,\n"
    assert records._arrow(data, grid()) is not None


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("b,1", "line 3: expected 3 fields, found 2"),
        ("b,1,2,3", "line 3: expected 3 fields, found 4"),
        ("b,1,x", "line 3, column 'd1': 'x' is not a number"),
        ("b,,2", "line 3, column 'd0': no number"),
        ('b,"",2', "line 3, column 'd0': no number"),
        (",1,2", "line 3, column 'id': no id"),
        ("", "line 3: an empty line"),
        ('b"c,1,2', "line 3: a quote that"),
        ('"b"c,1,2', "line 3: a quote that"),
        ('"b,1,2', "line 3: a quote that"),
        ("b\rc,1,2", "line 3: a quote that does not end, or stands inside a field, or a carriage return"),
        (b"\xe9,1,2", "line 3: not UTF-8 text"),
    ],
    ids=str,
)
@pytest.mark.parametrize("chunk", [12, 8 << 20])
def test_a_bad_line_is_named(line, what, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    monkeypatch.setattr(headers, "_LOOK_ROWS", 2)
    data = line if isinstance(line, bytes) else line.encode()
    assert what in refusal(written(tmp_path, b"id,d0,d1\na,1,2\n" + data + b"\nc,1,2\n")).message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("\n", "holds no rows"),
        ("id,0,1\n", "holds no rows"),
        ("\n\nid,0,1\na,1,2\n", "line 1: an empty line"),
        ("id,x,x\na,1,2\n", "two columns are called 'x'"),
        ("id,text\na,b\n", "no columns of numbers"),
        ('id,notes\na,"[1, 2]"\n', "no columns of numbers"),
        ("a\nb\n", "no columns of numbers"),
        ("id,0,1\na,1\n", "line 2: expected 3 fields, found 2"),
        ("a," + "1," * (1 << 20) + "1\n", "too wide"),
        ("a," + "1," * (1 << 21) + "1\n", "line 1: too many columns"),
        ('"a",' + "1," * (1 << 21) + "1\n", "line 1: too many columns"),
    ],
    ids=lambda value: value[:20],
)
def test_what_cannot_be_a_table(text, what, tmp_path):
    assert what in refusal(written(tmp_path, text)).message


def test_a_column_of_text_vectors_is_hinted_at(tmp_path):
    assert refusal(written(tmp_path, 'id,notes\na,"[1, 2]"\n')).hint == "--vector-column notes"


def test_a_quote_without_end_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 1 << 16)
    monkeypatch.setattr(lines, "MAX_LINE", 1 << 20)
    path = written(tmp_path, 'id,0,1\n"a,1,2\n' + "b,1,2\n" * 400_000)
    assert "longer than 1 MiB" in refusal(path).message


# -- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mark"), [("v.csv", ","), ("v.tsv", "\t")])
def test_what_is_written_is_what_the_csv_module_reads(name, mark, tmp_path):
    ids = ['a "b"', "x,y\tz\r\n", ""]
    attributes = {
        "n": [1, None, 3],
        "tag": ["007", "", None],
        "a,b": [0.5, 2.0, None],
        "ok": [True, False, None],
    }
    table = EmbeddingTable.from_arrays(ids, X, attributes=attributes)
    assert write_table(table, tmp_path / name) == ()
    with (tmp_path / name).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter=mark, strict=True)
    assert header == ["id", "0", "1", "n", "tag", "a,b", "ok"]
    assert [row[0] for row in rows] == ids
    assert np.array([row[1:3] for row in rows], dtype=np.float32).tobytes() == X.tobytes()
    assert [row[3:] for row in rows] == [
        ["1", "007", "0.5", "true"],
        ["", "", "2.0", "false"],
        ["3", "", "", ""],
    ]
    source, found, x, extra = rows_of(tmp_path / name)
    assert (found, x.tobytes(), extra, source.warnings) == (ids, X.tobytes(), attributes, ())


attribute = st.one_of(
    st.lists(
        st.none() | st.text(max_size=4) | st.sampled_from(["1", "nan", "true", "", '"']),
        min_size=3,
        max_size=3,
    ),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    # A column without a single digit is text: "inf" may be a word.
    st.lists(st.floats(allow_nan=False), min_size=3, max_size=3).filter(
        lambda x: not all(map(math.isinf, x))
    ),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3),
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["csv", "tsv"]), attribute, st.text(min_size=1, max_size=5))
def test_attributes_read_back(tmp_path_factory, name, values, title):
    if title in ("id", "vector", "fingerprint"):
        return
    path = tmp_path_factory.mktemp("t") / f"v.{name}"
    notes = write_table(EmbeddingTable.from_arrays(["a", "b", "c"], X, attributes={title: values}), path)
    _, ids, x, extra = rows_of(path)
    assert (ids, x.tobytes()) == (["a", "b", "c"], X.tobytes())
    if notes:
        assert "names are numbers" in notes[0]
        assert extra is None
    elif any(v is not None for v in values):
        assert extra == {title: values}


def test_attributes_that_a_header_cannot_tell_from_dimensions(tmp_path):
    table = EmbeddingTable.from_arrays(
        ["a", "b", "c"], X, attributes={"2": [1, 2, 3], "x": [4, 5, 6], "1e3": [7, 8, 9]}
    )
    notes = write_table(table, tmp_path / "v.csv")
    assert notes == ("attributes whose names are numbers are not kept: 2, 1e3",)
    _, _, x, extra = rows_of(tmp_path / "v.csv")
    assert (x.tobytes(), extra) == (X.tobytes(), {"x": [4, 5, 6]})


def test_a_json_list_of_rows_is_not_taken_for_a_table(tmp_path):
    with pytest.raises(InputError):
        rows_of(written(tmp_path, json.dumps([[1, 2], [3, 4]], indent=1)))
