"""A small registry in which something happened: made once, looked at by every browser test, never changed.

``words`` is made of pairs, ``land07`` and ``city07``, where every city is its land and one step further: so
analogies hold, neighbours share a label, and a version can break. Its four versions are a first one, one with
more rows, one that drifted, and one that a broken join made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embreg import EmbeddingTable, Registry, connect, evaluate, gate
from embreg.evals.deriving import derive

PAIRS, DIM, GROUPS = 180, 16, 6
CONFIG = """
[registry]
url = ".embreg"

[[gates]]
metric = "analogies.accuracy"
labels = { group = "total" }
max_drop = 0.02
alpha = 0.05

[[gates]]
metric = "drift.neighbor_overlap@10"
min = 0.5

[[gates]]
metric = "hubness.skewness"
max_rise = 1.0
severity = "warning"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Where the registry is: the folder with ``embreg.toml``, and the directory below it."""

    folder: Path
    registry: Path


def ids() -> list[str]:
    """``land00``, ``city00``, ``land01`` …"""
    return [f"{what}{i:03d}" for i in range(PAIRS) for what in ("land", "city")]


def vectors(seed: int = 7) -> np.ndarray:
    """Lands around six centres, each followed by its city one step further; float32 ``(n, d)``."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((GROUPS, DIM))
    step = 2 * rng.standard_normal(DIM)
    lands = centres[np.arange(PAIRS) % GROUPS] + 0.7 * rng.standard_normal((PAIRS, DIM))
    cities = lands + step + 0.25 * rng.standard_normal((PAIRS, DIM))
    return np.stack([lands, cities], axis=1).reshape(2 * PAIRS, DIM).astype(np.float32)


def drifted(x: np.ndarray, noise: float) -> np.ndarray:
    """The same rows after some more training."""
    return x + noise * np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)


def swapped(x: np.ndarray, share: float) -> np.ndarray:
    """A share of the rows with each other's vectors."""
    rows = np.random.default_rng(2).permutation(len(x))[: int(share * len(x))]
    broken = x.copy()
    broken[rows] = x[np.roll(rows, 1)]
    return broken


def table(x: np.ndarray) -> EmbeddingTable:
    """The first ids with these vectors, and which group each belongs to."""
    labels = [f"group {'abcdef'[i // 2 % GROUPS]}" for i in range(len(x))]
    return EmbeddingTable.from_arrays(ids()[: len(x)], x, attributes={"group": labels})


def write_datasets(folder: Path) -> None:
    """Questions, scored pairs and labels as files."""
    rng = np.random.default_rng(3)
    names = ids()
    pairs = rng.integers(0, PAIRS, (80, 2))
    questions = [f"land{a:03d} city{a:03d} land{b:03d} city{b:03d}" for a, b in pairs if a != b]
    (folder / "questions.txt").write_text("\n".join([": capitals", *questions]) + "\n", encoding="utf-8")
    x = vectors()
    lines = []
    for a, b in rng.integers(0, 2 * PAIRS, (120, 2)):
        score = 5 + 5 * float(x[a] @ x[b] / (np.linalg.norm(x[a]) * np.linalg.norm(x[b])))
        lines.append(f"{names[a]}\t{names[b]}\t{score + rng.standard_normal():.2f}")
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    labels = [f"{name}\tgroup {'abcdef'[i // 2 % GROUPS]}" for i, name in enumerate(names)]
    (folder / "labels.tsv").write_text("\n".join(["id\tlabel", *labels]) + "\n", encoding="utf-8")


def tell(folder: Path) -> Story:
    """Make the registry in an empty folder: versions, datasets, an index, runs, verdicts, promotions."""
    (folder / "embreg.toml").write_text(CONFIG, encoding="utf-8")
    write_datasets(folder)
    story = Story(folder=folder, registry=folder / ".embreg")
    with connect(story.registry, create=True) as registry:
        _versions(registry, folder)
    return story


def _versions(registry: Registry, folder: Path) -> None:
    x = vectors()
    kept = 300
    registry.register("words", table(x[:kept]), kind="word", model="toy-1", message="the first 300",
                      alias="production")  # fmt: skip
    for name, kind in (("questions.txt", "analogies"), ("pairs.tsv", "pairs"), ("labels.tsv", "labels")):
        registry.add_dataset(Path(name).stem, folder / name, kind)
    registry.index("words", "words@production", factory="HNSW16", track="production")
    evaluate("words@1", registry=registry)
    config = folder / "embreg.toml"
    registry.register("words", table(x), message="all rows")
    evaluate("words@2", baseline="words@1", registry=registry)
    gate(registry, "words@2", config=config)
    registry.promote("words@2", "production")
    registry.rebuild("words")
    registry.register("words", table(drifted(x, 0.2)), message="another epoch")
    evaluate("words@3", baseline="words@2", registry=registry)
    registry.alias("words", "staging", "words@3")
    derive(registry, "words@3", "center", name="words/centred")
    registry.add_dependent("search-service", "words@production", note="asks the team that runs it")
    registry.register("words", table(swapped(x, 0.4)), message="the nightly build")
    gate(registry, "words@4", config=config)
    evaluate("words@4", baseline="words@2", registry=registry)
    registry.register("docs", table(x[:60]), kind="sentence", model="toy-2")
