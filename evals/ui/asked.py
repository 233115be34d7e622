"""What a form says, read from an address: bounded, and with a default for all that is not said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ...registry.errors import UnknownChoice, UsageError
from ...registry.types import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What is asked: in percent signs it must stay below what the server reads of an address.
MOST_K, MOST_TEXT = 100, 4096
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about rows of a version.

    Attributes:
        ref: of the version; empty where none was chosen.
        beside: of a second version that is asked the same; empty for none.
        texts: the ids by the names of their fields.
        k: how many answers.
        metric: ``cosine``, ``dot`` or ``l2``; empty for the space's own.
    """

    ref: str = ""
    beside: str = ""
    texts: Mapping[str, str]
    k: int = K
    metric: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], fields: tuple[str, ...]) -> Asked:
        """Read a query string.

        Raises:
            UsageError: k is no number from 1 to ``MOST_K``, a text is too long, or a metric is none.
        """
        metric = _text(query, "metric")
        if metric and metric not in METRICS:
            raise UnknownChoice("metric", metric, METRICS)
        return cls(
            ref=_text(query, "ref"),
            beside=_text(query, "beside"),
            texts={name: _text(query, name) for name in fields},
            k=_k(query.get("k") or str(K)),
            metric=metric,
        )

    @property
    def complete(self) -> bool:
        """Whether every id is there."""
        return bool(self.ref) and all(self.texts.values())

    def address(self, **texts: str) -> str:
        """Return the query string that asks the same, perhaps of other ids."""
        said = {"ref": self.ref, **self.texts, **texts, "k": "" if self.k == K else str(self.k)}
        said |= {"metric": self.metric, "beside": self.beside}
        return urlencode({name: text for name, text in said.items() if text})

    def nearest(self, item: str) -> str:
        """Return the query string that asks for the neighbours of an id."""
        return replace(self, texts={"id": item}).address()

    def about(self, ref: str) -> Asked:
        """Return the same question about another version."""
        return replace(self, ref=ref)


def _text(query: Mapping[str, str], name: str) -> str:
    text = query.get(name, "")
    if len(text) > MOST_TEXT:
        raise UsageError(f"{name}: {len(text):,} characters", hint=f"at most {MOST_TEXT:,} can be asked here")
    return text


def _k(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST_K):
        raise UsageError("k is no such number", hint=f"from 1 to {MOST_K}")
    return int(text)
