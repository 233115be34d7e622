"""What is in the pictures: small cases computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.evals.norms import NormsByRank
from embreg.evals.projection import Projection
from embreg.evals.report import documents
from embreg.evals.report.charts.chart import Chart
from embreg.evals.report.charts.cloud import Cloud, cloud, clouds
from embreg.evals.report.charts.history import Bound, history
from embreg.evals.report.charts.measured import Measured
from embreg.evals.report.charts.norms import norms
from embreg.evals.report.charts.occurrence import occurrence
from embreg.evals.report.charts.pareto import pareto
from embreg.evals.report.charts.sections import sections
from embreg.evals.report.charts.similarity import similarity
from embreg.evals.report.charts.spectrum import cumulative, directions, spectrum
from embreg.evals.report.charts.tradeoff import tradeoff
from embreg.registry.errors import UnknownChoice
from embreg.registry.types import MeasureRecord, PastMove, RunRecord


def measure(
    metric: str, value: float, low: float | None = None, high: float | None = None, **labels: str
) -> Any:
    return MeasureRecord(metric=metric, labels=labels, value=value, n=100, low=low, high=high)


def measured(*measures: Any, items: Any = None, version: str = "words@2", **fields: Any) -> Measured:
    run = RunRecord(
        suite="suite",
        suite_version=fields.pop("suite_version", 1),
        version=version,
        version_digest="0" * 64,
        measures=measures,
        **fields,
    )
    return Measured(run=run, items=items)


def values(chart: Chart | None) -> list[dict[str, Any]]:
    assert chart is not None
    found: list[dict[str, Any]] = chart.spec["data"]["values"]
    return found


def told(chart: Chart | None) -> list[Any]:
    """Return the texts of the labels in a picture."""
    assert chart is not None
    found = []
    for layer in chart.spec["layer"]:
        if layer["mark"]["type"] == "text" and "stroke" not in layer["mark"]:
            text = layer["encoding"]["text"]
            found += [v[text["field"]] for v in layer["data"]["values"]] if "field" in text else text["value"]
    return found


def picture(values: Sequence[float], shares: Sequence[float]) -> pa.Table:
    kinds = ["eigenvalue"] * len(values) + ["similarity"] * len(shares)
    middles = [(2 * i + 1) / len(shares) - 1 for i in range(len(shares))]
    return pa.table(
        {
            "item": [str(i) for i in range(len(kinds))],
            "kind": kinds,
            "position": [*map(float, range(1, len(values) + 1)), *middles],
            "value": [*map(float, values), *shares],
        }
    )


def test_the_histogram_holds_the_shares_at_the_middles_of_their_bins() -> None:
    now = measured(measure("mean_cosine", 0.25), items=picture([], [0.1, 0, 0.6, 0.3]))
    before = measured(measure("mean_cosine", 0.5), items=picture([], [0, 0, 0.5, 0.5]), version="words@1")
    chart = similarity(now, before)
    assert values(chart)[:4] == [
        {"version": "words@2", "cosine": -0.75, "share": 0.1},
        {"version": "words@2", "cosine": -0.25, "share": 0.0},
        {"version": "words@2", "cosine": 0.25, "share": 0.6},
        {"version": "words@2", "cosine": 0.75, "share": 0.3},
    ]
    assert chart is not None
    assert chart.columns == ("cosine from", "to", "words@2", "words@1")
    assert chart.rows == [
        ("-1", "-0.5", ".100", "0"),
        ("0", "0.5", ".600", ".500"),
        ("0.5", "1", ".300", ".500"),
    ]
    assert told(chart) == ["mean .250 (words@2)", "mean .500 (words@1)"]
    assert chart.text == "Mean cosine .250 (before .500)."


def test_the_text_of_the_histogram_says_where_the_pairs_lie() -> None:
    quantiles = [measure("similarity_quantile", v, q=q) for q, v in (("0.05", -0.2), ("0.95", 0.4))]
    alone = similarity(measured(measure("mean_cosine", 0.1), *quantiles, items=picture([], [1.0])))
    assert alone is not None
    assert alone.text == "Mean cosine .100; 90% of 100 random pairs lie between -.200 and .400."
    bare = similarity(measured(items=picture([], [1.0])))
    assert bare is not None
    assert bare.text == "How often each cosine occurs among random pairs."


def test_the_spectrum_holds_shares_of_the_variance() -> None:
    ratio = measure("participation_ratio", 1.6)
    now = measured(ratio, items=picture([6, 2, 0], [1.0]))
    before = measured(items=picture([1, 1], [1.0]), version="words@1")
    chart = spectrum(now, before)
    assert [(v["version"], v["direction"], v["share"]) for v in values(chart)] == [
        ("words@2", 1, 0.75),
        ("words@2", 2, 0.25),
        ("words@1", 1, 0.5),
        ("words@1", 2, 0.5),
    ], "a share of 0 has no logarithm"
    assert chart is not None
    assert chart.rows == [("1", ".750", ".500"), ("2", ".250", ".500"), ("3", "0", "–")]
    assert told(chart) == ["1.6 directions in use (words@2)"]
    assert chart.text == (
        "words@2: 75% along the strongest direction, 1.6 of 3 directions in use, 1 carry nothing; "
        "words@1: 50% along the strongest direction."
    )


def test_rounding_is_no_variance() -> None:
    chart = spectrum(measured(items=picture([1, 1e-15], [1.0])))
    assert len(values(chart)) == 1
    assert chart is not None
    assert "1 carry nothing" in chart.text


def test_the_cumulative_variance_begins_at_none_and_ends_at_all() -> None:
    chart = cumulative(measured(items=picture([6, 3, 1], [1.0])))
    assert [(v["direction"], v["share"]) for v in values(chart)] == [(0, 0), (1, 0.6), (2, 0.9), (3, 1)]
    assert told(chart) == ["90% in 2 directions"]
    assert chart is not None
    assert chart.text == "90% of the variance of words@2 is in 2 of 3 directions."


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
@settings(max_examples=60)
def test_no_fewer_directions_hold_nine_tenths(given: list[float]) -> None:
    shares = np.sort(given)[::-1] / np.sum(given)
    sums = np.minimum(np.cumsum(shares), 1)
    count = directions(sums)
    assert sums[count - 1] >= 0.9 - 1e-9
    assert count == 1 or sums[count - 2] < 0.9


def hubness(counts: Mapping[str, int], version: str = "words@2") -> Measured:
    items = pa.table({"item": list(counts), "k_occurrence": list(counts.values())})
    return measured(items=items, version=version, params={"k": 2})


def test_the_curve_of_hubs_is_the_share_of_rows_that_occur_as_often() -> None:
    now = hubness({"a": 0, "b": 1, "c": 1, "d": 6})
    chart = occurrence(now, hubness({"d": 3, "b": 3, "e": 2, "f": 0}, "words@1"))
    found = [(v["version"], v["count"], v["share"]) for v in values(chart)]
    assert found == [
        ("words@2", 1, 0.75),
        ("words@2", 6, 0.25),
        ("words@1", 2, 0.75),
        ("words@1", 3, 0.5),
    ]
    assert told(chart) == ["k = 2", "the strongest hubs", "d  6", "b  1", "c  1", "a  0"]
    assert chart is not None
    assert chart.columns == ("occurs at least", "rows of words@2", "rows of words@1", "such as")
    assert chart.rows == [
        ("0", "4", "4", "a"),
        ("1", "3", "3", "b, c"),
        ("2", "1", "3", ""),
        ("4", "1", "0", ""),
        ("6", "1", "0", "d"),
    ]
    points = chart.spec["layer"][-3]["data"]["values"]
    assert [(p["id"], p["before"]) for p in points] == [
        ("d", 3),
        ("b", 3),
        ("c", "not there"),
        ("a", "not there"),
    ]
    assert chart.text == (
        "The strongest hub, 'd', stands in 6 of 4 lists (before 3), where 2 is the mean; "
        "25% of the rows stand in none (before 25%)."
    )


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
@settings(max_examples=60)
def test_the_curve_of_hubs_falls_and_its_first_points_are_the_largest(given: list[int]) -> None:
    chart = occurrence(hubness({f"r{i}": count for i, count in enumerate(given)}))
    if max(given) == 0:
        assert chart is None
        return
    found = [(v["count"], v["share"]) for v in values(chart)]
    assert found == sorted(found)
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
    assert found[-1][1] == pytest.approx(given.count(max(given)) / len(given), rel=1e-3)
    assert chart is not None
    hubs = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "point")
    assert [v["count"] for v in hubs["data"]["values"]] == sorted(given, reverse=True)[:10]


def test_norms_are_drawn_from_bin_to_bin() -> None:
    given = NormsByRank(
        ref="words@2",
        starts=np.array([1, 17]),
        ends=np.array([16, 40]),
        counts=np.array([15, 24]),
        quantiles=np.array([[1, 2, 3, 4, 5], [2, 2, 2, 2, 2]], float),
    )
    chart = norms(given, replace(given, ref="words@1"))
    first, *_ = values(chart)
    assert first == {
        "version": "words@2",
        "rows": "1–16",
        "start": 1,
        "end": 17,
        "q5": 1,
        "q25": 2,
        "median": 3,
        "q75": 4,
        "q95": 5,
    }
    assert chart is not None
    assert chart.rows[0] == ("words@2", "1–16", "15", "1", "2", "3", "4", "5")
    assert [row[0] for row in chart.rows] == ["words@2"] * 2 + ["words@1"] * 2
    told = "3 in rows 1–16 and 2 in rows 17–40"
    assert chart.text == f"Median norm {told} (before {told})."


def quantization(recall: float, version: str = "words@2") -> Measured:
    return measured(
        measure("recall@10", recall, recall - 0.02, recall + 0.02, codec="pq"),
        measure("recall@10", 0.9, codec="pq", rescore="4"),
        measure("recall@1", 0.7, codec="pq", search="asymmetric"),
        measure("bytes_per_vector", 8, codec="pq"),
        measure("recall@10", 0.99, codec="nobytes"),
        version=version,
    )


def test_a_codec_stands_at_its_bytes_with_its_interval() -> None:
    chart = tradeoff(quantization(0.5), quantization(0.6, "words@1"))
    assert values(chart) == [
        {"version": "words@2", "codec": "pq", "search": "codes alone", "bytes": 8, "recall": 0.5}
        | {"low": 0.48, "high": 0.52},
        {"version": "words@2", "codec": "pq", "search": "4 × k ranked anew", "bytes": 8, "recall": 0.9},
        {"version": "words@1", "codec": "pq", "search": "codes alone", "bytes": 8, "recall": 0.6}
        | {"low": 0.58, "high": 0.62},
        {"version": "words@1", "codec": "pq", "search": "4 × k ranked anew", "bytes": 8, "recall": 0.9},
    ]
    assert chart is not None
    assert chart.rows == [
        ("pq", "", "8", ".500", "[.480, .520]", ".600"),
        ("pq", "4 × k", "8", ".900", "", ".900"),
    ]
    assert chart.columns == ("codec", "ranked anew", "bytes", "recall@10", "interval", "words@1")
    assert told(chart) == ["pq"]
    assert chart.text == "recall@10 by codec: pq .500 (before .600) in 8 bytes."


def index(name: str, times: Sequence[float], recalls: Sequence[float], flags: Sequence[int]) -> Measured:
    found = [measure("recall@10", recalls[1]), measure("latency_p50", times[1])]
    for i, (ms, recall, flag) in enumerate(zip(times, recalls, flags, strict=True)):
        labels = {"nprobe": str(1 << i)}
        found += [measure("recall@10", recall, **labels), measure("latency_p50", ms, **labels)]
        found.append(measure("pareto", flag, **labels))
    return measured(*found, params={"index": name})


def test_an_index_is_a_point_a_setting_and_the_one_in_force_is_ringed() -> None:
    ivf = index("ivf", [0.1, 0.2, 0.4], [0.5, 0.8, 0.7], [1, 1, 0])
    flat = measured(measure("recall@10", 1.0), measure("latency_p50", 5.0), params={"index": "flat"})
    chart = pareto([ivf, flat], [ivf])
    found = [
        (v["index"], v["setting"], v["ms"], v["recall"], v["best"], v["built"], v["when"])
        for v in values(chart)
    ]
    assert found == [
        ("ivf", "nprobe=1", 0.1, 0.5, True, False, "now"),
        ("ivf", "nprobe=2", 0.2, 0.8, True, True, "now"),
        ("ivf", "nprobe=4", 0.4, 0.7, False, False, "now"),
        ("flat", "as built", 5.0, 1.0, True, True, "now"),
        ("ivf", "nprobe=1", 0.1, 0.5, True, False, "before"),
        ("ivf", "nprobe=2", 0.2, 0.8, True, True, "before"),
        ("ivf", "nprobe=4", 0.4, 0.7, False, False, "before"),
    ]
    assert told(chart) == ["2", "as built", "1"]
    assert chart is not None
    assert chart.rows[1] == ("ivf", "now", "nprobe=2 (in force)", "0.2", ".800", "", "yes")
    assert chart.text == (
        "recall@10 of a query: ivf reaches .800 in 0.2 ms at nprobe=2; flat reaches 1 in 5 ms."
    )


def analogies(accuracies: Mapping[str, float], version: str = "words@2", total: float = 0.5) -> Measured:
    found = [measure("accuracy", total, group="total"), measure("accuracy", 1, section="a", method="pair")]
    found += [measure("accuracy", value, section=name) for name, value in accuracies.items()]
    return measured(*found, version=version, dataset="google")


def test_sections_are_ordered_by_their_change() -> None:
    now = analogies({"a": 0.5, "b": 0.2, "c": 0.9, "new": 0.1})
    chart = sections(now, analogies({"a": 0.4, "b": 0.6, "c": 0.9, "gone": 1}, "words@1", 0.6))
    assert chart is not None
    assert (chart.name, chart.title) == ("sections-google", "Analogies by section: google")
    assert chart.columns == ("section", "words@2", "interval", "questions", "words@1", "change")
    assert chart.rows == [
        ("b", ".200", "", "100", ".600", "-.400"),
        ("all sections", ".500", "", "100", ".600", "-.100"),
        ("c", ".900", "", "100", ".900", "0"),
        ("a", ".500", "", "100", ".400", "+.100"),
        ("new", ".100", "", "100", "–", ""),
    ]
    assert told(chart) == ["-.400", "-.100", "0", "+.100"]
    assert chart.text == "Accuracy fell in 1 of 3 sections: b -.400 at one end, a +.100 at the other."
    first = values(chart)[:2]
    assert [(v["section"], v["version"], v["accuracy"]) for v in first] == [
        ("b", "words@2", 0.2),
        ("b", "words@1", 0.6),
    ]


def test_sections_without_a_baseline_are_ordered_by_accuracy() -> None:
    chart = sections(analogies({"a": 0.7, "b": 0.2}), analogies({"other": 0.1}, "words@1", 0.4))
    assert chart is not None
    alone = sections(analogies({"a": 0.7, "b": 0.2}))
    assert alone is not None
    assert [row[0] for row in alone.rows] == ["b", "all sections", "a"]
    assert alone.text == "Between .200 (b) and .700 (a)."
    assert told(alone) == []


def drawing(labels: Mapping[str, str] | None = None) -> Cloud:
    ids = ["a", "b", "c", "d"]
    now = Projection(
        how="pca", ids=ids, xy=np.array([[0, 0], [10, 0], [0, 5], [1, 1.00049]]), explained=(0.5, 0.25)
    )
    before = Projection(how="pca", ids=["b", "d"], xy=np.array([[0.0, 1.0], [2.0, 3.0]]))
    return Cloud(
        ref="words@2",
        now=now,
        before_ref="words@1",
        before=before,
        labels=labels or {},
        movement={"b": 0.9, "d": 0.1},
        occurrence={"a": 3.0},
    )


def test_a_map_holds_each_row_once_with_both_its_places() -> None:
    chart = cloud(drawing(), "movement")
    assert values(chart) == [
        {"id": "a", "x": 0, "y": 0, "occurrence": 3},
        {"id": "c", "x": 0, "y": 5},
        {"id": "d", "x": 1, "y": 1, "bx": 2, "by": 3, "movement": 0.1},
        {"id": "b", "x": 10, "y": 0, "bx": 0, "by": 1, "movement": 0.9},
    ], "what moved most lies on top"
    assert chart is not None
    left, right = chart.spec["hconcat"]
    assert (left["title"]["text"], right["title"]["text"]) == ("words@1", "words@2")
    domains = [
        view["layer"][0]["encoding"][c]["scale"]["domain"] for view in (left, right) for c in ("x", "y")
    ]
    assert domains[:2] == domains[2:] == [[-0.2, 10.2], [-2.7, 7.7]], "the same axes, and steps alike in both"
    assert right["layer"][0]["encoding"]["x"]["title"] == "axis 1: 50% of the variance"
    assert chart.text == (
        "4 rows of words@2 by principal axes (75% of the variance), beside 2 of words@1; "
        "moved most: b 0.9, d 0.1."
    )
    assert chart.rows[0] == ("b", "10", "0", "–", "0.9", "–")


def test_the_largest_classes_have_colours_of_their_own() -> None:
    sizes = {"big": 4, **{f"c{i}": 2 for i in range(6)}, "small": 1, "tiny": 1}
    ids = [f"{name} {i}" for name, size in sizes.items() for i in range(size)] + ["unlabelled"]
    places = np.random.default_rng(0).normal(size=(len(ids), 2))
    given = Cloud(
        ref="x",
        now=Projection(how="tsne", ids=ids, xy=places),
        labels={name: name.split()[0] for name in ids[:-1]},
    )
    (chart,) = clouds(given)
    groups = {v["id"]: v["group"] for v in values(chart)}
    assert groups["unlabelled"] == "no class"
    assert groups["small 0"] == groups["tiny 0"] == "other classes"
    assert groups["c5 1"] == "c5"
    colours = chart.spec["hconcat"][0]["layer"][0]["encoding"]["color"]["scale"]
    assert colours["domain"][0] == "big"
    assert colours["domain"][-2:] == ["other classes", "no class"]
    assert len(set(colours["range"][:7])) == 7
    assert "9 classes, the largest 'big' with 4 of them" in chart.text


def test_a_map_has_a_picture_for_each_thing_that_is_known() -> None:
    assert [c.name for c in clouds(drawing())] == ["cloud-movement", "cloud-occurrence"]
    assert [c.name for c in clouds(drawing({"a": "x"}))] == [
        "cloud-label",
        "cloud-movement",
        "cloud-occurrence",
    ]
    bare = replace(drawing(), movement={}, occurrence={"not drawn": 1.0}, before=None)
    (chart,) = clouds(bare)
    assert chart.name == "cloud"
    assert len(chart.spec["hconcat"]) == 1
    with pytest.raises(UnknownChoice, match="colouring 'size'"):
        cloud(bare, "size")


def points(values: Mapping[str, float], **run: Any) -> list[RunRecord]:
    labels = run.pop("labels", {})
    return [
        measured(measure("accuracy", v, v - 0.1, v + 0.1, **labels), version=ref, **run).run
        for ref, v in values.items()
    ]


def lines(chart: Chart) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for v in values(chart):
        found.setdefault(v["series"], []).append((v["version"], v["value"]))
    return found


def test_a_history_is_one_line_over_the_versions_in_their_order() -> None:
    runs = points(
        {"words@10": 0.3, "words@2": 0.5, "words@9": 0.4}, dataset="google", labels={"group": "total"}
    )
    moved = [("production", "words@2"), ("staging", "words@2"), ("production", "words@11"), ("old", None)]
    moves = [
        PastMove(alias=a, old=None, new=n, at=datetime(2026, 1, 1, tzinfo=UTC), actor="", reason="")
        for a, n in moved
    ]
    chart = history(
        documents.series(runs, None)["series"],
        moves=moves,
        unit="share",
        better="higher",
        bounds=[Bound(value=0.45, kind="min"), Bound(value=0.9, kind="max", severity="warning")],
    )
    assert chart is not None
    assert lines(chart) == {"value": [("@2", 0.5), ("@9", 0.4), ("@10", 0.3)]}
    assert chart.title == "suite.accuracy (group=total, dataset=google)"
    assert chart.name == "history-suite-accuracy-total-google"
    line = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line")
    assert line["encoding"]["x"]["scale"]["domain"] == ["@2", "@9", "@10", "@11"]
    assert line["encoding"]["x"]["title"] == "version of words"
    low, high = line["encoding"]["y"]["scale"]["domain"]
    assert low < 0.2
    assert high > 0.9
    assert told(chart) == [
        "at least .450",
        "at most .900 (warning)",
        "production, staging",
        "production",
        ".300",
    ]
    assert chart.rows[0] == ("words@2", "value", ".500", "[.400, .600]", "100", "production, staging")
    assert chart.text == (
        "suite.accuracy (higher is better): .300 on words@10, between .300 and .500 over 3 versions."
    )


def test_what_was_measured_in_another_way_is_never_joined() -> None:
    runs = [
        *points({"words@1": 0.1, "words@2": 0.2}, dataset_digest="a" * 64),
        *points({"words@3": 0.3}, dataset_digest="b" * 64),
        *points({"words@3": 0.4}, dataset_digest="b" * 64, params={"k": 5}),
        *points({"words@3": 0.5}, dataset_digest="b" * 64, suite_version=2),
    ]
    chart = history(documents.series(runs, None)["series"])
    assert chart is not None
    assert sorted(len(own) for own in lines(chart).values()) == [1, 1, 1, 2]
    line = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line")
    assert line["encoding"]["color"]["field"] == "series"
    assert "4 lines in all" in chart.text


def test_drift_from_version_to_version_is_one_line() -> None:
    runs = [*points({"words@2": 0.5}, baseline="words@1"), *points({"words@3": 0.6}, baseline="words@2")]
    chart = history(documents.series(runs, None)["series"])
    assert chart is not None
    assert len(lines(chart)) == 1
    again = [*runs, *points({"words@3": 0.2}, baseline="words@1")]
    chart = history(documents.series(again, None)["series"])
    assert chart is not None
    assert len(lines(chart)) > 1, "two baselines of one version are two things"


def test_of_many_lines_the_first_are_drawn_and_all_are_in_the_table() -> None:
    runs = [r for i in range(20) for r in points({"w@1": 0.1, "w@2": 0.2}, labels={"section": f"s{i}"})]
    chart = history(documents.series(runs, None)["series"])
    assert chart is not None
    assert len(lines(chart)) == 8
    assert len(chart.rows) == 40
    assert "20 lines in all, of which the first 8 are drawn" in chart.text
    assert all(layer["mark"]["type"] != "text" for layer in chart.spec["layer"])
