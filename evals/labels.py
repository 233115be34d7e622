"""The class of each row: out of an attribute column, or a dataset of kind ``labels``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .vocabulary import EXACT, OTHERWISE, scarce

if TYPE_CHECKING:
    from .subject import Subject

#: The attribute that holds the classes where nothing else is said.
LABEL = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Classes of rows.

    Attributes:
        codes: int64 ``(n,)``, the class of each row of the table, -1 where it has none.
        names: of the classes.
        given: how many labels there are, those of ids without a row included.
    """

    codes: NDArray[np.int64]
    names: list[str]
    given: int

    @classmethod
    def of(cls, subject: Subject, column: str = "") -> Self | None:
        """Return the labels of a column, else of the dataset, else of the column ``label``; None without any.

        Raises:
            ItemNotFound: the table has no such column.
        """
        dataset = subject.dataset
        if not column and dataset is not None and dataset.kind == "labels":
            rows = subject.table.lookup(dataset.rows.column("id").combine_chunks())
            return cls._of(dataset.rows.column(LABEL), rows, subject.table.rows)
        if column or LABEL in subject.table.column_names:
            n = subject.table.rows
            return cls._of(subject.table.column(column or LABEL), np.arange(n), n) if n else None
        return None

    @classmethod
    def _of(cls, values: pa.ChunkedArray, rows: NDArray[np.int64], n: int) -> Self:
        """Return the labels ``values`` of some rows (-1: of none) of a table of n."""
        coded = values.cast(pa.large_string()).combine_chunks().dictionary_encode()
        given = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
        codes = np.full(n, -1, dtype=np.int64)
        codes[rows[rows >= 0]] = given[rows >= 0]
        return cls(codes=codes, names=coded.dictionary.to_pylist(), given=int((given >= 0).sum()))


def scarcity(subject: Subject, labels: Labels | None, column: str = "") -> list[str]:
    """Return a note where less than half of the labels of a dataset are of ids of the table; else nothing."""
    if labels is None or column or subject.dataset is None:
        return []
    return scarce(subject.dataset.name, int((labels.codes >= 0).sum()), labels.given, EXACT, OTHERWISE)
