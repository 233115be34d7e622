"""The schema: created, checked, upgraded; two writers; damage."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from embreg import Registry, connect
from embreg.registry import orm_dependents, orm_runs  # noqa: F401  the rest of the tables
from embreg.registry.database import HEAD, Database
from embreg.registry.errors import (
    CorruptBlob,
    RegistryNotFound,
    SchemaMismatch,
    StorageError,
    UsageError,
)
from embreg.registry.orm import Base


def test_the_migrations_make_exactly_the_tables_of_the_rows(registry: Registry) -> None:
    engine = create_engine(f"sqlite:///{registry.root / 'embreg.db'}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    assert differences == []


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "embreg:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_one_migration_follows_the_other_without_a_fork() -> None:
    config = Config()
    config.set_main_option("script_location", "embreg:migrations")
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
    assert command is not None


def test_a_registry_is_made_once_and_opened_ever_after(tmp_path: Path) -> None:
    with pytest.raises(RegistryNotFound, match="embreg init"):
        connect(tmp_path)
    assert list(tmp_path.iterdir()) == []
    connect(tmp_path, create=True).close()
    connect(tmp_path, create=True).close()
    with connect(tmp_path) as registry:
        assert registry.revision() == HEAD


def test_a_path_with_blanks_and_percents_is_that_path(tmp_path: Path) -> None:
    odd = tmp_path / "a b%20c%(d)s?e#f"
    connect(odd, create=True).close()
    assert (odd / "embreg.db").is_file()
    assert [p.name for p in tmp_path.iterdir()] == [odd.name]


def test_a_url_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        connect("postgresql://localhost/x")


def set_revision(root: Path, revision: str) -> None:
    with closing(sqlite3.connect(root / "embreg.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    connect(tmp_path, create=True).close()
    set_revision(tmp_path, "9999")
    before = (tmp_path / "embreg.db").read_bytes()
    for attempt in (lambda: connect(tmp_path), lambda: Registry.at(tmp_path).upgrade()):
        with pytest.raises(SchemaMismatch, match="newer"):
            attempt()
    assert (tmp_path / "embreg.db").read_bytes() == before


def test_an_older_database_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    connect(tmp_path, create=True).close()
    set_revision(tmp_path, "0000")
    with pytest.raises(SchemaMismatch, match="embreg db upgrade"):
        connect(tmp_path)


def test_an_upgrade_backs_up_what_was_there(tmp_path: Path) -> None:
    """An interrupted or failed upgrade changes nothing: here revision 0000 is not one that Alembic knows."""
    with connect(tmp_path, create=True) as registry:
        registry.register("docs", __import__("embreg").EmbeddingTable.from_arrays(["a"], [[1.0]]))
    set_revision(tmp_path, "0000")
    with pytest.raises(Exception, match="0000"):
        Registry.at(tmp_path).upgrade()
    (backup,) = tmp_path.glob("embreg.db.0000.*.bak")
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT count(*) FROM versions").fetchone() == (1,)
    set_revision(tmp_path, HEAD)
    with connect(tmp_path) as registry:
        assert registry.resolve("docs").rows == 1


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    connect(tmp_path, create=True).close()
    (tmp_path / "embreg.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(CorruptBlob, match="damaged"):
        connect(tmp_path)


def test_writers_wait_for_each_other_and_readers_for_nobody(tmp_path: Path) -> None:
    connect(tmp_path, create=True).close()
    path = tmp_path / "embreg.db"
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with Database(path).write():
            inside.set()
            leave.wait(10)
            order.append("first")

    def second() -> None:
        with Database(path).write():
            order.append("second")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    threads.append(threading.Thread(target=second))
    threads[1].start()
    with Database(path).read() as session:
        assert session.connection() is not None
        order.append("reader")
    leave.set()
    for thread in threads:
        thread.join(20)
    assert order == ["reader", "first", "second"]


def test_a_failed_transaction_leaves_nothing(registry: Registry) -> None:
    from embreg.registry.orm import EmbeddingRow
    from embreg.registry.types import utc_now

    database = Database(registry.root / "embreg.db")

    def fail() -> None:
        with database.write() as session:
            session.add(EmbeddingRow(name="half", created_at=utc_now()))
            session.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert registry.versions() == ()
    with pytest.raises(LookupError):
        registry.versions("half")


# -- upgrades -----------------------------------------------------------------------------------------

#: One dump a released revision, of a registry that its code made; without the blobs.
DUMPS = sorted((Path(__file__).parent / "schemas").glob("*.sql"))
OLD = pytest.mark.parametrize("dump", DUMPS, ids=[dump.stem for dump in DUMPS])


def restore(dump: Path, root: Path) -> Path:
    """Make a registry out of a dump, in the journal mode that a registry has; return its database."""
    root.mkdir(parents=True)
    with closing(sqlite3.connect(root / "embreg.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(dump.read_text(encoding="utf-8"))
    return root / "embreg.db"


def content(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for the schema's revision."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]
            for table in tables
            if table != "alembic_version"
        }


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def assert_kept(before: dict[str, list[dict[str, Any]]], now: dict[str, list[dict[str, Any]]]) -> None:
    """Every row and value of before is there, the past of the log in its place."""
    for table, rows in before.items():
        assert len(now[table]) == len(rows) or table == "events", table
        for old, new in zip(rows, now[table], strict=False):
            assert {column: new[column] for column in old} == old, table


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_every_released_schema_has_a_dump() -> None:
    config = Config()
    config.set_main_option("script_location", "embreg:migrations")
    released = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()} - {HEAD}
    assert {dump.stem for dump in DUMPS} == released
    for dump in DUMPS:
        assert f"INSERT INTO \"alembic_version\" VALUES('{dump.stem}');" in dump.read_text(encoding="utf-8")


@OLD
def test_a_released_schema_upgrades_with_all_its_data(dump: Path, tmp_path: Path) -> None:
    path = restore(dump, tmp_path / "r")
    before = content(path)
    assert all(before.values()), "a table without rows shows nothing"
    with pytest.raises(SchemaMismatch, match=f"schema {dump.stem}, older than {HEAD}.*embreg db upgrade"):
        connect(path.parent)
    was, now, backup = Registry.at(path.parent).upgrade()
    assert (was, now) == (dump.stem, HEAD)
    assert backup is not None
    assert (revision(backup), content(backup)) == (dump.stem, before)
    assert (revision(path), sorted(p.name for p in path.parent.glob("*.bak"))) == (HEAD, [backup.name])
    assert_kept(before, content(path))
    assert Registry.at(path.parent).upgrade() == (HEAD, HEAD, None), "once is enough"


@OLD
def test_an_upgraded_schema_is_the_one_of_the_rows(dump: Path, tmp_path: Path) -> None:
    path = restore(dump, tmp_path / "r")
    Registry.at(path.parent).upgrade()
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        differences = compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata
        )
    engine.dispose()
    assert differences == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@OLD
def test_what_was_there_before_is_read_as_it_was(dump: Path, tmp_path: Path) -> None:
    path = restore(dump, tmp_path / "r")
    old = content(path)
    Registry.at(path.parent).upgrade()
    names = {row["id"]: row["name"] for row in old["embeddings"]}
    refs = {row["id"]: f"{names[row['embedding_id']]}@{row['number']}" for row in old["versions"]}
    with connect(path.parent) as registry:
        living = [row for row in old["versions"] if row["deleted_at"] is None]
        for row in living:
            version = registry.resolve(refs[row["id"]])
            for field in ("digest", "content_digest", "rows", "nbytes", "message", "source", "created_by"):
                assert getattr(version, field) == row[field]
            space = version.space.to_dict()
            assert {name: space[name] for name in json.loads(row["space"])} == json.loads(row["space"])
            assert version.statistics == json.loads(row["statistics"])
            assert version.created_at == moment(row["created_at"])
        assert {v.ref for v in registry.versions()} == {refs[row["id"]] for row in living}
        for id_, name in names.items():
            now = {a["name"]: refs[a["version_id"]] for a in old["aliases"] if a["embedding_id"] == id_}
            assert registry.aliases(name) == now
            moves = [
                (m["name"], refs.get(m["from_id"]), refs.get(m["to_id"]), moment(m["at"]), m["reason"])
                for m in old["alias_moves"]
                if m["embedding_id"] == id_
            ]
            assert moves == [(m.alias, m.old, m.new, m.at, m.reason) for m in registry.alias_history(name)]
            assert [r for r in old["runs"] if names[version_of(old, r)] == name]
        events = [
            (e.id, e.at, e.actor, e.action, e.subject, dict(e.detail), e.command) for e in registry.log()
        ]
        assert events[: len(old["events"])] == [
            (e["id"], moment(e["at"]), e["actor"], e["action"], e["subject"], json.loads(e["detail"]),
             e["command"])
            for e in old["events"]
        ]  # fmt: skip
        for index in old["indexes"]:
            (state,) = registry.indexes(index["name"])
            for field in ("state", "relation", "repair", "reason", "factory", "search", "metric"):
                assert getattr(state, field) == index[field]
            build = [b for b in old["builds"] if b["index_id"] == index["id"]][-1]
            assert (state.built_from, state.recall) == (refs[build["version_id"]], build["recall"])
        assert [(d.name, d.kind, d.digest, d.items) for d in registry.datasets()] == [
            (d["name"], d["kind"], d["digest"], d["items"]) for d in old["datasets"]
        ]
        assert [
            (run.suite, run.version, run.baseline, run.status, run.cache_key, len(run.measures))
            for name in names.values()
            for run in registry.runs(name)
        ] == [
            (r["suite"], refs[r["version_id"]], refs.get(r["baseline_id"]), r["status"], r["cache_key"],
             sum(m["run_id"] == r["id"] for m in old["measures"]))
            for r in old["runs"]
        ]  # fmt: skip
        for v in old["verdicts"]:
            verdict = registry.verdict(refs[v["version_id"]], refs.get(v["baseline_id"]))
            assert verdict is not None
            assert (verdict.passed, list(verdict.checks)) == (v["passed"], json.loads(v["checks"]))


def version_of(old: dict[str, list[dict[str, Any]]], run: dict[str, Any]) -> int:
    return next(int(v["embedding_id"]) for v in old["versions"] if v["id"] == run["version_id"])


@OLD
def test_an_upgraded_registry_takes_everything_new(dump: Path, tmp_path: Path, table) -> None:
    path = restore(dump, tmp_path / "r")
    Registry.create(path.parent).close()
    with connect(path.parent) as registry:
        (name,) = {v.name for v in registry.versions() if "/" not in v.name}
        (alias,) = registry.aliases(name)
        registry.protect(name, alias)
        added = registry.add_dependent("search", f"{name}@{alias}", note="load it again")
        assert added.built_from == registry.aliases(name)[alias]
        number = registry.resolve(name).number
        done = registry.register(name, table(dim=8), probes=table(5, 8))
        deleted = 1
        assert done.version.number == number + deleted + 1, "a number is never given twice"
        assert registry.table(name).probes is not None
        assert {i.state for i in done.stale_indexes} == {"stale"}
        assert registry.lineage(name).ref == done.version.ref
        assert registry.dependents()


class Stop(Exception):
    """Whatever may happen in the middle of a migration."""


@OLD
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_failed_upgrade_leaves_the_old_schema(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    from alembic import op

    path = restore(dump, tmp_path / "r")
    before = content(path)
    done = []
    with monkeypatch.context() as patch:

        def interrupted(word: Any, *given: Any, **more: Any) -> None:
            word(*given, **more)
            done.append(given[0])
            if len(done) == step:
                raise Stop

        for word in ("add_column", "create_table", "create_index"):
            patch.setattr(op, word, partial(interrupted, getattr(op, word)))
        with pytest.raises(Stop):
            Registry.at(path.parent).upgrade()
    assert len(done) == step
    assert (revision(path), content(path)) == (dump.stem, before)
    assert Registry.at(path.parent).upgrade()[:2] == (dump.stem, HEAD)
    assert_kept(before, content(path))
    assert len(list(path.parent.glob("*.bak"))) == 2


#: Upgrades a copy of a registry again and again, and kills each at a moment of its own; prints what was left.
KILLER = """
import json, os, shutil, signal, sys, time
import numpy as np
from alembic import command
import alembic.autogenerate, sqlalchemy.dialects.sqlite.pysqlite
from embreg import Registry
folder, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def start(root):
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        Registry.at(root).upgrade()
        code = 0
    finally:
        os._exit(code)

