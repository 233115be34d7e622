"""``python -m bench.scale``: what must stay small when everything else is large. Prints one table.

Bytes are those that really came from the disk (``read_bytes`` of /proc/self/io), after the pages of the
registry were dropped from memory; peaks are of a process that did nothing else; CPU time is what a command
would take on a machine with nothing else to do.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .crowded import crowd
from .measure import machine, python

MAIN = "from embreg.cli import main; main({words!r})"
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table: what was measured, what was asked, and whether it is so."""

    what: str
    found: str
    asked: str
    good: bool


# -- diff ---------------------------------------------------------------------------------------------------

COLD_DIFF = """
import os, sys, time
from pathlib import Path
root = Path(sys.argv[1])
os.sync()
for path in (root / "blobs").rglob("*"):
    if path.is_file():
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
import embreg, embreg.registry.diff, embreg.registry.tables, pyarrow.parquet
def read():
    return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])
with embreg.connect(root) as registry:
    registry.versions()
    before, began = read(), time.perf_counter()
    found = registry.diff("docs@1", "docs@2")
    print(read() - before, time.perf_counter() - began, found.relation, found.changed, found.unchanged)
"""


def diff(folder: Path) -> Iterator[Line]:
    """Two versions of a million rows, by widths."""
    import embreg

    for dim in (128, 384):
        rows = 1_000_000
        x = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
        ids = [f"doc-{i:09d}" for i in range(rows)]
        root = folder / f"diff{dim}"
        with embreg.connect(root, create=True) as registry:
            registry.register("docs", embreg.EmbeddingTable.from_arrays(ids, x))
            x[:: rows // 1000] += 1
            registry.register("docs", embreg.EmbeddingTable.from_arrays(ids, x))
        nbytes, cold, *found = _run(COLD_DIFF, str(root)).split()
        assert found == ["changed", "1000", "999000"], found
        warm, cpu = min(_took("diff", "docs@1", "docs@2", "--registry", str(root)) for _ in range(3))
        times = 2 * x.nbytes / int(nbytes)
        yield Line(
            what=f"diff of two versions of 1,000,000 x {dim}",
            found=f"{int(nbytes) / 1e6:.1f} MB read, {times:.1f} times less than the vectors;"
            f" {float(cold):.2f} s cold, {warm:.2f} s (CPU {cpu:.2f} s) as a command",
            asked="20 times less, 2 s",
            good=times >= 20 and warm < 2,
        )
        shutil.rmtree(root)


# -- verify -------------------------------------------------------------------------------------------------


def verify(folder: Path) -> Iterator[Line]:
    """Rates per core, of files that are in memory: the disk is not what is measured."""
    import embreg
    from embreg.registry.blobs import hash_file

    root = folder / "verify"
    x = np.random.default_rng(0).standard_normal((1_000_000, 384), dtype=np.float32)
    with embreg.connect(root, create=True) as registry:
        registry.register("docs", embreg.EmbeddingTable.from_arrays(None, x))
    files = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    nbytes = sum(path.stat().st_size for path in files)
    began = time.perf_counter()
    list(map(hash_file, files))
    one = time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(hash_file, files))
    both = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run(["sha256sum", *map(str, files)], check=True, stdout=subprocess.DEVNULL)
    theirs = time.perf_counter() - began
    whole = min(_seconds("verify", "--registry", str(root)) for _ in range(3))
    yield Line(
        what=f"verify of {nbytes / 1e9:.1f} GB",
        found=f"{nbytes / one / 1e9:.2f} GB/s on one core, {one / both:.1f} times that on {os.cpu_count()};"
        f" sha256sum {nbytes / theirs / 1e9:.2f} GB/s; {whole:.1f} s as a command",
        asked="half of sha256sum on each core, all cores",
        good=one < 2 * theirs and both < 0.75 * one,
    )
    shutil.rmtree(root)


# -- append -------------------------------------------------------------------------------------------------


