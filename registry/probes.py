"""Probes: a handful of fixed inputs with their vectors, which identify the encoder itself.

Names of models lie and widths coincide; what an encoder makes of the same inputs does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from .blobs import BlobStore
from .errors import InputError, Refused, printable
from .tables import EmbeddingTable, Part, assemble, load_part, serialise
from .types import Space, SpaceChange
from .vectors import Batch, fingerprints, row_norms

if TYPE_CHECKING:
    from .formats import Source

#: More than this are no probes but a table.
MOST = 10_000
#: How far a probe may lie from where it was, as a share of its length, within one space: half precision moves
#: it by 1e-3, int8 weights by a few hundredths, another model by about 1.4.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How the probes of two versions stand to each other.

    Attributes:
        shared: inputs that both have, but for those whose vectors are zero in both: they tell nothing.
        distance: the median over these of the distance between old and new vector, as a share of the longer
            one, from 0 to 2; infinite where the widths differ.
    """

    shared: int
    distance: float

    @property
    def same(self) -> bool:
        """Whether both come from one space, as far as shared inputs tell."""
        return not self.shared or self.distance <= TOLERANCE


def from_source(source: Source) -> EmbeddingTable:
    """Read probes into memory.

    Raises:
        InputError: there are too many, or an input is given twice, or a vector is not finite.
    """
    probes = EmbeddingTable.collect(_few(source))
    if len(set(probes.ids.to_pylist())) < probes.rows:
        raise _bad(source, "an input is given twice", "every probe needs an id of its own")
    if not np.isfinite(probes.vectors).all():
        raise _bad(source, "a probe holds NaN or infinity", "probes are vectors of the encoder")
    return probes


def _few(source: Source) -> Iterator[Batch]:
    count = 0
    for batch in source.batches():
        count += len(batch.vectors)
        if count > MOST:
            raise _bad(source, f"more than {MOST:,} probes", "a handful of fixed inputs is enough")
        yield batch
    if not count:
        raise _bad(source, "no probes", "at least one input with its vector")


def _bad(source: Source, what: str, hint: str) -> InputError:
    return InputError(f"{printable(str(source.path))}: {what}", hint=hint)


def store(probes: EmbeddingTable, blobs: BlobStore) -> str:
    """Store probes, ordered by id; return their digest."""
    known = probes.ids.to_pylist()
    order = sorted(range(len(known)), key=known.__getitem__)
    vectors = probes.take(order)
    ids = pa.array(probes.ids_of(order), pa.large_string())
    return blobs.put(serialise(assemble(ids, vectors, fingerprints(vectors), None), "arrow")).digest


def load(digest: str, blobs: BlobStore) -> EmbeddingTable:
    """Read what ``store`` stored.

    Raises:
        CorruptBlob: it is missing or damaged.
    """
    part = load_part(blobs.path(digest), "arrow", digest)
    width = part.schema.field("vector").type
    dtype = "float16" if pa.types.is_float16(width.value_type) else "float32"
    space = Space(dim=width.list_size, dtype=dtype)
    return EmbeddingTable([Part(part.num_rows, partial(_all, part), mapped=True)], space)


def _all(part: pa.Table, _columns: list[str] | None) -> pa.Table:
    return part


def agreement(old: EmbeddingTable, new: EmbeddingTable) -> Agreement:
    """Return how far shared inputs moved from ``old`` to ``new``."""
    at = new.lookup(old.ids.combine_chunks())
    rows = np.flatnonzero(at >= 0)
    if not len(rows) or old.dim != new.dim:
        return Agreement(shared=len(rows), distance=np.inf)
    a, b = old.take(rows).astype(np.float64), new.take(at[rows]).astype(np.float64)
    longest = np.maximum(row_norms(a), row_norms(b))
    telling = longest > 0
    if not telling.any():
        return Agreement(shared=0, distance=np.inf)
    moved = row_norms(b - a)[telling] / longest[telling]
    return Agreement(shared=len(moved), distance=float(np.median(moved)))


def change(old: EmbeddingTable | None, new: EmbeddingTable | None) -> tuple[SpaceChange, ...]:
    """Return the change of space that probes show; nothing where one side has none, or they agree."""
    if old is None or new is None:
        return ()
    found = agreement(old, new)
    if found.same or old.dim != new.dim:  # another width is a change of its own
        return ()
    moved = f"{found.shared} inputs moved by {found.distance:.2f} of their length"
    return (SpaceChange(field="probes", old=f"{old.rows} inputs", new=moved, breaking=True),)


def check(old: EmbeddingTable | None, new: EmbeddingTable, before: str) -> None:
    """Refuse vectors of another space under the same name.

    Raises:
        Refused: the shared inputs have other vectors than those of version ``before``.
    """
    for found in change(old, new):
        raise Refused(
            f"these vectors are of another space than {before}: {found.new}",
            hint="register them under a name of their own, or say --allow-space-change",
        )
