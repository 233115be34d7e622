"""The database: its engine, its transactions, its schema version. SQLite in WAL mode."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from .errors import CorruptBlob, RegistryNotFound, SchemaMismatch, StorageError

#: The revision this package reads and writes: the newest file of ``migrations/versions``.
HEAD = "0001"
_BUSY_TIMEOUT_S = 60


class Database:
    """One SQLite file. ``read`` and ``write`` open transactions; nothing else touches it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)
        self._writing = self._engine.execution_options(embreg_begin="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session over one consistent snapshot."""
        with _translated(self.path), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session that alone may write; it commits at the end, or not at all."""
        with (
            _translated(self.path),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()  # the transaction begins here, not with the first statement
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def revision(self) -> str | None:
        """Return the schema revision of the file; None for an empty one."""
        with _translated(self.path), self._engine.connect() as connection:
            return _revision(connection)

    def exists(self) -> None:
        """Refuse a directory without a database, rather than make one by opening it.

        Raises:
            RegistryNotFound: there is no such file.
        """
        if not self.path.is_file():
            raise RegistryNotFound(
                f"no registry at {self.path.parent}",
                hint="'embreg init' makes one; --registry or EMBREG_REGISTRY names another",
            )

    def check(self) -> None:
        """Refuse a database that another version of the package wrote.

        Raises:
            RegistryNotFound: there is no such file.
            SchemaMismatch: it is older (upgrade it) or newer (upgrade embreg).
        """
        self.exists()
        found = self.revision()
        if found == HEAD:
            return
        self._refuse_foreign(found)
        if found is None or found < HEAD:
            raise SchemaMismatch(
                f"the registry at {self.path.parent} has schema {found or 'none'}, older than {HEAD}",
                hint="run 'embreg db upgrade' (it backs the database up first)",
            )
        raise SchemaMismatch(
            f"the registry at {self.path.parent} has schema {found}, newer than {HEAD}",
            hint="upgrade embreg: 'pip install --upgrade embreg'",
        )

    def upgrade(self) -> tuple[str | None, str, Path | None]:
        """Bring the schema to ``HEAD`` in one transaction, after a backup of a file that had one.

        Returns:
            The revision before, the revision now, and the path of the backup (None if none was needed).

        Raises:
            SchemaMismatch: the file is newer than this package.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        with _translated(self.path):
            before = self.revision()
            if before == HEAD:
                return before, HEAD, None
            if before is not None and before > HEAD:
                self.check()
            self._refuse_foreign(before)
            saved = self._back_up(before) if before is not None else None
            with closing(sqlite3.connect(self.path)) as plain:  # not possible inside a transaction
                plain.execute("PRAGMA journal_mode=WAL")
            config = Config()
            config.set_main_option("script_location", "embreg:migrations")
            try:
                with self._writing.begin() as connection:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            except CommandError as exc:
                raise SchemaMismatch(
                    f"the registry at {self.path.parent} has schema {before}, which embreg cannot upgrade",
                    hint="restore the database from a backup, or use the embreg that wrote it",
                ) from exc
        return before, HEAD, saved

    def _refuse_foreign(self, revision: str | None) -> None:
        """Refuse a file with tables but no revision: an upgrade would write into a stranger's database."""
        with _translated(self.path), self._engine.connect() as connection:
            tables = connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
        if revision is None and tables:
            raise SchemaMismatch(
                f"the database {self.path} has tables but no schema revision: damaged, or no registry",
                hint="choose another directory, or restore the database from a backup",
            )

    def _back_up(self, revision: str) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        target = self.path.with_name(f"{self.path.name}.{revision}.{stamp}.bak")
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
        return target


def _url(path: Path) -> URL:
    """Return the URL of a file; where nothing can be written, one that does not ask to.

    A database in WAL mode wants to make files beside it even to be read. Where it cannot, SQLite must be told
    that nobody else writes either (``immutable``); a log that still holds changes forbids that.
    """
    if os.access(path.parent, os.W_OK) or not path.is_file():
        return URL.create("sqlite", database=str(path))
    log = path.with_name(f"{path.name}-wal")
    still = not log.is_file() or log.stat().st_size == 0
    query = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if still else {})
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _engine(path: Path) -> Engine:
    engine = create_engine(_url(path), connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # SQLAlchemy, not the driver, says when a transaction begins: see the listener below.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred writer that finds the database changed cannot wait, it must fail: writers begin as such.
        connection.exec_driver_sql(connection.get_execution_options().get("embreg_begin", "BEGIN"))

    return engine


def _revision(connection: Connection) -> str | None:
    found = connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'"))
    if found.first() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as exc:
        raise StorageError(
            f"the database {path} refused: {exc.orig}",
            hint="check that the disk has space and that you may write there; nothing was changed",
        ) from exc
    except DatabaseError as exc:
        if type(exc) is not DatabaseError:  # a constraint or a programming error: not damage
            raise
        raise _damaged(path, exc) from exc
    except sqlite3.OperationalError as exc:
        raise StorageError(
            f"the database {path} refused: {exc}",
            hint="check that the disk has space and that you may write there; nothing was changed",
        ) from exc


def _damaged(path: Path, exc: DatabaseError) -> CorruptBlob:
    backups = sorted(path.parent.glob(f"{path.name}.*.bak"))
    return CorruptBlob(
        f"the database {path} is damaged: {exc.orig}",
        hint=f"restore the newest backup: {backups[-1]}" if backups else "restore it from your backup",
    )
