"""From a FAISS factory string to an empty index that is safe to train, and what its type can do.

What a type can do, by its family (removal wants the family in the outermost layers: a pre-transform may lie
around it, a refinement may not):

==================================== =========================== ============= ===========
family                               for example                 slots         removes
==================================== =========================== ============= ===========
flat, codes                          Flat PQ25 SQ8 RaBitQ LSH RQ rows in order yes
fast scan                            PQ16x4fs RaBitQfs           rows in order yes
inverted lists                       IVF256,PQ25 IMI2x8,Flat     ids kept      yes
inverted lists, two-stage            IVF256,PQ10+10              ids kept      no
graphs                               HNSW32 NSG32                rows in order no
refined                              PQ10,RFlat                  rows in order no
with an id map                       IDMap,Flat                  ids kept      as inside it
with an id map around inverted lists IDMap,IVF256,Flat           ids kept      no
binary                               BFlat BIVF64 BHNSW32 BHash8 as above      BFlat, BIVF
==================================== =========================== ============= ===========

Everything can take appended rows, but for NSG.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import InputError, UsageError, printable

if TYPE_CHECKING:
    import faiss

#: The most lists of an inverted file, and the largest other number that makes sense in a factory string.
_MOST_LISTS = 1 << 24
_LARGEST = 1 << 16
#: Links of a graph that FAISS survives: (fewest, most). With fewer links an NSG can stay in pieces for ever.
_LINKS = {"HNSW": (2, 512), "NSG": (16, 512)}
#: Rows below which an NSG cannot be built, whatever its links.
_NSG_ROWS = 200
#: Bits of each code of the quantizer that an OPQ rotation trains with.
_OPQ_BITS = 8
_EXAMPLES = "for example Flat, HNSW32, IVF1024,Flat, IVF256,PQ25 (PQ's number divides the width), SQ8, BFlat"


def reason(exc: BaseException) -> str:
    """Return the last clause of a FAISS message: the rest is C++ signatures and line numbers."""
    return printable(str(exc).rpartition(": ")[2] or str(exc) or type(exc).__name__)


def is_binary(index: Any) -> bool:
    """Whether it is an index of bits."""
    import faiss

    return isinstance(index, faiss.IndexBinary)


def down(index: Any) -> Any:
    """Return a FAISS index as its own type; the caller keeps hold of what owns it."""
    import faiss

    return faiss.downcast_IndexBinary(index) if is_binary(index) else faiss.downcast_index(index)


def layers(index: Any) -> list[Any]:
    """Return the index, what its pre-transforms and id maps wrap, and so on to the one that holds codes."""
    import faiss

    found = [down(index)]
    while isinstance(found[-1], (faiss.IndexPreTransform, faiss.IndexIDMap, faiss.IndexBinaryIDMap)):
        found.append(down(found[-1].index))
    return found


def transforms(index: Any) -> list[Any]:
    """Return the vector transforms of one ``IndexPreTransform`` in order; none of another type."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return []
    chain: Any = index.chain
    return [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]


def transformed(index: Any, x: Any) -> Any:
    """Return rows ``(n, d)`` as they arrive at the innermost layer, behind every pre-transform."""
    for layer in layers(index):
        for transform in transforms(layer):
            x = transform.apply(x)
    return x


def has_lists(index: Any) -> bool:
    """Whether it is an inverted file, itself."""
    import faiss

    return isinstance(index, (faiss.IndexIVF, faiss.IndexBinaryIVF))


def _has_ids(index: Any) -> bool:
    import faiss

    return isinstance(index, (faiss.IndexIDMap, faiss.IndexBinaryIDMap))


def keeps_ids(index: Any) -> bool:
    """Whether rows keep the slot they were added with for ever; if not, slots close up when rows go."""
    return any(_has_ids(layer) or has_lists(layer) for layer in layers(index))


def can_add(index: Any) -> bool:
    """Whether rows can be added to an index that holds some."""
    import faiss

    return not isinstance(layers(index)[-1], faiss.IndexNSG)


def can_remove(index: Any) -> bool:
    """Whether rows can be removed, with the slots of the others as ``keeps_ids`` says."""
    import faiss

    *around, inner = layers(index)
    if has_lists(inner):
        # An id map takes it that rows close up inside of it; lists keep their ids. Then its answers are
        # wrong, or read past its end. A two-stage IVFPQ refines by row, and aborts once ids are not rows.
        return not any(_has_ids(layer) for layer in around) and not isinstance(inner, faiss.IndexIVFPQR)
    return isinstance(inner, (faiss.IndexFlatCodes, faiss.IndexFastScan, faiss.IndexBinaryFlat))


