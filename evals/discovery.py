"""Which suites there are: the files of ``suites/``, and those that installed packages bring.

A package brings a suite by an entry point of the group ``embreg.suites`` that has the suite's own name::

    [project.entry-points."embreg.suites"]
    spelling = "embreg_spelling:SUITE"

One that cannot be used is left out with a warning that names its package: a stranger's mistake costs nobody
the other suites. Who asks for it by name is told why it is not there, and a gate that names it does not pass.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from ..registry.errors import UnknownChoice, printable
from . import suites as _suites
from .suite import DATASET_NEEDS, Better, Metric, Need, Suite

GROUP = "embreg.suites"
#: Where the files of ``suites/`` come from.
OWN = "embreg"
#: What a parameter can be: what TOML and a command line can say.
_PLAIN = (bool, int, float, str, tuple)


class SuiteLeftOut(UserWarning):
    """An installed package brings a suite that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A suite that cannot be used.

    Attributes:
        name: of the entry point.
        package: that brings it, as pip calls it; empty where that is not known.
        version: of the package.
        reason: why it cannot be used, on one line.
    """

    name: str
    package: str
    version: str
    reason: str

    @property
    def message(self) -> str:
        """What is wrong, on one line."""
        origin = f"{self.package} {self.version}" if self.package else "an unknown package"
        return printable(f"suite '{self.name}' of {origin} cannot be used: {self.reason}", 500)

    @property
    def hint(self) -> str:
        """What to do about it."""
        without = f", or go without it: 'pip uninstall {printable(self.package)}'" if self.package else ""
        return f"mend the package{without}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """The suites there are.

    Attributes:
        suites: by name, in the order of names.
        origins: name -> ``embreg``, or the package that brings it with its version.
        left_out: those that cannot be used.
    """

    suites: Mapping[str, Suite]
    origins: Mapping[str, str]
    left_out: tuple[LeftOut, ...]

    def without(self, name: str) -> LeftOut | None:
        """Return why there is no suite of a name though a package brings one; None where none does."""
        return None if name in self.suites else next((o for o in self.left_out if o.name == name), None)

    def only(self, package: str | None) -> Discovered:
        """Return what a package brings, or embreg itself; everything for None.

        Raises:
            UnknownChoice: it brings none.
        """
        if package is None:
            return self
        packages = {name: origin.partition(" ")[0] for name, origin in self.origins.items()}
        left = tuple(one for one in self.left_out if one.package == package)
        if package not in packages.values() and not left:
            known = {*packages.values(), *(one.package for one in self.left_out)}
            raise UnknownChoice("package with suites", package, known)
        suites = {name: suite for name, suite in self.suites.items() if packages[name] == package}
        return Discovered(suites=MappingProxyType(suites), origins=self.origins, left_out=left)


@cache
def discovered() -> Discovered:
    """Return the suites there are; looked for once in a process.

    Warns:
        SuiteLeftOut: an installed package brings one that cannot be used.
    """
    found = find(entry_points(group=GROUP))
    for one in found.left_out:
        warnings.warn(f"{one.message} ({one.hint})", SuiteLeftOut, stacklevel=3)
    return found


def discover() -> Mapping[str, Suite]:
    """Return every suite that can be used, by name."""
    return discovered().suites


def left_out(name: str) -> LeftOut | None:
    """Return why there is no suite of a name though a package brings one; None where none does."""
    return discovered().without(name)


def find(entries: Iterable[EntryPoint]) -> Discovered:
    """Return embreg's own suites and those of some entry points.

    Raises:
        TypeError: a file of ``suites/`` defines no suite of its own name.
    """
    entries = sorted(entries, key=lambda entry: (entry.name, entry.value))
    suites, origins, refused = _own(), {}, []
    origins.update(dict.fromkeys(suites, OWN))
    shared = Counter(entry.name for entry in entries)
    for entry in entries:
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
        if entry.name in origins and origins[entry.name] == OWN:
            suite, reason = None, "embreg has a suite of that name"
        elif shared[entry.name] > 1:
            suite, reason = None, f"{shared[entry.name]} packages bring a suite of that name"
        else:
            suite, reason = _load(entry)
        if suite is None:
            refused.append(LeftOut(name=entry.name, package=package, version=version, reason=reason))
        else:
            suites[entry.name], origins[entry.name] = suite, f"{package} {version}".strip() or entry.value
    return Discovered(
        suites=MappingProxyType(dict(sorted(suites.items()))),
        origins=MappingProxyType(origins),
        left_out=tuple(refused),
    )


def _own() -> dict[str, Suite]:
    names = [info.name for info in pkgutil.iter_modules(_suites.__path__)]
    return {name: Suite.of(importlib.import_module(f"{_suites.__name__}.{name}")) for name in names}


def _load(entry: EntryPoint) -> tuple[Suite | None, str]:
    """Return the suite of an entry point, or the reason why it cannot be used."""
    try:
        with redirect_stdout(sys.stderr):  # what it may print there is no part of anybody's document
            found = entry.load()
    except (Exception, SystemExit) as exc:  # noqa: BLE001  a stranger's module may fail in any way
        return None, printable(f"{entry.value} does not load: {_told(exc)}")
    reason = defect(found, entry.name)
    return (found, "") if reason is None else (None, reason)


def _told(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


def defect(suite: Any, name: str) -> str | None:
    """Return what keeps a value from being used as the suite ``name``, on one line; None if nothing does."""
    if not isinstance(suite, Suite):
        return f"the entry point gives a {type(suite).__name__}, not an embreg.evals.suite.Suite"
    return (
        _head_defect(suite, name)
        or _needs_defect(suite)
        or _params_defect(suite.params)
        or _metrics_defect(suite.metrics)
    )


def _head_defect(suite: Any, name: str) -> str | None:
    # Annotations bind nobody: what a stranger wrote may be of any type.
    if suite.name != name or not re.fullmatch(r"[\w-]+", name):
        return f"the suite calls itself {printable(repr(suite.name), 60)}, its entry point '{name}'"
    if not isinstance(suite.version, int) or suite.version < 1:
        return f"its version is {suite.version!r}, not 1, 2, …"
    if not callable(suite.run) or not isinstance(suite.doc, str):
        return "its run is no function, or its doc no text"
    return None


def _needs_defect(suite: Any) -> str | None:
    for needs in (suite.needs, suite.wants):
        if not isinstance(needs, frozenset) or not all(isinstance(need, Need) for need in needs):
            return "its needs and wants are not frozensets of Need"
    kinds = sorted((suite.needs | suite.wants) & DATASET_NEEDS)
    return f"it asks for {len(kinds)} kinds of dataset ({', '.join(kinds)})" if len(kinds) > 1 else None


def _params_defect(params: Any) -> str | None:
    if not isinstance(params, type) or not is_dataclass(params):
        return "its params are no dataclass"
    bare = [f.name for f in fields(params) if f.default is MISSING and f.default_factory is MISSING]
    if bare:
        return f"its parameter '{bare[0]}' has no default"
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "its params can be changed: @dataclass(frozen=True)"
    try:
        defaults = params()
    except Exception as exc:  # noqa: BLE001  a stranger's check may fail in any way
        return printable(f"its default parameters are refused: {_told(exc)}")
    odd = [f.name for f in fields(params) if not isinstance(getattr(defaults, f.name), _PLAIN)]
    if odd:
        kinds = ", ".join(kind.__name__ for kind in _PLAIN)
        return f"its parameter '{odd[0]}' is a {type(getattr(defaults, odd[0])).__name__}: not {kinds}"
    return None


def _metrics_defect(metrics: Any) -> str | None:
    if not isinstance(metrics, tuple) or not metrics or not all(isinstance(m, Metric) for m in metrics):
        return "its metrics are not a tuple of at least one Metric"
    for metric in metrics:
        texts = (metric.name, metric.unit, metric.doc, metric.source, metric.formula)
        if not all(isinstance(text, str) for text in texts) or not isinstance(metric.better, Better):
            return f"its metric {metric.name!r} has a field of the wrong type"
        if not re.fullmatch(r"[^.\s]+", metric.name):
            return f"its metric {metric.name!r} has a dot, a blank or nothing in its name"
    twice = [name for name, count in Counter(m.name for m in metrics).items() if count > 1]
    return f"its metric '{twice[0]}' is declared twice" if twice else None
