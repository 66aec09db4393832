"""Groups of samples that nobody named."""

import numpy as np
import pytest

from kronax.solvers.gaussian import own_groups as module
from kronax.solvers.gaussian.own_groups import own_groups


@pytest.fixture
def divided(monkeypatch):
    """Also where there are no clusters."""
    monkeypatch.setattr(module, "_are_clustered", lambda *_: True)


def types(n: int, n_types: int, rng, distance: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of samples of some types, and the types."""
    kind = rng.permuted(np.arange(n) % n_types)
    return rng.normal(size=(n, 8)) + distance * np.linalg.qr(rng.normal(size=(8, 8)))[0][kind], kind


def partition(codes: np.ndarray) -> np.ndarray:
    """Which rows are together."""
    return codes[:, None] == codes


@pytest.mark.parametrize("n", [400, 25_000])
def test_no_group_has_two_types(n, rng):
    coordinates, kind = types(n, 5, rng)
    found = own_groups(coordinates, 8)
    assert 5 <= found.n <= 64
    assert found.codes.shape == (n,) and set(found.codes) == set(range(found.n))
    assert all(len(set(kind[found.codes == group])) == 1 for group in range(found.n))


def test_order_does_not_matter(rng, divided):
    coordinates = rng.normal(size=(300, 5)) * [3.0, 2.0, 1.0, 1.0, 1.0]
    order = rng.permutation(300)
    one, other = own_groups(coordinates, 5), own_groups(coordinates[order], 5)
    np.testing.assert_array_equal(partition(one.codes)[np.ix_(order, order)], partition(other.codes))


@pytest.mark.parametrize(("n", "distance"), [(90, 0.0), (500, 0.0), (3000, 0.0), (500, 6.0), (3000, 6.0)])
def test_gaussian_samples_have_no_groups(n, distance, rng):
    """Whatever their covariance; types have."""
    coordinates, _ = types(n, 5, rng, distance)
    coordinates = coordinates @ rng.normal(size=(8, 8)) + 5.0
    assert (own_groups(coordinates, 8) is None) == (distance == 0.0)


@pytest.mark.parametrize(
    ("n", "n_types", "independent"), [(2100, 2, 1.0), (6000, 3, 1.0), (8000, 4, 1.0), (6000, 2, 0.03), (8000, 4, 0.03)]
)
def test_types_that_take_turns(n, n_types, independent, rng):
    """Rows with equal steps between them can be of one type; few independent ones are few among some of them too."""
    kind = np.arange(n) % n_types
    coordinates = rng.normal(size=(n, 8)) + 12.0 * np.linalg.qr(rng.normal(size=(8, 8)))[0][kind]
    found = own_groups(coordinates, 8, independent)
    assert found.n >= n_types
    assert all(len(set(kind[found.codes == group])) == 1 for group in range(found.n))


def test_two_types_along_a_weak_direction(rng):
    """Beside strong ones without clusters."""
    coordinates = rng.normal(size=(1000, 5)) * [6.0, 4.0, 1.0, 1.0, 1.0]
    coordinates[:, 2] += np.where(np.arange(1000) % 2, 5.0, -5.0)
    found = own_groups(coordinates, 5)
    assert found is not None


def test_twice_the_same(rng, divided):
    coordinates = rng.normal(size=(500, 10))
    np.testing.assert_array_equal(own_groups(coordinates, 10).codes, own_groups(coordinates.copy(), 10).codes)


@pytest.mark.parametrize(("n", "n_groups"), [(79, None), (80, 2), (160, 4), (640, 16), (5000, 32)])
@pytest.mark.parametrize("independent", [1.0, 0.25])
def test_forty_independent_ones_for_a_group_to_start_with(n, n_groups, independent, rng, divided):
    found = own_groups(rng.normal(size=(int(n / independent), 3)), 12, independent)
    assert (found and found.n) == n_groups


@pytest.mark.parametrize(
    ("rank", "n_groups"), [(0, None), (1, None), (2, 4), (3, 8), (5, 8), (6, 16), (20, 32), (50, 32)]
)
def test_up_to_three_for_every_direction(rank, n_groups, rng, divided):
    """Halves of halves, so that their number is a power of two."""
    found = own_groups(rng.normal(size=(2000, 5)), rank)
    assert (found and found.n) == n_groups


def test_equal_rows(rng):
    """They are fewer than groups; all of one value are no groups."""
    assert own_groups(np.ones((200, 2)), 8) is None
    found = own_groups(np.repeat(np.eye(3), 100, axis=0), 8)
    assert found.n == 3
    np.testing.assert_array_equal(partition(found.codes), partition(np.repeat(np.arange(3), 100)))
