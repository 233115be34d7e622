"""TensorBoard's projector: vectors and metadata side by side, there and back."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embreg.registry.errors import InputError, UsageError
from embreg.registry.formats import FORMATS, Options, lines, open_source, write_table
from embreg.registry.tables import EmbeddingTable

X = np.array([[0.1, -0.0], [1e-45, 3.4028235e38], [1 / 3, -7]], dtype=np.float32)
IDS = ['a "b"', "x\u0085y", " 7, "]


def exported(path, ids=IDS, x=X, **attributes) -> tuple[str, ...]:
    table = EmbeddingTable.from_arrays(ids, x, attributes=attributes)
    return write_table(table, path, format="tensorboard", overwrite=True)


def rows_of(path, **more):
    source = open_source(path, format="tensorboard", options=Options(**more))
    batches = list(source.batches())
    ids = None if batches[0].ids is None else [i for b in batches for i in b.ids.to_pylist()]
    extra = None
    if batches[0].attributes is not None:
        extra = pa.Table.from_batches([b.attributes for b in batches]).to_pydict()
    return source, ids, np.concatenate([b.vectors for b in batches]), extra


def refusal(path) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path)
    assert caught.value.hint
    return caught.value


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_export_reads_back_the_same(data, tmp_path):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 3)))
    x = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))
    letters = st.characters(exclude_categories=["Cs"])
    ids = data.draw(st.lists(st.text(letters, max_size=5), min_size=len(x), max_size=len(x)))
    attributes = {"n": list(range(len(x)))} if data.draw(st.booleans()) else {}
    try:
        exported(tmp_path / "v.tsv", ids, x, **attributes)
    except InputError as refused:
        assert "cannot hold" in refused.message
        assert any(not i.strip() or set(i) & set("\t\r\n") for i in ids)
        return
    _, found, y, extra = rows_of(tmp_path / "v.tsv")
    assert (found, extra) == (ids, attributes or None)
    np.testing.assert_array_equal(y, x)
    assert y.tobytes() == x.tobytes() or np.isnan(x).any()


def test_the_files_are_as_the_projector_wants_them(tmp_path):
    assert exported(tmp_path / "v.tsv") == ()
    assert (tmp_path / "v.tsv").read_text() == "0.1\t-0\n1e-45\t3.4028235e+38\n0.33333334\t-7\n"
    # One column has no header, several have one.
    assert (tmp_path / "v.metadata.tsv").read_text(encoding="utf-8") == 'a "b"\nx\u0085y\n 7, \n'
    exported(tmp_path / "v.tsv", freq=[1, None, 3], tag=["p", "", "q"])
    with (tmp_path / "v.metadata.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [["id", "freq", "tag"], [IDS[0], "1", "p"], [IDS[1], "", ""], [IDS[2], "3", "q"]]
    source, ids, x, extra = rows_of(tmp_path / "v.tsv")
    assert (ids, x.tobytes()) == (IDS, X.tobytes())
    assert extra == {"freq": [1, None, 3], "tag": ["p", None, "q"]}
    assert source.warnings == ("ids were read from v.metadata.tsv",)


def test_another_name_than_tsv(tmp_path):
    exported(tmp_path / "v.data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.data", "v.data.metadata.tsv"]
    assert rows_of(tmp_path / "v.data")[1] == IDS


def test_tabs_in_attributes_become_spaces_and_are_told(tmp_path):
    notes = exported(tmp_path / "v.tsv", **{"a\tb": ["x\ty", "p\nq", "r"], "l": [[1], [2], [3]]})
    assert notes == (
        "attributes of several values a row are not kept: l",
        "tabs and line ends became spaces in attributes: a\\tb",
    )
    assert rows_of(tmp_path / "v.tsv")[3] == {"a b": ["x y", "p q", "r"]}


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\r", "", "  "])
def test_ids_that_cannot_be_held_leave_nothing_behind(name, tmp_path):
    with pytest.raises(InputError, match="cannot hold"):
        exported(tmp_path / "v.tsv", [*IDS[:2], name])
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_another_table_are_not_overwritten(tmp_path):
    (tmp_path / "v.metadata.tsv").write_text("mine")
    table = EmbeddingTable.from_arrays(IDS, X)
    with pytest.raises(InputError, match=r"metadata\.tsv: exists already"):
        write_table(table, tmp_path / "v.tsv", format="tensorboard")
    assert [p.name for p in tmp_path.iterdir()] == ["v.metadata.tsv"]


def test_metadata_as_others_call_them(tmp_path):
    (tmp_path / "vectors.tsv").write_text("1\t2\r\n3\t4\r\n\n")
    assert rows_of(tmp_path / "vectors.tsv")[0].warnings == ("no metadata beside it: rows are numbered",)
    (tmp_path / "metadata.tsv").write_text("Name\tvector\r\na\tx\r\nb\t7\r\n")
    source, ids, x, extra = rows_of(tmp_path / "vectors.tsv")
    assert (ids, x.tolist(), extra) == (["a", "b"], [[1, 2], [3, 4]], {"vector_": ["x", "7"]})
    assert source.warnings == (
        "ids were read from metadata.tsv",
        "column 'vector' is kept as the attribute 'vector_'",
    )


def test_quotes_mean_nothing(tmp_path):
    exported(tmp_path / "v.tsv", ['"', 'a"', '"b"'], tag=['"', "", '""'])
    _, ids, _, extra = rows_of(tmp_path / "v.tsv")
    assert (ids, extra) == (['"', 'a"', '"b"'], {"tag": ['"', None, '""']})


@pytest.mark.parametrize("chunk", [1, 9, 8 << 20])
def test_chunks_of_any_size(chunk, tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    exported(tmp_path / "v.tsv", [f"é{i}" for i in range(50)], x, n=list(range(50)))
    monkeypatch.setattr(lines, "CHUNK", chunk)
    _, ids, y, extra = rows_of(tmp_path / "v.tsv")
    assert (ids, y.tobytes(), extra) == ([f"é{i}" for i in range(50)], x.tobytes(), {"n": list(range(50))})


@pytest.mark.parametrize(
    ("vectors", "metadata", "what"),
    [
        ("1\t2\n3\t4\n", "a\n", "1 ids, but the vectors have more rows"),
        ("1\t2\n", "a\nb\n", "2 ids for 1 rows"),
        ("1\t2\n3\n", "a\nb\n", "line 2: expected 2 fields, found 1"),
        ("1\t2\n3\tx\n", "a\nb\n", "line 2, column '1': 'x' is not a number"),
        ("1\t2\n\n3\t4\n", "a\nb\n", "line 2: an empty line"),
        ("1\t2\n3\t4\n", "a\n\n", "line 2: no id"),
        ("1\t2\n3\t4\n", "id\tn\na\t1\n\t2\n", "line 3: no id"),
        ("1\t2\n3\t4\n", "id\tn\na\t1\nb\n", "line 3: expected 2 fields, found 1"),
        ("1\t2\n", "id\tn\tn\na\t1\t2\n", "two columns have one name"),
        ("1\t2\n", "", "holds no ids"),
        ("\n", "a\n", "holds no rows"),
        ("id\t0\t1\na\t1\t2\n", "a\n", "line 1, column '0': 'id' is not a number"),
    ],
)
def test_what_does_not_fit(vectors, metadata, what, tmp_path):
    (tmp_path / "v.tsv").write_text(vectors)
    (tmp_path / "v.metadata.tsv").write_text(metadata)
    assert what in refusal(tmp_path / "v.tsv").message


def test_it_is_taken_by_name_only(tmp_path):
    assert FORMATS["tensorboard"].suffixes == ()
    exported(tmp_path / "v.tsv")
    source = open_source(tmp_path / "v.tsv")
    assert source.format == "tsv"
    assert source.warnings == ("ids may stand in the metadata beside it: --format tensorboard reads them",)
    with pytest.raises(UsageError, match="not written through gzip"):
        exported(tmp_path / "v.tsv.gz")


@pytest.mark.parametrize("name", sorted(n for n, f in FORMATS.items() if f.writes))
def test_every_format_keeps_the_content(name, registry, tmp_path):
    """Ids and vector bytes: what the content digest covers, and attributes do not change it."""
    rng = np.random.default_rng(1)
    x = np.vstack([X, rng.normal(size=(200, 2)).astype(np.float32)])
    ids = ["é", "'s", "\u0085"] + [f"w{i}" for i in range(200)]
    first = registry.register("first", EmbeddingTable.from_arrays(ids, x, attributes={"n": list(range(203))}))
    path = tmp_path / f"out{(FORMATS[name].suffixes or ('.tsv',))[0]}"
    registry.export("first", path, format=name)
    second = registry.register("second", path, format=name)
    assert second.version.content_digest == first.version.content_digest
