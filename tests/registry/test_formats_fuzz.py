"""Damaged files of every format: only embreg's own errors come out, in bounded memory and time.

The fuzzing runs in a process of its own, under a limit of its address space: a crash of a library, or an
allocation that a damaged header asked for, ends that process and fails the test.
"""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from embreg.registry.errors import EmbregError
from embreg.registry.formats import FORMATS, Options, open_source, write_table
from embreg.registry.tables import EmbeddingTable

WRITTEN = {name: kind for name, kind in FORMATS.items() if kind.writes}
LINES = ("glove", "jsonl", "csv", "tsv")
LIMIT = 4 << 30
SLOW = 8.0
#: These are read in a process of their own, which takes its time to start: fewer of them are damaged here.
SLOWER = ("hdf5",)
NASTY = (
    *(
        b"\x00",
        b"\xff" * 4,
        b"\xff" * 8,
        b"\x7f" * 4,
        b"\n",
        b" ",
        b"\r",
        b'"',
        b"\xc3",
        b"\x80",
        b"]",
        b"e9",
    ),
    *(b"999999999999", b"-1", b"nan", b"\xed\xa0\x80", b"PAR1", b"\x93NUMPY", b"(1,)"),
)


def sample(rows: int = 40, dim: int = 5) -> EmbeddingTable:
    rng = np.random.default_rng(0)
    ids = [f"w{i}" if i % 3 else f"ö{i}\u0085" for i in range(rows)]
    return EmbeddingTable.from_arrays(
        ids, rng.normal(size=(rows, dim)).astype(np.float32), attributes={"freq": list(range(rows))}
    )


def seeds(folder: Path) -> list[tuple[Path, Options, str]]:
    """Return whole files to damage: the file, how to open it, its format."""
    table = sample()
    cases = []
    for name, kind in WRITTEN.items():
        for suffix in (suffix_of(name), *([suffix_of(name) + ".gz"] if kind.packed else [])):
            path = folder / f"{name}{suffix}"
            write_table(table, path, format=name)
            cases.append((path, Options(), name))
    for codec in ("bz2", "zst", "xz"):
        path = folder / f"packed.txt.{codec}"
        write_table(table, path)
        cases.append((path, Options(), "glove"))
    models = folder / "model.bin"
    models.write_bytes(fasttext_model())
    cases.append((models, Options(), "fasttext"))
    lists = folder / "lists.csv"
    rows = [f'w{i},"{row}",{i}' for i, row in enumerate(table.vectors.tolist())]
    lists.write_text("\n".join(["id,vector,freq", *rows]))
    cases.append((lists, Options(vector_column="vector"), "csv"))
    cases.append((folder / "tensorboard.metadata.tsv", Options(), "metadata"))
    fortran = folder / "fortran.npy"
    np.save(fortran, np.asfortranarray(table.vectors.astype(">f8")))
    plain = folder / "ids.txt"
    plain.write_bytes("\n".join(f"é{i}" for i in range(40)).encode())
    cases.append((fortran, Options(ids=plain), "npy"))
    packed = folder / "packed.npz"
    np.savez_compressed(packed, v=np.asfortranarray(table.vectors), words=np.array(["x"] * 40))
    cases.append((packed, Options(), "npz"))
    codes = folder / "codes.npz"
    x = np.arange(200, dtype=np.int8).reshape(40, 5)
    np.savez(codes, codes=x, scale=np.ones((40, 1), np.float32), zero_point=np.zeros(5, np.int8))
    cases.append((codes, Options(), "npz"))
    cases.append((folder / "npy.npy.ids.json", Options(), "sidecar"))
    return cases


def suffix_of(name: str) -> str:
    return (FORMATS[name].suffixes or (".tsv",))[0]


