"""Templates for pages, and how a text comes onto one.

Every text that reaches a page passes ``printable`` (so control and bidirectional marks are visible escapes)
and jinja2's escaping.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...registry.errors import printable
from ..figures import change, interval, named, number, p_value
from . import SIGNS

if TYPE_CHECKING:
    from jinja2 import Environment

    from ...registry.types import Space

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_CHARACTERS = 600
#: So much of an id stands in a table.
_SHORT = 60


@cache
def environment() -> Environment:
    """Return the templates of this folder; what they print is made visible, and escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from .charts.drawn import spec_json

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "change": change, "named": named, "p": p_value}
    environment.filters |= {"interval": lambda check: interval(check.low, check.high, check.unit)}
    environment.filters["spec"] = lambda chart: Markup(spec_json(chart))  # noqa: S704 - no '<' is left in it
    environment.filters |= {"short": short, "sentence": sentence}
    environment.filters["space"] = space
    environment.globals["signs"] = SIGNS
    return environment


def _visible(value: Any) -> Any:
    """Make a text visible before jinja2 escapes it; markup of our own macros stays."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(str(value), _MOST_CHARACTERS)
    return value


def short(text: object) -> str:
    """Return what stands of an id in a table."""
    return printable(str(text), _SHORT)


def sentence(text: str) -> str:
    """Return a text as a sentence: a capital, where it begins with a plain word, and a full stop."""
    text = printable(text, _MOST_CHARACTERS)
    first = text.partition(" ")[0]
    begun = text[:1].upper() + text[1:] if first.isalpha() else text
    return begun if begun.endswith((".", "…", "?")) else f"{begun}."


def space(given: Space) -> str:
    """Return a space in one line: ``50 x float32, cosine, word``, then what else is set."""
    told = [f"{given.dim} x {given.dtype}", given.metric, given.kind]
    told += ["normalised"] if given.normalised else []
    told += [
        f"{name} {value}" for name in ("model", "pooling", "position") if (value := getattr(given, name))
    ]
    return ", ".join(told)
