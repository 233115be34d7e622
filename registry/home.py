"""Where a registry lives: its database, its blobs, and who acts on them. Every verb is given one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from . import catalog
from .blobs import BlobStore
from .catalog import Actor
from .database import Database
from .errors import Conflict
from .manifest import Manifest
from .types import Ref, Version

if TYPE_CHECKING:
    import pyarrow as pa

    from .dependents import Diffs
    from .tables import EmbeddingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The parts of one open registry."""

    root: Path
    database: Database
    blobs: BlobStore
    actor: Actor

    def table(self, digest: str) -> EmbeddingTable:
        """Return the table of a manifest digest; its parts are opened when they are read.

        Raises:
            CorruptBlob: the manifest is missing or damaged.
        """
        from . import probes
        from .tables import EmbeddingTable, Part

        manifest = Manifest.from_bytes(self.blobs.read(digest))
        mapped = manifest.storage == "arrow"
        parts = [
            Part(part.rows, self._reader(part.digest, manifest.storage), mapped=mapped)
            for part in manifest.parts
        ]
        known = manifest.probes
        read = None if known is None else lambda: probes.load(known, self.blobs)
        return EmbeddingTable(parts, manifest.space, tuple(manifest.attributes), read)

    def _reader(self, digest: str, storage: str) -> Callable[[list[str] | None], pa.Table]:
        from .tables import load_part

        return lambda columns: load_part(self.blobs.path(digest), storage, digest, columns)

    def diffs(self) -> Diffs:
        """Return an empty store of diffs, for one transaction."""
        from .dependents import Diffs

        return Diffs(self.table)

    def require(self, *digests: str) -> None:
        """Refuse to publish what is not there: call it inside the transaction that refers to the blobs.

        Raises:
            Conflict: a sweep took a blob between its writing and this transaction.
        """
        if any(not self.blobs.exists(digest) for digest in digests):
            raise Conflict("a sweep took what was just stored; nothing was published", hint="run it again")

    def resolve(self, ref: str | Ref) -> Version:
        """Return the version that a reference names."""
        with self.database.read() as session:
            return self.version(session, ref)

    def digest(self, ref: str | Ref) -> str:
        """Return the digest of the version that a reference names, and ask for nothing else."""
        with self.database.read() as session:
            return catalog.resolve(session, to_ref(ref)).digest

    def version(self, session: Session, ref: str | Ref) -> Version:
        """Return the version that a reference names, as one transaction sees it."""
        row = catalog.resolve(session, to_ref(ref))
        return catalog.to_version(row, catalog.alias_names(session, [row.id]).get(row.id, ()))


def to_ref(ref: str | Ref) -> Ref:
    """Return a reference, read from text if it is not one yet."""
    return ref if isinstance(ref, Ref) else Ref.parse(ref)
