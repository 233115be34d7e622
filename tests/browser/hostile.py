"""A registry whose every text means harm: ids, labels, names, messages, notes, models, tags, sections."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from embreg import EmbeddingTable, Registry, connect, evaluate, gate
from embreg.evals.deriving import derive

#: None of them may be run, drawn out of its place, or hidden.
TEXTS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "' autofocus onfocus='window.pwned=1",
    "--></style></title></textarea><svg onload=window.pwned=1>",
    "<!--<script>",
    "{{7*7}}{% raw %}${7*7}",
    "javascript:window.pwned=1",
    'datum.constructor.constructor("window.pwned=1")()',
    '{"signal":"window.pwned=1"}',
    "http://127.0.0.1:9/tracked.png",
    "a.b[0]['c']\\\"`;--",
    "]]>&amp;&lt;&#60;%3Cb%3E",
    "\x1b[31mred\x1b]0;title\x07\x9b1m",
    "\u202ednuora\u2066\u2069\u200f\u2028\u2029",
    "a\x00b\r\nX-Injected: 1\ttab",
    '=HYPERLINK("http://127.0.0.1:9/")',
    "\U0001f600é\u0301ｗｉｄｅ" * 20,
    "W" * 10_000,
)
#: As long and as strange as a name may be.
NAME = "Ünïcode-שלום-مرحبا." + "n" * 109
ROWS = 200


def of(i: int) -> str:
    """One of the texts, in turn."""
    return TEXTS[i % len(TEXTS)]


def line(text: str) -> str:
    """A text that can stand in a field of a file of lines."""
    return "".join(c for c in text if c.isprintable() and c not in " \u3000")[:300]


def ids() -> list[str]:
    """Ids that are harmful, and some that are not."""
    return [*TEXTS, *(f"{line(text)}~{i}" for i in range(2) for text in TEXTS), *map(str, range(ROWS))][:ROWS]


def table(rows: int, seed: int = 0) -> EmbeddingTable:
    """The first of the ids, with labels that mean no better."""
    rng = np.random.default_rng(seed)
    own = 0.5 * np.random.default_rng(1).standard_normal((rows, 8))
    x = rng.standard_normal((6, 8))[np.arange(rows) % 6] + own
    return EmbeddingTable.from_arrays(ids()[:rows], x, attributes={"label": labels(rows)})


def labels(rows: int) -> Sequence[str]:
    """A class for each row."""
    return [of(i % 6) for i in range(rows)]


def write_files(folder: Path) -> None:
    """Questions in sections, pairs, labels, and the configuration."""
    known = [line(text) + f"~{i}" for i in range(2) for text in TEXTS]
    questions = [f": {line(text)}\n" + " ".join(known[4 * i : 4 * i + 4]) for i, text in enumerate(TEXTS[:8])]
    (folder / "q.txt").write_text("\n".join(questions) + "\n", encoding="utf-8")
    pairs = [f"{a}\t{b}\t{i % 7}" for i, (a, b) in enumerate(pairwise(known))]
    (folder / "p.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    classes = [f"{item}\t{line(of(i % 6))}" for i, item in enumerate(known)]
    (folder / "l.tsv").write_text("id\tlabel\n" + "\n".join(classes) + "\n", encoding="utf-8")
    (folder / "embreg.toml").write_text(
        '[registry]\nurl = ".embreg"\n[[gates]]\nmetric = "hubness.skewness"\nmax = 9\n'
        '[[gates]]\nmetric = "drift.neighbor_overlap@10"\nmin = 0.99\n',
        encoding="utf-8",
    )


def make(folder: Path) -> None:
    """Make the registry in an empty folder."""
    write_files(folder)
    with connect(folder / ".embreg", create=True) as registry:
        for i, rows in enumerate((160, ROWS, ROWS)):
            registry.register(NAME, table(rows, seed=i), model=of(i), pooling=of(i + 2), message=of(5 * i),
                              kind="word", tags={of(i): of(i + 1)}, allow_space_change=True)  # fmt: skip
        _depend(registry, folder)
        for number, baseline in ((1, None), (2, f"{NAME}@1"), (3, f"{NAME}@2")):
            evaluate(f"{NAME}@{number}", registry=registry, baseline=baseline)
        gate(registry, f"{NAME}@3", baseline=f"{NAME}@2", config=folder / "embreg.toml")
        for i in range(4):
            registry.register(f"x{i}", table(30), message=" ".join(TEXTS[i::4]), model=of(3 * i))


def _depend(registry: Registry, folder: Path) -> None:
    """What follows it: an alias, an index, a derived version, somebody outside, test data."""
    registry.alias(NAME, "production", f"{NAME}@2")
    registry.index(f"{NAME[:100]}.i", f"{NAME}@1", factory="Flat", track="production")
    derive(registry, f"{NAME}@2", "center", message=of(3), name="d")
    for i, text in enumerate(TEXTS):
        registry.add_dependent(f"out{i}", f"{NAME}@production", note=text[:4096], command=of(i + 1)[:4096])
    for name, file, kind in (("q", "q.txt", "analogies"), ("p", "p.tsv", "pairs"), ("l", "l.tsv", "labels")):
        registry.add_dataset(name, folder / file, kind, licence=of(2), source=of(7))
