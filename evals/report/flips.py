"""Items that went one way from one version to the next, as they are written on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..figures import change, number
from ..item_columns import RANK_GAP
from ..itemized import CHANGE, NEW, OLD

if TYPE_CHECKING:
    from ..itemized import Group, Itemized

_TITLES = {
    "broken": "Broken: right before, wrong now",
    "mended": "Mended: wrong before, right now",
    "new hubs": "New hubs: in at least 2k neighbour lists now, not before",
    "former hubs": "Former hubs: in at least 2k neighbour lists before, not now",
    "worse": "Became worse",
    "better": "Became better",
}
_MOST_COLUMNS = 4
#: Items that were right and are wrong, or the other way round.
_SIDES = ("broken", "mended")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipGroup:
    """Items of one kind.

    Attributes:
        columns: heading, and whether numbers stand below.
        rows: texts; the first of each is the item.
        more: how many there are besides.
        command: that shows those.
    """

    title: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    more: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """What became of the items of one suite on one dataset."""

    title: str
    counted: str
    groups: Sequence[FlipGroup]


def flips(given: Itemized) -> Flip:
    """Return items in pairs as they are written."""
    on = f" on {given.run.dataset}" if given.run.dataset else ""
    counts = ", ".join(f"{count:,} {name}" for name, count in given.counts.items())
    return Flip(
        title=f"{given.run.suite}{on}",
        counted=f"{counts} of {given.total:,} items that both versions scored{_by(given)}.",
        groups=[_group(given, group) for group in given.groups],
    )


def _by(given: Itemized) -> str:
    """Return by what items became worse, where they are not right or wrong."""
    if any(group.name in _SIDES for group in given.groups):
        return ""
    if given.column.name == RANK_GAP:
        return ", by how far the two rankings are apart on a pair"
    return f", by {given.column.name}"


def _group(given: Itemized, group: Group) -> FlipGroup:
    values = {name: group.items.column(name).to_pylist() for name in group.items.column_names}
    shown = _shown(values, numbers=_numbers(given, group))
    old = given.old.version if given.old else ""
    dataset = f" --dataset {given.run.dataset}" if given.run.dataset else ""
    return FlipGroup(
        title=f"{_TITLES.get(group.name, group.name)} ({group.count:,})",
        columns=[(_heading(n, old, given.run.version), _numeric(values[n])) for n in shown],
        rows=list(zip(*([_text(v, n, given.column.unit) for v in values[n]] for n in shown), strict=True)),
        more=group.count - len(group.items),
        command=f"embreg items {old} {given.run.version} --suite {given.run.suite}{dataset} --flipped",
    )


def _numbers(given: Itemized, group: Group) -> list[str]:
    """Return the columns of numbers: right or wrong needs none, and what is far either way no change."""
    if group.name in _SIDES:
        return []
    return [OLD, NEW] if given.column.worst == "far" else [OLD, NEW, CHANGE]


def _shown(values: dict[str, list[Any]], *, numbers: list[str]) -> list[str]:
    """Return the columns that say something."""
    texts = [
        name
        for name, own in values.items()
        if name != "item" and any(isinstance(v, str) for v in own) and not _repeats(own, values["item"])
    ]
    told = sorted(texts, key=lambda name: not name.startswith(("expected", "predicted", "class")))
    return ["item", *numbers, *told[:_MOST_COLUMNS]]


def _repeats(column: Sequence[Any], items: Sequence[Any]) -> bool:
    """Whether each text of a column is part of the item's name."""
    return all(v is None or (isinstance(v, str) and v in str(i)) for v, i in zip(column, items, strict=True))


def _heading(name: str, old: str, new: str) -> str:
    plain = {OLD: old, NEW: new, "item": "item"}.get(name)
    if plain is not None:
        return plain
    for suffix, ref in (("_old", old), ("_new", new)):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)} in {ref}"
    return name


def _numeric(values: Sequence[Any]) -> bool:
    return any(isinstance(value, int | float) for value in values)


def _text(value: Any, name: str, unit: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    own = unit if name in (OLD, NEW, CHANGE) else ""
    return change(value, own) if name == CHANGE else number(value, own)
