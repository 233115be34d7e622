"""The values that flow between the rooms: frozen, keyword-only, free of any library.

Nothing here knows about a database, a file or numpy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from .errors import InvalidRef, UnknownChoice, UsageError, printable

_NAME = re.compile(r"[^\W_][\w.-]*(/[^\W_][\w.-]*)*")
_ALIAS = re.compile(r"[^\W\d_][\w.-]*")
_NUMBER = re.compile(r"v?([1-9][0-9]{0,8})")
_DIGEST = re.compile(r"sha256:([0-9a-f]{8,64})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 128
LATEST = "latest"

#: Told how far long work is: what is counted, how many so far, how many in all (None: unknown).
Progress = Callable[[str, int, int | None], None]


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it may name an embedding, index or dataset.

    Names are words of letters, digits, ``_ . -`` joined by ``/``; at most 128 characters.

    Raises:
        InvalidRef: anything else.
    """
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidRef(
            f"'{printable(name, 60)}' cannot be a {what}",
            hint="letters, digits, '_', '.', '-', joined by '/'; at most 128 characters",
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if it may be an alias: a word that is neither a number nor ``latest``.

    Raises:
        InvalidRef: anything else.
    """
    reserved = alias == LATEST or _NUMBER.fullmatch(alias)
    if len(alias) > _MAX_NAME or reserved or not _ALIAS.fullmatch(alias):
        raise InvalidRef(
            f"'{printable(alias, 60)}' cannot be an alias",
            hint="a letter, then letters, digits, '_', '.', '-'; not 'latest', not a version",
        )
    return alias


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """What a user writes to name a version; exactly one of the selectors is set.

    ``NAME`` (= latest) · ``NAME@3`` or ``NAME@v3`` · ``NAME@ALIAS`` · ``NAME@sha256:HEX``.
    """

    name: str
    number: int | None = None
    alias: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Raises:
            InvalidRef: the text follows none of the four forms.
        """
        name, at, selector = text.partition("@")
        check_name(name)
        if not at or selector == LATEST:
            return cls(name=name)
        if number := _NUMBER.fullmatch(selector):
            return cls(name=name, number=int(number[1]))
        if digest := _DIGEST.fullmatch(selector):
            return cls(name=name, digest=digest[1])
        if selector.startswith("sha256:") or not selector or selector[0].isdigit():
            raise InvalidRef(
                f"'{printable(text, 80)}' is not a reference",
                hint="NAME, NAME@3, NAME@ALIAS or NAME@sha256:HEX (8 to 64 lower-case hex digits)",
            )
        return cls(name=name, alias=check_alias(selector))

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}@{self.number}"
        if self.digest is not None:
            return f"{self.name}@sha256:{self.digest}"
        return f"{self.name}@{self.alias or LATEST}"


