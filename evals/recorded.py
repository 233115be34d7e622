"""What is recorded of a version, chosen for a report: runs, their items, the gate's verdict, what flipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..registry.errors import EmbregError
from . import itemized
from .evidence import Missing, comparable, run_labels
from .gate import CheckResult, Outcome, Verdict
from .suite import Need

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import RunRecord, VerdictRecord
    from .itemized import Group, Itemized
    from .suite import Suite

Runs = Sequence["RunRecord"]
Suites = Mapping[str, "Suite"]
#: Groups of items that changed sides, whatever they are items of.
_SIDES = {"broken", "new hubs"}
_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something that cannot be shown: why, and the command that brings it, if there is one."""

    reason: str
    command: str = ""


def newest(runs: Runs, baseline_runs: Runs, suites: Suites) -> tuple[RunRecord, ...]:
    """Return one run a suite, dataset and index: the newest that can be compared, else the newest done.

    What was not done at last is beside what was done before.

    Args:
        runs: of the version, oldest first.
        baseline_runs: of the version that it is compared with.
        suites: by name.
    """
    found: list[RunRecord] = []
    for own in _topics(runs, suites).values():
        done = [run for run in reversed(own) if run.status == "done"]
        fitting = [run for run in done if not isinstance(comparable(run, baseline_runs), Missing)]
        found += (fitting or done)[:1]
        found += [own[-1]] if own[-1].status != "done" else []
    return tuple(found)


def _topics(runs: Runs, suites: Suites) -> dict[tuple[Any, ...], list[RunRecord]]:
    """Return the runs by what they are about; one that was skipped may name no dataset."""
    found: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in runs:
        suite = suites.get(run.suite)
        about = run_labels(run, suite) if suite else {"dataset": run.dataset}
        found.setdefault((run.suite, *about.items()), []).append(run)
    return {key: found[key] for key in sorted(found, key=repr)}


def against(runs: Runs, digest: str | None) -> tuple[list[RunRecord], list[RunRecord]]:
    """Return the runs that compare with nothing or with a version of this digest, and the others.

    Args:
        runs: of the version.
        digest: of the baseline; None lets each comparison stand, whatever it was with.
    """
    own = [run for run in runs if run.baseline_digest is None or digest in (None, run.baseline_digest)]
    measured = {run.suite for run in own}
    return own, [run for run in runs if run not in own and run.suite not in measured]


def unmeasured(runs: Runs, suites: Suites, *, baseline: bool) -> list[str]:
    """Return the suites of which there is no run; without a baseline, none that needs one."""
    there = {run.suite for run in runs}
    return [
        name
        for name, suite in suites.items()
        if name not in there and (baseline or Need.BASELINE not in suite.needs)
    ]


def uncompared(runs: Runs, baseline_runs: Runs) -> list[str]:
    """Return the suites that were run on the version, and not on its baseline."""
    there = {run.suite for run in baseline_runs}
    alone = (run.suite for run in runs if run.status == "done" and run.baseline is None)
    return [name for name in dict.fromkeys(alone) if name not in there]


def tables(
    runs: Runs, baseline_runs: Runs, opening: Callable[[str], pa.Table]
) -> tuple[dict[str, pa.Table], list[RunRecord]]:
    """Return the items of runs, and of those that they are compared with, by digest; and whose are gone."""
    wanted = [r for run in runs for r in (run, beside(run, baseline_runs)) if r is not None and r.items]
    opened: dict[str, pa.Table] = {}
    gone: dict[str, RunRecord] = {}
    for run in wanted:
        digest = run.items or ""
        if digest in opened or digest in gone:
            continue
        try:
            opened[digest] = opening(digest)
        except EmbregError:
            gone[digest] = run
    return opened, list(gone.values())


def beside(run: RunRecord, baseline_runs: Runs) -> RunRecord | None:
    """Return the baseline's run whose values may stand beside those of ``run``; None where there is none."""
    if run.baseline is not None or run.status != "done":
        return None
    found = comparable(run, baseline_runs)
    return None if isinstance(found, Missing) else found


def flipped(
    runs: Runs, baseline_runs: Runs, items: Mapping[str, pa.Table], suites: Suites, most: int
) -> Iterator[Itemized]:
    """Yield which questions broke and which were mended, or which rows became hubs, run by run.

    Of what is neither right nor wrong, only the items of a dataset are told: somebody chose them.
    """
    for run in runs:
        other = beside(run, baseline_runs)
        pair = [items.get(of.items or "") for of in (run, other) if of is not None]
        if other is None or pair[0] is None or pair[1] is None:
            continue
        try:
            found = itemized.paired(
                run, pair[0], other, pair[1], suites.get(run.suite), worst=_ALL, best=_ALL
            )  # fmt: skip
        except EmbregError:  # items without a number to rank by have nothing to tell
            continue
        names = {group.name for group in found.groups}
        if names & _SIDES or (run.dataset is not None and found.column.directed):
            yield replace(found, groups=tuple(_some(group, most) for group in found.groups))


def _some(group: Group, most: int) -> Group:
    """Return a group with a few of its items: the first, or of those that are all alike some throughout."""
    alike = group.name in ("broken", "mended")
    step = max(1, len(group.items) // most) if alike else 1
    kept = np.arange(0, len(group.items), step)[:most]
    return replace(group, items=group.items.take(kept))


def rehydrated(record: VerdictRecord, suites: Suites) -> Verdict:
    """Return a recorded verdict as the gate gave it; units are those of the metrics as they are now."""
    checks = tuple(_check(given, suites) for given in record.checks)
    return Verdict(ref=record.version, baseline=record.baseline, checks=checks)


def _check(given: Mapping[str, Any], suites: Suites) -> CheckResult:
    name, _, metric = given["metric"].partition(".")
    found = suites[name].metric(metric) if name in suites else None
    kept: dict[str, Any] = {key: given.get(key) for key in ("p_value", "detectable", "n", "low", "high")}
    return CheckResult(
        metric=given["metric"],
        labels=given["labels"],
        value=given["value"],
        baseline=given["baseline"],
        bound=given["bound"],
        outcome=Outcome(given["outcome"]),
        reason=given["reason"],
        severity=given.get("severity", "critical"),
        unit=found.unit if found else "",
        **kept,
    )