def append(folder: Path) -> Iterator[Line]:
    """Bytes of new blobs when a hundredth is appended."""
    import embreg

    rows, dim = 1_000_000, 384
    root = folder / "append"
    x = np.random.default_rng(0).standard_normal((rows + rows // 100, dim), dtype=np.float32)
    with embreg.connect(root, create=True) as registry:
        registry.register("docs", embreg.EmbeddingTable.from_arrays(None, x[:rows]))
        before = _blobs(root)
        began = time.perf_counter()
        registry.register("docs", embreg.EmbeddingTable.from_arrays(None, x))
        seconds = time.perf_counter() - began
        size = registry.resolve("docs@1").nbytes
    new = sum(nbytes for name, nbytes in _blobs(root).items() if name not in before)
    last = rows % 65536 * dim * 4
    yield Line(
        what=f"append of 1% to {size / 1e9:.2f} GB",
        found=f"{new / 1e6:.1f} MB of new blobs, {new / size:.1%}: the 1% and the last part that was not full"
        f" ({last / 1e6:.1f} MB); {seconds:.1f} s",
        asked="about 1%, and the last part (at most 128 MiB)",
        good=new < 0.011 * size + last + (128 << 20) * 0.02,
    )
    shutil.rmtree(root)


def _blobs(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (root / "blobs").rglob("*") if path.is_file()}


# -- a long past --------------------------------------------------------------------------------------------

#: Commands that look at the past of a registry: one line each.
LOOKS = (
    ("list",),
    ("list", "--json"),
    ("list", "embedding-001"),
    ("log",),
    ("log", "--json"),
    ("log", "-n", "1000"),
    ("log", "-n", "1000", "--json"),
    ("log", "embedding-001"),
    ("show", "embedding-001"),
    ("alias", "history", "embedding-001"),
)


def past(folder: Path) -> Iterator[Line]:
    """Commands on 10,000 versions and 100,000 events."""
    crowd(folder / "past")
    for words in LOOKS:
        best, cpu = min(_took(*words, "--registry", str(folder / "past")) for _ in range(3))
        yield Line(
            what=f"{' '.join(words)}, of 10,000 versions and 100,000 events",
            found=f"{best:.2f} s (CPU {cpu:.2f} s)",
            asked="1 s",
            good=best < 1,
        )


# -- readers ------------------------------------------------------------------------------------------------


BATCH = 1 << 16


def _npy(path: Path, dim: int, size: int) -> None:
    rows = len(range(0, size // (4 * dim), BATCH)) * BATCH
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, head)
        for _ in range(0, rows, BATCH):
            rng.standard_normal((BATCH, dim), dtype=np.float32).tofile(file)


def _exported(path: Path, dim: int, size: int) -> None:
    """Any format that embreg writes, out of a registered array."""
    folder = path.parent / "source"
    folder.mkdir()
    _npy(folder / "x.npy", dim, size)
    _command("init", "--registry", str(folder / "r"))
    _command("register", "x", str(folder / "x.npy"), "--registry", str(folder / "r"))
    (folder / "x.npy").unlink()
    _command("export", "x", str(path), "--registry", str(folder / "r"))
    shutil.rmtree(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A large file: how to make it, its width, and the bytes of numbers that give three gigabytes on disk."""

    make: Callable[[Path, int, int], None]
    dim: int = 384
    size: int = 3 * 10**9
    words: tuple[str, ...] = ()


#: Every reader: one line each. Text takes about 2.4 times the bytes of its numbers.
INPUTS = {
    "x.npy": Input(make=_npy),
    "x.npz": Input(make=_exported),
    "x.safetensors": Input(make=_exported),
    "x.parquet": Input(make=_exported),
    "x.arrow": Input(make=_exported),
    "x.txt": Input(make=_exported, dim=100, size=12 * 10**8),
    "x.vec": Input(make=_exported, dim=100, size=12 * 10**8),
    "x.bin": Input(make=_exported, words=("--format", "word2vec-bin")),
    "x.csv": Input(make=_exported, dim=100, size=12 * 10**8),
    "x.jsonl": Input(make=_exported, dim=100, size=12 * 10**8),
    "x.npy.gz": Input(make=_exported),
}


def readers(folder: Path, names: tuple[str, ...] = ()) -> Iterator[Line]:
    """Peak memory of registering a file of three gigabytes."""
    for name in names or INPUTS:
        given = INPUTS[name]
        at = folder / "readers"
        at.mkdir()
        given.make(at / name, given.dim, given.size)
        size = (at / name).stat().st_size
        _command("init", "--registry", str(at / "r"))
        words = ["register", "x", str(at / name), *given.words, "--registry", str(at / "r")]
        began = time.perf_counter()
        peak = python(MAIN.format(words=words), cwd=at)[1]
        seconds = time.perf_counter() - began
        yield Line(
            what=f"register {name[1:]} of {size / 1e9:.2f} GB",
            found=f"peak {peak} MiB; {seconds:.0f} s, {size / seconds / 1e6:.0f} MB/s",
            asked="600 MB",
            good=peak * 1.048576 < 600,
        )
        shutil.rmtree(at)


# -- all of it ----------------------------------------------------------------------------------------------


def _run(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout


def _command(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-c", MAIN.format(words=list(words))], check=True, stdout=subprocess.DEVNULL
    )


def _seconds(*words: str) -> float:
    return _took(*words)[0]


def _took(*words: str) -> tuple[float, float]:
    """Return the seconds that a command took, and those that it used the processor."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    _command(*words)
    wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


MEASURES = {f.__name__: f for f in (diff, verify, append, past, readers)}


def main() -> None:
    """Measure all, or what is named: ``python -m bench.scale diff readers:x.npy,x.txt``."""
    print(f"Machine: {machine()}.\n\n| what | found | asked | |\n|---|---|---|---|")
    for asked in sys.argv[1:] or list(MEASURES):
        name, _, files = asked.partition(":")
        with tempfile.TemporaryDirectory(prefix="embreg-scale-") as folder:
            more = (tuple(files.split(",")),) if files else ()
            for line in MEASURES[name](Path(folder), *more):
                print(
                    f"| {line.what} | {line.found} | {line.asked} | {'✓' if line.good else '✗'} |", flush=True
                )


if __name__ == "__main__":
    main()
