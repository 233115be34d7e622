"""How things are timed: alternately, several times, in fresh processes where start-up or memory counts."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .hardware import Load, machine

__all__ = ["QUICK", "Grown", "Load", "Row", "compare", "grown", "machine", "python", "seconds", "timed"]

#: Smaller tables and one pair of each: figures to look at, not to keep.
QUICK = "EMBREG_BENCH_QUICK" in os.environ
#: Runs a command and prints, last of all, its peak resident memory: getrusage would report the parent's.
_PEAK = """
import atexit, re, sys
from pathlib import Path
@atexit.register
def _tell():
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""
#: The same of a part of a program: the peak is set back before it, and what was there is taken off.
_GROWN = """
import json, re, time
from pathlib import Path
def _kib(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def _timed():
    start = time.perf_counter()
    _work()
    return time.perf_counter() - start
Path("/proc/self/clear_refs").write_text("5")
_before, _taken = _kib("VmRSS"), [_timed()]
_mb = max(_kib("VmHWM") - _before, 0) * 1024 / 1e6
if _taken[0] < {again_below}:
    _taken += [_timed(), _timed()]
print(json.dumps({{"seconds": min(_taken), "mb": _mb}}))
"""
_ASKED = re.compile(r"(<=|>=|≤|≥)?\s*([\d.]+)\s*(x|times)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        work, peer: what was done, and by whom else.
        ours, theirs: medians, in seconds.
        ratios: our time over the peer's, of each pair; empty where only medians are known.
        asked: what was asked: ``>= 3`` times as fast, or ``<= 1.3`` times the peer's time.
        note: what a reader should know of this row.
        load, limit: what the work asks of the machine, and how much of that it does in a second at most.
        memory, memory_asked: growth or peak of embreg's memory in MB, and its bound.
        peer_memory: the same of the peer.
        spread: of the ratios in words, where these are not given.
    """

    work: str
    peer: str
    ours: float
    theirs: float
    asked: str
    ratios: tuple[float, ...] = ()
    spread: str = ""
    note: str = ""
    load: Load | None = None
    limit: float | None = None
    memory: float | None = None
    memory_asked: float | None = None
    peer_memory: float | None = None

    @property
    def ratio(self) -> float:
        """The median of our time over the peer's: below 1 is faster."""
        return statistics.median(self.ratios) if self.ratios else self.ours / self.theirs

    @property
    def faster(self) -> tuple[float, float, float]:
        """How many times as fast as the peer: the median of the pairs, the least and the most."""
        all_ = [1 / ratio for ratio in self.ratios] or [1 / self.ratio]
        return 1 / self.ratio, min(all_), max(all_)

    @property
    def least(self) -> float | None:
        """How many times as fast as the peer it should be; None where something else is asked."""
        found = _ASKED.fullmatch(self.asked.strip())
        if found is None:
            return None
        number = float(found[2])
        return 1 / number if found[1] in ("<=", "≤") else number

    @property
    def met(self) -> bool | None:
        """Whether what was asked is so; None where nothing was asked that can be judged."""
        judged = []
        if self.least is not None:
            judged.append(self.faster[0] >= self.least)
        if self.memory is not None and self.memory_asked is not None:
            judged.append(self.memory <= self.memory_asked)
        return all(judged) if judged else None

    @property
    def rate(self) -> float | None:
        """Operations or bytes a second of embreg, as the definition of the work counts them."""
        return self.load.amount / self.ours if self.load else None

    @property
    def share(self) -> float | None:
        """Rate over the measured limit of the machine; above 1 where fewer or cheaper operations do."""
        return self.rate / self.limit if self.rate and self.limit else None


def compare(
    work: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    *,
    asked: str,
    times: int = 3,
    note: str = "",
    load: Load | None = None,
    part: float = 1.0,
    memory_asked: float | None = None,
    in_process: bool = False,
) -> Row:
    """Time two functions alternately, and the limit of the machine before each pair.

    Args:
        work, peer, asked, note: as in ``Row``.
        ours, theirs: what is timed.
        times: how many pairs; one of quick runs.
        load: what the work asks of the machine.
        part: how much of the work one call of ``theirs`` does; its time counts for the whole.
        memory_asked: bound of embreg's memory, in MB.
        in_process: whether both work in this process, so that its growth is their memory.
    """
    mine, others, limits = [], [], []
    with tempfile.TemporaryDirectory(prefix="embreg-limit-") as folder:
        for _ in range(1 if QUICK else times):
            if load is not None:
                limits.append(load.limit(Path(folder)))
            mine.append(timed(ours))
            others.append(timed(theirs))
    ours_s, theirs_s = [m.seconds for m in mine], [m.seconds / part for m in others]
    return Row(
        work=work,
        peer=peer,
        ours=statistics.median(ours_s),
        theirs=statistics.median(theirs_s),
        ratios=tuple(a / b for a, b in zip(ours_s, theirs_s, strict=True)),
        asked=asked,
        note=note,
        load=load,
        limit=statistics.median(limits) if limits else None,
        memory=max(m.mb for m in mine) if in_process else None,
        peer_memory=max(m.mb for m in others) if in_process else None,
        memory_asked=memory_asked,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """How long something took, and how far its process grew meanwhile, in MB (10^6 bytes)."""

    seconds: float
    mb: float


def timed(work: Callable[[], object]) -> Grown:
    """Call a function once, in this process, after what was freed went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _kib("VmRSS"), time.perf_counter()
    work()
    taken = time.perf_counter() - start
    return Grown(seconds=taken, mb=max(_kib("VmHWM") - before, 0) * 1024 / 1e6)


def grown(setup: str, work: str, *, cwd: Path, again_below: float = 0.0) -> Grown:
    """Run ``setup`` and then ``work`` in a fresh process; say what ``work`` alone took.

    Args:
        setup, work: Python code.
        cwd: where.
        again_below: seconds below which ``work`` is run twice more, and the shortest time counts.
    """
    body = textwrap.indent(work.strip(), "    ")
    code = "\n".join([setup, f"def _work():\n{body}", _GROWN.format(again_below=again_below)])
    return Grown(**json.loads(_output(code, cwd).stdout.splitlines()[-1]))


def _output(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a process ended with code {done.returncode}: {done.stderr.strip()}")
    return done


def _kib(what: str) -> int:
    found = re.search(what + r":\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def python(code: str, *, cwd: Path) -> tuple[str, int]:
    """Run Python code in a fresh process; return its output and its peak resident memory in MiB."""
    done = _output(_PEAK + code, cwd)
    peak = re.search(r"PEAK (\d+)", done.stderr)
    return done.stdout, int(peak[1]) // 1024 if peak else 0
