"""``python -m bench.device``: neighbours on a CUDA device, against an exact search in torch.

The peer is what one writes without embreg: a float32 product of a block of queries with the whole base, and
topk of it, on the same device. Both start from arrays in memory and end with them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from numpy.typing import NDArray

from embreg.evals.devices import at_device
from embreg.evals.knn import neighbors, self_neighbors

from .data import clustered, unclustered

K = 10
#: Scores that the peer holds at a time, 4 GiB on a device.
_BLOCK = {"cpu": 1 << 26, "cuda": 1 << 30}


def torch_search(x: NDArray, y: NDArray, device: str, *, itself: bool) -> NDArray:
    """Return the nearest K rows of ``y`` by inner product, block by block; a row is not its own neighbour."""
    base, found = torch.from_numpy(y).to(device), []
    size = max(1, _BLOCK[device] // len(y))
    for start in range(0, len(x), size):
        queries = torch.from_numpy(x[start : start + size]).to(device)
        scores = queries @ base.T
        if itself:
            at = torch.arange(len(queries), device=device)
            scores[at, start + at] = -torch.inf
        found.append(scores.topk(K, dim=1).indices.cpu())
    return torch.cat(found).numpy()


def row(
    name: str, ours: Callable[[], NDArray], theirs: Callable[[], NDArray], flop: float, times: int
) -> None:
    """Time both alternately, after one run of each that is not timed; print medians and what agrees."""
    same = float((ours() == theirs()).mean())
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for work, seconds in zip((ours, theirs), taken, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    mine, other = (statistics.median(seconds) for seconds in taken)
    ratios = sorted(b / a for a, b in zip(*taken, strict=True))
    print(
        f"{name}: embreg {mine:.3f} s ({flop / mine / 1e12:.1f} TFLOP/s), torch {other:.3f} s, "
        f"{statistics.median(ratios):.2f}x faster ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"{same:.4%} of neighbours at the same place"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of the table")
    args = parser.parse_args()
    d, n, m, q = 384, *(int(size * args.share) for size in (131_072, 1_000_000, 4_096))
    if args.device == "cuda":
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    with at_device(args.device):
        for kind, x in (("unclustered", unclustered(n, d)), ("clustered", clustered(n, d))):
            row(
                f"self-join k={K}, {n:,} x {d}, {kind}",
                lambda x=x: self_neighbors(x, K).rows,
                partial(torch_search, x, x, args.device, itself=True),
                2.0 * n * n * d,
                args.times,
            )
        base, queries = unclustered(m, d), unclustered(q, d, seed=1)
        row(
            f"{q:,} queries x {m:,} x {d}",
            lambda: neighbors(queries, base, K).rows,
            partial(torch_search, queries, base, args.device, itself=False),
            2.0 * q * m * d,
            args.times,
        )


if __name__ == "__main__":
    main()
