"""One flipped bit or one cut anywhere in what is stored: verify names it, and no read gives numbers of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embreg import EmbeddingTable, EmbregError, Registry, connect, evaluate
from embreg.evals.queries import neighbors
from embreg.registry.errors import CorruptBlob

#: More than a mebibyte of vectors: parts and indexes that are hashed once, and then known by their stamps.
ROWS, DIM = 4100, 64


@dataclass(frozen=True)
class Stock:
    """A registry with a blob of every kind, and which blob is what to whom."""

    root: Path
    blobs: dict[str, tuple[str, str]]

    def path(self, name: str) -> Path:
        digest = self.blobs[name][0]
        return self.root / "blobs" / "sha256" / digest[:2] / digest


def rows(seed: int) -> EmbeddingTable:
    x = np.random.default_rng(seed).standard_normal((ROWS, DIM)).astype(np.float32)
    return EmbeddingTable.from_arrays(
        [f"id{i}" for i in range(ROWS)], x, attributes={"freq": list(range(ROWS))}
    )


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    root = tmp_path_factory.mktemp("stock") / "r"
    with connect(root, create=True) as registry:
        registry.register("arrow", rows(1))
        registry.register("parquet", rows(2), storage="parquet")
        registry.index("flat", "arrow", factory="Flat")
        pairs = root / "pairs.tsv"
        pairs.write_text("".join(f"id{i}\tid{i + 1}\t{i % 7}\n" for i in range(200)))
        registry.add_dataset("pairs", pairs, "pairs")
        runs = evaluate(registry, "arrow", suites=["hubness", "similarity", "anisotropy"])
        assert [run.status for run in runs] == ["done"] * 3
    with closing(sqlite3.connect(root / "embreg.db")) as plain:
        found = {}
        for kind, query in QUERIES.items():
            for name, digest, subject in plain.execute(query):
                found[f"{kind} {name}"] = (digest, subject)
    assert {kind for kind in QUERIES if not any(name.startswith(kind) for name in found)} == set()
    with connect(root) as registry:
        assert registry.verify().clean
        for ref in ("arrow", "parquet"):
            assert registry.table(ref).vectors.shape == (ROWS, DIM)
        assert registry.search("flat", "id1", 3)
    assert any((root / "checked").iterdir()), "large blobs are known"
    return Stock(root, found)


#: name, digest and what verify calls it, for every kind of blob.
QUERIES = {
    "manifest": "SELECT name, digest, name || '@1' FROM versions JOIN embeddings e ON e.id = embedding_id",
    "part": (
        "SELECT e.name, b.digest, e.name || '@1' FROM version_blobs b JOIN versions v ON v.id = b.version_id"
        " JOIN embeddings e ON e.id = v.embedding_id WHERE b.digest <> v.digest"
    ),
    "index": "SELECT 'faiss', faiss_digest, 'index flat' FROM builds",
    "id map": "SELECT 'ids', ids_digest, 'index flat' FROM builds",
    "dataset": "SELECT name, digest, 'dataset pairs' FROM datasets",
    "items": "SELECT suite, items, 'items of ' || suite || ' on arrow@1' FROM runs WHERE items IS NOT NULL",
    "artifact": "SELECT name, digest, name || ' of arrow@1' FROM artifacts",
}


def reads(registry: Registry, name: str, digest: str, scratch: Path) -> list[Callable[[], object]]:
    """Everything that would give numbers out of a blob."""
    kind, what = name.split(" ", 1) if not name.startswith("id map") else ("id map", "")
    match kind:
        case "manifest" | "part":
            ref, other = what, "parquet" if what == "arrow" else "arrow"
            return [
                lambda: registry.table(ref).vectors,
                lambda: registry.table(ref).ids,
                lambda: registry.table(ref).take([3]),
                lambda: registry.table(ref).column("freq"),
                lambda: registry.diff(ref, other),
                lambda: registry.diff(other, ref),
                lambda: neighbors(registry.table(ref), "id7", 3),
                lambda: registry.export(ref, scratch / "out.npy"),
                lambda: registry.index("another", ref, factory="Flat"),
            ]
        case "index" | "id map":
            return [lambda: registry.search("flat", "id7", 3)]
        case _:
            return [lambda: registry.stored_table(digest)] if kind != "artifact" else []


def check(stock: Stock, name: str, damaged: bytes, scratch: Path) -> None:
    path = stock.path(name)
    digest, subject = stock.blobs[name]
    whole = path.read_bytes()
    assert damaged != whole
    path.write_bytes(damaged)
    try:
        with connect(stock.root) as registry:
            for read in reads(registry, name, digest, scratch):
                with pytest.raises(CorruptBlob):
                    read()
            if kind_is_derived(name):  # it is computed again, never used
                assert registry.artifacts(registry.resolve("arrow")).get(name.split(" ", 1)[1]) is None
            problems = registry.verify().problems
            assert {(p.blob, p.subject) for p in problems} >= {(digest, subject)}
            assert {p.blob for p in problems} == {digest}
            assert all(p.what.startswith("damaged") and p.remedy for p in problems)
            assert not (scratch / "out.npy").exists()
            assert registry.indexes()[0].name == "flat"
            assert len(registry.indexes()) == 1
    finally:
        path.write_bytes(whole)


def kind_is_derived(name: str) -> bool:
    return name.startswith("artifact")


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_a_flipped_bit_or_a_cut_anywhere_is_found_and_gives_no_numbers(
    data: st.DataObject, stock: Stock, tmp_path: Path
) -> None:
    name = data.draw(st.sampled_from(sorted(stock.blobs)))
    whole = stock.path(name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        check(stock, name, bytes(damaged), tmp_path)
    else:
        check(stock, name, whole[:at], tmp_path)


@pytest.mark.parametrize("where", ["header", "ids", "vectors", "footer"])
@pytest.mark.parametrize("name", ["part arrow", "part parquet", "index faiss"])
def test_every_region_of_a_large_blob_is_watched(stock: Stock, tmp_path: Path, name: str, where: str) -> None:
    whole = stock.path(name).read_bytes()
    at = {"header": 3, "ids": 3000, "vectors": len(whole) // 2, "footer": len(whole) - 12}[where]
    damaged = bytearray(whole)
    damaged[at] ^= 1
    check(stock, name, bytes(damaged), tmp_path)


def test_once_the_bytes_are_back_everything_reads_again(stock: Stock) -> None:
    with connect(stock.root) as registry:
        assert registry.verify().clean
        assert np.array_equal(registry.table("arrow").vectors, rows(1).vectors)
        assert np.array_equal(registry.table("parquet").vectors, rows(2).vectors)
        assert registry.search("flat", "id7", 3)


def in_place(path: Path) -> None:
    """Flip a bit without a new file, and give it its old time back: the time of change tells all the same."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(stat.st_size // 2)
        byte = file.read(1)[0]
        file.seek(stat.st_size // 2)
        file.write(bytes([byte ^ 16]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_bit_flipped_in_place_with_the_time_set_back_is_seen(stock: Stock, tmp_path: Path) -> None:
    path = stock.path("part arrow")
    in_place(path)
    try:
        with connect(stock.root) as registry, pytest.raises(CorruptBlob, match="damaged"):
            registry.table("arrow").vectors.sum()
    finally:
        in_place(path)
    with connect(stock.root) as registry:
        assert np.array_equal(registry.table("arrow").vectors, rows(1).vectors)


def test_rot_below_the_file_system_is_found_by_verify_and_refused_from_then_on(tmp_path: Path) -> None:
    """Bytes that change while the file keeps every stamp: as if the registry had known the file like this."""
    with connect(tmp_path, create=True) as registry:
        registry.register("docs", rows(1))
    path = max((tmp_path / "blobs").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    in_place(path)
    stat = path.stat()
    (known,) = (tmp_path / "checked").iterdir()
    known.write_text(f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    with connect(tmp_path) as registry:
        assert registry.table("docs").rows == ROWS
        assert not registry.verify().clean
        with pytest.raises(CorruptBlob):
            registry.table("docs").vectors.sum()
    with connect(tmp_path) as registry, pytest.raises(CorruptBlob):
        registry.table("docs").vectors.sum()


def test_a_copied_registry_is_checked_once_more(stock: Stock, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stock.root, copy)
    marks = {p.name: p.read_text() for p in (copy / "checked").iterdir()}
    with connect(copy) as registry:
        assert np.array_equal(registry.table("arrow").vectors, rows(1).vectors)
        assert registry.verify().clean
    again = {p.name: p.read_text() for p in (copy / "checked").iterdir()}
    assert marks.keys() == again.keys()
    assert all(marks[name] != again[name] for name in marks)


def test_a_registry_without_marks_is_read_all_the_same(stock: Stock, tmp_path: Path) -> None:
    """As an older embreg left it, or where nothing can be written."""
    copy = tmp_path / "copy"
    shutil.copytree(stock.root, copy)
    shutil.rmtree(copy / "checked")
    (copy / "checked").write_text("in the way")
    with connect(copy) as registry:
        assert np.array_equal(registry.table("arrow").vectors, rows(1).vectors)
        registry.register("more", rows(3))
        assert registry.table("more").rows == ROWS


def test_what_is_swept_is_forgotten(tmp_path: Path) -> None:
    with connect(tmp_path, create=True) as registry:
        registry.register("docs", rows(1))
        assert len(list((tmp_path / "checked").iterdir())) == 1
        registry.delete("docs@1")
        registry.gc(grace_s=0)
        assert list((tmp_path / "checked").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_blob_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    with connect(tmp_path, create=True) as registry:
        registry.register("docs", rows(1))
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.chmod(0)
        with pytest.raises(CorruptBlob, match="cannot be read: Permission denied"):
            registry.table("docs")
        assert all("Permission denied" in p.what for p in registry.verify().problems)


# -- the database -------------------------------------------------------------------------------------------


def look(root: Path) -> None:
    """Read what a person would: everything in the database."""
    with connect(root) as registry:
        registry.versions()
        registry.log()
        registry.indexes()
        registry.datasets()
        registry.runs("arrow")
        registry.alias_history("arrow")
        registry.resolve("parquet@1")


@pytest.fixture
def database(stock: Stock, tmp_path: Path) -> Path:
    """A copy of the database alone, whose log is written back."""
    root = tmp_path / "r"
    root.mkdir()
    with closing(sqlite3.connect(stock.root / "embreg.db")) as a:
        a.execute("VACUUM INTO ?", (str(root / "embreg.db"),))
    return root / "embreg.db"


def test_a_damaged_database_is_told_in_one_line(database: Path) -> None:
    whole = database.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    header = [*range(0, 100, 4)]
    pages = rng.choice(np.flatnonzero(np.frombuffer(whole, np.uint8)), 75).tolist()
    for at in header + pages:
        damaged = bytearray(whole)
        damaged[at : at + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()
        database.write_bytes(bytes(damaged))
        for log in database.parent.glob("embreg.db-*"):
            log.unlink()
        try:
            look(database.parent)
        except EmbregError as exc:
            refused += 1
            assert str(exc).isprintable()
            assert exc.hint
    assert refused > 50


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_database_is_told_and_the_newest_backup_named(database: Path, share: float) -> None:
    whole = database.read_bytes()
    for stamp in ("20260101", "20260301", "20260201"):
        database.with_name(f"embreg.db.0001.{stamp}.bak").write_bytes(whole)
    database.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CorruptBlob) as failure:
        look(database.parent)
        connect(database.parent).verify()
    assert "embreg.db.0001.20260301.bak" in failure.value.hint


def test_verify_looks_into_the_database_too(database: Path) -> None:
    with closing(sqlite3.connect(database)) as plain:
        plain.execute("PRAGMA foreign_keys=OFF")
        plain.execute("UPDATE versions SET embedding_id = 999 WHERE id = 1")
        plain.commit()
    with connect(database.parent) as registry:
        problems = [p for p in registry.verify().problems if p.subject == "database"]
    assert problems
    assert "versions" in problems[0].what
    assert "backup" in problems[0].remedy
