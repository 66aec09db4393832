"""Tests of partial correlations."""

from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData
from scipy import stats

import kronax as kx
from kronax.solvers.gaussian import vectors
from kronax.solvers.gaussian.precision import LowRank, Whole, dense, entries
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.graph import significance
from kronax.solvers.graph.significance import (
    FEWEST_TOGETHER,
    Null,
    PairTest,
    Samples,
    _normal,
    _places,
    _share_of_skewness,
)

P = 450  # 10⁵ pairs


# Scores


@pytest.mark.parametrize("skewness", [0.05, 0.3, 1.0, -0.4])
def test_scores_are_those_of_a_skewed_variable(skewness):
    """Those of a gamma distribution with this skewness, in its body and in its heavier tail."""
    u = np.sign(skewness) * np.linspace(-1.2, 5, 60)
    exact = stats.norm.isf(stats.pearson3.sf(u, skewness))
    np.testing.assert_allclose(_normal(u, np.full(60, skewness), 1.0), exact, atol=0.03)


@pytest.mark.parametrize("skewness", [0.2, 0.7])
def test_the_lighter_tail_has_the_skewness_that_is_seen(skewness, rng):
    """Products of independent variables have all of it; where other noise is added, values have less."""
    gamma = (rng.gamma(4 / skewness**2, size=200_000) - 4 / skewness**2) * skewness / 2
    for mixed, share in ((0.0, 1.0), (1.0, 0.5**1.5)):
        u = (gamma + np.sqrt(mixed) * rng.normal(size=len(gamma))) / np.sqrt(1 + mixed)
        assert _share_of_skewness(u, np.full(len(u), skewness)) == pytest.approx(share, abs=0.1)
    assert _share_of_skewness(-gamma, np.full(len(gamma), skewness)) == 0
    assert _share_of_skewness(gamma, np.zeros(len(gamma))) == 1


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_share_of_skewness_within_groups(apart, rng):
    """Half of the noise is that of skewed products; pairs that are together in more samples have other means, and this is no skewness."""
    n, skewness = 1000, 0.6
    shape = 4 / skewness**2
    noise = ((rng.gamma(shape, size=(P, P)) - shape) / np.sqrt(shape) + rng.normal(size=(P, P))) / np.sqrt(2)
    counts = np.where(np.arange(P) < 150, 900.0, 300.0)
    noise += apart * (np.outer(counts, counts) == 900.0**2)
    noise = np.triu(noise, k=1)
    samples = Samples(np.full(P, np.sqrt(skewness * np.sqrt(n))), counts, n)
    null = Null.of(samples, 0.03 * (noise + noise.T), np.arange(P), ~np.eye(P, dtype=bool))
    assert null.share == pytest.approx(0.5**1.5, abs=0.06)


@pytest.mark.parametrize("skewness", [0.2, 0.7])
def test_less_skewness_in_the_lighter_tail_alone(skewness):
    u = np.linspace(-2.0, 2.0, 101)
    half, whole, of_half = (
        _normal(u, np.full(101, s), share) for s, share in ((skewness, 0.5), (skewness, 1.0), (skewness / 2, 1.0))
    )
    heavier = u >= 0
    np.testing.assert_array_equal(half[heavier], whole[heavier])
    np.testing.assert_allclose(half[~heavier] - half[50], of_half[~heavier] - of_half[50], atol=1e-12)
    assert (np.diff(half) > 0).all()


@pytest.mark.parametrize("skewness", [0.0, 1e-4, 0.1, 0.8, 2.0])
def test_scores_rise(skewness):
    """And are no larger than the value itself far in the lighter tail, where the gamma distribution ends."""
    u = np.linspace(-9, 9, 500)
    scores = _normal(u, np.full(500, skewness), 1.0)
    assert (np.diff(scores) >= 0).all() and (scores[u < -3] >= u[u < -3] - 1e-4).all()
    np.testing.assert_allclose(_normal(-u, np.full(500, -skewness), 1.0), -scores, atol=1e-4)


