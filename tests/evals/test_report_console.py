from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from rich.console import Console, RenderableType

from embreg.evals.figures import change, interval, number, p_value
from embreg.evals.gate import CheckResult, Outcome, Verdict
from embreg.evals.report import console, headline
from embreg.evals.suite import Better, Metric, Suite
from embreg.registry.types import MeasureRecord, RunRecord

CHECK = CheckResult(metric="knn.purity@10", labels={"group": "total"}, value=0.5, baseline=0.4,
                    bound=">= 0.6", outcome=Outcome.FAILED, reason=".500 is below 0.6", unit="share",
                    low=0.45, high=0.55)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 10


SUITES = {
    "knn": Suite(
        name="knn", version=1, params=Params, needs=frozenset(), doc="d.",
        run=lambda *_: None,  # type: ignore[arg-type, return-value]
        metrics=(Metric("purity@k", unit="share", better=Better.HIGHER, doc="d.", source="own"),),
    )
}  # fmt: skip
RUN = RunRecord(
    suite="knn", suite_version=1, version="e@2", version_digest="2" * 64, duration_s=1.5,
    measures=(
        MeasureRecord(metric="purity@10", labels={"group": "total"}, value=0.46217, n=19544,
                      low=0.45521, high=0.46918),
        MeasureRecord(metric="other", labels={}, value=1234.5678, n=7),
    ),
)  # fmt: skip


def drawn(what: RenderableType, width: int = 90, *, colour: bool = False) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    Console(file=out, width=width, force_terminal=colour, color_system=system).print(what)
    return out.getvalue()


class TestVerdict:
    def test_answer_reasons_numbers(self) -> None:
        outcomes = (Outcome.SKIPPED, Outcome.PASSED, Outcome.WARNED, Outcome.FAILED)
        checks = tuple(replace(CHECK, outcome=o, reason=f"why {o}") for o in outcomes)
        lines = drawn(console.verdict(Verdict(ref="e@2", baseline="e@1", checks=checks))).splitlines()
        assert (
            lines[0] == "✗ e@2 fails against e@1: 1 of 4 checks failed, 1 warned, 1 skipped. Do not ship it."
        )
        assert [line.partition(":")[0] for line in lines[2:11:3]] == ["1 failed", "1 warned", "1 skipped"]
        assert [line[:1] for line in lines[3:12:3]] == ["✗", "!", "–"]
        assert lines[3] == "✗ knn.purity@10 (group=total): why failed"
        heads = ["check", "value", "interval", "baseline", "change", "bound"]
        at = next(i for i, line in enumerate(lines) if line.split() == heads)
        assert [line[:1] for line in lines[at + 2 : at + 6]] == ["✗", "!", "–", "✓"]
        assert "[.450, .550]" in lines[at + 2]

    @pytest.mark.parametrize(
        ("value", "better", "shown"),
        [
            (0.5, Better.HIGHER, "+.100 ▲ better"),
            (0.3, Better.HIGHER, "-.100 ▼ worse"),
            (0.3, Better.LOWER, "-.100 ▲ better"),
            (0.5, Better.LOWER, "+.100 ▼ worse"),
            (0.5, Better.NEITHER, "+.100"),
            (0.4 + 1e-12, Better.HIGHER, "0 ="),
        ],
    )
    def test_arrows_follow_the_direction_of_the_metric(
        self, value: float, better: Better, shown: str
    ) -> None:
        metric = replace(SUITES["knn"].metrics[0], better=better)
        suites = {"knn": replace(SUITES["knn"], metrics=(metric,))}
        verdict = Verdict(ref="e@2", baseline="e@1", checks=(replace(CHECK, value=value),))
        text = drawn(console.verdict(verdict, suites=suites), 120)
        row = next(line for line in text.splitlines() if line.startswith("✗  ") and ">= 0.6" in line)
        assert f" {shown} >= 0.6" in " ".join(row.split())
        assert "▲ better, ▼ worse than e@1 by the metric's own direction" in text

    def test_what_to_do_next(self) -> None:
        suite = replace(SUITES["knn"], metrics=(replace(SUITES["knn"].metrics[0], item="purity"),))
        failed = Verdict(ref="e@2", baseline="e@1", checks=(replace(CHECK, labels={"dataset": "d"}),))
        text = drawn(console.verdict(failed, suites={"knn": suite}), 120)
        assert "  embreg items e@1 e@2 --suite knn --dataset d  #" in text
        assert "  embreg compare e@1 e@2  #" in text
        assert "embreg promote" not in text
        passed = Verdict(ref="e@2", baseline="e@1", checks=(replace(CHECK, outcome=Outcome.PASSED),))
        text = drawn(console.verdict(passed, suites=SUITES), 120)
        assert "  embreg promote e@2 production  # let 'production' name it, where it names e@1 now" in text
        assert "embreg items" not in text

    def test_what_to_do_next_without_anything_to_compare_with(self) -> None:
        missing = replace(CHECK, value=None, baseline=None, reason="no value: needs a baseline")
        text = drawn(
            console.verdict(Verdict(ref="e@1", baseline=None, checks=(CHECK, missing)), suites={}), 120
        )
        assert "  embreg gate e@1 --baseline REF  #" in text
        assert "  embreg alias set e production e@1  #" in text

    def test_nothing_checked(self) -> None:
        lines = drawn(console.verdict(Verdict(ref="e@2", baseline=None))).splitlines()
        assert lines[0] == "✗ e@2 fails: nothing was checked. Do not ship it."
        assert lines[3].startswith("  embreg eval e@2  #")

    def test_passes(self) -> None:
        verdict = Verdict(ref="e@2", baseline=None, checks=(replace(CHECK, outcome=Outcome.PASSED),))
        assert headline(verdict) == "e@2 passes: 1 of 1 checks passed"
        assert "\x1b[" in drawn(console.verdict(verdict), colour=True)
        assert "\x1b[" not in drawn(console.verdict(verdict))


