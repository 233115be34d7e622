"""JUnit XML, which every CI shows: one test case per check.

JUnit has no word for a warning. It is a case that passed, with a property ``outcome`` and an output that say
so; the output of the whole lists all of them, for viewers that hide what passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from ...registry.errors import printable
from ..figures import named, number
from ..gate import Outcome
from . import headline

if TYPE_CHECKING:
    from datetime import datetime

    from ..gate import CheckResult, Verdict


def junit(verdict: Verdict, *, generated: datetime | None = None) -> str:
    r"""Return the verdict as an XML document, ``testsuites > testsuite > testcase``.

    Control characters, which XML cannot hold, are written as escapes (``\x1b``).
    """
    counts = {str(outcome): str(count) for outcome, count in verdict.counts.items()}
    totals = {
        "tests": str(len(verdict.checks)),
        "failures": counts["failed"],
        "errors": "0",
        "skipped": counts["skipped"],
    }
    root = ET.Element("testsuites", {"name": "embreg gate", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _text(verdict.ref), **totals})
    if generated is not None:
        suite.set("timestamp", generated.strftime("%Y-%m-%dT%H:%M:%S"))
    properties = ET.SubElement(suite, "properties")
    told = {"baseline": verdict.baseline or "", "verdict": headline(verdict), "warnings": counts["warned"]}
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=_text(value))
    for check in verdict.checks:
        _case(suite, check)
    if warned := verdict.of(Outcome.WARNED):
        lines = (f"warning: {check.told}" for check in warned)
        ET.SubElement(suite, "system-out").text = "\n".join(map(_text, lines))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _case(suite: ET.Element, check: CheckResult) -> None:
    labels = f" ({named(check.labels)})" if check.labels else ""
    group, _, metric = check.metric.partition(".")
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_text(f"embreg.{group}"),
        name=_text(f"{metric}{labels} {check.bound}"),
    )
    if check.outcome == "failed":
        failure = ET.SubElement(case, "failure", message=_text(check.reason), type=check.severity)
        failure.text = _details(check)
    elif check.outcome == "skipped":
        ET.SubElement(case, "skipped", message=_text(check.reason))
    elif check.outcome == "warned":
        properties = ET.SubElement(case, "properties")
        ET.SubElement(properties, "property", name="outcome", value="warning")
        ET.SubElement(case, "system-out").text = _text(f"warning: {check.reason}")
    else:
        ET.SubElement(case, "system-out").text = _text(check.reason)


def _details(check: CheckResult) -> str:
    value, baseline = (
        "missing" if x is None else number(x, check.unit) for x in (check.value, check.baseline)
    )
    lines = (
        f"value: {value}",
        f"baseline: {baseline}",
        f"bound: {_text(check.bound)}",
        f"reason: {_text(check.reason)}",
    )
    return "\n".join(lines)


def _text(text: str) -> str:
    return printable(text, 1000)
