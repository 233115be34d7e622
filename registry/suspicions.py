"""What is suspicious about test data that can be read: rows that say nothing, twice, or two things at once.

Nothing here is an error: the rows are stored as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from .errors import printable
from .tables import VECTOR

#: A correlation of two pairs is 1 or -1 whatever the vectors are.
_FEWEST_PAIRS = 3
#: Letters of an example.
_SHOWN = 40
_PLURALS: Final = {"class": "classes", "query": "queries"}


def suspicions(rows: pa.Table, kind: str, sections: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what is suspicious about the rows of a dataset: one line each, how many, and the first of them.

    Words and ids are compared as they are.

    - pairs: fewer than three; one score for all; a word paired with itself; a pair given again, also the
      other way round, or with another score.
    - labels: one class for all; classes with a single id.
    - analogies: questions that are answered by their own words only, which no method may give; questions
      whose a and b are one word; questions asked again, also with another answer; sections with fewer than
      two pairs, and those that ask nothing.
    - qrels: nothing relevant; queries without a relevant item; a relevance below 0.
    - positives: an id paired with itself; a pair given again, also the other way round. Where the second ids
      have vectors of their own: a pair given again.
    - qrels and positives that carry vectors: ids without one.

    Args:
        rows: as ``datasets.parse`` and ``datasets.with_vectors`` return them.
        kind: of the dataset.
        sections: of analogies, every one that the file names.
    """
    found = list(_FINDERS[kind](rows))
    if sections:
        asked = set(rows.column("section").to_pylist())
        silent = [_quoted(section) for section in dict.fromkeys(sections) if section not in asked]
        found += _told(silent, "section", "without a question")
    return tuple(found)


def _pairs(rows: pa.Table) -> Iterator[str]:
    a, b, scores = (rows.column(name).to_pylist() for name in ("a", "b", "score"))
    n = len(scores)
    if n < _FEWEST_PAIRS:
        yield f"{_number(n, 'pair')}: a correlation needs at least {_FEWEST_PAIRS}"
    if n > 1 and len(set(scores)) == 1:
        yield f"{n:,} pairs, and every score is {scores[0]:g}: no order of the pairs can agree with that"
    yield from _couples(a, b, "word")
    turned = [(min(pair), max(pair)) for pair in zip(a, b, strict=True)]
    differing = [f"{_pair(*pair)}: {x:g}, then {y:g}" for pair, x, y in _changed(turned, scores)]
    yield from _told(differing, "pair", "given again with another score")


def _positives(rows: pa.Table) -> Iterator[str]:
    a, b = (rows.column(name).to_pylist() for name in ("a", "b"))
    if VECTOR not in rows.column_names:
        yield from _couples(a, b, "id")
        return
    # The two ids are of two kinds of things: that they are alike says nothing.
    yield from _told([_pair(*pair) for pair in _again(zip(a, b, strict=True))], "pair", "given again")
    yield from _without_vector(rows, "b")


def _couples(a: Sequence[str], b: Sequence[str], what: str) -> Iterator[str]:
    own = [_pair(x, y) for x, y in zip(a, b, strict=True) if x == y]
    yield from _told(own, "pair", f"of {'an' if what == 'id' else 'a'} {what} with itself")
    seen: set[tuple[str, str]] = set()
    again, turned = [], []
    for x, y in zip(a, b, strict=True):
        if (x, y) in seen:
            again.append(_pair(x, y))
        elif (y, x) in seen:
            turned.append(_pair(x, y))
        seen.add((x, y))
    yield from _told(again, "pair", "given again")
    yield from _told(turned, "pair", "given again the other way round")


def _labels(rows: pa.Table) -> Iterator[str]:
    ids, labels = (rows.column(name).to_pylist() for name in ("id", "label"))
    sizes = Counter(labels)
    if len(sizes) == 1:
        yield f"{_number(len(ids), 'id')} of one class, {_quoted(labels[0])}: there is nothing to tell apart"
        return
    single = [f"{_quoted(x)} of {_quoted(i)}" for i, x in zip(ids, labels, strict=True) if sizes[x] == 1]
    yield from _told(single, "class", f"of {len(sizes):,} with a single id")


