"""Which runs of several versions may be set side by side: one of each version, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.errors import printable
from .evidence import Missing, comparable
from .suite import Need

if TYPE_CHECKING:
    from ..registry.types import RunRecord
    from .suite import Suite


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What runs are about: a suite, on a dataset, of an index, where it has these."""

    suite: str
    dataset: str | None = None
    index: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What tells the measures of this topic from those of others on the same dataset."""
        return {"index": self.index} if self.index else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lined:
    """The runs of a topic that may be compared, by version, or why a version has none.

    Attributes:
        against: whether each run is itself a comparison with the first version.
    """

    topic: Topic
    suite: Suite | None
    runs: Mapping[str, RunRecord | Missing]
    against: bool


def topics(runs: Mapping[str, Sequence[RunRecord]], suites: Mapping[str, Suite]) -> list[Topic]:
    """Return what was measured of any version, or asked for in vain, by suite."""
    every = [run for own in runs.values() for run in own]
    found = dict.fromkeys(
        _topic(run, suites) for run in every if run.status == "done" or run.dataset is not None
    )
    measured = {topic.suite for topic in found}
    found |= dict.fromkeys(Topic(suite=run.suite) for run in every if run.suite not in measured)
    return sorted(found, key=lambda topic: topic.suite)


def lined_up(
    topic: Topic, runs: Mapping[str, Sequence[RunRecord]], suites: Mapping[str, Suite]
) -> Lined | Missing:
    """Return each version's run that may be held against the others', or why there is no run at all."""
    first, suite = next(iter(runs)), suites.get(topic.suite)
    own = {ref: [run for run in theirs if _is_on(topic, run, suites)] for ref, theirs in runs.items()}
    against = suite is not None and Need.BASELINE in suite.needs
    if against:
        own = {ref: [run for run in theirs if run.baseline == first] for ref, theirs in own.items()}
    anchor = _anchor(own)
    if anchor is None:
        reasons = dict.fromkeys(status(run) for theirs in own.values() for run in theirs[-1:])
        return Missing("; ".join(reasons) or f"was not run against {first}")
    lined = {ref: _match(ref, theirs, anchor) for ref, theirs in own.items()}
    if against:
        lined[first] = Missing("the version that the others are compared with")
    return Lined(topic=topic, suite=suite, runs=lined, against=against)


def status(run: RunRecord) -> str:
    """Return what became of a run that is not done."""
    word = "was skipped" if run.status == "skipped" else "failed"
    return f"{word}: {printable(run.reason)}" if run.reason else word


def _topic(run: RunRecord, suites: Mapping[str, Suite]) -> Topic:
    suite = suites.get(run.suite)
    indexed = suite is not None and Need.INDEX in suite.needs
    index = str(run.params.get("index", "")) if indexed else ""
    return Topic(suite=run.suite, dataset=run.dataset, index=index or None)


def _is_on(topic: Topic, run: RunRecord, suites: Mapping[str, Suite]) -> bool:
    """Whether a run is about a topic; one that was skipped names none, and tells why of all."""
    if run.status != "done" and run.dataset is None:
        return run.suite == topic.suite
    return _topic(run, suites) == topic


def _anchor(own: Mapping[str, Sequence[RunRecord]]) -> RunRecord | None:
    """Return the run that the others are held against: of the first version that has one.

    Of several that are done it is the one that most others have a counterpart of, the newest of these.
    """
    for theirs in own.values():
        done = [run for run in reversed(theirs) if run.status == "done"]
        if done:
            others = [[run for run in other if run.status == "done"] for other in own.values()]
            return max(done, key=lambda run: sum(not isinstance(comparable(run, o), Missing) for o in others))
    return None


def _match(ref: str, theirs: Sequence[RunRecord], anchor: RunRecord) -> RunRecord | Missing:
    why: list[Missing] = []
    for run in reversed(theirs):
        beside = comparable(run, [anchor]) if run.status == "done" else Missing(status(run))
        if not isinstance(beside, Missing):
            return run
        why.append(beside)
    return why[0] if why else Missing(f"{anchor.suite} was not run on {ref}")
