from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from embreg.evals import statistics as st
from embreg.evals.jackknife import jackknife_changes
from embreg.registry.errors import UsageError

quick = settings(deadline=None, max_examples=60)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestWilson:
    @given(hs.integers(1, 5000), hs.floats(0, 1), hs.sampled_from([0.5, 0.9, 0.95, 0.999]))
    @quick
    def test_agrees_with_scipy(self, n: int, share: float, confidence: float) -> None:
        k = round(share * n)
        ours = st.wilson(k, n, confidence)
        theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)

    def test_by_hand(self) -> None:
        # p = 1/2, n = 4, z^2 = 3.8415: centre 1/2, half = z/(1+z^2/4) * sqrt(1/16 + z^2/64)
        z2 = 3.841458820694124
        half = math.sqrt(z2) / (1 + z2 / 4) * math.sqrt(1 / 16 + z2 / 64)
        assert st.wilson(2, 4) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)

    def test_edges_are_exact_and_nothing_is_known_of_nothing(self) -> None:
        assert st.wilson(0, 10)[0] == 0.0
        assert st.wilson(10, 10)[1] == 1.0
        assert st.wilson(0, 0) == (0.0, 1.0)

    @pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0)])
    def test_refuses_nonsense(self, k: int, n: int, confidence: float) -> None:
        with pytest.raises(UsageError):
            st.wilson(k, n, confidence)

    def test_covers_a_proportion_as_often_as_it_says(self) -> None:
        k = rng(1).binomial(60, 0.3, size=4000)
        ends = [st.wilson(int(x), 60, 0.9) for x in k]
        assert 0.87 < np.mean([low <= 0.3 <= high for low, high in ends]) < 0.93


class TestFisherZ:
    @given(hs.integers(0, 2**31), hs.integers(4, 400))
    @quick
    def test_agrees_with_scipy(self, seed: int, n: int) -> None:
        theirs = stats.pearsonr(*rng(seed).standard_normal((2, n)))
        expected = theirs.confidence_interval(0.95)
        assert st.fisher_z(theirs.statistic, n) == pytest.approx((expected.low, expected.high))

    def test_by_hand(self) -> None:
        half = 1.959963984540054 / 5
        expected = (math.tanh(math.atanh(0.5) - half), math.tanh(math.atanh(0.5) + half))
        assert st.fisher_z(0.5, 28) == pytest.approx(expected, abs=1e-12)

    def test_edges(self) -> None:
        assert st.fisher_z(0.9, 3) == (-1.0, 1.0)
        assert st.fisher_z(1.0, 10) == (1.0, 1.0)
        with pytest.raises(UsageError):
            st.fisher_z(1.01, 10)


class TestBootstrap:
    def test_constant_values_have_no_spread(self) -> None:
        assert st.bootstrap_mean([2.5] * 7, rng()) == (2.5, 2.5)

    def test_few_distinct_values_are_drawn_from_the_same_law(self) -> None:
        """Two values, n=3: the mean of a resample is Binomial(3, 1/3) / 3, so its quantiles are."""
        low, high = st.bootstrap_mean([0, 0, 1], rng(), confidence=0.5, resamples=20_000)
        law = stats.binom(3, 1 / 3)
        assert (low, high) == pytest.approx((law.ppf(0.25) / 3, law.ppf(0.75) / 3))

    @pytest.mark.parametrize("n", [1000, 80_000])
    def test_agrees_with_the_normal_limit(self, n: int) -> None:
        x = rng(3).gamma(2.0, size=n)  # n picks one by one, or extremes and the limit of the rest
        low, high = st.bootstrap_mean(x, rng(), resamples=2000)
        half = 1.96 * x.std() / math.sqrt(n)
        assert (low + high) / 2 == pytest.approx(x.mean(), abs=0.15 * half)
        assert (high - low) / 2 == pytest.approx(half, rel=0.08)

    def test_agrees_with_scipy(self) -> None:
        x = rng(4).exponential(size=300)
        theirs = stats.bootstrap(
            (x,), np.mean, n_resamples=4000, method="percentile", rng=rng(5)
        ).confidence_interval
        ours = st.bootstrap_mean(x, rng(), resamples=4000)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)

    def test_one_outlier_among_many_stays_lumpy(self) -> None:
        """It is drawn Poisson(1) times: 37% of the means are without it, which no normal law says."""
        x = rng(6).standard_normal(100_000)
        x[17] = 1e7
        means = st._means_of_many(x, rng(7), 4000)
        counts = np.rint((means - np.delete(x, 17).mean()) / 100).astype(int)
        shares = np.bincount(counts, minlength=4)[:4] / 4000
        assert shares == pytest.approx(stats.poisson(1).pmf(range(4)), abs=0.03)

    def test_covers_the_mean_as_often_as_it_says(self) -> None:
        random = rng(8)
        x = random.exponential(size=(600, 80))
        ends = [st.bootstrap_mean(row, random, confidence=0.9, resamples=400) for row in x]
        assert 0.84 < np.mean([low <= 1 <= high for low, high in ends]) < 0.94

    @pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
    def test_refuses_what_has_no_mean(self, bad: list[float]) -> None:
        with pytest.raises(UsageError):
            st.bootstrap_mean(bad, rng())
        with pytest.raises(UsageError):
            st.bootstrap_mean([1.0], rng(), resamples=0)

    def test_same_seed_same_bits_and_input_untouched(self) -> None:
        x = rng(9).standard_normal(500)
        before = x.copy()
        x.flags.writeable = False
        assert st.bootstrap_mean(x, rng(1)) == st.bootstrap_mean(x, rng(1))
        assert np.array_equal(x, before)


