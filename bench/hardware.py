"""The machine: what it is in words, and what it can do at most, measured beside the work held against it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Instruction sets that the products of matrices are made of, in the order of their age.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
#: Packages whose versions matter to the figures.
PACKAGES = ("numpy", "faiss-cpu", "torch", "pyarrow", "gensim", "scikit-learn")
#: Rows and columns of the product, bytes of the copy and of the file, by which limits are measured.
_SIDE, _DEPTH = 2048, 4096
_COPIED, _WRITTEN = 256 << 20, 512 << 20
_CHUNK = 8 << 20
_TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a piece of work asks of the machine, as its definition is written down.

    Attributes:
        of: ``compute`` (float32 operations), ``memory`` (bytes read and written), ``write`` or ``read``
            (bytes of a file).
        amount: how many.
    """

    of: str
    amount: float

    @property
    def unit(self) -> str:
        """GFLOP/s or GB/s."""
        return "GFLOP/s" if self.of == "compute" else "GB/s"

    def limit(self, folder: Path) -> float:
        """Measure what the machine does at most, in operations or bytes a second, just now."""
        if self.of == "compute":
            return product_rate()
        if self.of == "memory":
            return copy_rate()
        return write_rate(folder) if self.of == "write" else read_rate(folder)


def products(rows: int, columns: int, width: int) -> Load:
    """Return the load of all inner products of so many rows and columns, symmetric ones counted twice."""
    return Load(of="compute", amount=2.0 * rows * columns * width)


def product_rate() -> float:
    """Return the operations a second of numpy's float32 matrix product: the best of three."""
    left = np.ones((_SIDE, _DEPTH), dtype=np.float32)
    right = np.ones((_DEPTH, _SIDE), dtype=np.float32)
    out = np.empty((_SIDE, _SIDE), dtype=np.float32)
    return 2.0 * _SIDE * _SIDE * _DEPTH / _best(lambda: np.matmul(left, right, out=out))


def copy_rate() -> float:
    """Return the bytes a second that a large copy reads and writes, on one core: the best of three."""
    source = np.ones(_COPIED, dtype=np.uint8)
    target = np.ones_like(source)
    return 2.0 * _COPIED / _best(lambda: np.copyto(target, source))


def write_rate(folder: Path) -> float:
    """Return the bytes a second of a sequential write that ends on the disk."""
    path = folder / "limit"
    start = time.perf_counter()
    _write(path)
    taken = time.perf_counter() - start
    path.unlink()
    return _WRITTEN / taken


def read_rate(folder: Path) -> float:
    """Return the bytes a second of a sequential read of a file that is not in memory."""
    path = folder / "limit"
    _write(path)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while file.read(_CHUNK):
            pass
        taken = time.perf_counter() - start
    path.unlink()
    return _WRITTEN / taken


def _write(path: Path) -> None:
    chunk = os.urandom(_CHUNK)
    with path.open("wb", buffering=0) as file:
        for _ in range(_WRITTEN // _CHUNK):
            file.write(chunk)
        os.fsync(file.fileno())


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def hardware() -> str:
    """Return what the machine is made of, in one line: runs are compared on equal ones only."""
    about = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", about)
    flags = re.search(r"flags\s*: (.*)", about)
    own = set(flags[1].split()) if flags else set()
    has = [name for name in INSTRUCTIONS if name in own]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {' '.join(has) or 'no vector instructions known'}"
    )


def machine() -> str:
    """Return the machine and its system in one line."""
    return f"{hardware()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def versions() -> str:
    """Return the versions of the packages that compute, and the threads of numpy's BLAS."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return f"{', '.join(found)}; {_blas()}"


def _blas() -> str:
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    told = {f"{p['internal_api']} {p['version']} ({p['num_threads']} threads)" for p in pools}
    return f"BLAS of numpy: {', '.join(sorted(told)) or 'unknown'}"
