"""Deleting, sweeping, verifying: nothing that lives is lost, nothing that is damaged stays unseen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, evaluate
from embreg.registry.blobs import BlobStore
from embreg.registry.errors import Conflict, CorruptBlob, UsageError, VersionNotFound


def blobs(registry: Registry) -> set[str]:
    return {p.name for p in (registry.root / "blobs").rglob("*") if p.is_file()}


def test_a_deleted_version_is_hidden_and_its_number_is_never_given_again(registry: Registry, table) -> None:
    for seed in range(3):
        registry.register("docs", table(seed=seed))
    registry.delete("docs@3")
    assert [v.number for v in registry.versions("docs")] == [1, 2]
    assert registry.resolve("docs").number == 2
    with pytest.raises(VersionNotFound):
        registry.resolve("docs@3")
    assert registry.register("docs", table(seed=9)).version.number == 4


def test_what_is_needed_is_not_deleted(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0), alias="production")
    registry.register("docs", table(seed=1))
    registry.index("flat", "docs@2", factory="Flat")
    registry.register("docs", table(seed=2))
    registry.register("docs", table(seed=3))
    evaluate(registry, "docs@4", suites=["drift"], baseline="docs@3")
    for ref, need in (
        ("docs@1", "alias 'production'"),
        ("docs@2", "index 'flat'"),
        ("docs@3", "a run on docs@4"),
    ):
        with pytest.raises(Conflict, match=need):
            registry.delete(ref)
    registry.delete("docs@4")
    registry.delete("docs@3")


def test_deleting_the_latest_judges_what_tracks_it(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    registry.index("flat", "docs", factory="Flat")
    registry.register("docs", table(seed=1))
    assert registry.indexes("flat")[0].stale
    registry.delete("docs@2")
    assert not registry.indexes("flat")[0].stale


def test_a_sweep_takes_the_blobs_of_deleted_versions_and_no_others(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    kept = blobs(registry)
    registry.register("docs", table(seed=1))
    gone = blobs(registry) - kept
    registry.delete("docs@2")
    assert registry.gc().young == len(gone), "young blobs are spared"
    dry = registry.gc(dry_run=True, grace_s=0)
    assert set(dry.removed) == gone
    assert blobs(registry) == kept | gone
    swept = registry.gc(grace_s=0)
    assert (set(swept.removed), swept.kept) == (gone, len(kept))
    assert blobs(registry) == kept
    assert registry.verify().clean


def test_a_shared_part_outlives_one_of_its_versions(registry: Registry, table) -> None:
    registry.register("docs", table())
    registry.register("docs", table(), model="other")  # the same parts under another manifest
    registry.delete("docs@1")
    assert len(registry.gc(grace_s=0).removed) == 1
    assert registry.table("docs@2").vectors.shape == (100, 8)


def test_superseded_builds_and_stale_artifacts_are_swept_and_live_ones_stay(
    registry: Registry, table, tmp_path: Path
) -> None:
    registry.register("docs", table())
    registry.index("flat", "docs", factory="Flat")
    evaluate(registry, "docs", suites=["hubness", "anisotropy"])
    (tmp_path / "pairs.tsv").write_text("id1\tid2\t3\nid3\tid4\t1\n")
    registry.add_dataset("pairs", tmp_path / "pairs.tsv", "pairs")
    assert registry.gc(grace_s=0).removed == ()
    registry.index("flat", "docs", factory="SQ8")
    assert len(registry.gc(grace_s=0).removed) == 1  # the old FAISS file; the id map is shared
    assert registry.verify().clean
    assert evaluate(registry, "docs", suites=["hubness"])[0].cached
    assert registry.search("flat", "id1", 3)


def test_partial_writes_of_the_dead_are_swept(registry: Registry) -> None:
    left = registry.root / "staging" / "1-dead"
    left.write_bytes(b"half")
    assert registry.gc().staged == 0
    os.utime(left, (0, 0))
    assert registry.gc().staged == 1
    assert not left.exists()


def test_a_publication_never_refers_to_what_a_sweep_took(registry: Registry, table, monkeypatch) -> None:
    """The sweep runs, with no grace at all, between the writing of the blobs and the transaction."""
    from embreg.registry import publish

    real = publish._publish

    def swept_first(*args):
        monkeypatch.setattr(publish, "_publish", real)
        registry.gc(grace_s=0)
        return real(*args)

    monkeypatch.setattr(publish, "_publish", swept_first)
    with pytest.raises(Conflict, match="run it again"):
        registry.register("docs", table())
    assert registry.versions() == ()
    assert registry.register("docs", table()).created
    assert registry.verify().clean


def test_a_blob_that_is_reused_is_spared(registry: Registry, table) -> None:
    """A deleted version's blob is about to be referred to again: being reused made it young."""
    registry.register("docs", table())
    registry.delete("docs@1")
    for path in (registry.root / "blobs").rglob("*"):
        os.utime(path, (0, 0))
    store = BlobStore(registry.root)
    (part,) = (p for p in (registry.root / "blobs").rglob("*") if p.is_file() and p.stat().st_size > 3000)
    store.put([part.read_bytes()])
    assert part.name not in registry.gc().removed


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_flipped_bit_is_found_and_named(registry: Registry, table, where: str) -> None:
    registry.register("docs", table())
    registry.register("other", table(seed=1))
    assert registry.verify().clean
    version_blobs = blobs(registry)
    registry.register("docs", table(seed=2))
    (path,) = (
        p for p in (registry.root / "blobs").rglob("*")
        if p.is_file() and p.name not in version_blobs and p.stat().st_size > 3000
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[where]] ^= 1
    path.write_bytes(bytes(data))
    found = registry.verify()
    (problem,) = found.problems
    assert (problem.subject, problem.blob) == ("docs@2", path.name)
    assert "damaged" in problem.what
    assert registry.verify("docs@1").clean
    assert not registry.verify("docs@2").clean