def _analogies(rows: pa.Table) -> Iterator[str]:
    columns = [rows.column(name).to_pylist() for name in ("section", "a", "b", "c", "answers")]
    questions = list(zip(*columns, strict=True))
    own = [_question(q) for q in questions if set(q[4]) <= {*q[1:4]}]
    yield from _told(own, "question", "answered by nothing but its own words, which are never given")
    still = [_question(q) for q in questions if q[1] == q[2]]
    yield from _told(still, "question", "with one word as a and b")
    asked = [q[1:4] for q in questions]
    yield from _told([_quoted(" ".join(words)) for words in _again(asked)], "question", "asked again")
    answers = [frozenset(q[4]) for q in questions]
    differing = [
        f"{_quoted(' '.join(words))}: {_quoted('/'.join(sorted(x)))}, then {_quoted('/'.join(sorted(y)))}"
        for words, x, y in _changed(asked, answers)
    ]
    yield from _told(differing, "question", "asked again with another answer")
    pairs: dict[str, set[tuple[str, str]]] = {}
    for section, a, b, c, right in questions:
        pairs.setdefault(section, set()).update([(a, b), (c, right[0])])
    small = [_quoted(section) for section, its in pairs.items() if len(its) < 2]
    yield from _told(small, "section", "with fewer than 2 pairs")


def _qrels(rows: pa.Table) -> Iterator[str]:
    columns = [rows.column(name).to_pylist() for name in ("query", "item", "relevance")]
    judged = list(zip(*columns, strict=True))
    answered = {query for query, _, relevance in judged if relevance > 0}
    queries = dict.fromkeys(columns[0])
    lost = [_quoted(query) for query in queries if query not in answered]
    if answered:
        yield from _told(lost, "query", f"of {len(queries):,} without an item of a relevance above 0")
    else:
        yield f"{_number(len(judged), 'judgement')}, and no relevance above 0: there is nothing to find"
    below = [f"{_pair(query, item)}: {relevance}" for query, item, relevance in judged if relevance < 0]
    yield from _told(below, "judgement", "below 0, which counts as not relevant")
    yield from _without_vector(rows, "query")


def _without_vector(rows: pa.Table, column: str) -> Iterator[str]:
    if VECTOR not in rows.column_names:
        return
    ids = rows.column(column)
    known = set(ids.filter(pc.is_valid(rows.column(VECTOR))).to_pylist())
    distinct = ids.unique().to_pylist()
    lost = [_quoted(one) for one in distinct if one not in known]
    yield from _told(lost, "id", f"of {len(distinct):,} in the column '{column}' without a vector")


def _again(things: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield what comes a second time, or once more."""
    seen: set[tuple[Any, ...]] = set()
    for thing in things:
        if thing in seen:
            yield thing
        seen.add(thing)


def _changed(
    keys: Iterable[tuple[str, ...]], values: Iterable[Hashable]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield each key that comes again with another value than at first, the first value, and the other."""
    firsts: dict[tuple[str, ...], Hashable] = {}
    for key, value in zip(keys, values, strict=True):
        first = firsts.setdefault(key, value)
        if first != value:
            yield key, first, value


def _told(examples: Sequence[str], noun: str, what: str) -> Iterator[str]:
    """Yield how many examples there are, and the first of them; nothing where there is none."""
    if examples:
        yield f"{_number(len(examples), noun)} {what}{', first' if len(examples) > 1 else ':'} {examples[0]}"


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {_PLURALS.get(noun, noun + 's')}"


def _quoted(text: str) -> str:
    return f"'{printable(text, _SHOWN)}'"


def _pair(a: str, b: str) -> str:
    return f"{_quoted(a)} and {_quoted(b)}"


def _question(question: tuple[Any, ...]) -> str:
    section, *words, answers = question
    return f"{_quoted(' '.join([*words, '/'.join(answers)]))} in {_quoted(section)}"


_FINDERS: Final[dict[str, Callable[[pa.Table], Iterator[str]]]] = {
    "analogies": _analogies,
    "pairs": _pairs,
    "labels": _labels,
    "positives": _positives,
    "qrels": _qrels,
}
