"""Side information: contexts and treatments that were hardly measured or never, and measurements of different precision."""

import jax
import numpy as np
import pytest

from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.folds import cold_start_folds, hide, pooled_correlation
from kronax.solvers.tensor.means import cautious_means
from kronax.solvers.tensor.side import Links, Side
from kronax.solvers.tensor.wiener.contexts import context_kernel, target_of
from kronax.solvers.tensor.wiener.coordinates import rotate
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.kriging import Kriging, krige
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.sweep import solve, start_of
from kronax.solvers.tensor.wiener.variance import kernels_of, posterior_variance

NAN = np.nan
FIXED = KroneckerOptions(noise=0.5, own_share=0.2, common_share=0.15, similarity_share=0.0)


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


def cosines(one, other):
    return (one * other).sum(axis=-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))


def distances(points):
    return np.square(np.subtract.outer(points, points).astype(float))


def grouped(rng, n_groups=8, size=6, n_contexts=4, n_genes=15, own=0.5, noise=0.3):
    """Treatments of a group act alike; their similarity says which."""
    group = np.repeat(np.arange(n_groups), size)
    factors = rng.normal(size=(n_groups, 3))[group] + own * rng.normal(size=(len(group), 3))
    contexts, genes = 1 + 0.4 * rng.normal(size=(n_contexts, 3)), rng.normal(size=(n_genes, 3))
    truth = np.einsum("dk,ck,gk->dcg", factors, contexts, genes)
    return truth + noise * rng.normal(size=truth.shape), (group[:, None] == group).astype(float)


def on_a_grid(rng, n_treatments=40, length=1.5, noise=0.3):
    """Contexts are six doses, whose responses change smoothly."""
    covariance = np.exp(-0.5 * distances(np.arange(6)) / length**2)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(6))
    treatments, genes = rng.normal(size=(n_treatments, 6, 3)), rng.normal(size=(12, 3))
    truth = np.einsum("cb,dbk,gk->dcg", root, treatments, genes)
    return truth + noise * rng.normal(size=truth.shape)


def test_usual_correlation_without_pairs(rng):
    """Five treatments with ½ are assumed: one profile of a treatment then says something of its other contexts."""
    assert target_of(np.eye(3), np.zeros((3, 3)), None).values[0, 1] == 0.5
    shared, rho = np.array([[9.0, 5.0], [5.0, 9.0]]), np.array([[1.0, 0.9], [0.9, 1.0]])
    assert target_of(shared, rho, None).values[0, 1] == pytest.approx(0.7)
    truth = np.repeat(rng.normal(size=(40, 1, 3)), 4, axis=1) @ rng.normal(size=(3, 20))
    values = hide(truth, np.arange(40)[:, None] % 4 != np.arange(4))
    missing = np.isnan(values)
    assert pooled_correlation(truth[missing], kronecker(values, FIXED).values[missing]) > 0.9


def test_start_in_contexts_with_few_profiles(rng):
    values = rng.normal(size=(6, 3, 4))
    values[1:, 2] = NAN
    values[0, 0, 1] = NAN
    gene = np.nanmean(values, axis=(0, 1))
    context = (values[0, 2] + 5 * gene) / 6
    np.testing.assert_allclose(cautious_means(values)[:, 2], (context + np.nanmean(values, axis=1)) / 2, rtol=1e-12)


def test_start_without_any_value(rng):
    values = rng.normal(size=(5, 3, 4))
    values[2], values[:, 1] = NAN, NAN
    values[:, :, 3] = NAN
    found = cautious_means(values)
    gene = np.nanmean(values[:, :, :3], axis=(0, 1))
    np.testing.assert_allclose(found[2, 1, :3], gene)
    np.testing.assert_allclose(found[:, :, 3], np.nanmean(values))


def test_target_by_least_squares(rng):
    """Lengths and nugget are those with the least squared error of all on the grid."""
    points = np.array([0.0, 1.0, 2.0, 4.0, 7.0])
    shared, length, nugget = np.full((5, 5), 1e6), 7.0 * 0.5, 0.3
    rho = (1 - nugget) * np.exp(-0.5 * distances(points) / length**2)
    found = target_of(shared, rho, Links(None, {"dose": distances(points)}))
    assert found.parameters == pytest.approx({"nugget": nugget, "length_dose": length}, rel=1e-4)
    np.testing.assert_allclose(found.values, rho, rtol=1e-4)


