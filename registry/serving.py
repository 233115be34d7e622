"""How the build of an index serves: how fast it answers, and what its search parameters do.

Times are those of FAISS alone: queries are brought into the form that an index takes before the clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import factories, fitness, indexes
from .diff import Health
from .fitness import Fitness
from .indexes import Built
from .tables import EmbeddingTable
from .types import IndexState
from .vectors import Vectors

#: Searches before the clock starts: the first ones meet cold caches, and make FAISS allocate.
_WARM = 5
#: Seconds after which no more single queries are timed, once there are ``_FEWEST``.
_PATIENCE = 5.0
_FEWEST = 20
#: Seconds over which batches are repeated: shorter ones are too short to be timed.
_SPAN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentBuild:
    """The build of an index that is in use; files are read by ``open``, and not before.

    Attributes:
        state: of the index.
        digests: sha256 of the FAISS file, of the id map, and of the version it was built from: what
            identifies the build.
        health: of the rows it was trained for.
        basis: gives the version it was built from.
        load: gives the FAISS index with its id map.
    """

    state: IndexState
    digests: tuple[str, str, str]
    health: Health
    basis: Callable[[], EmbeddingTable]
    load: Callable[[], Built]

    def open(self) -> OpenBuild:
        """Read the build into memory.

        Raises:
            CorruptBlob: a file is missing or damaged.
            IndexFailed: FAISS cannot read it.
        """
        return OpenBuild(built=self.load(), basis=self.basis(), ref=self.state.built_from, health=self.health)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A search parameter of an index, as ``--search`` names it.

    Attributes:
        name: ``nprobe``, ``efSearch``, ``k_factor_rf`` or ``k_factor``.
        value: what it is set to.
        most: beyond this the search cannot find more.
    """

    name: str
    value: float
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The answers to queries that were asked all at once.

    Attributes:
        slots: int64 ``(q, k)``, -1 where FAISS found no more.
        rate: queries a second.
        threads: on how many threads.
    """

    slots: NDArray[np.int64]
    rate: float
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBuild:
    """A build in memory, to be asked and judged.

    Attributes:
        basis: the version it was built from, and ``ref`` how to call that.
        health: of the rows it was trained for.
    """

    built: Built
    basis: EmbeddingTable
    ref: str
    health: Health

    @property
    def dim(self) -> int:
        """How wide its queries are."""
        return self.basis.dim

    def places(self, table: EmbeddingTable) -> NDArray[np.int64]:
        """Return the row in a table of the id in each slot, int64; -1 where the table has no such id."""
        return table.lookup(self.built.slots)

    def fitness(self, table: EmbeddingTable, ref: str) -> Fitness:
        """Return how the build stands to a version; see ``fitness.judge``."""
        return fitness.judge(self.built, self.health, (self.ref, self.basis), (ref, table))

    def batch(self, queries: Vectors, k: int) -> Batch:
        """Ask all queries ``(q, d)`` at once on all threads, over and over for a tenth of a second.

        Raises:
            InputError: a row is too long for float32 products.
            IndexFailed: FAISS refused to search.
        """
        import faiss

        x = indexes.fed(self.built, queries)
        start, rounds, spent = time.perf_counter(), 0, 0.0
        while spent < _SPAN:
            _, slots = indexes.ask(self.built, x, k)
            rounds, spent = rounds + 1, time.perf_counter() - start
        return Batch(slots=slots, rate=rounds * len(x) / spent, threads=int(faiss.omp_get_max_threads()))

    def latencies(self, queries: Vectors, k: int, count: int) -> NDArray[np.float64]:
        """Ask single queries, one after the other on one thread; return the seconds each took, ``(m,)``.

        Queries ``(q, d)`` are asked in order, and again from the first where there are fewer than ``count``.
        After five seconds it ends with those it has, 20 at least.

        Raises:
            InputError: a row is too long for float32 products.
            IndexFailed: FAISS refused to search.
        """
        from threadpoolctl import threadpool_limits

        x = indexes.fed(self.built, queries)
        took: list[float] = []
        with threadpool_limits(1):
            for i in range(_WARM):
                indexes.ask(self.built, x[i % len(x)][None], k)
            began = time.perf_counter()
            while len(took) < count and (len(took) < _FEWEST or time.perf_counter() - began < _PATIENCE):
                query = x[len(took) % len(x)][None]
                start = time.perf_counter()
                indexes.ask(self.built, query, k)
                took.append(time.perf_counter() - start)
        return np.array(took)

    def knobs(self) -> tuple[Knob, ...]:
        """Return the search parameters that trade time for recall, those of the outer layers first."""
        import faiss

        found = []
        inner = factories.layers(self.built.index)[-1]
        if isinstance(inner, faiss.IndexRefine):
            found.append(Knob(name="k_factor_rf", value=float(inner.k_factor), most=self.built.rows))
            inner = factories.layers(inner.base_index)[-1]
        if factories.has_lists(inner):
            found.append(Knob(name="nprobe", value=float(inner.nprobe), most=int(inner.nlist)))
        if isinstance(inner, faiss.IndexIVFPQR):
            found.append(Knob(name="k_factor", value=float(inner.k_factor), most=self.built.rows))
        if isinstance(inner, (faiss.IndexHNSW, faiss.IndexBinaryHNSW)):
            found.append(Knob(name="efSearch", value=float(inner.hnsw.efSearch), most=self.built.rows))
        return tuple(found)

    @contextmanager
    def turned(self, knob: Knob, value: float) -> Iterator[None]:
        """Set a search parameter, and set it back."""
        factories.set_search(self.built.index, f"{knob.name}={value:g}")
        try:
            yield
        finally:
            factories.set_search(self.built.index, f"{knob.name}={knob.value:g}")
