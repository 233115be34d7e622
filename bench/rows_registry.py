"""Rows about what is stored and read back: start-up, opening, text, registering, and the moments of rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .data import glove
from .measure import QUICK, Row, compare, grown, python

MAIN = "from embreg.cli import main; main({words!r})"
#: Rows that are read, by both, at a time.
_READ = 65_536
_LIST = "import click, sqlalchemy"


def start_up(folder: Path) -> Iterator[Row]:
    """What a person waits for before anything happens, in a fresh process, the bytecode at hand."""
    _fill(folder)

    def command(*words: str) -> Callable[[], None]:
        return lambda: _fresh(MAIN.format(words=list(words)), folder)

    def imports(code: str) -> Callable[[], None]:
        return lambda: _fresh(code, folder)

    for words, code in (
        (("--help",), "import click"),
        (("list",), _LIST),
        (("list", "--json"), _LIST),
        (("show", "small"), _LIST),
    ):
        ours, theirs = command(*words), imports(code)
        ours(), theirs()  # the first run compiles
        asked = "<= 1.5" if words in (("--help",), ("list",)) else ""
        yield compare(f"embreg {' '.join(words)}", ours, f"python -c '{code}'", theirs, asked=asked, times=15)


def _fill(folder: Path) -> None:
    import embreg

    with embreg.connect(folder / ".embreg", create=True) as registry:
        registry.register("small", embreg.EmbeddingTable.from_arrays(None, np.eye(1000, dtype="f4")))


def _fresh(code: str, folder: Path) -> None:
    """Run code as an installed package runs: with its bytecode, wherever that may be written."""
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    surroundings["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=surroundings, check=True, stdout=subprocess.DEVNULL
    )


def opening(folder: Path) -> Iterator[Row]:
    """Open a version of an open registry, and read all its vectors: against a mapped .npy."""
    import embreg

    sizes = {"glove": glove()[1], "wide": _normal(200_000 if QUICK else 1_000_000, 384)}
    with embreg.connect(folder / "open", create=True) as registry:
        for name, vectors in sizes.items():
            registry.register(name, embreg.EmbeddingTable.from_arrays(None, vectors))
            np.save(folder / f"{name}.npy", vectors)
        shapes = {name: f"{len(x):,} x {x.shape[1]}" for name, x in sizes.items()}
        del sizes, vectors

        def ours(name: str) -> float:
            return sum(float(block.vectors.sum()) for block in registry.table(name).blocks(_READ))

        def theirs(name: str) -> float:
            x = np.load(folder / f"{name}.npy", mmap_mode="r")
            return sum(float(x[i : i + _READ].sum()) for i in range(0, len(x), _READ))

        for name, shape in shapes.items():
            equal = ours(name) == theirs(name)  # and both are in the system's cache
            yield compare(
                f"open a version and read all vectors, {shape}",
                lambda name=name: ours(name),
                'np.load(mmap_mode="r") and read',
                lambda name=name: theirs(name),
                asked="<= 1.1",
                times=15,
                note=f"sums equal: {equal}",
            )
    shutil.rmtree(folder / "open")


def text_import(folder: Path) -> Iterator[Row]:
    """GloVe text: parsed to batches, against pyarrow.csv; registered, against gensim."""
    import embreg
    from embreg.registry.formats import open_source, write_table

    words, vectors = glove()
    rows = 40_000 if QUICK else len(words)
    words, vectors = words[:rows], vectors[:rows]
    plain = [f"w{i}" for i in range(rows)]  # pyarrow.csv cannot read the quotes in the real words
    path, real = folder / "plain.txt", folder / "glove.txt"
    write_table(embreg.EmbeddingTable.from_arrays(plain, vectors), path, format="glove")
    write_table(embreg.EmbeddingTable.from_arrays(words, vectors), real, format="glove")
    shape = f"{rows:,} x {vectors.shape[1]}"

    def csv() -> None:
        import pyarrow.csv as csv

        parse = csv.ParseOptions(delimiter=" ", quote_char=False)
        csv.read_csv(path, parse_options=parse, read_options=csv.ReadOptions(autogenerate_column_names=True))

    def read() -> None:
        for batch in open_source(path, format="glove").batches():
            assert len(batch.vectors)

    def register() -> None:
        shutil.rmtree(folder / "text", ignore_errors=True)
        with embreg.connect(folder / "text", create=True) as registry:
            registry.register("glove", real)

    def gensim() -> None:
        from gensim.models import KeyedVectors

        KeyedVectors.load_word2vec_format(str(real), no_header=True)

    yield compare(f"read GloVe text, {shape}", read, "pyarrow.csv", csv, asked="<= 1.5", times=5)
    yield compare(f"register GloVe text, {shape}", register, "gensim load_word2vec_format", gensim,
                  asked=">= 5", times=2)  # fmt: skip
    for file in (path, real):
        file.unlink()


def register(folder: Path) -> Iterator[Row]:
    """A 1.5 GB array from disk: against copying and hashing the same file."""
    source, n = folder / "big.npy", 200_000 if QUICK else 1_000_000
    with source.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, 384)}
        np.lib.format.write_array_header_1_0(file, header)
        for seed in range(20):
            _normal(n // 20, 384, seed).tofile(file)
    peaks = []

    def ours() -> None:
        shutil.rmtree(folder / ".embreg", ignore_errors=True)
        python(MAIN.format(words=["init"]), cwd=folder)
        peaks.append(python(MAIN.format(words=["register", "big", str(source)]), cwd=folder)[1])

    def theirs() -> None:
        copy = folder / "copy.npy"
        for words in (["cp", source, copy], ["sha256sum", copy]):
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        copy.unlink()

    work = f"register a {n * 384 * 4 / 1e9:.1f} GB .npy ({n:,} x 384)"
    row = compare(work, ours, "cp + sha256sum", theirs, asked="<= 1.3", memory_asked=400)
    yield replace(row, memory=max(peaks) * 2**20 / 1e6)
    shutil.rmtree(folder / ".embreg")
    source.unlink()


#: What a fresh process needs for growing by the moments alone.
_READY = """
import numpy as np
from embreg.evals.moments import Moments
x = np.load("x.npy")
Moments.of(np.ones((20_000, 8), dtype="f4"))
"""


def moments_of_rows(folder: Path) -> Iterator[Row]:
    """Sum, X'X and norms of 1,000,000 x 384 in one pass; and those of unit rows with them: against numpy."""
    from embreg.evals.moments import Moments

    n, d = (200_000 if QUICK else 1_000_000), 384
    x = _normal(n, d)
    np.save(folder / "x.npy", x)

    def theirs() -> None:
        x.T @ x
        np.linalg.norm(x, axis=1)

    def theirs_too() -> None:
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        x.T @ x
        units.T @ units

    works = {
        f"moments of rows, {n:,} x {d}": (False, "numpy X.T @ X + norms", theirs),
        f"moments of rows and unit rows, {n:,} x {d}": (True, "numpy X.T @ X + norms + U.T @ U", theirs_too),
    }
    for work, (unit, peer, other) in works.items():
        row = compare(work, lambda unit=unit: Moments.of(x, unit=unit), peer, other, asked=">= 1", times=3)
        peak = grown(_READY, f"Moments.of(x, unit={unit})", cwd=folder).mb
        yield replace(row, memory=peak, memory_asked=300, note="memory beyond the array")
    (folder / "x.npy").unlink()


def _normal(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
