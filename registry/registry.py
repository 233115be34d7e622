"""The facade: everything that can be done to a registry, one method a verb.

What a method returns is a frozen value; what it changes, it changes in one transaction, with an event. The
verbs themselves are in ``publish``, ``aliases``, ``upkeep``, ``retention`` and their like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from . import catalog
from .blobs import BlobStore
from .catalog import Actor
from .database import HEAD, Database
from .errors import UsageError, printable
from .home import Home, to_ref
from .types import LATEST, Version

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.orm import Session

    from .aliases import Wish
    from .derivations import Followed, Origin
    from .lineage import Lineage
    from .outcomes import Exported
    from .overview import Made, RunHead
    from .records import Arrays, Artifacts
    from .serving import PresentBuild
    from .state import State
    from .tables import EmbeddingTable
    from .types import (
        AddedDataset,
        AliasMove,
        Dataset,
        Dependent,
        Derivation,
        Diff,
        Event,
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
    )


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
        registry.upgrade()
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

        def log(session: Session, before: str | None) -> None:
            catalog.log_event(
                session, self._home.actor, "schema.upgraded", "registry", **{"from": before, "to": HEAD}
            )

        return self._home.database.upgrade(log)

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
        probes: str | Path | EmbeddingTable | None = None,
        allow_space_change: bool = False,
        progress: Progress | None = None,
    ) -> Registered:
        """Register a table as the next version of ``name``, and judge everything that tracks the latest.

        The space's declared fields (model, tokenizer, kind, metric, pooling, position, tied, tags) are what
        the file itself says of them, or those of the latest version, where they are not given; width, dtype
        and normalisation are measured.

        Args:
            name: the embedding; made if it is new.
            source: a file in any known format, or a table in memory.
            format: insist on a format.
            ids: file with the ids of a bare array or token table: text lines, Parquet column, JSON list,
                ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.
            id_column: column (or field, or key) that holds the ids.
            vector_column: column that holds the vectors.
            tensor: array of an ``.npz``, or tensor of a checkpoint.
            encoding: of a text source.
            model: the encoder.
            tokenizer: the tokenizer's file; its sha256 is recorded, and its tokens are the ids of a
                checkpoint's rows where nothing else names them.
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
            probes: a handful of fixed inputs with their vectors, in any known format: they identify the
                encoder. Without them those of the latest version stand.
            allow_space_change: register even if the probes show another space than the latest version's.
            progress: told how far it is.

        Returns:
            The version, and whether it was created: the same rows in the same order, in the same space, as
            the latest version are that version.

        Raises:
            InputError: the source is not what it claims, with the place.
            UsageError: a word of the call is wrong.
            StorageError: the disk refused; nothing was registered.
            Refused: the probes show another space; nothing was registered.
        """
        from . import publish
        from .formats import Options
        from .probes import from_source

        options = Options(
            ids=Path(ids) if ids is not None else None,
            id_column=id_column,
            vector_column=vector_column,
            tensor=tensor,
            encoding=encoding,
            tokenizer=Path(tokenizer) if tokenizer is not None else None,
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
            probes=None if probes is None else from_source(publish.open_source(probes, None, Options())),
            allow_space_change=allow_space_change,
        )
        opened = publish.open_source(source, format, options)
        return publish.register(self._home, name, opened, declared, order, progress)

    def register_derived(
        self,
        name: str,
        table: EmbeddingTable,
        origin: Origin,
        *,
        message: str = "",
        alias: str | None = None,
        progress: Progress | None = None,
    ) -> Registered:
        """Register rows that were computed from another version, and let ``name`` follow that one.

        Args:
            name: the derived embedding; made if it is new.
            table: its rows and their space; read once, part by part.
            origin: what they were computed from, and by which fitted transform.
            message: what a person should know of this version.
            alias: move this alias to the new version.
            progress: told how far it is.

        Raises:
            Conflict: the rows are those of a version that was not derived, or ``name`` is the parent.
        """
        from . import publish

        order = publish.Order(message=message, alias=alias, derivation=origin)
        return publish.register_derived(self._home, name, table, order, progress)

    def derivation(self, ref: str | Ref) -> Derivation | None:
        """Return how a version was computed from another one; None where it came from outside."""
        from . import derivations

        return derivations.resolve(self._home, ref)

    def derived(self, name: str | None = None) -> tuple[Followed, ...]:
        """Return one derived embedding, or all of them, parents before their children."""
        from . import derivations

        with self._home.database.read() as session:
            return (derivations.followed(session, name),) if name else derivations.all_followed(session)

    def check_derivable(self, child: str, parent: str) -> None:
        """Refuse a derived embedding that its own parent comes from.

        Raises:
            Conflict: as said.
        """
        from . import derivations

        with self._home.database.read() as session:
            derivations.check_ring(session, child, parent)

    def forget_derivation(self, name: str) -> None:
        """Let a derived embedding stand alone: its versions stay, nothing flags it any more."""
        from . import derivations

        derivations.forget(self._home, name)

    def store_arrays(self, arrays: Arrays) -> str:
        """Store named arrays, such as a fitted transform; return their digest."""
        from . import records

        return records.put_arrays(self._home.blobs, arrays)

    def stored_arrays(self, digest: str) -> Arrays:
        """Return named arrays, checked against their digest."""
        from . import records

        return records.get_arrays(self._home.blobs, digest)

    def made(self) -> tuple[Made, ...]:
        """Return which versions of the registry were computed from which others."""
        from . import overview

        with self._home.database.read() as session:
            return overview.made(session)

    def lineage(self, ref: str | Ref) -> Lineage:
        """Return what a version came from and what came from it: versions, indexes, runs, aliases."""
        from . import lineage

        with self._home.database.read() as session:
            return lineage.of(session, catalog.resolve(session, to_ref(ref)))

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
        return self._home.table(ref.digest if isinstance(ref, Version) else self._home.digest(ref))

    def diff(self, old: str | Ref, new: str | Ref) -> Diff:
        """Return what changed from one version to another, by id."""
        from .diff import compare

        a, b = self.resolve(old), self.resolve(new)
        return compare(self.table(a), self.table(b), old_ref=a.ref, new_ref=b.ref)

    def log(
        self,
        name: str | None = None,
        *,
        limit: int | None = None,
        since: datetime | int | None = None,
        until: int | None = None,
    ) -> tuple[Event, ...]:
        """Return the events, oldest first: all, those of one embedding, the last ``limit``.

        Args:
            name: of an embedding.
            limit: at most so many, the newest.
            since: only those from a moment on (aware, or naive in UTC), or after the event of this id.
            until: only those up to the event of this id.
        """
        after = _aware(since) if isinstance(since, datetime) else since
        with self._home.database.read() as session:
            return catalog.events(session, name, limit, after, until)

    def last_events(self) -> dict[str, Event]:
        """Return the newest event of every embedding that has one."""
        from . import overview

        with self._home.database.read() as session:
            return overview.last_events(session)

    def count_events(self, name: str | None = None) -> int:
        """Return how many events there are, in all or of one embedding."""
        with self._home.database.read() as session:
            return catalog.count_events(session, name)

    def export(
        self,
        ref: str | Ref,
        dest: str | Path,
        *,
        format: str | None = None,  # noqa: A002  as above
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Write a version to a file in a foreign format, streamed; ``progress`` is told how far it is.

        Raises:
            InputError: the format cannot hold these ids, or the file is there already.
        """
        from .formats import write_table
        from .outcomes import Exported
        from .watched import watched

        version = self.resolve(ref)
        table = watched(self.table(version), progress)
        notes = write_table(table, Path(dest), format=format, overwrite=overwrite)
        return Exported(version=version, path=str(dest), notes=notes)

    # -- aliases ------------------------------------------------------------------------------------------

    def aliases(self, name: str) -> Mapping[str, str]:
        """Return the aliases of an embedding and the versions they name."""
        return {alias: v.ref for v in self.versions(name) for alias in v.aliases}

    def alias_history(self, name: str, alias: str | None = None) -> tuple[PastMove, ...]:
        """Return every move of an alias, or of all aliases of an embedding, oldest first."""
        from . import aliases

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
        from . import aliases

        with self._home.database.read() as session:
            return catalog.to_version(aliases.resolve_at(session, to_ref(ref), _aware(at)))

    def alias(self, name: str, alias: str, ref: str | Ref, *, if_was: str | Ref | None = None) -> AliasMove:
        """Point an alias at a version, and judge every index that tracks it.

        Args:
            name: the embedding.
            alias: made if it is new.
            ref: the version; of the same embedding.
            if_was: move it only if it names this version now.

        Raises:
            Conflict: it names another version than ``if_was``; nothing was moved.
            Refused: it is protected: only ``promote`` moves it.
        """
        from . import aliases

        wish = aliases.Wish(name=name, alias=alias, ref=ref, if_was=if_was)
        return aliases.set_aliases(self._home, [wish])[0]

    def alias_all(self, wishes: Sequence[Wish]) -> tuple[AliasMove, ...]:
        """Point several aliases at versions in one transaction: all of them move, or none.

        Raises:
            Conflict: one names another version than its ``if_was``.
            Refused: one is protected.
        """
        from . import aliases

        return aliases.set_aliases(self._home, wishes)

    def protect(self, name: str, alias: str, *, protected: bool = True) -> None:
        """Let an alias move by promotion only, or freely again.

        Raises:
            AliasNotFound: there is none of that name.
        """
        from . import aliases

        aliases.protect(self._home, name, alias, protected)

    def protected_aliases(self, name: str) -> tuple[str, ...]:
        """Return the aliases of an embedding that move by promotion only."""
        with self._home.database.read() as session:
            return catalog.protected_aliases(session, name)

    def protections(self) -> frozenset[str]:
        """Return the aliases of all embeddings, as ``NAME@ALIAS``, that move by promotion only."""
        from . import overview

        with self._home.database.read() as session:
            return overview.protected(session)

    def remove_alias(self, name: str, alias: str) -> AliasMove:
        """Remove an alias.

        Raises:
            Conflict: something tracks it; the message names it.
            Refused: it is protected.
        """
        from . import aliases

        return aliases.remove(self._home, name, alias)

    def promote(self, ref: str | Ref, alias: str) -> AliasMove:
        """Move an alias to a version that passed its gate against the version that the alias names now.

        Raises:
            Refused: the newest verdict on that pair of digests did not pass, or there is none.
        """
        from . import aliases

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
        from . import dependents

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

    def search_vectors(
        self, name: str, queries: str | Path | EmbeddingTable, k: int = 10
    ) -> dict[str, tuple[tuple[str, float], ...]]:
        """Return the ``k`` nearest of each query among the rows of an index, by the id of the query.

        Args:
            name: the index.
            queries: vectors of the encoder that its version is from: a file in any known format, a version,
                or a table.
            k: how many.

        Raises:
            InputError: they are of another width.
        """
        from . import upkeep

        table = self._vectors(queries) if isinstance(queries, str | Path) else queries
        return upkeep.search_vectors(self._home, name, table, k)

    def present_build(self, name: str) -> PresentBuild:
        """Return the build of an index that is in use, for measuring it.

        Raises:
            IndexNotFound: there is no such index.
        """
        from . import upkeep

        return upkeep.present_build(self._home, name)

    def remove_index(self, name: str) -> None:
        """Forget an index and its builds; the files go with the next sweep."""
        from . import upkeep

        upkeep.remove(self._home, name)

    # -- dependents ---------------------------------------------------------------------------------------

    def dependents(self) -> tuple[Dependent, ...]:
        """Return everything that depends on a version: indexes, derived embeddings, what is outside."""
        from . import dependents

        with self._home.database.read() as session:
            return dependents.everything(session)

    def add_dependent(
        self,
        name: str,
        tracks: str | Ref,
        *,
        command: str = "",
        note: str = "",
        built_from: str | Ref | None = None,
    ) -> Dependent:
        """Name something outside that was built from a version: it is flagged when the version moves.

        Args:
            name: of the dependent.
            tracks: ``NAME`` or ``NAME@ALIAS``.
            command: how it is built again; shown, never run.
            note: what a person should know to repair it.
            built_from: the version that it holds now, if not the one that is tracked.

        Raises:
            Conflict: the name is taken.
            UsageError: neither command nor note; or ``tracks`` never moves.
        """
        from . import externals

        return externals.add(self._home, name, tracks, command=command, note=note, built_from=built_from)

    def dependent_done(self, name: str, *, built_from: str | Ref | None = None) -> Dependent:
        """Acknowledge that a dependent outside was rebuilt.

        Args:
            name: of the dependent.
            built_from: the version that it holds now, if not the one that is tracked: another one may have
                come while it was being built.
        """
        from . import externals

        return externals.done(self._home, name, built_from)

    def remove_dependent(self, name: str) -> None:
        """Forget a dependent outside."""
        from . import externals

        externals.remove(self._home, name)

    # -- retention ----------------------------------------------------------------------------------------

    def delete(self, ref: str | Ref) -> Version:
        """Hide a version; its number is never given again, its bytes go with the next sweep.

        Raises:
            Conflict: an alias, an index or a run of another version needs it; the message names which.
        """
        from . import retention

        return retention.delete(self._home, ref)

    def prune(self, name: str, *, keep: int, keep_aliased: bool = False, dry_run: bool = False) -> Pruned:
        """Delete all but the ``keep`` newest versions of an embedding; what is needed stays, and is said.

        Args:
            name: the embedding.
            keep: how many of the newest stay.
            keep_aliased: of the older ones keep only what an alias names, an index was built from, or a
                version was derived from; runs that compare with an older version keep their numbers, and do
                not hold it back.
            dry_run: only say what would go.

        Raises:
            UsageError: ``keep`` is below 1.
        """
        from . import retention

        if keep < 1:
            raise UsageError(f"--keep is at least 1, not {keep}")
        return retention.prune(self._home, name, keep=keep, runs_hold=not keep_aliased, dry_run=dry_run)

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

    def add_dataset(
        self,
        name: str,
        path: str | Path,
        kind: str,
        *,
        encoding: str = "utf-8",
        vectors: str | Path | EmbeddingTable | None = None,
        licence: str = "",
        source: str | None = None,
        dry_run: bool = False,
    ) -> AddedDataset:
        """Register a dataset from a file (or a BATS folder); the same name replaces the one before.

        Rows that the name stands for already are not stored again; licence and source stay where they are not
        told. What is suspicious about the rows is recorded as warnings, and refuses nothing.

        Args:
            name: of the dataset; names that begin with ``builtin/`` are taken.
            path: the file.
            kind: ``analogies``, ``pairs``, ``labels``, ``qrels`` or ``positives``.
            encoding: of the file.
            vectors: of the queries of qrels, or of the second ids of positives, where these are no rows of
                the embedding: a file in any known format, a version, or a table; kept with the dataset.
            licence: of the rows, in any words.
            source: where they come from, such as a URL; by default the path.
            dry_run: only say what it would be.

        Raises:
            InputError: the file is not of that kind, with the line.
            InvalidRef: the name cannot be that of a dataset.
        """
        from . import testdata

        table = self._vectors(vectors) if isinstance(vectors, str | Path) else vectors
        new = testdata.NewDataset(
            name=name,
            path=Path(path),
            kind=kind,
            encoding=encoding,
            vectors=table,
            licence=licence,
            source=source or "",
        )
        return testdata.add(self._home, new, dry_run=dry_run)

    def remove_dataset(self, name: str) -> Dataset:
        """Forget a dataset; return what it was.

        Runs on it stay, and so do its rows as long as a run of a living version was made on them.

        Raises:
            DatasetNotFound: there is none of that name.
            UsageError: it is built in.
        """
        from . import testdata

        return testdata.remove(self._home, name)

    def _vectors(self, given: str | Path) -> EmbeddingTable:
        """Return the vectors of a file, held in memory, or of a version."""
        from . import publish
        from .formats import Options
        from .tables import EmbeddingTable

        if isinstance(given, str) and not Path(given).exists():
            return self.table(given)
        return EmbeddingTable.collect(publish.open_source(given, None, Options()).batches())

    def datasets(self, kind: str | None = None) -> tuple[Dataset, ...]:
        """Return the registered datasets, by name: all, or those of one kind."""
        from . import testdata

        with self._home.database.read() as session:
            return testdata.every(session, kind)

    def builtin_datasets(self) -> tuple[Dataset, ...]:
        """Return the datasets that embreg brings, by name; no registry holds them."""
        from . import builtin

        return tuple(found.dataset for found in builtin.sets())

    def dataset(self, name: str) -> Dataset:
        """Return one dataset by name, registered or built in.

        Raises:
            DatasetNotFound: there is none of that name.
        """
        from . import builtin, testdata

        if builtin.is_builtin(name):
            return builtin.find(name).dataset
        with self._home.database.read() as session:
            return testdata.to_dataset(testdata.find(session, name))

    def dataset_names(self, name: str) -> tuple[str, ...]:
        """Return the names of the datasets that a name stands for.

        That is the name itself, though the dataset may be gone as long as runs on it are recorded;
        ``builtin/english`` stands for all below it.

        Raises:
            DatasetNotFound: it stands for none.
        """
        from . import testdata

        return testdata.names(self._home, name)

    def dataset_rows(self, dataset: Dataset) -> pa.Table:
        """Return the rows of a dataset, registered or built in; the columns are those of its kind.

        Raises:
            CorruptBlob: they are gone or damaged.
        """
        from . import testdata

        return testdata.rows_of(self._home, dataset)

    def stored_table(self, digest: str) -> pa.Table:
        """Return a stored Arrow table: the rows of a dataset, the items of a run."""
        from . import records

        return records.get_table(self._home.blobs, digest)

    def record(self, run: RunRecord, items: pa.Table | None = None) -> RunRecord:
        """Keep a run, with its per-item table; return it as it is kept."""
        from . import records

        return records.add_run(self._home, run, items)

    def cached_run(self, asked: RunRecord) -> RunRecord | None:
        """Return a finished run of the same cache key, unless a sweep took its items."""
        from . import records

        with self._home.database.read() as session:
            run = records.cached_run(session, asked)
        gone = run is not None and run.items is not None and not self._home.blobs.exists(run.items)
        return None if gone else run

    def runs(self, ref_or_name: str, *, suite: str | None = None) -> tuple[RunRecord, ...]:
        """Return recorded runs, oldest first: of one version (``NAME@…``) or of a whole embedding."""
        from . import records

        with self._home.database.read() as session:
            if "@" not in ref_or_name:
                return records.runs_of(session, embedding=ref_or_name, suite=suite)
            return records.runs_of(session, version=ref_or_name, suite=suite)

    def state(self) -> State:
        """Return the registry at a glance: embeddings, their last verdicts, what is stale, what failed."""
        from . import state

        with self._home.database.read() as session:
            return state.state(session)

    def measured(self, name: str | None = None) -> tuple[str, ...]:
        """Return which metrics (``SUITE.METRIC``) were measured, of one embedding or of any."""
        from . import state

        with self._home.database.read() as session:
            return state.measured(session, name)

    def run_heads(self, name: str | None = None) -> tuple[RunHead, ...]:
        """Return what the runs of an embedding, or of all, are about: without their numbers, in one query."""
        from . import overview

        with self._home.database.read() as session:
            return overview.run_heads(session, name)

    def run(self, number: int) -> RunRecord:
        """Return the run with this number.

        Raises:
            NotFound: there is none, or its version was deleted.
        """
        from . import records

        with self._home.database.read() as session:
            return records.run_numbered(session, number)

    def record_verdict(self, verdict: VerdictRecord) -> None:
        """Keep a gate's answer: promotion asks for it."""
        from . import records

        records.add_verdict(self._home, verdict)

    def verdict(self, ref: str | Ref, baseline: str | Ref | None) -> VerdictRecord | None:
        """Return the newest verdict on a pair of versions."""
        from . import records

        digest = self.resolve(ref).digest
        other = self.resolve(baseline).digest if baseline is not None else None
        with self._home.database.read() as session:
            return records.newest_verdict(session, digest, other)

    def verdicts(self, name: str | None = None) -> tuple[VerdictRecord, ...]:
        """Return the newest verdict of every version that has one, of one embedding or of all."""
        from . import overview

        with self._home.database.read() as session:
            return overview.verdicts(session, name)

    def artifacts(self, version: Version) -> Artifacts:
        """Return the store of what is computed once for a version and shared between suites."""
        from . import records

        return records.Artifacts(self._home, version.digest)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


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
