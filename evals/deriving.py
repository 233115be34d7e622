"""Deriving: fit a transform on a version, register what it makes of it, and again when the version moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..registry.derivations import Followed, Origin
from ..registry.diff import Traits, repair
from ..registry.errors import InputError, NotFound, UsageError, printable
from ..registry.types import (
    LATEST,
    Derivation,
    Progress,
    Ref,
    Registered,
    Repair,
    check_alias,
    check_name,
)
from ..registry.vectors import Batch, Vectors, split, unit_rows
from . import knn
from .shared import Shared
from .subject import Subject
from .suite import Skipped
from .transforms import FITTED, Paired, Transform, check_params, fit, fit_adapter, least_variance

if TYPE_CHECKING:
    from ..registry.formats import Options
    from ..registry.registry import Registry
    from ..registry.types import Space, Version

#: Rows that a codec is trained on, at most.
_SAMPLE = 100_000
#: Of the shared ids, this share (and at most so many) is held out from an adapter to measure it.
_HELD_OUT_SHARE, _HELD_OUT = 0.2, 2000
_K = 10
_BLOCK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What ``derive`` did.

    Attributes:
        registered: the version, and what became stale by it.
        derivation: what it was computed from, by what, and how good that is.
        refitted: whether the transform was fitted now; else the fit of the version before was kept.
    """

    registered: Registered
    derivation: Derivation
    refitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What ``apply`` wrote where: ``rows`` vectors of width ``dim``, and what a person should know."""

    version: Version
    path: str
    rows: int
    dim: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    transform: Transform
    rows: int | None
    quality: Mapping[str, Any]
    digest: str = ""


def derive(
    registry: Registry,
    ref: str | Ref,
    transform: str,
    *,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    to: str | Ref | None = None,
    track: str = LATEST,
    message: str = "",
    alias: str | None = None,
    progress: Progress | None = None,
) -> Derived:
    """Register a transformed version as a version of its own, which goes stale when its parent moves.

    Args:
        registry: where both live.
        ref: the parent.
        transform: one of ``transforms.NAMES``.
        name: of the derived embedding; by default ``PARENT/TRANSFORM``.
        params: of the transform.
        to: for an adapter, the version in whose space the rows are to live.
        track: the parent's alias whose moves make it stale, or ``latest``.
        message: what a person should know of this version.
        alias: move this alias of the derived embedding to the new version.
        progress: told how far it is.

    Raises:
        UnknownChoice: no such transform or parameter.
        UsageError: an adapter without ``to``, or ``to`` without an adapter.
        InputError: the rows do not allow this fit.
        Conflict: ``name`` is what ``ref`` is, or was derived from.
    """
    asked = check_params(transform, params or {})
    if (transform == "adapter") != (to is not None):
        raise UsageError("an adapter, and nothing else, needs the version that it maps to",
                         hint="--transform adapter --to REF")  # fmt: skip
    version = registry.resolve(ref)
    target = registry.resolve(to) if to is not None else None
    if track != LATEST:
        registry.resolve(f"{version.name}@{check_alias(track)}")
    if alias is not None:
        check_alias(alias)
    child = check_name(name or f"{version.name}/{transform}", "name of an embedding")
    registry.check_derivable(child, version.name)
    done = _stored(registry, _fit(registry, version, target, transform, asked))
    origin = _origin(version, target, done, asked, track, str(to) if to is not None else None)
    registered = _register(registry, child, version, target, done, origin, message, alias, progress)
    return Derived(registered=registered, derivation=origin.derivation, refitted=True)


def derive_stale(
    registry: Registry, name: str | None = None, *, refit: bool = False, progress: Progress | None = None
) -> tuple[Derived, ...]:
    """Derive again whatever is stale (or ``name``, if it is), parents before their children.

    Where rows were only added, or few changed, the fit is kept: the rows that did not change keep their
    bits, and an index of the derived embedding needs no more than its own parent's would.

    Args:
        registry: where they live.
        name: only this derived embedding.
        refit: fit anew even where the fit could be kept, or where nothing is stale.
        progress: told how far it is.

    Raises:
        NotFound: ``name`` is not derived, or what it tracks names no version any more.
        InputError: rows of what it tracks do not allow the fit.
        Where several are stale, the others are derived all the same.
    """
    done, failed = [], []
    for child in [f.child for f in registry.derived(name)]:
        (following,) = registry.derived(child)  # its parent may have been derived a moment ago
        if not following.state.stale and not (refit and name is not None):
            continue
        try:
            done.append(_again(registry, following, refit, progress))
        except (NotFound, InputError) as exc:
            failed.append(exc)
    if failed:
        raise failed[0]
    return tuple(done)


def _again(registry: Registry, following: Followed, refit: bool, progress: Progress | None) -> Derived:
    state, present = following.state, following.present
    if state.tracked is None:
        raise NotFound(f"{following.child}: {state.reason}",
                       hint=f"derive it anew, or 'embreg derive --forget {following.child}'")  # fmt: skip
    version = registry.resolve(state.tracked)
    keep = (
        present is not None
        and not refit
        and state.repair in (Repair.ADD, Repair.UPDATE)
        and _still_fits(registry, following.child, present, state.tracked)
    )
    if keep and present is not None:
        transform = Transform.from_arrays(registry.stored_arrays(present.fitted))
        done = _Fit(transform=transform, rows=present.fitted_rows, quality=present.quality,
                    digest=present.fitted)  # fmt: skip
        target = registry.resolve(present.target) if present.target is not None else None
    else:
        target = registry.resolve(following.target) if following.target is not None else None
        done = _stored(registry, _fit(registry, version, target, following.transform, following.params))
    origin = _origin(version, target, done, following.params, following.track, following.target)
    registered = _register(registry, following.child, version, target, done, origin, state.reason, None,
                           progress)  # fmt: skip
    return Derived(registered=registered, derivation=origin.derivation, refitted=not keep)


def _still_fits(registry: Registry, child: str, present: Derivation, tracked: str) -> bool:
    """Whether a fit is valid for the tracked version, as seen from the version that it was fitted on.

    The registry judges from the last parent; many small changes since the fit may add up to a large one.
    """
    made = (registry.derivation(version.ref) for version in registry.versions(child))
    fitted_on = next((d.parent for d in made if d is not None and d.fitted == present.fitted), present.parent)
    try:
        moved = registry.diff(fitted_on, tracked)
    except NotFound:  # pruned: the last parent is all that is left to judge from
        return True
    action, _ = repair(moved, Traits(can_add=True, can_remove=True, trained_rows=present.fitted_rows))
    return action is not Repair.REBUILD


def transform_of(registry: Registry, ref: str | Ref) -> Transform:
    """Return the fitted transform that made a derived version, for queries.

    Raises:
        NotFound: the version was registered from outside.
        CorruptBlob: the transform is damaged.
    """
    derivation = registry.derivation(ref)
    if derivation is None:
        raise NotFound(
            f"'{ref}' is not derived from anything",
            hint="'embreg derive REF --transform T' derives a version",
        )
    return Transform.from_arrays(registry.stored_arrays(derivation.fitted))


def apply(
    registry: Registry,
    ref: str | Ref,
    source: str | Path,
    dest: str | Path,
    *,
    format: str | None = None,  # noqa: A002  the command's own word
    options: Options | None = None,
    dest_format: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Applied:
    """Transform a file of vectors as a derived version was made, and write it; queries go this way.

    Args:
        registry: where the derived version lives.
        ref: the derived version.
        source: vectors of its parent's encoder, in any known format; their results are held in memory.
        dest: the file to write.
        format: of ``source``, if not told from it.
        options: ids, columns and the like of ``source``.
        dest_format: of ``dest``, if not told from its suffix.
        overwrite: whether ``dest`` may be replaced.
        progress: told how many rows are transformed.

    Raises:
        InputError: the vectors are of another width than the transform takes.
    """
    from ..registry import formats
    from ..registry.tables import EmbeddingTable

    version = registry.resolve(ref)
    transform = transform_of(registry, ref)
    opened = formats.open_source(source, format=format, options=options or formats.Options())
    left_out: set[str] = set()

    def transformed() -> Iterator[Batch]:
        first = 0
        for batch in opened.batches():
            yield replace(batch, vectors=transform.apply(batch.vectors, first))
            first += len(batch.vectors)
            if progress is not None:
                progress("rows", first, opened.rows)
            left_out.update(batch.attributes.schema.names if batch.attributes is not None else ())

    table = EmbeddingTable.collect(transformed())
    notes = opened.warnings + formats.write_table(table, dest, format=dest_format, overwrite=overwrite)
    if left_out:
        notes += (f"columns left out: {', '.join(printable(name, 60) for name in sorted(left_out))}",)
    return Applied(version=version, path=str(dest), rows=table.rows, dim=table.dim, notes=notes)


def _subject(registry: Registry, version: Version) -> Subject:
    return Subject(registry.table(version), ref=version.ref, store=registry.artifacts(version))


def _fit(
    registry: Registry, version: Version, target: Version | None, transform: str, params: Mapping[str, Any]
) -> _Fit:
    subject = _subject(registry, version)
    if target is not None:
        return _fit_adapter(subject, _subject(registry, target), params)
    fitted = transform in FITTED
    rows = subject.sample(_SAMPLE) if transform == "quantize" else np.zeros(0, dtype=np.int64)
    sample = subject.table.take(rows).astype(np.float32)
    done = fit(
        transform,
        params,
        subject.moments(),
        sample,
        dtype=version.dtype,
        unit=version.space.normalised,
    )
    return _Fit(
        transform=done, rows=version.rows if fitted else None, quality=_quality(done, subject, sample)
    )


def _quality(done: Transform, subject: Subject, sample: Vectors) -> dict[str, Any]:
    """Return what is lost: the share of variance that is kept, or a codec's distortion."""
    if done.codec is not None:
        rows = sample.astype(np.float64)
        spread = float(((rows - rows.mean(axis=0)) ** 2).mean())
        lost = float(((done.apply(sample).astype(np.float64) - rows) ** 2).mean())
        return {"distortion": lost / spread} if spread else {}
    if done.name not in ("pca", "truncate", "all-but-the-top") or subject.moments().n_unit < 2:
        return {}
    covariance = subject.moments().covariance()
    total = float(np.trace(covariance))
    if total <= least_variance(subject.moments()):
        return {}
    if done.matrix is None:
        kept = float(np.trace(covariance[: done.dim_out, : done.dim_out]))
    else:
        kept = float(np.einsum("ij,ik,kj->", done.matrix, covariance, done.matrix, optimize=True))
    return {"variance_kept": kept / total}