shutil.copytree(f"{folder}/old", f"{folder}/first")
began = time.perf_counter()
assert os.waitpid(start(f"{folder}/first"), 0)[1] == 0
whole = time.perf_counter() - began
moments = np.random.default_rng(seed).uniform(0, 1.1 * whole, kills)
for i, moment in enumerate(sorted(moments)):
    shutil.copytree(f"{folder}/old", f"{folder}/{i}")
    pid = start(f"{folder}/{i}")
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="upgrades are forked")
@OLD
def test_a_killed_upgrade_can_be_run_again(dump: Path, tmp_path: Path) -> None:
    kills = 12
    before = content(restore(dump, tmp_path / "old"))
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path), str(kills), "1"], check=True, timeout=120)
    left = []
    for i in range(kills):
        path = tmp_path / str(i) / "embreg.db"
        left.append(revision(path))
        if left[-1] == dump.stem:
            assert content(path) == before, "nothing half-done"
        for backup in path.parent.glob("*.bak"):
            assert (revision(backup), content(backup)) == (dump.stem, before), "a backup is whole, or none"
        Registry.at(path.parent).upgrade()
        assert revision(path) == HEAD
        assert_kept(before, content(path))
        with connect(path.parent) as registry:
            assert registry.versions()
    assert set(left) <= {dump.stem, HEAD}
    assert left.count(dump.stem) >= kills / 4, "the kills came too late to show anything"


