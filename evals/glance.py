"""Which numbers of a suite say most: one for the whole of each metric, not its slices and variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: A metric that has no value but for variants is at a glance those, if there are no more.
_FEW = 3
_TOTAL = {"group": "total"}


def at_a_glance(named: Sequence[tuple[str, Mapping[str, str]]]) -> list[int]:
    """Return the places of the numbers of one suite that say most, in order.

    Of each metric that is the one without labels, else the total; of a metric that has neither, its
    variants with the fewest labels, if they are few or the metric leads its suite.

    Args:
        named: metric (as declared: ``recall@k``) and labels of each number.
    """
    by_metric: dict[str, list[int]] = {}
    for at, (metric, _) in enumerate(named):
        by_metric.setdefault(metric, []).append(at)
    leading = next(iter(by_metric), "")
    kept: list[int] = []
    for metric, own in by_metric.items():
        labels = {at: named[at][1] for at in own}
        whole = [at for at in own if not labels[at]] or [at for at in own if labels[at] == _TOTAL]
        fewest = min(map(len, labels.values()))
        variants = [at for at in own if len(labels[at]) == fewest]
        kept += whole or (variants if len(variants) <= _FEW or metric == leading else [])
    return sorted(kept)
