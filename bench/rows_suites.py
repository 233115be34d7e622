"""The row about everything at once: six suites in one evaluation."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import glove, google, questions
from .hardware import Load, product_rate, products
from .measure import QUICK, Row, python

SIX = ("analogies", "neighbors", "hubness", "anisotropy", "quantization", "drift")
EVALUATE = """
import json, time, embreg
steps = []
def told(step, done, total):
    if ":" not in step and total == len({suites!r}):
        steps.append((step, time.perf_counter()))
with embreg.connect("all") as registry:
    start = time.perf_counter()
    runs = embreg.evaluate(registry, "words@2", baseline="words@1", suites={suites!r}, progress=told)
    seconds = time.perf_counter() - start
    failed = [f"{{r.suite}}: {{r.status}} {{r.reason}}" for r in runs if r.status != "done"]
    found = [[r.suite, m.metric, dict(m.labels), m.value] for r in runs for m in r.measures]
    own = {{step: after - at for (step, at), (_, after) in zip(steps, steps[1:])}}
    print(json.dumps({{"seconds": seconds, "own": own, "failed": failed, "found": found}}))
"""
PEER = """
import json, time
from pathlib import Path
from bench import practitioner
print(json.dumps(practitioner.evaluate(Path({folder!r}), Path({questions!r}))))
"""


def suites(folder: Path) -> Iterator[Row]:
    """Six suites on two versions of GloVe, in a fresh process: against gensim, scikit-learn and numpy."""
    from embreg.registry.vectors import hash_ids

    words, vectors = glove()
    n = 10_000 if QUICK else len(words)
    words, vectors = words[:n], vectors[:n]
    noise = np.random.default_rng(0).standard_normal(vectors.shape, dtype=np.float32)
    versions = [vectors, vectors + np.float32(0.05) * noise]
    for name, x in zip(("old", "new"), versions, strict=True):
        np.save(folder / f"{name}.npy", x)
    (folder / "words.json").write_text(json.dumps(words))
    np.save(folder / "order.npy", np.argsort(hash_ids(words), kind="stable")[:10_000])
    file = google()
    if QUICK:
        file = folder / "questions.txt"
        questions(file, (4,))
    ours, theirs, limits, told, peak, peer_peak = [], [], [], {}, 0, 0
    peer: dict[str, Any] = {}
    for turn in range(1 if QUICK else 2):
        _fill(folder, words, versions, file)
        limits.append(product_rate())
        output, mib = python(EVALUATE.format(suites=SIX), cwd=folder)
        told, peak = json.loads(output.splitlines()[-1]), max(peak, mib)
        if told["failed"]:
            raise RuntimeError(f"not all suites ran: {told['failed']}")
        ours.append(told["seconds"])
        if not turn:
            code = PEER.format(folder=str(folder), questions=str(file))
            output, peer_peak = python(code, cwd=Path(__file__).parent.parent)
            peer = json.loads(output.splitlines()[-1])
            theirs.append(sum(peer["seconds"].values()))
    agreed, compared, apart = _alike(told["found"], peer["found"])
    yield Row(
        work=f"{len(SIX)} suites, GloVe {n:,} x 50, against another version",
        peer="gensim, scikit-learn, numpy",
        ours=statistics.median(ours),
        theirs=theirs[0],
        ratios=tuple(a / theirs[0] for a in ours),
        asked=">= 10",
        load=_load(n, file),
        limit=statistics.median(limits),
        memory=peak * 1.048576,
        peer_memory=peer_peak * 1.048576,
        note=f"embreg: {_steps(told['own'])}; the peer, once: {_steps(peer['seconds'])};"
        f" {agreed} of {compared} figures that both compute agree within 3%"
        f" or 0.03{apart}; peaks of whole processes",
    )
    shutil.rmtree(folder / "all")


def _steps(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())


def _fill(folder: Path, words: list[str], versions: list[NDArray[np.float32]], file: Path) -> None:
    import embreg

    shutil.rmtree(folder / "all", ignore_errors=True)
    with embreg.connect(folder / "all", create=True) as registry:
        for x in versions:
            table = embreg.EmbeddingTable.from_arrays(words, x)
            registry.register("words", table, metric="cosine", kind="word")
        registry.add_dataset("google", file, "analogies")


def _load(n: int, file: Path) -> Load:
    """The inner products that the suites ask for: two neighbour graphs and 2,000 edges followed back, the
    questions, one version's neighbours in the other, and each codec's with exact and with decoded queries.
    """
    lists = n if n <= 50_000 else 10_000
    asked = sum(not line.startswith(":") for line in file.read_text().rstrip("\n").split("\n"))
    return products(2 * lists + 2000 + asked + 2000 + 9 * 2 * 1000, n, 50)


def _alike(ours: list[Any], theirs: dict[str, float]) -> tuple[int, int, str]:
    """Return how many figures of the peer embreg has too and agrees with, and the names of the others."""
    own = {" ".join([suite, metric, *(f"{k}={v}" for k, v in sorted(labels.items()))]): value
           for suite, metric, labels, value in ours}  # fmt: skip
    both = [name for name in theirs if name in own]
    apart = [name for name in both if abs(own[name] - theirs[name]) > max(0.03, 0.03 * abs(theirs[name]))]
    told = [f"{name} ({own[name]:.4g}, theirs {theirs[name]:.4g})" for name in apart]
    return len(both) - len(apart), len(both), f"; apart: {', '.join(told)}" if told else ""
