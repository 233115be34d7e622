"""What was measured and judged, as text: pure functions from values to a page.

``console`` for a terminal, ``junit`` and ``markdown`` for CI, ``html`` for people. Names, labels and
reasons come from users' files: each renderer escapes them for its own format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...registry.errors import printable

if TYPE_CHECKING:
    from ..gate import CheckResult, Verdict

#: The sign that goes with an outcome, so that colour is never the only difference.
SIGNS = {"passed": "✓", "failed": "✗", "warned": "!", "skipped": "–"}


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line: ``words@4 fails against words@3: 2 of 6 checks failed``."""
    counts = {str(outcome): count for outcome, count in verdict.counts.items()}
    subject = printable(verdict.ref, 140) + (" passes" if verdict.passed else " fails")
    if verdict.baseline is not None:
        subject += f" against {printable(verdict.baseline, 140)}"
    total = len(verdict.checks)
    if not total:
        return f"{subject}: nothing was checked"
    told = [f"{counts['failed']} of {total} checks failed"] if counts["failed"] else []
    told += [] if told else [f"{counts['passed']} of {total} checks passed"]
    told += [f"{counts[word]} {word}" for word in ("warned", "skipped") if counts[word]]
    return f"{subject}: {', '.join(told)}"


def remarkable(verdict: Verdict) -> list[CheckResult]:
    """Return the checks that did not pass: failed first, then warned, then skipped."""
    order = ("failed", "warned", "skipped")
    found = [check for check in verdict.checks if check.outcome in order]
    return sorted(found, key=lambda check: order.index(check.outcome))
