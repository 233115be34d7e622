"""The releases of docs/ci.md in a registry: two that went live, measured, and vectors of two candidates."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from embreg import EmbeddingTable, connect
from embreg.evals.runner import evaluate

PREPARE = Path(__file__).parent.parent / "docs" / "ci" / "prepare.py"
#: What the checks of ``gate init`` are about, and no more: the others take time.
SUITES = ("anisotropy", "drift", "hubness", "neighbors", "probe")


def prepare() -> ModuleType:
    """The script that makes the vectors of docs/ci.md."""
    spec = importlib.util.spec_from_file_location("embreg_ci_prepare", PREPARE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def release(folder: Path) -> Path:
    """Make a registry in ``folder/.embreg``: docs@1 and @2 went live, @3 is good, @4 broken."""
    prepare().main(folder)
    ids = (folder / "vectors/docs.ids").read_text().split()
    with connect(folder / ".embreg", create=True) as registry:
        for name in ("first", "second", "good", "broken"):
            table = EmbeddingTable.from_arrays(ids, np.load(folder / f"vectors/{name}.npy"))
            alias = "production" if name in ("first", "second") else None
            registry.register("docs", table, metric="cosine", alias=alias)
        registry.add_dataset("topics", folder / "vectors/topics.tsv", kind="labels")
        evaluate(registry, "docs@1", suites=SUITES)
        evaluate(registry, "docs@2", suites=SUITES, baseline="docs@1")
    return folder


if __name__ == "__main__":
    release(Path(sys.argv[1]))
