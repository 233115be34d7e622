"""A table that tells how far whoever reads it in order has come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .tables import Block, EmbeddingTable
from .vectors import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

    from .types import Progress


def watched(table: EmbeddingTable, progress: Progress | None) -> EmbeddingTable:
    """Return the same table; where somebody watches, one that tells of each step through it."""
    return table if progress is None else _Watched(table, progress)


class _Watched(EmbeddingTable):
    def __init__(self, table: EmbeddingTable, progress: Progress) -> None:
        vars(self).update(vars(table))
        self._progress = progress

    def blocks(self, rows: int = 65_536) -> Iterator[Block]:
        for block in super().blocks(rows):
            yield block
            self._progress("rows", block.start + len(block.vectors), self.rows)

    def batches(self) -> Iterator[tuple[pa.Array, Vectors, pa.Table | None]]:
        # Parts stay whole: what is written must not depend on whether somebody watches.
        done = 0
        for ids, vectors, extra in super().batches():
            self._progress("rows", done, self.rows)
            yield ids, vectors, extra
            done += len(vectors)
            self._progress("rows", done, self.rows)