def test_target_without_pairs_is_the_usual_correlation():
    """Coordinates cannot be compared with what nobody has seen."""
    found = target_of(np.eye(4), np.eye(4), Links(None, {"dose": distances(np.arange(4.0))}))
    np.testing.assert_array_equal(found.values, 0.5)
    assert found.parameters == {"nugget": 0.5, "length_dose": np.inf}


def test_a_coordinate_that_does_not_matter(rng):
    points, other = np.repeat(np.arange(4.0), 3), np.tile(np.arange(3.0), 4)
    rho = 0.8 * np.exp(-0.5 * distances(points) / 3.0**2)
    links = Links(None, {"dose": distances(points), "plate": distances(other)})
    assert target_of(np.full((12, 12), 1e6), rho, links).parameters["length_plate"] == np.inf


def test_a_given_similarity_is_scaled_to_the_correlations(rng):
    given = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]])
    shared = np.full((3, 3), 1e6)
    found = target_of(shared, 0.5 * given, Links(given))
    np.testing.assert_allclose(found.values, 0.5 * given, rtol=1e-4)
    assert found.parameters["nugget"] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("shared", [0.0, 9.0])
def test_contexts_given_as_unlike_are_drawn_to_no_correlation(rng, shared):
    found = target_of(np.full((3, 3), shared), np.full((3, 3), 0.7), Links(np.eye(3)))
    np.testing.assert_array_equal(found.values, 0.0 * np.eye(3))
    values = on_a_grid(rng, n_treatments=12)[:, :3]
    values[rng.random(values.shape[:2]) < 0.2] = NAN
    assert np.isfinite(kronecker(values, FIXED, side=Side(contexts=Links(np.eye(3)))).values).all()


def test_context_never_measured(rng):
    """It is predicted from its neighbours on the scale, better than by the treatments' means, with a confidence that it reaches."""
    truth = on_a_grid(rng)
    values = truth.copy()
    values[:, 3] = NAN
    side = Side(contexts=Links(None, {"dose": distances(np.arange(6.0))}))
    plain, found = kronecker(values, FIXED), kronecker(values, FIXED, side=side)
    assert (plain.fallback[:, 3] == Fallback.TREATMENT_MEAN).all() and np.isnan(plain.confidence).all()
    assert (found.fallback[:, 3] == Fallback.SIMILARITY).all()
    reached = pooled_correlation(truth[:, 3], found.values[:, 3])
    assert reached > pooled_correlation(truth[:, 3], plain.values[:, 3]) + 0.1
    assert 0 < found.parameters["length_dose"] < np.inf


def test_confidence_of_contexts_never_measured(rng):
    truth = on_a_grid(rng)
    side = Side(contexts=Links(None, {"dose": distances(np.arange(6.0))}))
    promised, reached = [], []
    for c in range(6):
        found = kronecker(hide(truth, np.arange(6) == np.full((40, 1), c)), FIXED, side=side)
        promised.append(found.confidence[:, c])
        reached.append(cosines(truth[:, c], found.values[:, c]))
    assert np.mean(promised) == pytest.approx(np.mean(reached), abs=0.05)


def test_left_out_in_closed_form_equals_the_loop(rng):
    values, similarity = grouped(rng)
    similarity = 0.7 * similarity + 0.3 * np.eye(len(similarity))
    known = np.ones(len(values), bool)
    found = Kriging("s", 0.4, similarity, known).left_out(values)
    for i in range(len(values)):
        others = known.copy()
        others[i] = False
        np.testing.assert_allclose(
            Kriging("s", 0.4, similarity, others).predicted(values)[0], found[i], rtol=1e-8, atol=1e-10
        )
    mean = Kriging("", np.inf, similarity, known).left_out(values)
    np.testing.assert_allclose(mean[0], values[1:].mean(axis=0), rtol=1e-10)


