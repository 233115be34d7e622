"""What suites say of themselves, for a terminal and as JSON; as a document, see ``manual``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from ...registry.errors import printable
from .. import reference
from .tables import table

if TYPE_CHECKING:
    from ..discovery import Discovered
    from ..suite import Metric, Suite

Document = dict[str, Any]


# -- JSON ---------------------------------------------------------------------------------------------


def overview_document(found: Discovered) -> Document:
    """Return every suite in short, and what is left out."""
    return {
        "suites": [_short(suite, found) for suite in found.suites.values()],
        "left_out": [
            {"name": o.name, "package": o.package, "version": o.version, "reason": o.reason}
            for o in found.left_out
        ],
    }


def suite_document(suite: Suite, found: Discovered) -> Document:
    """Return everything that a suite says of itself."""
    return _short(suite, found) | {
        "sources": reference.sources(suite),
        "requirements": [
            {"need": str(r.need), "required": r.required, "what": r.what, "command": r.command}
            for r in reference.requirements(suite)
        ],
        "parameters": [
            {"name": p.name, "type": p.kind, "default": p.default, "doc": p.doc}
            for p in reference.parameters(suite)
        ],
        "metrics": [_metric(m, suite) for m in suite.metrics],
    }


def metric_document(metric: Metric, suite: Suite) -> Document:
    """Return everything that a metric says of itself."""
    return {"suite": suite.name, "suite_version": suite.version, **_metric(metric, suite)}


def _short(suite: Suite, found: Discovered) -> Document:
    return {
        "name": suite.name,
        "version": suite.version,
        "doc": suite.doc,
        "from": found.origins[suite.name],
        "needs": sorted(map(str, suite.needs)),
        "wants": sorted(map(str, suite.wants)),
        "metrics": [m.name for m in suite.metrics],
    }


def _metric(metric: Metric, suite: Suite) -> Document:
    return {
        "name": metric.name,
        "doc": metric.doc,
        "formula": metric.formula,
        "source": metric.source,
        "unit": metric.unit,
        "better": str(metric.better),
        "low": metric.low,
        "high": metric.high,
        "item": metric.item,
        "statistic": list(metric.statistic.columns) if metric.statistic else None,
        "independent": metric.independent,
        "ties": [list(group) for group in metric.ties],
        "timed": metric.timed,
        "gate": reference.tested(metric, suite),
    }


# -- terminal -----------------------------------------------------------------------------------------


def overview(found: Discovered) -> RenderableType:
    """Return every suite in a line."""
    rows = [
        (s.name, s.version, s.doc, needs(s) or "–", len(s.metrics), found.origins[s.name])
        for s in found.suites.values()
    ]
    columns = ("suite", ">version?", "what it answers", "needs", ">metrics", "from??")
    hint = Text("'embreg suites show SUITE' or SUITE.METRIC tells more", style="dim")
    return Group(table(columns, rows), Text(), hint)


def suite(given: Suite, found: Discovered) -> RenderableType:
    """Return everything that a suite says of itself."""
    head = Text.assemble((given.name, "bold"), f" version {given.version}, from {found.origins[given.name]}")
    parts: list[RenderableType] = [head, Text()]
    for block in reference.blocks(reference.sources(given)) or [given.doc]:
        drawn = Text(_line(block)) if isinstance(block, str) else table(block[0], block[1:])
        parts += [_indented(drawn), Text()]
    parts += [Text(_requirement(r)) for r in reference.requirements(given)] or [Text("Needs rows only.")]
    given_params = reference.parameters(given)
    if given_params:
        rows = [(p.name, p.kind, p.default or '""', _line(p.doc)) for p in given_params]
        usage = Text(f"Set by -p {given.name}.PARAMETER=VALUE, or in embreg.toml.", style="dim")
        parts += [Text(), table(("parameter", "type?", "default", "meaning"), rows), usage]
    for metric in given.metrics:
        parts += [Text(), *_described(metric, given)]
    return Group(*parts)


def metric(given: Metric, suite: Suite) -> RenderableType:
    """Return everything that a metric says of itself."""
    return Group(*_described(given, suite))


def _described(metric: Metric, suite: Suite) -> list[RenderableType]:
    name = (f"{printable(suite.name)}.{printable(metric.name)}", "bold")
    facts = f"  {reference.direction(metric)}, {printable(metric.unit, 60)}, {reference.span(metric)}"
    lines = [Text(_line(metric.doc))]
    lines += [Text(_line(metric.formula), style="cyan")] if metric.formula else []
    lines += [Text(f"{label}: {_line(told)}", style="dim") for label, told in small_print(metric, suite)]
    return [Text.assemble(name, facts), *map(_indented, lines)]


def small_print(metric: Metric, suite: Suite) -> list[tuple[str, str]]:
    """Return what else there is to say of a metric: where it is from, how a gate judges it, and its clock."""
    told = [("Source", metric.source), ("Gate", reference.tested(metric, suite))]
    return told + (
        [("Timed", "a clock has a part in it: compare on one machine only")] if metric.timed else []
    )


def _indented(drawn: RenderableType) -> RenderableType:
    return Padding(drawn, (0, 0, 0, 4), expand=False)


def _line(text: str) -> str:
    """Return the text of a docstring on one line, without its markup."""
    plain = " ".join(text.split()).replace("``", "'").replace("**", "")
    return printable(plain, 5000)


def _requirement(given: reference.Requirement) -> str:
    return f"{'Needs' if given.required else 'Can use'} {given.what} ('{given.command}')."


def needs(suite: Suite) -> str:
    """Return what a suite needs, and in brackets what it can use."""
    return ", ".join([*sorted(map(str, suite.needs)), *(f"({want})" for want in sorted(suite.wants))])
