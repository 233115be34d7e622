"""``make bench-growth``: time and memory against rows and dimensions, into docs/performance-growth.md.

Every point is a process of its own, which makes its table, does the work on a few rows, and is then timed:
the best of three where it takes less than a second. Memory is how far it grew meanwhile. An operation goes to
larger tables until its share of the time is spent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .chart import Line, Panel, slope, svg
from .hardware import machine, versions
from .history import commit
from .measure import Grown, grown

DOCS = Path(__file__).parent.parent / "docs"
PAGE = "performance-growth.md"
ROWS = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
WIDTHS = (50, 128, 256, 512, 1024)
#: Seconds for one curve, and below which a point is measured again.
BUDGET, QUICK_BUDGET, _SHORT = 25.0, 5.0, 1.0
#: The least memory that is drawn: a process grows by less now and then.
_LEAST_MB = 0.1
_TABLE = """
import numpy as np
x = np.random.default_rng(0).standard_normal(({n}, {d}), dtype=np.float32)
"""
#: A registry for each time: what is registered twice is written once.
_REGISTER = """
import embreg
np.save("x.npy", x)
np.save("few.npy", x[:100])
del x
registries = [embreg.connect(f"r{{i}}", create=True) for i in range(4)]
registries.pop().register("few", "few.npy")
"""
_SUITE = (
    """
from embreg import EmbeddingTable
from embreg.evals.subject import Subject
from embreg.evals.suites import hubness
table = EmbeddingTable.from_arrays(None, x)
hubness.run(Subject(EmbeddingTable.from_arrays(None, x[:100])), hubness.Params(), np.random.default_rng(0))
""",
    "hubness.run(Subject(table), hubness.Params(), np.random.default_rng(0))",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something whose growth is watched.

    Attributes:
        name: as the charts call it.
        setup, work: code that is run before, and timed; ``{n}`` and ``{d}`` are filled in.
        fixed: rows where the width varies.
        expected: exponents of time in rows and in dimensions, by the operations that must be done.
        least, most: rows where these vary.
    """

    name: str
    setup: str
    work: str
    fixed: int
    expected: tuple[str, str]
    least: int = ROWS[0]
    most: int = ROWS[-1]

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows that it is measured at."""
        return [n for n in ROWS if self.least <= n <= self.most]


OPERATIONS = (
    Operation(
        name="self-join, k=10",
        setup=f"{_TABLE}from embreg.evals import knn\nknn.self_neighbors(x[:100], 10)",
        work="knn.self_neighbors(x, 10)",
        fixed=20_000,
        expected=("2", "1"),
        most=200_000,
    ),
    Operation(
        name="1,000 queries, k=10",
        setup=f"{_TABLE}from embreg.evals import knn\n"
        "q = x[:1000] + np.float32(0.1)\nknn.neighbors(q[:9], x[:99], 9)",
        work="knn.neighbors(q, x, 10)",
        fixed=100_000,
        expected=("1", "1"),
    ),
    Operation(
        name="moments",
        setup=f"{_TABLE}from embreg.evals.moments import Moments\nMoments.of(x[:100])",
        work="Moments.of(x)",
        fixed=100_000,
        expected=("1", "2"),
    ),
    Operation(
        name="register a .npy",
        setup=_TABLE + _REGISTER,
        work="registries.pop().register('x', 'x.npy')",
        fixed=100_000,
        expected=("1", "1"),
    ),
    Operation(
        name="hubness, every row asked",
        setup=_TABLE + _SUITE[0],
        work=_SUITE[1],
        fixed=20_000,
        expected=("2", "1"),
        most=50_000,
    ),
    Operation(
        name="hubness, 10,000 rows asked",
        setup=_TABLE + _SUITE[0],
        work=_SUITE[1],
        fixed=100_000,
        expected=("1", "1"),
        least=100_000,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What an operation took at growing sizes.

    Attributes:
        along: ``rows`` or ``dimensions``.
        sizes: of the points; ``taken`` at each.
    """

    operation: Operation
    along: str
    sizes: tuple[int, ...]
    taken: tuple[Grown, ...]

    def points(self, what: str) -> tuple[tuple[float, float], ...]:
        """Return (size, seconds) or (size, MB)."""
        values = [max(getattr(t, what), _LEAST_MB if what == "mb" else 1e-6) for t in self.taken]
        return tuple(zip(map(float, self.sizes), values, strict=True))


def curve(operation: Operation, along: str, budget: float, width: int) -> Curve:
    """Measure an operation at growing sizes until the next would go over the time that is left.

    Args:
        operation: what is done.
        along: ``rows`` at one width, or ``dimensions`` at its fixed number of rows.
        budget: seconds of measuring and preparing.
        width: where the rows vary.
    """
    sizes: list[int] = []
    taken: list[Grown] = []
    spent: list[float] = []
    for size in WIDTHS if along == "dimensions" else operation.sizes:
        if len(sizes) >= 2 and sum(spent) + _next(sizes, spent, size) > budget:
            break
        n, d = (size, width) if along == "rows" else (operation.fixed, size)
        start = time.perf_counter()
        taken.append(_measured(operation, n, d))
        spent.append(time.perf_counter() - start)
        sizes.append(size)
        print(f"{operation.name}, {n:,} x {d}: {taken[-1].seconds:.3f} s, {taken[-1].mb:.1f} MB", flush=True)
    return Curve(operation=operation, along=along, sizes=tuple(sizes), taken=tuple(taken))


