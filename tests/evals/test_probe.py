"""The linear probe: against scikit-learn on digits, by hand, and what it leaves out."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from embreg.evals.runner import check_findings
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites.probe import SUITE, Params, fit_probe, run
from embreg.registry.errors import ItemNotFound, UsageError
from embreg.registry.tables import EmbeddingTable


def measured(subject, seed=0, **params):
    found = run(subject, Params(**params), np.random.default_rng(seed))
    check_findings(SUITE, found)
    return {"/".join([m.metric, *m.labels.values()]): m for m in found.measures}, found


def values_of(measures):
    return {name: m.value for name, m in measures.items()}


def labelled(x, labels, ids=None, name="label"):
    return Subject(EmbeddingTable.from_arrays(ids, np.asarray(x), attributes={name: labels}))


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    return x.astype(np.float32), y


def blobs(sizes, dim=4, apart=1.5, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    centres = apart * rng.standard_normal((len(sizes), dim))
    return centres[codes] + rng.standard_normal((len(codes), dim)), codes


@pytest.mark.oracle
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_fit_against_scikit_learn(digits, c, oracle):
    """Coefficients to 1e-5 and intercepts to 1e-4, where they reach 2.6, by Newton's method; every answer."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = digits
    x, y, tested = x[:1200], y[:1200], x[1200:]
    fit = fit_probe(x, y, 10, c, 1000)
    mean = x.astype(np.float64).mean(axis=0)
    scale = np.sqrt(((x - mean) ** 2).mean())
    assert (fit.mean, fit.scale) == (pytest.approx(mean), pytest.approx(scale))
    features = (x - mean) / scale
    model = linear.LogisticRegression(C=c, tol=1e-12, max_iter=200, solver="newton-cholesky").fit(features, y)
    assert np.abs(fit.weights.T - model.coef_).max() < 1e-5
    assert np.abs(fit.intercepts - (model.intercept_ - model.intercept_.mean())).max() < 1e-4
    named = model.predict((tested - mean) / scale).tolist()
    oracle.same("scikit-learn", "probe.accuracy", fit.predict(tested).tolist(), named, data="digits")
    assert fit.gradient < 2e-8


def test_two_classes_are_the_sigmoid_at_twice_the_c():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = blobs([60, 40], apart=0.7)
    fit = fit_probe(x, y, 2, 0.5, 1000)
    features = (x - fit.mean) / fit.scale
    model = linear.LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(features, y)
    assert fit.weights[:, 1] - fit.weights[:, 0] == pytest.approx(model.coef_[0], abs=1e-4)
    assert fit.intercepts[1] - fit.intercepts[0] == pytest.approx(model.intercept_[0], abs=1e-4)


def test_the_minimum_has_no_slope():
    """By the plain formula: the gradient of -C sum log p + |W|²/2 vanishes, in units of C n."""
    x, y = blobs([30, 20, 10])
    fit = fit_probe(x, y, 3, 2.0, 1000)
    features = fit.features(x)
    logits = features @ fit.weights + fit.intercepts
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = 2.0 * features.T @ (chances - np.eye(3)[y]) + fit.weights
    assert np.abs(slope).max() / (2.0 * len(x)) < 2e-8
    assert np.abs((chances - np.eye(3)[y]).mean(axis=0)).max() < 2e-8