def test_kriging_by_hand(rng):
    values, similarity = grouped(rng)
    known = rng.random(len(values)) < 0.7
    kriging, mean = Kriging("s", 2.0, similarity, known), values[known].mean(axis=0)
    inverse = np.linalg.inv(similarity[np.ix_(known, known)] + 2.0 * np.eye(known.sum()))
    between = similarity[np.ix_(~known, known)]
    np.testing.assert_allclose(
        kriging.predicted(values), mean + np.einsum("ij,jk,kcg->icg", between, inverse, values[known] - mean)
    )
    np.testing.assert_allclose(kriging.information[~known], np.diag(between @ inverse @ between.T))
    assert np.isnan(kriging.information[known]).all()


@pytest.mark.parametrize("n_directions", ["all", "some"])
def test_the_similarity_with_the_least_error(rng, monkeypatch, n_directions):
    if n_directions == "some":
        monkeypatch.setattr("kronax.solvers.tensor.wiener.kriging._MOST_WORK", 48**2 * 4 * 5)
    values, similarity = grouped(rng)
    wrong = Side({"s": similarity}).permuted(0).treatments["s"]
    measured = np.ones(values.shape[:2], bool)
    assert krige(values, measured, {"wrong": wrong, "right": similarity}).name == "right"
    assert krige(values, measured, {"nothing": np.eye(len(values))}).name == ""


def test_treatments_never_measured(rng):
    truth, similarity = grouped(rng)
    new = np.arange(0, 48, 6)
    values = truth.copy()
    values[new] = NAN
    plain, found = kronecker(values, FIXED), kronecker(values, FIXED, side=Side({"group": similarity}))
    assert (plain.fallback[new] == Fallback.CONTEXT_MEAN).all()
    assert (found.fallback[new] == Fallback.SIMILARITY).all()
    reached = pooled_correlation(truth[new], found.values[new])
    assert reached > pooled_correlation(truth[new], plain.values[new]) + 0.3
    assert np.nanmean(found.confidence[new]) == pytest.approx(cosines(truth[new], found.values[new]).mean(), abs=0.1)
    assert (found.information[new] > 0.5).all()
    assert found.parameters["treatment_similarity"] == "group" and 0.1 <= found.parameters["delta"] <= 1e4


def test_a_similarity_of_nothing_changes_nothing(rng):
    values, similarity = grouped(rng)
    values[:8] = NAN
    found = kronecker(values, FIXED, side=Side({"nothing": np.eye(len(values))}))
    np.testing.assert_array_equal(found.values, kronecker(values, FIXED).values)
    assert found.parameters["treatment_similarity"] == "none"
    assert (found.fallback[:8] == Fallback.CONTEXT_MEAN).all() and "nothing" in found.notes[0]


def test_treatment_and_context_never_measured(rng):
    truth, similarity = grouped(rng, n_contexts=6)
    values = truth.copy()
    values[:3], values[:, 2] = NAN, NAN
    links = Links(None, {"dose": distances(np.arange(6.0))})
    both = kronecker(values, FIXED, side=Side({"group": similarity}, links))
    assert (both.fallback[:3] == Fallback.SIMILARITY).all() and (both.fallback[:, 2] == Fallback.SIMILARITY).all()
    assert np.isfinite(both.confidence[:3, 2]).all()
    alone = kronecker(values, FIXED, side=Side({"group": similarity}))
    assert (alone.fallback[:3, [0, 1, 3]] == Fallback.SIMILARITY).all()
    assert (alone.fallback[3:, 2] == Fallback.TREATMENT_MEAN).all() and alone.fallback[0, 2] == Fallback.GENE_MEAN


def test_shares_of_the_similarity_are_chosen(rng):
    """For treatments that were measured, a similarity is worth most where little else is known."""
    truth, similarity = grouped(rng, own=0.2, n_contexts=6)
    keep = rng.random((48, 1)).argsort(axis=0) * 0 + rng.integers(0, 6, (48, 1)) == np.arange(6)
    values = hide(truth, ~keep & (rng.random(keep.shape) < 0.8))
    options = KroneckerOptions(noise=0.5, own_share=0.2, common_share=0.15)
    assert kronecker(values, options, side=Side({"group": similarity})).parameters["similarity_share"] > 0
    assert kronecker(values, options, side=Side({"group": np.eye(48)})).parameters["similarity_share"] == 0


