"""``compare``, ``items`` and ``metrics`` as people and scripts call them; on real words and on nasty ids."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from embreg import connect
from embreg.cli import main

ROWS = 3000
NASTY = [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tTab", "\rReturn", "\x1b[31mred\x1b[0m", "\u202eevil",
    "<script>alert(1)</script>", "[bold]bold[/bold]", 'a "quoted", one', "two\nlines", "-5",
]  # fmt: skip


class Shell:
    """Runs commands in this process, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int = 0, width: int = 160) -> str:
        env = {"EMBREG_REGISTRY": None, "EMBREG_DEBUG": "1", "COLUMNS": str(width)}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=env).invoke(main, words)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        assert code or not done.stderr
        return done.stdout if not code else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture(scope="module")
def shell(glove: Any, gensim_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """words@1: GloVe; words@2: the same with noise; copy@1: as words@1."""
    folder = tmp_path_factory.mktemp("compare")
    words, vectors = glove[0][:ROWS], np.array(glove[1][:ROWS])
    noise = 0.5 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    (folder / "ids").write_text("".join(f"{w}\n" for w in words))
    np.save(folder / "one.npy", vectors)
    np.save(folder / "two.npy", vectors + noise)
    shell = Shell(folder)
    shell("init")
    for name, file in (("words", "one"), ("words", "two"), ("copy", "one")):
        shell("register", name, f"{file}.npy", "--ids", "ids", "--kind", "word")
    shell("dataset", "add", "google", str(gensim_data / "questions-words.txt"), "--kind", "analogies")
    shell("dataset", "add", "ws353", str(gensim_data / "wordsim353.tsv"), "--kind", "pairs")
    for ref in ("words@1", "words@2"):
        shell("eval", ref, "--suite", "analogies", "--suite", "hubness", "--suite", "similarity")
    return shell


QUICK = ("--suite", "analogies", "--suite", "hubness")


class TestCompare:
    def test_what_a_person_reads(self, shell: Shell) -> None:
        shown = shell("compare", "words@1", "words@2", *QUICK)
        lines = shown.splitlines()
        assert lines[0] == "words@2 against words@1"
        assert "analogies on google" in lines
        accuracy = next(line for line in lines if line.startswith("accuracy "))
        assert re.search(r"group=total .* -\.\d+ +▼ worse \*$", accuracy.rstrip())
        assert next(line for line in lines if line.startswith("coverage")).split()[-2:] == ["0", "="]
        assert next(line for line in lines if line.startswith("skewness")).rstrip().endswith("worse")
        assert "▲ better, ▼ worse than words@1" in shown
        tests = re.search(r"after Holm over (\d+) tests?, n\.s\. not significant, else not tested", shown)
        assert tests is not None
        assert int(tests[1]) == shell.json("compare", "words@1", "words@2", *QUICK)["tests"]
        assert "--all-labels" in shown
        assert "section=" not in shown

    def test_slices_with_all_labels(self, shell: Shell) -> None:
        shown = shell("compare", "words@1", "words@2", "--suite", "analogies", "--all-labels")
        assert "section=family" in shown
        assert "more rows" not in shown

    def test_keys(self, shell: Shell) -> None:
        told = shell.json("compare", "words@1", "words@2", "copy", "--suite", "analogies")
        assert told["refs"] == ["words@1", "words@2", "copy@1"]
        row = next(row for row in told["rows"] if row["metric"] == "accuracy")
        assert {"suite", "metric", "labels", "dataset", "better", "values"} <= set(row)
        assert (row["suite"], row["dataset"], row["labels"]) == ("analogies", "google", {"group": "total"})
        first, noisy, copy = row["values"]
        assert {"ref", "value", "n", "low", "high", "reason", "change", "p_value", "mark"} <= set(first)
        assert (first["mark"], noisy["mark"], copy["mark"]) == (None, "worse", "none")
        assert (copy["change"], copy["p_value"]) == (0, 1.0)
        assert noisy["change"] == pytest.approx(noisy["value"] - first["value"])
        assert noisy["p_value"] < 0.05

    def test_an_identical_copy(self, shell: Shell) -> None:
        told = shell.json("compare", "words@1", "copy@1", *QUICK, "--all-labels")
        assert {value["mark"] for row in told["rows"] for value in row["values"]} == {
            None,
            "none",
            "untested",
        }
        assert "no row to show" in shell("compare", "words@1", "copy@1", *QUICK, "--only-changed")

    def test_only_changed(self, shell: Shell) -> None:
        rows = shell.json("compare", "words@1", "words@2", *QUICK)["rows"]
        changed = shell.json("compare", "words@1", "words@2", *QUICK, "--only-changed")
        moved = [row for row in rows if row["values"][1]["change"]]
        assert changed["rows"] == moved
        assert 0 < len(moved) < len(rows)

    def test_drift_and_its_verdict(self, shell: Shell) -> None:
        told = shell.json("compare", "words@1", "words@2", "--suite", "drift")
        verdict = shell.json("drift", "words@1", "words@2")["verdict"]
        assert told["verdicts"] == [{"suite": "drift", "ref": "words@2", "verdict": verdict}]
        shown = shell("compare", "words@1", "words@2", "--suite", "drift")
        assert f"drift: words@2 {verdict}" in shown

    def test_recorded_measures_nothing(self, shell: Shell) -> None:
        before = len(shell.json("metrics", "words")["series"])
        told = shell.json("compare", "words@1", "words@2", "--recorded", "--suite", "anisotropy")
        assert told["rows"] == []
        assert len(shell.json("metrics", "words")["series"]) == before
        assert "no meaning" in shell(
            "compare", "words@1", "words@2", "--recorded", "-p", "hubness.k=3", code=2
        )

    @pytest.mark.parametrize("width", [40, 80, 300])
    def test_no_number_is_broken_by_a_narrow_terminal(self, shell: Shell, width: int) -> None:
        shown = shell("compare", "words@1", "words@2", "--suite", "hubness", width=width)
        told = shell.json("compare", "words@1", "words@2", "--suite", "hubness")["rows"]
        highest = next(row for row in told if row["metric"] == "max_occurrence")["values"]
        assert re.search(rf"\b{highest[0]['value']:.0f}\b.*\b{highest[1]['value']:.0f}\b", shown)

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (("words@1",), 2, "at least two versions"),
            ((), 2, "at least two versions"),
            (("words@1", "words@v1"), 2, "are both words@1"),
            (("words@2", "words"), 2, "are both words@2"),
            (("words@1", "words@9"), 3, "no version"),
            (("words@1", "word@1"), 3, "did you mean 'words'"),
            (("words@1", "words@2", "--suite", "analogy"), 2, "did you mean 'analogies'"),
            (("words@1", "words@2", "--dataset", "gogle"), 3, "did you mean 'google'"),
            (("words@1", "words@2", "--alpha", "0"), 2, "alpha"),
            (("words@1", "words@2", "-p", "hubness.q=3"), 2, "unknown parameter"),
        ],
    )
    def test_bad_words(self, shell: Shell, words: tuple[str, ...], code: int, told: str) -> None:
        line = shell("compare", *words, code=code)
        assert told in line
        assert line.count("\n") == 1


