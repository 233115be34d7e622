"""Known answers: numbers that were published or measured elsewhere, and what embreg says.

``known.answer`` asserts that a number of embreg, rounded as the published one is, is the published one.
``pytest -m known_answer --known-answers`` (``make known-answers``) ends with a table of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One number, beside the published one."""

    name: str
    published: str
    ours: str
    verdict: str


class KnownAnswers:
    """The answers of one session."""

    def __init__(self) -> None:
        self.given: list[Answer] = []

    def answer(
        self, name: str, published: str, ours: float | str, *, near: float = 0.0, why: str = ""
    ) -> None:
        """Fail unless ``ours`` is the published number, at the digits that were published.

        Args:
            name: what was measured, on what.
            published: as printed, ``.5033`` or ``9033/19544``.
            ours: a number, or the same text.
            near: how far the number may lie from the published one; for definitions that differ.
            why: in which way they differ; owed where ``near`` is given.
        """
        assert bool(near) == bool(why), f"{name}: a tolerance owes a reason"
        told, agrees = ours if isinstance(ours, str) else as_printed(published, ours), False
        if near:
            told = f"{float(ours):.4g}"
            agrees = abs(float(ours) - float(published)) <= near
        else:
            agrees = told == published
        verdict = ("equal" if not near else f"within {near:g}: {why}") if agrees else "DIFFERS"
        self.given.append(Answer(name=name, published=published, ours=told, verdict=verdict))
        assert agrees, f"{name}: published {published}, ours {told}"

    def table(self) -> list[str]:
        """Return the lines of the table, by name."""
        rows = [("known answer", "published", "ours", "verdict")]
        rows += sorted((a.name, a.published, a.ours, a.verdict) for a in self.given)
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        return [
            f"{row[0]:<{wide[0]}}  {row[1]:>{wide[1]}}  {row[2]:>{wide[2]}}  {row[3]}".rstrip()
            for row in rows
        ]


def as_printed(published: str, value: float) -> str:
    """Return a number with as many digits, and as much of a leading zero and a percent sign, as another."""
    bare = published.rstrip("% ")
    digits = len(bare.partition(".")[2])
    text = f"{value:.{digits}f}"
    if bare.lstrip("-").startswith("."):
        text = text.replace("0.", ".", 1)
    return text + published[len(bare) :]
