"""The facade: everything that can be done to a registry, one method a verb.

What a method returns is a frozen value; what it changes, it changes in one transaction, with an event. The
verbs themselves are in ``publish``, ``aliases``, ``upkeep`` and ``records``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from . import aliases, catalog, dependents, records
from .blobs import BlobStore
from .catalog import Actor
from .database import Database
from .errors import UsageError, printable
from .home import Home, to_ref
from .types import (
    LATEST,
    AliasMove,
    Dataset,
    Diff,
    Event,
    Exported,
    IndexState,
    PastMove,
    Progress,
    Pruned,
    Ref,
    Registered,
    RunRecord,
    Swept,
    Usage,
    VerdictRecord,
    Verified,
    Version,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from .records import Artifacts
    from .tables import EmbeddingTable


class Registry:
    """A registry: the database and the blobs below one directory.

    Open one with ``embreg.connect``. Safe to use from several processes at once; one object belongs to one
    thread.
    """

    def __init__(self, root: str | Path, *, command: str = "") -> None:
        path = _directory(root)
        self._home = Home(
            root=path,
            database=Database(path / "embreg.db"),
            blobs=BlobStore(path),
            actor=Actor.current(command),
        )

    @property
    def root(self) -> Path:
        """The directory."""
        return self._home.root

    # -- opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, root: str | Path, *, command: str = "") -> Self:
        """Make a registry, or bring one that is there to the present schema; return it open."""
        registry = cls(root, command=command)
        registry._home.blobs.create()
        registry._home.database.upgrade()
        return registry

    @classmethod
    def open(cls, root: str | Path, *, command: str = "") -> Self:
        """Open a registry.

        Raises:
            RegistryNotFound: there is none.
            SchemaMismatch: it was written by another version of embreg.
        """
        registry = cls(root, command=command)
        registry._home.database.check()
        return registry

    @classmethod
    def at(cls, root: str | Path, *, command: str = "") -> Self:
        """Return a registry whose schema was not looked at: for upgrading it, and nothing else."""
        registry = cls(root, command=command)
        registry._home.database.exists()
        return registry

    def upgrade(self) -> tuple[str | None, str, Path | None]:
        """Bring the schema to this package's: revision before, revision now, path of the backup."""
        return self._home.database.upgrade()

    def revision(self) -> str | None:
        """Return the schema revision of the database."""
        return self._home.database.revision()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database connections."""
        self._home.database.close()

    def __repr__(self) -> str:
        return f"<Registry {self.root}>"

    # -- versions -----------------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        source: str | Path | EmbeddingTable,
        *,
        format: str | None = None,  # noqa: A002  the command's own word
        ids: str | Path | None = None,
        id_column: str | None = None,
        vector_column: str | None = None,
        tensor: str | None = None,
        encoding: str = "utf-8",
        model: str | None = None,
        tokenizer: str | Path | None = None,
        kind: str | None = None,
        metric: str | None = None,
        pooling: str | None = None,
        position: str | None = None,
        tied: bool | None = None,
        tags: Mapping[str, str] | None = None,
        message: str = "",
        alias: str | None = None,
        if_changed: bool = False,
        on_nonfinite: str = "fail",
        storage: str = "arrow",
        progress: Progress | None = None,
    ) -> Registered:
        """Register a table as the next version of ``name``, and judge every index that tracks the latest.

        The space's declared fields (model, tokenizer, kind, metric, pooling, position, tied, tags) are those
        of the latest version where they are not given; width, dtype and normalisation are measured.

        Args:
            name: the embedding; made if it is new.
            source: a file in any known format, or a table in memory.
            format: insist on a format.
            ids: file with the ids of a bare array or token table: text lines, Parquet column, JSON list,
                ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.
            id_column: column of a Parquet or Arrow file that holds the ids.
            vector_column: column that holds the vectors.
            tensor: array of an ``.npz``, or tensor of a checkpoint.
            encoding: of a text source.
            model: the encoder.
            tokenizer: the tokenizer's file; its sha256 is recorded.
            kind: ``word``, ``token-input``, ``token-output``, ``hidden``, ``sentence``, ``item``, ``other``.
            metric: ``cosine``, ``dot`` or ``l2``.
            pooling: see ``Space``.
            position: see ``Space``.
            tied: see ``Space``.
            tags: see ``Space``.
            message: what a person should know of this version.
            alias: move this alias to the new version, in the same transaction.
            if_changed: make no version if the content is that of the latest in any order or encoding.
            on_nonfinite: ``fail``, or ``drop`` the rows that hold NaN or infinity.
            storage: ``arrow`` (mapped) or ``parquet`` (smaller).
            progress: told how far it is.

        Returns:
            The version, and whether it was created: the same rows in the same order, in the same space, as
            the latest version are that version.

        Raises:
            InputError: the source is not what it claims, with the place.
            UsageError: a word of the call is wrong.
            StorageError: the disk refused; nothing was registered.
        """
        from . import publish
        from .formats import Options

        options = Options(
            ids=Path(ids) if ids is not None else None,
            id_column=id_column,
            vector_column=vector_column,
            tensor=tensor,
            encoding=encoding,
        )
        declared = publish.Declared(
            model=model,
            tokenizer=publish.file_digest(tokenizer),
            kind=kind,
            metric=metric,
            pooling=pooling,
            position=position,
            tied=tied,
            tags=tags,
        )
        order = publish.Order(
            message=message,
            alias=alias,
            if_changed=if_changed,
            on_nonfinite=on_nonfinite,
            storage=storage,
        )
        opened = publish.open_source(source, format, options)
        return publish.register(self._home, name, opened, declared, order, progress)

    def resolve(self, ref: str | Ref) -> Version:
        """Return the version that a reference names.

        Raises:
            InvalidRef, EmbeddingNotFound, AliasNotFound, VersionNotFound: as their names say.
        """
        return self._home.resolve(ref)

    def versions(self, name: str | None = None) -> tuple[Version, ...]:
        """Return every version of an embedding, or of all embeddings, by name and number."""
        with self._home.database.read() as session:
            return catalog.versions(session, name)

    def table(self, ref: str | Ref | Version) -> EmbeddingTable:
        """Return the rows of a version; nothing is read before it is asked for.

        Raises:
            CorruptBlob: the manifest or a part is missing or damaged.
        """
        version = ref if isinstance(ref, Version) else self.resolve(ref)
        return self._home.table(version.digest)

    def diff(self, old: str | Ref, new: str | Ref) -> Diff:
        """Return what changed from one version to another, by id."""
        from .diff import compare

        a, b = self.resolve(old), self.resolve(new)
        return compare(self.table(a), self.table(b), old_ref=a.ref, new_ref=b.ref)

    def log(self, name: str | None = None, *, limit: int | None = None) -> tuple[Event, ...]:
        """Return the events, oldest first: all, those of one embedding, the last ``limit``."""
        with self._home.database.read() as session:
            return catalog.events(session, name, limit)

    def export(
        self,
        ref: str | Ref,
        dest: str | Path,
        *,
        format: str | None = None,  # noqa: A002  as above
        overwrite: bool = False,
    ) -> Exported:
        """Write a version to a file in a foreign format, streamed.

        Raises:
            InputError: the format cannot hold these ids, or the file is there already.
        """
        from .formats import write_table

        version = self.resolve(ref)
        notes = write_table(self.table(version), Path(dest), format=format, overwrite=overwrite)
        return Exported(version=version, path=str(dest), notes=notes)

    # -- aliases ------------------------------------------------------------------------------------------

    def aliases(self, name: str) -> Mapping[str, str]:
        """Return the aliases of an embedding and the versions they name."""
        return {alias: v.ref for v in self.versions(name) for alias in v.aliases}

    def alias_history(self, name: str, alias: str | None = None) -> tuple[PastMove, ...]:
        """Return every move of an alias, or of all aliases of an embedding, oldest first."""
        with self._home.database.read() as session:
            return aliases.history(session, name, alias)

    def resolve_at(self, ref: str | Ref, at: datetime) -> Version:
        """Return the version that ``NAME`` or ``NAME@ALIAS`` named at a moment, deleted ones included.

        Args:
            ref: an alias, or a bare name for the latest version.
            at: aware, or naive in UTC.

        Raises:
            VersionNotFound: it named nothing then.
        """
        moment = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        with self._home.database.read() as session:
            return catalog.to_version(aliases.resolve_at(session, to_ref(ref), moment))

    def alias(self, name: str, alias: str, ref: str | Ref, *, if_was: str | Ref | None = None) -> AliasMove:
        """Point an alias at a version, and judge every index that tracks it.

        Args:
            name: the embedding.
            alias: made if it is new.
            ref: the version; of the same embedding.
            if_was: move it only if it names this version now.

        Raises:
            Conflict: it names another version than ``if_was``; nothing was moved.
        """
        return aliases.set_alias(self._home, name, alias, ref, if_was)

    def remove_alias(self, name: str, alias: str) -> AliasMove:
        """Remove an alias.

        Raises:
            Conflict: an index tracks it; the message names it.
        """
        return aliases.remove(self._home, name, alias)

    def promote(self, ref: str | Ref, alias: str) -> AliasMove:
        """Move an alias to a version that passed its gate against the version that the alias names now.

        Raises:
            Refused: the newest verdict on that pair of digests did not pass, or there is none.
        """
        return aliases.promote(self._home, ref, alias)

    # -- indexes ------------------------------------------------------------------------------------------

    def index(
        self,
        name: str,
        ref: str | Ref,
        *,
        factory: str,
        search: str = "",
        track: str = LATEST,
        progress: Progress | None = None,
    ) -> IndexState:
        """Build a FAISS index of a version and let it track an alias (or ``latest``) of the embedding.

        An index of that name on the same embedding is built anew with the new factory and alias.

        Args:
            name: the index.
            ref: the version to build from.
            factory: a ``faiss.index_factory`` string: ``Flat``, ``HNSW32``, ``IVF1024,Flat`` …
            search: FAISS search parameters, kept over rebuilds: ``nprobe=16``, ``efSearch=64``.
            track: the alias whose moves judge the index, or ``latest``.
            progress: told how far it is.

        Raises:
            UsageError: FAISS does not know the factory string for this width and metric.
            AliasNotFound: there is no alias ``track``.
            Conflict: the name belongs to an index of another embedding.
        """
        from . import upkeep

        return upkeep.build(
            self._home, name, ref, factory=factory, search=search, track=track, progress=progress
        )

    def indexes(self, name: str | None = None) -> tuple[IndexState, ...]:
        """Return the state of one index, or of all by name."""
        with self._home.database.read() as session:
            return dependents.states(session, name)

    def rebuild(self, name: str, *, full: bool = False, progress: Progress | None = None) -> IndexState:
        """Do the repair that the index needs; a fresh one is left alone.

        Args:
            name: the index.
            full: build it anew whatever its state.
            progress: told how far it is.

        Raises:
            NotFound: what it tracks names no version any more.
            Conflict: somebody else rebuilt it meanwhile; theirs stands.
        """
        from . import upkeep

        return upkeep.rebuild(self._home, name, full, progress)

    def search(self, name: str, item: str, k: int = 10) -> tuple[tuple[str, float], ...]:
        """Return the ``k`` nearest of a row among the rows of an index, as the index finds them.

        The query is the row of the version that the index was built from; it is left out of the answer.

        Raises:
            ItemNotFound: that version has no such id.
        """
        from . import upkeep

        return upkeep.search(self._home, name, item, k)

    def remove_index(self, name: str) -> None:
        """Forget an index and its builds; the files go with the next sweep."""
        from . import upkeep

        upkeep.remove(self._home, name)

    # -- retention ----------------------------------------------------------------------------------------

    def delete(self, ref: str | Ref) -> Version:
        """Hide a version; its number is never given again, its bytes go with the next sweep.

        Raises:
            Conflict: an alias, an index or a run of another version needs it; the message names which.
        """
        from . import retention

        return retention.delete(self._home, ref)

    def prune(self, name: str, *, keep: int, dry_run: bool = False) -> Pruned:
        """Delete all but the ``keep`` newest versions of an embedding; what is needed stays, and is said.

        Raises:
            UsageError: ``keep`` is below 1.
        """
        from . import retention

        if keep < 1:
            raise UsageError(f"--keep is at least 1, not {keep}")
        return retention.prune(self._home, name, keep=keep, dry_run=dry_run)

    def du(self) -> tuple[Usage, ...]:
        """Return the disk space of every embedding, by name."""
        from . import retention

        return retention.usage(self._home)

    def gc(self, *, dry_run: bool = False, grace_s: float | None = None) -> Swept:
        """Remove blobs that nothing living refers to, and partial writes of processes that died.

        Args:
            dry_run: only say what would go.
            grace_s: spare what is younger than this, in seconds (an hour unless said): it may belong to a
                publication that is under way.
        """
        from . import retention

        if grace_s is not None and not 0 <= grace_s < math.inf:
            raise UsageError(f"a grace of {grace_s} seconds", hint="a number of seconds from 0 on")
        return retention.sweep(
            self._home, grace_s=retention.GRACE_S if grace_s is None else grace_s, dry_run=dry_run
        )

    def verify(self, ref: str | Ref | None = None, *, progress: Progress | None = None) -> Verified:
        """Hash every blob of one version, or of everything, and say what is damaged and what to do."""
        from . import retention

        return retention.verify(self._home, ref, progress)

    # -- datasets, runs, verdicts -------------------------------------------------------------------------

    def add_dataset(self, name: str, path: str | Path, kind: str, *, encoding: str = "utf-8") -> Dataset:
        """Register a dataset from a file (or a BATS folder); the same name replaces the one before.

        Raises:
            InputError: the file is not of that kind, with the line.
        """
        return records.add_dataset(self._home, name, Path(path), kind, encoding)

    def datasets(self, kind: str | None = None) -> tuple[Dataset, ...]:
        """Return the registered datasets, by name: all, or those of one kind."""
        with self._home.database.read() as session:
            return records.datasets(session, kind)

    def dataset(self, name: str) -> Dataset:
        """Return one dataset by name."""
        with self._home.database.read() as session:
            return records.to_dataset(records.find_dataset(session, name))

    def stored_table(self, digest: str) -> pa.Table:
        """Return a stored Arrow table: the rows of a dataset, the items of a run."""
        return records.get_table(self._home.blobs, digest)

    def record(self, run: RunRecord, items: pa.Table | None = None) -> RunRecord:
        """Keep a run, with its per-item table; return it as it is kept."""
        return records.add_run(self._home, run, items)

    def cached_run(self, asked: RunRecord) -> RunRecord | None:
        """Return a finished run of the same cache key, unless a sweep took its items."""
        with self._home.database.read() as session:
            run = records.cached_run(session, asked)
        gone = run is not None and run.items is not None and not self._home.blobs.exists(run.items)
        return None if gone else run

    def runs(self, ref_or_name: str, *, suite: str | None = None) -> tuple[RunRecord, ...]:
        """Return recorded runs, oldest first: of one version (``NAME@…``) or of a whole embedding."""
        with self._home.database.read() as session:
            if "@" not in ref_or_name:
                return records.runs_of(session, embedding=ref_or_name, suite=suite)
            return records.runs_of(session, version=ref_or_name, suite=suite)

    def record_verdict(self, verdict: VerdictRecord) -> None:
        """Keep a gate's answer: promotion asks for it."""
        records.add_verdict(self._home, verdict)

    def verdict(self, ref: str | Ref, baseline: str | Ref | None) -> VerdictRecord | None:
        """Return the newest verdict on a pair of versions."""
        digest = self.resolve(ref).digest
        other = self.resolve(baseline).digest if baseline is not None else None
        with self._home.database.read() as session:
            return records.newest_verdict(session, digest, other)

    def artifacts(self, version: Version) -> Artifacts:
        """Return the store of what is computed once for a version and shared between suites."""
        return records.Artifacts(self._home, version.digest)


def _directory(root: str | Path) -> Path:
    text = str(root)
    if "://" in text or "\0" in text:
        raise UsageError(
            f"'{printable(text)}' is not a directory",
            hint="name the directory of the registry, e.g. .embreg",
        )
    try:
        return Path(root).expanduser().absolute()
    except (RuntimeError, FileNotFoundError) as exc:  # no such user; a working directory that is gone
        raise UsageError(f"'{printable(text)}' is no place for a registry: {exc}") from exc
