"""How to read the pictures: every kind that there is, and ``docs/reading-a-report.md`` made of them.

``python -m embreg.evals.report.charts.guide`` prints the guide.
"""

from __future__ import annotations

import sys

from . import cloud, history, norms, occurrence, pareto, sections, similarity, spectrum, tradeoff
from .chart import Kind

#: Every kind of picture, in the order of a report.
KINDS: tuple[Kind, ...] = (
    similarity.KIND,
    spectrum.KIND,
    spectrum.CUMULATIVE,
    norms.KIND,
    occurrence.KIND,
    cloud.KIND,
    sections.KIND,
    tradeoff.KIND,
    pareto.KIND,
    history.KIND,
)

_OPENING = """\
# Reading a report

A report is about one version of an embedding, mostly beside a baseline. It answers in this order:

1. **May it ship?** Whether the version passed its gate, and every reason why not.
2. **What changed**: rows added, removed and changed, and the fields of the space that differ.
3. **Indexes**: which of those that follow the embedding are stale now, and the cheapest repair of each.
4. **Checks and metrics**: every bound with its outcome; every number with its interval and the baseline's
   beside it, and the pictures of what it is made of.
5. **The rows**: which moved most, which answers flipped, the map.

Each picture says in words what is to be seen, and holds its data as a table. The version is blue and drawn
in full, its baseline brown and dashed or hollow. An interval says how far the number would scatter if rows,
questions or pairs had been drawn anew: where two overlap widely, nothing is known to have changed. A
picture that is not there had nothing to show: the suite was not run, or it kept no items (of a sample of
neighbour lists, hubness keeps none).
"""
#: What good and bad look like.
_EXAMPLES = {
    "similarity": (
        "word vectors of 50 dimensions have a hill from -.2 to .4; a collapsed encoder has one spike at the "
        "right edge."
    ),
    "spectrum": (
        "random directions give a level line; raw hidden states of a transformer often have one or two "
        "points far above the rest, and a handful of their hundreds of directions in use. Centring the rows "
        "helps."
    ),
    "cumulative": (
        "90% in 35 of 50 directions is well used; of 90% in a dozen of hundreds a truncated copy keeps "
        "nearly all."
    ),
    "norms": (
        "where common rows are twice as long as rare ones, dot-product search answers with common ones; "
        "under cosine lengths do not matter."
    ),
    "occurrence": (
        "with k = 10 and 20,000 rows, a strongest row in 70 lists is harmless; one in 2,000 lists turns up "
        "in every tenth answer."
    ),
    "cloud": (
        "by movement, large red points all over the plane are rows whose vectors were replaced; a class "
        "that moved as a whole was trained anew."
    ),
    "sections": (
        "a fall of .66 with intervals far apart is a loss; one of .03 with intervals that overlap may be "
        "none."
    ),
    "tradeoff": (
        "int8 at .99 in a quarter of the bytes is nearly free; a codec that reaches .43 alone and .75 with "
        "4 × k candidates ranked anew is worth it only where the exact vectors are at hand."
    ),
    "pareto": ("where a line is level from nprobe=64 on, everything above 64 only takes longer."),
    "history": (
        "three versions at .46 and one at .20, under the bound of .45: that version broke something."
    ),
}


def guide() -> str:
    """Return the guide as Markdown."""
    parts = [_OPENING]
    for kind in KINDS:
        parts.append(f"## {kind.title}\n\n{kind.reading}\n")
        parts.append(f"For example: {_EXAMPLES[kind.name]}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(guide())
