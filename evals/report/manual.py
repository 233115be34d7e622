"""What suites say of themselves as one Markdown document: ``docs/metrics.md`` is that of embreg's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...registry.errors import printable
from .. import reference
from ..discovery import OWN
from ..subject import CHECKED_QUERIES, SAMPLED_QUERIES, WHOLE_GRAPH_ROWS
from .reference import needs, small_print

if TYPE_CHECKING:
    from ..suite import Metric, Suite

#: What would begin emphasis: an underscore that is not inside a word.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
#: Items of a list, which blank lines would set apart.
_ITEMS = re.compile(r"^((?:- |\d+\. ).*\n)\n(?=- |\d+\. )", re.MULTILINE)
#: A default that is no text.
_EMPTY = '""'


def manual(suites: Mapping[str, Suite], origins: Mapping[str, str]) -> str:
    """Return the document.

    Args:
        suites: what it is about; those of embreg come first.
        origins: name -> ``embreg``, or the package that brings it with its version.
    """
    import jinja2

    ordered = sorted(suites.values(), key=lambda s: (origins[s.name] != OWN, s.name))
    # Markdown, not HTML: what could be markup is escaped by the functions below.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader(__package__), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("metrics.md.j2").render(
        contents=_contents(ordered, origins),
        sections=[_section(suite, origins[suite.name]) for suite in ordered],
        whole_graph_rows=f"{WHOLE_GRAPH_ROWS:,}",
        sampled_queries=f"{SAMPLED_QUERIES:,}",
        checked_queries=f"{CHECKED_QUERIES:,}",
    )


def _contents(suites: Sequence[Suite], origins: Mapping[str, str]) -> str:
    rows = []
    for s in suites:
        cells = (str(s.version), s.doc, needs(s) or "–", str(len(s.metrics)), origins[s.name])
        rows.append((f"[{s.name}](#{s.name})", *cells))
    return _table(("suite", "version", "what it answers", "needs (can use)", "metrics", "from"), rows)


def _section(suite: Suite, origin: str) -> str:
    told = reference.blocks(reference.sources(suite)) or [suite.doc]
    parts = [f"## {suite.name}", f"Version {suite.version}, from {_inline(origin)}."]
    parts += [_inline(block) if isinstance(block, str) else _table(block[0], block[1:]) for block in told]
    parts += [_needed(r) for r in reference.requirements(suite)] or ["Needs rows only."]
    if given := reference.parameters(suite):
        rows = [(f"``{p.name}``", p.kind, f"``{p.default or _EMPTY}``", p.doc) for p in given]
        parts.append(_table(("parameter", "type", "default", "meaning"), rows))
    parts += [_entry(metric, suite) for metric in suite.metrics]
    return _ITEMS.sub(r"\1", "\n\n".join(parts))


def _needed(given: reference.Requirement) -> str:
    word = "Needs" if given.required else "Can use"
    return f"{word} {given.what}: `{given.command}`."


def _entry(metric: Metric, suite: Suite) -> str:
    facts = f"{reference.direction(metric)}, {_inline(metric.unit)}, {reference.span(metric)}."
    small = [f"{label}: {_inline(told)}." for label, told in small_print(metric, suite)]
    parts = [f"### {suite.name}.{metric.name}", _inline(metric.doc)]
    parts += [f"    {printable(metric.formula, 500)}"] if metric.formula else []
    return "\n\n".join([*parts, " ".join([facts, *small])])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are texts of docstrings."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[_inline(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _inline(text: str) -> str:
    """Return the text of a docstring on one line: its code stays code, and what is no markup shows itself."""
    pieces = printable(" ".join(text.split()), 5000).split("``")
    for i in range(0, len(pieces), 2):
        pieces[i] = _EMPHASIS.sub(r"\\_", _TAG.sub("&lt;", _ENTITY.sub("&amp;", pieces[i])))
    return "`".join(pieces)
