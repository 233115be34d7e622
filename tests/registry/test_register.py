"""Registering, and what a version is: digests, numbers, spaces, streaming."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embreg import EmbeddingTable, Registry, Space
from embreg.registry.errors import InputError, InvalidRef, UsageError, VersionNotFound
from embreg.registry.tables import part_rows
from embreg.registry.types import Relation


def test_a_version_is_numbered_found_and_read_back(registry: Registry, table) -> None:
    given_table = table()
    done = registry.register("docs", given_table, message="first", alias="production", model="m1")
    assert done.created
    assert done.version.ref == "docs@1"
    for ref in ("docs", "docs@1", "docs@v1", "docs@production", f"docs@sha256:{done.version.digest[:8]}"):
        assert registry.resolve(ref).digest == done.version.digest
    read = registry.table("docs")
    assert np.array_equal(read.vectors, given_table.vectors)
    assert read.ids.to_pylist() == given_table.ids.to_pylist()
    assert registry.resolve("docs").space.model == "m1"


def test_the_vectors_of_one_part_are_the_mapped_file_and_read_only(registry: Registry, table) -> None:
    registry.register("docs", table())
    vectors = registry.table("docs").vectors
    assert not vectors.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1


def test_the_latest_version_registered_again_is_that_version(registry: Registry, table) -> None:
    first = registry.register("docs", table())
    again = registry.register("docs", table())
    assert not again.created
    assert again.version.digest == first.version.digest
    assert len(registry.versions("docs")) == 1


def test_an_older_version_registered_again_is_a_new_version(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    registry.register("docs", table(seed=1))
    back = registry.register("docs", table(seed=0))
    assert back.created
    assert back.version.number == 3
    assert back.version.digest == registry.resolve("docs@1").digest


def reordered(table: EmbeddingTable) -> EmbeddingTable:
    order = np.random.default_rng(5).permutation(table.rows)
    return EmbeddingTable.from_arrays(table.ids_of(order), table.take(order))


def test_order_and_encoding_make_a_version_but_not_another_content(registry: Registry, table) -> None:
    first = registry.register("docs", table()).version
    mixed = registry.register("docs", reordered(table())).version
    parquet = registry.register("docs", table(), storage="parquet").version
    assert len({first.digest, mixed.digest, parquet.digest}) == 3
    assert len({first.content_digest, mixed.content_digest, parquet.content_digest}) == 1
    assert registry.diff("docs@1", "docs@2").relation is Relation.IDENTICAL
    assert registry.diff("docs@1", "docs@2").reordered
    assert not registry.diff("docs@1", "docs@3").reordered
    assert np.array_equal(registry.table("docs@3").vectors, registry.table("docs@1").vectors)


def test_if_changed_makes_no_version_of_the_same_content(registry: Registry, table) -> None:
    registry.register("docs", table())
    assert not registry.register("docs", reordered(table()), if_changed=True).created
    assert registry.register("docs", table(seed=1), if_changed=True).created


def test_what_is_not_said_is_as_in_the_version_before(registry: Registry, table) -> None:
    registry.register("docs", table(), model="m1", kind="sentence", metric="dot", tags={"a": "b"})
    space = registry.register("docs", table(seed=1)).version.space
    assert (space.model, space.kind, space.metric, dict(space.tags)) == ("m1", "sentence", "dot", {"a": "b"})
    space = registry.register("docs", table(seed=2), model="m2").version.space
    assert (space.model, space.kind) == ("m2", "sentence")
    assert registry.diff("docs@2", "docs@3").relation is Relation.RESPACED


def test_tied_is_recorded_and_told_without_breaking_the_space(registry: Registry, table) -> None:
    registry.register("tokens", table(), kind="token-input", tied=True)
    assert registry.register("tokens", table(seed=1)).version.space.tied is True
    registry.register("tokens", table(seed=1), tied=False)
    diff = registry.diff("tokens@2", "tokens@3")
    assert [(c.field, c.breaking) for c in diff.space_changes] == [("tied", False)]
    assert diff.relation is Relation.IDENTICAL


def test_normalisation_is_measured(registry: Registry, table) -> None:
    raw = table()
    unit = raw.vectors / np.linalg.norm(raw.vectors, axis=1, keepdims=True)
    assert not registry.register("docs", raw).version.space.normalised
    done = registry.register("docs", EmbeddingTable.from_arrays(raw.ids, unit))
    assert done.version.space.normalised
    changes = registry.diff("docs@1", "docs@2").space_changes
    assert [c.field for c in changes] == ["normalised"]


@pytest.mark.parametrize(
    ("old", "new", "relation", "counts"),
    [
        (range(10), range(12), Relation.APPENDED, (2, 0, 0, 10)),
        (range(10), range(2, 10), Relation.REMOVED, (0, 2, 0, 8)),
        (range(10), range(2, 12), Relation.CHANGED, (2, 2, 0, 8)),
        (range(10), range(10), Relation.IDENTICAL, (0, 0, 0, 10)),
        (range(5), range(5, 9), Relation.CHANGED, (4, 5, 0, 0)),
    ],
)
def test_relations_by_id(registry: Registry, table, old, new, relation, counts) -> None:
    everything = table(20)
    for rows in (old, new):
        registry.register(
            "docs", EmbeddingTable.from_arrays(everything.ids_of(list(rows)), everything.take(list(rows)))
        )
    newest = registry.resolve("docs").ref
    diff = registry.diff("docs@1", newest)
    assert diff.relation is relation
    assert (diff.added, diff.removed, diff.changed, diff.unchanged) == counts


def test_changed_rows_are_counted_by_their_bytes(registry: Registry, table) -> None:
    first = table()
    vectors = first.vectors.copy()
    vectors[[3, 7], 2] += 1e-7
    registry.register("docs", first)
    registry.register("docs", EmbeddingTable.from_arrays(first.ids, vectors))
    diff = registry.diff("docs@1", "docs@2")
    changed = int((first.vectors != vectors).any(axis=1).sum())
    assert (diff.relation, diff.changed) == (Relation.CHANGED, changed)


def test_attributes_travel_with_their_rows(registry: Registry, table) -> None:
    with_labels = EmbeddingTable.from_arrays(
        ["a", "b"], np.eye(2, dtype=np.float32), attributes={"label": ["x", "y"], "year": [1, 2]}
    )
    registry.register("docs", with_labels)
    read = registry.table("docs")
    assert read.column("label").to_pylist() == ["x", "y"]
    assert read.column_names[3:] == ("label", "year")


def test_if_changed_sees_attributes(registry: Registry) -> None:
    def labelled(*labels: str) -> EmbeddingTable:
        return EmbeddingTable.from_arrays(["a", "b"], np.eye(2), attributes={"label": list(labels)})

    registry.register("docs", labelled("x", "y"))
    assert not registry.register("docs", labelled("x", "y"), if_changed=True).created
    assert registry.register("docs", labelled("x", "z"), if_changed=True).created
    assert registry.table("docs").column("label").to_pylist() == ["x", "z"]


def test_an_attribute_may_not_take_the_name_of_a_column() -> None:
    with pytest.raises(InputError, match="'id'"):
        EmbeddingTable.from_arrays(["a"], np.eye(1), attributes={"id": ["b"]})


def test_a_pass_over_parquet_parts_holds_one_part_at_a_time(registry: Registry, monkeypatch) -> None:
    from embreg.registry import tables

    monkeypatch.setattr(tables, "PART_BYTES", 1 << 20)
    x = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
    registry.register("docs", EmbeddingTable.from_arrays(None, x), storage="parquet")
    table = registry.table("docs")
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for block in table.blocks(4096) if block.start % 8192 == 0]
    assert len(held) > 4
    assert max(held) < x.nbytes / 3
    assert np.array_equal(table.take([0, 39_999]), x[[0, 39_999]])


def test_float16_is_kept(registry: Registry) -> None:
    x = np.arange(6, dtype=np.float16).reshape(3, 2)
    version = registry.register("docs", EmbeddingTable.from_arrays(["a", "b", "c"], x)).version
    assert version.dtype == "float16"
    assert registry.table("docs").vectors.dtype == np.float16


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named_or_dropped(registry: Registry, table, bad: float) -> None:
    vectors = table().vectors.copy()
    vectors[5, 3] = bad
    broken = EmbeddingTable.from_arrays(table().ids, vectors)
    with pytest.raises(InputError, match=r"row 5, dimension 3.*id5"):
        registry.register("docs", broken)
    assert registry.versions() == ()
    done = registry.register("docs", broken, on_nonfinite="drop")
    assert done.version.rows == 99
    assert "id5" in done.warnings[0]
    assert registry.table("docs").lookup(["id5", "id6"]).tolist() == [-1, 5]


def test_duplicate_ids_are_named_with_their_rows(registry: Registry) -> None:
    broken = EmbeddingTable.from_arrays(["a", "b", "a"], np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="1 duplicate ids: 'a' in rows 0 and 2"):
        registry.register("docs", broken)
    assert registry.versions() == ()


def test_ids_of_one_hash_are_not_taken_for_duplicates(registry: Registry, monkeypatch) -> None:
    from embreg.registry import ingest

    monkeypatch.setattr(ingest, "hash_ids", lambda ids: np.zeros(len(list(ids)), dtype=np.uint64))
    table = EmbeddingTable.from_arrays(["a", "b", "c"], np.eye(3, dtype=np.float32))
    assert registry.register("docs", table).version.rows == 3


@pytest.mark.parametrize("name", ["", "../x", "a b", "a\nb", "a@b", "/a", "a/", "x" * 200, "\x1b[31m", "-a"])
def test_names_that_could_be_paths_or_escapes_are_refused(registry: Registry, table, name: str) -> None:
    with pytest.raises(InvalidRef) as caught:
        registry.register(name, table())
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "ref", ["docs@", "docs@0", "docs@sha256:12", "docs@1x", "docs@sha256:XYZXYZXYZ", "@1"]
)
def test_malformed_references(registry: Registry, ref: str) -> None:
    with pytest.raises(InvalidRef):
        registry.resolve(ref)


def test_a_version_that_is_not_there_says_which_is(registry: Registry, table) -> None:
    registry.register("docs", table())
    with pytest.raises(VersionNotFound, match="the latest is 1"):
        registry.resolve("docs@7")


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "wrod"},
        {"metric": "cos"},
        {"position": "up"},
        {"storage": "csv"},
        {"on_nonfinite": "keep"},
        {"alias": "latest"},
        {"alias": "3"},
    ],
)
def test_words_outside_their_list(registry: Registry, table, words: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        registry.register("docs", table(), **words)
    assert registry.versions() == ()


def test_an_appended_table_shares_every_full_part(registry: Registry) -> None:
    dim = 1 << 14  # 64 KiB a row: 2048 rows a part
    size = part_rows(dim, "float32")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((size + 10, dim), dtype=np.float32)
    ids = [str(i) for i in range(len(vectors))]
    registry.register("docs", EmbeddingTable.from_arrays(ids[: size + 5], vectors[: size + 5]))
    blobs = set((registry.root / "blobs").rglob("*/??*/*"))
    registry.register("docs", EmbeddingTable.from_arrays(ids, vectors))
    written = sum(p.stat().st_size for p in set((registry.root / "blobs").rglob("*/??*/*")) - blobs)
    assert written < 11 * dim * 4 * 1.1
    read = registry.table("docs")
    assert np.array_equal(read.take([0, size - 1, size, size + 9]), vectors[[0, size - 1, size, size + 9]])
    assert read.lookup([str(size + 3), "nope", "7"]).tolist() == [size + 3, -1, 7]
    starts = [block.start for block in read.blocks(1000)]
    assert starts == [0, 1000, 2000, size]


def test_a_table_ten_times_the_memory_it_takes_registers(tmp_path: Path) -> None:
    """With parts of 2 MiB, what registering needs beyond the imports is a tenth of the table, or less."""
    source = tmp_path / "big.npy"
    rows, dim = 600_000, 384
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    with source.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + rows * dim * 4)  # one hole: all rows are zero
    code = f"""