class TestRuns:
    def test_numbers_with_intervals(self) -> None:
        text = drawn(console.runs([RUN], suites=SUITES))
        lines = text.splitlines()
        assert lines[0] == "knn 1.50 s"
        assert lines[3].split() == ["purity@10", "group=total", ".462", "[.455,", ".469]", "19,544"]
        assert lines[4].split() == ["other", "1235", "7"]
        assert lines[3].index(".462") == lines[4].index("1235") + 4, "decimal points stand in line"

    def test_a_baseline_stands_beside(self) -> None:
        before = replace(RUN, version="e@1", version_digest="1" * 64, measures=(
            MeasureRecord(metric="purity@10", labels={"group": "total"}, value=0.5, n=19544),))  # fmt: skip
        text = drawn(console.runs([RUN], suites=SUITES, baseline=[before], against="e@1"), 120)
        lines = text.splitlines()
        assert lines[1].split() == ["metric", "labels", "value", "interval", "before", "change", "n"]
        cells = "purity@10 group=total .462 [.455, .469] .500 -.038 ▼ worse 19,544"
        assert " ".join(lines[3].split()) == cells
        assert lines[4].split() == ["other", "1235", "7"], "what was not measured before has no change"
        assert lines[-1].startswith("▲ better, ▼ worse than e@1")
        other = replace(before, suite_version=2)
        text = drawn(console.runs([RUN], suites=SUITES, baseline=[other], against="e@1"), 120)
        assert "– no change from e@1: not comparable" in text
        assert "▲" not in text

    def test_what_is_not_there_is_told(self) -> None:
        absent = ({"metric": "lid", "labels": {"k": "5"}, "reason": "too few rows"},)
        runs = [
            replace(RUN, status="skipped", reason="needs labels"),
            replace(RUN, status="error", reason="no memory"),
            replace(RUN, cached=True, baseline="e@1", dataset="d", verdict="drifted", absent=absent,
                    notes=("a remark",)),
        ]  # fmt: skip
        lines = drawn(console.runs(runs, suites={})).splitlines()
        assert lines[0] == "knn on d, against e@1, cached: drifted"
        assert "– lid (k=5): too few rows" in lines
        assert "  a remark" in lines
        assert lines[-2:] == ["– knn skipped: needs labels", "✗ knn failed: no memory"]


