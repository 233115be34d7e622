"""What was measured before: one line per row and run, and what a later run found slower."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .hardware import hardware
from .measure import Row

FILE = Path(__file__).parent / "history.jsonl"
#: Changes below this share of the ratio are what one machine differs by from day to day.
_NOISE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of one run.

    Attributes:
        date: of the run, UTC, as ISO 8601.
        commit: of the code, with a ``+`` where files were changed since.
        machine: its hardware; only runs on equal ones are compared.
        work, peer: of the row.
        faster, low, high: how many times as fast as the peer: the median of the pairs, the least, the most.
        seconds, peer_seconds: medians.
        memory: of embreg in MB; None where it was not measured.
    """

    date: str
    commit: str
    machine: str
    work: str
    peer: str
    faster: float
    low: float
    high: float
    seconds: float
    peer_seconds: float
    memory: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """A row that is slower beside its peer than it was."""

    now: Entry
    before: Entry

    def __str__(self) -> str:
        at = f"{self.before.date[:10]}, {self.before.commit}"
        return (
            f"{self.now.work}: {self.now.faster:.2f} times as fast as {self.now.peer}"
            f" ({self.now.low:.2f}–{self.now.high:.2f}), before {self.before.faster:.2f}"
            f" ({self.before.low:.2f}–{self.before.high:.2f}; {at})"
        )


def entries(rows: Iterable[Row]) -> list[Entry]:
    """Return what is kept of the rows of a run that has just ended."""
    now, at, here = datetime.now(UTC).isoformat(timespec="seconds"), commit(), hardware()
    return [_entry(row, now, at, here) for row in rows]


def _entry(row: Row, now: str, at: str, here: str) -> Entry:
    faster, low, high = (round(value, 4) for value in row.faster)
    return Entry(
        date=now,
        commit=at,
        machine=here,
        work=row.work,
        peer=row.peer,
        faster=faster,
        low=low,
        high=high,
        seconds=round(row.ours, 4),
        peer_seconds=round(row.theirs, 4),
        memory=None if row.memory is None else round(row.memory, 1),
    )


def read(file: Path = FILE) -> list[Entry]:
    """Return all entries, the oldest first; none where there is no file."""
    if not file.exists():
        return []
    return [Entry(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line]


def append(new: Iterable[Entry], file: Path = FILE) -> None:
    """Write entries after those that are there."""
    with file.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in new)


def slower(now: Sequence[Entry], past: Sequence[Entry]) -> list[Slower]:
    """Return the rows that fell behind their last entry on an equal machine.

    A row fell behind if its ratio to the peer is worse by more than the spread of either run, and by more
    than a twentieth.
    """
    last = {(entry.machine, entry.work, entry.peer): entry for entry in past}
    found = []
    for entry in now:
        before = last.get((entry.machine, entry.work, entry.peer))
        if before is not None and before.faster - entry.faster > _tolerance(before, entry):
            found.append(Slower(now=entry, before=before))
    return found


def _tolerance(before: Entry, now: Entry) -> float:
    return max(before.high - before.low, now.high - now.low, _NOISE * before.faster)


def commit() -> str:
    """Return the short name of the commit, with a ``+`` where files were changed since; or ``unknown``."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
            cwd=FILE.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
