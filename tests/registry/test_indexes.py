"""Indexes: every factory, judged staleness, the repair that is named is the repair that is done."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from embreg import EmbeddingTable, Registry
from embreg.registry.errors import (
    AliasNotFound,
    Conflict,
    CorruptBlob,
    InputError,
    ItemNotFound,
    UsageError,
)
from embreg.registry.types import Relation, Repair

ROWS, DIM = 600, 16


def clustered(rows: int = ROWS, seed: int = 0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, DIM)) * 3
    vectors = centres[rng.integers(20, size=rows)] + rng.standard_normal((rows, DIM))
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(rows)], vectors.astype(np.float32))


def part_of(table: EmbeddingTable, rows) -> EmbeddingTable:
    rows = np.asarray(rows)
    return EmbeddingTable.from_arrays(table.ids_of(rows), table.take(rows))


def changed(table: EmbeddingTable, count: int) -> EmbeddingTable:
    vectors = table.vectors.copy()
    vectors[:count] += 1
    return EmbeddingTable.from_arrays(table.ids, vectors)


def brute_force(table: EmbeddingTable, item: str, k: int, metric: str) -> list[str]:
    x = table.vectors.astype(np.float64)
    row = table.row_of(item)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = -((x - x[row]) ** 2).sum(1) if metric == "l2" else x @ x[row]
    scores[row] = -np.inf
    return table.ids_of(np.argsort(-scores)[:k])


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_flat_index_finds_what_brute_force_finds(registry: Registry, metric: str) -> None:
    table = clustered()
    registry.register("docs", table, metric=metric)
    state = registry.index("docs-flat", "docs", factory="Flat")
    assert (state.state, state.recall, state.metric) == ("fresh", 1.0, metric)
    found = [item for item, _ in registry.search("docs-flat", "id7", 5)]
    assert found == brute_force(table, "id7", 5, metric)


@pytest.mark.parametrize(
    "factory",
    ["Flat", "HNSW16", "IVF16,Flat", "OPQ8,IVF8,PQ8x4", "IDMap2,SQ8", "BFlat"],
)
def test_every_family_builds_is_measured_and_takes_appended_rows(registry: Registry, factory: str) -> None:
    table = clustered()
    registry.register("docs", part_of(table, range(500)))
    built = registry.index("docs", "docs", factory=factory)
    assert built.recall is not None
    assert built.rows == 500
    (stale,) = registry.register("docs", table).stale_indexes
    assert (stale.relation, stale.repair) == (Relation.APPENDED, Repair.ADD)
    repaired = registry.rebuild("docs")
    assert repaired.state == "fresh"
    assert repaired.rows == ROWS
    assert repaired.built_from == "docs@2"
    found = [item for item, _ in registry.search("docs", "id550", 10)]
    assert len(found) == len(set(found)) == 10


@pytest.mark.parametrize("factory", ["IVF16,PQ8x4,RFlat", "OPQ8_8,PQ8x4", "BIVF16"])
def test_training_on_few_rows_prints_nothing(registry: Registry, factory: str, capfd) -> None:
    registry.register("docs", part_of(clustered(), range(300)))
    registry.index("docs", "docs", factory=factory)
    assert capfd.readouterr() == ("", "")


def test_recall_is_the_share_of_exact_neighbours(registry: Registry) -> None:
    """An independent count on the same queries: every row is one, for there are fewer than 1,000."""
    table = clustered()
    registry.register("docs", table, metric="l2")
    state = registry.index("docs", "docs", factory="IVF16,Flat")
    exact = {i: set(brute_force(table, i, 10, "l2")) for i in table.ids.to_pylist()}
    hits = [len(exact[i] & {f for f, _ in registry.search("docs", i, 10)}) for i in exact]
    assert state.recall == pytest.approx(np.mean(hits) / 10, abs=1e-9)
    assert state.recall_queries == ROWS


def test_search_parameters_raise_recall_and_are_kept(registry: Registry) -> None:
    registry.register("docs", clustered())
    low = registry.index("low", "docs", factory="IVF32,Flat")
    high = registry.index("high", "docs", factory="IVF32,Flat", search="nprobe=32")
    assert low.recall < high.recall == 1.0
    assert registry.rebuild("high", full=True).recall == 1.0


def test_add_really_adds(registry: Registry) -> None:
    """The trained centroids of the old build are those of the new one."""
    table = clustered()
    registry.register("docs", part_of(table, range(500)))
    registry.index("docs", "docs", factory="IVF16,Flat")
    before = centroids(registry)
    registry.register("docs", table)
    assert registry.rebuild("docs").method == "add"
    assert np.array_equal(centroids(registry), before)


def centroids(registry: Registry) -> np.ndarray:
    index = faiss.read_index(str(newest_index(registry)))
    ivf = faiss.extract_index_ivf(index)
    return ivf.quantizer.reconstruct_n(0, ivf.nlist)


def newest_index(registry: Registry) -> Path:
    """Every FAISS file starts with I and three more letters or digits; no other blob does."""
    files = [p for p in (registry.root / "blobs").rglob("*") if p.is_file() and p.read_bytes()[:1] == b"I"]
    return max(files, key=lambda p: p.stat().st_mtime_ns)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IDMap,SQ8", "BIVF8"])
def test_update_removes_and_adds_in_place(registry: Registry, factory: str) -> None:
    table = clustered()
    registry.register("docs", part_of(table, range(500)))
    registry.index("docs", "docs", factory=factory)
    newer = part_of(changed(table, 10), [*range(480), *range(500, 520)])
    (stale,) = registry.register("docs", newer).stale_indexes
    assert (stale.relation, stale.repair) == (Relation.CHANGED, Repair.UPDATE)
    repaired = registry.rebuild("docs")
    assert (repaired.state, repaired.method, repaired.rows) == ("fresh", "update", 500)
    ids = {item for q in ("id0", "id5", "id510") for item, _ in registry.search("docs", q, 400)}
    assert not ids & {f"id{i}" for i in range(480, 500)}
    if factory == "Flat":
        found = [item for item, _ in registry.search("docs", "id5", 10)]
        assert found == brute_force(newer, "id5", 10, "cosine")


def test_a_type_that_cannot_remove_is_rebuilt(registry: Registry) -> None:
    table = clustered()
    registry.register("docs", table)
    registry.index("docs", "docs", factory="HNSW16")
    (stale,) = registry.register("docs", changed(table, 5)).stale_indexes
    assert stale.repair is Repair.REBUILD
    assert "cannot remove" in stale.reason
    assert registry.rebuild("docs").method == "build"


def test_many_changes_ask_for_a_rebuild(registry: Registry) -> None:
    table = clustered()
    registry.register("docs", table)
    registry.index("docs", "docs", factory="Flat")
    (stale,) = registry.register("docs", changed(table, 100)).stale_indexes
    assert (stale.relation, stale.repair) == (Relation.CHANGED, Repair.REBUILD)
    assert "100 rows changed of 600" in stale.reason


def test_growth_beyond_the_training_asks_for_a_rebuild(registry: Registry) -> None:
    table = clustered()
    registry.register("docs", part_of(table, range(200)))
    registry.index("trained", "docs", factory="IVF8,Flat")
    registry.index("plain", "docs", factory="Flat")
    stale = {s.name: s for s in registry.register("docs", table).stale_indexes}
    assert stale["trained"].repair is Repair.REBUILD
    assert "outgrew the 200 rows" in stale["trained"].reason
    assert stale["plain"].repair is Repair.ADD


def test_the_same_rows_in_another_order_leave_it_fresh(registry: Registry) -> None:
    table = clustered()
    registry.register("docs", table)
    registry.index("docs", "docs", factory="Flat")
    done = registry.register("docs", part_of(table, np.random.default_rng(0).permutation(ROWS)))
    assert done.created
    assert done.stale_indexes == ()
    (state,) = registry.indexes()
    assert (state.state, state.relation, state.repair) == ("fresh", Relation.IDENTICAL, Repair.NONE)
    assert registry.rebuild("docs").built_from == "docs@1"


def test_another_space_asks_for_a_rebuild_and_the_new_encoder(registry: Registry) -> None:
    registry.register("docs", clustered(), model="m1")
    registry.index("docs", "docs", factory="Flat")
    (stale,) = registry.register("docs", clustered(seed=1), model="m2").stale_indexes
    assert (stale.relation, stale.repair) == (Relation.RESPACED, Repair.REBUILD)
    assert "model: m1 -> m2" in stale.reason
    assert "new encoder" in stale.reason


def test_a_narrower_version_is_rebuilt_at_its_own_width(registry: Registry) -> None:
    registry.register("docs", clustered())
    registry.index("docs", "docs", factory="Flat")
    x = clustered().vectors[:, :8]
    registry.register("docs", EmbeddingTable.from_arrays(clustered().ids, x))
    assert registry.rebuild("docs").recall == 1.0


def test_an_index_follows_its_alias_and_nothing_else(registry: Registry) -> None:
    registry.register("docs", clustered(), alias="production")
    registry.index("docs", "docs@production", factory="Flat", track="production")
    assert registry.register("docs", clustered(seed=1)).stale_indexes == ()
    (stale,) = registry.alias("docs", "production", "docs@2").stale_indexes
    assert stale.tracked == "docs@2"
    assert registry.alias("docs", "production", "docs@1").stale_indexes == ()
    assert registry.indexes("docs")[0].state == "fresh"


def test_an_index_of_an_older_version_is_stale_from_the_start(registry: Registry) -> None:
    registry.register("docs", clustered())
    registry.register("docs", clustered(seed=1))
    assert registry.index("docs", "docs@1", factory="Flat").stale


def test_a_tracked_alias_cannot_be_removed(registry: Registry) -> None:
    registry.register("docs", clustered(), alias="production")
    registry.index("by-alias", "docs", factory="Flat", track="production")
    with pytest.raises(Conflict, match="by-alias"):
        registry.remove_alias("docs", "production")
    registry.remove_index("by-alias")
    registry.remove_alias("docs", "production")
    assert registry.indexes() == ()


def test_recall_that_got_worse_by_a_repair_is_answered_with_a_build(registry: Registry) -> None:
    """Appended rows far from every trained list: the old centroids serve them badly."""
    rng = np.random.default_rng(0)
    near = rng.standard_normal((2000, DIM)).astype(np.float32) * 0.05 + 1
    far = rng.standard_normal((1900, DIM)).astype(np.float32) - 3
    ids = [f"id{i}" for i in range(3900)]
    registry.register("docs", EmbeddingTable.from_arrays(ids[:2000], near), metric="l2")
    before = registry.index("docs", "docs", factory="PQ8x4")
    registry.register("docs", EmbeddingTable.from_arrays(ids, np.concatenate([near, far])))
    assert registry.indexes("docs")[0].repair is Repair.ADD
    after = registry.rebuild("docs")
    assert after.method == "build"
    assert before.recall is not None
    (event,) = [e for e in registry.log() if e.action == "index.built"][1:]
    assert "recall fell" in event.detail["note"]


@pytest.mark.parametrize("factory", ["Flat", "IVF16,PQ8x4", "HNSW16", "BIVF16", "IDMap2,SQ8"])
def test_a_damaged_index_file_is_told_and_never_read(registry: Registry, factory: str) -> None:
    """FAISS trusts its files: a flipped byte in a length would crash the process."""
    table = clustered()
    registry.register("docs", part_of(table, range(500)))
    registry.index("docs", "docs", factory=factory)
    path = newest_index(registry)
    whole = path.read_bytes()
    for position in {3, 11, 25, 40, len(whole) // 2, len(whole) - 1}:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(damaged)
        with pytest.raises(CorruptBlob, match="is damaged"):
            registry.search("docs", "id1")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptBlob, match="is damaged"):
        registry.search("docs", "id1")
    registry.register("docs", table)
    assert registry.rebuild("docs").method == "build"
    assert "not possible: blob" in registry_note(registry)
    assert len(registry.search("docs", "id1", 5)) == 5


def registry_note(registry: Registry) -> str:
    (*_, event) = [e for e in registry.log() if e.action == "index.built"]
    return event.detail["note"]


def test_an_index_name_belongs_to_one_embedding(registry: Registry) -> None:
    registry.register("a", clustered())
    registry.register("b", clustered())
    registry.index("shared", "a", factory="Flat")
    with pytest.raises(Conflict, match="belongs to 'a'"):
        registry.index("shared", "b", factory="Flat")
    assert registry.index("shared", "a", factory="SQ8").factory == "SQ8"
    assert len(registry.indexes()) == 1


@pytest.mark.parametrize("search", ["nprobe=0", "nprobe=-5", "nprobe=99999999999"])
def test_search_parameters_that_faiss_does_not_survive(registry: Registry, search: str) -> None:
    registry.register("docs", clustered())
    with pytest.raises(UsageError, match="at least 1"):
        registry.index("docs", "docs", factory="IVF16,Flat", search=search)


@pytest.mark.parametrize(
    "factory",
    [
        "Flatt",
        "IVF16,PQ7",
        "IDMap",
        "BFlatt",
        "IDMap,BIVF4",
        "",
        "HNSW1,Flat",
        "OPQ8,IVF0,PQ8",
    ],
)
def test_a_factory_that_faiss_cannot_make(registry: Registry, factory: str) -> None:
    registry.register("docs", clustered())
    with pytest.raises(UsageError):
        registry.index("docs", "docs", factory=factory)
    assert registry.indexes() == ()


def test_other_mistakes_are_told(registry: Registry) -> None:
    registry.register("docs", clustered())
    with pytest.raises(AliasNotFound):
        registry.index("docs", "docs", factory="Flat", track="prod")
    with pytest.raises(InputError, match="1,000 rows"):
        registry.index("docs", "docs", factory="IVF1000,Flat")
    with pytest.raises(UsageError, match="nprobes"):
        registry.index("docs", "docs", factory="Flat", search="nprobes=3")
    registry.index("docs", "docs", factory="Flat")
    with pytest.raises(ItemNotFound, match="did you mean 'id59"):
        registry.search("docs", "id5999")
    with pytest.raises(InputError, match="599 other rows"):
        registry.search("docs", "id1", 600)


def test_an_index_of_a_table_below_k_has_no_recall(registry: Registry) -> None:
    registry.register("docs", part_of(clustered(), range(10)))
    assert registry.index("docs", "docs", factory="Flat").recall is None