class TestTies:
    def test_by_hand(self) -> None:
        """x = 1, 1, 0 with ties {0, 1}, {0, 2}, {3, 4}: the first two share 0, five ties make m = 2.5 free.

        Apart from the mean they are 1/3, 1/3, -2/3: V = (1 + 1 + 4)/9 + 2/9 = 8/9, less than 3 sd^2 = 1.
        """
        ties = np.array([[0, 1], [0, 2], [3, 4]])
        assert st.tied_error([1, 1, 0], ties) == pytest.approx(math.sqrt(8 / 9 * 2.5 / 1.5) / 3)
        half = st.tied_error([1, 1, 0], ties) * stats.t.ppf(0.7, 1.5)
        assert st.tied_mean([1, 1, 0], ties, 0.4) == pytest.approx((2 / 3 - half, 2 / 3 + half))
        assert st.tied_mean([1, 1, 0], ties) == (0.0, 1.0)

    @given(hs.integers(0, 1000), hs.integers(1, 2), hs.integers(2, 40))
    @quick
    def test_agrees_with_the_double_sum(self, seed: int, columns: int, n: int) -> None:
        x, ties = rng(seed).standard_normal(n), rng(seed).integers(0, 12, size=(n, columns))
        apart = x - x.mean()
        share = np.array([[bool(set(a) & set(b)) for b in ties.tolist()] for a in ties.tolist()])
        total, free = float(apart @ share @ apart), len(np.unique(ties)) / columns
        plain = x.std(ddof=1) / math.sqrt(n)
        expected = math.sqrt(total * free / (free - 1)) / n if total > 0 and free > 1 else 0.0
        assert st.tied_error(x, ties) == pytest.approx(max(expected, plain), rel=1e-9)

    def test_free_items_have_the_plain_error(self) -> None:
        x = rng(1).standard_normal(400)
        ties = np.arange(800).reshape(400, 2)
        assert st.tied_error(x, ties) == pytest.approx(st.mean_error(x))
        assert st.paired_p(x * 0, x - 0.1, rng(), worse="lower", ties=ties) == pytest.approx(
            stats.ttest_1samp(x - 0.1, 0, alternative="less").pvalue
        )

    def test_repeated_items_do_not_narrow_it(self) -> None:
        x = rng(1).standard_normal(200)
        copies, members = np.repeat(x, 25), np.repeat(np.arange(200), 25)[:, None]
        assert st.tied_error(copies, members) == pytest.approx(st.mean_error(x), rel=1e-9)

    def test_everything_lost_is_as_many_coins_as_ties(self) -> None:
        pairs = np.array([[i, j] for i in range(6) for j in range(6) if i != j])
        old, new = np.ones(30), np.zeros(30)
        assert st.paired_p(old, new, rng(), worse="lower", ties=pairs) == 0.5**6 == st.smallest_tied_p(pairs)
        assert st.paired_p(new, old, rng(), worse="lower", ties=pairs) == 1.0
        assert st.paired_p(new, old, rng(), worse="higher", ties=pairs) == 0.5**6

    def test_few_items_that_differ_are_as_many_coins(self) -> None:
        """Questions with pairs of their own: three losses among a thousand are McNemar's 1/8."""
        ties = np.arange(2000).reshape(1000, 2)
        for moved in (1, 3, 5):
            loss = np.zeros(1000)
            loss[:moved] = 1
            assert st.tied_p(loss, ties) == pytest.approx(st.mcnemar_exact(moved, 0))
        assert st.smallest_tied_p(ties[:3]) == 1 / 8
        random = rng(3)
        for moved in (3, 4, 7, 12):
            signs = random.choice([-1.0, 1.0], (600, moved))
            losses = np.pad(signs, ((0, 0), (0, 1000 - moved)))
            assert np.mean([st.tied_p(loss, ties) <= 0.05 for loss in losses]) <= 0.085
        assert st.smallest_tied_p(np.arange(5000)[:, None]) > 0

    def test_questions_with_pairs_of_their_own_are_trials_themselves(self) -> None:
        assert st.tied_mean([1, 1, 1], np.arange(6).reshape(3, 2)) == st.wilson(3, 3)

    def test_all_wrong_or_all_right_are_as_many_trials_as_ties(self) -> None:
        ties = np.array([[0], [0], [1], [1], [2]])
        assert st.tied_mean([0] * 5, ties) == st.wilson(0, 3)
        assert st.tied_mean([1] * 5, ties) == st.wilson(3, 3)
        assert st.tied_mean([0.5] * 5, ties) == (0.5, 0.5)

    def test_lengths_differ(self) -> None:
        with pytest.raises(UsageError, match="3 values and the ties of 2"):
            st.tied_mean([1, 0.5, 0], np.array([[0], [1]]))