class TestItems:
    def test_eval_shows_the_number_of_its_run(self, shell: Shell) -> None:
        (run,) = shell.json("eval", "words@1", "--suite", "hubness")["runs"]
        assert f"#{run['id']}" in shell("eval", "words@1", "--suite", "hubness").splitlines()[0]
        told = shell.json("items", str(run["id"]), "--worst", "3")
        assert (told["run"], told["suite"], told["ref"], len(told["items"])) == (
            run["id"],
            "hubness",
            "words@1",
            3,
        )
        most = [row["k_occurrence"] for row in told["items"]]
        assert most == sorted(most, reverse=True)
        assert most[0] == next(m["value"] for m in run["measures"] if m["metric"] == "max_occurrence")

    def test_wrong_analogies_with_what_was_expected_and_given(self, shell: Shell) -> None:
        shown = shell("items", "words@1", "--suite", "analogies", "--worst", "2")
        assert re.match(r"analogies on google: words@1 \(#\d+\), by accuracy\n", shown)
        assert "worst: 2 of" in shown
        assert {"expected", "predicted"} <= set(shown.split())
        (row, _) = shell.json("items", "words@1", "--suite", "analogies", "--worst", "2")["items"]
        assert row["accuracy"] == 0
        assert row["predicted"] != row["expected"].lower()

    def test_what_flipped(self, shell: Shell) -> None:
        words = ("items", "words@1", "words@2", "--suite", "analogies", "--flipped")
        told = shell.json(*words)
        assert set(told["counts"]) == {"broken", "mended"}
        assert told["counts"]["broken"] > told["counts"]["mended"] > 0
        outcomes = {(row["outcome"], row["old"], row["new"]) for row in told["items"]}
        assert outcomes == {("broken", 1, 0), ("mended", 0, 1)}
        shown = shell(*words, "--worst", "3", "--best", "1")
        assert f"broken (right before, wrong now): 3 of {told['counts']['broken']:,}" in shown
        assert f"mended (wrong before, right now): 1 of {told['counts']['mended']:,}" in shown
        compared = shell.json("compare", "words@1", "words@2", "--suite", "analogies")["rows"]
        accuracy = next(row["values"] for row in compared if row["metric"] == "accuracy")
        net = round(accuracy[1]["change"] * accuracy[1]["n"])
        assert told["counts"]["mended"] - told["counts"]["broken"] == net

    def test_csv_has_all_where_nobody_says_how_many(self, shell: Shell) -> None:
        shown = shell("items", "words@1", "--suite", "hubness", "--csv", "hubs.csv")
        assert shown == "wrote hubs.csv\n"
        with (shell.folder / "hubs.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == ROWS
        told = shell.json("items", "words@1", "--suite", "hubness", "--worst", str(ROWS))["items"]
        assert [int(row["k_occurrence"]) for row in rows] == [row["k_occurrence"] for row in told]
        assert (
            len(shell("items", "words@1", "--suite", "hubness", "--worst", "4", "--csv", "-").splitlines())
            == 5
        )

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (("words@1",), 2, "say which: embreg items"),
            (("words@1", "words@2"), 2, "embreg items words@1 words@2 --suite hubness"),
            (("words@1", "--suite", "hubness", "--flipped"), 2, "embreg items A B --flipped"),
            (("words@1", "--suite", "hubnes"), 2, "did you mean 'hubness'"),
            (("words@1", "--suite", "retrieval"), 3, "retrieval was not measured of words@1"),
            (("words@1", "--dataset", "gogle"), 3, "did you mean 'google'"),
            (("words@1", "--suite", "hubness", "--sort", "k_ocurrence"), 2, "did you mean 'k_occurrence'"),
            (("words@1", "--suite", "analogies", "--labels", "section=famly"), 2, "did you mean 'family'"),
            (("words@1", "--suite", "hubness", "--worst", "0"), 2, "--worst"),
            (("words@1", "--suite", "hubness", "--csv", "-", "--json"), 2, "both write to stdout"),
            (("words@1", "--suite", "hubness", "--csv", "no/such/place"), 3, "cannot write"),
            (("123456",), 3, "no run 123456"),
        ],
    )
    def test_bad_words(self, shell: Shell, words: tuple[str, ...], code: int, told: str) -> None:
        line = shell("items", *words, code=code)
        assert told in line


