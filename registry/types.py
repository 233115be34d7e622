"""The values that flow between the rooms: frozen, keyword-only, free of any library.

Nothing here knows about a database, a file or numpy. The values that not every command meets are in
``relations``, ``outcomes`` and ``measured``, and loaded when they are first asked for here: a dataclass takes
most of a millisecond to make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from .errors import InvalidRef, UnknownChoice, UsageError, printable

if TYPE_CHECKING:
    from .measured import AddedDataset as AddedDataset
    from .measured import Dataset as Dataset
    from .measured import MeasureRecord as MeasureRecord
    from .measured import RunRecord as RunRecord
    from .measured import VerdictRecord as VerdictRecord
    from .outcomes import AliasMove as AliasMove
    from .outcomes import Exported as Exported
    from .outcomes import PastMove as PastMove
    from .outcomes import Problem as Problem
    from .outcomes import Pruned as Pruned
    from .outcomes import Registered as Registered
    from .outcomes import Swept as Swept
    from .outcomes import Usage as Usage
    from .outcomes import Verified as Verified
    from .relations import Dependent as Dependent
    from .relations import Derivation as Derivation
    from .relations import Diff as Diff
    from .relations import IndexState as IndexState
    from .relations import Relation as Relation
    from .relations import Repair as Repair
    from .relations import Stale as Stale

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
class Event:
    """One line of the log: what was done to what, when, by whom, from which command."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    command: str


_HOMES: Final = {
    "AddedDataset": "measured",
    "Dataset": "measured",
    "MeasureRecord": "measured",
    "RunRecord": "measured",
    "VerdictRecord": "measured",
    "AliasMove": "outcomes",
    "Exported": "outcomes",
    "PastMove": "outcomes",
    "Problem": "outcomes",
    "Pruned": "outcomes",
    "Registered": "outcomes",
    "Swept": "outcomes",
    "Usage": "outcomes",
    "Verified": "outcomes",
    "Dependent": "relations",
    "Derivation": "relations",
    "Diff": "relations",
    "IndexState": "relations",
    "Relation": "relations",
    "Repair": "relations",
    "Stale": "relations",
}

if not TYPE_CHECKING:  # a type checker knows the names above, and that there are no others

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f".{_HOMES[name]}", __package__), name)
