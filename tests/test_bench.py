"""What the benchmarks make of their figures: rows, the page, the history, slopes, charts, arguments."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
# The benchmarks are no part of the package: they are found from the root of the repository.
sys.path.append(str(ROOT))

from bench import chart, growth, history, measure, page  # noqa: E402
from bench.__main__ import Places, Run, finish, main  # noqa: E402
from bench.__main__ import measure as measure_all  # noqa: E402
from bench.hardware import Load, hardware, products, versions  # noqa: E402
from bench.measure import Row  # noqa: E402
from bench.rows import ROWS  # noqa: E402
from bench.rows_evals import _agreement, _differences, _without_self  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def row(work: str = "self-join", **changed: object) -> Row:
    values = {
        "work": work,
        "peer": "faiss",
        "ours": 2.0,
        "theirs": 6.0,
        "asked": ">= 3",
        "ratios": (0.25, 0.5, 0.2),
    }
    return Row(**(values | changed))  # type: ignore[arg-type]


# -- rows ---------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    one = row(ours=2.0, theirs=6.0, ratios=(0.25, 0.5, 0.2))
    assert one.ratio == 0.25
    assert one.faster == (4.0, 2.0, 5.0)
    assert row(ratios=()).faster == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        (">= 3", 3.0),
        ("3x", 3.0),
        ("≥ 10 x", 10.0),
        ("<= 1.25", 0.8),
        ("≤ 0.5", 2.0),
        ("< 0.25 s", None),
        ("", None),
    ],
)
def test_what_is_asked_is_a_least_speed(asked: str, least: float | None) -> None:
    assert row(asked=asked).least == (pytest.approx(least) if least else None)


def test_a_row_is_met_if_its_speed_and_its_memory_are() -> None:
    assert row(asked=">= 4").met is True
    assert row(asked=">= 4.1").met is False
    assert row(asked=">= 4", memory=299.0, memory_asked=300.0).met is True
    assert row(asked=">= 4", memory=301.0, memory_asked=300.0).met is False
    assert row(asked="about 1").met is None


def test_the_rate_is_that_of_the_medians_and_the_share_that_of_the_limit() -> None:
    one = row(load=products(100, 200, 50), limit=4e6)
    assert one.rate == 2 * 100 * 200 * 50 / 2.0
    assert one.share == 0.25
    assert row().share is None


def test_pairs_alternate_and_a_part_counts_for_the_whole() -> None:
    calls: list[str] = []

    def theirs() -> None:
        calls.append("peer")
        time.sleep(0.02)

    found = measure.compare(
        "work", lambda: calls.append("embreg"), "peer", theirs, asked="", times=2, part=0.25
    )
    assert calls == ["embreg", "peer"] * 2
    assert found.theirs >= 0.08
    assert len(found.ratios) == 2
    assert found.memory is None


def test_memory_is_what_the_work_added_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = measure.grown("kept = b'x' * 80_000_000", "more = b'x' * 40_000_000", cwd=tmp_path)
    assert 38 < found.mb < 60
    again = measure.grown(
        "calls = []", "calls.append(1)\nopen(str(len(calls)), 'w')", cwd=tmp_path, again_below=9.0
    )
    assert again.seconds < 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with code 1: (.|\n)*ZeroDivisionError"):
        measure.grown("", "1 / 0", cwd=tmp_path)


# -- answers held beside a peer's ---------------------------------------------------------------------------


def test_answers_may_differ_where_rows_tie_and_nowhere_else() -> None:
    base = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    asked = base[[3]]
    scores = np.array([[0.6, 0.6]], dtype=np.float32)
    same = _differences((np.array([[0, 1]]), scores), (np.array([[1, 0]]), scores), asked, base)
    assert same[:2] == (2, 0)
    assert "identical, but for 2 places where rows tie" in _agreement([same], 1)
    other = _differences((np.array([[0, 1]]), scores), (np.array([[0, 2]]), scores), asked, base)
    assert other[:2] == (1, 1)
    assert _agreement([same, other], 2).startswith("DIFFERENT ANSWERS: 1 places of 2 lists")
    far = _differences((np.array([[0, 1]]), scores), (np.array([[0, 1]]), scores + 1e-4), asked, base)
    assert _agreement([far], 1).startswith("DIFFERENT ANSWERS")


def test_a_row_is_left_out_of_its_own_list() -> None:
    rows = np.array([[5, 1, 2], [3, 6, 4], [0, 1, 2]])
    scores = np.arange(9, dtype=np.float32).reshape(3, 3)
    kept_scores, kept = _without_self(scores, rows, 5)
    assert kept.tolist() == [[1, 2], [3, 4], [0, 1]]
    assert kept_scores.tolist() == [[1, 2], [3, 5], [6, 7]]


def test_the_peer_of_hubness_computes_the_same() -> None:
    pytest.importorskip("gensim", reason="gensim is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from bench.practitioner import hubness_of
    from embreg import EmbeddingTable
    from embreg.evals.subject import Subject
    from embreg.evals.suites import hubness

    x = np.random.default_rng(0).standard_normal((400, 20), dtype=np.float32)
    found = hubness.run(
        Subject(EmbeddingTable.from_arrays(None, x)), hubness.Params(), np.random.default_rng(0)
    )
    assert {m.metric: m.value for m in found.measures} == pytest.approx(hubness_of(x, 10))


# -- the page -----------------------------------------------------------------------------------------------


def rendered(*rows: Row, **more: object) -> str:
    fixed = {"machine": "a CPU", "versions": "numpy 2", "date": "2026-01-31", "commit": "abc"}
    return page.render(rows, **(fixed | more))  # type: ignore[arg-type]


def cells(text: str, work: str) -> list[str]:
    (line,) = [line for line in text.split("\n") if line.startswith(f"| {work} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_line_of_the_page_tells_all_of_a_row() -> None:
    full = row(
        load=Load(of="compute", amount=4e11), limit=4e11, memory=120.4, memory_asked=300.0, peer_memory=7.0
    )
    assert cells(rendered(full), "self-join") == [
        "self-join", "2.00 s", "faiss, 6.00 s", "4.00x (2.00–5.00)", "≥ 3x, ≤ 300 MB", "✓",
        "200 GFLOP/s", "50%", "120 MB (7)",
    ]  # fmt: skip


def test_ratios_and_times_are_said_in_one_way() -> None:
    text = rendered(row("register", asked="<= 1.3", ratios=(1.25,)), row("help", asked="< 0.25 s"))
    assert cells(text, "register")[3:6] == ["0.80x (one pair)", "≥ 0.769x", "✓"]
    assert cells(text, "help")[4:6] == ["< 0.25 s", ""]


def test_every_line_has_as_many_cells_as_the_head() -> None:
    text = rendered(row(), row("a | b"), row("c", memory=1.0))
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len(lines) == 5
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_page_says_where_it_falls_short_and_why() -> None:
    rows = row("a join"), row("a search", asked=">= 9"), row("moments", memory=400.0, memory_asked=300.0)
    text = rendered(*rows, shortfalls={"search": "The disk binds.", "join": "not shown"})
    assert "- a search: 4.00x (2.00–5.00), asked ≥ 9x. The disk binds." in text
    assert "- moments: 400 MB, asked 300. Not explained yet." in text
    assert "not shown" not in text
    assert "falls short" not in rendered(row())


def test_the_page_names_the_machine_the_failed_the_slower_and_the_notes() -> None:
    failed, slower = {"moments": "ended with code -9"}, ["self-join: 2x"]
    text = rendered(row(note="same answers"), failed=failed, slower=slower, growth="growth.md")
    for told in (
        "Machine: a CPU.",
        "commit abc",
        "- moments: ended with code -9",
        "- self-join: 2x",
        "- self-join: same answers.",
        "(growth.md)",
    ):
        assert told in text
    assert "No row is slower" in rendered(row())


@given(st.floats(1e-6, 1e6))
def test_seconds_keep_three_digits_or_so(value: float) -> None:
    number, unit = page.seconds(value).split()
    assert float(number) * (1e-3 if unit == "ms" else 1) == pytest.approx(value, rel=0.006)


def test_a_row_survives_its_file() -> None:
    for one in (row(), row(load=products(1, 2, 3), limit=1.5, memory=2.0, note="ü")):
        assert page.from_json(json.loads(json.dumps(page.to_json(one)))) == one


# -- the history --------------------------------------------------------------------------------------------


def entry(faster: float, spread: float = 0.0, **changed: object) -> history.Entry:
    values = {"date": "2026-01-31T00:00:00+00:00", "commit": "abc", "machine": "m", "work": "w", "peer": "p",
              "faster": faster, "low": faster - spread / 2, "high": faster + spread / 2, "seconds": 1.0,
              "peer_seconds": faster}  # fmt: skip
    return history.Entry(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (entry(4.0, 0.5), entry(3.4, 0.4), True),
        (entry(4.0, 0.5), entry(3.6, 0.1), False),  # within the spread of the one
        (entry(4.0, 0.1), entry(3.6, 0.5), False),  # within the spread of the other
        (entry(4.0), entry(3.7), True),
        (entry(4.0), entry(3.81), False),  # within a twentieth
        (entry(4.0), entry(8.0), False),
        (entry(4.0), entry(1.0, machine="n"), False),
        (entry(4.0), entry(1.0, work="v"), False),
        (entry(4.0), entry(1.0, peer="q"), False),
    ],
)
def test_a_row_became_slower_if_it_is_worse_by_more_than_either_spread(
    before: history.Entry, now: history.Entry, said: bool
) -> None:
    assert bool(history.slower([now], [before])) is said


def test_a_row_is_compared_with_its_last_entry() -> None:
    assert not history.slower([entry(2.0)], [entry(4.0), entry(2.0)])
    (found,) = history.slower([entry(2.0)], [entry(2.0), entry(4.0, commit="later")])
    assert "before 4.00" in str(found)
    assert "later" in str(found)


def test_a_history_is_only_added_to(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert history.read(file) == []
    history.append([entry(1.0), entry(2.0, memory=3.5)], file)
    first = file.read_text()
    history.append([entry(3.0)], file)
    assert file.read_text().startswith(first)
    assert history.read(file) == [entry(1.0), entry(2.0, memory=3.5), entry(3.0)]


def test_an_entry_holds_the_figures_of_its_row() -> None:
    (found,) = history.entries([row(memory=12.345)])
    assert (found.faster, found.low, found.high, found.seconds, found.memory) == (4.0, 2.0, 5.0, 2.0, 12.3)
    assert found.machine == hardware()
    assert found.commit


def test_the_history_of_the_project_can_be_read() -> None:
    assert all(entry.faster > 0 for entry in history.read())


# -- slopes and charts --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.floats(-3, 3), st.floats(1e-3, 1e3), st.lists(st.integers(1, 10**6), min_size=2, unique=True))
def test_the_slope_of_a_power_law_is_its_exponent(power: float, factor: float, sizes: list[int]) -> None:
    assert chart.slope([(float(n), factor * float(n) ** power) for n in sizes]) == pytest.approx(
        power, abs=1e-6
    )


def test_the_slope_is_that_of_least_squares() -> None:
    # log2 y = 0, 1, 5 over log2 x = 0, 1, 2: the slope is (5 - 0) / 2.
    assert chart.slope([(1, 1), (2, 2), (4, 32)]) == pytest.approx(2.5)


def test_one_size_has_no_slope() -> None:
    assert chart.slope([(10.0, 1.0)]) is None
    assert chart.slope([(10.0, 1.0), (10.0, 2.0)]) is None


def panel(*names: str) -> chart.Panel:
    lines = tuple(chart.Line(name=name, points=((10.0, 0.1), (1e5, 3.0))) for name in names)
    return chart.Panel(title="time", across="rows", up="s", lines=lines)


def test_a_chart_is_well_formed_and_draws_every_line_in_one_colour() -> None:
    tree = ElementTree.fromstring(chart.svg("a < b & c", [panel("one", "two"), panel("two")]))
    assert tree.find(f"{SVG}title").text == "a < b & c"  # type: ignore[union-attr]
    told = [text.text for text in tree.iter(f"{SVG}text")]
    assert told.count("one") == told.count("two") == 1
    for name, shown in (("c0", 1), ("c1", 2)):
        groups = [g for g in tree.iter(f"{SVG}g") if g.get("class") == name]
        assert len(groups) == shown + 1  # and in the legend
    with pytest.raises(ValueError, match="7 lines"):
        chart.svg("too many", [panel(*"abcdefg")])


def test_what_is_drawn_lies_within_the_chart() -> None:
    tree = ElementTree.fromstring(chart.svg("t", [panel("one")]))
    width, height = (float(tree.get(side, "0")) for side in ("width", "height"))
    dots = [(float(c.get("cx", "-1")), float(c.get("cy", "-1"))) for c in tree.iter(f"{SVG}circle")]
    assert len(dots) == 3
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    # More rows are further right, more seconds further up.
    assert dots[0][0] < dots[1][0]
    assert dots[0][1] > dots[1][1]


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1, 1e6))
def test_an_axis_has_ticks_within_its_ends(low: float, ratio: float) -> None:
    axis = chart._Axis.over([low, low * ratio], 0.0, 100.0)
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= axis.place(tick) <= 100 + 1e-6 for tick in ticks)
    assert len(ticks) >= 1 or ratio < 3


def test_numbers_on_an_axis_are_short() -> None:
    assert [chart.plain(v) for v in (0.01, 20, 1e3, 3e5, 1e6)] == ["0.01", "20", "1k", "300k", "1M"]


def curves() -> list[growth.Curve]:
    taken = tuple(growth.Grown(seconds=s, mb=m) for s, m in ((0.1, 5.0), (0.4, 10.0), (1.6, 20.0)))
    return [
        growth.Curve(operation=o, along=along, sizes=(10_000, 20_000, 40_000), taken=taken)
        for o in growth.OPERATIONS
        for along in ("rows", "dimensions")
    ]


def test_the_page_of_growth_tells_the_slopes() -> None:
    text = growth.render(curves(), machine="m", versions="v", date="d", commit="c", width=128)
    line = "| moments | 10,000 … 40,000 | 2.00 | 1 | 1.00 | 1.6 s, 20 MB |"
    assert line in text
    assert text.count("](performance-growth-") == 2
    for along in ("rows", "dimensions"):
        ElementTree.fromstring(growth.chart(curves(), along))


def test_growth_foresees_its_next_point() -> None:
    assert growth._next([10, 20], [1.0, 4.0], 40) == pytest.approx(16.0)
    assert growth._next([10, 20], [1.0, 0.5], 40) == pytest.approx(0.5)


def test_an_operation_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    bad = growth.Operation(name="bad", setup="", work="1 / 0", fixed=1, expected=("1", "1"))
    good = growth.Operation(
        name="good", setup="x = {n} * {d}", work="x + 1", fixed=1, expected=("1", "1"), most=20_000
    )
    found, failed = growth.measure([bad, good], 0.0, 2)
    assert failed
    assert [(c.operation.name, c.along, c.sizes) for c in found] == [
        ("good", "rows", (10_000, 20_000)), ("good", "dimensions", (50, 128))
    ]  # fmt: skip
    assert "FAILED: bad, rows" in capsys.readouterr().err


# -- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> Places:
    target = tmp_path / "performance.md"
    target.write_text("as it was")
    return Places(page=target, history=tmp_path / "history.jsonl", out=tmp_path / "out")


def test_a_whole_run_writes_the_page_and_the_history(places: Places) -> None:
    assert finish(Run(rows=[row()]), places, whole=True) == 0
    assert "| self-join |" in places.page.read_text()
    assert [e.work for e in history.read(places.history)] == ["self-join"]


def test_a_run_of_some_rows_leaves_the_page_as_it_was(places: Places) -> None:
    assert finish(Run(rows=[row()]), places, whole=False) == 0
    assert places.page.read_text() == "as it was"
    assert not places.history.exists()
    assert "| self-join |" in (places.out / "performance.md").read_text()


def test_an_interrupted_run_keeps_what_was_measured_beside_the_page(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(Run(rows=[row()], interrupted=True), places, whole=True) == 130
    assert places.page.read_text() == "as it was"
    assert "| self-join |" in (places.out / "performance.md").read_text()
    assert "interrupted" in capsys.readouterr().err


def test_a_failed_row_is_named_and_the_others_are_written(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(Run(rows=[row()], failed={"moments": "no memory"}), places, whole=True) == 1
    assert "- moments: no memory" in places.page.read_text()
    assert "| self-join |" in places.page.read_text()
    assert "FAILED: moments no memory" in capsys.readouterr().err


def test_a_later_run_says_what_became_slower(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    finish(Run(rows=[row(ratios=(0.1,))]), places, whole=True)
    finish(Run(rows=[row(ratios=(0.2,))]), places, whole=True)
    assert "SLOWER than in the last run: self-join: 5.00 times" in capsys.readouterr().err
    assert "- self-join: 5.00 times as fast as faiss" in places.page.read_text()
    assert len(history.read(places.history)) == 2


def test_the_page_can_be_written_again(places: Places) -> None:
    finish(Run(rows=[row()]), places, whole=True)
    first = places.page.read_text()
    places.page.write_text("lost")
    assert main(["--page"], places) == 0
    assert places.page.read_text() == first


def test_rows_that_fail_do_not_stop_the_others() -> None:
    run = measure_all(["no-such", "nor-this"], quick=True)
    assert list(run.failed) == ["no-such", "nor-this"]
    assert "KeyError: 'no-such'" in run.failed["no-such"]


def test_an_interruption_ends_the_run_and_what_it_started(tmp_path: Path) -> None:
    # A job in the background ignores the signal, and so does what it starts.
    code = """
import signal, sys
from bench.__main__ import measure
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(measure(["moments"], quick=True).interrupted)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    started = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env)
    while not list(tmp_path.glob("embreg-bench-*/errors")) and started.poll() is None:
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    assert started.wait(20) == 1
    assert not list(tmp_path.iterdir())


# -- arguments ----------------------------------------------------------------------------------------------


def test_help_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for name, work in ROWS.items():
        assert f"  {name}" in told
        assert str(work.__doc__).strip().split("\n")[0] in told
    assert "--quick" in told


@pytest.mark.parametrize("words", [["no-such"], ["--page"]])
def test_what_cannot_be_done_is_refused(words: list[str], places: Places) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words, places)
    assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        growth.main(["no-such"])


def test_the_machine_is_described() -> None:
    assert re.search(r", \d+ cores, \d+ GiB, ", hardware())
    assert f"numpy {np.__version__}" in versions()
    assert "threads" in versions()
