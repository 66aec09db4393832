"""Eigenproblems: the same answers whichever way they are shared among threads."""

import numpy as np
import pytest

from kronax.solvers import device

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("large", [4096, 50], ids=["side by side", "one after the other"])
def test_eigh_all(large, rng, monkeypatch):
    monkeypatch.setattr(device, "LARGE", large)
    squares = [square + square.T for square in (rng.normal(size=(m, m)) for m in (80, 3, 30, 1))]
    found = device.eigh_all(squares)
    assert len(found) == 4
    for square, (values, vectors) in zip(squares, found, strict=True):
        assert (np.diff(values) <= 0).all()
        np.testing.assert_allclose((vectors * values) @ vectors.T, square, atol=1e-11)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(square)), atol=1e-12)
        assert (vectors[np.abs(vectors).argmax(0), np.arange(len(square))] > 0).all()
