"""Everything that a report of one version is made of: what is recorded, and the little that pictures need.

Nothing is measured anew. Runs, verdicts and their items are read back; what is computed takes seconds: a few
thousand rows as points of a plane, norms down the table, the neighbours of the few rows that moved most.
What cannot be had is a ``Lack``: a page says so where it would stand, with the command that brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ..registry.errors import EmbregError, UsageError
from ..registry.types import utc_now
from . import drawable, recorded
from .baselines import chosen
from .drawable import Subjects
from .gate import Verdict
from .moved import moved
from .recorded import Lack
from .runner import discover
from .suite import Skipped

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from ..registry.registry import Registry
    from ..registry.types import (
        Dependent,
        Diff,
        IndexState,
        PastMove,
        Progress,
        RunRecord,
        VerdictRecord,
        Version,
    )
    from .config import Config
    from .drawable import Map
    from .itemized import Itemized
    from .moved import Mover
    from .norms import NormsByRank
    from .suite import Suite

#: Rows that moved most, and the neighbours of each, on a page.
MOVERS, NEIGHBORS = 12, 8
#: Questions that broke or were mended, each.
FLIPPED = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a version, held against its baseline.

    Attributes:
        version: the report is about.
        baseline: it is held against; None where there is none.
        why: that baseline, or none.
        verdict: the gate's on the two.
        record: of that verdict; None where it was judged just now.
        doubts: what the gate told besides, a line each.
        diff: from the baseline to the version.
        indexes: those of the embedding, and ``dependents``: what else follows it.
        runs: of the version, one a topic: the newest that can be compared, else the newest.
        baseline_runs: of the baseline, all.
        lacking: suites that were not run, or not against this baseline.
        tables: per-item tables by their digest, of ``runs`` and of those that they are compared with.
        movers: the rows that moved most.
        flipped: items that got worse and better, a run each.
        norms: of the version, and of its baseline where there is one.
        map: some rows as a picture.
        history: all runs of the embedding, and ``moves`` of its aliases.
        config: the configuration in force.
        made_at: when all this was gathered.
    """

    version: Version
    baseline: Version | None
    why: str
    verdict: Verdict | Lack
    record: VerdictRecord | None
    doubts: tuple[str, ...]
    diff: Diff | Lack
    indexes: tuple[IndexState, ...]
    dependents: tuple[Dependent, ...]
    runs: tuple[RunRecord, ...]
    baseline_runs: tuple[RunRecord, ...]
    lacking: tuple[Lack, ...]
    movers: tuple[Mover, ...] | Lack
    norms: tuple[NormsByRank, NormsByRank | None] | Lack
    map: Map | Lack
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    flipped: tuple[Itemized, ...] = ()
    history: tuple[RunRecord, ...] = ()
    moves: tuple[PastMove, ...] = ()
    config: Config | None = None
    made_at: datetime = field(default_factory=utc_now)

    @property
    def outdated(self) -> bool:
        """Whether the configuration is another one than that of the recorded verdict."""
        if self.record is None or self.config is None or not self.config.gates:
            return False
        return self.record.config_digest != self.config.digest


