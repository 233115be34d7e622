"""What suites say of themselves: parsed, put into words, printed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from embreg.cli import main
from embreg.evals import reference as described
from embreg.evals.discovery import discovered
from embreg.evals.reference import attributes, blocks, direction, parameters, span
from embreg.evals.report import reference
from embreg.evals.suite import Better, Metric, Statistic, Suite


def test_attributes_of_a_docstring() -> None:
    docstring = """Some values.

    A word: this is no attribute.

    Attributes:
        k: how many.
        low, high: the range; None
            where unbounded: always.
        names: of columns.

    Raises:
        ValueError: no attribute either.
    """
    assert attributes(docstring) == {
        "k": "how many.",
        "low": "the range; None where unbounded: always.",
        "high": "the range; None where unbounded: always.",
        "names": "of columns.",
    }
    assert attributes("Nothing.") == {}
    assert attributes("") == {}


def test_blocks_of_a_docstring() -> None:
    text = (
        "One\ntwo.\n\n- first\n  item\n- second\n\n==== ==\na    b\n==== ==\n1    2|\n==== ==\n\n1. x\n2. y"
    )
    assert blocks(text) == [
        "One two.", "- first item", "- second", [["a", "b"], ["1", "2|"]], "1. x", "2. y"
    ]  # fmt: skip
    assert blocks("") == []


def test_a_parameter_that_is_not_described_has_no_meaning() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Params:
        """Parameters.

        Attributes:
            told: is told.
        """

        told: tuple[int, ...] = (1, 2)
        untold: bool = False

    suite = discovered().suites["hubness"]
    other = Suite(
        name="s", version=1, params=Params, metrics=suite.metrics, needs=frozenset(), run=suite.run, doc="D."
    )
    found = [(p.name, p.kind, p.default, p.doc) for p in parameters(other)]
    assert found == [("told", "ints", "1,2", "is told."), ("untold", "bool", "false", "")]


def metric(better: Better = Better.HIGHER, **given: object) -> Metric:
    return Metric("m", unit="share", better=better, doc="A doc.", source="own", **given)


def test_a_metric_in_words() -> None:
    assert [span(metric(low=low, high=high)) for low in (None, 0.0) for high in (None, 0.5)] == [
        "any number", "at most 0.5", "at least 0", "0 to 0.5"
    ]  # fmt: skip
    assert [direction(metric(better))[0] for better in Better] == ["↑", "↓", "·"]


def test_how_a_gate_judges_a_metric() -> None:
    plain, compares = discovered().suites["hubness"], discovered().suites["drift"]
    statistic = Statistic(columns=("a", "b"), of=lambda values, counts: counts)
    ties = (("a", "b"), ("c",))
    told = {
        "by size only": metric(),
        "by bounds only": metric(Better.NEITHER, item="x"),
        "item by item, the mean of 'x'": metric(item="x"),
        "item by item, 'a', 'b' left out in turn": metric(statistic=statistic),
        "item by item, the mean of 'x' (of 'y', whose items are independent)": metric(
            item="x", independent="y"
        ),
        "item by item, the mean of 'x'; items with the same ('a', 'b') or 'c' depend on each other": metric(
            item="x", ties=ties
        ),
    }
    assert [described.tested(m, plain) for m in told.values()] == list(told)
    assert described.tested(metric(item="x", high=1.0), compares) == "by bounds, and by its distance from 1"
    assert described.tested(metric(item="x"), compares) == "by bounds only"
    assert (
        described.tested(metric(Better.LOWER, low=-2.0, ideal=0.0), compares)
        == "by bounds, and by its distance from 0"
    )


# -- the command --------------------------------------------------------------------------------------


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner(env={"EMBREG_DEBUG": "1", "COLUMNS": "200"}).invoke(main, ["suites", *words])
    assert done.exit_code == code, done.output
    return done


def test_the_list_of_suites() -> None:
    told = json.loads(run("--json").stdout)
    assert told["left_out"] == []
    by_name = {suite["name"]: suite for suite in told["suites"]}
    assert list(by_name) == sorted(by_name) == list(discovered().suites)
    assert by_name["drift"]["needs"] == ["baseline"]
    assert by_name["neighbors"]["wants"] == ["labels"]
    assert by_name["hubness"]["from"] == "embreg"
    assert "skewness" in by_name["hubness"]["metrics"]
    shown = run().stdout
    for name, suite in by_name.items():
        (line,) = [line for line in shown.split("\n") if line.startswith(f"{name} ")]
        assert suite["doc"] in line
        assert f" {len(suite['metrics'])} " in line


@pytest.mark.parametrize("name", discovered().suites)
def test_all_of_a_suite_is_shown(name: str) -> None:
    told, shown = json.loads(run("show", name, "--json").stdout), run("show", name).stdout
    words = " ".join(shown.split())
    for one in told["metrics"]:
        assert f"{name}.{one['name']} " in words
        for text in (one["doc"], one["formula"], one["source"], one["unit"], one["gate"]):
            assert " ".join(text.split()) in words
    for parameter in told["parameters"]:
        assert parameter["name"] in words
        assert parameter["doc"]
    for requirement in told["requirements"]:
        assert requirement["command"] in words


def test_a_metric_is_shown_with_its_k_or_without() -> None:
    told = json.loads(run("show", "retrieval.ndcg@10", "--json").stdout)
    assert (told["suite"], told["name"], told["low"], told["high"]) == ("retrieval", "ndcg@k", 0.0, 1.0)
    assert (told["better"], told["item"], told["timed"]) == ("higher", "ndcg", False)
    shown = run("show", "retrieval.ndcg@k").stdout
    assert shown.startswith("retrieval.ndcg@k  ↑ higher is better, share, 0 to 1\n")
    assert "recall" not in shown
    assert json.loads(run("show", "index.qps", "--json").stdout)["timed"] is True
    assert "compare on one machine only" in run("show", "index.qps").stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hubnes", "did you mean 'hubness'?"),
        ("hubness.ginni", "did you mean 'gini'?"),
        ("hubnes.gini", "did you mean 'hubness.gini'?"),
        ("cka", "did you mean drift.cka?"),
        ("coverage", "or analogies.coverage or"),
        ("x.y", "one of: alignment, analogies"),
        ("hubness.", "one of: antihub_rate"),
        ("", "one of: alignment"),
    ],
)
def test_an_unknown_name_is_told_with_what_was_meant(name: str, hint: str) -> None:
    told = run("show", name, code=2)
    assert hint in told.stderr
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1


def test_the_options_of_the_list() -> None:
    assert json.loads(run("--from", "embreg", "--json").stdout)["suites"]
    assert "did you mean 'embreg'?" in run("--from", "embregg", code=2).stderr
    assert "which of the two" in run("--markdown", "--json", code=2).stderr
    assert "Example: embreg suites;" in run("--help").stdout


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_word_is_lost_on_a_narrow_terminal(width: int) -> None:
    found = discovered()
    for suite in found.suites.values():
        shown = io.StringIO()
        Console(file=shown, width=width).print(reference.suite(suite, found))
        letters = "".join(shown.getvalue().split())
        for one in suite.metrics:
            assert "".join(one.doc.split()) in letters
            assert "".join(one.formula.split()) in letters
