"""JSON Lines: which fields are taken, two routes with one result, and every error with its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError
from embreg.registry.formats import Options, json_rows, jsonl, lines, open_source, write_table
from embreg.registry.tables import EmbeddingTable

X = np.array([[0.1, -0.0], [1e-45, 3.4028235e38], [1 / 3, -7]], dtype=np.float32)


def written(tmp_path, data, name: str = "v.jsonl"):
    if isinstance(data, list):
        data = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in data)
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
    return source, ids, np.concatenate([b.vectors for b in batches]), extra


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


# -- which fields --------------------------------------------------------------------------------------------


def test_an_object_a_line(tmp_path):
    rows = [{"id": f"w{i}", "vector": [i + 0.5, -i], "freq": i, "tag": None if i else "x"} for i in range(4)]
    source, ids, x, extra = rows_of(written(tmp_path, rows))
    assert (source.format, source.dim, source.dtype, source.rows) == ("jsonl", 2, "float32", None)
    assert (ids, x.tolist()) == (["w0", "w1", "w2", "w3"], [[i + 0.5, -i] for i in range(4)])
    assert extra == {"freq": [0, 1, 2, 3], "tag": ["x", None, None, None]}
    assert source.warnings == ()


@pytest.mark.parametrize("name", ["id", "_id", "key", "word", "token", "text", "ID", "custom_id"])
def test_what_ids_are_called(name, tmp_path):
    source, ids, _, extra = rows_of(written(tmp_path, [{"about": "x", name: "a", "v": [1.5]}]))
    assert (ids, extra, source.warnings) == (["a"], {"about": ["x"]}, ())


def test_id_wins_over_text_and_the_first_text_over_nothing(tmp_path):
    source, ids, _, extra = rows_of(written(tmp_path, [{"text": "t", "id": "a", "v": [1.5]}]))
    assert (ids, extra) == (["a"], {"text": ["t"]})
    source, ids, _, _ = rows_of(written(tmp_path, [{"n": 1, "title": "t", "about": "a", "v": [1.5]}]))
    assert ids == ["t"]
    assert source.warnings == ("ids were taken from field 'title'",)
    assert rows_of(written(tmp_path, [{"n": 1, "v": [1.5]}]))[1] is None


def test_integers_may_be_ids(tmp_path):
    rows = [{"id": 7, "v": [1.5]}, {"id": -(10**30), "v": [2.5]}, {"id": "x", "v": [2.5]}]
    assert rows_of(written(tmp_path, rows))[1] == ["7", str(-(10**30)), "x"]
    assert rows_of(written(tmp_path, rows[:1]))[1] == ["7"]


@pytest.mark.parametrize("name", ["vector", "embedding", "values", "Embedding"])
def test_what_vectors_are_called(name, tmp_path):
    rows = [{"id": "a", "other": [1, 2, 3], name: [0.5, 1]}]
    source, _, x, extra = rows_of(written(tmp_path, rows))
    assert (x.tolist(), extra) == ([[0.5, 1.0]], None)
    assert "left out" in source.warnings[0]
    assert source.warnings[0].endswith(": other")


def test_named_fields_are_taken(tmp_path):
    path = written(tmp_path, [{"id": "a", "b": "k", "v": [1.5], "w": [2.5, 3.5]}])
    _, ids, x, _ = rows_of(path, id_column="b", vector_column="w")
    assert (ids, x.tolist()) == (["k"], [[2.5, 3.5]])
    assert "several fields hold lists of numbers: v, w" in refusal(path).message
    assert "--vector-column" in refusal(path).hint
    assert "no field 'idd'" in refusal(path, id_column="idd").message
    assert "did you mean 'id'?" in refusal(path, id_column="idd").hint
    assert "not a list of numbers" in refusal(path, vector_column="b").message


def test_what_is_no_plain_value_is_left_out_and_told(tmp_path):
    rows = [
        {
            "id": "a",
            "v": [1.5],
            "meta": {"x": 1},
            "tags": ["p"],
            "none": None,
            "mixed": 1,
            "n": 1,
            "big": 2**64,
        },
        {"id": "b", "v": [2.5], "meta": None, "tags": [], "none": None, "mixed": "1", "n": 2.5, "late": 7},
    ]
    source, ids, _, extra = rows_of(written(tmp_path, rows))
    assert (ids, extra) == (["a", "b"], {"n": [1.0, 2.5], "late": [None, 7]})
    assert source.warnings[0].endswith(": meta, tags, none, mixed, big")


def test_reserved_names_are_changed_and_told(tmp_path):
    rows = [{"id": "a", "word": "k", "vector": 3, "v": [1.5], "fingerprint": 9}]
    source, _, _, extra = rows_of(written(tmp_path, rows), id_column="word")
    assert extra == {"id_": ["a"], "vector_": [3], "fingerprint_": [9]}
    assert "field" in source.warnings[0] or "kept as" in source.warnings[0]


def test_a_field_that_comes_up_late_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 40)
    rows = [{"id": f"w{i}", "v": [i, 0.5]} for i in range(9)]
    path = written(tmp_path, [*rows, {"id": "z", "v": [1, 2], "tag": "x"}])
    assert "line 10: field 'tag' comes up for the first time" in refusal(path).message
    # Where fields are left out anyway, so are those that come later: that was said.
    nested = [{"id": "m", "v": [1, 2], "meta": {}}, *rows, {"id": "z", "v": [1, 2], "tag": "x"}]
    source, ids, _, _ = rows_of(written(tmp_path, nested))
    assert len(ids) == 11
    assert "as are those that come up later" in source.warnings[0]


def test_a_field_that_changes_its_kind_names_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 60)
    rows = [{"id": f"w{i}", "v": [i, 0.5], "n": i} for i in range(9)]
    path = written(tmp_path, [*rows, {"id": "z", "v": [1, 2], "n": "x"}])
    assert "line 10: field 'n' is no int64" in refusal(path).message


@pytest.mark.parametrize("chunk", [7, 100, 8 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_chunks_and_line_ends(chunk, end, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    data = (end or "\n").join(json.dumps({"id": f"é{i}", "v": [i, 0.5]}) for i in range(30)) + end
    _, ids, x, _ = rows_of(written(tmp_path, "\ufeff" + data + "\n\n" * bool(end)))
    assert ids == [f"é{i}" for i in range(30)]
    assert x[:, 0].tolist() == list(range(30))


def test_any_encoding(tmp_path):
    path = written(tmp_path, '{"id": "é", "v": [1.5]}\n'.encode("utf-16"))
    assert rows_of(path, encoding="utf-16")[1] == ["é"]
    assert "not UTF-8 text" in refusal(path).message


# -- two routes ----------------------------------------------------------------------------------------------

NUMBERS = ["0", "-0", "-0.0", "1e5", "1E+5", "0.1", "1e-400", "16777217", "1.00000005960464477539062500000",
           "1.0000000596046447753906250001", "3.4028236e38", "1" + "0" * 50]  # fmt: skip
ODD = ["1e400", "NaN", "-Infinity", "01", "1.", ".5", "+1", "true", "null", '"1"', "[1]", "{}", "1" * 5000]


def agree(data: bytes, plan) -> None:
    """Whatever Arrow's route accepts is what the other one reads, and what that refuses both refuse."""
    chunk = lines.Chunk(1, data)
    try:
        slow = json_rows._careful(chunk, plan)
    except InputError as refused:
        with pytest.raises(InputError) as caught:
            json_rows.parse(chunk, plan)
        assert caught.value.message == refused.message
        return
    fast = json_rows._arrow(data, plan)
    if fast is not None:
        assert fast.ids == slow.ids
        assert fast.vectors.tobytes() == slow.vectors.tobytes()
        assert fast.attributes == slow.attributes


