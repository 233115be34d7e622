"""``gate init``: checks out of what was measured, that the version they are made from passes."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as hs
from jsonschema import Draft7Validator

from embreg import EmbeddingTable, Registry, connect
from embreg.cli import main
from embreg.evals import schema
from embreg.evals.config import load_config
from embreg.evals.discovery import discover
from embreg.evals.floor import measure_floor
from embreg.evals.gating import gate
from embreg.evals.proposal import ERRORS, Omitted, Proposal, Proposed, Slack, hard_bound, of_errors, outward
from embreg.evals.proposal import tolerance as tolerance_of
from embreg.evals.proposing import accepted, propose
from embreg.evals.report import proposal as page
from embreg.evals.runner import evaluate, params_of, suite_named
from embreg.evals.subject import Subject
from embreg.evals.suite import Better, Metric, Skipped

LOWER = Metric("m", unit="share", better=Better.LOWER, doc="d.", source="own", low=0, high=1)
HIGHER = Metric("m", unit="share", better=Better.HIGHER, doc="d.", source="own", low=0, high=1)


@pytest.fixture
def folder(releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "work"
    shutil.copytree(releases, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="module")
def proposed(releases: Path) -> Proposal:
    with connect(releases / ".embreg") as registry:
        return propose(registry, "docs")


def call(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == code, done.output
    return done


def by_metric(found: Proposal) -> dict[str, Proposed]:
    return {check.metric: check for check in found.checks}


class TestBounds:
    def test_are_made_from_what_is_in_production(self, proposed: Proposal) -> None:
        assert (proposed.ref, proposed.chain) == ("docs@2", ("docs@1", "docs@2"))
        assert set(by_metric(proposed)) == {
            "anisotropy.mean_cosine", "hubness.skewness", "neighbors.purity@10", "probe.accuracy",
            "drift.neighbor_overlap@10", "drift.shared_share",
        }  # fmt: skip
        told = {one.suite: one.why for one in proposed.omitted}
        assert "embreg dataset add NAME FILE --kind qrels" in told["retrieval"]
        assert "'embreg eval docs@2 --suite quantization' measures it" in told["quantization"]

    def test_by_size_are_four_errors_of_random_halves(self, proposed: Proposal, releases: Path) -> None:
        suite = suite_named("hubness")
        with connect(releases / ".embreg") as registry:
            floors = measure_floor(suite, Subject(registry.table("docs@2")), suite.params(), splits=10)
        error = next(f.error for f in floors if f.metric == "skewness" and not f.labels)
        check = by_metric(proposed)["hubness.skewness"]
        assert check.bound == "max_rise"
        assert check.value == outward(ERRORS * error, ERRORS * error, up=True)
        assert f"standard error at {error:.2g}; 4 times that" in check.why

    def test_item_by_item_are_the_smallest_loss_that_is_seen(
        self, proposed: Proposal, releases: Path
    ) -> None:
        text = "[[gates]]\nmetric = 'neighbors.purity@10'\nmax_drop = 0\n"
        text += "[[gates]]\nmetric = 'probe.accuracy'\nmax_drop = 0\n"
        path = releases.parent / "by-hand.toml"
        path.write_text(text)
        with connect(releases / ".embreg") as registry:
            from embreg.evals.explaining import explain

            seen = explain(registry, "docs@2", config=path, baseline="docs@1").checks[0].detectable
        check = by_metric(proposed)["neighbors.purity@10"]
        assert seen is not None
        assert check.value == outward(seen, seen, up=True)
        assert check.labels == {"dataset": "topics"}

    def test_of_drift_lie_below_the_worst_that_went_live(self, proposed: Proposal, releases: Path) -> None:
        with connect(releases / ".embreg") as registry:
            (run,) = registry.runs("docs@2", suite="drift")
        overlap = next(m.value for m in run.measures if m.metric == "neighbor_overlap@10")
        check = by_metric(proposed)["drift.neighbor_overlap@10"]
        assert 0 < overlap - check.value < 0.05
        assert "from docs@1 to docs@2, which went live" in check.why
        share = by_metric(proposed)["drift.shared_share"]
        assert (share.bound, share.value, share.severity) == ("min", 1.0, "warning")

    def test_let_pass_what_went_live_though_it_lost(self, registry: Registry) -> None:
        """An accepted loss far above the noise is the tolerance."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 8))
        for shift in (0.0, 1.0):
            registry.register("v", EmbeddingTable.from_arrays(None, (x + shift).astype(np.float32)),
                              metric="cosine", alias="production")  # fmt: skip
        values = [_value(registry, ref) for ref in ("v@1", "v@2")]
        check = by_metric(propose(registry, "v"))["anisotropy.mean_cosine"]
        lost = values[1] - values[0]
        assert lost <= check.value <= lost * 1.1
        assert "from v@1 to v@2, which went live" in check.why

    def test_of_one_that_never_moved_are_those_of_8_bits(self, registry: Registry) -> None:
        x = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
        registry.register("v", EmbeddingTable.from_arrays(None, x), metric="cosine")
        registry.register("v", EmbeddingTable.from_arrays(None, x), metric="cosine")
        check = by_metric(propose(registry, "v"))["drift.neighbor_overlap@10"]
        assert 0.6 < check.value < 1
        assert check.why.startswith("nothing that went live moved yet")

    @pytest.mark.parametrize(
        ("signs", "told"),
        [(1.0, "in 8 bits moves nothing"), (0.0, "every row is zero")],
        ids=["exact", "zero"],
    )
    def test_are_none_where_8_bits_move_nothing(self, registry: Registry, signs: float, told: str) -> None:
        """A bound without any room would fail the first version that is meant to differ."""
        x = signs * np.where(np.random.default_rng(0).normal(size=(200, 16)) > 0, 1, -1)
        registry.register("v", EmbeddingTable.from_arrays(None, x.astype(np.float32)), metric="cosine")
        found = propose(registry, "v")
        assert [check.severity for check in found.checks if check.metric.startswith("drift.")] in (
            [],
            ["warning"],
        )
        assert any(told in one.why for one in found.omitted if one.suite == "drift")

    def test_are_the_same_every_time(self, proposed: Proposal, releases: Path) -> None:
        with connect(releases / ".embreg") as registry:
            again = propose(registry, "docs@2")
        assert page.text(again) == page.text(proposed)


