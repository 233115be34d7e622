from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from embreg.evals.gate import CheckResult, Outcome, Verdict
from embreg.evals.report.markdown import escape, markdown

CHECK = CheckResult(metric="knn.purity_all@10", labels={"group": "total"}, value=0.5, baseline=0.4,
                    bound="<= 0.3", outcome=Outcome.FAILED, reason=".500 is above 0.3", unit="share",
                    low=0.45, high=0.55)  # fmt: skip
PASSED = replace(CHECK, outcome=Outcome.PASSED, value=None, baseline=None, low=None)
VERDICT = Verdict(ref="e@2", baseline="e@1", checks=(CHECK, PASSED))


def test_reads_from_top_to_bottom() -> None:
    lines = markdown(VERDICT).splitlines()
    assert lines[0] == "## ✗ e@2 fails against e@1: 1 of 2 checks failed"
    assert lines[2] == "- ✗ `knn.purity_all@10` group=total: .500 is above 0.3"
    assert lines[3] == ""
    assert lines[6] == (
        "| ✗ | `knn.purity_all@10` group=total | .500 | [.450, .550] | .400 | +.100 | &#60;= 0.3 |"
    )
    assert lines[7] == "| ✓ | `knn.purity_all@10` group=total |  |  |  |  | &#60;= 0.3 |"
    assert markdown(VERDICT).endswith("|\n")


def test_warnings_stand_apart_from_failures() -> None:
    outcomes = (Outcome.WARNED, Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED)
    checks = tuple(replace(CHECK, outcome=outcome, reason=str(outcome)) for outcome in outcomes)
    lines = markdown(Verdict(ref="e@2", baseline="e@1", checks=checks)).splitlines()
    assert lines[2] == "- ✗ `knn.purity_all@10` group=total: failed"
    assert lines[3:7] == [
        "",
        "**Warnings**, which fail nothing:",
        "",
        "- ! `knn.purity_all@10` group=total: warned",
    ]
    assert lines[8] == "**Skipped**, so nothing is known of:"
    assert "**Skipped**" not in markdown(VERDICT) and "**Warnings**" not in markdown(VERDICT)


def test_passing_and_empty() -> None:
    text = markdown(Verdict(ref="e@2", baseline=None, checks=(PASSED,)))
    assert text.startswith("## ✓ e@2 passes: 1 of 1 checks passed\n\n\n|")
    assert markdown(Verdict(ref="e@2", baseline=None)) == "## ✗ e@2 fails: nothing was checked\n\n"


@pytest.mark.parametrize(
    "text",
    ["a|b", "`x`", "**x**", "<script>", "[a](http://b)", "![i](u)", "~~x~~", "$x$", "\\|", "&amp;", "_x_",
     "# x", "\x1b[1m\n# heading", "x" * 10_000],
)  # fmt: skip
def test_every_row_keeps_its_cells(text: str) -> None:
    check = replace(CHECK, metric=text, labels={text: text}, bound=text, reason=text)
    lines = markdown(Verdict(ref=text, baseline=text, checks=(check,))).splitlines()
    assert len(lines) == 7
    assert lines[6].count("|") == lines[5].count("|") == lines[4].count("|") == 8
    assert "<" not in "".join(lines)
    assert lines[2].count("`") == (2 if text == "_x_" else 0)
    assert len(lines[6]) < 6000


@given(hs.text(max_size=80))
@settings(deadline=None, max_examples=200)
def test_escaping_shows_the_text_and_begins_no_markup(text: str) -> None:
    escaped = escape(text)
    assert escaped.isprintable()
    bare = re.sub(r"&#\d+;", "", escaped)
    assert not set("<|`*[~\\$!&#") & set(bare)
    assert not re.search(r"(?<!\w)_|_(?!\w)", escaped.replace("&#", " ").replace(";", " "))
    if text.isprintable():
        assert html.unescape(escaped) == text


def test_names_stay_readable() -> None:
    assert escape("neighbor_overlap@10") == "neighbor_overlap@10"
