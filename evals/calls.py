"""What a caller in Python hands over, ready to be measured: a registry if one is needed, tables, data."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from ..registry import builtin
from ..registry.errors import DatasetNotFound, InputError, NotFound, UsageError, printable
from .config import registry_in_force
from .graphs import EXACT
from .plain import Plain, Taken, to_table
from .plain_data import Datasets, Held, LabelsOf, to_datasets
from .results import Opener, Run, Runs
from .runner import inner_progress
from .statistics import CONFIDENCE
from .subject import DatasetTable, Subject
from .unrecorded import Given, measured

if TYPE_CHECKING:
    from pathlib import Path

    from ..registry.registry import Registry
    from ..registry.types import Dataset, Progress, RunRecord
    from .subject import Store

    #: A registry, or the directory of one.
    Home = Registry | Path | str
#: What can be measured: a reference to a version, or vectors.
What = str | Plain
Params = Mapping[str, Mapping[str, Any]]


def listed(names: Sequence[str] | None) -> Sequence[str] | None:
    """Return names as a list: a text alone is one name, not its letters."""
    return [names] if isinstance(names, str) else names


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Something to measure as it was given: a reference, or vectors with a name and perhaps ids."""

    what: Any
    name: str
    ids: Any = None

    @property
    def registered(self) -> bool:
        """Whether it is a reference."""
        return isinstance(self.what, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Something to measure, and what became of its vectors on the way, one line each."""

    given: Given
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a call measures, as it was given."""

    suites: Sequence[str] | None = None
    datasets: Datasets | None = None
    labels: LabelsOf | None = None
    params: Params | None = None
    seed: int = 0
    confidence: float = CONFIDENCE
    queries: int | None = None
    neighbors: str = EXACT
    metric: str | None = None
    progress: Progress | None = None

    @property
    def names(self) -> list[str] | None:
        """The datasets that are given by name; None where none are given at all."""
        if self.datasets is None:
            return None
        listed = [self.datasets] if isinstance(self.datasets, str) else self.datasets
        return [] if isinstance(listed, Mapping) else [name for name in listed if isinstance(name, str)]

    @property
    def plain(self) -> bool:
        """Whether test data is given that no registry holds."""
        whole = isinstance(self.datasets, str | None) or len(self.names or ()) == len(self.datasets)
        return self.labels is not None or not whole or isinstance(self.datasets, Mapping)

    def recordable(self, sides: Sequence[Side]) -> bool:
        """Whether a registry can keep the runs: nothing takes part that it does not hold.

        Raises:
            UsageError: ids or a metric for versions, which have their own.
        """
        if not all(side.registered for side in sides):
            return False
        if self.metric is not None or any(side.ids is not None for side in sides):
            raise UsageError("ids and metric are those of vectors: a version has its own")
        return not self.plain

    def data(self, first: Ready, home: Registry | None) -> tuple[Held, ...]:
        """Return the test data: what was given, else what the registry holds.

        Args:
            first: whose rows labels stand beside.
            home: the registry, where there is one.
        """
        ids = first.given.subject.table.ids
        held = to_datasets(self.datasets, self.labels, ids, lambda name: _named(name, home))
        if home is None or self.datasets:
            return held
        own = {dataset.dataset.kind for dataset in held}
        return (*held, *(_held(dataset, home) for dataset in home.datasets() if dataset.kind not in own))

    def run(self, ready: Ready, baseline: Ready | None, data: Sequence[Held]) -> Runs:
        """Measure in memory."""
        found = measured(
            ready.given,
            baseline.given if baseline else None,
            data,
            suites=self.suites,
            stand_in=not self.datasets,
            params=self.params or {},
            seed=self.seed,
            confidence=self.confidence,
            progress=self.progress,
        )
        return runs_of(found.runs, found.items.__getitem__, notes([ready, *([baseline] if baseline else [])]))


def is_registry(what: object) -> TypeGuard[Registry]:
    """Whether something is a registry; what a registry needs is not loaded for the question."""
    module = sys.modules.get(f"{__name__.rpartition('.evals.')[0]}.registry.registry")
    return module is not None and isinstance(what, module.Registry)


def runs_of(records: Iterable[RunRecord], opener: Opener, notes: Sequence[str] = ()) -> Runs:
    """Return records as the runs that callers get."""
    return Runs((Run.of(record, opener) for record in records), notes)


def only(named: Home | None, first: Registry) -> Registry:
    """Return the registry that came first, if no other is named.

    Raises:
        UsageError: another is.
    """
    if named is not None and named is not first:
        raise UsageError("two registries", hint="name one of them")
    return first


@contextmanager
def opened(registry: Home | None, sides: Sequence[Side], asked: Settings) -> Iterator[Registry | None]:
    """Open the registry that is named, or that references and names of datasets need; None without any."""
    if is_registry(registry):
        yield registry
        return
    names = [name for name in asked.names or () if not builtin.is_builtin(name)]
    if registry is None and not names and not any(side.registered for side in sides):
        yield None
        return
    from ..registry.registry import Registry

    with Registry.open(registry_in_force(None if registry is None else str(registry))) as found:
        yield found


def ready(sides: Sequence[Side], asked: Settings, home: Registry | None) -> list[Ready]:
    """Return what is to be measured, in order.

    Vectors that bring no ids have those of the first that does, by position.

    Raises:
        InputError: there are not as many.
    """
    sources = [_source(side, asked, home) for side in sides]
    donor = next((source for source in sources if not source.taken.numbered), sources[0])
    found = []
    for side, source in zip(sides, sources, strict=True):
        table, told = _with_ids(side, source, donor, asked), source.taken.notes
        progress = inner_progress(source.ref, asked.progress)
        subject = Subject(
            table,
            ref=source.ref,
            store=source.store,
            queries=asked.queries,
            method=asked.neighbors,
            progress=progress,
        )
        if bad := len(subject.nonfinite):
            told += (f"{bad:,} rows hold NaN or infinity, and take no part",)
        found.append(Ready(given=Given(subject=subject, digest=source.digest), notes=told))
    return found


def notes(tables: Iterable[Ready]) -> tuple[str, ...]:
    """Return what became of vectors, each note once with the names of those it is about."""
    about: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            about.setdefault(note, []).append(table.given.ref)
    return tuple(f"{', '.join(refs)}: {note}" for note, refs in about.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A table, and where it is from."""

    taken: Taken
    ref: str
    digest: str = ""
    store: Store | None = None


def _source(side: Side, asked: Settings, home: Registry | None) -> _Source:
    if not side.registered:
        taken = to_table(side.what, ids=side.ids, metric=asked.metric, name=side.name)
        return _Source(taken=taken, ref=side.name)
    if home is None:
        raise NotFound(f"'{printable(side.what, 140)}' is of a registry, and none is open")
    if side.ids is not None:
        raise UsageError(f"'{printable(side.what, 140)}' is a version, which has its own ids")
    version = home.resolve(side.what)
    taken = Taken(table=home.table(version), numbered=False)
    return _Source(taken=taken, ref=version.ref, digest=version.digest, store=home.artifacts(version))


def _with_ids(side: Side, source: _Source, donor: _Source, asked: Settings) -> Any:
    own, theirs = source.taken.table, donor.taken.table
    if not source.taken.numbered or source is donor:
        return own
    if len(own) != len(theirs):
        raise InputError(
            f"{printable(source.ref, 60)}: {len(own):,} rows without ids, and {printable(donor.ref, 60)} has"
            f" {len(theirs):,}",
            hint="ids tell which rows are the same",
        )
    if donor.taken.numbered:
        return own
    return to_table(side.what, ids=theirs.ids, metric=asked.metric, name=side.name).table


def _named(name: str, home: Registry | None) -> list[Held]:
    """Return the datasets that a name stands for: built in, or of the registry."""
    if builtin.is_builtin(name):
        return [_in_memory(found.dataset, found.rows) for found in builtin.named(name)]
    if home is None:
        raise DatasetNotFound(f"no dataset '{printable(name)}' without a registry", hint="registry=…")
    return [_held(home.dataset(own), home) for own in home.dataset_names(name)]


def _held(dataset: Dataset, home: Registry) -> Held:
    return _in_memory(dataset, home.dataset_rows(dataset))


def _in_memory(dataset: Dataset, rows: Any) -> Held:
    return Held(dataset=dataset, table=DatasetTable(name=dataset.name, kind=dataset.kind, rows=rows))
