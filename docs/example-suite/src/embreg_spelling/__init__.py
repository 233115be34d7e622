"""Spelling: do the spellings of one word lie together?

Ids that differ in case, accents or the mark that a tokenizer puts before a word (``Paris`` and ``paris``,
``café`` and ``cafe``, ``Ġking`` and ``king``) are taken as spellings of one word. Where they lie apart, what
a search finds hangs on how the query was typed. Not every pair means the same (``resume``, ``résumé``):
compare versions, and expect no 1. Source: own; the folding is that of Unicode Standard Annex 15 (NFKD) and of
the standard's section 3.13 (case).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embreg.evals.statistics import normal_interval, tied_error, tied_mean
from embreg.evals.subject import Subject
from embreg.evals.suite import Absent, Better, Findings, Measure, Metric, Skipped, Suite
from embreg.registry.errors import UsageError

#: A row and its other spelling find, or miss, each other: they are no two independent items.
_TIES = (("word",),)
HIT = Metric(
    "hit@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="hit",
    ties=_TIES,
    doc="Share of the rows with another spelling that have one among their k nearest neighbours.",
    formula="|{i: another spelling of i is in N_k(i)}| / |{i with another spelling}|",
    source="own",
)
COSINE = Metric(
    "cosine",
    unit="cosine",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    item="cosine",
    ties=_TIES,
    doc="Mean cosine of a row with the nearest of its other spellings.",
    formula="mean over i with another spelling of max over its spellings j ≠ i of cos(x_i, x_j)",
    source="own",
)
RESPELLED = Metric(
    "respelled",
    unit="share",
    better=Better.NEITHER,
    low=0.0,
    high=1.0,
    doc="Share of the rows that have another spelling.",
    formula="|{i with another spelling}| / n",
    source="own",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: how many neighbours are looked at.
        letters: words of fewer letters are left out: ``a``, ``A`` and ``å`` are three letters, not one word.
        word_mark: what the tokenizer puts before a word, such as ``Ġ`` or ``▁``; empty for nothing.
    """

    k: int = 10
    letters: int = 2
    word_mark: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before anything is measured."""
        if self.k < 1 or self.letters < 1:
            raise UsageError(f"spelling.k = {self.k}, spelling.letters = {self.letters}: both are at least 1")


def fold(item: str, word_mark: str = "") -> str:
    """Return the word that an id spells: without the mark, accents and case."""
    plain = unicodedata.normalize("NFKD", item.removeprefix(word_mark))
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:  # noqa: ARG001
    """Look for the other spellings of each row.

    Raises:
        Skipped: no two rows spell one word, or the table has fewer than k + 1 rows.
    """
    graph = subject.neighbors(params.k)
    words = np.array([fold(i, params.word_mark) for i in subject.table.ids_of(subject.valid)], dtype=object)
    long = np.array([sum(map(str.isalpha, word)) >= params.letters for word in words])
    _, codes, counts = np.unique(words, return_inverse=True, return_counts=True)
    here = long & (counts[codes] > 1)
    if not here.any():
        raise Skipped(f"no two of the {len(words):,} ids spell one word")
    rows, codes = subject.valid[here], codes[here]
    word_of = np.full(subject.table.rows, -1)
    word_of[rows] = codes
    # Of a large table the graph holds a sample of the rows: the others are not scored.
    asked = np.isin(rows, graph.queries)
    near = word_of[graph.rows[np.searchsorted(graph.queries, rows[asked])]]
    hits = (near == codes[asked, None]).any(axis=1).astype(np.float64)
    cosines = _nearest(subject, rows, codes)
    mean, error = float(cosines.mean()), tied_error(cosines, codes[:, None])
    low, high = normal_interval(mean, error, -1.0, 1.0)
    return Findings(
        measures=[
            *_hit(HIT.at(params.k), hits, codes[asked]),
            Measure(COSINE.name, mean, len(rows), low=low, high=high),
            Measure(RESPELLED.name, len(rows) / len(words), len(words)),
        ],
        absent=[] if asked.any() else [Absent(HIT.at(params.k), "no sampled row has another spelling")],
        items=pa.table(
            {
                "item": pa.array(subject.table.ids_of(rows), pa.string()),
                "word": pa.array(words[here], pa.string()),
                "hit": _scored(hits, asked),
                "cosine": cosines,
            }
        ),
        notes=[f"{len(np.unique(codes)):,} words have several spellings"],
    )


def _hit(name: str, hits: NDArray[np.float64], words: NDArray[np.int64]) -> list[Measure]:
    if not len(hits):
        return []
    low, high = tied_mean(hits, words[:, None])
    return [Measure(name, float(hits.mean()), len(hits), low=low, high=high)]


def _nearest(subject: Subject, rows: NDArray[np.int64], words: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine of each row with the nearest other row of its word."""
    x = subject.table.take(rows).astype(np.float64)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    order = np.argsort(words, kind="stable")
    found = np.empty(len(rows))
    for group in np.split(order, np.flatnonzero(np.diff(words[order])) + 1):
        cosines = units[group] @ units[group].T
        np.fill_diagonal(cosines, -np.inf)
        found[group] = cosines.max(axis=1)
    return np.clip(found, -1.0, 1.0)


def _scored(values: NDArray[np.float64], there: NDArray[np.bool_]) -> pa.Array:
    """Return values of some items as a column of all: null where there is none."""
    column = np.zeros(len(there))
    column[there] = values
    return pa.array(column, mask=~there)


SUITE = Suite(
    name="spelling",
    version=1,
    params=Params,
    metrics=(HIT, COSINE, RESPELLED),
    needs=frozenset(),
    run=run,
    doc="Do the spellings of one word lie together?",
)