class TestChanges:
    def test_of_a_mean_they_are_the_differences(self) -> None:
        old, new = rng(1).standard_normal((2, 50, 1))
        found = jackknife_changes(old, new, lambda x, counts: counts @ x[:, 0] / counts.sum(axis=1))
        assert found == pytest.approx((new - old)[:, 0], abs=1e-9)


class TestDetectable:
    def test_by_hand(self) -> None:
        assert st.detectable(0.01, 0.05) == pytest.approx(0.01 * (1.644854 + 0.841621), rel=1e-6)
        assert st.detectable(0.01, 0.05, power=0.5) == pytest.approx(0.01 * 1.644854, rel=1e-6)
        with pytest.raises(UsageError):
            st.detectable(0.01, 1.0)

    def test_few_degrees_of_freedom_see_less(self) -> None:
        expected = 0.01 * (stats.t.ppf(0.95, 4) + stats.t.ppf(0.8, 4))
        assert st.detectable(0.01, 0.05, degrees=4) == pytest.approx(expected)

    def test_a_tiny_alpha(self) -> None:
        assert st.detectable(1.0, 1e-300) == pytest.approx(37.0471 + 0.841621, rel=1e-5)


class TestMcNemar:
    @given(hs.integers(0, 300), hs.integers(0, 300))
    @quick
    def test_agrees_with_scipy(self, losses: int, wins: int) -> None:
        total = losses + wins
        expected = stats.binomtest(losses, total, alternative="greater").pvalue if total else 1.0
        assert st.mcnemar_exact(losses, wins) == pytest.approx(expected, abs=1e-12)

    def test_by_hand(self) -> None:
        assert st.mcnemar_exact(3, 1) == pytest.approx((4 + 1) / 16)
        assert st.mcnemar_exact(0, 5) == 1.0
        with pytest.raises(UsageError):
            st.mcnemar_exact(-1, 0)