@pytest.mark.parametrize("n_bounds", [0, 1, 19, 255])
def test_places_are_those_that_a_search_finds(n_bounds, rng):
    bounds, values = np.sort(rng.random(n_bounds)), rng.random(500)
    values[:n_bounds] = bounds
    np.testing.assert_array_equal(_places(bounds, values), np.searchsorted(bounds, values, side="right"))


def test_scores_of_poisson_counts(rng):
    """Two rare events, independent of each other, are seen together a number of times that is a Poisson variable."""
    mean = 12.0
    together = rng.poisson(mean, 200_000)
    scores = _normal((together + rng.uniform(-0.5, 0.5, len(together)) - mean) / np.sqrt(mean), 1 / np.sqrt(mean), 1.0)
    assert stats.kstest(scores, "norm").statistic < 0.006
    assert np.mean(scores > 4) < 3 * stats.norm.sf(4)
    assert np.mean((together - mean) / np.sqrt(mean) > 4) > 5 * stats.norm.sf(4)


# Ranks, in blocks


def without_edges(rng, p: int) -> LowRank:
    return LowRank(0.2, Held(np.linalg.qr(rng.normal(size=(p, p)))[0]), rng.uniform(0.1, 1.0, p))


def a_test(rng, p: int, n: int, counts: np.ndarray) -> PairTest:
    matrix = dense(without_edges(rng, p))
    samples = Samples(rng.uniform(0, 3, p), counts, n)
    rows, cols = rng.integers(0, p, (2, p))
    matrix[rows, cols] = matrix[cols, rows] = np.where(rows == cols, 1, 6) * matrix[rows, cols]
    return PairTest(Whole(matrix), 0.3, samples)


