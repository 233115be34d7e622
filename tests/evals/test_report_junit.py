from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from embreg.evals.gate import CheckResult, Outcome, Verdict
from embreg.evals.report.junit import junit

CHECK = CheckResult(
    metric="knn.purity@10",
    labels={"group": "total"},
    value=0.5,
    baseline=0.4,
    bound=">= 0.6",
    outcome=Outcome.FAILED,
    reason=".500 is below 0.6",
    unit="share",
)


def verdict(*outcomes: str) -> Verdict:
    checks = tuple(replace(CHECK, outcome=Outcome(outcome)) for outcome in outcomes)
    return Verdict(ref="e@2", baseline="e@1", checks=checks)


def parse(given: Verdict) -> ET.Element:
    return ET.fromstring(junit(given, generated=datetime(2026, 1, 2, tzinfo=UTC)).encode())


def test_counts_and_cases() -> None:
    root = parse(verdict("failed", "passed", "warned", "skipped", "failed"))
    suite = root.find("testsuite")
    assert suite is not None
    for element in (root, suite):
        counts = [element.get(key) for key in ("tests", "failures", "errors", "skipped")]
        assert counts == ["5", "2", "0", "1"]
    assert suite.get("name") == "e@2"
    assert suite.get("timestamp") == "2026-01-02T00:00:00"
    cases = suite.findall("testcase")
    children = [[child.tag for child in case] for case in cases]
    warned = ["properties", "system-out"]
    assert children == [["failure"], ["system-out"], warned, ["skipped"], ["failure"]]
    assert cases[2].findtext("system-out") == "warning: .500 is below 0.6"


def test_warnings_stand_apart_from_failures() -> None:
    suite = parse(verdict("failed", "warned", "passed", "warned")).find("testsuite")
    assert suite is not None
    properties = {p.get("name"): p.get("value") for p in suite.findall("properties/property")}
    assert properties["warnings"] == "2"
    line = "warning: knn.purity@10 (group=total): .500 is below 0.6"
    assert suite.findtext("system-out") == f"{line}\n{line}"
    outcomes = [case.find("properties/property") for case in suite.findall("testcase")]
    assert [None if p is None else p.get("value") for p in outcomes] == [None, "warning", None, "warning"]
    assert [child.tag for child in suite][-1] == "system-out"
    assert parse(verdict("failed", "passed")).find("testsuite/system-out") is None


def test_a_failure_says_why() -> None:
    case = parse(verdict("failed")).find("testsuite/testcase")
    assert case is not None
    assert case.get("classname") == "embreg.knn"
    assert case.get("name") == "purity@10 (group=total) >= 0.6"
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == ".500 is below 0.6"
    assert failure.get("type") == "critical"
    assert (failure.text or "").splitlines()[:3] == ["value: .500", "baseline: .400", "bound: >= 0.6"]


def test_a_missing_value() -> None:
    missing = replace(CHECK, value=None, baseline=None, labels={})
    root = parse(Verdict(ref="e@2", baseline=None, checks=(missing,)))
    assert "value: missing" in (root.findtext("testsuite/testcase/failure") or "")


@pytest.mark.parametrize("text", ["\x1b[31m", "]]><x>", "\"'&<", "a\x00\ufffe\ud800\u202e", "x" * 10_000])
def test_nasty_text(text: str) -> None:
    check = replace(CHECK, metric=f"{text}.{text}", labels={text: text}, bound=text, reason=text)
    root = parse(Verdict(ref=text, baseline=text, checks=(check,)))
    assert len(root.findall("testsuite/testcase/failure")) == 1
    assert all((e.get("message") or "").isprintable() for e in root.iter())
    assert len(junit(Verdict(ref=text, baseline=text, checks=(check,)))) < 15_000


@given(hs.text(hs.characters(exclude_categories=[]), max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_text_parses_back(text: str) -> None:
    root = parse(Verdict(ref=text, baseline=None, checks=(replace(CHECK, reason=text),)))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    if text.isprintable():
        assert failure.get("message") == text
