"""Which fibers to measure next."""

from dataclasses import replace

import numpy as np
import pytest

from kronax.solvers.tensor.folds import hide
from kronax.solvers.tensor.side import Side
from kronax.solvers.tensor.wiener import experiments, kernels
from kronax.solvers.tensor.wiener.experiments import Posterior, Prior, choose_experiments, next_experiments
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.shared import Known

FIXED = KroneckerOptions(noise=0.5, own_share=0.2, common_share=0.15)
KNOWN = Known(kernels.Prior(0.5, 0.2, 0.15), lambda size: size)


def definite(rng, n):
    a = rng.normal(size=(n, n + 1))
    return a @ a.T / n


@pytest.fixture
def prior(rng):
    return Prior(definite(rng, 5), rng.uniform(0.1, 0.5, 5), definite(rng, 4), rng.uniform(0.2, 0.6, (5, 4)))


@pytest.fixture
def measured(rng):
    return rng.random((5, 4)) < 0.4


def dense(prior, measured):
    """The posterior covariance, fibers × fibers."""
    covariance = np.kron(prior.shared + np.diag(prior.own), prior.context)
    o = measured.ravel()
    inverse = np.linalg.inv(covariance[np.ix_(o, o)] + np.diag(prior.noise.ravel()[o]))
    return covariance - covariance[:, o] @ inverse @ covariance[o]


def dense_gains(prior, measured):
    p, gaps = dense(prior, measured), ~measured.ravel()
    others = np.square(p) * gaps
    np.fill_diagonal(others, 0.0)
    return (others.sum(axis=1) / (np.diag(p) + prior.noise.ravel())).reshape(measured.shape)


def test_gains_equal_the_dense_ones(prior, measured):
    found = Posterior(prior, measured)
    np.testing.assert_allclose(found.variance.ravel(), np.diag(dense(prior, measured)), rtol=1e-9)
    np.testing.assert_allclose(found.gains(), dense_gains(prior, measured), rtol=1e-9)


def test_a_gain_is_what_the_measurement_takes_away(prior, measured):
    before, gains = dense(prior, measured), dense_gains(prior, measured)
    d, c = np.argwhere(~measured)[2]
    after = measured.copy()
    after[d, c] = True
    others = ~after.ravel()
    lost = np.diag(before)[others].sum() - np.diag(dense(prior, after))[others].sum()
    assert gains[d, c] == pytest.approx(lost)


def test_one_after_the_other_by_rank_one(prior, measured):
    total, now = np.diag(dense(prior, measured))[~measured.ravel()].sum(), measured.copy()
    candidates = np.ones((5, 4), bool)
    candidates[0] = False
    found = choose_experiments(prior, measured, candidates, 4)
    for d, c, gain in zip(found.treatment, found.context, found.gain, strict=True):
        expected = np.where(candidates & ~now, dense_gains(prior, now), -np.inf)
        assert (d, c) == np.unravel_index(expected.argmax(), expected.shape)
        assert gain == pytest.approx(expected.max() / total)
        now[d, c] = True


def test_no_more_than_tell_of_others(prior, measured):
    """The last one that is missing tells of no other."""
    found = choose_experiments(prior, measured, np.ones((5, 4), bool), 100)
    assert len(found.gain) == (~measured).sum() - 1 and found.gain.min() > 1e-9
    assert len(choose_experiments(prior, measured, measured, 3).gain) == 0


def test_the_largest_features_stand_for_all(rng, monkeypatch):
    small = Prior(definite(rng, 30) + 20 * np.ones((30, 30)), np.full(30, 0.3), definite(rng, 4), np.full((30, 4), 0.5))
    measured = rng.random((30, 4)) < 0.5
    exact = Posterior(small, measured).gains()
    monkeypatch.setattr(experiments, "_MOST_FEATURES", 90)
    assert np.corrcoef(Posterior(small, measured).gains()[~measured], exact[~measured])[0, 1] > 0.99


