"""embreg: an embedding artifact registry and evaluation harness.

``connect`` opens a registry; ``evaluate``, ``drift``, ``compare`` and ``gate`` measure what is in it, and all
but the last plain vectors too. The names below are loaded when first used, so that importing embreg costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .evals.deriving import derive as derive
    from .evals.devices import at_device as at_device
    from .evals.gating import gate as gate
    from .evals.notebook import compare as compare
    from .evals.notebook import drift as drift
    from .evals.notebook import evaluate as evaluate
    from .registry.errors import EmbregError as EmbregError
    from .registry.registry import Registry as Registry
    from .registry.tables import EmbeddingTable as EmbeddingTable
    from .registry.types import Ref as Ref
    from .registry.types import Space as Space

__version__ = "0.1.0"
__all__ = [
    "EmbeddingTable",
    "EmbregError",
    "Ref",
    "Registry",
    "Space",
    "at_device",
    "compare",
    "connect",
    "derive",
    "drift",
    "evaluate",
    "gate",
]

_HOMES = {
    "EmbeddingTable": "registry.tables",
    "EmbregError": "registry.errors",
    "Ref": "registry.types",
    "Registry": "registry.registry",
    "Space": "registry.types",
    "at_device": "evals.devices",
    "compare": "evals.notebook",
    "derive": "evals.deriving",
    "drift": "evals.notebook",
    "evaluate": "evals.notebook",
    "gate": "evals.gating",
}


def connect(url: str | Path, *, create: bool = False) -> Registry:
    """Open the registry at a directory.

    Args:
        url: the directory.
        create: make it if there is none, and upgrade an older one.

    Raises:
        RegistryNotFound: there is none, and ``create`` is off.
        SchemaMismatch: it was written by another version of embreg.
    """
    from .registry.registry import Registry

    return Registry.create(url) if create else Registry.open(url)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'embreg' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
