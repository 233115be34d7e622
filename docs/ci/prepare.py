"""Make the vectors of docs/ci.md: 600 documents of 12 topics; two releases, a good and a broken candidate."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TOPICS, EACH, WIDTH = 12, 50, 16


def main(folder: Path) -> None:
    vectors = folder / "vectors"
    vectors.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    topics = np.repeat(np.arange(TOPICS), EACH)
    first = rng.normal(size=(TOPICS, WIDTH))[topics] + 0.6 * rng.normal(size=(TOPICS * EACH, WIDTH))
    second = first + 0.08 * rng.normal(size=first.shape)
    good = second + 0.06 * rng.normal(size=first.shape)
    broken = good.copy()
    lost = rng.permutation(len(good))[: len(good) // 5]
    broken[lost] = good[np.roll(lost, 1)]
    for name, x in {"first": first, "second": second, "good": good, "broken": broken}.items():
        np.save(vectors / f"{name}.npy", x.astype(np.float32))
    ids = [f"doc-{i:03}" for i in range(len(topics))]
    (vectors / "docs.ids").write_text("\n".join(ids) + "\n")
    rows = (f"{name}\ttopic-{topic}" for name, topic in zip(ids, topics, strict=True))
    (vectors / "topics.tsv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