class TestTable:
    def test_one_style(self) -> None:
        at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
        rows = [["words@4", 400_000, 0.123456, at, True], ["x", 3, None, None, False]]
        text = drawn(console.table(["name", ">rows", ">share", "at", "now"], rows), 60)
        assert [line.rstrip() for line in text.splitlines()] == [
            "name         rows    share   at                 now",
            "─" * 51,
            "words@4   400,000   0.1235   2026-01-02 03:04   ✓",
            "x               3",
        ]

    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_numbers_are_never_broken(self, width: int) -> None:
        text = drawn(console.table(["name", ">n"], [["a" * 300, 123_456_789]]), width)
        assert "123,456,789" in text
        assert text.count("a") >= 300

    @pytest.mark.parametrize("text", ["[red]x[/red]", "[link=http://x]y[/link]", "[/]", ":smile:", "\\[x"])
    def test_markup_is_not_read(self, text: str) -> None:
        check = replace(CHECK, metric=text, labels={text: text}, bound=text, reason=text)
        verdict = Verdict(ref=text, baseline=text, checks=(check,))
        run = replace(RUN, suite=text, dataset=text, notes=(text,), verdict=text)
        for what in (
            console.table([text], [[text]]),
            console.verdict(verdict),
            console.runs([run, replace(run, status="skipped", reason=text)], suites=SUITES),
        ):
            assert drawn(what, 400).count(text) >= 2

    @pytest.mark.parametrize("text", ["\x1b[31mred", "a\u202eb", "a\nb\rc", "\x07", "\ud800", "x" * 10_000])
    def test_nothing_moves_the_cursor(self, text: str) -> None:
        check = replace(CHECK, metric=text, labels={text: text}, bound=text, reason=text)
        run = replace(RUN, suite=text, dataset=text, notes=(text,), verdict=text)
        for what in (
            console.table(["x"], [[text]]),
            console.verdict(Verdict(ref=text, baseline=text, checks=(check,))),
            console.runs([run, replace(run, status="error", reason=text)], suites=SUITES),
        ):
            out = drawn(what, 120)
            assert all(c.isprintable() or c == "\n" for c in out)
            assert len(out) < 12_000


class TestFigures:
    @pytest.mark.parametrize(
        ("value", "unit", "text"),
        [
            (0.46217, "share", ".462"),
            (-0.46217, "cosine", "-.462"),
            (0.0123, "share", ".012"),
            (0.00123, "share", ".0012"),
            (0.0004, "share", ".0004"),
            (0.9996, "share", ".9996"),
            (0.99999, "share", ".99999"),
            (1e-9, "share", "1.000e-09"),
            (0.999999999, "share", ".999999999"),
            (0.0, "share", "0"),
            (1.0, "share", "1"),
            (-1.0, "cosine", "-1"),
            (1.7, "share", "1.7"),
            (0.46217, "", "0.4622"),
            (400_000, "rows", "400,000"),
            (12345.678, "", "12,346"),
            (1234.5678, "", "1235"),
            (1.5e20, "", "1.500e+20"),
            (0.00001234, "", "1.234e-05"),
            (float("nan"), "share", "nan"),
        ],
    )
    def test_number(self, value: float, unit: str, text: str) -> None:
        assert number(value, unit) == text

    @given(hs.floats(-1, 1))
    @settings(deadline=None)
    def test_a_share_is_never_taken_for_none_or_all(self, value: float) -> None:
        shown = float(number(value, "share"))
        assert (shown in (0, 1, -1)) is (value in (0, 1, -1)) or abs(value) > 1 - 1e-9
        assert shown == pytest.approx(value, rel=0.051)

    def test_others(self) -> None:
        assert change(0.1, "share") == "+.100"
        assert change(-2, "") == "-2"
        assert change(0, "share") == "0"
        assert interval(0.1, 0.2, "share") == "[.100, .200]"
        assert interval(None, 0.2) == ""
        assert p_value(0.0001) == "p < .001"
        assert p_value(0.03) == "p = .030"
