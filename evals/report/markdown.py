"""GitHub-flavoured Markdown, for a job summary or a comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...registry.errors import printable
from ..figures import change, interval, named, number
from ..gate import Outcome
from . import SIGNS, headline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..gate import CheckResult, Verdict

#: What stands over the checks of an outcome, in this order; failures come first, under the answer itself.
_HEADINGS = {
    Outcome.FAILED: "",
    Outcome.WARNED: "**Warnings**, which fail nothing:",
    Outcome.SKIPPED: "**Skipped**, so nothing is known of:",
}

#: What would begin markup, HTML, a table cell or a formula.
_SPECIAL = re.compile(r"[&<|`*\[~\\$#!]|(?<![^\W_])_|_(?![^\W_])")


def markdown(verdict: Verdict) -> str:
    """Return the verdict as Markdown: the answer as a heading, the reasons, a table of the checks."""
    word = "passed" if verdict.passed else "failed"
    lines = [f"## {SIGNS[word]} {escape(headline(verdict))}", ""]
    for outcome, heading in _HEADINGS.items():
        lines += _reasons(heading, verdict.of(outcome))
    if verdict.checks:
        lines += [
            "",
            "| | check | value | interval | baseline | change | bound |",
            "|---|---|--:|---|--:|--:|---|",
        ]
        lines += [f"| {' | '.join(_cells(check))} |" for check in verdict.checks]
    return "\n".join(lines) + "\n"


def _reasons(heading: str, checks: Sequence[CheckResult]) -> list[str]:
    """Return the checks of one outcome with their reasons; a heading sets them apart from the failures."""
    told = [f"- {SIGNS[c.outcome]} {_title(c)}: {escape(c.reason)}" for c in checks]
    return ["", heading, "", *told] if told and heading else told


def escape(text: str) -> str:
    """Return ``text`` as one line of Markdown that shows exactly its characters.

    Characters that begin markup become HTML entities, which hold in a table cell too. An underscore
    inside a word marks nothing and stays.
    """
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", printable(text, 500))


def _title(check: CheckResult) -> str:
    plain = re.fullmatch(r"[\w.@+-]{1,200}", check.metric)
    metric = f"`{check.metric}`" if plain else escape(check.metric)
    return f"{metric} {escape(named(check.labels))}".rstrip()


def _cells(check: CheckResult) -> list[str]:
    value, baseline = check.value, check.baseline
    moved = "" if value is None or baseline is None else change(value - baseline, check.unit)
    return [
        SIGNS[check.outcome],
        _title(check),
        "" if value is None else number(value, check.unit),
        interval(check.low, check.high, check.unit),
        "" if baseline is None else number(baseline, check.unit),
        moved,
        escape(check.bound),
    ]
