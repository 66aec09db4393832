from itertools import product

import numpy as np
from scipy import stats

from kronax.solvers.effects import agreement


def test_mean_distance_of_all_pairs():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 4, 10))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    wanted = [np.mean([1 - a @ b for i, a in enumerate(of) for b in of[:i]]) for of in rows]
    found = agreement.mean_cosine_distances(np.matmul(rows, rows.transpose(0, 2, 1)))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_all_sets_where_they_are_few():
    slots, treatment = [np.arange(3), np.arange(3, 6)], np.array([0, 1, 2, 0, 1, 2])
    found = agreement.null_sets(slots, treatment, 100, np.random.default_rng(0))
    wanted = [pair for pair in product(range(3), range(3, 6)) if treatment[pair[0]] != treatment[pair[1]]]
    assert sorted(map(tuple, found)) == wanted


def test_every_set_once_where_slots_are_alike():
    found = agreement.null_sets([np.arange(4)] * 2, np.arange(4), 100, np.random.default_rng(0))
    assert sorted(map(tuple, found)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_drawn_sets_are_of_different_treatments_and_the_right_batches():
    slots, treatment = [np.arange(50), np.arange(50, 100), np.arange(100, 150)], np.tile(np.arange(50), 3)
    found = agreement.null_sets(slots, treatment, 1000, np.random.default_rng(0))
    assert found.shape == (1000, 3)
    assert (found // 50 == np.arange(3)).all()
    assert all(len(set(of)) == 3 for of in treatment[found])


def test_no_set_where_there_is_one_treatment():
    assert not len(agreement.null_sets([np.arange(3)] * 2, np.zeros(3, int), 100, np.random.default_rng(0)))


def test_p_values_count_the_observed_one():
    null = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(agreement.p_values(np.array([0.05, 0.2, 1.0]), null), [0.2, 0.6, 1.0])


def test_p_values_are_uniform_if_treatments_do_nothing():
    rng = np.random.default_rng(0)
    n, batches = 500, 3
    shared = rng.normal(size=(batches, 1, 30))  # what the controls of a batch bring to all of its samples
    rows = (rng.normal(size=(batches, n, 30)) + shared).reshape(-1, 30)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    slots = [np.arange(n) + n * batch for batch in range(batches)]
    members = np.array(slots).T
    cosines = rows @ rows.T
    sets = agreement.null_sets(slots, np.tile(np.arange(n), batches), 10_000, rng)
    own, null = (agreement.mean_cosine_distances(cosines[of[:, :, None], of[:, None]]) for of in (members, sets))
    assert stats.kstest(agreement.p_values(own, null), "uniform").pvalue > 0.01
