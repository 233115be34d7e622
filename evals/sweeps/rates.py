"""How fast this machine multiplies: measured once per process, in some tens of milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from .halves import Arithmetic, multiplying

#: Rows of the two sides of a product that is timed, and how often; the fastest run counts.
_HIGH, _WIDE, _TIMES = 512, 1024, 3
#: What a processor says that multiplies bfloat16 itself.
_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_CPUINFO = Path("/proc/cpuinfo")


def bf16_pays(d: int) -> bool:
    """Return whether this processor sweeps rows of ``d`` numbers faster in bfloat16 than in float32.

    Its products have to be twice as fast: those that matter are scored once more.
    """
    return has_bf16() and bf16_rate(d) > 2 * float32_rate(d)


@cache
def float32_rate(d: int) -> float:
    """Return GFLOP/s of one thread that multiplies float32 rows of ``d`` numbers in numpy."""
    from threadpoolctl import threadpool_limits

    left, right = np.ones((_HIGH, d), dtype=np.float32), np.ones((_WIDE, d), dtype=np.float32)
    out = np.empty((_HIGH, _WIDE), dtype=np.float32)
    with threadpool_limits(1, user_api="blas"):
        return _rate(lambda: np.matmul(left, right.T, out=out), d)


def bf16_rate(d: int) -> float:
    """Return GFLOP/s of one thread that multiplies bfloat16 rows of ``d`` numbers in torch.

    It is 0 where the processor has no instructions for that; torch is not loaded then.
    """
    return max(_bf16_rates(d).values()) if has_bf16() else 0.0


@cache
def processor() -> Arithmetic:
    """Return how torch multiplies bfloat16 fastest on this processor."""
    if not has_bf16():
        return Arithmetic(device="cpu")
    rates = _bf16_rates(384)
    return max(rates, key=rates.__getitem__)


@cache
def has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 itself."""
    if _CPUINFO.exists():
        text = _CPUINFO.read_text(errors="replace")
        words = (
            line.partition(":")[2].split() for line in text.splitlines() if line[:5] in ("flags", "Featu")
        )
        return not _FLAGS.isdisjoint(next(words, []))
    import torch

    # The names begin with an underscore, and may go: without them there is no bfloat16.
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in asked if ask is not None)


@cache
def _bf16_rates(d: int) -> dict[Arithmetic, float]:
    import torch

    rates = {}
    for wide in (True, False):
        arithmetic = Arithmetic(device="cpu", wide=wide)
        left, right = (torch.ones((rows, d), dtype=torch.bfloat16, device="cpu") for rows in (_HIGH, _WIDE))
        with multiplying(arithmetic):
            rates[arithmetic] = _rate(partial(arithmetic.product, left, right), d)
    return rates


def _rate(product: Callable[[], object], d: int) -> float:
    product()
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2e-9 * _HIGH * _WIDE * d / min(seconds)
