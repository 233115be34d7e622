"""``embreg.toml``: where the registry is, the parameters of suites, and the checks of the gate.

Everything is validated when it is read; what a message is about is named by file and line. Whether
suites and metrics exist, and whether a bound fits its metric, is a second step (``check_against``),
because only that one needs the suites.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ..registry.errors import ConfigError, did_you_mean, printable
from .toml_source import TomlSource, shown

if TYPE_CHECKING:
    from .suite import Metric, Suite

NAME = "embreg.toml"
#: The registry where nobody names one, and the variable that may.
DEFAULT_REGISTRY, REGISTRY_VARIABLE = ".embreg", "EMBREG_REGISTRY"
SEVERITIES = ("critical", "warning")
ON_MISSING = ("fail", "skip")
#: The significance asked of a drop where a check does not say.
ALPHA = 0.05
#: What the file holds, what ``[registry]`` and a check may say, and what a check must say one of.
TABLES, OF_REGISTRY = ("registry", "suites", "gates"), ("url",)
KEYS = ("metric", "labels", "min", "max", "max_drop", "max_rise", "alpha", "severity", "on_missing")
BOUNDS = ("min", "max", "max_drop", "max_rise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a metric may move for the worse; with both given, moving beyond either is too far.

    Attributes:
        abs: in the metric's own unit.
        rel: as a share of the baseline's absolute value.
    """

    abs: float | None = None
    rel: float | None = None

    def exceeded(self, by: float, reference: float) -> bool:
        """Whether ``by``, counted from a baseline of ``reference``, is beyond the tolerance.

        Rounding in the last digits of a float64 does not count.
        """
        return by > self.room(reference) + 1e-12 * max(1.0, math.fabs(reference))

    def room(self, reference: float) -> float:
        """Return the smaller of the two, in the metric's own unit, from a baseline of ``reference``."""
        limits = (self.abs, None if self.rel is None else self.rel * math.fabs(reference))
        return min(limit for limit in limits if limit is not None)

    def __str__(self) -> str:
        told = [] if self.abs is None else [f"{self.abs:.6g}"]
        told += [] if self.rel is None else [f"{100 * self.rel:.6g}%"]
        return " and ".join(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One ``[[gates]]`` table: what a metric must keep to.

    Attributes:
        metric: ``SUITE.METRIC``.
        labels: which measure of the metric, and on which ``dataset``; see ``gate.judge``.
        min, max: hard bounds, inclusive.
        max_drop, max_rise: how far it may be below, or above, the baseline.
        alpha: a drop or rise beyond its tolerance fails only if its p-value is at most this (.05
            where the file does not say; 1 lets the size alone decide).
        severity: ``critical``, or ``warning``, which never fails the gate.
        on_missing: what becomes of a metric without a comparable value: ``fail`` or ``skip``.
        line: where the table begins in the file, for messages.
    """

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    min: float | None = None
    max: float | None = None
    max_drop: Tolerance | None = None
    max_rise: Tolerance | None = None
    alpha: float = ALPHA
    severity: str = "critical"
    on_missing: str = "fail"
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))

    @property
    def suite(self) -> str:
        """The part of ``metric`` before the first dot."""
        return self.metric.partition(".")[0]

    @property
    def name(self) -> str:
        """The part of ``metric`` after the first dot."""
        return self.metric.partition(".")[2]

    @property
    def tolerance(self) -> Tolerance | None:
        """``max_drop`` or ``max_rise``, whichever is given."""
        return self.max_drop or self.max_rise


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration file that was read.

    Attributes:
        digest: sha256 of the file's bytes, 64 hex digits.
        registry_url: a URL, or an absolute path; None where the file names none.
        suites: parameters by suite, as written.
        gates: the checks, in the order of the file.
        lines: where each ``[suites.NAME]`` begins, for messages.
    """

    path: Path
    digest: str
    registry_url: str | None = None
    suites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gates: tuple[Check, ...] = ()
    lines: Mapping[str, int | None] = field(default_factory=dict, compare=False)

    def require_gates(self) -> tuple[Check, ...]:
        """Return the checks.

        Raises:
            ConfigError: there are none, and a gate without checks would pass anything.
        """
        if not self.gates:
            raise ConfigError(
                f"{printable(str(self.path))}: no [[gates]]: nothing would be checked",
                hint="'embreg gate init NAME' adds checks from what was measured of NAME",
            )
        return self.gates


def find_config(start: Path) -> Path | None:
    """Return the nearest ``embreg.toml`` in ``start`` or a folder above it, or None."""
    here = start.absolute()
    return next((p for d in (here, *here.parents) if (p := d / NAME).is_file()), None)


def config_in_force(asked: str | None = None) -> Config | None:
    """Return the configuration that is asked for, else the nearest one upwards; None where there is none.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        path = Path(asked) if asked else find_config(Path.cwd())
    except FileNotFoundError:  # the working directory is gone
        return None
    return load_config(path) if path is not None else None


def registry_in_force(asked: str | None = None, config: str | None = None) -> str:
    """Return where the registry is: as asked, else $EMBREG_REGISTRY, embreg.toml, .embreg.

    Args:
        asked: the registry that somebody names.
        config: the path of a configuration that somebody insists on.

    Raises:
        ConfigError: a configuration decides, and cannot be used.
    """
    said = asked or os.environ.get(REGISTRY_VARIABLE)
    if said:
        return said
    found = config_in_force(config)
    return (found.registry_url if found is not None else None) or DEFAULT_REGISTRY


def load_config(path: Path) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or says something it cannot mean; the
            message names the file and the line.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{printable(str(path))}: {exc.strerror or 'cannot be read'}",
            hint=f"--config takes the path of an {NAME}",
        ) from exc
    source = TomlSource(path, data)
    top = source.parse()
    source.known_keys(top, TABLES, "table")
    suites = _suites(top.get("suites", {}), source)
    return Config(
        path=path,
        digest=hashlib.sha256(data).hexdigest(),
        registry_url=_registry_url(top.get("registry", {}), source),
        suites=suites,
        gates=_gates(top.get("gates", []), source),
        lines={name: source.line(f"suites.{name}") for name in suites},
    )


def _registry_url(values: Any, source: TomlSource) -> str | None:
    if not isinstance(values, dict):
        raise source.error("[registry] is a table", source.line("registry"))
    source.known_keys(values, OF_REGISTRY, "key of [registry]", "registry")
    url = values.get("url")
    if url is None:
        return None
    if not isinstance(url, str) or not url.strip():
        line = source.line("registry", 0, "url")
        raise source.error("url is a path or URL in quotes", line)
    if re.match(r"[A-Za-z][\w+.-]+:", url):
        return url
    return url if url.startswith("~") else str(source.path.absolute().parent / url)


def _suites(values: Any, source: TomlSource) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(values, dict):
        raise source.error("[suites] is a table", source.line("suites"))
    for name, params in values.items():
        if not isinstance(params, dict):
            hint = f"parameters go under their suite: [suites.SUITE] {printable(name)} = …"
            raise source.error(f"'{printable(name)}' is no suite", source.line("suites", 0, name), hint)
    return MappingProxyType({name: MappingProxyType(params) for name, params in values.items()})


def _gates(values: Any, source: TomlSource) -> tuple[Check, ...]:
    if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
        hint = "each check begins with [[gates]], in double brackets"
        raise source.error("gates is a list of tables", source.line("gates"), hint)
    return tuple(_Table(source, nth, table).check() for nth, table in enumerate(values))


class _Table:
    """One ``[[gates]]`` table on its way to a ``Check``."""

    def __init__(self, source: TomlSource, nth: int, values: Mapping[str, Any]) -> None:
        self.source, self.nth, self.values = source, nth, values

    def error(self, what: str, key: str = "", hint: str = "") -> ConfigError:
        return self.source.error(what, self.source.line("gates", self.nth, key), hint)

    def check(self) -> Check:
        self.source.known_keys(self.values, KEYS, "key of [[gates]]", "gates", self.nth)
        check = Check(
            metric=self.metric(),
            labels=self.labels(),
            min=self.number("min"),
            max=self.number("max"),
            max_drop=self.tolerance("max_drop"),
            max_rise=self.tolerance("max_rise"),
            alpha=self.alpha(),
            severity=self.choice("severity", SEVERITIES),
            on_missing=self.choice("on_missing", ON_MISSING),
            line=self.source.line("gates", self.nth),
        )
        if not any(key in self.values for key in BOUNDS):
            raise self.error(f"{check.metric} has no bound", hint=f"give one of {', '.join(BOUNDS)}")
        if check.min is not None and check.max is not None and check.min > check.max:
            raise self.error(f"min {check.min:g} is above max {check.max:g}", "min")
        return check

    def metric(self) -> str:
        metric = self.values.get("metric")
        hint = 'SUITE.METRIC, such as "anisotropy.mean_cosine"'
        if metric is None:
            raise self.error("a check names its metric", hint=hint)
        if not isinstance(metric, str) or not re.fullmatch(r"[^.\s]+\.\S+", metric):
            raise self.error(f"{shown(metric)} is no metric", "metric", hint)
        return metric

    def labels(self) -> dict[str, str]:
        labels = self.values.get("labels", {})
        plain = isinstance(labels, dict) and all(
            isinstance(v, str | int) and not isinstance(v, bool) for v in labels.values()
        )
        if not plain:
            raise self.error("labels are words", "labels", 'such as labels = { group = "total" }')
        return {key: str(value) for key, value in labels.items()}

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        return None if value is None else self.finite(value, key)

    def finite(self, value: Any, key: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise self.error(f"{key} is a finite number, not {shown(value)}", key)
        return float(value)

    def tolerance(self, key: str) -> Tolerance | None:
        value = self.values.get(key)
        if value is None:
            return None
        parts = value if isinstance(value, dict) else {"abs": value}
        if not parts or not set(parts) <= {"abs", "rel"}:
            hint = f"{key} = 0.01, or {key} = {{ abs = 0.01, rel = 0.05 }}"
            raise self.error(f"{key} is a number or a table of abs and rel", key, hint)
        numbers = {part: self.finite(value, key) for part, value in parts.items()}
        if min(numbers.values()) < 0:
            raise self.error(f"{key} cannot be negative", key)
        return Tolerance(**numbers)

    def alpha(self) -> float:
        alpha = self.finite(self.values.get("alpha", ALPHA), "alpha")
        if not 0 < alpha <= 1:
            raise self.error(f"alpha lies between 0 and 1, not at {alpha:g}", "alpha")
        return alpha

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        value = self.values.get(key, known[0])
        if value not in known:
            hint = did_you_mean(str(value), known, f"one of: {', '.join(known)}")
            raise self.error(f"unknown {key} {shown(value)}", key, hint)
        return str(value)


def check_against(config: Config, suites: Mapping[str, Suite]) -> None:
    """Check that everything the file names exists, and that every bound fits its metric.

    Args:
        config: a configuration that was read.
        suites: every known suite, by name.

    Raises:
        ConfigError: an unknown suite, parameter or metric; a drop asked of a metric that gets
            better by falling (or a rise of one that gets better by rising, or either of one without
            a direction); a bound outside the range of the metric.
    """
    for name, params in config.suites.items():
        line = config.lines.get(name)
        suite = _known(config, line, "suite", name, suites)
        known = {f.name: f for f in fields(suite.params)}
        for param in params:
            _known(config, line, f"parameter of {name}", param, known)
    for check in config.gates:
        suite = _known(config, check.line, "suite", check.suite, suites)
        metric = suite.metric(check.name)
        if metric is None:
            metrics = {m.name: m for m in suite.metrics}
            metric = _known(config, check.line, f"metric of {suite.name}", check.name, metrics)
        problem = misfit(check, suite, metric)
        if problem:
            what, hint = problem
            raise _error(config, check.line, f"{printable(check.metric)}: {what}", hint)


def doubts(config: Config, suites: Mapping[str, Suite]) -> tuple[str, ...]:
    """Return what is allowed and hardly meant, one line each.

    A bound on the better side alone (``max`` of a metric that is better higher) may be a cap on what is too
    good to be true, so it is no error; neither is a bound at the end of the range, which nothing can break.

    Args:
        config: one that ``check_against`` found nothing wrong with.
        suites: by name; checks of others are passed over.
    """
    found = [(check, why) for check in config.gates if (why := _doubt(check, suites))]
    return tuple(_told(config, check.line, f"{printable(check.metric)}: {why}") for check, why in found)


def _doubt(check: Check, suites: Mapping[str, Suite]) -> str:
    from .suite import Better

    suite = suites.get(check.suite)
    metric = suite.metric(check.name) if suite is not None else None
    given = [key for key in BOUNDS if getattr(check, key) is not None]
    if metric is None or given not in (["min"], ["max"]):
        return ""
    if check.min is not None and check.min == metric.low:
        return f"min = {check.min:g} is the least it can be: nothing falls below"
    if check.max is not None and check.max == metric.high:
        return f"max = {check.max:g} is the most it can be: nothing rises above"
    wrong, right = {Better.HIGHER: ("max", "min"), Better.LOWER: ("min", "max")}.get(metric.better, ("", ""))
    if given == [wrong]:
        return f"{wrong} alone on a metric that is better {metric.better}: did you mean '{right}'?"
    return ""


_T = TypeVar("_T")


def _known(config: Config, line: int | None, what: str, name: str, known: Mapping[str, _T]) -> _T:
    if name not in known:
        close = re.sub(r"@\d+\b", "@k", name)
        hint = did_you_mean(close, known, f"one of: {', '.join(sorted(known))}")
        raise _error(config, line, f"unknown {what} '{printable(name)}'", hint)
    return known[name]


def _error(config: Config, line: int | None, what: str, hint: str) -> ConfigError:
    return ConfigError(_told(config, line, what), hint=hint)


def _told(config: Config, line: int | None, what: str) -> str:
    place = f" line {line}:" if line else ""
    return f"{printable(str(config.path))}:{place} {what}"


def misfit(check: Check, suite: Suite, metric: Metric) -> tuple[str, str] | None:
    """Return what is wrong with a check of ``metric``, and a hint; None when nothing is."""
    from .suite import Better, Need

    for key, bound in (("min", check.min), ("max", check.max)):
        if bound is not None and not _within(metric, bound):
            low, high = (_bound(b) for b in (metric.low, metric.high))
            return f"{key} = {bound:g} is outside its range, {low} to {high}", metric.doc
    if "dataset" in check.labels and suite.dataset_kind is None:
        return f"{suite.name} runs on no dataset", "leave the label 'dataset' out"
    if "index" in check.labels and Need.INDEX not in suite.needs:
        return f"{suite.name} measures no index", "leave the label 'index' out"
    if check.tolerance is None:
        return None
    if metric.better is Better.NEITHER:
        return "neither a drop nor a rise of it is worse", "bound it by min and max"
    wrong, right = ("max_rise", "max_drop")
    if metric.better is Better.LOWER:
        wrong, right = right, wrong
    if getattr(check, wrong) is not None:
        return f"{wrong} on a metric that is better {metric.better}", f"did you mean '{right}'?"
    if Need.BASELINE in suite.needs and best(metric) is None:
        return f"{suite.name} compares with the baseline itself", "bound it by min and max"
    return None


def best(metric: Metric) -> float | None:
    """Return the best value a metric can take; None where it is unbounded or has no direction."""
    from .suite import Better

    if metric.ideal is not None and metric.better is not Better.NEITHER:
        return metric.ideal
    return {Better.HIGHER: metric.high, Better.LOWER: metric.low}.get(metric.better)


def _within(metric: Metric, bound: float) -> bool:
    above = metric.low is None or bound >= metric.low
    return above and (metric.high is None or bound <= metric.high)


def _bound(bound: float | None) -> str:
    return "anything" if bound is None else f"{bound:g}"
