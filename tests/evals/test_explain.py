"""``gate --explain``: what each check would do, from what is recorded, with nothing measured or written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from embreg import Registry, connect
from embreg.cli import main
from embreg.evals.explaining import LATER, Explained, Explanation, Limit, explain
from embreg.evals.gating import gate
from embreg.evals.report import explanation
from embreg.registry.errors import ConfigError, NotFound

CHECKS = """\
[[gates]]
metric = "neighbors.purity@10"
max_drop = 0.01
alpha = 0.01

[[gates]]
metric = "hubness.skewness"
max_rise = { abs = 0.5, rel = 0.1 }
severity = "warning"
on_missing = "skip"

[[gates]]
metric = "drift.neighbor_overlap@10"
min = 0.7
max_drop = 0.4

[[gates]]
metric = "similarity.spearman"
max_drop = 0.01

[[gates]]
metric = "probe.accuracy"
labels = { dataset = "nowhere" }
max = 0.9
"""


@pytest.fixture
def folder(releases: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "work"
    shutil.copytree(releases, copy)
    (copy / "embreg.toml").write_text(CHECKS)
    return copy


@pytest.fixture
def registry(folder: Path) -> Registry:
    with connect(folder / ".embreg") as opened:
        yield opened


def explained(registry: Registry, ref: str, **how: str) -> dict[str, Explained]:
    found = explain(registry, ref, config=registry.root.parent / "embreg.toml", **how)
    return {check.metric: check for check in found.checks}


def test_before_anything_is_measured_the_baseline_stands(registry: Registry) -> None:
    events = len(registry.log())
    (recorded,) = registry.runs("docs@2", suite="neighbors")
    before = next(m.value for m in recorded.measures if m.metric == "purity@10" and not m.labels)
    found = explained(registry, "docs@4")
    purity = found["neighbors.purity@10"]
    assert purity.baseline == before
    assert purity.limits == (Limit(side="below", value=pytest.approx(before - 0.01), tested=True),)
    assert (purity.detectable, purity.unknown, purity.line) == (None, LATER, 1)
    assert purity.how == "item by item, the mean of 'purity'"
    assert purity.labels == {"dataset": "topics"}
    assert len(registry.log()) == events
    assert registry.runs("docs@4") == ()


def test_a_rise_by_size_fails_from_the_tighter_of_two(registry: Registry) -> None:
    skewness = explained(registry, "docs@4")["hubness.skewness"]
    value = skewness.baseline
    assert value is not None
    assert skewness.limits == (Limit(side="above", value=pytest.approx(value * 1.1)),)
    assert (skewness.severity, skewness.on_missing, skewness.how) == ("warning", "skip", "by size only")


def test_drift_is_held_against_a_version_like_itself(registry: Registry) -> None:
    overlap = explained(registry, "docs@4")["drift.neighbor_overlap@10"]
    assert overlap.baseline == 1
    assert overlap.limits == (Limit(side="below", value=0.7), Limit(side="below", value=pytest.approx(0.6)))
    assert overlap.how.startswith("hard bound; by bounds, and by its distance from 1")


def test_what_can_never_be_measured_says_why(registry: Registry) -> None:
    found = explained(registry, "docs@4")
    assert "needs a dataset of kind pairs" in found["similarity.spearman"].unknown
    assert "was not run on dataset 'nowhere'" in found["probe.accuracy"].unknown
    alone = explain(registry, "docs@4", config=registry.root.parent / "embreg.toml", no_baseline=True)
    assert [c.unknown for c in alone.checks][1] == LATER
    assert {c.baseline for c in alone.checks if not c.metric.startswith("drift")} == {None}


def test_once_measured_it_says_what_the_gate_says(registry: Registry) -> None:
    config = registry.root.parent / "embreg.toml"
    verdict = gate(registry, "docs@4", config=config).verdict
    judged = {check.metric: check for check in verdict.checks}
    found = explained(registry, "docs@4")
    assert list(found) == list(judged)
    for metric, check in found.items():
        assert check.bound == judged[metric].bound
        assert check.labels == judged[metric].labels
        assert check.detectable == judged[metric].detectable
        assert check.line == judged[metric].line
    purity = found["neighbors.purity@10"]
    assert purity.how == "test by flipped signs over 600 items at 0.01"
    assert purity.detectable is not None
    assert purity.unknown == ""
    # Each limit is where the judgement turns.
    (limit,) = purity.limits
    value, reason = judged["neighbors.purity@10"].value, judged["neighbors.purity@10"].reason
    assert value is not None and (value < limit.value) == ("beyond" in reason)


def test_it_refuses_what_the_gate_refuses(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match="nothing would be checked"):
        explain(registry, "docs@4", config=path)
    with pytest.raises(NotFound):
        explain(registry, "docs@9", config=registry.root.parent / "embreg.toml")


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "400")  # the folder has a long name
    done = CliRunner().invoke(main, ["gate", "docs@4", "--explain"])
    assert done.exit_code == 0
    assert done.stdout.startswith("docs@4 against docs@2, by ")
    assert "? unknown until measured: embreg gate docs@4" in done.stdout
    assert "item by item, the mean of 'purity'" in done.stdout


@pytest.mark.parametrize("text", ["<script>", "\x1b[31m", "a\u202eb", "\ud800", "x" * 10_000])
def test_nasty_text_is_shown_as_what_it_is(text: str) -> None:
    from rich.console import Console

    check = Explained(
        metric=text, labels={text: text}, bound=text, how=text, baseline=1.0, limits=(), detectable=None,
        unknown=text, severity="critical", on_missing="fail", line=3,
    )  # fmt: skip
    given = Explanation(ref=text, baseline=text, config=text, checks=(check,), doubts=(text,))
    console = Console(width=120, record=True, file=None, quiet=True)
    console.print(explanation.view(given))
    printed = console.export_text()
    assert all(line.isprintable() for line in printed.split("\n"))
    assert explanation.document(given)["checks"][0]["line"] == 3