KINDS = ("word", "token-input", "token-output", "hidden", "sentence", "item", "other")
METRICS = ("cosine", "dot", "l2")
POSITIONS = ("none", "additive", "rotary", "bias")
DTYPES = ("float32", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What the numbers mean: two versions are comparable row by row only in one space.

    Attributes:
        dim: width of a row.
        dtype: ``float32`` or ``float16``, as stored.
        metric: how rows are compared: ``cosine``, ``dot`` or ``l2``.
        kind: ``word``, ``token-input``, ``token-output``, ``hidden``, ``sentence``, ``item`` or
            ``other``.
        normalised: whether every non-zero row has unit length (measured, never declared).
        model: the encoder, by any name that identifies it.
        tokenizer: sha256 of the tokenizer file.
        pooling: how token states became one vector (``mean``, ``cls``, ``max`` …).
        position: how position enters: ``none``, ``additive``, ``rotary``, ``bias``.
        tied: whether the input and the output table are one.
        transform: sha256 of the fitted transform that made the rows from another version's; queries go
            through the same one.
        tags: free words.
    """

    dim: int
    dtype: str = "float32"
    metric: str = "cosine"
    kind: str = "other"
    normalised: bool = False
    model: str | None = None
    tokenizer: str | None = None
    pooling: str | None = None
    position: str | None = None
    tied: bool | None = None
    transform: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("kind", self.kind, KINDS),
            ("metric", self.metric, METRICS),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in known:
                raise UnknownChoice(what, value, known)
        if self.position is not None and self.position not in POSITIONS:
            raise UnknownChoice("position", self.position, POSITIONS)
        if self.dim < 1:
            raise UsageError(f"a vector has at least one dimension, not {self.dim}")
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` gives the space back."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"tags": dict(self.tags)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` wrote.

        Raises:
            ValueError: a field that no space has.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"no space has a field '{printable(unknown[0])}'")
        return cls(**values)

    def changes(self, new: Space) -> tuple[SpaceChange, ...]:
        """Return every field in which ``new`` differs from this space, in declaration order."""
        return tuple(
            SpaceChange(
                field=f.name,
                old=_plain(getattr(self, f.name)),
                new=_plain(getattr(new, f.name)),
                breaking=f.name in BREAKING,
            )
            for f in fields(self)
            if getattr(self, f.name) != getattr(new, f.name)
        )


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


#: A change of one of these makes old and new vectors incomparable. The others are told, no more.
BREAKING = frozenset(
    {"dim", "metric", "model", "tokenizer", "normalised", "kind", "pooling", "position", "transform"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceChange:
    """One field of the space that differs; ``breaking`` when vectors cannot be compared across."""

    field: str
    old: Any
    new: Any
    breaking: bool

    def __str__(self) -> str:
        return f"{self.field}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: Any) -> Any:
    """Return a digest by its first digits, anything else as it is."""
    return f"{value[:12]}…" if isinstance(value, str) and _SHA256.fullmatch(value) else value


class Relation(StrEnum):
    """How a version stands to another one, from the mildest."""

    IDENTICAL = "identical"
    APPENDED = "appended"
    REMOVED = "removed"
    CHANGED = "changed"
    RESPACED = "respaced"


class Repair(StrEnum):
    """The cheapest operation that makes a stale index valid."""

    NONE = "none"
    ADD = "add"
    UPDATE = "update"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What changed from version ``old`` to version ``new``, by id.

    Attributes:
        relation: the mildest word that is true.
        reordered: the rows the two share stand in another order.
        added, removed, changed, unchanged: row counts; ``changed`` are shared ids with other bytes.
        space_changes: fields of the space that differ.
        rescaled: every row that changed kept its direction, and only its length is another.
    """

    old: str
    new: str
    relation: Relation
    reordered: bool
    added: int
    removed: int
    changed: int
    unchanged: int
    space_changes: tuple[SpaceChange, ...] = ()
    rescaled: bool = False

    @property
    def old_rows(self) -> int:
        """Rows of the old version."""
        return self.removed + self.changed + self.unchanged

    @property
    def new_rows(self) -> int:
        """Rows of the new version."""
        return self.added + self.changed + self.unchanged

    def explain(self) -> str:
        """Return the cause in one line, with its figures."""
        if self.relation is Relation.IDENTICAL:
            return "same rows in another order" if self.reordered else "same rows"
        if self.relation is Relation.RESPACED:
            breaking = [str(c) for c in self.space_changes if c.breaking]
            return "space changed: " + "; ".join(breaking)
        counts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        told = [f"{count:,} rows {word}" for word, count in counts if count]
        only = " (in length only)" if self.rescaled else ""
        return f"{', '.join(told)} of {self.old_rows:,}{only}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One registered version of an embedding: immutable, apart from which aliases point at it.

    Attributes:
        digest: sha256 of the manifest, 64 hex digits: this exact artifact, in this order.
        content_digest: 64 hex digits over the *set* of (id, vector bytes), width and dtype: the
            same whatever the row order, part size or file encoding.
        probes: sha256 of the vectors of fixed inputs that identify the space; None where none were given.
    """

    name: str
    number: int
    digest: str
    content_digest: str
    rows: int
    space: Space
    message: str
    source: str
    created_at: datetime
    created_by: str
    nbytes: int
    statistics: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    probes: str | None = None

    @property
    def ref(self) -> str:
        """``NAME@NUMBER``."""
        return f"{self.name}@{self.number}"

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self.space.dim

    @property
    def dtype(self) -> str:
        """``float32`` or ``float16``."""
        return self.space.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """A FAISS index as the registry judges it.

    Attributes:
        tracks: the ref whose moves re-judge it, ``NAME@ALIAS`` or ``NAME@latest``.
        built_from: the version its build holds.
        tracked: the version that ``tracks`` names now; None when the alias is gone.
        state: ``fresh`` or ``stale``.
        relation: of the tracked version to the built one.
        repair: the cheapest valid repair.
        reason: the cause in one line.
        search: FAISS search parameters, ``nprobe=16``; empty for the type's own.
        recall: recall@``recall_k`` against exact search, measured when it was built.
        method: how the present build came about: ``build``, ``add`` or ``update``.
    """

    name: str
    tracks: str
    built_from: str
    tracked: str | None
    state: str
    relation: Relation | None
    repair: Repair
    reason: str
    factory: str
    search: str
    metric: str
    rows: int
    nbytes: int
    recall: float | None
    recall_k: int
    recall_queries: int
    method: str
    duration_s: float
    built_at: datetime

    @property
    def stale(self) -> bool:
        """Whether the build no longer answers for the tracked version."""
        return self.state != "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """Whatever was made from a version and follows an alias, as the registry judges it.

    Attributes:
        kind: ``index``, ``derived`` or ``external``.
        name: of the index, of the derived embedding, or of what is outside.
        tracks, tracked, state, relation, repair, reason: as of ``IndexState``.
        built_from: the version it was made from; None where none of its versions is left.
        remedy: the command that repairs it, or the note of how somebody does.
    """

    kind: str
    name: str
    tracks: str
    built_from: str | None
    tracked: str | None
    state: str
    relation: Relation | None
    repair: Repair
    reason: str
    remedy: str

    @property
    def stale(self) -> bool:
        """Whether it no longer answers for the tracked version."""
        return self.state != "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """What a move left stale: indexes, and everything else that depends on the version that moved."""

    indexes: tuple[IndexState, ...] = ()
    others: tuple[Dependent, ...] = ()

    def __add__(self, more: Stale) -> Stale:
        return Stale(indexes=self.indexes + more.indexes, others=self.others + more.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a version came out of another one.

    Attributes:
        parent: the version it was computed from.
        target: the second version that an adapter maps to; None for the other transforms.
        transform: its name.
        params: as they were given.
        fitted: sha256 of the fitted transform, which ``apply`` reads.
        fitted_rows: how many rows it was fitted on; None where nothing is fitted.
        quality: what was measured of it, such as an adapter's recovery on held-out rows.
    """

    parent: str
    target: str | None
    transform: str
    params: Mapping[str, Any]
    fitted: str
    fitted_rows: int | None
    quality: Mapping[str, Any]


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
class Event:
    """One line of the log: what was done to what, when, by whom, from which command."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    command: str


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