def _value(registry: Registry, ref: str) -> float:
    (run,) = evaluate(registry, ref, suites=["anisotropy"])
    return next(m.value for m in run.measures if m.metric == "mean_cosine")


class TestWhatWentLive:
    def version(self, registry: Registry, alias: str | None = None) -> None:
        rows = np.random.default_rng(len(registry.versions())).normal(size=(50, 4)).astype(np.float32)
        registry.register("v", EmbeddingTable.from_arrays(None, rows), metric="cosine", alias=alias)

    def refs(self, registry: Registry, ref: str) -> list[str]:
        return [v.ref for v in accepted(registry, registry.resolve(ref))]

    def test_is_what_production_named(self, registry: Registry) -> None:
        for alias in ("production", None, "production", "production"):
            self.version(registry, alias)
        assert self.refs(registry, "v@4") == ["v@1", "v@3", "v@4"]
        assert self.refs(registry, "v@3") == ["v@1", "v@3"]

    def test_is_not_what_was_taken_back(self, registry: Registry) -> None:
        for _ in range(3):
            self.version(registry, "production")
        registry.alias("v", "production", "v@1")
        self.version(registry, "production")
        assert self.refs(registry, "v@4") == ["v@1", "v@4"]

    def test_is_what_passed_where_nothing_is_called_production(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        for _ in range(3):
            self.version(registry)
        assert self.refs(registry, "v@3") == []
        path = tmp_path / "embreg.toml"
        path.write_text("[[gates]]\nmetric = 'hubness.skewness'\nmax = 100\n")
        gate(registry, "v@2", config=path, baseline="v@1")
        assert self.refs(registry, "v@3") == ["v@1", "v@2"]


class TestTheFile:
    def test_passes_the_schema_and_the_very_version(self, folder: Path) -> None:
        call("gate", "init", "docs")
        text = (folder / "embreg.toml").read_text()
        Draft7Validator(schema.config_schema(discover())).validate(tomllib.loads(text))
        config = load_config(folder / "embreg.toml")
        assert params_of(config) == {}
        told = text.split("[[gates]]")
        assert all(before.rstrip().rpartition("\n")[2].startswith("# ") for before in told[:-1])
        with connect(folder / ".embreg") as registry:
            for base in ("docs@2", "docs@1"):
                assert gate(registry, "docs@2", config=config, baseline=base).verdict.passed
            assert gate(registry, "docs@3", config=config).verdict.passed
            broken = gate(registry, "docs@4", config=config).verdict
        failed = {c.metric for c in broken.checks if c.outcome == "failed"}
        assert failed == {"neighbors.purity@10", "probe.accuracy", "drift.neighbor_overlap@10"}

    def test_without_any_run_still_finds_swapped_rows(self, registry: Registry, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        x = rng.normal(size=(400, 16)).astype(np.float32)
        swapped = x.copy()
        rows = rng.permutation(400)[:80]
        swapped[rows] = x[np.roll(rows, 1)]
        for vectors in (x, swapped):
            registry.register("v", EmbeddingTable.from_arrays(None, vectors), metric="cosine")
        path = tmp_path / "embreg.toml"
        path.write_text(page.text(propose(registry, "v@1")))
        assert gate(registry, "v@1", config=path, baseline="v@1").verdict.passed
        assert not gate(registry, "v@2", config=path, baseline="v@1").verdict.passed

    def test_is_printed_or_told_as_a_document(self, folder: Path) -> None:
        printed = call("gate", "init", "docs", "--stdout").stdout
        assert not (folder / "embreg.toml").exists()
        document = json.loads(call("gate", "init", "docs", "--stdout", "--json").stdout)
        assert document["toml"] == printed
        assert document["path"] is None
        assert len(document["checks"]) == len(tomllib.loads(printed)["gates"]) == 6

    def test_is_not_overwritten(self, folder: Path) -> None:
        path = folder / "embreg.toml"
        path.write_text("[[gates]]\nmetric = 'hubness.gini'\nmax = 0.5\n")
        refused = call("gate", "init", "docs", code=2)
        assert "embreg.toml has 1 checks (--force replaces them" in refused.stderr
        assert "hubness.gini" in path.read_text()

    def test_keeps_what_else_it_says(self, folder: Path) -> None:
        path = folder / "embreg.toml"
        head = "# ours\n[registry]\nurl = '.embreg'\n\n[suites.hubness]\nk = 5\n"
        path.write_text(head)
        call("gate", "init", "docs")
        first = path.read_text()
        assert first.startswith(head + "\n# Checks of docs, ")
        call("gate", "init", "docs", "--force")
        assert path.read_text() == first
        config = load_config(path)
        assert config.suites == {"hubness": {"k": 5}}
        # hubness was measured with another k only.
        assert "hubness.skewness" not in {check.metric for check in config.gates}
        assert "# - hubness: no numbers: 'embreg eval docs@2 --suite hubness' measures it" in first

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "[[gates]]\nmetric='hubness.gini'\nmax=1\n[suites.hubness]\nk=5\n",
                "line 4: a table stands among",
            ),
            ("gates = [{metric='hubness.gini', max=1}]\n", "its gates are no [[gates]] tables"),
            ("gates = []\n", "its gates are no [[gates]] tables"),
            ("[[gates]\n", "line 1"),
        ],
    )
    def test_is_left_alone_where_it_cannot_be_told_apart(self, folder: Path, text: str, told: str) -> None:
        (folder / "embreg.toml").write_text(text)
        assert told in call("gate", "init", "docs", "--force", code=2).stderr
        assert (folder / "embreg.toml").read_text() == text

    def test_keeps_the_ends_of_lines_and_the_mark_of_the_order_of_bytes(self, folder: Path) -> None:
        path = folder / "embreg.toml"
        head = b"\xef\xbb\xbf# ours\r\n[registry]\r\nurl = '.embreg'\r\n"
        path.write_bytes(head)
        path.chmod(0o640)
        call("gate", "init", "docs")
        data = path.read_bytes()
        assert data.startswith(head)
        assert data.count(b"\n") == data.count(b"\r\n")
        assert len(load_config(path).gates) == 6
        assert path.stat().st_mode & 0o777 == 0o640

    def test_goes_where_it_is_asked_for(self, folder: Path) -> None:
        call("gate", "init", "docs", "--config", "ci.toml")
        assert len(load_config(folder / "ci.toml").gates) == 6
        assert "cannot write" in call("gate", "init", "docs", "--config", "no/such.toml", code=3).stderr


