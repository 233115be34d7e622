"""FAISS index files: every family that gives its vectors back, its ids, and what a damaged file cannot do."""

from __future__ import annotations

import json
import random
import runpy
import struct
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

from embreg.registry.errors import EmbregError, InputError
from embreg.registry.formats import Options, faiss_index, open_source, write_table
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space

ROWS, DIM = 320, 8
X = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
FUZZ = runpy.run_path(str(Path(__file__).with_name("test_formats_fuzz.py")))
INNER, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


def built(factory: str, metric: int = L2, ids: np.ndarray | None = None) -> faiss.Index:
    index = faiss.index_factory(DIM, factory, metric)
    index.train(X)
    index.add(X) if ids is None else index.add_with_ids(X, ids)
    return index


def saved(tmp_path: Path, factory: str, metric: int = L2, ids: np.ndarray | None = None) -> Path:
    faiss.write_index(built(factory, metric, ids), str(tmp_path / "v.faiss"))
    return tmp_path / "v.faiss"


def rows_of(path, **options):
    source = open_source(path, options=Options(**options))
    batches = list(source.batches())
    names = None if batches[0].ids is None else [name for b in batches for name in b.ids.to_pylist()]
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    x = np.concatenate([b.vectors for b in batches])
    assert (len(x), x.shape[1], x.dtype.name) == (source.rows, source.dim, source.dtype)
    return source, names, x


def refusal(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **options)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


# -- flat ones, by their layout ------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "declares"), [(INNER, {"metric": "dot"}), (L2, {"metric": "l2"})])
@pytest.mark.parametrize("factory", ["Flat", "IDMap,Flat", "IDMap2,Flat"])
def test_flat_indexes(factory, metric, declares, tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_index, "_MANY", 100)
    ids = np.arange(ROWS) * 7 - 5 if "IDMap" in factory else None
    source, names, x = rows_of(saved(tmp_path, factory, metric, ids))
    assert (source.format, source.declares, source.warnings) == ("faiss", declares, ())
    assert x.tobytes() == X.tobytes()
    assert names == (None if ids is None else [str(i) for i in ids])


def test_a_flat_index_of_another_metric(tmp_path):
    source, _, x = rows_of(saved(tmp_path, "Flat", faiss.METRIC_L1))
    assert source.declares == {}
    assert "its metric, number 2 of FAISS, is none that is known" in source.warnings[0]
    assert x.tobytes() == X.tobytes()


def test_the_library_is_not_needed_for_flat_ones(tmp_path, monkeypatch):
    path = saved(tmp_path, "IDMap,Flat", ids=np.arange(ROWS))
    monkeypatch.setattr(faiss_index.child, "running", None)
    assert rows_of(path)[2].tobytes() == X.tobytes()


# -- the others, through FAISS -------------------------------------------------------------------------------

EXACT = ["HNSW8", "IVF4,Flat", "IVF4_HNSW8,Flat", "NSG8,Flat", "SQ8,RFlat", "IDMap,HNSW8", "IDMap,IVF4,Flat"]
CODED = ["SQ8", "PQ4x4", "IVF4,SQ8", "IVF4,PQ4x4", "OPQ4_8,IVF4,PQ4x4", "HNSW8_SQ8", "PCA4,Flat", "RQ2x4"]


@pytest.mark.parametrize("factory", EXACT)
def test_vectors_that_are_kept_as_they_are(factory, tmp_path):
    ids = np.random.default_rng(1).permutation(ROWS) * 3 if "IDMap" in factory else None
    source, names, x = rows_of(saved(tmp_path, factory, ids=ids))
    assert (source.warnings, source.declares) == ((), {"metric": "l2"})
    assert x.tobytes() == X.tobytes()
    assert names == (None if ids is None else [str(i) for i in ids])


@pytest.mark.parametrize("factory", CODED)
def test_vectors_that_are_made_again_from_codes(factory, tmp_path):
    path = saved(tmp_path, factory)
    oracle = built_again(path)
    source, names, x = rows_of(path)
    assert len(source.warnings) == 1
    assert source.warnings[0].startswith("vectors are reconstructed from an Index")
    assert names is None
    assert x.tobytes() == oracle.tobytes()
    assert x.tobytes() != X.tobytes()