import embreg, re
from pathlib import Path
from embreg.registry import tables
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
with embreg.connect({str(tmp_path / "r")!r}, create=True) as registry:
    registry.register("small", embreg.EmbeddingTable.from_arrays(None, __import__("numpy").eye(3)))
    tables.PART_BYTES = 2 << 20
    before = peak()
    done = registry.register("big", {str(source)!r})
    print(done.version.rows, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    registered, needed_kib = map(int, done.stdout.split())
    assert registered == rows
    assert needed_kib * 1024 * 10 < rows * dim * 4


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.text(max_size=12), min_size=1, max_size=20, unique=True),
    dim=st.integers(1, 5),
    seed=st.integers(0, 10),
)
def test_any_ids_survive_and_content_ignores_order(registry: Registry, ids, dim, seed) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((len(ids), dim)).astype(np.float32)
    order = rng.permutation(len(ids))
    first = registry.register("any", EmbeddingTable.from_arrays(ids, vectors)).version
    assert registry.table("any").ids.to_pylist() == ids
    second = registry.register(
        "any", EmbeddingTable.from_arrays([ids[i] for i in order], vectors[order])
    ).version
    assert first.content_digest == second.content_digest
    other = vectors.copy()
    other[0, 0] += 1
    third = registry.register("any", EmbeddingTable.from_arrays(ids, other)).version
    assert third.content_digest != first.content_digest


def test_a_space_goes_through_json() -> None:
    space = Space(dim=3, model="m", tags={"a": "b"}, tied=True)
    assert Space.from_dict(space.to_dict()) == space


def test_a_table_in_memory_is_not_copied_and_not_changed() -> None:
    x = np.ones((3, 2), dtype=np.float32)
    table = EmbeddingTable.from_arrays(None, x)
    assert np.shares_memory(table.vectors, x)
    assert table.ids.to_pylist() == ["0", "1", "2"]
    assert isinstance(table.ids, pa.ChunkedArray)