number = st.sampled_from(NUMBERS) | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
odd_number = number | st.sampled_from(ODD)
text = st.text(max_size=4).map(json.dumps) | st.sampled_from(
    ['"\\ud800"', '"\\u00e9"', '"a\tb"', '"\\/"', '"\\x"']
)
value = text | odd_number
field = st.tuples(st.sampled_from(['"id"', '"v"', '"n"', '"t"', '"new"', '"\\u0069d"']), value)
vector = st.lists(odd_number, min_size=1, max_size=3).map(lambda v: f'"v": [{", ".join(v)}]')
obj = st.tuples(text, vector, st.lists(field, max_size=2)).map(
    lambda o: f'{{"id": {o[0]}, {", ".join([o[1], *(f"{k}: {w}" for k, w in o[2])])}}}'
)
separators = st.sampled_from(["\n", "\n", "\n", "", " \n", "\n\n", "\n ", ","])


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(obj, separators), min_size=1, max_size=4), st.booleans())
@example(
    [('{"id": "a", "v": [1, 2]}{"id": "b", "v": [3, 4]}', "\n"), ('{"id": "a",', "\n"), ('"v": [1, 2]}', "")],
    True,
)
@example([('{"id": "a", "v": [1, 2], "n": NaN}', "")], True)
@example([('{"id": "a", "v": [1, NaN]}', "")], True)
@example([('{"id": "a", "v": [1, 2], "v": [1, 2]}', "")], True)
def test_the_fast_route_agrees_with_the_careful_one(rows, strict):
    # What is left out is not looked at by Arrow: there the other route may find a fault.
    assume(strict or not any("new" in row for row, _ in rows))
    data = ("".join(row + end for row, end in rows).rstrip("\n") + "\n").encode("utf-8", "surrogatepass")
    plan = json_rows.Plan(
        path=Path("f"), id="id", whole=False, vector="v", dim=2,
        kinds={"n": pa.float64(), "t": pa.large_string()}, kept={"n": "n", "t": "t"},
        left_out=frozenset() if strict else frozenset({"left"}), warnings=(),
    )  # fmt: skip
    agree(data, plan)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_what_numpy_reads(number, tmp_path):
    with np.errstate(over="ignore", under="ignore"):
        expected = np.float32(number)
    for other in ("1.5", "2e400"):
        _, _, x, _ = rows_of(written(tmp_path, f'{{"id": "a", "v": [{other}, {number}]}}\n'))
        assert x[0, 1].tobytes() == expected.tobytes()