class TestMetrics:
    def test_versions_are_columns(self, shell: Shell) -> None:
        shown = shell("metrics", "words", "--metric", "hubness.skewness").splitlines()
        assert shown[0].split() == ["metric", "labels", "words@1", "words@2", "change"]
        values = [p["value"] for p in shell.json("metrics", "words", "--metric", "skewness")["series"]]
        assert shown[2].split()[:3] == ["hubness.skewness", *(f"{v:.4g}" for v in values)]
        word = "worse" if values[1] > values[0] else "better"
        assert shown[2].split()[-2:] == [{"worse": "▼", "better": "▲"}[word], word], "lower is better"

    def test_one_version_shows_its_intervals(self, shell: Shell) -> None:
        shown = shell("metrics", "words@1", "--metric", "analogies.accuracy", "--labels", "group=total")
        assert shown.splitlines()[0].rstrip() == "words@1"
        assert shown.splitlines()[1].split() == ["metric", "labels", "value", "interval", "n"]
        assert len(shown.splitlines()) == 4

    def test_slices_only_where_they_are_asked_for(self, shell: Shell) -> None:
        assert "section=" not in shell("metrics", "words")
        assert "--all-labels" in shell("metrics", "words")
        assert "section=family" in shell("metrics", "words", "--all-labels")
        assert "section=family" in shell("metrics", "words", "--metric", "accuracy")

    def test_csv_is_the_long_form(self, shell: Shell) -> None:
        text = shell("metrics", "words", "--csv", "-")
        rows = list(csv.DictReader(io.StringIO(text)))
        columns = ["ref", "version", "suite", "dataset", "metric", "labels", "value", "n", "low", "high"]
        assert list(rows[0]) == columns
        series = shell.json("metrics", "words")["series"]
        assert [float(row["value"]) for row in rows] == [p["value"] for p in series]
        assert {"ref", "metric", "labels", "value", "suite", "dataset", "run", "confidence"} <= set(series[0])
        shell("metrics", "words", "--csv", "all.csv")
        assert (shell.folder / "all.csv").read_text(encoding="utf-8") == text

    def test_the_oldest_versions_go_first_where_all_do_not_fit(self, tmp_path: Path) -> None:
        shell = Shell(tmp_path)
        shell("init")
        for seed in range(8):
            np.save(
                tmp_path / "x.npy", np.random.default_rng(seed).standard_normal((30, 4)).astype(np.float32)
            )
            shell("register", "t", "x.npy")
            shell("eval", f"t@{seed + 1}", "--suite", "hubness")
        wide = shell("metrics", "t", "--metric", "skewness").splitlines()
        assert wide[0].split()[2:-1] == [f"t@{n}" for n in range(1, 9)]
        narrow = shell("metrics", "t", "--metric", "skewness", width=60)
        heads = narrow.splitlines()[0].split()[2:-1]
        assert heads == [f"t@{n}" for n in range(9 - len(heads), 9)]
        assert 1 <= len(heads) < 8
        assert f"{8 - len(heads)} earlier versions" in narrow
        assert max(map(len, narrow.splitlines())) <= 60

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("words", "--metric", "skewnes"), "did you mean 'skewness'"),
            (("words", "--metric", "hubnes.skewness"), "did you mean 'hubness'"),
            (("words", "--metric", "accuracy", "--labels", "sektion=family"), "did you mean 'section'"),
            (("words", "--metric", "accuracy", "--labels", "section=famly"), "did you mean 'family'"),
            (("words", "--labels", "section"), "expected KEY=VALUE"),
        ],
    )
    def test_bad_words(self, shell: Shell, words: tuple[str, ...], told: str) -> None:
        assert told in shell("metrics", *words, code=2)

    def test_nothing_measured(self, tmp_path: Path) -> None:
        shell = Shell(tmp_path)
        shell("init")
        np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
        shell("register", "t", "x.npy")
        assert "embreg eval" in shell("metrics", "t")
        assert shell.json("metrics", "t") == {"series": []}
        assert shell("metrics", "t", "--csv", "-").startswith("ref,version,suite")


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("nasty"))
    shell("init")
    for seed in (0, 1):
        vectors = np.random.default_rng(seed).standard_normal((len(NASTY), 4)).astype(np.float32)
        pq.write_table(pa.table({"id": NASTY, "vector": list(vectors)}), shell.folder / "x.parquet")
        shell("register", "n", "x.parquet", "--id-column", "id", "--vector-column", "vector")
    for n in (1, 2):
        shell("eval", f"n@{n}", "--suite", "hubness", "--suite", "neighbors", "-p", "hubness.k=3",
              "-p", "neighbors.k=3")  # fmt: skip
    shell("drift", "n@1", "n@2")
    return shell


