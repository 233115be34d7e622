"""Two versions side by side: what changed, what moved, and whether for the better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ...registry.diff import compare
from ...registry.errors import EmbregError
from ..recorded import Lack, newest
from ..side_by_side import side_by_side
from .page import Page, Route, comparison_path, embedding_path, version_path
from .pictures import kinds, pictures
from .rendering import render, word

if TYPE_CHECKING:
    from ...registry.types import Diff, RunRecord, Version
    from ..comparison import Comparison, Row
    from .known import Known

#: At which a difference is marked as more than chance.
_ALPHA = 0.05
#: Rows of the two versions together beyond which a page does not count what changed: it reads every id.
MOST_ROWS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The rows of a suite on a dataset: those that moved, and those that did not."""

    title: str
    moved: list[Row]
    still: list[Row]

    @property
    def both(self) -> bool:
        """Whether the older version has a value of any row."""
        return any(row.cells[0].value is not None for row in (*self.moved, *self.still))


def routes(known: Known, new: Version) -> Iterator[Route]:
    """Yield a page for a version and the one before it, and for the one that a gate held it against."""
    for old in known.compared(new):
        path = comparison_path(old.ref, new.ref)
        yield Route(path=path, inputs=partial(_inputs, known, old, new),
                    make=partial(_page, known, path, old, new))  # fmt: skip


def _inputs(known: Known, old: Version, new: Version) -> object:
    return [(v.ref, v.digest, known.heads.get(v.ref)) for v in (old, new)]


def _page(known: Known, path: str, old: Version, new: Version) -> Page:
    theirs = known.runs(old.ref)
    runs = newest(known.runs(new.ref), theirs, known.suites)
    found = side_by_side(
        {old.ref: theirs, new.ref: known.runs(new.ref)},
        known.suites, known.items, np.random.default_rng(0), alpha=_ALPHA, glance=True,
    )  # fmt: skip
    charts = pictures(runs, theirs, known.items)
    return render(
        known, path, "comparison.html.j2", f"{new.ref} against {old.ref}",
        crumbs=[(new.name, embedding_path(new.name)), (new.ref, version_path(new.ref))],
        old=old, new=new,
        diff=_diff(known, old, new),
        drift=_drift(known, old, new),
        drifting=Lack(reason="drift between the two was not measured",
                      command=f"embreg drift {word(old.ref)} {word(new.ref)}"),
        comparison=found,
        groups=_groups(found),
        tally=_tally(found),
        command=f"embreg compare {word(old.ref)} {word(new.ref)} --all-labels",
        charts=charts, kinds=kinds(charts), pictures=bool(charts),
    )  # fmt: skip


def _drift(known: Known, old: Version, new: Version) -> RunRecord | None:
    """Return the newest run of drift between the two."""
    done = [run for run in known.runs(new.ref) if run.suite == "drift" and run.status == "done"]
    return next((run for run in reversed(done) if run.baseline == old.ref), None)


def _diff(known: Known, old: Version, new: Version) -> Diff | Lack:
    command = f"embreg diff {word(old.ref)} {word(new.ref)}"
    if old.rows + new.rows > MOST_ROWS:
        return Lack(reason=f"{old.rows + new.rows:,} rows are more than a page counts", command=command)
    try:
        a, b = known.registry.table(old), known.registry.table(new)
        return compare(a, b, old_ref=old.ref, new_ref=new.ref)
    except EmbregError as exc:
        return Lack(reason=exc.message, command="embreg verify")


def _groups(found: Comparison) -> list[Group]:
    """Return the rows by suite and dataset; what only one version has counts as moved."""
    grouped = groupby(found.rows, key=lambda row: (row.suite, row.dataset))
    groups = []
    for (suite, dataset), given in grouped:
        rows = list(given)
        title = f"{suite} on {dataset}" if dataset else suite
        moved = [row for row in rows if row.moved]
        groups.append(Group(title=title, moved=moved, still=[row for row in rows if not row.moved]))
    return groups


def _tally(found: Comparison) -> Counter[str]:
    """Return how many metrics got better and worse, tested or not."""
    cells = [row.cells[1] for row in found.rows]
    counted = Counter(cell.judged for cell in cells if cell.judged)
    counted["significant"] = sum(cell.mark in ("better", "worse", "different") for cell in cells)
    return counted