@pytest.mark.oracle
@pytest.mark.parametrize("data", ["digits", "random"])
def test_the_suite_against_scikit_learn(data, request, oracle):
    """The same split given to scikit-learn: accuracy within two rows of those tested, F1 by its formula."""
    linear, metrics = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.metrics")
    from sklearn.dummy import DummyClassifier

    if data == "digits":
        x, y = request.getfixturevalue("digits")
    else:
        x, y = blobs([500, 300, 200], apart=0.8)
        x = x.astype(np.float32)
    measures, found = measured(labelled(x, y))

    def agrees(metric, theirs, **tolerance):
        classes = [f"{metric}/{c}" for c in range(np.size(theirs))]
        ours = got[metric] if isinstance(theirs, float) else [got[c] for c in classes]
        oracle.agrees("scikit-learn", f"probe.{metric}", ours, theirs, data=data, **tolerance)

    got = values_of(measures)
    tested = np.array([int(i) for i in found.items["item"].to_pylist()])
    truth = [int(c) for c in found.items["class"].to_pylist()]
    named = [int(c) for c in found.items["predicted"].to_pylist()]
    assert np.array_equal(truth, y[tested])
    counts = np.bincount(y)
    assert np.array_equal(np.bincount(truth), np.rint(0.2 * counts))
    train = np.setdiff1d(np.arange(len(y)), tested)
    few = {"atol": 2 / len(tested), "why": "rows on the border: the two solvers stop at different places"}
    mean = x[train].mean(axis=0)
    scale = np.sqrt(((x[train] - mean) ** 2).mean())
    model = linear.LogisticRegression(C=1.0, max_iter=5000).fit((x[train] - mean) / scale, y[train])
    theirs = model.predict((x[tested] - mean) / scale)
    agrees("accuracy", float(metrics.accuracy_score(truth, theirs)), **few)
    assert np.mean(np.array(named) == theirs) > 0.99
    agrees("accuracy", float(metrics.accuracy_score(truth, named)), atol=1e-12)
    agrees("macro_f1", float(metrics.f1_score(truth, named, average="macro")), atol=1e-12)
    agrees("accuracy", metrics.recall_score(truth, named, average=None), atol=1e-12)
    dummy = DummyClassifier(strategy="most_frequent").fit(x[train], y[train])
    majority = float(dummy.score(x[tested], truth))
    agrees("majority", majority, atol=1e-12)
    agrees("lift", float(metrics.accuracy_score(truth, named)) / majority, atol=1e-12)
    assert (got["classes"], got["classes_left_out"], got["coverage"]) == (len(counts), 0, 1)
    assert np.mean(found.items["correct"].to_pylist()) == pytest.approx(got["accuracy"])
    assert (data == "random") or 0.9 < measures["accuracy"].low < got["accuracy"] < measures[
        "accuracy"
    ].high < 1
    assert measures["macro_f1"].low < got["macro_f1"] < measures["macro_f1"].high


def test_macro_f1_of_classes_never_named():
    """Features that say nothing: the largest class is always named, and the others have an F1 of 0."""
    measures, found = measured(labelled(np.ones((50, 3)), ["big"] * 30 + ["mid"] * 10 + ["small"] * 10))
    got = values_of(measures)
    assert got["accuracy"] == got["majority"] == 0.6
    assert got["lift"] == 1
    assert got["macro_f1"] == pytest.approx(2 * 0.6 / (0.6 + 1) / 3)
    assert set(found.items["predicted"].to_pylist()) == {"big"}


