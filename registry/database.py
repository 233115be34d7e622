"""The database: its engine, its transactions, its schema version. SQLite in WAL mode."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, NoResultFound, OperationalError
from sqlalchemy.orm import Session

from .errors import CorruptBlob, EmbregError, RegistryNotFound, SchemaMismatch, StorageError, printable

#: The revision this package reads and writes: the newest file of ``migrations/versions``.
HEAD = "0003"
_BUSY_TIMEOUT_S = 60
#: How the names of SQLite's errors begin that tell of the disk, of rights or of other processes.
_REFUSALS = tuple(
    f"SQLITE_{what}"
    for what in ("AUTH", "BUSY", "CANTOPEN", "FULL", "IOERR", "LOCKED", "NOLFS", "NOMEM", "PERM", "READONLY")
)
#: What SQLite says where it cannot make the files that it wants beside a database in WAL mode.
_NO_ROOM = (
    "SQLITE_FULL",
    "SQLITE_IOERR_SHMSIZE",
    "SQLITE_IOERR_SHMOPEN",
    "SQLITE_IOERR_WRITE",
    "SQLITE_CANTOPEN",
)


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

    def upgrade(
        self, log: Callable[[Session, str | None], None] | None = None
    ) -> tuple[str | None, str, Path | None]:
        """Bring the schema to ``HEAD`` in one transaction, after a backup of a file that had one.

        Args:
            log: writes down, in that transaction, what was upgraded from which revision.

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
                    if log is not None:
                        with Session(connection) as session:
                            log(session, before)
                            session.flush()
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
        if revision is None and _backups(self.path):
            raise _damaged(self.path, "it is empty")

    def _back_up(self, revision: str) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        target = self.path.with_name(f"{self.path.name}.{revision}.{stamp}.bak")
        partial = target.with_suffix(".partial")  # half a backup must not look like one
        try:
            with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(partial)) as copy:
                source.backup(copy)
            partial.replace(target)
        finally:
            with suppress(OSError):
                partial.unlink()
        return target


def _url(path: Path) -> URL:
    """Return the URL of a file; where nothing can be written, one that does not ask to.

    A database in WAL mode wants to make files beside it even to be read. Where it cannot, SQLite must be told
    that nobody else writes either (``immutable``); a log that still holds changes forbids that.
    """
    if os.access(path.parent, os.W_OK) or not path.is_file():
        return URL.create("sqlite", database=str(path))
    query = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if _still(path) else {})
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _still(path: Path) -> bool:
    """Whether the file alone is the whole database: its log holds nothing."""
    log = path.with_name(f"{path.name}-wal")
    return not log.is_file() or log.stat().st_size == 0


def _connect(path: Path, ordinary: Any) -> tuple[Any, bool]:
    """Return a connection, and whether it is one that can only read: a full disk has no room for a log.

    The log and its map are made by the first one who looks, even to read. On a full disk the file is opened
    as one that nobody writes to, as indeed nobody can: readers keep reading.
    """
    try:
        ordinary.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorname not in _NO_ROOM or not _still(path):
            return ordinary, False
        ordinary.close()
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, check_same_thread=False), True
    except sqlite3.DatabaseError:  # damage: told where it is met again, in a transaction
        pass
    return ordinary, False


def _engine(path: Path) -> Engine:
    engine = create_engine(_url(path), connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, params: Any) -> Any:
        connection, frozen = _connect(path, dialect.connect(*args, **params))
        record.info["frozen"] = frozen
        return connection

    @event.listens_for(engine, "checkin")
    def checkin(_connection: Any, record: Any) -> None:
        if record.info.get("frozen"):  # the disk may have room again, and the file be written to
            record.invalidate()

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
        raise _failure(path, exc.orig) from exc
    except DatabaseError as exc:
        if type(exc) is not DatabaseError:  # a constraint or a programming error: not damage
            raise
        raise _damaged(path, str(exc.orig)) from exc
    except sqlite3.DatabaseError as exc:  # of what is done without SQLAlchemy
        raise _failure(path, exc) from exc
    except ValueError as exc:
        if isinstance(exc, EmbregError):
            raise
        raise _damaged(path, f"it holds what embreg never wrote: {exc}") from exc
    except (AttributeError, NoResultFound, TypeError) as exc:
        # Pages that were written over give rows without their values, or values without their rows.
        if broken := _broken(path):
            raise _damaged(path, broken) from exc
        raise


def _broken(path: Path) -> str:
    """Return what SQLite finds wrong with the pages of a file; nothing if they are sound."""
    try:
        with closing(sqlite3.connect(path)) as plain:
            first = str(plain.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return ""
    except sqlite3.DatabaseError as exc:
        return str(exc)
    return "" if first == "ok" else first


def _failure(path: Path, exc: BaseException | None) -> EmbregError:
    """Return what to raise: the disk or another process refused, or the file is not what it was."""
    name = getattr(exc, "sqlite_errorname", "")
    if not name.startswith(_REFUSALS) or name == "SQLITE_IOERR_SHORT_READ":
        return _damaged(path, str(exc))
    return StorageError(
        f"the database {path} refused: {exc}",
        hint="check that the disk has space and that you may write there; nothing was changed",
    )


def _backups(path: Path) -> list[Path]:
    """Return the copies that upgrades made, the newest last."""
    return sorted(path.parent.glob(f"{path.name}.*.bak"))


def _damaged(path: Path, what: str) -> CorruptBlob:
    backups = _backups(path)
    return CorruptBlob(
        f"the database {path} is damaged: {printable(what)}",
        hint=f"restore the newest backup: {backups[-1]}" if backups else "restore it from your backup",
    )
