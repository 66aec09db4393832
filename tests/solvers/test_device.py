"""Eigenproblems: the same answers whichever way they are shared among threads."""

import numpy as np
import pytest

from kronax.solvers import device

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("size", [80, device.LARGE], ids=["side by side", "one after the other"])
def test_eigenproblems_side_by_side(size, rng):
    squares = [square + square.T for square in (rng.normal(size=(m, m)) for m in (80, 3, 30, 1))]
    found = device.side_by_side(device.eigh_of_platform(), squares, size)
    assert len(found) == 4
    for square, (values, vectors) in zip(squares, found, strict=True):
        assert (np.diff(values) <= 0).all()
        np.testing.assert_allclose((vectors * values) @ vectors.T, square, atol=1e-11)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(square)), atol=1e-12)
        assert (vectors[np.abs(vectors).argmax(0), np.arange(len(square))] > 0).all()
