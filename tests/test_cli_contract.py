"""The command line as scripts know it: keys, exit codes, references, places; on real words."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from embreg.cli import main

COMMANDS = [
    "init", "register", "list", "show", "log", "diff", "alias.set", "alias.list", "alias.rm", "promote",
    "neighbors", "analogy", "index.build", "index.list", "index.status", "index.rebuild", "index.search",
    "index.rm", "dataset.add", "dataset.list", "eval", "drift", "gate", "metrics", "export",
    "compare", "items",
    "db.current", "db.upgrade",
]  # fmt: skip
GATE = """
[[gates]]
metric = "hubness.skewness"
max = {skewness}

[[gates]]
metric = "drift.neighbor_overlap@10"
min = 0.9
"""
FIRST, ALL = 300, 400
# No suite has less to do, and every run of it is of this one and its version.
QUICK = ("--suite", "hubness")


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


class Shell:
    """Runs commands in this process, in one folder, as a person without settings would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, code: int = 0, **env: str) -> tuple[str, str]:
        """Return what a command wrote to stdout and to stderr, after a look at its exit code."""
        clean = {"EMBREG_REGISTRY": None, "GITHUB_STEP_SUMMARY": None, "EMBREG_DEBUG": "1"}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=clean | env).invoke(main, words)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def json(self, *words: str, code: int = 0, **env: str) -> Any:
        """Return the one document that a command prints with --json."""
        out, _ = self.run(*words, "--json", code=code, **env)
        return json.loads(out, parse_constant=no_constant)

    def error(self, *words: str, code: int) -> dict[str, str]:
        """Return what a failing command says, the same way as a line and as a document."""
        out, err = self.run(*words, "--json", code=code)
        (told,) = [json.loads(out)]
        assert set(told) == {"error"}
        assert set(told["error"]) == {"type", "message", "hint"}
        assert err.count("\n") == 1
        assert told["error"]["message"] in err
        assert self.run(*words, code=code) == ("", err)
        return told["error"]


def write_sources(folder: Path, words: list[str], vectors: np.ndarray) -> None:
    """The same rows as GloVe text, .npy with ids, and Parquet; some fewer, others, and in another order."""
    lines = [f"{w} {' '.join(repr(float(v)) for v in x)}\n" for w, x in zip(words, vectors, strict=True)]
    (folder / "all.txt").write_text("".join(lines))
    (folder / "first.txt").write_text("".join(lines[:FIRST]))
    (folder / "most.txt").write_text("".join(lines[10:]))
    np.save(folder / "all.npy", vectors)
    (folder / "all.ids").write_text("".join(f"{w}\n" for w in words))
    pq.write_table(pa.table({"word": words, "emb": list(vectors)}), folder / "all.parquet")
    order = np.random.default_rng(0).permutation(len(words))
    mixed = pa.table({"word": [words[i] for i in order], "emb": list(vectors[order])})
    pq.write_table(mixed, folder / "mixed.parquet")
    strangers = np.random.default_rng(1).standard_normal(vectors.shape).astype(np.float32)
    pq.write_table(pa.table({"word": words, "emb": list(strangers)}), folder / "other.parquet")
    (folder / "questions.txt").write_text(": family\nhe his she her\nman men woman women\n")
    (folder / "pairs.tsv").write_text("he\tshe\t9\nfirst\tsecond\t8\nyear\tweek\t7\nunited\tstates\t6\n")