def _next(sizes: Sequence[int], spent: Sequence[float], size: int) -> float:
    """Return how long the next point will take, by the growth of the last two."""
    power = slope(list(zip(sizes, spent, strict=True))[-2:]) or 0.0
    return spent[-1] * (size / sizes[-1]) ** max(power, 0.0)


def _measured(operation: Operation, n: int, d: int) -> Grown:
    setup, work = (code.format(n=n, d=d) for code in (operation.setup, operation.work))
    with tempfile.TemporaryDirectory(prefix="embreg-growth-") as folder:
        return grown(setup, work, cwd=Path(folder), again_below=_SHORT)


_HEAD = """\
# How time and memory grow

Written by `make bench-growth`. Every point is a fresh process: time is the best of three where it is below a
second, memory is how far the process grew beyond its table. The slope is the exponent of a power law fitted
to all points of a line; where fixed costs weigh, it stays below what the operations alone would give. Tables
are random; a line ends where the next point would have taken too long."""


def render(
    curves: Sequence[Curve], *, machine: str, versions: str, date: str, commit: str, width: int
) -> str:
    """Return the page that shows the charts and the slopes."""
    lines = [_HEAD, "", f"Machine: {machine}.", f"Packages: {versions}.", f"Run of {date}, commit {commit}."]
    for along, fixed in (("rows", f"{width} dimensions"), ("dimensions", "the rows of the table below")):
        own = [c for c in curves if c.along == along]
        lines += ["", f"## Against {along}, at {fixed}", ""]
        lines += [f"![time and memory against {along}]({_svg(along)})", ""]
        lines += ["| work | sizes | slope of time | by the operations | slope of memory | largest |",
                  "|---|---|---:|---:|---:|---|"]  # fmt: skip
        lines += [_line(c) for c in own]
    return "\n".join(lines) + "\n"


def _line(curve: Curve) -> str:
    expected = curve.operation.expected[curve.along == "dimensions"]
    sizes = f"{curve.sizes[0]:,} … {curve.sizes[-1]:,}"
    if curve.along == "dimensions":
        sizes += f" of {curve.operation.fixed:,} rows"
    last = curve.taken[-1]
    slopes = [_told(slope(curve.points(what))) for what in ("seconds", "mb")]
    largest = f"{last.seconds:.3g} s, {last.mb:,.0f} MB"
    return f"| {curve.operation.name} | {sizes} | {slopes[0]} | {expected} | {slopes[1]} | {largest} |"


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _svg(along: str) -> str:
    return f"performance-growth-{along}.svg"


def chart(curves: Sequence[Curve], along: str) -> str:
    """Return the chart of time and of memory along one axis."""
    own = [c for c in curves if c.along == along and len(c.sizes) > 1]
    panels = [
        Panel(
            title=title,
            across=along,
            up=unit,
            lines=tuple(Line(name=c.operation.name, points=c.points(what)) for c in own),
        )
        for title, unit, what in (("time", "s", "seconds"), ("memory beyond the table", "MB", "mb"))
    ]
    return svg(f"time and memory against {along}", panels)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and write the page and its charts."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=_first(__doc__ or ""))
    parser.add_argument("operations", nargs="*", metavar="PART", help="of a name; all operations by default")
    parser.add_argument("--quick", action="store_true", help="few points, about a minute; prints only")
    asked = parser.parse_args(words)
    chosen = [o for o in OPERATIONS if not asked.operations or any(p in o.name for p in asked.operations)]
    if not chosen:
        parser.error(f"no such operation; there are {', '.join(o.name for o in OPERATIONS)}")
    budget, width = (QUICK_BUDGET if asked.quick else BUDGET), 128
    curves, failed = measure(chosen, budget, width)
    whole = len(curves) == 2 * len(OPERATIONS) and not asked.quick
    target = DOCS if whole else Path(__file__).parent / "out"
    if curves:
        _write(curves, target, width)
    return 1 if failed else 0


def measure(operations: Sequence[Operation], budget: float, width: int) -> tuple[list[Curve], bool]:
    """Measure operations along both axes; return the curves, and whether one failed or was interrupted."""
    curves: list[Curve] = []
    failed = False
    for operation in operations:
        for along in ("rows", "dimensions"):
            try:
                curves.append(curve(operation, along, budget, width))
            except RuntimeError as exc:
                print(f"FAILED: {operation.name}, {along}: {exc}", file=sys.stderr)
                failed = True
            except KeyboardInterrupt:
                print("interrupted: the page is as it was", file=sys.stderr)
                return curves, True
    return curves, failed


def _write(curves: Sequence[Curve], target: Path, width: int) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    text = render(curves, machine=machine(), versions=versions(), date=today, commit=commit(), width=width)
    target.mkdir(exist_ok=True)
    for along in ("rows", "dimensions"):
        if any(c.along == along and len(c.sizes) > 1 for c in curves):
            (target / _svg(along)).write_text(chart(curves, along), encoding="utf-8")
    (target / PAGE).write_text(text, encoding="utf-8")
    print(f"written to {target / PAGE}")


def _first(text: str) -> str:
    return text.strip().split("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
