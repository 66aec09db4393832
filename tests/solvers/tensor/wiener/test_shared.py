"""What the folds of a cross-validation share: nothing of a fold's own values, and what each would have found by itself."""

from collections import Counter
from itertools import combinations

import jax
import numpy as np
import pytest

from kronax.solvers.tensor.folds import fiber_folds, hide
from kronax.solvers.tensor.side import Side
from kronax.solvers.tensor.wiener import shared
from kronax.solvers.tensor.wiener.choose import squared_error
from kronax.solvers.tensor.wiener.confidence import sizes_and_cosines
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

CHOSEN = KroneckerOptions(noises=(0.5, 1.0, 2.0), own_shares=(0.1, 0.3), common_shares=(0.0, 0.2))
GIVEN = KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.1)
SIZES = np.linspace(0.0, 1.0, 9)


def simulate(rng) -> tuple[np.ndarray, np.ndarray]:
    drugs, lines, genes = (rng.normal(size=(n, 3)) for n in (20, 5, 30))
    values = np.einsum("dr,cr,gr->dcg", drugs, lines, genes) + rng.normal(size=(20, 5, 30))
    values[rng.random((20, 5)) < 0.2] = np.nan
    return values, fiber_folds(~np.isnan(values[:, :, 0]), 7).fold


@pytest.fixture
def tensor(rng) -> tuple[np.ndarray, np.ndarray]:
    """A tensor of low rank with noise, a fifth of its fibers missing, and seven folds."""
    return simulate(rng)


@pytest.fixture(scope="module")
def known() -> list[shared.Known | None]:
    """What the folds of the tensor share."""
    return shared.share(*simulate(np.random.default_rng(0)), 7, CHOSEN)


@pytest.mark.parametrize("n", range(7, 30))
def test_a_fold_meets_six_others_once(n):
    met = Counter(pair for of in shared.sets_of(n) for pair in combinations(sorted(of), 2))
    assert set(met.values()) == {1}
    assert set(Counter(k for of in shared.sets_of(n) for k in of).values()) == {3}


@pytest.mark.parametrize("gaps", [False, True])
def test_nothing_of_a_fold_leaks_into_what_is_known_for_it(tensor, known, gaps, rng):
    values, fold = tensor
    if gaps:
        values[rng.random(values.shape) < 0.02] = np.nan
    spoilt = np.where((fold == 2)[:, :, None], 50.0 * rng.normal(size=values.shape), values)
    spoilt[np.isnan(values)] = np.nan
    before = shared.share(values, fold, 7, CHOSEN) if gaps else known
    after = shared.share(spoilt, fold, 7, CHOSEN)
    assert before[2].prior == after[2].prior
    np.testing.assert_array_equal(before[2].within(SIZES), after[2].within(SIZES))
    differ = [not np.array_equal(before[k].within(SIZES), after[k].within(SIZES)) for k in range(7) if k != 2]
    assert all(differ)  # each of the others was told by sets without it


@pytest.mark.parametrize("unit", [2.0**100, 2.0**-100])
def test_unit_does_not_matter(tensor, known, unit):
    values, fold = tensor
    for one, other in zip(known, shared.share(unit * values, fold, 7, CHOSEN), strict=True):
        assert one.prior == other.prior
        np.testing.assert_allclose(other.within(SIZES), one.within(SIZES), rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "gaps", "precisions"),  # of 10 treatments, there are fewer fibers than genes
    [
        *((20, False, None), (10, False, None), (20, True, None)),
        *((10, False, "of fibers"), (20, True, "of fibers"), (20, True, "of entries")),
    ],
)
def test_predictions_of_a_set_are_those_of_a_completion_without_it(tensor, n, gaps, precisions, rng):
    """The same errors and cosines as in coordinates of the genes; a squared error counts as often as its precision says."""
    values, fold = (array[:n] for array in tensor)
    if gaps:
        values[rng.random(values.shape) < 0.02] = np.nan
    hidden = np.isin(fold, [0, 1, 3])
    measured = ~np.isnan(values)
    measured = measured if precisions == "of entries" else measured.any(axis=2, keepdims=True)
    weights = rng.uniform(0.4, 2.0, measured.shape) if precisions else np.ones(measured.shape)
    side = Side(weights=weights if precisions else None)
    w = np.broadcast_to(weights / np.median(weights[measured]), values.shape)
    known = shared.Known(Prior(1.0, 0.2, 0.1), lambda size: size)
    wanted = kronecker(hide(values, hidden), GIVEN, known=known, side=side).values
    with jax.enable_x64(True):
        found = shared._set(values, hidden, fold, GIVEN, side)
        errors, parts = (found.each(f, Prior(1.0, 0.2, 0.1), 1e-3, 100) for f in (squared_error, sizes_and_cosines))
    keeps = (~np.isnan(values).all(axis=2) & ~hidden).any(axis=1, keepdims=True)
    for k, others in ((0, [1, 3]), (1, [0, 3]), (3, [0, 1])):
        mask = np.isin(fold, others) & keeps
        truth, predicted = values[mask], wanted[mask]
        assert errors[k] == pytest.approx(np.nansum(w[mask] * (truth - predicted) ** 2), rel=1e-3)
        t, p = np.nan_to_num(truth), np.where(np.isnan(truth), 0.0, predicted)
        cosine = (t * p).sum(axis=1) / np.linalg.norm(t, axis=1) / np.linalg.norm(p, axis=1)
        np.testing.assert_allclose(parts[k][1], cosine, atol=2e-3)
        np.testing.assert_array_equal(parts[k][2], np.nonzero(mask)[0])


def test_a_set_is_solved_once(tensor, monkeypatch):
    solved, solve = [], shared.solve
    monkeypatch.setattr(shared, "solve", lambda *args: solved.append(args) or solve(*args))
    shared.share(*tensor, 7, GIVEN, n_at_once=3)
    assert len(solved) == 7


def test_where_nothing_is_shared(tensor):
    values, fold = tensor
    assert shared.share(values, fiber_folds(fold >= 0, 5).fold, 5, GIVEN) == [None] * 5
    assert shared.share(values, fold, 7, GIVEN, side=Side(treatments={"alike": np.eye(20)})) == [None] * 7
    lone = np.full((4, 2), -1)
    lone[0] = 0, 1  # of seven folds, the others hold nothing
    assert shared.share(values[:4, :2], lone, 7, GIVEN) == [None] * 7
