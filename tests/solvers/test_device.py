"""Eigenproblems: the same answers whichever way they are shared among threads. And what work does not depend on."""

import multiprocessing
import os

import jax
import jax.numpy as jnp
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


def test_settings_of_the_session_are_left_out_and_come_back():
    with jax.debug_nans(True), jax.debug_infs(True), jax.numpy_rank_promotion("raise"), np.errstate(all="raise"):
        with device.computing():
            assert np.isnan(jnp.log(-jnp.ones(())))
            assert np.isinf(jnp.log(jnp.zeros(())))
            assert (jnp.ones((2, 3)) + jnp.ones(3)).shape == (2, 3)
            assert np.float64(1e-300) ** 2 == 0
        assert jax.config.jax_debug_nans and jax.config.jax_debug_infs
        assert jax.config.jax_numpy_rank_promotion == "raise" and np.geterr()["under"] == "raise"


def test_transfers_are_allowed():
    with jax.transfer_guard("disallow_explicit"), device.computing():
        assert float(jnp.asarray(np.ones(3)).sum()) == 3


def answer(queue) -> None:
    try:
        queue.put(str(device.current()))
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_is_refused_once_jax_has_started():
    device.current()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=answer, args=(queue,))
    worker.start()
    said = queue.get(timeout=60)
    worker.join(60)
    assert not worker.is_alive()
    assert "get_context('spawn')" in said
