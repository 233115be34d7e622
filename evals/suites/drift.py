"""Drift: what changed from the baseline to the candidate, on the ids that both hold.

Three questions with different answers are kept apart: did the *meaning* change (who is near whom), did the
*axes* change (can old and new vectors be compared), and what would an index of the old vectors return to
the new encoder? Rows that are zero in either version take no part. The formulas are in ``evals.geometry``,
``evals.subspaces``, ``evals.turnover`` and ``evals.twosample``. Sources: Leszczynski et al. 2020 (neighbours,
eigenspaces); Hamilton, Leskovec & Jurafsky 2016 (displacement); Gretton et al. 2012 (MMD).

``mmd`` asks whether the two *distributions* of rows are one, whatever became of each row: two samples of
different ids, chosen by a salted hash of the ids, one read in each version. As they are independent, any deal
of the pooled rows into two sets is as likely as theirs where the distributions are equal.

The verdict is the first that holds. Kept is the overlap beyond chance, (o - c) / (1 - c), c = k / (n - 1):

1. ``identical``: every row has its direction (1 - cosine <= ``same_direction``) and its length (within
   ``same_norm``).
2. ``rescaled``: every row has its direction; lengths differ.
3. ``respaced``: kept < ``respaced``; no shared meaning.
4. ``drifted``: kept < ``refined``.
5. ``rotated``: another width, or mean raw cosine < ``rotated``; neighbours kept but axes moved: encode
   queries anew, rebuild indexes.
6. ``refined``: most neighbours kept, on the same axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...registry.errors import UsageError, printable
from ...registry.vectors import hash_ids
from .. import geometry, turnover, twosample
from ..geometry import Geometry
from ..shared import Floats, Shared
from ..statistics import mean_error, normal_interval
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..turnover import Turnover

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

_SHARE: dict[str, Any] = {"unit": "share", "better": Better.HIGHER, "low": 0.0, "high": 1.0}

NEIGHBOR_OVERLAP = Metric(
    "neighbor_overlap@k",
    **_SHARE,
    item="neighbor_overlap",
    doc="Share of each row's k nearest neighbours that are still among them.",
    formula="mean over i of |N_k(i) ∩ N'_k(i)| / k, N old and N' new neighbours",
    source="Leszczynski et al. 2020 (k-NN measure)",
)
RBO = Metric(
    "rbo",
    **_SHARE,
    doc="Rank-biased overlap (p = 0.9, extrapolated) of each row's k nearest neighbours, in order.",
    formula="mean over i of (A_k / k) p^k + (1 - p) Σ_{r <= k} p^(r-1) A_r / r, A_r = |N_r(i) ∩ "
    "N'_r(i)|, p = 0.9",
    source="Webber, Moffat & Zobel 2010, section 4",
)
CROSS_RECALL = Metric(
    "cross_recall@k",
    **_SHARE,
    doc="Share of a row's k new neighbours that its new vector finds among the old vectors.",
    formula="mean over i of |N_k(y_i in Y) ∩ N_k(y_i in X)| / k",
    source="own",
)
SEMANTIC_DISPLACEMENT = Metric(
    "semantic_displacement",
    unit="cosine distance",
    better=Better.LOWER,
    low=0.0,
    high=2.0,
    item="semantic_displacement",
    doc="Mean cosine distance of each row from its old self after the best rotation.",
    formula="mean over i of 1 - cos(x_i, Q y_i), Q orthogonal with the least mean",
    source="Hamilton, Leskovec & Jurafsky 2016, sections 2.3 (alignment) and 2.4 (displacement)",
)
PROCRUSTES_RESIDUAL = Metric(
    "procrustes_residual",
    unit="share",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the squared length of the centred rows that no rotation explains.",
    formula="(|Xc|_F² + |Yc|_F² - 2 |Xc'Yc|_*) / (|Xc|_F² + |Yc|_F²)",
    source="Schönemann 1966",
)
CKA = Metric(
    "cka",
    unit="correlation",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    doc="Debiased linear centred kernel alignment: 1 for equal similarities, 0 for unrelated ones.",
    formula="h(X, Y) / sqrt(h(X, X) h(Y, Y)), h the unbiased HSIC of XX' and YY' (Song et al. 2012, eq. 5)",
    source="Nguyen, Raghu & Kornblith 2021, section 3",
)
RAW_COSINE = Metric(
    "raw_cosine",
    unit="cosine",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    item="raw_cosine",
    doc="Mean cosine of each row with its old self, unaligned: near 1, old and new vectors mix.",
    formula="mean over i of cos(x_i, y_i)",
    source="own",
)
EIGENSPACE_INSTABILITY = Metric(
    "eigenspace_instability",
    unit="share",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="How far linear models on the two versions can disagree: 0 where their left singular spaces agree.",
    formula="tr((UU' + VV' - 2 VV'UU') S) / tr S, S = (XX')³ + (YY')³ with |X|_F = |Y|_F = 1",
    source="Leszczynski et al. 2020 (eigenspace instability measure, α of 3); own (the anchors)",
)
EIGENSPACE_OVERLAP = Metric(
    "eigenspace_overlap",
    **_SHARE,
    doc="Squared overlap of the spaces that the rows of the two versions span, over the larger rank.",
    formula="|U'V|_F² / max(rank X, rank Y)",
    source="May, Zhang, Dao & Ré 2019, eigenspace overlap score",
)
PIP_LOSS = Metric(
    "pip_loss",
    unit="squared norm",
    better=Better.LOWER,
    low=0.0,
    doc="Distance between the inner products of all pairs of rows; it grows with their number.",
    formula="|XX' - YY'|_F",
    source="Yin & Shen 2018, pairwise inner product loss",
)
PIP_LOSS_RELATIVE = Metric(
    "pip_loss_relative",
    unit="share",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="The PIP loss as a share of its largest: 0 for equal inner products, 1 for unrelated ones.",
    formula="|XX' - YY'|_F / sqrt(|XX'|_F² + |YY'|_F²)",
    source="Yin & Shen 2018; own (the scale)",
)
MMD = Metric(
    "mmd",
    unit="MMD²",
    better=Better.LOWER,
    low=-2.0,
    high=2.0,
    ideal=0.0,
    doc="Squared maximum mean discrepancy of the two distributions of rows, unbiased: about 0 if they agree.",
    formula="mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j), i ≠ j in the first two; k = "
    "exp(-|a - b|² / median)",
    source="Gretton et al. 2012, lemma 6",
)
MMD_P = Metric(
    "mmd_p",
    unit="probability",
    better=Better.NEITHER,
    low=0.0,
    high=1.0,
    doc="p-value of the MMD under permutations of the pooled rows: small if the distributions differ.",
    formula="(1 + |{permutations with an MMD² as large}|) / (1 + |{permutations}|)",
    source="Gretton et al. 2012, section 5; Phipson & Smyth 2010",
)
NORM_SHIFT = Metric(
    "norm_shift",
    unit="ratio",
    better=Better.NEITHER,
    low=-1.0,
    doc="Mean norm of the new rows over that of the old ones, minus 1.",
    formula="mean |y_i| / mean |x_i| - 1",
    source="own",
)
CENTROID_SHIFT = Metric(
    "centroid_shift",
    unit="ratio",
    better=Better.LOWER,
    low=0.0,
    doc="Distance between the two centroids, in units of the old mean norm.",
    formula="|mean y_i - mean x_i| / mean |x_i|",
    source="own",
)
MEAN_COSINE_CHANGE = Metric(
    "mean_cosine_change",
    unit="cosine",
    better=Better.NEITHER,
    low=-2.0,
    high=2.0,
    doc="Change of the mean cosine over all pairs of distinct shared rows.",
    formula="mean over i ≠ j of cos(y_i, y_j) - cos(x_i, x_j)",
    source="Ethayarajh 2019, section 3",
)
SHARED_SHARE = Metric(
    "shared_share",
    **_SHARE,
    doc="Share of the rows (of the baseline, of the candidate) whose id the other version holds too.",
    formula="|{ids of both}| / |{ids of the one}|",
    source="own",
)
ADDED = Metric(
    "added",
    unit="rows",
    better=Better.NEITHER,
    low=0.0,
    doc="Rows of the candidate whose id the baseline does not hold.",
    formula="|{ids of the candidate} - {ids of the baseline}|",
    source="own",
)
REMOVED = Metric(
    "removed",
    unit="rows",
    better=Better.NEITHER,
    low=0.0,
    doc="Rows of the baseline whose id the candidate does not hold.",
    formula="|{ids of the baseline} - {ids of the candidate}|",
    source="own",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters of the suite; the last five are the thresholds of the verdict (see the module).

    Attributes:
        k: neighbours of a row.
        queries: rows whose neighbours are compared; all up to 10,000 shared rows. Where both versions hold
            the same ids their shared graphs are compared whole, and this limits ``cross_recall@k`` only.
        mmd_rows: rows of each version that ``mmd`` compares, at most half of the shared ones.
        permutations: behind ``mmd_p``, which cannot fall below 1 / (1 + permutations).
        same_direction: largest 1 - cosine between equal directions.
        same_norm: largest relative difference between equal lengths.
        respaced: share of neighbours kept beyond chance below which no meaning is shared.
        refined: share of neighbours kept beyond chance from which the meaning is kept.
        rotated: mean raw cosine below which the axes moved.
    """

    k: int = 10
    queries: int = 2000
    mmd_rows: int = 1000
    permutations: int = 999
    same_direction: float = 1e-6
    same_norm: float = 1e-3
    respaced: float = 0.05
    refined: float = 0.8
    rotated: float = 0.9

    def __post_init__(self) -> None:
        if self.k < 1 or self.queries < 1:
            raise UsageError(f"k = {self.k}, queries = {self.queries}: both are at least 1")
        if self.mmd_rows < 2 or self.permutations < 1:
            raise UsageError(
                f"mmd_rows = {self.mmd_rows}, permutations = {self.permutations}: at least 2 and 1"
            )
        if self.respaced > self.refined:
            raise UsageError(f"respaced = {self.respaced} lies above refined = {self.refined}")


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Compare the baseline of ``subject`` with ``subject``; see ``Params`` and the module.

    Raises:
        Skipped: there is no baseline, or nothing is shared with it.
    """
    if subject.baseline is None:
        raise Skipped("needs a baseline")
    shared = Shared.of(subject.baseline, subject)
    same = shared.unchanged()
    moves = geometry.unmoved(shared.n) if same else geometry.measure(shared)
    same_neighbors = same and shared.old.space.metric == shared.new.space.metric
    compare = turnover.unturned if same_neighbors else turnover.compare
    lists = compare(shared, params.k, params.queries)
    found = [
        *_ids_found(shared),
        *_moves_found(shared, moves),
        *_lists_found(shared, lists, params, rng),
        *_distributions_found(shared, params, rng, same=same),
    ]
    verdict, why = _judge(shared, moves, lists, params)
    return Findings(
        measures=[m for m in found if isinstance(m, Measure)],
        absent=[a for a in found if isinstance(a, Absent)],
        items=_items(shared, moves, lists),
        notes=[why, *_notes(shared, moves)],
        verdict=verdict,
    )


def _ids_found(shared: Shared) -> list[Measure]:
    old, new = shared.old.table.rows, shared.new.table.rows
    return [
        Measure(SHARED_SHARE.name, shared.ids / old, old, {"of": "baseline"}),
        Measure(SHARED_SHARE.name, shared.ids / new, new, {"of": "candidate"}),
        Measure(ADDED.name, float(new - shared.ids), new),
        Measure(REMOVED.name, float(old - shared.ids), old),
    ]


def _moves_found(shared: Shared, moves: Geometry) -> list[Measure | Absent]:
    found: list[Measure | Absent] = []
    for metric, rows in ((SEMANTIC_DISPLACEMENT, moves.displacement), (RAW_COSINE, moves.raw_cosine)):
        if rows is None:
            found.append(Absent(metric.name, geometry.widths_differ(shared)))
            continue
        mean = float(rows.mean())
        low, high = normal_interval(
            mean, mean_error(rows), float(metric.low or 0.0), float(metric.high or 0.0)
        )
        found.append(Measure(metric.name, mean, shared.n, low=low, high=high))
    for name, value in moves.scalars.items():
        found.append(Absent(name, value) if isinstance(value, str) else Measure(name, value, shared.n))
    return found


def _lists_found(
    shared: Shared, lists: Turnover | str, params: Params, rng: np.random.Generator
) -> list[Measure | Absent]:
    overlap, cross = NEIGHBOR_OVERLAP.at(params.k), CROSS_RECALL.at(params.k)
    if isinstance(lists, str):
        return [Absent(name, lists) for name in (overlap, RBO.name, cross)]
    found: list[Measure | Absent] = []
    for name, values in ((overlap, lists.overlap), (RBO.name, lists.rbo), (cross, lists.cross)):
        if values is None:
            found.append(Absent(name, geometry.widths_differ(shared)))
            continue
        figure = values.mean(rng, 0.0, 1.0)
        if isinstance(figure, str):
            found.append(Absent(name, figure))
        else:
            found.append(Measure(name, figure.value, figure.n, low=figure.low, high=figure.high))
    return found


def _distributions_found(
    shared: Shared, params: Params, rng: np.random.Generator, *, same: bool
) -> list[Measure | Absent]:
    if same:
        return [Measure(MMD.name, 0.0, shared.n), Measure(MMD_P.name, 1.0, shared.n)]
    found: twosample.Discrepancy | str
    m = min(params.mmd_rows, shared.n // 2)
    if not shared.same_width:
        found = geometry.widths_differ(shared)
    elif m < 2:
        found = f"two samples need at least 4 shared rows; there are {shared.n}"
    else:
        # A stream of its own: which rows are drawn does not hang on what other metrics drew before.
        (own,) = rng.spawn(1)
        x, y = _samples(shared, m, int(own.integers(1 << 63)))
        found = twosample.discrepancy(x, y, own, permutations=params.permutations)
    if isinstance(found, str):
        return [Absent(MMD.name, found), Absent(MMD_P.name, found)]
    return [
        Measure(MMD.name, found.value, 2 * m, low=found.low, high=found.high),
        Measure(MMD_P.name, found.p, 2 * m),
    ]


def _samples(shared: Shared, m: int, salt: int) -> tuple[Floats, Floats]:
    """Return m rows of the old version and m rows of other ids of the new one."""
    hashes = hash_ids(shared.new.table.ids_of(shared.new_rows), salt)
    chosen = np.argsort(hashes, kind="stable")[: 2 * m]
    old = shared.old.table.take(shared.old_rows[chosen[:m]])
    new = shared.new.table.take(shared.new_rows[chosen[m:]])
    return old.astype(np.float64), new.astype(np.float64)


def _judge(shared: Shared, moves: Geometry, lists: Turnover | str, params: Params) -> tuple[str | None, str]:
    """Return the verdict and why: the decision list of the module, from its top."""
    raw, gap = moves.raw_cosine, float(np.abs(moves.norm_ratio - 1).max())
    if raw is not None and 1 - raw.min() <= params.same_direction:
        verdict = "identical" if gap <= params.same_norm else "rescaled"
        return verdict, (
            f"{verdict}: every row has its direction (1 - cosine <= {params.same_direction:g}); lengths "
            f"differ by at most {gap:.3g} (same_norm = {params.same_norm:g})"
        )
    if isinstance(lists, str):
        return None, f"no verdict: {lists}"
    chance = params.k / (shared.n - 1)
    kept = (lists.kept - chance) / (1 - chance)
    axes = "another width" if raw is None else f"mean raw cosine {raw.mean():.3f}"
    if kept < params.refined:
        verdict = "respaced" if kept < params.respaced else "drifted"
    else:
        moved = raw is None or raw.mean() < params.rotated
        verdict = "rotated" if moved else "refined"
    return verdict, (
        f"{verdict}: {kept:.3f} of the neighbours kept beyond chance (respaced below {params.respaced:g}, "
        f"drifted below {params.refined:g}); {axes} (rotated below {params.rotated:g})"
    )


def _notes(shared: Shared, moves: Geometry) -> list[str]:
    notes = []
    if zeros := shared.ids - shared.n:
        notes.append(
            f"{zeros:,} of {shared.ids:,} shared rows are zero, special or not finite in a version: left out"
        )
    changes = shared.old.space.changes(shared.new.space)
    if changes:
        notes.append("space changed: " + "; ".join(printable(str(c)) for c in changes))
    most = np.argsort(-moves.displacement, kind="stable")[:5]
    if moves.displacement[most[0]] >= 5e-4:
        names = zip(shared.new.table.ids_of(shared.new_rows[most]), most, strict=True)
        told = [f"{printable(name, 40)} {moves.displacement[i]:.3f}" for name, i in names]
        notes.append("moved most: " + ", ".join(told))
    return notes


def _items(shared: Shared, moves: Geometry, lists: Turnover | str) -> pa.Table:
    import pyarrow as pa

    overlap, asked = np.zeros(shared.n), np.zeros(shared.n, dtype=bool)
    if isinstance(lists, Turnover):
        overlap[lists.queries], asked[lists.queries] = lists.overlap.found, True
    raw = moves.raw_cosine
    return pa.table(
        {
            "item": shared.new.table.ids.combine_chunks().take(pa.array(shared.new_rows)),
            "semantic_displacement": moves.displacement,
            "neighbor_overlap": pa.array(overlap, mask=~asked),
            "raw_cosine": pa.nulls(shared.n, pa.float64()) if raw is None else raw,
        }
    )


SUITE = Suite(
    name="drift",
    version=1,
    params=Params,
    metrics=(
        NEIGHBOR_OVERLAP,
        SEMANTIC_DISPLACEMENT,
        PROCRUSTES_RESIDUAL,
        CKA,
        RAW_COSINE,
        CROSS_RECALL,
        RBO,
        EIGENSPACE_INSTABILITY,
        EIGENSPACE_OVERLAP,
        PIP_LOSS,
        PIP_LOSS_RELATIVE,
        MMD,
        MMD_P,
        NORM_SHIFT,
        CENTROID_SHIFT,
        MEAN_COSINE_CHANGE,
        SHARED_SHARE,
        ADDED,
        REMOVED,
    ),
    needs=frozenset({Need.BASELINE}),
    run=run,
    doc="What changed from the baseline: the meaning, the axes, or only lengths?",
)