def built_again(path: Path) -> np.ndarray:
    whole = faiss.read_index(str(path))
    index = faiss.downcast_index(whole)
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    if isinstance(inner, faiss.IndexIVF):
        inner.make_direct_map()
    return index.reconstruct_n(0, ROWS)


@pytest.mark.parametrize("factory", ["IVF4,Flat", "OPQ4_8,IVF4,PQ4x4"])
def test_an_inverted_file_with_ids_of_its_own(factory, tmp_path):
    ids = np.random.default_rng(1).permutation(ROWS) * 7 + 5
    path = saved(tmp_path, factory, ids=ids)
    _, names, x = rows_of(path)
    assert names == [str(i) for i in sorted(ids)]
    if factory == "IVF4,Flat":
        assert x.tobytes() == X[np.argsort(ids)].tobytes()
    else:
        assert np.abs(x - X[np.argsort(ids)]).mean() < np.abs(x - X).mean() / 2
    (tmp_path / "ids.txt").write_text("\n".join(f"w{i}" for i in range(ROWS)))
    assert "ids of their own, and no other order" in refusal(path, ids=tmp_path / "ids.txt").message


@pytest.mark.parametrize("factory", ["Flat", "IDMap,Flat", "HNSW8", "IDMap,HNSW8"])
def test_ids_from_a_file_win(factory, tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(f"w{i}" for i in range(ROWS)))
    ids = np.arange(ROWS) + 5 if "IDMap" in factory else None
    _, names, x = rows_of(saved(tmp_path, factory, ids=ids), ids=tmp_path / "ids.txt")
    assert names == [f"w{i}" for i in range(ROWS)]
    assert x.tobytes() == X.tobytes()


def test_rows_pass_in_slabs(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(5000, 600)).astype(np.float32)
    index = faiss.IndexHNSWFlat(600, 2)
    index.hnsw.efConstruction = 1
    index.add(x)
    faiss.write_index(index, str(tmp_path / "v.index"))
    batches = list(open_source(tmp_path / "v.index").batches())
    assert len(batches) == 2
    assert np.concatenate([b.vectors for b in batches]).tobytes() == x.tobytes()


# -- an export -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "number"), [("dot", INNER), ("l2", L2), ("cosine", INNER)])
def test_an_export_is_what_faiss_writes(metric, number, tmp_path):
    table = EmbeddingTable.from_arrays([f"w{i}" for i in range(ROWS)], X, space=Space(dim=DIM, metric=metric))
    notes = write_table(table, tmp_path / "e.faiss")
    assert [("inner products" in note) for note in notes] == [True] * (metric == "cosine")
    assert (tmp_path / "e.faiss").read_bytes() == saved(tmp_path, "Flat", number).read_bytes()
    found = json.loads((tmp_path / "e.faiss.ids.json").read_text())
    assert found == [f"w{i}" for i in range(ROWS)]
    assert faiss.read_index(str(tmp_path / "e.faiss")).reconstruct_n(0, ROWS).tobytes() == X.tobytes()


def test_there_and_back_keeps_the_content_digest(registry, table, tmp_path):
    first = registry.register("a", table(rows=300, dim=5), metric="l2").version
    registry.export("a", tmp_path / "a.index")
    second = registry.register("b", tmp_path / "a.index").version
    assert (second.content_digest, second.space.metric) == (first.content_digest, "l2")


def test_float16_is_widened_and_told(tmp_path):
    table = EmbeddingTable.from_arrays(
        None, X.astype(np.float16), space=Space(dim=DIM, dtype="float16", metric="l2")
    )
    assert write_table(table, tmp_path / "e.faiss") == (
        "float16 rows are kept as float32 by faiss, each exactly",
    )
    assert np.array_equal(rows_of(tmp_path / "e.faiss")[2], X.astype(np.float16))


# -- refusals ------------------------------------------------------------------------------------------------


