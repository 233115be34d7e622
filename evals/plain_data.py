"""Test data that no registry holds, as datasets: rows in lists, labels of rows, files, Arrow tables."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ..registry.datasets import SCHEMAS, parse, to_table
from ..registry.errors import InputError, UnknownChoice, UsageError, printable
from ..registry.tables import VECTOR
from ..registry.types import Dataset, utc_now
from .plain import listed
from .subject import DatasetTable

#: What a row of a kind is, in words.
_SHAPES = {
    "analogies": "(a, b, c, d) or (section, group, a, b, c, [d, …])",
    "pairs": "(a, b, score)",
    "labels": "(id, label)",
    "positives": "(a, b)",
    "qrels": "(query, item, relevance)",
}
#: Section and group of analogies that name none.
_QUESTIONS = "questions"
#: Datasets by name: the rows of a kind of that name, or the kind and the rows; or names and tables.
Datasets = Mapping[str, Any] | Sequence[str | DatasetTable] | str
#: Labels of the rows in their order (None: none), or by id.
LabelsOf = Iterable[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A dataset and its rows, in memory."""

    dataset: Dataset
    table: DatasetTable

    @classmethod
    def of(cls, table: DatasetTable) -> Held:
        """Return a dataset of rows; its digest is that of the rows."""
        dataset = Dataset(
            name=table.name,
            kind=table.kind,
            digest=digest_of(table.rows),
            items=table.rows.num_rows,
            source="memory",
            created_at=utc_now(),
        )
        return cls(dataset=dataset, table=table)


def digest_of(rows: pa.Table) -> str:
    """Return the sha256 of an Arrow table, 64 hex digits: equal tables have equal ones."""
    sink = pa.BufferOutputStream()
    whole = rows.combine_chunks().replace_schema_metadata(None)
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def to_datasets(
    given: Datasets | None,
    labels: LabelsOf | None,
    ids: pa.ChunkedArray,
    named: Callable[[str], Iterable[Held]],
) -> tuple[Held, ...]:
    """Return what was given as test data.

    Args:
        given: names and ``DatasetTable`` values; or by name ``(kind, rows)``, or rows alone where the name is
            a kind. Rows are tuples (``datasets.SCHEMAS``), an Arrow table, or the path of a file.
        labels: those of the rows, as if given under the name ``labels``.
        ids: of the rows.
        named: finds the datasets that a name stands for.

    Raises:
        UsageError: what was given has no such form.
        InputError: rows that cannot be of their kind.
    """
    held = list(_each(given, ids, named))
    if labels is not None:
        held.append(_held("labels", "labels", labels, ids))
    doubled = [
        h.dataset.name for i, h in enumerate(held) if h.dataset.name in {o.dataset.name for o in held[:i]}
    ]
    if doubled:
        raise UsageError(f"two datasets are called '{printable(doubled[0], 60)}'")
    return tuple(held)


def _each(
    given: Datasets | None, ids: pa.ChunkedArray, named: Callable[[str], Iterable[Held]]
) -> Iterator[Held]:
    if isinstance(given, Mapping):
        for name, value in given.items():
            kind, rows = (name, value) if name in SCHEMAS else _kind_and_rows(name, value)
            yield _held(str(name), kind, rows, ids)
        return
    for one in [given] if isinstance(given, str | DatasetTable) else given or ():
        if isinstance(one, DatasetTable):
            yield Held.of(one)
        elif isinstance(one, str):
            yield from named(one)
        else:
            raise UsageError(
                f"a dataset of type {type(one).__name__}",
                hint="names, DatasetTable values, or {NAME: (KIND, ROWS)}",
            )


def _kind_and_rows(name: Any, value: Any) -> tuple[str, Any]:
    if isinstance(value, DatasetTable):
        return value.kind, value.rows
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        if value[0] not in SCHEMAS:
            raise UnknownChoice("kind of dataset", value[0], SCHEMAS)
        return value
    raise UsageError(
        f"dataset '{printable(str(name), 60)}' has no kind",
        hint=f"{{NAME: (KIND, ROWS)}}; kinds: {', '.join(SCHEMAS)}",
    )


def _held(name: str, kind: str, rows: Any, ids: pa.ChunkedArray) -> Held:
    return Held.of(DatasetTable(name=name, kind=kind, rows=_rows(name, kind, rows, ids)))


def _rows(name: str, kind: str, given: Any, ids: pa.ChunkedArray) -> pa.Table:
    if isinstance(given, DatasetTable):
        if given.kind != kind:
            raise UsageError(f"'{printable(name, 60)}' holds {given.kind}, not {kind}")
        return given.rows
    if isinstance(given, str | Path):
        return parse(Path(given), kind)
    if isinstance(given, pa.Table):
        return _of_arrow(name, kind, given)
    if isinstance(given, Mapping) and kind == "labels":
        rows: Iterable[Any] = given.items()
    elif kind == "labels" and not _is_pairs(values := _listed(name, given)):
        rows = _aligned(name, values, ids)
    else:
        rows = _listed(name, given)
    cells = [_ROW[kind](_Row(name=name, kind=kind, number=i), row) for i, row in enumerate(rows)]
    cells = [row for row in cells if row[-1] is not None]
    if not cells:
        raise InputError(f"{printable(name, 60)}: no rows", hint=f"rows are {_SHAPES[kind]}")
    if kind == "labels":
        _each_once(name, [row[0] for row in cells])
    try:
        return to_table(cells, kind)
    except (UnicodeEncodeError, pa.ArrowException, OverflowError) as exc:
        raise InputError(f"{printable(name, 60)}: {printable(str(exc), 80)}") from exc