class TestTheCommand:
    def test_says_what_is_next(self, folder: Path) -> None:
        told = call("gate", "init", "docs").stdout
        assert told.startswith("embreg.toml: 6 checks from docs@2\n")
        assert told.rstrip().endswith("next: embreg gate docs@4 --explain")

    def test_an_embedding_called_init_is_still_reached(self, folder: Path) -> None:
        with connect(folder / ".embreg") as registry:
            registry.register("init", EmbeddingTable.from_arrays(None, np.eye(50, 8, dtype=np.float32)))
        (folder / "embreg.toml").write_text("[[gates]]\nmetric = 'anisotropy.mean_cosine'\nmax = 1\n")
        for ref in ("init@latest", "init@1"):
            assert json.loads(call("gate", ref, "--json").stdout)["ref"] == "init@1"
        assert json.loads(call("gate", "--json", "--", "init").stdout)["ref"] == "init@1"
        assert "Missing argument 'NAME'" in call("gate", "init", code=2).stderr

    def test_a_reference_is_asked_for(self) -> None:
        assert "Missing argument REF" in call("gate", code=2).stderr
        assert "gate init [OPTIONS] NAME" in call("gate", "init", "--help").stdout

    @pytest.mark.parametrize(
        ("words", "typed", "offered"),
        [
            (["gate"], "", ["init", "docs"]),
            (["gate"], "in", ["init"]),
            (["gate"], "docs@p", ["docs@production"]),
            (["gate", "init"], "docs@p", ["docs@production"]),
            (["gate", "init"], "--f", ["--force"]),
            (["gate"], "--ex", ["--explain"]),
        ],
    )
    def test_completes(self, folder: Path, words: list[str], typed: str, offered: list[str]) -> None:
        from click.shell_completion import ShellComplete

        found = ShellComplete(main, {}, "embreg", "_EMBREG_COMPLETE").get_completions(words, typed)
        assert [item.value for item in found][: len(offered)] == offered

    def test_no_such_embedding(self, folder: Path) -> None:
        assert "no embedding 'dogs'" in call("gate", "init", "dogs", code=3).stderr
        assert not (folder / "embreg.toml").exists()