def fasttext_model(words: int = 40, dim: int = 5, buckets: int = 8) -> bytes:
    """A small model as fastText writes it: version 12, n-grams of 3 to 6 characters."""
    head = struct.pack("<2i12id", 793712314, 12, dim, 5, 5, 1, 5, 1, 2, 2, buckets, 3, 6, 100, 1e-4)
    entries = b"".join(b"w%d\0" % i + struct.pack("<qb", 7, 0) for i in range(words))
    numbers = np.random.default_rng(1).normal(size=(words + buckets, dim)).astype("<f4").tobytes()
    table = struct.pack("<?2q", False, words + buckets, dim) + numbers
    output = struct.pack("<?2q", False, words, dim) + bytes(4 * words * dim)
    return head + struct.pack("<3i2q", words, words, 0, 7 * words, -1) + entries + table + output


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        # Headers and footers decide most: half of the damage goes there.
        near = rng.choice((64, 400, len(out)))
        at = rng.randrange(min(near, len(out)) or 1)
        if rng.random() < 0.3:
            at = max(0, len(out) - 1 - at)
        length = rng.choice((1, 1, 2, 8, 100))
        match rng.randrange(6):
            case 0:
                out = out[:at]
            case 1:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4:
                nasty = rng.choice(NASTY)
                out[at : at + len(nasty)] = nasty
            case _:
                out[at:at] = rng.choice(NASTY)
        if not out:
            break
    return bytes(out)


def consume(path: Path, options: Options, name: str) -> int:
    source = open_source(path, format=name, options=options)
    rows = 0
    for batch in source.batches():
        assert batch.vectors.shape[1] == source.dim and batch.vectors.dtype.name == source.dtype
        assert batch.vectors.flags.c_contiguous
        if batch.ids is not None:
            batch.ids.validate(full=True)
            assert len(batch.ids) == len(batch.vectors) and batch.ids.null_count == 0
        if batch.attributes is not None:
            batch.attributes.validate(full=True)
            assert len(batch.attributes) == len(batch.vectors)
        rows += len(batch.vectors)
    assert source.rows in (None, rows)
    return rows


def attack(cases: int, seed: int) -> tuple[int, int]:
    """Return how many damaged files were refused, and how many could still be read."""
    refused = read = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = seeds(folder)
        kept = {path: path.read_bytes() for path, _, _ in whole}
        for case in range(cases):
            rng = random.Random(seed * 1_000_003 + case)
            path, options, kind = whole[case % len(whole)]
            if kind in SLOWER and case // len(whole) % 10:
                continue
            path.write_bytes(mutated(kept[path], rng))
            target = {
                "sidecar": (folder / "npy.npy", options, "npy"),
                "metadata": (folder / "tensorboard.tsv", options, "tensorboard"),
            }.get(kind, (path, options, kind))
            began = time.perf_counter()
            try:
                consume(*target)
                read += 1
            except EmbregError as exc:
                refused += 1
                assert "\n" not in str(exc) and str(exc).isprintable(), (case, str(exc))
            except BaseException as exc:
                raise AssertionError(f"case {case} of seed {seed}: {path.name}") from exc
            assert time.perf_counter() - began < SLOW, (case, path.name)
            path.write_bytes(kept[path])
    return refused, read


def test_only_our_errors_come_out_of_damaged_files():
    code = f"import runpy; runpy.run_path({str(Path(__file__))!r}, run_name='fuzz')['main'](2200, 1)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused, read = map(int, done.stdout.split())
    assert refused > 1000 and read > 100


def test_whole_files_are_read(tmp_path):
    for path, options, name in seeds(tmp_path):
        if name not in ("sidecar", "metadata"):
            assert consume(path, options, name) == 40


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_no_part_of_a_file_passes_for_the_whole(name, tmp_path):
    """Text may be cut inside its last number, or lose whole lines where no header counts them."""
    path = tmp_path / f"t{suffix_of(name)}"
    write_table(sample(6, 3), path, format=name)
    data = path.read_bytes()
    counted = name not in LINES
    by_line = name in (*LINES, "word2vec", "tensorboard")
    last_line = data.rindex(b"\n", 0, len(data) - 1) if by_line else len(data)
    few = len(data) // 20 if name in SLOWER else 3
    for length in range(0, len(data), 1 if len(data) < 400 else few):
        path.write_bytes(data[:length])
        try:
            rows = consume(path, Options(), name)
        except EmbregError:
            continue
        assert rows < 6 if length <= last_line and not counted else length > last_line, length


def main(cases: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    sys.stdout.write(" ".join(map(str, attack(cases, seed))))