@pytest.fixture(scope="module")
def sources(glove, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    words, vectors = glove
    write_sources(folder, words[:ALL], np.array(vectors[:ALL], dtype=np.float32))
    return folder


def set_up(folder: Path) -> Shell:
    """words@1 = the first rows, in production; words@2 = all; a Flat index of @1 on latest; datasets."""
    shell = Shell(folder)
    shell.run("init")
    shell.run("register", "words", "first.txt", "--kind", "word", "--model", "glove", "--alias", "production")
    shell.run("index", "build", "flat", "words", "--factory", "Flat")
    shell.run("register", "words", "all.npy", "--ids", "all.ids", "-m", "all of them")
    shell.run("dataset", "add", "family", "questions.txt", "--kind", "analogies")
    shell.run("dataset", "add", "alike", "pairs.tsv", "--kind", "pairs")
    return shell


@pytest.fixture(scope="module")
def kept(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract") / "work"
    shutil.copytree(sources, folder)
    set_up(folder)
    return folder


@pytest.fixture(scope="module")
def seen(kept: Path) -> Shell:
    """A copy that tests look at, and at most measure."""
    shutil.copytree(kept, kept.with_name("seen"))
    return Shell(kept.with_name("seen"))


@pytest.fixture
def shell(kept: Path, tmp_path: Path) -> Shell:
    """A copy that a test may change."""
    shutil.copytree(kept, tmp_path / "work")
    return Shell(tmp_path / "work")


# -- help ---------------------------------------------------------------------------------------------


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_of_the_contract_is_there_and_listed() -> None:
    assert set(COMMANDS) <= {".".join(path) for path, _ in commands(main)}
    told = Shell(Path.cwd()).run("--help")[0]
    listed = re.findall(r"^  ([a-z]+)  ", told.partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(main.commands)


@pytest.mark.parametrize("path", [".".join(path) for path, _ in commands(main)])
def test_help_shows_an_example_that_the_command_understands(path: str) -> None:
    words = path.split(".")
    told = " ".join(Shell(Path.cwd()).run(*words, "--help")[0].split())
    example = re.search(r"Example: (embreg .*?) (?:Options:|Positional)", told)
    assert example, told
    for line in example[1].split(";"):
        given = shlex.split(line)[1:]
        assert given[: len(words)] == words
        command = dict(commands(main))[tuple(words)]
        command.make_context(path, given[len(words) :])  # raises where it does not parse


@pytest.mark.parametrize("words", [("index",), ("db",)])
def test_no_command_at_all_shows_the_help_and_is_a_usage_error(words: tuple[str, ...]) -> None:
    out, err = Shell(Path.cwd()).run(*words, code=2)
    assert out == ""
    assert err.startswith(" ".join(["Usage: embreg", *words]))
    assert "\nCommands:\n" in err


# -- documents ----------------------------------------------------------------------------------------

VERSION = "ref version digest content_digest rows dim dtype"
INDEX = "name tracks built_from state repair reason factory recall"
RUN = "suite suite_version status reason cached duration_s measures"
DOCUMENTS = [
    ("list", "embeddings", ""),
    ("list words", "embeddings", ""),
    ("show words@1", VERSION + " space aliases message", ""),
    ("log", "", "events: id at action subject detail actor command"),
    ("log words -n 2", "", "events: id at action subject"),
    ("diff words@1 words@2", "relation reordered added removed changed unchanged space_changes repair", ""),
    ("alias list words", "", "aliases: alias ref"),
    ("neighbors words he -k 3", "", "neighbors: id score"),
    ("analogy words he his she -k 3", "", "neighbors: id score"),
    ("index list", "", f"indexes: {INDEX}"),
    ("index status flat", "", f"indexes: {INDEX}"),
    ("index search flat he -k 3", "", "neighbors: id score"),
    ("dataset list", "", "datasets: name kind digest items"),
    ("eval words --suite hubness", "", f"runs: {RUN}"),
    ("drift words@1 words@2", "verdict", f"runs: {RUN}"),
    ("drift words --history", "", f"history: from to verdict {RUN}"),
    ("metrics words", "", "series: ref metric labels value"),
    ("db current", "revision", ""),
    ("db upgrade", "revision", ""),
    ("init", "registry revision", ""),
]


@pytest.mark.parametrize(("command", "keys", "items"), DOCUMENTS, ids=[d[0] for d in DOCUMENTS])
def test_json_keys(seen: Shell, command: str, keys: str, items: str) -> None:
    if command.startswith("metrics"):
        seen.run("eval", "words", *QUICK)
    told = seen.json(*command.split())
    assert set(keys.split()) <= set(told)
    name, _, inner = items.partition(": ")
    if name:
        assert told[name], "the list is empty: its items were not seen"
        for item in told[name]:
            assert set(inner.split()) <= set(item)
    out, err = seen.run(*command.split())  # for people, and with nothing on stderr but for a stale index
    assert out.strip()
    assert err == "" or "search" in command


def test_what_register_answers(shell: Shell) -> None:
    told = shell.json("register", "words", "other.parquet", "-m", "others", "--alias", "staging")
    assert set(f"{VERSION} created warnings stale_indexes".split()) <= set(told)
    assert (told["ref"], told["version"], told["rows"], told["dim"], told["dtype"]) == (
        "words@3", 3, ALL, 50, "float32")  # fmt: skip
    assert told["created"] is True
    assert told["warnings"] == []
    (stale,) = told["stale_indexes"]
    assert (stale["name"], stale["state"], stale["repair"]) == ("flat", "stale", "rebuild")
    assert told["aliases"] == ["staging"]
    assert told["space"]["model"] == "glove", "what is not said is as in the version before"
    assert shell.json("register", "words", "other.parquet")["created"] is False
    assert shell.json("list", "words")["embeddings"][0]["latest"] == 3


def test_the_other_documents_that_change_something(shell: Shell) -> None:
    build = shell.json("index", "build", "ivf", "words@1", "--factory", "IVF4,Flat", "--track", "production")
    assert build["indexes"][0]["tracks"] == "words@production"
    moved = shell.json("alias", "set", "words", "production", "words@2", "--if-was", "words@1")
    assert (moved["alias"], moved["from"], moved["to"]) == ("production", "words@1", "words@2")
    assert [(i["name"], i["repair"]) for i in moved["stale_indexes"]] == [("ivf", "add")]
    shell.json("alias", "set", "words", "old", "words@1")
    gone = shell.json("alias", "rm", "words", "old")
    assert (gone["from"], gone["to"]) == ("words@1", None)
    added = shell.json("dataset", "add", "google", "questions.txt", "--kind", "analogies")
    assert (added["name"], added["kind"], added["items"]) == ("google", "analogies", 2)
    done = shell.json("export", "words@1", "out.parquet")
    assert done["content_digest"] == shell.json("show", "words@1")["content_digest"]
    assert shell.json("register", "again", "out.parquet")["content_digest"] == done["content_digest"]
    assert shell.json("index", "rm", "ivf") == {"removed": "ivf"}
    assert [i["name"] for i in shell.json("index", "list")["indexes"]] == ["flat"]
    actions = [event["action"] for event in shell.json("log")["events"]]
    assert {"index.built", "index.stale", "index.removed", "alias.moved", "alias.removed"} <= set(actions)


def test_neighbors_and_analogies_are_those_of_brute_force(seen: Shell, glove) -> None:
    words, vectors = glove[0][:ALL], np.array(glove[1][:ALL], dtype=np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = {w: unit[words.index(w)] for w in ("he", "his", "she")}
    cases = [
        (("neighbors", "words", "he"), unit @ asked["he"], {"he"}),
        (("analogy", "words", "he", "his", "she"), None, set(asked)),
    ]
    target = asked["his"] - asked["he"] + asked["she"]
    for command, scores, left_out in cases:
        scores = unit @ (target / np.linalg.norm(target)) if scores is None else scores
        best = [i for i in np.argsort(-scores) if words[i] not in left_out][:5]
        found = seen.json(*command, "-k", "5")["neighbors"]
        assert [f["id"] for f in found] == [words[i] for i in best]
        assert np.allclose([f["score"] for f in found], scores[best], atol=1e-6)


# -- errors -------------------------------------------------------------------------------------------

ERRORS = [
    (2, "UsageError", "register words all.npy --tag x"),
    (2, "NoSuchOption", "list --nope"),
    (2, "InvalidRef", "show words@"),
    (2, "UnknownChoice", "eval words --suite hubnes"),
    (2, "ConfigError", "list --config nope.toml"),
    (3, "RegistryNotFound", "list --registry nowhere"),
    (3, "EmbeddingNotFound", "show wrds"),
    (3, "VersionNotFound", "show words@9"),
    (3, "AliasNotFound", "show words@staging"),
    (3, "IndexNotFound", "index status nope"),
    (3, "DatasetNotFound", "eval words --dataset nope"),
    (3, "ItemNotFound", "neighbors words HE"),
    (3, "InputError", "register words nope.npy"),
    (3, "Conflict", "alias set words production words@2 --if-was words@2"),
    (1, "Refused", "promote words@2 production"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "kind", "command"), ERRORS, ids=[e[1] for e in ERRORS])
def test_an_error_is_one_line_and_one_document(seen: Shell, code: int, kind: str, command: str) -> None:
    words = command.split()
    if kind != "ConfigError":
        words += ["--registry", ".embreg"] if "--registry" not in words else []
    assert seen.error(*words, code=code)["type"] == kind


def test_what_a_process_of_its_own_adds(cli, sources: Path) -> None:
    """Streams and exit codes as a shell sees them; all the rest is looked at inside this process."""
    cli("init")
    done = cli.json("register", "words", str(sources / "all.parquet"))
    assert done["ref"] == "words@1"
    assert cli.fails("show", "nope@1").startswith("embreg: no embedding 'nope'")
    assert set(cli.json("show", "nope", code=3)) == {"error"}
    assert "Did you mean '--json'?" in cli.fails("show", "words", "--jsno", code=2)


def test_a_stdout_that_takes_nothing(kept: Path) -> None:
    """A full one fails the command; a reader who left does not change what it has to say."""
    code = "import sys; from embreg.cli import main; main(sys.argv[1:])"
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    for words, own in (("list", 0), ("index status flat --exit-code --json", 1)):
        command = [sys.executable, "-c", code, *words.split()]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, cwd=kept, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 3
        assert re.fullmatch(r"embreg: cannot write to stdout: No space left on device \(.*\)\n", done.stderr)
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            command, cwd=kept, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (own, "")


# -- references and places ----------------------------------------------------------------------------


def test_the_grammar_of_references(seen: Shell) -> None:
    first, second = (seen.json("show", f"words@{n}")["digest"] for n in (1, 2))
    same = {
        "words": second, "words@latest": second, "words@2": second, "words@v2": second, "words@v1": first,
        "words@production": first, f"words@sha256:{first[:8]}": first, f"words@sha256:{second}": second,
    }  # fmt: skip
    assert {ref: seen.json("show", ref)["digest"] for ref in same} == same
    for wrong in ("words@", "words@0", "words@1.5", f"words@sha256:{first[:7]}", "words@-1", "@1", "a b"):
        assert seen.error("show", wrong, code=2)["type"] == "InvalidRef"


def test_where_the_registry_is(tmp_path: Path) -> None:
    shell, below = Shell(tmp_path), Shell(tmp_path / "deep" / "er")
    below.folder.mkdir(parents=True)
    for name in ("here/.embreg", "by-toml", "by-env", "by-option"):
        shell.run("init", name)

    def place(shell: Shell, *words: str, **env: str) -> str:
        return str(Path(shell.json("init", *words, **env)["registry"]).resolve().relative_to(tmp_path))

    assert place(Shell(tmp_path / "here")) == "here/.embreg"
    (tmp_path / "embreg.toml").write_text('[registry]\nurl = "by-toml"\n')
    assert place(below) == "by-toml", "relative to the file, not to where one stands"
    env, option = {"EMBREG_REGISTRY": str(tmp_path / "by-env")}, ("--registry", str(tmp_path / "by-option"))
    assert place(below, **env) == "by-env"
    assert place(below, *option, **env) == "by-option"
    (tmp_path / "other.toml").write_text('[registry]\nurl = "by-option"\n')
    assert place(below, "--config", "../../other.toml") == "by-option"
    below.run(*option, "list", **env)  # before the command, too
    for variant in ({"EMBREG_REGISTRY": "nowhere"}, {}):
        (tmp_path / "embreg.toml").write_text('[registry]\nurl = "nowhere-else"\n')
        told = below.json("list", code=3, **variant)["error"]["message"]
        assert told.endswith(variant.get("EMBREG_REGISTRY", "nowhere-else"))


# -- what changed, and what is stale ------------------------------------------------------------------


def test_every_format_of_the_same_values_is_one_content(shell: Shell) -> None:
    sources = {"text": ["all.txt"], "npy": ["all.npy", "--ids", "all.ids"], "parquet": ["all.parquet"],
               "mixed": ["mixed.parquet"]}  # fmt: skip
    contents = {n: shell.json("register", n, *words)["content_digest"] for n, words in sources.items()}
    assert set(contents.values()) == {shell.json("show", "words@2")["content_digest"]}
    first = shell.json("show", "words@1")["content_digest"]
    assert first not in contents.values()
    assert [shell.json("register", "words", *sources[n])["created"] for n in ("text", "parquet")] == [
        False
    ] * 2


def status(shell: Shell, code: int = 0) -> tuple[str, str, str | None]:
    (told,) = shell.json("index", "status", "flat", "--exit-code", code=code)["indexes"]
    return told["state"], told["repair"], told["relation"]


def test_appended_rows_are_added(shell: Shell) -> None:
    told = shell.json("diff", "words@1", "words@2")
    assert (told["relation"], told["repair"], told["added"], told["unchanged"]) == (
        "appended",
        "add",
        100,
        300,
    )
    assert status(shell, code=1) == ("stale", "add", "appended")
    assert shell.run("index", "status")[0].count("stale"), "without --exit-code a stale index is no failure"
    (rebuilt,) = shell.json("index", "rebuild", "--stale")["indexes"]
    assert (rebuilt["method"], rebuilt["rows"], rebuilt["recall"]) == ("add", ALL, 1.0)
    assert status(shell) == ("fresh", "none", "identical")
    assert shell.json("index", "rebuild", "--stale") == {"indexes": []}
    exact = shell.json("neighbors", "words", "he", "-k", "5")["neighbors"]
    found = shell.json("index", "search", "flat", "he", "-k", "5")["neighbors"]
    assert [f["id"] for f in found] == [f["id"] for f in exact]


def test_the_same_rows_in_another_order_leave_an_index_fresh(shell: Shell) -> None:
    shell.run("index", "rebuild", "flat")
    assert shell.json("register", "words", "mixed.parquet")["stale_indexes"] == []
    told = shell.json("diff", "words@2", "words@3")
    assert (told["relation"], told["reordered"], told["repair"]) == ("identical", True, "none")
    assert told["unchanged"] == ALL
    assert status(shell) == ("fresh", "none", "identical")
    assert not shell.json("register", "words", "all.txt", "--if-changed")["created"]


def test_other_vectors_and_another_space_ask_for_a_rebuild(shell: Shell) -> None:
    shell.run("index", "rebuild", "flat")
    shell.run("register", "words", "other.parquet")
    told = shell.json("diff", "words@2", "words@3")
    assert (told["relation"], told["repair"], told["changed"]) == ("changed", "rebuild", ALL)
    assert status(shell, code=1) == ("stale", "rebuild", "changed")
    shell.run("index", "rebuild", "flat")
    shell.run("register", "words", "other.parquet", "--model", "another")
    told = shell.json("diff", "words@3", "words@4")
    assert (told["relation"], told["repair"]) == ("respaced", "rebuild")
    assert [c["field"] for c in told["space_changes"]] == ["model"]
    assert status(shell, code=1) == ("stale", "rebuild", "respaced")


def test_a_few_removed_rows_are_taken_out_and_many_are_a_rebuild(shell: Shell) -> None:
    shell.run("index", "rebuild", "flat")
    shell.run("register", "words", "most.txt")
    told = shell.json("diff", "words@2", "words@3")
    assert (told["relation"], told["removed"], told["repair"]) == ("removed", 10, "update")
    (rebuilt,) = shell.json("index", "rebuild", "flat")["indexes"]
    assert (rebuilt["method"], rebuilt["rows"], rebuilt["recall"]) == ("update", ALL - 10, 1.0)
    told = shell.json("diff", "words@2", "words@1")
    assert (told["relation"], told["removed"], told["repair"]) == ("removed", 100, "rebuild")


# -- measuring and gating -----------------------------------------------------------------------------


def test_eval_says_what_it_skipped_and_reads_back_what_it_knows(shell: Shell) -> None:
    runs = {(r["suite"], r["dataset"]): r for r in shell.json("eval", "words@2")["runs"]}
    assert runs["drift", None]["status"] == "skipped"
    assert "--baseline" in runs["drift", None]["reason"]
    assert runs["similarity", "alike"]["status"] == "done"
    right = [m for m in runs["analogies", "family"]["measures"] if m["metric"] == "accuracy"]
    assert right
    assert all(m["n"] <= 2 and 0 <= m["value"] <= 1 for m in right)
    for run in runs.values():
        for m in run["measures"]:
            assert {"metric", "labels", "value", "n", "low", "high"} <= set(m)
    again = shell.json("eval", "words", *QUICK)["runs"]
    assert [r["cached"] for r in again] == [True]
    assert again[0]["measures"] == runs["hubness", None]["measures"]
    (forced,) = shell.json("eval", "words", *QUICK, "--force")["runs"]
    assert not forced["cached"]
    (other,) = shell.json("eval", "words", *QUICK, "-p", "hubness.k=5")["runs"]
    assert (other["cached"], other["params"]["k"]) == (False, 5)


def test_metrics_are_a_series_over_versions(shell: Shell) -> None:
    for ref in ("words@1", "words@2"):
        shell.run("eval", ref, *QUICK)
    for name in ("skewness", "hubness.skewness"):
        series = shell.json("metrics", "words", "--metric", name)["series"]
        assert [p["ref"] for p in series] == ["words@1", "words@2"]
        assert {p["metric"] for p in series} == {"hubness.skewness"}
    assert shell.json("metrics", "words", "--metric", "anisotropy.mean_cosine")["series"] == []
    assert "skewness" in shell.error("metrics", "words", "--metric", "hubness.skewnes", code=2)["hint"]


def test_a_suite_that_fails_is_an_exit_code_and_a_line(shell: Shell) -> None:
    digest = shell.json("show", "words@2")["digest"]
    manifest = shell.folder / ".embreg" / "blobs" / "sha256" / digest[:2] / digest
    for part, *_ in json.loads(manifest.read_text())["parts"]:
        (manifest.parents[1] / part[:2] / part).unlink()
    for words in (
        ("eval", "words@2", *QUICK),
        ("drift", "words@1", "words@2"),
        ("drift", "words", "--history"),
    ):
        told = shell.json(*words, code=3)
        assert "missing" in (told.get("runs") or told["history"])[0]["reason"]
        _, err = shell.run(*words, code=3)
        assert re.fullmatch(r"embreg: \w+ failed on words@2: blob \w+ is missing\n", err)


def test_a_gate_passes_fails_and_refuses_nonsense(shell: Shell) -> None:
    config = shell.folder / "embreg.toml"
    config.write_text(GATE.format(skewness=99))
    told = shell.json("gate", "words@2")
    assert told["passed"] is True
    assert [c["metric"] for c in told["checks"]] == ["hubness.skewness", "drift.neighbor_overlap@10"]
    for check in told["checks"]:
        assert {"metric", "labels", "value", "baseline", "bound", "outcome", "reason"} <= set(check)
    config.write_text(GATE.format(skewness=-1))
    told = shell.json("gate", "words@2", "--baseline", "words@production", code=1)
    assert [c["outcome"] for c in told["checks"]] == ["failed", "passed"]
    out, err = shell.run("gate", "words@2", code=1)
    assert "hubness.skewness" in out
    assert err == ""
    for text, line in (("[[gates]\n", 1), (GATE.format(skewness='"x"'), 4), (GATE.replace("min", "mn"), 8)):
        config.write_text(text.format(skewness=9))
        told = shell.error("gate", "words@2", code=2)
        assert f"embreg.toml: line {line}:" in told["message"]
    config.unlink()
    assert "--config" in shell.error("gate", "words@2", code=2)["hint"]
    (shell.folder / "ci.toml").write_text(GATE.format(skewness=99))
    assert shell.json("gate", "words@2", "--config", "ci.toml")["passed"]
    (shell.folder / "ci.toml").write_text("[suites.hubness]\nk = 5\n")
    assert "no [[gates]]" in shell.error("gate", "words", "--config", "ci.toml", code=2)["message"]


def test_a_gate_without_its_numbers_fails(shell: Shell) -> None:
    (shell.folder / "embreg.toml").write_text(GATE.format(skewness=99))
    told = shell.json("gate", "words@2", "--no-baseline", code=1)
    outcome = {c["metric"]: c["outcome"] for c in told["checks"]}
    assert outcome == {"hubness.skewness": "passed", "drift.neighbor_overlap@10": "failed"}


def test_the_pages_of_a_gate(shell: Shell) -> None:
    (shell.folder / "embreg.toml").write_text(GATE.format(skewness=-1))
    summary = shell.folder / "summary.md"
    summary.write_text("before\n")
    pages = ("--junit", "g.xml", "--markdown", "g.md", "--html", "g.html")
    shell.json("gate", "words@2", *pages, code=1, GITHUB_STEP_SUMMARY=str(summary))
    junit = ET.parse(shell.folder / "g.xml").getroot()
    assert (junit.get("tests"), junit.get("failures")) == ("2", "1")
    assert len(junit.findall(".//testcase")) == 2
    (failure,) = junit.findall(".//testcase/failure")
    assert failure.get("message")
    markdown = (shell.folder / "g.md").read_text()
    assert "hubness.skewness" in markdown
    assert summary.read_text() == "before\n" + markdown, "the summary is appended to"
    html = (shell.folder / "g.html").read_text()
    assert "hubness.skewness" in html
    html = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)  # its policy lets them draw, and no more
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//|url\(|@import|<script""", html)
    error = shell.error("gate", "words@2", "--junit", "no/such/folder.xml", code=3)
    assert error["message"].startswith("cannot write no/such/folder.xml")


def test_promotion_asks_for_a_verdict_on_that_very_pair(shell: Shell) -> None:
    config = shell.folder / "embreg.toml"
    config.write_text(GATE.format(skewness=-1))
    told = shell.error("promote", "words@2", "production", code=1)
    assert "never gated against words@1" in told["message"]
    shell.run("gate", "words@2", code=1)
    assert "failed its gate" in shell.error("promote", "words@2", "production", code=1)["message"]
    assert shell.json("show", "words@production")["version"] == 1
    config.write_text(GATE.format(skewness=99))
    shell.run("gate", "words@2")
    moved = shell.json("promote", "words@2", "production")
    assert (moved["from"], moved["to"]) == ("words@1", "words@2")
    event = shell.json("log", "words", "-n", "1")["events"][0]
    assert "gate passed against words@1" in event["detail"]["reason"]
    shell.run("alias", "set", "words", "production", "words@1")
    shell.run("register", "words", "other.parquet")
    assert "never gated" in shell.error("promote", "words@3", "production", code=1)["message"]
    shell.run("gate", "words@3", code=1)
    assert "overlap" in shell.error("promote", "words@3", "production", code=1)["message"]
