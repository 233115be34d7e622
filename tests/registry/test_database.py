"""The schema: created, checked, upgraded; two writers; damage."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from embreg import Registry, connect
from embreg.registry.database import HEAD, Database
from embreg.registry.errors import CorruptBlob, RegistryNotFound, SchemaMismatch, UsageError
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