@pytest.mark.parametrize("per_entry", [False, True])
def test_precisions_are_exact(rng, per_entry):
    """The fixed point is the posterior mean with noise λ / w, under the kernels learnt on the way."""
    truth, _ = grouped(rng, n_groups=4, size=2, n_contexts=3, n_genes=5)
    values = hide(truth, rng.random((8, 3)) < 0.3)
    weights = rng.uniform(0.4, 2.0, (8, 3, 5 if per_entry else 1))
    options = KroneckerOptions(gene_power=0.0)
    task = rotate(values, ~np.isnan(values), options, Side(weights=weights))
    prior = Prior(0.5, 0.2, 0.1)
    x, status = solve(task, prior, 1e-11, 5000, False, start_of(task))
    treatment, context, _ = kernels_of(task, x, prior)
    basis = np.eye(5) if task.basis is None else task.basis
    found = np.asarray(x) @ basis
    assert status.converged
    covariance = np.kron(np.kron(treatment.dense, context.dense), np.eye(5))
    known = ~np.isnan(values).ravel()
    w = np.broadcast_to(weights, values.shape).ravel()[known]
    w = w / np.median(w)
    gain = covariance[:, known] @ np.linalg.inv(covariance[np.ix_(known, known)] + np.diag(0.5 / w))
    posterior = gain @ values.ravel()[known]
    np.testing.assert_allclose(found.ravel()[~known], posterior[~known], rtol=1e-6, atol=1e-8)


def test_variance_with_precisions_equals_the_dense_one(rng):
    truth, _ = grouped(rng, n_groups=4, size=2, n_contexts=3, n_genes=5)
    values = hide(truth, rng.random((8, 3)) < 0.3)
    weights = rng.uniform(0.4, 2.0, (8, 3, 1))
    task = rotate(values, ~np.isnan(values), KroneckerOptions(gene_power=0.0), Side(weights=weights))
    prior = Prior(0.5, 0.2, 0.1)
    x, _ = solve(task, prior, 1e-6, 100, False, start_of(task))
    treatment, context, _ = kernels_of(task, x, prior)
    found = posterior_variance(task, x, prior)
    covariance = np.kron(treatment.dense, context.dense)
    known = ~np.isnan(values[:, :, 0]).ravel()
    w = weights.ravel()[known]
    noise = np.diag(0.5 / (w / np.median(w)))
    inverse = np.linalg.inv(covariance[np.ix_(known, known)] + noise)
    posterior = np.diag(covariance - covariance[:, known] @ inverse @ covariance[known])
    ratio = found.ravel()[~known] / posterior[~known]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_precisions_help_where_they_differ_much(rng):
    truth, _ = grouped(rng, noise=0.0, n_contexts=6)
    precise = np.exp(2.0 * rng.normal(size=truth.shape[:2]))
    noisy = truth + 1.5 * rng.normal(size=truth.shape) / np.sqrt(precise)[:, :, None]
    held = cold_start_folds(np.ones(truth.shape[:2], bool), 4, keep=3, axis=0).fold == 0
    values = hide(noisy, held)
    options = KroneckerOptions(own_share=0.2, common_share=0.15)
    plain, weighted = kronecker(values, options), kronecker(values, options, side=Side(weights=precise[:, :, None]))
    errors = [np.square(r.values[held] - truth[held]).mean() for r in (plain, weighted)]
    assert errors[1] < 0.95 * errors[0]


def test_equal_precisions_change_nothing(rng):
    values = hide(grouped(rng)[0], rng.random((48, 4)) < 0.2)
    same = kronecker(values, FIXED, side=Side(weights=np.full((48, 4, 1), 7.0)))
    np.testing.assert_allclose(same.values, kronecker(values, FIXED).values, rtol=1e-9, atol=1e-12)


def test_context_kernel_counts_precise_profiles_more(rng):
    """A weight of 2 counts as two equal profiles."""
    x = rng.normal(size=(6, 3, 5))
    weights = np.ones((6, 3, 1))
    weights[0] = 2.0
    missing = np.zeros(x.shape, bool)
    weighted, _ = context_kernel(x, missing, None, weights)
    twice = np.concatenate([x[:1], x])
    plain, _ = context_kernel(twice, np.zeros(twice.shape, bool))
    np.testing.assert_allclose(weighted.dense, plain.dense, rtol=1e-10)
