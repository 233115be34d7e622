"""What every format shares: the values, the errors, and how bytes are opened.

In messages rows are counted from 0, as everywhere in embreg; lines and columns of text from 1.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import EmbregError, InputError, UsageError, printable
from ..vectors import Batch, Vectors
from .compression import Codec, codec_of

BATCH_BYTES = 8 << 20
MAX_LINE = 64 << 20
MAX_DIM = 1 << 20
#: What damaged files raise below us, whatever the library: each becomes an InputError.
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
COPY_AGAIN = "copy or download the file again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may say of a source.

    Attributes:
        ids: file with the ids, in row order: ``.json`` (an array of strings, or a tokenizer's vocabulary),
            ``.parquet`` (its first string column, or ``id_column``), anything else is text, one id a line.
        id_column: column, or key of an ``.npz``, that holds the ids.
        vector_column: column that holds the vectors.
        tensor: key of an ``.npz``, or tensor of a checkpoint, that holds the vectors.
        encoding: of text, any codec that Python knows.
        tokenizer: of a checkpoint, whose tokens are the ids where ``ids`` names no others.
    """

    ids: Path | None = None
    id_column: str | None = None
    vector_column: str | None = None
    tensor: str | None = None
    encoding: str = "utf-8"
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened source: its header was read and believed as far as the file's size allows, no more.

    Attributes:
        dim: width of a row.
        dtype: of what ``batches`` yields: ``float32`` or ``float16``.
        rows: what the header promises; None where only the end will tell.
        warnings: casts and the like, one sentence each.
        batches: call it once, for the rows in order, some MiB at a time.
        declares: what the file itself says of the space (fields of ``Space``): ``kind``, ``tied``,
            ``tokenizer``, ``metric``. What the user says wins over it; it wins over the version before.
    """

    path: Path
    format: str
    dim: int
    dtype: str
    rows: int | None
    warnings: tuple[str, ...] = ()
    batches: Callable[[], Iterator[Batch]]
    declares: Mapping[str, Any] = field(default_factory=dict)


def bad(path: Path, place: str, what: str, hint: str = "") -> InputError:
    """Return the error ``FILE: PLACE: what is wrong``; ``place`` may be empty."""
    parts = [printable(str(path)), place, what]
    told = ": ".join(part for part in parts if part)
    return InputError(printable(told, 2000), hint=printable(hint, 2000))


def once(batches: Callable[[], Iterator[Batch]]) -> Callable[[], Iterator[Batch]]:
    """Return ``batches``, guarded against a second call."""
    calls = iter([batches])

    def call() -> Iterator[Batch]:
        first = next(calls, None)
        if first is None:
            raise UsageError("a source is read once", hint="open it again")
        return first()

    return call


@contextmanager
def reading(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Translate what goes wrong while ``path`` is read.

    Args:
        path: named in the message.
        damage: further exceptions that mean a damaged file, such as a library's own.

    Raises:
        InputError: for every one of them.
    """
    kinds: tuple[type[Exception], ...] = (*DAMAGE, *damage)
    try:
        yield
    except EmbregError:
        raise
    except FileNotFoundError as exc:
        raise bad(path, "", "no such file", "check the path") from exc
    except kinds as exc:
        what = f"truncated or damaged: {printable(str(exc))}" if str(exc) else "truncated or damaged"
        raise bad(path, "", what, COPY_AGAIN) from exc
    except OSError as exc:
        if exc.errno is None:  # not the system's: a library's, of the data
            raise bad(path, "", f"truncated or damaged: {printable(str(exc))}", COPY_AGAIN) from exc
        what = f"cannot be read: {printable(exc.strerror or str(exc))}"
        raise bad(path, "", what) from exc


def open_bytes(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file, inflated where its first bytes are those of a compression."""
    codec = codec_of(path)
    return codec.reader(path) if codec else path.open("rb")


def packed_away(path: Path, what: str, codec: Codec) -> InputError:
    """Return the error for what is compressed, though it must be read here and there."""
    return bad(path, "", f"{what} inside {codec.name}", f"unpack it first: {codec.unpack} {path.name}")


def check_shape(path: Path, place: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return ``(n, d)`` if a header's ``shape`` can be a table.

    Raises:
        InputError: it is not two-dimensional, or is empty, or too wide.
    """
    if len(shape) != 2:
        raise bad(path, place, f"the array has {len(shape)} dimensions, not 2: {shape}",
                  "one row per id: reshape it to (n, d)")  # fmt: skip
    n, d = shape
    check_dim(path, place, d)
    if n == 0:
        raise no_rows(path)
    return n, d


def check_dim(path: Path, place: str, d: int) -> int:
    """Return ``d`` if rows may be that wide.

    Raises:
        InputError: they may not.
    """
    if d == 0:
        raise bad(path, place, "the vectors have dimension 0", "a vector has at least one number")
    if d > MAX_DIM:
        raise bad(path, place, f"rows of {d} numbers are too wide", f"at most {MAX_DIM} are held")
    return d


def no_rows(path: Path) -> InputError:
    """Return the error for a source without a single vector."""
    return bad(path, "", "holds no rows", "a table has at least one row")


def fewer(path: Path, promised: int, found: int | str) -> InputError:
    """Return the error for a header that promises more rows than follow."""
    return bad(path, f"row {found}" if isinstance(found, int) else "",
               f"truncated: the header promises {promised} rows, the file holds {found}",
               "copy or download the file again, or mend its header")  # fmt: skip


def more(path: Path, promised: int) -> InputError:
    """Return the error for a header that promises fewer rows than follow."""
    return bad(path, f"row {promised}",
               f"the header promises {promised} rows, but the file goes on after them",
               "mend the header, or write the file again")  # fmt: skip


def target(source: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[str, ...]]:
    """Return the dtype that float ``source`` is kept as, and what to tell about the cast."""
    if source.itemsize <= 4:
        return np.dtype(np.float16 if source.itemsize == 2 else np.float32), ()
    name = f"float{8 * source.itemsize}"
    return np.dtype(np.float32), (f"{name} values were rounded to float32",)


def casting() -> np.errstate:
    """Return a context in which casts to float32 do not warn.

    What float32 cannot hold becomes infinite, which the registry refuses by id; a signalling NaN stays NaN.
    """
    return np.errstate(over="ignore", under="ignore", invalid="ignore")


def keep(x: NDArray[Any], dtype: np.dtype[Any]) -> Vectors:
    """Return ``x`` C-contiguous in ``dtype``, without a copy where it is so already."""
    with casting():
        return np.ascontiguousarray(x, dtype=dtype)


def batch_rows(row_bytes: int) -> int:
    """Return how many rows make a batch."""
    return max(1, BATCH_BYTES // max(1, row_bytes))
