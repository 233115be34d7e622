"""Parquet and Arrow: which columns are taken, what becomes of the others, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from embreg.registry.errors import InputError
from embreg.registry.formats import Options, base, open_source, write_table
from embreg.registry.tables import EmbeddingTable

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
IDS = ["a", "b c", "d\ne", ""]
ROWS = X.tolist()


def as_parquet(table, path):
    pq.write_table(table, path, row_group_size=3)
    return path


def as_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def as_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def as_feather(table, path):
    feather.write_feather(table, path, compression="lz4")
    return path


WRITERS = {"v.parquet": as_parquet, "v.arrow": as_file, "v.arrows": as_stream, "v.feather": as_feather}


@pytest.fixture(params=WRITERS)
def save(request, tmp_path):
    return lambda table: WRITERS[request.param](table, tmp_path / request.param)


def rows_of(path, **more):
    source = open_source(path, options=Options(**more))
    batches = list(source.batches())
    x = np.concatenate([b.vectors for b in batches])
    assert x.shape[1] == source.dim
    assert x.dtype.name == source.dtype
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    ids = None if batches[0].ids is None else [i for b in batches for i in b.ids.to_pylist()]
    extra = None
    if batches[0].attributes is not None:
        extra = pa.Table.from_batches([b.attributes for b in batches]).to_pydict()
    return source, ids, x, extra


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 3),
        pa.list_(pa.float64()),
        pa.list_(pa.float16(), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 8 << 20])
def test_every_kind_of_list(kind, batch, save, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    name = {pa.float16(): "float16", pa.float64(): "float64"}.get(kind.value_type, "float32")
    vectors = pa.array([[np.dtype(name).type(v) for v in row] for row in ROWS], kind)
    table = pa.table({"word": IDS, "n": [1, None, 3, 4], "vector": vectors})
    source, ids, x, extra = rows_of(save(table))
    expected = X.astype(np.float16) if name == "float16" else X
    assert (ids, extra) == (IDS, {"n": [1, None, 3, 4]})
    assert x.tobytes() == expected.tobytes()
    assert source.warnings == (("float64 values were rounded to float32",) if name == "float64" else ())


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_one_column_a_dimension(name, save):
    columns = {f"d{j}": X[:, j].astype(name) for j in range(3)}
    source, ids, x, extra = rows_of(save(pa.table({"d_id": IDS, **columns})))
    kept = "float16" if name == "float16" else "float32"
    assert (ids, extra, source.dtype) == (IDS, None, kept)
    assert "ids were taken from column 'd_id'" in source.warnings
    assert np.array_equal(x, X.astype(name).astype(kept))


def test_other_columns_beside_dimensions_are_attributes_and_told(save):
    table = pa.table({"id": IDS, "x": X[:, 0], "label": [1, 2, 3, 4], "y": X[:, 1], "tag": list("pqrs")})
    source, ids, x, extra = rows_of(save(table))
    assert (ids, source.dim) == (IDS, 2)
    assert np.array_equal(x, X[:, :2])
    assert extra == {"label": [1, 2, 3, 4], "tag": list("pqrs")}
    assert source.warnings == ("columns that are not floats are attributes, not dimensions: label",)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IDS, pa.large_string()),
        pa.array(IDS).dictionary_encode(),
        pa.array([i.encode() for i in IDS]),
        pa.array(IDS, pa.string_view()),
    ],
    ids=lambda c: str(c.type),
)
def test_every_kind_of_string_may_be_ids(column, save):
    table = pa.table({"key": column, "v": pa.array(ROWS)})
    if column.type == pa.binary():
        assert rows_of(save(table), id_column="key")[1] == IDS
    else:
        assert rows_of(save(table))[1] == IDS


def test_integers_may_be_ids(save):
    table = pa.table({"text": IDS, "id": [7, 8, 9, -1], "v": pa.array(ROWS)})
    _, ids, _, extra = rows_of(save(table))
    assert (ids, extra) == (["7", "8", "9", "-1"], {"text": IDS})


def test_without_a_column_of_ids_rows_are_numbered_by_the_registry(save):
    assert rows_of(save(pa.table({"v": pa.array(ROWS), "n": [1, 2, 3, 4]})))[1] is None


def test_named_columns_are_taken(save):
    table = pa.table({"id": IDS, "other": list("pqrs"), "v": pa.array(ROWS), "w": pa.array((X + 1).tolist())})
    path = save(table)
    source, ids, x, extra = rows_of(path, id_column="other", vector_column="w")
    assert (ids, x[0, 0]) == (list("pqrs"), 1)
    assert extra.keys() == {"id_", "v"}
    assert source.warnings == (
        "float64 values were rounded to float32",
        "column 'id' is kept as the attribute 'id_'",
    )
    error = refusal(path)
    assert "several columns of vectors: v, w" in error.message
    assert "--vector-column" in error.hint
    assert "did you mean 'other'?" in refusal(path, id_column="othr").hint
    assert "no column 'vv'" in refusal(path, vector_column="vv").message
    assert "holds string, not lists" in refusal(path, vector_column="other").message


def test_a_column_named_as_vectors_wins(save):
    table = pa.table({"v": pa.array(ROWS), "Embedding": pa.array((X + 1).tolist())})
    assert rows_of(save(table))[2][0, 0] == 1


def test_fingerprints_are_dropped_only_where_they_are_ours(save):
    prints = pa.array([1, 2, 3, 4], pa.uint64())
    ours = pa.table({"id": IDS, "vector": pa.array(ROWS), "fingerprint": prints})
    assert rows_of(save(ours))[3] is None
    theirs = pa.table({"id": IDS, "vector": pa.array(ROWS), "fingerprint": IDS})
    assert rows_of(save(theirs))[3] == {"fingerprint_": IDS}


def test_dictionaries_of_attributes_become_plain_values(save):
    tag = pa.array(["p", "q", "p", None]).dictionary_encode()
    _, _, _, extra = rows_of(save(pa.table({"id": IDS, "v": pa.array(ROWS), "tag": tag})))
    assert extra == {"tag": ["p", "q", "p", None]}


def test_slices_and_nulls_do_not_shift_rows(save):
    table = pa.table({"id": ["z", *IDS], "v": pa.array([[9.0, 9.0, 9.0], *ROWS])}).slice(1)
    _, ids, x, _ = rows_of(save(table))
    assert ids == IDS
    assert np.array_equal(x, X)


@pytest.mark.parametrize(
    ("vectors", "what"),
    [
        (pa.array([[1.0, 2], None, [3, 4]]), "row 1, column 'v': the vector is null"),
        (pa.array([None, [1.0, 2], [3, 4]]), "row 0, column 'v': the vector is null"),
        (pa.array([[1.0, 2], [3, 4], [5.0]]), "row 2, column 'v': expected 2 numbers, found 1"),
        (pa.array([[1.0, 2], [3, None], [5, 6]]), "row 1, column 'v': number 1 of the vector is null"),
        (pa.array([[], [], []], pa.list_(pa.float32())), "dimension 0"),
        (
            pa.array([[1.0, 2], None], pa.list_(pa.float32(), 2)),
            "row 1, column 'v': the vector is null",
        ),
        (pa.array([1.0, None, 2.0]), "row 1, column 'v': the number is null"),
        (pa.array([[1, 2], [3, 4], [5, 6]]), "no column of floats"),
        (pa.array([True, False, True]), "no column of floats"),
        (pa.array([1, 2, 3]), "no column of floats or of lists of floats among: id (string), v (int64)"),
    ],
)
def test_bad_vectors_name_the_row(vectors, what, save):
    table = pa.table({"id": ["a", "b", "c"][: len(vectors)], "v": vectors})
    assert what in refusal(save(table)).message


def test_lists_of_integers_are_named(save):
    error = refusal(save(pa.table({"id": IDS, "vector": pa.array(X.astype(int).tolist())})))
    assert "column 'vector': holds lists of int64, not of floats" in error.message


def test_a_null_id_names_the_row(save):
    error = refusal(save(pa.table({"id": ["a", "b", "c", None], "v": pa.array(ROWS)})))
    assert "row 3, column 'id': the id is null" in error.message


def test_a_table_without_rows(save):
    assert "no rows" in refusal(save(pa.table({"id": IDS, "v": pa.array(ROWS)}).slice(0, 0))).message


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(IDS), pa.array(ROWS), pa.array(ROWS)], names=["id", "v", "v"])
    assert "two columns are called 'v'" in refusal(as_file(table, tmp_path / "v.arrow")).message


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.999])
def test_a_truncated_file(share, save):
    path = save(pa.table({"id": IDS * 500, "v": pa.array(ROWS * 500)}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path)


def test_text_that_is_not_utf8(save):
    wrong = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 2], "<i4")), pa.py_buffer(b"a\xff"))
    for table in (
        pa.table({"id": wrong, "v": pa.array(ROWS[:2])}),
        pa.table({"id": ["a", "b"], "tag": wrong, "v": pa.array(ROWS[:2])}),
    ):
        refusal(save(table))


def test_feather_version_1(tmp_path):
    (tmp_path / "v.feather").write_bytes(b"FEA1" + bytes(60) + b"FEA1")
    assert "version 1" in refusal(tmp_path / "v.feather").message


def test_extension_types_are_read_by_their_storage(save):
    kind = pa.fixed_shape_tensor(pa.float32(), [3])
    vectors = pa.ExtensionArray.from_storage(kind, pa.array(ROWS, pa.list_(pa.float32(), 3)))
    assert np.array_equal(rows_of(save(pa.table({"id": IDS, "v": vectors})))[2], X)


# -- Hugging Face datasets -----------------------------------------------------------------------------------


def exported(tmp_path, dtype):
    table = EmbeddingTable.from_arrays(
        ["a", "ö", "c", ""], X.astype(dtype), attributes={"special": [True, False] * 2, "freq": [1, 2, 3, 4]}
    )
    write_table(table, tmp_path / "v.parquet")
    return tmp_path / "v.parquet"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_columns_of_an_export_are_those_that_datasets_loads(dtype, tmp_path):
    """These types are what datasets 5.2 was seen to load; other lists would load without their length."""
    kind = pa.float16() if dtype == "float16" else pa.float32()
    assert pq.read_schema(exported(tmp_path, dtype)) == pa.schema(
        [
            pa.field("id", pa.large_string(), nullable=False),
            pa.field("vector", pa.list_(kind, 3), nullable=False),
            pa.field("special", pa.bool_()),
            pa.field("freq", pa.int64()),
        ]
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_datasets_loads_an_export(dtype, tmp_path):
    datasets = pytest.importorskip("datasets")
    file = str(exported(tmp_path, dtype))
    loaded = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    assert loaded.features["id"] == datasets.Value("large_string")
    assert loaded.features["vector"] == datasets.List(datasets.Value(dtype), length=3)
    assert loaded["id"][:] == ["a", "ö", "c", ""]
    assert np.array_equal(np.array(loaded["vector"][:]), X.astype(dtype))
