"""Test data that embreg brings: small English sets of its own making, under CC0-1.0.

There is one dataset of each of some kinds, ``builtin/english/KIND``. They are served from the package: no
registry holds their rows. Their digest is that of the rows, the same on every machine; a run is bound to it
as to that of any other dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import DatasetNotFound, did_you_mean, printable
from .manifest import canonical_json
from .types import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

#: Names of what is built in begin so, and names of what is registered do not.
PREFIX: Final = "builtin"
ENGLISH: Final = f"{PREFIX}/english"
LICENCE: Final = "CC0-1.0"
_MADE = datetime(2026, 11, 22, tzinfo=UTC)
_FILES: Final = {"analogies": "analogies.txt", "labels": "labels.tsv", "pairs": "pairs.tsv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """A dataset and its rows."""

    dataset: Dataset
    rows: pa.Table


def is_builtin(name: str) -> bool:
    """Whether a name is kept for what is built in."""
    return name.partition("/")[0] == PREFIX


@cache
def sets() -> tuple[BuiltIn, ...]:
    """Return every dataset that is built in, by name."""
    return tuple(_load(kind) for kind in _FILES)


def find(name: str) -> BuiltIn:
    """Return one dataset by name.

    Raises:
        DatasetNotFound: there is none.
    """
    found = [s for s in named(name) if s.dataset.name == name]
    if not found:
        known = ", ".join(s.dataset.name for s in named(name))
        raise DatasetNotFound(f"'{printable(name)}' is not one dataset", hint=f"there are {known}")
    return found[0]


def named(name: str) -> tuple[BuiltIn, ...]:
    """Return the dataset of a name, or all those below it (``builtin/english``).

    Raises:
        DatasetNotFound: there is none.
    """
    found = tuple(s for s in sets() if s.dataset.name == name or s.dataset.name.startswith(f"{name}/"))
    if not found:
        known = [s.dataset.name for s in sets()]
        hint = did_you_mean(name, [ENGLISH, *known], f"there are {', '.join(known)}")
        raise DatasetNotFound(f"no dataset '{printable(name)}' is built in", hint=hint)
    return found


def rows_of(digest: str) -> pa.Table | None:
    """Return the rows of a digest, None where they are not built in."""
    return next((s.rows for s in sets() if s.dataset.digest == digest), None)


def _load(kind: str) -> BuiltIn:
    from .datasets import to_table

    path = Path(__file__).with_name("english") / _FILES[kind]
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = to_table(_READERS[kind](lines), kind)
    dataset = Dataset(
        name=f"{ENGLISH}/{kind}",
        kind=kind,
        digest=hashlib.sha256(canonical_json([kind, rows.to_pylist()])).hexdigest(),
        items=rows.num_rows,
        source="embreg",
        licence=LICENCE,
        created_at=_MADE,
    )
    return BuiltIn(dataset=dataset, rows=rows)


def _questions(lines: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield a question for every two pairs of a section, both ways."""
    sections: dict[str, list[list[str]]] = {}
    for line in lines:
        if line.startswith(":"):
            pairs = sections.setdefault(line[1:].strip(), [])
        else:
            pairs.append(line.split("\t"))
    for section, pairs in sections.items():
        group, _, name = section.partition("/")
        for i, (a, b) in enumerate(pairs):
            for j, (c, d) in enumerate(pairs):
                if i != j:
                    yield name, group, a, b, c, [d]


def _scored(lines: list[str]) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        a, b, score = line.split("\t")
        yield a, b, float(score)


def _labelled(lines: list[str]) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        yield tuple(line.split("\t"))


_READERS: Final = {"analogies": _questions, "labels": _labelled, "pairs": _scored}