def check_rows(factory: str, rows: int) -> None:
    """Refuse a factory that needs more rows than there are.

    Raises:
        InputError: more lists than rows, or too few rows for an NSG.
    """
    needed = max((int(n) for n in re.findall(r"(?:IVF)(\d+)(?![\d(])", factory)), default=0)
    links = [int(n or 32) for n in re.findall(r"NSG(\d*)", factory)]
    graph = max([_NSG_ROWS, *(2 * n for n in links)]) if links else 0
    if rows < max(needed, graph):
        hint = "choose fewer lists, for example 4 times the square root of the rows"
        raise InputError(
            f"'{printable(factory)}' needs at least {max(needed, graph):,} rows; the table has {rows:,}",
            hint=hint if needed >= graph else "a table that small needs no graph: take Flat",
        )


def create(factory: str, search: str, dim: int, metric: str) -> faiss.Index | faiss.IndexBinary:
    """Return an empty index with its search parameters set.

    A factory that starts with B makes an index of bits, ``dim`` rounded up to whole bytes. A type that knows
    distances only (LSH, IMI) serves cosine too: between unit rows the two order alike.

    Raises:
        UsageError: FAISS does not know the factory string or a parameter, or they fit neither width nor
            metric, or FAISS would not survive it.
    """
    _refuse_deadly(factory)
    try:
        index = _binary(factory, dim) if factory.startswith("B") else _float(factory, dim, metric)
    except (RuntimeError, ValueError, MemoryError) as exc:
        raise UsageError(
            f"FAISS cannot make '{printable(factory)}' for {metric} vectors of width {dim}: {reason(exc)}",
            hint=_EXAMPLES,
        ) from exc
    _refuse_type(index, factory)
    set_search(index, search)
    _spare_polysemous(index, search)
    return index


def _refuse_deadly(factory: str) -> None:
    """Refuse factories that parse and then abort or hang the process inside FAISS, or fill its memory."""
    told = f"factory '{printable(factory)}'"
    for word, number in re.findall(r"([A-Za-z]*)(\d+)", factory):
        most = _MOST_LISTS if word.endswith("IVF") else _LARGEST
        if not 1 <= int(number[:12]) <= most:
            raise UsageError(f"{told}: its numbers go from 1 to {most:,}", hint=_EXAMPLES)
        for graph, (fewest, largest) in _LINKS.items():
            if word.endswith(graph) and not fewest <= int(number) <= largest:
                raise UsageError(f"{told}: {graph} takes {fewest} to {largest} links")
    for splits, bits in re.findall(r"(?:IMI|RCQ)(\d+)x(\d+)", factory):
        if int(splits) * int(bits) > 24:
            raise UsageError(f"{told}: 2^{int(splits) * int(bits)} lists are too many")


def _float(factory: str, dim: int, metric: str) -> faiss.Index:
    import faiss

    if metric == "l2":
        return faiss.index_factory(dim, factory, faiss.METRIC_L2)
    try:
        return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as exc:
        try:
            by_distance = faiss.index_factory(dim, factory, faiss.METRIC_L2)
        except RuntimeError:
            raise exc from None
        if metric == "cosine":
            return by_distance
        raise ValueError("it exists for cosine and l2 only") from exc