def test_most_files_take_the_fast_route(tmp_path):
    path = written(tmp_path, [{"id": f"w{i}", "v": [i, 0.5], "n": i, "t": "é\n"} for i in range(50)])
    (chunk,) = lines.line_chunks(path)
    assert json_rows._arrow(chunk.data, jsonl._plan(path, chunk, Options())) is not None


# -- refusals ------------------------------------------------------------------------------------------------

GOOD = '{"id": "a", "v": [1, 2]}'


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"id": "b", "v": [1, NaN]}', "line 2: NaN is no JSON number"),
        ('{"id": "b", "v": [-Infinity, 1]}', "line 2: -Infinity is no JSON number"),
        ('{"id": "b", "v": [1]}', "line 2, field 'v': expected 2 numbers, found 1"),
        ('{"id": "b", "v": []}', "line 2, field 'v': expected 2 numbers, found 0"),
        ('{"id": "b", "v": null}', "line 2: field 'v' is null"),
        ('{"id": "b"}', "line 2: field 'v' is missing"),
        ('{"v": [1, 2]}', "line 2: field 'id' is missing"),
        ('{"id": null, "v": [1, 2]}', "line 2: field 'id' is null"),
        ('{"id": 1.5, "v": [1, 2]}', "line 2: field 'id' is neither text nor an integer"),
        ('{"id": true, "v": [1, 2]}', "line 2: field 'id' is neither text nor an integer"),
        ('{"id": "b", "v": [1, null]}', "line 2, field 'v': number 1 of the vector is null"),
        ('{"id": "b", "v": [1, "2"]}', "line 2, field 'v': number 1 of the vector is"),
        ('{"id": "b", "v": [true, 2]}', "line 2, field 'v': number 0 of the vector is true"),
        ('{"id": "b", "v": "1 2"}', "line 2, field 'v': not a list of numbers"),
        ('{"id": "b", "v": [1, 2]', "line 2, column 24: no valid JSON"),
        ('{"id": "b", "v": [1, 2]} x', "line 2, column 26: no valid JSON: Extra data"),
        ('{"id": "b", "v": [1, 2], "v": [1, 2]}', "line 2: a field stands twice"),
        ('{"id": "\\ud800", "v": [1, 2]}', "line 2: half of a surrogate pair"),
        ("[1, 2]", "line 2: not a JSON object"),
        ("7", "line 2: not a JSON object"),
        ("", "line 2: an empty line"),
        ('{"id": "b", "v": [1, 2], "new": ' + "[" * 200_000, "line 2: no valid JSON"),
        ('{"id": "b", "v": ' + "[" * 200_000 + "]" * 200_000 + "}", "line 2: no valid JSON"),
    ],
    ids=lambda value: value[:40],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_bad_line_is_named(line, what, whole, tmp_path, monkeypatch):
    if not whole:
        monkeypatch.setattr(lines, "CHUNK", 25)
    assert what in refusal(written(tmp_path, [GOOD, line, GOOD])).message


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"id": "a", "v": []}, "dimension 0"),
        ({"id": "a", "text": "b"}, "no field holds a list of numbers among: id, text"),
        ({"id": "a", "vector": "[1, 2]"}, "line 1, field 'vector': not a list of numbers"),
        ({"id": "a", "embedding": [[1, 2]]}, "number 0 of the vector is [1, 2]"),
        ({}, "no field holds a list of numbers"),
        ({"id": "a", "v": [1] * (1 << 20) + [2]}, "too wide"),
        ({"id": "a", "v": [1] * (1 << 21)}, "more values than a row can have"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_first_line_without_vector(row, what, tmp_path):
    assert what in refusal(written(tmp_path, [row])).message


@pytest.mark.parametrize("data", [b"\n", b"\xef\xbb\xbf", b"\r\n\n"])
def test_nothing_but_blanks(data, tmp_path):
    assert "holds no rows" in refusal(written(tmp_path, data)).message


def test_text_that_is_not_utf8_names_the_line(tmp_path):
    data = f'{GOOD}\n{{"id": "é", "v": [1, 2]}}\n'.encode("latin-1")
    assert "line 2: not UTF-8 text" in refusal(written(tmp_path, data)).message


def test_depth_that_would_exhaust_the_stack(tmp_path, monkeypatch):
    """Arrow's parser would infer a type of this depth, and crash."""
    monkeypatch.setattr(lines, "CHUNK", 1 << 10)
    deep = '{"id": "b", "v": [1, 2], "z": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001
    nested = '{"id": "a", "v": [1, 2], "z": {}}'
    assert "no valid JSON" in refusal(written(tmp_path, [GOOD] * 60 + [deep])).message
    assert len(rows_of(written(tmp_path, [nested] * 60 + [deep]))[1]) == 61


# -- writing -------------------------------------------------------------------------------------------------


def test_what_is_written_is_json(tmp_path):
    ids = ['a "b"', "x\u0085\u2028\ny", "日本\x00\x1b"]
    attributes = {
        "freq": [1, None, 3],
        "tag": ["", "null", None],
        "score": [0.5, 2.0, None],
        "ok": [True, False, None],
    }
    table = EmbeddingTable.from_arrays(ids, X, attributes=attributes)
    assert write_table(table, tmp_path / "v.jsonl") == ()
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ids
    assert [[np.float32(v).tobytes() for v in row["vector"]] for row in rows][1:] == [
        [v.tobytes() for v in row] for row in X[1:]
    ]
    assert {name: [row[name] for row in rows] for name in attributes} == attributes
    source, found, x, extra = rows_of(tmp_path / "v.jsonl")
    assert (found, x.tobytes(), extra, source.warnings) == (ids, X.tobytes(), attributes, ())


def test_what_json_cannot_hold(tmp_path):
    bad = EmbeddingTable.from_arrays(["a", "b"], np.array([[1, 2], [np.nan, 3]], dtype=np.float32))
    with pytest.raises(InputError, match="id 'b': NaN or infinity"):
        write_table(bad, tmp_path / "v.jsonl")
    assert list(tmp_path.iterdir()) == []
    attributes = {
        "p": [[1], [2], [3]],
        "q": [float("nan"), 1.0, None],
        "day": pa.array([1, 2, 3], pa.date32()),
    }
    table = EmbeddingTable.from_arrays(["a", "b", "c"], X, attributes=attributes)
    notes = write_table(table, tmp_path / "v.jsonl")
    assert "several values a row are not kept: p" in notes[0]
    assert "became null in attributes: q" in notes[1]
    assert rows_of(tmp_path / "v.jsonl")[3] == {
        "q": [None, 1.0, None],
        "day": ["1970-01-02", "1970-01-03", "1970-01-04"],
    }
