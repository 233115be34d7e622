"""How things are timed: alternately, several times, in fresh processes where start-up or memory counts."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Runs a command and prints, last of all, its peak resident memory: getrusage would report the parent's.
_PEAK = """
import atexit, re, sys
from pathlib import Path
@atexit.register
def _tell():
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: ours against the peer's, medians in seconds, and what was asked of the ratio."""

    work: str
    peer: str
    ours: float
    theirs: float
    spread: str
    asked: str
    note: str = ""

    @property
    def ratio(self) -> float:
        """Our time over the peer's: below 1 is faster."""
        return self.ours / self.theirs


def compare(
    work: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    *,
    asked: str,
    times: int = 3,
    note: str = "",
) -> Row:
    """Time two functions alternately, after one unmeasured run of each where they are quick."""
    mine, others = [], []
    for _ in range(times):
        mine.append(seconds(ours))
        others.append(seconds(theirs))
    ratios = sorted(a / b for a, b in zip(mine, others, strict=True))
    return Row(
        work=work,
        peer=peer,
        ours=statistics.median(mine),
        theirs=statistics.median(others),
        spread=f"{ratios[0]:.2f}–{ratios[-1]:.2f}",
        asked=asked,
        note=note,
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def python(code: str, *, cwd: Path) -> tuple[str, int]:
    """Run Python code in a fresh process; return its output and its peak resident memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK + code], cwd=cwd, capture_output=True, text=True, check=True
    )
    peak = re.search(r"PEAK (\d+)", done.stderr)
    return done.stdout, int(peak[1]) // 1024 if peak else 0


def machine() -> str:
    """Return the machine in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
