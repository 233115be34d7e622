"""The group ``dataset`` of the command line: what it prints, for people and for programs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from embreg.cli import main

PAIRS = "king\tqueen\t8\nqueen\tking\t7\ncat\tcat\t10\ncat\tdog\t6\n"
SAID = [
    "1 pair of a word with itself: 'cat' and 'cat'",
    "1 pair given again the other way round: 'queen' and 'king'",
    "1 pair given again with another score: 'king' and 'queen': 8, then 7",
]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a command in a folder with a registry; returns what it prints."""

    def run(*words: str, code: int = 0) -> str:
        with contextlib.chdir(tmp_path):
            env = {"EMBREG_REGISTRY": None, "EMBREG_DEBUG": "1", "COLUMNS": "200"}
            done = CliRunner(env=env).invoke(main, words)
        assert done.exit_code == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    (tmp_path / "pairs.tsv").write_text(PAIRS)
    run("init")
    return run


def test_add_says_what_is_suspicious(run: Callable[..., str]) -> None:
    out = run(
        "dataset", "add", "p", "pairs.tsv", "--kind", "pairs", "--licence", "MIT", "--source", "my desk"
    )
    lines = out.split("\n")
    assert lines[0] == "p  4 pairs, added"
    assert "MIT" in lines[1]
    assert "my desk" in lines[1]
    assert [line.rstrip() for line in lines[2:5]] == [f"! {line}" for line in SAID]


def test_add_as_json(run: Callable[..., str]) -> None:
    line = ("dataset", "add", "p", "pairs.tsv", "--kind", "pairs", "--json")
    planned = json.loads(run(*line, "--license", "MIT", "--dry-run"))
    assert (planned["created"], planned["dry_run"], planned["warnings"]) == (True, True, SAID)
    assert json.loads(run("dataset", "list", "--json"))["datasets"] == []
    added = json.loads(run(*line, "--license", "MIT"))
    assert {"name", "kind", "digest", "items"} <= added.keys()
    assert planned == added | {"dry_run": True, "created_at": planned["created_at"]}
    assert (added["licence"], added["source"], added["replaced"]) == ("MIT", "pairs.tsv", None)
    again = json.loads(run(*line))
    assert (again["created"], again["replaced"], again["licence"]) == (False, added["digest"], "MIT")
    assert "already there: the same rows" in run(*line[:-1])


def test_dry_run_and_replacement_for_people(run: Callable[..., str], tmp_path: Path) -> None:
    line = ("dataset", "add", "p", "pairs.tsv", "--kind", "pairs")
    assert run(*line, "--dry-run").startswith("p  4 pairs, would be added\n")
    run(*line)
    digest = json.loads(run("dataset", "show", "p", "--json"))["digest"]
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t8\ncow\thorse\t2\nbee\thoney\t3\n")
    assert run(*line).startswith(f"p  3 pairs, added, in place of {digest[:12]}\n")


def test_list_tells_what_is_built_in(run: Callable[..., str]) -> None:
    assert run("dataset", "list").startswith("none is registered: 'embreg dataset add")
    run("dataset", "add", "p", "pairs.tsv", "--kind", "pairs", "--licence", "MIT")
    listed = json.loads(run("dataset", "list", "--json"))
    assert [(d["name"], d["licence"], len(d["warnings"])) for d in listed["datasets"]] == [("p", "MIT", 3)]
    assert [(d["name"], d["licence"]) for d in listed["builtin"]] == [
        (f"builtin/english/{kind}", "CC0-1.0") for kind in ("analogies", "labels", "pairs")
    ]
    rows = [line.split() for line in run("dataset", "list").split("\n")]
    assert next(row for row in rows if row[:1] == ["p"])[4:] == ["MIT", "3", "pairs.tsv"]
    assert next(row for row in rows if row[:1] == ["builtin/english/pairs"])[-2:] == ["built", "in"]


def test_show(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("king\troyal\nqueen\troyal\ncat\tanimal\n")
    run("dataset", "add", "kinds", "labels.tsv", "--kind", "labels")
    told = json.loads(run("dataset", "show", "kinds", "-n", "1", "--json"))
    assert told["counts"] == {"label": {"royal": 2, "animal": 1}}
    assert told["rows"] == [{"id": "king", "label": "royal"}]
    assert told["warnings"] == ["1 class of 2 with a single id: 'animal' of 'cat'"]
    page = run("dataset", "show", "kinds")
    for piece in ("labels.tsv", "sha256:", "! 1 class of 2", "royal", "animal", "queen"):
        assert piece in page
    asked = json.loads(run("dataset", "show", "builtin/english/analogies", "-n", "0", "--json"))
    assert asked["rows"] == []
    assert sum(asked["counts"]["section"].values()) == asked["items"]
    assert set(asked["counts"]["group"]) == {"semantic", "syntactic"}
    assert "builtin/english/labels" in run("dataset", "show", "builtin/english", code=3)
    assert "did you mean 'kinds'" in run("dataset", "show", "kind", code=3)


def test_show_of_many_classes_and_of_carried_vectors(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("".join(f"w{i}\tc{i}\n" for i in range(120)))
    run("dataset", "add", "kinds", "labels.tsv", "--kind", "labels")
    assert "70 more" in run("dataset", "show", "kinds", "-n", "0")
    np.save(tmp_path / "queries.npy", np.eye(2, dtype=np.float32))
    (tmp_path / "judged.qrels").write_text("0 0 d1 1\n0 0 d2 0\n1 0 d1 2\n7 0 d1 1\n")
    added = json.loads(run("dataset", "add", "judged", "judged.qrels", "--kind", "qrels",
                           "--vectors", "queries.npy", "--json"))  # fmt: skip
    assert added["warnings"] == ["1 id of 3 in the column 'query' without a vector: '7'"]
    told = json.loads(run("dataset", "show", "judged", "--json"))
    assert told["counts"] == {"relevance": {"1": 2, "0": 1, "2": 1}}
    assert told["rows"][0] == {"query": "0", "item": "d1", "relevance": 1}


def test_rm(run: Callable[..., str]) -> None:
    run("dataset", "add", "p", "pairs.tsv", "--kind", "pairs")
    assert run("dataset", "rm", "p") == "removed dataset p\n"
    assert "no dataset 'p'" in run("dataset", "rm", "p", code=3)
    assert "built in" in run("dataset", "rm", "builtin/english/pairs", code=2)
    run("dataset", "add", "p", "pairs.tsv", "--kind", "pairs")
    assert json.loads(run("dataset", "rm", "p", "--json"))["removed"] == "p"
    actions = [e["action"] for e in json.loads(run("log", "--json"))["events"]]
    assert actions[1:] == ["dataset.added", "dataset.removed"] * 2


def test_names_that_are_taken(run: Callable[..., str]) -> None:
    line = run("dataset", "add", "builtin/english", "pairs.tsv", "--kind", "pairs", code=2)
    assert "cannot be registered" in line
    assert line.count("\n") == 1


def test_text_of_a_dataset_reaches_no_terminal(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("a\t\x1b[2Jx\nb\t\x1b[2Jx\nc\ty\n")
    evil = ("--licence", "\x1b[31mMIT", "--source", "\x1b[2Jhere")
    for out in (
        run("dataset", "add", "kinds", "labels.tsv", "--kind", "labels", *evil),
        run("dataset", "list"),
        run("dataset", "show", "kinds"),
        run("dataset", "show", "kinds", "--json"),
        run("log"),
    ):
        assert "\x1b" not in out
    assert json.loads(run("dataset", "show", "kinds", "--json"))["licence"] == "\x1b[31mMIT"