def report(
    registry: Registry,
    ref: str,
    *,
    baseline: str | None = None,
    no_baseline: bool = False,
    config: Config | None = None,
    how: str = "pca",
    verdict: Verdict | None = None,
    runs: Sequence[RunRecord] = (),
    doubts: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Gather what is recorded of a version and its baseline, and what the pictures need besides.

    Args:
        registry: where the version is.
        ref: the version.
        baseline: the version to compare with; by default that of ``baselines.chosen``.
        no_baseline: compare with nothing.
        config: the configuration in force: its bounds are drawn, and a verdict by other checks is told apart.
        how: rows become points: ``pca``, ``tsne`` or ``umap``.
        verdict: the gate's, fresh; by default the one that is recorded of the two versions.
        runs: what the gate measured of the version, instead of what is recorded of the same suites.
        doubts: what it told besides.
        progress: told which step is being done.

    Raises:
        NotFound: no such version.
        UsageError: a baseline is given, and none; or the map needs a package that is not installed.
    """
    steps = _Steps(progress)
    suites = discover()
    version = registry.resolve(ref)
    choice = chosen(registry, version, baseline, none=no_baseline)
    base = choice.version
    steps.tell("runs")
    theirs = registry.runs(base.ref) if base else ()
    own, lacking = _runs(registry, version, base, theirs, runs, suites, none=no_baseline)
    judged = _verdict(registry, version, base, suites) if verdict is None else (verdict, None)
    steps.tell("items")
    tables, gone = recorded.tables(own, theirs, registry.stored_table)
    subjects = Subjects(registry, version, base)
    steps.tell("rows that moved")
    movers = _movers(own, tables, subjects)
    steps.tell("norms")
    norms = _had(lambda: drawable.norms(subjects))
    steps.tell("map")
    far = () if isinstance(movers, Lack) else tuple(mover.item for mover in movers)
    drawn = _had(lambda: drawable.map_of(registry, subjects, own, tables, far, how))
    steps.tell("page")
    return Report(
        version=version,
        baseline=base,
        why=choice.why,
        verdict=judged[0],
        record=judged[1],
        doubts=tuple(doubts),
        diff=_had(lambda: registry.diff(base.ref, version.ref)) if base else Lack(reason=choice.why),
        indexes=tuple(i for i in registry.indexes() if _follows(i.tracks, version)),
        dependents=tuple(
            d for d in registry.dependents() if d.kind != "index" and _follows(d.tracks, version)
        ),
        runs=own,
        baseline_runs=theirs,
        lacking=(*lacking, *(_gone(run) for run in gone)),
        movers=movers,
        norms=norms,
        map=drawn,
        tables=tables,
        flipped=tuple(recorded.flipped(own, theirs, tables, suites, FLIPPED)),
        history=registry.runs(version.name),
        moves=registry.alias_history(version.name),
        config=config,
    )


class _Steps:
    """Tells which of the steps is being done."""

    _ALL = ("runs", "items", "rows that moved", "norms", "map", "page")

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def tell(self, step: str) -> None:
        if self._progress is not None:
            self._progress(step, self._ALL.index(step), len(self._ALL))


def _had(make: Callable[[], T], command: str = "") -> T | Lack:
    """Return what can be made, or why it cannot; what was asked for wrongly is still an error."""
    try:
        return make()
    except UsageError:
        raise
    except (EmbregError, Skipped) as exc:
        return Lack(reason=exc.message if isinstance(exc, EmbregError) else str(exc), command=command)


def _follows(tracks: str, version: Version) -> bool:
    return tracks.rpartition("@")[0] == version.name


def _runs(
    registry: Registry,
    version: Version,
    base: Version | None,
    theirs: Sequence[RunRecord],
    given: Sequence[RunRecord],
    suites: Mapping[str, Suite],
    *,
    none: bool,
) -> tuple[tuple[RunRecord, ...], list[Lack]]:
    """Return the runs of a version that a report shows, and what it cannot show."""
    fresh = {run.suite for run in given}
    every = [*(run for run in registry.runs(version.ref) if run.suite not in fresh), *given]
    if none:
        every = [run for run in every if run.baseline is None]
    own, others = recorded.against(every, base.digest if base else None)
    eval_ = f"embreg eval {version.ref}" + (f" --baseline {base.ref}" if base else "")
    lacking = [
        Lack(
            reason=f"{run.suite} was run against {run.baseline}, not against {base.ref if base else ''}",
            command=f"{eval_} --suite {run.suite}",
        )
        for run in {run.suite: run for run in others}.values()
    ]
    if base is not None and (alone := recorded.uncompared(own, theirs)):
        command = f"embreg eval {base.ref}" + "".join(f" --suite {name}" for name in alone)
        lacking.append(Lack(reason=f"{', '.join(alone)} was not run on {base.ref}", command=command))
    if missing := recorded.unmeasured([*own, *others], suites, baseline=base is not None):
        lacking.append(Lack(reason=f"not measured: {', '.join(missing)}", command=eval_))
    return recorded.newest(own, theirs, suites), lacking


def _gone(run: RunRecord) -> Lack:
    against = f" --baseline {run.baseline}" if run.baseline else ""
    return Lack(
        reason=f"the items of {run.suite} of {run.version} are gone or damaged",
        command=f"embreg eval {run.version}{against} --suite {run.suite} --force",
    )


def _verdict(
    registry: Registry, version: Version, base: Version | None, suites: Mapping[str, Suite]
) -> tuple[Verdict | Lack, VerdictRecord | None]:
    """Return what the gate said of the two versions, if it was asked."""
    found = registry.verdict(version.ref, base.ref if base else None)
    if found is not None:
        return recorded.rehydrated(found, suites), found
    beside = f" against {base.ref}" if base else ""
    asking = f" --baseline {base.ref}" if base else " --no-baseline"
    return Lack(
        reason=f"the gate was not run on {version.ref}{beside}", command=f"embreg gate {version.ref}{asking}"
    ), None


def _movers(
    runs: Sequence[RunRecord], tables: Mapping[str, pa.Table], subjects: Subjects
) -> tuple[Mover, ...] | Lack:
    """Return the rows that moved most, or why they are not known."""
    base, version = subjects.base, subjects.version
    if base is None:
        return Lack(reason="there is no version to compare with")
    measuring = f"embreg drift {base.ref} {version.ref}"
    drift = next((run for run in runs if run.suite == "drift"), None)
    if drift is None:
        return Lack(reason="drift was not measured", command=measuring)
    if drift.status != "done":
        return Lack(reason=f"drift {drift.status}: {drift.reason}", command=measuring)
    if (items := tables.get(drift.items or "")) is None:
        return Lack(reason="the items of drift are gone or damaged", command=f"{measuring} --force")

    def found() -> tuple[Mover, ...]:
        old = subjects.old
        return moved(items, old, subjects.new, count=MOVERS, k=NEIGHBORS) if old else ()

    return _had(found, "embreg verify")