def _fit_adapter(subject: Subject, target: Subject, params: Mapping[str, Any]) -> _Fit:
    try:
        shared = Shared.of(subject, target)
    except Skipped as exc:
        raise InputError(
            f"{subject.ref} and {target.ref}: {exc}",
            hint="an adapter is fitted on ids that both versions hold",
        ) from exc
    held = subject.sample(min(_HELD_OUT, int(_HELD_OUT_SHARE * shared.n)), among=np.sort(shared.old_rows))
    out = np.isin(shared.old_rows, held)
    pairs = Paired.of(_pairs(shared, np.flatnonzero(~out)), subject.table.dim, target.table.dim)
    done = fit_adapter(params, pairs)
    quality = {"pairs": pairs.n, "held_out": int(out.sum())}
    # Growth is judged against the size of the table, as with every other fit; the pairs are in the quality.
    return _Fit(
        transform=done,
        rows=subject.table.rows,
        quality=quality | _recovery(done, shared, np.flatnonzero(out)),
    )


def _pairs(shared: Shared, among: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[Vectors, Vectors]]:
    for part in split(len(among), _BLOCK):
        rows = among[part]
        yield shared.old.table.take(shared.old_rows[rows]), shared.new.table.take(shared.new_rows[rows])


def _recovery(done: Transform, shared: Shared, held: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    """Return how well rows that the adapter never saw stand in for their partners.

    ``cosine``: mean cosine of an adapted row with its partner. ``recall@10``: share of the partner's 10
    nearest rows of the target that the adapted row finds too; ``recall_unadapted@10``: the same without
    the adapter, where the widths allow it.
    """
    valid = shared.new.valid
    if not len(held) or len(valid) <= _K:
        return {}
    base, own = shared.new.table.take(valid), np.searchsorted(valid, shared.new_rows[held])
    given = shared.old.table.take(shared.old_rows[held]).astype(np.float32)
    adapted, true = done.apply(given), base[own]
    cosine = np.einsum("ij,ij->i", unit_rows(adapted).astype(np.float64), unit_rows(true))
    metric = shared.new.space.metric
    wanted = knn.neighbors(true, base, _K, metric=metric, exclude=own[:, None]).rows

    def recall(queries: Vectors) -> float:
        found = knn.neighbors(queries, base, _K, metric=metric, exclude=own[:, None]).rows
        return float(np.mean([len(np.intersect1d(a, b)) / _K for a, b in zip(wanted, found, strict=True)]))

    measured = {"cosine": float(cosine.mean()), f"recall@{_K}": recall(adapted)}
    if given.shape[1] == base.shape[1]:
        measured[f"recall_unadapted@{_K}"] = recall(given)
    return measured


def _stored(registry: Registry, done: _Fit) -> _Fit:
    return replace(done, digest=registry.store_arrays(done.transform.to_arrays()))


def _origin(
    version: Version,
    target: Version | None,
    done: _Fit,
    params: Mapping[str, Any],
    track: str,
    asked_target: str | None,
) -> Origin:
    derivation = Derivation(
        parent=version.ref,
        target=target.ref if target is not None else None,
        transform=done.transform.name,
        params=dict(params),
        fitted=done.digest,
        fitted_rows=done.rows,
        quality=done.quality,
    )
    return Origin(derivation=derivation, track=track, target=asked_target)


def _register(
    registry: Registry,
    child: str,
    version: Version,
    target: Version | None,
    done: _Fit,
    origin: Origin,
    message: str,
    alias: str | None,
    progress: Progress | None,
) -> Registered:
    space = _space(target.space if target is not None else version.space, done)
    table = registry.table(version).through(done.transform.apply, space)
    return registry.register_derived(child, table, origin, message=message, alias=alias, progress=progress)


def _space(base: Space, done: _Fit) -> Space:
    transform = done.transform
    return replace(base, dim=transform.dim_out, dtype=transform.dtype, transform=done.digest)
