"""Tables at every width: what folds, what goes, what never does."""

from __future__ import annotations

import io
import re

from hypothesis import given, settings
from hypothesis import strategies as hs
from rich.cells import cell_len
from rich.console import Console

from embreg.evals.report.tables import Cell, Column, table

COLUMNS = ("ref", "aliases", ">rows", "dtype??", "registered?", "message")
ROWS = [
    ("words@1", "", 350_000, "float32", "2026-11-22 16:58", "first 350,000"),
    ("words@3", "production", 400_000, "float32", "2026-11-22 16:59", "all but the top components"),
]
LONG = "not shown at this width: "


def drawn(columns: tuple[str | Column, ...], rows: list[tuple[Cell, ...]], width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    console.print(table(columns, rows), crop=False)
    return out.getvalue().rstrip("\n").split("\n")


def test_with_room_nothing_folds_and_nothing_is_left_out() -> None:
    for width in (90, 200, 100_000):
        assert drawn(COLUMNS, ROWS, width) == [
            "ref       aliases         rows   dtype     registered         message",
            "─" * 88,
            "words@1                350,000   float32   2026-11-22 16:58   first 350,000",
            "words@3   production   400,000   float32   2026-11-22 16:59   all but the top components",
        ]


def test_gaps_shrink_then_columns_go_by_rank_then_words_wrap() -> None:
    assert drawn(COLUMNS, ROWS, 84)[0] == "ref      aliases        rows  dtype    registered        message"
    assert drawn(COLUMNS, ROWS, 74)[-1] == f"{LONG}dtype"
    assert drawn(COLUMNS, ROWS, 60) == [
        "ref      aliases        rows  message",
        "─" * 56,
        "words@1              350,000  first 350,000",
        "words@3  production  400,000  all but the top components",
        f"{LONG}dtype, registered",
    ]
    assert drawn(COLUMNS, ROWS, 50)[3:5] == [
        "words@3  production  400,000  all but the top",
        "                              components",
    ]


def test_words_break_after_punctuation_before_anywhere_else() -> None:
    rows: list[tuple[Cell, ...]] = [("anisotropy.participation_ratio_unbiased", 39.04)]
    assert [line.split()[0] for line in drawn(("metric", ".value"), rows, 34)[2:]] == [
        "anisotropy.participation_",
        "ratio_unbiased",
    ]
    narrow = [line.split()[0] for line in drawn(("metric", ".value"), rows, 14)]
    assert narrow[2:] == ["anisotr", "opy.", "partici", "pation_", "ratio_", "unbiase", "d"]


def test_decimal_points_stand_in_line_where_there_is_room() -> None:
    rows: list[tuple[Cell, ...]] = [(v,) for v in (".462", "19,544", "-43.26", "–", "1.568e-18", "")]
    wide = [line.rstrip() for line in drawn((".value",), rows, 60)[2:]]
    points = [line.index(".") for line in (wide[0], wide[2])]
    assert len(set(points)) == 1
    assert wide[1].index("4", wide[1].index(",") + 3) == points[0] - 1
    assert wide[4].endswith("1.568e-18"), "a power of ten would push all others away"
    assert [line.strip() for line in drawn((".value",), rows, 9)[2:]] == [str(row[0]) for row in rows[:-1]]


def test_a_long_id_leaves_room_for_the_numbers() -> None:
    for width in (60, 80, 120):
        lines = drawn(("id", ">n", ".score"), [("x" * 10_000, 123_456_789, ".75"), ("b", 1, "1")], width)
        assert max(map(len, lines)) <= width
        assert re.search(r"x +123,456,789 +\.75", lines[2])
        assert sum(line.count("x") for line in lines) == 499, "cut once, with an ellipsis, not by the width"


def test_no_row_and_no_column() -> None:
    assert drawn(COLUMNS, [], 80)[0].split() == [c.strip(">?") for c in COLUMNS]
    assert len(drawn(COLUMNS, [], 80)) == 2


def test_a_terminal_of_few_letters_gets_a_plain_rule() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    Console(file=out, width=60).print(table(("a",), [("b",)]))
    out.seek(0)
    assert out.read() == "a\n-\nb\n"


TEXTS = hs.text(hs.characters(exclude_categories=("Cs",)), max_size=60)


@given(
    rows=hs.lists(hs.tuples(TEXTS, hs.integers(-(10**9), 10**9), TEXTS), max_size=4),
    width=hs.integers(30, 140),
)
@settings(deadline=None, max_examples=200)
def test_at_no_width_is_anything_wider_lost_or_broken(rows: list[tuple[Cell, ...]], width: int) -> None:
    lines = drawn(("id", ">n", "note?"), rows, width)
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    for _, count, _ in rows:
        assert f"{count:,}" in text, "a number is whole, wherever"
    if LONG not in text:  # every letter is there, though lines end elsewhere
        whole = "".join(drawn(("id", ">n", "note?"), rows, 10_000))
        assert letters(text) == letters(whole)


def letters(text: str) -> list[str]:
    return sorted(text.replace("─", "").replace(" ", "").replace("\n", ""))