def test_a_missing_blob_is_found(registry: Registry, table) -> None:
    registry.register("docs", table())
    registry.index("flat", "docs", factory="Flat")
    for path in list((registry.root / "blobs").rglob("*")):
        if path.is_file():
            path.unlink()
    problems = registry.verify().problems
    assert {p.subject for p in problems} == {"docs@1", "index flat"}
    assert {p.what for p in problems} == {"missing"}
    with pytest.raises(CorruptBlob):
        registry.table("docs")


def test_orphans_are_counted_not_complained_of(registry: Registry) -> None:
    BlobStore(registry.root).put([b"nobody's"])
    found = registry.verify()
    assert (found.clean, found.orphans) == (True, 1)


def test_sweeps_beside_writers_lose_nothing(tmp_path: Path) -> None:
    """Two threads register, one sweeps without grace: a registration is whole, or it says to run again."""
    import threading

    from embreg import connect

    connect(tmp_path, create=True).close()
    stop = threading.Event()
    conflicts: list[str] = []

    def write(name: str) -> None:
        rng = np.random.default_rng(len(name))
        with connect(tmp_path) as registry:
            for _ in range(12):
                x = rng.standard_normal((50, 4)).astype(np.float32)
                try:
                    registry.register(name, EmbeddingTable.from_arrays(None, x))
                except Conflict as exc:
                    conflicts.append(exc.message)

    def collect() -> None:
        with connect(tmp_path) as registry:
            while not stop.is_set():
                registry.gc(grace_s=0)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "bb")]
    sweeper = threading.Thread(target=collect)
    for thread in (*writers, sweeper):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    sweeper.join()
    with connect(tmp_path) as registry:
        assert registry.verify().clean
        assert len(registry.versions()) + len(conflicts) == 24
        for version in registry.versions():
            assert registry.table(version).vectors.shape == (50, 4)


def test_prune_keeps_the_newest_and_what_is_needed(registry: Registry, table) -> None:
    for seed in range(6):
        registry.register("docs", table(seed=seed))
    registry.alias("docs", "production", "docs@3")
    evaluate(registry, "docs@3", suites=["drift"], baseline="docs@1")
    evaluate(registry, "docs@4", suites=["drift"], baseline="docs@2")
    dry = registry.prune("docs", keep=2, dry_run=True)
    assert dry.deleted == ("docs@4", "docs@2")
    assert dry.needed == {"docs@3": "alias 'production'", "docs@1": "a run on docs@3 as its baseline"}
    assert len(registry.versions("docs")) == 6
    done = registry.prune("docs", keep=2)
    assert (done.deleted, done.needed) == (dry.deleted, dry.needed)
    assert [v.number for v in registry.versions("docs")] == [1, 3, 5, 6]
    assert registry.prune("docs", keep=10).deleted == ()


def test_du_counts_shared_parts_once(registry: Registry, table) -> None:
    registry.register("docs", table())
    registry.register("docs", table(), model="other")
    (usage,) = registry.du()
    on_disk = sum(p.stat().st_size for p in (registry.root / "blobs").rglob("*") if p.is_file())
    assert (usage.name, usage.versions, usage.nbytes) == ("docs", 2, on_disk)
    assert usage.logical > usage.nbytes


def test_a_run_whose_items_were_swept_is_measured_again(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    evaluate(registry, "docs", suites=["hubness"])
    registry.register("docs", table(seed=1))
    registry.delete("docs@1")
    registry.gc(grace_s=0)
    registry.register("docs", table(seed=0))
    (run,) = evaluate(registry, "docs@3", suites=["hubness"])
    assert (run.status, run.cached) == ("done", False)
    assert evaluate(registry, "docs@3", suites=["hubness"])[0].cached


def test_registering_the_source_again_mends_a_flipped_bit(registry: Registry, table) -> None:
    registry.register("docs", table())
    part = max(
        (p for p in (registry.root / "blobs").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))
    assert "register its source again" in registry.verify().problems[0].remedy
    assert not registry.register("docs", table()).created
    assert registry.verify().clean


def test_a_damaged_old_version_keeps_no_new_one_out(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    registry.index("flat", "docs", factory="Flat")
    for path in (registry.root / "blobs").rglob("*"):
        if path.is_file() and b"ARROW1" in path.read_bytes()[:8] and path.stat().st_size > 5000:
            path.write_bytes(b"damaged")
    (stale,) = registry.register("docs", table(seed=1)).stale_indexes
    assert (stale.repair, stale.state) == ("rebuild", "stale")
    assert "cannot be compared with docs@1" in stale.reason
    assert registry.rebuild("flat").built_from == "docs@2"


def test_a_copy_without_its_empty_directories_is_swept_too(registry: Registry) -> None:
    (registry.root / "staging").rmdir()
    assert registry.gc().staged == 0


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
def test_a_grace_is_a_number_of_seconds(registry: Registry, grace: float) -> None:
    with pytest.raises(UsageError, match="grace"):
        registry.gc(grace_s=grace)
