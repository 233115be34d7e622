"""Proposed checks as an ``embreg.toml``, for a terminal, and as a document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..baselines import PRODUCTION
from ..figures import named
from ..placing import MARK
from ..proposal import ERRORS
from .tables import table

if TYPE_CHECKING:
    from pathlib import Path

    from ..proposal import Omitted, Proposal, Proposed

_WIDTH = 100


def text(given: Proposal) -> str:
    """Return TOML: a comment and a ``[[gates]]`` table for each check, and what is left out."""
    blocks = [_comment(_head(given)), *map(_table, given.checks)]
    if given.omitted:
        blocks.append("\n".join(["# Left out:", *map(_left_out, given.omitted)]))
    return "\n\n".join(blocks) + "\n"


def document(given: Proposal, path: Path | None) -> dict[str, Any]:
    """Return plain JSON values.

    Args:
        given: what is proposed.
        path: of the file that was written; None where none was.
    """
    return {
        "ref": given.ref,
        "path": None if path is None else str(path),
        "production": list(given.chain),
        "checks": [
            {
                "metric": c.metric,
                "labels": dict(c.labels),
                c.bound: c.value,
                "severity": c.severity,
                "why": c.why,
            }
            for c in given.checks
        ],
        "left_out": [{"suite": one.suite, "why": one.why} for one in given.omitted],
        "toml": text(given),
    }


def view(given: Proposal, path: Path) -> RenderableType:
    """Return what was written and where, and what to do next."""
    rows = [(f"{c.metric}{_labels(c)}", f"{c.bound} = {c.value!r}", c.why) for c in given.checks]
    head = Text(f"{printable(str(path))}: {len(given.checks)} checks from {printable(given.ref, 140)}")
    left = [Text(f"– {one.suite}: {printable(one.why, 500)}", style="dim") for one in given.omitted]
    return Group(head, Text(), table(("check", "bound", "from"), rows), *left, Text(f"next: {_next(given)}"))


def _next(given: Proposal) -> str:
    """Return a command that makes sense now."""
    command = f"embreg gate {printable(given.latest, 140)}"
    if PRODUCTION not in given.aliases or given.latest == given.ref:
        command += f" --baseline {printable(given.ref, 140)}"
    return f"{command} --explain"


def _head(given: Proposal) -> str:
    aliases = f" ({', '.join(map(printable, given.aliases))})" if given.aliases else ""
    name, path = given.ref.partition("@")[0], " -> ".join(printable(ref, 140) for ref in given.chain)
    live = f" What went live: {path}." if len(given.chain) > 1 else ""
    ref, mark = printable(given.ref, 140), MARK.removeprefix("# ")
    return (
        f"{mark}{printable(name, 140)}, written by 'embreg gate init' from what was measured of {ref}"
        f"{aliases}.{live} A tolerance is the smallest loss that a test can see, or {ERRORS} standard "
        "errors, and no less than what a version lost that went live. "
        "'embreg gate REF --explain' says what each check would do."
    )


def _comment(told: str) -> str:
    return "\n".join(f"# {line}" for line in _wrapped(told, _WIDTH - 2))


def _wrapped(told: str, width: int) -> list[str]:
    return wrap(told, width, break_long_words=False, break_on_hyphens=False)


def _table(check: Proposed) -> str:
    lines = [_comment(printable(check.why, 500)), "[[gates]]", f"metric = {_quoted(check.metric)}"]
    if check.labels:
        lines.append(f"labels = {_inline(check.labels)}")
    lines.append(f"{check.bound} = {check.value!r}")
    if check.severity != "critical":
        lines.append(f"severity = {_quoted(check.severity)}")
    return "\n".join(lines)


def _left_out(one: Omitted) -> str:
    told = _wrapped(f"{printable(one.suite)}: {printable(one.why, 500)}", _WIDTH - 4)
    return "\n".join(f"# {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(told))


def _labels(check: Proposed) -> str:
    return f" ({named(check.labels)})" if check.labels else ""


def _inline(labels: Mapping[str, str]) -> str:
    pairs = (f"{_key(key)} = {_quoted(value)}" for key, value in labels.items())
    return f"{{ {', '.join(pairs)} }}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)


def _quoted(value: str) -> str:
    """Return a basic string of TOML that shows its letters, and escapes what is no letter."""
    plain = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in value)
    return f'"{"".join(plain)}"'