ASKED = (
    ("items", "n@1", "--suite", "hubness"),
    ("items", "n@1", "n@2", "--suite", "hubness", "--best", "20", "--worst", "20"),
    ("items", "n@1", "n@2", "--suite", "drift"),
    ("items", "n@2", "--suite", "neighbors", "--csv", "-"),
    ("compare", "n@1", "n@2", "--suite", "hubness", "--suite", "neighbors", "--all-labels"),
)


class TestNastyIds:
    @pytest.mark.parametrize("words", ASKED)
    def test_nothing_raw_reaches_a_terminal(self, nasty: Shell, words: tuple[str, ...]) -> None:
        assert nasty(*words).replace("\n", "").isprintable()

    def test_ids_are_shown_as_they_are_where_that_is_safe(self, nasty: Shell) -> None:
        shown = nasty("items", "n@1", "--suite", "hubness")
        for text in ("<script>alert(1)</script>", "[bold]bold[/bold]", r"\x1b[31mred", r"\u202eevil"):
            assert text in shown
        told = nasty.json("items", "n@1", "--suite", "hubness")["items"]
        assert {row["item"] for row in told} == set(NASTY)

    def test_no_cell_of_a_csv_is_a_formula(self, nasty: Shell) -> None:
        rows = list(csv.reader(io.StringIO(nasty("items", "n@1", "--suite", "hubness", "--csv", "-"))))
        assert len(rows) == len(NASTY) + 1
        ids = {row[1] for row in rows[1:]}
        assert {"'=1+1", "'-2+3", "'@SUM(A1)", r"'\tTab", r"'\rReturn", "'-5", r"two\nlines"} <= ids
        for row in rows:
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
            assert not row[1].startswith("-")

    def test_a_comparison_as_csv(self, nasty: Shell) -> None:
        words = ("compare", "n@1", "n@2", "--suite", "hubness", "--suite", "neighbors")
        rows = list(csv.DictReader(io.StringIO(nasty(*words, "--csv", "-"))))
        told = nasty.json(*words)["rows"]
        assert [row["ref"] for row in rows] == ["n@1", "n@2"] * len(told)
        changes = [row["values"][1]["change"] for row in told]
        assert [float(row["change"] or "nan") for row in rows[1::2]] == pytest.approx(changes, nan_ok=True)
        assert "wrote c.csv" in nasty(*words, "--csv", "c.csv")

    def test_negative_numbers_stay_numbers(self, nasty: Shell) -> None:
        words = ("items", "n@1", "n@2", "--suite", "neighbors", "--sort", "top1_cosine", "--best", "99")
        rows = nasty.json(*words)
        text = nasty(*words, "--csv", "-")
        changes = [float(row["change"]) for row in csv.DictReader(io.StringIO(text))]
        assert changes == [row["change"] for row in rows["items"]]
        assert min(changes) < 0


def test_items_that_a_sweep_took(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell("init")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32))
    shell("register", "t", "x.npy")
    (run,) = shell.json("eval", "t", "--suite", "hubness")["runs"]
    shell("delete", "t@1")
    shell("gc", "--grace", "0")
    assert "deleted" in shell("items", str(run["id"]), code=3)
    assert "t@1" in shell("items", "t@1", code=3)
    assert shell("items", "t", code=3).count("\n") == 1


def test_a_suite_that_fails_is_an_exit_code(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell("init")
    for seed in (0, 1):
        np.save(tmp_path / "x.npy", np.random.default_rng(seed).standard_normal((30, 4)).astype(np.float32))
        shell("register", "t", "x.npy")
    with connect(tmp_path / ".embreg") as registry:
        digest = registry.resolve("t@2").digest
        manifest = registry.root / "blobs" / "sha256" / digest[:2] / digest
        for part, *_ in json.loads(manifest.read_text())["parts"]:
            (manifest.parents[1] / part[:2] / part).unlink()
    assert "hubness failed on t@2" in shell("compare", "t@1", "t@2", "--suite", "hubness", code=3)
