"""The ridge that held-out data choose."""

import numpy as np
import pytest

from kronax.solvers.gaussian import kronecker_sum, ridge

pytestmark = pytest.mark.usefixtures("x64")

N, P = 12, 9
ONES = np.ones(N), np.ones(P)


def exact(rng) -> tuple[np.ndarray, np.ndarray]:
    """Spectra of a Kronecker sum."""
    k = 1.0 / (rng.uniform(0.2, 3, N)[:, None] + rng.uniform(0.2, 3, P))
    return k.sum(1), k.sum(0)


def noisy(values: np.ndarray, rng, noise: float) -> np.ndarray:
    spread = values * np.exp(noise * rng.normal(size=len(values)))
    return spread * values.sum() / spread.sum()


def test_no_noise_no_ridge(rng):
    """Held-out variances equal to the sample's: the sample's own fit is the best."""
    e, f = exact(rng)
    found = ridge.choose(e, f, *ONES, (e, f))
    plain = kronecker_sum.fit(e, f, *ONES)
    assert found.strength < 1e-6 * (e.sum() / (N * P)) ** 2
    assert found.risk == pytest.approx(plain.objective, rel=1e-6)


def test_flat_held_out_variances_ask_for_a_flat_fit(rng):
    """All that the sample shows is noise: the precision becomes a multiple of I."""
    e, f = noisy(np.full(N, P * 1.0), rng, 1.0), noisy(np.full(P, N * 1.0), rng, 1.0)
    found = ridge.choose(e, f, *ONES, (np.full(N, e.mean()), np.full(P, f.mean())))
    weak = kronecker_sum.fit(e, f, *ONES, ridge=1e-6)
    spread = [(x := fit.lam[:, None] + fit.mu).std() / x.mean() for fit in (found.solved, weak)]
    assert spread[0] < 0.1 * spread[1]


def test_no_other_ridge_does_better(rng):
    e, f = exact(rng)
    sample = noisy(e, rng, 0.8), noisy(f, rng, 0.8)
    sample = sample[0], sample[1] * sample[0].sum() / sample[1].sum()
    found = ridge.choose(*sample, *ONES, (e, f))
    for strength in found.strength * np.logspace(-3, 3, 13):
        other = kronecker_sum.fit(*sample, *ONES, ridge=strength)
        assert found.risk <= ridge.risk(other, e, f, *ONES) + 1e-3 * N * P
    plain = kronecker_sum.fit(*sample, *ONES)
    assert found.risk < ridge.risk(plain, e, f, *ONES)


def test_units(rng):
    e, f = exact(rng)
    sample = noisy(e, rng, 0.5), noisy(f, rng, 0.5)
    sample = sample[0], sample[1] * sample[0].sum() / sample[1].sum()
    one = ridge.choose(*sample, *ONES, (e, f))
    ten = ridge.choose(10 * sample[0], 10 * sample[1], *ONES, (10 * e, 10 * f))
    assert ten.strength == pytest.approx(100 * one.strength, rel=0.01)


def test_risk_is_that_of_the_best_scale(rng):
    e, f = exact(rng)
    fit = kronecker_sum.fit(noisy(e, rng, 0.3), noisy(f, rng, 0.3), *ONES, ridge=0.1)
    risks = [kronecker_sum.objective(c * fit.lam, c * fit.mu, e, f, *ONES) for c in np.logspace(-1, 1, 2001)]
    assert float(min(risks)) == pytest.approx(ridge.risk(fit, e, f, *ONES), abs=1e-4 * N * P)
