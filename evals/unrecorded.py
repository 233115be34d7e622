"""Runs that no registry keeps: the same suites, seeds and checks, on tables in memory; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..registry import builtin
from .plain_data import digest_of
from .runner import Material, Plan, check_settings, drafted, graph_params, measure, one_by_one, plan
from .standins import StandIns
from .subject import DatasetTable
from .suite import Need

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import Dataset, Progress, RunRecord
    from .plain_data import Held
    from .subject import Subject

_ASK_BASELINE = "baseline=…"
_ASK_DATASET = "datasets={{'{kind}': rows}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is measured: rows with a name.

    Attributes:
        subject: the rows; every run on them shares it.
        digest: of the version they are; empty where they are none.
    """

    subject: Subject
    digest: str = ""

    @property
    def ref(self) -> str:
        """How it is called."""
        return self.subject.ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Runs, and their per-item tables by the digests that the runs name."""

    runs: tuple[RunRecord, ...]
    items: Mapping[str, pa.Table]


def measured(
    given: Given,
    baseline: Given | None,
    datasets: Sequence[Held],
    *,
    suites: Sequence[str] | None,
    stand_in: bool,
    params: Mapping[str, Mapping[str, Any]],
    seed: int,
    confidence: float,
    progress: Progress | None,
) -> Measured:
    """Measure rows as the runner would measure a version that holds them.

    Args:
        given: the rows.
        baseline: what they are compared with.
        datasets: what they are tested on.
        suites: names; None for every suite.
        stand_in: whether built-in datasets serve where there is none of a kind.
        params: by suite.
        seed: of every random choice.
        confidence: of the intervals.
        progress: told which run is being done.

    Raises:
        UnknownChoice: no such suite or parameter.
        UsageError: a seed, confidence or number of queries outside its range, or another kind of neighbours.
    """
    queries, neighbors = given.subject.queries, given.subject.method
    check_settings(seed, confidence, queries, neighbors)
    graph = graph_params(queries, neighbors)
    tables = {held.dataset.digest: held.table for held in datasets}
    items: dict[str, pa.Table] = {}

    def about(planned: Plan, base: Given | None) -> Subject:
        rows = None if planned.dataset is None else _rows_of(planned.dataset, tables)
        return given.subject.with_(baseline=base.subject if base else None, dataset=rows)

    def do(planned: Plan) -> RunRecord:
        base = baseline if Need.BASELINE in planned.suite.needs else None
        record = drafted(planned, given, base, seed, confidence, graph)
        if planned.missing:
            return record
        record, found = measure(planned, record, lambda: about(planned, base))
        if found is None:
            return record
        digest = digest_of(found)
        items[digest] = found
        return replace(record, items=digest)

    material = Material(
        datasets=[held.dataset for held in datasets],
        stand_ins=StandIns(table=lambda: given.subject.table, wanted=stand_in),
        baseline=baseline is not None,
        indexes=_no_index,
        ask_baseline=_ASK_BASELINE,
        ask_dataset=_ASK_DATASET,
    )
    return Measured(runs=one_by_one(plan(material, suites, params), do, progress), items=items)


def _rows_of(dataset: Dataset, tables: Mapping[str, DatasetTable]) -> DatasetTable:
    """Return the rows of a dataset that was given, or is built in."""
    if dataset.digest in tables:
        return tables[dataset.digest]
    rows = builtin.find(dataset.name).rows
    return DatasetTable(name=dataset.name, kind=dataset.kind, rows=rows)


def _no_index(planned: Plan) -> list[Plan]:
    return [replace(planned, missing="measures an index that a registry keeps, of a version in it")]
