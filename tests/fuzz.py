"""``make fuzz``: damaged and malicious files of every format, by the thousand. Not collected by pytest.

Only embreg's own errors may come out, in bounded time and memory: each process's address space is limited.
The damage is that of ``tests/registry/test_formats_fuzz.py``, seeded: a finding names its case and its seed.

    python tests/fuzz.py [--cases 100000] [--seed 1] [--jobs 2]
"""

from __future__ import annotations

# ruff: noqa: T201  a script that prints what it found
import argparse
import bz2
import gzip
import json
import lzma
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

SLICE = 2000
MUTATIONS = Path(__file__).parent / "registry" / "test_formats_fuzz.py"
#: Reads a file to its end in a process that may hold so much, and tells how it ended and what it took.
CONSUME = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from embreg.registry.errors import EmbregError
from embreg.registry.formats import Options, open_source
began, rows, told = time.perf_counter(), 0, "read"
try:
    for batch in open_source(Path(sys.argv[1]), format=sys.argv[2] or None, options=Options()).batches():
        rows += len(batch.vectors)
except EmbregError as exc:
    told = "refused: " + str(exc).replace(str(Path(sys.argv[1]).parent) + "/", "")
    assert told.isprintable() and len(told) < 1500, told
import re
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
print(f"{peak}\\t{time.perf_counter() - began:.1f}\\t{rows}\\t{told[:150]}")
"""
GIB = 1 << 30
#: What a file that attacks may take: MiB in memory, seconds. Two gibibytes are read at the speed of reading.
PEAK_MIB, SECONDS = 1200, 60.0


# -- damage -------------------------------------------------------------------------------------------------


def mutations(cases: int, seed: int, jobs: int) -> None:
    """Damage files in slices, each in a process of its own, until so many were read; stop at a finding."""
    began = time.perf_counter()
    refused = read = 0
    first = seed
    with ThreadPoolExecutor(jobs) as pool:
        # A slice leaves out some files that are slow to read, so there may have to be a few more.
        while refused + read < cases:
            count = min(5 * jobs, -(-(cases - refused - read) // SLICE))
            for no, yes in pool.map(one_slice, range(seed, seed + count)):
                refused, read = refused + no, read + yes
            seed += count
            print(f"  {refused + read:,} of {cases:,}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    print(f"\n{refused + read:,} damaged files, seeds {first} to {seed - 1}: {refused:,} refused with an")
    print(f"error of embreg's own, {read:,} still readable; no other exception, no crash, no case over its")
    print(f"time, in an address space of 4 GiB. {seconds:.0f} s.")


def one_slice(seed: int) -> tuple[int, int]:
    """Return how many damaged files were refused, and how many could be read."""
    code = f"import runpy; runpy.run_path({str(MUTATIONS)!r}, run_name='fuzz')['main']({SLICE}, {seed})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"FAILED: seed {seed}, exit code {done.returncode}\n{done.stderr[-4000:]}")
    refused, read = map(int, done.stdout.split())
    return refused, read


# -- malice -------------------------------------------------------------------------------------------------


def zeros(size: int) -> Iterator[bytes]:
    block = bytes(1 << 24)
    for _ in range(size >> 24):
        yield block


def text(size: int) -> Iterator[bytes]:
    """Lines of a GloVe file, without end."""
    block = b"".join(b"w%07d 0.5 0.25\n" % i for i in range(1 << 20))
    for _ in range(size // len(block)):
        yield block


def npy_header(shape: tuple[int, ...]) -> bytes:
    head = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def pack(opener: Callable[..., Any], path: Path, chunks: Iterable[bytes], **how: int) -> None:
    with opener(path, "wb", **how) as file:
        for chunk in chunks:
            file.write(chunk)


def zstd(path: Path, _: str) -> Any:
    return pa.CompressedOutputStream(str(path), "zstd")


def zip_bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb,
        bomb.open("v.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy_header((2 * GIB // 128, 32)))
        for chunk in zeros(2 * GIB):
            file.write(chunk)


def lying_zip(path: Path) -> None:
    """An array of a thousand rows, in a header of 10**12."""
    with zipfile.ZipFile(path, "w") as bomb:
        bomb.writestr("v.npy", npy_header((10**12, 25)) + bytes(100_000))


def safetensors(path: Path) -> None:
    head = json.dumps(
        {"v": {"dtype": "F32", "shape": [10**12, 4], "data_offsets": [0, 16 * 10**12]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(1000))


def line(path: Path, start: bytes, unit: bytes, end: bytes = b"\n", size: int = GIB) -> None:
    """One line of a gibibyte."""
    block = unit * ((1 << 24) // len(unit))
    with path.open("wb") as file:
        file.write(start)
        for _ in range(size // len(block)):
            file.write(block)
        file.write(end)


#: File name, format to insist on, how to make it, whether it may be read to its end: one line an attack.
ATTACKS: tuple[tuple[str, str, Callable[[Path], object], bool], ...] = (
    ("bomb.npz", "", zip_bomb, True),
    ("lying.npz", "", lying_zip, False),
    ("zeros.txt.gz", "glove", lambda p: pack(gzip.open, p, zeros(2 * GIB)), False),
    ("text.txt.gz", "", lambda p: pack(gzip.open, p, text(GIB), compresslevel=1), True),
    ("zeros.txt.bz2", "glove", lambda p: pack(bz2.open, p, zeros(GIB)), False),
    ("zeros.txt.xz", "glove", lambda p: pack(lzma.open, p, zeros(GIB), preset=0), False),
    ("zeros.txt.zst", "glove", lambda p: pack(zstd, p, zeros(2 * GIB)), False),
    ("zeros.npy.gz", "npy", lambda p: pack(gzip.open, p, zeros(GIB)), False),
    ("rows.npy", "", lambda p: p.write_bytes(npy_header((10**12, 300)) + bytes(4096)), False),
    ("width.npy", "", lambda p: p.write_bytes(npy_header((3, 10**12)) + bytes(4096)), False),
    ("rows.npy.gz", "npy", lambda p: pack(gzip.open, p, [npy_header((10**12, 300))]), False),
    ("rows.vec", "", lambda p: p.write_bytes(b"1000000000000 300\nw 1 2 3\n"), False),
    ("width.vec", "", lambda p: p.write_bytes(b"3 1000000000000\nw 1 2 3\n"), False),
    ("rows.bin", "word2vec-bin", lambda p: p.write_bytes(b"1000000000000 300\nw " + bytes(5000)), False),
    ("width.bin", "word2vec-bin", lambda p: p.write_bytes(b"3 1000000000000\nw " + bytes(5000)), False),
    ("rows.safetensors", "", safetensors, False),
    ("letters.txt", "glove", lambda p: line(p, b"", b"a"), False),
    ("numbers.txt", "glove", lambda p: line(p, b"w", b" 0.125"), False),
    ("letters.vec", "word2vec", lambda p: line(p, b"2 3\n", b"a"), False),
    ("letters.csv", "", lambda p: line(p, b"id,0,1\nw,1,2\n", b"a"), False),
    ("fields.csv", "", lambda p: line(p, b"id", b",0.125"), False),
    ("quote.csv", "", lambda p: line(p, b'id,0,1\n"', b"a\n"), False),
    ("letters.tsv", "", lambda p: line(p, b"id\t0\t1\nw\t1\t2\n", b"a"), False),
    ("letters.jsonl", "", lambda p: line(p, b'{"id": "', b"a"), False),
    ("numbers.jsonl", "", lambda p: line(p, b'{"id": "w", "vector": [0', b",0.1", b"]}\n"), False),
    ("nested.jsonl", "", lambda p: line(p, b'{"id": "w", "vector": ', b"[", size=GIB // 16), False),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What reading an attack took (bytes on disk, MiB, seconds), how many rows it gave, and what was said."""

    size: int
    peak: int
    seconds: float
    rows: int
    told: str


