"""Built-in datasets in place of those that a registry does not hold: for which suite, and on which table.

One serves where a suite would have nothing to measure without: where it needs a dataset, or says that it has
use for that one (``Suite.builtin``) and the table has no labels of its own. At least half of its items must
be of words that are ids of the table: documents, users and other languages are not asked in English.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ..registry import builtin
from .labels import LABEL
from .vocabulary import scarce

if TYPE_CHECKING:
    from ..registry.tables import EmbeddingTable
    from ..registry.types import Dataset
    from .suite import Suite


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """The built-in datasets as they stand to one table, which is looked at only where one is in question.

    Attributes:
        table: opens the table.
        wanted: whether they serve where nobody asked for them.
        besides: those that somebody asked for besides the registered ones, by suite.
    """

    table: Callable[[], EmbeddingTable]
    wanted: bool = True
    besides: Mapping[str, Sequence[Dataset]] = field(default_factory=dict)

    def serving(self, suite: Suite, params: Any) -> Dataset | None:
        """Return the dataset that serves a suite for which the registry has none; None where none does."""
        kind = suite.dataset_kind
        if not self.wanted or not (kind in suite.needs or suite.builtin):
            return None
        found = self._of(kind)
        if found is None or self._labelled(kind, params) or self.lack(found):
            return None
        return found

    def short(self, suite: Suite) -> str:
        """Return why none serves a suite of a table that has some of the words; nothing where it has none."""
        found = self._of(suite.dataset_kind) if self.wanted else None
        if found is None or not self._covered(builtin.find(found.name).rows, found.kind):
            return ""
        return self.lack(found)

    def lack(self, dataset: Dataset) -> str:
        """Return why a dataset does not fit the table; nothing where it does, or is not built in."""
        if not builtin.is_builtin(dataset.name):
            return ""
        rows = builtin.find(dataset.name).rows
        covered = self._covered(rows, dataset.kind)
        return "".join(scarce(dataset.name, covered, rows.num_rows, "it is English"))

    def _of(self, kind: str | None) -> Dataset | None:
        return next((s.dataset for s in builtin.sets() if s.dataset.kind == kind), None)

    def _labelled(self, kind: str | None, params: Any) -> bool:
        """Whether labels are asked for, and the rows have some of their own."""
        if kind != "labels":
            return False
        return bool(getattr(params, "label", "")) or LABEL in self.table().column_names

    def _covered(self, rows: pa.Table, kind: str) -> int:
        """Return how many items have all their words among the ids, as the suites match them by default."""
        if kind == "labels":  # exactly; words of the others in any case
            return sum(word in self._known for word in rows.column("id").to_pylist())
        folded = {word.upper() for word in self._known}
        items = zip(*_columns(rows), strict=True)
        return sum(all(word.upper() in folded for word in item) for item in items)

    @cached_property
    def _known(self) -> frozenset[str]:
        """The ids that are words of the built-in datasets, whatever their case."""
        columns = [column for one in builtin.sets() for column in _columns(one.rows)]
        words = pa.array(sorted({word.upper() for column in columns for word in column}), pa.large_string())
        ids = self.table().ids.cast(pa.large_string())
        return frozenset(ids.filter(pc.is_in(pc.utf8_upper(ids), value_set=words)).to_pylist())


def _columns(rows: pa.Table) -> Iterator[list[str]]:
    """Yield the words of each column that holds any; of several answers the first."""
    for name in ("id", "a", "b", "c"):
        if name in rows.column_names:
            yield rows.column(name).to_pylist()
    if "answers" in rows.column_names:
        yield [right[0] for right in rows.column("answers").to_pylist()]
