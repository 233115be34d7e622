"""What suites say of themselves, as values: sources, needs, parameters, metrics.

Nothing is said twice: meanings of parameters come out of the docstring of ``Params``, sources out of that of
the suite's module, and how a gate tests a metric out of what the metric declares.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..registry.errors import UnknownChoice, UsageError, did_you_mean
from .config import best
from .discovery import Discovered
from .suite import DATASET_NEEDS, Better, Metric, Need, Suite

#: What a dataset of each kind holds, and what the other needs are.
_WHAT = {
    Need.BASELINE: "a version to compare with",
    Need.INDEX: "an index that follows the embedding",
    Need.ANALOGIES: "a dataset of kind analogies (a is to b as c is to d)",
    Need.PAIRS: "a dataset of kind pairs (two words, and how alike people find them)",
    Need.LABELS: "a dataset of kind labels (the class of each id)",
    Need.QRELS: "a dataset of kind qrels (which items answer which query)",
    Need.POSITIVES: "a dataset of kind positives (pairs of ids that belong together)",
}
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a suite.

    Attributes:
        kind: ``int``, ``float``, ``bool``, ``str``, or ``ints`` and alike, separated by commas.
        default: as it would be written after ``-p SUITE.NAME=``.
        doc: what it means; empty where the suite does not say.
    """

    name: str
    kind: str
    default: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a suite needs, or can use.

    Attributes:
        required: whether it is skipped without.
        what: in words.
        command: that fulfils it.
    """

    need: Need
    required: bool
    what: str
    command: str


def sources(suite: Suite) -> str:
    """Return the docstring of the module that defines a suite: what it measures, and after whom."""
    module = sys.modules.get(getattr(suite.run, "__module__", ""))
    return inspect.cleandoc(getattr(module, "__doc__", None) or "")


def blocks(text: str) -> list[str | list[list[str]]]:
    """Return the paragraphs, list items and tables of a docstring.

    A paragraph or item is a text on one line, an item with its ``- `` or ``1. ``; a simple table of
    reStructuredText, its columns ruled by ``===``, is its rows of cells, the heading first.
    """
    found: list[str | list[list[str]]] = []
    for block in re.split(r"\n{2,}", text.strip()):
        if block.startswith("=="):
            found.append(_ruled(block.split("\n")))
        else:
            found += [" ".join(part.split()) for part in re.split(r"\n(?=- |\d+\. )", block) if part]
    return found


def _ruled(lines: list[str]) -> list[list[str]]:
    starts = [match.start() for match in re.finditer("=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    return [[line[a:b].strip() for a, b in spans] for line in lines if not line.startswith("==")]


def parameters(suite: Suite) -> tuple[Parameter, ...]:
    """Return the parameters of a suite, in the order of its dataclass."""
    meanings, defaults = attributes(suite.params.__doc__ or ""), suite.params()
    found = []
    for name in (f.name for f in fields(suite.params)):
        value = getattr(defaults, name)
        found.append(
            Parameter(name=name, kind=_kind(value), default=_written(value), doc=meanings.get(name, ""))
        )
    return tuple(found)


def attributes(docstring: str) -> dict[str, str]:
    """Return what the section ``Attributes:`` of a docstring in Google style says, by name.

    An entry of several names (``low, high: …``) is that of each of them.
    """
    lines = inspect.cleandoc(docstring).split("\n")
    if "Attributes:" not in lines:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[lines.index("Attributes:") + 1 :]:
        if line and not line.startswith(" "):
            break
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2].strip())
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def requirements(suite: Suite) -> tuple[Requirement, ...]:
    """Return what a suite needs, then what it can use, each with the command that fulfils it."""
    wanted = [(need, True) for need in sorted(suite.needs)] + [(need, False) for need in sorted(suite.wants)]
    return tuple(
        Requirement(need=need, required=required, what=_WHAT[need], command=_command(need, suite))
        for need, required in wanted
    )


def _command(need: Need, suite: Suite) -> str:
    if need in DATASET_NEEDS:
        return f"embreg dataset add NAME FILE --kind {need}"
    if need is Need.INDEX:
        return "embreg index build INDEX REF --factory HNSW32"
    return f"embreg eval REF --suite {suite.name} --baseline REF"


def direction(metric: Metric) -> str:
    """Return in which direction a metric gets better, as an arrow and a word."""
    arrows = {Better.HIGHER: "↑ higher is better", Better.LOWER: "↓ lower is better"}
    return arrows.get(metric.better, "· neither is better")


def span(metric: Metric) -> str:
    """Return the range of a metric: ``0 to 1``, ``at least 0``, ``any number``."""
    if metric.low is None:
        return "any number" if metric.high is None else f"at most {metric.high:g}"
    return f"at least {metric.low:g}" if metric.high is None else f"{metric.low:g} to {metric.high:g}"


def tested(metric: Metric, suite: Suite) -> str:
    """Return how a gate judges a metric: by bounds, by the size of a change, or by a test over its items."""
    if metric.better is Better.NEITHER:
        return "by bounds only"
    if Need.BASELINE in suite.needs:
        ideal = best(metric)
        return "by bounds only" if ideal is None else f"by bounds, and by its distance from {ideal:g}"
    if metric.statistic is not None:
        told = f"item by item, {_listed(metric.statistic.columns)} left out in turn"
    elif metric.item is not None:
        told = f"item by item, the mean of {_listed((metric.item,))}"
    else:
        return "by size only"
    if metric.independent:
        told += f" (of {_listed((metric.independent,))}, whose items are independent)"
    if metric.ties:
        groups = " or ".join(_listed(g) if len(g) == 1 else f"({_listed(g)})" for g in metric.ties)
        told += f"; items with the same {groups} depend on each other"
    return told


def _listed(columns: tuple[str, ...]) -> str:
    return ", ".join(f"'{column}'" for column in columns)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{type(value[0]).__name__ if value else 'str'}s"
    return type(value).__name__


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def looked_up(name: str, found: Discovered) -> tuple[Suite, Metric | None]:
    """Return the suite that ``SUITE`` or ``SUITE.METRIC`` names, and the metric, if it names one.

    Raises:
        UnknownChoice: there is none; of a metric without its suite, the hint says where it is.
        UsageError: an installed package brings one that cannot be used.
    """
    owner, dot, own = name.partition(".")
    if owner in found.suites:
        suite = found.suites[owner]
        metric = suite.metric(own) if dot else None
        if dot and metric is None:
            raise UnknownChoice(f"metric of {owner}", own, [m.name for m in suite.metrics])
        return suite, metric
    if (broken := found.without(owner)) is not None:
        raise UsageError(broken.message, hint=broken.hint)
    raise _unknown(name, found.suites.values(), dotted=bool(dot))


def _unknown(name: str, suites: Iterable[Suite], *, dotted: bool) -> UnknownChoice:
    metrics = {f"{suite.name}.{m.name}": m for suite in suites for m in suite.metrics}
    names = {full.partition(".")[0] for full in metrics}
    error = UnknownChoice("suite", name, names)
    homes = [full for full, m in metrics.items() if m.matches(name) or m.name == name]
    if homes:
        error.hint = f"did you mean {' or '.join(homes)}?"
    elif dotted:
        error.hint = did_you_mean(name, metrics, error.hint)
    return error