def test_kinds_that_do_not_give_their_vectors_back(tmp_path):
    for factory in ("LSH", "IVF4,PQ4x4fs"):
        error = refusal(saved(tmp_path, factory))
        assert "a FAISS index of a kind that is not read (I" in error.message
    binary = faiss.IndexBinaryFlat(16)
    binary.add(np.zeros((4, 2), np.uint8))
    faiss.write_index_binary(binary, str(tmp_path / "b.faiss"))
    assert "a binary FAISS index" in refusal(tmp_path / "b.faiss").message
    (tmp_path / "n.faiss").write_bytes(b"what is this?")
    assert "not a FAISS index" in refusal(tmp_path / "n.faiss").message
    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "e.faiss"))
    assert "holds no rows" in refusal(tmp_path / "e.faiss").message


def test_lists_in_another_file_are_not_followed(tmp_path):
    index = built("IVF4,Flat")
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "lists"))
    lists.merge_from(index.invlists, 0)
    index.replace_invlists(lists, False)
    faiss.write_index(index, str(tmp_path / "v.faiss"))
    assert faiss.read_index(str(tmp_path / "v.faiss")).ntotal == ROWS
    assert "its inverted lists lie in another file" in refusal(tmp_path / "v.faiss").message


def flat_bytes(rows: int, dim: int, count: int, data: bytes = b"", word: bytes = b"IxF2") -> bytes:
    head = struct.pack("<4siqqq?i", word, dim, rows, 1 << 20, 1 << 20, True, 1)
    return head + struct.pack("<q", count) + data


@pytest.mark.parametrize(
    ("rows", "dim", "count", "size", "what"),
    [
        (10**12, 300, 3 * 10**14, 1200, "promises 1000000000000 rows, the file holds 1"),
        (4, 3, 12, 47, "row 3: truncated"),
        (4, 3, 12, 49, "94 bytes, not the 93 of 4 rows"),
        (4, 3, 11, 48, "not the 93 of 4 rows"),
        (-4, 3, 12, 48, "of another size"),
        (4, -3, 12, 48, "of another size"),
        (4, 0, 0, 0, "dimension 0"),
        (4, 1 << 21, 1 << 23, 48, "truncated"),
    ],
)
def test_flat_headers_that_lie(rows, dim, count, size, what, tmp_path):
    (tmp_path / "v.faiss").write_bytes(flat_bytes(rows, dim, count, bytes(size)))
    assert what in refusal(tmp_path / "v.faiss").message


def test_id_maps_that_lie(tmp_path):
    path = saved(tmp_path, "IDMap,Flat", ids=np.arange(ROWS))
    whole = path.read_bytes()
    at = len(whole) - 8 * ROWS - 8
    path.write_bytes(whole[:at] + struct.pack("<q", ROWS - 1) + whole[at + 8 :])
    assert f"its id map is not of {ROWS} ids" in refusal(path).message
    path.write_bytes(whole[:8] + struct.pack("<q", ROWS + 1) + whole[16:])
    assert "an id map of another size" in refusal(path).message
    for length in range(1, len(whole), 501):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("word", [b"IHNf", b"IxSQ", b"IwFl"])
def test_rows_beyond_the_bits_of_the_file(word, tmp_path):
    (tmp_path / "v.faiss").write_bytes(flat_bytes(10**12, 3, 12, bytes(48), word))
    assert "promises 1000000000000 rows" in refusal(tmp_path / "v.faiss").message


@pytest.mark.parametrize("factory", ["HNSW8", "IVF4,SQ8", "OPQ4_8,IVF4,PQ4x4"])
def test_damaged_files_end_in_our_errors(factory, tmp_path):
    """Every case is a process: what crashes FAISS, or asks it for terabytes, is one error here."""
    path = saved(tmp_path, factory)
    whole = path.read_bytes()
    refused = 0
    for case in range(8):
        path.write_bytes(FUZZ["mutated"](whole, random.Random(case)))
        began = time.perf_counter()
        try:
            FUZZ["consume"](path, Options(), "faiss")
        except EmbregError as exc:
            refused += 1
            assert str(exc).isprintable()
        assert time.perf_counter() - began < 20, case
    assert refused > 2
