"""Comparing versions of a registry: measure what is missing, then set them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..registry.errors import CorruptBlob, UsageError, printable
from .runner import discover, evaluate, suite_named
from .side_by_side import side_by_side

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.registry import Registry
    from ..registry.types import Progress, RunRecord, Version
    from .comparison import Comparison
    from .evidence import Items


def compare(
    registry: Registry,
    refs: Sequence[str],
    *,
    suites: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    alpha: float = 0.05,
    glance: bool = False,
    measure: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Set versions side by side over all that can be compared; the first is what the others are held against.

    Args:
        registry: where the versions are; they may be of different embeddings.
        refs: two or more.
        suites: names; by default every suite.
        datasets: names; by default every registered dataset of the kind that a suite needs.
        params: parameters by suite.
        seed: of every random choice.
        alpha: at which a difference counts as significant, after Holm over all tests of the comparison.
        glance: leave out slices and most variants of a metric; they take no part in Holm's correction.
        measure: measure what was not measured before; otherwise only what is recorded is compared.
        progress: told which run is being done.

    Raises:
        UsageError: fewer than two versions, one of them twice, or parameters where nothing is measured.
        UnknownChoice: no such suite or parameter.
        NotFound: no such version or dataset.
    """
    import numpy as np

    if len(refs) < 2:
        raise UsageError("a comparison takes at least two versions", hint="embreg compare A B")
    if params and not measure:
        raise UsageError("parameters have no meaning where nothing is measured")
    versions = _different(registry, refs)
    runs: dict[str, Sequence[RunRecord]] = {}
    for version in versions:
        if measure:
            base = versions[0].ref if version is not versions[0] else None
            runs[version.ref] = evaluate(
                registry, version.ref, suites=suites, baseline=base, datasets=datasets,
                params=params, seed=seed, progress=_telling(version.ref, progress),
            )  # fmt: skip
        else:
            runs[version.ref] = recorded(registry, version, suites, datasets)
    rng = np.random.default_rng(seed)
    return side_by_side(runs, discover(), kept_items(registry), rng, alpha=alpha, glance=glance)


def recorded(
    registry: Registry,
    version: Version,
    suites: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
) -> list[RunRecord]:
    """Return what was measured of a version, oldest first: all, or of some suites and datasets.

    Raises:
        UnknownChoice: no such suite.
        DatasetNotFound: no such dataset.
    """
    wanted = {suite_named(name).name for name in suites or ()}
    named = {own for name in datasets or () for own in registry.dataset_names(name)}
    return [
        run
        for run in registry.runs(version.ref)
        if (not wanted or run.suite in wanted) and (not named or run.dataset in {*named, None})
    ]


def kept_items(registry: Registry) -> Items:
    """Return the opener of per-item tables; None where the blob is gone or damaged."""

    def opening(digest: str) -> pa.Table | None:
        try:
            return registry.stored_table(digest)
        except CorruptBlob:
            return None

    return opening


def _different(registry: Registry, refs: Sequence[str]) -> list[Version]:
    versions = [registry.resolve(ref) for ref in refs]
    seen: dict[str, str] = {}
    for version, ref in zip(versions, refs, strict=True):
        if version.ref in seen:
            told = f"'{printable(seen[version.ref], 140)}' and '{printable(ref, 140)}' are both {version.ref}"
            raise UsageError(told, hint="name each version once")
        seen[version.ref] = ref
    return versions


def _telling(ref: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    told = progress

    def step(name: str, done: int, total: int | None) -> None:
        told(f"{ref} {name}", done, total)

    return step