class TestNumbers:
    @given(hs.floats(-1e6, 1e6), hs.floats(1e-9, 1e3), hs.booleans())
    def test_are_rounded_away_and_not_far(self, value: float, scale: float, up: bool) -> None:
        rounded = outward(value, scale, up=up)
        slack = 1e-9 * max(1.0, abs(value))
        assert (rounded >= value - slack) if up else (rounded <= value + slack)
        assert abs(rounded - value) <= 10 ** (math.floor(math.log10(scale)) - 1) + slack

    def test_of_two_digits(self) -> None:
        assert outward(0.03141, 0.03141, up=True) == 0.032
        assert outward(0.3, 0.3, up=True) == 0.3
        assert outward(0.5861, 0.0092, up=False) == 0.5861
        assert outward(0.58619, 0.0092, up=False) == 0.5861
        assert outward(1.0, 0.0, up=False) == 1.0

    def test_lie_on_the_side_that_is_worse_and_within_the_range(self) -> None:
        slack = Slack(size=0.123, why="")
        assert tolerance_of(HIGHER, slack) == ("max_drop", 0.13)
        assert tolerance_of(LOWER, slack) == ("max_rise", 0.13)
        assert hard_bound(HIGHER, 0.5, slack) == ("min", 0.37)
        assert hard_bound(LOWER, 0.5, slack) == ("max", 0.63)
        assert hard_bound(HIGHER, 0.05, slack) == ("min", 0.0)
        assert hard_bound(LOWER, 0.95, slack) == ("max", 1.0)

    def test_an_accepted_loss_widens_and_never_narrows(self) -> None:
        slack = of_errors(0.01, "noise is")
        assert slack == Slack(size=0.04, why="noise is 0.01; 4 times that")
        assert slack.at_least(0.03, "lost") is slack
        assert slack.at_least(0.05, "lost") == Slack(size=0.05, why="lost")


class TestHalvesOfOneVersion:
    def test_scatter_as_fresh_rows_do(self) -> None:
        suite = suite_named("anisotropy")

        def drawn(seed: int) -> Subject:
            x = np.random.default_rng(seed).normal(size=(400, 6)) + 0.5
            return Subject(EmbeddingTable.from_arrays(None, x.astype(np.float32)))

        floors = measure_floor(suite, drawn(0), suite.params(), splits=20, seeds=1)
        error = next(f.error for f in floors if f.metric == "mean_cosine")
        values = [next(m.value for m in suite.run(drawn(s), suite.params(), np.random.default_rng(0)).measures
                       if m.metric == "mean_cosine") for s in range(30)]  # fmt: skip
        assert error == pytest.approx(np.std(values, ddof=1), rel=0.6)

    def test_are_not_made_of_next_to_nothing(self) -> None:
        few = Subject(EmbeddingTable.from_arrays(None, np.eye(39, 4, dtype=np.float32) + 1))
        suite = suite_named("anisotropy")
        with pytest.raises(Skipped, match="39 rows are too few to halve"):
            measure_floor(suite, few, suite.params())


@pytest.mark.parametrize(
    "text", ['"', "\\", "\x1b[31m", "a\u202eb", "x]\n[[gates]]", "\x7f", "é…", "x" * 300]
)
def test_nasty_labels_are_read_back(text: str, tmp_path: Path) -> None:
    labels: dict[str, Any] = {"dataset": text, f"a {text[:20]}": "b"}
    check = Proposed(
        metric="hubness.gini", labels=labels, bound="max", value=0.5, severity="critical", why=text
    )
    given_ = Proposal(ref="v@1", aliases=(text,), latest="v@1", chain=(), checks=(check,),
                      omitted=(Omitted(suite="s", why=text),))  # fmt: skip
    written = page.text(given_)
    assert all(line.isprintable() for line in written.split("\n"))
    (read,) = tomllib.loads(written)["gates"]
    assert read["labels"] == labels
