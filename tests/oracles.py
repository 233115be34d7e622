"""Oracles: an assertion that remembers how far apart the two answers were, and the table of what it saw.

``oracle.agrees`` compares numbers of embreg with those of an independent implementation: an installed
package, or a formula written out in the test in its plainest dense form. ``pytest -m oracle --oracles=FILE``
(``make oracles``) runs all such tests and writes the table; it fails where a metric of any suite has neither
an oracle nor a reason not to have one.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embreg.evals.runner import discover

#: Distributions that serve as oracles; every other one is called ``formula of PAPER``.
PACKAGES = frozenset(
    {
        "faiss-cpu", "gensim", "ir-measures", "IsoScore", "numpy", "pytrec-eval-terrier", "rbo",
        "scikit-dimension", "scikit-learn", "scipy", "torch",
    }
)  # fmt: skip

#: Metrics that no independent implementation can judge, and why.
WITHOUT: Mapping[str, str] = {
    "alignment.coverage": "a count of pairs: by hand in test_alignment.py",
    "drift.added": "a count of ids: by hand in test_drift.py",
    "drift.removed": "a count of ids: by hand in test_drift.py",
    "drift.shared_share": "a count of ids: by hand in test_drift.py",
    "index.bytes": "the size of a file: by the file itself in test_index_suite.py",
    "index.bytes_per_vector": "the size of a file: by the file itself in test_index_suite.py",
    "index.latency_p50": "a clock: against another clock in test_index_suite.py",
    "index.latency_p99": "a clock: against another clock in test_index_suite.py",
    "index.qps": "a clock: against another clock in test_index_suite.py",
    "neighbors.label_coverage": "a count of labels: by hand in test_neighbors.py",
    "probe.classes": "a count of classes: by hand in test_probe.py",
    "probe.classes_left_out": "a count of classes: by hand in test_probe.py",
    "probe.coverage": "a count of labels: by hand in test_probe.py",
    "retrieval.coverage": "a count of queries: by hand in test_retrieval.py",
    "retrieval.item_coverage": "a count of items: by hand in test_retrieval.py",
    "retrieval.queries_without_relevant": "a count of queries: by hand in test_retrieval.py",
}

_HEAD = """\
# Oracles

Written by `make oracles`: what the tests hold each metric against, and the largest absolute difference that
they saw between embreg and the oracle. An oracle is an independent implementation of the same definition: a
package (the `oracles` extra), or a formula that the test writes out in its plainest dense form, in float64.

*Data* that are real are named; `random` ones are drawn from seeds. *Numbers* says how many were compared.
Tolerances are absolute (`1e-06`), relative (`1e-06 x`) or both; 0 means equal, also of answers that are no
numbers, such as the word that a question finds. Differences are rounded up to one digit.

| metric | oracle | data | numbers | largest difference | tolerance | remark |
|---|---|---|---:|---:|---|---|
"""

#: Packages that are no oracles: why not, and what is instead.
UNUSED = (
    (
        "scikit-hubness 0.21.0",
        "needs `np.int`, gone since numpy 1.24, and four libraries of approximate search",
        "scipy for the skewness, its formulas written out for the rest",
    ),
    ("kiez 0.5.0", "needs numpy < 2 and pandas < 2", "the same"),
    (
        "vecto 0.2.21",
        "brings 44 further packages, and downloads a corpus when it is imported",
        "gensim, scikit-learn, and its formulas written out",
    ),
)

_UNUSED = """
## Packages that are not used

| package | why not | instead |
|---|---|---|
"""

_WITHOUT = """
## Metrics without an oracle

