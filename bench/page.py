"""docs/performance.md, out of the rows of a run: pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .hardware import Load
from .measure import Row

_HEAD = """\
# Performance

Written by `make bench`. Each row runs embreg and its peer on the same input in one process order, alternately
and several times. **Speed** is the peer's time over embreg's, the median of the pairs and, in brackets, the
least and the most of them: 2.00x is twice as fast, 0.50x takes twice as long. Seconds are medians. What was
asked is said in the same way: at most 1.3 times the peer's time is a speed of at least 0.77x.

**Rate** counts the operations or bytes that the work asks for as it is defined (all products of rows and
columns, those of a symmetric table twice), whatever is really done. **Of limit** holds it against what this
machine does at most, measured before each pair: numpy's float32 matrix product for GFLOP/s; a copy of 256 MiB
(bytes read and written), or writing and reading a file of 512 MiB through to the disk, for GB/s. It exceeds
100% where fewer or cheaper operations give the same answer. **Memory** is how far the process grew, or the
peak of a process of its own where the notes say so; the peer's is in brackets."""
_COLUMNS = "| work | embreg | peer | speed | asked | | rate | of limit | memory |"
_RULE = "|---|---:|---|---:|---:|---|---:|---:|---:|"
_MARKS = {True: "✓", False: "✗", None: ""}


def render(
    rows: Sequence[Row],
    *,
    machine: str,
    versions: str,
    date: str,
    commit: str,
    failed: Mapping[str, str] | None = None,
    slower: Sequence[str] = (),
    shortfalls: Mapping[str, str] | None = None,
    growth: str | None = None,
) -> str:
    """Return the page.

    Args:
        rows: in their order.
        machine, versions: on what they were measured, in one line each.
        date, commit: of the run.
        failed: names of rows that could not be measured, and why.
        slower: what is slower than in the last run on this machine, a line each.
        shortfalls: by a part of the work's name, why a row is not what was asked, and what would be next.
        growth: address of the page about growth.
    """
    parts = [_HEAD, f"Machine: {machine}.\nPackages: {versions}.\nRun of {date}, commit {commit}."]
    parts.append("\n".join([_COLUMNS, _RULE, *map(_line, rows)]))
    if failed:
        parts += ["## Not measured in this run", _list(f"{name}: {why}" for name, why in failed.items())]
    parts += ["## Since the last run", _since(slower)]
    short = [row for row in rows if row.met is False]
    if short:
        parts += ["## Where it falls short", _list(_short(row, shortfalls or {}) for row in short)]
    noted = [f"{row.work}: {row.note}." for row in rows if row.note]
    if noted:
        parts += ["## Notes", _list(noted)]
    if growth:
        parts.append(f"How time and memory grow with rows and dimensions: [{growth}]({growth}).")
    return "\n\n".join(parts) + "\n"


def _line(row: Row) -> str:
    cells = [row.work, seconds(row.ours), f"{row.peer}, {seconds(row.theirs)}", speed(row), asked(row),
             _MARKS[row.met], rate(row), share(row), memory(row)]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(items: Any) -> str:
    return "\n".join(f"- {item}" for item in items)


def _since(slower: Sequence[str]) -> str:
    if not slower:
        return "No row is slower beside its peer than in the last run on an equal machine."
    told = "Slower beside the peer than in the last run on an equal machine, by more than either spread:"
    return f"{told}\n\n{_list(slower)}"


def _short(row: Row, shortfalls: Mapping[str, str]) -> str:
    why = [text for part, text in shortfalls.items() if part in row.work]
    missed = []
    if row.least is not None and row.faster[0] < row.least:
        missed.append(f"{speed(row)}, asked {asked(row)}")
    if row.memory is not None and row.memory_asked is not None and row.memory > row.memory_asked:
        missed.append(f"{row.memory:,.0f} MB, asked {row.memory_asked:,.0f}")
    return f"{row.work}: {'; '.join(missed)}. {' '.join(why) or 'Not explained yet.'}"


def console(row: Row) -> str:
    """Return a row in two lines of text."""
    first = f"{row.work}: {seconds(row.ours)}; {row.peer}: {seconds(row.theirs)}"
    cells = [speed(row), f"asked {asked(row)} {_MARKS[row.met]}" if row.asked else "", rate(row)]
    if row.share is not None:
        cells.append(f"{share(row)} of the limit")
    cells += [memory(row), row.note]
    return f"{first}\n    {'; '.join(cell.strip() for cell in cells if cell.strip())}"


def seconds(value: float) -> str:
    """Return a duration with three digits or so."""
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s" if value < 99.95 else f"{value:.0f} s"


def speed(row: Row) -> str:
    """Return how many times as fast as the peer a row is: ``3.12x (3.02–3.20)``."""
    median, low, high = row.faster
    spread = row.spread if not row.ratios else f"{low:.2f}–{high:.2f}" if len(row.ratios) > 1 else "one pair"
    return f"{median:.2f}x ({spread})" if spread else f"{median:.2f}x"


def asked(row: Row) -> str:
    """Return what was asked of a row, in the same way."""
    told = [row.asked] if row.least is None and row.asked else []
    if row.least is not None:
        told.append(f"≥ {row.least:.3g}x")
    if row.memory_asked is not None:
        told.append(f"≤ {row.memory_asked:,.0f} MB")
    return ", ".join(told)


def rate(row: Row) -> str:
    """Return what embreg does in a second; empty where that was not asked."""
    return f"{row.rate / 1e9:.3g} {row.load.unit}" if row.rate and row.load else ""


def share(row: Row) -> str:
    """Return the share of the machine's limit."""
    return f"{row.share:.0%}" if row.share is not None else ""


def memory(row: Row) -> str:
    """Return embreg's memory, and the peer's in brackets."""
    if row.memory is None:
        return ""
    theirs = f" ({row.peer_memory:,.0f})" if row.peer_memory is not None else ""
    return f"{row.memory:,.0f} MB{theirs}"


def to_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values; ``from_json`` gives it back."""
    return asdict(row)


def from_json(values: Mapping[str, Any]) -> Row:
    """Read what ``to_json`` returned."""
    load = values.get("load")
    return Row(**{**values, "ratios": tuple(values["ratios"]), "load": Load(**load) if load else None})
