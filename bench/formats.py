"""The table of formats: what is read and written, as a stream or not, and how fast; into docs/formats.md.

    python -m bench.formats

Every format that is written is written from one table and read back; others are made by their own
libraries. Rates are of the vectors' bytes as float32. A reader is a stream if four times the rows take hardly
more memory.
"""

from __future__ import annotations

import re
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embreg import EmbeddingTable
from embreg.registry.formats import FORMATS, write_table

from .measure import machine, python

TARGET = Path(__file__).parent.parent / "docs" / "formats.md"
ROWS, WIDTH = 100_000, 128
READ = """
from pathlib import Path
import time
from embreg.registry.formats import Options, open_source
def run(path, name):
    start, rows = time.perf_counter(), 0
    for batch in open_source(path, format=name, options=Options()).batches():
        rows += len(batch.vectors)
    print(rows, time.perf_counter() - start)
run({path!r}, {name!r})
"""
#: What a format keeps besides vectors, and what a reader of the table should know.
NOTES = {
    "npy": "ids in `DEST.ids.json` beside it; float16 stays, bfloat16 and float64 become float32",
    "npz": "`--tensor` picks an array; `codes` with `scale` is dequantised",
    "glove": "told from word2vec by its first line",
    "word2vec": "also fastText's `.vec`",
    "word2vec-bin": "",
    "fasttext": "the vectors of the words; subword buckets are left out, `.ftz` is refused",
    "jsonl": "`--id-column`, `--vector-column`; other fields are attributes",
    "csv": "a column per dimension, or one column that holds the vector",
    "tsv": "as csv",
    "tensorboard": "`X.tsv` and `X.metadata.tsv`, for the embedding projector; `--format tensorboard`",
    "parquet": "attributes; Hugging Face `datasets` loads it",
    "arrow": "attributes; file, stream and Feather",
    "safetensors": "`--tensor`, shards by their index, tokens of a tokenizer as ids, tied tables found",
    "hdf5": "as ann-benchmarks writes it: `train`, `--tensor` for another",
    "faiss": "flat, or reconstructed and said so",
    "torch": "`weights_only=True`, mapped: its pages count in the peak; `--tensor`, shards, tokens as ids",
}


INTRODUCTION = """\
Written by `make bench`. `embreg register NAME FILE` reads them, `embreg export REF FILE` writes them; the
format is told from the suffix, then from the first bytes, and `--format` insists. A text, `.bin` or `.npy`
may be packed: `.gz`, `.bz2`, `.zst`, `.xz`. What was exported and is imported again has the same
`content_digest`. A gensim `.kv` or any other pickle is refused: it could run code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    name: str
    suffixes: str
    written: float | None
    read: float
    peak: tuple[int, int]
    note: str

    @property
    def streamed(self) -> str:
        small, large = self.peak
        more = 3 * ROWS * WIDTH * 4 / 2**20
        return "yes" if large - small < more / 4 else "no"


def table(rows: int) -> EmbeddingTable:
    vectors = np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32)
    return EmbeddingTable.from_arrays([f"item-{i}" for i in range(rows)], vectors)


def torch_file(rows: EmbeddingTable, path: Path) -> None:
    import torch

    torch.save({"embed_tokens.weight": torch.from_numpy(rows.vectors.copy())}, path)


def fasttext_file(rows: EmbeddingTable, path: Path) -> None:
    """Write a model of words without subwords, as fastText lays it out (version 12)."""
    n, d = rows.rows, rows.dim
    with path.open("wb") as file:
        file.write(struct.pack("<ii", 793712314, 12))
        # dim ws epoch minCount neg wordNgrams loss model bucket minn maxn lrUpdateRate, then t
        file.write(struct.pack("<12id", d, 5, 5, 1, 5, 1, 1, 2, 0, 0, 0, 100, 1e-4))
        file.write(struct.pack("<3i2q", n, n, 0, n, -1))
        for name in rows.ids.to_pylist():
            file.write(name.encode() + b"\0" + struct.pack("<qb", 1, 0))
        file.write(struct.pack("<?2q", False, n, d))
        file.write(rows.vectors.tobytes())
        file.write(struct.pack("<?2q", False, n, d))
        file.write(bytes(rows.vectors.nbytes))


MADE: dict[str, Callable[[EmbeddingTable, Path], None]] = {"torch": torch_file, "fasttext": fasttext_file}
SUFFIX = {"fasttext": ".bin", "tensorboard": ".tsv"}


def measure(name: str, folder: Path) -> Line:
    chosen = FORMATS[name]
    suffix = SUFFIX.get(name) or chosen.suffixes[0]
    peaks, written, rate = [], None, 0.0
    for rows in (ROWS, 4 * ROWS):
        given, path = table(rows), folder / f"{name}{rows}{suffix}"
        start = time.perf_counter()
        if name in MADE:
            MADE[name](given, path)
        else:
            write_table(given, path, format=name)
            written = given.vectors.nbytes / 2**20 / (time.perf_counter() - start)
        size = given.vectors.nbytes / 2**20
        del given
        told, peak = python(READ.format(path=str(path), name=name), cwd=folder)
        count, seconds = told.split()
        assert int(count) == rows, (name, told)
        peaks.append(peak)
        rate = size / float(seconds)
        for file in folder.iterdir():
            file.unlink()
    suffixes = " ".join(f"`{s}`" for s in chosen.suffixes + chosen.guest)
    return Line(name=name, suffixes=suffixes, written=written, read=rate, peak=(peaks[0], peaks[1]),
                note=NOTES[name])  # fmt: skip


def render(lines: list[Line]) -> str:
    page = [
        "# Formats",
        "",
        INTRODUCTION,
        "",
        f"Measured on {4 * ROWS:,} x {WIDTH} float32 with ids, in MiB of vectors a second, each alone; a",
        f"reader is a stream if reading them takes hardly more memory than reading {ROWS:,}.",
        f"Machine: {machine()}.",
        "",
        "| format | suffixes | reads | streamed | peak | writes | |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    page += [
        f"| `{line.name}` | {line.suffixes} | {line.read:.0f} MiB/s | {line.streamed} | {line.peak[1]} MiB"
        f" | {f'{line.written:.0f} MiB/s' if line.written is not None else '–'} | {line.note} |"
        for line in lines
    ]
    return "\n".join(page) + "\n"


def main() -> None:
    assert set(NOTES) == set(FORMATS), set(NOTES) ^ set(FORMATS)
    lines = []
    with tempfile.TemporaryDirectory(prefix="embreg-formats-") as folder:
        for name in FORMATS:
            lines.append(measure(name, Path(folder)))
            print(re.sub(r"\s+", " ", str(lines[-1])), flush=True)
    TARGET.write_text(render(lines), encoding="utf-8")
    print(f"written to {TARGET}")


if __name__ == "__main__":
    main()