def test_two_upgrades_at_once(tmp_path: Path) -> None:
    path = restore(DUMPS[0], tmp_path / "r")
    before = content(path)
    failed: list[BaseException] = []

    def upgrade() -> None:
        try:
            Registry.at(path.parent).upgrade()
        except Exception as exc:  # noqa: BLE001  a thread's failure is the test's
            failed.append(exc)

    threads = [threading.Thread(target=upgrade) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert revision(path) == HEAD
    assert_kept(before, content(path))


# -- the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    size = (folder / "fill").stat().st_size
    os.truncate(folder / "fill", size - leave)


@OLD
def test_an_upgrade_on_a_full_disk(dump: Path, small_disk: Path) -> None:
    """With ever more space it fails to read, to back up, to migrate; at last it does what it should."""
    path = restore(dump, small_disk / "r")
    before = content(path)
    saved: list[int] = []
    for leave in range(0, 2 << 20, 24 << 10):
        fill(small_disk, leave)
        try:
            Registry.at(path.parent).upgrade()
        except StorageError as exc:
            assert str(path) in exc.message
            assert "space" in exc.hint
        else:
            break
        finally:
            (small_disk / "fill").unlink()
        assert (revision(path), content(path)) == (dump.stem, before)
        backups = list(path.parent.glob("*.bak"))
        saved.append(len(backups))
        assert all(content(backup) == before for backup in backups), "what looks like a backup is one"
        assert not list(path.parent.glob("*.partial*")), "what is none is gone"
        for backup in backups:
            backup.unlink()
    assert {0, 1} == set(saved), "it failed before the backup was written, and after it"
    assert revision(path) == HEAD
    assert_kept(before, content(path))


@OLD
def test_an_upgrade_on_a_read_only_disk(dump: Path, small_disk: Path) -> None:
    path = restore(dump, small_disk / "r")
    before = content(path)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True, capture_output=True)
    assert Registry.at(path.parent).revision() == dump.stem
    with pytest.raises(StorageError, match="may write there"):
        Registry.at(path.parent).upgrade()
    subprocess.run([*remount[:2], "remount,rw", remount[-1]], check=True, capture_output=True)
    assert (revision(path), content(path)) == (dump.stem, before)
    assert Registry.at(path.parent).upgrade()[1] == HEAD
