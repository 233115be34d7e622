"""What a shell may complete: names that the registry at hand knows, and the words of closed lists.

Nothing here is measured, built or written; what cannot be known quickly is not offered.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from click import Command
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from ..registry.errors import UnknownChoice

if TYPE_CHECKING:
    from ..registry.registry import Registry

Open = Callable[[], "Registry"]
Given = Mapping[str, Any]
#: So many numbers of versions are offered, the newest.
_MOST_NUMBERS = 100


def known(what: str, opened: Open, given: Given, typed: str) -> list[str]:
    """Return what may stand where something is typed.

    Args:
        what: the kind of word: ``ref``, ``name``, ``alias``, ``index``, ``dataset``, ``suite``, ``metric`` …
        opened: opens the registry.
        given: the parameters of the command that are there already; under ``""`` words that could not be
            told apart yet.
        typed: the beginning of the word.
    """
    words = _CLOSED[what]() if what in _CLOSED else _OPEN[what](opened, given, typed)
    return [word for word in dict.fromkeys(words) if word.startswith(typed) and word.isprintable()]


# -- of a registry ------------------------------------------------------------------------------------


def _refs(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    """Yield names and aliases; numbers too as soon as there is an ``@``."""
    name, at, _ = typed.partition("@")
    with opened() as registry:
        if at:
            own = registry.versions(name)
            yield from (f"{name}@{alias}" for v in own for alias in v.aliases)
            yield from (v.ref for v in own[: -_MOST_NUMBERS - 1 : -1])
            yield f"{name}@latest"
            return
        for one in _holdings(registry):
            yield one.name
            yield from (f"{one.name}@{alias}" for alias in one.aliases)


def _names(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    with opened() as registry:
        yield from (one.name for one in _holdings(registry))


def _aliases(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    """Yield the aliases of the embedding that the command is about, or of all where that is not told yet."""
    with opened() as registry:
        found = _holdings(registry)
    own = [one for one in found if one.name in _named(given)] or found
    yield from (alias for one in own for alias in one.aliases)


def _tracked(opened: Open, given: Given, typed: str) -> Iterable[str]:
    yield "latest"
    yield from _aliases(opened, given, typed)


def _indexes(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    with opened() as registry:
        yield from (index.name for index in registry.indexes())


def _dependents(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    with opened() as registry:
        yield from (one.name for one in registry.dependents() if one.kind == "external")


def _datasets(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    with opened() as registry:
        yield from (dataset.name for dataset in registry.datasets())
        yield from (dataset.name for dataset in registry.builtin_datasets())


def _metrics(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    """Yield the metrics that were measured, of the embedding that the command is about."""
    with opened() as registry:
        own = [one.name for one in _holdings(registry) if one.name in _named(given)]
        yield from registry.measured(own[0] if own else None)


def _named(given: Given) -> set[str]:
    """Return the words of the line that may be names of embeddings."""
    words = [given.get("ref"), given.get("name"), *given.get("", ())]
    return {word.partition("@")[0] for word in words if isinstance(word, str)}


def _holdings(registry: Registry) -> Any:
    return sorted(registry.state().embeddings, key=lambda one: one.name)


# -- of closed lists ----------------------------------------------------------------------------------


def _suites() -> Iterable[str]:
    """Yield the suites by the names of their files and entry points: none is loaded."""
    from . import suites
    from .discovery import GROUP

    yield from (module.name for module in pkgutil.iter_modules(suites.__path__))
    yield from (entry.name for entry in entry_points(group=GROUP))


def _topics(opened: Open, given: Given, typed: str) -> Iterable[str]:  # noqa: ARG001
    """Yield suites, and the metrics of the one whose name is followed by a dot."""
    name, dot, _ = typed.partition(".")
    yield from _suites()
    if dot and name in _suites():
        suite = importlib.import_module(f"{__package__}.suites.{name}").SUITE
        yield from (f"{name}.{metric.name}" for metric in suite.metrics)


def _parameters(opened: Open, given: Given, typed: str) -> Iterable[str]:
    """Yield parameters of suites as ``SUITE.PARAM=``."""
    from dataclasses import fields

    name, dot, _ = typed.partition(".")
    if dot and name in _suites():
        suite = importlib.import_module(f"{__package__}.suites.{name}").SUITE
        yield from (f"{name}.{field.name}=" for field in fields(suite.params))
    else:
        yield from (f"{suite}." for suite in _suites())
    _ = opened, given


def _formats() -> Iterable[str]:
    from ..registry.formats import FORMATS

    return FORMATS


def _transforms() -> Iterable[str]:
    from .transforms import NAMES

    return NAMES


def _kinds() -> Iterable[str]:
    from ..registry.types import KINDS

    return KINDS


def _comparisons() -> Iterable[str]:
    from ..registry.types import METRICS

    return METRICS


def _positions() -> Iterable[str]:
    from ..registry.types import POSITIONS

    return POSITIONS


def _storages() -> Iterable[str]:
    from ..registry.tables import STORAGES

    return STORAGES


def _dataset_kinds() -> Iterable[str]:
    from ..registry.datasets import SCHEMAS

    return SCHEMAS


_OPEN: Mapping[str, Callable[[Open, Given, str], Iterable[str]]] = {
    "ref": _refs,
    "name": _names,
    "alias": _aliases,
    "tracked": _tracked,
    "index": _indexes,
    "dependent": _dependents,
    "dataset": _datasets,
    "metric": _metrics,
    "topic": _topics,
    "parameter": _parameters,
}
_CLOSED: Mapping[str, Callable[[], Iterable[str]]] = {
    "suite": _suites,
    "format": _formats,
    "transform": _transforms,
    "kind": _kinds,
    "comparison": _comparisons,
    "position": _positions,
    "dataset kind": _dataset_kinds,
    "storage": _storages,
    "nonfinite": lambda: ("fail", "drop"),
    "device": lambda: ("auto", "cpu", "cuda"),
}


# -- bash ---------------------------------------------------------------------------------------------


class _Bash(BashComplete):
    """Bash takes a reference apart at its ``@``: put together here, and only what follows it is answered."""

    _cut = False

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that one."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        at = int(os.environ["COMP_CWORD"])
        before, last = _glued(words[1:at]), words[at] if at < len(words) else ""
        self._cut = bool(before) and (last == "@" or before[-1].endswith("@"))
        return (before[:-1], before[-1] + last) if self._cut else (before, last)

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line of an answer."""
        value = item.value.rpartition("@")[2] if self._cut else item.value
        return f"{item.type},{value}"


def _glued(words: Iterable[str]) -> list[str]:
    glued: list[str] = []
    for word in words:
        if glued and (word == "@" or glued[-1].endswith("@")):
            glued[-1] += word
        else:
            glued.append(word)
    return glued


def script(command: Command, shell: str) -> str:
    """Return what a shell has to run, once, to ask us for completions."""
    asking = _Bash if shell == "bash" else get_completion_class(shell)
    if asking is None:
        raise UnknownChoice("shell", shell, ("bash", "zsh", "fish"))
    return asking(command, {}, "embreg", "_EMBREG_COMPLETE").source().strip()


def install() -> None:
    """Let click answer bash in our way; other shells hand over whole words."""
    add_completion_class(_Bash, "bash")