def _binary(factory: str, dim: int) -> faiss.IndexBinary:
    import faiss

    return faiss.index_binary_factory(-(-dim // 8) * 8, factory)


def _refuse_type(index: Any, factory: str) -> None:
    import faiss

    inner = layers(index)[-1]
    if isinstance(inner, (faiss.Index2Layer, faiss.IndexLattice)):
        raise UsageError(
            f"factory '{printable(factory)}' makes codes that cannot be searched", hint="put IVF before it"
        )
    if isinstance(inner, faiss.IndexRefine):
        *around, store = layers(inner.refine_index)
        if any(_has_ids(layer) for layer in around) or not isinstance(store, faiss.IndexFlatCodes):
            raise UsageError(
                f"factory '{printable(factory)}': FAISS does not survive refining by such an index",
                hint="refine by codes: RFlat, Refine(SQ8), Refine(PQ25)",
            )


def set_search(index: Any, search: str) -> None:
    """Set parameters like ``nprobe=16,efSearch=64``; FAISS keeps them in the index file.

    Raises:
        UsageError: the index has no such parameter, or not that value.
    """
    for pair in filter(None, search.split(",")):
        name, _, value = pair.strip().partition("=")
        if value.strip().lstrip("-").isdigit() and not 1 <= int(value) < 2**31:
            raise UsageError(f"search parameter '{printable(pair)}': at least 1")
        try:
            _set_one(index, name.strip(), float(value))
        except (RuntimeError, ValueError, OverflowError) as exc:
            raise UsageError(
                f"FAISS cannot set '{printable(pair)}' on this index: {reason(exc)}",
                hint="for example nprobe=16 for IVF, efSearch=64 for HNSW, k_factor_rf=4 for a refined one",
            ) from exc


def _set_one(index: Any, name: str, value: float) -> None:
    import faiss

    if not is_binary(index):
        faiss.ParameterSpace().set_index_parameter(index, name, value)
        return
    inner = layers(index)[-1]  # FAISS sets parameters by name on float indexes only
    holder = inner.hnsw if name == "efSearch" and hasattr(inner, "hnsw") else inner
    if name not in ("nprobe", "efSearch", "nflip") or not hasattr(holder, name):
        raise ValueError(f"there is no {printable(name)} here")
    setattr(holder, name, int(value))


def _spare_polysemous(index: Any, search: str) -> None:
    """Leave out the annealing that only a search by Hamming threshold (``ht=``) uses: it takes 50 times
    as long as the rest of a PQ's training, and only renames its centroids.
    """  # noqa: D205
    if "ht=" in search:
        return
    for part in _parts(index):
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False


def _parts(index: Any) -> Iterator[Any]:
    """Yield every index inside an index, itself first, coarse quantizers and stores included."""
    index = down(index)
    yield index
    for holder in (index, getattr(index, "q1", None)):  # q1: the coarse half of a two-layer store
        for name in ("index", "base_index", "refine_index", "quantizer", "storage"):
            inside = getattr(holder, name, None)
            if inside is not None:
                yield from _parts(inside)


def largest_codebook(index: Any) -> int:
    """Return the largest number of centroids that one k-means of its training looks for; 0 if none does."""
    import faiss

    sizes = [0]
    for part in _parts(index):
        if has_lists(part) and not isinstance(part.quantizer, faiss.MultiIndexQuantizer):
            sizes.append(part.nlist)
        if any(isinstance(transform, faiss.OPQMatrix) for transform in transforms(part)):
            sizes.append(1 << _OPQ_BITS)
        for holder in _quantizers(part):
            bits = getattr(holder, "nbits", 0)
            sizes += [1 << n for n in ([bits] if isinstance(bits, int) else faiss.vector_to_array(bits))]
    return int(max(sizes))


@contextmanager
def quiet(index: Any) -> Iterator[None]:
    """Keep FAISS from printing, while it trains, that there are few rows for each centroid."""
    import faiss

    lent = []
    for part in _parts(index):
        for holder in (part, *_quantizers(part)):
            if hasattr(holder, "cp"):
                holder.cp.min_points_per_centroid = 1
        for transform in transforms(part):
            if isinstance(transform, faiss.OPQMatrix):  # it would make a quantizer inside of ``train``
                transform.pq = faiss.ProductQuantizer(transform.d_out, transform.M, _OPQ_BITS)
                transform.pq.cp.min_points_per_centroid = 1
                lent.append((transform, transform.pq))
    try:
        yield
    finally:
        for transform, _ in lent:
            transform.pq = None


def mend(index: Any) -> None:
    """Set what FAISS forgets when it reads inverted lists with fast scan: decoding would crash without it."""
    for part in _parts(index):
        if getattr(part, "fine_quantizer", part) is None:
            part.fine_quantizer = getattr(part, "pq", None) or getattr(part, "aq", None)


def _quantizers(part: Any) -> list[Any]:
    """Return the quantizers that one index trains, and the quantizers of those."""
    import faiss

    names = ("q1", "pq", "refine_pq", "rq", "lsq", "prq", "plsq")
    found = [q for name in names if (q := getattr(part, name, None)) is not None]
    inside = [q.subquantizer(i) for q in found if hasattr(q, "nsplits") for i in range(q.nsplits)]
    return found + [faiss.downcast_Quantizer(q) for q in inside]  # type: ignore[attr-defined]
