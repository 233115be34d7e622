"""The items of recorded runs: finds the run, or the two runs, that are meant, and ranks their items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..registry.errors import CorruptBlob, NotFound, UsageError, printable
from . import itemized
from .evidence import Missing, comparable
from .runner import discover, suite_named

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.registry import Registry
    from ..registry.types import RunRecord
    from .itemized import Itemized

#: So many items are given where nobody says how many.
SHOWN = 20
_NUMBER = re.compile(r"#?([0-9]{1,18})")
_MOST_CHOICES = 8


def items(
    registry: Registry,
    run: str | int,
    other: str | int | None = None,
    *,
    suite: str | None = None,
    dataset: str | None = None,
    column: str | None = None,
    labels: Mapping[str, str] | None = None,
    worst: int | None = None,
    best: int | None = None,
    flipped: bool = False,
) -> Itemized:
    """Rank the items of a run, or those of two versions by how much worse they became.

    Args:
        registry: where the runs are.
        run: the number of a run, or a reference: the newest run of that version that has items.
        other: likewise, of the newer version; ``run`` is then what it is held against.
        suite: which run of a version is meant; not needed where there is only one.
        dataset: likewise.
        column: to rank by; by default that of the suite's first metric.
        labels: only items of such a slice (``section=family``), or the column of such a variant.
        worst: how many of the worst to give; 20 where neither number is given.
        best: likewise of the best; none of them.
        flipped: of two versions, those that got worse and those that got better, where items are right or
            wrong or hubs; of drift, which compares by itself, what moved most.

    Raises:
        UsageError: several runs are meant, or ``flipped`` of one run that compares nothing.
        UnknownChoice: no such suite, column, label or slice.
        NotFound: no such version, dataset or run, or one without items.
        CorruptBlob: the items are gone or damaged.
    """
    if suite is not None:
        suite_named(suite)
    if dataset is not None:
        registry.dataset_names(dataset)
    found = candidates(registry, str(run), suite, dataset)
    old: RunRecord | None = None
    if other is None:
        chosen = _only(found)
    else:
        chosen, old = _pair(found, candidates(registry, str(other), suite, dataset))
    if flipped and old is None and chosen.baseline is None:
        hint = "name the other one: embreg items A B --flipped"
        raise UsageError("--flipped compares two versions", hint=hint)
    if worst is None and best is None:
        worst = SHOWN
        best = SHOWN if flipped and old is not None else None
    own = discover().get(chosen.suite)
    table = table_of(registry, chosen)
    if old is None:
        return itemized.ranked(chosen, table, own, column=column, labels=labels, worst=worst, best=best)
    return itemized.paired(
        chosen, table, old, table_of(registry, old), own,
        column=column, labels=labels, worst=worst, best=best,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The runs with items that a number or a reference may mean.

    Attributes:
        text: what was asked for.
        ref: the version.
        runs: oldest first.
        missing: why there is none.
        hint: what to do then.
    """

    text: str
    ref: str
    runs: Sequence[RunRecord]
    missing: str = ""
    hint: str = ""

    @property
    def called(self) -> str:
        """The run where one was asked for by its number, else the version."""
        return f"run {self.text}" if self.text.isdecimal() else self.ref

    def require(self) -> Sequence[RunRecord]:
        """Return the runs.

        Raises:
            NotFound: there is none.
        """
        if not self.runs:
            raise NotFound(self.missing, hint=self.hint)
        return self.runs

    def topics(self) -> list[list[RunRecord]]:
        """Return the runs by suite, dataset, baseline and index, each newest first.

        Raises:
            NotFound: there is none.
        """
        found: dict[tuple[str, ...], list[RunRecord]] = {}
        for run in reversed(self.require()):
            index = str(run.params.get("index", ""))
            found.setdefault((run.suite, run.dataset or "", run.baseline or "", index), []).append(run)
        return [found[key] for key in sorted(found)]


