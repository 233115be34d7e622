"""What the verbs of a registry answer: frozen values, as in ``types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .relations import Stale

if TYPE_CHECKING:
    from .relations import IndexState
    from .types import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What ``register`` did: the version, whether it is new, and what became stale by it."""

    version: Version
    created: bool
    warnings: tuple[str, ...]
    stale: Stale

    @property
    def stale_indexes(self) -> tuple[IndexState, ...]:
        """The indexes among what is stale."""
        return self.stale.indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What ``export`` wrote where, and what the format could not keep (``notes``)."""

    version: Version
    path: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """An alias that moved from a version (None: it is new) to another (None: it was removed)."""

    embedding: str
    alias: str
    old: str | None
    new: str | None
    stale: Stale = field(default_factory=Stale)

    @property
    def stale_indexes(self) -> tuple[IndexState, ...]:
        """The indexes among what is stale."""
        return self.stale.indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMove:
    """One line of an alias's history: from which version (None: it was new) to which (None: removed)."""

    alias: str
    old: str | None
    new: str | None
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Versions that ``prune`` deleted (or would), and what needs those that it kept beyond the number."""

    dry_run: bool
    deleted: tuple[str, ...]
    needed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Disk space of an embedding.

    Attributes:
        versions: how many live.
        nbytes: of all blobs that its versions refer to, each counted once.
        logical: what they would take without sharing.
    """

    name: str
    versions: int
    nbytes: int
    logical: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep removed, or would remove (``dry_run``).

    Attributes:
        removed: digests of the blobs.
        staged: partial writes of processes that died.
        nbytes: freed by both.
        kept: blobs that something refers to.
        young: blobs that nothing refers to, spared for their age.
    """

    dry_run: bool
    removed: tuple[str, ...]
    staged: int
    nbytes: int
    kept: int
    young: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Damage: what is hit, which blob, what is wrong with it, and what to do."""

    subject: str
    blob: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How many blobs were hashed, what is damaged, and how many blobs nothing refers to."""

    blobs: int
    problems: tuple[Problem, ...]
    orphans: int

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems
