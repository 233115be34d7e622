from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from embreg.evals.config import (
    ALPHA,
    Check,
    Config,
    Tolerance,
    check_against,
    doubts,
    find_config,
    load_config,
)
from embreg.evals.suite import Better, Metric, Need, Suite
from embreg.registry.errors import ConfigError

CONTRACT = """\
[registry]
url = ".embreg"

[suites.analogies]            # parameters of a suite
restrict_vocab = 0

[[gates]]
metric = "drift.neighbor_overlap@10"   # SUITE.METRIC
labels = { }                           # optional, picks one labelled measure
min = 0.8                              # hard bounds: min, max
max_drop = 0.01                        # against the baseline
alpha = 0.01                           # significance asked of a drop
severity = "critical"                  # or "warning"
on_missing = "fail"                    # or "skip"
"""


def load(folder: Path, text: str | bytes) -> Config:
    path = folder / "embreg.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path)


def refusal(folder: Path, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(f"{folder / 'embreg.toml'}:")
    return caught.value


class TestReading:
    def test_the_contract(self, tmp_path: Path) -> None:
        config = load(tmp_path, CONTRACT)
        assert config.registry_url == str(tmp_path / ".embreg")
        assert config.suites == {"analogies": {"restrict_vocab": 0}}
        assert config.digest == hashlib.sha256(CONTRACT.encode()).hexdigest()
        (check,) = config.require_gates()
        assert check == Check(
            metric="drift.neighbor_overlap@10", min=0.8, max_drop=Tolerance(abs=0.01), alpha=0.01
        )
        assert (check.suite, check.name, check.line) == ("drift", "neighbor_overlap@10", 7)

    def test_defaults_and_every_key(self, tmp_path: Path) -> None:
        config = load(
            tmp_path,
            """
            [[gates]]
            metric = "a.b"
            max = 1
            [[gates]]
            metric = "a.b.c"
            labels = { group = "total", k = 10 }
            max_rise = { abs = 1, rel = 0.05 }
            severity = "warning"
            on_missing = "skip"
            """,
        )
        first, second = config.gates
        assert (first.alpha, first.severity, first.on_missing) == (ALPHA, "critical", "fail")
        assert (first.max, first.tolerance, first.labels) == (1.0, None, {})
        assert second.labels == {"group": "total", "k": "10"}
        assert second.tolerance == Tolerance(abs=1.0, rel=0.05)
        assert (second.severity, second.on_missing, second.name) == ("warning", "skip", "b.c")

    def test_empty_file_is_a_config_without_gates(self, tmp_path: Path) -> None:
        config = load(tmp_path, "")
        assert (config.registry_url, config.suites, config.gates) == (None, {}, ())
        with pytest.raises(ConfigError, match="nothing would be checked"):
            config.require_gates()

    @pytest.mark.parametrize("url", ["sqlite:///x.db", "s3://bucket/key", "/abs/olute"])
    def test_urls_and_absolute_paths_stay(self, tmp_path: Path, url: str) -> None:
        assert load(tmp_path, f"registry.url = '{url}'").registry_url == url

    def test_byte_order_mark_and_windows_lines(self, tmp_path: Path) -> None:
        data = b"\xef\xbb\xbf" + CONTRACT.replace("\n", "\r\n").encode()
        assert load(tmp_path, data).gates[0].line == 7

    def test_found_upwards(self, tmp_path: Path) -> None:
        deep = tmp_path / "a" / "b"
        deep.mkdir(parents=True)
        (deep / "embreg.toml").mkdir()
        (tmp_path / "embreg.toml").write_text("")
        assert find_config(deep) == tmp_path / "embreg.toml"
        (tmp_path / "a" / "embreg.toml").write_text("")
        assert find_config(deep) == tmp_path / "a" / "embreg.toml"
        assert find_config(Path("/proc/self")) is None

    def test_values_are_frozen(self, tmp_path: Path) -> None:
        config = load(tmp_path, CONTRACT)
        with pytest.raises(TypeError):
            config.suites["analogies"]["restrict_vocab"] = 1  # type: ignore[index]
        with pytest.raises(TypeError):
            config.gates[0].labels["x"] = "y"  # type: ignore[index]


GATE = '[[gates]]\nmetric = "a.b"\nmin = 0.5\n'


class TestRefusing:
    @pytest.mark.parametrize(
        ("text", "line", "told"),
        [
            ("x = \n", 1, "Invalid value"),
            ('[a]\n\n[[b]\ny = "z"\n', 3, "column"),
            ("[registry]\nurl = 3", 2, "url is a path"),
            ("[registry]\nurl = ''", 2, "url is a path"),
            ("\n[registry]\nulr = '.'", 3, "unknown key of [registry] 'ulr'"),
            ("[regestry]\n", 1, "unknown table 'regestry'"),
            ("\n\n[[gate]]\nmetric='a.b'", 3, "unknown table 'gate'"),
            ("[gates]\nmetric = 'a.b'", 1, "gates is a list"),
            ("gates = 3", 1, "gates is a list"),
            ("registry = 'x'", 1, "[registry] is a table"),
            ("suites = 3", 1, "[suites] is a table"),
            ("[suites]\nk = 10", 2, "'k' is no suite"),
            (GATE + "[[gates]]\nmin = 1", 4, "a check names its metric"),
            (GATE + "\n[[gates]]\nmetric = 'drift'\nmin = 1", 6, "'drift' is no metric"),
            ("[[gates]]\nmetric = '.x'\nmin = 1", 2, "is no metric"),
            ("[[gates]]\nmetric = 'a b.x'\nmin = 1", 2, "is no metric"),
            ("[[gates]]\nmetric = 7\nmin = 1", 2, "7 is no metric"),
            (GATE + "[[gates]]\nmetric = 'c.d'", 4, "c.d has no bound"),
            (GATE + "max = 0.4", 3, "min 0.5 is above max 0.4"),
            (GATE + "max = 'high'", 4, "max is a finite number, not 'high'"),
            (GATE + "max = true", 4, "max is a finite number"),
            (GATE + "max = nan", 4, "max is a finite number"),
            (GATE + "max = inf", 4, "max is a finite number"),
            (GATE + "max_drop = -0.1", 4, "max_drop cannot be negative"),
            (GATE + "max_drop = { abs = 0.1, rel = -1 }", 4, "max_drop cannot be negative"),
            (GATE + "max_drop = { abs = 0.1, rle = 1 }", 4, "abs and rel"),
            (GATE + "max_drop = { }", 4, "abs and rel"),
            (GATE + "max_rise = '5%'", 4, "max_rise is a finite number"),
            (GATE + "alpha = 0", 4, "alpha lies between"),
            (GATE + "alpha = 5", 4, "alpha lies between"),
            (GATE + "severity = 'fatal'", 4, "unknown severity 'fatal'"),
            (GATE + "on_missing = false", 4, "unknown on_missing"),
            (GATE + "labels = 'total'", 4, "labels are words"),
            (GATE + "labels = { a = [1] }", 4, "labels are words"),
            (GATE + "[gates.labels]\na = 1.5", 1, "labels are words"),
            (GATE + "max_dorp = 1", 4, "unknown key of [[gates]] 'max_dorp'"),
            (b"a = 1\nb = '\xff'", 2, "not UTF-8"),
        ],
    )
    def test_names_the_line(self, tmp_path: Path, text: str | bytes, line: int, told: str) -> None:
        error = refusal(tmp_path, text)
        assert f"embreg.toml: line {line}: " in error.message
        assert told in error.message

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            (GATE + "max_dorp = 1", "did you mean 'max_drop'?"),
            (GATE + "severity = 'critcal'", "did you mean 'critical'?"),
            ("[[gate]]\n", "did you mean 'gates'?"),
            ("[gates]\n", "each check begins with [[gates]], in double brackets"),
        ],
    )
    def test_says_what_was_meant(self, tmp_path: Path, text: str, hint: str) -> None:
        assert refusal(tmp_path, text).hint == hint

    def test_inline_gates_still_name_a_line(self, tmp_path: Path) -> None:
        error = refusal(tmp_path, "gates = [{ metric = 'a.b' }]")
        assert "line 1: a.b has no bound" in error.message

    def test_no_file_and_a_folder(self, tmp_path: Path) -> None:
        for path, told in ((tmp_path / "no.toml", "No such file"), (tmp_path, "directory")):
            with pytest.raises(ConfigError, match=told):
                load_config(path)

    def test_escapes_what_it_quotes(self, tmp_path: Path) -> None:
        error = refusal(tmp_path, '[[gates]]\nmetric = "\\u001b[31mx\\u202e"\nmin = 1')
        assert error.message.isprintable()
        assert "\\x1b" in error.message

    @given(hs.text(max_size=200))
    @settings(deadline=None, max_examples=150)
    def test_any_text_is_read_or_refused(self, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
        path = tmp_path_factory.mktemp("config") / "embreg.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load_config(path)
        except ConfigError as error:
            assert str(error).isprintable()

    @given(
        hs.dictionaries(
            hs.sampled_from(["metric", "labels", "min", "max", "max_drop", "alpha", "severity"]),
            hs.sampled_from(["1", "'a.b'", "{}", "{ abs = 1 }", "[1]", "true", "nan", "1979-05-27"]),
        )
    )
    @settings(deadline=None, max_examples=150)
    def test_any_value_is_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]
    ) -> None:
        path = tmp_path_factory.mktemp("config") / "embreg.toml"
        path.write_text("[[gates]]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items()))
        try:
            (check,) = load_config(path).gates
        except ConfigError as error:
            assert ": line " in error.message
        else:
            assert check.metric == "a.b"


class TestTolerance:
    def test_beyond_either_is_too_far(self) -> None:
        both = Tolerance(abs=0.05, rel=0.1)
        assert not both.exceeded(0.04, 0.5)
        assert both.exceeded(0.06, 0.9)  # beyond abs, within rel
        assert both.exceeded(0.04, 0.3)  # beyond rel, within abs
        assert str(both) == "0.05 and 10%"

    def test_rounding_is_no_loss(self) -> None:
        assert 0.49 - 0.48 > 0.01
        assert not Tolerance(abs=0.01).exceeded(0.49 - 0.48, 0.49)
        assert not Tolerance(abs=0).exceeded(0.0, 1.0)
        assert Tolerance(abs=0).exceeded(1e-9, 1.0)

    def test_relative_to_the_size_of_a_negative_baseline(self) -> None:
        assert Tolerance(rel=0.1).exceeded(0.2, -1.0)
        assert not Tolerance(rel=0.1).exceeded(0.05, -1.0)


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 10


def metric(name: str, better: Better, low: float | None = 0, high: float | None = 1) -> Metric:
    return Metric(name, unit="share", better=better, doc="d.", source="own", low=low, high=high)


def suite(name: str, *metrics: Metric, needs: frozenset[Need] = frozenset()) -> Suite:
    return Suite(name=name, version=1, params=Params, metrics=metrics, needs=needs, doc="d.",
                 run=lambda *_: None)  # type: ignore[arg-type, return-value]  # fmt: skip


SUITES = {
    "knn": suite(
        "knn",
        metric("purity@k", Better.HIGHER),
        metric("skew", Better.LOWER, None, None),
        metric("lid", Better.NEITHER, 0, None),
    ),
    "drift": suite(
        "drift",
        metric("overlap@k", Better.HIGHER),
        metric("shift", Better.LOWER, None),
        needs=frozenset({Need.BASELINE}),
    ),
    "words": suite("words", metric("right", Better.HIGHER), needs=frozenset({Need.PAIRS})),
}


class TestAgainstSuites:
    @pytest.mark.parametrize(
        "gate",
        [
            "metric='knn.purity@10'\nmax_drop=0.1",
            "metric='knn.purity@k'\nmin=0",
            "metric='knn.skew'\nmax_rise=0.1\nmax=-7",
            "metric='knn.lid'\nmin=5",
            "metric='drift.overlap@10'\nmin=0.8\nmax_drop=0.01",
            "metric='words.right'\nmin=0.8\nlabels={dataset='a'}",
        ],
    )
    def test_fits(self, tmp_path: Path, gate: str) -> None:
        check_against(load(tmp_path, f"[suites.knn]\nk = 3\n[[gates]]\n{gate}"), SUITES)

    @pytest.mark.parametrize(
        ("text", "told", "hint"),
        [
            ("[suites.knnn]\n", "line 1: unknown suite 'knnn'", "did you mean 'knn'?"),
            ("\n[suites.knn]\nkk=1", "line 2: unknown parameter of knn 'kk'", "did you mean 'k'?"),
            ("[[gates]]\nmetric='kn.x'\nmin=0", "unknown suite 'kn'", "did you mean 'knn'?"),
            (
                "[[gates]]\nmetric='knn.puurity@10'\nmin=0",
                "line 1: unknown metric of knn 'puurity@10'",
                "did you mean 'purity@k'?",
            ),
            ("[[gates]]\nmetric='knn.skew'\nmax_drop=1", "max_drop", "did you mean 'max_rise'?"),
            ("[[gates]]\nmetric='knn.purity@5'\nmax_rise=1", "max_rise", "did you mean 'max_drop'?"),
            ("[[gates]]\nmetric='knn.lid'\nmax_rise=1", "neither", "bound it by min and max"),
            ("[[gates]]\nmetric='knn.purity@5'\nmin=80", "outside its range, 0 to 1", "d."),
            ("[[gates]]\nmetric='knn.lid'\nmax=-1", "outside its range, 0 to anything", "d."),
            ("[[gates]]\nmetric='drift.shift'\nmax_rise=1", "itself", "bound it by min and max"),
            (
                "[[gates]]\nmetric='knn.lid'\nmin=1\nlabels={dataset='x'}",
                "knn runs on no dataset",
                "leave the label 'dataset' out",
            ),
        ],
    )
    def test_does_not_fit(self, tmp_path: Path, text: str, told: str, hint: str) -> None:
        config = load(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            check_against(config, SUITES)
        assert told in caught.value.message
        assert caught.value.hint == hint
        assert ": line " in caught.value.message


class TestDoubts:
    """What is allowed and hardly meant: a line for each, and no error."""

    @pytest.mark.parametrize(
        ("gate", "told"),
        [
            ("metric='knn.purity@10'\nmax=0.9", "max alone on a metric that is better higher"),
            ("metric='knn.skew'\nmin=0.9", "min alone on a metric that is better lower"),
            ("metric='knn.purity@10'\nmin=0", "min = 0 is the least it can be: nothing falls below"),
            ("metric='knn.lid'\nmin=0", "min = 0 is the least it can be: nothing falls below"),
            ("metric='knn.purity@10'\nmax=1", "max = 1 is the most it can be: nothing rises above"),
        ],
    )  # fmt: skip
    def test_are_told_with_their_line(self, tmp_path: Path, gate: str, told: str) -> None:
        config = load(tmp_path, f"\n[[gates]]\n{gate}")
        check_against(config, SUITES)
        (doubt,) = doubts(config, SUITES)
        metric = config.gates[0].metric
        assert doubt.partition(": did you mean")[0] == f"{tmp_path / 'embreg.toml'}: line 2: {metric}: {told}"

    @pytest.mark.parametrize(
        "gate",
        [
            "metric='knn.purity@10'\nmin=0.5",
            "metric='knn.purity@10'\nmin=0.5\nmax=0.99",
            "metric='knn.purity@10'\nmax=0.99\nmax_drop=0.1",
            "metric='knn.skew'\nmax=3",
            "metric='knn.lid'\nmax=3",
            "metric='drift.overlap@10'\nmin=1",
            "metric='theirs.any'\nmax=1",
        ],
    )
    def test_are_not_seen_where_there_are_none(self, tmp_path: Path, gate: str) -> None:
        assert doubts(load(tmp_path, f"[[gates]]\n{gate}"), SUITES) == ()