def test_the_interval_of_macro_f1_is_that_of_a_bootstrap_of_rows(digits):
    """The confusion matrix redrawn is the rows redrawn."""
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = digits
    measures, found = measured(labelled(x[:, ::7], y))
    truth, named = (np.array([int(c) for c in found.items[n].to_pylist()]) for n in ("class", "predicted"))
    rng = np.random.default_rng(1)
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(400)]
    values = [metrics.f1_score(truth[i], named[i], average="macro") for i in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    assert measures["macro_f1"].low == pytest.approx(low, abs=0.012)
    assert measures["macro_f1"].high == pytest.approx(high, abs=0.012)


def test_what_is_left_out_is_counted():
    """A class of one row, a row of zeros, a row without a label, labels of ids that are no rows."""
    x, codes = blobs([20, 20, 1, 4])
    x[0] = 0
    labels = [None if i == 1 else f"c{c}" for i, c in enumerate(codes)]
    subject = labelled(x, labels, ids=[f"r{i}" for i in range(45)])
    measures, found = measured(subject)
    got = values_of(measures)
    assert (got["classes"], got["classes_left_out"]) == (3, 1)
    assert (got["coverage"], measures["coverage"].n) == (pytest.approx(42 / 44), 44)
    assert any("1 class with fewer than two rows left out" in note for note in found.notes)
    assert not {"r0", "r1", "r40"} & set(found.items["item"].to_pylist())
    labels = [*labels[:1], "c0", *labels[2:], "c1", "c9"]
    rows = pa.table({"id": [*(f"r{i}" for i in range(45)), "x", "y"], "label": labels})
    dataset = DatasetTable(name="kinds", kind="labels", rows=rows)
    plain = Subject(EmbeddingTable.from_arrays([f"r{i}" for i in range(45)], x), dataset=dataset)
    got, _ = measured(plain)
    assert (got["classes_left_out"].value, got["coverage"].n) == (2, 47)
    assert got["coverage"].value == pytest.approx(43 / 47)


def test_where_labels_come_from():
    x, codes = blobs([20, 20])
    ids = [f"r{i}" for i in range(40)]
    attribute = labelled(x, codes, ids)
    named = labelled(x, codes, ids, name="kind")
    dataset = DatasetTable(name="d", kind="labels", rows=pa.table({"id": ids, "label": codes.astype(str)}))
    want = values_of(measured(attribute)[0])
    assert values_of(measured(named, label="kind")[0]) == want
    assert values_of(measured(named.with_(dataset=dataset))[0]) == want
    # The column that is named comes before the dataset, and the dataset before the column 'label'.
    one = DatasetTable(name="d", kind="labels", rows=pa.table({"id": ids, "label": ["x"] * 40}))
    assert values_of(measured(named.with_(dataset=one), label="kind")[0]) == want
    with pytest.raises(Skipped, match="there is 1 class"):
        measured(attribute.with_(dataset=one))
    with pytest.raises(Skipped, match=r"no labels: name an attribute column in probe\.label"):
        measured(named)
    with pytest.raises(ItemNotFound, match="no column 'kin'"):
        measured(named, label="kin")


def test_limits():
    x, codes = blobs([200, 100, 6])
    measures, found = measured(labelled(x, codes), train_rows=50)
    assert found.notes[0].startswith("learnt from 49 rows, tested on 61")
    assert measures["accuracy"].n == 61
    with pytest.raises(Skipped, match=r"3 classes are more than probe\.max_classes = 2"):
        measured(labelled(x, codes), max_classes=2)
    assert any("the solver stopped" in n for n in measured(labelled(x, codes), iterations=1)[1].notes)
    many, each = blobs([2] * 60, apart=9)
    measures, _ = measured(labelled(many, each))
    assert measures["accuracy"].n == 60
    assert not any(name.startswith("accuracy/") for name in measures)


def test_another_seed_is_another_split_and_versions_share_one():
    x, codes = blobs([40, 40])
    ids = [f"r{i}" for i in range(80)]
    items = measured(labelled(x, codes, ids))[1].items["item"].to_pylist()
    later = measured(labelled(x[10:] + 1, codes[10:], ids[10:]))[1].items["item"].to_pylist()
    # Of the second class nothing was taken; of the first the rows that are left are tested in one order.
    assert set(items) & set(ids[40:]) == set(later) & set(ids[40:])
    first, left = set(later) & set(ids[:40]), set(items) & set(ids[10:40])
    assert first <= left or left <= first
    assert set(measured(labelled(x, codes, ids), seed=1)[1].items["item"].to_pylist()) != set(items)


@given(seed=st.integers(0, 1000), power=st.integers(-3, 3))
@settings(deadline=None, max_examples=15)
def test_rotation_place_scale_and_order_of_rows_do_not_matter(seed, power):
    rng = np.random.default_rng(seed)
    x, codes = blobs([30, 20, 10], seed=seed, apart=3)
    ids, order = np.array([f"r{i}" for i in range(60)]), rng.permutation(60)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    moved = ((x + 5) @ turn * 10.0**power)[order]
    want, first = measured(labelled(x, codes, list(ids)))
    got, second = measured(labelled(moved, codes[order], list(ids[order])))
    assert set(first.items["item"].to_pylist()) == set(second.items["item"].to_pylist())
    # One of the 12 tested rows may lie on the border.
    assert got["accuracy"].value == pytest.approx(want["accuracy"].value, abs=1 / 12 + 1e-9)
    assert got["majority"].value == want["majority"].value


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_any_table_gives_values_or_a_reason(data):
    rows, dim = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 3))
    number = st.sampled_from([0.0, 1.0, -1.0, 1e30, -3e30, 1e-38, 1e-45, 0.3])
    x = np.array(data.draw(st.lists(number, min_size=rows * dim, max_size=rows * dim)), dtype=np.float32)
    labels = data.draw(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=rows, max_size=rows))
    subject = labelled(x.reshape(rows, dim), pa.array(labels, pa.string()))
    try:
        measures, _ = measured(subject)
    except Skipped as skipped:
        assert str(skipped)
        return
    for name, m in measures.items():
        metric = SUITE.metric(m.metric)
        assert metric.low <= m.value, name
        assert metric.high is None or m.value <= metric.high, name


@pytest.mark.parametrize("power", [-38, 30])
def test_very_long_and_very_short_rows_are_probed_as_others(power):
    x, codes = blobs([40, 40], apart=3)
    want = values_of(measured(labelled(x, codes))[0])
    assert values_of(measured(labelled(x * 10.0**power, codes))[0]) == pytest.approx(want, abs=1 / 16)


def test_refusals():
    for bad in ({"test_share": 0.0}, {"test_share": 1.0}, {"c": 0.0}, {"c": float("nan")}, {"train_rows": 1},
                {"max_classes": 1}, {"iterations": 0}):  # fmt: skip
        with pytest.raises(UsageError):
            Params(**bad)
