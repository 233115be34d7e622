"""What a registry keeps of measuring: datasets, runs, verdicts. Frozen values, as in ``types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A registered dataset: its rows are an Arrow artifact named by ``digest``.

    Attributes:
        kind: ``analogies``, ``pairs``, ``labels``, ``qrels`` or ``positives``.
        digest: sha256 of the rows, 64 hex digits.
        items: questions, pairs or labelled ids.
        source: where the rows come from: as the caller told, else the path they were read from.
        licence: as the caller told; empty where nobody did.
        warnings: what is suspicious about the rows, one line each.
    """

    name: str
    kind: str
    digest: str
    items: int
    source: str
    created_at: datetime
    licence: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedDataset(Dataset):
    """A dataset, and what adding it did.

    Attributes:
        replaced: digest of the rows that the name stood for before; None where it is new.
        dry_run: whether nothing was stored.
    """

    replaced: str | None = None
    dry_run: bool = False

    @property
    def created(self) -> bool:
        """Whether the name did not stand for these very rows before."""
        return self.replaced != self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRecord:
    """One number of a run; ``low`` and ``high`` bound it where an interval is known."""

    metric: str
    labels: Mapping[str, str]
    value: float
    n: int
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One suite run on one version: what the evaluations say, as the registry keeps it.

    Attributes:
        id: the run's number in its registry; None where it is kept in none.
        version: ``NAME@NUMBER`` of the measured version.
        baseline: ``NAME@NUMBER`` where the suite compares two versions.
        dataset: name of the dataset where the suite needs one.
        status: ``done``, ``skipped`` (``reason`` says why) or ``error``.
        cache_key: digest over everything that determines the result.
        absent: metrics without a value: ``{metric, labels, reason}``.
        items: digest of the per-item Parquet artifact, if the suite gives one.
        verdict: a word for the whole run, where the suite gives one (drift).
        confidence: of the intervals, between 0 and 1, exclusive.
        cached: whether this was read back rather than measured now.
    """

    suite: str
    suite_version: int
    version: str
    version_digest: str
    id: int | None = None
    baseline: str | None = None
    baseline_digest: str | None = None
    dataset: str | None = None
    dataset_digest: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    status: str = "done"
    reason: str = ""
    verdict: str | None = None
    seed: int = 0
    confidence: float = 0.95
    duration_s: float = 0.0
    cache_key: str = ""
    measures: tuple[MeasureRecord, ...] = ()
    absent: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    items: str | None = None
    created_at: datetime | None = None
    cached: bool = False

    def as_cached(self) -> RunRecord:
        """Return the same run, marked as read back."""
        return replace(self, cached=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """A gate's answer for one pair of digests; promotion asks for one that passed."""

    version: str
    version_digest: str
    baseline: str | None
    baseline_digest: str | None
    passed: bool
    config_digest: str
    checks: tuple[Mapping[str, Any], ...]
    created_at: datetime | None = None
