"""The gate, from a version and a configuration to a recorded verdict: measure what is missing, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.builtin import is_builtin
from ..registry.errors import AliasNotFound, ConfigError, UsageError, printable
from ..registry.types import VerdictRecord
from .baselines import PRODUCTION
from .config import doubts
from .discovery import left_out
from .gate import Verdict, judge
from .runner import discover, evaluate, params_of
from .suite import Need

if TYPE_CHECKING:
    from pathlib import Path

    from ..registry.registry import Registry
    from ..registry.types import Diff, IndexState, Progress, RunRecord, Version
    from .config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """A verdict and everything it rests on.

    Attributes:
        runs, baseline_runs: what was measured of the version and of its baseline.
        diff: what changed from the baseline; None without one.
        indexes: those of the embedding, with their state.
        doubts: what the configuration says and hardly means.
    """

    verdict: Verdict
    runs: tuple[RunRecord, ...]
    baseline_runs: tuple[RunRecord, ...]
    diff: Diff | None
    indexes: tuple[IndexState, ...]
    doubts: tuple[str, ...] = ()


def gate(
    registry: Registry,
    ref: str,
    *,
    config: Config | Path | str | None,
    baseline: str | None = None,
    no_baseline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> GateResult:
    """Hold a version against the checks of a configuration, and record the verdict.

    Args:
        registry: where the version is.
        ref: the version.
        config: the configuration, or the path of an ``embreg.toml``.
        baseline: the version to compare with; by default the one that ``NAME@production`` names, if that
            alias is there and names another version.
        no_baseline: compare with nothing.
        seed: of every random choice.
        progress: told which run is being done.

    Raises:
        ConfigError: there is no configuration, it has no checks, or one that cannot be.
        NotFound: no such version.
    """
    import numpy as np

    asked = ask(registry, ref, config, baseline=baseline, no_baseline=no_baseline)
    runs, baseline_runs = asked.runs(registry, seed=seed, progress=progress)
    version, base, checks = asked.version, asked.baseline, asked.config.gates
    judged = judge(
        checks, discover(), runs, baseline_runs, registry.stored_table, np.random.default_rng(seed)
    )
    verdict = Verdict(ref=version.ref, baseline=base.ref if base else None, checks=judged)
    registry.record_verdict(
        VerdictRecord(
            version=version.ref,
            version_digest=version.digest,
            baseline=base.ref if base else None,
            baseline_digest=base.digest if base else None,
            passed=verdict.passed,
            config_digest=asked.config.digest,
            checks=tuple(check.to_dict() for check in verdict.checks),
        )
    )
    return GateResult(
        verdict=verdict,
        runs=runs,
        baseline_runs=baseline_runs,
        diff=registry.diff(base.ref, version.ref) if base else None,
        indexes=tuple(i for i in registry.indexes() if i.tracks.startswith(f"{version.name}@")),
        doubts=doubts(asked.config, discover()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a gate is asked: checks that can be, of versions that are there."""

    config: Config
    version: Version
    baseline: Version | None

    def runs(
        self,
        registry: Registry,
        *,
        seed: int = 0,
        recorded: bool = False,
        progress: Progress | None = None,
    ) -> tuple[tuple[RunRecord, ...], tuple[RunRecord, ...]]:
        """Return the runs that the checks need, of the version and of its baseline.

        Args:
            registry: where the versions are.
            seed: of every random choice.
            recorded: measure nothing: what was not measured before is skipped.
            progress: told which run is being done.
        """
        suites, checks, params = discover(), self.config.gates, params_of(self.config)
        names = [name for name in suites if any(check.suite == name for check in checks)]
        # What is built in is judged by those checks only that name it: else a gate would go on with easier
        # questions when a dataset is removed.
        builtin: dict[str, list[str]] = {}
        for check in checks:
            if is_builtin(dataset := check.labels.get("dataset", "")):
                builtin.setdefault(check.suite, []).append(dataset)

        def measured(of: Version, against: Version | None, chosen: Sequence[str]) -> tuple[RunRecord, ...]:
            return evaluate(
                registry, of.ref, suites=chosen, baseline=against.ref if against else None,
                params=params, seed=seed, recorded=recorded, builtin=builtin, progress=progress,
            )  # fmt: skip

        compared = [name for name in names if Need.BASELINE not in suites[name].needs]
        runs = measured(self.version, self.baseline, names)
        return runs, measured(self.baseline, None, compared) if self.baseline and compared else ()


def ask(
    registry: Registry,
    ref: str,
    config: Config | Path | str | None,
    *,
    baseline: str | None = None,
    no_baseline: bool = False,
) -> Asked:
    """Find what a gate is about, before anything is measured; see ``gate``.

    Raises:
        ConfigError: there is no configuration, it has no checks, or one that cannot be.
        NotFound: no such version.
        UsageError: a baseline and none.
    """
    if baseline is not None and no_baseline:
        raise UsageError("give a baseline, or say that there is none: not both")
    settings = _loaded(config)
    settings.require_gates()
    params_of(settings)
    _require_suites(settings)
    version = registry.resolve(ref)
    base = None if no_baseline else _baseline(registry, version, baseline)
    return Asked(config=settings, version=version, baseline=base)


def _require_suites(config: Config) -> None:
    """Refuse checks of a suite that an installed package brings and that cannot be used."""
    for check in config.gates:
        if (broken := left_out(check.suite)) is not None:
            place = f"{printable(str(config.path))}: line {check.line}"
            hint = "mend the package: a version does not pass a check that cannot be made"
            raise ConfigError(f"{place}: {broken.message}", hint=hint)


def _loaded(config: Config | Path | str | None) -> Config:
    from pathlib import Path

    from .config import Config, load_config

    if config is None:
        raise ConfigError(
            "no embreg.toml here or in a folder above",
            hint="write one with [[gates]], or name it with --config",
        )
    return config if isinstance(config, Config) else load_config(Path(config))


def _baseline(registry: Registry, version: Version, asked: str | None) -> Version | None:
    if asked is not None:
        return registry.resolve(asked)
    try:
        found = registry.resolve(f"{version.name}@{PRODUCTION}")
    except AliasNotFound:
        return None
    return found if found.number != version.number else None