| metric | why |
|---|---|
"""


@dataclass(slots=True)
class Comparison:
    """What was seen of one metric beside one oracle."""

    numbers: int = 0
    largest: float = 0.0
    atol: float = 0.0
    rtol: float = 0.0
    data: set[str] = field(default_factory=set)
    remarks: dict[str, None] = field(default_factory=dict)

    @property
    def tolerance(self) -> str:
        """The widest tolerances that were asked for."""
        told = [f"{self.atol:.0e}"] if self.atol else []
        told += [f"{self.rtol:.0e} x"] if self.rtol else []
        return " + ".join(told) or "0"


class Oracles:
    """The comparisons of one session, by metric (``SUITE.METRIC``, with or without ``[label=value]``)."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Comparison] = {}
        self.skipped: list[str] = []

    def agrees(
        self,
        oracle: str,
        metric: str,
        ours: npt.ArrayLike,
        theirs: npt.ArrayLike,
        *,
        atol: float = 0.0,
        rtol: float = 0.0,
        data: str = "random",
        why: str = "",
    ) -> None:
        """Fail where numbers differ by more than ``atol + rtol * |theirs|``; remember the largest difference.

        Args:
            oracle: a distribution of ``PACKAGES``, or ``formula of PAPER``.
            metric: ``SUITE.METRIC`` as declared, or with the label that chooses a variant in brackets.
            ours: numbers of any shape.
            theirs: as many, of the same shape.
            atol: absolute tolerance.
            rtol: relative tolerance.
            data: ``random``, or the name of the real data.
            why: where the two do not mean quite the same, what explains the difference.
        """
        known(oracle, metric)
        a, b = (np.asarray(side, dtype=np.float64) for side in (ours, theirs))
        assert a.shape == b.shape, f"{metric}: {a.shape} numbers beside {b.shape} of {oracle}"
        assert a.size, f"{metric}: nothing to compare with {oracle}"
        assert np.isfinite(a).all() and np.isfinite(b).all(), f"{metric}: not finite beside {oracle}"
        apart = np.abs(a - b)
        wrong = apart > atol + rtol * np.abs(b)
        if wrong.any():
            at = np.unravel_index(np.argmax(np.where(wrong, apart, -1)), apart.shape)
            raise AssertionError(
                f"{metric}: {wrong.sum()} of {a.size} numbers differ from {oracle}; at {tuple(map(int, at))} "
                f"{a[at]!r} is {apart[at]:.3g} away from {b[at]!r} (atol={atol:g}, rtol={rtol:g})"
            )
        seen = self._remember(oracle, metric, a.size, data, why)
        seen.largest = max(seen.largest, float(apart.max()))
        seen.atol, seen.rtol = max(seen.atol, atol), max(seen.rtol, rtol)

    def same(
        self,
        oracle: str,
        metric: str,
        ours: Sequence[object],
        theirs: Sequence[object],
        *,
        data: str = "random",
        why: str = "",
    ) -> None:
        """Fail where answers that are no numbers (a word, right or wrong) differ; remember how many."""
        known(oracle, metric)
        assert len(ours) == len(theirs) > 0, f"{metric}: {len(ours)} answers beside {len(theirs)} of {oracle}"
        wrong = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
        assert not wrong, f"{metric}: {len(wrong)} answers differ from {oracle}; the first: {wrong[0]}"
        self._remember(oracle, metric, len(ours), data, why)

    def _remember(self, oracle: str, metric: str, count: int, data: str, why: str) -> Comparison:
        seen = self.seen.setdefault((metric, oracle), Comparison())
        seen.numbers += count
        seen.data.add(data)
        if why:
            seen.remarks[why] = None
        return seen

    @property
    def judged(self) -> set[str]:
        """The metrics that were compared, as declared."""
        return {metric.partition("[")[0] for metric, _ in self.seen}

    def missing(self) -> list[str]:
        """Return the declared metrics that have neither an oracle nor a reason."""
        return sorted(declared() - self.judged - WITHOUT.keys())

    def stale(self) -> list[str]:
        """Return the reasons that stand for metrics which have an oracle, or are not declared."""
        return sorted(WITHOUT.keys() - (declared() - self.judged))

    def write(self, path: Path) -> None:
        """Write the table, in the order of suites and metrics."""
        order = {name: i for i, name in enumerate(ordered())}
        rows = sorted(self.seen, key=lambda key: (order[key[0].partition("[")[0]], key[0], key[1].lower()))
        table = [self._row(metric, oracle) for metric, oracle in rows]
        rest = [f"| `{name}` | {WITHOUT[name]} |\n" for name in sorted(WITHOUT, key=order.__getitem__)]
        unused = [f"| {' | '.join(cells)} |\n" for cells in UNUSED]
        text = "".join((_HEAD, *table, _UNUSED, *unused, _WITHOUT, *rest))
        path.write_text(text, encoding="utf-8")

    def _row(self, metric: str, oracle: str) -> str:
        seen = self.seen[metric, oracle]
        # Real data first.
        data = ", ".join(sorted(seen.data, key=lambda name: (name == "random", name.lower())))
        cells = (
            f"`{metric}`", called(oracle), data, f"{seen.numbers:,}", magnitude(seen.largest), seen.tolerance,
            "; ".join(seen.remarks),
        )  # fmt: skip
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def declared() -> set[str]:
    """Return every metric of every suite, as ``SUITE.METRIC``."""
    return set(ordered())


def ordered() -> list[str]:
    """Return every metric of every suite, in the order of the suites and of their declarations."""
    return [f"{suite.name}.{metric.name}" for suite in discover().values() for metric in suite.metrics]


def known(oracle: str, metric: str) -> None:
    """Refuse a misspelt oracle or metric."""
    assert oracle in PACKAGES or oracle.startswith("formula of "), f"unknown oracle '{oracle}'"
    assert metric.partition("[")[0] in declared(), f"no suite declares '{metric}'"


def called(oracle: str) -> str:
    """Return the name of an oracle; of a package, with its version."""
    if oracle not in PACKAGES:
        return oracle
    # Without the local part, which says for what machine it was built: 2.13.0+cpu.
    return f"{oracle} {importlib.metadata.version(oracle).partition('+')[0]}"


def magnitude(difference: float) -> str:
    """Return a difference by its leading digit, rounded up: further digits hang on the machine."""
    if not difference:
        return "0"
    power = math.floor(math.log10(difference))
    return f"{math.ceil(difference / 10.0**power * (1 - 1e-9)) * 10.0**power:.0e}"
