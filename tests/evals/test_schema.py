"""The JSON Schema of embreg.toml: what it passes the parser reads, what it refuses the parser refuses."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from embreg.cli import main
from embreg.evals import schema
from embreg.evals.config import BOUNDS, KEYS, OF_REGISTRY, TABLES, check_against, doubts, load_config
from embreg.evals.discovery import OWN, discovered, find
from embreg.evals.runner import params_of
from embreg.registry.errors import ConfigError

from .test_discovery import GOOD, plant

ROOT = Path(__file__).parent.parent.parent
SUITES = discovered().only(OWN).suites
SCHEMA = schema.config_schema(SUITES)
VALIDATOR = Draft7Validator(SCHEMA)
CHECK = SCHEMA["properties"]["gates"]["items"]


def toml_blocks(page: Path) -> list[str]:
    found = re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in found if "[[gates]]" in block or "[suites" in block]


PAGES = [ROOT / "README.md", ROOT / "docs" / "ci.md", ROOT / "docs" / "guide-registry.md"]
EXAMPLES = {
    "demo": (ROOT / "docs/demo/embreg.toml").read_text(encoding="utf-8"),
    **{f"{page.name}-{i}": text for page in PAGES for i, text in enumerate(toml_blocks(page))},
}


def test_the_file_in_the_package_is_what_the_code_says() -> None:
    kept = (ROOT / "evals" / schema.FILE).read_text(encoding="utf-8")
    assert kept == schema.text(SUITES), f"evals/{schema.FILE} is out of date: 'make docs' writes it anew"


def test_it_is_a_schema_and_names_what_the_parser_reads() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert tuple(SCHEMA["properties"]) == TABLES
    assert tuple(SCHEMA["properties"]["registry"]["properties"]) == OF_REGISTRY
    assert tuple(CHECK["properties"]) == KEYS
    assert [one["required"] for one in CHECK["anyOf"]] == [[bound] for bound in BOUNDS]
    assert all(one["description"] for one in CHECK["properties"].values())
    # taplo completes no key of a table that has an 'allOf' of its own.
    assert "allOf" not in CHECK


def test_it_names_every_metric_and_parameter_with_what_they_mean() -> None:
    names = {entry["title"]: entry for entry in CHECK["properties"]["metric"]["anyOf"]}
    assert set(names) == {
        f"{suite.name}.{metric.name}" for suite in SUITES.values() for metric in suite.metrics
    }
    for suite in SUITES.values():
        assert all(metric.doc.replace("``", "`") in names[f"{suite.name}.{metric.name}"]["description"]
                   for metric in suite.metrics)  # fmt: skip
        params = SCHEMA["properties"]["suites"]["properties"][suite.name]["properties"]
        assert all(one["description"] and "default" in one for one in params.values()), suite.name


def test_every_metric_is_accepted_and_so_is_every_k() -> None:
    for suite in SUITES.values():
        for metric in suite.metrics:
            for name in {metric.name, metric.at(10), metric.at(200)}:
                bound = {"max": metric.high if metric.high is not None else 1e9}
                VALIDATOR.validate({"gates": [{"metric": f"{suite.name}.{name}", **bound}]})
    assert not VALIDATOR.is_valid({"gates": [{"metric": "drift.neighbor_overlap@ten", "min": 0}]})
    assert not VALIDATOR.is_valid({"gates": [{"metric": "driftXneighbor_overlap@10", "min": 0}]})


def test_defaults_are_what_it_accepts() -> None:
    given = {name: {key: one["default"] for key, one in suite["properties"].items()}
             for name, suite in SCHEMA["properties"]["suites"]["properties"].items()}  # fmt: skip
    VALIDATOR.validate({"suites": given})


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_pass_the_schema_and_the_parser(name: str, tmp_path: Path) -> None:
    path = tmp_path / "embreg.toml"
    path.write_text(EXAMPLES[name], encoding="utf-8")
    VALIDATOR.validate(tomllib.loads(EXAMPLES[name]))
    config = load_config(path)
    check_against(config, SUITES)
    assert doubts(config, SUITES) == ()


GATE = "[[gates]]\nmetric = 'similarity.spearman'\n"
BROKEN = {
    "an unknown table": "[regestry]\nurl = '.'",
    "an unknown key of registry": "[registry]\nulr = '.'",
    "a number for the registry": "[registry]\nurl = 3",
    "an empty registry": "[registry]\nurl = ''",
    "an unknown suite": "[suites.simlarity]\nrestrict_vocab = 0",
    "an unknown parameter": "[suites.similarity]\nrestrict_vocabulary = 0",
    "a parameter of another type": "[suites.hubness]\nk = 'ten'",
    "a fraction for a whole number": "[suites.hubness]\nk = 10.5",
    "a word for a list": "[suites.retrieval]\ncuts = 'many'",
    "a table for gates": "[gates]\nmetric = 'similarity.spearman'\nmin = 0",
    "no metric": "[[gates]]\nmin = 0.5",
    "an unknown metric": "[[gates]]\nmetric = 'similarity.speerman'\nmin = 0.5",
    "an unknown suite in a metric": "[[gates]]\nmetric = 'similar.spearman'\nmin = 0.5",
    "no bound": GATE,
    "a bound in words": GATE + "min = 'high'",
    "a bound that is true": GATE + "min = true",
    "min below the range": GATE + "min = -1.5",
    "max above the range": GATE + "max = 1.5",
    "a range of another metric": "[[gates]]\nmetric = 'hubness.gini'\nmax = 1.1",
    "a rise of what is better higher": GATE + "max_rise = 0.1",
    "a drop of what is better lower": "[[gates]]\nmetric = 'hubness.skewness'\nmax_drop = 0.1",
    "a drop of what is neither": "[[gates]]\nmetric = 'neighbors.lid'\nmax_drop = 0.1",
    "a drop with k of what is neither": "[[gates]]\nmetric = 'neighbors.margin@5'\nmax_drop = 0.1",
    "a negative drop": GATE + "max_drop = -0.1",
    "a negative relative drop": GATE + "max_drop = { rel = -0.1 }",
    "an empty drop": GATE + "max_drop = { }",
    "an unknown part of a drop": GATE + "max_drop = { abs = 0.1, rle = 0.1 }",
    "an alpha of 0": GATE + "min = 0\nalpha = 0",
    "an alpha above 1": GATE + "min = 0\nalpha = 5",
    "an unknown severity": GATE + "min = 0\nseverity = 'fatal'",
    "an unknown on_missing": GATE + "min = 0\non_missing = 'ignore'",
    "labels that are no table": GATE + "min = 0\nlabels = 'total'",
    "a list as a label": GATE + "min = 0\nlabels = { a = [1] }",
    "a dataset where there is none": "[[gates]]\nmetric = 'hubness.gini'\nmax = 1\nlabels = {dataset = 'x'}",
    "an index where there is none": GATE + "min = 0\nlabels = { index = 'x' }",
    "an unknown key": GATE + "min = 0.5\nmax_dorp = 1",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_fails_both(name: str, tmp_path: Path) -> None:
    path = tmp_path / "embreg.toml"
    path.write_text(BROKEN[name], encoding="utf-8")
    errors = list(VALIDATOR.iter_errors(tomllib.loads(BROKEN[name])))
    assert len(errors) == 1, [error.message for error in errors]
    with pytest.raises(ConfigError):
        params_of(load_config(path))


def test_a_suite_of_another_package_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = Draft7Validator(schema.config_schema(find(plant(tmp_path, GOOD)).suites))
    given = {"suites": {"mine": {"k": 3}}, "gates": [{"metric": "mine.rows", "max_drop": 1}]}
    theirs.validate(given)
    assert not VALIDATOR.is_valid(given)


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(main, ["gate", "--schema"])
    assert (done.exit_code, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    Draft7Validator.check_schema(printed)
    assert set(SUITES) <= set(printed["properties"]["suites"]["properties"])