def _listed(name: str, given: Any) -> list[Any]:
    try:
        return listed(given)
    except TypeError as exc:
        told = f"{printable(name, 60)}: a value of type {type(given).__name__} has no rows"
        raise UsageError(told, hint="a list of tuples, an Arrow table, or the path of a file") from exc


def _of_arrow(name: str, kind: str, given: pa.Table) -> pa.Table:
    schema = SCHEMAS[kind]
    missing = [column for column in schema.names if column not in given.column_names]
    if missing:
        hint = f"{kind} have the columns {', '.join(schema.names)}"
        raise InputError(f"{printable(name, 60)}: no column '{missing[0]}'", hint=hint)
    kept = [*schema.names, *([VECTOR] if VECTOR in given.column_names else [])]
    fields = [schema.field(c) if c in schema.names else given.schema.field(c) for c in kept]
    try:
        rows = given.select(kept).cast(pa.schema(fields))
    except (pa.ArrowException, ValueError) as exc:
        raise InputError(f"{printable(name, 60)}: {printable(str(exc), 80)}") from exc
    if not rows.num_rows:
        raise InputError(f"{printable(name, 60)}: no rows")
    empty = [column for column in schema.names if rows.column(column).null_count]
    if empty:
        raise InputError(f"{printable(name, 60)}: column '{empty[0]}' has nulls", hint="leave those rows out")
    if kind == "labels":
        _each_once(name, rows.column("id").to_pylist())
    return rows


def _is_pairs(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, tuple | list) and len(v) == 2 for v in values)


def _aligned(name: str, labels: Sequence[Any], ids: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    if len(labels) != len(ids):
        raise InputError(
            f"{printable(name, 60)}: {len(labels):,} labels for {len(ids):,} rows",
            hint="one label for each row, None for none; or {id: label}",
        )
    return zip(ids.to_pylist(), labels, strict=True)


def _each_once(name: str, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for item in ids:
        if item in seen:
            raise InputError(f"{printable(name, 60)}: id '{printable(item, 60)}' has two labels")
        seen.add(item)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Where a row stands, for messages."""

    name: str
    kind: str
    number: int

    def wrong(self, what: str) -> InputError:
        place = f"{printable(self.name, 60)}: row {self.number}"
        return InputError(f"{place}: {what}", hint=f"rows are {_SHAPES[self.kind]}")

    def cells(self, row: Any, *counts: int) -> list[Any]:
        if isinstance(row, str) or not isinstance(row, Sequence) or len(row) not in counts:
            found = f"{len(row)} values" if isinstance(row, tuple | list) else type(row).__name__
            raise self.wrong(f"found {found}")
        return list(row)

    def text(self, value: Any) -> str:
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool):
            raise self.wrong(f"{printable(repr(value), 40)} is no id")
        return str(value)

    def number_of(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as exc:
            raise self.wrong(f"{printable(repr(value), 40)} is no number") from exc
        if not math.isfinite(number):
            raise self.wrong(f"{number} is no score")
        return number


def _question(row: _Row, given: Any) -> tuple[Any, ...]:
    cells = row.cells(given, 4, 6)
    section, group, a, b, c, answers = cells if len(cells) == 6 else (_QUESTIONS, _QUESTIONS, *cells)
    told = [answers] if isinstance(answers, str | int) else listed(answers)
    if not told:
        raise row.wrong("no answer")
    return (str(section), str(group), *map(row.text, (a, b, c)), list(map(row.text, told)))


def _scored(row: _Row, given: Any) -> tuple[Any, ...]:
    a, b, score = row.cells(given, 3)
    return row.text(a), row.text(b), row.number_of(score)


def _labelled(row: _Row, given: Any) -> tuple[Any, ...]:
    item, label = row.cells(given, 2)
    none = label is None or (isinstance(label, float) and math.isnan(label))
    return row.text(item), None if none else str(label)


def _positive(row: _Row, given: Any) -> tuple[Any, ...]:
    a, b = row.cells(given, 2)
    return row.text(a), row.text(b)


def _judged(row: _Row, given: Any) -> tuple[Any, ...]:
    query, item, relevance = row.cells(given, 3)
    number = row.number_of(relevance)
    if number != int(number):
        raise row.wrong(f"a relevance of {number:g} is not whole")
    return row.text(query), row.text(item), int(number)


_ROW = cast(
    "Mapping[str, Callable[[_Row, Any], tuple[Any, ...]]]",
    {"analogies": _question, "pairs": _scored, "labels": _labelled, "positives": _positive, "qrels": _judged},
)
