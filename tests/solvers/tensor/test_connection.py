"""What links treatments with contexts: graphs made by hand."""

import numpy as np
import pytest

from kronax.solvers.tensor.connection import blocks_of, held_out_links, linking_treatments, unlinked


def two_blocks(n_bridging=0, n=12, n_contexts=6):
    """Treatments of two halves measured in two halves of the contexts, some of them in all."""
    first, left = np.arange(n) < n // 2, np.arange(n_contexts) < n_contexts // 2
    some = first[:, None] == left
    some[:n_bridging] = True
    return some


def whole(some, n_genes=3):
    return np.repeat(some[:, :, None], n_genes, axis=2)


def star(n=12, n_contexts=4):
    """All treatments in the first context, and each in one other."""
    some = np.zeros((n, n_contexts), bool)
    some[:, 0] = True
    some[np.arange(n), 1 + np.arange(n) % (n_contexts - 1)] = True
    return some


def one_each(n=12, n_contexts=4):
    return np.arange(n)[:, None] % n_contexts == np.arange(n_contexts)


def chain():
    """Two treatments link the first context with the second, and two others that one with the third."""
    return np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], bool)


@pytest.mark.parametrize(
    ("some", "all_apart"),
    [(two_blocks(), True), (two_blocks(1), False), (star(), False), (one_each(), True), (chain(), False)],
    ids=["two blocks", "a bridge", "star", "one context each", "chain"],
)
def test_unlinked_fibers(some, all_apart):
    found = unlinked(whole(some))
    assert (found == (all_apart & ~whole(some))).all()


def test_a_context_that_shares_no_treatment():
    some = np.pad(star(), ((0, 2), (0, 1)))
    some[-2:, -1] = True
    expected = np.zeros_like(some)
    expected[-2:, :-1] = expected[:-2, -1] = True
    np.testing.assert_array_equal(unlinked(whole(some)), whole(expected))


def test_what_is_never_measured_is_another_matter():
    some = np.pad(two_blocks(), ((0, 1), (0, 1)))
    found = unlinked(np.pad(whole(some), ((0, 0), (0, 0), (0, 1))))
    np.testing.assert_array_equal(found[:-1, :-1, :-1], ~whole(two_blocks()))
    assert not found[-1].any()
    assert not found[:, -1].any()
    assert not found[:, :, -1].any()


def test_blocks_by_gene():
    """Two panels of genes, each measured for treatments of its own, are apart; a panel that a context lacks is not."""
    panel = np.arange(6) < 3
    by_treatment = np.broadcast_to((np.arange(8) < 4)[:, None, None] == panel, (8, 3, 6))
    np.testing.assert_array_equal(unlinked(by_treatment), ~by_treatment)
    lacking = np.ones((8, 3, 6), bool)
    lacking[:, 0, ~panel] = False
    assert not unlinked(lacking).any()


def test_unlinked_by_another_way(rng):
    """A small tensor with gaps, by walking from entry to entry."""
    measured = rng.random((5, 4, 3)) < 0.15
    known = np.ix_(*(measured.any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)))
    expected = np.zeros_like(measured)
    expected[known] = True
    for mode in range(3):
        edges = np.moveaxis(measured, mode, 0).reshape(measured.shape[mode], -1)
        reached = edges.copy()
        for _ in range(20):
            reached = ((reached.astype(int) @ edges.T.astype(int) @ edges.astype(int)) > 0) | reached
        shape = np.moveaxis(measured, mode, 0).shape
        expected &= ~np.moveaxis(reached.reshape(shape), 0, mode)
    assert expected.any()
    np.testing.assert_array_equal(unlinked(measured), expected)


@pytest.mark.parametrize("by_fiber", [True, False])
def test_linking_treatments_by_hand(rng, by_fiber):
    measured = whole(rng.random((7, 4)) < 0.5, 5) if by_fiber else rng.random((7, 4, 5)) < 0.3
    found = linking_treatments(measured)
    for d, c in np.argwhere(~measured.all(axis=2)):
        counts = [
            sum(measured[e, c, g] and (measured[e] & measured[d]).any() for e in range(7) if e != d)
            for g in np.flatnonzero(~measured[d, c] & measured.any(axis=(0, 1)))
        ]
        assert found[d, c] == np.median(counts)


def test_held_out_links_are_those_of_the_fiber_hidden(rng):
    some = rng.random((9, 5)) < 0.5
    found = held_out_links(some)
    np.testing.assert_array_equal(np.isnan(found), ~(some & (some.sum(axis=1, keepdims=True) > 1)))
    for d, c in np.argwhere(~np.isnan(found)):
        without = some.copy()
        without[d, c] = False
        assert found[d, c] == linking_treatments(without[:, :, None])[d, c]


@pytest.mark.parametrize("n_bridging", [0, 1, 3])
def test_blocks_with_few_bridges(n_bridging):
    some = two_blocks(n_bridging, 40)
    blocks = blocks_of(np.pad(some, ((0, 1), (0, 1))))
    np.testing.assert_array_equal(blocks.context, [0, 0, 0, 1, 1, 1, -1])
    np.testing.assert_array_equal(np.flatnonzero(blocks.bridging), np.arange(n_bridging))
    np.testing.assert_array_equal(blocks.across[:-1, :-1], ~some)
    assert not blocks.across[-1].any()
    assert not blocks.across[:, -1].any()
    assert blocks.treatment.sum(axis=0).tolist() == [20, 20 + n_bridging]


def test_profiles_missing_at_random_leave_one_block(rng):
    for shape, share in (((60, 6), 0.5), ((60, 3), 0.6), ((12, 4), 0.7), ((200, 12), 0.25)):
        some = rng.random(shape) < share
        some[np.arange(len(some)), np.arange(len(some)) % shape[1]] = True
        blocks = blocks_of(some)
        assert not blocks.context.any()
        assert not blocks.across.any()
    assert not blocks_of(star()).across.any()