def attack(name: str, format_: str, make: Callable[[Path], object]) -> Outcome:
    """Make an attack, and read it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="embreg-fuzz-") as folder:
        path = Path(folder) / name
        make(path)
        size = path.stat().st_size
        command = [sys.executable, "-W", "error", "-c", CONSUME, str(path), format_]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * SECONDS)
    if done.returncode:
        raise SystemExit(f"FAILED: {name}, exit code {done.returncode}\n{done.stderr[-3000:]}")
    peak, seconds, rows, told = done.stdout.rstrip("\n").split("\t")
    return Outcome(size, int(peak), float(seconds), int(rows), told)


def malice() -> None:
    """Read every attack, and print what it took."""
    print("\n| attack | on disk | peak | time | outcome |\n|---|---:|---:|---:|---|")
    for name, format_, make, readable in ATTACKS:
        found = attack(name, format_, make)
        said = f"{found.rows:,} rows read" if found.told == "read" else found.told.replace("|", "\\|")
        size = f"{found.size / 2**20:,.1f} MiB"
        print(f"| {name} | {size} | {found.peak} MiB | {found.seconds} s | {said} |", flush=True)
        if found.peak > PEAK_MIB or found.seconds > SECONDS or (found.told == "read" and not readable):
            raise SystemExit(f"FAILED: {name}: {found}")


def main() -> None:
    """Attack, then damage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=100_000, help="damaged files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    malice()
    if asked.cases:
        mutations(asked.cases, asked.seed, asked.jobs)


if __name__ == "__main__":
    main()
