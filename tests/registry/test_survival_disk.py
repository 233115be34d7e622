"""A disk that fills up anywhere in any write, one that may not be written to, one that stops answering.

Every command that writes is run again and again with more and more room, from none at all, until it goes
through. Whenever it does not: one line says so, readers keep reading on the full disk, and with room again
everything is whole and the same command succeeds.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, EmbregError, Registry, connect, evaluate
from embreg.evals.deriving import derive
from embreg.evals.queries import neighbors
from embreg.registry import blobs
from embreg.registry.errors import StorageError

PAGE = 4096
#: How many pages are left to a command: none, one, and so on, until it goes through.
ROOM = (0, 1, 5, 20, 50, 100, 400)
ROWS, DIM = 300, 64


def table(seed: int, rows: int = ROWS) -> EmbeddingTable:
    x = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(rows)], x)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base") / "r"
    with connect(root, create=True) as registry:
        registry.register("docs", table(1), alias="live")
        registry.index("flat", "docs", factory="Flat")
        more = np.concatenate([table(1).vectors, table(2, 20).vectors])
        ids = [f"id{i}" for i in range(len(more))]
        registry.register("docs", EmbeddingTable.from_arrays(ids, more))
        registry.register("gone", table(3))
        registry.delete("gone@1")
        registry.register("old", table(4))
        registry.register("old", table(5))
    (root / "pairs.tsv").write_text("".join(f"id{i}\tid{i + 1}\t{i % 7}\n" for i in range(400)))
    return root


def register(r: Registry) -> None:
    r.register("docs", table(6), alias="live")


def register_parquet(r: Registry) -> None:
    r.register("new", table(6), storage="parquet")


def export(r: Registry) -> None:
    r.export("docs@1", r.root / "out.txt", overwrite=True)


def export_parquet(r: Registry) -> None:
    r.export("docs@1", r.root / "out.parquet", overwrite=True)


def measure(r: Registry) -> None:
    (run,) = evaluate(r, "docs@1", suites=["hubness"])
    if run.status == "error":
        assert run.reason
        raise StorageError(run.reason, hint="of the run")


def sweep(r: Registry) -> None:
    r.gc(grace_s=0)


#: Every command that writes: one line each.
WRITES: dict[str, Callable[[Registry], object]] = {
    "register": register,
    "register --storage parquet": register_parquet,
    "index build": lambda r: r.index("hnsw", "docs", factory="HNSW8"),
    "index rebuild": lambda r: r.rebuild("flat"),
    "index rm": lambda r: r.remove_index("flat"),
    "alias set": lambda r: r.alias("docs", "live", "docs@2"),
    "alias rm": lambda r: r.remove_alias("docs", "live"),
    "alias protect": lambda r: r.protect("docs", "live"),
    "dependent add": lambda r: r.add_dependent("collection", "docs@live", note="nightly"),
    "dataset add": lambda r: r.add_dataset("pairs", r.root / "pairs.tsv", "pairs"),
    "eval": measure,
    "derive": lambda r: derive(r, "docs@1", "whiten"),
    "delete": lambda r: r.delete("old@1"),
    "prune": lambda r: r.prune("old", keep=1),
    "gc": sweep,
    "export": export,
    "export parquet": export_parquet,
}
#: Those that write no blob and no file get by on the few pages that the database keeps.
READS: dict[str, Callable[[Registry], object]] = {
    "list": lambda r: r.versions(),
    "log": lambda r: r.log(),
    "show": lambda r: r.resolve("docs@live"),
    "vectors": lambda r: r.table("docs@1").vectors.sum(),
    "diff": lambda r: r.diff("docs@1", "docs@2"),
    "neighbors": lambda r: neighbors(r.table("docs@1"), "id5", 3),
    "search": lambda r: r.search("flat", "id5", 3),
    "verify": lambda r: r.verify(),
}


@pytest.fixture
def disk(small_disk: Path) -> Iterator[Path]:
    """An empty file system of eight MiB."""
    yield small_disk
    (small_disk / "fill").unlink(missing_ok=True)
    shutil.rmtree(small_disk / "r", ignore_errors=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leave(disk: Path, pages: int) -> None:
    """Fill a disk up but for some pages."""
    with (disk / "fill").open("wb", buffering=0) as fill:
        while (free := os.statvfs(disk).f_bavail) > pages:
            fill.write(bytes(PAGE * min(64, free - pages)))


def reading(root: Path) -> None:
    for name, read in READS.items():
        with connect(root) as registry:
            try:
                read(registry)
            except EmbregError as exc:
                raise AssertionError(f"{name} on a full disk: {exc}") from exc


def whole(root: Path) -> None:
    with connect(root) as registry:
        found = registry.verify()
        assert found.problems == ()
        for version in registry.versions():
            assert registry.table(version).vectors.shape == (version.rows, DIM)
        for state in registry.indexes():
            assert len(registry.search(state.name, "id1", 3)) == 3
    assert list((root / "staging").iterdir()) == []
    assert {p.name for p in root.iterdir()} <= KNOWN, "nothing half-written lies about"


KNOWN = {"blobs", "staging", "checked", "embreg.db", "embreg.db-wal", "embreg.db-shm", "pairs.tsv",
         "out.txt", "out.parquet"}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_fills_up_in_a_write(name: str, disk: Path, base: Path) -> None:
    refused = 0
    for pages in ROOM:
        root = disk / "r"
        shutil.copytree(base, root)
        leave(disk, pages)
        try:
            with connect(root) as registry:
                WRITES[name](registry)
            done = True
        except EmbregError as exc:
            done = False
            refused += 1
            assert exc.exit_code == 3, exc
            assert str(exc).isprintable() and exc.hint, exc
            reading(root)
            assert not list(root.glob("out.*")), "no half of an export"
        (disk / "fill").unlink()
        whole(root)
        if not done:
            with connect(root) as registry:
                WRITES[name](registry)
            whole(root)
        shutil.rmtree(root)
        if done:
            break
    assert done, "no room was enough"
    assert refused, "every room was enough"


def test_one_registry_lives_through_a_full_disk(disk: Path, base: Path) -> None:
    """Opened before, used while the disk is full, and after: it sees what others did meanwhile."""
    root = disk / "r"
    shutil.copytree(base, root)
    with connect(root) as registry:
        registry.versions()
        registry.close()
        leave(disk, 0)
        assert len(registry.versions("docs")) == 2
        with pytest.raises(StorageError):
            registry.alias("docs", "other", "docs@1")
        assert registry.aliases("docs") == {"live": "docs@1"}
        (disk / "fill").unlink()
        with connect(root) as another:
            another.alias("docs", "live", "docs@2")
        assert registry.aliases("docs") == {"live": "docs@2"}
        registry.alias("docs", "other", "docs@1")
    with connect(root) as registry:
        assert registry.aliases("docs") == {"live": "docs@2", "other": "docs@1"}
    shutil.rmtree(root)


def test_a_registry_that_may_not_be_written_to(disk: Path, base: Path) -> None:
    root = disk / "r"
    shutil.copytree(base, root)
    remount(disk, "ro")
    try:
        for name, write in WRITES.items():
            with connect(root) as registry, pytest.raises(EmbregError) as failure:
                write(registry)
            assert failure.value.exit_code == 3, name
            assert str(failure.value).isprintable() and failure.value.hint, name
        reading(root)
    finally:
        remount(disk, "rw")
    whole(root)
    for write in WRITES.values():
        shutil.rmtree(root)
        shutil.copytree(base, root)
        with connect(root) as registry:
            write(registry)
    shutil.rmtree(root)


def remount(disk: Path, mode: str) -> None:
    gc.collect()  # what is mapped and unlinked keeps a disk writable
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True, capture_output=True)


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "utime"])
@pytest.mark.parametrize("name", ["register", "index rebuild", "dataset add"])
def test_a_disk_that_fails_at_any_call(
    name: str, call: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error at the first, second, … call of its kind, until the command makes no more."""
    seen = failed = 0
    for nth in range(1, 12):
        root = tmp_path / str(nth)
        shutil.copytree(base, root)
        seen = 0
        real = getattr(os, call)

        def failing(
            *args: object, real: Callable[..., object] = real, nth: int = nth, **kwargs: object
        ) -> object:
            nonlocal seen
            seen += 1
            if seen == nth:
                raise OSError(5, "Input/output error")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch, connect(root) as registry:
            patch.setattr(blobs.os, call, failing)
            try:
                WRITES[name](registry)
            except EmbregError as exc:
                failed += 1
                assert exc.exit_code == 3
                assert "Input/output error" in str(exc), exc
        whole(root)
        if seen < nth:
            break
        with connect(root) as registry:
            WRITES[name](registry)
        whole(root)
        shutil.rmtree(root)
    assert failed or call == "utime", "no call failed"