def simulated(rng, shape=(60, 6, 30), noise=0.5):
    """Contexts differ in how much they are alike, and treatments in how much is known of them."""
    contexts = np.concatenate([1 + 0.2 * rng.normal(size=(4, 4)), rng.normal(size=(2, 4))])
    truth = np.einsum("dk,ck,gk->dcg", rng.normal(size=(60, 4)), contexts, rng.normal(size=(30, 4)))
    measured = rng.random(shape[:2]) < rng.choice([0.1, 0.6], (60, 1))
    measured[np.arange(60), rng.integers(0, 6, 60)] = True
    return truth, truth + noise * rng.normal(size=shape), measured


def error_after(picks, truth, noisy, measured, tested):
    more = measured.copy()
    more[picks] = True
    found = kronecker(hide(noisy, ~more), FIXED, known=KNOWN)  # no confidence is needed
    return np.square(found.values - truth)[tested].mean()


def test_better_than_chance_and_than_the_least_confident_first():
    """By the error on fibers that none of the three measures."""
    errors = np.zeros((4, 3))
    for seed, row in enumerate(errors):
        rng = np.random.default_rng(seed)
        truth, noisy, measured = simulated(rng)
        values = hide(noisy, ~measured)
        result = kronecker(values, FIXED)
        tested = ~measured & (rng.random(measured.shape) < 0.5)
        candidates, n = ~measured & ~tested, 30
        found = next_experiments(values, result.values, candidates, n, result.parameters, FIXED)
        confidence = np.where(candidates, np.nan_to_num(result.confidence, nan=-1.0), np.inf)
        least = np.unravel_index(np.argsort(confidence, axis=None, kind="stable")[:n], measured.shape)
        some = tuple(rng.permutation(np.argwhere(candidates))[:n].T)
        for i, picks in enumerate(((found.treatment, found.context), some, least)):
            row[i] = error_after(picks, truth, noisy, measured, tested)
    assert errors[:, 0].mean() < 0.97 * errors[:, 1].mean()
    assert errors[:, 0].mean() < 0.97 * errors[:, 2].mean()


def test_unit_does_not_matter(rng):
    _, noisy, measured = simulated(rng)
    values, unit, options = hide(noisy, ~measured), 2.0**100, replace(FIXED, single_precision=True)
    filled = kronecker(values, options).values
    chosen = {"noise": 1.0, "own_share": 0.2, "common_share": 0.1}
    one, other = (next_experiments(u * values, u * filled, ~measured, 3, chosen, options) for u in (1.0, unit))
    np.testing.assert_array_equal(other.treatment, one.treatment)
    np.testing.assert_allclose(other.gain, one.gain, rtol=1e-5)


@pytest.mark.parametrize("delta", [1.0, np.inf])
def test_treatments_never_measured(rng, delta):
    """One that stands for many that resemble it is worth more than a lonely one; without similarities all are alike."""
    truth, noisy, measured = simulated(rng)
    measured[50:] = False
    similarity = np.eye(60)
    similarity[50:58, 50:58] = 0.9
    np.fill_diagonal(similarity, 1.0)
    values = hide(noisy, ~measured)
    result = kronecker(values, FIXED)
    candidates = np.zeros(measured.shape, bool)
    candidates[50:] = True
    parameters = {**result.parameters, "treatment_similarity": "s", "delta": delta}
    found = next_experiments(values, result.values, candidates, 1, parameters, FIXED, Side({"s": similarity}))
    assert found.gain[0] > 0
    if np.isfinite(delta):
        assert found.treatment[0] < 58


def test_a_context_never_measured_is_a_candidate(rng):
    truth, noisy, measured = simulated(rng)
    measured[:, 5] = False
    values = hide(noisy, ~measured)
    result = kronecker(values, FIXED)
    found = next_experiments(values, result.values, np.arange(6) == np.full((60, 1), 5), 2, result.parameters, FIXED)
    assert (found.context == 5).all() and (found.gain > 0).all()
