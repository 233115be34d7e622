"""Comparisons on a terminal: signs, missing values with their reasons, contradictions, and CSV cells."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from rich.console import Console

from embreg.evals.comparison import Cell, Comparison, LeftOut, Mark, Row, Spoken
from embreg.evals.report.comparison import comparison, short
from embreg.evals.report.delimited import delimited

FIRST = Cell(ref="e@1", value=0.5, n=10)
WORSE = Cell(ref="e@2", value=0.4, n=10, change=-0.1, judged="worse", mark=Mark.WORSE, p_value=0.01)


def row(*cells: Cell, metric: str = "accuracy", suite: str = "quiz") -> Row:
    return Row(suite=suite, dataset="d", metric=metric, labels={}, unit="share", better="higher", cells=cells)


def drawn(*rows: Row, tests: int = 1, **more: object) -> list[str]:
    found = Comparison(refs=("e@1", "e@2"), rows=rows, alpha=0.05, tests=tests, **more)  # type: ignore[arg-type]
    out = io.StringIO()
    Console(file=out, width=120).print(comparison(found))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("cell", "sign"),
    [
        (WORSE, "▼ worse *"),
        (replace(WORSE, mark=Mark.NONE), "▼ worse n.s."),
        (replace(WORSE, mark=Mark.UNTESTED, p_value=None), "▼ worse"),
        (replace(WORSE, change=0.1, judged="better", mark=Mark.BETTER), "▲ better *"),
        (replace(WORSE, judged="", mark=Mark.DIFFERENT), "≠ different *"),
        (replace(WORSE, change=0.0, judged="", mark=Mark.NONE), "= n.s."),
        (replace(WORSE, change=1e-12, judged="", mark=Mark.UNTESTED), "="),
        (replace(WORSE, change=0.1, judged="better", mark=Mark.WORSE, reason="worse on 3"), "▲ better †"),
    ],
)
def test_signs(cell: Cell, sign: str) -> None:
    lines = drawn(row(FIRST, cell))
    line = next(line for line in lines if line.startswith("accuracy"))
    assert line.endswith(f"  {sign}")
    assert ("† accuracy of e@2: worse on 3" in lines) == (sign[-1] == "†")


def test_missing_values_say_why_once() -> None:
    gone = Cell(ref="e@2", reason="probe was skipped: no labels")
    lines = drawn(row(FIRST, gone), row(FIRST, gone, metric="lift"), tests=0)
    assert lines.count("– e@2: probe was skipped: no labels") == 1
    assert next(line for line in lines if line.startswith("accuracy")).split() == ["accuracy", ".500"]
    lines = drawn(row(FIRST, gone), row(FIRST, WORSE, metric="lift"))
    assert "– accuracy of e@2: probe was skipped: no labels" in lines
    assert next(line for line in lines if line.startswith("accuracy")).split() == ["accuracy", ".500", "–"]


def test_what_is_left_out_and_words_for_the_whole() -> None:
    left = LeftOut(suite="probe", dataset=None, reason="was skipped: no \x1b[31mlabels")
    spoken = Spoken(suite="drift", ref="e@2", verdict="rotated")
    shown = row(Cell(ref="e@1"), replace(WORSE, change=None, mark=None), suite="drift")
    lines = drawn(shown, left_out=(left,), verdicts=(spoken,), more=1234)
    assert r"– probe was skipped: no \x1b[31mlabels" in lines
    assert "drift on d: e@2 rotated" in lines
    assert "1,234 more rows (slices and variants): --all-labels" in lines
    assert "no row to show" in drawn(left_out=(left,))


def test_a_long_name_keeps_its_number() -> None:
    assert short("a/" * 60 + "b@12").endswith("…@12")
    assert len(short("a/" * 60 + "b@12")) == 35


#: What begins a formula in a spreadsheet; the wide ones in some locales.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@pytest.mark.parametrize("text", [f"{sign}1+1" for sign in (*FORMULA, "\t=", "\r=", "\n=")])
def test_no_text_is_a_formula_and_no_number_becomes_text(text: str) -> None:
    lines = delimited(pa.table({text: [text], "n": [-5], "x": [-0.25]})).split("\n")
    for cell in (next(csv.reader([line]))[0] for line in lines[:2]):
        assert cell.startswith("'")
        assert cell.isprintable()
    assert lines[1].endswith(",-5,-0.25")


@settings(deadline=None, max_examples=100)
@given(
    texts=hs.lists(hs.text(), min_size=1, max_size=5), numbers=hs.lists(hs.floats(), min_size=5, max_size=5)
)
def test_csv_comes_back_as_lines_of_safe_cells(texts: list[str], numbers: list[float]) -> None:
    texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    table = pa.table({"item": texts, "value": numbers[: len(texts)]})
    read = list(csv.reader(io.StringIO(delimited(table))))
    assert read[0] == ["item", "value"]
    assert len(read) == len(texts) + 1
    for (cell, value), text, number in zip(read[1:], texts, numbers, strict=False):
        assert cell.isprintable()
        assert not cell.startswith(FORMULA)
        assert (cell.removeprefix("'") if text.startswith(FORMULA) else cell) == text or not (
            text.isprintable()
        )
        assert value == "" or float(value) == number
