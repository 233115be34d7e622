"""Every picture: valid Vega-Lite, drawn without a warning, whatever ids and labels hold."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embreg.evals.norms import NormsByRank
from embreg.evals.projection import Projection
from embreg.evals.report import documents
from embreg.evals.report.charts import drawn
from embreg.evals.report.charts.chart import Chart, Kind
from embreg.evals.report.charts.cloud import BY, Cloud, cloud, clouds
from embreg.evals.report.charts.guide import KINDS, guide
from embreg.evals.report.charts.history import Bound, history
from embreg.evals.report.charts.measured import Measured
from embreg.evals.report.charts.norms import norms
from embreg.evals.report.charts.occurrence import occurrence
from embreg.evals.report.charts.pareto import pareto
from embreg.evals.report.charts.sections import sections
from embreg.evals.report.charts.similarity import similarity
from embreg.evals.report.charts.spectrum import cumulative, spectrum
from embreg.evals.report.charts.tradeoff import tradeoff
from embreg.registry.types import MeasureRecord, PastMove, RunRecord

GUIDE = Path(__file__).parent.parent.parent / "docs" / "reading-a-report.md"
NASTY = {
    "markup": "</script><img src=x onerror='alert(1)'>\"",
    "controls": "evil\u202etxt\n\r\x00\x1b[31m\ud800",
    "expression": "datum.a.b[0]\\'];",
    "long": "x" * 10_000,
    "empty": "",
}
Make = Callable[[str], Chart | None]


def measure(
    metric: str, value: float, low: float | None = None, high: float | None = None, **labels: str
) -> Any:
    return MeasureRecord(metric=metric, labels=labels, value=value, n=100, low=low, high=high)


def measured(
    suite: str, *measures: Any, items: Any = None, version: str = "words@2", **fields: Any
) -> Measured:
    run = RunRecord(
        suite=suite,
        suite_version=1,
        version=version,
        version_digest="0" * 64,
        measures=tuple(measures),
        **fields,
    )
    return Measured(run=run, items=items)


def anisotropy(values: Sequence[float], shares: Sequence[float], version: str = "words@2") -> Measured:
    bins = len(shares)
    positions = [*range(1, len(values) + 1), *((2 * i + 1) / bins - 1 for i in range(bins))]
    items = pa.table(
        {
            "item": [f"i{i}" for i in range(len(values) + bins)],
            "kind": ["eigenvalue"] * len(values) + ["similarity"] * bins,
            "position": np.array(positions, dtype=np.float64),
            "value": np.array([*values, *shares], dtype=np.float64),
        }
    )
    given = [
        measure("mean_cosine", 0.1, 0.05, 0.15),
        measure("similarity_quantile", -0.2, q="0.05"),
        measure("similarity_quantile", 0.3, q="0.95"),
        measure("participation_ratio", 1.5),
    ]
    return measured("anisotropy", *given, items=items, version=version)


def hubness(counts: Mapping[str, int], version: str = "words@2", k: int = 2) -> Measured:
    items = pa.table(
        {
            "item": pa.array(counts, pa.string()) if _utf8(counts) else list(counts),
            "k_occurrence": list(counts.values()),
        }
    )
    return measured("hubness", items=items, version=version, params={"k": k})


def _utf8(texts: Mapping[str, int]) -> bool:
    return not any(re.search("[\ud800-\udfff]", text) for text in texts)


def quantization(codecs: Mapping[str, tuple[float, float]], version: str = "words@2") -> Measured:
    found = []
    for codec, (size, recall) in codecs.items():
        found.append(measure("recall@10", recall, max(recall - 0.01, 0), min(recall + 0.01, 1), codec=codec))
        found.append(measure("recall@10", min(recall + 0.1, 1), codec=codec, rescore="2"))
        found.append(measure("recall@1", recall, codec=codec, search="asymmetric"))
        found.append(measure("bytes_per_vector", size, codec=codec))
    return measured("quantization", *found, version=version)


def index(name: str, sweep: Mapping[str, tuple[float, float, int]], version: str = "words@2") -> Measured:
    found = []
    for value, (ms, recall, best) in sweep.items():
        labels = {"nprobe": value} if value else {}
        found.append(measure("recall@10", recall, **labels))
        found.append(measure("latency_p50", ms, **labels))
        if value:
            found.append(measure("pareto", best, **labels))
    return measured("index", *found, version=version, params={"index": name})


def analogies(accuracies: Mapping[str, float], version: str = "words@2", dataset: str = "google") -> Measured:
    found = [
        measure("accuracy", 0.5, 0.4, 0.6, group="total"),
        measure("accuracy", 0.9, group="semantic"),
        measure("accuracy", 0.1, section="family", method="pair"),
    ]
    found += [
        measure("accuracy", v, max(v - 0.1, 0), min(v + 0.1, 1), section=s) for s, v in accuracies.items()
    ]
    return measured("analogies", *found, version=version, dataset=dataset)


def ranks(ref: str, rows: int = 100) -> NormsByRank:
    return NormsByRank(
        ref=ref,
        starts=np.array([1, 17]),
        ends=np.array([16, rows]),
        counts=np.array([16, rows - 16]),
        quantiles=np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 2.0, 2.5, 3.0, 3.0]]),
    )


def points_of(ids: Sequence[str], **known: Any) -> Cloud:
    places = np.arange(2.0 * len(ids)).reshape(-1, 2) % 7
    now = Projection(how="pca", ids=ids, xy=places, explained=(0.4, 0.2))
    before = Projection(how="pca", ids=ids[1:], xy=places[1:] + 0.5)
    return Cloud(
        ref="words@2", now=now, before_ref="words@1", before=before if len(ids) > 1 else None, **known
    )


def series(values: Mapping[str, float], metric: str = "accuracy", **labels: str) -> list[dict[str, Any]]:
    runs = [
        measured("analogies", measure(metric, v, v - 0.01, v + 0.01, **labels), version=ref).run
        for ref, v in values.items()
    ]
    found: list[dict[str, Any]] = documents.series(runs, None)["series"]
    return found


def move(alias: str, new: str | None) -> PastMove:
    return PastMove(
        alias=alias, old=None, new=new, at=datetime(2026, 1, 1, tzinfo=UTC), actor="me", reason=""
    )


#: Every picture, made of one hostile text wherever a text can stand.
MAKERS: dict[str, Make] = {
    "similarity": lambda t: similarity(anisotropy([2, 1], [0.2, 0.8], t), anisotropy([2, 1], [0.5, 0.5], t)),
    "spectrum": lambda t: spectrum(anisotropy([2, 1, 0], [1], t), anisotropy([1, 1], [1], t)),
    "cumulative": lambda t: cumulative(anisotropy([2, 1, 0], [1], t), anisotropy([1, 1], [1], t)),
    "norms": lambda t: norms(ranks(t), ranks(t)),
    "occurrence": lambda t: occurrence(
        hubness({_plain(t): 5, "b": 1}, t), hubness({_plain(t): 4, "c": 0}, t)
    ),
    "cloud-label": lambda t: cloud(points_of([t, "b", "c"], labels={t: t, "b": "x"}), "label"),
    "cloud-movement": lambda t: cloud(points_of([t, "b", "c"], movement={t: 0.5, "b": 0.0}), "movement"),
    "cloud-occurrence": lambda t: cloud(points_of([t, "b"], occurrence={t: 7}), "occurrence"),
    "cloud": lambda t: cloud(points_of([t, "b"]), ""),
    "sections": lambda t: sections(analogies({t: 0.3, "b": 0.4}, t, t), analogies({t: 0.5, "b": 0.2}, t, t)),
    "tradeoff": lambda t: tradeoff(
        quantization({t: (8, 0.5), "int8": (50, 0.9)}, t), quantization({t: (8, 0.6)}, t)
    ),
    "pareto": lambda t: pareto(
        [
            index(t, {"": (1.0, 0.5, 0), t: (1.0, 0.5, 1), "2": (2.0, 0.9, 1)}, t),
            index("flat", {"": (9.0, 1.0, 0)}),
        ],
        [index(t, {"1": (0.5, 0.4, 1)}, t)],
    ),
    "history": lambda t: history(
        [*series({f"{t}@1": 0.5, f"{t}@2": 0.6}, section=t), *series({f"{t}@1": 0.7}, section="b")],
        bounds=[Bound(value=0.4, kind="min"), Bound(value=0.8, kind="max", severity="warning")],
        moves=[move(t, f"{t}@1"), move(t, None)],
    ),
}


def _plain(text: str) -> str:
    """Arrow keeps no lone surrogate."""
    return text.encode("utf-8", "replace").decode()


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from texts(one)


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, float | int):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from numbers_of(one)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from numbers_of(one)


def check(chart: Chart) -> None:
    """What holds of every picture."""
    every = [chart.title, chart.text, *chart.columns, *(cell for row in chart.rows for cell in row)]
    for text in [*every, *texts(chart.spec)]:
        assert text.isprintable(), text
        assert len(text) <= 2000
        assert "nan" not in text.lower().split()
    assert re.fullmatch(r"[a-z0-9-]+", chart.name), chart.name
    assert chart.kind in KINDS
    assert chart.text.endswith(".")
    assert chart.rows
    assert all(len(row) == len(chart.columns) for row in chart.rows)
    assert all(type(cell) is str for row in chart.rows for cell in row)
    assert all(map(math.isfinite, numbers_of(chart.spec)))
    json.dumps(chart.full_spec(), allow_nan=False)


@cache
def schema() -> Any:
    """Return the schema of Vega-Lite, which Altair brings."""
    import altair
    import jsonschema

    assert altair.SCHEMA_VERSION.startswith("v6.")
    with resources.files(altair).joinpath("vegalite/v6/schema/vega-lite-schema.json").open() as file:
        return jsonschema.Draft7Validator(json.load(file))


def valid(chart: Chart) -> None:
    """Hold a specification against the schema; Altair does so too, in four times the time."""
    spec = json.loads(json.dumps(chart.full_spec()))
    assert schema().is_valid(spec), next(schema().iter_errors(spec)).message[:2000]


def compiled(chart: Chart, capfd: pytest.CaptureFixture[str]) -> str:
    """Return a picture as SVG that was drawn without a warning."""
    import vl_convert

    spec = json.loads(json.dumps(chart.full_spec()))
    if spec.get("width") == "container":
        spec["width"] = 600
    capfd.readouterr()
    svg: str = vl_convert.vegalite_to_svg(spec, show_warnings=True)
    sys.stdout.flush()
    assert "".join(capfd.readouterr()) == ""
    return svg


@pytest.mark.parametrize("name", MAKERS)
def test_every_picture_is_valid_and_draws_without_a_warning(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    chart = MAKERS[name]("words")
    assert chart is not None
    check(chart)
    valid(chart)
    svg = compiled(chart, capfd)
    assert svg.count("<path") >= 3
    assert "NaN" not in svg
    assert drawn.png(chart).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", NASTY)
def test_hostile_texts_are_made_visible_and_draw_the_same(
    name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    chart = MAKERS[name](NASTY[kind])
    assert chart is not None
    check(chart)
    written = drawn.spec_json(chart)
    assert "<" not in written
    assert len(written) < 60_000, "nothing is as long as the longest id"
    svg = compiled(chart, capfd)
    assert "NaN" not in svg
    assert "<script" not in svg


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_is_the_same_each_time(name: str) -> None:
    first, again = MAKERS[name]("words"), MAKERS[name]("words")
    assert first == again


@pytest.mark.parametrize("name", MAKERS)
def test_colour_is_never_the_only_signal(name: str) -> None:
    """Wherever a legend tells things apart by colour, dashes, shapes or sizes tell them apart too."""
    chart = MAKERS[name]("words")
    assert chart is not None
    stack: list[Any] = [chart.spec]
    told: dict[str, set[str]] = {}
    while stack:
        one = stack.pop()
        if isinstance(one, Mapping):
            for channel, encoding in one.get("encoding", {}).items():
                if isinstance(encoding, Mapping) and "field" in encoding:
                    told.setdefault(str(encoding["field"]), set()).add(channel)
            stack += one.values()
        elif isinstance(one, list | tuple):
            stack += one
    for field, channels in told.items():
        if "color" in channels:
            both = channels & {"strokeDash", "shape", "size"}
            hollow = name == "tradeoff" and field == "version" and '"filled":false' in drawn.spec_json(chart)
            assert both or hollow, (field, channels)


def test_the_schema_refuses_what_vega_would_pass_over() -> None:
    chart = MAKERS["norms"]("words")
    assert chart is not None
    spec = json.loads(json.dumps(chart.full_spec()))
    spec["layer"][0]["mark"]["opacty"] = 1
    assert not schema().is_valid(spec)


def test_the_guide_is_what_the_code_says() -> None:
    assert GUIDE.read_text(encoding="utf-8") == guide(), "'make docs' writes it anew"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_reading_is_two_sentences(kind: Kind) -> None:
    assert kind.reading.endswith(".")
    assert len(re.findall(r"\. [A-Z]", kind.reading)) == 1
    assert kind.reading == " ".join(kind.reading.split())
    assert f"## {kind.title}\n\n{kind.reading}\n\nFor example: " in guide()


def test_every_kind_is_in_the_list_and_none_twice() -> None:
    made = {chart.kind for name in MAKERS if (chart := MAKERS[name]("words"))}
    assert made == set(KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_there_is_no_picture_of_nothing() -> None:
    bare = measured("anisotropy")
    assert similarity(bare) is None
    assert similarity(anisotropy([1.0], [0.0, 0.0])) is None, "a single row has no pairs"
    assert spectrum(bare) is None
    assert spectrum(anisotropy([0.0, 0.0], [1.0])) is None, "all rows are equal"
    assert cumulative(bare) is None
    assert occurrence(measured("hubness")) is None, "of a sample of lists no items are kept"
    assert occurrence(hubness({})) is None
    assert occurrence(hubness({"a": 0, "b": 0})) is None
    assert (
        norms(
            NormsByRank(
                ref="x",
                starts=np.zeros(0, int),
                ends=np.zeros(0, int),
                counts=np.zeros(0, int),
                quantiles=np.zeros((0, 5)),
            )
        )
        is None
    )
    assert tradeoff(measured("quantization")) is None
    assert tradeoff(measured("quantization", measure("recall@10", 0.5, codec="pq"))) is None, "no bytes"
    assert pareto([]) is None
    assert pareto([measured("index", measure("recall@10", 0.5))]) is None, "no times"
    assert sections(measured("analogies", measure("accuracy", 0.5, group="total"))) is None
    assert history([]) is None
    nowhere = Cloud(ref="x", now=Projection(how="pca", ids=[], xy=np.zeros((0, 2))))
    assert clouds(nowhere) == []
    assert [cloud(points_of(["a"]), by) for by in BY] == [None, None, None]


def test_a_baseline_that_has_nothing_is_left_out() -> None:
    empty = measured("anisotropy", version="words@1")
    for made in (
        similarity(anisotropy([1.0], [1.0]), empty),
        spectrum(anisotropy([1.0], [1.0]), empty),
        cumulative(anisotropy([1.0], [1.0]), empty),
    ):
        assert made is not None
        assert "words@1" not in drawn.spec_json(made)
    other_bins = similarity(anisotropy([1.0], [1.0]), anisotropy([1.0], [0.5, 0.5], "words@1"))
    assert other_bins is not None
    assert "words@1" not in drawn.spec_json(other_bins), "shares of other bins cannot be laid over these"


LEAST: dict[str, Callable[[], Chart | None]] = {
    "similarity": lambda: similarity(anisotropy([1.0], [1.0])),
    "spectrum of one direction": lambda: spectrum(anisotropy([3.0], [1.0])),
    "cumulative of one direction": lambda: cumulative(anisotropy([3.0], [1.0])),
    "even spectrum": lambda: spectrum(anisotropy([1.0] * 4, [1.0])),
    "tiny spectrum": lambda: spectrum(anisotropy([1.0, 1e-300], [1.0])),
    "one row": lambda: occurrence(hubness({"a": 1})),
    "equal rows": lambda: occurrence(hubness(dict.fromkeys("abc", 2))),
    "no k": lambda: occurrence(hubness({"a": 3, "b": 0}, k=0)),
    "one codec": lambda: tradeoff(quantization({"pq": (8, 1.0)})),
    "no recall": lambda: tradeoff(quantization({"pq": (8, 0.0), "int8": (8, 0.0)})),
    "one index": lambda: pareto([index("flat", {"": (0.001, 1.0, 0)})]),
    "many settings at once": lambda: pareto([index("ivf", {str(i): (1.0, 0.5, 1) for i in range(50)})]),
    "one section": lambda: sections(analogies({"a": 0.0})),
    "one version": lambda: history(series({"words@1": 0.0})),
    "negative values": lambda: history(series({"words@1": -3.0, "words@2": -3.0})),
    "one point": lambda: cloud(points_of(["a"], labels={"a": "x"})),
    "one place": lambda: cloud(
        Cloud(
            ref="x", now=Projection(how="tsne", ids=["a", "b"], xy=np.full((2, 2), 1e9)), movement={"a": 0.0}
        ),
        "movement",
    ),
    "one norm": lambda: norms(
        NormsByRank(
            ref="x", starts=np.array([1]), ends=np.array([1]), counts=np.array([1]), quantiles=np.ones((1, 5))
        )
    ),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_least_that_there_can_be_is_drawn(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    chart = LEAST[name]()
    assert chart is not None
    check(chart)
    assert "NaN" not in compiled(chart, capfd)


def test_thousands_of_classes_sections_and_points_stay_small(capfd: pytest.CaptureFixture[str]) -> None:
    ids = [f"id{i}" + "é" * 500 for i in range(3000)]
    labels = {name: f"class {i % 1500}" if i % 2 else "x" for i, name in enumerate(ids)}
    given = points_of(
        ids, labels=labels, movement=dict.fromkeys(ids, 0.123456789), occurrence=dict.fromkeys(ids, 3)
    )
    made = clouds(given)
    assert [chart.name for chart in made] == ["cloud-label", "cloud-movement", "cloud-occurrence"]
    assert sum(len(drawn.spec_json(chart).encode()) for chart in made) < 2_500_000
    assert all(len(chart.rows) == 100 for chart in made)
    assert len({v["group"] for v in made[0].spec["data"]["values"]}) == 8
    compiled(made[0], capfd)
    many = sections(analogies({f"section {i}": 0.5 for i in range(5000)}))
    assert many is not None
    assert len(many.spec["data"]["values"]) == 30
    assert len(many.rows) == 5001
    assert "the first 30 of 5,001 are drawn" in many.text
    compiled(many, capfd)