def all_pairs(test: PairTest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, cols = np.triu_indices(test.p, k=1)
    return test._block(np.arange(test.p))[rows, cols], rows, cols


def test_q_values_are_those_of_benjamini_and_hochberg(rng):
    test = a_test(rng, 60, 100, rng.integers(5, 100, 60).astype(float))
    _, rows, cols = all_pairs(test)
    p_values, q_values = test.values(rows, cols)
    tested = test.samples.counts[rows] * test.samples.counts[cols] >= FEWEST_TOGETHER * 100
    assert 0 < tested.sum() < len(rows)
    of_each = np.bincount(np.concatenate([rows[tested], cols[tested]]), minlength=test.p)
    np.testing.assert_array_equal(test.n_tested, of_each)
    expected = stats.false_discovery_control(p_values[tested])
    assert (expected < 0.05).any() and (expected[expected < 0.3] > 0.05).any()
    np.testing.assert_allclose(q_values[tested][expected < 0.3], expected[expected < 0.3], rtol=1e-4)
    assert (q_values[tested][expected >= 0.3] >= 0.3).all()
    assert (p_values[~tested] == 1).all() and (q_values[~tested] == 1).all()


@pytest.mark.parametrize(("limit", "size"), [("_PAIRS", 80 * 33), ("_ROWS", 33)])
def test_edges_are_the_pairs_with_small_q_values(limit, size, monkeypatch):
    counts = np.full(80, 50.0)
    whole = a_test(np.random.default_rng(0), 80, 100, counts)
    _, rows, cols = all_pairs(whole)
    _, q_values = whole.values(rows, cols)
    found = set(zip(*whole.edges(0.1), strict=True))
    assert found == set(zip(rows[q_values <= 0.1], cols[q_values <= 0.1], strict=True)) != set()
    monkeypatch.setattr(significance, limit, size)  # three blocks; the null is that of all variables
    parts = a_test(np.random.default_rng(0), 80, 100, counts)
    parts.__dict__["null"] = whole.null
    assert set(zip(*parts.edges(0.1), strict=True)) == found


def test_the_same_with_and_without_the_whole_matrix(rng, monkeypatch):
    precision, samples = without_edges(rng, 70), Samples(rng.uniform(0, 3, 70), np.full(70, 60.0), 100)
    monkeypatch.setattr(significance, "_PAIRS", 70 * 33)
    whole, parts = (PairTest(phi, 0.3, samples) for phi in (Whole(dense(precision)), precision))
    pairs = all_pairs(whole)
    np.testing.assert_allclose(all_pairs(parts)[0], pairs[0], atol=1e-14)
    for one, other in zip(whole.values(*pairs[1:]), parts.values(*pairs[1:]), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


@pytest.mark.parametrize("chunk", [vectors._CHUNK, 300])
def test_pairs_that_are_looked_up_are_those_that_were_ranked(rng, chunk, monkeypatch):
    """Also from vectors in single precision, a few at a time: they have the q-values of their own p-values."""
    monkeypatch.setattr(vectors, "_SMALL", 0)
    monkeypatch.setattr(vectors, "_CHUNK", chunk)
    precision = without_edges(rng, 150)
    single = LowRank(precision.base, Held(precision.vectors.array().astype(np.float32)), 50 * precision.weights)
    test = PairTest(single, 0.3, Samples(rng.uniform(0, 3, 150), np.full(150, 60.0), 100))
    p_values, q_values = test.values(*np.triu_indices(150, k=1))
    expected = stats.false_discovery_control(p_values)
    np.testing.assert_allclose(q_values[expected < 0.3], expected[expected < 0.3], rtol=1e-4)
    exact = LowRank(precision.base, Held(single.vectors.array().astype(np.float64)), single.weights)
    rows, cols = np.triu_indices(150, k=1)
    np.testing.assert_allclose(entries(single, rows, cols), entries(exact, rows, cols), rtol=0, atol=1e-12)


@pytest.mark.parametrize("limits", [{}, {"_PAIRS": 60 * 33}, {"_PAIRS": 60 * 33, "_MOST_KEPT": 0}])
@pytest.mark.parametrize("form", [lambda precision: precision, lambda precision: Whole(dense(precision))])
def test_a_pair_with_another_sign_in_all_samples_has_no_edge(rng, form, limits, monkeypatch):
    """Its p-value is that of the test; q-values are those of Benjamini and Hochberg if its p-value were 1."""
    for name, limit in limits.items():
        monkeypatch.setattr(significance, name, limit)
    samples = Samples(rng.uniform(0, 3, 60), rng.integers(5, 100, 60).astype(float), 100)
    within, of_all = (form(without_edges(rng, 60)) for _ in range(2))
    alone, test = PairTest(within, 0.3, samples), PairTest(within, 0.3, samples, PairTest(of_all, 0.5, samples))
    _, rows, cols = all_pairs(alone)
    p_values, q_values = test.values(rows, cols)
    np.testing.assert_array_equal(p_values, alone.values(rows, cols)[0])
    agree = np.sign(alone.scores(rows, cols)) == -np.sign(entries(of_all, rows, cols))
    assert agree.any() and (q_values[~agree] == 1.0).all()
    tested = samples.together(rows, cols) >= FEWEST_TOGETHER
    expected = stats.false_discovery_control(np.where(agree, p_values, 1.0)[tested])
    np.testing.assert_allclose(q_values[tested][expected < 0.9], expected[expected < 0.9], rtol=1e-4)
    level = np.median(q_values[q_values < 1.0])
    found = set(zip(*test.edges(level), strict=True))
    assert found == set(zip(rows[q_values <= level], cols[q_values <= level], strict=True)) != set()


def test_few_common_variables_among_rare_ones(rng, monkeypatch):
    """Those that have no test do not stand for the others."""
    counts = np.full(90, 2.0)
    counts[[50, 71, 88]] = 90.0
    monkeypatch.setattr(significance, "_PAIRS", 90 * 10)
    test = a_test(rng, 90, 100, counts)
    assert test.n_tested.sum() == 6
    rows, cols = np.array([50, 0]), np.array([71, 1])
    p_values, q_values = test.values(rows, cols)
    assert 0 < p_values[0] <= q_values[0] <= 1 and p_values[1] == q_values[1] == 1


def test_without_pairs_to_test(rng):
    test = a_test(rng, 12, 20, np.full(12, 3.0))
    _, rows, cols = all_pairs(test)
    for values in test.values(rows, cols):
        np.testing.assert_array_equal(values, 1.0)
    assert not test.n_tested.any() and not len(test.edges(0.3)[0])


def test_local_nulls_have_unit_variance(rng):
    """Whatever the spread of partial correlations at a given number of samples together."""
    counts = rng.integers(20, 100, 200).astype(float)
    rows, cols = np.triu_indices(200, k=1)
    samples = Samples(np.zeros(200), counts, 100)
    spread = np.sqrt(samples.together(rows, cols))
    correlations = spread * rng.normal(0.1, 1.0, len(rows))
    every = np.zeros((200, 200))
    every[rows, cols] = every[cols, rows] = correlations
    null = Null.of(samples, every, np.arange(200), ~np.eye(200, dtype=bool))
    scores = null.scores(correlations, rows, cols)
    order = np.argsort(spread)
    for some in np.array_split(order, 10):
        assert abs(scores[some].std() - 1) < 0.05 and abs(np.median(scores[some])) < 0.1


def test_variables_that_vary_in_few_samples_are_known_from_these(rng):
    """Independent ones, a third of which vary in a group of a tenth alone: Eq. 24 is the variance of their correlations."""
    n, p, few = 2000, 240, 80
    groups = np.arange(n) % 10
    z = rng.normal(size=(n, p))
    z[:, :few] *= np.where(groups == 0, 3.0, 0.1)[:, None]
    variances = np.stack([(z[groups == g] ** 2).mean(axis=0) for g in range(10)], axis=1)
    spreads = np.sqrt(0.1) * variances / variances.mean(axis=1, keepdims=True)
    size = np.linalg.norm(z, axis=0)
    correlations, others = (z / size).T @ (z / size), ~np.eye(p, dtype=bool)
    samples = Samples(np.zeros(p), np.full(p, float(n)), n, spreads=spreads)
    rows, cols = np.triu_indices(few, k=1)
    np.testing.assert_allclose(
        correlations[rows, cols].std(), samples.unequal(rows, cols).mean() / np.sqrt(n), rtol=0.05
    )
    for given, limits in ((samples, (0.9, 1.1)), (samples._replace(spreads=None), (1.5, 4.0))):
        null = Null.of(given, correlations, np.arange(p), others)
        scores = null.scores(correlations[rows, cols], rows, cols)
        assert limits[0] < scores.std() < limits[1]


def test_variables_that_never_vary_together(rng):
    """Eq. 24 is zero for them, and what others add to their partial correlation is no evidence."""
    n, p = 400, 60
    spreads = np.where(np.arange(p)[:, None] % 2 == np.arange(2), 2.0, 0.0) / np.sqrt(2.0)
    samples = Samples(rng.uniform(0, 3, p), np.full(p, n / 2.0), n, spreads=spreads)
    test = PairTest(without_edges(rng, p), 0.3, samples)
    rows, cols = np.triu_indices(p, k=1)
    scores, apart = test.scores(rows, cols), (rows + cols) % 2 == 1
    assert (samples.unequal(rows, cols)[apart] == 0.1**0.5).all() and np.isfinite(scores).all()
    p_values, q_values = test.values(rows, cols)
    assert p_values.min() > 1e-6 and set(zip(*test.edges(0.3), strict=True)) == set(
        zip(rows[q_values <= 0.3], cols[q_values <= 0.3], strict=True)
    )


def test_variables_with_more_noise_have_a_spread_of_their_own(rng):
    """Beyond chance, and not for a few large values, which may be true."""
    p = 400
    correlations = rng.normal(size=(p, p))
    correlations = np.triu(correlations, k=1)
    correlations += correlations.T
    correlations[7], correlations[:, 7] = 2 * correlations[7], 2 * correlations[:, 7]
    correlations[9, :5] = correlations[:5, 9] = 40.0
    null = Null.of(Samples(np.zeros(p), np.full(p, 100.0), 100), correlations, np.arange(p), ~np.eye(p, dtype=bool))
    assert null.relative[7] == pytest.approx(2, rel=0.15)
    np.testing.assert_allclose(np.delete(null.relative, 7), 1, atol=0.06)
    score, other = (
        null.scores(correlations[[7], [20]] / size, np.array([j]), np.array([20]))
        for j, size in ((7, 1), (8, null.relative[7] / null.relative[8]))
    )
    assert score[0] == pytest.approx(other[0])


# Data without edges, and with edges that are known


def p_values_of_all(x: np.ndarray, **options) -> np.ndarray:
    """p-values of all pairs of genes that are tested."""
    adata = kx.tl.med_magma(AnnData(x), n_neighbors=None, **options, copy=True)
    found = adata.varp["med_magma_p_value"]
    rows, cols = np.triu_indices(x.shape[1], k=1)
    values = found.toarray()[rows, cols]
    counts = np.count_nonzero(x, axis=0)
    return values[counts[rows] * counts[cols] >= FEWEST_TOGETHER * len(x)]


@pytest.mark.parametrize("seed", range(5))
def test_uniform_where_only_cells_depend_on_each_other(seed):
    """A Kronecker sum with the identity for the genes, behind scales of cells and genes."""
    rng = np.random.default_rng(seed)
    n = 300
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    z = vectors @ (rng.uniform(0.3, 2.0, n)[:, None] * rng.normal(size=(n, P)))
    x = z * rng.lognormal(size=(n, 1)) * rng.lognormal(size=P)
    assert stats.kstest(p_values_of_all(x, graphs="genes"), "uniform").pvalue > 0.01


@pytest.mark.parametrize("n_cells", [120, 400, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_uniform_where_shrinkage_leaves_few_directions(n_cells, seed):
    """Without any structure, nearly all directions of the genes are noise, and the few others are chance."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_cells, P)) * rng.lognormal(size=(n_cells, 1)) * rng.lognormal(size=P)
    assert stats.kstest(p_values_of_all(x, graphs="genes"), "uniform").pvalue > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_uniform_on_counts_of_genes_that_do_not_depend_on_each_other(seed):
    """Negative binomial counts of cells of unequal depth, two thirds of them zero."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(-0.8, 0.4, (1000, 1)) * rng.lognormal(0, 0.8, P)
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(float)
    assert 0.6 < np.mean(x == 0) < 0.8
    assert stats.kstest(p_values_of_all(x[x.any(axis=1)], graphs="genes"), "uniform").pvalue > 0.01


@pytest.mark.parametrize("spread", [0.0, 0.4, 0.8])
def test_uniform_on_small_panels_whose_cells_have_scales_with_errors(spread):
    """Poisson counts of 100 genes: the error of a cell's scale is in all of them, most of all in the most abundant."""
    values = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.poisson(0.9 * rng.lognormal(0, spread, (1000, 1)) * rng.lognormal(0, 1, 100)).astype(float)
        values.append(p_values_of_all(x[x.any(axis=1)], graphs="genes"))
    assert np.mean(np.concatenate(values) <= 0.001) < 1.5e-3


@pytest.mark.parametrize("n_proteins", [50, 150])
def test_no_edges_between_proteins_that_do_not_depend_on_each_other(n_proteins):
    """Of counts without a zero, as of antibodies, only that a cell has a fixed size is left in the partial correlations."""
    n_false = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        mean = rng.lognormal(0, 0.4, (1000, 1)) * rng.lognormal(4, 1, n_proteins)
        x = rng.poisson(mean * rng.gamma(4, 0.25, (1000, n_proteins))).astype(float)
        adata = AnnData(x)
        kx.tl.med_magma(adata, graphs="genes", n_neighbors=None)
        n_false += np.count_nonzero(np.triu(adata.varp["med_magma_q_value"].toarray() <= 0.05, k=1))
    assert n_false <= 6


def test_what_all_variables_share_is_no_edge(rng):
    """A rank-one part along a known direction is taken away, however many true edges there are, and these are not."""
    p, b = 150, 0.02
    along = rng.uniform(0.5, 3, p)
    noise = np.triu(0.01 * rng.normal(size=(p, p)), k=1)
    noise[:10, :10] += np.triu(np.full((10, 10), 0.5), k=1)
    every = noise + noise.T + b * np.outer(along, along)
    samples = Samples(np.zeros(p), np.full(p, 100.0), 100, np.stack([along, np.zeros(p)]))
    null = Null.of(samples, every, np.arange(p), ~np.eye(p, dtype=bool))
    np.testing.assert_allclose(null.slopes, [b, 0], rtol=0.05, atol=1e-12)
    rows, cols = np.triu_indices(p, k=1)
    scores, edges = null.scores(every[rows, cols], rows, cols), cols < 10
    assert scores[edges].min() > 5 * np.abs(scores[~edges]).mean()
    assert abs(np.corrcoef(scores[~edges], (along[rows] * along[cols])[~edges])[0, 1]) < 0.05


@pytest.mark.parametrize(("graph", "power"), [("barabasi_albert", 0.5), ("block", 0.6)])
@pytest.mark.parametrize("q_max", [0.05, 0.2])
def test_false_discoveries_are_as_few_as_promised(graph, power, q_max):
    shares, powers = [], []
    for seed in range(3):
        adata = kx.datasets.kronecker_sum(400, 200, graph=graph, signs="positive", noise=0.5, random_state=seed)
        kx.tl.med_magma(adata, graphs="genes", q_max=q_max)
        found, truth = adata.varp["med_magma_q_value"].toarray() > 0, adata.varp["truth"].toarray() != 0
        np.fill_diagonal(truth, False)
        shares.append((found & ~truth).sum() / max(1, found.sum()))
        powers.append((found & truth).sum() / truth.sum())
    assert np.mean(shares) <= q_max
    assert np.mean(powers) >= power


def expression(n: int, regulators: np.ndarray, strength: np.ndarray, rng) -> np.ndarray:
    """Cells × genes, of which the first eight regulate the others by Hill functions."""
    x = rng.lognormal(0.0, 0.5, (n, len(regulators)))
    for gene in range(8, len(regulators)):
        active = x[:, regulators[gene]] ** 2 / (1.0 + x[:, regulators[gene]] ** 2)
        activity = np.where(strength[gene] > 0, active, 1.0 - active)
        x[:, gene] = activity @ np.abs(strength[gene]) * rng.lognormal(0.0, 0.4, n)
    return x


def signs_of_dependence(x: np.ndarray) -> np.ndarray:
    """Signs of the partial correlations of many samples, 0 below five standard errors."""
    inverse = np.linalg.inv(np.corrcoef(x, rowvar=False))
    size = np.sqrt(np.diag(inverse))
    return np.where(np.abs(inverse) > 5.0 * np.outer(size, size) / np.sqrt(len(x)), -np.sign(inverse), 0.0)


def test_discoveries_among_genes_that_regulate_each_other():
    """They are of genes that depend on each other in the distribution, whatever regulates what, and their signs are right."""
    p, n_edges, n_false = 100, 0, 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        regulators = np.array([rng.choice(8, 2, replace=False) for _ in range(p)])
        strength = rng.uniform(1.0, 5.0, (p, 2)) * np.where(rng.random((p, 2)) < 0.4, -1.0, 1.0)
        truth = signs_of_dependence(expression(40_000, regulators, strength, rng))
        assert np.mean(truth == 0) > 0.8
        x = expression(900, regulators, strength, rng) * rng.lognormal(size=(900, 1)) * rng.lognormal(size=p)
        adata = AnnData(x)
        kx.tl.med_magma(adata, graphs="genes", q_max=0.05)
        edges = kx.get.edges(adata)
        ends = adata.var_names.get_indexer(edges["source"]), adata.var_names.get_indexer(edges["target"])
        n_edges += len(edges)
        n_false += int((truth[ends] != np.sign(edges["partial_correlation"])).sum())
    assert n_edges > 50 and n_false <= 0.05 * n_edges


def test_scales_that_a_model_does_not_know(rng):
    """kx.tl.gmgm leaves the dependence by scales of the cells in the precision, but does not take it for that of two genes."""
    n, p = 400, 60
    means = rng.uniform(1.0, 5.0, p)
    adata = AnnData(np.outer(1 + 0.1 * rng.normal(size=n), means) + rng.normal(size=(n, p)))
    kx.tl.gmgm(adata, graphs="genes", n_neighbors=None)
    upper = np.triu_indices(p, k=1)
    precision, p_values = (adata.varp[f"gmgm_{name}"].toarray()[upper] for name in ("precision", "p_value"))
    products = np.outer(means, means)[upper]
    assert np.corrcoef(products, precision)[0, 1] < -0.3
    assert abs(np.corrcoef(products, p_values)[0, 1]) < 0.1 and np.mean(p_values < 0.01) < 0.02


def test_angles_have_lighter_tails_than_normal_variables(rng):
    """Of 40 samples: without Eq. 5, p-values below .001 are half as frequent as they should be."""
    p = 800
    z = rng.normal(size=(40, p))
    z /= np.linalg.norm(z, axis=0)
    every, (rows, cols) = z.T @ z, np.triu_indices(p, k=1)
    null = Null.of(Samples(np.zeros(p), np.full(p, 40.0), 40), every, np.arange(p), ~np.eye(p, dtype=bool))
    assert null.kurtosis == pytest.approx(-6 / 42, abs=0.03)
    with_light_tails, normal = (
        2 * stats.norm.sf(np.abs(found.scores(every[rows, cols], rows, cols)))
        for found in (null, replace(null, kurtosis=0.0))
    )
    assert np.mean(normal <= 1e-3) < 0.7e-3
    assert np.mean(with_light_tails <= 1e-3) == pytest.approx(1e-3, rel=0.15)
    assert stats.kstest(with_light_tails, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("p", "heavy"), [(60, False), (600, False), (600, True)])
def test_tails_that_are_not_light_are_left_alone(p, heavy, rng):
    """What few pairs show may be chance, and true edges have heavy tails."""
    every = rng.normal(size=(p, p))
    every = np.triu(every, k=1)
    if heavy:
        every[:, ::7] *= 1.5
    every += every.T
    null = Null.of(Samples(np.zeros(p), np.full(p, 100.0), 100), every, np.arange(p), ~np.eye(p, dtype=bool))
    assert -0.02 < null.kurtosis <= 0.0


def test_what_may_be_chance_is_taken_off_light_tails(rng):
    """The more so the fewer pairs there are: of an excess κ that n pairs show, ``κ − 4·24/(0.3665 n κ)`` is left."""
    p, dim = 300, 40
    expected = -6 / (dim + 2)
    taken = 4 * 24 / (0.3665 * p * (p - 1) / 2 * expected)
    found = []
    for _ in range(12):
        z = rng.normal(size=(dim, p))
        z /= np.linalg.norm(z, axis=0)
        samples = Samples(np.zeros(p), np.full(p, float(dim)), dim)
        found.append(Null.of(samples, z.T @ z, np.arange(p), ~np.eye(p, dtype=bool)).kurtosis)
    assert taken < 0.25 * expected
    assert np.mean(found) == pytest.approx(expected - taken, abs=0.02)