def candidates(registry: Registry, text: str, suite: str | None, dataset: str | None) -> Candidates:
    """Return the runs that a number or a reference may mean.

    Raises:
        NotFound: no such version or run, or a run without items.
    """
    if number := _NUMBER.fullmatch(text):
        run = _numbered(registry, int(number[1]), suite, dataset)
        return Candidates(text=text, ref=run.version, runs=[run])
    version = registry.resolve(text)
    done = [
        run
        for run in registry.runs(version.ref)
        if run.status == "done" and suite in (None, run.suite) and dataset in (None, run.dataset)
    ]
    found = Candidates(text=text, ref=version.ref, runs=[run for run in done if run.items])
    if done:
        suites = ", ".join(sorted({run.suite for run in done}))
        return replace(found, missing=f"{printable(suites)} of {version.ref} kept no items")
    what = f"{suite} was not" if suite else "nothing was"
    told = f"{what} measured {f'on {dataset} ' if dataset else ''}of {version.ref}"
    how = f"'embreg eval {version.ref}{f' --suite {suite}' if suite else ''}' measures it"
    return replace(found, missing=told, hint=how)


def table_of(registry: Registry, run: RunRecord) -> pa.Table:
    """Return the per-item table of a run.

    Raises:
        CorruptBlob: it is gone or damaged.
    """
    try:
        return registry.stored_table(run.items or "")
    except CorruptBlob as exc:
        again = f"'embreg eval {run.version} --suite {run.suite} --force' measures it again"
        raise CorruptBlob(f"items of {_told(run)}: {exc.message}", hint=again) from exc


def _numbered(registry: Registry, number: int, suite: str | None, dataset: str | None) -> RunRecord:
    run = registry.run(number)
    if suite not in (None, run.suite) or dataset not in (None, run.dataset):
        raise UsageError(f"{_told(run)} is not what --suite and --dataset say")
    if run.items is None:
        why = f": {printable(run.reason)}" if run.reason else ""
        raise NotFound(f"{_told(run)} kept no items{why}")
    return run


def _only(found: Candidates) -> RunRecord:
    newest = [runs[0] for runs in found.topics()]
    if len(newest) == 1:
        return newest[0]
    choices = [f"embreg items {run.id} ({_about(run)})" for run in newest]
    raise UsageError(f"{found.ref} has {len(newest)} runs with items", hint=_listed(choices))


def _pair(old: Candidates, new: Candidates) -> tuple[RunRecord, RunRecord | None]:
    """Return the run of the newer version, and the comparable one of the older; none where it compares."""
    found: list[tuple[RunRecord, RunRecord | None]] = []
    reasons: dict[str, None] = {}
    for runs in new.topics():
        tried = [(run, None if run.baseline == old.ref else _beside(run, old)) for run in runs]
        fitting = [(run, other) for run, other in tried if not isinstance(other, Missing)]
        found += fitting[:1]
        reasons |= {other.reason: None for _, other in tried[:1] if isinstance(other, Missing)}
    if len(found) == 1:
        return found[0]
    if not found:
        old.require()
        told = f"no items of {new.called} can be held against those of {old.called}"
        raise NotFound(f"{told}: {'; '.join(reasons)}")
    choices = [f"embreg items {old.text} {new.text}{_options(run)}" for run, _ in found]
    told = f"{old.ref} and {new.ref} have {len(found)} runs in common"
    raise UsageError(told, hint=_listed(choices))


def _beside(run: RunRecord, old: Candidates) -> RunRecord | Missing:
    """Return the run that the items of ``run`` may be held against.

    Raises:
        UsageError: it is the same run.
    """
    same = [other for other in old.runs if other.suite == run.suite]
    if not same:
        return Missing(f"there are no items of {run.suite} of {old.called}")
    found = comparable(run, [other for other in same if other.baseline_digest == run.baseline_digest] or same)
    if not isinstance(found, Missing):
        if found.id == run.id:
            raise UsageError(f"both are {_told(run)}", hint="name two versions, or two runs")
        if found.baseline_digest != run.baseline_digest:
            return Missing(f"{run.suite} was held against {found.baseline}, and here against {run.baseline}")
    return found


def _options(run: RunRecord) -> str:
    return f" --suite {run.suite}" + (f" --dataset {run.dataset}" if run.dataset else "")


def _listed(choices: Sequence[str]) -> str:
    more = f"; {len(choices) - _MOST_CHOICES} more" if len(choices) > _MOST_CHOICES else ""
    return f"say which: {'; '.join(choices[:_MOST_CHOICES])}{more}"


def _told(run: RunRecord) -> str:
    return f"run {run.id} ({_about(run)}, {run.version})"


def _about(run: RunRecord) -> str:
    index = run.params.get("index")
    told = [run.suite, f"on {run.dataset}" if run.dataset else "", f"of index {index}" if index else ""]
    told.append(f"against {run.baseline}" if run.baseline else "")
    return printable(" ".join(filter(None, told)))
