"""GloVe text: ``word number … number`` on each line, no header, compressed or not.

Words may hold spaces, quotes and any character but a line feed: lines are cut from the right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..vectors import Batch
from .base import Options, Source, bad, check_dim, no_rows, once
from .compression import packed
from .lines import line_chunks
from .parsing import HEADER, Layout, head, rows, trailing_numbers
from .writing import left_out, publish, refuse_ids, text_pieces, text_rows, widened

if TYPE_CHECKING:
    from ..tables import EmbeddingTable

# Read back, an id ' 7' would be taken for a surplus number and U+FEFF for a byte order mark.
_NUMBER = r" [+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan(?:\(\w*\))?|inf(?:inity)?)$"
_FORBIDDEN = (
    ("\n", "a line feed"),
    ("^\ufeff", "U+FEFF at its start"),
    (f"(?i){_NUMBER}", "a number after a space"),
)


def read(path: Path, options: Options) -> Source:
    """Open GloVe text; its width is how many numbers end most of the first lines."""
    lines = [line for line in head(path, options.encoding) if line]
    if not lines:
        raise no_rows(path)
    dim = Counter(trailing_numbers(line) for line in lines).most_common(1)[0][0]
    if dim == 0:
        raise bad(path, "line 1", "no numbers after the id",
                  "a line holds an id and its numbers, separated by single spaces")  # fmt: skip
    check_dim(path, "line 1", dim)
    if dim > 1 and trailing_numbers(lines[0]) == 1 and HEADER.fullmatch(lines[0]):
        raise bad(path, "line 1", "a header, which glove text has not", "--format word2vec")
    layout = Layout(path, dim, True)
    return Source(
        path=path,
        format="glove",
        dim=dim,
        dtype="float32",
        rows=None,
        batches=once(lambda: _batches(layout, options.encoding)),
    )


def _batches(layout: Layout, encoding: str) -> Iterator[Batch]:
    return rows(line_chunks(layout.path, encoding), layout)


def write(table: EmbeddingTable, dest: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write ids and float32 values; numbers read back to the same bits.

    Raises:
        InputError: an id holds a line feed, or ends in a space and a number.
    """
    with publish(dest, overwrite=overwrite) as file, packed(file, dest) as out:
        for ids, vectors, _ in text_pieces(table):
            for pattern, why in _FORBIDDEN:
                refuse_ids(ids, pattern, why, "glove text")
            out.write(text_rows(ids, vectors))
    return widened(table) + left_out(table, "glove text")
