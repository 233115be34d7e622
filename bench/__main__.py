"""``make bench``: embreg and its peer on the same input, alternately; into docs/performance.md.

Every row runs in a process of its own. One that fails, or is killed, is reported, and the others go on. What
was measured lies in bench/out as soon as it is known, so an interruption loses nothing; the page and the
history are written at the end of a run of all rows only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import history, page
from .hardware import machine, versions
from .measure import Row
from .rows import ROWS
from .shortfalls import SHORTFALLS

HERE = Path(__file__).parent
GROWTH = "performance-growth.md"


@dataclass(slots=True)
class Run:
    """What a run has measured so far."""

    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def parser() -> argparse.ArgumentParser:
    """Return the arguments of the command."""
    told = "\n".join(f"  {name:<12}{_first(work)}" for name, work in ROWS.items())
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description="embreg and its peers on the same input, alternately: a table of ratios.",
        epilog=f"rows:\n{told}\n\nA run of all rows writes docs/performance.md and bench/history.jsonl;"
        " others print only.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("rows", nargs="*", metavar="ROW", help="what to measure; all by default")
    made.add_argument("--quick", action="store_true", help="smaller tables, one pair each, about two minutes")
    made.add_argument("--page", action="store_true", help="write the page anew from the last run of all rows")
    return made


def _first(work: Any) -> str:
    return (work.__doc__ or "").strip().split("\n")[0]


def measure(names: Sequence[str], *, quick: bool) -> Run:
    """Measure rows one after the other, each in a process of its own."""
    run = Run()
    for name in names:
        try:
            _measure_one(name, run, quick=quick)
        except KeyboardInterrupt:
            run.interrupted = True
            break
    return run


def _measure_one(name: str, run: Run, *, quick: bool) -> None:
    env = dict(os.environ) | ({"EMBREG_BENCH_QUICK": "1"} if quick else {})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="embreg-bench-") as folder:
        file, errors = Path(folder, "rows.jsonl"), Path(folder, "errors")
        work = Path(folder, "work")
        work.mkdir()
        words = [sys.executable, "-m", "bench.worker", name, str(work), str(file)]
        with (
            errors.open("wb") as stderr,
            # In a session of its own, so that an interruption ends what it has started as well.
            subprocess.Popen(
                words, cwd=HERE.parent, env=env, stderr=stderr, start_new_session=True
            ) as worker,
        ):
            try:
                code = worker.wait()
            finally:
                if worker.poll() is None:
                    os.killpg(worker.pid, signal.SIGTERM)
                    worker.wait()
                # What it has written by then counts, however it ended.
                run.rows += _read(file)
        if code:
            said = errors.read_text(errors="replace").strip()
            print(f"{name} FAILED\n{said}", file=sys.stderr, flush=True)
            last = said.split("\n")[-1] if said else ""
            run.failed[name] = f"ended with code {code}{': ' if last else ''}{last}"
    print(f"    [{name}: {time.perf_counter() - start:.0f} s]", flush=True)


def _read(file: Path) -> list[Row]:
    if not file.exists():
        return []
    return [page.from_json(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a run is written to.

    Attributes:
        page, history: of a run of all rows.
        out: of any run, also where it broke off; not under version control.
    """

    page: Path = HERE.parent / "docs" / "performance.md"
    history: Path = history.FILE
    out: Path = HERE / "out"

    @property
    def last(self) -> Path:
        """What the last run of all rows measured, to write the page from."""
        return self.out / "last.json"


def finish(run: Run, places: Places, *, whole: bool) -> int:
    """Write down what a run measured, say what became slower, and return the exit code.

    Args:
        run: the rows.
        places: where to.
        whole: whether all rows were asked for, at their full sizes.
    """
    now = history.entries(run.rows)
    slower = list(map(str, history.slower(now, history.read(places.history))))
    for one in slower:
        print(f"SLOWER than in the last run: {one}", file=sys.stderr)
    measured = {
        "rows": [page.to_json(row) for row in run.rows],
        "failed": run.failed,
        "slower": slower,
        "machine": machine(),
        "versions": versions(),
        "date": now[0].date[:10] if now else "",
        "commit": now[0].commit if now else "",
    }
    if run.rows:
        places.out.mkdir(exist_ok=True)
        _write(measured, places.out / "performance.md", places)
        told = places.out / "performance.md"
        if whole and not run.interrupted:
            places.last.write_text(json.dumps(measured, ensure_ascii=False), encoding="utf-8")
            history.append(now, places.history)
            _write(measured, places.page, places)
            told = places.page
        print(f"written to {told}")
    for name, why in run.failed.items():
        print(f"FAILED: {name} {why}", file=sys.stderr)
    if run.interrupted:
        print(f"interrupted: {places.page.name} is as it was", file=sys.stderr)
        return 130
    return 1 if run.failed else 0


def _write(measured: dict[str, Any], target: Path, places: Places) -> None:
    rows = [page.from_json(row) for row in measured["rows"]]
    rest = {name: value for name, value in measured.items() if name != "rows"}
    growth = GROWTH if (places.page.parent / GROWTH).exists() else None
    text = page.render(rows, **rest, shortfalls=SHORTFALLS, growth=growth)
    fresh = target.with_suffix(".md.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)


def main(words: Sequence[str] | None = None, places: Places | None = None) -> int:
    """Run what is asked; return the exit code."""
    places = places or Places()
    asked = parser().parse_args(words)
    unknown = [name for name in asked.rows if name not in ROWS]
    if unknown:
        parser().error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if asked.page:
        if not places.last.exists():
            parser().error("there is no run to write the page from: 'make bench' first")
        _write(json.loads(places.last.read_text(encoding="utf-8")), places.page, places)
        return 0
    run = measure(asked.rows or list(ROWS), quick=asked.quick)
    return finish(run, places, whole=not asked.rows and not asked.quick)


if __name__ == "__main__":
    sys.exit(main())