class TestPaired:
    def test_right_and_wrong_is_mcnemar(self) -> None:
        old, new = [1, 1, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0]
        assert st.paired_p(old, new, rng(), worse="lower") == pytest.approx(5 / 16)
        assert st.paired_p(old, new, rng(), worse="higher") == pytest.approx(15 / 16)

    def test_all_signs_by_hand(self) -> None:
        """Losses 1, 2, 4 of 8 sign patterns: only all-positive reaches the sum, p near 1/8."""
        p = st.paired_p([5, 5, 5], [4, 3, 1], rng(), worse="lower", permutations=40_000)
        assert p == pytest.approx(1 / 8, abs=0.006)

    def test_many_different_values_agree_with_scipy(self) -> None:
        old = rng(1).standard_normal(400)
        new = old - 0.06 + rng(2).standard_normal(400)
        theirs = stats.permutation_test(
            (old, new), lambda a, b, axis: np.mean(a - b, axis=axis), vectorized=True,
            permutation_type="samples", alternative="greater", n_resamples=9999, rng=rng(3),
        ).pvalue  # fmt: skip
        ours = st.paired_p(old, new, rng(4), worse="lower")
        assert ours == pytest.approx(theirs, abs=0.02)
        assert 0.02 < ours < 0.98

    def test_the_normal_limit_agrees_with_the_t_test(self) -> None:
        old = rng(1).standard_normal(30_000)
        new = old - 0.008 + rng(2).standard_normal(30_000)
        expected = stats.ttest_rel(old, new, alternative="greater").pvalue
        assert st.paired_p(old, new, rng(3), worse="lower") == pytest.approx(expected, abs=0.02)
        assert 0.02 < expected < 0.5

    def test_no_change_is_no_loss(self) -> None:
        x = rng(1).standard_normal(50)
        assert st.paired_p(x, x, rng(), worse="lower") == 1.0
        assert st.paired_p(x, x, rng(), worse="higher") == 1.0

    def test_never_below_one_in_the_flips(self) -> None:
        old = rng(1).uniform(1, 2, 300)
        assert st.paired_p(old, old - 1, rng(), worse="lower", permutations=999) == 1 / 1000
        assert st.paired_p(old, old - 1, rng(), worse="higher", permutations=999) == 1.0

    @pytest.mark.parametrize("kind", ["binary", "few", "many", "huge"])
    def test_is_calibrated_under_the_null(self, kind: str) -> None:
        """Of 400 pairs of draws of one law, about alpha have p <= alpha."""
        random = rng(11)
        rounds, n = (60, 9000) if kind == "huge" else (400, 60)

        def draw() -> np.ndarray:
            if kind == "binary":
                return random.integers(0, 2, n).astype(float)
            return random.integers(0, 11, n) / 10 if kind == "few" else random.standard_normal(n)

        p = np.array(
            [st.paired_p(draw(), draw(), random, worse="lower", permutations=399)
             for _ in range(rounds)]
        )  # fmt: skip
        for alpha in (0.05, 0.2, 0.5):
            slack = 3.5 * math.sqrt(alpha * (1 - alpha) / rounds)
            assert (p <= alpha).mean() <= alpha + slack
            assert kind == "binary" or (p <= alpha).mean() >= alpha - slack

    def test_finds_a_real_loss(self) -> None:
        old = rng(1).integers(0, 11, 2000) / 10
        worse = np.where(rng(2).random(2000) < 0.05, 0.0, old)
        assert st.paired_p(old, worse, rng(), worse="lower") == 1e-4
        assert st.paired_p(worse, old, rng(), worse="lower") == 1.0

    def test_lengths_differ(self) -> None:
        with pytest.raises(UsageError, match="cannot be paired"):
            st.paired_p([1, 2], [1], rng(), worse="lower")

    @given(hs.integers(1, 12), hs.booleans())
    @quick
    def test_smallest_p_is_a_lower_bound(self, n: int, binary: bool) -> None:
        old, new = (np.ones(n), np.zeros(n)) if binary else (np.arange(n) + 2.5, np.zeros(n))
        p = st.paired_p(old, new, rng(), worse="lower", permutations=99)
        floor = st.smallest_p(old, new, permutations=99)
        assert floor <= p or p == pytest.approx(floor, rel=0.6)
        assert floor == (0.5**n if binary else max(0.5**n, 0.01))


class TestHolm:
    def test_by_hand(self) -> None:
        adjusted = st.holm([0.01, 0.04, 0.03, 0.005])
        assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])

    @given(hs.lists(hs.floats(0, 1), max_size=12))
    @quick
    def test_is_the_step_down_procedure(self, p: list[float]) -> None:
        """The oracle is Holm's text: go up the sorted p-values, stop at the first above a/(m-i)."""
        adjusted = st.holm(p)
        order = np.argsort(p, kind="stable")
        for alpha in (0.01, 0.05, 0.3):
            rejected = set()
            for i, row in enumerate(order):
                if p[row] * (len(p) - i) > alpha:
                    break
                rejected.add(int(row))
            assert {i for i, a in enumerate(adjusted) if a <= alpha} == rejected
        assert all(a >= b for a, b in zip(adjusted, p, strict=True))

    def test_empty_and_nonsense(self) -> None:
        assert st.holm([]).shape == (0,)
        with pytest.raises(UsageError):
            st.holm([0.2, 1.2])
        with pytest.raises(UsageError):
            st.holm([math.nan])


def test_the_confidence_in_force_holds_inside_the_block_only() -> None:
    plain, wide = st.wilson(7, 10), st.wilson(7, 10, 0.99)
    with st.at_confidence(0.99):
        assert st.wilson(7, 10) == wide
        assert st.wilson(7, 10, 0.95) == plain
        with pytest.raises(UsageError), st.at_confidence(1.0):
            raise AssertionError
        assert st.normal_quantile() == pytest.approx(stats.norm.ppf(0.995))
    assert st.wilson(7, 10) == plain
